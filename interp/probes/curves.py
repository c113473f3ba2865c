"""Tables behind two figures: the score against the number of training clips, and which class is taken for which."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from interp.directions.reading import Stack
from interp.errors import DataError
from interp.metrics import weighted_scores
from interp.probes.data import ProbeData
from interp.probes.evaluate import Split, evaluate_sites
from interp.probes.measured import interval, site_columns, test_weights
from interp.probes.probing import check_methods, make_split
from interp.probes.result import ProbeResult
from interp.probes.settings import Settings
from interp.sites import Site
from interp.splits import group_folds
from interp.traits import Trait

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["confusion_table", "learning_curve"]

SIZES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)


def learning_curve(
    ds: xr.Dataset,
    trait: str | Trait,
    *,
    sites: str | Site | Iterable[str | Site],
    pool: str | None = None,
    methods: str | Sequence[str] | None = None,
    sizes: Sequence[float] | None = None,
    repeats: int = 5,
    **settings: Any,
) -> pd.DataFrame:
    """Held-out score of probes trained on fewer and fewer clips; :func:`interp.plots.learning_curve` draws it.

    The test part is that of :func:`interp.probes.probe` with the same seed and is the same for all sizes. Training
    groups are drawn at random with the classes in proportion, and within one repeat a smaller set is part of every
    larger one. The penalty is chosen by cross-validation within the drawn groups, over fewer folds where a class is in
    fewer groups.

    Parameters
    ----------
    ds, trait, pool, methods, **settings
        As for :func:`interp.probes.probe`; there are no label shuffles.
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
        One row per site, method and size: ``site, kind, layer, head, trait, method, n_train`` (clips, mean over
        repeats), ``n_groups`` (training groups), ``test_score, lo, hi`` (bootstrap over test groups of the mean over
        repeats), ``draw_sd`` (standard deviation over repeats), ``repeats`` (draws that could be used), ``chance,
        converged, score``.

    Raises
    ------
    DataError
        If a size is not a share, or leaves a class in fewer than two groups at every draw.

    Examples
    --------
    >>> import interp
    >>> tones = [np.sin(np.arange(4000) / (5 + 5 * (i % 2))) * (i + 4) / 32 for i in range(24)]
    >>> clips = interp.Clips.from_arrays(tones, 16_000, {"high": [1 - i % 2 for i in range(24)]})
    >>> ds = interp.extract(interp.load("tiny", device="cpu"), clips, sites="L3.resid", progress=False)

    >>> curve = learning_curve(ds, "high", sites="resid", methods="mean_diff", sizes=(0.5, 1.0), repeats=2, folds=2)
    >>> curve[["n_train", "test_score"]].to_dict("records")
    [{'n_train': 9, 'test_score': 1.0}, {'n_train': 18, 'test_score': 1.0}]
    """
    shares = sorted({float(s) for s in (SIZES if sizes is None else sizes)})
    if not shares or not all(0 < s <= 1 for s in shares):
        raise DataError(f"sizes are {shares}: give shares of the training groups, above 0 and up to 1.")
    if repeats < 1:
        raise DataError(f"repeats is {repeats}: one draw of groups is the least.")
    chosen = Settings.of(**{**settings, "n_permutations": 0})
    data = ProbeData.of(ds, trait, sites=sites, pool=pool, kind=chosen.kind)
    split = make_split(data.labels, data.groups, chosen)
    parts: dict[float, list[tuple[NDArray[np.intp], Split]]] = {}
    for share in shares:
        n_draws = 1 if share == 1 else repeats
        try:
            parts[share] = _subsets(split, share, n_draws, chosen.folds, np.random.default_rng([chosen.seed, 5]))
        except DataError:
            if sizes is not None:
                raise
    weights = test_weights(split, chosen.n_bootstrap, chosen.seed)
    tables = [
        _point(stack, method, draws, split, data, weights, chosen)
        for stack in data.stacks
        for method in check_methods(methods, data.labels)
        for draws in parts.values()
    ]
    order = ["method", "site", "n_train"]
    return pd.concat(tables, ignore_index=True).sort_values(order, kind="stable", ignore_index=True)


def _point(
    stack: Stack,
    method: str,
    draws: list[tuple[NDArray[np.intp], Split]],
    split: Split,
    data: ProbeData,
    weights: NDArray[np.float64] | None,
    settings: Settings,
) -> pd.DataFrame:
    """One point of every site's curve: a method at one size."""
    results = [evaluate_sites(stack.x[:, rows], method, part, **settings.solver) for rows, part in draws]
    scores = np.stack([result.test_score for result in results])
    y_test, test_groups = split.y[split.test], np.unique(split.groups[split.test])
    resampled = None
    if weights is not None:
        resampled = np.mean([weighted_scores(split.score, r.decision, y_test, weights) for r in results], axis=0)
    lo, hi = interval(split.score, scores.mean(0), resampled, len(test_groups))
    return site_columns(stack).assign(
        trait=data.labels.name,
        method=method,
        n_train=round(np.mean([int((~part.test).sum()) for _, part in draws])),
        n_groups=len(np.unique(draws[0][1].groups[~draws[0][1].test])),
        test_score=scores.mean(0),
        lo=lo,
        hi=hi,
        draw_sd=scores.std(0, ddof=1) if len(results) > 1 else np.nan,
        repeats=len(results),
        chance=split.chance,
        converged=np.all([result.converged for result in results], axis=0),
        score=split.score,
    )


