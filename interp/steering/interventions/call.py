"""A Python function at a few sites, for a notebook."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from interp.errors import InterventionError
from interp.sites import Site
from interp.steering.interventions.base import Intervention, Parameters

__all__ = ["Call"]


@dataclass(frozen=True)
class Call(Intervention):
    """Call a function with the activation of each site, and put in place what it returns.

    Parameters
    ----------
    at : Site, str or iterable of these
        Where: ``"L3.resid"``, ``"L3.H2, L4.H0"``.
    fn : callable
        ``fn(h) -> h``: float32 ``[rows, steps, dim]`` of one site, of the rows that carry this very intervention
        (under guidance conditional ones first). It may change ``h`` in place, and return None then. Rows must not mix,
        or a row's music depends on its neighbours. Between no edit and this one, the schedule interpolates.

    Raises
    ------
    InterventionError
        If there is no site or ``fn`` cannot be called; when it runs, if it returns another shape.

    Examples
    --------
    >>> half = Call("L3.resid", lambda h: h / 2)
    >>> half.describe()
    'call <lambda> at L3.resid; conditional and unconditional rows, generated positions, every step'
    """

    at: tuple[Site, ...]
    fn: Callable[[Tensor], Tensor | None]

    own: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        sites: Iterable[Site | str] = [self.at] if isinstance(self.at, str | Site) else self.at
        parts = [part for site in sites for part in (site.split(",") if isinstance(site, str) else [site])]
        object.__setattr__(self, "at", tuple(sorted({Site.parse(part) for part in parts})))
        if not self.at or not callable(self.fn):
            raise InterventionError("Call needs a site and a function, as in Call('L3.resid', lambda h: h / 2).")

    @property
    def family(self) -> Hashable:
        return type(self), self

    def parameters(self) -> Parameters:
        """None: the function is all there is to know."""
        return {site: {} for site in self.at}

    def edit(self, h: Tensor, factor: Tensor, p: Mapping[str, Tensor]) -> Tensor:
        edited = []
        for group in h.unbind(2):
            changed = group.clone()
            result = self.fn(changed)
            changed = changed if result is None else torch.as_tensor(result)
            if changed.shape != group.shape:
                raise InterventionError(
                    f"{self.what()} must return [rows, steps, dim], {tuple(group.shape)}, not {tuple(changed.shape)}."
                )
            edited.append(changed)
        return torch.lerp(h, torch.stack(edited, 2).to(h.dtype), factor)

    def what(self) -> str:
        return f"call {getattr(self.fn, '__name__', type(self.fn).__name__)}"
