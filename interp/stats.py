"""Intervals, permutation nulls, multiple comparisons and dose-response: the statistics every result comes with.

Everything here is arrays in, small results out; nothing knows about models or audio.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from interp.errors import DataError

__all__ = [
    "DoseResponse",
    "Interval",
    "MaxStatistic",
    "PairedDifference",
    "benjamini_hochberg",
    "bootstrap_interval",
    "cosine_null",
    "dose_response",
    "group_weights",
    "holm",
    "jackknife_interval",
    "max_statistic",
    "mean_interval",
    "paired_bootstrap",
    "permutation_p",
    "wilson",
]

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


def permutation_p(observed: ArrayLike, null: ArrayLike) -> Array:
    """Share of the null that is at least as large, the observed value counted in, so never zero.

    Parameters
    ----------
    observed : array of shape (...)
    null : array of shape (permutations, ...)
    """
    observed, null = np.asarray(observed, dtype=float), np.asarray(null, dtype=float)
    reached = (null >= observed - 1e-6).sum(axis=0)  # equal up to rounding counts as equal: scores are shares of clips
    return np.asarray((1 + reached) / (1 + len(null)))


@dataclass(frozen=True)
class MaxStatistic:
    """Permutation p-values of a family of tests.

    Attributes
    ----------
    p : array of shape (tests,)
        Of each test on its own.
    p_max : array of shape (tests,)
        Corrected for the family: against the largest statistic of every permutation (Westfall and Young 1993).
    null_max : array of shape (permutations,)
        That largest statistic.
    """

    p: Array
    p_max: Array
    null_max: Array

    def threshold(self, level: float = 0.95) -> float:
        """What the best of the family reaches by chance, at this quantile."""
        return float(np.quantile(self.null_max, level, method="higher"))


def max_statistic(observed: ArrayLike, null: ArrayLike) -> MaxStatistic:
    """Compare each test with its own null and with the maximum over the family.

    Parameters
    ----------
    observed : array of shape (tests,)
        Statistics; large is interesting.
    null : array of shape (permutations, tests)
        The same statistics on permuted labels, all tests under the same permutation in a row, which keeps their
        dependence.

    Raises
    ------
    DataError
        If the shapes do not fit.
    """
    observed, null = np.asarray(observed, dtype=float), np.asarray(null, dtype=float)
    if null.ndim != 2 or null.shape[1:] != observed.shape or not len(null):
        raise DataError(
            f"a null of shape {null.shape} does not fit {observed.shape} statistics: give (permutations, tests)."
        )
    null_max = null.max(axis=1)
    return MaxStatistic(
        permutation_p(observed, null), permutation_p(observed, np.broadcast_to(null_max[:, None], null.shape)), null_max
    )


def benjamini_hochberg(p: ArrayLike) -> Array:
    """q-values that control the false discovery rate (Benjamini and Hochberg 1995); NaN stay NaN.

    Examples
    --------
    >>> benjamini_hochberg([0.01, 0.02, 0.03, 0.5]).round(3).tolist()
    [0.04, 0.04, 0.04, 0.5]
    """
    p = np.asarray(p, dtype=float)
    out = np.full(p.shape, np.nan)
    valid = np.flatnonzero(~np.isnan(p))
    if len(valid):
        order = valid[np.argsort(p[valid], kind="stable")]
        scaled = p[order] * len(order) / np.arange(1, len(order) + 1)
        out[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1)
    return out


def holm(p: ArrayLike) -> Array:
    """p-values corrected for the family-wise error (Holm 1979); NaN stay NaN.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p, dtype=float)
    out = np.full(p.shape, np.nan)
    valid = np.flatnonzero(~np.isnan(p))
    if len(valid):
        order = valid[np.argsort(p[valid], kind="stable")]
        scaled = p[order] * np.arange(len(order), 0, -1)
        out[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return out


@dataclass(frozen=True)
class PairedDifference:
    """Mean of treated minus control over pairs, with interval and sign-flip p-value."""

    difference: float
    lo: float
    hi: float
    p: float
    n_units: int


def paired_bootstrap(
    treated: ArrayLike,
    control: ArrayLike,
    units: ArrayLike | None = None,
    *,
    n_bootstrap: int = 2000,
    level: float = 0.95,
    seed: int | np.random.Generator = 0,
) -> PairedDifference:
    """Compare two arms that share seeds and prompts.

    Parameters
    ----------
    treated, control : array of shape (pairs,)
        Scores of the same row under two arms.
    units : array of shape (pairs,), optional
        Independent unit (prompt, clip) of each pair; without, every pair is its own.
    n_bootstrap, level, seed
        Resamples, confidence, seed or generator.

    Returns
    -------
    PairedDifference
        The two-sided p-value flips the sign of whole units at random (all flips when there are at most 2^12).

    Raises
    ------
    DataError
        If the arms differ in length, hold NaN, or there are fewer than two units.
    """
    a, b = np.asarray(treated, dtype=float), np.asarray(control, dtype=float)
    if a.shape != b.shape or a.ndim != 1:
        raise DataError(f"paired arms of shapes {a.shape} and {b.shape}: give one score per pair in both.")
    difference = a - b
    if np.isnan(difference).any():
        raise DataError(f"{int(np.isnan(difference).sum())} pairs hold NaN: drop them from both arms first.")
    generator = np.random.default_rng(seed)
    names = np.arange(len(a)) if units is None else np.asarray(units)
    weights = group_weights(names, n_bootstrap, generator)
    lo, hi = bootstrap_interval((weights @ difference) / weights.sum(1), len(np.unique(names)), level)
    _, index = np.unique(names, return_inverse=True)
    sums = np.bincount(index, weights=difference)
    if len(sums) <= 12:
        signs = 1 - 2 * ((np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums))) & 1)
        p = float((np.abs(signs @ sums) >= np.abs(sums.sum()) - 1e-12).mean())
    else:
        signs = generator.choice([-1, 1], size=(max(n_bootstrap, 999), len(sums)))
        p = float(permutation_p(np.abs(sums.sum()), np.abs(signs @ sums)))
    return PairedDifference(float(difference.mean()), float(lo), float(hi), p, len(sums))


