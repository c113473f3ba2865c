"""Interventions as a small text file (JSON) and back; what a reader does not know, it refuses.

Numbers that say something are written in plain text. Vectors are base64 of little-endian floats, so that they come
back to the bit; each direction is written once however many interventions use it.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interp.directions import Direction, Directions, Eraser
from interp.errors import InterpError, InterventionError
from interp.sites import Site
from interp.steering.interventions import Ablate, Add, Clamp, Interpolate, Intervention, SiteValues, Swap
from interp.steering.interventions.smitin import Smitin
from interp.steering.schedules import SCHEDULES, Schedule

__all__ = ["dumps", "load_interventions", "loads", "save_interventions"]

_FORMAT = "interp.interventions/1"
_TYPES: dict[str, type[Any]] = {t.__name__: t for t in (Add, Interpolate, Clamp, Ablate, Swap, Smitin)}
_RECORDS: dict[str, type[Any]] = {"SiteValues": SiteValues, "Eraser": Eraser}


def dumps(interventions: Iterable[Intervention] | Intervention) -> str:
    """Write interventions as JSON text.

    Raises
    ------
    InterventionError
        If one of them holds something that cannot be written, such as a Python function as its schedule.
    """
    items = [interventions] if isinstance(interventions, Intervention) else list(interventions)
    directions: dict[Direction, int] = {}
    written = [_write(item, directions) for item in items]
    content = {
        "format": _FORMAT,
        "interventions": written,
        "directions": [_write_fields(d) for d in directions],
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def loads(text: str, *, model: str = "") -> tuple[Intervention, ...]:
    """Read what :func:`dumps` wrote.

    Parameters
    ----------
    text : str
    model : str
        Fingerprint of the checkpoint they are going to be used with; empty to skip the check.

    Raises
    ------
    InterventionError
        If the text is not such a file, or holds unknown or missing fields; the sentence names them.
    CheckpointMismatch
        If a direction was read from another checkpoint.
    """
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise InterventionError(f"the interventions cannot be read, because the text is not JSON: {error}.") from None
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise InterventionError(f"the file does not hold interventions of format {_FORMAT}.")
    _refuse(content, {"format", "interventions", "directions"}, "the file")
    try:
        directions = [_read_record(Direction, entry) for entry in content.get("directions", [])]
        for item in directions:
            item.check_model(model)
        return tuple(_read(entry, directions) for entry in content["interventions"])
    except InterpError:
        raise
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise InterventionError(f"the interventions cannot be read, something is malformed: {error}.") from None


def save_interventions(path: str | Path, interventions: Iterable[Intervention] | Intervention) -> Path:
    """Write interventions to a file, which appears whole or not at all.

    Raises
    ------
    InterventionError
        If they cannot be written.
    """
    text = dumps(interventions)
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InterventionError(f"cannot write interventions to {path}: {error.strerror or error}.") from error
    return path


def load_interventions(path: str | Path, *, model: str = "") -> tuple[Intervention, ...]:
    """Read a file of interventions, see :func:`loads`."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InterventionError(f"cannot read interventions from {path}: {error}.") from None
    return loads(text, model=model)


def _write(item: Intervention, directions: dict[Direction, int]) -> dict[str, Any]:
    name = type(item).__name__
    if name not in _TYPES:
        raise InterventionError(f"an intervention of type {name} cannot be written to a file.")
    fields: dict[str, Any] = {"type": name}
    for spec in dataclasses.fields(item):
        value = getattr(item, spec.name)
        if isinstance(value, Directions):
            value = [directions.setdefault(d, len(directions)) for d in value]
        elif isinstance(value, Schedule):
            value = _write_schedule(value)
        else:
            value = _plain(value)
        fields[spec.name] = value
    return fields


def _write_schedule(schedule: Schedule) -> dict[str, Any]:
    name = type(schedule).__name__
    if name not in SCHEDULES:
        raise InterventionError(
            f"the schedule {schedule.describe()} is Python code and cannot be written to a file: make it a table with "
            "Curve.of(function, seconds)."
        )
    values = {spec.name: getattr(schedule, spec.name) for spec in dataclasses.fields(schedule)}
    return {"type": name} | {
        key: _write_schedule(value) if isinstance(value, Schedule) else _plain(value) for key, value in values.items()
    }


