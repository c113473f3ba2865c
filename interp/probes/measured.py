"""From evaluations to rows of a table: the site, its score, interval and null, in the same columns everywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from interp.directions.reading import Stack
from interp.metrics import weighted_scores
from interp.probes.evaluate import Evaluation, Split
from interp.stats import benjamini_hochberg, bootstrap_interval, group_weights, max_statistic, wilson
from interp.traits import Labels

__all__ = ["COLUMNS", "interval", "measured", "named_place", "site_columns", "test_weights"]

COLUMNS = (
    "site",
    "kind",
    "layer",
    "head",
    "trait",
    "method",
    "n_train",
    "n_test",
    "n_groups",
    "cv_score",
    "test_score",
    "lo",
    "hi",
    "chance",
    "null_max_95",
    "p",
    "p_max",
    "q",
    "converged",
    "score",
    "l2",
    "n_missing",
)
_BOUNDED = ("accuracy", "balanced_accuracy", "auroc", "f1")
"""Scores that cannot be beyond 1."""


def site_columns(stack: Stack) -> pd.DataFrame:
    """``site, kind, layer, head`` of a stack's sites."""
    return pd.DataFrame(
        {
            "site": [str(site) for site in stack.sites],
            "kind": stack.kind,
            "layer": [site.layer for site in stack.sites],
            "head": pd.array([site.head for site in stack.sites], dtype="Int64"),
        }
    )


def named_place(name: str) -> pd.DataFrame:
    """The same columns for features that are no site."""
    return pd.DataFrame({"site": [name], "kind": "baseline", "layer": [-1], "head": pd.array([None], dtype="Int64")})


def test_weights(split: Split, n_bootstrap: int, seed: int) -> NDArray[np.float64] | None:
    """How often each test clip is drawn, ``[resamples, test clips]``: whole groups; None without resamples."""
    if not n_bootstrap:
        return None
    return group_weights(split.groups[split.test], n_bootstrap, np.random.default_rng([seed, 2]))


def interval(
    score: str,
    observed: NDArray[np.floating],
    draws: NDArray[np.floating] | None,
    n_groups: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """95 % interval of scores from their resamples.

    Parameters
    ----------
    score : str
        Which score it is.
    observed : array of shape (sites,)
    draws : array of shape (resamples, sites) or None
        Without resamples the interval is NaN.
    n_groups : int
        Groups in the test part.

    Returns
    -------
    lo, hi : array of shape (sites,)
        Where no resample differs (not one error in a small test part) no bootstrap has an interval; Wilson's over
        groups says what so few groups are worth, so that an interval is never [1, 1].
    """
    if draws is None:
        return np.full(len(observed), np.nan), np.full(len(observed), np.nan)
    lo, hi = bootstrap_interval(draws, n_groups)
    if score in _BOUNDED:
        flat = hi - lo < 1e-9
        bounds = wilson(np.clip(observed, 0, 1) * n_groups, n_groups)
        lo, hi = np.where(flat, bounds[0], lo), np.where(flat, bounds[1], hi)
    return lo, hi


def measured(
    places: pd.DataFrame,
    result: Evaluation,
    method: str,
    split: Split,
    labels: Labels,
    weights: NDArray[np.float64] | None,
) -> pd.DataFrame:
    """Rows of one method at sites that are one family of tests, with :data:`COLUMNS`.

    Parameters
    ----------
    places : DataFrame
        ``site, kind, layer, head``, one row for each site of the result.
    result : Evaluation
    method : str
    split : Split
    labels : Labels
    weights : array of shape (resamples, test clips) or None
        See :func:`test_weights`.
    """
    n_groups = len(np.unique(split.groups[split.test]))
    draws = None
    if weights is not None:
        draws = weighted_scores(split.score, result.decision, split.y[split.test], weights)
    lo, hi = interval(split.score, result.test_score, draws, n_groups)
    null = _null(result)
    rows = places.assign(
        trait=labels.name,
        method=method,
        n_train=int((~split.test).sum()),
        n_test=int(split.test.sum()),
        n_groups=len(np.unique(split.groups)),
        cv_score=result.cv_score,
        test_score=result.test_score,
        lo=lo,
        hi=hi,
        chance=split.chance,
        converged=result.converged,
        score=split.score,
        l2=result.l2,
        n_missing=labels.n_missing,
        **null,
    )
    return rows[list(COLUMNS)]


def _null(result: Evaluation) -> dict[str, Any]:
    nothing = np.full(len(result.test_score), np.nan)
    if not len(result.null):
        return {"null_max_95": np.nan, "p": nothing, "p_max": nothing, "q": nothing}
    tested = max_statistic(result.test_score, result.null)
    q = benjamini_hochberg(tested.p)
    return {"null_max_95": tested.threshold(), "p": tested.p, "p_max": tested.p_max, "q": q}
