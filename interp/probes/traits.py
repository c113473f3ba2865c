"""Labels made ready for probing: which clips, which classes, what kind of trait."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from interp.errors import DataError

__all__ = ["Trait", "TraitKind", "read_trait"]

TraitKind = Literal["binary", "categorical", "graded"]
_MANY = 10
"""More different numbers than this make a trait graded."""


@dataclass(frozen=True)
class Trait:
    """Labels of the clips that have one.

    Attributes
    ----------
    name : str
        As it was asked for: ``"drums"``, ``"instrument"``, ``"instrument=piano"``, ``"genre=jazz|rock"``.
    kind : {"binary", "categorical", "graded"}
        What the labels say.
    classes : tuple of str
        Names of the classes, sorted; class 1 of a binary trait is the positive one. Empty for graded traits.
    y : array of shape (kept clips,)
        Class indices, or numbers.
    keep : bool array of shape (clips,)
        Clips that have a label.
    """

    name: str
    kind: TraitKind
    classes: tuple[str, ...]
    y: NDArray[np.generic]
    keep: NDArray[np.bool_]

    @property
    def n_missing(self) -> int:
        """Clips without a label."""
        return int((~self.keep).sum())

    @property
    def positive(self) -> str:
        """What lies on the positive side of a direction of this trait."""
        return self.classes[1] if self.kind == "binary" else "more"

    @property
    def graded(self) -> bool:
        """Whether labels are numbers."""
        return self.kind == "graded"


def read_trait(values: pd.Series, name: str | None = None, kind: TraitKind | None = None) -> Trait:
    """Read a column of labels.

    Parameters
    ----------
    values : Series of shape (clips,)
        Labels; missing ones (NaN, None, empty text) are left out and counted.
    name : str, optional
        The trait; ``"column=value"`` sets one value against all others, ``"column=a|b"`` value a against value b,
        leaving out the rest. By default the name of the series.
    kind : {"binary", "categorical", "graded"}, optional
        By default numbers with more than ten different values are graded, two classes are binary.

    Returns
    -------
    Trait

    Raises
    ------
    DataError
        If fewer than two classes (or different numbers) are left.

    Examples
    --------
    >>> t = read_trait(pd.Series(["piano", "flute", None, "piano"], name="instrument"))
    >>> t.kind, t.classes, t.y.tolist(), t.n_missing
    ('binary', ('flute', 'piano'), [1, 0, 1], 1)
    >>> read_trait(pd.Series(["a", "b", "c", "a"], name="x"), "x=a").y.tolist()
    [1, 0, 0, 1]
    """
    name = str(values.name) if name is None else name
    column, _, choice = name.partition("=")
    raw = pd.Series(values.to_numpy(), name=column)
    keep = (raw.notna() & (raw.astype(str).str.strip() != "")).to_numpy()
    if not keep.any():
        raise DataError(f"trait {name!r}: no clip has a label.")
    if choice:
        return _chosen(raw, keep, name, choice)
    left = raw[keep]
    numeric = pd.to_numeric(left, errors="coerce")
    is_number = bool(numeric.notna().all()) and left.map(lambda v: not isinstance(v, bool | np.bool_)).all()
    distinct = left.astype(str).nunique()
    if kind is None:
        kind = "graded" if is_number and numeric.nunique() > _MANY else "binary" if distinct == 2 else "categorical"
    if kind == "graded":
        if not is_number:
            raise DataError(f"trait {name!r} is not graded: its labels are not all numbers.")
        numbers = numeric.to_numpy(dtype=float, copy=True)
        if not np.isfinite(numbers).all():
            raise DataError(f"trait {name!r} has infinite labels: mark them as missing (NaN).")
        if np.ptp(numbers) == 0:
            raise DataError(f"trait {name!r} is {numbers[0]:g} for every labelled clip: there is nothing to probe.")
        return Trait(name, "graded", (), numbers, keep)
    text = left.map(_name)
    classes = sorted(text.unique(), key=_by_number)
    if len(classes) < 2:
        raise DataError(
            f"trait {name!r} has one class ({classes[0]!r}) among {len(text)} labelled clips "
            f"({int((~keep).sum())} have no label): a probe needs two."
        )
    if kind == "binary" and len(classes) > 2:
        raise DataError(
            f"trait {name!r} has {len(classes)} classes: write {column}={classes[0]} to set one against the others."
        )
    index = text.map({c: i for i, c in enumerate(classes)}).to_numpy(dtype=np.int64, copy=True)
    return Trait(name, "binary" if len(classes) == 2 else "categorical", tuple(classes), index, keep)


def _chosen(raw: pd.Series, keep: NDArray[np.bool_], name: str, choice: str) -> Trait:
    text = raw.map(lambda v: _name(v) if pd.notna(v) else "")
    positive, _, negative = choice.partition("|")
    for wanted in filter(None, (positive, negative)):
        if not (text == wanted).any():
            known = ", ".join(sorted(text[keep].unique(), key=_by_number)[:12])
            raise DataError(f"no clip has {raw.name}={wanted}: the labels are {known}.")
    if negative:
        keep = keep & text.isin([positive, negative]).to_numpy()
    y = (text[keep] == positive).to_numpy(dtype=np.int64, copy=True)
    if y.all():
        raise DataError(f"every labelled clip has {name}: a probe needs clips without it.")
    return Trait(name, "binary", (negative or f"not {positive}", positive), y, keep)


def _name(value: object) -> str:
    if isinstance(value, bool | np.bool_):
        return str(int(value))
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()


def _by_number(text: str) -> tuple[int, float, str]:
    try:
        return (0, float(text), text)
    except ValueError:
        return (1, 0.0, text)
