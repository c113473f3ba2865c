"""A mechanistic-interpretability toolkit for MusicGen: trace, probe, compare directions, steer, judge.

The common names are here, and imported when they are first used, so that ``import interp`` stays quick; so are the
rooms of the house (``interp.probes``, ``interp.steering``, ...)::

    model = interp.load("tiny")
    clips = interp.Clips.from_folder("my_clips")
    ds = interp.extract(model, clips, sites="heads, resid")
    drums = interp.probes.probe(ds, "drums")
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interp.activations import extract, features, labels, open_store, stack
    from interp.clips import Clips
    from interp.directions import Direction, Directions
    from interp.model import MusicGen, load
    from interp.sites import Site
    from interp.traits import Trait

__all__ = [
    "Clips",
    "Direction",
    "Directions",
    "MusicGen",
    "Site",
    "Trait",
    "extract",
    "features",
    "labels",
    "load",
    "open_store",
    "stack",
]

_HOMES = {
    "activations": ("extract", "features", "labels", "open_store", "stack"),
    "clips": ("Clips",),
    "directions": ("Direction", "Directions"),
    "model": ("MusicGen", "load"),
    "sites": ("Site",),
    "traits": ("Trait",),
}
_ROOMS = frozenset(room.name for room in pkgutil.iter_modules(__path__) if not room.name.startswith("_"))


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"interp.{module}"), name)
    if name in _ROOMS:
        return importlib.import_module(f"interp.{name}")
    raise AttributeError(f"module 'interp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_ROOMS})
