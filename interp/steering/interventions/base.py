"""Interventions: what is changed, where, how strongly, when, and on which rows. Frozen, printable, composable.

A row of a batch carries a tuple of interventions; they act in the order given. All of them share four fields:

``rows``
    ``"both"`` (default), ``"cond"`` or ``"uncond"``. Under classifier-free guidance ``g`` the sampled logits are
    ``uncond + g (cond - uncond)``, so, to first order, a push on conditional rows alone counts ``g`` times, on
    unconditional rows alone ``1 - g`` times, on both once. The choice is written in every log.
``on``
    ``"generated"`` (default): positions whose output is sampled from; ``"prompt"``: positions of an audio prompt
    before the last one; ``"all"``.
``window``
    ``(from, to)`` in seconds of the clip, ``to`` excluded; ``None`` for all of it.
``schedule``
    A factor on the strength at every step, see :mod:`interp.steering.schedules`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from interp.directions import Direction, Directions
from interp.errors import InterventionError
from interp.sites import Site
from interp.steering.schedules import Constant, Ramp, Schedule

__all__ = [
    "Ablate",
    "Add",
    "Clamp",
    "Interpolate",
    "Intervention",
    "On",
    "Part",
    "SiteValues",
    "Swap",
    "cross_fade",
    "soft_weights",
    "top_k",
]

Part = Literal["both", "cond", "uncond"]
On = Literal["generated", "prompt", "all"]


@dataclass(frozen=True)
class Intervention:
    """Base of all interventions; see the module for the fields they share."""

    rows: Part = field(default="both", kw_only=True)
    on: On = field(default="generated", kw_only=True)
    window: tuple[float, float] | None = field(default=None, kw_only=True)
    schedule: Schedule = field(default=Constant(), kw_only=True)
    name: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        if self.rows not in get_args(Part):
            raise InterventionError(f"rows={self.rows!r} is unknown: use one of {', '.join(get_args(Part))}.")
        if self.on not in get_args(On):
            raise InterventionError(f"on={self.on!r} is unknown: use one of {', '.join(get_args(On))}.")
        if not isinstance(self.schedule, Schedule):
            raise InterventionError(f"schedule={self.schedule!r} is not a schedule: use EveryN(5), Ramp(1, 2), ...")
        if self.window is not None:
            start, stop = (float(x) for x in self.window)
            if not start < stop:
                raise InterventionError(f"the window from second {start:g} to second {stop:g} is empty.")
            object.__setattr__(self, "window", (start, stop))

    @property
    def sites(self) -> tuple[Site, ...]:
        """Sites it acts at, in forward order, each once."""
        raise NotImplementedError

    @property
    def active(self) -> bool:
        """False if its strength is zero, so that it must leave every bit alone."""
        return True

    def _what(self) -> str:
        raise NotImplementedError

    def describe(self) -> str:
        """One line: what, where, how strong, on which rows and positions, when."""
        sites = self.sites
        where = ", ".join(str(site) for site in sites[:4]) + (f", ... ({len(sites)} sites)" if len(sites) > 4 else "")
        window = "" if self.window is None else f", from {self.window[0]:g} to {self.window[1]:g} s"
        rows = {"both": "conditional and unconditional", "cond": "conditional", "uncond": "unconditional"}[self.rows]
        label = f"{self.name}: " if self.name else ""
        return f"{label}{self._what()} at {where}; {rows} rows, {self.on} positions{window}, {self.schedule.describe()}"


@dataclass(frozen=True)
class Add(Intervention):
    """Add ``strength * weight * vector`` (raw units) or ``dose * weight * sigma * vector`` (ITI, arXiv 2306.03341).

    Parameters
    ----------
    directions : Directions, Direction or iterable of Direction
        One displacement for each; several at one site add up.
    strength : float, optional
        Length of the displacement in raw units.
    dose : float, optional
        Length in standard deviations of the training activations along the direction (ITI's and SMITIN's alpha).
        Exactly one of ``strength`` and ``dose`` is given.
    weights : sequence of float, optional
        One factor for each direction, for example :func:`soft_weights`; all 1 by default.

    Raises
    ------
    InterventionError
        If both or none of ``strength`` and ``dose`` are given, a number is not finite, or a dose is asked of a
        direction without sigma.
    """

    directions: Directions
    strength: float | None = None
    dose: float | None = None
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "directions", _directions(self.directions, "Add"))
        object.__setattr__(self, "weights", _weights(self.weights, len(self.directions)))
        if (self.strength is None) == (self.dose is None):
            raise InterventionError(
                "Add needs either a strength (raw units) or a dose (in sigma), one of the two and not both."
            )
        amount = self.strength if self.dose is None else self.dose
        if not math.isfinite(cast(float, amount)):
            raise InterventionError(f"Add cannot push by {amount}: give a finite strength or dose.")
        if self.dose is not None:
            _need_sigma(self.directions, f"a dose of {self.dose:g}")

    @functools.cached_property
    def sites(self) -> tuple[Site, ...]:  # type: ignore[override]  # worked out once: engines ask for every row
        return _sites(self.directions)

    @property
    def active(self) -> bool:
        return bool(self.strength or self.dose) and (self.weights is None or any(self.weights))

    def displacements(self) -> list[tuple[Site, NDArray[np.float64]]]:
        """Displacement for each direction at full schedule, raw units, of shape ``(dim,)``."""
        found = []
        for i, item in enumerate(self.directions):
            length = self.strength if self.dose is None else self.dose * item.sigma
            weight = 1.0 if self.weights is None else self.weights[i]
            found.append((item.site, cast(float, length) * weight * item.vector))
        return found

    def _what(self) -> str:
        amount = f"strength {self.strength:g} (raw)" if self.dose is None else f"{self.dose:g} sigma"
        return f"add {_names(self.directions)} by {amount}{_weighted(self.weights)}"


@dataclass(frozen=True)
class Interpolate(Intervention):
    """Replace h by ``(h + s |h| v) / (1 + s)``: the norm-scaled interpolation of arXiv 2506.10225's code.

    At heads ``|h|`` is the norm of that head's output. The schedule multiplies ``s``; a weight multiplies it per
    direction. ``s`` is not negative: turn the direction round with ``flip()`` instead.
    """

    directions: Directions
    strength: float = 0.5
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "directions", _directions(self.directions, "Interpolate", unique=True))
        object.__setattr__(self, "weights", _weights(self.weights, len(self.directions)))
        if not (math.isfinite(self.strength) and self.strength >= 0):
            raise InterventionError(
                f"Interpolate cannot have strength {self.strength}: give a finite number of 0 or more "
                "(flip the direction to push the other way)."
            )
        if self.weights is not None and min(self.weights) < 0:
            raise InterventionError("Interpolate needs weights of 0 or more: flip the direction instead.")

    @functools.cached_property
    def sites(self) -> tuple[Site, ...]:  # type: ignore[override]  # worked out once: engines ask for every row
        return _sites(self.directions)

    @property
    def active(self) -> bool:
        return self.strength > 0 and (self.weights is None or any(self.weights))

    def _what(self) -> str:
        return f"interpolate towards {_names(self.directions)} by {self.strength:g} |h|{_weighted(self.weights)}"


@dataclass(frozen=True)
class Clamp(Intervention):
    """Keep the projection on a direction within ``[low, high]``; equal bounds set it.

    Parameters
    ----------
    directions : Directions
        At most one for each site.
    low, high : float, optional
        Bounds; ``None`` leaves that side open.
    units : {"raw", "logit"}
        Whether bounds are projections ``h @ vector`` or logits of the direction's probe.
    """

    directions: Directions
    low: float | None = None
    high: float | None = None
    units: Literal["raw", "logit"] = "raw"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "directions", _directions(self.directions, "Clamp", unique=True))
        low, high = self.bounds_given()
        if low == -math.inf and high == math.inf:
            raise InterventionError("Clamp needs a lower bound, an upper bound, or both.")
        if not low <= high or low == math.inf or high == -math.inf:
            raise InterventionError(f"Clamp cannot keep anything between {self.low} and {self.high}: order the bounds.")
        if self.units not in ("raw", "logit"):
            raise InterventionError(f"Clamp has no units {self.units!r}: use 'raw' or 'logit'.")
        if self.units == "logit":
            for item in self.directions:
                if math.isnan(item.intercept):
                    raise InterventionError(
                        f"{item} has no intercept, so Clamp cannot work in logits: use units='raw'."
                    )

    def bounds_given(self) -> tuple[float, float]:
        """Bounds with infinity for open sides."""
        return (
            -math.inf if self.low is None else float(self.low),
            math.inf if self.high is None else float(self.high),
        )

    def bounds(self, item: Direction) -> tuple[float, float]:
        """Bounds of the projection on one direction, in raw units."""
        low, high = self.bounds_given()
        if self.units == "raw":
            return low, high
        return (low - item.intercept) / item.norm, (high - item.intercept) / item.norm

    @functools.cached_property
    def sites(self) -> tuple[Site, ...]:  # type: ignore[override]  # worked out once: engines ask for every row
        return _sites(self.directions)

    def _what(self) -> str:
        low, high = self.bounds_given()
        return f"clamp {_names(self.directions)} to [{low:g}, {high:g}] ({self.units})"


@dataclass(frozen=True, eq=False)
class SiteValues:
    """Activations of one site to put in place of others: ``values`` of shape ``(n, dim)``, float32."""

    site: Site
    values: NDArray[np.float32]

    def __post_init__(self) -> None:
        object.__setattr__(self, "site", Site.parse(self.site))
        values = np.array(self.values, dtype=np.float32)
        values = values[None] if values.ndim == 1 else values
        if values.ndim != 2 or not values.size or not np.isfinite(values).all():
            raise InterventionError(
                f"values for {self.site} must be finite and of shape (n, dim) with n of 1 or more, "
                f"not {np.shape(self.values)}."
            )
        values.setflags(write=False)
        object.__setattr__(self, "values", values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SiteValues) and self.site == other.site and np.array_equal(self.values, other.values)

    def __hash__(self) -> int:
        return hash((self.site, self.values.tobytes()))


@dataclass(frozen=True)
class Ablate(Intervention):
    """Take something away: a direction, everything linear about a concept, or what a site says at all.

    Build it with :meth:`project` (the component along directions), :meth:`leace` (erasers of :func:`fit_leace`),
    :meth:`zero`, :meth:`mean` (the mean of a bank of activations in place of the site's) or :meth:`resample` (one
    of the bank's at random, drawn anew at each step from the row's seed).
    """

    how: Literal["project", "leace", "zero", "mean", "resample"]
    directions: Directions | None = None
    erasers: tuple[Any, ...] = ()
    at: tuple[Site, ...] = ()
    bank: tuple[SiteValues, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        needs = {
            "project": "directions",
            "leace": "erasers",
            "zero": "at",
            "mean": "bank",
            "resample": "bank",
        }
        if self.how not in needs:
            raise InterventionError(f"Ablate has no way {self.how!r}: use one of {', '.join(needs)}.")
        if self.directions is not None:
            object.__setattr__(self, "directions", _directions(self.directions, "Ablate"))
        object.__setattr__(self, "at", tuple(Site.parse(site) for site in self.at))
        object.__setattr__(self, "bank", site_values(self.bank))
        object.__setattr__(self, "erasers", tuple(self.erasers))
        given = {name for name in ("directions", "erasers", "at", "bank") if getattr(self, name)}
        if given != {needs[self.how]}:
            raise InterventionError(
                f"Ablate {self.how} needs {needs[self.how]} and nothing else; given: {given or 'none'}."
            )

    @classmethod
    def project(cls, directions: Directions | Iterable[Direction] | Direction, **fields: Any) -> Ablate:
        """Project the directions out: ``h - V V^T h``, V an orthonormal basis of those at the site."""
        return cls("project", directions=_directions(directions, "Ablate"), **fields)

    @classmethod
    def leace(cls, erasers: Iterable[Any], **fields: Any) -> Ablate:
        """Erase all that is linear about a concept (LEACE, arXiv 2306.03819)."""
        return cls("leace", erasers=tuple(erasers), **fields)

    @classmethod
    def zero(cls, sites: Iterable[Site | str], **fields: Any) -> Ablate:
        """Put zeros in place of the sites' activations."""
        return cls("zero", at=tuple(Site.parse(site) for site in sites), **fields)

    @classmethod
    def mean(cls, bank: Mapping[Site | str, ArrayLike], **fields: Any) -> Ablate:
        """Put the mean of a bank ``{site: [n, dim]}`` in place of each site's activation."""
        return cls("mean", bank=site_values(bank), **fields)

    @classmethod
    def resample(cls, bank: Mapping[Site | str, ArrayLike], **fields: Any) -> Ablate:
        """Put a random member of the bank ``{site: [n, dim]}`` in place, the same draw at all sites of one step."""
        return cls("resample", bank=site_values(bank), **fields)

    @property
    def sites(self) -> tuple[Site, ...]:
        found = [*(self.directions or ()), *self.erasers, *self.bank]
        return tuple(sorted({item.site for item in found} | set(self.at)))

    def _what(self) -> str:
        if self.how == "project":
            return f"project out {_names(self.directions or ())}"
        if self.how == "leace":
            return "erase (LEACE)"
        return {"zero": "zero-ablate", "mean": "mean-ablate", "resample": "resample-ablate"}[self.how]


