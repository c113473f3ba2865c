"""Scores of many sets of predictions at once, as batched tensor arithmetic.

Decision values have shape ``(..., outputs, clips)``: one output for a binary or graded trait (a class-1 logit or a
predicted value), one per class otherwise. Labels ``y`` have shape ``(..., clips)`` and broadcast against them: class
indices, or numbers for graded traits.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from interp.errors import DataError

__all__ = [
    "SCORES",
    "accuracy",
    "auroc",
    "balanced_accuracy",
    "chance",
    "f1",
    "r2",
    "score",
    "spearman",
    "weighted_scores",
]


def predict(decision: Tensor) -> Tensor:
    """Class indices, shape (..., clips)."""
    if decision.shape[-2] == 1:
        return (decision[..., 0, :] > 0).long()
    return decision.argmax(dim=-2)


def _classes(decision: Tensor) -> int:
    return max(2, decision.shape[-2])


def accuracy(decision: Tensor, y: Tensor) -> Tensor:
    """Share of clips whose class is right."""
    return (predict(decision) == y).to(torch.get_default_dtype()).mean(-1)


def balanced_accuracy(decision: Tensor, y: Tensor) -> Tensor:
    """Mean over the classes that occur of the share of their clips that are right: chance is one over the classes."""
    right = (predict(decision) == y).float()
    total = torch.zeros(right.shape[:-1], device=right.device)
    seen = torch.zeros_like(total)
    for k in range(_classes(decision)):
        member = (y == k).float().expand_as(right)
        count = member.sum(-1)
        total += torch.where(count > 0, (right * member).sum(-1) / count.clamp_min(1), 0.0)
        seen += (count > 0).float()
    return total / seen


def auroc(decision: Tensor, y: Tensor) -> Tensor:
    """Area under the ROC curve; for several classes the mean of one class against the rest. Ties count half."""
    if decision.shape[-2] == 1:
        return _auroc(decision[..., 0, :], y == 1)
    return torch.stack([_auroc(decision[..., k, :], y == k) for k in range(decision.shape[-2])]).nanmean(0)


def _auroc(value: Tensor, positive: Tensor) -> Tensor:
    rank = _ranks(value)
    positive = positive.to(rank.dtype).expand_as(rank)
    n1 = positive.sum(-1)
    n0 = value.shape[-1] - n1
    wins = (rank * positive).sum(-1) - n1 * (n1 + 1) / 2
    return torch.where((n1 > 0) & (n0 > 0), wins / (n1 * n0).clamp_min(1), torch.full_like(wins, torch.nan))


def _ranks(value: Tensor) -> Tensor:
    """Ranks from 1, ties averaged, in float64."""
    value = value.contiguous()
    ordered = value.sort(dim=-1).values
    low = torch.searchsorted(ordered, value, side="left")
    high = torch.searchsorted(ordered, value, side="right")
    return (low + high + 1).double() / 2


def f1(decision: Tensor, y: Tensor) -> Tensor:
    """Harmonic mean of precision and recall of class 1; for several classes the mean over classes."""
    guess = predict(decision)
    wanted = [1] if decision.shape[-2] == 1 else list(range(decision.shape[-2]))
    parts = []
    for k in wanted:
        both = ((guess == k) & (y == k)).float().sum(-1)
        either = (guess == k).float().sum(-1) + (y == k).float().sum(-1)
        parts.append(torch.where(either > 0, 2 * both / either.clamp_min(1), torch.zeros_like(both)))
    return torch.stack(parts).mean(0)


def r2(decision: Tensor, y: Tensor) -> Tensor:
    """Share of the variance explained, one minus squared error over variance; negative when worse than the mean."""
    value, y = decision[..., 0, :].double(), y.double()
    error = (value - y).square().mean(-1)
    spread = (y - y.mean(-1, keepdim=True)).square().mean(-1)
    return 1 - error / spread


def spearman(decision: Tensor, y: Tensor) -> Tensor:
    """Rank correlation."""
    a, b = _ranks(decision[..., 0, :]), _ranks(y.to(decision.dtype))
    a, b = a - a.mean(-1, keepdim=True), b - b.mean(-1, keepdim=True)
    size = (a.square().sum(-1) * b.square().sum(-1)).sqrt()
    return torch.where(size > 0, (a * b).sum(-1) / size, torch.zeros_like(size))


SCORES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "auroc": auroc,
    "f1": f1,
    "r2": r2,
    "spearman": spearman,
}
GRADED = ("r2", "spearman")


def score(name: str, decision: Tensor, y: Tensor) -> Tensor:
    """One score of every set of predictions, shape of the leading dimensions.

    Raises
    ------
    DataError
        If there is no score of that name.
    """
    if name not in SCORES:
        raise DataError(f"no score is called {name!r}: use one of {', '.join(SCORES)}.")
    return SCORES[name](decision, y)


def chance(name: str, y: Tensor) -> float:
    """What predicting without looking reaches on these labels.

    For accuracy the share of the commonest class, for balanced accuracy one over the classes, 0.5 for AUROC, for F1
    what always answering (the commonest class, or class 1) reaches, 0 for R2 and Spearman.
    """
    if name in GRADED:
        return 0.0
    counts = torch.bincount(y.long().flatten()).double()
    share = counts / counts.sum()
    if name == "accuracy":
        return float(share.max())
    if name == "balanced_accuracy":
        return 1 / int((counts > 0).sum())
    if name == "auroc":
        return 0.5
    if len(counts) == 2:
        return float(2 * share[1] / (1 + share[1]))
    return float(2 * share.max() / (1 + share.max()) / len(counts))


Array = NDArray[np.float64]


def weighted_scores(name: str, decision: NDArray[np.floating], y: NDArray[np.generic], weights: Array) -> Array:
    """A score when each clip counts ``weight`` times.

    Parameters
    ----------
    name : str
        Score.
    decision : array of shape (sites, outputs, clips)
        Decision values.
    y : array of shape (clips,)
        Class indices or numbers.
    weights : array of shape (resamples, clips)
        How often each clip is drawn.

    Returns
    -------
    array of shape (resamples, sites)
        NaN where a resample has no clip that the score needs.
    """
    sites, outputs, clips = decision.shape
    y = np.asarray(y)
    numbers = y.astype(np.float64)
    if name in ("accuracy", "balanced_accuracy", "f1"):
        guess = decision.argmax(1) if outputs > 1 else (decision[:, 0] > 0).astype(int)
        if name == "accuracy":
            return _share((guess == y).astype(float), np.ones(clips), weights)
        if name == "balanced_accuracy":
            parts = [_share((guess == y) * (y == k), y == k, weights) for k in range(max(2, outputs)) if (y == k).any()]
            return _mean_of_present(parts)
        wanted = [1] if outputs == 1 else range(outputs)
        parts = []
        for k in wanted:
            both = weights @ ((guess == k) & (y == k)).T.astype(float)
            either = weights @ (guess == k).T.astype(float) + (weights @ (y == k).astype(float))[:, None]
            parts.append(np.divide(2 * both, either, out=np.zeros_like(both), where=either > 0))
        return np.mean(parts, axis=0)
    if name == "r2":
        error = weights @ ((decision[:, 0] - numbers) ** 2).T
        total = weights.sum(1)
        mean = weights @ numbers / total
        spread = weights @ (numbers**2) - total * mean**2
        return 1 - np.divide(error, spread[:, None], out=np.full_like(error, np.nan), where=spread[:, None] > 1e-12)
    if name == "auroc":
        columns = [(0, 1)] if outputs == 1 else [(k, k) for k in range(outputs)]
        parts = [
            np.stack([_weighted_auroc(decision[s, column], y == k, weights) for s in range(sites)], axis=1)
            for column, k in columns
            if (y == k).any()
        ]
        return _mean_of_present(parts)
    if name == "spearman":
        target = _weighted_ranks(y.astype(float), weights)
        return np.stack([_correlation(_weighted_ranks(row[0], weights), target, weights) for row in decision], axis=1)
    raise DataError(f"no score is called {name!r}.")


def _mean_of_present(parts: list[Array]) -> Array:
    """Mean over the classes that a resample holds; NaN, without numpy's warning, where it holds none."""
    stacked = np.stack(parts)
    there = ~np.isnan(stacked)
    count = there.sum(0)
    return np.divide(np.where(there, stacked, 0).sum(0), count, out=np.full(count.shape, np.nan), where=count > 0)


