"""Tables for pictures of geometry: the plane of two directions, a map of all
directions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from interp.directions import Direction
from interp.directions.algebra import same_space
from interp.errors import DataError
from interp.geometry.spaces import Metric, in_space

__all__ = ["map_directions", "plane"]


def plane(x: ArrayLike, labels: ArrayLike, a: Direction, b: Direction) -> pd.DataFrame:
    """Clips on the plane of two directions, which keeps lengths and angles.

    Parameters
    ----------
    x : array of shape (clips, dim)
        Activations at the directions' site.
    labels : array of shape (clips,)
        Classes, kept as a column.
    a, b : Direction
        The first axis is along ``a``, the second along what of ``b`` is orthogonal to it.

    Returns
    -------
    DataFrame
        ``along``, ``across``, ``label``, one row a clip, centred on the mean of all clips. ``attrs``:
        ``cosine`` of the two directions, ``a`` and ``b`` (their names), ``b_axis`` (where ``b`` points in
        the plane).

    Raises
    ------
    SiteError, CheckpointMismatch
        If the directions live in different spaces.
    DataError
        If they are parallel, or the width differs.

    Examples
    --------
    >>> from interp.directions import Direction
    >>> a, b = Direction.from_weight("L1.resid", [1.0, 0, 0]), Direction.from_weight("L1.resid", [1.0, 1.0, 0])
    >>> table = plane(np.eye(3), ["x", "y", "z"], a, b)
    >>> list(table.columns), round(table.attrs["cosine"], 2)
    (['along', 'across', 'label'], 0.71)
    """
    same_space([a, b])
    x = np.asarray(x, dtype=np.float64)
    if x.ndim != 2 or x.shape[1] != a.dim:
        raise DataError(f"activations of shape {x.shape} do not lie in the space of {a}, of width {a.dim}.")
    cosine = float(a.vector @ b.vector)
    rest = b.vector - cosine * a.vector
    length = float(np.linalg.norm(rest))
    if length < 1e-6:
        raise DataError(f"{a} and {b} are parallel: they span a line, not a plane.")
    centred = x - x.mean(axis=0)
    table = pd.DataFrame(
        {"along": centred @ a.vector, "across": centred @ (rest / length), "label": np.asarray(labels)}
    )
    table.attrs.update(cosine=cosine, a=a.method, b=b.method, b_axis=[cosine, length])
    return table


def map_directions(
    directions: Sequence[Direction], metric: Metric = "residual", *, seed: int = 0, **space: Any
) -> pd.DataFrame:
    """All directions in two dimensions, by UMAP and by PCA, in a space that they share.

    Parameters
    ----------
    directions : sequence of Direction
        Eight or more.
    metric, **space
        The common space, see :func:`interp.geometry.spaces.in_space`. Images are scaled to unit length, so
        distance in it grows with the angle.
    seed : int
        Of UMAP's layout.

    Returns
    -------
    DataFrame
        The columns and ``attrs`` of :func:`interp.geometry.project` (trustworthiness of both pictures among
        them), and ``site``, ``kind``, ``layer``, ``head``, ``trait``, ``positive``, ``method``, ``label``.
    """
    from interp.geometry.nulls import unit
    from interp.geometry.projection import project

    if len(directions) < 8:
        raise DataError(f"a map of {len(directions)} directions shows nothing: give eight or more.")
    table = project(unit(in_space(directions, metric, **space)), seed=seed, standardize=False)
    what = pd.DataFrame(
        {
            "site": [str(d.site) for d in directions],
            "kind": [d.site.kind for d in directions],
            "layer": [d.site.layer for d in directions],
            "head": pd.array([d.site.head for d in directions], dtype="Int64"),
            "trait": [d.trait for d in directions],
            "positive": [d.positive for d in directions],
            "method": [d.method for d in directions],
            "label": [d.towards for d in directions],
        }
    )
    out = pd.concat([table, what], axis=1)
    out.attrs.update(table.attrs | {"metric": metric})
    return out
