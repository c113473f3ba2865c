"""Activations that take the place of others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from interp.errors import InterventionError
from interp.sites import Site
from interp.steering._registry import register

__all__ = ["SiteValues", "site_values"]


@register
@dataclass(frozen=True, eq=False)
class SiteValues:
    """Activations of one site to put in place of others: ``values`` of shape ``(n, dim)``, float32.

    Raises
    ------
    InterventionError
        If they have another shape or are not finite.

    Examples
    --------
    >>> SiteValues("L1.H2", [0.5, 0.25]).values.shape
    (1, 2)
    """

    site: Site
    values: NDArray[np.float32]

    def __post_init__(self) -> None:
        object.__setattr__(self, "site", Site.parse(self.site))
        values = np.array(self.values, dtype=np.float32)
        values = values[None] if values.ndim == 1 else values
        if values.ndim != 2 or not values.size or not np.isfinite(values).all():
            raise InterventionError(
                f"values for {self.site} must be finite and of shape (n, dim) with n of 1 or more, "
                f"not {np.shape(self.values)}."
            )
        values.setflags(write=False)
        object.__setattr__(self, "values", values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SiteValues) and self.site == other.site and np.array_equal(self.values, other.values)

    def __hash__(self) -> int:
        return hash((self.site, self.values.tobytes()))


def site_values(values: Mapping[Site | str, ArrayLike] | Iterable[SiteValues]) -> tuple[SiteValues, ...]:
    """Normalise ``{site: values}`` to a sorted tuple, each site once."""
    if isinstance(values, Mapping):
        items = [SiteValues(Site.parse(site), cast(Any, array)) for site, array in values.items()]
    else:
        items = list(values)
    if len({item.site for item in items}) != len(items):
        raise InterventionError("a site is given twice; give values for each site once.")
    return tuple(sorted(items, key=lambda item: item.site))
