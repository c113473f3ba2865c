"""An ordered list of directions: selected by what they are of, tabulated, saved and loaded."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any, overload

import numpy as np
import pandas as pd

from interp.directions.direction import NUMBERS, WORDS, Array, Direction
from interp.errors import DataError, SiteError
from interp.sites import Site, select_sites
from interp.traits import Trait

__all__ = ["Directions"]

_ROWS = 20
"""Rows that a notebook shows."""


class Directions(Sequence[Direction]):
    """An ordered, immutable list of directions.

    Examples
    --------
    >>> d = Direction.from_weight("L0.H1", [1.0, 0.0], method="ridge", trait="drums")
    >>> both = Directions([d, d.flip()])
    >>> len(both), len(both.select(method="ridge", sites="L0.H*", positive="drums"))
    (2, 1)
    """

    def __init__(self, directions: Iterable[Direction] = ()) -> None:
        self._items = tuple(directions)
        for item in self._items:
            if not isinstance(item, Direction):
                raise DataError(f"a list of directions holds {type(item).__name__}; give Direction objects.")

    @overload
    def __getitem__(self, index: int) -> Direction: ...
    @overload
    def __getitem__(self, index: slice) -> Directions: ...
    def __getitem__(self, index: int | slice) -> Direction | Directions:
        return Directions(self._items[index]) if isinstance(index, slice) else self._items[index]

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Direction]:
        return iter(self._items)

    def __add__(self, other: Iterable[Direction]) -> Directions:
        return Directions((*self._items, *other))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Directions) and self._items == other._items

    def __hash__(self) -> int:
        return hash(self._items)

    def __repr__(self) -> str:
        methods, traits = self.unique("method"), self.unique("trait")
        return f"<{len(self)} directions: {len(self.unique('site'))} sites, methods {methods}, traits {traits}>"

    def _repr_html_(self) -> str:
        more = f"<p>... and {len(self) - _ROWS} more</p>" if len(self) > _ROWS else ""
        return f"<p>{escape(repr(self)[1:-1])}</p>{Directions(self[:_ROWS]).to_frame().to_html(index=False)}{more}"

    def unique(self, name: str) -> list[Any]:
        """Different values of a field (or of ``kind``, ``layer``, ``head``), in order of appearance."""
        return list(dict.fromkeys(_value(item, name) for item in self._items))

    def select(
        self,
        *,
        trait: str | Trait | Iterable[str | Trait] | None = None,
        sites: str | Site | Iterable[str | Site] | None = None,
        where: Callable[[Direction], bool] | None = None,
        **fields: Any,
    ) -> Directions:
        """The directions that match, in their order; each argument takes one value or several.

        Parameters
        ----------
        trait : str, Trait or iterable of them
            ``"genre"`` for all classes of a label, ``"genre=jazz"`` for those towards one class.
        sites : str, Site or iterable of them
            Where, as :func:`interp.sites.select_sites` reads it: ``"resid"``, ``"L0-5.resid"``, ``"L2.H1, L4.H0"``.
        where : callable, optional
            Keeps the directions for which it is true.
        **fields
            Any field (``method``, ``positive``, ``site``, ``pool``, ...), ``kind``, ``layer``, ``head``, or a key of
            ``info``; one value or several.

        Raises
        ------
        SiteError
            If no direction is at a site that was named.

        Examples
        --------
        >>> two = Directions(
        ...     Direction.from_weight("L1.resid", [1, i], trait="genre", positive=name) for i, name in enumerate("ab")
        ... )
        >>> [item.positive for item in two.select(trait="genre=b", sites="resid")]
        ['b']
        """
        kept = list(self._items)
        if trait is not None:
            traits = [trait] if isinstance(trait, str | Trait) else list(trait)
            kept = [item for item in kept if any(item.is_of(name) for name in traits)]
        wanted = {name: _several(name, value) for name, value in fields.items() if value is not None}
        kept = [item for item in kept if all(_value(item, name) in values for name, values in wanted.items())]
        if sites is not None:
            places = set(select_sites(sites, {item.site for item in kept}, "the list of directions"))
            kept = [item for item in kept if item.site in places]
        return Directions(item for item in kept if where is None or where(item))

    def single_push(self) -> Directions:
        """Return the list if it holds one direction a site: one class of one trait, by one method.

        Several directions at a site add up when they are pushed along together; those of all classes of a label
        nearly cancel.

        Raises
        ------
        DataError
            If a site has several; the sentence says what to choose.

        Examples
        --------
        >>> two = Directions(
        ...     Direction.from_weight("L1.resid", [1, i], trait="genre", positive=name) for i, name in enumerate("ab")
        ... )
        >>> two.single_push()
        Traceback (most recent call last):
        ...
        interp.errors.DataError: L1.resid has 2 directions of 'genre', which one push would add up: choose one with ...
        >>> len(two.select(positive="a").single_push())
        1
        """
        at: dict[Site, list[Direction]] = {}
        for item in self._items:
            at.setdefault(item.site, []).append(item)
        for site, items in at.items():
            if len(items) == 1:
                continue
            choices = [
                f"{name}={str(getattr(items[0], name))!r} ({', '.join(dict.fromkeys(getattr(i, name) for i in items))})"
                for name in ("trait", "positive", "method", "pool")
                if len({getattr(item, name) for item in items}) > 1
            ]
            traits = " and ".join(repr(name) for name in dict.fromkeys(item.trait for item in items))
            how = (
                f"choose one with select({'; '.join(choices)})." if choices else "they are the same: leave all but one."
            )
            raise DataError(f"{site} has {len(items)} directions of {traits}, which one push would add up: {how}")
        return self

    def top(self, k: int) -> Directions:
        """The ``k`` directions with the best held-out score, best first; ties in forward order.

        Raises
        ------
        DataError
            If a site has several directions, see :meth:`single_push`.
        SiteError
            If there are fewer.

        Examples
        --------
        >>> some = Directions(Direction.from_weight(f"L{i}.H0", [1, i], trait="drums", score=i / 9) for i in range(4))
        >>> [str(item.site) for item in some.top(2)]
        ['L3.H0', 'L2.H0']
        """
        self.single_push()
        if not 1 <= k <= len(self):
            what = "heads" if set(self.unique("kind")) == {"heads"} else "sites"
            raise SiteError(f"cannot take {k} of {len(self)} {what}: write top:1 to top:{len(self)}, or name sites.")

        def rank(item: Direction) -> tuple[float, Site]:
            return -item.score if math.isfinite(item.score) else math.inf, item.site

        return Directions(sorted(self._items, key=rank)[:k])

    def at(self, sites: str | Site | Iterable[str | Site]) -> Directions:
        """The directions at some sites, in forward order, or ``"top:8"``: the eight best, as :meth:`top` has them.

        Raises
        ------
        SiteError
            If no direction is at a site that was named, or ``top:`` asks for more than there are.
        """
        if isinstance(sites, str) and sites.strip().startswith("top:"):
            count = sites.strip().removeprefix("top:").strip()
            if not count.isdigit():
                raise SiteError(f"{sites.strip()!r} cannot be read: write top:1 to top:{len(self)}, or name sites.")
            return self.top(int(count))
        return Directions(sorted(self.select(sites=sites), key=lambda item: item.site))

    def choose(self, trait: str | Trait, method: str | None = None, sites: str = "best") -> Directions:
        """The directions of one class of a trait and of one method, at some sites: what one push may take.

        Parameters
        ----------
        trait : str or Trait
            ``"drums"``, ``"genre=jazz"``; of a label with several classes one must be named.
        method : str, optional
            How they were found; may be left out where there is one.
        sites : str
            Sites as :func:`interp.sites.select_sites` reads them (``"L3.resid"``, ``"L2.H1, L4.H0"``, ``"resid"``),
            ``"top:8"`` for the best held-out scores (of heads where there are any, else of all sites), or ``"best"``:
            the site of the residual stream that reads best, the earliest of equals; the eight best heads where there
            is none.

        Returns
        -------
        Directions
            One a site.

        Raises
        ------
        DataError
            If there is none of this trait and method, or several classes or methods are meant.
        SiteError
            If there is none at a site, or fewer than asked for.

        Examples
        --------
        >>> both = Directions(
        ...     Direction.from_weight(f"L{i}.resid", [1, i], trait="genre", positive=name, method="ridge", score=i / 9)
        ...     for name in ("jazz", "rock") for i in range(3)
        ... )
        >>> [str(item.site) for item in both.choose("genre=jazz", sites="top:2")]
        ['L2.resid', 'L1.resid']
        >>> both.choose("genre")
        Traceback (most recent call last):
        ...
        interp.errors.DataError: there are directions towards 2 classes of 'genre': write genre=jazz or genre=rock.
        """
        wanted = Trait.parse(trait)
        chosen = self.select(trait=wanted)
        if not len(chosen):
            raise DataError(f"there is no direction of trait {str(wanted)!r}: there are {self!r}.")
        classes = chosen.unique("positive")
        if len(classes) > 1:
            names = [f"{wanted.column}={name}" for name in classes[:6]]
            raise DataError(
                f"there are directions towards {len(classes)} classes of {str(wanted)!r}: write {' or '.join(names)}"
                f"{' or ...' if len(classes) > 6 else ''}."
            )
        methods = chosen.unique("method")
        if method is None and len(methods) > 1:
            raise DataError(
                f"directions of {str(wanted)!r} come from several methods: choose one of {', '.join(methods)}."
            )
        chosen = chosen if method is None else chosen.select(method=method)
        if not len(chosen):
            raise DataError(
                f"there is no direction of {str(wanted)!r} by method {method!r}: choose one of {', '.join(methods)}."
            )
        if sites.strip() == "best":
            stream = chosen.select(kind="resid")
            if not len(stream):
                return chosen.top(min(8, len(chosen))).single_push()
            best = min(stream, key=lambda item: (-item.score, item.site))
            return stream.select(where=lambda item: item is best)
        if sites.strip().startswith("top:") and len(chosen.select(kind="heads")):
            chosen = chosen.select(kind="heads")
        return chosen.at(sites).single_push()

    def one(self, **fields: Any) -> Direction:
        """The one direction that matches, see :meth:`select`.

        Raises
        ------
        DataError
            If none or several match; the sentence says what there is.
        """
        found = self.select(**fields)
        if len(found) == 1:
            return found[0]
        asked = ", ".join(f"{name}={value!s}" for name, value in fields.items()) or "anything"
        if not found:
            raise DataError(f"no direction matches {asked}: this list holds {self!r}.")
        names = ", ".join(str(item) for item in found[:4])
        raise DataError(f"{len(found)} directions match {asked} ({names}, ...): name the one you mean more closely.")

    def check_model(self, fingerprint: str) -> Directions:
        """Return the list if every direction was read from this checkpoint, else raise CheckpointMismatch."""
        for item in self._items:
            item.check_model(fingerprint)
        return self

    def to_frame(self) -> pd.DataFrame:
        """One row a direction: where, how, of what, and its numbers; vectors are left out."""
        rows = []
        for item in self._items:
            row = {name: _value(item, name) for name in ("site", "kind", "layer", "head", *WORDS)}
            rows.append(row | {"site": str(item.site), "dim": item.dim} | {n: getattr(item, n) for n in NUMBERS})
        columns = ["site", "kind", "layer", "head", "trait", "positive", "against", "method", "dim"]
        columns += [*NUMBERS, "model", "pool"]
        frame = pd.DataFrame(rows, columns=columns)
        return frame.astype({"head": "Int64"})

    def matrix(self) -> Array:
        """Unit vectors as rows, of shape ``(directions, dim)``.

        Raises
        ------
        DataError
            If there is none, or the widths differ.
        """
        widths = {item.dim for item in self._items}
        if len(widths) != 1:
            what = f"of widths {sorted(widths)}" if widths else "of an empty list"
            raise DataError(f"directions {what} do not form a matrix: select sites of one width.")
        return np.stack([item.vector for item in self._items])

    def save(self, path: str | Path) -> Path:
        """Write the list to one safetensors file, its records as JSON in the header.

        The file appears whole or not at all.

        Returns
        -------
        Path
            The file, with the suffix ``.safetensors``.

        Raises
        ------
        StoreError
            If the list is empty, ``info`` holds something that is not JSON, or the disk refuses.
        """
        from interp.directions.files import save

        return save(self, path)

    @classmethod
    def load(cls, path: str | Path, *, model: str = "") -> Directions:
        """Read a list that :meth:`save` wrote.

        Parameters
        ----------
        path : str or Path
            The file, with or without its suffix.
        model : str
            Fingerprint of the checkpoint it is going to be used with; empty to skip the check.

        Raises
        ------
        StoreError
            If the file is missing, damaged or something else.
        CheckpointMismatch
            If the directions were read from another checkpoint.
        """
        from interp.directions.files import load

        return cls(load(path)).check_model(model)


def _several(name: str, value: Any) -> set[Any]:
    values = list(value) if isinstance(value, Iterable) and not isinstance(value, str | Site) else [value]
    return {Site.parse(entry) for entry in values} if name == "site" else set(values)


def _value(item: Direction, name: str) -> Any:
    if name in ("kind", "layer", "head"):
        return getattr(item.site, name)
    if name in item.__dataclass_fields__:
        return getattr(item, name)
    return item.info.get(name)
