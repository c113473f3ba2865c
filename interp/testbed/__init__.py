"""The small MusicGen that ships with the package: audiocraft's classes, trained on rendered music.

:func:`load` gives it, :func:`train` makes it again from a seed, :func:`export` turns a training folder into the shipped
files, :func:`card` says what it is and what it can do.
"""

from __future__ import annotations

from interp.testbed.shipped import WEIGHTS, card, export, load

__all__ = ["WEIGHTS", "card", "export", "load", "train"]


def __getattr__(name: str) -> object:
    if name == "train":  # training needs the renderer; loading does not
        from interp.testbed.training import train

        return train
    raise AttributeError(name)
