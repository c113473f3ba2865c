"""Activation patching: carry one run into another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from interp.errors import InterventionError
from interp.steering._registry import register
from interp.steering.interventions.base import Intervention, Parameters
from interp.steering.interventions.values import SiteValues, site_values

__all__ = ["Swap"]


@register
@dataclass(frozen=True)
class Swap(Intervention):
    """Put activations of another run in place, step by step.

    Parameters
    ----------
    source : mapping of site to array of shape (steps, dim)
        What to put there, from :meth:`Generation.captured` for instance; entry ``i`` goes to the generated step
        ``first + i``; steps outside are left alone.
    first : int
        Step of the first entry; 0 is the first generated position, prompt positions are negative.

    Raises
    ------
    InterventionError
        If there is no site, or values are not finite or of another shape.

    Examples
    --------
    >>> patch = Swap({"L3.H2": [[0.0, 1.0], [2.0, 3.0]]}, first=5)
    >>> patch.span
    (5, 7)
    """

    source: tuple[SiteValues, ...]
    first: int = 0

    tables: ClassVar[tuple[str, ...]] = ("value",)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "source", site_values(self.source))
        if not self.source:
            raise InterventionError("Swap needs activations of another run for at least one site.")

    @property
    def span(self) -> tuple[int, int]:
        return self.first, self.first + max(len(item.values) for item in self.source)

    def pick(self, step: NDArray[np.int64], n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        at = step - self.first
        return np.where((at >= 0) & (at < n), at, -1)

    def parameters(self) -> Parameters:
        """``value`` ``[steps, dim]`` at each site."""
        return {item.site: {"value": item.values} for item in self.source}

    @staticmethod
    def edit(h: Tensor, factor: Tensor, p: Mapping[str, Tensor]) -> Tensor:
        return torch.lerp(h, p["value"], factor)  # exactly the value where the factor is 1

    def what(self) -> str:
        first, stop = self.span
        return f"swap in {stop - first} steps of another run from step {self.first}"
