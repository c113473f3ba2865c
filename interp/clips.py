"""Labelled audio: a table of labels, and clips that are read when they are asked for.

A folder of clips holds audio files and ``metadata.csv`` with a column ``file_name``, any number of label
columns, and
optionally ``group`` (the song, preset or score a clip comes from: groups never straddle a split)::

    clips = Clips.from_folder("my_clips")
    clips.labels                    # DataFrame, indexed by clip
    clips[0].audio                  # float32 [channels, samples]
    clips.subset(clips.labels["genre"] == "jazz").windows(5.0)
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, overload

import numpy as np
import numpy.typing as npt
import pandas as pd

from interp.errors import ClipError

__all__ = ["Clip", "Clips", "Source"]

Audio = npt.NDArray[np.float32]
METADATA = "metadata.csv"
FORMATS = {"wav": "FLOAT", "flac": "PCM_24"}


@dataclass(frozen=True, eq=False)
class Clip:
    """One stretch of audio.

    Attributes
    ----------
    id : str
        Name, unique among its clips.
    audio : float32 array ``[channels, samples]``
        Samples in -1 to 1.
    sample_rate : int
        In Hz.
    """

    id: str
    audio: Audio
    sample_rate: int

    @property
    def seconds(self) -> float:
        """Length."""
        return self.audio.shape[-1] / self.sample_rate


class Source(Protocol):
    """Where a clip's audio comes from; nothing is read before :meth:`load` or :meth:`key`."""

    def load(self) -> tuple[Audio, int]:
        """Audio ``[channels, samples]`` and its sample rate."""
        ...

    def seconds(self) -> float:
        """Length, without decoding the audio."""
        ...

    def key(self) -> str:
        """Hash of the audio's content: equal content, equal key."""
        ...


