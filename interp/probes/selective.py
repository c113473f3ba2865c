"""How much of a probe's score is knowing the group: control tasks and selectivity."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from interp.errors import DataError
from interp.probes.data import ProbeData
from interp.probes.evaluate import Split, evaluate_sites
from interp.probes.measured import site_columns
from interp.probes.settings import Settings
from interp.sites import Site
from interp.splits import group_folds, group_test_split
from interp.traits import Trait

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["control_labels", "selectivity"]


def control_labels(
    y: NDArray[np.generic], groups: NDArray[np.generic], rng: np.random.Generator
) -> NDArray[np.generic]:
    """One label drawn for each group, fixed for all its clips, with class shares as in ``y``.

    Labels of clips are shuffled and every group takes that of one of its clips, so that larger classes get more groups;
    graded labels are drawn the same way.
    """
    names, index = np.unique(groups, return_inverse=True)
    for _ in range(100):
        drawn = rng.choice(y, size=len(names))
        if len(np.unique(drawn)) >= min(2, len(np.unique(y))) and (
            np.issubdtype(y.dtype, np.floating) or len(np.unique(drawn)) == len(np.unique(y))
        ):
            return np.asarray(drawn[index])
    raise DataError(f"{len(names)} groups are too few to give every class to one of them at random.")


def selectivity(
    ds: xr.Dataset,
    trait: str | Trait,
    *,
    sites: str | Site | Iterable[str | Site] = "heads",
    pool: str | None = None,
    method: str = "logistic",
    n_controls: int = 10,
    **settings: Any,
) -> pd.DataFrame:
    """Score on the trait less the score on random labels that are fixed per group.

    Hewitt and Liang (2019, arXiv 1909.03368) ask whether a probe reads a property or memorises which word it sees. Here
    the word is the group (song, preset): a control task gives every group a random label, and both tasks are tested on
    *other clips of the same groups*. A site with high score and low selectivity tells groups apart, and the trait comes
    for free. The score of the grouped split (:func:`interp.probes.probe`) is a different question; report both.

    Parameters
    ----------
    ds, trait, sites, pool, **settings
        As for :func:`interp.probes.probe`; splits are by clip.
    method : str
        One method.
    n_controls : int
        Control tasks; their scores are averaged.

    Returns
    -------
    DataFrame
        One row a site: ``site, kind, layer, head, trait, method, task, control, control_sd, selectivity``.

    Raises
    ------
    DataError
        If no group has two clips: identity can then not be learnt.

    Examples
    --------
    >>> import interp
    >>> tones = [np.sin(np.arange(4000) / (5 + 5 * (i % 2))) * (i + 4) / 32 for i in range(24)]
    >>> labels = {"high": [1 - i % 2 for i in range(24)], "group": [i // 4 for i in range(24)]}
    >>> clips = interp.Clips.from_arrays(tones, 16_000, labels)
    >>> ds = interp.extract(interp.load("tiny", device="cpu"), clips, sites="L3.resid", progress=False)

    >>> table = selectivity(ds, "high", sites="resid", method="mean_diff", n_controls=2, folds=3)
    >>> table[["site", "task"]].to_dict("records")
    [{'site': 'L3.resid', 'task': 1.0}]
    """
    chosen = Settings.of(**settings)
    data = ProbeData.of(ds, trait, sites=sites, pool=pool, kind=chosen.kind)
    _, counts = np.unique(data.groups, return_counts=True)
    if (counts < 2).all():
        raise DataError(
            "every group has one clip, so a control task per group cannot be learnt: give several clips a group."
        )
    if n_controls < 1:
        raise DataError(f"n_controls is {n_controls}: one control task is the least.")
    y, rng = data.labels.y, np.random.default_rng([chosen.seed, 3])
    tasks = [y, *(control_labels(y, data.groups, rng) for _ in range(n_controls))]
    tables = []
    for stack in data.stacks:
        scores = []
        for task in tasks:
            split = _by_clip(task, data.labels.graded, chosen)
            scores.append(evaluate_sites(stack.x, method, split, **chosen.solver).test_score)
        control = np.stack(scores[1:])
        tables.append(
            site_columns(stack).assign(
                trait=data.labels.name,
                method=method,
                task=scores[0],
                control=control.mean(0),
                control_sd=control.std(0),
                selectivity=scores[0] - control.mean(0),
            )
        )
    return pd.concat(tables, ignore_index=True)


def _by_clip(y: NDArray[np.generic], graded: bool, settings: Settings) -> Split:
    """A split on which groups do straddle: every clip is its own unit."""
    units, rng = np.arange(len(y)), np.random.default_rng([settings.seed, 0])
    test = group_test_split(y, units, settings.test_size, seed=rng, graded=graded)
    fold = np.full(len(y), -1, dtype=np.intp)
    fold[~test] = group_folds(y[~test], units[~test], settings.folds, seed=rng, graded=graded)
    if not graded:
        y = np.unique(y, return_inverse=True)[1]
    nothing = np.empty((0, len(y)), dtype=np.intp)
    return Split(y, units, test, fold, nothing, graded, "r2" if graded else "balanced_accuracy", tuple(settings.l2))
