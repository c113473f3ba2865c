"""From a dataset of activations to plain arrays, one stack of sites of equal width after the other."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from interp.errors import DataError, SiteError
from interp.sites import KINDS, Kind, Site

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
        Kinds, ``"all"``, or sites.
    pool : str, optional
        Which pooling; may be left out when there is one, or when ``"mean"`` is among them.

    Raises
    ------
    SiteError
        If the dataset does not hold a site.
    DataError
        If the pooling does not exist.
    """
    present = [kind for kind in KINDS if kind in ds.data_vars]
    if not present:
        raise DataError("the dataset holds no activations: extract some first (interp.extract).")
    known = {kind: [Site.parse(str(s)) for s in ds[f"{kind}_site"].values] for kind in present}
    chosen: set[Site] = set()
    parts: list[str | Site] = []
    for item in [sites] if isinstance(sites, str | Site) else list(sites):
        parts += [p.strip() for p in item.split(",") if p.strip()] if isinstance(item, str) else [item]
    for part in parts:
        if part == "all":
            chosen.update(site for kind in present for site in known[kind])
        elif isinstance(part, str) and part in KINDS and not (part == "embed" and part in known):
            if part not in known:
                raise SiteError(f"the dataset holds no {part!r}: it holds {', '.join(present)}; extract them first.")
            chosen.update(known[part])  # type: ignore[index]  # checked on the line above
        else:
            site = Site.parse(part)
            if site not in known.get(site.kind, ()):
                raise SiteError(f"the dataset does not hold {site}: it holds {_span(known)}; extract it first.")
            chosen.add(site)
    if not chosen:
        raise SiteError("no site is chosen: name a kind, 'all', or sites like L3.H2.")
    pool = choose_pool(ds, pool)
    stacks = []
    for kind in present:
        rows = [i for i, site in enumerate(known[kind]) if site in chosen]
        if rows:
            chosen_sites = ds[kind].sel(pool=pool).isel({f"{kind}_site": rows})
            values = chosen_sites.transpose(f"{kind}_site", "clip", f"{kind}_dim").to_numpy()
            if values.dtype not in (np.float32, np.float64):
                values = values.astype(np.float32)
            stacks.append(Stack(kind, tuple(known[kind][i] for i in rows), values))
    return stacks


def choose_pool(ds: xr.Dataset, pool: str | None) -> str:
    """The pooling to read.

    Raises
    ------
    DataError
        If it does not exist, or none is named and the choice is not clear.
    """
    pools = [str(p) for p in ds["pool"].values]
    if pool is None:
        if len(pools) == 1:
            return pools[0]
        if "mean" in pools:
            return "mean"
        raise DataError(f"several poolings were extracted ({', '.join(pools[:8])}): name one with pool=.")
    if pool not in pools:
        raise DataError(f"no pooling {pool!r} was extracted: there are {', '.join(pools[:8])}.")
    return pool


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


def _span(known: Mapping[Kind, list[Site]]) -> str:
    return "; ".join(f"{kind} {sites[0]} to {sites[-1]}" for kind, sites in known.items() if sites)
