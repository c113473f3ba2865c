"""Subspaces: several directions of one trait, the span of its class means, and the angles between such
spaces."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from interp.directions.fitting import fit
from interp.directions.targets import Target
from interp.errors import DataError, SiteError
from interp.geometry.nulls import unit
from interp.geometry.paths import scores

__all__ = ["angle_null", "class_subspace", "orthogonal_probes", "principal_angles"]

Array = NDArray[np.float64]


def principal_angles(a: ArrayLike, b: ArrayLike) -> Array:
    """Angles between two subspaces, smallest first, in radians.

    Parameters
    ----------
    a, b : arrays of shape (vectors, dim)
        Vectors that span them, in the same basis; they need not be orthogonal.

    Returns
    -------
    array of shape (min(rank a, rank b),)

    Raises
    ------
    SiteError
        If the widths differ.
    DataError
        If a span is empty.

    Examples
    --------
    >>> principal_angles([[1, 0, 0], [0, 1, 0]], [[0, 1, 1]]).round(4).tolist()
    [0.7854]
    """
    from scipy.linalg import subspace_angles

    first, second = (np.atleast_2d(np.asarray(v, dtype=np.float64)) for v in (a, b))
    if first.shape[1] != second.shape[1]:
        raise SiteError(f"subspaces of widths {first.shape[1]} and {second.shape[1]} live in different bases.")
    bases = [_basis(v) for v in (first, second)]
    return np.asarray(np.sort(subspace_angles(bases[0].T, bases[1].T)))


def angle_null(ranks: tuple[int, int], dim: int, *, draws: int = 500, level: float = 0.95, seed: int = 0) -> Array:
    """Principal angles that random subspaces undercut with probability ``1 - level``.

    Returns
    -------
    array of shape (min(ranks),)
        In radians, smallest angle first.

    Examples
    --------
    >>> np.degrees(angle_null((1, 1), 64, draws=100)).round().tolist()
    [77.0]
    """
    if max(ranks) > dim:
        raise DataError(f"subspaces of ranks {ranks} do not fit into {dim} dimensions.")
    rng = np.random.default_rng(seed)
    angles = [principal_angles(*(rng.standard_normal((rank, dim)) for rank in ranks)) for _ in range(draws)]
    return np.asarray(np.quantile(angles, 1 - level, axis=0))


def class_subspace(x: ArrayLike, labels: ArrayLike) -> Array:
    """Orthonormal basis of the space that the class means span, around their mean.

    Parameters
    ----------
    x : array of shape (clips, dim)
        Activations.
    labels : array of shape (clips,)
        Classes.

    Returns
    -------
    array of shape (classes - 1 or fewer, dim)

    Examples
    --------
    >>> x = np.array([[1.0, 0, 0], [3.0, 0, 0], [0, 2.0, 0], [0, 4.0, 0]])
    >>> class_subspace(x, ["a", "a", "b", "b"]).shape
    (1, 3)
    """
    x, labels = np.asarray(x, dtype=np.float64), np.asarray(labels)
    means = np.stack([x[labels == c].mean(axis=0) for c in np.unique(labels)])
    return _basis(means - means.mean(axis=0))


def orthogonal_probes(
    x: NDArray[np.floating],
    target: Target,
    k: int,
    *,
    method: str = "logistic",
    l2: float = 1.0,
    shrinkage: float = 0.1,
    test: NDArray[np.bool_] | None = None,
    device: str = "cpu",
) -> tuple[Array, pd.DataFrame]:
    """Probes of one trait, each orthogonal to the ones before: how many dimensions carry it.

    ITI (arXiv 2306.03341) found a second, orthogonal probe still above chance. Each probe is fitted on
    activations from which the earlier directions were projected out (iterative null-space projection, arXiv
    2004.07667).

    Parameters
    ----------
    x : array of shape (sites, clips, dim)
        Activations.
    target : Target
        The trait.
    k : int
        Probes per site.
    method, l2, shrinkage, device
        How they are fitted, as for :func:`interp.directions.fit`.
    test : bool array of shape (clips,), optional
        Clips held out for the score; without, the score is that of the training clips.

    Returns
    -------
    vectors : array of shape (sites, k, dim)
        Orthonormal rows.
    scores : DataFrame
        ``site`` (index), ``rank`` from 0, ``score`` (area under the ROC curve, or correlation).

    Examples
    --------
    >>> import pandas as pd
    >>> from interp.directions.targets import make_targets
    >>> rng = np.random.default_rng(0)
    >>> (target,) = make_targets(pd.DataFrame({"drums": [0, 1] * 20}), ["drums"])
    >>> x = rng.normal(size=(1, 40, 4)) + 3 * np.eye(4)[0] * np.tile([0, 1], 20)[:, None]
    >>> vectors, scores = orthogonal_probes(x, target, 2)
    >>> vectors.shape, bool(scores["score"].iloc[0] > 0.9)
    ((1, 2, 4), True)
    """
    if not 0 < k < x.shape[2]:
        raise DataError(f"{k} orthogonal probes were asked for in {x.shape[2]} dimensions.")
    inner = target if test is None else target.within(~np.asarray(test, bool))
    held = target if test is None else target.within(np.asarray(test, bool))
    rest = np.array(x, dtype=np.float64)
    vectors = np.empty((len(x), k, x.shape[2]))
    rows = []
    for rank in range(k):
        fits = fit(
            rest[:, inner.used], inner.y, method=method, l2=l2, shrinkage=shrinkage, graded=target.graded, device=device
        )
        v = fits.unit(output=target.output)[:, 0, 0, 0]
        done = vectors[:, :rank]
        v = unit(v - np.einsum("skd,sk->sd", done, np.einsum("skd,sd->sk", done, v)))
        vectors[:, rank] = v
        found = scores(rest[:, held.used], v[:, None], held)[:, 0]
        rows += [{"site": s, "rank": rank, "score": float(value)} for s, value in enumerate(found)]
        rest -= np.einsum("scd,sd->sc", rest, v)[..., None] * v[:, None]
    return vectors, pd.DataFrame(rows)


def _basis(vectors: Array) -> Array:
    _, values, right = np.linalg.svd(vectors, full_matrices=False)
    kept = values > max(values.max(initial=0.0), 1e-300) * 1e-10
    if not kept.any():
        raise DataError("these vectors are all zero: they span nothing.")
    return right[kept]
