"""Sound files: the one place where a single sound is read from disk, written, or packed for a page."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from interp._files import atomic
from interp.errors import ClipError

__all__ = ["SUFFIXES", "encode_audio", "read_audio", "sound_files", "write_audio"]

SUFFIXES = (".wav", ".flac", ".mp3", ".ogg")
"""Of files that are taken for sounds."""

_SUBTYPES = {"WAV": "PCM_16", "FLAC": "PCM_16"}
_LOUDEST = 0.99


def read_audio(
    path: str | Path, start: float = 0.0, seconds: float | None = None
) -> tuple[npt.NDArray[np.float32], int]:
    """Read a sound file, or a part of it.

    Parameters
    ----------
    path : str or Path
        A wav, flac, mp3 or ogg file.
    start : float
        Second to start from.
    seconds : float, optional
        Length of the part; to the end when not given.

    Returns
    -------
    audio : float32 array of shape [channels, samples]
    sample_rate : int
        In Hz.

    Raises
    ------
    ClipError
        If it is missing, damaged or empty, or has no such part.

    Examples
    --------
    >>> import tempfile
    >>> file = write_audio(Path(tempfile.mkdtemp()) / "tone.wav", np.sin(np.arange(8000) / 10), 16000)
    >>> audio, sample_rate = read_audio(file, start=0.25, seconds=0.1)
    >>> audio.shape, sample_rate
    ((1, 1600), 16000)
    """
    import soundfile

    path = Path(path)
    if not path.is_file():
        raise ClipError(f"there is no sound {path}: name a {', '.join(s[1:] for s in SUFFIXES)} file.")
    try:
        with soundfile.SoundFile(path) as file:
            rate, length = int(file.samplerate), file.frames / file.samplerate
            if not 0 <= start < max(length, 1 / rate) or (seconds is not None and start + seconds > length + 1 / rate):
                part = f"{seconds:g} s from second {start:g} on" if seconds is not None else f"second {start:g}"
                raise ClipError(f"{path} is {length:.2f} s long and has no {part}: ask for an earlier or shorter part.")
            file.seek(round(start * rate))
            wave = file.read(-1 if seconds is None else round(seconds * rate), dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise ClipError(f"cannot read {path} as sound ({error}): replace the file.") from None
    if not wave.size or not np.isfinite(wave).all():
        raise ClipError(f"{path} holds no sound: replace the file.")
    return wave.T, rate


def write_audio(path: str | Path, audio: Any, sample_rate: int) -> Path:
    """Write a sound with 16 bits a sample, turned down where it would clip; the whole file or nothing.

    Parameters
    ----------
    path : str or Path
        A wav, flac, mp3 or ogg file; its folder is made when missing.
    audio : array or tensor of shape [samples] or [channels, samples]
        Values in -1 to 1.
    sample_rate : int
        In Hz.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ClipError
        If the sound is empty or not finite, or sound is not written with such a suffix.
    StoreError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> file = write_audio(Path(tempfile.mkdtemp()) / "loud.wav", 3 * np.sin(np.arange(8000) / 10), 16000)
    >>> audio, _ = read_audio(file)
    >>> round(float(abs(audio).max()), 2)
    0.99
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ClipError(f"cannot write sound to {path.name}: name a {', '.join(s[1:] for s in SUFFIXES)} file.")
    content = encode_audio(audio, sample_rate, path.suffix[1:].upper())
    with atomic(path) as partial:
        partial.write_bytes(content)
    return path


def encode_audio(audio: Any, sample_rate: int, format: str = "WAV") -> bytes:
    """Encode a sound as a file in memory, turned down where it would clip.

    Parameters
    ----------
    audio : array or tensor of shape [samples] or [channels, samples]
        Values in -1 to 1.
    sample_rate : int
        In Hz.
    format : {"WAV", "FLAC", "MP3", "OGG"}
        MP3 takes a sixth of WAV; FLAC keeps every sample.

    Returns
    -------
    bytes

    Raises
    ------
    ClipError
        If the sound is empty or not finite.

    Examples
    --------
    >>> encode_audio(np.zeros(800), 16000)[:4], encode_audio(np.zeros(800), 16000, "FLAC")[:4]
    (b'RIFF', b'fLaC')
    """
    import soundfile

    wave = np.asarray(audio, dtype=np.float32)
    wave = wave[None] if wave.ndim == 1 else wave
    if wave.ndim != 2 or not wave.size or not np.isfinite(wave).all():
        raise ClipError(
            f"a sound of shape {list(wave.shape)} is empty or not finite: give finite [samples] or [channels, samples]."
        )
    wave = wave / max(1.0, float(np.abs(wave).max()) / _LOUDEST)
    file = io.BytesIO()
    soundfile.write(file, wave.T, sample_rate, format=format, subtype=_SUBTYPES.get(format))
    return file.getvalue()


def sound_files(path: str | Path) -> list[Path]:
    """A sound, or all sounds of a folder and the folders in it, by name.

    Raises
    ------
    ClipError
        If a folder holds no sound.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in ("b.wav", "a/c.flac", "notes.txt"):
    ...     (folder / name).parent.mkdir(exist_ok=True)
    ...     (folder / name).touch()
    >>> [file.name for file in sound_files(folder)]
    ['c.flac', 'b.wav']
    """
    path = Path(path)
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
    if not files:
        raise ClipError(f"there is no sound in {path}: put {', '.join(s[1:] for s in SUFFIXES)} files there.")
    return files
