"""Labels as targets: one direction of a trait needs one target, and a trait of many classes has many."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from interp.errors import DataError
from interp.traits import Labels, Trait

__all__ = ["Scheme", "Target", "make_targets", "target_of"]

Scheme = Literal["auto", "binary", "ovr", "pairwise", "joint", "graded"]


@dataclass(frozen=True, eq=False)
class Target:
    """What one direction is fitted to.

    Attributes
    ----------
    labels : Labels
        Labels of the clips that take part.
    output : int
        For several classes fitted together, the one whose direction is meant; else 0.
    """

    labels: Labels
    output: int = 0

    @property
    def trait(self) -> Trait:
        """What was asked."""
        return self.labels.trait

    @property
    def graded(self) -> bool:
        """Whether labels are numbers."""
        return self.labels.graded

    @property
    def several(self) -> bool:
        """Whether it is one class of several that are fitted together."""
        return self.labels.kind == "categorical"

    @property
    def positive(self) -> str:
        """What lies on the positive side."""
        return self.labels.classes[self.output] if self.several else self.labels.positive

    @property
    def against(self) -> str:
        """What lies on the negative side."""
        return f"not {self.positive}" if self.several else self.labels.against

    @property
    def used(self) -> NDArray[np.bool_]:
        """Clips that take part, bool ``[clips]``."""
        return self.labels.keep

    @property
    def y(self) -> NDArray[np.generic]:
        """Class indices or numbers of the clips that take part."""
        return self.labels.y

    @property
    def hit(self) -> NDArray[np.bool_] | None:
        """Which of them are of the positive class; nothing for a graded trait."""
        return None if self.graded else np.asarray(self.y == (self.output if self.several else 1))

    def within(self, clips: NDArray[np.bool_]) -> Target:
        """The same target, of which only some clips take part (the training part of a study)."""
        clips = np.asarray(clips, dtype=bool)
        if len(clips) != len(self.used):
            raise DataError(f"{len(clips)} clips are marked, but there are {len(self.used)}: give one mark per clip.")
        labels = replace(self.labels, keep=self.used & clips, y=self.y[clips[self.used]])
        return replace(self, labels=labels)

    def spread(self, values: NDArray[np.generic], missing: float = -1) -> NDArray[np.float64]:
        """Values of the clips that take part, at their places among all clips."""
        out = np.full(len(self.used), float(missing))
        out[self.used] = values
        return out

    @property
    def key(self) -> tuple[str, str]:
        """Trait and positive class, as they stand in a direction."""
        return str(self.trait), self.positive

    def __str__(self) -> str:
        if self.several:
            return f"{self.trait}={self.positive}"
        return str(self.trait)


def make_targets(
    labels: pd.DataFrame, traits: str | Trait | Iterable[str | Trait], scheme: Scheme = "auto"
) -> list[Target]:
    """Turn label columns into targets.

    Parameters
    ----------
    labels : DataFrame of shape (clips, columns)
        Labels, one row a clip.
    traits : str, Trait or iterable of them
        ``"drums"``, ``"genre=jazz"``, ``"genre=jazz|rock"``.
    scheme : {"auto", "binary", "ovr", "pairwise", "joint", "graded"}
        For traits of several classes: one class against the rest (``"ovr"``, and ``"auto"``), every pair, or all
        classes fitted together as :func:`interp.probes.probe` does (``"joint"``).

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
    ['drums', 'genre=jazz|pop', 'genre=jazz|rock', 'genre=pop|rock']
    >>> [(t.positive, t.against) for t in make_targets(table, ["drums", "genre=jazz"])]
    [('drums', 'not drums'), ('jazz', 'not jazz')]
    """
    targets: list[Target] = []
    for name in [traits] if isinstance(traits, str | Trait) else traits:
        trait = Trait.parse(name)
        kind = {"graded": "graded", "binary": "binary"}.get(scheme)
        read = trait.read(labels, kind)  # type: ignore[arg-type]
        if read.kind != "categorical":
            targets.append(Target(read))
        elif scheme == "joint":
            targets += [Target(read, k) for k in range(len(read.classes))]
        elif scheme == "pairwise":
            targets += [Target(Trait(trait.column, a, b).read(labels)) for a, b in combinations(read.classes, 2)]
        else:
            targets += [Target(Trait(trait.column, name).read(labels)) for name in read.classes]
    if not targets:
        raise DataError("no trait was asked for: name a label column.")
    return targets


def target_of(labels: pd.DataFrame, trait: str | Trait, positive: str) -> Target:
    """The target that a direction of a trait, with this positive side, was fitted to.

    Raises
    ------
    DataError
        If the labels have no such trait or class.
    """
    read = Trait.parse(trait).read(labels)
    if read.kind != "categorical":
        if positive != read.positive:
            raise DataError(
                f"the labels of {str(trait)!r} have {read.positive!r} on the positive side, not {positive!r}."
            )
        return Target(read)
    if positive not in read.classes:
        raise DataError(f"no clip has {read.trait.column}={positive}: the labels are {', '.join(read.classes[:12])}.")
    return Target(read, read.classes.index(positive))
