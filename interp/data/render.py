"""Rendering: notes to sound through a General MIDI sound font, and the labelled clips made this way.

The sound font is TimGM6mb, which ``pretty_midi`` carries; ``tinysoundfont`` plays it without an audio device.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from interp.data.compose import DRUM_CHANNEL, Note, compose
from interp.data.factors import INSTRUMENTS, Factors, Mix, draw_factors
from interp.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

    from interp.clips import Clips

__all__ = ["SAMPLE_RATE", "render_arrays", "render_audio", "render_clips", "render_notes"]

SAMPLE_RATE = 16_000
_DRUM_VELOCITY: dict[Mix, tuple[float, float]] = {"realistic": (50.0, 100.0), "hard": (26.0, 60.0)}
_DOUBLED: dict[Mix, float] = {"realistic": 0.08, "hard": 0.35}
_TARGET_RMS = 0.08
_LONGEST = 600.0


@functools.cache
def _synth(font: Path | None) -> tuple[Any, int]:
    """One synthesizer a font and process: loading the sound font takes longer than rendering a clip."""
    import pretty_midi
    import tinysoundfont

    path = Path(pretty_midi.__file__).parent / "TimGM6mb.sf2" if font is None else font
    if not path.is_file():
        raise DataError(f"no sound font at {path}: give the path of an .sf2 or .sf3 file.")
    synth = tinysoundfont.Synth(gain=-8.0, samplerate=SAMPLE_RATE)
    return synth, synth.sfload(str(path))


def render_notes(notes: list[Note], seconds: float, font: Path | None = None) -> npt.NDArray[np.float32]:
    """Play notes.

    Parameters
    ----------
    notes : list of Note
        What to play; what rings on past ``seconds`` is cut.
    seconds : float
        Length of the sound.
    font : Path, optional
        General MIDI sound font; TimGM6mb by default.

    Returns
    -------
    ndarray of float32, shape (samples,)
        Mono, :data:`SAMPLE_RATE` Hz, not normalised.
    """
    synth, loaded = _synth(font)
    synth.sounds_off()
    synth.generate(SAMPLE_RATE // 20)  # let cut voices end: which slot a note takes decides the last bit of the sum
    for channel, program in {(note.channel, note.program) for note in notes}:
        if channel == DRUM_CHANNEL:
            synth.program_select(channel, loaded, 128, 0, True)
        else:
            synth.program_select(channel, loaded, 0, program)
    n_samples = round(seconds * SAMPLE_RATE)
    events: list[tuple[int, int, Note]] = []
    for note in notes:
        events.append((round(note.start * SAMPLE_RATE), 1, note))
        events.append((round(note.end * SAMPLE_RATE), 0, note))  # at one instant, ends sort before starts
    events.sort(key=lambda event: (event[0], event[1], event[2].channel, event[2].key))
    stereo = np.zeros((n_samples, 2), np.float32)
    at = 0
    for when, on, note in events:
        if when >= n_samples:
            break
        if when > at:
            stereo[at:when] = np.frombuffer(synth.generate(when - at), np.float32).reshape(-1, 2)
            at = when
        if on:
            synth.noteon(note.channel, note.key, note.velocity)
        else:
            synth.noteoff(note.channel, note.key)
    stereo[at:] = np.frombuffer(synth.generate(n_samples - at), np.float32).reshape(-1, 2)
    mono: npt.NDArray[np.float32] = stereo.mean(axis=1)
    return mono


def _reverb(audio: npt.NDArray[np.float32], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Add the tail of a small synthetic room: exponentially decaying noise."""
    from scipy.signal import fftconvolve

    decay = rng.uniform(0.1, 0.4)
    time = np.arange(int(decay * 1.5 * SAMPLE_RATE)) / SAMPLE_RATE
    tail = rng.standard_normal(len(time)) * np.exp(-6.9 * time / decay)
    tail /= np.sqrt(np.sum(tail**2))
    wet = fftconvolve(audio, tail)[: len(audio)]
    return (audio + rng.uniform(0.05, 0.3) * wet).astype(np.float32)


def render_audio(
    factors: Factors,
    seconds: float,
    rng: np.random.Generator,
    mix: Mix = "realistic",
    skip: float = 0.0,
    font: Path | None = None,
) -> tuple[npt.NDArray[np.float32], list[Note]]:
    """Compose and play one clip.

    Parameters
    ----------
    factors : Factors
        What the clip is made of.
    seconds : float
        Length of the clip.
    rng : numpy.random.Generator
        Decides the melody, the room and the levels.
    mix : {"realistic", "hard"}
        ``hard`` has quieter drums and more doubled leads.
    skip : float
        Seconds of the piece to leave out at its start.
    font : Path, optional
        General MIDI sound font; TimGM6mb by default.

    Returns
    -------
    audio : ndarray of float32, shape (samples,)
        Mono, :data:`SAMPLE_RATE` Hz, loudness near -22 dBFS.
    notes : list of Note
        What was played, times relative to the start of the piece.
    """
    double: int | None = None
    if rng.random() < _DOUBLED[mix]:
        family = str(rng.choice([name for name in INSTRUMENTS if name != factors.instrument]))
        double = int(rng.choice(INSTRUMENTS[family]))
    notes = compose(factors, seconds + skip, rng, rng.uniform(*_DRUM_VELOCITY[mix]), double)
    audio = render_notes(notes, seconds + skip, font)
    if rng.random() < 0.5:
        audio = _reverb(audio, rng)
    audio = audio[round(skip * SAMPLE_RATE) :]
    rms = float(np.sqrt(np.mean(audio**2))) + 1e-9
    gain = _TARGET_RMS / rms * 10 ** (rng.uniform(-3, 3) / 20)
    return np.clip(audio * gain, -1, 1).astype(np.float32), notes


