"""Directions as curves: what happens to a direction as its regulariser changes.

Ridge with a growing penalty leaves the regression direction (which for two classes is that of linear
discriminant analysis) and ends at the mean difference, in the basis in which the penalty is round. So one
cosine between 'regression' and 'classification' says little: these tables give it along both paths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from interp.directions.refit import refit
from interp.directions.targets import Target
from interp.errors import DataError
from interp.geometry.nulls import unit

__all__ = ["PENALTIES", "fit_path", "path_cosines", "path_table"]

Array = NDArray[np.float64]
PENALTIES: tuple[float, ...] = tuple(float(f"{v:.3g}") for v in np.logspace(-3, 7, 21))
"""Penalties as scikit-learn counts them, from none to all: ``alpha`` of ridge, ``1 / C`` of logistic
regression."""


def fit_path(
    x: NDArray[np.floating],
    y: Array,
    method: str,
    penalties: Sequence[float] = PENALTIES,
    *,
    weights: Array | None = None,
    **fit: Any,
) -> Array:
    """Directions of ``ridge`` or ``logistic`` at every penalty.

    Parameters
    ----------
    x : array of shape (sites, clips, dim)
        Activations.
    y : array of shape (clips,)
        Labels, as for :func:`interp.directions.refit`.
    method : {"ridge", "logistic"}
        What to fit.
    penalties : sequence of float
        Penalties, greater than zero.
    weights : array of shape (refits, clips), optional
        Refits; one with all clips by default.
    **fit
        ``standardise``, ``device``.

    Returns
    -------
    array of shape (penalties, sites, refits, dim)
        Weights in the raw basis, not normalised.

    Raises
    ------
    DataError
        If the method has no path, or a penalty is not positive.
    """
    if method not in ("ridge", "logistic"):
        raise DataError(f"{method!r} has no penalty and so no path: ask for ridge or logistic.")
    if min(penalties) <= 0:
        raise DataError(f"a penalty of {min(penalties)} is not on a path: give numbers greater than zero.")
    steps = []
    for penalty in penalties:
        argument: dict[str, Any] = {"ridge": penalty} if method == "ridge" else {"C": 1 / penalty}
        steps.append(refit(x, y, weights, method=method, **argument, **fit)[:, 0])
    return np.stack(steps)


def path_table(
    x: NDArray[np.floating],
    target: Target,
    sites: Sequence[object],
    *,
    penalties: Sequence[float] = PENALTIES,
    methods: Sequence[str] = ("ridge", "logistic"),
    references: Sequence[str] = ("lda", "mean_diff"),
    test: NDArray[np.bool_] | None = None,
    **fit: Any,
) -> pd.DataFrame:
    """Cosine of the directions along a path with fixed directions, and what the path detects.

    Parameters
    ----------
    x : array of shape (sites, clips, dim)
        Activations.
    target : Target
        What is looked for.
    sites : sequence
        Names of the sites.
    penalties : sequence of float
        Penalties.
    methods : sequence of {"ridge", "logistic"}
        Paths.
    references : sequence of str
        Methods to compare with, at their own defaults.
    test : bool array of shape (clips,), optional
        Clips held out: all fits use the others, and the area under the ROC curve (graded: the correlation) is
        measured on these.
    **fit
        ``standardise``, ``device``.

    Returns
    -------
    DataFrame
        One row per site, method and penalty: ``angle_<reference>`` in degrees, ``cosine_<reference>``,
        ``sigma`` (the spread of the clips along the direction) and ``score``.
    """
    train = target.used if test is None else target.used & ~test
    held = None if test is None else target.used & test
    inner, y = np.asarray(x[:, train], dtype=np.float64), target.y[train]
    fixed = {name: unit(refit(inner, y, method=name, **fit)[:, 0, 0]) for name in references}
    tables = []
    for method in methods:
        path = unit(fit_path(inner, y, method, penalties, **fit)[:, :, 0])  # [penalties, sites, dim]
        table: dict[str, Any] = {
            "site": np.tile([str(site) for site in sites], len(penalties)),
            "method": method,
            "penalty": np.repeat(np.asarray(penalties, dtype=float), len(sites)),
            "sigma": np.stack(
                [[(xs @ v).std(ddof=1) for xs, v in zip(inner, step, strict=True)] for step in path]
            ).ravel(),
        }
        for name, vector in fixed.items():
            cosine = np.clip((path * vector).sum(axis=-1), -1, 1)
            table[f"cosine_{name}"] = cosine.ravel()
            table[f"angle_{name}"] = np.degrees(np.arccos(cosine)).ravel()
        if held is not None:
            scores = [[score(xs[held] @ v, target.y[held]) for xs, v in zip(x, step, strict=True)] for step in path]
            table["score"] = np.ravel(scores)
        tables.append(pd.DataFrame(table))
    return pd.concat(tables, ignore_index=True)


def path_cosines(paths: Mapping[str, Array], site: int = 0) -> pd.DataFrame:
    """Cosines of all steps of all paths at one site, shape (steps, steps), labelled ``(path, step)``.

    Parameters
    ----------
    paths : mapping from name to array of shape (penalties, sites, refits, dim)
        From :func:`fit_path`; the first refit is used.
    site : int
        Which site.
    """
    stacked = np.concatenate([unit(path[:, site, 0]) for path in paths.values()])
    labels = pd.MultiIndex.from_tuples(
        [(name, step) for name, path in paths.items() for step in range(len(path))], names=["path", "step"]
    )
    return pd.DataFrame(np.clip(stacked @ stacked.T, -1, 1), index=labels, columns=labels)


def score(projection: Array, y: Array) -> float:
    """Area under the ROC curve of a projection for classes +1/-1, its correlation with graded labels."""
    if not np.isin(y, (-1.0, 1.0)).all():
        return float(np.corrcoef(projection, y)[0, 1])
    positive, negative = projection[y > 0], projection[y < 0]
    if not len(positive) or not len(negative):
        raise DataError("the held-out clips have one class only: hold out more of them.")
    order = np.searchsorted(np.sort(negative), positive, side="left") + np.searchsorted(
        np.sort(negative), positive, side="right"
    )
    return float(order.mean() / (2 * len(negative)))
