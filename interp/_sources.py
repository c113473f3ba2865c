"""Where the audio of a clip comes from: an array, a file, or a stretch of one; nothing is read before it is needed."""

from __future__ import annotations

import hashlib
import math
import numbers
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from interp.errors import ClipError

__all__ = ["Audio", "File", "Memory", "Source", "Window", "as_audio", "as_rate", "is_audio"]

Audio = npt.NDArray[np.float32]
MAX_CHANNELS = 8
_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".aif", ".aiff", ".opus")
_LOUDEST = 16.0
"""A float sample beyond this is no overshoot of a decoder but an integer that was not scaled."""


class Source(Protocol):
    """Where a clip's audio comes from; nothing is read before one of these is called."""

    def load(self) -> tuple[Audio, int]:
        """Audio ``[channels, samples]`` and its sample rate."""
        ...

    def part(self, start: float, seconds: float) -> tuple[Audio, int]:
        """A stretch of it; shorter where the audio ends."""
        ...

    def seconds(self) -> float:
        """Length, without decoding the audio."""
        ...

    def problem(self) -> str:
        """What is wrong with it as far as can be told without decoding; empty if nothing is."""
        ...

    def key(self) -> str:
        """Hash of the audio's content: equal content, equal key."""
        ...


@dataclass(frozen=True, eq=False)
class Memory:
    """Audio in memory."""

    audio: Audio
    sample_rate: int

    def load(self) -> tuple[Audio, int]:
        return self.audio, self.sample_rate

    def part(self, start: float, seconds: float) -> tuple[Audio, int]:
        first, count = _samples(start, seconds, self.sample_rate, self.audio.shape[-1])
        return self.audio[:, first : first + count], self.sample_rate

    def seconds(self) -> float:
        return self.audio.shape[-1] / self.sample_rate

    def problem(self) -> str:
        return ""  # what is wrong with an array was said when it was taken

    def key(self) -> str:
        return _hash(self.audio.shape, self.sample_rate, np.ascontiguousarray(self.audio).tobytes())


@dataclass(frozen=True)
class File:
    """An audio file."""

    path: Path

    def load(self) -> tuple[Audio, int]:
        audio, rate = self._read(0, -1)
        promised = self.seconds()  # what a decoder gives may fall short of what it announced
        if audio.shape[-1] / rate < promised - max(0.1, 0.01 * promised):
            raise ClipError(f"the audio file {self.path} {_cut(audio.shape[-1] / rate, promised)}.")
        return audio, rate

    def part(self, start: float, seconds: float) -> tuple[Audio, int]:
        info = self._info()
        return self._read(*_samples(start, seconds, info.samplerate, info.frames))

    def seconds(self) -> float:
        info = self._info()
        return float(info.frames / info.samplerate)

    def problem(self) -> str:
        try:
            info = self._info()
        except ClipError as error:
            return str(error)
        if not info.frames:
            return "holds no audio"
        if info.channels > MAX_CHANNELS:
            return f"has {info.channels} channels, more than {MAX_CHANNELS}"
        promised = _wav_seconds(self.path)
        if promised > self.seconds() + max(0.1, 0.01 * promised):
            return _cut(self.seconds(), promised)
        return ""

    def key(self) -> str:
        try:
            with self.path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()[:32]
        except OSError as error:
            raise _unreadable(self.path, error) from error

    def _info(self) -> Any:
        import soundfile

        try:
            return soundfile.info(self.path)
        except (OSError, soundfile.LibsndfileError) as error:
            raise _unreadable(self.path, error) from error

    def _read(self, start: int, frames: int) -> tuple[Audio, int]:
        import soundfile

        try:
            with soundfile.SoundFile(self.path) as file:
                if start:
                    file.seek(min(start, file.frames))
                audio = file.read(frames, dtype="float32", always_2d=True)
                return np.ascontiguousarray(audio.T), int(file.samplerate)
        except (OSError, soundfile.LibsndfileError) as error:
            raise _unreadable(self.path, error) from error


@dataclass(frozen=True, eq=False)
class Window:
    """A stretch of another source."""

    source: Source
    start: float
    length: float

    def load(self) -> tuple[Audio, int]:
        audio, rate = self.source.part(self.start, self.length)
        if audio.shape[-1] < round(self.length * rate):
            raise ClipError(
                f"the window from {self.start:g} to {self.start + self.length:g} s holds {audio.shape[-1] / rate:.2f} "
                "s only: its file is shorter than its header says; export it again, or leave the clip out."
            )
        return audio, rate

    def part(self, start: float, seconds: float) -> tuple[Audio, int]:
        return self.source.part(self.start + start, min(seconds, self.length - start))

    def seconds(self) -> float:
        return self.length

    def problem(self) -> str:
        return self.source.problem()

    def key(self) -> str:
        return _hash(self.source.key(), self.start, self.length)


