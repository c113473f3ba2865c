"""Intervals of proportions, of means over groups, and of draws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from interp.errors import DataError

__all__ = ["Interval", "bootstrap_interval", "group_weights", "jackknife_interval", "mean_interval", "wilson"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval."""

    value: float
    lo: float
    hi: float
    level: float = 0.95

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.lo:.3f}, {self.hi:.3f}]"


def wilson(successes: ArrayLike, n: ArrayLike, level: float = 0.95) -> tuple[Array, Array]:
    """Wilson's score interval of a proportion.

    Parameters
    ----------
    successes, n : array
        Successes and trials; trials of zero give the interval from 0 to 1.
    level : float
        Confidence.

    Returns
    -------
    lo, hi : arrays

    Examples
    --------
    >>> lo, hi = wilson(8, 10)
    >>> float(lo.round(3)), float(hi.round(3))
    (0.49, 0.943)
    """
    k, n = np.asarray(successes, dtype=float), np.asarray(n, dtype=float)
    z = stats.norm.ppf(0.5 + level / 2)
    safe = np.maximum(n, 1e-300)
    p = np.where(n > 0, k / safe, 0.5)
    centre = (p + z**2 / (2 * safe)) / (1 + z**2 / safe)
    half = z / (1 + z**2 / safe) * np.sqrt(p * (1 - p) / safe + z**2 / (4 * safe**2))
    none = n <= 0
    return np.where(none, 0.0, np.maximum(centre - half, 0)), np.where(none, 1.0, np.minimum(centre + half, 1))


def group_weights(groups: ArrayLike, n: int, seed: int | np.random.Generator) -> Array:
    """Bootstrap over groups: how often each clip is drawn when whole groups are drawn with replacement.

    Parameters
    ----------
    groups : array of shape (clips,)
        Group of each clip.
    n : int
        Resamples.
    seed : int or numpy.random.Generator
        Source of randomness.

    Returns
    -------
    array of shape (n, clips)

    Raises
    ------
    DataError
        If there is only one group.
    """
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < 2:
        raise DataError("one group cannot be resampled: an interval over groups needs two groups or more.")
    draws = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=n)
    return draws[:, index].astype(float)


def bootstrap_interval(draws: ArrayLike, n_units: int, level: float = 0.95) -> tuple[Array, Array]:
    """Percentile interval of bootstrap draws, widened for few units.

    The bootstrap divides by n where an unbiased variance divides by n - 1, and uses normal where t quantiles are due.
    Hesterberg's expanded percentile interval (2015, doi:10.1080/00031305.2015.1089789) repairs both by taking quantiles
    further out; with many units it is the plain percentile interval.

    Parameters
    ----------
    draws : array of shape (resamples, ...)
        Bootstrap draws; NaN (a resample without a class) are left out.
    n_units : int
        Independent units that were resampled (groups).
    level : float
        Confidence.

    Returns
    -------
    lo, hi : arrays of shape (...)
    """
    draws = np.asarray(draws, dtype=float)
    units = max(n_units, 2)
    tail = stats.norm.cdf(-np.sqrt(units / (units - 1)) * stats.t.ppf(0.5 + level / 2, units - 1))
    quantile = np.nanquantile if np.isnan(draws).any() else np.quantile
    lo, hi = quantile(draws, [tail, 1 - tail], axis=0)
    return np.asarray(lo), np.asarray(hi)


def mean_interval(
    values: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    n_bootstrap: int = 2000,
    level: float = 0.95,
    seed: int | np.random.Generator = 0,
) -> Interval:
    """Mean of clips with a bootstrap interval over their groups.

    Parameters
    ----------
    values : array of shape (clips,)
        One number a clip.
    groups : array of shape (clips,), optional
        Groups; without, every clip is its own.
    n_bootstrap, level, seed
        Resamples, confidence, seed or generator.
    """
    x = np.asarray(values, dtype=float)
    names = np.arange(len(x)) if groups is None else np.asarray(groups)
    weights = group_weights(names, n_bootstrap, np.random.default_rng(seed))
    lo, hi = bootstrap_interval((weights @ x) / weights.sum(1), len(np.unique(names)), level)
    return Interval(float(x.mean()), float(lo), float(hi), level)


def jackknife_interval(value: float, left_out: ArrayLike, level: float = 0.95) -> Interval:
    """Confidence interval of a smooth statistic from leaving out one unit at a time (Tukey's jackknife).

    Parameters
    ----------
    value : float
        The statistic of all units.
    left_out : array of shape (units,)
        The statistic without each unit in turn.
    level : float
        Confidence.

    Returns
    -------
    Interval
        The value, give or take the jackknife's standard error times the t quantile with ``units - 1`` degrees of
        freedom. It is the spread of the statistic at this number of units; its bias stays in.

    Raises
    ------
    DataError
        If there are fewer than two units.

    Examples
    --------
    >>> x = np.array([1.0, 2.0, 3.0, 6.0])
    >>> around = jackknife_interval(x.mean(), (x.sum() - x) / 3)  # of a mean: the usual t interval
    >>> bool(np.isclose(around.hi - around.value, stats.t.ppf(0.975, 3) * x.std(ddof=1) / 2))
    True
    """
    x = np.asarray(left_out, dtype=float)
    n = len(x)
    if n < 2:
        raise DataError("a jackknife needs two units or more.")
    error = np.sqrt((n - 1) / n * ((x - x.mean()) ** 2).sum())
    half = float(stats.t.ppf(0.5 + level / 2, n - 1) * error)
    return Interval(float(value), float(value) - half, float(value) + half, level)
