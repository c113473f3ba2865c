"""Directions as interventions take them: at least one, one class of a trait, one method at a site; their weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from interp.directions import Direction, Directions
from interp.errors import InterventionError

__all__ = ["as_directions", "as_weights", "names_of", "need_sigma", "soft_weights", "weighted"]


def as_directions(given: Any, who: str, *, unique: bool = False, mixture: bool = False) -> Directions:
    """One Direction or several as Directions.

    Raises
    ------
    InterventionError
        If there is none; with ``unique``, if there are several at one site; without ``mixture``, if they point to
        several classes of one trait or come from several methods at one site.
    """
    items = [given] if isinstance(given, Direction) else list(given)
    if not items or not all(isinstance(item, Direction) for item in items):
        raise InterventionError(f"{who} needs at least one Direction.")
    if not mixture:
        _refuse_mixture(items, who)
    if unique and len({item.site for item in items}) != len(items):
        raise InterventionError(f"{who} takes at most one direction for each site: combine them first.")
    return given if isinstance(given, Directions) else Directions(items)


def _refuse_mixture(items: Sequence[Direction], who: str) -> None:
    """Raise where one push would go along several answers at once, which nearly cancel, without anybody asking."""
    classes: dict[str, dict[str, None]] = {}
    methods: dict[Any, dict[str, None]] = {}
    for item in items:
        classes.setdefault(item.trait, {})[item.positive] = None
        methods.setdefault((item.site, item.trait), {})[item.method] = None
    for trait, answers in classes.items():
        if len(answers) > 1:
            raise InterventionError(
                f"{who} would go towards {len(answers)} classes of {trait!r} at once ({', '.join(list(answers)[:4])}"
                f"{', ...' if len(answers) > 4 else ''}): choose one, for example with "
                f"directions.select(positive={next(iter(answers))!r}), or give one intervention for each."
            )
    for (site, trait), names in methods.items():
        if len(names) > 1:
            raise InterventionError(
                f"{who} would go along directions of {len(names)} methods at {site} at once ({', '.join(names)}, all "
                f"of {trait!r}): choose one, for example with directions.select(method={next(iter(names))!r})."
            )


def as_weights(weights: Sequence[float] | None, n: int) -> tuple[float, ...] | None:
    """Weights as a tuple of finite floats, one a direction."""
    if weights is None:
        return None
    values = tuple(float(x) for x in weights)
    if len(values) != n or not all(math.isfinite(x) for x in values):
        raise InterventionError(f"{n} directions need {n} finite weights, not {len(values)}.")
    return values


def need_sigma(directions: Iterable[Direction], what: str) -> None:
    """Raise unless every direction knows the spread of the activations along it."""
    for item in directions:
        if not math.isfinite(item.sigma):
            raise InterventionError(
                f"{item} has no sigma, so {what} has no meaning: measure it on training activations "
                "(Direction.measured) or give a strength in raw units."
            )


def names_of(directions: Iterable[Direction]) -> str:
    """Trait, the class that lies on the positive side, and method of the first few directions."""
    names = list(dict.fromkeys(f"{item.towards} ({item.method})" for item in directions))
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def weighted(weights: tuple[float, ...] | None) -> str:
    """The range of weights, in words."""
    return "" if weights is None else f", weighted {min(weights):.2g} to {max(weights):.2g}"


def soft_weights(scores: Sequence[float] | Directions, power: float = 3.0) -> tuple[float, ...]:
    """SMITIN's soft weight of every head, ``((acc - acc_min) / (acc_max - acc_min)) ** 3``.

    Parameters
    ----------
    scores : sequence of float or Directions
        Accuracies, or directions whose ``score`` is taken.
    power : float
        The exponent; 3 in the paper (arXiv 2404.02252).

    Returns
    -------
    tuple of float
        Weights between 0 and 1; all 1 if the scores are all equal.

    Raises
    ------
    InterventionError
        If a score is missing or not finite.

    Examples
    --------
    >>> soft_weights([0.5, 0.75, 1.0])
    (0.0, 0.125, 1.0)
    """
    numbers = [item.score for item in scores] if isinstance(scores, Directions) else [float(x) for x in scores]
    values = np.asarray(numbers, dtype=np.float64)
    if not values.size or not np.isfinite(values).all():
        raise InterventionError(
            "soft weights need a finite held-out score for every direction: probe with a test part."
        )
    spread = values.max() - values.min()
    if spread == 0:
        return tuple(1.0 for _ in values)
    return tuple(float(x) for x in ((values - values.min()) / spread) ** power)
