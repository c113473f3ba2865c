"""How well two directions agree, once the noise in both is allowed for.

Two directions fitted on the same clips share the clips' noise, which moves their cosine up; two directions fitted on
different clips do not, and their noise moves it down. So three numbers are given for a pair (a, b):

* ``cosine``: of the directions themselves;
* ``cosine_across``: a on one half of the clips, b on the other half (mean over halves and over splits);
* ``ceiling``: ``sqrt(r_a r_b)``, where ``r`` is the cosine of one estimator with itself across halves: what
  ``cosine_across`` would be if the two looked for the same direction.

Their quotient ``disattenuated = cosine_across / ceiling`` (Spearman, 1904) estimates the cosine of the directions that
the estimators would find on endless clips. Its interval comes from leaving out one block of groups at a time
(delete-a-block jackknife). With little signal the ceiling drowns in noise; then it is NaN, not a guess.

Halves are fitted by the very estimator of the direction they stand beside: its method, its features, its penalty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from interp.directions.estimator import Estimator
from interp.directions.targets import Target
from interp.errors import DataError
from interp.geometry.resampling import Halves, halve
from interp.sites import Site

__all__ = ["Halved", "agreement", "fit_halves", "strata_of"]

Array = NDArray[np.float64]
Activations = Mapping[Site, NDArray[np.floating]]
"""Activations of all clips, (clips, dim), by site."""
_FEWEST_CLIPS = 16
"""Clips of a combination of classes, below which a further trait no longer divides the strata."""


@dataclass(frozen=True)
class Halved:
    """Unit vectors of some estimators under all rows of :class:`~interp.geometry.resampling.Halves`.

    Attributes
    ----------
    vectors : mapping from estimator to array of shape (sites, rows, dim)
        Row 0 is the direction itself.
    halves : Halves
    """

    vectors: Mapping[Estimator, Array]
    halves: Halves


def fit_halves(
    x: Activations,
    estimators: Sequence[Estimator],
    groups: ArrayLike,
    *,
    n_splits: int = 8,
    n_blocks: int = 16,
    jackknife: bool = True,
    seed: int = 0,
) -> Halved:
    """Fit every estimator on halves of the clips, and on halves without one block.

    Parameters
    ----------
    x : mapping from Site to array of shape (clips, dim)
        Activations of all clips.
    estimators : sequence of Estimator
        Of directions that come out of these clips.
    groups : array of shape (clips,)
        Groups, never split between halves.
    n_splits, n_blocks, jackknife, seed
        As for :func:`interp.geometry.resampling.halve`.

    Raises
    ------
    DataError
        If a direction does not come out of these clips, or there are too few.
    """
    targets = list(dict.fromkeys(e.target for e in estimators))
    used = np.logical_or.reduce([t.used for t in targets])
    part = halve(
        strata_of(targets)[used], np.asarray(groups)[used], n_splits=n_splits, n_blocks=n_blocks,
        jackknife=jackknife, seed=seed,
    )  # fmt: skip
    weights = np.zeros((len(part.weights), len(used)))
    weights[:, used] = part.weights
    vectors: dict[Estimator, Array] = {}
    for estimator in estimators:
        stacked = stack_of(x, estimator)
        estimator.check(stacked)
        fitted = estimator.vectors(stacked, weights[1:])
        own = np.stack([d.vector for d in estimator.directions])
        vectors[estimator] = np.concatenate([own[:, None], fitted], axis=1)
    return Halved(vectors, Halves(weights, part.side))


def stack_of(x: Activations, estimator: Estimator) -> NDArray[np.floating]:
    """Activations at an estimator's sites, of shape (sites, clips, dim)."""
    return np.stack([x[site] for site in estimator.sites])


def agreement(halved: Halved, pairs: Sequence[tuple[Estimator, Estimator]], *, level: float = 0.95) -> pd.DataFrame:
    """Cosine, ceiling and disattenuated cosine of pairs of estimators, at every site that both have.

    Parameters
    ----------
    halved : Halved
        From :func:`fit_halves`.
    pairs : sequence of pairs of Estimator
        What to compare.
    level : float
        Of the interval.

    Returns
    -------
    DataFrame
        One row per pair and site (``pair`` is an index, ``site`` a :class:`~interp.sites.Site`) with ``cosine``,
        ``cosine_across``, ``ceiling``, ``reliability_a`` and ``reliability_b`` (across halves), ``disattenuated``,
        ``lo``, ``hi``.
    """
    halves = halved.halves
    jackknife = len(halves.weights) > 1 + 2 * halves.n_splits
    blocks: list[int | None] = [None, *(range(halves.n_blocks) if jackknife else ())]
    rows = [halves.rows(k) for k in blocks]
    reliability = {e: np.stack([_across(v, v, r) for r in rows]) for e, v in halved.vectors.items()}
    quantile = stats.t.ppf(0.5 + level / 2, max(halves.n_blocks - 1, 1))
    tables = []
    for number, (a, b) in enumerate(pairs):
        sites = [site for site in a.sites if site in b.sites]
        at_a, at_b = ([e.sites.index(site) for site in sites] for e in (a, b))
        va, vb = halved.vectors[a][at_a], halved.vectors[b][at_b]
        across = np.stack([_across(va, vb, r) for r in rows])  # [1 + blocks, sites]
        ra, rb = reliability[a][:, at_a], reliability[b][:, at_b]
        ceiling = np.sqrt(np.where((ra > 0) & (rb > 0), ra * rb, np.nan))
        ratio = across / ceiling
        spread = np.full(ratio.shape[1], np.nan)
        if jackknife:
            parts = ratio[1:]
            spread = np.sqrt((len(parts) - 1) * np.square(parts - parts.mean(axis=0)).mean(axis=0))
        tables.append(
            pd.DataFrame(
                {
                    "pair": number,
                    "site": sites,
                    "cosine": (va[:, 0] * vb[:, 0]).sum(axis=-1),
                    "cosine_across": across[0],
                    "ceiling": ceiling[0],
                    "reliability_a": ra[0],
                    "reliability_b": rb[0],
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


def strata_of(targets: Sequence[Target]) -> NDArray[np.intp]:
    """One class number per clip: the labels of all targets together, or of as many as leave no class too rare."""
    lengths = {len(t.used) for t in targets}
    if len(lengths) > 1:
        raise DataError(f"targets over different clips ({sorted(lengths)}) cannot be compared.")
    labels = [t.spread(t.y) for t in targets if not t.graded]
    if not labels:
        target = targets[0]
        edges = np.quantile(target.y.astype(float), [0.25, 0.5, 0.75])
        return np.asarray(target.spread(np.searchsorted(edges, target.y.astype(float))), dtype=np.intp)
    strata = np.unique(labels[0], return_inverse=True)[1]
    for y in labels[1:]:
        finer = np.unique(np.stack([strata.astype(float), y]), axis=1, return_inverse=True)[1].ravel()
        if np.bincount(finer).min() < _FEWEST_CLIPS:
            break
        strata = finer
    return np.asarray(strata, dtype=np.intp)
