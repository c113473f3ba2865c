"""Which sites carry a trait: :func:`probe` answers with a :class:`ProbeStudy`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from interp import metrics
from interp.directions import Direction, Directions
from interp.directions.build import as_direction, centred
from interp.directions.reading import (
    Stack,
    check_finite,
    clip_groups,
    fingerprint,
    read_labels,
    read_stacks,
)
from interp.directions.registry import L2_GRID, SHRINKAGE_GRID, find
from interp.directions.registry import methods as methods_known
from interp.directions.solvers.problems import ClassWeight
from interp.errors import DataError
from interp.pooling import choose_pool
from interp.probes.evaluate import Evaluation, Plan, evaluate_sites
from interp.probes.resample import weighted_scores
from interp.sites import Site
from interp.splits import group_folds, group_test_split, permute_labels
from interp.stats import benjamini_hochberg, bootstrap_interval, group_weights, max_statistic, wilson
from interp.traits import Labels, TraitKind

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["ProbeStudy", "probe", "probe_arrays"]

PENALTIES = L2_GRID
"""Penalties per training clip that cross-validation chooses from."""
COLUMNS = (
    "site", "kind", "layer", "head", "trait", "method", "n_train", "n_test", "n_groups", "cv_score", "test_score", "lo",
    "hi", "chance", "null_max_95", "p", "p_max", "q", "converged", "score", "l2", "n_missing",
)  # fmt: skip


@dataclass(frozen=True)
class ProbeStudy:
    """A trait probed at many sites.

    Attributes
    ----------
    table : DataFrame
        One row per site and method: ``site, kind, layer, head, trait, method, n_train, n_test, n_groups, cv_score``
        (what ranking and penalties go by), ``test_score`` with its 95 % interval ``lo, hi`` over groups, ``chance``,
        ``null_max_95`` (what the best site reaches on shuffled labels in 95 of 100 cases), ``p`` (this site against
        its own null), ``p_max`` (against the best site of its kind), ``q`` (Benjamini-Hochberg over the sites of its
        kind), ``converged``, ``score`` (which one), ``l2`` (penalty chosen;
        of LDA its shrinkage), ``n_missing`` (clips without a label).
    directions : Directions
        One per site and method (and class, for more than two classes).
    baseline : DataFrame
        The same table for features that are no activations: mel spectrum, chroma, an untrained model's.
    trait : Labels
        Labels.
    plan : Plan
        Splits and shuffles.
    sites : tuple of Site
        In the order of the arrays in ``evaluations``.
    evaluations : dict
        Everything per method: decision values on the test part, nulls, weights.
    clips : array of str
        Ids of the clips in the plan.
    info : dict
        What made it.
    """

    table: pd.DataFrame
    directions: Directions
    baseline: pd.DataFrame
    trait: Labels
    plan: Plan
    sites: tuple[Site, ...]
    evaluations: Mapping[str, Evaluation]
    clips: NDArray[np.str_]
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def methods(self) -> list[str]:
        """Methods, in the order asked for."""
        return list(self.evaluations)

    def ranking(self, method: str | None = None) -> pd.DataFrame:
        """Rows of one method (the first by default), best cross-validated score first; ties in forward order.

        The rank comes from training clips alone, so the test score beside it is no best-of-many.

        Raises
        ------
        DataError
            If the method was not fitted.
        """
        method = self.methods[0] if method is None else method
        if method not in self.evaluations:
            raise DataError(f"method {method!r} was not fitted: there are {', '.join(self.methods)}.")
        rows = self.table[self.table["method"] == method].sort_values("cv_score", ascending=False, kind="stable")
        return rows.reset_index(drop=True).rename_axis("rank")

    def null(self, method: str | None = None) -> NDArray[np.float64]:
        """Test scores on shuffled labels, shape (permutations, sites)."""
        return self.evaluations[self.methods[0] if method is None else method].null

    def top(self, k: int = 10, method: str | None = None) -> Directions:
        """Directions of the k best sites, best first."""
        method = self.methods[0] if method is None else method
        best = [Site.parse(s) for s in self.ranking(method)["site"][:k]]
        return Directions(d for site in best for d in self.directions.select(site=site, method=method))

    def __repr__(self) -> str:
        best = self.ranking().iloc[0]
        return (
            f"<ProbeStudy of {self.trait.name!r} ({self.trait.kind}, {len(self.plan.y)} clips, "
            f"{self.trait.n_missing} unlabelled) at {len(self.sites)} sites: best {best['site']} {best['score']} "
            f"{best['test_score']:.3f} [{best['lo']:.3f}, {best['hi']:.3f}], chance {best['chance']:.3f}>"
        )


def probe(
    ds: xr.Dataset,
    trait: str,
    *,
    sites: str | Site | Iterable[str | Site] = "heads",
    pool: str | None = None,
    methods: Sequence[str] | None = None,
    folds: int = 5,
    test_size: float = 0.25,
    n_permutations: int = 200,
    n_bootstrap: int = 1000,
    seed: int = 0,
    kind: TraitKind | None = None,
    score: str | None = None,
    penalties: Sequence[float] = PENALTIES,
    class_weight: ClassWeight = None,
    shrinkage: float | Sequence[float] = SHRINKAGE_GRID,
    baselines: Mapping[str, ArrayLike] | None = None,
    dtype: str = "float32",
    device: str = "cpu",
    memory: int = 2**30,
    progress: bool = False,
) -> ProbeStudy:
    """Probe a trait at many sites of a model.

    Groups never straddle a split. About ``test_size`` of the clips are held out once; on the others, cross-validation
    over groups chooses each site's penalty and ranks the sites; then each site is fitted on all of them and tested
    once. Features are standardised inside every fold. The null shuffles labels by group, on each side of the split by
    itself, with the penalty of the site kept.

    Parameters
    ----------
    ds : xarray.Dataset
        Activations with labels, from :func:`interp.activations.extract`.
    trait : str
        A label column; ``"instrument=piano"`` for one class against all others, ``"genre=jazz|rock"`` for one against
        another.
    sites : str, Site or iterable of them
        Where to probe.
    pool : str, optional
        Which pooling; may be left out if there is one, or if ``"mean"`` is among them.
    methods : sequence of {"logistic", "ridge", "mean_diff", "lda", "onehot"}, optional
        By default the first three; for graded traits ridge and mean_diff.
    folds : int
        Cross-validation folds.
    test_size : float
        Share of clips held out.
    n_permutations, n_bootstrap : int
        Label shuffles (0 for none: p-values are NaN) and resamples of the interval.
    seed : int
        Of splits, shuffles and resamples.
    kind : {"binary", "categorical", "graded"}, optional
        What the labels are, where it cannot be seen.
    score : str, optional
        One of ``interp.metrics.SCORES``; by default balanced accuracy, for graded traits R2.
    penalties : sequence of float
        Penalties to choose from, per training clip (``l2 = penalty * clips``; scikit-learn's ``C = 1 / l2``).
    class_weight : {"balanced"} or dict, optional
        Weight classes inversely to frequency, or by class index (logistic only).
    shrinkage : float or sequence of float
        Amounts to choose from for LDA, 0 to 1; one number keeps it fixed.
    baselines : dict of str to array of shape (clips, features), optional
        Features to compare with, in the order of the dataset's clips; each is one more "site" in ``baseline``.
    dtype, device, memory
        Arithmetic, place, and bytes the solver may take.
    progress : bool
        Show a progress bar.

    Returns
    -------
    ProbeStudy

    Raises
    ------
    DataError
        If the labels or activations allow no honest answer; the sentence says why.
    SiteError
        If a site is not in the dataset.
    """
    labels = read_labels(ds, trait, kind)
    stacks = read_stacks(ds, sites, pool)
    return probe_arrays(
        stacks,
        labels,
        clip_groups(ds),
        clips=np.asarray(ds["clip"].values).astype(str),
        methods=methods,
        folds=folds,
        test_size=test_size,
        n_permutations=n_permutations,
        n_bootstrap=n_bootstrap,
        seed=seed,
        score=score,
        penalties=penalties,
        class_weight=class_weight,
        shrinkage=shrinkage,
        baselines=baselines,
        dtype=dtype,
        device=device,
        memory=memory,
        progress=progress,
        model=fingerprint(ds),
        pool=choose_pool(ds["pool"].values, pool),
    )


def probe_arrays(
    stacks: Sequence[Stack],
    trait: Labels,
    groups: NDArray[np.generic],
    *,
    clips: NDArray[np.str_] | None = None,
    methods: Sequence[str] | None = None,
    folds: int = 5,
    test_size: float = 0.25,
    n_permutations: int = 200,
    n_bootstrap: int = 1000,
    seed: int = 0,
    score: str | None = None,
    penalties: Sequence[float] = PENALTIES,
    class_weight: ClassWeight = None,
    shrinkage: float | Sequence[float] = SHRINKAGE_GRID,
    baselines: Mapping[str, ArrayLike] | None = None,
    dtype: str = "float32",
    device: str = "cpu",
    memory: int = 2**30,
    progress: bool = False,
    model: str = "",
    pool: str = "",
) -> ProbeStudy:
    """:func:`probe` for plain arrays; ``stacks``, ``trait`` and ``groups`` describe the same clips."""
    chosen = check_methods(methods, trait)
    clips = np.arange(len(trait.keep)).astype(str) if clips is None else np.asarray(clips)
    keep = trait.keep
    for name, size in {"groups": len(groups), "clip ids": len(clips), **{s.kind: s.x.shape[1] for s in
    stacks}}.items():
        if size != len(keep):
            raise DataError(f"{len(keep)} labels but {size} {name}: give one for each clip.")
    plan = make_plan(
        trait,
        np.asarray(groups)[keep],
        folds=folds,
        test_size=test_size,
        n_permutations=n_permutations,
        seed=seed,
        score=score,
        penalties=penalties,
        class_weight=class_weight,
        shrinkage=shrinkage,
    )
    ids = clips[keep]
    everything = [Stack(s.kind, s.sites, s.x if keep.all() else s.x[:, keep]) for s in stacks]
    for stack in everything:
        check_finite(stack.x, stack.sites, ids)
    features = {name: _baseline_features(name, value, keep, ids) for name, value in (baselines or {}).items()}
    weights = (
        group_weights(plan.groups[plan.test], n_bootstrap, np.random.default_rng([seed, 2])) if n_bootstrap else None
    )
    evaluations: dict[str, Evaluation] = {}
    tables, baseline_tables, directions = [], [], []
    total = len(chosen) * (sum(len(s.sites) for s in everything) + len(features))
    settings: dict[str, Any] = {"dtype": dtype, "device": device, "memory": memory}
    record: dict[str, Any] = {"seed": seed, "folds": folds, "test_size": test_size, "score": plan.score}
    with _bar(total, f"probing {trait.name}", progress) as bar:
        for method in chosen:
            parts = []
            for stack in everything:
                result = evaluate_sites(stack.x, method, plan, tick=bar.update, **settings)
                places = pd.DataFrame(
                    {
                        "site": [str(s) for s in stack.sites],
                        "kind": stack.kind,
                        "layer": [s.layer for s in stack.sites],
                        "head": pd.array([s.head for s in stack.sites], dtype="Int64"),
                    }
                )
                tables.append(_rows(places, result, method, plan, trait, weights))
                directions += _directions(stack, result, method, plan, trait, model, pool, record)
                parts.append(result)
            evaluations[method] = _stacked(parts)
            for name, value in features.items():
                result = evaluate_sites(value[None], method, plan, tick=bar.update, **settings)
                place = {"site": [name], "kind": "baseline", "layer": [-1], "head": pd.array([None], dtype="Int64")}
                baseline_tables.append(_rows(pd.DataFrame(place), result, method, plan, trait, weights))
    info = {**record, "model": model, "pool": pool, "n_permutations": n_permutations, "n_bootstrap": n_bootstrap}
    return ProbeStudy(
        pd.concat(tables, ignore_index=True),
        Directions(directions),
        pd.concat(baseline_tables, ignore_index=True) if baseline_tables else pd.DataFrame(columns=list(COLUMNS)),
        trait,
        plan,
        tuple(site for stack in everything for site in stack.sites),
        evaluations,
        ids,
        json.loads(json.dumps(info)),
    )


def make_plan(
    trait: Labels,
    groups: NDArray[np.generic],
    *,
    folds: int = 5,
    test_size: float = 0.25,
    n_permutations: int = 200,
    seed: int = 0,
    score: str | None = None,
    penalties: Sequence[float] = PENALTIES,
    class_weight: ClassWeight = None,
    shrinkage: float | Sequence[float] = SHRINKAGE_GRID,
) -> Plan:
    """Split the labelled clips and draw the label shuffles.

    Raises
    ------
    DataError
        If the groups allow no such split, or so few shuffles that no small p-value is possible.
    """
    if folds < 2:
        raise DataError(f"{folds} folds: cross-validation needs two or more.")
    score = ("r2" if trait.graded else "balanced_accuracy") if score is None else score
    if score not in metrics.SCORES:
        raise DataError(f"no score is called {score!r}: use one of {', '.join(metrics.SCORES)}.")
    if trait.graded != (score in metrics.GRADED):
        raise DataError(f"{score} does not fit the {trait.kind} trait {trait.name!r}.")
    grid = tuple(sorted(float(p) for p in penalties))
    if not grid or not all(np.isfinite(p) and p > 0 for p in grid):
        raise DataError(f"penalties are {list(penalties)}: give one or more positive numbers.")
    amounts = tuple(sorted(float(s) for s in np.atleast_1d(np.asarray(shrinkage, dtype=float))))
    if not amounts or not all(0 <= s <= 1 for s in amounts):
        raise DataError(f"shrinkage is {list(amounts)}: give one or more numbers from 0 to 1.")
    split_rng, shuffle_rng = np.random.default_rng([seed, 0]), np.random.default_rng([seed, 1])
    labels = trait.y if trait.graded else np.array(trait.classes)[trait.y]  # names, so that errors can name a class
    test = group_test_split(labels, groups, test_size, rng=split_rng, graded=trait.graded)
    fold = np.full(len(test), -1, dtype=np.intp)
    fold[~test] = group_folds(labels[~test], groups[~test], folds, rng=split_rng, graded=trait.graded)
    shuffles = (
        permute_labels(trait.y, groups, n_permutations, rng=shuffle_rng, parts=test)
        if n_permutations
        else np.empty((0, len(test)), dtype=np.intp)
    )
    return Plan(trait.y, groups, test, fold, shuffles, trait.graded, score, grid, class_weight, amounts)


def check_methods(methods: Sequence[str] | None, trait: Labels) -> list[str]:
    """The methods asked for, or those that suit the trait.

    Raises
    ------
    DataError
        If a method does not exist or does not suit.
    """
    if methods is None:
        return ["ridge", "mean_diff"] if trait.graded else ["logistic", "ridge", "mean_diff"]
    chosen = [methods] if isinstance(methods, str) else list(dict.fromkeys(methods))
    for method in chosen:
        if trait.graded and not find(method).graded:
            names = " or ".join(methods_known(graded=True)[:2])
            raise DataError(f"{method} needs classes, but {trait.name!r} is graded: use {names}.")
        if trait.kind == "categorical" and not find(method).several:
            raise DataError(f"{method} needs two classes, but {trait.name!r} has {len(trait.classes)}: name one.")
    if not chosen:
        raise DataError(f"no method is named: use some of {', '.join(methods_known())}.")
    return chosen


def _baseline_features(
    name: str, value: ArrayLike, keep: NDArray[np.bool_], clips: NDArray[np.str_]
) -> NDArray[np.float64]:
    features = np.asarray(value, dtype=np.float64)
    if features.ndim != 2 or len(features) != len(keep):
        raise DataError(
            f"baseline {name!r} has shape {features.shape}: give (clips, features) for all {len(keep)} clips."
        )
    features = features[keep]
    check_finite(features[None], [name], clips)
    return features


def _rows(
    places: pd.DataFrame,
    result: Evaluation,
    method: str,
    plan: Plan,
    trait: Labels,
    weights: NDArray[np.float64] | None,
) -> pd.DataFrame:
    """The table of one method at the sites of one kind, which are one family of tests."""
    y_test = plan.y[plan.test]
    n_groups = len(np.unique(plan.groups[plan.test]))
    lo = hi = np.full(len(places), np.nan)
    if weights is not None:
        draws = weighted_scores(plan.score, result.decision, y_test, weights)
        lo, hi = bootstrap_interval(draws, n_groups)
        if plan.score in ("accuracy", "balanced_accuracy"):
            # without a single error no resample has one either; Wilson over groups says what that is worth
            flat = hi - lo < 1e-9
            bounds = wilson(result.test_score * n_groups, n_groups)
            lo, hi = np.where(flat, bounds[0], lo), np.where(flat, bounds[1], hi)
    p = p_max = np.full(len(places), np.nan)
    threshold = np.nan
    if len(result.null):
        tested = max_statistic(result.test_score, result.null)
        p, p_max, threshold = tested.p, tested.p_max, tested.threshold()
    rows = places.assign(
        trait=trait.name,
        method=method,
        n_train=int((~plan.test).sum()),
        n_test=int(plan.test.sum()),
        n_groups=len(np.unique(plan.groups)),
        cv_score=result.cv_score,
        test_score=result.test_score,
        lo=lo,
        hi=hi,
        chance=plan.chance,
        null_max_95=threshold,
        p=p,
        p_max=p_max,
        q=benjamini_hochberg(p),
        converged=result.converged,
        score=plan.score,
        l2=result.l2,
        n_missing=trait.n_missing,
    )
    return rows[list(COLUMNS)]


def _directions(
    stack: Stack,
    result: Evaluation,
    method: str,
    plan: Plan,
    trait: Labels,
    model: str,
    pool: str,
    record: Mapping[str, Any],
) -> list[Direction]:
    x = stack.x[:, ~plan.test]
    y = plan.y[~plan.test]
    several = plan.outputs > 1
    coef = centred(result.coef)
    penalty = find(method).penalty
    out = []
    for s, site in enumerate(stack.sites):
        for k in range(plan.outputs):
            amount: dict[str, Any] = {penalty: float(result.l2[s])} if penalty else {}
            if plan.class_weight is not None:
                amount["class_weight"] = plan.class_weight
            positive = trait.classes[k] if several else trait.positive
            direction = as_direction(
                site,
                coef[s, k],
                float(result.intercept[s, k]),
                x[s],
                None if trait.graded else np.asarray(y == (k if several else 1)),
                odds=method in ("logistic", "lda") and not several,
                info={**record, "n_clips": len(y), **amount},
                method=method,
                trait=str(trait.trait),
                positive=positive,
                against=f"not {positive}" if several else trait.against,
                score=float(result.test_score[s]),
                model=model,
                pool=pool,
            )
            if direction is not None:  # constant activations: nothing to point along; the table's row says chance
                out.append(direction)
    return out


def _stacked(parts: list[Evaluation]) -> Evaluation:
    """Evaluations of all kinds in one; weights of different widths are padded with NaN."""
    if len(parts) == 1:
        return parts[0]
    width = max(p.coef.shape[-1] for p in parts)
    for p in parts:
        p.coef = np.pad(p.coef, ((0, 0), (0, 0), (0, width - p.coef.shape[-1])), constant_values=np.nan)
    names = list(Evaluation.__dataclass_fields__)
    return Evaluation(*(np.concatenate([getattr(p, n) for p in parts], axis=1 if n == "null" else 0) for n in names))


def _bar(total: int, what: str, show: bool) -> Any:
    from tqdm import tqdm

    return tqdm(total=total, desc=what, unit="site", disable=not show, leave=False)
