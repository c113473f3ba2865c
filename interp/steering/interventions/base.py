"""What all interventions share: on which rows, at which positions, when; how one says what it does.

An intervention is a frozen dataclass that owns two things: :meth:`Intervention.parameters`, its numbers at every site,
and :meth:`Intervention.edit`, its formula. Nothing else in the package knows it by name: engines, log and files take
whatever the class declares, so one that is written in a notebook is as good as those that ship.

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
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from interp.directions import Direction
from interp.errors import InterventionError
from interp.sites import Site
from interp.steering.schedules import Constant, Schedule

__all__ = ["Ears", "Intervention", "On", "Parameters", "Part"]

Part = Literal["both", "cond", "uncond"]
On = Literal["generated", "prompt", "all"]
Parameters = Mapping[Site, Mapping[str, ArrayLike]]
"""The numbers of an intervention: for each site a number, vector or matrix under each name."""

_ROWS = {"both": "conditional and unconditional", "cond": "conditional", "uncond": "unconditional"}


@dataclass(frozen=True)
class Ears:
    """What a self-monitored intervention hears, and how it decides (see :class:`interp.steering.Smitin`).

    Attributes
    ----------
    directions : tuple of Direction
        Probes of self-attention heads, with intercept; C is the median of their probabilities.
    tau : float
        It acts while C is below.
    delta : float
        A push is weakened to ``1 - delta * C``.
    every : int
        It decides once in so many steps.
    trait : str
        What is listened for, in words.
    """

    directions: tuple[Direction, ...]
    tau: float
    delta: float = 1.0
    every: int = 1
    trait: str = ""

    @property
    def clean(self) -> bool:
        """Whether no reading that decides a step was taken in a forward pass that was edited."""
        return self.every > 1


@dataclass(frozen=True)
class Intervention:
    """Base of all interventions; see the module for the fields they share.

    A subclass says :meth:`parameters` and :meth:`edit`, and in :meth:`what` what it does; all else has a default.

    Attributes
    ----------
    additive : bool, of the class
        True where the edit is ``h + factor * p["shift"]`` and nothing else: engines then sum up what several add and
        keep the sum while the factors stay. A test holds this form to :meth:`edit`.
    tables : tuple of str, of the class
        Parameters whose first axis is a choice, one entry for each step (see :meth:`pick`).
    own : bool, of the class
        True where the edit is to see its own rows and sites alone, not the whole batch.

    Examples
    --------
    An intervention of one's own, that turns a site down and runs on every engine:

    >>> from dataclasses import dataclass
    >>> from interp.steering import Intervention
    >>> @dataclass(frozen=True)
    ... class Quieten(Intervention):
    ...     site: Site
    ...     share: float = 0.5
    ...     def parameters(self):
    ...         return {self.site: {"share": self.share}}
    ...     @staticmethod
    ...     def edit(h, factor, p):
    ...         return h * (1 - factor * p["share"])
    >>> print(Quieten(Site.parse("L3.H2"), window=(1, 2)).describe())
    Quieten at L3.H2; conditional and unconditional rows, generated positions, from 1 to 2 s, every step
    """

    rows: Part = field(default="both", kw_only=True)
    on: On = field(default="generated", kw_only=True)
    window: tuple[float, float] | None = field(default=None, kw_only=True)
    schedule: Schedule = field(default=Constant(), kw_only=True)
    name: str = field(default="", kw_only=True)

    additive: ClassVar[bool] = False
    tables: ClassVar[tuple[str, ...]] = ()
    own: ClassVar[bool] = False

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

    # What a subclass says -------------------------------------------------------------------------------------

    def parameters(self) -> Parameters:
        """Its numbers at every site: names to numbers, vectors or matrices, the same names at all sites."""
        raise NotImplementedError

    def edit(self, h: Tensor, factor: Tensor, p: Mapping[str, Tensor]) -> Tensor:
        """The formula, for many rows at once; a static method in subclasses that need nothing but ``p``.

        Parameters
        ----------
        h : Tensor
            Activations, float32 ``[rows, steps, groups, dim]``; at heads a group is a head, elsewhere there is one.
        factor : Tensor
            Of the schedule, ``[rows, steps, 1, 1]``. Where it is zero the activation stays as it is, whatever is
            returned.
        p : mapping of str to Tensor
            The parameters, ``[rows, steps or 1, groups, ...]``, each ending in the shape that it was given with
            (padded with zeros where rows differ); a number ends in 1, so that it goes with ``h``.

        Returns
        -------
        Tensor
            Of the shape of ``h``.
        """
        raise NotImplementedError

    def what(self) -> str:
        """What is done, in a few words."""
        return type(self).__name__

    @property
    def active(self) -> bool:
        """False if its strength is zero, so that it must leave every bit alone."""
        return True

    @property
    def span(self) -> tuple[int, int] | None:
        """Steps outside of which it does nothing: the first, and the one after the last; None for no such limit."""
        return None

    @property
    def ears(self) -> Ears | None:
        """What it listens to while it acts, if it does."""
        return None

    @property
    def family(self) -> Hashable:
        """Interventions of one family are gathered and edited in one call."""
        return type(self), tuple(sorted(next(iter(self.numbers.values()))))

    def pick(self, step: NDArray[np.int64], n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Which of a table's ``n`` entries goes to each step, negative for none.

        ``rng`` is made anew for each site from the seed of the row and the place of the intervention among the row's,
        so that all sites of a step draw alike, and twins do as well.
        """
        return np.zeros_like(step)

    # What follows from it -------------------------------------------------------------------------------------

    @functools.cached_property
    def numbers(self) -> dict[Site, dict[str, NDArray[np.float64]]]:
        """:meth:`parameters`, checked, in forward order; worked out once.

        Raises
        ------
        InterventionError
            If there is no site, sites have different parameters, or one of them is NaN.
        """
        given = {Site.parse(site): values for site, values in self.parameters().items()}
        names = {tuple(sorted(values)) for values in given.values()}
        if len(names) != 1:
            what = "no site" if not names else "not the same parameters at every site"
            raise InterventionError(f"{type(self).__name__} has {what}: see Intervention.parameters.")
        numbers: dict[Site, dict[str, NDArray[np.float64]]] = {}
        for site in sorted(given):
            numbers[site] = {name: np.asarray(value, dtype=np.float64) for name, value in given[site].items()}
            bad = [name for name, value in numbers[site].items() if np.isnan(value).any()]
            if bad:
                raise InterventionError(f"{bad[0]} of {type(self).__name__} at {site} holds NaN: give finite numbers.")
        return numbers

    @property
    def sites(self) -> tuple[Site, ...]:
        """Sites it acts at, in forward order, each once."""
        return tuple(self.numbers)

    def describe(self) -> str:
        """One line: what, where, how strong, on which rows and positions, when."""
        label = f"{self.name}: " if self.name else ""
        return f"{label}{self.what()} at {self._where()}; {self._when()}"

    def _where(self) -> str:
        sites = self.sites
        return ", ".join(str(site) for site in sites[:4]) + (f", ... ({len(sites)} sites)" if len(sites) > 4 else "")

    def _when(self) -> str:
        window = "" if self.window is None else f", from {self.window[0]:g} to {self.window[1]:g} s"
        return f"{_ROWS[self.rows]} rows, {self.on} positions{window}, {self.schedule.describe()}"

    def _repr_html_(self) -> str:
        lines: list[tuple[str, Any]] = [("what", self.what()), ("where", self._where()), ("when", self._when())]
        rows = "".join(f"<tr><th>{name}</th><td>{escape(text)}</td></tr>" for name, text in lines)
        title = escape(self.name or type(self).__name__)
        return f"<table><caption><b>{title}</b></caption><tbody>{rows}</tbody></table>"
