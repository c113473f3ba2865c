"""Which directions a push takes, from a few words: a trait, a method, sites."""

from __future__ import annotations

from interp.directions import Directions
from interp.errors import DataError
from interp.traits import Trait

__all__ = ["choose"]


def choose(directions: Directions, trait: str | Trait, method: str | None = None, sites: str = "best") -> Directions:
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
        ``"top:8"`` for the best held-out scores (of heads where there are any, else of all sites), or ``"best"``: the
        site of the residual stream that reads best, the earliest of equals; the eight best heads where there is none.

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
    chosen = directions.select(trait=wanted)
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
    if sites.strip() == "best":
        stream = chosen.select(kind="resid")
        if not len(stream):
            return chosen.top(min(8, len(chosen))).single_push()
        return Directions(sorted(stream, key=lambda item: (-item.score, item.site))[:1]).single_push()
    if sites.strip().startswith("top:") and len(chosen.select(kind="heads")):
        chosen = chosen.select(kind="heads")
    return chosen.at(sites).single_push()
