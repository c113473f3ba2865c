"""Interventions of many rows gathered into batched edits, whatever their class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from interp.directions import Direction, Directions
from interp.errors import InterventionError, SiteError
from interp.model import MusicGen
from interp.sites import ModelShape, Site
from interp.steering import (
    Ablate,
    Add,
    Call,
    Clamp,
    EveryN,
    Interpolate,
    Intervention,
    Row,
    Smitin,
    Swap,
    generate,
    record,
)
from interp.steering._registry import REGISTRY
from interp.steering.checks import check_interventions
from interp.steering.edits import Edits
from interp.steering.interventions import Ears
from interp.steering.ops import Timeline

Make = Callable[..., Directions]
ENGINES = ("fast", "hooks", "nnsight")


@dataclass(frozen=True)
class Slow(Intervention):
    """SMITIN's push by the general road: not declared additive, with ears of another."""

    inner: Smitin | Add | None = None

    @property
    def ears(self) -> Ears | None:
        assert self.inner is not None
        return self.inner.ears

    def parameters(self) -> Mapping[Site, Mapping[str, Any]]:
        assert self.inner is not None
        return self.inner.parameters()

    @staticmethod
    def edit(h: Tensor, factor: Tensor, p: Mapping[str, Tensor]) -> Tensor:
        return h + factor * p["shift"]


def test_the_additive_form_is_the_formula(tiny_lm_model: MusicGen, make_directions: Make) -> None:
    """Whatever is declared additive gives, through its own formula, what the summed shifts give."""
    samples = {"Add": Add(make_directions("heads"), dose=2.0), "Smitin": Smitin(make_directions(), s=1, tau=2.0)}
    declared = {name for name, kind in REGISTRY.items() if getattr(kind, "additive", False)}
    assert declared == set(samples)
    shape, timeline = tiny_lm_model.shape, Timeline(0, 12, 50.0)
    for item in samples.values():
        some = replace(item, schedule=EveryN(3))
        x = torch.randn(4, 1, shape.width, generator=torch.Generator().manual_seed(0))
        results = []
        for rows in ([(some,), ()], [(Slow(inner=some, schedule=EveryN(3)),), ()]):
            edits = Edits(rows, [0, 0], shape, timeline, True)
            edits.begin(3)
            results.append([edits.apply(("heads", 1), x, at, "both") for at in (3, 4)])
        assert torch.allclose(results[0][0], results[1][0], atol=1e-6)
        assert not torch.equal(results[0][0][0], x[0]) and torch.equal(results[0][0][1], x[1])
        assert torch.equal(results[1][0][1], x[1])
        if not item.ears:  # a monitor decides at the steps that it was asked about alone
            assert all(torch.equal(result[1], x) for result in results)


@pytest.mark.parametrize("engine", ENGINES)
def test_ears_gate_any_formula(tiny_lm_model: MusicGen, make_directions: Make, engine: str) -> None:
    smitin = Smitin(make_directions(), alpha=20.0, s=2, tau=0.9)
    rows = [Row("a", 1, None, (item,)) for item in (smitin, Slow(inner=smitin))]
    made = generate(tiny_lm_model, rows, 0.4, engine=engine, progress=False)  # type: ignore[arg-type]
    assert torch.equal(made.codes[0], made.codes[1])
    first, second = (made.monitor.query("row == @i") for i in (0, 1))
    for name in ("C", "factor", "acted", "decided_on"):
        assert np.allclose(first[name].astype(float), second[name].astype(float), atol=1e-6, equal_nan=True)
    assert 0 < first["acted"].mean() < 1
    lengths = made.log.groupby("row")["displacement_max"].max()
    assert lengths[0] == pytest.approx(lengths[1], rel=1e-4)


