"""Nested cross-validation: every clip is held out once, penalties are chosen inside."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from interp import metrics
from interp.directions.reading import Stack, check_finite, clip_groups, read_labels, read_stacks
from interp.directions.registry import SHRINKAGE_GRID
from interp.probes.evaluate import Plan, evaluate_sites
from interp.probes.resample import weighted_scores
from interp.probes.study import PENALTIES, check_methods
from interp.sites import Site
from interp.splits import group_folds
from interp.stats import bootstrap_interval, group_weights
from interp.traits import Labels, TraitKind

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["nested_scores", "nested_scores_arrays"]


def nested_scores(
    ds: xr.Dataset,
    trait: str,
    *,
    sites: str | Site | Iterable[str | Site] = "heads",
    pool: str | None = None,
    methods: Sequence[str] | None = None,
    outer: int = 5,
    folds: int = 4,
    n_bootstrap: int = 1000,
    seed: int = 0,
    kind: TraitKind | None = None,
    score: str | None = None,
    penalties: Sequence[float] = PENALTIES,
    shrinkage: float | Sequence[float] = SHRINKAGE_GRID,
    dtype: str = "float32",
    device: str = "cpu",
    memory: int = 2**30,
) -> pd.DataFrame:
    """Scores when every group is in the test part of one of ``outer`` folds; the penalty is chosen inside each.

    All clips count as test clips, so intervals are tighter than those of one held-out part. There is no single probe
    behind the score, hence no direction; :func:`interp.probes.probe` gives those.

    Parameters
    ----------
    outer, folds : int
        Outer folds, and inner folds that choose the penalty.
    ds, trait, sites, pool, methods, n_bootstrap, seed, kind, score, penalties, shrinkage, dtype, device, memory
        As for :func:`interp.probes.probe`.

    Returns
    -------
    DataFrame
        One row per site and method: ``site, kind, layer, head, trait, method, nested_score`` (mean over outer folds),
        ``fold_sd``, ``lo, hi`` (bootstrap over groups of the pooled predictions), ``chance, converged, n_groups``.
    """
    labels = read_labels(ds, trait, kind)
    return nested_scores_arrays(
        read_stacks(ds, sites, pool),
        labels,
        clip_groups(ds),
        methods=methods,
        outer=outer,
        folds=folds,
        n_bootstrap=n_bootstrap,
        seed=seed,
        score=score,
        penalties=penalties,
        shrinkage=shrinkage,
        dtype=dtype,
        device=device,
        memory=memory,
    )


def nested_scores_arrays(
    stacks: Sequence[Stack],
    trait: Labels,
    groups: NDArray[np.generic],
    *,
    methods: Sequence[str] | None = None,
    outer: int = 5,
    folds: int = 4,
    n_bootstrap: int = 1000,
    seed: int = 0,
    score: str | None = None,
    penalties: Sequence[float] = PENALTIES,
    shrinkage: float | Sequence[float] = SHRINKAGE_GRID,
    dtype: str = "float32",
    device: str = "cpu",
    memory: int = 2**30,
) -> pd.DataFrame:
    """:func:`nested_scores` for plain arrays."""
    groups = np.asarray(groups)[trait.keep]
    y, graded = trait.y, trait.graded
    score = ("r2" if graded else "balanced_accuracy") if score is None else score
    rng = np.random.default_rng([seed, 4])
    outer_fold = group_folds(y, groups, outer, rng=rng, graded=graded)
    amounts = tuple(sorted(np.atleast_1d(np.asarray(shrinkage, dtype=float)).tolist()))
    plans = []
    for k in range(outer):
        test = outer_fold == k
        fold = np.full(len(y), -1, dtype=np.intp)
        fold[~test] = group_folds(y[~test], groups[~test], folds, rng=rng, graded=graded)
        nothing = np.empty((0, len(y)), dtype=np.intp)
        plans.append(Plan(y, groups, test, fold, nothing, graded, score, tuple(sorted(penalties)), None, amounts))
    weights = group_weights(groups, n_bootstrap, np.random.default_rng([seed, 2])) if n_bootstrap else None
    tables = []
    for method in check_methods(methods, trait):
        for stack in stacks:
            x = stack.x[:, trait.keep]
            check_finite(x, stack.sites, np.flatnonzero(trait.keep))
            decision = np.empty((len(x), plans[0].outputs, len(y)))
            fold_scores, ok = [], np.ones(len(x), dtype=bool)
            for plan in plans:
                result = evaluate_sites(x, method, plan, dtype=dtype, device=device, memory=memory)
                decision[:, :, plan.test] = result.decision
                fold_scores.append(result.test_score)
                ok &= result.converged
            lo = hi = np.full(len(x), np.nan)
            if weights is not None:
                lo, hi = bootstrap_interval(weighted_scores(score, decision, y, weights), len(np.unique(groups)))
            tables.append(
                pd.DataFrame(
                    {
                        "site": [str(s) for s in stack.sites],
                        "kind": stack.kind,
                        "layer": [s.layer for s in stack.sites],
                        "head": pd.array([s.head for s in stack.sites], dtype="Int64"),
                        "trait": trait.name,
                        "method": method,
                        "nested_score": np.mean(fold_scores, axis=0),
                        "fold_sd": np.std(fold_scores, axis=0, ddof=1),
                        "lo": lo,
                        "hi": hi,
                        "chance": metrics.chance(score, torch.as_tensor(y)),
                        "converged": ok,
                        "n_groups": len(np.unique(groups)),
                    }
                )
            )
    return pd.concat(tables, ignore_index=True)
