"""Traits: what a label says of a clip, which answer is positive, and the one reader of labels.

A trait is written ``drums`` (a yes/no label, or all classes of a label), ``instrument=piano`` (one class against all
others) or ``instrument=piano|flute`` (one class against another, the rest left out). Text becomes a :class:`Trait`
once, where it enters, and a trait meets a table of labels in :meth:`Trait.read`, and nowhere else.

Labels are read the same way everywhere. Blanks around and within them do not count. Yes and no may be written ``yes/no,
y/n, true/false, t/f, 1/0, on/off, present/absent, with/without`` in any case. A pair such as ``drums / no drums``,
``with bass / without bass`` or ``vocal / instrumental`` has a natural positive; any other pair has none, and then the
last in order is taken and said. Only empty cells are missing: ``None`` and ``NA`` are classes like any other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from interp._cells import (
    by_number,
    class_name,
    flag,
    is_missing,
    natural_positive,
    refuse_tags,
    tidy,
    warn_alike,
    yes_or_no,
)
from interp._files import slug
from interp.errors import DataError

__all__ = ["Labels", "Trait", "TraitKind"]

TraitKind = Literal["binary", "categorical", "graded"]
_MANY = 10
"""More different numbers than this make a trait graded."""


@dataclass(frozen=True)
class Trait:
    """What is asked of the labels.

    Attributes
    ----------
    column : str
        The label.
    positive : str
        The class asked for; empty for a yes/no label, for all classes of a label, and for numbers.
    against : str
        The class it is set against; empty for all others.

    Raises
    ------
    DataError
        If a part is missing, or a class is set against itself.

    Examples
    --------
    >>> Trait.parse("instrument=piano|flute")
    Trait(column='instrument', positive='piano', against='flute')
    >>> str(Trait("genre", "jazz")), Trait("genre", "jazz").slug
    ('genre=jazz', 'genre_jazz')
    """

    column: str
    positive: str = ""
    against: str = ""

    def __post_init__(self) -> None:
        for name in ("column", "positive", "against"):
            object.__setattr__(self, name, tidy(getattr(self, name)))
        if not self.column:
            raise DataError("a trait names a label first, as in drums, instrument=piano or instrument=piano|flute.")
        if "=" in self.column or "|" in self.positive + self.against or (self.against and not self.positive):
            raise DataError(f"the trait {str(self)!r} cannot be read: write it like instrument=piano|flute.")
        if self.against and self.against == self.positive:
            raise DataError(f"the trait {str(self)!r} sets a class against itself: name two different ones.")

    @classmethod
    def parse(cls, trait: str | Trait) -> Trait:
        """Read a trait as it is written; one that is read already comes back as it is.

        Raises
        ------
        DataError
            If it is not text, or a part of ``column=class|class`` is missing.
        """
        if isinstance(trait, Trait):
            return trait
        if not isinstance(trait, str):
            raise DataError(f"a trait is text such as 'drums' or 'instrument=piano', not {trait!r}.")
        column, equals, choice = trait.partition("=")
        positive, bar, against = choice.partition("|")
        if (equals and not tidy(positive)) or (bar and not tidy(against)):
            raise DataError(f"the trait {trait!r} names no class: write it like instrument=piano|flute.")
        return cls(column, positive, against)

    def __str__(self) -> str:
        chosen = f"={self.positive}" if self.positive else ""
        return f"{self.column}{chosen}" + (f"|{self.against}" if self.against else "")

    @property
    def slug(self) -> str:
        """The trait as part of a file's name."""
        return slug(str(self))

    @property
    def answer(self) -> str:
        """What is present when the trait is: the class asked for, or the label itself."""
        return self.positive or self.column

    def read(self, labels: pd.DataFrame | pd.Series, kind: TraitKind | None = None) -> Labels:
        """Read the labels of this trait.

        Parameters
        ----------
        labels : DataFrame of shape (clips, columns), or Series of shape (clips,)
            A table with the trait's column, or the column alone. Empty cells (NaN, None, blanks) are missing.
        kind : {"binary", "categorical", "graded"}, optional
            By default numbers with more than ten different values are graded, two classes are binary.

        Returns
        -------
        Labels

        Raises
        ------
        DataError
            If the column is missing, fewer than two classes (or different numbers) are left, a cell holds several
            tags, or a class that was asked for does not occur.

        Examples
        --------
        >>> cells = pd.Series(["piano", "flute", None, "piano"], name="instrument")
        >>> labels = Trait("instrument").read(cells)
        >>> labels.kind, labels.classes, labels.y.tolist(), labels.n_missing
        ('binary', ('flute', 'piano'), [1, 0, 1], 1)
        >>> Trait("instrument", "flute").read(cells).y.tolist()
        [0, 1, 0]
        >>> Trait("drums").read(pd.Series(["No", "yes", "YES "])).positive
        'drums'
        """
        cells = self._cells(labels)
        keep = ~is_missing(cells)
        if not keep.any():
            raise DataError(f"trait {str(self)!r}: no clip has a label.")
        if self.positive:
            return self._against(cells, keep)
        numbers = pd.to_numeric(cells[keep], errors="coerce")
        numeric = bool(numbers.notna().all()) and not any(isinstance(v, bool | np.bool_) for v in cells[keep])
        if kind == "graded" or (kind is None and numeric and numbers.nunique() > _MANY):
            return self._graded(numbers, keep, cells)
        classes, text, natural = self._classes(cells, keep)
        if len(classes) < 2:
            raise DataError(
                f"trait {str(self)!r} has one class ({classes[0]!r}) among {len(text)} labelled clips "
                f"({int((~keep).sum())} have no label): a probe needs two."
            )
        if kind == "binary" and len(classes) > 2:
            raise DataError(
                f"trait {str(self)!r} has {len(classes)} classes: write {self.column}={classes[0]} to set one against "
                "the others."
            )
        index = text.map({c: i for i, c in enumerate(classes)}).to_numpy(dtype=np.int64, copy=True)
        return Labels(self, "binary" if len(classes) == 2 else "categorical", classes, index, keep, natural)

    def has(self, labels: pd.DataFrame | pd.Series) -> NDArray[np.bool_]:
        """Which clips have the trait, bool ``[clips]``.

        Raises
        ------
        DataError
            If there is no such label or class, or the trait names no class and the label is no yes/no label.

        Examples
        --------
        >>> table = pd.DataFrame({"genre": ["jazz", "rock", "pop", None], "drums": ["yes", "no", "no", "yes"]})
        >>> Trait("genre", "jazz").has(table).tolist(), Trait("drums").has(table).tolist()
        ([True, False, False, False], [True, False, False, True])
        >>> Trait("genre", "jazz", "pop").lacks(table).tolist()
        [False, False, True, False]
        """
        return self._asked(labels, 1)

    def lacks(self, labels: pd.DataFrame | pd.Series) -> NDArray[np.bool_]:
        """Which clips lack it, bool ``[clips]``; of a pair, which are of the other class. Unlabelled clips do neither.

        Raises
        ------
        DataError
            As :meth:`has`.
        """
        return self._asked(labels, 0)

    def _asked(self, labels: pd.DataFrame | pd.Series, answer: int) -> NDArray[np.bool_]:
        cells = self._cells(labels)
        missing = is_missing(cells)
        if missing.all():
            raise DataError(f"trait {str(self)!r}: no clip has a label.")
        mask = np.zeros(len(cells), dtype=bool)
        if self.positive:
            text, positive, against = self._chosen(cells, ~missing)
            if answer:
                return np.asarray(text == positive) & ~missing
            return np.asarray(text == against if self.against else text != positive) & ~missing
        said = yes_or_no(cells[~missing])
        if said is not None:
            mask[~missing] = said == bool(answer)
            return mask
        classes, text, natural = self._classes(cells, ~missing)
        if len(classes) != 2 or not natural:
            some = ", ".join(map(repr, classes[:3]))
            raise DataError(
                f"{self.column!r} is not yes or no but {some}: name a class, as in {self.column}={classes[0]}."
            )
        mask[~missing] = (text == classes[answer]).to_numpy()
        return mask

    def _cells(self, labels: pd.DataFrame | pd.Series) -> pd.Series:
        if isinstance(labels, pd.DataFrame):
            if self.column not in labels.columns:
                known = ", ".join(str(c) for c in labels.columns if c != "group")
                more = " (a tree of labels: interp.probes.tree)" if "/" in self.column else ""
                raise DataError(f"the clips have no label {self.column!r}, only {known or 'none'}{more}.")
            labels = labels[self.column]
        return pd.Series(labels.to_numpy(dtype=object), name=self.column)

    def _graded(self, numbers: pd.Series, keep: NDArray[np.bool_], cells: pd.Series) -> Labels:
        if numbers.isna().any():
            odd = sorted({str(v) for v in cells[keep][numbers.isna()]})[:3]
            raise DataError(f"trait {str(self)!r} is not graded: {', '.join(map(repr, odd))} is not a number.")
        values = numbers.to_numpy(dtype=float, copy=True)
        if not np.isfinite(values).all():
            raise DataError(f"trait {str(self)!r} has infinite labels: leave their cells empty.")
        if np.ptp(values) == 0:
            raise DataError(f"trait {str(self)!r} is {values[0]:g} for every labelled clip: there is nothing to probe.")
        return Labels(self, "graded", (), values, keep, True)

    def _classes(self, cells: pd.Series, keep: NDArray[np.bool_]) -> tuple[tuple[str, ...], pd.Series, bool]:
        """Classes in order (of two, the positive one last), every clip's class, whether the order is natural."""
        left = cells[keep]
        said = yes_or_no(left)
        if said is not None:
            names = np.array(self._yes_no, dtype=object)
            text = pd.Series(names[said.astype(int)], index=left.index)
            return tuple(name for name in names if (text == name).any()), text, True
        text = left.map(class_name)
        classes = sorted(set(text), key=by_number)
        refuse_tags(self.column, classes)
        warn_alike(self.column, classes)
        natural = False
        if len(classes) == 2:
            positive = natural_positive(classes)
            natural = positive is not None
            if positive == classes[0]:
                classes.reverse()
        return tuple(classes), text, natural

    def _chosen(self, cells: pd.Series, keep: NDArray[np.bool_]) -> tuple[pd.Series, str, str]:
        """Every clip's class ("" where it is missing), and what the two sides of the trait are called among them."""
        text = pd.Series("", index=cells.index, dtype=object)
        there: tuple[str, ...] = ()
        if keep.any():
            there, text[keep], _ = self._classes(cells, keep)
        sides = []
        for choice in filter(None, (self.positive, self.against)):
            answer = flag(choice)
            if answer is not None and choice not in there and set(there) & set(self._yes_no):
                choice = self._yes_no[int(answer)]  # drums=yes asks for the clips that have drums
            if choice not in there:
                alike = [name for name in there if name.casefold() == choice.casefold()]
                hint = f"did you mean {alike[0]!r}?" if alike else f"the labels are {', '.join(there[:12])}."
                raise DataError(f"no clip has {self.column}={choice}: {hint}")
            sides.append(choice)
        other = {name: self._yes_no[1 - i] for i, name in enumerate(self._yes_no)}
        positive = sides[0]
        return text, positive, sides[1] if self.against else other.get(positive, f"not {positive}")

    @property
    def _yes_no(self) -> tuple[str, str]:
        return f"not {self.column}", self.column

    def _against(self, cells: pd.Series, keep: NDArray[np.bool_]) -> Labels:
        text, positive, against = self._chosen(cells, keep)
        if self.against:
            keep = keep & text.isin([positive, against]).to_numpy()
        y = (text[keep] == positive).to_numpy(dtype=np.int64, copy=True)
        if y.all():
            raise DataError(f"every labelled clip has {self}: a probe needs clips without it.")
        return Labels(self, "binary", (against, positive), y, keep, True)


