"""When an intervention acts: schedules give the factor on its strength at every step.

A schedule is called with the *step* (0 is the first generated position, positions of an audio prompt are negative)
and the *second* of the clip that the position writes, both as arrays, and returns one factor each. Schedules
multiply: ``EveryN(5) * Decay()``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from interp.errors import InterventionError
from interp.steering._registry import register

__all__ = [
    "Constant",
    "Curve",
    "Decay",
    "EveryN",
    "Product",
    "Ramp",
    "RandomGate",
    "Schedule",
]

Steps = NDArray[np.int64]
Factors = NDArray[np.float64]


@dataclass(frozen=True)
class Schedule:
    """Base of all schedules; subclasses say how the factor follows from step and second."""

    def factors(self, step: Steps, seconds: Factors) -> Factors:
        """Factor at each position, of the shape of ``step``."""
        raise NotImplementedError

    def __call__(self, step: Steps, seconds: Factors) -> Factors:
        """Checked :meth:`factors`.

        Raises
        ------
        InterventionError
            If a factor is not finite or the shape is wrong.
        """
        values = np.asarray(self.factors(step, seconds), dtype=np.float64)
        if values.shape != step.shape or not np.isfinite(values).all():
            raise InterventionError(
                f"schedule {self.describe()} must give one finite factor for each of {step.size} steps."
            )
        return values

    def __mul__(self, other: Schedule) -> Schedule:
        return Product(self, other)

    def describe(self) -> str:
        """The schedule in words."""
        return repr(self)


@register
@dataclass(frozen=True)
class Constant(Schedule):
    """The same factor at every step."""

    value: float = 1.0

    def factors(self, step: Steps, seconds: Factors) -> Factors:
        return np.full(step.shape, float(self.value))

    def describe(self) -> str:
        return "every step" if self.value == 1 else f"every step, times {self.value:g}"


@register
@dataclass(frozen=True)
class EveryN(Schedule):
    """Full strength at every ``n``-th step, nothing in between (SMITIN: 5, arXiv 2506.10225's code: 25)."""

    n: int = 5
    offset: int = 0

    def __post_init__(self) -> None:
        if int(self.n) != self.n or self.n < 1:
            raise InterventionError(f"a schedule of every {self.n} steps is impossible: n must be 1 or more.")

    def factors(self, step: Steps, seconds: Factors) -> Factors:
        return (step % self.n == self.offset % self.n).astype(np.float64)

    def describe(self) -> str:
        return f"every {self.n} steps" + (f" from step {self.offset}" if self.offset else "")


@register
@dataclass(frozen=True)
class Decay(Schedule):
    """``rate ** step`` over generated steps (0.998 in MusicRFM); prompt steps get the full strength."""

    rate: float = 0.998

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 1:
            raise InterventionError(f"a decay of {self.rate} per step is not a decay: give 0 < rate <= 1.")

    def factors(self, step: Steps, seconds: Factors) -> Factors:
        return np.asarray(self.rate ** np.maximum(step, 0).astype(np.float64))

    def describe(self) -> str:
        return f"decaying by {self.rate:g} a step"


@register
@dataclass(frozen=True)
class Ramp(Schedule):
    """Linear in time from ``low`` at second ``start`` to ``high`` at second ``stop``, flat outside.

    With ``start == stop`` it is a switch at that second. Two ramps, one falling and one rising, are a cross-fade.
    """

    start: float
    stop: float
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.start) and math.isfinite(self.stop)) or self.stop < self.start:
            raise InterventionError(
                f"a ramp from second {self.start} to second {self.stop} runs backwards: order them."
            )

    def factors(self, step: Steps, seconds: Factors) -> Factors:
        if self.start == self.stop:
            share = (seconds >= self.start).astype(np.float64)
        else:
            share = np.clip((seconds - self.start) / (self.stop - self.start), 0.0, 1.0)
        return np.asarray(self.low + (self.high - self.low) * share)

    def describe(self) -> str:
        return f"from {self.low:g} at {self.start:g} s to {self.high:g} at {self.stop:g} s"


@register
@dataclass(frozen=True)
class RandomGate(Schedule):
    """Full strength at a random share ``p`` of the steps (MusicRFM: 0.3), drawn once from ``seed``."""

    p: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 1:
            raise InterventionError(f"a gate that opens with probability {self.p} is impossible: 0 <= p <= 1.")

    def factors(self, step: Steps, seconds: Factors) -> Factors:
        opens = np.zeros(step.shape, dtype=np.float64)
        for stream, where, index in ((0, step >= 0, step), (1, step < 0, -step - 1)):
            if where.any():
                draws = np.random.default_rng([self.seed, stream]).random(int(index[where].max()) + 1)
                opens[where] = draws[index[where]] < self.p
        return opens

    def describe(self) -> str:
        return f"at a random {self.p:.0%} of steps (seed {self.seed})"


@register
@dataclass(frozen=True)
class Curve(Schedule):
    """Piecewise linear in time through ``(seconds, values)``, flat outside: any function of seconds, as a table."""

    seconds: tuple[float, ...]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "seconds", tuple(float(x) for x in self.seconds))
        object.__setattr__(self, "values", tuple(float(x) for x in self.values))
        if not self.seconds or len(self.seconds) != len(self.values):
            raise InterventionError("a curve needs as many seconds as values, at least one of each.")
        if any(b <= a for a, b in zip(self.seconds, self.seconds[1:], strict=False)):
            raise InterventionError("the seconds of a curve must rise from one to the next.")

    @classmethod
    def of(cls, function: Callable[[float], float], seconds: Sequence[float]) -> Curve:
        """Sample a function of seconds into a table that can be written to a file."""
        return cls(tuple(seconds), tuple(float(function(x)) for x in seconds))

    def factors(self, step: Steps, seconds: Factors) -> Factors:
        return np.asarray(np.interp(seconds, self.seconds, self.values))

    def describe(self) -> str:
        return f"along a curve of {len(self.seconds)} points from {self.seconds[0]:g} s to {self.seconds[-1]:g} s"


@register
@dataclass(frozen=True)
class Product(Schedule):
    """Two schedules at once: their factors multiply."""

    left: Schedule
    right: Schedule

    def factors(self, step: Steps, seconds: Factors) -> Factors:
        return self.left(step, seconds) * self.right(step, seconds)

    def describe(self) -> str:
        return f"{self.left.describe()}, {self.right.describe()}"