@pytest.mark.parametrize("engine", ENGINES)
def test_call_sees_its_own_rows_and_sites(tiny_lm_model: MusicGen, engine: str) -> None:
    shapes: list[tuple[int, ...]] = []

    def halve(h: Tensor) -> None:
        shapes.append(tuple(h.shape))
        h *= 0.5

    half = Call("L1.H1, L1.H3, L2.resid", halve, rows="cond")
    twin = Call("L1.H1", lambda h: h * 0.5, rows="cond")
    same = InPlace((Site.parse("L1.H1"),), rows="cond")
    arms = ((), (half,), (), (half,), (twin,), (same,))
    rows = [Row("b" if i == 2 else "a", 1, None, arm) for i, arm in enumerate(arms)]
    made = generate(tiny_lm_model, rows, 3 / 50, engine=engine, capture="L1.H1, L1.H2", progress=False)  # type: ignore[arg-type]
    assert {shape[0] for shape in shapes} == {2} and {shape[-1] for shape in shapes} == {8, 32}
    before, after = made.captured("L1.H1")[0, 0], made.captured("L1.H1")[1, 0]
    assert torch.allclose(after, before / 2, atol=1e-6)
    assert torch.equal(made.captured("L1.H2")[1, 0], made.captured("L1.H2")[0, 0])
    assert torch.equal(made.captured("L1.H1", "uncond")[1, 0], made.captured("L1.H1", "uncond")[0, 0])
    assert torch.equal(made.codes[4], made.codes[5])
    line = made.log.query("row == 1").iloc[0]
    assert (line["type"], line["half"], line["sites"]) == ("Call", "cond", 3)
    assert line["displacement_max"] > 0 and "call halve at L1.H1, L1.H3, L2.resid" in line["description"]


@dataclass(frozen=True)
class InPlace(Intervention):
    """Half of a site, by a formula that changes what it is handed."""

    at: tuple[Site, ...] = ()

    def parameters(self) -> Mapping[Site, Mapping[str, Any]]:
        return {site: {"share": 0.5} for site in self.at}

    @staticmethod
    def edit(h: Tensor, factor: Tensor, p: Mapping[str, Tensor]) -> Tensor:
        h *= p["share"]  # in place: rows and heads that are not meant stay as they are all the same
        return h


def test_call_that_returns_another_shape(tiny_lm_model: MusicGen) -> None:
    for fn in (lambda h: h[..., :3], lambda h: h.mean()):
        with pytest.raises(InterventionError, match=r"call <lambda> must return \[rows, steps, dim\]"):
            generate(tiny_lm_model, Row("a", 0, None, Call("L0.resid", fn)), 0.1, engine="hooks", progress=False)
    for bad in (lambda: Call("", torch.sin), lambda: Call("L0.resid", 3), lambda: Call([], torch.sin)):
        with pytest.raises((InterventionError, SiteError)):
            bad()


def test_rows_of_one_class_with_numbers_of_other_shapes(tiny_lm_model: MusicGen, make_directions: Make) -> None:
    """Zero and mean ablation, one direction and three projected out: padded, gathered, and each as if alone."""
    v = make_directions("L1.resid")[0]
    more = [make_directions("L1.resid", seed=seed)[0] for seed in (1, 2)]
    bank = np.random.default_rng(0).standard_normal((4, 32))
    arms = [
        Ablate.zero("L1.resid"),
        Ablate.mean({"L1.resid": bank}),
        Ablate.resample({"L1.resid": bank}),
        Ablate.project(v),
        Ablate.project([v, *more]),
        Swap({"L1.resid": bank[:2]}),
        Swap({"L1.resid": bank, "L0.resid": bank[:1]}, first=3),
    ]
    rows = [Row("a", 4, None, (item,)) for item in arms]
    together = generate(tiny_lm_model, rows, 0.2, capture="L1.resid", progress=False)
    for i, row in enumerate(rows):
        alone = generate(tiny_lm_model, row, 0.2, capture="L1.resid", progress=False)
        assert torch.equal(alone.codes[0], together.codes[i])
        assert torch.allclose(alone.captured("L1.resid")[0], together.captured("L1.resid")[i], atol=1e-5)
    assert not together.captured("L1.resid")[0].any()
    assert torch.allclose(together.captured("L1.resid")[1, 5], torch.tensor(bank.mean(0), dtype=torch.float32))


@dataclass(frozen=True)
class Bad(Intervention):
    """Something that is wrong in one of several ways."""

    how: str = ""

    def parameters(self) -> Mapping[Site, Mapping[str, Any]]:
        site = Site.parse("L0.H1")
        if self.how == "none":
            return {}
        if self.how == "nan":
            return {site: {"a": np.nan}}
        if self.how == "names":
            return {site: {"a": 1.0}, Site.parse("L0.H2"): {"b": 1.0}}
        if self.how == "width":
            return {site: {"a": np.ones(5)}}
        return {site: {"a": 1.0}}

    def edit(self, h: Tensor, factor: Tensor, p: Mapping[str, Tensor]) -> Tensor:
        if self.how == "name":
            return h * p["b"]
        if self.how == "shape":
            return h.sum(-1)
        if self.how == "nothing":
            return None  # type: ignore[return-value]
        return h * p["a"]


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("none", "has no site"),
        ("nan", "holds NaN"),
        ("names", "not the same parameters"),
        ("width", "does not work at L0.H1 of width 8"),
        ("name", "does not work at L0.H1 of width 8"),
        ("shape", "must keep their shape"),
        ("nothing", "gives NoneType"),
    ],
)
def test_an_intervention_that_is_wrong_is_refused_before_the_work(tiny_lm_model: MusicGen, how: str, says: str) -> None:
    with pytest.raises(InterventionError, match=says) as caught:
        check_interventions([Bad(how)], tiny_lm_model.shape, lambda: "")
    assert "\n" not in str(caught.value)


