"""What cosines look like when there is nothing: the nulls that every cosine is printed with.

* :func:`interp.stats.cosine_null` and :func:`sphere_p`: two unrelated uniform directions. Exact, and too
lenient
  where activations are anisotropic.
* :func:`covariance_null`: unrelated directions drawn as noise would draw them: mean differences from ``N(0,
S)``,
  regression weights from ``N(0, S^-1)``.
* :func:`permuted_null`: the methods refitted on shuffled labels, which keeps everything but the trait.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from interp.directions.refit import Role, refit
from interp.errors import DataError
from interp.splits import permute_labels

__all__ = ["covariance_null", "covariance_of", "is_binary", "permuted_null", "permuted_vectors", "sphere_p", "unit"]

Array = NDArray[np.float64]


def sphere_p(cosines: ArrayLike, dim: int) -> Array:
    """Probability that two uniform directions have an absolute cosine at least this large."""
    return np.asarray(stats.beta.sf(np.square(np.clip(cosines, -1, 1)), 0.5, (dim - 1) / 2))


def unit(x: Array) -> Array:
    """Vectors of length one along the last axis; zero vectors become NaN."""
    length = np.linalg.norm(x, axis=-1, keepdims=True)
    return np.asarray(x / np.where(length > 0, length, np.nan))


def covariance_of(x: Array, y: Array | None = None) -> Array:
    """Covariance of activations of shape (clips, dim); within the classes of ``y`` if labels are given."""
    x = np.asarray(x, dtype=np.float64)
    if y is None:
        return np.atleast_2d(np.cov(x, rowvar=False))
    parts = [x[y > 0], x[y < 0]]
    total = sum(np.atleast_2d(np.cov(part, rowvar=False, bias=True)) * len(part) for part in parts)
    return np.asarray(total / sum(len(part) for part in parts))


def covariance_null(covariance: Array, roles: tuple[Role, Role], *, draws: int = 2000, seed: int = 0) -> Array:
    """Cosines of unrelated directions that noise of this covariance would give.

    Parameters
    ----------
    covariance : array of shape (dim, dim)
        Covariance of the activations at the site.
    roles : pair of {"push", "readout"}
        What the two directions are: pushes are drawn from ``N(0, S)``, readouts from ``N(0, S^-1)``.
    draws : int
        How many pairs.
    seed : int
        Seed.

    Returns
    -------
    array of shape (draws,)
    """
    values = np.linalg.eigvalsh(np.asarray(covariance, dtype=np.float64))
    keep = values > max(values[-1], 0) * 1e-10
    if not keep.any():
        raise DataError("the covariance is zero: the activations do not vary at this site.")
    rng = np.random.default_rng(seed)
    root = np.sqrt(values[keep])
    # in the eigenbasis, where cosines are the same
    sides = [rng.standard_normal((draws, len(root))) * (root if r == "push" else 1 / root) for r in roles]
    return np.asarray((unit(sides[0]) * unit(sides[1])).sum(axis=1))


def permuted_vectors(
    x: NDArray[np.floating],
    y: Array,
    groups: ArrayLike,
    method: str,
    *,
    n: int = 100,
    seed: int = 0,
    **fit: Any,
) -> Array:
    """Unit vectors of one method fitted on shuffled labels.

    Parameters
    ----------
    x : array of shape (sites, clips, dim)
        Activations.
    y : array of shape (clips,)
        Labels, as for :func:`interp.directions.refit`.
    groups : array of shape (clips,)
        Groups; labels are shuffled between groups where they are constant inside.
    method : str
        Method.
    n : int
        Shuffles.
    seed : int
        Seed; the same seed gives all methods the same shuffles.
    **fit
        Passed to :func:`interp.directions.refit`.

    Returns
    -------
    array of shape (sites, n, dim)
    """
    used = (y != 0) if is_binary(y) else np.ones(len(y), bool)
    shuffled = np.zeros((n, len(y)))
    order = permute_labels(y[used], np.asarray(groups)[used], n, rng=np.random.default_rng(seed))
    shuffled[:, used] = y[used][order]
    return unit(refit(x, shuffled[None], np.ones((n, len(y))), method=method, seed=seed, **fit)[:, 0])


def permuted_null(
    x: NDArray[np.floating],
    y: Array,
    groups: ArrayLike,
    methods: tuple[str, str],
    *,
    y_other: Array | None = None,
    n: int = 100,
    seed: int = 0,
    **fit: Any,
) -> Array:
    """Cosines of two directions after their labels were shuffled and they were fitted again.

    Parameters
    ----------
    x, y, groups, n, seed, **fit
        As for :func:`permuted_vectors`; ``y`` are the labels of the first direction.
    methods : pair of str
        Methods of the two directions.
    y_other : array of shape (clips,), optional
        Labels of the second direction, if it is of another trait: only ``y`` is shuffled then. Without it
        both directions are fitted on the same shuffled labels, and the null says how much two methods agree
        about nothing.

    Returns
    -------
    array of shape (sites, n)
    """
    first = permuted_vectors(x, y, groups, methods[0], n=n, seed=seed, **fit)
    if y_other is None:
        second = permuted_vectors(x, y, groups, methods[1], n=n, seed=seed, **fit)
    else:
        second = unit(refit(x, y_other, method=methods[1], seed=seed + 1, **fit)[:, 0])
    return np.asarray((first * second).sum(axis=-1))


def is_binary(y: Array) -> bool:
    """Whether labels are +1, -1 and 0 (neither)."""
    return bool(np.isin(y, (-1.0, 0.0, 1.0)).all())
