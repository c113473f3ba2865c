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
from interp.probes.evaluate import Evaluation, Split, evaluate_sites
from interp.probes.measured import measured, site_columns, test_weights
from interp.probes.probing import make_split
from interp.probes.settings import Settings
from interp.sites import Site
from interp.stats import max_statistic
from interp.traits import Trait

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["TimeResult", "over_time"]

_COURSE = (
    "site",
    "frame",
    "seconds",
    "trait",
    "method",
    "cv_score",
    "test_score",
    "lo",
    "hi",
    "chance",
    "p",
    "p_max",
    "converged",
    "score",
)
_FRAME = re.compile(r"frame:(\d+)")


@dataclass(frozen=True)
class TimeResult:
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


def over_time(
    ds: xr.Dataset,
    trait: str | Trait,
    *,
    sites: str | Site | Iterable[str | Site] = "resid",
    method: str = "logistic",
    labels: ArrayLike | None = None,
    frame_rate: float = 50.0,
    **settings: Any,
) -> TimeResult:
    """Probe at every extracted frame, and test each of those probes at every other frame.

    Parameters
    ----------
    ds : xarray.Dataset
        Activations extracted with ``pool="every:n"``.
    trait, sites, **settings
        As for :func:`interp.probes.probe`; one split serves all frames.
    method : str
        One method.
    labels : array of shape (clips, frames), optional
        A class index (or number) per clip and frame where the trait changes within a clip, such as the onset of
        drums; one label per clip from the dataset by default. The split and the shuffles are by group all the same.
    frame_rate : float
        Frames per second.

    Returns
    -------
    TimeResult

    Raises
    ------
    DataError
        If the dataset has no frames, or per-frame labels have another shape or a frame with one class.

    Examples
    --------
    >>> import interp
    >>> tones = [np.sin(np.arange(4000) / (5 + 5 * (i % 2))) * (i + 4) / 32 for i in range(24)]
    >>> clips = interp.Clips.from_arrays(tones, 16_000, {"high": [1 - i % 2 for i in range(24)]})
    >>> ds = interp.extract(interp.load("tiny", device="cpu"), clips, sites="L3.resid", pool="every:6", progress=False)

    >>> result = over_time(ds, "high", method="mean_diff", n_permutations=0, folds=3)
    >>> result.course[["seconds", "test_score"]].to_dict("records")  # the first frame has heard nothing yet
    [{'seconds': 0.0, 'test_score': 0.5}, {'seconds': 0.12, 'test_score': 1.0}, {'seconds': 0.24, 'test_score': 1.0}]
    """
    pools = {int(m[1]): str(p) for p in ds["pool"].values if (m := _FRAME.fullmatch(str(p)))}
    if not pools:
        raise DataError("the dataset has no single frames: extract with pool='every:25' (every 25th frame).")
    chosen = Settings.of(**settings)
    read = read_labels(ds, trait, chosen.kind)
    groups, clips = clip_groups(ds)[read.keep], np.asarray(ds["clip"].values).astype(str)[read.keep]
    split = make_split(read, groups, chosen)
    frames, by_frame, dropped = _reached(ds, sites, pools, read.keep)
    reached = np.isin(sorted(pools), frames)
    per_frame = _frame_labels(labels, read.keep, len(pools), split.graded)
    splits = [split] * len(frames)
    if per_frame is not None:
        changing = per_frame[:, reached]
        splits = [_with_labels(split, changing[:, t], frame) for t, frame in enumerate(frames)]
    weights = test_weights(split, chosen.n_bootstrap, chosen.seed)
    course, transfer = [], []
    for k, first in enumerate(by_frame[0]):
        x = np.stack([stacks[k].x for stacks in by_frame])  # [frames, sites, clips, dim]
        check_finite(x.reshape(-1, *x.shape[2:]), [f"{s} frame {f}" for f in frames for s in first.sites], clips)
        results = [evaluate_sites(x[t], method, splits[t], **chosen.solver) for t in range(len(frames))]
        rows = [
            measured(site_columns(first), results[t], method, splits[t], read, weights).assign(
                frame=frames[t], seconds=frames[t] / frame_rate
            )
            for t in range(len(frames))
        ]
        part = pd.concat(rows, ignore_index=True)
        null = np.stack([result.null for result in results], axis=1)  # [permutations, frames, sites]
        if len(null):  # the family is all frames and sites of this kind
            part["p_max"] = max_statistic(part["test_score"], null.reshape(len(null), -1)).p_max
        course.append(part)
        transfer += _transferred(first, frames, x, results, splits)
    columns = [
        "site",
        "frame",
        "seconds",
        "trait",
        "method",
        "cv_score",
        "test_score",
        "lo",
        "hi",
        "chance",
        "p",
        "p_max",
    ]
    table = pd.concat(course, ignore_index=True)[[*columns, "converged", "score"]]
    return TimeResult(table, pd.concat(transfer, ignore_index=True), tuple(frames), dropped)


def _reached(
    ds: xr.Dataset, sites: str | Site | Iterable[str | Site], pools: dict[int, str], keep: NDArray[np.bool_]
) -> tuple[list[int], list[list[Stack]], int]:
    """Frames that every labelled clip reaches, their stacks, and how many frames were left out."""
    stacks = {
        frame: [Stack(s.kind, s.sites, s.x[:, keep]) for s in read_stacks(ds, sites, pools[frame])]
        for frame in sorted(pools)
    }
    frames = [frame for frame, parts in stacks.items() if not any(np.isnan(s.x).any() for s in parts)]
    if not frames:
        raise DataError("no frame is reached by every labelled clip: leave out the short clips.")
    return frames, [stacks[frame] for frame in frames], len(stacks) - len(frames)


def _transferred(
    stack: Stack, frames: list[int], x: NDArray[np.floating], results: list[Evaluation], splits: list[Split]
) -> list[pd.DataFrame]:
    """Every frame's probe at every other frame."""
    unseen = x[:, :, splits[0].test].astype(np.float64)
    tables = []
    for t, result in enumerate(results):
        decision = np.einsum("fsnd,skd->fskn", unseen, result.coef, optimize=True) + result.intercept[None, :, :, None]
        for u, split in enumerate(splits):
            value = metrics.score(split.score, torch.as_tensor(decision[u]), torch.as_tensor(split.y[split.test]))
            places = {"site": [str(s) for s in stack.sites], "train_frame": frames[t], "test_frame": frames[u]}
            tables.append(pd.DataFrame(places).assign(test_score=value.double().numpy()))
    return tables


def _frame_labels(
    labels: ArrayLike | None, keep: NDArray[np.bool_], n_frames: int, graded: bool
) -> NDArray[np.generic] | None:
    if labels is None:
        return None
    array = np.asarray(labels)
    if array.shape != (len(keep), n_frames):
        raise DataError(f"labels per frame have shape {array.shape}: give ({len(keep)}, {n_frames}), clips by frames.")
    return np.asarray(array[keep].astype(np.float64 if graded else np.int64))


def _with_labels(split: Split, y: NDArray[np.generic], frame: int) -> Split:
    for part in (split.test, *(split.fold == k for k in range(split.fold.max() + 1))):
        if not split.graded and len(np.unique(y[part])) < len(np.unique(split.y)):
            raise DataError(
                f"at frame {frame} a fold or the test part lacks a class: use fewer folds, or other frames."
            )
    return replace(split, y=y)
