"""Differences between arms, and trends over doses, on the same units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from interp.errors import DataError
from interp.stats.intervals import bootstrap_interval, group_weights
from interp.stats.nulls import permutation_p

__all__ = ["DoseResponse", "PairedDifference", "dose_response", "paired_bootstrap"]

Array = NDArray[np.float64]


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
