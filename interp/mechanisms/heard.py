"""What two runs hear: the same music under two texts, or two pieces of music that differ in one thing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from interp._codes import encode_clip
from interp.clips import Clips
from interp.errors import ClipError, DataError
from interp.model import MusicGen, Texts
from interp.pooling import steps_between

__all__ = ["Heard", "check_pairs", "frames_between", "hear", "in_batches", "n_positions", "partners"]

Differs = Literal["text", "music", "both"]


@dataclass(frozen=True)
class Heard:
    """Music and the text it is heard under, a row each; made by :func:`hear`.

    Attributes
    ----------
    codes : Tensor
        Long ``[rows, codebooks, frames]``.
    texts : tuple of str or None
        One a row.
    """

    codes: Tensor
    texts: tuple[str | None, ...]

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def n_frames(self) -> int:
        """Length of every row."""
        return int(self.codes.shape[-1])

    def take(self, rows: Sequence[int]) -> Heard:
        """Some of the rows, in the order given."""
        return Heard(self.codes[list(rows)], tuple(self.texts[i] for i in rows))


def hear(model: MusicGen, music: Tensor | Clips, text: Texts = None, sample_rate: int | None = None) -> Heard:
    """Make what a run hears, of codes, of audio or of clips.

    Parameters
    ----------
    model : MusicGen
    music : Tensor or Clips
        Long codes ``[rows, codebooks, frames]``, float audio ``[rows, channels, samples]``, or clips of one length.
    text : str, None or sequence of them
        One text for all rows, or one each.
    sample_rate : int, optional
        Of audio, in Hz.

    Returns
    -------
    Heard

    Raises
    ------
    ClipError
        If the music has another shape, clips differ in length, or there are not as many texts as rows.
    ModelError
        If the model does not know a text.

    Examples
    --------
    >>> from interp.backends.build import random_musicgen
    >>> model = MusicGen(random_musicgen())
    >>> heard = hear(model, torch.zeros(2, 4, 10, dtype=torch.long), ["jazz", "rock"])
    >>> len(heard), heard.n_frames, heard.take([1]).texts
    (2, 10, ('rock',))
    """
    if isinstance(music, Clips):
        each = [encode_clip(model, clip) for clip in music]
        lengths = sorted({code.shape[-1] for code in each})
        if len(lengths) > 1:
            raise ClipError(
                f"the clips have {lengths[0]} to {lengths[-1]} frames: cut them to one length, so that a position "
                "means the same in all."
            )
        codes = torch.stack(each)
    elif music.is_floating_point():
        if sample_rate is None:
            raise ClipError("say how many samples a second the audio has: sample_rate=44100.")
        wave = music if music.ndim == 3 else music.reshape(-1, 1, music.shape[-1])
        codes = torch.cat([model.encode(row[None], sample_rate) for row in wave])  # a row does not depend on another
    else:
        codes = music
    if codes.ndim != 3 or codes.shape[1] != model.n_codebooks or not codes.shape[-1]:
        raise ClipError(f"music is codes [rows, {model.n_codebooks}, frames], not {list(codes.shape)}.")
    texts = [text] * len(codes) if text is None or isinstance(text, str) else list(text)
    if len(texts) != len(codes):
        raise ClipError(f"there are {len(codes)} rows of music but {len(texts)} texts: give one text, or one a row.")
    for one in dict.fromkeys(texts):
        model.check_prompt(one)
    return Heard(codes.to(model.device), tuple(texts))


def check_pairs(model: MusicGen, clean: Heard, corrupt: Heard) -> Differs:
    """Refuse pairs that cannot be patched; say what the two sides differ in.

    Raises
    ------
    DataError
        If the sides differ in the number of rows, in length, or in the length of a text, or a pair is alike.

    Examples
    --------
    >>> from interp.backends.build import random_musicgen
    >>> model = MusicGen(random_musicgen())
    >>> codes = torch.zeros(1, 4, 10, dtype=torch.long)
    >>> check_pairs(model, hear(model, codes, "jazz"), hear(model, codes, "rock"))
    'text'
    """
    if clean.codes.shape != corrupt.codes.shape:
        raise DataError(
            f"the clean side is {list(clean.codes.shape)} (pairs, codebooks, frames), the corrupt side "
            f"{list(corrupt.codes.shape)}: both sides of a pair need the same length."
        )
    lengths = zip(model.condition_lengths(clean.texts), model.condition_lengths(corrupt.texts), strict=True)
    for i, (a, b) in enumerate(lengths):
        if a != b:
            raise DataError(
                f"the texts of pair {i}, {clean.texts[i]!r} and {corrupt.texts[i]!r}, have {a} and {b} tokens: say the "
                "same things in both but one."
            )
    music = (clean.codes != corrupt.codes).flatten(1).any(1).tolist()
    text = [a != b for a, b in zip(clean.texts, corrupt.texts, strict=True)]
    for i, (one, other) in enumerate(zip(music, text, strict=True)):
        if not one and not other:
            raise DataError(f"both sides of pair {i} are the same music under the same text: leave it out.")
    return "both" if any(music) and any(text) else "music" if any(music) else "text"


def in_batches(model: MusicGen, heard: Heard, size: int) -> list[list[int]]:
    """Rows whose texts have one length, so many at a time: audiocraft does not mask the padding of a shorter text."""
    if size < 1:
        raise DataError(f"a batch of {size} rows is none: give batch_size=1 or more.")
    groups: dict[int, list[int]] = {}
    for row, length in enumerate(model.condition_lengths(heard.texts)):
        groups.setdefault(length, []).append(row)
    return [rows[i : i + size] for rows in groups.values() for i in range(0, len(rows), size)]


def n_positions(model: MusicGen, n_frames: int) -> int:
    """Positions of the delayed sequence in which so many frames are heard: as many more as the longest delay.

    Examples
    --------
    >>> from interp.backends.build import random_musicgen
    >>> n_positions(MusicGen(random_musicgen()), 10)
    13
    """
    return model.sequence(torch.zeros(1, model.n_codebooks, n_frames, dtype=torch.long))[0].shape[-1] - 1


def partners(model: MusicGen, own: Heard, other: Heard, differs: Differs, seed: int) -> Heard:
    """For every row of `own`, the same side of another pair: what pairs differ in is taken from there.

    Pairs that differ in text keep their music and hear the text of another pair; pairs that differ in music hear the
    music of another pair under their own text. `other` is the far side: a partner's text is never that of either side.

    Raises
    ------
    DataError
        If a row has no such partner.
    """
    rng = np.random.default_rng([seed, len(own)])
    lengths = model.condition_lengths(own.texts)
    chosen = []
    for i in range(len(own)):
        fit = [
            j
            for j in range(len(own))
            if j != i
            and (
                differs == "music" or (lengths[j] == lengths[i] and own.texts[j] not in (own.texts[i], other.texts[i]))
            )
            and (differs == "text" or bool((own.codes[j] != own.codes[i]).any()))
        ]
        if not fit:
            other_thing = "music" if differs == "music" else "text of its length"
            raise DataError(
                f"pair {i} cannot be mismatched: no other pair has another {other_thing}; give pairs that differ from "
                "each other, or null=False."
            )
        chosen.append(int(rng.choice(fit)))
    away = own.take(chosen)
    return Heard(own.codes if differs == "text" else away.codes, own.texts if differs == "music" else away.texts)


def frames_between(model: MusicGen, seconds: tuple[float, float] | None, n_frames: int, what: str) -> range:
    """Frames of a stretch of time; all of them for None.

    Raises
    ------
    DataError
        If the stretch is empty or goes beyond the music.

    Examples
    --------
    >>> from interp.backends.build import random_musicgen
    >>> frames_between(MusicGen(random_musicgen()), (0.1, 0.3), 20, "what counts")
    range(5, 15)
    """
    if seconds is None:
        return range(n_frames)
    start, stop = seconds
    frames = steps_between(start, stop, model.frame_rate)
    if not len(frames) or frames.start < 0 or frames.stop > n_frames:
        raise DataError(
            f"{what} goes from second {start:g} to {stop:g}, but the music from 0 to {n_frames / model.frame_rate:g}."
        )
    return frames
