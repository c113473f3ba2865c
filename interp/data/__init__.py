"""Labelled music made on the spot (General MIDI compositions from independent factors), and sound files."""

from __future__ import annotations

from interp.data.audio import read_audio, write_audio
from interp.data.factors import GENRES, INSTRUMENTS, Factors
from interp.data.render import render_arrays, render_clips

__all__ = ["GENRES", "INSTRUMENTS", "Factors", "read_audio", "render_arrays", "render_clips", "write_audio"]


def __dir__() -> list[str]:
    return __all__
