"""Directions: unit vectors at sites, with the books that say what they are and where they came from.

:class:`Direction` is one unit vector in the *raw* basis of one site, with the spread of the training activations
along it (``sigma``) and the weight norm and intercept that turn it back into the probe it came from.
:class:`Directions` is an ordered, immutable list of them that selects, tabulates, saves (safetensors with its
records as JSON in the header; nothing is pickled) and loads.

The arithmetic (:func:`combine`, :func:`orthogonalise`, :func:`project_out`, :func:`random_like`) only ever mixes
directions of one site and one checkpoint. What becomes unknown becomes NaN and is measured again by
:meth:`Direction.measured`; it is never carried over silently.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, overload

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from interp.errors import CheckpointMismatch, DataError, InterventionError, SiteError, StoreError
from interp.sites import ModelShape, Site

__all__ = ["Direction", "Directions", "combine", "orthogonalise", "project_out", "random_like", "same_space"]

Array = NDArray[np.float64]
_FORMAT = "interp.directions/1"
_NUMBERS = ("sigma", "norm", "intercept", "score")
_WORDS = ("method", "trait", "positive", "model", "pool")
_UNIT_TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class Direction:
    """A unit vector at a site; the probe's logit at an activation ``x`` is ``norm * (x @ vector) + intercept``.

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
        The label it was fitted to, for example ``"drums"``.
    positive : str
        What lies on the positive side, for example ``"1"`` or ``"piano"``.
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
        Anything else worth keeping (regulariser, folds, seed, ``"against"`` for pairwise directions); must be JSON.

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
    positive: str = "1"
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
        vector /= length
        vector.setflags(write=False)
        object.__setattr__(self, "vector", vector)
        for name in _NUMBERS:
            object.__setattr__(self, name, float(getattr(self, name)))
        for name in _WORDS:
            object.__setattr__(self, name, str(getattr(self, name)))
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
        _check_width(self, x.shape[-1])
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
        info = dict(self.info)
        if "against" in info:
            positive, info["against"] = str(info["against"]), self.positive
        else:
            positive = self.positive[4:] if self.positive.startswith("not ") else f"not {self.positive}"
        return replace(self, vector=-self.vector, intercept=-self.intercept, positive=positive, info=info)

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
        _check_width(self, x.shape[1])
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
            raise SiteError(f"{self} has width {self.dim}, but {self.site} of the model has {shape.dim(self.site.kind)}.")
        return self

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Direction):
            return NotImplemented
        numbers = all(_same(getattr(self, name), getattr(other, name)) for name in _NUMBERS)
        words = all(getattr(self, name) == getattr(other, name) for name in (*_WORDS, "site", "info"))
        return numbers and words and np.array_equal(self.vector, other.vector)

    def __hash__(self) -> int:
        return hash((self.site, self.method, self.trait, self.positive, self.model, self.pool, self.vector.tobytes()))

    def __str__(self) -> str:
        against = f" against {self.info['against']}" if "against" in self.info else ""
        return f"direction {self.method or '?'} of {self.trait or '?'}={self.positive}{against} at {self.site}"

    def __repr__(self) -> str:
        return f"<{self}: dim {self.dim}, sigma {self.sigma:.3g}, score {self.score:.3g}>"


