"""A mechanistic-interpretability toolkit for MusicGen: trace, probe, compare directions, steer, judge.

The common names are here, and imported when they are first used, so that ``import interp`` stays quick::

    model = interp.load("tiny")
    clips = interp.Clips.from_folder("my_clips")
    ds = interp.extract(model, clips, sites="heads, resid")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interp.activations import extract, features, labels, open_store, stack
    from interp.clips import Clip, Clips
    from interp.directions import Direction, Directions
    from interp.model import MusicGen, load
    from interp.sites import Site, select_sites

__all__ = [
    "Clip",
    "Clips",
    "Direction",
    "Directions",
    "MusicGen",
    "Site",
    "extract",
    "features",
    "labels",
    "load",
    "open_store",
    "select_sites",
    "stack",
]

_HOMES = {
    "activations": ("extract", "features", "labels", "open_store", "stack"),
    "clips": ("Clip", "Clips"),
    "directions": ("Direction", "Directions"),
    "model": ("MusicGen", "load"),
    "sites": ("Site", "select_sites"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"interp.{module}"), name)
    raise AttributeError(f"module 'interp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