@dataclass(frozen=True)
class Swap(Intervention):
    """Activation patching: put activations of another run in place, step by step.

    Parameters
    ----------
    source : mapping of site to array of shape (steps, dim)
        What to put there, from :meth:`Generation.activation` for instance; entry ``i`` goes to the generated step
        ``first + i``; steps outside are left alone.
    first : int
        Step of the first entry; 0 is the first generated position, prompt positions are negative.
    """

    source: tuple[SiteValues, ...]
    first: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "source", site_values(self.source))
        if not self.source:
            raise InterventionError("Swap needs activations of another run for at least one site.")

    @property
    def sites(self) -> tuple[Site, ...]:
        return tuple(sorted(item.site for item in self.source))

    def _what(self) -> str:
        steps = max(len(item.values) for item in self.source)
        return f"swap in {steps} steps of another run from step {self.first}"


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
    """
    given = [item.score for item in scores] if isinstance(scores, Directions) else [float(x) for x in scores]
    values = np.asarray(given, dtype=np.float64)
    if not values.size or not np.isfinite(values).all():
        raise InterventionError(
            "soft weights need a finite held-out score for every direction: probe with a test part."
        )
    spread = values.max() - values.min()
    if spread == 0:
        return tuple(1.0 for _ in values)
    return tuple(float(x) for x in ((values - values.min()) / spread) ** power)


def top_k(directions: Directions, k: int) -> Directions:
    """The ``k`` directions of the highest score (ITI's choice of heads), ties in forward order."""
    ranked = sorted(directions, key=lambda item: (-item.score, item.site))
    if k < 1 or k > len(ranked):
        raise InterventionError(f"cannot take the {k} best of {len(ranked)} directions.")
    return Directions(ranked[:k])


def cross_fade(
    before: Intervention, after: Intervention, at: float, width: float = 0.0
) -> tuple[Intervention, Intervention]:
    """Fade from one intervention to another around second ``at``, over ``width`` seconds (0: a switch).

    arXiv 2506.10225 shows a switch of style at the fifth second.
    """
    from dataclasses import replace

    start, stop = at - width / 2, at + width / 2
    return (
        replace(before, schedule=before.schedule * Ramp(start, stop, 1.0, 0.0)),
        replace(after, schedule=after.schedule * Ramp(start, stop, 0.0, 1.0)),
    )


def site_values(given: Mapping[Site | str, ArrayLike] | Iterable[SiteValues]) -> tuple[SiteValues, ...]:
    """Normalise ``{site: values}`` to a sorted tuple, each site once."""
    if isinstance(given, Mapping):
        items = [SiteValues(Site.parse(site), cast(Any, values)) for site, values in given.items()]
    else:
        items = list(given)
    if len({item.site for item in items}) != len(items):
        raise InterventionError("a site is given twice; give values for each site once.")
    return tuple(sorted(items, key=lambda item: item.site))


def _directions(given: Any, who: str, unique: bool = False) -> Directions:
    items = [given] if isinstance(given, Direction) else list(given)
    if not items or not all(isinstance(item, Direction) for item in items):
        raise InterventionError(f"{who} needs at least one Direction.")
    if unique and len({item.site for item in items}) != len(items):
        raise InterventionError(f"{who} takes at most one direction for each site: combine them first.")
    return given if isinstance(given, Directions) else Directions(items)


def _weights(given: Sequence[float] | None, n: int) -> tuple[float, ...] | None:
    if given is None:
        return None
    weights = tuple(float(x) for x in given)
    if len(weights) != n or not all(math.isfinite(x) for x in weights):
        raise InterventionError(f"{n} directions need {n} finite weights, not {len(weights)}.")
    return weights


def _need_sigma(directions: Iterable[Direction], what: str) -> None:
    for item in directions:
        if not math.isfinite(item.sigma):
            raise InterventionError(
                f"{item} has no sigma, so {what} has no meaning: measure it on training activations "
                "(Direction.measured) or give a strength in raw units."
            )


def _sites(directions: Iterable[Direction]) -> tuple[Site, ...]:
    return tuple(sorted({item.site for item in directions}))


def _names(directions: Iterable[Direction]) -> str:
    names = dict.fromkeys(f"{item.trait}={item.positive} ({item.method})" for item in directions)
    shown = list(names)[:3]
    return ", ".join(shown) + (", ..." if len(names) > 3 else "")


def _weighted(weights: tuple[float, ...] | None) -> str:
    return "" if weights is None else f", weighted {min(weights):.2g} to {max(weights):.2g}"
