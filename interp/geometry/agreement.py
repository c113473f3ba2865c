"""How well two directions agree, once the noise in both is allowed for.

Two directions fitted on the same clips share the clips' noise, which moves their cosine up; two directions
fitted on different clips do not, and their noise moves it down. So three numbers are given for a pair (a,
b):

* ``cosine``: both fitted on all clips;
* ``cosine_across``: a on one half of the clips, b on the other half (mean over halves and over splits);
* ``ceiling``: ``sqrt(r_a r_b)``, where ``r`` is the cosine of one method with itself across halves: what
  ``cosine_across`` would be if the two methods looked for the same direction.

Their quotient ``disattenuated = cosine_across / ceiling`` (Spearman, 1904) estimates the cosine of the
directions that the methods would find on endless clips. Its interval comes from leaving out one block of
groups at a time (delete-a-block jackknife). With little signal the ceiling drowns in noise; then it is NaN,
not a guess.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from interp.directions.refit import refit
from interp.directions.targets import Target
from interp.errors import DataError
from interp.geometry.nulls import unit
from interp.geometry.resampling import Halves, halve, subsamples

__all__ = ["Arm", "agreement", "cosine_by_size", "fit_halves", "split_half"]

Array = NDArray[np.float64]
Arm = tuple[int, str]
"""A direction to compare: index of its target, and its method."""


@dataclass(frozen=True)
class Fitted:
    """Unit vectors of some arms under all rows of :class:`Halves`.

    Attributes
    ----------
    vectors : mapping from arm to array of shape (sites, rows, dim)
    halves : Halves
    """

    vectors: Mapping[Arm, Array]
    halves: Halves


def fit_halves(
    x: NDArray[np.floating],
    targets: Sequence[Target],
    groups: ArrayLike,
    arms: Sequence[Arm],
    *,
    n_splits: int = 8,
    n_blocks: int = 16,
    jackknife: bool = True,
    seed: int = 0,
    **fit: Any,
) -> Fitted:
    """Fit every arm on all clips, on halves, and on halves without one block.

    Parameters
    ----------
    x : array of shape (sites, clips, dim)
        Activations.
    targets : sequence of Target
        What the arms point to.
    groups : array of shape (clips,)
        Groups, never split between halves.
    arms : sequence of (target index, method)
        Directions to fit.
    n_splits, n_blocks, jackknife, seed
        As for :func:`interp.geometry.resampling.halve`.
    **fit
        Passed to :func:`interp.directions.refit`.
    """
    strata = _strata([targets[i] for i in sorted({i for i, _ in arms})])
    halves = halve(strata, groups, n_splits=n_splits, n_blocks=n_blocks, jackknife=jackknife, seed=seed)
    vectors: dict[Arm, Array] = {}
    for graded in (False, True):
        for method in dict.fromkeys(method for i, method in arms if targets[i].graded == graded):
            columns = [i for i, m in dict.fromkeys(arms) if m == method and targets[i].graded == graded]
            y = np.stack([targets[i].y for i in columns])
            found = unit(refit(x, y, halves.weights, method=method, seed=seed, **fit))
            vectors |= {(i, method): found[:, column] for column, i in enumerate(columns)}
    return Fitted(vectors, halves)


def agreement(fitted: Fitted, pairs: Sequence[tuple[Arm, Arm]], *, level: float = 0.95) -> pd.DataFrame:
    """Cosine, ceiling and disattenuated cosine of pairs of arms, at every site.

    Parameters
    ----------
    fitted : Fitted
        From :func:`fit_halves`.
    pairs : sequence of pairs of arms
        What to compare.
    level : float
        Of the interval.

    Returns
    -------
    DataFrame
        One row per pair and site (``pair``, ``site`` are indices) with ``cosine``, ``cosine_across``,
        ``ceiling``, ``reliability_a`` and ``reliability_b`` (across halves), ``disattenuated``, ``lo``,
        ``hi``.
    """
    halves = fitted.halves
    jackknife = len(halves.weights) > 1 + 2 * halves.n_splits
    blocks: list[int | None] = [None, *(range(halves.n_blocks) if jackknife else ())]
    rows = [halves.rows(k) for k in blocks]
    reliability = {arm: np.stack([_across(v, v, r) for r in rows]) for arm, v in fitted.vectors.items()}
    quantile = stats.t.ppf(0.5 + level / 2, max(halves.n_blocks - 1, 1))
    tables = []
    for number, (a, b) in enumerate(pairs):
        va, vb = fitted.vectors[a], fitted.vectors[b]
        across = np.stack([_across(va, vb, r) for r in rows])  # [1 + blocks, sites]
        product = reliability[a] * reliability[b]
        safe = (reliability[a] > 0) & (reliability[b] > 0)
        ceiling = np.sqrt(np.where(safe, product, np.nan))
        ratio = across / ceiling
        spread = np.full(ratio.shape[1], np.nan)
        if jackknife:
            parts = ratio[1:]
            spread = np.sqrt((len(parts) - 1) * np.square(parts - parts.mean(axis=0)).mean(axis=0))
        tables.append(
            pd.DataFrame(
                {
                    "pair": number,
                    "site": np.arange(len(va)),
                    "cosine": (va[:, 0] * vb[:, 0]).sum(axis=-1),
                    "cosine_across": across[0],
                    "ceiling": ceiling[0],
                    "reliability_a": reliability[a][0],
                    "reliability_b": reliability[b][0],
                    "disattenuated": ratio[0],
                    "lo": np.maximum(ratio[0] - quantile * spread, -1.0),
                    "hi": np.minimum(ratio[0] + quantile * spread, 1.0),
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def _across(a: Array, b: Array, rows: NDArray[np.intp]) -> Array:
    """Mean over splits of the cosine between a on one half and b on the other, shape (sites,)."""
    first, second = rows.T
    forth = (a[:, first] * b[:, second]).sum(axis=-1)
    back = (a[:, second] * b[:, first]).sum(axis=-1)
    return np.asarray((forth + back).mean(axis=1) / 2)


def split_half(
    x: NDArray[np.floating],
    target: Target,
    groups: ArrayLike,
    method: str,
    *,
    n_splits: int = 16,
    seed: int = 0,
    **fit: Any,
) -> Array:
    """Cosine of one method with itself across halves of the clips, at every site and split.

    For a direction fitted on *all* clips, noise of half the variance gives ``2 r / (1 + r)`` (Spearman and
    Brown).

    Returns
    -------
    array of shape (sites, splits)
    """
    fitted = fit_halves(x, [target], groups, [(0, method)], n_splits=n_splits, jackknife=False, seed=seed, **fit)
    v = fitted.vectors[0, method]
    rows = fitted.halves.rows()
    return np.asarray((v[:, rows[:, 0]] * v[:, rows[:, 1]]).sum(axis=-1))


def cosine_by_size(
    x: NDArray[np.floating],
    target: Target,
    groups: ArrayLike,
    methods: Sequence[str],
    sizes: Sequence[int],
    *,
    n: int = 8,
    seed: int = 0,
    **fit: Any,
) -> pd.DataFrame:
    """How fast a direction settles as clips are added (ITI, figure 6A, and its honest twin).

    Parameters
    ----------
    x : array of shape (sites, clips, dim)
        Activations.
    target : Target
        What the direction is fitted to.
    groups : array of shape (clips,)
        Groups, drawn whole.
    methods : sequence of str
        Methods.
    sizes : sequence of int
        Clips in a subsample; at most half of all.
    n : int
        Pairs of subsamples of each size.
    seed : int
        Seed.
    **fit
        Passed to :func:`interp.directions.refit`.

    Returns
    -------
    DataFrame
        One row per method, site (index), size and pair: ``n_clips``, ``cosine_full`` (subsample against all
        clips, which contain it) and ``cosine_disjoint`` (two subsamples that share no group).
    """
    used = target.used
    sub, _ = subsamples(_strata([target])[used], np.asarray(groups)[used], sizes, n=n, seed=seed)
    weights = np.zeros((*sub.shape[:-1], len(used)))
    weights[..., used] = sub
    rows = np.concatenate([np.ones((1, len(used))), weights.reshape(-1, len(used))])
    tables = []
    for method in methods:
        v = unit(refit(x, target.y, rows, method=method, seed=seed, **fit))[:, 0]
        full, parts = v[:, :1], v[:, 1:].reshape(len(v), len(sizes) * n, 2, -1)
        tables.append(
            pd.DataFrame(
                {
                    "method": method,
                    "site": np.repeat(np.arange(len(v)), len(sizes) * n),
                    "size": np.tile(np.repeat(np.asarray(sizes), n), len(v)),
                    "n_clips": np.tile(sub.sum(axis=(2, 3)).ravel() / 2, len(v)),
                    "cosine_full": (parts * full[:, :, None]).sum(axis=-1).mean(axis=-1).ravel(),
                    "cosine_disjoint": (parts[:, :, 0] * parts[:, :, 1]).sum(axis=-1).ravel(),
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def _strata(targets: Sequence[Target]) -> NDArray[np.intp]:
    """One class number per clip: the labels of all targets together, or of as many as leave no class too
    rare."""
    binary = [t.y for t in targets if not t.graded]
    if not binary:
        edges = np.quantile(targets[0].y, [0.25, 0.5, 0.75])
        return np.searchsorted(edges, targets[0].y)
    lengths = {len(y) for y in binary}
    if len(lengths) > 1:
        raise DataError(f"targets over different clips ({sorted(lengths)}) cannot be compared.")
    strata = np.unique(binary[0], return_inverse=True)[1]
    for y in binary[1:]:
        finer = np.unique(np.stack([strata.astype(float), y]), axis=1, return_inverse=True)[1].ravel()
        if np.bincount(finer).min() < 16:
            break
        strata = finer
    return np.asarray(strata, dtype=np.intp)
