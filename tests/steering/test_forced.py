"""Likelihood and divergence along given music; ablation and attribution."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from interp.backends.build import random_musicgen
from interp.directions import Directions
from interp.errors import ClipError, DataError, InterventionError, ModelError
from interp.model import MusicGen
from interp.steering import (
    Ablate,
    Add,
    Call,
    EveryN,
    Row,
    Smitin,
    causal_ranking,
    generate,
    kl_to_unsteered,
    log_likelihood,
)
from interp.steering.forced import forced_logits

Make = Callable[..., Directions]


def test_forced_logits_are_audiocrafts(tiny_lm_model: MusicGen) -> None:
    codes = torch.randint(0, tiny_lm_model.cardinality, (3, 4, 11), generator=torch.Generator().manual_seed(0))
    texts = ["a", "b", None]
    with torch.no_grad():
        conditions = tiny_lm_model.conditions(texts)
        out = tiny_lm_model.lm.compute_predictions(codes, [], conditions, keep_only_valid_steps=False)
    logits = forced_logits(tiny_lm_model, codes, texts)
    assert out.mask.all()
    assert torch.allclose(logits[out.mask], out.logits[out.mask], atol=1e-5)
    logp = torch.log_softmax(out.logits, -1).gather(-1, codes[..., None])[..., 0]
    table = log_likelihood(tiny_lm_model, codes, texts, batch_size=2)
    assert np.allclose(table["log_likelihood"], logp.mean((1, 2)), atol=1e-5)
    assert np.allclose(table["codebook_2"], logp[:, 2].mean(-1), atol=1e-5)
    assert np.allclose(table["perplexity"], np.exp(-table["log_likelihood"]))


def test_greedy_music_is_the_argmax_of_its_forced_logits(tiny_lm_model: MusicGen, make_directions: Make) -> None:
    """Teacher forcing with the same interventions repeats the decisions of generation, self-monitored ones too."""
    arms = [
        (),
        (Add(make_directions(), dose=2.0, schedule=EveryN(3)),),
        (Smitin(make_directions(), alpha=20.0, s=2, tau=0.9),),
    ]
    made = generate(tiny_lm_model, [Row("a", 0, None, arm) for arm in arms], 0.4, greedy=True, progress=False)
    from interp.steering.forced import _recorded

    gates = _recorded(made)
    logits = forced_logits(
        tiny_lm_model,
        made.codes,
        ["a"] * 3,
        guidance=3.0,
        interventions=arms,
        gates=[gates.get(i, {}) for i in range(3)],
    )
    assert torch.equal(logits.argmax(-1), made.codes)
    with pytest.raises(InterventionError, match="self-monitor"):
        forced_logits(tiny_lm_model, made.codes, ["a"] * 3, interventions=arms)


def test_divergence_is_zero_without_steering_and_grows_with_dose(
    tiny_lm_model: MusicGen, make_directions: Make
) -> None:
    heads = make_directions()
    doses = [0.0, 0.5, 2.0, 8.0]
    made = generate(tiny_lm_model, [Row("a", 1, None, (Add(heads, dose=d),)) for d in doses], 0.4, progress=False)
    kl = kl_to_unsteered(made)
    assert kl["kl"][0] == 0.0
    assert (np.diff(kl["kl"]) > 0).all()
    assert (kl["kl_max"] >= kl["kl"]).all()
    worse = log_likelihood(tiny_lm_model, made.codes, "a", guidance=3.0)["log_likelihood"]
    assert worse.iloc[-1] < worse.iloc[0]


def test_ablation_is_ablate_and_attribution_ranks_alike() -> None:
    model = MusicGen(random_musicgen(3, 4, 32, seed=11))
    codes = torch.randint(0, model.cardinality, (6, 4, 20), generator=torch.Generator().manual_seed(1))
    ablated = causal_ranking(model, codes, "a", baseline="zero")
    assert ablated["rank"].tolist() == list(range(1, 13))
    assert ablated["effect"].abs().is_monotonic_decreasing
    # by the public road: zero-ablate the site, ask for the likelihood
    first = ablated.iloc[0]
    logits = [
        forced_logits(model, codes, ["a"] * 6, interventions=[items] * 6)
        for items in ((), (Ablate.zero([first["site"]], on="all"),))
    ]
    before, after = (torch.log_softmax(x, -1).gather(-1, codes[..., None])[..., 0].mean((1, 2)) for x in logits)
    assert first["effect"] == pytest.approx(float((after - before).mean()), abs=1e-6)
    for baseline in ("zero", "mean"):
        exact = causal_ranking(model, codes, "a", baseline=baseline).set_index("site")["effect"]
        quick = causal_ranking(model, codes, "a", baseline=baseline, method="attribution").set_index("site")["effect"]
        assert spearmanr(exact, quick[exact.index]).statistic > 0.7


def test_attribution_is_exact_for_a_linear_metric_of_the_last_residual() -> None:
    """With nothing but a linear map after the site the first-order estimate has no error."""
    model = MusicGen(random_musicgen(2, 2, 16, seed=2))
    codes = torch.randint(0, model.cardinality, (4, 4, 9), generator=torch.Generator().manual_seed(1))
    model.lm.out_norm = torch.nn.Identity()

    def linear(logits: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        return logits.gather(-1, codes[..., None]).sum((1, 2, 3))

    for baseline in ("mean", "zero"):
        tables = [
            causal_ranking(model, codes, sites="L1.resid,L1.mlp", baseline=baseline, metric=linear, method=method)
            for method in ("ablate", "attribution")
        ]
        assert np.allclose(tables[0].attrs["changes"], tables[1].attrs["changes"], atol=1e-4)


def test_labels_turn_the_effect_into_a_contrast(tiny_lm_model: MusicGen) -> None:
    codes = torch.randint(0, tiny_lm_model.cardinality, (6, 4, 9), generator=torch.Generator().manual_seed(3))
    labels = np.array([1, 1, 0, 0, 1, 0])
    table = causal_ranking(tiny_lm_model, codes, labels=labels, sites="L0.H1,L2.H3", batch_size=4)
    changes = table.attrs["changes"]
    expected = changes[:, labels == 1].mean(1) - changes[:, labels == 0].mean(1)
    assert np.allclose(table.sort_values(["layer", "head"])["effect"], expected)
    with pytest.raises(DataError, match="labels"):
        causal_ranking(tiny_lm_model, codes, labels=[0, 1], sites="L0.H1")
    with pytest.raises(DataError, match="two rows"):
        causal_ranking(tiny_lm_model, codes, labels=[0] * 6, sites="L0.H1")


def test_logits_that_are_not_finite_are_named(make_directions: Make) -> None:
    model = MusicGen(random_musicgen(3, 4, 32, seed=1))
    codes = torch.zeros(3, 4, 5, dtype=torch.long)
    far = Call("L1.resid", lambda h: h * 1e38 * 1e38)
    with pytest.raises(InterventionError, match=r"row 1 are not finite in float32: push less far; call"):
        forced_logits(model, codes, ["a"] * 3, interventions=[(), (far,), ()])
    model.lm.transformer.layers[1].linear2.weight.data[0, 0] = torch.nan
    for call in (lambda: forced_logits(model, codes, ["a"] * 3), lambda: log_likelihood(model, codes, "a")):
        with pytest.raises(ModelError, match="row 0 are not finite in float32, without any intervention"):
            call()
    with pytest.raises(DataError, match=r"the effect of L0\.H1 on row 0 is NaN or infinite in float32"):
        causal_ranking(model, codes, sites="L0.H1", baseline="zero")


def test_bad_music_gets_one_sentence(tiny_lm_model: MusicGen) -> None:
    codes = torch.zeros(2, 4, 5, dtype=torch.long)
    for call in (log_likelihood, causal_ranking):
        for texts in (["a"], ["a", "b", "c"]):
            with pytest.raises(ClipError, match=f"2 rows of codes but {len(texts)} texts"):
                call(tiny_lm_model, codes, texts)
        with pytest.raises(ClipError, match=r"give codes \[rows"):
            call(tiny_lm_model, codes[0], "a")
    with pytest.raises(ClipError, match="one text a row"):
        forced_logits(tiny_lm_model, torch.zeros(2, 4, 5, dtype=torch.long), ["a"])
