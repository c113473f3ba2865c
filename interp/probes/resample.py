"""Scores under bootstrap weights: every resample of every site at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from interp.errors import DataError

__all__ = ["weighted_scores"]

Array = NDArray[np.float64]


def weighted_scores(name: str, decision: NDArray[np.floating], y: NDArray[np.generic], weights: Array) -> Array:
    """A score of :mod:`interp.metrics` when each clip counts ``weight`` times.

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
            np.stack([_auroc(decision[s, column], y == k, weights) for s in range(sites)], axis=1)
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


def _auroc(value: Array, positive: NDArray[np.bool_], weights: Array) -> Array:
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