class Clips(Sequence[Clip]):
    """Clips with their labels.

    Parameters
    ----------
    labels : DataFrame
        One row a clip, indexed by the clips' ids; every column but ``group`` is a label. Without a column
        ``group`` each clip is a group of its own.
    sources : sequence of Source
        The clips' audio, in the order of the rows.

    Raises
    ------
    ClipError
        If ids repeat, or rows and sources differ in number.
    """

    def __init__(self, labels: pd.DataFrame, sources: Sequence[Source]) -> None:
        labels = labels.copy()
        labels.index = pd.Index([str(clip) for clip in labels.index], name="clip")
        if len(labels) != len(sources):
            raise ClipError(f"there are {len(sources)} clips but {len(labels)} rows of labels: give one row a clip.")
        if not len(labels):
            raise ClipError("there is no clip: give at least one.")
        if not labels.index.is_unique:
            twice = labels.index[labels.index.duplicated()][0]
            raise ClipError(f"the clip {twice!r} is listed more than once: give every clip a name of its own.")
        if "group" not in labels:
            labels["group"] = labels.index
        if labels["group"].isna().any():
            clip = labels.index[labels["group"].isna()][0]
            raise ClipError(f"the clip {clip!r} has no group: fill the column 'group', or leave it out.")
        labels["group"] = labels["group"].astype(str)
        self._labels = labels
        self._sources = list(sources)

    @classmethod
    def from_folder(cls, path: str | Path, labels: Sequence[str] | None = None) -> Clips:
        """Describe a folder of audio files and ``metadata.csv``; audio is read later, clip by clip.

        Parameters
        ----------
        path : str or Path
            Folder. Files may be wav, flac, mp3 or ogg, mono or not, of any sample rate.
        labels : sequence of str, optional
            Label columns to keep; all of them by default.

        Returns
        -------
        Clips
            Their ids are the file names as they stand in ``metadata.csv``.

        Raises
        ------
        ClipError
            If the folder, the table, a column or a file is missing, or a file is listed twice.
        """
        folder = Path(path)
        table = _read_metadata(folder)
        wanted = list(labels) if labels is not None else [c for c in table.columns if c not in ("file_name", "group")]
        for column in ["file_name", *wanted]:
            if column not in table:
                raise ClipError(
                    f"{folder / METADATA} has no column {column!r}, only {', '.join(map(repr, table.columns))}: "
                    "name the column that holds the file names 'file_name' and every label as in the table."
                )
        names = table["file_name"]
        if names.isna().any():
            raise ClipError(f"row {int(np.flatnonzero(names.isna())[0]) + 2} of {folder / METADATA} names no file.")
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise ClipError(
                f"{missing[0]!r}{more} in {folder / METADATA} is not in that folder: add the audio or remove the row."
            )
        table = table.set_index("file_name")[wanted + (["group"] if "group" in table else [])]
        return cls(table, [_File(folder / name) for name in names])

    @classmethod
    def from_arrays(
        cls,
        audio: Sequence[npt.ArrayLike] | npt.NDArray[np.floating],
        sample_rate: int,
        labels: pd.DataFrame | dict[str, Sequence[Any]] | None = None,
    ) -> Clips:
        """Wrap audio that is in memory.

        Parameters
        ----------
        audio : array ``[clips, channels, samples]``, or sequence of arrays ``[channels, samples]`` or
        ``[samples]``
            Samples in -1 to 1.
        sample_rate : int
            In Hz.
        labels : DataFrame or dict, optional
            Labels and optionally ``group``, a row a clip; the index of a DataFrame gives the ids.
        """
        sources = [_Memory(np.atleast_2d(np.asarray(one, np.float32)), int(sample_rate)) for one in audio]
        if isinstance(labels, pd.DataFrame):
            return cls(labels, sources)
        for name, values in (labels or {}).items():
            if len(values) != len(sources):
                raise ClipError(f"there are {len(sources)} clips, but the label {name!r} has {len(values)} values.")
        table = pd.DataFrame(labels or {}, index=[f"clip-{i:05d}" for i in range(len(sources))])
        return cls(table, sources)

    @property
    def labels(self) -> pd.DataFrame:
        """A copy of the table: index ``clip``, the labels, and ``group``."""
        return self._labels.copy()

    @property
    def ids(self) -> list[str]:
        """Names of the clips, in order."""
        return list(self._labels.index)

    def seconds(self, i: int) -> float:
        """Length of a clip, without decoding it."""
        return self._sources[i].seconds()

    def key(self, i: int) -> str:
        """Hash of a clip's audio: equal content, equal key, whatever the clip is called."""
        return self._sources[i].key()

    def __len__(self) -> int:
        return len(self._sources)

    @overload
    def __getitem__(self, i: int | str) -> Clip: ...
    @overload
    def __getitem__(self, i: slice) -> Clips: ...
    def __getitem__(self, i: int | str | slice) -> Clip | Clips:
        """A clip by position or id, read now; or some of the clips by a slice."""
        if isinstance(i, slice):
            return self._take(range(len(self))[i])
        if isinstance(i, str):
            i = self._position(i)
        source, clip = self._sources[i], str(self._labels.index[i])
        audio, rate = source.load()
        if not audio.shape[-1]:
            raise ClipError(f"the clip {clip!r} holds no audio: remove it.")
        if not np.isfinite(audio).all():
            raise ClipError(f"the clip {clip!r} holds NaN or infinite samples: export it again or remove it.")
        return Clip(clip, audio, rate)

    def __iter__(self) -> Iterator[Clip]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        columns = [column for column in self._labels if column != "group"]
        groups = self._labels["group"].nunique()
        return f"<{len(self)} clips in {groups} groups; labels: {', '.join(columns) or 'none'}>"

    def subset(self, chosen: Sequence[Any] | npt.NDArray[Any] | pd.Series) -> Clips:
        """Some of the clips.

        Parameters
        ----------
        chosen : mask, ids or positions
            Booleans, one a clip (their order is kept), or ids, or positions, in the order wanted.

        Raises
        ------
        ClipError
            If nothing is chosen, the mask has another length, or an id is unknown.
        """
        if (
            isinstance(chosen, pd.Series)
            and pd.api.types.is_bool_dtype(chosen)
            and not chosen.index.equals(pd.RangeIndex(len(chosen)))
        ):
            chosen = chosen.reindex(self._labels.index, fill_value=False)
        values = np.asarray(chosen)
        if values.dtype == bool or (values.dtype == object and values.size and isinstance(values.flat[0], bool)):
            if len(values) != len(self):
                raise ClipError(f"a mask of {len(values)} values cannot choose among {len(self)} clips.")
            positions = np.flatnonzero(values.astype(bool)).tolist()
        elif np.issubdtype(values.dtype, np.integer):
            positions = values.tolist()
        else:
            positions = [self._position(str(clip)) for clip in values.tolist()]
        if not positions:
            raise ClipError("no clip is left: choose at least one.")
        return self._take(positions)

    def windows(self, seconds: float, hop: float | None = None) -> Clips:
        """Cut every clip into windows, which keep its labels and its group.

        Parameters
        ----------
        seconds : float
            Length of a window. What is left over at the end of a clip is dropped.
        hop : float, optional
            From the start of one window to the next; `seconds` by default, so that they do not overlap.

        Raises
        ------
        ClipError
            If a length is not positive or no clip is long enough.
        """
        hop = seconds if hop is None else hop
        if seconds <= 0 or hop <= 0:
            raise ClipError(f"windows of {seconds} s every {hop} s cannot be cut: both must be positive.")
        rows, names, sources = [], [], list[Source]()
        for i, source in enumerate(self._sources):
            count = int((source.seconds() - seconds) / hop + 1e-6) + 1 if source.seconds() >= seconds - 1e-6 else 0
            for j in range(count):
                rows.append(i)
                names.append(f"{self._labels.index[i]}@{j * hop:g}s")
                sources.append(_Window(source, j * hop, seconds))
        if not sources:
            raise ClipError(f"no clip is {seconds:g} s long: ask for shorter windows.")
        table = self._labels.iloc[rows].copy()
        table.index = pd.Index(names, name="clip")
        return Clips(table, sources)

    def to_folder(self, path: str | Path, format: str = "wav") -> Path:
        """Write the clips as a folder that :meth:`from_folder` reads.

        Parameters
        ----------
        path : str or Path
            Folder, made if it does not exist. It must not hold a ``metadata.csv`` yet.
        format : {"wav", "flac"}
            wav keeps the samples exactly (float32), flac rounds them to 24 bits.

        Returns
        -------
        Path
            The folder. ``metadata.csv`` is written last, so that a folder with one is complete.

        Raises
        ------
        ClipError
            If the format is unknown, the folder is taken, or it cannot be written.
        """
        import soundfile

        if format not in FORMATS:
            raise ClipError(f"clips cannot be written as {format!r}: use {' or '.join(FORMATS)}.")
        folder = Path(path)
        if (folder / METADATA).exists():
            raise ClipError(f"{folder} holds clips already: choose another folder.")
        table = self._labels.copy()
        names = [Path(clip.removesuffix(Path(clip).suffix) if _is_audio(clip) else clip) for clip in table.index]
        table.index = pd.Index([f"{name.as_posix()}.{format}" for name in names], name="file_name")
        try:
            for name, clip in zip(table.index, self, strict=True):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(folder / name, clip.audio.T, clip.sample_rate, FORMATS[format])
            partial = folder / f".{METADATA}.{os.getpid()}"
            table.to_csv(partial)
            partial.replace(folder / METADATA)
        except (OSError, soundfile.LibsndfileError) as error:
            raise ClipError(f"cannot write clips to {folder}: {error}.") from error
        return folder

    def _position(self, clip: str) -> int:
        try:
            return int(self._labels.index.get_loc(clip))
        except KeyError:
            raise ClipError(f"there is no clip {clip!r} among the {len(self)} clips.") from None

    def _take(self, positions: Sequence[int]) -> Clips:
        chosen = list(positions)
        return Clips(self._labels.iloc[chosen], [self._sources[i] for i in chosen])


