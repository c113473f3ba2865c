"""A folder of labelled audio as it is found: its table, in whatever form, or its classes as folders.

A table is ``metadata.csv`` (or ``.tsv``, ``.jsonl``, or any other that is named), with commas, semicolons or tabs, in
UTF-8 or UTF-16. Cells are kept as they are written: only an empty cell is missing, and ``NA`` is a class like any
other; a column becomes numbers where every cell is one.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from interp._sources import is_audio
from interp.errors import ClipError

__all__ = ["METADATA", "read_folder", "warn_of_pieces"]

_log = logging.getLogger(__name__)
METADATA = "metadata.csv"
_TABLES = (METADATA, "metadata.tsv", "metadata.jsonl")
_NUMBER = re.compile(r"[+-]?(0|[1-9]\d*)(\.\d*)?([eE][+-]?\d{1,3})?|[+-]?\.\d+")
_BOOLS = {"True": True, "TRUE": True, "true": True, "False": False, "FALSE": False, "false": False}
_PIECE = re.compile(r"(.*?\D)[ _.@-]*(\d+)\D{0,3}")


def read_folder(
    path: str | Path,
    labels: str | Sequence[str] | None = None,
    *,
    table: str | Path | None = None,
    file: str = "file_name",
    group: str | None = None,
    tags: Mapping[str, str] | None = None,
    outside: bool = False,
    missing: bool = False,
) -> tuple[pd.DataFrame, list[Path]]:
    """Labels of a folder's clips, indexed by clip, and their files; arguments as :meth:`interp.Clips.from_folder`."""
    folder = Path(path)
    if not folder.is_dir():
        raise ClipError(f"there is no folder {folder}: give a folder that holds audio files and {METADATA}.")
    source = _find(folder, table)
    if source is None:
        frame = _class_folders(folder)
        file = "file_name"
    else:
        frame = _read_json_lines(source) if source.suffix in (".jsonl", ".json") else _read_separated(source, file)
    where = source if source is not None else folder
    _require(frame, where, [file], group, labels, tags)
    names = [str(name).strip() if name is not None else "" for name in frame[file]]
    empty = [i for i, name in enumerate(names) if not name]
    if empty:
        raise ClipError(f"row {empty[0] + 2} of {where} names no file: fill the column {file!r}, or remove the row.")
    _check_files(folder, names, where, outside, missing)
    groups = frame.get(group or "group")
    wanted = _listed(labels) if labels is not None else [c for c in frame.columns if c not in (file, "group", group)]
    result = pd.DataFrame(index=pd.Index(names, name="clip"))
    for column in wanted:
        for name, cells in _split_tags(frame, column, tags).items():
            if name in result:
                raise ClipError(f"the label {name!r} of the tags in {column!r} is there already: rename that column.")
            result[name] = _typed(cells)
    if groups is not None:
        result["group"] = [None if cell is None or not str(cell).strip() else str(cell).strip() for cell in groups]
    return result, [folder / name for name in names]


# Where the table is ---------------------------------------------------------------------------------------------


def _find(folder: Path, table: str | Path | None) -> Path | None:
    """The table of a folder; None where its classes are folders."""
    if table is not None:
        for place in (folder / table, Path(table)):
            if place.is_file():
                return place
        raise ClipError(f"there is no table {table} in {folder}: name a file with a row for each clip.")
    there = [folder / name for name in _TABLES if (folder / name).is_file()]
    if len(there) > 1:
        raise ClipError(f"{folder} has {there[0].name} and {there[1].name}: say which, as in table={there[0].name!r}.")
    if there:
        return there[0]
    audio = [entry for entry in folder.rglob("*") if is_audio(entry.name)]
    tables = sorted(entry.name for entry in folder.iterdir() if entry.suffix in (".csv", ".tsv", ".jsonl"))
    if audio and not tables and all(entry.parent != folder for entry in audio):
        return None
    state = f"holds {len(audio)} audio files but no" if audio else "holds neither audio files nor a"
    hint = f"name the table there is with table={tables[0]!r} (--table), or " if tables else ""
    raise ClipError(
        f"{folder} {state} {METADATA}: {hint}write one with a column 'file_name', a column for each label and, if "
        "several clips come from one song, a column 'group'; or sort the files into a folder for each class."
    )


def _class_folders(folder: Path) -> pd.DataFrame:
    """A folder for each class: the label is the name of the folder that a file lies in."""
    files = sorted(entry for entry in folder.rglob("*") if is_audio(entry.name))
    names = [entry.relative_to(folder).as_posix() for entry in files]
    return pd.DataFrame({"file_name": names, "label": [entry.parent.name for entry in files]}, dtype=object)


