"""Factors over time."""

from __future__ import annotations

import math

import numpy as np
import pytest

from interp.errors import InterventionError
from interp.steering import Curve, Decay, EveryN, Ramp, RandomGate
from interp.steering.schedules import Constant, Product

STEP = np.arange(-10, 300)
SECONDS = (STEP + 10) / 50


def test_each_formula_written_out() -> None:
    for t, second, *factors in zip(
        STEP,
        SECONDS,
        EveryN(5)(STEP, SECONDS),
        EveryN(5, 2)(STEP, SECONDS),
        Decay(0.998)(STEP, SECONDS),
        Ramp(1, 3, 0.5, 2)(STEP, SECONDS),
        Ramp(2, 2)(STEP, SECONDS),
        Curve((1, 2), (0, 4))(STEP, SECONDS),
        Constant(0.25)(STEP, SECONDS),
        (EveryN(5) * Decay(0.9))(STEP, SECONDS),
        strict=True,
    ):
        share = min(max((second - 1) / 2, 0), 1)
        expected = [
            float(t % 5 == 0),
            float(t % 5 == 2),
            0.998 ** max(t, 0),
            0.5 + 1.5 * share,
            float(second >= 2),
            4 * min(max(second - 1, 0), 1),
            0.25,
            (t % 5 == 0) * 0.9 ** max(t, 0),
        ]
        assert factors == pytest.approx(expected, abs=1e-12)


def test_a_random_gate_is_a_fixed_draw_of_the_right_rate() -> None:
    steps = np.arange(-500, 20000)
    gate = RandomGate(0.3, seed=4)
    opened = gate(steps, steps / 50)
    assert set(opened) == {0.0, 1.0}
    assert opened.mean() == pytest.approx(0.3, abs=0.02)
    later = steps[3000:]
    assert np.array_equal(gate(later, later / 50), opened[3000:])
    assert not np.array_equal(RandomGate(0.3, seed=5)(steps, steps / 50), opened)


def test_every_schedule_describes_itself() -> None:
    for schedule in (Constant(), EveryN(5), Decay(), Ramp(0, 1), RandomGate(), Curve((0,), (1,))):
        assert "(" not in schedule.describe()[:3]
        assert schedule.describe() in Product(schedule, Constant(2.0)).describe()


@pytest.mark.parametrize(
    "make",
    [
        lambda: EveryN(0),
        lambda: Decay(1.5),
        lambda: Ramp(3, 1),
        lambda: RandomGate(2),
        lambda: Curve((1, 1), (0, 0)),
        lambda: Curve((1, 2), (0,)),
        lambda: Curve((1,), (math.nan,))(STEP, SECONDS),
    ],
)
def test_bad_schedules_get_one_sentence(make: object) -> None:
    with pytest.raises(InterventionError) as caught:
        make()  # type: ignore[operator]
    assert "\n" not in str(caught.value)
