"""Tables behind two figures: the score against the number of training clips, and which class is taken for which."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from interp.directions.reading import Stack, check_finite, clip_groups, read_labels, read_stacks
from interp.errors import DataError
from interp.probes.evaluate import Plan, evaluate_sites
from interp.probes.resample import weighted_scores
from interp.probes.study import PENALTIES, ProbeStudy, check_methods, make_plan
from interp.sites import Site
from interp.splits import group_folds
from interp.stats import bootstrap_interval, group_weights
from interp.traits import TraitKind

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["confusion_table", "learning_curve"]

SIZES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)


def learning_curve(
    ds: xr.Dataset,
    trait: str,
    *,
    sites: str | Site | Iterable[str | Site],
    pool: str | None = None,
    methods: Sequence[str] | None = None,
    sizes: Sequence[float] | None = None,
    repeats: int = 5,
    folds: int = 5,
    test_size: float = 0.25,
    n_bootstrap: int = 1000,
    seed: int = 0,
    kind: TraitKind | None = None,
    score: str | None = None,
    penalties: Sequence[float] = PENALTIES,
    dtype: str = "float32",
    device: str = "cpu",
    memory: int = 2**30,
) -> pd.DataFrame:
    """Held-out score of probes trained on fewer and fewer clips; :func:`interp.plots.learning_curve` draws it.

    The test part is that of :func:`interp.probes.probe` with the same seed and is the same for all sizes. Training
    groups are drawn at random with the classes in proportion, and within one repeat a smaller set is part of every
    larger one. The penalty is chosen by cross-validation within the drawn groups, over fewer folds where a class is in
    fewer groups.

    Parameters
    ----------
    ds, trait, pool, methods, folds, test_size, n_bootstrap, seed, kind, score, penalties, dtype, device, memory
        As for :func:`interp.probes.probe`.
    sites : str, Site or iterable of them
        Where; name few, since every one is a curve.
    sizes : sequence of float, optional
        Shares of the training groups, up to 1; by default those of 1/16, 1/8, 1/4, 1/2 and 1 that hold every class in
        two groups or more.
    repeats : int
        Random draws of groups at each size below 1; scores are averaged over them.

    Returns
    -------
    DataFrame
        One row per site, method and size: ``site, kind, trait, method, n_train`` (clips, mean over repeats),
        ``n_groups`` (training groups), ``test_score, lo, hi`` (bootstrap over test groups of the mean over repeats),
        ``draw_sd`` (standard deviation over repeats), ``repeats`` (draws that could be used), ``chance, converged,
        score``.

    Raises
    ------
    DataError
        If a size is not a share, or leaves a class in fewer than two groups at every draw.
    """
    shares = sorted({float(s) for s in (SIZES if sizes is None else sizes)})
    if not shares or not all(0 < s <= 1 for s in shares):
        raise DataError(f"sizes are {shares}: give shares of the training groups, above 0 and up to 1.")
    if repeats < 1:
        raise DataError(f"repeats is {repeats}: one draw of groups is the least.")
    read = read_labels(ds, trait, kind)
    groups = clip_groups(ds)[read.keep]
    plan = make_plan(
        read, groups, folds=folds, test_size=test_size, n_permutations=0, seed=seed, score=score, penalties=penalties
    )
    parts: dict[float, list[tuple[NDArray[np.intp], Plan]]] = {}
    for share in shares:
        n_draws = 1 if share == 1 else repeats
        try:
            parts[share] = _subsets(plan, share, n_draws, folds, np.random.default_rng([seed, 5]))
        except DataError:
            if sizes is not None:
                raise
    clips = np.asarray(ds["clip"].values).astype(str)[read.keep]
    test_groups = plan.groups[plan.test]
    weights = group_weights(test_groups, max(n_bootstrap, 2), np.random.default_rng([seed, 2]))
    settings: dict[str, Any] = {"dtype": dtype, "device": device, "memory": memory}
    tables = []
    for stack in read_stacks(ds, sites, pool):
        stack = Stack(stack.kind, stack.sites, stack.x[:, read.keep])
        check_finite(stack.x, stack.sites, clips)
        for method in check_methods(methods, read):
            for draws in parts.values():
                found = [evaluate_sites(stack.x[:, rows], method, part, **settings) for rows, part in draws]
                scores = np.stack([r.test_score for r in found])
                y_test = plan.y[plan.test]
                lo = hi = np.full(len(stack.sites), np.nan)
                if n_bootstrap:
                    drawn = np.mean([weighted_scores(plan.score, r.decision, y_test, weights) for r in found], axis=0)
                    lo, hi = bootstrap_interval(drawn, len(np.unique(test_groups)))
                tables.append(
                    pd.DataFrame(
                        {
                            "site": [str(s) for s in stack.sites],
                            "kind": stack.kind,
                            "trait": trait,
                            "method": method,
                            "n_train": round(np.mean([int((~p.test).sum()) for _, p in draws])),
                            "n_groups": len(np.unique(draws[0][1].groups[~draws[0][1].test])),
                            "test_score": scores.mean(0),
                            "lo": lo,
                            "hi": hi,
                            "draw_sd": scores.std(0, ddof=1) if len(found) > 1 else np.nan,
                            "repeats": len(found),
                            "chance": plan.chance,
                            "converged": np.all([r.converged for r in found], axis=0),
                            "score": plan.score,
                        }
                    )
                )
    return pd.concat(tables, ignore_index=True).sort_values(
        ["method", "site", "n_train"], kind="stable", ignore_index=True
    )


def _subsets(
    plan: Plan, share: float, repeats: int, folds: int, rng: np.random.Generator
) -> list[tuple[NDArray[np.intp], Plan]]:
    """Rows that are used and their plan, for each draw of training groups."""
    names, group_of = np.unique(plan.groups[~plan.test], return_inverse=True)
    strata = np.zeros(len(group_of), dtype=np.intp) if plan.graded else plan.y[~plan.test].astype(np.intp)
    held = np.zeros((len(names), int(strata.max()) + 1))
    np.add.at(held, (group_of, strata), 1)
    count = max(round(share * len(names)), 1)
    found: list[tuple[NDArray[np.intp], Plan]] = []
    for _ in range(repeats):
        # the same order for every share: smaller sets lie inside larger ones
        order = _in_proportion(held, rng.permutation(len(names)))
        deal = np.random.default_rng(rng.integers(2**32))
        chosen = order[:count]
        rows = np.flatnonzero(plan.test | np.isin(plan.groups, names[chosen]))
        test = plan.test[rows]
        fold = plan.fold[rows]
        if share < 1:  # else as `probe` dealt them
            n_folds = int(min(folds, count if plan.graded else (held[chosen] > 0).sum(0).min()))
            if n_folds < 2:
                continue
            train = rows[~test]
            fold[~test] = group_folds(plan.y[train], plan.groups[train], n_folds, rng=deal, graded=plan.graded)
        nothing = np.empty((0, len(rows)), dtype=np.intp)
        part = replace(plan, y=plan.y[rows], groups=plan.groups[rows], test=test, fold=fold, shuffles=nothing)
        found.append((rows, part))
    if not found:
        raise DataError(
            f"{share:.0%} of the training groups ({count}) leave a class in fewer than two of them: ask for larger "
            "sizes."
        )
    return found


def _in_proportion(held: NDArray[np.float64], order: NDArray[np.intp]) -> NDArray[np.intp]:
    """Groups reordered so that every beginning holds the classes about in proportion; ties as in ``order``."""
    share = held / held.sum(0)
    total = np.zeros(held.shape[1])
    left = [int(g) for g in order]
    out = []
    while left:
        scarce = int(total.argmin())
        group = next((g for g in left if held[g, scarce]), left[0])
        left.remove(group)
        out.append(group)
        total += share[group]
    return np.array(out)


def confusion_table(study: ProbeStudy, site: str | Site | None = None, method: str | None = None) -> pd.DataFrame:
    """Which class the clips of the test part are taken for; :func:`interp.plots.confusion` draws it.

    Parameters
    ----------
    study : ProbeStudy
    site : str or Site, optional
        The best one by cross-validation by default.
    method : str, optional
        The first one by default.

    Returns
    -------
    DataFrame
        One row per test clip: ``clip, group, true, predicted, site, method``.

    Raises
    ------
    DataError
        If the trait is graded, or the site or method was not probed.
    """
    if study.trait.graded:
        raise DataError(f"{study.trait.name!r} is graded, so no class is taken for another.")
    method = study.methods[0] if method is None else method
    site = str(study.ranking(method)["site"][0]) if site is None else str(site)
    places = [str(s) for s in study.sites]
    if method not in study.evaluations or site not in places:
        raise DataError(f"{site} was not probed with {method}: see study.sites and study.methods.")
    decision = study.evaluations[method].decision[places.index(site)]
    guess = decision.argmax(0) if len(decision) > 1 else (decision[0] > 0).astype(int)
    classes = np.array(study.trait.classes)
    test = study.plan.test
    return pd.DataFrame(
        {
            "clip": study.clips[test],
            "group": study.plan.groups[test],
            "true": pd.Categorical(classes[study.plan.y[test]], categories=classes),
            "predicted": pd.Categorical(classes[guess], categories=classes),
            "site": site,
            "method": method,
        }
    )