class Directions(Sequence[Direction]):
    """An ordered, immutable list of directions.

    Examples
    --------
    >>> d = Direction.from_weight("L0.H1", [1.0, 0.0], method="ridge", trait="drums")
    >>> ds = Directions([d, d.flip()])
    >>> len(ds.select(method="ridge", site="L0.H1", positive="1"))
    1
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

    def unique(self, name: str) -> list[Any]:
        """Different values of a field (or of ``kind``, ``layer``, ``head``), in order of appearance."""
        return list(dict.fromkeys(_value(item, name) for item in self._items))

    def select(
        self,
        *,
        site: Site | str | Iterable[Site | str] | None = None,
        method: str | Iterable[str] | None = None,
        trait: str | Iterable[str] | None = None,
        kind: str | Iterable[str] | None = None,
        where: Callable[[Direction], bool] | None = None,
        **fields: Any,
    ) -> Directions:
        """The directions that match; each argument takes one value or several.

        Parameters
        ----------
        site, method, trait, kind
            Values to keep; ``None`` keeps all.
        where : callable, optional
            Keeps the directions for which it is true.
        **fields
            Any other field (``positive``, ``pool``, ``model``), ``layer``, ``head``, or a key of ``info``.
        """
        wanted: dict[str, set[Any]] = {}
        for name, value in {"site": site, "method": method, "trait": trait, "kind": kind, **fields}.items():
            if value is not None:
                several = not isinstance(value, str | Site) and isinstance(value, Iterable)
                values = list(value) if several else [value]
                wanted[name] = {Site.parse(v) for v in values} if name == "site" else set(values)
        return Directions(
            item
            for item in self._items
            if all(_value(item, name) in values for name, values in wanted.items()) and (where is None or where(item))
        )

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
        """Return the list if every direction was read from this checkpoint, else raise :class:`CheckpointMismatch`."""
        for item in self._items:
            item.check_model(fingerprint)
        return self

    def to_frame(self) -> pd.DataFrame:
        """One row a direction: where, how, of what, and its numbers; vectors are left out."""
        rows = []
        for item in self._items:
            row = {name: _value(item, name) for name in ("site", "kind", "layer", "head", *_WORDS)}
            rows.append(row | {"site": str(item.site), "dim": item.dim} | {n: getattr(item, n) for n in _NUMBERS})
        columns = ["site", "kind", "layer", "head", "trait", "positive", "method", "dim", *_NUMBERS, "model", "pool"]
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
        """Write the list to one safetensors file, its records as JSON in the header; the file appears whole or not at all.

        Returns
        -------
        Path
            The file, with the suffix ``.safetensors``.

        Raises
        ------
        StoreError
            If the list is empty, ``info`` holds something that is not JSON, or the disk refuses.
        """
        from safetensors.numpy import save

        path = _with_suffix(path)
        if not self._items:
            raise StoreError(f"no directions to save to {path}.")
        tensors: dict[str, NDArray[Any]] = {
            name: np.array([getattr(item, name) for item in self._items]) for name in _NUMBERS
        }
        tensors["width"] = np.array([item.dim for item in self._items], dtype=np.int64)
        tensors["vector"] = np.concatenate([item.vector for item in self._items])
        records = [
            {"site": str(item.site), **{name: getattr(item, name) for name in _WORDS}, "info": _plain(item.info)}
            for item in self._items
        ]
        try:
            header = {"format": _FORMAT, "records": json.dumps(records)}
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(save(tensors, metadata=header))
                os.replace(temporary, path)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
        except TypeError as error:
            raise StoreError(f"cannot save directions to {path}: info must hold plain JSON values ({error}).") from error
        except OSError as error:
            raise StoreError(f"cannot save directions to {path}: {error.strerror or error}.") from error
        return path

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
        from safetensors import SafetensorError, safe_open

        path = _with_suffix(path)
        if not path.is_file():
            raise StoreError(f"no directions at {path}: save them there with Directions.save first.")
        try:
            with safe_open(path, framework="np") as file:
                header = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
            if header.get("format") != _FORMAT:
                raise StoreError(
                    f"{path} is not a file of directions that this version reads "
                    f"(format {header.get('format')!r}, expected {_FORMAT!r})."
                )
            records = json.loads(header["records"])
            if len(records) != len(tensors["width"]) or tensors["width"].sum() != len(tensors["vector"]):
                raise StoreError(f"{path} is damaged: its records and vectors do not match; write it again.")
            vectors = np.split(tensors["vector"], np.cumsum(tensors["width"])[:-1])
            items = [
                Direction(**record, vector=vector, **_numbers(tensors, row))
                for row, (vector, record) in enumerate(zip(vectors, records, strict=True))
            ]
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise StoreError(f"{path} is damaged or not a file of directions ({error}); write it again.") from error
        return cls(items).check_model(model)


def same_space(directions: Iterable[Direction]) -> None:
    """Check that directions live in one basis: one site, one width, one checkpoint.

    Raises
    ------
    SiteError
        If the sites or widths differ.
    CheckpointMismatch
        If the checkpoints differ.
    """
    items = list(directions)
    for item in items[1:]:
        item.check_model(items[0].model)
        if item.site != items[0].site or item.dim != items[0].dim:
            raise SiteError(
                f"{items[0]} (dim {items[0].dim}) and {item} (dim {item.dim}) live in different bases and cannot be "
                "mixed or compared as they are: bring them into the residual stream first "
                "(interp.geometry.through_output)."
            )


def random_like(direction: Direction, rng: np.random.Generator) -> Direction:
    """A direction drawn uniformly from the sphere, with norm and sigma of the *treated* direction.

    Norm and sigma are kept so that the same strength or dose gives a displacement of the same length: it is a
    control for how far one pushes, and its sigma is not the spread of the activations along it.
    """
    draw = rng.standard_normal(direction.dim)
    return replace(
        direction,
        vector=draw / np.linalg.norm(draw),
        method="random",
        intercept=math.nan,
        score=math.nan,
        info={"like": direction.method, "sigma_of": direction.method},
    )


def combine(
    directions: Sequence[Direction],
    weights: Sequence[float] | None = None,
    *,
    trait: str | None = None,
    activations: Array | None = None,
) -> Direction:
    """The weighted sum of unit vectors, made a direction again.

    Parameters
    ----------
    directions : sequence of Direction
        Directions of one site and one checkpoint.
    weights : sequence of float, optional
        One weight a direction; equal weights of 1 by default. Minus one subtracts.
    trait : str, optional
        Name of the result; by default the terms, written out.
    activations : array of shape (clips, dim), optional
        Where to measure the new sigma; without, it is NaN.

    Returns
    -------
    Direction
        With ``norm`` the length of the sum and NaN for intercept and score, which a sum does not have.

    Raises
    ------
    SiteError, CheckpointMismatch
        If the directions live in different spaces.
    DataError
        If there is none, the weights do not fit, or the sum is zero.
    """
    weights = [1.0] * len(directions) if weights is None else list(weights)
    if not directions or len(weights) != len(directions):
        raise DataError(f"{len(directions)} directions and {len(weights)} weights: give one weight for each direction.")
    same_space(directions)
    total = np.sum([w * d.vector for w, d in zip(weights, directions, strict=True)], axis=0)
    terms = [f"{w:+g} {d.trait}={d.positive}" for w, d in zip(weights, directions, strict=True)]
    if np.linalg.norm(total) < 1e-9 * max(1.0, max(abs(w) for w in weights)):
        raise DataError(f"the directions cancel out ({', '.join(terms)}): no direction is left.")
    first = directions[0]
    methods = list(dict.fromkeys(d.method for d in directions))
    return Direction.from_weight(
        first.site,
        total,
        activations=activations,
        method="+".join(methods),
        trait=" ".join(terms) if trait is None else trait,
        model=first.model,
        pool=first.pool,
        info={"combined": terms},
    )


def orthogonalise(
    direction: Direction, against: Sequence[Direction], *, activations: Array | None = None
) -> Direction:
    """What is left of a direction after its part in the span of others is taken away (Gram-Schmidt).

    Parameters
    ----------
    direction : Direction
        The direction to clean.
    against : sequence of Direction
        Directions of the same site and checkpoint; they need not be orthogonal to each other.
    activations : array of shape (clips, dim), optional
        Where to measure the new sigma, and to set the intercept so that the mean logit stays as it was; without,
        both are NaN.

    Returns
    -------
    Direction
        Its ``info`` says what was taken out and which share of the squared length was left (``"kept"``).

    Raises
    ------
    SiteError, CheckpointMismatch
        If the directions live in different spaces.
    DataError
        If nothing is left.
    """
    same_space([direction, *against])
    rest = direction.vector - _span_part(direction.vector, against)
    rest -= _span_part(rest, against)  # twice is enough: the second pass removes what rounding left
    kept = float(rest @ rest)
    if kept < 1e-16:
        raise DataError(f"{direction} lies in the span of what it is orthogonalised against: nothing is left.")
    cleaned = Direction.from_weight(
        direction.site,
        direction.norm * rest,
        activations=activations,
        **{name: getattr(direction, name) for name in _WORDS},
        info={**direction.info, "orthogonal_to": [str(d) for d in against], "kept": kept},
    )
    if activations is None:
        return cleaned
    mean = np.asarray(activations, dtype=np.float64).mean(axis=0)
    logit = direction.norm * float(mean @ direction.vector) + direction.intercept
    return replace(cleaned, intercept=logit - cleaned.norm * float(mean @ cleaned.vector))


def project_out(activations: Array, directions: Sequence[Direction], *, mean: Array | None = None) -> Array:
    """Activations without their part in the span of the directions.

    Parameters
    ----------
    activations : array of shape (..., dim)
        Activations at the directions' site.
    directions : sequence of Direction
        Directions of one site and checkpoint.
    mean : array of shape (dim,), optional
        Point that is left in place (mean ablation); the origin by default.

    Returns
    -------
    array of shape (..., dim)

    Raises
    ------
    SiteError, CheckpointMismatch
        If the directions live in different spaces.
    DataError
        If there is none, or the width differs.
    """
    if not directions:
        raise DataError("no direction to project out.")
    same_space(directions)
    x = np.asarray(activations, dtype=np.float64)
    _check_width(directions[0], x.shape[-1])
    centre = np.zeros(x.shape[-1]) if mean is None else np.asarray(mean, dtype=np.float64)
    return np.asarray(x - _span_part(x - centre, directions))


def _span_part(x: Array, directions: Sequence[Direction]) -> Array:
    if not directions:
        return np.zeros_like(x)
    stacked = np.stack([d.vector for d in directions], axis=1)
    left, values, _ = np.linalg.svd(stacked, full_matrices=False)
    basis = left[:, values > values[0] * 1e-10]  # directions may be dependent; QR would invent a basis vector
    return np.asarray((x @ basis) @ basis.T)


def _check_width(direction: Direction, width: int) -> None:
    if width != direction.dim:
        raise DataError(f"{direction} has width {direction.dim}, but the activations have {width}: wrong site?")


def _value(item: Direction, name: str) -> Any:
    if name in ("kind", "layer", "head"):
        return getattr(item.site, name)
    if name in item.__dataclass_fields__:
        return getattr(item, name)
    return item.info.get(name)


def _same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


def _with_suffix(path: str | Path) -> Path:
    path = Path(path)
    return path if path.suffix == ".safetensors" else path.with_name(path.name + ".safetensors")


def _plain(value: Any) -> Any:
    """Numpy scalars and arrays as what JSON knows; anything else is left for the JSON writer to judge."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value


def _numbers(tensors: Mapping[str, NDArray[Any]], row: int) -> dict[str, Any]:
    return {name: float(tensors[name][row]) for name in _NUMBERS}
