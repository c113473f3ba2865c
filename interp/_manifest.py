"""What a dataset of activations says of itself: coordinates of its clips, and the manifest of what made it."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from interp.errors import DataError
from interp.sites import KINDS, Kind, Site

if TYPE_CHECKING:
    from interp.model import MusicGen

__all__ = ["check_names", "describe", "digest", "shared"]

FORMAT = "interp.activations/2"
_SHARED = ("format", "model", "dtype", "model_dtype", "frame_rate", "captured")
"""What all rows of a store have in common; the rest of a manifest is about the clips and what was asked of them."""


def describe(
    model: MusicGen,
    table: pd.DataFrame,
    sites: Mapping[Kind, Sequence[Site]],
    pools: Sequence[str],
    **made_by: Any,
) -> xr.Dataset:
    """Coordinates and attributes of a dataset of activations, without data.

    Parameters
    ----------
    model : MusicGen
        What made it.
    table : DataFrame
        Labels and ``group``, indexed by clip.
    sites : mapping of kind to sites
        In forward order.
    pools : sequence of str
        Names of the vectors.
    **made_by
        What else to write into the manifest.

    Raises
    ------
    DataError
        If a label has a name that the dataset needs itself.
    """
    check_names(table)
    coords: dict[str, Any] = {"clip": np.array(list(table.index), object), "pool": np.array(list(pools), object)}
    for kind, same in sites.items():
        coords[f"{kind}_site"] = np.array([str(site) for site in same], object)
    for name in table.columns:
        coords[str(name)] = ("clip", plain(table[name]))
    manifest = {
        "format": FORMAT,
        "model": {"name": model.name, "fingerprint": model.fingerprint},
        "sites": {kind: [str(site) for site in same] for kind, same in sites.items()},
        "dtype": "float32",
        "model_dtype": str(model.dtype).removeprefix("torch."),
        "frame_rate": model.frame_rate,
        **made_by,
        "versions": _versions(),
    }
    names = [str(name) for name in table.columns if name != "group"]
    return xr.Dataset(coords=coords, attrs={"labels": json.dumps(names), "made_by": json.dumps(manifest)})


def check_names(table: pd.DataFrame) -> None:
    """Refuse labels with names that a dataset of activations needs itself."""
    taken = {"clip", "pool", "row", *KINDS, *(f"{kind}_{axis}" for kind in KINDS for axis in ("site", "dim"))}
    bad = [str(name) for name in table.columns if str(name) in taken]
    if bad:
        raise DataError(
            f"a label cannot be called {', '.join(map(repr, bad))}, which the dataset needs itself: rename the column."
        )


def shared(header: xr.Dataset) -> dict[str, Any]:
    """The part of a manifest that all rows of a store have in common."""
    made_by = json.loads(header.attrs["made_by"])
    return {key: made_by[key] for key in _SHARED if key in made_by}


def digest(parts: Sequence[Any]) -> str:
    """Sixteen hexadecimal digits of a list of plain values."""
    return hashlib.sha256(json.dumps(list(parts)).encode()).hexdigest()[:16]


def plain(column: pd.Series) -> npt.NDArray[Any]:
    """A label column as numbers, booleans or strings; a missing string is the empty one."""
    missing = column.isna()
    kept = column[~missing]
    if pd.api.types.is_bool_dtype(column) or pd.api.types.is_numeric_dtype(column):
        if missing.any():
            return column.astype(float).to_numpy()
        return column.to_numpy(dtype=bool if pd.api.types.is_bool_dtype(column) else None)
    if len(kept) and all(isinstance(value, bool | np.bool_ | int | float) for value in kept):
        return column.astype(float).to_numpy()
    return np.array(["" if gone else str(value) for value, gone in zip(column, missing, strict=True)], object)


def _versions() -> dict[str, str]:
    packages = ("interp", "torch", "nnsight", "audiocraft", "transformers", "numpy", "zarr")
    versions = {}
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions
