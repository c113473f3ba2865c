"""The small MusicGen that ships with the package: audiocraft's classes, trained on rendered music.

:func:`load` gives it, :func:`export` turns a training folder of :mod:`interp.recipes.lm` into the shipped files,
:func:`card` says what it is and what it can do.
"""

from __future__ import annotations

from interp.testbed.shipped import card, load

__all__ = ["card", "load"]


def __dir__() -> list[str]:
    return __all__
