"""How much of a probe's score is knowing the group: control tasks and selectivity."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from interp.directions.reading import Stack, check_finite, clip_groups, read_labels, read_stacks
from interp.errors import DataError
from interp.probes.evaluate import Plan, evaluate_sites
from interp.probes.study import PENALTIES
from interp.sites import Site
from interp.splits import group_folds, group_test_split
from interp.traits import Labels, TraitKind

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["control_labels", "selectivity", "selectivity_arrays"]


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
    trait: str,
    *,
    sites: str | Site | Iterable[str | Site] = "heads",
    pool: str | None = None,
    method: str = "logistic",
    n_controls: int = 10,
    folds: int = 5,
    test_size: float = 0.25,
    seed: int = 0,
    kind: TraitKind | None = None,
    dtype: str = "float32",
    device: str = "cpu",
    memory: int = 2**30,
) -> pd.DataFrame:
    """Score on the trait less the score on random labels that are fixed per group.

    Hewitt and Liang (2019, arXiv 1909.03368) ask whether a probe reads a property or memorises which word it sees. Here
    the word is the group (song, preset): a control task gives every group a random label, and both tasks are tested on
    *other clips of the same groups*. A site with high score and low selectivity tells groups apart, and the trait comes
    for free. The score of the grouped split (:func:`interp.probes.probe`) is a different question; report both.

    Parameters
    ----------
    ds, trait, sites, pool, kind, dtype, device, memory
        As for :func:`interp.probes.probe`.
    method : str
        One method.
    n_controls : int
        Control tasks; their scores are averaged.
    folds, test_size, seed
        Of the splits, here by clip.

    Returns
    -------
    DataFrame
        One row a site: ``site, kind, layer, head, trait, method, task, control, control_sd, selectivity``.

    Raises
    ------
    DataError
        If no group has two clips: identity can then not be learnt.
    """
    labels = read_labels(ds, trait, kind)
    return selectivity_arrays(
        read_stacks(ds, sites, pool),
        labels,
        clip_groups(ds),
        method=method,
        n_controls=n_controls,
        folds=folds,
        test_size=test_size,
        seed=seed,
        dtype=dtype,
        device=device,
        memory=memory,
    )


def selectivity_arrays(
    stacks: list[Stack],
    trait: Labels,
    groups: NDArray[np.generic],
    *,
    method: str = "logistic",
    n_controls: int = 10,
    folds: int = 5,
    test_size: float = 0.25,
    seed: int = 0,
    dtype: str = "float32",
    device: str = "cpu",
    memory: int = 2**30,
) -> pd.DataFrame:
    """:func:`selectivity` for plain arrays."""
    groups = np.asarray(groups)[trait.keep]
    _, counts = np.unique(groups, return_counts=True)
    if (counts < 2).all():
        raise DataError(
            "every group has one clip, so a control task per group cannot be learnt: give several clips a group."
        )
    if n_controls < 1:
        raise DataError(f"n_controls is {n_controls}: one control task is the least.")
    rng = np.random.default_rng([seed, 3])
    clips = np.arange(len(groups))
    tasks = [trait.y, *(control_labels(trait.y, groups, rng) for _ in range(n_controls))]
    rows = []
    for stack in stacks:
        x = stack.x[:, trait.keep]
        check_finite(x, stack.sites, clips)
        scores = []
        for y in tasks:
            plan = _by_clip(y, trait.graded, folds, test_size, np.random.default_rng([seed, 0]))
            scores.append(evaluate_sites(x, method, plan, dtype=dtype, device=device, memory=memory).test_score)
        task, control = scores[0], np.stack(scores[1:])
        for i, site in enumerate(stack.sites):
            rows.append(
                {
                    "site": str(site),
                    "kind": stack.kind,
                    "layer": site.layer,
                    "head": site.head,
                    "trait": trait.name,
                    "method": method,
                    "task": task[i],
                    "control": control[:, i].mean(),
                    "control_sd": control[:, i].std(),
                    "selectivity": task[i] - control[:, i].mean(),
                }
            )
    return pd.DataFrame(rows).astype({"head": "Int64"})


def _by_clip(y: NDArray[np.generic], graded: bool, folds: int, test_size: float, rng: np.random.Generator) -> Plan:
    """A split on which groups do straddle: every clip is its own unit."""
    units = np.arange(len(y))
    test = group_test_split(y, units, test_size, rng=rng, graded=graded)
    fold = np.full(len(y), -1, dtype=np.intp)
    fold[~test] = group_folds(y[~test], units[~test], folds, rng=rng, graded=graded)
    if not graded:
        y = np.unique(y, return_inverse=True)[1]
    nothing = np.empty((0, len(y)), dtype=np.intp)
    return Plan(y, units, test, fold, nothing, graded, "r2" if graded else "balanced_accuracy", PENALTIES)
