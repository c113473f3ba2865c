"""A value that is not finite is caught where it arises, and named; it never becomes token 0."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from interp.backends.build import random_musicgen
from interp.directions import Direction, Directions
from interp.errors import InterventionError, ModelError
from interp.model import MusicGen
from interp.steering import Ablate, Add, Call, EveryN, Interpolate, Intervention, Row, Swap, generate
from interp.steering.schedules import Constant

Make = Callable[..., Directions]
ENGINES = ("fast", "hooks", "nnsight")


@pytest.mark.parametrize("engine", ENGINES)
def test_the_row_the_step_the_site_and_the_intervention_are_named(
    tiny_lm_model: MusicGen, make_directions: Make, engine: str
) -> None:
    def explode(h: torch.Tensor) -> torch.Tensor:
        return h * 1e30

    huge = Call("L1.H2, L2.resid", explode, window=(0.1, 9.0))
    rows = [Row("a", 0), Row("a", 1, None, (Add(make_directions(), dose=1.0), huge)), Row("b", 2)]
    with pytest.raises(InterventionError) as caught:
        generate(tiny_lm_model, rows, 0.5, engine=engine, batch_size=2, progress=False)  # type: ignore[arg-type]
    text = str(caught.value)
    assert text.startswith("row 1 is not finite in float32")
    assert "step 5 (0.10 s)" in text and "call explode" in text and "L2.resid" in text
    assert "\n" not in text


def test_a_push_beyond_the_numbers_of_the_dtype_is_refused_before_the_work(
    tiny_lm_model: MusicGen, make_directions: Make
) -> None:
    for engine in ENGINES:
        for strength in (1e30, -1e30, 1e20):
            push = Add(make_directions("resid"), strength=strength)
            with pytest.raises(InterventionError, match=r"at L0\.resid is more than float32 activations"):
                generate(tiny_lm_model, Row("a", 0, None, push), 0.2, engine=engine, progress=False)  # type: ignore[arg-type]
    half = MusicGen(random_musicgen(2, 2, 16, seed=3))
    half.lm.to(torch.float16)
    item = Add(Direction.from_weight("L1.resid", np.ones(16)), strength=1e6)
    with pytest.raises(InterventionError, match=r"1e\+06 at L1\.resid is more than float16"):
        generate(half, Row("a", 0, None, item), 0.2, progress=False)
    with pytest.raises(InterventionError, match="float32"):  # a schedule counts
        push = Add(make_directions(), dose=1e18, schedule=EveryN(2) * Constant(100.0))
        generate(tiny_lm_model, Row("a", 0, None, push), 0.2)


@pytest.mark.parametrize(
    "make",
    [
        lambda d: Interpolate(d, 1e38),
        lambda d: Swap({str(x.site): np.full((3, x.dim), 3e38) for x in d}),
        lambda d: Ablate.mean({str(x.site): np.full((3, x.dim), 1e30) for x in d}),
    ],
)
def test_other_edits_of_no_finite_size_are_named_too(
    tiny_lm_model: MusicGen, make_directions: Make, make: Callable[[Directions], Intervention]
) -> None:
    item = make(make_directions("L1.resid"))
    for engine in ENGINES:
        with pytest.raises(InterventionError, match=r"row 0.*not finite.*L1\.resid"):
            generate(tiny_lm_model, Row("a", 0, None, item), 0.2, engine=engine, progress=False)  # type: ignore[arg-type]


def test_a_model_that_is_not_finite_is_named_without_blaming_anybody() -> None:
    model = MusicGen(random_musicgen(3, 2, 16, seed=3))
    model.lm.transformer.layers[1].linear2.weight.data[0, 0] = math.nan
    for engine in ENGINES:
        with pytest.raises(ModelError, match=r"row 0 is not finite in float32, first at L1\.mlp, step 0"):
            generate(model, [Row("a"), Row("b")], 0.2, engine=engine, progress=False)  # type: ignore[arg-type]


def test_one_row_that_fails_late_is_found_whatever_the_batch(tiny_lm_model: MusicGen) -> None:
    item = Call("L0.resid", lambda h: h / 0, window=(1.5, 9.0), name="late")
    rows = [Row("a", seed) for seed in range(5)] + [Row("a", 9, None, item)]
    with pytest.raises(InterventionError, match=r"row 5 is not finite.*step 75 \(1\.50 s\).*late: call"):
        generate(tiny_lm_model, rows, 2.0, progress=False)