@dataclass(frozen=True)
class Labels:
    """Labels of the clips that have one, as :meth:`Trait.read` returns them.

    Attributes
    ----------
    trait : Trait
        What was asked.
    kind : {"binary", "categorical", "graded"}
        What the labels say.
    classes : tuple of str
        Names of the classes in order; class 1 of a binary trait is the positive one. Empty for graded traits.
    y : array of shape (kept clips,)
        Class indices (int64), or numbers (float64).
    keep : bool array of shape (clips,)
        Clips that have a label.
    natural : bool
        False for two classes neither of which is the natural positive one, so that their order is only the alphabet's.
    """

    trait: Trait
    kind: TraitKind
    classes: tuple[str, ...]
    y: NDArray[np.generic]
    keep: NDArray[np.bool_]
    natural: bool = True

    @property
    def name(self) -> str:
        """The trait as text."""
        return str(self.trait)

    @property
    def n_missing(self) -> int:
        """Clips without a label."""
        return int((~self.keep).sum())

    @property
    def positive(self) -> str:
        """What lies on the positive side of a direction of this trait."""
        return self.classes[1] if self.kind == "binary" else "more" if self.graded else ""

    @property
    def against(self) -> str:
        """What lies on the negative side."""
        return self.classes[0] if self.kind == "binary" else "less" if self.graded else ""

    @property
    def graded(self) -> bool:
        """Whether labels are numbers."""
        return self.kind == "graded"

    @property
    def note(self) -> str:
        """Which answer counts as positive, in a sentence; empty where that is plain from the trait or the labels."""
        if self.kind != "binary" or self.natural:
            return ""
        return (
            f"{self.positive!r} counts as positive and {self.against!r} as negative, by the alphabet: write "
            f"{self.trait.column}={self.against} for the opposite."
        )