def _labels(factors: Factors, audio: npt.NDArray[np.float32], notes: list[Note], seconds: float) -> dict[str, Any]:
    lead = [note for note in notes if note.channel == 0]
    magnitude = np.abs(np.fft.rfft(audio))
    centroid = float(np.sum(magnitude * np.fft.rfftfreq(len(audio), 1 / SAMPLE_RATE)) / (np.sum(magnitude) + 1e-12))
    return {
        "genre": factors.genre,
        "instrument": factors.instrument,
        "drums": int(factors.drums),
        "bass": int(factors.bass),
        "tempo": factors.tempo,
        "mode": factors.mode,
        "density": len(lead) / seconds,
        "register": float(np.mean([note.key for note in lead])),
        "brightness": centroid,
        "preset": f"{factors.instrument}-{factors.program}",
    }


def render_clips(
    n: int,
    seed: int = 0,
    seconds: float = 4.0,
    factors: dict[str, Any] | None = None,
    mix: Mix = "realistic",
    clips_per_score: int = 2,
    progress: bool = False,
) -> Clips:
    """Render labelled music.

    Clips of one score share genre, instrument, preset, tempo, key and mode; they differ in their melody and in whether
    drums and bass play. The score is the group that must not straddle a split; the column ``preset`` allows to
    hold out the lead's sound instead.

    Parameters
    ----------
    n : int
        Number of clips.
    seed : int
        The same seed gives the same clips, and the first clips of a longer set.
    seconds : float
        Length of each clip.
    factors : dict, optional
        Factors to hold fixed, for example ``{"drums": False, "genre": "jazz"}``.
    mix : {"realistic", "hard"}
        ``hard`` has quieter drums and more doubled leads.
    clips_per_score : int
        Clips rendered from one score.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Clips
        16 kHz mono; labels ``genre``, ``instrument``, ``drums``, ``bass``, ``tempo`` (beats per minute), ``mode``,
        ``density`` (lead notes per second), ``register`` (mean MIDI key of the lead), ``brightness`` (spectral
        centroid, Hz), ``preset``, and ``group`` (the score).

    Raises
    ------
    DataError
        If a factor is unknown or a number is not positive.

    Examples
    --------
    >>> clips = render_clips(2, seconds=0.5, factors={"genre": "jazz", "drums": False})
    >>> clips[0].audio.shape, clips.labels["genre"].tolist()
    ((1, 8000), ['jazz', 'jazz'])
    """
    from interp.clips import Clips

    audio, frame = render_arrays(n, seed, seconds, factors, mix, clips_per_score, progress)
    return Clips.from_arrays(audio, SAMPLE_RATE, frame)


def render_arrays(
    n: int,
    seed: int,
    seconds: float,
    factors: dict[str, Any] | None = None,
    mix: Mix = "realistic",
    clips_per_score: int = 2,
    progress: bool = False,
    font: Path | None = None,
) -> tuple[npt.NDArray[np.float32], pd.DataFrame]:
    """Render as :func:`render_clips` does; return audio ``[clips, 1, samples]`` and the table of labels.

    ``font`` is the path of another General MIDI sound font than TimGM6mb.

    Examples
    --------
    >>> audio, labels = render_arrays(2, seed=0, seconds=0.5, factors={"drums": True})
    >>> audio.shape, labels["drums"].tolist()
    ((2, 1, 8000), [1, 1])
    """
    import pandas as pd
    from tqdm.auto import tqdm

    if n < 1 or not 0 < seconds <= _LONGEST or clips_per_score < 1:
        raise DataError(
            f"rendering needs at least one clip, a length of up to {_LONGEST:g} s and at least one clip a score."
        )
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise DataError(f"a seed is a whole number from 0 on, not {seed!r}.")
    if mix not in _DOUBLED:
        raise DataError(f"there is no mix {mix!r}: it is {' or '.join(_DOUBLED)}.")
    audio = np.empty((n, 1, round(seconds * SAMPLE_RATE)), np.float32)
    rows = []
    for i in tqdm(range(n), desc="render", disable=None if progress else True):
        score, take = divmod(i, clips_per_score)
        drawn = draw_factors(np.random.default_rng([seed, score]), factors or {})
        rng = np.random.default_rng([seed, score, take + 1])
        free = {name: bool(rng.random() < 0.5) for name in ("drums", "bass") if name not in (factors or {})}
        drawn = Factors(**{**drawn.__dict__, **free})
        skip = float(rng.integers(0, 4)) * 60 / drawn.tempo
        audio[i, 0], notes = render_audio(drawn, seconds, rng, mix, skip, font)
        rows.append({**_labels(drawn, audio[i, 0], notes, seconds + skip), "group": f"score-{seed}-{score}"})
    index = pd.Index([f"render-{seed}-{i:05d}" for i in range(n)], name="clip")
    return audio, pd.DataFrame(rows, index=index)