# What is in it --------------------------------------------------------------------------------------------------


def _decoded(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ClipError(f"cannot read {path} ({error.strerror}).") from error
    marks = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
    encoding = next((name for mark, name in marks.items() if raw.startswith(mark)), "utf-8")
    try:
        text = raw.decode(encoding)
        if "\0" in text:
            raise ValueError("it holds zero bytes")
    except ValueError as error:
        raise ClipError(
            f"{path} is not text in UTF-8 or UTF-16 ({str(error).split(':')[-1].strip()}): open it in the program that "
            "wrote it and save it as CSV in UTF-8."
        ) from error
    return text


def _read_separated(path: Path, file: str) -> pd.DataFrame:
    """A table with commas, semicolons or tabs; every row must have as many cells as there are columns."""
    text = _decoded(path)
    first = next((line for line in re.split(r"[\r\n]+", text) if line.strip()), "")
    if not first:
        raise ClipError(f"cannot read {path} as a table: it is empty; write a column 'file_name' and your labels.")
    heads = {mark: next(csv.reader([first], delimiter=mark, skipinitialspace=True)) for mark in ",;\t"}
    by_separator = {mark: [cell.strip() for cell in cells] for mark, cells in heads.items()}
    separator = max(by_separator, key=lambda mark: (file in by_separator[mark], len(by_separator[mark])))
    lines = [(line, row) for line, row in _cells(text, separator, path) if any(cell.strip() for cell in row)]
    columns = [cell.strip() for cell in lines.pop(0)[1]] if lines else []
    while columns and not columns[-1] and all(len(row) < len(columns) or not row[-1].strip() for _, row in lines):
        columns.pop()  # a separator at the end of every line
        lines = [(line, row[: len(columns)]) for line, row in lines]
    twice = [name for i, name in enumerate(columns) if name in columns[:i] or not name]
    if twice:
        raise ClipError(f"{path} has two columns {twice[0]!r}, or one without a name: give each a name of its own.")
    for line, row in lines:
        if len(row) != len(columns):
            raise ClipError(
                f"line {line} of {path} has {len(row)} cells, but there are {len(columns)} columns: put quotes around "
                "cells that hold a separator, and leave empty cells empty."
            )
    if not lines:
        raise ClipError(f"{path} lists no clip: add a row for each audio file.")
    cells = {name: [row[i] if row[i].strip() else None for _, row in lines] for i, name in enumerate(columns)}
    return pd.DataFrame(cells, dtype=object)


def _cells(text: str, separator: str, path: Path) -> list[tuple[int, list[str]]]:
    """Rows with the line on which each ends."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    try:
        return [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise ClipError(f"cannot read {path} as a table ({error}): look for quotes that are not closed.") from error


def _read_json_lines(path: Path) -> pd.DataFrame:
    """A table with one JSON object a line; lists in a cell are tags."""
    rows = []
    for number, line in enumerate(_decoded(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ClipError(f"line {number} of {path} is not JSON ({error}): write one object a line.") from error
        if not isinstance(row, dict):
            raise ClipError(f"line {number} of {path} is not an object: write one as {{'file_name': ...}} a line.")
        rows.append(row)
    if not rows:
        raise ClipError(f"{path} lists no clip: add a line for each audio file.")
    columns = dict.fromkeys(name for row in rows for name in row)
    cells = {name: [_json_cell(row.get(name)) for row in rows] for name in columns}
    return pd.DataFrame({name: pd.Series(column, dtype=object) for name, column in cells.items()})


def _json_cell(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, str) and not value.strip():
        return None
    return json.dumps(value) if isinstance(value, dict) else value


def _require(
    frame: pd.DataFrame,
    where: Path,
    needed: list[str],
    group: str | None,
    labels: str | Sequence[str] | None,
    tags: Mapping[str, str] | None,
) -> None:
    for column in [*needed, *([group] if group else []), *(_listed(labels) if labels else []), *(tags or {})]:
        if column in frame:
            continue
        paths = [name for name in frame if sum(isinstance(c, str) and is_audio(c.strip()) for c in frame[name])]
        hint = "name the column that holds the file names 'file_name' and every label as in the table"
        if column in needed and paths:
            hint = f"the files seem to be in the column {paths[0]!r}: say so with file={paths[0]!r} (--file)"
        raise ClipError(f"{where} has no column {column!r}, only {', '.join(map(repr, frame.columns))}: {hint}.")


def _listed(labels: str | Sequence[str]) -> list[str]:
    """Several labels as a list, or with commas; one string is not its letters."""
    parts = labels.split(",") if isinstance(labels, str) else [str(label) for label in labels]
    return list(dict.fromkeys(part.strip() for part in parts if part.strip()))


def _check_files(folder: Path, names: Sequence[str], where: Path, outside: bool, missing: bool) -> None:
    twice = pd.Series(names)
    if twice.duplicated().any():
        raise ClipError(
            f"the clip {twice[twice.duplicated()].iloc[0]!r} is listed more than once in {where}: give every clip one "
            "row."
        )
    # By its name: a link inside the folder may lead anywhere.
    root = os.path.normpath(folder)
    wrong = [] if outside else [n for n in names if not Path(os.path.normpath(folder / n)).is_relative_to(root)]
    sentence = "lies outside that folder: move it there, or allow it with outside=True (--outside)"
    if not wrong and not missing:
        wrong = [n for n in names if not _is_file(folder / n)]
        sentence = "is not in that folder: add the audio or remove the row"
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise ClipError(f"{wrong[0]!r}{more} in {where} {sentence}.")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


# From cells to labels -------------------------------------------------------------------------------------------


def _split_tags(frame: pd.DataFrame, column: str, tags: Mapping[str, str] | None) -> dict[str, list[Any]]:
    """A column as it is, or, where its cells hold several tags, a yes/no column for each tag."""
    cells = list(frame[column])
    lists = any(isinstance(cell, list) for cell in cells)
    separator = (tags or {}).get(column)
    if separator is None and not lists:
        return {column: cells}
    if separator == "":
        raise ClipError(f"the tags of {column!r} need a separator: say tags={{{column!r}: ';'}}.")
    sets: list[set[str] | None] = []
    for cell in cells:
        if cell is None:
            sets.append(None)
            continue
        parts = cell if isinstance(cell, list) else str(cell).split(separator) if separator else [cell]
        sets.append({" ".join(str(part).split()) for part in parts if str(part).strip()})
    every = sorted(set().union(*(tag_set for tag_set in sets if tag_set)))
    return {tag: [None if tag_set is None else tag in tag_set for tag_set in sets] for tag in every}


def _typed(cells: Sequence[Any]) -> npt.NDArray[Any]:
    """Numbers where every cell is one, booleans as they are written by pandas, or else text."""
    kept = [cell for cell in cells if cell is not None]
    if not kept:
        return np.full(len(cells), np.nan)
    if all(isinstance(cell, str) for cell in kept):
        words = [cell.strip() for cell in kept]
        if all(word in _BOOLS for word in words):
            kept = [_BOOLS[word] for word in words]
        elif all(_NUMBER.fullmatch(word) and abs(float(word)) < 2**53 for word in words):
            kept = [int(word) if re.fullmatch(r"[+-]?\d+", word) else float(word) for word in words]
    if len({isinstance(cell, str) for cell in kept}) > 1 or any(isinstance(cell, list) for cell in kept):
        kept = [cell if isinstance(cell, str) else json.dumps(cell) for cell in kept]
    values = iter(kept)
    column: list[Any] = [None if cell is None else next(values) for cell in cells]
    if len(kept) == len(cells) and not isinstance(kept[0], str):
        return np.array(column)
    if not isinstance(kept[0], str | bool):
        return np.array([np.nan if cell is None else cell for cell in column], float)
    return np.array(column, object)


def warn_of_pieces(labels: pd.DataFrame) -> None:
    """Say so where names look like pieces of recordings, of which nothing says that they belong together."""
    matches = [_PIECE.fullmatch(Path(name).with_suffix("").as_posix()) for name in labels.index]
    stems = pd.Series([match[1].rstrip(" _.@-") if match else None for match in matches]).dropna()
    counts = stems.value_counts()
    if len(stems) < len(labels) or len(counts) < 2 or counts.min() < 2:
        return
    classes = {str(value).strip().casefold() for name in labels.columns for value in labels[name].dropna().unique()}
    if all(Path(stem).name.casefold() in classes for stem in counts.index):  # numbered within a class, not a recording
        return
    few = ", ".join(labels.index[:2])
    _log.warning(
        "the names look like pieces of %d recordings (%s, ...), but nothing says which belong together: pieces of one "
        "recording would stand on both sides of a split; name the column that says so with group= (--group).",
        len(counts),
        few,
    )
