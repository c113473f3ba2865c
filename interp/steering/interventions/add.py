"""Add a multiple of a direction."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from interp.directions import Directions
from interp.errors import InterventionError
from interp.sites import Site
from interp.steering._registry import register
from interp.steering.interventions._directions import as_directions, as_weights, names_of, need_sigma, weighted
from interp.steering.interventions.base import Intervention, Parameters

__all__ = ["Add"]


@register
@dataclass(frozen=True)
class Add(Intervention):
    """Add ``strength * weight * vector`` (raw units) or ``dose * weight * sigma * vector`` (ITI, arXiv 2306.03341).

    Parameters
    ----------
    directions : Directions, Direction or iterable of Direction
        One displacement for each; several at one site add up.
    strength : float, optional
        Length of the displacement in raw units.
    dose : float, optional
        Length in standard deviations of the training activations along the direction (ITI's and SMITIN's alpha).
        Exactly one of ``strength`` and ``dose`` is given.
    weights : sequence of float, optional
        One factor for each direction, for example :func:`soft_weights`; all 1 by default.
    mixture : bool
        Allow directions of several classes of one trait, or of several methods at one site, in one push.

    Raises
    ------
    InterventionError
        If both or none of ``strength`` and ``dose`` are given, a number is not finite, a dose is asked of a direction
        without sigma, or the directions are a mixture that was not asked for.

    Examples
    --------
    >>> from interp import Direction
    >>> piano = Direction.from_weight("L1.H2", [3.0, 4.0], sigma=0.5, trait="instrument", positive="piano")
    >>> push = Add(piano, dose=2.0)
    >>> {str(site): values["shift"].round(6).tolist() for site, values in push.parameters().items()}
    {'L1.H2': [0.6, 0.8]}
    """

    directions: Directions
    strength: float | None = None
    dose: float | None = None
    weights: tuple[float, ...] | None = None
    mixture: bool = False

    additive: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "directions", as_directions(self.directions, "Add", mixture=self.mixture))
        object.__setattr__(self, "weights", as_weights(self.weights, len(self.directions)))
        if (self.strength is None) == (self.dose is None):
            raise InterventionError(
                "Add needs either a strength (raw units) or a dose (in sigma), one of the two and not both."
            )
        amount = self.strength if self.dose is None else self.dose
        if not math.isfinite(cast(float, amount)):
            raise InterventionError(f"Add cannot push by {amount}: give a finite strength or dose.")
        if self.dose is not None:
            need_sigma(self.directions, f"a dose of {self.dose:g}")

    @property
    def active(self) -> bool:
        return bool(self.strength or self.dose) and (self.weights is None or any(self.weights))

    def parameters(self) -> Parameters:
        """``shift`` ``[dim]`` at each site, at full schedule, in raw units."""
        shifts: dict[Site, NDArray[Any]] = {}
        for item, weight in zip(self.directions, self.weights or (1.0,) * len(self.directions), strict=True):
            length = self.strength if self.dose is None else self.dose * item.sigma
            shifts[item.site] = shifts.get(item.site, np.zeros(item.dim)) + cast(float, length) * weight * item.vector
        return {site: {"shift": shift} for site, shift in shifts.items()}

    @staticmethod
    def edit(h: Tensor, factor: Tensor, p: Mapping[str, Tensor]) -> Tensor:
        return h + factor * p["shift"]

    def what(self) -> str:
        amount = f"strength {self.strength:g} (raw)" if self.dose is None else f"{self.dose:g} sigma"
        return f"add {names_of(self.directions)} by {amount}{weighted(self.weights)}"
