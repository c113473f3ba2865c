"""Which sites carry a trait: :func:`probe` answers with a :class:`~interp.probes.result.ProbeResult`."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from interp.directions import Directions
from interp.directions.reading import check_finite
from interp.directions.registry import find
from interp.directions.registry import methods as known_methods
from interp.errors import DataError
from interp.metrics import GRADED as GRADED_SCORES
from interp.metrics import SCORES
from interp.probes.data import ProbeData
from interp.probes.directed import directions_of
from interp.probes.evaluate import Evaluation, Split, evaluate_sites
from interp.probes.measured import COLUMNS, measured, named_place, site_columns, test_weights
from interp.probes.result import ProbeResult, joined
from interp.probes.settings import Settings
from interp.sites import Site
from interp.splits import group_folds, group_test_split, permute_labels
from interp.traits import Labels, Trait

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["baseline_features", "check_methods", "make_split", "probe", "probe_data"]

_log = logging.getLogger(__name__)


def probe(
    ds: xr.Dataset,
    trait: str | Trait | Labels,
    *,
    sites: str | Site | Iterable[str | Site] = "heads",
    pool: str | None = None,
    methods: str | Sequence[str] | None = None,
    group_by: str | None = None,
    baselines: Mapping[str, ArrayLike] | None = None,
    progress: bool = False,
    **settings: Any,
) -> ProbeResult:
    """Probe a trait at many sites of a model.

    Groups never straddle a split. About ``test_size`` of the clips are held out once; on the others, cross-validation
    over groups chooses each site's penalty and ranks the sites; then each site is fitted on all of them and tested
    once. Features are standardized inside every fold. The null shuffles labels by group, on each side of the split by
    itself, with the penalty of the site kept.

    Parameters
    ----------
    ds : xarray.Dataset
        Activations with labels, from :func:`interp.activations.extract`.
    trait : str or Trait
        A label column; ``"instrument=piano"`` for one class against all others, ``"genre=jazz|rock"`` for one against
        another.
    sites : str, Site or iterable of them
        Where to probe.
    pool : str, optional
        Which pooling; may be left out if there is one, or if ``"mean"`` is among them.
    methods : sequence of str, optional
        Of :func:`interp.directions.methods`; by default logistic, ridge and mean_diff, for graded traits the last two.
    group_by : str, optional
        Label column whose values must not straddle a split, in place of the groups of the clips.
    baselines : dict of str to array of shape (clips, features), optional
        Features to compare with, in the order of the dataset's clips; each is one more "site" in ``baseline``.
    progress : bool
        Show a progress bar.
    **settings
        Any of :class:`Settings`: folds, test_size, n_permutations, n_bootstrap, seed, kind, score, l2, ...

    Returns
    -------
    ProbeResult

    Raises
    ------
    DataError
        If the labels or activations allow no honest answer, or there is no such setting; the sentence says why.
    SiteError
        If a site is not in the dataset.

    Examples
    --------
    >>> import interp
    >>> tones = [np.sin(np.arange(4000) / (5 + 5 * (i % 2))) * (i + 4) / 32 for i in range(24)]
    >>> clips = interp.Clips.from_arrays(tones, 16_000, {"high": [1 - i % 2 for i in range(24)]})
    >>> ds = interp.extract(interp.load("tiny", device="cpu"), clips, sites="L3.resid", progress=False)

    >>> result = probe(ds, "high", sites="resid", methods="mean_diff", n_permutations=20, folds=3)
    >>> result.table[["site", "test_score", "chance"]].to_dict("records")
    [{'site': 'L3.resid', 'test_score': 1.0, 'chance': 0.5}]
    """
    chosen = Settings.of(**settings)
    data = ProbeData.of(ds, trait, sites=sites, pool=pool, kind=chosen.kind, group_by=group_by)
    return probe_data(data, methods=methods, baselines=baselines, settings=chosen, progress=progress)


def probe_data(
    data: ProbeData,
    *,
    methods: str | Sequence[str] | None = None,
    baselines: Mapping[str, ArrayLike] | None = None,
    settings: Settings | None = None,
    progress: bool = False,
) -> ProbeResult:
    """:func:`probe` for activations and labels that were put together already."""
    from tqdm import tqdm

    settings = settings or Settings()
    labels = data.labels
    chosen = check_methods(methods, labels)
    if labels.note:
        _log.warning("%s: %s", labels.name, labels.note)
    split = make_split(labels, data.groups, settings)
    features = {name: baseline_features(name, value, data) for name, value in (baselines or {}).items()}
    weights = test_weights(split, settings.n_bootstrap, settings.seed)
    record = {
        "seed": settings.seed,
        "folds": settings.folds,
        "test_size": settings.test_size,
        "score": split.score,
    }
    evaluations: dict[str, Evaluation] = {}
    tables, baseline_tables, directions = [], [], []
    total = len(chosen) * (len(data.sites) + len(features))
    with tqdm(total=total, desc=f"probing {labels.name}", unit="site", disable=not progress, leave=False) as bar:
        for method in chosen:
            parts = []
            for stack in data.stacks:
                result = evaluate_sites(stack.x, method, split, tick=bar.update, **settings.solver)
                tables.append(measured(site_columns(stack), result, method, split, labels, weights))
                directions += directions_of(stack, result, method, split, labels, data.model, data.pool, record)
                parts.append(result)
            evaluations[method] = joined(parts)
            for name, value in features.items():
                result = evaluate_sites(value[None], method, split, tick=bar.update, **settings.solver)
                baseline_tables.append(measured(named_place(name), result, method, split, labels, weights))
    info = {
        **record,
        "model": data.model,
        "pool": data.pool,
        "n_permutations": settings.n_permutations,
        "n_bootstrap": settings.n_bootstrap,
    }
    return ProbeResult(
        pd.concat(tables, ignore_index=True),
        Directions(directions),
        pd.concat(baseline_tables, ignore_index=True) if baseline_tables else pd.DataFrame(columns=list(COLUMNS)),
        labels,
        split,
        data.sites,
        evaluations,
        data.clips,
        json.loads(json.dumps(info)),
    )


def make_split(labels: Labels, groups: NDArray[np.generic], settings: Settings) -> Split:
    """Split the labelled clips and draw the label shuffles.

    Parameters
    ----------
    labels : Labels
    groups : array of shape (labelled clips,)
    settings : Settings

    Raises
    ------
    DataError
        If the groups allow no such split, or so few shuffles that no small p-value is possible.
    """
    score = settings.score or ("r2" if labels.graded else "balanced_accuracy")
    if score not in SCORES:
        raise DataError(f"no score is called {score!r}: use one of {', '.join(SCORES)}.")
    if labels.graded != (score in GRADED_SCORES):
        raise DataError(f"{score} does not fit the {labels.kind} trait {labels.name!r}.")
    split_rng, shuffle_rng = (np.random.default_rng([settings.seed, stream]) for stream in (0, 1))
    y = labels.y if labels.graded else np.array(labels.classes)[labels.y]  # names, so that errors can name a class
    test = group_test_split(y, groups, settings.test_size, seed=split_rng, graded=labels.graded)
    fold = np.full(len(test), -1, dtype=np.intp)
    fold[~test] = group_folds(y[~test], groups[~test], settings.folds, seed=split_rng, graded=labels.graded)
    shuffles = np.empty((0, len(test)), dtype=np.intp)
    if settings.n_permutations:
        shuffles = permute_labels(labels.y, groups, settings.n_permutations, seed=shuffle_rng, parts=test)
    return Split(
        labels.y,
        groups,
        test,
        fold,
        shuffles,
        labels.graded,
        score,
        tuple(settings.l2),
        settings.class_weight,
        tuple(settings.shrinkage),  # type: ignore[arg-type]  # a tuple after construction
    )


def check_methods(methods: str | Sequence[str] | None, labels: Labels) -> list[str]:
    """The methods asked for, or those that suit the trait.

    Raises
    ------
    DataError
        If a method does not exist or does not suit.
    """
    if methods is None:
        return ["ridge", "mean_diff"] if labels.graded else ["logistic", "ridge", "mean_diff"]
    parts = methods.split(",") if isinstance(methods, str) else methods
    chosen = list(dict.fromkeys(name.strip() for name in parts if name.strip()))
    for method in chosen:
        if labels.graded and not find(method).graded:
            names = " or ".join(known_methods(graded=True)[:2])
            raise DataError(f"{method} needs classes, but {labels.name!r} is graded: use {names}.")
        if labels.kind == "categorical" and not find(method).several:
            raise DataError(f"{method} needs two classes, but {labels.name!r} has {len(labels.classes)}: name one.")
    if not chosen:
        raise DataError(f"no method is named: use some of {', '.join(known_methods())}.")
    return chosen


def baseline_features(name: str, value: ArrayLike, data: ProbeData) -> NDArray[np.float64]:
    """Features to compare with, of the labelled clips, float64 ``[clips, features]``; refused unless they fit."""
    features, keep = np.asarray(value, dtype=np.float64), data.labels.keep
    if features.ndim != 2 or len(features) != len(keep):
        raise DataError(
            f"baseline {name!r} has shape {features.shape}: give (clips, features) for all {len(keep)} clips."
        )
    features = features[keep]
    check_finite(features[None], [name], data.clips)
    return features
