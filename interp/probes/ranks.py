"""Rankings with their uncertainty: who is surely among the best."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats as scipy_stats

from interp.errors import DataError
from interp.metrics import weighted_scores
from interp.probes.result import ProbeResult
from interp.stats import group_weights

__all__ = ["rank_intervals", "top_set"]

Array = NDArray[np.float64]


def rank_intervals(
    scores: ArrayLike, draws: ArrayLike, level: float = 0.95
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Simultaneous confidence intervals for the ranks of all sites.

    All pairwise differences get simultaneous intervals from the bootstrap of their largest studentised deviation; a
    site's rank is at least one plus the sites surely above it, and at most the number of sites less those surely
    below it (Mogstad, Romano, Shaikh and Wilhelm 2024, doi:10.1093/restud/rdad006).

    Parameters
    ----------
    scores : array of shape (sites,)
        Held-out scores, large is good.
    draws : array of shape (resamples, sites)
        The same scores under the bootstrap, all sites under the same resample in a row.
    level : float
        Probability that the intervals of *all* sites cover their true ranks.

    Returns
    -------
    lo, hi : int arrays of shape (sites,)
        Ranks from 1 (best).
    """
    observed, drawn = np.asarray(scores, dtype=np.float32), np.asarray(draws, dtype=np.float32)
    sites = len(observed)
    if drawn.ndim != 2 or drawn.shape[1] != sites or len(drawn) < 2:
        raise DataError(f"bootstrap draws of shape {drawn.shape} do not fit {sites} sites: give (resamples, sites).")
    drawn = drawn[~np.isnan(drawn).any(axis=1)]
    deviation = drawn - observed
    centred = drawn - drawn.mean(axis=0)
    covariance = centred.T @ centred / max(len(drawn) - 1, 1)
    variance = np.diag(covariance)
    spread = np.sqrt(np.maximum(variance[:, None] + variance[None] - 2 * covariance, 0))
    usable = spread > 1e-6  # sites that never differ under resampling cannot be told apart, or exactly can
    inverse = np.where(usable, 1 / np.where(usable, spread, 1), 0).astype(np.float32)
    largest = np.empty(len(drawn), dtype=np.float32)
    for i, row in enumerate(deviation):
        largest[i] = (np.abs(row[:, None] - row[None]) * inverse).max()
    half = np.quantile(largest, level) * spread
    difference = observed[:, None] - observed[None]
    above = (difference > half) & (difference > 1e-9)  # [i, j]: i surely above j
    lo = 1 + above.sum(axis=0)
    hi = sites - above.sum(axis=1)
    return lo.astype(np.int64), hi.astype(np.int64)


def top_set(
    result: ProbeResult,
    k: int,
    method: str | None = None,
    *,
    level: float = 0.95,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Which sites are among the k best, with confidence.

    Parameters
    ----------
    result : ProbeResult
        Its held-out decision values are resampled over groups.
    k : int
        How many.
    method : str, optional
        The first by default.
    level, n_bootstrap, seed
        Of the simultaneous intervals.

    Returns
    -------
    DataFrame
        One row a site, best test score first: ``site, test_score, rank, rank_lo, rank_hi``, ``surely`` (in the top
        k: the whole interval is), ``possibly`` (the true top k are all among these with probability ``level``).
    """
    if not 1 <= k <= len(result.sites):
        raise DataError(f"k is {k}: there are {len(result.sites)} sites.")
    scores, draws = _draws(result, method, n_bootstrap, seed)
    lo, hi = rank_intervals(scores, draws, level)
    table = pd.DataFrame(
        {
            "site": [str(site) for site in result.sites],
            "test_score": scores,
            "rank": scipy_stats.rankdata(-scores, method="min").astype(int),
            "rank_lo": lo,
            "rank_hi": hi,
            "surely": hi <= k,
            "possibly": lo <= k,
        }
    )
    return table.sort_values("test_score", ascending=False, kind="stable").reset_index(drop=True)


def _draws(result: ProbeResult, method: str | None, n_bootstrap: int, seed: int) -> tuple[Array, Array]:
    evaluation, split = result.evaluations[result.method(method)], result.split
    weights = group_weights(split.groups[split.test], n_bootstrap, np.random.default_rng(seed))
    draws = weighted_scores(split.score, evaluation.decision, split.y[split.test], weights)
    return evaluation.test_score, draws
