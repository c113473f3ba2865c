"""Rankings with their uncertainty: who is surely among the best, how stable that is, how two rankings agree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats as scipy_stats

from interp.errors import DataError
from interp.probes.resample import weighted_scores
from interp.probes.study import ProbeStudy
from interp.stats import group_weights

__all__ = ["RankAgreement", "compare_rankings", "layer_summary", "rank_intervals", "stability", "top_k"]

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


def top_k(
    study: ProbeStudy, k: int, method: str | None = None, *, level: float = 0.95, n_bootstrap: int = 1000, seed: int
    = 0
) -> pd.DataFrame:
    """Which sites are among the k best, with confidence.

    Parameters
    ----------
    study : ProbeStudy
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
    method = study.methods[0] if method is None else method
    if not 1 <= k <= len(study.sites):
        raise DataError(f"k is {k}: there are {len(study.sites)} sites.")
    scores, draws = _draws(study, method, n_bootstrap, seed)
    lo, hi = rank_intervals(scores, draws, level)
    table = pd.DataFrame(
        {
            "site": [str(site) for site in study.sites],
            "test_score": scores,
            "rank": scipy_stats.rankdata(-scores, method="min").astype(int),
            "rank_lo": lo,
            "rank_hi": hi,
            "surely": hi <= k,
            "possibly": lo <= k,
        }
    )
    return table.sort_values("test_score", ascending=False, kind="stable").reset_index(drop=True)


def stability(
    study: ProbeStudy, k: int = 16, method: str | None = None, *, n_bootstrap: int = 500, seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """How much the ranking by held-out score moves when other groups had been drawn.

    Returns
    -------
    resamples : DataFrame
        One row a resample: ``kendall_tau`` with the full ranking and ``overlap`` of the top k.
    sites : DataFrame
        One row a site: ``site, selected`` (share of resamples in the top k), ``rank_median, rank_lo, rank_hi`` (5 and
        95 %).
    """
    method = study.methods[0] if method is None else method
    k = min(k, len(study.sites))
    scores, draws = _draws(study, method, n_bootstrap, seed)
    draws = draws[~np.isnan(draws).any(axis=1)]
    ranks = scipy_stats.rankdata(-draws, axis=1)
    order = np.argsort(-draws, axis=1, kind="stable")[:, :k]
    chosen = np.zeros(draws.shape, dtype=bool)
    np.put_along_axis(chosen, order, True, axis=1)
    best = np.argsort(-scores, kind="stable")[:k]
    tau = [float(scipy_stats.kendalltau(row, scores).statistic) for row in draws]
    resamples = pd.DataFrame({"kendall_tau": tau, "overlap": chosen[:, best].mean(axis=1)})
    lo, median, hi = np.quantile(ranks, [0.05, 0.5, 0.95], axis=0)
    sites = pd.DataFrame(
        {
            "site": [str(site) for site in study.sites],
            "selected": chosen.mean(axis=0),
            "rank_median": median,
            "rank_lo": lo,
            "rank_hi": hi,
        }
    )
    return resamples, sites.sort_values("selected", ascending=False, kind="stable").reset_index(drop=True)


@dataclass(frozen=True)
class RankAgreement:
    """Agreement of two rankings of the same sites.

    Attributes
    ----------
    kendall_tau, p : float
        Kendall's tau-b and its p-value against no association.
    overlap : float
        Share of the top k of one that is in the top k of the other.
    expected_overlap, overlap_p : float
        What unrelated rankings share (k over sites), and the hypergeometric probability of as much or more.
    k, n_sites : int
    """

    kendall_tau: float
    p: float
    overlap: float
    expected_overlap: float
    overlap_p: float
    k: int
    n_sites: int


def compare_rankings(
    a: pd.DataFrame | Mapping[str, float], b: pd.DataFrame | Mapping[str, float], k: int = 16, by: str = "cv_score"
) -> RankAgreement:
    """Compare rankings between traits, methods or checkpoints.

    Parameters
    ----------
    a, b : DataFrame or mapping of site to score
        Tables with columns ``site`` and ``by`` (one row a site, see :meth:`ProbeStudy.ranking`), or plain scores.
    k : int
        Size of the tops that are compared.
    by : str
        Column.

    Raises
    ------
    DataError
        If the rankings share fewer than two sites, or a table has a site twice.
    """
    first, second = _scores(a, by), _scores(b, by)
    sites = [site for site in first.index if site in second.index]
    if len(sites) < 2:
        raise DataError(f"the two rankings share {len(sites)} sites: rank the same sites in both.")
    x, y = first[sites].to_numpy(dtype=float), second[sites].to_numpy(dtype=float)
    k = min(k, len(sites))
    tau = scipy_stats.kendalltau(x, y)
    tops = [set(np.argsort(-v, kind="stable")[:k].tolist()) for v in (x, y)]
    shared = len(tops[0] & tops[1])
    return RankAgreement(
        float(tau.statistic),
        float(tau.pvalue),
        shared / k,
        k / len(sites),
        float(scipy_stats.hypergeom.sf(shared - 1, len(sites), k, k)),
        k,
        len(sites),
    )


def layer_summary(table: pd.DataFrame, by: str = "test_score", level: float = 0.05) -> pd.DataFrame:
    """One row per kind, layer and method.

    Returns
    -------
    DataFrame
        ``kind, layer, trait, method, sites, mean, best, best_site, significant`` (sites with ``p_max <= level``).
        The best site is the one with the best *cross-validated* score, so ``best`` is no maximum of held-out scores.
    """
    rows = []
    for (kind, layer, trait, method), part in table.groupby(["kind", "layer", "trait", "method"], sort=False):
        best = part.loc[part["cv_score"].idxmax()] if part["cv_score"].notna().any() else part.iloc[0]
        significant = int((part["p_max"] <= level).sum()) if part["p_max"].notna().any() else pd.NA
        rows.append(
            {
                "kind": kind,
                "layer": layer,
                "trait": trait,
                "method": method,
                "sites": len(part),
                "mean": part[by].mean(),
                "best": best[by],
                "best_site": best["site"],
                "significant": significant,
            }
        )
    return pd.DataFrame(rows)


def _draws(study: ProbeStudy, method: str, n_bootstrap: int, seed: int) -> tuple[Array, Array]:
    if method not in study.evaluations:
        raise DataError(f"method {method!r} was not fitted: there are {', '.join(study.methods)}.")
    result, plan = study.evaluations[method], study.plan
    weights = group_weights(plan.groups[plan.test], n_bootstrap, np.random.default_rng(seed))
    return result.test_score, weighted_scores(plan.score, result.decision, plan.y[plan.test], weights)


def _scores(ranking: pd.DataFrame | Mapping[str, float], by: str) -> pd.Series:
    if isinstance(ranking, pd.DataFrame):
        if ranking["site"].duplicated().any():
            raise DataError("a ranking names a site twice: choose one method and trait first.")
        return ranking.set_index("site")[by]
    return pd.Series(dict(ranking))
