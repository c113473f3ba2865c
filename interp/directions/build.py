"""From a fitted weight to a :class:`~interp.directions.Direction`: the same for probes and for whoever else fits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interp.directions.direction import Direction
from interp.sites import Site

__all__ = ["as_direction", "centred"]

Array = NDArray[np.float64]


def centred(coef: NDArray[np.floating]) -> NDArray[np.floating]:
    """Weights of shape (..., outputs, dim) without their common part, which no prediction depends on."""
    return coef - coef.mean(axis=-2, keepdims=True) if coef.shape[-2] > 1 else coef


def as_direction(
    site: Site,
    weight: NDArray[np.floating],
    intercept: float,
    x: NDArray[np.floating],
    hit: NDArray[np.bool_] | None,
    *,
    odds: bool,
    info: Mapping[str, Any],
    **fields: Any,
) -> Direction | None:
    """A direction with sigma and, for classes, log odds along it; nothing where the weight is zero or not finite.

    Parameters
    ----------
    site : Site
    weight : array of shape (dim,)
        In the raw basis.
    intercept : float
    x : array of shape (clips, dim)
        The activations it was fitted on.
    hit : bool array of shape (clips,), optional
        Which of them are of the positive class; nothing for a graded trait.
    odds : bool
        Whether weight and intercept are log odds (or predict a number) already. Those of ridge and mean difference are
        not: norm and intercept then become the log odds along the direction, for two normal classes of equal spread.
    info, **fields
        Fields of :class:`Direction`; the length of the weight is noted as ``weight_norm``.
    """
    length = float(np.linalg.norm(weight))
    if length == 0 or not math.isfinite(length):
        return None  # constant activations: nothing to point along
    vector = np.asarray(weight / length, dtype=np.float64)
    along = x.astype(np.float64) @ vector
    norm, offset = (length, intercept) if odds or hit is None else _logit_along(along, hit)
    return Direction(
        site=site,
        vector=vector,
        sigma=float(along.std(ddof=1)),
        norm=norm,
        intercept=offset,
        info={**info, "weight_norm": length},
        **fields,
    )


def _logit_along(along: Array, positive: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and intercept of the log odds along a direction, for two normal classes of equal spread."""
    one, zero = along[positive], along[~positive]
    within = (one.var() * len(one) + zero.var() * len(zero)) / max(len(along) - 2, 1)
    gap = one.mean() - zero.mean()
    tiny = np.finfo(float).tiny
    if gap <= 0:  # a direction that does not separate its own training clips: no odds to speak of
        return 1e-12, float(np.log(len(one) / len(zero)))
    slope = gap / max(within, gap**2 * 1e-6, tiny)
    return float(slope), float(np.log(len(one) / len(zero)) - slope * (one.mean() + zero.mean()) / 2)
