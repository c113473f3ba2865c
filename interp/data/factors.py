"""The factors that rendered music is composed from: what can be varied, and what the labels may say.

A score is drawn from independent factors (:class:`Factors`), so that no trait gives another away: every genre is
played by every lead instrument, with and without drums and bass, in both modes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from interp.errors import DataError

__all__ = ["GENRES", "INSTRUMENTS", "MODES", "TEMPO_RANGE", "Factors", "Mix", "draw_factors"]

#: Lead instruments: family -> General MIDI programs (counted from 0).
INSTRUMENTS: dict[str, tuple[int, ...]] = {
    "piano": (0, 1, 2),
    "guitar": (24, 25, 27),
    "strings": (40, 41, 42, 48),
    "brass": (56, 57, 60, 61),
    "flute": (72, 73, 74, 75),
    "organ": (16, 17, 19),
}
GENRES: tuple[str, ...] = ("classical", "rock", "jazz", "electronic")
MODES: tuple[str, ...] = ("major", "minor")
#: Beats per minute, lowest and highest, by genre: overlapping, so tempo alone does not tell the genre.
TEMPO_RANGE: dict[str, tuple[float, float]] = {
    "classical": (72.0, 128.0),
    "rock": (88.0, 152.0),
    "jazz": (84.0, 152.0),
    "electronic": (100.0, 144.0),
}

Mix = Literal["realistic", "hard"]


@dataclass(frozen=True)
class Factors:
    """What one clip is made of. Every field can be fixed in :func:`interp.data.render_clips`.

    Attributes
    ----------
    genre, instrument, mode : str
        One of :data:`GENRES`, a key of :data:`INSTRUMENTS`, one of :data:`MODES`.
    program : int
        General MIDI program of the lead, from 0; one of the instrument's presets.
    drums, bass : bool
        Whether there is a drum kit, a bass line.
    tempo : float
        Beats per minute.
    key : int
        Pitch class of the tonic, 0 to 11.
    busy : float
        How densely the lead plays, 0 to 1.
    octave : int
        Shift of the lead in octaves, -1 to 1.
    """

    genre: str
    instrument: str
    program: int
    drums: bool
    bass: bool
    tempo: float
    mode: str
    key: int
    busy: float
    octave: int


def _whole(low: int, high: int) -> Callable[[Any], bool]:
    return lambda x: isinstance(x, int | np.integer) and not isinstance(x, bool) and bool(low <= x <= high)


def _real(low: float, high: float) -> Callable[[Any], bool]:
    return lambda x: isinstance(x, int | float | np.number) and not isinstance(x, bool) and bool(low <= x <= high)


_ALLOWED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "program": (_whole(0, 127), "a General MIDI program from 0 to 127"),
    "drums": (lambda x: isinstance(x, bool | np.bool_ | int) and x in (0, 1), "yes or no"),
    "bass": (lambda x: isinstance(x, bool | np.bool_ | int) and x in (0, 1), "yes or no"),
    "tempo": (_real(30, 300), "a number of beats per minute from 30 to 300"),
    "key": (_whole(0, 11), "a pitch class from 0 to 11"),
    "busy": (_real(0, 1), "a number from 0 to 1"),
    "octave": (_whole(-1, 1), "-1, 0 or 1"),
}


def draw_factors(rng: np.random.Generator, fixed: dict[str, Any]) -> Factors:
    """Draw a score's factors independently, keeping those that are fixed.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    fixed : dict
        Field of :class:`Factors` -> value.

    Raises
    ------
    DataError
        If a fixed factor is unknown or has an impossible value.

    Examples
    --------
    >>> draw_factors(np.random.default_rng(0), {"genre": "jazz", "drums": True}).genre
    'jazz'
    """
    unknown = sorted(set(fixed) - {field.name for field in dataclasses.fields(Factors)})
    if unknown:
        known = ", ".join(field.name for field in dataclasses.fields(Factors))
        raise DataError(f"no factor {', '.join(map(repr, unknown))}: the factors are {known}.")
    for name, check in _ALLOWED.items():
        if name in fixed and not check[0](fixed[name]):
            raise DataError(f"{name} cannot be {fixed[name]!r}: it is {check[1]}.")
    for name, allowed in (("genre", GENRES), ("instrument", tuple(INSTRUMENTS)), ("mode", MODES)):
        if name in fixed and fixed[name] not in allowed:
            raise DataError(f"no {name} {fixed[name]!r}: choose one of {', '.join(allowed)}.")
    genre = str(fixed.get("genre", rng.choice(GENRES)))
    instrument = str(fixed.get("instrument", rng.choice(list(INSTRUMENTS))))
    drawn: dict[str, Any] = {
        "genre": genre,
        "instrument": instrument,
        "program": int(rng.choice(INSTRUMENTS[instrument])),
        "drums": bool(rng.random() < 0.5),
        "bass": bool(rng.random() < 0.5),
        "tempo": float(np.round(rng.uniform(*TEMPO_RANGE[genre]))),
        "mode": str(rng.choice(MODES)),
        "key": int(rng.integers(12)),
        "busy": float(rng.random()),
        "octave": int(rng.integers(-1, 2)),
    }
    return Factors(**{**drawn, **fixed})
