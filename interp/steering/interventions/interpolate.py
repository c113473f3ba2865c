"""Turn an activation towards a direction, by a share of its own length."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from interp.directions import Directions
from interp.errors import InterventionError
from interp.steering._registry import register
from interp.steering.interventions._directions import as_directions, as_weights, names_of, weighted
from interp.steering.interventions.base import Intervention, Parameters

__all__ = ["Interpolate"]


@register
@dataclass(frozen=True)
class Interpolate(Intervention):
    """Replace h by ``(h + s |h| v) / (1 + s)``: the norm-scaled interpolation of arXiv 2506.10225's code.

    At heads ``|h|`` is the norm of that head's output. The schedule multiplies ``s``; a weight multiplies it per
    direction.

    Parameters
    ----------
    directions : Directions, Direction or iterable of Direction
        At most one for each site.
    strength : float
        ``s``, not negative: turn the direction round with ``flip()`` instead.
    weights : sequence of float, optional
        One factor of 0 or more for each direction; all 1 by default.

    Raises
    ------
    InterventionError
        If a number is negative or not finite, or there are several directions at a site.

    Examples
    --------
    >>> import torch
    >>> from interp import Direction
    >>> up = Direction.from_weight("L1.resid", [0.0, 1.0])
    >>> h, factor = torch.tensor([3.0, 4.0]).view(1, 1, 1, 2), torch.ones(1, 1, 1, 1)
    >>> Interpolate.edit(h, factor, {"s": torch.tensor(0.5), "v": torch.tensor(up.vector)}).flatten().tolist()
    [2.0, 4.333333333333333]
    """

    directions: Directions
    strength: float = 0.5
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "directions", as_directions(self.directions, "Interpolate", unique=True))
        object.__setattr__(self, "weights", as_weights(self.weights, len(self.directions)))
        if not (math.isfinite(self.strength) and self.strength >= 0):
            raise InterventionError(
                f"Interpolate cannot have strength {self.strength}: give a finite number of 0 or more "
                "(flip the direction to push the other way)."
            )
        if self.weights is not None and min(self.weights) < 0:
            raise InterventionError("Interpolate needs weights of 0 or more: flip the direction instead.")

    @property
    def active(self) -> bool:
        return self.strength > 0 and (self.weights is None or any(self.weights))

    def parameters(self) -> Parameters:
        """``s`` and ``v`` ``[dim]`` at each site."""
        weights = self.weights or (1.0,) * len(self.directions)
        return {
            item.site: {"s": self.strength * weight, "v": item.vector}
            for item, weight in zip(self.directions, weights, strict=True)
        }

    @staticmethod
    def edit(h: Tensor, factor: Tensor, p: Mapping[str, Tensor]) -> Tensor:
        s = factor * p["s"]
        return (h + s * h.norm(dim=-1, keepdim=True) * p["v"]) / (1 + s)

    def what(self) -> str:
        return f"interpolate towards {names_of(self.directions)} by {self.strength:g} |h|{weighted(self.weights)}"
