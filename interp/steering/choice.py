"""Which directions a push takes, from a few words: a trait, a method, sites."""

from __future__ import annotations

import math

from interp.directions import Direction, Directions
from interp.errors import DataError, SiteError
from interp.sites import Site, select_sites
from interp.traits import Trait

__all__ = ["choose"]


def choose(directions: Directions, trait: str | Trait, method: str | None = None, sites: str = "top:8") -> Directions:
    """Take the directions of one class of a trait and of one method, at some sites: what one push may take.

    Parameters
    ----------
    directions : Directions
        To choose from.
    trait : str or Trait
        ``"drums"``, ``"genre=jazz"``; of a label with several classes one must be named.
    method : str, optional
        How they were found; may be left out where there is one.
    sites : str
        Sites as :func:`interp.sites.select_sites` reads them (``"L3.resid"``, ``"L2.H1, L4.H0"``, ``"resid"``), or
        ``"top:8"`` for the best held-out scores: of heads where there are any, else of all sites.

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
    >>> from interp.directions import Direction, Directions
    >>> both = Directions(
    ...     Direction.from_weight(f"L{i}.resid", [1, i], trait="genre", positive=name, method="ridge", score=i / 9)
    ...     for name in ("jazz", "rock") for i in range(3)
    ... )
    >>> [str(item.site) for item in choose(both, "genre=jazz", sites="top:2")]
    ['L2.resid', 'L1.resid']
    >>> choose(both, "genre")
    Traceback (most recent call last):
    ...
    interp.errors.DataError: there are directions towards 2 classes of 'genre': write genre=jazz or genre=rock.
    """
    wanted = Trait.parse(trait)
    chosen = Directions(item for item in directions if _is_of(item, wanted))
    if not len(chosen):
        raise DataError(f"there is no direction of trait {str(wanted)!r}: there are {directions!r}.")
    classes = chosen.unique("positive")
    if len(classes) > 1:
        names = [f"{wanted.column}={name}" for name in classes[:6]]
        raise DataError(
            f"there are directions towards {len(classes)} classes of {str(wanted)!r}: write {' or '.join(names)}"
            f"{' or ...' if len(classes) > 6 else ''}."
        )
    methods = chosen.unique("method")
    if method is None and len(methods) > 1:
        raise DataError(f"directions of {str(wanted)!r} come from several methods: choose one of {', '.join(methods)}.")
    chosen = chosen if method is None else chosen.select(method=method)
    if not len(chosen):
        raise DataError(
            f"there is no direction of {str(wanted)!r} by method {method!r}: choose one of {', '.join(methods)}."
        )
    return _best(chosen, sites) if sites.strip().startswith("top:") else _at(chosen, sites)


def _is_of(item: Direction, wanted: Trait) -> bool:
    """Whether a direction is of a trait; its class stands in its trait or beside it."""
    try:
        own = Trait.parse(item.trait)
    except DataError:
        return False
    if own.column != wanted.column:
        return False
    if not wanted.positive:
        return not own.positive
    return wanted.positive == (own.positive or item.positive) and wanted.against in (
        "",
        own.against,
        str(item.info.get("against", "")),
    )


def _best(chosen: Directions, sites: str) -> Directions:
    heads = chosen.select(kind="heads")
    part = heads if len(heads) else chosen
    ranked: dict[Site, Direction] = {}
    for item in sorted(part, key=lambda item: (-item.score if math.isfinite(item.score) else math.inf, item.site)):
        ranked.setdefault(item.site, item)
    count = sites.strip().removeprefix("top:").strip()
    if not count.isdigit() or not 1 <= int(count) <= len(ranked):
        what = "heads" if len(heads) else "sites"
        raise SiteError(
            f"cannot take {sites.strip()!r} of {len(ranked)} {what}: write top:1 to top:{len(ranked)}, or name sites."
        )
    return Directions(list(ranked.values())[: int(count)])


def _at(chosen: Directions, sites: str) -> Directions:
    places = select_sites(sites, {item.site for item in chosen}, "the list of directions")
    return Directions(item for site in places for item in chosen if item.site == site)
