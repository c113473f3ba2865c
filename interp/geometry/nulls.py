"""What cosines look like when there is nothing: the nulls that every cosine is printed with.

* :func:`interp.stats.cosine_null` and :func:`sphere_p`: two unrelated uniform directions. Exact, and too lenient where
  activations are anisotropic.
* :func:`covariance_null`: unrelated directions drawn as noise would draw them: mean differences from ``N(0, S)``,
  regression weights from ``N(0, S^-1)``.
* Shuffled labels, with the same estimators fitted to them: they keep everything but the trait.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from interp.directions.estimator import Estimator
from interp.directions.registry import Role, role
from interp.errors import DataError
from interp.geometry.agreement import Activations, stack_of
from interp.sites import Site
from interp.splits import permute_labels

__all__ = ["covariance_null", "covariance_of", "null_columns", "sphere_p", "unit"]

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


def null_columns(
    x: Activations,
    pairs: Sequence[tuple[Estimator, Estimator]],
    groups: NDArray[np.generic],
    used: NDArray[np.bool_],
    n_permutations: int,
    seed: int,
) -> pd.DataFrame:
    """Columns null_covariance and null_permuted, one row per pair and site, in the order of :func:`agreement`."""
    covariances = {site: covariance_of(values[used]) for site, values in x.items()}
    noise: dict[tuple[Site, Role, Role], float] = {}
    shuffled: dict[Estimator, Array] = {}
    columns: dict[str, list[float]] = {"null_covariance": [], "null_permuted": []}
    for a, b in pairs:
        sites = [site for site in a.sites if site in b.sites]
        roles = role(a.method), role(b.method)
        for site in sites:
            if (site, *roles) not in noise:
                draws = covariance_null(covariances[site], roles, seed=seed)
                noise[site, *roles] = float(np.quantile(np.abs(draws), 0.95))
            columns["null_covariance"].append(noise[site, *roles])
        if not n_permutations:
            columns["null_permuted"] += [np.nan] * len(sites)
            continue
        same = a.target is b.target
        for e in (a, b) if same else (a,):
            if e not in shuffled:
                shuffled[e] = permuted_vectors(x, e, groups, n=n_permutations, seed=seed)
        at_a, at_b = ([e.sites.index(site) for site in sites] for e in (a, b))
        if same:
            null = (shuffled[a][at_a] * shuffled[b][at_b]).sum(axis=-1)
        else:
            other = np.stack([b.directions[k].vector for k in at_b])
            null = np.abs((shuffled[a][at_a] * other[:, None]).sum(axis=-1))
        columns["null_permuted"] += list(np.nanquantile(null, 0.95, axis=1))
    return pd.DataFrame(columns)


def permuted_vectors(x: Activations, estimator: Estimator, groups: NDArray[np.generic], *, n: int, seed: int) -> Array:
    """Unit vectors of an estimator fitted on shuffled labels, of shape (sites, n, dim).

    Labels are shuffled between groups where they are constant inside. The same seed gives all estimators of a target
    the same shuffles.
    """
    target = estimator.target
    order = permute_labels(target.y, groups[target.used], n, seed=np.random.default_rng(seed))
    return estimator.vectors(stack_of(x, estimator), labellings=target.y[order])
