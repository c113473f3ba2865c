"""From a dataset of activations to plain arrays, one stack of sites of equal width after the other."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from interp._batch import by_kind
from interp.activations import held, read_kind
from interp.errors import DataError
from interp.pooling import choose_pool
from interp.sites import KINDS, Site
from interp.traits import Labels, Trait, TraitKind

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Stack", "check_finite", "clip_groups", "fingerprint", "label_table", "read_labels", "read_stacks"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stack:
    """Activations of sites of one kind, shape (sites, clips, dim)."""

    kind: str
    sites: tuple[Site, ...]
    x: NDArray[np.floating]


def read_stacks(ds: xr.Dataset, sites: str | Site | Iterable[str | Site], pool: str | None = None) -> list[Stack]:
    """Activations of the chosen sites, a stack for each kind.

    Parameters
    ----------
    ds : xarray.Dataset
        As :func:`interp.activations.extract` returns it.
    sites : str, Site or iterable of them
        As in :func:`interp.sites.select_sites`, among those of the dataset.
    pool : str, optional
        Which pooling, as :func:`interp.pooling.choose_pool` has it.

    Raises
    ------
    SiteError
        If the dataset does not hold a site.
    DataError
        If the pooling does not exist.
    """
    pool = choose_pool(ds["pool"].values, pool)
    stacks = []
    kinds = by_kind(held(ds, sites))
    for kind in (kind for kind in KINDS if kind in kinds):
        values = read_kind(ds, kinds[kind], pool)
        if values.dtype not in (np.float32, np.float64):
            values = values.astype(np.float32)
        stacks.append(Stack(kind, tuple(kinds[kind]), values))
    return stacks


def label_table(ds: xr.Dataset) -> pd.DataFrame:
    """Whatever the dataset says of its clips, one row a clip."""
    names = [str(name) for name, value in ds.coords.items() if value.dims == ("clip",)]
    names = [name for name in names if name not in ("clip", "group")]
    return pd.DataFrame({name: ds.coords[name].values for name in names}, index=np.asarray(ds["clip"].values))


def read_labels(ds: xr.Dataset, trait: str | Trait, kind: TraitKind | None = None) -> Labels:
    """Labels of the dataset's clips for a trait, as :meth:`interp.Trait.read` has them.

    Raises
    ------
    DataError
        If there is no such label, or it allows no probe.
    """
    return Trait.parse(trait).read(label_table(ds), kind)


def clip_groups(ds: xr.Dataset) -> NDArray[np.str_]:
    """Group of each clip; every clip is its own group when the data name none."""
    if "group" in ds.coords:
        groups = pd.Series(ds.coords["group"].values)
        if groups.isna().any():
            raise DataError(f"{int(groups.isna().sum())} clips have no group: fill the group column of the metadata.")
        return np.asarray(groups.astype(str).to_numpy(dtype=str))
    _log.warning("the clips have no group column: every clip counts as its own group.")
    return np.asarray(ds["clip"].values).astype(str)


def fingerprint(ds: xr.Dataset) -> str:
    """Fingerprint of the checkpoint that the activations were read from, empty if unknown."""
    made_by = ds.attrs.get("made_by", "{}")
    record = json.loads(made_by) if isinstance(made_by, str) else dict(made_by)
    found = record.get("fingerprint", record.get("model", ""))
    return str(found.get("fingerprint", "")) if isinstance(found, dict) else str(found)


def check_finite(x: NDArray[np.floating], sites: Iterable[object], clips: NDArray[np.generic]) -> None:
    """Refuse NaN and infinity, naming the first clip and site that hold one.

    Raises
    ------
    DataError
    """
    if np.isfinite(x.sum(dtype=np.float64)):  # fast path: one pass; any NaN or infinity makes the sum so
        return
    bad = ~np.isfinite(x).all(axis=2)
    if not bad.any():
        return
    site, clip = np.argwhere(bad)[0]
    raise DataError(
        f"the activation of clip {clips[clip]} at {list(sites)[site]} is not finite ({int(bad.sum())} of {bad.size} "
        "activations are not): extract them again in float32, or leave the clip out."
    )
