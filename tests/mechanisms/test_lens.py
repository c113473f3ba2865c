"""The lens and direct attribution: at the last layer the lens is the model, and contributions sum to its logits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from interp.backends.build import random_musicgen
from interp.errors import DataError, ModelError, SiteError
from interp.mechanisms import Heard, hear, lens, lens_codes, lens_logits, logit_attribution
from interp.model import MusicGen


def music(model: MusicGen, rows: int = 3, frames: int = 16, seed: int = 0) -> Tensor:
    return torch.randint(0, model.cardinality, (rows, 4, frames), generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def heard(tiny: MusicGen) -> Heard:
    return hear(tiny, music(tiny), ["jazz, piano", "rock", "drums, jazz"])


def test_at_the_last_layer_the_lens_is_the_model(tiny: MusicGen, heard: Heard) -> None:
    logits = torch.cat([tiny.predict(heard.codes[i : i + 1], heard.texts[i]).logits for i in range(3)])
    torch.testing.assert_close(lens_logits(tiny, heard, "L5.resid"), logits, atol=1e-4, rtol=1e-5)
    assert torch.equal(lens_codes(tiny, heard, "L5.resid"), logits.argmax(-1))
    table = lens(tiny, heard, batch_size=2)
    assert len(table) == 7 * 4
    last = table[table["layer"] == 5]
    assert (last["kl"].abs() < 1e-6).all() and (last["agreement"] == 1).all()
    assert (table[table["layer"] < 5]["kl"] > 0).all()
    log_p = torch.log_softmax(logits, -1)
    np.testing.assert_allclose(last["entropy"], -(log_p.exp() * log_p).sum(-1).mean((0, 2)), atol=1e-5)
    np.testing.assert_allclose(
        last["log_likelihood"], log_p.gather(-1, heard.codes[..., None])[..., 0].mean((0, 2)), atol=1e-5
    )
    np.testing.assert_allclose(last["accuracy"], (logits.argmax(-1) == heard.codes).float().mean((0, 2)), atol=1e-6)


def test_a_layers_lens_is_the_model_without_the_layers_behind_it(tiny_lm_model: MusicGen) -> None:
    model = tiny_lm_model
    heard = hear(model, music(model), "a")
    nothing = {("attn", 2): torch.zeros_like, ("cross", 2): torch.zeros_like, ("mlp", 2): torch.zeros_like}
    logits = model.predict(heard.codes, "a", visit=nothing).logits
    torch.testing.assert_close(lens_logits(model, heard, "L1.resid"), logits, atol=1e-5, rtol=0)
    part = lens(model, heard, counted=(0.1, 0.2))
    log_p = torch.log_softmax(logits, -1)[:, :, 5:10]
    np.testing.assert_allclose(
        part[part["layer"] == 1]["entropy"], -(log_p.exp() * log_p).sum(-1).mean((0, 2)), atol=1e-5
    )


@pytest.mark.parametrize(
    "settings", [{}, {"bias_attn": True, "bias_ff": True, "bias_proj": True, "layer_scale": 0.5}], ids=str
)
def test_contributions_sum_to_the_difference_of_logits(settings: dict[str, object]) -> None:
    model = MusicGen(random_musicgen(3, 4, 32, seed=2, **settings))
    for parameter in [*model.lm.out_norm.parameters(), *model.lm.transformer.parameters()]:
        parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
    heard = hear(model, music(model), ["a", "b", "c"])
    logits = model.predict(heard.codes, list(heard.texts)).logits
    other = music(model, seed=1)
    own = logits.gather(-1, heard.codes[..., None])[..., 0]
    for against, base in ((None, logits.mean(-1)), (other, logits.gather(-1, other[..., None])[..., 0])):
        table = logit_attribution(model, heard, against=against, batch_size=2)
        total = table.groupby("codebook")["contribution"].sum()
        np.testing.assert_allclose(total, (own - base).mean((0, 2)), atol=2e-5)
        assert len(table) == 4 * (1 + 3 * 9 + 1)
    counted = logit_attribution(model, heard, other, heard.codes, counted=(0.0, 0.1))
    difference = (logits.gather(-1, other[..., None])[..., 0] - own)[..., :5].mean((0, 2))
    np.testing.assert_allclose(counted.groupby("codebook")["contribution"].sum(), difference, atol=2e-5)


def test_the_shipped_models_logits_add_up(tiny: MusicGen, heard: Heard) -> None:
    table = logit_attribution(tiny, heard)
    logits = torch.cat([tiny.predict(heard.codes[i : i + 1], heard.texts[i]).logits for i in range(3)])
    difference = (logits.gather(-1, heard.codes[..., None])[..., 0] - logits.mean(-1)).mean((0, 2))
    np.testing.assert_allclose(table.groupby("codebook")["contribution"].sum(), difference, atol=1e-4)
    assert (table["lo"] <= table["contribution"]).all() and (table["contribution"] <= table["hi"]).all()


def test_a_head_that_writes_nothing_adds_nothing(tiny_lm_model: MusicGen) -> None:
    model = MusicGen(random_musicgen(2, 4, 32, seed=3))
    model.lm.transformer.layers[1].self_attn.out_proj.weight[:, 8:16] = 0
    table = logit_attribution(model, hear(model, music(model), "a"))
    silent = table["site"] == "L1.H1"
    assert (table.loc[silent, "contribution"] == 0).all() and (
        table.loc[~silent & (table["kind"] == "heads"), "contribution"] != 0
    ).all()


def test_bad_input_is_refused_with_a_sentence(tiny_lm_model: MusicGen) -> None:
    model, heard = tiny_lm_model, hear(tiny_lm_model, music(tiny_lm_model), "a")
    post = MusicGen(random_musicgen(norm_first=False))
    cases = [
        ("no residual stream", SiteError, lambda: lens_logits(model, heard, "L1.mlp")),
        ("layers 0 to 2", SiteError, lambda: lens_codes(model, heard, "L3.resid")),
        ("from second 1 to 2", DataError, lambda: lens(model, heard, counted=(1, 2))),
        ("do not fit music", DataError, lambda: logit_attribution(model, heard, heard.codes[..., :-1])),
        ("norm_first=False", ModelError, lambda: logit_attribution(post, hear(post, music(post)))),
    ]
    for words, kind, call in cases:
        with pytest.raises(kind, match=words):
            call()
