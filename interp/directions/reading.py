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

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Stack", "check_finite", "clip_groups", "fingerprint", "read_stacks", "trait_column"]

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


def trait_column(ds: xr.Dataset, trait: str) -> pd.Series:
    """The label column that a trait is about (``"instrument=piano"`` is about ``instrument``).

    Raises
    ------
    DataError
        If there is none.
    """
    column = trait.partition("=")[0]
    if column not in ds.coords or ds.coords[column].dims != ("clip",):
        known = [str(c) for c in ds.coords if ds.coords[c].dims == ("clip",) and c not in ("clip", "group")]
        more = " (labels that have a tree: interp.probes.probe_hierarchy)" if "/" in column else ""
        raise DataError(f"no label column {column!r}: the clips have {', '.join(known) or 'no labels'}{more}.")
    return pd.Series(ds.coords[column].values, name=column)


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

