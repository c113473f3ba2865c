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

from interp._batch import by_kind
from interp._extraction import DTYPES, Job
from interp._lazy import open_store
from interp.clips import Clips
from interp.errors import DataError, SiteError
from interp.pooling import choose_pool
from interp.sites import KINDS, Site, select_sites

if TYPE_CHECKING:
    from interp.model import MusicGen

__all__ = ["extract", "features", "held", "labels", "open_store", "read_kind", "stack"]

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
    offset: float = 0.0,
    skip_bad: bool = False,
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
        Folder of a store. Written batch by batch; if it exists, what is missing is added: what clips hold decides, not
        what they are called, so that clips, sites and poolings may be added, and clips removed, renamed and labelled
        anew. Several processes may fill one store. None keeps the result in memory.
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
    offset : float
        Second of their piece at which clips begin, see :meth:`interp.MusicGen.starting_at`.
    skip_bad : bool
        Leave out clips that cannot be used instead of refusing them all; ``made_by["left_out"]`` says which, and why.
    info : mapping, optional
        What else to write into the manifest, for example the seed that made the clips.

    Returns
    -------
    Dataset
        Dimension ``clip``; for each kind of site k a variable k ``[clip, pool, k_site, k_dim]``. Label
        columns and ``group`` are coordinates of ``clip``; ``attrs["labels"]`` names the labels and
        ``attrs["made_by"]`` says what made it, both as JSON; ``made_by["doubtful"]`` names clips that are silent or
        shorter than a frame. Vectors of ``every:n`` beyond a clip's end are NaN.

    Raises
    ------
    SiteError
        If the model lacks a site.
    ClipError
        If clips cannot be read, are too long for the model, or lack a window: all of them are named before any work.
        Audio that turns out to be damaged when it is decoded is named then; what was stored is kept.
    DataError
        If an argument cannot be read, or an activation is NaN or infinite (named by clip and site).
    StoreError
        If `out` was made by something else, or the disk refuses.
    Interrupted
        On Ctrl-C, after which the same call goes on where it stopped.

    Examples
    --------
    >>> import interp
    >>> clips = interp.Clips.from_arrays([[0.1] * 4000, [0.0, 0.2] * 2000], 16000, {"drums": ["no", "yes"]})
    >>> ds = extract(interp.load("tiny", device="cpu"), clips, sites="heads, L-1.resid", pool="mean, last")
    >>> ds["heads"].shape, ds["resid"].shape
    ((2, 2, 48, 32), (2, 2, 1, 256))
    """
    if dtype not in DTYPES:
        raise DataError(f"activations cannot be kept as {dtype!r}: use {', '.join(DTYPES)}.")
    if batch_size < 1:
        raise DataError(f"a batch of {batch_size} clips is empty: ask for at least 1.")
    job = Job(model, clips, sites, pool, text, dtype, cache, codes, offset, skip_bad, info)
    return job.in_memory(batch_size, progress) if out is None else job.on_disk(Path(out), batch_size, progress)


def features(ds: xr.Dataset, site: str | Site, pool: str | None = None) -> Floats:
    """Vectors of one site, ``[clips, dim]``.

    Parameters
    ----------
    ds : Dataset
        From :func:`extract` or :func:`open_store`.
    site : str or Site
        For example ``"L3.H2"``.
    pool : str, optional
        Which vector, as :func:`interp.pooling.choose_pool` has it: the only one, or else ``mean``.

    Raises
    ------
    SiteError, DataError
        If the dataset lacks the site or the vector, or the choice is not clear.

    Examples
    --------
    >>> import interp
    >>> model = interp.load("tiny", device="cpu")
    >>> clips = interp.Clips.from_arrays([[0.1] * 4000, [0.0, 0.2] * 2000], 16000)
    >>> ds = extract(model, clips, sites="heads", pool="last, mean")
    >>> features(ds, "L3.H2").shape
    (2, 32)
    """
    chosen = held(ds, site)
    if len(chosen) > 1:
        raise SiteError(f"{site!r} is {len(chosen)} sites of the dataset: name one, or read them with stack(ds, ...).")
    return read_kind(ds, chosen, choose_pool(ds["pool"].values, pool))[0]


def stack(
    ds: xr.Dataset, sites: str | Site | Iterable[str | Site], pool: str | None = None
) -> tuple[Floats, list[Site]]:
    """Vectors of several sites of equal width, ``[sites, clips, dim]``, with the sites.

    Parameters
    ----------
    ds : Dataset
        From :func:`extract` or :func:`open_store`.
    sites : str, Site or iterable of them
        As in :func:`interp.sites.select_sites`, among those of the dataset: ``"heads"``, ``"all"``, ``"L0-3.resid"``.
    pool : str, optional
        Which vector, as in :func:`features`.

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
        If it lacks the vector, the choice is not clear, or the sites differ in width.

    Examples
    --------
    >>> import interp
    >>> model = interp.load("tiny", device="cpu")
    >>> ds = extract(model, interp.Clips.from_arrays([[0.1] * 4000], 16000), sites="heads, resid")
    >>> x, sites = stack(ds, "L3.H*")
    >>> x.shape, sites[0]
    ((8, 1, 32), Site('L3.H0'))
    """
    chosen = held(ds, sites)
    kinds = by_kind(chosen)
    widths = {kind: ds.sizes[f"{kind}_dim"] for kind in kinds}
    if len(set(widths.values())) > 1:
        different = ", ".join(f"{kind} ({width})" for kind, width in widths.items())
        raise DataError(f"sites of different widths cannot be stacked: {different}; ask for one kind at a time.")
    pool = choose_pool(ds["pool"].values, pool)
    rows: dict[Site, Floats] = {}
    for same in kinds.values():
        rows.update(zip(same, read_kind(ds, same, pool), strict=True))
    return np.stack([rows[site] for site in chosen]), chosen


def labels(ds: xr.Dataset) -> pd.DataFrame:
    """Labels and ``group`` of the clips, a row a clip; a missing label is NaN.

    Examples
    --------
    >>> import interp
    >>> clips = interp.Clips.from_arrays([[0.1] * 4000] * 2, 16000, {"drums": ["yes", None]})
    >>> labels(extract(interp.load("tiny", device="cpu"), clips, sites="L0.resid"))["drums"].tolist()
    ['yes', nan]
    """
    names = [*json.loads(ds.attrs["labels"]), "group"]
    frame = pd.DataFrame({name: ds[name].values for name in names}, index=pd.Index(ds["clip"].values, name="clip"))
    texts = [name for name in names if frame[name].dtype == object or pd.api.types.is_string_dtype(frame[name])]
    for name in texts:
        frame[name] = frame[name].astype(object).where(frame[name] != "", np.nan)
    return frame


def held(ds: xr.Dataset, sites: str | Site | Iterable[str | Site] = "all") -> list[Site]:
    """Sites of a dataset that a description names, in forward order.

    Raises
    ------
    SiteError
        If the dataset lacks one.
    DataError
        If it holds no activations.

    Examples
    --------
    >>> import interp
    >>> model = interp.load("tiny", device="cpu")
    >>> ds = extract(model, interp.Clips.from_arrays([[0.1] * 4000], 16000), sites="resid")
    >>> held(ds, "L0-1.resid")
    [Site('L0.resid'), Site('L1.resid')]
    """
    there = [Site.parse(str(site)) for kind in KINDS if kind in ds for site in ds[f"{kind}_site"].values]
    if not there:
        raise DataError("the dataset holds no activations: extract some first (interp.extract).")
    return select_sites(sites, there, "the dataset")


def read_kind(ds: xr.Dataset, sites: Sequence[Site], pool: str) -> Floats:
    """Vectors of sites of one kind that the dataset holds, ``[sites, clips, dim]``, in one read of the store."""
    kind = sites[0].kind
    order = {str(name): index for index, name in enumerate(ds[f"{kind}_site"].values)}
    at = [str(name) for name in ds["pool"].values].index(pool)
    block = ds[kind].isel(pool=at).transpose("clip", f"{kind}_site", f"{kind}_dim").values
    return np.ascontiguousarray(np.moveaxis(block[:, [order[str(site)] for site in sites]], 1, 0))
