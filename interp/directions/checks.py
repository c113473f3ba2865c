"""What :func:`interp.directions.fit` refuses before it works."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from interp.directions.registry import Method, methods
from interp.directions.solvers.problems import ClassWeight
from interp.errors import DataError

__all__ = ["check_classes", "check_method", "check_numbers", "checked", "penalties_of"]

Array = NDArray[np.float64]
Rows = NDArray[np.floating] | NDArray[np.bool_]


def checked(
    x: NDArray[np.floating], y: ArrayLike, weights: ArrayLike | None
) -> tuple[NDArray[np.floating], NDArray[np.generic], Rows]:
    """Activations, labels (labellings, clips) and weights (rows, clips) as arrays that fit each other."""
    x = np.asarray(x)
    if x.ndim != 3 or not all(x.shape):
        raise DataError(f"activations have shape {x.shape}: give (sites, clips, dim), none of them empty.")
    labels = np.atleast_2d(np.asarray(y))
    if labels.ndim != 2 or labels.shape[1] != x.shape[1]:
        raise DataError(f"labels of shape {np.shape(y)} do not fit {x.shape[1]} clips: give one label per clip.")
    rows = np.ones((1, x.shape[1]), dtype=bool) if weights is None else np.atleast_2d(np.asarray(weights))
    if rows.ndim != 2 or rows.shape[1] != x.shape[1]:
        raise DataError(f"weights of shape {rows.shape} do not fit {x.shape[1]} clips: give one weight per clip.")
    if rows.dtype != bool:
        rows = rows.astype(np.float64)
        if not np.isfinite(rows).all() or (rows < 0).any():
            raise DataError("a clip has a negative weight, or one that is not finite: give numbers from 0.")
    if ((rows > 0).sum(axis=1) < 2).any():
        raise DataError("a fold trains on fewer than two clips: use fewer folds or more clips.")
    if not np.isfinite(x.sum(dtype=np.float64)) and not np.isfinite(x).all():
        site, clip = np.argwhere(~np.isfinite(x).all(axis=2))[0]
        raise DataError(
            f"the activation of clip {clip} at site {site} is not finite: leave the clip out or extract it again."
        )
    return x, labels, rows


def penalties_of(entry: Method, n_sites: int, amounts: float | Sequence[float] | Array) -> Array:
    """Penalties of every site, shape (sites, penalties)."""
    if not entry.penalty:
        return np.zeros((n_sites, 1))
    penalties = np.atleast_1d(np.asarray(amounts, dtype=float))
    if penalties.ndim == 1:
        penalties = np.tile(penalties, (n_sites, 1))
    if penalties.ndim != 2 or len(penalties) != n_sites:
        raise DataError(f"penalties of shape {penalties.shape} do not fit {n_sites} sites: give (sites, penalties).")
    if entry.penalty == "shrinkage":
        if not ((penalties >= 0) & (penalties <= 1)).all():
            raise DataError(f"shrinkage is {np.unique(penalties).tolist()}: give numbers from 0 to 1.")
    elif not (np.isfinite(penalties) & (penalties >= 0)).all() or (entry.name == "logistic" and (penalties <= 0).any()):
        raise DataError(
            f"l2 is {np.unique(penalties).tolist()}: give positive penalties (zero is allowed for least squares)."
        )
    return penalties


def check_method(entry: Method, graded: bool, class_weight: ClassWeight) -> None:
    """Refuse labels and class weights that the method does not take."""
    if graded and not entry.graded:
        names = " or ".join(methods(graded=True)[:2])
        raise DataError(f"{entry.name} needs classes, but the labels are numbers: use {names}, or cut them.")
    if class_weight is not None and not entry.class_weight:
        raise DataError(f"class weights are for logistic probes, not for {entry.name}.")
    if isinstance(class_weight, Mapping) and not all(0 < w < np.inf for w in class_weight.values()):
        raise DataError(f"class weights are {dict(class_weight)}: give positive numbers.")


def check_numbers(labels: NDArray[np.generic], rows: Rows) -> None:
    """Refuse graded labels that are not finite, or all the same in a row."""
    if not np.isfinite(np.asarray(labels, dtype=float)).all():
        raise DataError("a graded label is not a finite number: leave the clip out.")
    for row in rows:
        used = labels[:, row > 0]
        if (np.ptp(used, axis=1) == 0).any():
            raise DataError("a graded trait has the same value in every clip of a fold: there is no direction to find.")


def check_classes(labels: NDArray[np.generic], rows: Rows, entry: Method) -> None:
    """Refuse class labels that are no indices from 0, and rows that lack a class."""
    if not np.issubdtype(labels.dtype, np.integer) and labels.dtype != bool:
        raise DataError(
            f"class labels are of type {labels.dtype}: give class indices 0, 1, ... (or graded=True for numbers)."
        )
    n_classes = int(labels.max()) + 1
    if labels.min() < 0 or n_classes < 2:
        raise DataError("labels hold one class: a probe needs two, numbered from 0.")
    if n_classes > 2 and not entry.several:
        raise DataError(f"{entry.name} needs two classes, but there are {n_classes}: set one against the others.")
    used = (rows > 0).astype(np.float32)
    for k in range(n_classes):
        held = (labels == k).astype(np.float32) @ used.T
        if (held == 0).any():
            labelling, fold = np.argwhere(held == 0)[0]
            where = f" of labelling {labelling}" if len(labels) > 1 else ""
            raise DataError(
                f"the training part of fold {fold} holds no clip of class {k}{where}: use fewer folds, or folds that "
                "spread the classes (interp.splits.group_folds)."
            )
