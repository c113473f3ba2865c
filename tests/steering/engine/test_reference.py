"""Three engines, one result: nnsight and plain hooks to the bit, the fast engine to the token."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from interp.backends.build import random_musicgen
from interp.directions import Direction, Directions
from interp.errors import ModelError
from interp.model import MusicGen
from interp.sites import select_sites
from interp.steering import (
    Ablate,
    Add,
    Clamp,
    EveryN,
    Interpolate,
    Intervention,
    Row,
    Smitin,
    Swap,
    generate,
)

Make = Callable[..., Directions]


def arms(make: Make) -> list[tuple[Intervention, ...]]:
    """One arm of every kind, at every kind of site."""
    return [
        (Add(make(), dose=3.0),),
        (Add(make("cross_heads"), dose=3.0, schedule=EveryN(2)), Add(make("mlp"), strength=1.0, rows="cond")),
        (Interpolate(make("resid"), 0.4, rows="cond"), Clamp(make("attn"), low=0.5)),
        (Ablate.project(make("L1.H0,L1.H1,L0.cross,embed")), Ablate.zero(["L2.X.H1"], on="all")),
        (Swap({"L1.mlp": np.ones((9, 32))}), Ablate.mean({"L0.H2": np.ones((2, 8))}, rows="uncond")),
        (Smitin(make(), alpha=20.0, s=2, tau=0.9),),
        (),
    ]


@pytest.mark.parametrize(("prompted", "two_step"), [(False, False), (True, False), (True, True)])
def test_steering_through_nnsight_equals_plain_hooks_to_the_bit(
    tiny_lm_model: MusicGen, make_directions: Make, audio_prompt: Tensor, prompted: bool, two_step: bool
) -> None:
    rows = [Row("a", i, audio_prompt if prompted else None, arm) for i, arm in enumerate(arms(make_directions))]
    reference, plain, fast = (
        generate(tiny_lm_model, rows, 0.24, two_step=two_step, engine=engine, capture="resid", progress=False)
        for engine in ("nnsight", "hooks", "fast")
    )
    assert torch.equal(reference.codes, plain.codes)
    for site in reference.sites:
        for half in ("cond", "uncond"):
            assert torch.equal(reference.captured(site, half), plain.captured(site, half))  # type: ignore[arg-type]
            assert torch.allclose(fast.captured(site, half), plain.captured(site, half), atol=1e-4)  # type: ignore[arg-type]
    assert reference.log.equals(plain.log)
    assert reference.monitor.equals(plain.monitor)
    assert torch.equal(fast.codes, plain.codes)
    numbers = fast.log.columns.drop(["displacement_mean", "displacement_max"])
    assert fast.log[numbers].equals(plain.log[numbers])
    assert np.allclose(fast.log["displacement_max"], plain.log["displacement_max"], atol=1e-3)


def test_one_call_of_the_library_is_a_plain_hook_written_by_hand(
    tiny_lm_model: MusicGen, make_directions: Make
) -> None:
    """The whole path against a dozen lines of PyTorch and audiocraft's own generate."""
    model, directions = tiny_lm_model, make_directions()
    shifts = torch.zeros(model.shape.n_layers, model.shape.width)
    for d in directions:
        at = d.site.head * 8  # type: ignore[operator]
        shifts[d.site.layer, at : at + 8] += torch.tensor(2.0 * d.sigma * d.vector, dtype=torch.float32)
    handles = [
        layer.self_attn.out_proj.register_forward_pre_hook(lambda _, args, s=shift: (args[0] + s,))
        for layer, shift in zip(model.lm.transformer.layers, shifts, strict=True)
    ]
    try:
        from interp.backends.audiocraft import ConditioningAttributes

        conditions = [ConditioningAttributes(text={"description": "a"})]
        expected = model.lm.generate(None, conditions, max_gen_len=20, use_sampling=False, cfg_coef=3.0)
    finally:
        for handle in handles:
            handle.remove()
    for engine in ("nnsight", "hooks", "fast"):
        row = Row("a", 0, None, (Add(directions, dose=2.0),))
        made = generate(model, [row], 0.4, greedy=True, engine=engine, progress=False)  # type: ignore[arg-type]
        assert torch.equal(made.codes, expected)
    plain = generate(model, [Row("a")], 0.4, greedy=True, progress=False)
    assert not torch.equal(plain.codes, expected)


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    layers=st.integers(1, 3),
    heads=st.sampled_from([1, 2, 4]),
    head_dim=st.sampled_from([4, 6]),
    codebooks=st.integers(1, 4),
    cardinality=st.integers(3, 40),
    seed=st.integers(0, 10**6),
)
def test_engines_agree_on_models_of_any_shape(
    layers: int, heads: int, head_dim: int, codebooks: int, cardinality: int, seed: int
) -> None:
    model = MusicGen(
        random_musicgen(layers, heads, heads * head_dim, seed, n_codebooks=codebooks, cardinality=cardinality)
    )
    rng = np.random.default_rng(seed)
    directions = Directions(
        Direction.from_weight(site, rng.standard_normal(model.shape.dim(site.kind)))
        for site in select_sites("all", model.shape)
    )
    audio = torch.tensor(rng.integers(0, cardinality, (codebooks, 3)))
    rows = [Row("a", seed, None, (Add(directions, strength=0.5),)), Row("b", 1, audio), Row("b", 2, None)]
    made = [generate(model, rows, 0.2, engine=e, progress=False) for e in ("nnsight", "hooks", "fast")]  # type: ignore[arg-type]
    assert torch.equal(made[0].codes, made[1].codes)
    assert torch.equal(made[0].codes, made[2].codes)


