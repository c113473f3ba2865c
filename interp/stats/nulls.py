"""p-values from permutations, families of tests, and what unrelated directions reach."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from interp.errors import DataError

__all__ = ["MaxStatistic", "benjamini_hochberg", "cosine_null", "holm", "max_statistic", "permutation_p"]

Array = NDArray[np.float64]


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
