"""A list of directions in one safetensors file, its records as JSON in the header; nothing is pickled."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interp._files import atomic
from interp.directions.direction import NUMBERS, WORDS, Direction
from interp.errors import StoreError

__all__ = ["load", "save"]

_FORMAT = "interp.directions/3"


def save(directions: Sequence[Direction], path: str | Path) -> Path:
    """Write directions; see :meth:`interp.Directions.save`."""
    from safetensors.numpy import save as packed

    path = _with_suffix(path)
    if not directions:
        raise StoreError(f"no directions to save to {path}.")
    tensors: dict[str, NDArray[Any]] = {
        name: np.array([getattr(item, name) for item in directions]) for name in NUMBERS
    }
    tensors["width"] = np.array([item.dim for item in directions], dtype=np.int64)
    tensors["vector"] = np.concatenate([item.vector for item in directions])
    records = [
        {
            "site": str(item.site),
            **{name: getattr(item, name) for name in WORDS},
            "info": _plain(item.info),
        }
        for item in directions
    ]
    try:
        # one entry: safetensors writes several in any order, and equal directions are to be equal files
        header = {"content": json.dumps({"format": _FORMAT, "records": records})}
    except TypeError as error:
        raise StoreError(f"cannot save directions to {path}: info must hold plain JSON values ({error}).") from error
    with atomic(path) as partial:
        partial.write_bytes(packed(tensors, metadata=header))
    return path


def load(path: str | Path) -> list[Direction]:
    """Read directions; see :meth:`interp.Directions.load`."""
    from safetensors import SafetensorError, safe_open

    path = _with_suffix(path)
    if not path.is_file():
        raise StoreError(f"no directions at {path}: save them there with Directions.save first.")
    try:
        with safe_open(path, framework="np") as file:
            header = json.loads((file.metadata() or {}).get("content", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
        if not isinstance(header, dict) or header.get("format") != _FORMAT:
            raise StoreError(
                f"{path} is not a file of directions that this version reads (it is to be {_FORMAT!r}); write it again."
            )
        records = header["records"]
        if len(records) != len(tensors["width"]) or tensors["width"].sum() != len(tensors["vector"]):
            raise StoreError(f"{path} is damaged: its records and vectors do not match; write it again.")
        vectors = np.split(tensors["vector"], np.cumsum(tensors["width"])[:-1])
        items = [
            Direction(**record, vector=vector, **_numbers(tensors, row))
            for row, (vector, record) in enumerate(zip(vectors, records, strict=True))
        ]
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{path} is damaged or not a file of directions ({error}); write it again.") from error
    return items


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
