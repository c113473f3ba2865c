"""A direction without another concept: what is left of it after a linear eraser has been applied.

Gram-Schmidt (:func:`interp.directions.orthogonalise`) takes one *direction* out. LEACE (arXiv
2306.03819; :func:`interp.steering.fit_leace`) takes out all that a linear probe can know of a *concept*,
with the smallest change of the activations; here its projection is applied to directions, with the books
kept.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from interp.directions import Direction
from interp.directions.refit import role
from interp.errors import DataError, SiteError
from interp.sites import Site

__all__ = ["ErasesConcept", "erase"]

Array = NDArray[np.float64]


class ErasesConcept(Protocol):
    """An affine map ``x - left (right (x - mean))`` at one site, such as :class:`interp.steering.Eraser`."""

    @property
    def site(self) -> Site: ...
    @property
    def left(self) -> Array: ...
    @property
    def right(self) -> Array: ...
    @property
    def mean(self) -> Array: ...
    @property
    def trait(self) -> str: ...
    @property
    def model(self) -> str: ...


def erase(direction: Direction, eraser: ErasesConcept, *, activations: Array | None = None) -> Direction:
    """The direction after a concept was erased from the activations.

    A push (mean difference) becomes its image, ``v - left (right v)``: the mean difference of the erased
    activations. A readout (probe weight) becomes ``w - right^T (left^T w)``: the weight that gives on
    untouched activations what ``w`` gives on erased ones.

    Parameters
    ----------
    direction : Direction
        The direction.
    eraser : Eraser
        Fitted at the same site on activations of the same checkpoint.
    activations : array of shape (clips, dim), optional
        Where to measure the new sigma; without, it is NaN.

    Returns
    -------
    Direction
        With ``info["erased"]`` and the share of its squared length that is left, ``info["kept"]``.

    Raises
    ------
    SiteError, CheckpointMismatch
        If the eraser belongs to another site or checkpoint.
    DataError
        If nothing is left.
    """
    direction.check_model(eraser.model)
    if eraser.site != direction.site or eraser.mean.size != direction.dim:
        raise SiteError(f"an eraser of {eraser.site} does not act on {direction}: fit one at {direction.site}.")
    v = direction.weight
    push = role(direction.method) == "push"
    left = v - (eraser.left @ (eraser.right @ v) if push else eraser.right.T @ (eraser.left.T @ v))
    kept = float(left @ left / (v @ v))
    if kept < 1e-16:
        raise DataError(f"nothing of {direction} is left after {eraser.trait or 'the concept'} was erased.")
    intercept = direction.intercept
    if not push:  # w.(x - left right (x - mean)) + b, as a probe on untouched activations
        intercept += float(v @ (eraser.left @ (eraser.right @ eraser.mean)))
    cleaned = Direction.from_weight(
        direction.site,
        left,
        activations=activations,
        method=direction.method,
        trait=direction.trait,
        positive=direction.positive,
        model=direction.model,
        pool=direction.pool,
        info={**direction.info, "erased": eraser.trait, "kept": kept},
    )
    return replace(cleaned, intercept=intercept if not push else cleaned.intercept)