@dataclass(frozen=True, eq=False)
class _Memory:
    audio: Audio
    sample_rate: int

    def load(self) -> tuple[Audio, int]:
        return self.audio, self.sample_rate

    def seconds(self) -> float:
        return self.audio.shape[-1] / self.sample_rate

    def key(self) -> str:
        return _hash(self.audio.shape, self.sample_rate, np.ascontiguousarray(self.audio).tobytes())


@dataclass(frozen=True)
class _File:
    path: Path

    def load(self) -> tuple[Audio, int]:
        return self._open(0.0, None)

    def load_part(self, start: float, seconds: float) -> tuple[Audio, int]:
        return self._open(start, seconds)

    def seconds(self) -> float:
        import soundfile

        try:
            return float(soundfile.info(self.path).duration)
        except (OSError, soundfile.LibsndfileError) as error:
            raise _unreadable(self.path, error) from error

    def key(self) -> str:
        try:
            return _hash(self.path.read_bytes())
        except OSError as error:
            raise _unreadable(self.path, error) from error

    def _open(self, start: float, seconds: float | None) -> tuple[Audio, int]:
        import soundfile

        try:
            with soundfile.SoundFile(self.path) as file:
                rate = int(file.samplerate)
                if start:
                    file.seek(round(start * rate))
                frames = -1 if seconds is None else round(seconds * rate)
                audio = file.read(frames, dtype="float32", always_2d=True)
        except (OSError, soundfile.LibsndfileError) as error:
            raise _unreadable(self.path, error) from error
        return np.ascontiguousarray(audio.T), rate


