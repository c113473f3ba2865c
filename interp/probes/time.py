"""When in a clip a trait becomes readable, and whether what is read early is what is read late."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray

from interp import metrics
from interp.directions.reading import Stack, check_finite, clip_groups, read_labels, read_stacks
from interp.errors import DataError
from interp.probes.evaluate import Plan, evaluate_sites
from interp.probes.resample import weighted_scores
from interp.probes.study import PENALTIES, make_plan
from interp.sites import Site
from interp.stats import bootstrap_interval, group_weights, max_statistic
from interp.traits import TraitKind

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["TimeStudy", "probe_over_time"]

_FRAME = re.compile(r"frame:(\d+)")


@dataclass(frozen=True)
class TimeStudy:
    """A trait probed frame by frame.

    Attributes
    ----------
    course : DataFrame
        One row per site and frame, trained and tested there: ``site, frame, seconds, cv_score, test_score, lo, hi,
        chance, p, p_max`` (against the best of all frames and sites of its kind), ``score`` (which one).
    transfer : DataFrame
        One row per site, ``train_frame`` and ``test_frame``: ``test_score`` (King and Dehaene 2014).
    frames : tuple of int
    n_dropped_frames : int
        Frames that some clips do not reach, left out.
    """

    course: pd.DataFrame
    transfer: pd.DataFrame
    frames: tuple[int, ...]
    n_dropped_frames: int

    def matrix(self, site: str | Site) -> pd.DataFrame:
        """Scores of one site, rows the frame trained at, columns the frame tested at."""
        part = self.transfer[self.transfer["site"] == str(site)]
        if part.empty:
            raise DataError(f"{site} was not probed over time.")
        return part.pivot(index="train_frame", columns="test_frame", values="test_score")

    def onset(self, level: float = 0.05) -> pd.DataFrame:
        """First frame at which each site is significant (``p_max <= level``); sites that never are have NaN."""
        rows = []
        for site, part in self.course.groupby("site", sort=False):
            hit = part[part["p_max"] <= level]
            rows.append({"site": site, "seconds": hit["seconds"].min() if len(hit) else np.nan})
        return pd.DataFrame(rows)


def probe_over_time(
    ds: xr.Dataset,
    trait: str,
    *,
    sites: str | Site | Iterable[str | Site] = "resid",
    method: str = "logistic",
    labels: ArrayLike | None = None,
    frame_rate: float = 50.0,
    folds: int = 5,
    test_size: float = 0.25,
    n_permutations: int = 200,
    n_bootstrap: int = 1000,
    seed: int = 0,
    kind: TraitKind | None = None,
    score: str | None = None,
    dtype: str = "float32",
    device: str = "cpu",
    memory: int = 2**30,
) -> TimeStudy:
    """Probe at every extracted frame, and test each of those probes at every other frame.

    Parameters
    ----------
    ds : xarray.Dataset
        Activations extracted with ``pool="every:n"``.
    trait, sites, method, folds, test_size, n_permutations, n_bootstrap, seed, kind, score, dtype, device, memory
        As for :func:`interp.probes.probe`; one split serves all frames.
    labels : array of shape (clips, frames), optional
        A class index (or number) per clip and frame where the trait changes within a clip, such as the onset of
        drums; one label per clip from the dataset by default. The split and the shuffles are by group all the same.
    frame_rate : float
        Frames per second.

    Returns
    -------
    TimeStudy

    Raises
    ------
    DataError
        If the dataset has no frames, or per-frame labels have another shape or a frame with one class.
    """
    pools = {int(m[1]): str(p) for p in ds["pool"].values if (m := _FRAME.fullmatch(str(p)))}
    if not pools:
        raise DataError("the dataset has no single frames: extract with pool='every:25' (every 25th frame).")
    frames = sorted(pools)
    read = read_labels(ds, trait, kind)
    groups = clip_groups(ds)[read.keep]
    clips = np.asarray(ds["clip"].values).astype(str)[read.keep]
    plan = make_plan(
        read,
        groups,
        folds=folds,
        test_size=test_size,
        n_permutations=n_permutations,
        seed=seed,
        score=score,
        penalties=PENALTIES,
    )
    per_frame = _frame_labels(labels, read.keep, len(frames), plan.graded)
    by_frame = [[_kept(s, read.keep) for s in read_stacks(ds, sites, pools[f])] for f in frames]
    reached = [not any(np.isnan(s.x).any() for s in stacks) for stacks in by_frame]
    if not any(reached):
        raise DataError("no frame is reached by every labelled clip: leave out the short clips.")
    dropped = len(frames) - sum(reached)
    per_frame = None if per_frame is None else per_frame[:, reached]
    by_frame = [stacks for stacks, ok in zip(by_frame, reached, strict=True) if ok]
    frames = [frame for frame, ok in zip(frames, reached, strict=True) if ok]
    weights = group_weights(groups[plan.test], n_bootstrap, np.random.default_rng([seed, 2])) if n_bootstrap else None
    course, transfer = [], []
    settings: dict[str, Any] = {"dtype": dtype, "device": device, "memory": memory}
    for k, first in enumerate(by_frame[0]):
        x = np.stack([stacks[k].x for stacks in by_frame])  # [frames, sites, clips, dim]
        check_finite(x.reshape(-1, *x.shape[2:]), [f"{s} frame {f}" for f in frames for s in first.sites], clips)
        plans = [
            plan if per_frame is None else _with_labels(plan, per_frame[:, t], frames[t]) for t in range(len(frames))
        ]
        results = [evaluate_sites(x[t], method, plans[t], **settings) for t in range(len(frames))]
        null = np.stack([r.null for r in results], axis=1)  # [permutations, frames, sites]
        observed = np.stack([r.test_score for r in results])
        p = p_max = np.full(observed.shape, np.nan)
        if len(null):
            tested = max_statistic(observed.ravel(), null.reshape(len(null), -1))
            p, p_max = tested.p.reshape(observed.shape), tested.p_max.reshape(observed.shape)
        for t, result in enumerate(results):
            y_test = plans[t].y[plan.test]
            lo = hi = np.full(len(first.sites), np.nan)
            if weights is not None:
                draws = weighted_scores(plan.score, result.decision, y_test, weights)
                lo, hi = bootstrap_interval(draws, len(np.unique(groups[plan.test])))
            course.append(
                pd.DataFrame(
                    {
                        "site": [str(s) for s in first.sites],
                        "frame": frames[t],
                        "seconds": frames[t] / frame_rate,
                        "trait": trait,
                        "method": method,
                        "cv_score": result.cv_score,
                        "test_score": result.test_score,
                        "lo": lo,
                        "hi": hi,
                        "chance": plans[t].chance,
                        "p": p[t],
                        "p_max": p_max[t],
                        "score": plan.score,
                    }
                )
            )
            unseen = x[:, :, plan.test].astype(np.float64)
            decision = (
                np.einsum("fsnd,skd->fskn", unseen, result.coef, optimize=True) + result.intercept[None, :, :, None]
            )
            for u in range(len(frames)):
                y_there = torch.as_tensor(plans[u].y[plan.test])
                value = metrics.score(plan.score, torch.as_tensor(decision[u]), y_there)
                transfer.append(
                    pd.DataFrame(
                        {
                            "site": [str(s) for s in first.sites],
                            "train_frame": frames[t],
                            "test_frame": frames[u],
                            "test_score": value.double().numpy(),
                        }
                    )
                )
    return TimeStudy(
        pd.concat(course, ignore_index=True), pd.concat(transfer, ignore_index=True), tuple(frames), dropped
    )


def _kept(stack: Stack, keep: NDArray[np.bool_]) -> Stack:
    return Stack(stack.kind, stack.sites, stack.x[:, keep])


def _frame_labels(
    labels: ArrayLike | None, keep: NDArray[np.bool_], n_frames: int, graded: bool
) -> NDArray[np.generic] | None:
    if labels is None:
        return None
    array = np.asarray(labels)
    if array.shape != (len(keep), n_frames):
        raise DataError(f"labels per frame have shape {array.shape}: give ({len(keep)}, {n_frames}), clips by frames.")
    return np.asarray(array[keep].astype(np.float64 if graded else np.int64))


def _with_labels(plan: Plan, y: NDArray[np.generic], frame: int) -> Plan:
    for part in (plan.test, *(plan.fold == k for k in range(plan.fold.max() + 1))):
        if not plan.graded and len(np.unique(y[part])) < len(np.unique(plan.y)):
            raise DataError(
                f"at frame {frame} a fold or the test part lacks a class: use fewer folds, or other frames."
            )
    return replace(plan, y=y)
