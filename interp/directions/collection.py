"""Directions: unit vectors at sites, with the books that say what they are and where they came from.

:class:`Direction` is one unit vector in the *raw* basis of one site, with the spread of the training
activations along it (``sigma``) and the weight norm and intercept that turn it back into the probe it was.
:class:`Directions` is an ordered, immutable list of them that selects, tabulates, saves (safetensors with its
records as JSON in the header; nothing is pickled) and loads. :func:`combine`, :func:`orthogonalise`,
:func:`project_out` and :func:`random_like` are their arithmetic.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from interp.directions.algebra import combine, orthogonalise, project_out, random_like, same_space
from interp.directions.direction import NUMBERS, WORDS, Array, Direction
from interp.errors import DataError, StoreError
from interp.sites import Site

__all__ = ["Direction", "Directions", "combine", "orthogonalise", "project_out", "random_like", "same_space"]

_FORMAT = "interp.directions/1"


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
        return (
            f"<{len(self)} directions: {len(self.unique('site'))} sites, methods {methods}, traits {traits}>"
        )

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
            if all(_value(item, name) in values for name, values in wanted.items())
            and (where is None or where(item))
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
        raise DataError(
            f"{len(found)} directions match {asked} ({names}, ...): name the one you mean more closely."
        )

    def top(self, k: int) -> Directions:
        """The ``k`` directions of the highest held-out score (ITI's choice of heads), ties in forward order.

        Raises
        ------
        DataError
            If there are fewer.
        """
        ranked = sorted(self._items, key=lambda item: (-item.score, item.site))
        if not 1 <= k <= len(ranked):
            raise DataError(f"cannot take the {k} best of {len(ranked)} directions.")
        return Directions(ranked[:k])

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
            rows.append(
                row | {"site": str(item.site), "dim": item.dim} | {n: getattr(item, n) for n in NUMBERS}
            )
        columns = [
            "site",
            "kind",
            "layer",
            "head",
            "trait",
            "positive",
            "method",
            "dim",
            *NUMBERS,
            "model",
            "pool",
        ]
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
        from safetensors.numpy import save

        path = _with_suffix(path)
        if not self._items:
            raise StoreError(f"no directions to save to {path}.")
        tensors: dict[str, NDArray[Any]] = {
            name: np.array([getattr(item, name) for item in self._items]) for name in NUMBERS
        }
        tensors["width"] = np.array([item.dim for item in self._items], dtype=np.int64)
        tensors["vector"] = np.concatenate([item.vector for item in self._items])
        records = [
            {
                "site": str(item.site),
                **{name: getattr(item, name) for name in WORDS},
                "info": _plain(item.info),
            }
            for item in self._items
        ]
        try:
            header = {"format": _FORMAT, "records": json.dumps(records)}
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
            try:
                temporary.write_bytes(save(tensors, metadata=header))
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
        except TypeError as error:
            raise StoreError(
                f"cannot save directions to {path}: info must hold plain JSON values ({error})."
            ) from error
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
            raise StoreError(
                f"{path} is damaged or not a file of directions ({error}); write it again."
            ) from error
        return cls(items).check_model(model)


def _value(item: Direction, name: str) -> Any:
    if name in ("kind", "layer", "head"):
        return getattr(item.site, name)
    if name in item.__dataclass_fields__:
        return getattr(item, name)
    return item.info.get(name)


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
    return {name: float(tensors[name][row]) for name in NUMBERS}
