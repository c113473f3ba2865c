"""Take something away: a direction, all that is linear about a concept, or what a site says at all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from interp.directions import Direction, Directions
from interp.errors import InterventionError
from interp.sites import Site
from interp.steering._registry import register
from interp.steering.interventions._directions import as_directions, names_of
from interp.steering.interventions.base import Intervention, Parameters
from interp.steering.interventions.values import SiteValues, site_values

__all__ = ["Ablate"]

_NEEDS = {"project": "directions", "leace": "erasers", "zero": "at", "mean": "bank", "resample": "bank"}


@register
@dataclass(frozen=True)
class Ablate(Intervention):
    """Take something away.

    Build it with :meth:`project` (the component along directions), :meth:`leace` (erasers of :func:`fit_leace`),
    :meth:`zero`, :meth:`mean` (the mean of a bank of activations in place of the site's) or :meth:`resample` (one
    of the bank's at random, drawn anew at each step from the row's seed).

    Raises
    ------
    InterventionError
        If a way is unknown, or is given something else than what it needs.

    Examples
    --------
    >>> Ablate.zero(["L3.H2", "L1.mlp"]).describe()
    'zero-ablate at L1.mlp, L3.H2; conditional and unconditional rows, generated positions, every step'
    """

    how: Literal["project", "leace", "zero", "mean", "resample"]
    directions: Directions | None = None
    erasers: tuple[Any, ...] = ()
    at: tuple[Site, ...] = ()
    bank: tuple[SiteValues, ...] = ()

    tables: ClassVar[tuple[str, ...]] = ("value",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.how not in _NEEDS:
            raise InterventionError(f"Ablate has no way {self.how!r}: use one of {', '.join(_NEEDS)}.")
        if self.directions is not None:  # several classes of a trait span what is to be taken away: no mixture here
            object.__setattr__(self, "directions", as_directions(self.directions, "Ablate", mixture=True))
        object.__setattr__(self, "at", tuple(Site.parse(site) for site in self.at))
        object.__setattr__(self, "bank", site_values(self.bank))
        object.__setattr__(self, "erasers", tuple(self.erasers))
        names = {name for name in ("directions", "erasers", "at", "bank") if getattr(self, name)}
        if names != {_NEEDS[self.how]}:
            raise InterventionError(
                f"Ablate {self.how} needs {_NEEDS[self.how]} and nothing else; given: {names or 'none'}."
            )

    @classmethod
    def project(cls, directions: Directions | Iterable[Direction] | Direction, **fields: Any) -> Ablate:
        """Project the directions out: ``h - V V^T h``, V an orthonormal basis of those at the site."""
        return cls("project", directions=as_directions(directions, "Ablate", mixture=True), **fields)

    @classmethod
    def leace(cls, erasers: Iterable[Any], **fields: Any) -> Ablate:
        """Erase all that is linear about a concept (LEACE, arXiv 2306.03819)."""
        return cls("leace", erasers=tuple(erasers), **fields)

    @classmethod
    def zero(cls, sites: Iterable[Site | str], **fields: Any) -> Ablate:
        """Put zeros in place of the sites' activations."""
        sites = [sites] if isinstance(sites, str | Site) else sites
        return cls("zero", at=tuple(Site.parse(site) for site in sites), **fields)

    @classmethod
    def mean(cls, bank: Mapping[Site | str, ArrayLike], **fields: Any) -> Ablate:
        """Put the mean of a bank ``{site: [n, dim]}`` in place of each site's activation."""
        return cls("mean", bank=site_values(bank), **fields)

    @classmethod
    def resample(cls, bank: Mapping[Site | str, ArrayLike], **fields: Any) -> Ablate:
        """Put a random member of the bank ``{site: [n, dim]}`` in place, the same draw at all sites of one step."""
        return cls("resample", bank=site_values(bank), **fields)

    def pick(self, step: NDArray[np.int64], n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        return np.zeros_like(step) if n == 1 else (rng.random(len(step)) * n).astype(np.int64)

    def parameters(self) -> Parameters:
        """``mean``, ``left`` and ``right`` of a linear eraser, or ``value`` ``[n, dim]``, at each site."""
        if self.how == "leace":
            return {e.site: {"mean": e.mean, "left": e.left, "right": e.right} for e in self.erasers}
        if self.how == "project":
            return self._projections()
        if self.how == "zero":
            return {site: {"value": np.zeros((1, 1))} for site in self.at}
        mean = self.how == "mean"
        return {s.site: {"value": s.values.mean(0, keepdims=True) if mean else s.values} for s in self.bank}

    def _projections(self) -> Parameters:
        vectors: dict[Site, list[NDArray[Any]]] = defaultdict(list)
        for item in self.directions or ():
            vectors[item.site].append(item.vector)
        parameters = {}
        for site, columns in vectors.items():
            u, s, _ = np.linalg.svd(np.stack(columns, 1), full_matrices=False)
            basis = u[:, s > 1e-9]
            parameters[site] = {"mean": np.zeros(len(basis)), "left": basis, "right": basis.T}
        return parameters

    @staticmethod
    def edit(h: Tensor, factor: Tensor, p: Mapping[str, Tensor]) -> Tensor:
        if "value" in p:
            return torch.lerp(h, p["value"], factor)  # exactly the value where the factor is 1
        read = p["right"] @ (h - p["mean"])[..., None]
        return h - factor * (p["left"] @ read)[..., 0]

    def what(self) -> str:
        if self.how == "project":
            return f"project out {names_of(self.directions or ())}"
        return "erase (LEACE)" if self.how == "leace" else f"{self.how}-ablate"