@pytest.mark.parametrize(
    "settings_",
    [
        {"memory_efficient": False, "custom": True},
        {"layer_scale": 0.5},
        {"bias_attn": True, "bias_ff": True, "bias_proj": True},
    ],
)
def test_the_fast_engine_knows_other_settings(settings_: dict[str, object], make_directions: Make) -> None:
    model = MusicGen(random_musicgen(3, 4, 32, 7, **settings_))  # type: ignore[arg-type]
    rows = [Row("a", i, None, arm) for i, arm in enumerate(arms(make_directions))]
    fast, plain = (generate(model, rows, 0.24, engine=e, progress=False) for e in ("fast", "hooks"))  # type: ignore[arg-type]
    assert torch.equal(fast.codes, plain.codes)


def test_checkpoints_the_fast_engine_does_not_know_run_on_hooks(make_directions: Make) -> None:
    model = MusicGen(random_musicgen(3, 4, 32, 7, qk_layer_norm=True))
    rows = [Row("a", 1, None, (Add(make_directions(), dose=3.0),)), Row("a", 1)]
    auto = generate(model, rows, 0.24, progress=False)
    assert auto.settings["engine"] == "hooks"
    assert torch.equal(auto.codes, generate(model, rows, 0.24, engine="nnsight", progress=False).codes)
    assert not torch.equal(auto.codes[0], auto.codes[1])
    with pytest.raises(ModelError, match="hooks"):
        generate(model, rows, 0.24, engine="fast", progress=False)


def test_a_hook_of_the_users_own_is_never_passed_over() -> None:
    model = MusicGen(random_musicgen(2, 2, 16, 7))
    rows = [Row("a", 1)]
    before = generate(model, rows, 0.24, progress=False)
    hook = model.lm.transformer.layers[0].register_forward_hook(lambda module, args, output: -output)
    after = generate(model, rows, 0.24, progress=False)
    hook.remove()
    assert (before.settings["engine"], after.settings["engine"]) == ("fast", "hooks")
    assert not torch.equal(before.codes, after.codes)
    assert torch.equal(before.codes, generate(model, rows, 0.24, progress=False).codes)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_engines_agree_on_a_gpu(make_directions: Make) -> None:
    model = MusicGen(random_musicgen(3, 4, 32, 7, device="cuda"))
    rows = [Row("a", i, None, arm) for i, arm in enumerate(arms(make_directions))]
    made = [generate(model, rows, 0.24, engine=e, progress=False).codes for e in ("nnsight", "hooks", "fast")]  # type: ignore[arg-type]
    assert torch.equal(made[0], made[1])
    assert (made[0] == made[2]).float().mean() > 0.9  # half precision: a near tie may fall the other way
