"""Keep the projection on a direction within bounds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from interp.directions import Direction, Directions
from interp.errors import InterventionError
from interp.steering._registry import register
from interp.steering.interventions._directions import as_directions, names_of
from interp.steering.interventions.base import Intervention, Parameters

__all__ = ["Clamp"]


@register
@dataclass(frozen=True)
class Clamp(Intervention):
    """Keep the projection on a direction within ``[low, high]``; equal bounds set it.

    Parameters
    ----------
    directions : Directions, Direction or iterable of Direction
        At most one for each site.
    low, high : float, optional
        Bounds; ``None`` leaves that side open.
    units : {"raw", "logit"}
        Whether bounds are projections ``h @ vector`` or logits of the direction's probe.

    Raises
    ------
    InterventionError
        If there is no bound, they are in the wrong order, or logits are asked of a direction without intercept.

    Examples
    --------
    >>> from interp import Direction
    >>> loud = Direction.from_weight("L1.resid", [2.0, 0.0], intercept=1.0)
    >>> Clamp(loud, low=3.0, units="logit").bounds(loud)
    (1.0, inf)
    """

    directions: Directions
    low: float | None = None
    high: float | None = None
    units: Literal["raw", "logit"] = "raw"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "directions", as_directions(self.directions, "Clamp", unique=True))
        low, high = self._open()
        if low == -math.inf and high == math.inf:
            raise InterventionError("Clamp needs a lower bound, an upper bound, or both.")
        if not low <= high or low == math.inf or high == -math.inf:
            raise InterventionError(f"Clamp cannot keep anything between {self.low} and {self.high}: order the bounds.")
        if self.units not in ("raw", "logit"):
            raise InterventionError(f"Clamp has no units {self.units!r}: use 'raw' or 'logit'.")
        if self.units == "logit":
            for item in self.directions:
                if math.isnan(item.intercept):
                    raise InterventionError(
                        f"{item} has no intercept, so Clamp cannot work in logits: use units='raw'."
                    )

    def _open(self) -> tuple[float, float]:
        """Bounds with infinity for open sides."""
        return (
            -math.inf if self.low is None else float(self.low),
            math.inf if self.high is None else float(self.high),
        )

    def bounds(self, item: Direction) -> tuple[float, float]:
        """Bounds of the projection on one direction, in raw units."""
        low, high = self._open()
        if self.units == "raw":
            return low, high
        return (low - item.intercept) / item.norm, (high - item.intercept) / item.norm

    def parameters(self) -> Parameters:
        """``v`` ``[dim]``, ``low`` and ``high`` at each site."""
        return {
            item.site: {"v": item.vector, "low": self.bounds(item)[0], "high": self.bounds(item)[1]}
            for item in self.directions
        }

    @staticmethod
    def edit(h: Tensor, factor: Tensor, p: Mapping[str, Tensor]) -> Tensor:
        at = (h * p["v"]).sum(-1, keepdim=True)
        return h + factor * (at.maximum(p["low"]).minimum(p["high"]) - at) * p["v"]

    def what(self) -> str:
        low, high = self._open()
        return f"clamp {names_of(self.directions)} to [{low:g}, {high:g}] ({self.units})"
