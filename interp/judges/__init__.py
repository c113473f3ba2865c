"""Judges: audio in, trait scores out. None of them sees an activation, except one that says so."""

from __future__ import annotations

from interp.judges.accuracy import accuracy_table
from interp.judges.base import Judge, embed, hears, score
from interp.judges.clap import ClapJudge
from interp.judges.distances import fad, fad_difference, kad
from interp.judges.quality import quality
from interp.judges.registry import load, register
from interp.judges.rendered import RenderedJudge
from interp.judges.trained import train

__all__ = [
    "ClapJudge",
    "Judge",
    "RenderedJudge",
    "accuracy_table",
    "embed",
    "fad",
    "fad_difference",
    "hears",
    "kad",
    "load",
    "quality",
    "register",
    "score",
    "train",
]


def __dir__() -> list[str]:
    return __all__
