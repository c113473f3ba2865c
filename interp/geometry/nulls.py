"""What cosines look like when there is nothing: the nulls that every cosine is printed with.

* :func:`interp.stats.cosine_null` and :func:`sphere_p`: two unrelated uniform directions. Exact, and too lenient where
  activations are anisotropic.
* :func:`covariance_null`: unrelated directions drawn as noise would draw them: mean differences from ``N(0, S)``,
  regression weights from ``N(0, S^-1)``.
* Shuffled labels, in :func:`interp.geometry.compare_methods`: the same estimators fitted to them, which keeps
  everything but the trait.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from interp.directions.registry import Role
from interp.errors import DataError

__all__ = ["covariance_null", "covariance_of", "sphere_p", "unit"]

Array = NDArray[np.float64]


def sphere_p(cosines: ArrayLike, dim: int) -> Array:
    """Probability that two uniform directions have an absolute cosine at least this large."""
    return np.asarray(stats.beta.sf(np.square(np.clip(cosines, -1, 1)), 0.5, (dim - 1) / 2))


def unit(x: Array) -> Array:
    """Vectors of length one along the last axis; zero vectors become NaN."""
    length = np.linalg.norm(x, axis=-1, keepdims=True)
    return np.asarray(x / np.where(length > 0, length, np.nan))


def covariance_of(x: NDArray[np.floating], y: ArrayLike | None = None) -> Array:
    """Covariance of activations of shape (clips, dim); within the classes of labels ``y``, if they are given.

    Examples
    --------
    >>> covariance_of(np.array([[0.0, 1.0], [2.0, 1.0]])).tolist()
    [[2.0, 0.0], [0.0, 0.0]]
    """
    x = np.asarray(x, dtype=np.float64)
    if y is None:
        return np.atleast_2d(np.cov(x, rowvar=False))
    labels = np.asarray(y)
    parts = [x[labels == name] for name in np.unique(labels)]
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