def test_interventions_without_a_formula_say_so(tiny_lm_model: MusicGen) -> None:
    @dataclass(frozen=True)
    class Empty(Intervention):
        def parameters(self) -> Mapping[Site, Mapping[str, Any]]:
            return {Site.parse("L0.H0"): {}}

    with pytest.raises(InterventionError, match="the formula of Empty does not work"):
        generate(tiny_lm_model, Row("a", 0, None, Empty()), 0.1, progress=False)


def test_draws_belong_to_the_seed(tiny_lm_model: MusicGen) -> None:
    @dataclass(frozen=True)
    class Dice(Intervention):
        tables = ("value",)

        def pick(self, step: NDArray[np.int64], n: int, rng: np.random.Generator) -> NDArray[np.int64]:
            return np.where(rng.random(len(step)) < 0.5, rng.integers(n, size=len(step)), -1)

        def parameters(self) -> Mapping[Site, Mapping[str, Any]]:
            return {Site.parse("L0.H0"): {"value": np.arange(1, 7)[:, None] * np.ones(8)}}

        @staticmethod
        def edit(h: Tensor, factor: Tensor, p: Mapping[str, Tensor]) -> Tensor:
            return p["value"]

    rows = [Row("a", seed, None, Dice()) for seed in (1, 1, 2)]
    made = generate(tiny_lm_model, rows, 1.0, capture="L0.H0", progress=False).captured("L0.H0")
    assert torch.equal(made[0], made[1]) and not torch.equal(made[0], made[2])
    thrown = [set(step.tolist()) for step in made[0] if step.unique().numel() == 1]
    assert 15 < len(thrown) < 40 and {next(iter(x)) for x in thrown} <= {1.0, 2.0, 3.0, 4.0, 5.0, 6.0}


def test_interpolating_by_zero_at_some_steps_keeps_their_bits(tiny_lm_model: MusicGen, make_directions: Make) -> None:
    item = Interpolate(make_directions("embed"), 0.5, schedule=EveryN(2))
    made, plain = (
        generate(tiny_lm_model, Row("a", 3, None, items), 3 / 50, capture="embed", progress=False).captured("embed")
        for items in ((item,), ())
    )
    assert not torch.equal(made[0, 0], plain[0, 0]) and not torch.equal(made[0, 2], plain[0, 2])


@settings(max_examples=2000, deadline=None)
@given(
    amount=st.floats(),
    sigma=st.floats(0, allow_infinity=False, allow_nan=False),
    weight=st.floats(),
    by=st.sampled_from(["dose", "strength", "interpolate", "clamp"]),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
)
def test_any_amount_is_refused_or_noticed(
    amount: float, sigma: float, weight: float, by: str, dtype: torch.dtype
) -> None:
    """Whatever the dose, strength, weight or bound: activations are finite, or it is noticed; zero keeps every bit."""
    direction = Direction.from_weight("L0.H1", np.arange(1.0, 9.0), sigma=sigma, intercept=0.5)
    x = torch.linspace(-3, 3, 32, dtype=dtype).view(1, 1, 32)
    try:
        if by == "interpolate":
            item: Intervention = Interpolate(direction, amount, weights=(weight,))
        elif by == "clamp":
            item = Clamp(direction, low=amount)
        else:
            item = Add(direction, weights=(weight,), **{by: amount})
        edits = Edits([(item,)], [0], ModelShape(1, 4, 32), Timeline(0, 3, 50.0), False, dtype=dtype)
        edited = edits.apply(("heads", 0), x, 0, "cond")
    except InterventionError as error:
        assert "\n" not in str(error)
        return
    if by != "clamp" and (amount == 0 or weight == 0 or (by == "dose" and sigma == 0)):
        assert torch.equal(edited, x)
    if by in ("dose", "strength"):
        assert edited.isfinite().all()
    elif dtype == torch.float32 and not edited.isfinite().all():  # in half precision the logits tell
        assert not all(np.isfinite(line[-1]).all() for line in record.edited(edits))
