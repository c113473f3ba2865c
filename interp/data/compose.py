"""Composition: factors in, notes out. Each genre has its own rhythm, harmony and instrumentation rules.

========== ===================== ============================== =========================== ====================
genre      harmony               accompaniment                  bass                        drums
========== ===================== ============================== =========================== ====================
classical  I IV V I, triads      harp or pizzicato, Alberti     bowed, half notes           snare roll, timpani
rock       I V vi IV, fifths     overdriven guitar, eighths     picked, root eighths        back beat
jazz       ii V I vi, sevenths   vibraphone or electric piano,  upright, walking quarters   swung ride
                                 off-beat chords, swung
electronic i VI III VII, triads  sawtooth, sixteenth arpeggio   synth, off-beat eighths     four on the floor
========== ===================== ============================== =========================== ====================

The rules are this project's own simplifications; they make genres that an audio-only classifier can tell apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from interp.data.factors import Factors

__all__ = ["DRUM_CHANNEL", "Note", "compose"]

DRUM_CHANNEL = 9
_LEAD, _COMP, _BASS, _DOUBLE = 0, 1, 2, 3
_SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
_DEGREES = {  # scale degrees, from 0, one chord every two beats
    "classical": ((0, 3, 4, 0), (0, 5, 3, 4), (0, 4, 0, 3)),
    "rock": ((0, 4, 5, 3), (0, 6, 3, 0), (5, 3, 0, 4)),
    "jazz": ((1, 4, 0, 5), (0, 5, 1, 4), (2, 5, 1, 4)),
    "electronic": ((0, 5, 2, 6), (0, 0, 5, 6), (5, 6, 0, 0)),
}
_COMP_PROGRAMS = {"classical": (46, 45), "rock": (29, 30), "jazz": (11, 4), "electronic": (81, 90)}
_BASS_PROGRAMS = {"classical": (43,), "rock": (34, 33), "jazz": (32,), "electronic": (38, 39)}
_LEAD_CENTRE = {"piano": 67, "guitar": 62, "strings": 67, "brass": 64, "flute": 76, "organ": 66}
_SWING = 2 / 3  # where the off-beat eighth of jazz falls within its beat
_KICK, _SNARE, _CLAP, _HAT, _PEDAL, _OPEN_HAT, _RIDE, _CRASH, _TOM = 36, 38, 39, 42, 44, 46, 51, 49, 41


@dataclass(frozen=True)
class Note:
    """One note: channel, MIDI program and key, start and end in seconds, velocity 1 to 127."""

    channel: int
    program: int
    key: int
    start: float
    end: float
    velocity: int


class _Score:
    """Collects notes written in beats (quarter notes) and places them in seconds."""

    def __init__(self, factors: Factors, rng: np.random.Generator) -> None:
        self.beat = 60.0 / factors.tempo
        self.swing = factors.genre == "jazz"
        self.rng = rng
        self.notes: list[Note] = []

    def _seconds(self, beat: float) -> float:
        whole, part = divmod(beat, 1.0)
        if self.swing and part > 0:
            part = part * 2 * _SWING if part < 0.5 else _SWING + (part - 0.5) * 2 * (1 - _SWING)
        return (whole + part) * self.beat

    def add(self, channel: int, program: int, key: int, beat: float, length: float, velocity: float) -> None:
        start, end = self._seconds(beat), self._seconds(beat + length)
        loud = int(np.clip(velocity + self.rng.normal(0, 3), 1, 127))
        self.notes.append(Note(channel, program, int(np.clip(key, 21, 108)), start, end, loud))


def compose(
    factors: Factors, seconds: float, rng: np.random.Generator, drum_velocity: float, double: int | None
) -> list[Note]:
    """Write the notes of one piece.

    Parameters
    ----------
    factors : Factors
        What the piece is made of.
    seconds : float
        Length to fill; notes may ring on past it.
    rng : numpy.random.Generator
        Decides melody and variation.
    drum_velocity : float
        Loudness of the drum kit, MIDI velocity.
    double : int or None
        General MIDI program that softly doubles the lead, if any.

    Returns
    -------
    list of Note
        In no particular order, starting at 0 s.
    """
    score = _Score(factors, rng)
    n_beats = int(np.ceil(seconds / score.beat)) + 1
    n_beats += n_beats % 2
    genre = factors.genre
    degrees = _DEGREES[genre][int(rng.integers(len(_DEGREES[genre])))]
    chords = [degrees[(beat // 2) % len(degrees)] for beat in range(n_beats)]
    _lead(score, factors, chords, double)
    _accompany(score, factors, chords)
    if factors.bass:
        _bass(score, factors, chords)
    if factors.drums:
        _drums(score, genre, n_beats, drum_velocity)
    return score.notes


def _pitch(factors: Factors, degree: int, near: int) -> int:
    """MIDI key of a scale degree (any integer), in the octave nearest to ``near``."""
    scale = _SCALES[factors.mode]
    octave, step = divmod(degree, 7)
    pitch = factors.key + scale[step] + 12 * octave
    return pitch + 12 * round((near - pitch) / 12) if octave == 0 else pitch


def _chord(factors: Factors, degree: int, near: int, size: int) -> list[int]:
    root = _pitch(factors, degree, near)
    scale = _SCALES[factors.mode]
    steps = [scale[(degree + 2 * i) % 7] + 12 * ((degree + 2 * i) // 7) for i in range(size)]
    return [root + step - steps[0] for step in steps]


def _lead(score: _Score, factors: Factors, chords: list[int], double: int | None) -> None:
    rng = score.rng
    centre = _LEAD_CENTRE[factors.instrument] + 7 * factors.octave
    base = _pitch(factors, 0, centre)
    scale = _SCALES[factors.mode]
    grid = 0.25 if factors.genre == "electronic" and factors.busy > 0.5 else 0.5
    # a motif of two beats that repeats with the chords: music is made of repetition
    cells = int(2 / grid)
    onset = rng.random(cells) < 0.25 + 0.6 * factors.busy
    onset[0] = True
    contour = np.cumsum(rng.integers(-1, 2, cells) if factors.genre == "classical" else rng.integers(-2, 3, cells))
    starts = np.flatnonzero(onset)
    lengths = np.diff(np.append(starts, cells)) * grid
    staccato = {"rock": 0.9, "jazz": 0.85, "electronic": 0.7, "classical": 1.0}[factors.genre]
    for beat in range(0, len(chords), 2):
        for start, length in zip(starts, lengths, strict=True):
            degree = chords[beat] + 2 * int(rng.integers(0, 3)) if start == 0 else chords[beat] + int(contour[start])
            octave, step = divmod(degree, 7)
            key = base + scale[step] + 12 * (octave if abs(octave) < 2 else 0)
            key -= 12 * round((key - centre) / 24)  # stay within an octave of the centre
            when = beat + start * grid
            score.add(_LEAD, factors.program, key, when, length * staccato, 100)
            if double is not None:
                score.add(_DOUBLE, double, key, when, length * staccato, 52)


def _accompany(score: _Score, factors: Factors, chords: list[int]) -> None:
    rng = score.rng
    programs = _COMP_PROGRAMS[factors.genre]
    program = programs[int(rng.integers(len(programs)))]
    for beat, degree in enumerate(chords):
        if factors.genre == "classical":
            low, mid, high = _chord(factors, degree, 55, 3)
            for half, key in enumerate((low, high, mid, high)[2 * (beat % 2) :][:2]):
                score.add(_COMP, program, key, beat + half / 2, 0.5, 72)
        elif factors.genre == "rock":
            root = _pitch(factors, degree, 45)
            for i in (0.0, 0.5):
                for key in (root, root + 7, root + 12):
                    score.add(_COMP, program, key, beat + i, 0.42, 64 if i else 72)
        elif factors.genre == "jazz":
            where = 0.5 if beat % 2 == 0 else 0.0
            for key in _chord(factors, degree, 58, 4)[1:]:
                score.add(_COMP, program, key, beat + where, 0.4, 72)
        else:
            keys = _chord(factors, degree, 60, 3)
            for sixteenth, key in enumerate((keys[0], keys[1], keys[2], keys[0] + 12)):
                score.add(_COMP, program, key, beat + sixteenth / 4, 0.22, 58)


def _bass(score: _Score, factors: Factors, chords: list[int]) -> None:
    rng = score.rng
    programs = _BASS_PROGRAMS[factors.genre]
    program = programs[int(rng.integers(len(programs)))]
    for beat, degree in enumerate(chords):
        root = _pitch(factors, degree, 38)
        if factors.genre == "classical":
            if beat % 2 == 0:
                score.add(_BASS, program, root, beat, 1.9, 88)
        elif factors.genre == "rock":
            for i in (0.0, 0.5):
                score.add(_BASS, program, root, beat + i, 0.45, 96)
        elif factors.genre == "jazz":
            step = (0, 7)[beat % 2] if rng.random() < 0.6 else (0, 4)[beat % 2]
            score.add(_BASS, program, root + step, beat, 0.9, 100)
        else:
            score.add(_BASS, program, root, beat + 0.5, 0.4, 96)


def _drums(score: _Score, genre: str, n_beats: int, velocity: float) -> None:
    rng = score.rng

    def hit(key: int, beat: float, loud: float = 1.0) -> None:
        score.add(DRUM_CHANNEL, 0, key, beat, 0.2, velocity * loud)

    fill = bool(rng.random() < 0.5)
    for beat in range(n_beats):
        odd = beat % 2 == 1
        if genre == "classical":
            hit(_TOM if odd else _KICK, beat)
            for i in (0.0, 0.25, 0.5, 0.75) if odd else (0.0, 0.5):
                hit(_SNARE, beat + i, 0.75)
            if beat % 8 == 0:
                hit(_CRASH, beat, 0.8)
        elif genre == "rock":
            hit(_SNARE if odd else _KICK, beat, 1.1)
            if fill and not odd:
                hit(_KICK, beat + 0.5)
            for i in (0.0, 0.5):
                hit(_HAT, beat + i, 0.85)
        elif genre == "jazz":
            hit(_RIDE, beat)
            if odd:
                hit(_RIDE, beat + 0.5, 0.85)
                hit(_PEDAL, beat, 0.9)
            if fill and beat % 4 == 3:
                hit(_SNARE, beat + 0.5, 0.7)
        else:
            hit(_KICK, beat, 1.15)
            hit(_OPEN_HAT, beat + 0.5, 0.85)
            if odd:
                hit(_CLAP, beat)
            if fill:
                hit(_HAT, beat + 0.25, 0.7)
                hit(_HAT, beat + 0.75, 0.7)