@dataclass(frozen=True, eq=False)
class _Window:
    source: Source
    start: float
    length: float

    def load(self) -> tuple[Audio, int]:
        if isinstance(self.source, _File):
            return self.source.load_part(self.start, self.length)
        audio, rate = self.source.load()
        first = round(self.start * rate)
        return audio[:, first : first + round(self.length * rate)], rate

    def seconds(self) -> float:
        return self.length

    def key(self) -> str:
        return _hash(self.source.key(), self.start, self.length)


def _hash(*parts: Hashable) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else repr(part).encode())
    return digest.hexdigest()[:32]


def _unreadable(path: Path, error: Exception) -> ClipError:
    if not path.is_file():
        return ClipError(f"the audio file {path} is missing: put it back or remove its row from {METADATA}.")
    reason = str(error).rsplit(":", 1)[-1].strip().rstrip(".")
    return ClipError(f"cannot read the audio file {path} ({reason}): export it as wav, flac, mp3 or ogg.")


def _is_audio(name: str) -> bool:
    return Path(name).suffix.lower() in (".wav", ".flac", ".mp3", ".ogg", ".aif", ".aiff", ".opus")


def _read_metadata(folder: Path) -> pd.DataFrame:
    if not folder.is_dir():
        raise ClipError(f"there is no folder {folder}: give a folder that holds audio files and {METADATA}.")
    file = folder / METADATA
    if not file.is_file():
        found = sum(_is_audio(entry.name) for entry in folder.rglob("*"))
        state = f"holds {found} audio files but no" if found else "holds neither audio files nor a"
        raise ClipError(
            f"{folder} {state} {METADATA}: write one with a column 'file_name', a column for each label and, if "
            "several clips come from one song, a column 'group'."
        )
    try:
        table = pd.read_csv(file, dtype={"file_name": str, "group": str}, skipinitialspace=True)
    except (OSError, ValueError) as error:  # pandas' parser errors and UnicodeDecodeError are ValueErrors
        raise ClipError(f"cannot read {file} as a table: {str(error).strip().rstrip('.')}.") from error
    if not len(table):
        raise ClipError(f"{file} lists no clip: add a row for each audio file.")
    return table