def _subsets(
    split: Split, share: float, repeats: int, folds: int, rng: np.random.Generator
) -> list[tuple[NDArray[np.intp], Split]]:
    """Rows that are used and their split, for each draw of training groups."""
    names, group_of = np.unique(split.groups[~split.test], return_inverse=True)
    strata = np.zeros(len(group_of), dtype=np.intp) if split.graded else split.y[~split.test].astype(np.intp)
    held = np.zeros((len(names), int(strata.max()) + 1))
    np.add.at(held, (group_of, strata), 1)
    count = max(round(share * len(names)), 1)
    draws: list[tuple[NDArray[np.intp], Split]] = []
    for _ in range(repeats):
        # the same order for every share: smaller sets lie inside larger ones
        order = _in_proportion(held, rng.permutation(len(names)))
        deal = np.random.default_rng(rng.integers(2**32))
        chosen = order[:count]
        rows = np.flatnonzero(split.test | np.isin(split.groups, names[chosen]))
        test = split.test[rows]
        fold = split.fold[rows]
        if share < 1:  # else as `probe` dealt them
            n_folds = int(min(folds, count if split.graded else (held[chosen] > 0).sum(0).min()))
            if n_folds < 2:
                continue
            train = rows[~test]
            fold[~test] = group_folds(split.y[train], split.groups[train], n_folds, seed=deal, graded=split.graded)
        nothing = np.empty((0, len(rows)), dtype=np.intp)
        part = replace(split, y=split.y[rows], groups=split.groups[rows], test=test, fold=fold, shuffles=nothing)
        draws.append((rows, part))
    if not draws:
        raise DataError(
            f"{share:.0%} of the training groups ({count}) leave a class in fewer than two of them: ask for larger "
            "sizes."
        )
    return draws


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


def confusion_table(result: ProbeResult, site: str | Site | None = None, method: str | None = None) -> pd.DataFrame:
    """Which class the clips of the test part are taken for; :func:`interp.plots.confusion` draws it.

    Parameters
    ----------
    result : ProbeResult
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

    Examples
    --------
    >>> import interp
    >>> tones = [np.sin(np.arange(4000) / (5 + 5 * (i % 2))) * (i + 4) / 32 for i in range(24)]
    >>> clips = interp.Clips.from_arrays(tones, 16_000, {"high": [1 - i % 2 for i in range(24)]})
    >>> ds = interp.extract(interp.load("tiny", device="cpu"), clips, sites="L3.resid", progress=False)

    >>> from interp.probes import probe
    >>> result = probe(ds, "high", sites="resid", methods="mean_diff", n_permutations=0, folds=3)
    >>> confusion_table(result).groupby(["true", "predicted"], observed=True).size().to_dict()
    {('not high', 'not high'): 3, ('high', 'high'): 3}
    """
    if result.labels.graded:
        raise DataError(f"{result.labels.name!r} is graded, so no class is taken for another.")
    method = result.method(method)
    site = str(result.ranking(method)["site"][0]) if site is None else str(site)
    places = [str(s) for s in result.sites]
    if site not in places:
        raise DataError(f"{site} was not probed with {method}: see its sites.")
    decision = result.evaluations[method].decision[places.index(site)]
    guess = decision.argmax(0) if len(decision) > 1 else (decision[0] > 0).astype(int)
    classes = np.array(result.labels.classes)
    test = result.split.test
    return pd.DataFrame(
        {
            "clip": result.clips[test],
            "group": result.split.groups[test],
            "true": pd.Categorical(classes[result.split.y[test]], categories=classes),
            "predicted": pd.Categorical(classes[guess], categories=classes),
            "site": site,
            "method": method,
        }
    )