@dataclass(frozen=True)
class DoseResponse:
    """Trend of a score with dose, within units that received every dose.

    Attributes
    ----------
    slope, lo, hi : float
        Mean over units of the least-squares slope of score on dose, with its bootstrap interval over units.
    p : float
        Two-sided, from permuting doses within units.
    rho : float
        Mean over units of Spearman's rank correlation of dose and score.
    increasing : float
        Share of the steps from one dose to the next at which the mean score does not fall.
    n_units : int
        Units.
    """

    slope: float
    lo: float
    hi: float
    p: float
    rho: float
    increasing: float
    n_units: int


def dose_response(
    dose: ArrayLike,
    score: ArrayLike,
    units: ArrayLike,
    *,
    n_permutations: int = 2000,
    level: float = 0.95,
    seed: int | np.random.Generator = 0,
) -> DoseResponse:
    """Test whether a score follows the dose, with units (seeds, clips) as their own control.

    Parameters
    ----------
    dose, score : array of shape (rows,)
        Dose given and score reached; several rows of a unit at one dose are averaged.
    units : array of shape (rows,)
        Unit of each row. Units that lack a dose are refused.
    n_permutations, level, seed
        Permutations (and resamples), confidence, seed or generator.

    Raises
    ------
    DataError
        If there are fewer than two doses or units, or a unit lacks a dose.
    """
    frame = pd.DataFrame(
        {"dose": np.asarray(dose, float), "score": np.asarray(score, float), "unit": np.asarray(units)}
    )
    table = frame.pivot_table(index="unit", columns="dose", values="score", aggfunc="mean")
    if table.shape[1] < 2 or table.shape[0] < 2:
        raise DataError(f"{table.shape[1]} doses and {table.shape[0]} units: a trend needs two of both.")
    if table.isna().any().any():
        raise DataError(
            f"unit {table.index[table.isna().any(axis=1)][0]!r} lacks a dose: run every dose on every unit."
        )
    generator = np.random.default_rng(seed)
    y, x = table.to_numpy(), table.columns.to_numpy(dtype=float)
    x = x - x.mean()
    contrast = x / (x @ x)
    slopes = y @ contrast
    weights = group_weights(np.arange(len(y)), n_permutations, generator)
    lo, hi = bootstrap_interval((weights @ slopes) / weights.sum(1), len(y), level)
    null = np.zeros(n_permutations)
    for row in y:
        null += generator.permuted(np.broadcast_to(contrast, (n_permutations, len(x))), axis=1) @ row
    p = float(permutation_p(abs(slopes.sum()), np.abs(null)))
    ranks_x, ranks_y = stats.rankdata(x), stats.rankdata(y, axis=1)
    ranks_x, ranks_y = ranks_x - ranks_x.mean(), ranks_y - ranks_y.mean(axis=1, keepdims=True)
    size = np.sqrt((ranks_x**2).sum() * (ranks_y**2).sum(axis=1))
    rho = np.divide(ranks_y @ ranks_x, size, out=np.zeros(len(y)), where=size > 0)
    steps = np.diff(y.mean(axis=0))
    return DoseResponse(
        float(slopes.mean()), float(lo), float(hi), p, float(rho.mean()), float((steps >= 0).mean()), len(y)
    )


def cosine_null(dim: int, level: float | ArrayLike = 0.95, n: int = 1) -> Array:
    """Quantile of the absolute cosine between two independent directions, uniform on the sphere.

    Parameters
    ----------
    dim : int
        Dimension; the squared cosine is Beta(1/2, (dim - 1) / 2) distributed.
    level : float or array
        Quantile.
    n : int
        Independent pairs of which the largest is taken (Sidak).

    Returns
    -------
    array
        Of the shape of ``level``. Activations are anisotropic, so a null from shuffled labels is stricter: show both.

    Examples
    --------
    >>> float(cosine_null(64).round(3)), float(cosine_null(1024, 0.99).round(3))
    (0.244, 0.08)
    """
    if dim < 2:
        return np.ones_like(np.asarray(level, dtype=float))
    return np.asarray(np.sqrt(special.betaincinv(0.5, (dim - 1) / 2, np.asarray(level, dtype=float) ** (1 / n))))
