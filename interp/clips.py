"""Labelled audio: a table of labels, and clips that are read when they are asked for.

A folder of clips holds audio files and ``metadata.csv`` with a column ``file_name``, any number of label columns, and
optionally ``group`` (the song, preset or score a clip comes from: groups never straddle a split). Tables of other names
and forms, and a folder for each class, are read as well::

    clips = Clips.from_folder("my_clips")
    clips.labels                    # DataFrame, indexed by clip
    clips[0].audio                  # float32 [channels, samples]
    clips.subset(clips.labels["genre"] == "jazz").windows(5.0)
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import pandas as pd

from interp._files import atomic
from interp._folder import METADATA, read_folder, warn_of_pieces
from interp._sources import Audio, File, Memory, Source, Window, as_audio, as_rate, is_audio
from interp.errors import ClipError

__all__ = ["Clip", "Clips", "Source", "refuse", "refuse_taken"]

_log = logging.getLogger(__name__)
FORMATS = {"wav": "FLOAT", "flac": "PCM_24"}
_SILENT = 1e-4


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

    Examples
    --------
    >>> Clip("a", np.zeros((1, 8000), np.float32), 16000)
    <clip 'a': 0.5 s, 1 channel at 16000 Hz, is silent>
    """

    id: str
    audio: Audio
    sample_rate: int

    @property
    def seconds(self) -> float:
        """Length."""
        return self.audio.shape[-1] / self.sample_rate

    @property
    def doubt(self) -> str:
        """What looks odd about it; empty if nothing does."""
        if self.audio.shape[-1] == 1:
            return "has one sample"
        return "is silent" if float(np.abs(self.audio).max(initial=0.0)) < _SILENT else ""

    def __repr__(self) -> str:
        channels = f"{len(self.audio)} channel{'s' * (len(self.audio) > 1)}"
        doubt = f", {self.doubt}" if self.doubt else ""
        return f"<clip {self.id!r}: {self.seconds:.4g} s, {channels} at {self.sample_rate} Hz{doubt}>"


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
    def from_folder(
        cls,
        path: str | Path,
        labels: str | Sequence[str] | None = None,
        *,
        table: str | Path | None = None,
        file: str = "file_name",
        group: str | None = None,
        tags: Mapping[str, str] | None = None,
        outside: bool = False,
        missing: bool = False,
    ) -> Clips:
        """Describe a folder of labelled audio files; audio is read later, clip by clip.

        Parameters
        ----------
        path : str or Path
            Folder. Files may be wav, flac, mp3 or ogg, mono or not, of any sample rate. Without a table, the folder
            that a file lies in is its class, under the label ``label``.
        labels : str or sequence of str, optional
            Label columns to keep; all of them by default.
        table : str or Path, optional
            The table, in the folder or elsewhere; by default ``metadata.csv``, ``.tsv`` or ``.jsonl`` in the folder.
            Commas, semicolons or tabs; UTF-8, or UTF-16 with its mark; or one JSON object a line.
        file : str
            Its column of file names, relative to the folder.
        group : str, optional
            Its column that says which clips belong together; by default ``group``, if there is one.
        tags : mapping of str to str, optional
            Columns whose cells hold several tags, and what separates these: ``{"instrument": ";"}`` makes a yes/no
            label of every tag. Lists in JSON need no separator.
        outside : bool
            Allow file names that lead out of the folder.
        missing : bool
            Allow rows whose file is not there; ``extract(..., skip_bad=True)`` leaves them out.

        Returns
        -------
        Clips
            Their ids are the file names as they stand in the table. Only empty cells are missing labels.

        Raises
        ------
        ClipError
            If the folder, the table, a column or a file is missing, a file is listed twice or lies outside, or a row
            has not as many cells as there are columns.

        Examples
        --------
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp()) / "clips"
        >>> made = Clips.from_arrays([[0.1] * 800] * 2, 16000, {"tags": ["piano;drums", "piano"]}).to_folder(folder)
        >>> Clips.from_folder(folder, tags={"tags": ";"}).labels["drums"].tolist()
        [True, False]
        """
        frame, files = read_folder(
            path, labels, table=table, file=file, group=group, tags=tags, outside=outside, missing=missing
        )  # fmt: skip
        if "group" not in frame:
            warn_of_pieces(frame)
        return cls(frame, [File(name) for name in files])

    @classmethod
    def from_arrays(
        cls,
        audio: Sequence[npt.ArrayLike] | npt.NDArray[Any],
        sample_rate: int,
        labels: pd.DataFrame | Mapping[str, Sequence[Any]] | None = None,
    ) -> Clips:
        """Wrap audio that is in memory.

        Parameters
        ----------
        audio : array ``[clips, channels, samples]``, or sequence of arrays ``[channels, samples]`` or ``[samples]``
            Floats in -1 to 1, or integers of 8, 16 or 32 bits, which are scaled by their type.
        sample_rate : int
            In Hz.
        labels : DataFrame or mapping, optional
            Labels and optionally ``group``, a row a clip; the index of a DataFrame gives the ids.

        Raises
        ------
        ClipError
            If an array cannot be the sound it should be (named by its clip), or labels and clips differ in number.

        Examples
        --------
        >>> Clips.from_arrays([[0.0, 0.1] * 400, [0.2, 0.1] * 400], 16000, {"drums": ["yes", "no"]})
        <2 clips in 2 groups; labels: drums>
        """
        if isinstance(audio, np.ndarray) and audio.ndim < 3 and audio.dtype != object:
            raise ClipError(
                f"one array of shape {list(audio.shape)} may be one clip or many: give a list of arrays, a clip each, "
                "or [clips, channels, samples]."
            )
        rate, arrays = as_rate(sample_rate), list(audio)
        if isinstance(labels, pd.DataFrame):
            names = [str(name) for name in labels.index]
        else:
            names = [f"clip-{i:05d}" for i in range(len(arrays))]
            for name, values in (labels or {}).items():
                if isinstance(values, str) or len(values) != len(arrays):
                    count = "one value" if isinstance(values, str) else f"{len(values)} values"
                    raise ClipError(f"there are {len(arrays)} clips, but the label {name!r} has {count}.")
            labels = pd.DataFrame(dict(labels or {}), index=names)
        if len(names) != len(arrays):
            raise ClipError(f"there are {len(arrays)} clips but {len(names)} rows of labels: give one row a clip.")
        return cls(labels, [Memory(as_audio(one, name), rate) for one, name in zip(arrays, names, strict=True)])

    def problems(self) -> dict[str, str]:
        """What is wrong with each clip, as far as headers tell; clips that seem sound are not in it.

        Examples
        --------
        >>> Clips.from_arrays([[0.1] * 800], 16000).problems()
        {}
        """
        found = ((str(clip), source.problem()) for clip, source in zip(self._labels.index, self._sources, strict=True))
        return {clip: problem for clip, problem in found if problem}

    def grouped(self, by: str | Sequence[Any] | Callable[[str], str]) -> Clips:
        """The same clips in other groups.

        Parameters
        ----------
        by : str, sequence or callable
            A label, a value for each clip, or a function of a clip's name.

        Raises
        ------
        ClipError
            If there is no such label, or the values are not one a clip.

        Examples
        --------
        >>> clips = Clips.from_arrays([[0.1] * 800] * 2, 16000, pd.DataFrame(index=["song_0", "song_1"]))
        >>> clips.grouped(lambda name: name.split("_")[0])
        <2 clips in 1 groups; labels: none>
        """
        table = self.labels
        if isinstance(by, str):
            if by not in table:
                raise ClipError(f"there is no label {by!r} to group by, only {', '.join(map(repr, table.columns))}.")
            values: Sequence[Any] = table[by].tolist()
        else:
            values = [by(name) for name in self.ids] if callable(by) else list(by)
        if len(values) != len(self):
            raise ClipError(f"there are {len(self)} clips but {len(values)} groups: give one a clip.")
        return Clips(table.assign(group=values), self._sources)

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

    def _repr_html_(self) -> str:
        head = f"<p>{escape(repr(self)[1:-1])}</p>"
        more = f"<p>... and {len(self) - 5} more</p>" if len(self) > 5 else ""
        return head + self._labels.head(5).to_html(border=0, na_rep="") + more

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

        Examples
        --------
        >>> clips = Clips.from_arrays([[0.1] * 800] * 3, 16000, {"genre": ["jazz", "rock", "jazz"]})
        >>> clips.subset(clips.labels["genre"] == "jazz").ids
        ['clip-00000', 'clip-00002']
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
            Length of a window. What is left over at the end of a clip is dropped; clips that are shorter are left out,
            and named in a warning.
        hop : float, optional
            From the start of one window to the next; `seconds` by default, so that they do not overlap.

        Raises
        ------
        ClipError
            If a length is not positive or no clip is long enough.

        Examples
        --------
        >>> Clips.from_arrays([[0.1] * 800], 1000).windows(0.4).ids
        ['clip-00000@0s', 'clip-00000@0.4s']
        """
        hop = seconds if hop is None else hop
        if not (0 < seconds < float("inf") and 0 < hop < float("inf")):
            raise ClipError(f"windows of {seconds} s every {hop} s cannot be cut: both must be positive.")
        refuse(self.problems(), len(self), skip=False)
        rows, names, short, sources = [], [], list[str](), list[Source]()
        for i, source in enumerate(self._sources):
            length = source.seconds()
            count = int((length - seconds) / hop + 1e-6) + 1 if length >= seconds - 1e-6 else 0
            if not count:
                short.append(str(self._labels.index[i]))
            for j in range(count):
                rows.append(i)
                names.append(f"{self._labels.index[i]}@{j * hop:g}s")
                sources.append(Window(source, j * hop, seconds))
        if not sources:
            raise ClipError(f"no clip is {seconds:g} s long: ask for shorter windows.")
        if short:
            more = f" and {len(short) - 1} more" if len(short) > 1 else ""
            _log.warning("%r%s: shorter than a window of %g s, and left out.", short[0], more, seconds)
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

        Examples
        --------
        >>> import tempfile
        >>> folder = Clips.from_arrays([[0.1] * 800], 16000).to_folder(Path(tempfile.mkdtemp()) / "clips")
        >>> sorted(file.name for file in folder.iterdir())
        ['clip-00000.wav', 'metadata.csv']
        """
        import soundfile

        if format not in FORMATS:
            raise ClipError(f"clips cannot be written as {format!r}: use {' or '.join(FORMATS)}.")
        folder = Path(path)
        refuse_taken(folder)
        table = self._labels.copy()
        names = [Path(clip.removesuffix(Path(clip).suffix) if is_audio(clip) else clip) for clip in table.index]
        table.index = pd.Index([f"{name.as_posix()}.{format}" for name in names], name="file_name")
        try:
            for name, clip in zip(table.index, self, strict=True):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(folder / name, clip.audio.T, clip.sample_rate, FORMATS[format])
            with atomic(folder / METADATA) as partial:
                table.to_csv(partial)
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


def refuse_taken(folder: Path) -> None:
    """Refuse to write clips into a folder that holds some."""
    if (folder / METADATA).exists():
        raise ClipError(f"{folder} holds clips already: choose another folder.")


def refuse(problems: Mapping[str, str], n_clips: int, skip: bool, remedy: str = "export them again") -> None:
    """Refuse clips, every one by its name, unless they may be left out."""
    if not problems or (skip and len(problems) < n_clips):
        return
    shown = "; ".join(f"{clip!r} {why.rstrip('.')}" for clip, why in list(problems.items())[:20])
    more = f"; and {len(problems) - 20} more" if len(problems) > 20 else ""
    raise ClipError(
        f"{len(problems)} of {n_clips} clips cannot be used: {shown}{more}. Mend them, leave them out with "
        f"skip_bad=True (--skip-bad), or {remedy}."
    )
