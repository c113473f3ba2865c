"""One direction: a unit vector at a site that knows the probe it came from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from interp.errors import CheckpointMismatch, DataError, InterventionError, SiteError
from interp.sites import ModelShape, Site
from interp.traits import Trait

__all__ = ["NUMBERS", "WORDS", "Array", "Direction", "check_width"]

Array = NDArray[np.float64]
NUMBERS = ("sigma", "norm", "intercept", "score")
WORDS = ("method", "trait", "positive", "against", "model", "pool")
_UNIT_TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class Direction:
    """A unit vector at a site; the probe's logit at ``x`` is ``norm * (x @ vector) + intercept``.

    Parameters
    ----------
    site : Site or str
        Where the vector lives.
    vector : array of shape (dim,)
        Unit vector, float64, in the raw basis of the site (never of standardised features). Stored read-only.
    sigma : float
        Standard deviation of the training activations along the vector, in raw units; NaN if not measured.
    method : str
        How it was found: ``"logistic"``, ``"ridge"``, ``"mean_diff"``, ``"random"``, ...
    trait : str
        What it was fitted to, as :class:`interp.Trait` writes it: ``"drums"``, ``"instrument=piano"``. For one class of
        a label with several, the label: ``"genre"``.
    positive, against : str
        What lies on the positive and on the negative side: ``"drums"`` and ``"not drums"``, ``"piano"`` and
        ``"flute"``, ``"more"`` and ``"less"`` for a graded trait. By default what the trait says, and ``"not ..."``.
    norm : float
        Length of the probe's weight in the raw basis, greater than zero.
    intercept : float
        The probe's intercept; NaN where there is no such thing (a random direction).
    score : float
        Held-out score of the probe, NaN if not measured.
    model : str
        Fingerprint of the checkpoint whose activations were read; empty if unknown.
    pool : str
        How activations were pooled over time.
    info : mapping
        Anything else worth keeping (penalty, folds, seed), as JSON values.

    Raises
    ------
    DataError
        If the vector is not one-dimensional, finite and of unit length, or a number is out of range.

    Examples
    --------
    >>> d = Direction.from_weight("L3.H2", [3.0, 4.0], intercept=1.0, trait="drums")
    >>> d.vector.tolist(), d.norm
    ([0.6, 0.8], 5.0)
    >>> float(d.logit([[1.0, 1.0]])[0])
    8.0
    """

    site: Site
    vector: Array
    sigma: float = math.nan
    method: str = ""
    trait: str = ""
    positive: str = ""
    against: str = ""
    norm: float = 1.0
    intercept: float = math.nan
    score: float = math.nan
    model: str = ""
    pool: str = "mean"
    info: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "site", Site.parse(self.site))
        vector = np.array(self.vector, dtype=np.float64)  # a copy: the caller's array stays the caller's
        where = f"direction {self.method or '?'} of {self.trait or '?'} at {self.site}"
        if vector.ndim != 1 or not vector.size:
            raise DataError(f"{where}: the vector has shape {vector.shape}; give one vector of shape (dim,).")
        if not np.isfinite(vector).all():
            raise DataError(f"{where}: the vector holds NaN or infinity; check the activations it was fitted on.")
        length = float(np.linalg.norm(vector))
        if abs(length - 1) > _UNIT_TOLERANCE:
            raise DataError(
                f"{where}: the vector has length {length:.6g}, not 1; build it with Direction.from_weight, "
                "which keeps the length in `norm`."
            )
        if abs(length - 1) > 1e-12:  # leave unit vectors alone, so that a saved direction comes back bit for bit
            vector /= length
        vector.setflags(write=False)
        object.__setattr__(self, "vector", vector)
        for name in NUMBERS:
            object.__setattr__(self, name, float(getattr(self, name)))
        for name in WORDS:
            object.__setattr__(self, name, str(getattr(self, name)))
        trait = _parsed(self.trait)
        if not self.positive and self.trait:
            object.__setattr__(self, "positive", self.trait if trait is None else trait.answer)
        if not self.against and self.positive:
            object.__setattr__(self, "against", trait.against if trait and trait.against else _opposite(self.positive))
        object.__setattr__(self, "info", dict(self.info))
        if not (math.isfinite(self.norm) and self.norm > 0):
            raise DataError(f"{where}: norm is {self.norm}; it must be finite and greater than zero.")
        if math.isinf(self.sigma) or self.sigma < 0:
            raise DataError(f"{where}: sigma is {self.sigma}; it must be finite and not negative (NaN: not measured).")

    @classmethod
    def from_weight(
        cls,
        site: Site | str,
        weight: Array | Sequence[float],
        *,
        activations: Array | None = None,
        **fields: Any,
    ) -> Direction:
        """Build a direction from a probe's weight in the raw basis, of any length.

        Parameters
        ----------
        site : Site or str
            Where the weight lives.
        weight : array of shape (dim,)
            The weight; its length becomes ``norm``.
        activations : array of shape (clips, dim), optional
            Training activations from which ``sigma`` is measured.
        **fields
            Any other field of :class:`Direction`.

        Raises
        ------
        DataError
            If the weight is zero or not finite, or the activations have another width.
        """
        weight = np.asarray(weight, dtype=np.float64)
        site = Site.parse(site)
        length = float(np.linalg.norm(weight))
        if not math.isfinite(length) or length == 0:
            raise DataError(
                f"no direction at {site}: the weight of {fields.get('method', 'the probe')} is "
                f"{'zero' if length == 0 else 'not finite'}; the activations may be constant there."
            )
        direction = cls(site=site, vector=weight / length, norm=length, **fields)
        return direction if activations is None else direction.measured(activations)

    @property
    def dim(self) -> int:
        """Width of the vector."""
        return int(self.vector.size)

    @property
    def weight(self) -> Array:
        """The probe's weight in the raw basis, ``norm * vector``."""
        return self.norm * self.vector

    def logit(self, activations: Array | Sequence[Sequence[float]]) -> Array:
        """Logit of the probe for activations of shape ``(..., dim)``.

        Raises
        ------
        DataError
            If the width differs.
        """
        x = np.asarray(activations, dtype=np.float64)
        check_width(self, x.shape[-1])
        return np.asarray(self.norm * (x @ self.vector) + self.intercept)

    def step(self, dose: float) -> Array:
        """The displacement ``dose * sigma * vector``, in raw units, of shape ``(dim,)``.

        Raises
        ------
        InterventionError
            If sigma was never measured.
        """
        if math.isnan(self.sigma):
            raise InterventionError(
                f"{self} has no sigma, so a dose has no meaning: call direction.measured(activations) first, "
                "or push by a strength in raw units."
            )
        return np.asarray(dose * self.sigma * self.vector)

    def flip(self) -> Direction:
        """The same probe read the other way round: positive and negative side change places."""
        vector, intercept = -self.vector, -self.intercept
        return replace(self, vector=vector, intercept=intercept, positive=self.against, against=self.positive)

    def measured(self, activations: Array) -> Direction:
        """The direction with ``sigma`` measured on activations of shape ``(clips, dim)``.

        Raises
        ------
        DataError
            If the width differs or there are fewer than two clips.
        """
        x = np.asarray(activations, dtype=np.float64)
        if x.ndim != 2 or len(x) < 2:
            raise DataError(f"sigma of {self} needs activations of shape (clips, dim) with two clips or more.")
        check_width(self, x.shape[1])
        return replace(self, sigma=float((x @ self.vector).std(ddof=1)))

    def noted(self, **info: Any) -> Direction:
        """The direction with more entries in ``info``."""
        return replace(self, info={**self.info, **info})

    def check_model(self, fingerprint: str) -> Direction:
        """Return the direction if it was read from this checkpoint.

        Raises
        ------
        CheckpointMismatch
            If it was read from another one; the sentence names both.
        """
        if self.model and fingerprint and self.model != fingerprint:
            raise CheckpointMismatch(
                f"{self} was read from checkpoint {self.model} but is used with {fingerprint}: "
                "fit it again on activations of this checkpoint."
            )
        return self

    def check_shape(self, shape: ModelShape) -> Direction:
        """Return the direction if a model of this shape has its site, with this width.

        Raises
        ------
        SiteError
            If the site does not exist or is of another width.
        """
        self.site.check(shape)
        if self.dim != shape.dim(self.site.kind):
            raise SiteError(
                f"{self} has width {self.dim}, but {self.site} of the model has {shape.dim(self.site.kind)}."
            )
        return self

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Direction):
            return NotImplemented
        numbers = all(_same(getattr(self, name), getattr(other, name)) for name in NUMBERS)
        words = all(getattr(self, name) == getattr(other, name) for name in (*WORDS, "site", "info"))
        return numbers and words and np.array_equal(self.vector, other.vector)

    def __hash__(self) -> int:
        return hash((self.site, self.method, self.trait, self.positive, self.model, self.pool, self.vector.tobytes()))

    @property
    def role(self) -> Literal["readout", "push"]:
        """Whether it is a weight on activations or a difference of activations, by its method; see the registry.

        Examples
        --------
        >>> [Direction.from_weight("L0.H1", [1, 0], method=name).role for name in ("ridge", "mean_diff")]
        ['readout', 'push']
        """
        from interp.directions.registry import role

        return role(self.method)

    @property
    def towards(self) -> str:
        """What it points to, as a trait is written: ``"drums"``, ``"genre=jazz"``, ``"instrument=piano|flute"``.

        Examples
        --------
        >>> Direction.from_weight("L0.H1", [1, 0], trait="genre", positive="jazz").towards
        'genre=jazz'
        >>> Direction.from_weight("L0.H1", [1, 0], trait="drums", positive="drums", against="not drums").towards
        'drums'
        """
        if not self.positive or self.positive in ("more", self.trait):
            return self.trait
        trait = _parsed(self.trait)
        if trait is not None and trait.positive == self.positive:
            return self.trait
        return f"{self.trait if trait is None else trait.column}={self.positive}"

    def is_of(self, trait: str | Trait) -> bool:
        """Whether it is a direction of a trait, or towards the class that the trait names.

        Examples
        --------
        >>> jazz = Direction.from_weight("L0.H1", [1, 0], trait="genre", positive="jazz")
        >>> jazz.is_of("genre"), jazz.is_of("genre=jazz"), jazz.is_of("genre=rock"), jazz.is_of("drums")
        (True, True, False, False)
        """
        if str(trait) == self.trait:
            return True
        own = _parsed(self.trait)
        wanted = _parsed(trait)
        if own is None or wanted is None or own.column != wanted.column or not wanted.positive:
            return False
        return wanted.positive == (own.positive or self.positive) and wanted.against in ("", own.against, self.against)

    def __str__(self) -> str:
        against = f" against {self.against}" if self.against and not self.against.startswith("not ") else ""
        return f"direction {self.method or '?'} of {self.towards or '?'}{against} at {self.site}"

    def __repr__(self) -> str:
        return f"<{self}: dim {self.dim}, sigma {self.sigma:.3g}, score {self.score:.3g}>"

    def _repr_html_(self) -> str:
        rows = {"site": self.site, "of": self.towards, "against": self.against, "method": self.method, "dim": self.dim}
        rows |= {name: f"{getattr(self, name):.4g}" for name in NUMBERS} | {"model": self.model, "pool": self.pool}
        cells = "".join(f"<tr><th>{key}</th><td>{escape(str(value))}</td></tr>" for key, value in rows.items())
        return f"<table><caption>Direction</caption>{cells}</table>"


def _parsed(trait: str | Trait) -> Trait | None:
    """The trait, or nothing where the text is a name that no label has (a sum of directions, say)."""
    try:
        return Trait.parse(trait)
    except DataError:
        return None


def _opposite(name: str) -> str:
    return name[4:] if name.startswith("not ") else f"not {name}"


def check_width(direction: Direction, width: int) -> None:
    if width != direction.dim:
        raise DataError(f"{direction} has width {direction.dim}, but the activations have {width}: wrong site?")


def _same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))
