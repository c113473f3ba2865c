"""Interventions in a file and back; what a reader does not know, it refuses.

A file is safetensors: arrays as they are, to the bit, and everything else as JSON in the header. Any registered
dataclass (:func:`interp.steering.register`) is written field by field, so an intervention or a schedule of one's own
needs no code here. Each direction is written once however many interventions use it. Nothing is pickled.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interp._files import atomic
from interp.directions import Direction, Directions
from interp.directions.erasure import Eraser
from interp.errors import InterpError, StoreError
from interp.sites import Site
from interp.steering._registry import REGISTRY
from interp.steering.interventions import Intervention

__all__ = ["load", "save"]

_FORMAT = "interp.interventions/2"
_SUFFIX = ".safetensors"
_KNOWN: dict[str, type[Any]] = {"Eraser": Eraser}


def save(path: str | Path, interventions: Iterable[Intervention] | Intervention) -> Path:
    """Write interventions to a file, which appears whole or not at all.

    Parameters
    ----------
    path : str or Path
        The file; the suffix ``.safetensors`` is added if it is missing.
    interventions : Intervention or iterable of Intervention

    Returns
    -------
    Path
        The file.

    Raises
    ------
    StoreError
        If one of them is not registered or holds something that cannot be written (Python code), or the disk refuses.

    Examples
    --------
    >>> import tempfile
    >>> from interp.steering import Ablate
    >>> item = Ablate.zero("L3.H2", window=(1.0, 2.0))
    >>> path = save(Path(tempfile.mkdtemp()) / "quiet", item)
    >>> load(path) == (item,)
    True
    """
    from safetensors.numpy import save as to_bytes

    path = _with_suffix(path)
    items = [interventions] if isinstance(interventions, Intervention) else list(interventions)
    writer = _Writer()
    written = [writer.plain(item) for item in items]
    directions = [writer.fields(direction) for direction in writer.directions]
    content = {"format": _FORMAT, "interventions": written, "directions": directions}
    header = {"content": json.dumps(content, allow_nan=False)}  # one entry: safetensors writes several in any order
    arrays = writer.arrays or {"0": np.zeros(0)}  # safetensors wants at least one
    with atomic(path) as partial:
        partial.write_bytes(to_bytes(arrays, metadata=header))
    return path


def load(path: str | Path, *, model: str = "") -> tuple[Intervention, ...]:
    """Read what :func:`save` wrote.

    Parameters
    ----------
    path : str or Path
        The file, with or without its suffix.
    model : str
        Fingerprint of the checkpoint they are going to be used with; empty to skip the check.

    Raises
    ------
    StoreError
        If there is no such file, it is damaged or something else, or holds what this version does not know; the
        sentence names it.
    CheckpointMismatch
        If a direction was read from another checkpoint.
    InterventionError
        If an intervention is not possible.

    Examples
    --------
    >>> import tempfile
    >>> from interp.directions import Direction
    >>> from interp.steering import Add
    >>> push = Add(Direction.from_weight("L3.resid", [0.0, 2.0], sigma=0.5), dose=2.0)
    >>> (back,) = load(save(Path(tempfile.mkdtemp()) / "push", push))
    >>> back.dose, str(back.directions[0].site)
    (2.0, 'L3.resid')
    """
    from safetensors import SafetensorError, safe_open

    path = _with_suffix(path)
    if not path.is_file():
        raise StoreError(f"there are no interventions at {path}: write them there with steering.save first.")
    try:
        with safe_open(path, framework="np") as file:
            content = json.loads((file.metadata() or {}).get("content", "{}"))
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            other = content.get("format") if isinstance(content, dict) else None
            raise StoreError(
                f"{path} holds no interventions that this version reads (format {other!r}, expected {_FORMAT!r})."
            )
        _refuse(content, {"format", "interventions", "directions"}, f"{path}")
        reader = _Reader(arrays)
        for fields in content["directions"]:
            direction = reader.made(Direction, fields)
            direction.check_model(model)
            reader.directions.append(direction)
        items = tuple(reader.python(item) for item in content["interventions"])
    except InterpError:
        raise
    except (SafetensorError, OSError, KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(f"{path} cannot be read, it is damaged or no file of interventions: {error}.") from None
    wrong = [item for item in items if not isinstance(item, Intervention)]
    if wrong:
        raise StoreError(f"{path} holds {type(wrong[0]).__name__}, which is no intervention: write it again.")
    return items


class _Writer:
    """From Python to JSON; arrays and directions are put aside."""

    def __init__(self) -> None:
        self.arrays: dict[str, NDArray[Any]] = {}
        self.directions: dict[Direction, int] = {}

    def plain(self, value: Any) -> Any:
        if isinstance(value, Site):
            return {"site": str(value)}
        if isinstance(value, Direction):
            return {"direction": self.directions.setdefault(value, len(self.directions))}
        if isinstance(value, Directions):
            return {"directions": [self.directions.setdefault(item, len(self.directions)) for item in value]}
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
            self.arrays[str(len(self.arrays))] = np.ascontiguousarray(value)
            return {"array": len(self.arrays) - 1}
        if isinstance(value, np.generic):
            return self.plain(value.item())
        if isinstance(value, float):
            return value if math.isfinite(value) else {"number": str(value)}
        if isinstance(value, Mapping):
            return {"mapping": {str(key): self.plain(entry) for key, entry in value.items()}}
        if isinstance(value, tuple | list):
            return [self.plain(entry) for entry in value]
        if value is None or isinstance(value, str | int | bool):
            return value
        name = type(value).__name__
        if (REGISTRY | _KNOWN).get(name) is type(value):
            return {"type": name, "fields": self.fields(value)}
        if dataclasses.is_dataclass(value):
            raise StoreError(
                f"{name} is not registered, so it cannot be written to a file: put @interp.steering.register above "
                "the class."
            )
        raise StoreError(
            f"{value!r} is Python code or an object that cannot be written to a file of interventions: give a "
            "registered class of your own, or for a schedule Curve.of(function, seconds)."
        )

    def fields(self, item: Any) -> dict[str, Any]:
        return {spec.name: self.plain(getattr(item, spec.name)) for spec in dataclasses.fields(item) if spec.init}


class _Reader:
    """From JSON to Python."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.arrays = arrays
        self.directions: list[Direction] = []

    def python(self, value: Any) -> Any:
        if isinstance(value, list):
            return tuple(self.python(entry) for entry in value)
        if not isinstance(value, Mapping):
            return value
        if set(value) == {"type", "fields"}:
            kind = (REGISTRY | _KNOWN).get(str(value["type"]))
            if kind is None:
                known = ", ".join(sorted(REGISTRY))
                raise StoreError(
                    f"there is no registered class {value['type']!r}: import the module that defines it first; known "
                    f"are {known}."
                )
            return self.made(kind, value["fields"])
        if len(value) != 1:
            raise StoreError(f"the interventions hold {', '.join(map(repr, value))}, which this version does not know.")
        ((word, content),) = value.items()
        return self._word(word, content)

    def _word(self, word: str, content: Any) -> Any:
        if word == "site":
            return Site.parse(content)
        if word == "direction":
            return self.directions[int(content)]
        if word == "directions":
            return Directions(self.directions[int(index)] for index in content)
        if word == "array":
            return self.arrays[str(content)]
        if word == "number":
            return float(content)
        if word == "mapping":
            return {key: self.python(entry) for key, entry in content.items()}
        raise StoreError(f"the interventions hold {word!r}, which this version does not know.")

    def made(self, kind: type[Any], fields: Mapping[str, Any]) -> Any:
        names = {spec.name for spec in dataclasses.fields(kind) if spec.init}
        _refuse(fields, names, kind.__name__)
        return kind(**{name: self.python(value) for name, value in fields.items()})


def _refuse(entry: Mapping[str, Any], known: set[str], where: str) -> None:
    unknown = sorted(set(entry) - known)
    if unknown:
        raise StoreError(
            f"{where} has unknown fields ({', '.join(unknown)}): remove them or use the version that wrote them."
        )


def _with_suffix(path: str | Path) -> Path:
    path = Path(path)
    return path if path.suffix == _SUFFIX else path.with_name(path.name + _SUFFIX)
