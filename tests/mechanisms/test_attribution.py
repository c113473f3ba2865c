"""Attribution: exact where nothing bends, close to patching elsewhere; integrated inputs sum to the gap."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from interp.errors import DataError
from interp.mechanisms import Metric, attribute, hear, patch, ratio
from interp.model import MusicGen

FRAMES = 12


def codes_of(model: MusicGen, rows: int, seed: int) -> torch.Tensor:
    return torch.randint(0, model.cardinality, (rows, 4, FRAMES), generator=torch.Generator().manual_seed(seed))


def test_behind_the_last_layer_little_is_left_to_estimate(tiny_lm_model: MusicGen) -> None:
    """At the last residual stream only the final norm and the softmax bend: integrated steps converge to patching."""
    model, codes = tiny_lm_model, codes_of(tiny_lm_model, 6, 1)
    clean, corrupt = hear(model, codes, list("abcdef")), hear(model, codes, list("ghijkl"))
    metric = Metric("logit", lambda f, a, b: f.logits.gather(-1, a[..., None])[..., 0].mean((1, 2)))
    true = patch(model, clean, corrupt, metric, "L2.resid", null=False)
    estimate = attribute(model, clean, corrupt, metric, "L2.resid")
    np.testing.assert_allclose(estimate.changes, true.changes, rtol=0.1, atol=2e-3)
    np.testing.assert_allclose(estimate.clean, true.clean, atol=1e-6)
    np.testing.assert_allclose(estimate.corrupt, true.corrupt, atol=1e-6)


def test_the_embeddings_share_adds_up_to_the_gap(tiny_lm_model: MusicGen) -> None:
    """Integrated gradients of the input are complete: for pairs of music, those of the embedding sum to the gap."""
    model = tiny_lm_model
    clean, corrupt = hear(model, codes_of(model, 5, 2), "a"), hear(model, codes_of(model, 5, 3), "a")
    for how in ("denoise", "noise"):
        made = attribute(model, clean, corrupt, "ratio", "embed", how=how, steps=60)  # type: ignore[arg-type]
        np.testing.assert_allclose(made.changes[0], made.gap, rtol=0.02, atol=1e-4)


@pytest.mark.parametrize("steps", [0, 4])
def test_it_ranks_as_patching_does(tiny_lm_model: MusicGen, steps: int) -> None:
    model = tiny_lm_model
    codes = codes_of(model, 8, 4)
    clean, corrupt = hear(model, codes, list("abcdefgh")), hear(model, codes, list("ijklmnop"))
    sites = "cross_heads, L1-2.H*, mlp, resid"
    true = patch(model, clean, corrupt, sites=sites, null=False)
    estimate = attribute(model, clean, corrupt, sites=sites, steps=steps)
    assert estimate.table["site"].tolist() == true.table["site"].tolist()
    rho = np.corrcoef(*(np.argsort(np.argsort(made.changes.ravel())) for made in (true, estimate)))[0, 1]
    assert rho > 0.9


def test_windows_of_one_site_add_up(tiny_lm_model: MusicGen) -> None:
    """First-order estimates are additive: two halves of the time are the whole."""
    model = tiny_lm_model
    clean, corrupt = hear(model, codes_of(model, 3, 5), "a"), hear(model, codes_of(model, 3, 6), "a")
    whole = attribute(model, clean, corrupt, ratio(), "heads", steps=1)
    halves = attribute(model, clean, corrupt, ratio(), "heads", steps=1, positions=[(0, 0.16), (0.16, 0.3)])
    np.testing.assert_allclose(halves.changes.reshape(12, 2, 3).sum(1), whole.changes, atol=1e-5)
    assert halves.mismatched is None and halves.table["mismatched"].isna().all()


def test_negative_steps_are_refused(tiny_lm_model: MusicGen) -> None:
    codes = codes_of(tiny_lm_model, 1, 0)
    a, b = hear(tiny_lm_model, codes, "a"), hear(tiny_lm_model, codes, "b")
    with pytest.raises(DataError, match="gradients at -1 steps"):
        attribute(tiny_lm_model, a, b, sites="cross", steps=-1)
