"""Activations of labelled clips: extracted in one pass, pooled on the way, kept as labelled arrays.

::

    ds = extract(model, clips, sites="heads, resid", pool="mean, last", out="drums.zarr")
    ds.heads                                # [clip, pool, heads_site, heads_dim], lazy
    x = features(ds, "L3.H2", pool="mean")  # [clips, head_dim]
    labels(ds)["drums"]

What is fed is what generation sees: start token, delay pattern, the model's own conditioning with an empty
text unless one is given. Memory does not grow with the number of clips when there is an `out`: a batch's
activations are pooled while the forward pass runs, and written when it ends.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from torch import Tensor

from interp._extraction import DTYPES, Job
from interp._store import Store, open_store
from interp.clips import Clips
from interp.errors import DataError, SiteError
from interp.sites import KINDS, Site

if TYPE_CHECKING:
    from interp.model import MusicGen

__all__ = ["extract", "features", "labels", "open_store", "stack"]

Floats = npt.NDArray[np.floating[Any]]


def extract(
    model: MusicGen,
    clips: Clips,
    sites: str | Site | Iterable[str | Site] = "heads",
    pool: str | Sequence[str] = "mean",
    text: str | Sequence[str | None] | None = None,
    out: str | Path | None = None,
    batch_size: int = 16,
    progress: bool = True,
    *,
    dtype: str = "float32",
    cache: str | Path | None = None,
    codes: Callable[[int], Tensor] | None = None,
    info: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Read sites while the model hears clips.

    Parameters
    ----------
    model : MusicGen
        The model.
    clips : Clips
        What it hears; each clip whole, at most ``model.max_seconds`` long.
    sites : str, Site or iterable of them
        Which sites, see :func:`interp.sites.select_sites`: ``"heads"``, ``"all"``, ``"L3.H2, L4.resid"``.
    pool : str or sequence of str
        How the frames of a clip are pooled, see :mod:`interp.pooling`: ``"mean"``, ``"mean, last"``,
        ``"every:25"``.
    text : str or sequence of str or None, optional
        Text condition: one for all clips, or one a clip. None is the empty text. A label never gets here
        unless you put it here.
    out : str or Path, optional
        Folder of a store. Written batch by batch; if it exists, what is missing is added. Several processes
        may fill one store. None keeps the result in memory.
    batch_size : int
        Clips in one forward pass.
    progress : bool
        Show a progress bar (on a terminal or in a notebook).
    dtype : {"float32", "float16", "bfloat16"}
        Precision of what is kept. bfloat16 is kept as float32 numbers rounded to it, compressed on disk.
    cache : str or Path, optional
        Folder in which each clip's codes are kept, so that audio is encoded once for any number of
        extractions.
    codes : callable, optional
        Clip's position -> codes ``[K, frames]``, if they are known already (generated music); audio is then
        not read.
    info : mapping, optional
        What else to write into the manifest, for example the seed that made the clips.

    Returns
    -------
    Dataset
        Dimension ``clip``; for each kind of site k a variable k ``[clip, pool, k_site, k_dim]``. Label
        columns and ``group`` are coordinates of ``clip``; ``attrs["labels"]`` names the labels and
        ``attrs["made_by"]`` says what made it, both as JSON. Vectors of ``every:n`` beyond a clip's end are
        NaN.

    Raises
    ------
    SiteError
        If the model lacks a site.
    ClipError
        If a clip cannot be read, is too long for the model, or lacks a window.
    DataError
        If an argument cannot be read, or an activation is NaN or infinite (named by clip and site).
    StoreError
        If `out` was made by something else, or the disk refuses.
    Interrupted
        On Ctrl-C, after which the same call goes on where it stopped.
    """
    if dtype not in DTYPES:
        raise DataError(f"activations cannot be kept as {dtype!r}: use {', '.join(DTYPES)}.")
    if batch_size < 1:
        raise DataError(f"a batch of {batch_size} clips is empty: ask for at least 1.")
    job = Job(model, clips, sites, pool, text, dtype, cache, codes)
    coords = job.coords(batch_size, dict(info or {}))
    if out is None:
        return job.in_memory(coords, batch_size, progress)
    store = Store.create_or_open(
        Path(out), coords, job.variables, job.np_dtype, min(batch_size, len(clips)), dtype == "bfloat16"
    )
    try:
        job.fill(store, progress)
    finally:
        store.close()
    return open_store(out)


