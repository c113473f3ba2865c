"""Labelled music made on the spot (General MIDI compositions from independent factors), and sound files."""

from __future__ import annotations

from interp.data.factors import Factors
from interp.data.render import render_arrays, render_clips

__all__ = ["Factors", "render_arrays", "render_clips"]


def __dir__() -> list[str]:
    return __all__