def _share(right: NDArray[np.generic], member: NDArray[np.generic], weights: Array) -> Array:
    hit = weights @ np.asarray(right, dtype=float).T
    count = (weights @ np.asarray(member, dtype=float))[:, None]
    return np.divide(hit, count, out=np.full_like(hit, np.nan), where=count > 0)


def _below(value: Array, weights: Array) -> tuple[Array, Array]:
    """Weight strictly below each value, and weight tied with it."""
    order = np.argsort(value, kind="stable")
    ordered = value[order]
    total = np.concatenate([np.zeros((len(weights), 1)), np.cumsum(weights[:, order], axis=1)], axis=1)
    low = total[:, np.searchsorted(ordered, value, side="left")]
    return low, total[:, np.searchsorted(ordered, value, side="right")] - low


def _weighted_auroc(value: Array, positive: NDArray[np.bool_], weights: Array) -> Array:
    below, tied = _below(value, weights * ~positive)
    ones, zeros = weights[:, positive], weights[:, ~positive].sum(1)
    wins = (ones * (below + tied / 2)[:, positive]).sum(1)
    pairs = ones.sum(1) * zeros
    return np.divide(wins, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)


def _weighted_ranks(value: Array, weights: Array) -> Array:
    below, tied = _below(value, weights)
    return below + (tied + 1) / 2


def _correlation(a: Array, b: Array, weights: Array) -> Array:
    total = weights.sum(1, keepdims=True)
    a = a - (weights * a).sum(1, keepdims=True) / total
    b = b - (weights * b).sum(1, keepdims=True) / total
    size = np.sqrt((weights * a * a).sum(1) * (weights * b * b).sum(1))
    return np.divide((weights * a * b).sum(1), size, out=np.zeros(len(weights)), where=size > 0)
