"""Cells of a table of labels: what is empty, what is yes or no, what a class is called."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from interp.errors import DataError

__all__ = [
    "by_number",
    "class_name",
    "flag",
    "is_missing",
    "natural_positive",
    "refuse_tags",
    "tidy",
    "warn_alike",
    "yes_or_no",
]

_log = logging.getLogger(__name__)
_YES = frozenset({"yes", "y", "true", "t", "1", "on", "present", "with"})
_NO = frozenset({"no", "n", "false", "f", "0", "off", "absent", "without"})
_NEGATIONS = ("no ", "no-", "no_", "not ", "not-", "non ", "non-", "without ", "un")
_SUNG = frozenset({"vocal", "vocals", "singing", "voice"})
_TAG_MARKS = (";", "|", "\n", "\t")
"""Characters that no name of a class has, but lists of tags have."""
_LIST_MARKS = (",", "/", "+")
"""Characters that some names have; they make a list of tags where a part stands for itself elsewhere."""


def is_missing(cells: pd.Series) -> NDArray[np.bool_]:
    """Which cells of a column are empty (NaN, None or blanks), bool ``[clips]``.

    Examples
    --------
    >>> is_missing(pd.Series(["NA", " ", None, 0])).tolist()
    [False, True, True, False]
    """
    blank = cells.map(lambda cell: isinstance(cell, str) and not cell.strip())
    return np.asarray(cells.isna() | blank, dtype=bool)


def yes_or_no(cells: pd.Series) -> NDArray[np.bool_] | None:
    """A column of yes and no as booleans ``[clips]``, or None where some cell says something else.

    Examples
    --------
    >>> yes_or_no(pd.Series(["Yes", "no ", True, 0])).tolist()
    [True, False, True, False]
    >>> yes_or_no(pd.Series(["yes", "perhaps"])) is None
    True
    """
    flags = [flag(cell) for cell in cells]
    if not flags or any(flag is None for flag in flags):
        return None
    return np.asarray(flags, dtype=bool)


def natural_positive(pair: Iterable[str]) -> str | None:
    """Which of two classes is the natural positive one; None where neither is.

    Examples
    --------
    >>> natural_positive(["drums", "no drums"]), natural_positive(["instrumental", "vocal"])
    ('drums', 'vocal')
    >>> natural_positive(["major", "minor"]) is None
    True
    """
    names = list(pair)
    for positive, negative in (names, names[::-1]):
        yes, no = positive.casefold(), negative.casefold()
        if (yes in _YES and no in _NO) or (yes in _SUNG and no == "instrumental"):
            return positive
        if any(no == negation + yes for negation in _NEGATIONS):
            return positive
        if yes.startswith("with ") and no == "without " + yes.removeprefix("with "):
            return positive
    return None


def class_name(cell: object) -> str:
    """The class that a cell names: numbers without needless decimals, text without needless blanks."""
    if isinstance(cell, bool | np.bool_):
        return str(int(cell))
    if isinstance(cell, float | np.floating) and float(cell).is_integer():
        return str(int(cell))
    return tidy(str(cell))


def tidy(text: str) -> str:
    """Text without blanks around it, and with single ones within."""
    return " ".join(str(text).split())


def flag(cell: object) -> bool | None:
    if isinstance(cell, bool | np.bool_):
        return bool(cell)
    if isinstance(cell, int | float | np.number):
        return bool(cell) if cell in (0, 1) else None
    text = tidy(str(cell)).casefold()
    if text in ("1.0", "0.0"):
        return text == "1.0"
    return True if text in _YES else False if text in _NO else None


def by_number(text: str) -> tuple[int, float, str]:
    """Key that sorts numbers by their size, before words by the alphabet."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    return (0, number, text) if math.isfinite(number) else (1, 0.0, text)


def refuse_tags(column: str, classes: list[str]) -> None:
    """Refuse cells that hold several tags: as a class, ``piano;drums`` would count as not piano."""
    there = set(classes)
    for name in classes:
        marks = [mark for mark in _TAG_MARKS if mark in name]
        for mark in _LIST_MARKS:
            parts = [tidy(part) for part in name.split(mark)]
            if len(parts) > 1 and all(parts) and any(part in there for part in parts):
                marks.append(mark)
        if marks:
            raise DataError(
                f"the label {column!r} holds several tags in one cell ({name!r}): say what separates them when the "
                f"clips are read, as in tags={{{column!r}: {marks[0]!r}}}, and each tag becomes a yes/no label."
            )


def warn_alike(column: str, classes: list[str]) -> None:
    spelled: dict[str, str] = {}
    for name in classes:
        other = spelled.setdefault(name.casefold(), name)
        if other != name:
            _log.warning("the label %r has the classes %r and %r, which differ in case only: they stay two classes.",
                         column, other, name)  # fmt: skip
