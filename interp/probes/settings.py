"""How probes are trained and tested: one object in place of a dozen parameters."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from interp.directions.registry import L2_GRID, SHRINKAGE_GRID
from interp.errors import DataError
from interp.traits import TraitKind

__all__ = ["Settings"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How probes are trained and tested.

    Attributes
    ----------
    folds : int
        Cross-validation folds, over groups.
    test_size : float
        Share of clips held out, by whole groups.
    n_permutations, n_bootstrap : int
        Label shuffles (0 for none: p-values are NaN) and resamples of the interval (0: no interval).
    seed : int
        Of splits, shuffles and resamples.
    kind : {"binary", "categorical", "graded"}, optional
        What the labels are, where it cannot be seen.
    score : str, optional
        What is reported and what penalties are chosen by; balanced accuracy, for graded traits R2.
    l2 : sequence of float
        Penalties to choose from, per training clip (``l2 * clips`` is scikit-learn's ``alpha`` and ``1 / C``).
    shrinkage : float or sequence of float
        Amounts to choose from for LDA, 0 to 1.
    class_weight : {"balanced"} or dict, optional
        Weight classes inversely to frequency, or by class index (logistic only).
    dtype : {"float32", "float64"}
        Arithmetic of cross-validation and shuffles; the probe that is reported is always fitted in float64.
    device : str
        Where to compute.
    memory : int
        Bytes that the solver may take.

    Raises
    ------
    DataError
        If a number is out of range.

    Examples
    --------
    >>> Settings(folds=4).test_size
    0.25
    >>> Settings.of(n_seed=3)
    Traceback (most recent call last):
    interp.errors.DataError: probes have no setting 'n_seed': did you mean 'seed'?
    """

    folds: int = 5
    test_size: float = 0.25
    n_permutations: int = 200
    n_bootstrap: int = 1000
    seed: int = 0
    kind: TraitKind | None = None
    score: str | None = None
    l2: Sequence[float] = L2_GRID
    shrinkage: float | Sequence[float] = SHRINKAGE_GRID
    class_weight: Literal["balanced"] | Mapping[int, float] | None = None
    dtype: Literal["float32", "float64"] = "float32"
    device: str = "cpu"
    memory: int = 2**30

    def __post_init__(self) -> None:
        if self.folds < 2:
            raise DataError(f"{self.folds} folds: cross-validation needs two or more.")
        if not 0 < self.test_size < 1:
            raise DataError(f"test_size is {self.test_size}: give the share of clips to hold out, between 0 and 1.")
        for name in ("n_permutations", "n_bootstrap", "seed"):
            if getattr(self, name) < 0:
                raise DataError(f"{name} is {getattr(self, name)}: give 0 or more.")
        if self.dtype not in ("float32", "float64"):
            raise DataError(f"probes compute in float32 or float64, not in {self.dtype!r}.")
        object.__setattr__(self, "l2", _numbers(self.l2))
        object.__setattr__(self, "shrinkage", _numbers(self.shrinkage))
        if not self.l2 or not all(np.isfinite(p) and p > 0 for p in self.l2):  # type: ignore[union-attr]
            raise DataError(f"l2 is {list(self.l2)}: give one or more positive numbers.")
        if not self.shrinkage or not all(0 <= s <= 1 for s in self.shrinkage):  # type: ignore[union-attr]
            raise DataError(f"shrinkage is {list(self.shrinkage)}: give one or more numbers from 0 to 1.")  # type: ignore[arg-type]

    @classmethod
    def of(cls, **options: Any) -> Settings:
        """Settings from keywords; one that does not exist is refused in a sentence."""
        known = [field.name for field in dataclasses.fields(cls)]
        for name in options:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}."
                raise DataError(f"probes have no setting {name!r}: {hint}")
        return cls(**options)

    @property
    def solver(self) -> dict[str, Any]:
        """Arithmetic, place and memory, as the solvers take them."""
        return {"dtype": self.dtype, "device": self.device, "memory": self.memory}


def _numbers(values: float | Sequence[float]) -> tuple[float, ...]:
    return tuple(sorted(float(value) for value in np.atleast_1d(np.asarray(values, dtype=float))))
