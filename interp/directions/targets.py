"""Labels as targets: one direction of a trait needs one target, and a trait of many classes has many."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from interp.errors import DataError
from interp.probes.traits import read_trait

__all__ = ["Scheme", "Target", "make_targets"]

Array = NDArray[np.float64]
Scheme = Literal["auto", "binary", "ovr", "pairwise", "graded"]


@dataclass(frozen=True)
class Target:
    """What one direction is fitted to.

    Attributes
    ----------
    trait : str
        Name of the label column, or what was asked for.
    positive : str
        What lies on the positive side.
    against : str
        What lies on the negative side: a class, or ``"rest"``; empty for graded traits.
    y : array of shape (clips,)
        +1, -1 and 0 (neither) for classes; standardised numbers for a graded trait, 0 where there is no
        label.
    graded : bool
        Whether ``y`` are numbers.
    """

    trait: str
    positive: str
    against: str
    y: Array
    graded: bool = False

    @property
    def used(self) -> NDArray[np.bool_]:
        """Clips that take part."""
        return np.isfinite(self.y) & (np.ones(len(self.y), bool) if self.graded else self.y != 0)

    def __str__(self) -> str:
        return self.trait if self.graded else f"{self.trait}={self.positive}/{self.against}"


def make_targets(labels: pd.DataFrame, traits: str | Iterable[str], scheme: Scheme = "auto") -> list[Target]:
    """Turn label columns into targets.

    Parameters
    ----------
    labels : DataFrame of shape (clips, columns)
        Labels, one row a clip.
    traits : str or iterable of str
        Columns, or choices within one: ``"drums"``, ``"genre=jazz"``, ``"genre=jazz|rock"``.
    scheme : {"auto", "binary", "ovr", "pairwise", "graded"}
        For traits of several classes: one class against the rest (``"ovr"``, and ``"auto"``) or every pair.

    Returns
    -------
    list of Target

    Raises
    ------
    DataError
        If a column is missing, has one class only, or does not fit the scheme.

    Examples
    --------
    >>> table = pd.DataFrame({"drums": [0, 1, 1, 0], "genre": ["jazz", "rock", "jazz", "pop"]})
    >>> [str(t) for t in make_targets(table, ["drums", "genre"], "pairwise")]
    ['drums=1/0', 'genre=jazz/pop', 'genre=jazz/rock', 'genre=pop/rock']
    """
    found: list[Target] = []
    for name in [traits] if isinstance(traits, str) else traits:
        column = name.partition("=")[0]
        if column not in labels.columns:
            raise DataError(f"no label {column!r}: there are {', '.join(map(str, labels.columns)) or 'none'}.")
        kind = {"graded": "graded", "binary": "binary"}.get(scheme)
        trait = read_trait(labels[column], name, kind)  # type: ignore[arg-type]
        y = np.zeros(len(labels))
        if trait.graded:
            y[:] = np.nan
            y[trait.keep] = (trait.y - trait.y.mean()) / trait.y.std()
            if not trait.keep.all():
                raise DataError(f"trait {name!r} has no number for {trait.n_missing} clips: leave these clips out.")
            found.append(Target(column, "more", "", y, graded=True))
            continue
        index = np.full(len(labels), -1)
        index[trait.keep] = trait.y
        if trait.kind == "binary":
            pairs = [(1, 0)]
        elif scheme == "pairwise":
            pairs = list(combinations(range(len(trait.classes)), 2))
        else:
            pairs = [(k, -1) for k in range(len(trait.classes))]
        for a, b in pairs:
            y = np.where(index == a, 1.0, 0.0)
            y[(index >= 0) & (index != a) if b < 0 else index == b] = -1.0
            found.append(Target(column, trait.classes[a], "rest" if b < 0 else trait.classes[b], y))
    if not found:
        raise DataError("no trait was asked for: name a label column.")
    return found