def as_audio(values: Any, name: str) -> Audio:
    """Samples of a clip as float32 ``[channels, samples]`` in -1 to 1; integers are scaled by their type.

    Raises
    ------
    ClipError
        If it is no array of samples, lies the wrong way round, is empty, or has samples that no sound has.

    Examples
    --------
    >>> as_audio(np.array([0, 16384, -32768], np.int16), "a")
    array([[ 0. ,  0.5, -1. ]], dtype=float32)
    """
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged lists; tensors that are elsewhere
        raise ClipError(f"the clip {name!r} is no array of samples ({error}): give [channels, samples].") from error
    if array.dtype.kind not in "iuf" or array.ndim not in (1, 2):
        raise ClipError(
            f"the clip {name!r} has the shape {list(array.shape)} and the type {array.dtype}: give floats in -1 to 1 "
            "or integers of 8, 16 or 32 bits, [channels, samples] or [samples]."
        )
    array = np.atleast_2d(array)
    channels, samples = array.shape
    if not samples or not channels:
        raise ClipError(f"the clip {name!r} holds no audio: remove it.")
    if channels > MAX_CHANNELS or channels > samples:
        raise ClipError(
            f"the clip {name!r} has {channels} channels of {samples} samples: it lies the wrong way round; give "
            "[channels, samples], for example audio.T."
        )
    if array.dtype.kind in "iu":
        return _scaled(array, name)
    if not np.isfinite(array).all():
        raise ClipError(f"the clip {name!r} holds NaN or infinite samples: export it again or remove it.")
    peak = float(np.abs(array).max())
    if peak > _LOUDEST:
        raise ClipError(
            f"the clip {name!r} has samples up to {peak:.6g} where a sound lies in -1 to 1: scale it, for example "
            "audio / 32768 for 16-bit samples."
        )
    return array.astype(np.float32)


def _scaled(array: npt.NDArray[Any], name: str) -> Audio:
    if array.dtype.itemsize > 4 or array.dtype in (np.uint16, np.uint32):
        raise ClipError(
            f"the clip {name!r} holds samples of type {array.dtype}, which says nothing of their scale: give floats in "
            "-1 to 1, or integers of the type they were recorded in (int16, int32, uint8)."
        )
    if array.dtype == np.uint8:  # as 8-bit wav files have it
        return ((array.astype(np.float32) - 128) / 128).astype(np.float32)
    return (array / -float(np.iinfo(array.dtype).min)).astype(np.float32)


def as_rate(value: Any) -> int:
    """A sample rate in Hz.

    Raises
    ------
    ClipError
        If it is none.
    """
    rate = float(value) if isinstance(value, numbers.Real) and not isinstance(value, bool) else math.nan
    if not 1000 <= rate <= 1_000_000 or rate != int(rate):
        raise ClipError(f"a sample rate is a whole number of Hz such as 44100, not {value!r}.")
    return int(rate)


def is_audio(name: str) -> bool:
    """Whether a file's name says that it is audio."""
    return Path(name).suffix.lower() in _SUFFIXES and not Path(name).name.startswith(".")


def _samples(start: float, seconds: float, rate: int, total: int) -> tuple[int, int]:
    """First sample of a stretch, and how many; rounding does not push it over the end."""
    first, count = round(start * rate), round(seconds * rate)
    return (first - 1 if first + count == total + 1 else first), count


def _wav_seconds(path: Path) -> float:
    """Length that the header of a wav file promises, whether or not the samples are there; 0 for other files."""
    try:
        with path.open("rb") as file:
            head = file.read(12)
            if head[:4] != b"RIFF" or head[8:] != b"WAVE":
                return 0.0
            rate = 0
            while len(head := file.read(8)) == 8:
                name, size = head[:4], int.from_bytes(head[4:], "little")
                if name == b"data":
                    # 0 and -1 are what programs write that stream and never come back
                    return size / rate if rate and 0 < size < 0xFFFFFF00 else 0.0
                if name == b"fmt ":
                    rate = int.from_bytes(file.read(size)[8:12], "little")  # bytes a second
                    size = 0
                file.seek(size + size % 2, 1)
    except OSError:
        pass
    return 0.0


def _cut(there: float, promised: float) -> str:
    return f"holds {there:.2f} s of audio though its header says {promised:.2f} s: it was cut short, export it again"


def _hash(*parts: Hashable) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else repr(part).encode())
    return digest.hexdigest()[:32]


def _unreadable(path: Path, error: Exception) -> ClipError:
    if not path.is_file():
        return ClipError(f"the audio file {path} is missing: put it back or remove its row from the table.")
    reason = str(error).rsplit(":", 1)[-1].strip().rstrip(".")
    return ClipError(f"cannot read the audio file {path} ({reason}): export it as wav, flac, mp3 or ogg.")
