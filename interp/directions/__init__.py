"""Directions: the central noun. A unit vector at a site, how it is found, and its arithmetic.

:class:`Direction` and :class:`Directions` hold and save them; :func:`combine`, :func:`orthogonalise`,
:func:`project_out` and :func:`random_like` reckon with them; :func:`fit_many` finds them at many sites at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from interp.directions.algebra import combine, orthogonalise, project_out, random_like, same_space
from interp.directions.collection import Directions
from interp.directions.direction import Direction
from interp.directions.erasure import Eraser, fit_leace

if TYPE_CHECKING:
    from interp.directions.fit import Fits, fit_many

_LATER = {"Fits": "fit", "fit_many": "fit"}
"""What needs torch is imported when it is asked for."""

__all__ = [
    "Direction",
    "Directions",
    "Eraser",
    "Fits",
    "combine",
    "fit_leace",
    "fit_many",
    "orthogonalise",
    "project_out",
    "random_like",
    "same_space",
]


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(importlib.import_module(f"interp.directions.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