def features(ds: xr.Dataset, site: str | Site, pool: str | None = None) -> Floats:
    """Vectors of one site, ``[clips, dim]``.

    Parameters
    ----------
    ds : Dataset
        From :func:`extract` or :func:`open_store`.
    site : str or Site
        For example ``"L3.H2"``.
    pool : str, optional
        Which vector; the first by default.

    Raises
    ------
    SiteError, DataError
        If the dataset lacks the site or the vector.
    """
    site = Site.parse(site)
    index = _site_index(ds, site)
    return np.asarray(ds[site.kind][:, _pool_index(ds, pool), index].values)


def stack(
    ds: xr.Dataset, sites: str | Site | Iterable[str | Site], pool: str | None = None
) -> tuple[Floats, list[Site]]:
    """Vectors of several sites of equal width, ``[sites, clips, dim]``, with the sites.

    Parameters
    ----------
    ds : Dataset
        From :func:`extract` or :func:`open_store`.
    sites : str, Site or iterable of them
        A kind (``"heads"``: all that the dataset has), ``"all"``, sites, or a list of these.
    pool : str, optional
        Which vector; the first by default.

    Returns
    -------
    x : array ``[sites, clips, dim]``
        In forward order of the sites.
    sites : list of Site

    Raises
    ------
    SiteError
        If the dataset lacks a site.
    DataError
        If it lacks the vector, or the sites differ in width.
    """
    chosen = _select(ds, sites)
    widths = {site.kind: ds.sizes[f"{site.kind}_dim"] for site in chosen}
    if len(set(widths.values())) > 1:
        found = ", ".join(f"{kind} ({width})" for kind, width in widths.items())
        raise DataError(f"sites of different widths cannot be stacked: {found}; ask for one kind at a time.")
    at = _pool_index(ds, pool)
    rows: dict[Site, Floats] = {}
    for kind in widths:
        mine = [site for site in chosen if site.kind == kind]
        indexes = [_site_index(ds, site) for site in mine]
        block = ds[kind][:, at].values  # one read of the store, then picked in memory
        rows.update(zip(mine, np.moveaxis(block[:, indexes], 1, 0), strict=True))
    return np.ascontiguousarray(np.stack([rows[site] for site in chosen])), chosen


def labels(ds: xr.Dataset) -> pd.DataFrame:
    """Labels and ``group`` of the clips; a missing label is NaN."""
    names = [*json.loads(ds.attrs["labels"]), "group"]
    frame = pd.DataFrame({name: ds[name].values for name in names}, index=pd.Index(ds["clip"].values, name="clip"))
    texts = [name for name in names if frame[name].dtype == object or pd.api.types.is_string_dtype(frame[name])]
    for name in texts:
        frame[name] = frame[name].astype(object).where(frame[name] != "", np.nan)
    return frame


def _select(ds: xr.Dataset, sites: str | Site | Iterable[str | Site]) -> list[Site]:
    """Sites of a dataset that a description names, in forward order."""
    there = {kind: [Site.parse(str(s)) for s in ds[f"{kind}_site"].values] for kind in KINDS if kind in ds}
    chosen: set[Site] = set()
    for item in [sites] if isinstance(sites, str | Site) else sites:
        for part in item.split(",") if isinstance(item, str) else [item]:
            word = part.strip() if isinstance(part, str) else part
            if word == "all":
                chosen.update(site for kind in there.values() for site in kind)
            elif word in KINDS and word in there:
                chosen.update(there[word])  # type: ignore[index]  # just found there
            elif word in KINDS and word != "embed":
                raise SiteError(f"the dataset has no sites of kind {word!r}, only {', '.join(there)}: extract them.")
            elif word:
                chosen.add(Site.parse(word))
    if not chosen:
        raise SiteError(f"no site is selected by {sites!r}: name a kind, 'all', or sites like L3.H2.")
    return sorted(chosen)


def _site_index(ds: xr.Dataset, site: Site) -> int:
    if site.kind in ds:
        found = np.flatnonzero(ds[f"{site.kind}_site"].values == str(site))
        if len(found):
            return int(found[0])
    raise SiteError(f"the dataset has no site {site}: extract it, or choose among {_summary(ds)}.")


def _summary(ds: xr.Dataset) -> str:
    kinds = [kind for kind in KINDS if kind in ds]
    return ", ".join(f"{ds.sizes[f'{kind}_site']} of kind {kind}" for kind in kinds) or "none"


def _pool_index(ds: xr.Dataset, pool: str | None) -> int:
    names = [str(name) for name in ds["pool"].values]
    if pool is None:
        return 0
    if pool not in names:
        raise DataError(f"the dataset has no vectors pooled by {pool!r}, only by {', '.join(names)}.")
    return names.index(pool)
