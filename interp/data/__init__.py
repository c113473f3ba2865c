"""Labelled music made on the spot: General MIDI compositions from independent factors."""

from __future__ import annotations

from interp.data.factors import GENRES, INSTRUMENTS, Factors
from interp.data.render import render_arrays, render_clips

__all__ = ["GENRES", "INSTRUMENTS", "Factors", "render_arrays", "render_clips"]
