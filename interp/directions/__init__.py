"""Directions: the central noun. A unit vector at a site, how it is found, and its arithmetic.

:class:`Direction` and :class:`Directions` hold and save them; :func:`combine`, :func:`orthogonalise`,
:func:`project_out` and :func:`random_like` reckon with them; :func:`fit_directions` finds them in a dataset of
activations and :func:`fit` in plain arrays, by any of :func:`methods`, to which :func:`method` adds one of your own.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from interp.directions.algebra import combine, orthogonalise, project_out, random_like
from interp.directions.collection import Directions
from interp.directions.direction import Direction
from interp.directions.erasure import fit_leace

if TYPE_CHECKING:
    from interp.directions.dataset import fit_directions
    from interp.directions.fitting import fit
    from interp.directions.registry import method, methods

_LATER = {
    "fit": "fitting",
    "fit_directions": "dataset",
    "method": "registry",
    "methods": "registry",
}
"""What needs torch is imported when it is asked for."""

__all__ = [
    "Direction",
    "Directions",
    "combine",
    "fit",
    "fit_directions",
    "fit_leace",
    "method",
    "methods",
    "orthogonalise",
    "project_out",
    "random_like",
]


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(importlib.import_module(f"interp.directions.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