def _write_fields(item: Any) -> dict[str, Any]:
    return {spec.name: _plain(getattr(item, spec.name)) for spec in dataclasses.fields(item)}


def _plain(value: Any) -> Any:
    if isinstance(value, Site):
        return str(value)
    if isinstance(value, np.ndarray):
        kind = "<f4" if value.dtype == np.float32 else "<f8"
        data = base64.b64encode(np.ascontiguousarray(value, dtype=kind).tobytes()).decode("ascii")
        return {"dtype": kind, "shape": list(value.shape), "base64": data}
    if isinstance(value, SiteValues | Eraser):
        return {"type": type(value).__name__, **_write_fields(value)}
    if isinstance(value, float):
        return value if math.isfinite(value) else {"number": str(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(entry) for entry in value]
    if value is None or isinstance(value, str | int | bool):
        return value
    raise InterventionError(f"{value!r} cannot be written to a file of interventions.")


def _read(entry: Mapping[str, Any], directions: list[Direction]) -> Intervention:
    kind = _TYPES.get(str(entry.get("type")))
    if kind is None:
        raise InterventionError(f"there is no intervention {entry.get('type')!r}: known are {', '.join(_TYPES)}.")
    specs = {spec.name for spec in dataclasses.fields(kind)}
    _refuse(entry, specs | {"type"}, f"{kind.__name__}")
    values: dict[str, Any] = {}
    for name, value in entry.items():
        if name == "type":
            continue
        if name in ("directions", "listen") and value is not None:
            values[name] = Directions(directions[int(i)] for i in value)
        elif name == "schedule":
            values[name] = _read_schedule(value)
        else:
            values[name] = _python(value)
    item: Intervention = kind(**values)
    return item


def _read_schedule(entry: Mapping[str, Any]) -> Schedule:
    kind = SCHEDULES.get(str(entry.get("type")))
    if kind is None:
        raise InterventionError(f"there is no schedule {entry.get('type')!r}: known are {', '.join(SCHEDULES)}.")
    specs = {spec.name for spec in dataclasses.fields(kind)}
    _refuse(entry, specs | {"type"}, f"schedule {kind.__name__}")
    values = {
        name: _read_schedule(value) if isinstance(value, Mapping) and "type" in value else _python(value)
        for name, value in entry.items()
        if name != "type"
    }
    schedule: Schedule = kind(**values)
    return schedule


def _read_record(kind: type[Any], entry: Mapping[str, Any]) -> Any:
    specs = {spec.name for spec in dataclasses.fields(kind)}
    _refuse(entry, specs, f"{kind.__name__}")
    values = {name: _python(value) for name, value in entry.items()}
    values["site"] = Site.parse(values["site"])
    return kind(**values)


def _python(value: Any) -> Any:
    if isinstance(value, Mapping):
        if set(value) == {"dtype", "shape", "base64"}:
            return _array(value)
        if set(value) == {"number"}:
            return float(value["number"])
        if "type" in value and value["type"] in _RECORDS:
            return _read_record(_RECORDS[value["type"]], {k: v for k, v in value.items() if k != "type"})
        return {key: _python(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return tuple(_python(entry) for entry in value)
    return value


def _array(value: Mapping[str, Any]) -> NDArray[Any]:
    if value["dtype"] not in ("<f4", "<f8"):
        raise InterventionError(f"numbers of type {value['dtype']!r} are not read from a file of interventions.")
    data = np.frombuffer(base64.b64decode(value["base64"], validate=True), dtype=value["dtype"])
    return data.reshape(value["shape"])


def _refuse(entry: Mapping[str, Any], known: set[str], where: str) -> None:
    unknown = sorted(set(entry) - known)
    if unknown:
        raise InterventionError(
            f"{where} has unknown fields ({', '.join(unknown)}): remove them or use the version that wrote them."
        )
