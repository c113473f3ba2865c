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

import contextlib
import hashlib
import importlib.metadata
import json
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
import xarray as xr
from torch import Tensor

from interp._store import Store, open_dataset, write_errors
from interp.clips import Clips
from interp.errors import ClipError, DataError, Interrupted, SiteError
from interp.pooling import Pooling
from interp.sites import KINDS, Kind, Site, select_sites

if TYPE_CHECKING:
    from interp.model import MusicGen, Place, Visitor

__all__ = ["extract", "features", "labels", "open_store", "pool_forward", "stack"]

FORMAT = "interp.activations/1"
DTYPES = ("float32", "float16", "bfloat16")
open_store = open_dataset
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
    job = _Job(model, clips, sites, pool, text, dtype, cache, codes)
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
    return open_dataset(out)


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


def pool_forward(
    model: MusicGen,
    codes: Sequence[Tensor],
    texts: Sequence[str | None],
    sites: Sequence[Site],
    pooling: Pooling,
    names: Sequence[str] | None = None,
) -> tuple[dict[Kind, Tensor], Tensor]:
    """Run one batch and pool it; the inner step of :func:`extract`.

    Parameters
    ----------
    model : MusicGen
        The model.
    codes : sequence of long tensors ``[K, frames]``
        Rows, of any lengths; shorter ones are padded with the special token on the right, which no frame
        sees.
    texts : sequence of str or None
        One a row. Rows whose texts differ in length run apart, since audiocraft does not mask padded texts.
    sites : sequence of Site
        What to read.
    pooling : Pooling
        How to pool.
    names : sequence of str, optional
        Names of the rows, for errors.

    Returns
    -------
    values : dict of kind to float32 tensor ``[rows, vectors, sites, dim]``, on the CPU
        Sites of a kind in the order given.
    present : bool tensor ``[rows, vectors]``
        False where a clip ends before the frame.
    """
    names = names if names is not None else [str(i) for i in range(len(codes))]
    lengths = model.condition_lengths(texts)
    groups: dict[int, list[int]] = defaultdict(list)
    for row, length in enumerate(lengths):
        groups[length].append(row)
    by_kind = _by_kind(sites)
    values: dict[Kind, Tensor] = {}
    present = torch.zeros(len(codes), len(pooling.names), dtype=torch.bool)
    for rows in groups.values():
        part, here = _pool_equal(
            model, [codes[r] for r in rows], [texts[r] for r in rows], by_kind, pooling, [names[r] for r in rows]
        )
        present[rows] = here
        for kind, value in part.items():
            if kind not in values:
                values[kind] = value.new_empty(len(codes), *value.shape[1:])
            values[kind][rows] = value
    return values, present


def _pool_equal(
    model: MusicGen,
    codes: Sequence[Tensor],
    texts: Sequence[str | None],
    by_kind: Mapping[Kind, Sequence[Site]],
    pooling: Pooling,
    names: Sequence[str],
) -> tuple[dict[Kind, Tensor], Tensor]:
    """One forward pass over rows whose texts have one length."""
    n_frames = [int(row.shape[-1]) for row in codes]
    steps = {count: model.frame_steps(count) for count in set(n_frames)}
    # No position beyond the last frame's step is needed, and no earlier one depends on it.
    n_steps = 1 + max(int(step.max()) for step in steps.values())
    tokens = torch.full((len(codes), model.n_codebooks, n_steps), model.cardinality, dtype=torch.long)
    for row, one in enumerate(codes):
        sequence = model.sequence(one[None])[0][0, :, :n_steps]
        tokens[row, :, : sequence.shape[-1]] = sequence
    pooler = pooling.pooler(n_frames, steps.__getitem__, n_steps, names, model.device)
    pooled: dict[Place, Tensor] = {}

    def visitor(place: Place) -> Visitor:
        def visit(x: Tensor) -> None:
            pooled[place] = pooler(x.flatten(2))  # heads of a layer are pooled together

        return visit

    places: list[Place] = [(kind, layer) for kind, wanted in by_kind.items() for layer in _layers(wanted)]
    model.forward(
        tokens.to(model.device),
        model.conditions(texts),
        visit={place: visitor(place) for place in places},
        logits=False,
    )
    return {
        kind: _assemble(kind, wanted, pooled, model.shape.n_heads) for kind, wanted in by_kind.items()
    }, pooler.present


def _assemble(kind: Kind, wanted: Sequence[Site], pooled: Mapping[Place, Tensor], n_heads: int) -> Tensor:
    """Pooled layers of a kind -> ``[rows, vectors, sites, dim]`` on the CPU."""
    layers = _layers(wanted)
    value = torch.stack([pooled[kind, layer] for layer in layers], 2)  # [rows, vectors, layers, width]
    if wanted[0].head is not None:
        value = value.unflatten(-1, (n_heads, -1))  # type: ignore[no-untyped-call]
        value = value.flatten(2, 3)
        chosen = [layers.index(site.layer) * n_heads + (site.head or 0) for site in wanted]
        if chosen != list(range(value.shape[2])):
            value = value[:, :, chosen]
    return value.cpu()


class _Job:
    """One call of :func:`extract`: what is wanted, and how a batch is made."""

    def __init__(
        self,
        model: MusicGen,
        clips: Clips,
        sites: str | Site | Iterable[str | Site],
        pool: str | Sequence[str],
        text: str | Sequence[str | None] | None,
        dtype: str,
        cache: str | Path | None,
        codes: Callable[[int], Tensor] | None,
    ) -> None:
        self.model, self.clips, self.dtype, self.known_codes = model, clips, dtype, codes
        self.sites = select_sites(sites, model.shape)
        self.by_kind = _by_kind(self.sites)
        self.pooling = Pooling.parse(pool, model.frame_rate, self._max_frames(pool))
        self.texts = [text] * len(clips) if text is None or isinstance(text, str) else list(text)
        if len(self.texts) != len(clips):
            raise DataError(f"there are {len(clips)} clips but {len(self.texts)} texts: give one text, or one a clip.")
        for one in set(self.texts):
            model.check_prompt(one)
        self.text = text if text is None or isinstance(text, str) else _digest(self.texts)
        self.np_dtype = "float16" if dtype == "float16" else "float32"
        self.cache = _CodeCache(Path(cache), model) if cache is not None else None
        shape = model.shape
        self.variables: dict[str, tuple[tuple[str, ...], tuple[int, ...]]] = {
            kind: (
                ("clip", "pool", f"{kind}_site", f"{kind}_dim"),
                (len(clips), len(self.pooling.names), len(wanted), shape.dim(kind)),
            )
            for kind, wanted in self.by_kind.items()
        }

    def _max_frames(self, pool: str | Sequence[str]) -> int:
        """Frames of the longest clip, looked up only if the number of vectors depends on it."""
        if "every:" not in str(pool):
            return 0
        if self.known_codes is not None:
            return max(int(self.known_codes(i).shape[-1]) for i in range(len(self.clips)))
        longest = max(self.clips.seconds(i) for i in range(len(self.clips)))
        return int(np.ceil(longest * self.model.frame_rate - 1e-3))

    def coords(self, batch_size: int, info: dict[str, Any]) -> xr.Dataset:
        """Coordinates and attributes of the result, without data."""
        model = self.model
        coords: dict[str, Any] = {
            "clip": np.array(self.clips.ids, object),
            "pool": np.array(self.pooling.names, object),
        }
        for kind, wanted in self.by_kind.items():
            coords[f"{kind}_site"] = np.array([str(site) for site in wanted], object)
        table = self.clips.labels
        taken = set(coords) | set(KINDS) | {f"{kind}_dim" for kind in KINDS}
        for name in table.columns:
            if name in taken:
                raise ClipError(f"a label cannot be called {name!r}, which the store needs itself: rename the column.")
            coords[str(name)] = ("clip", _plain(table[name]))
        manifest = {
            "format": FORMAT,
            "model": {"name": model.name, "fingerprint": model.fingerprint},
            "sites": {kind: [str(site) for site in wanted] for kind, wanted in self.by_kind.items()},
            "pool": list(self.pooling.spec),
            "text": self.text,
            "dtype": self.dtype,
            "model_dtype": str(model.dtype).removeprefix("torch."),
            "clips": {"number": len(self.clips), "ids": _digest(self.clips.ids)},
            "frame_rate": model.frame_rate,
            "batch_size": min(batch_size, len(self.clips)),
            "info": info,
            "versions": _versions(),
        }
        names = [str(name) for name in table.columns if name != "group"]
        return xr.Dataset(coords=coords, attrs={"labels": json.dumps(names), "made_by": json.dumps(manifest)})

    def in_memory(self, coords: xr.Dataset, batch_size: int, progress: bool) -> xr.Dataset:
        """Extract into arrays."""
        arrays = {name: np.empty(shape, self.np_dtype) for name, (_, shape) in self.variables.items()}
        with self._bar(progress) as advance, _interruptible("nothing is kept without `out`"):
            for start in range(0, len(self.clips), batch_size):
                blocks = self.batch(start, batch_size)
                for name, block in blocks.items():
                    arrays[name][start : start + len(block)] = block
                advance(min(batch_size, len(self.clips) - start))
        return coords.assign({name: (dims, arrays[name]) for name, (dims, _) in self.variables.items()})

    def fill(self, store: Store, progress: bool) -> None:
        """Extract what a store lacks, beside any other process that does the same."""
        size = store.batch_size
        sizes = [min(size, len(self.clips) - batch * size) for batch in range(store.n_batches)]
        pending = list(range(store.n_batches))
        kept = "what is stored is kept, and the same command goes on from there"
        with self._bar(progress) as advance, _interruptible(kept):
            while pending:
                left = []
                for batch in pending:
                    if not store.done(batch):
                        if not store.claim(batch):
                            left.append(batch)
                            continue
                        try:
                            if not store.done(batch):  # else another process finished it before we had the claim
                                store.write(batch, batch * size, self.batch(batch * size, size))
                        finally:
                            store.release(batch)
                    advance(sizes[batch])
                if left == pending:
                    time.sleep(0.2)  # the rest is in the hands of other processes; if one dies, its claims are ours
                pending = left

    def batch(self, start: int, size: int) -> dict[str, Floats]:
        """Activations of the clips from `start`, in the dtype that is kept."""
        rows = range(start, min(start + size, len(self.clips)))
        names = [self.clips.ids[i] for i in rows]
        codes = [self._codes(i, name) for i, name in zip(rows, names, strict=True)]
        texts = [self.texts[i] for i in rows]
        values, present = pool_forward(self.model, codes, texts, self.sites, self.pooling, names)
        blocks: dict[str, Floats] = {}
        for kind, value in values.items():
            if self.dtype == "bfloat16":
                value = value.bfloat16().float()
            block = value.numpy().astype(self.np_dtype, copy=False)
            self._check_finite(kind, block, value, present.numpy(), names)
            if not present.all():
                block[~present.numpy()] = np.nan
            blocks[kind] = block
        return blocks

    def _codes(self, i: int, name: str) -> Tensor:
        if self.known_codes is not None:
            codes = torch.as_tensor(self.known_codes(i), dtype=torch.long)
        else:
            codes = self.cache.get(self.clips, i) if self.cache is not None else _encode(self.model, self.clips, i)
        seconds = codes.shape[-1] / self.model.frame_rate
        if seconds > self.model.max_seconds + 0.05:
            raise ClipError(
                f"the clip {name!r} is {seconds:.1f} s long, but {self.model.name} hears at most "
                f"{self.model.max_seconds:g} s: cut it with clips.windows({self.model.max_seconds:g})."
            )
        return codes

    def _check_finite(
        self, kind: Kind, block: Floats, value: Tensor, present: npt.NDArray[np.bool_], names: Sequence[str]
    ) -> None:
        bad = ~np.isfinite(block).all(-1) & present[:, :, None]
        if not bad.any():
            return
        row, _, column = np.argwhere(bad)[0]
        site = self.by_kind[kind][column]
        if self.np_dtype == "float16" and bool(torch.isfinite(value[row, :, column]).all()):
            raise DataError(
                f"the activation at {site} for the clip {names[row]!r} is too large for float16: keep it as "
                "dtype='bfloat16' or 'float32'."
            )
        raise DataError(
            f"the activation at {site} for the clip {names[row]!r} is NaN or infinite: run the model in float32, or "
            "leave the clip out."
        )

    @contextlib.contextmanager
    def _bar(self, progress: bool) -> Iterator[Callable[[int], object]]:
        from tqdm.auto import tqdm

        with tqdm(total=len(self.clips), desc="extract", unit="clip", disable=None if progress else True) as bar:
            yield bar.update


class _CodeCache:
    """Codes of clips on disk, by content of the clip and of the codec."""

    def __init__(self, folder: Path, model: MusicGen) -> None:
        self.folder, self.model = folder, model

    def get(self, clips: Clips, i: int) -> Tensor:
        path = self.folder / f"{_digest([self.model.codec_fingerprint, clips.key(i)])}.npy"
        with contextlib.suppress(FileNotFoundError, ValueError, EOFError):  # absent or cut short: encode again
            return torch.from_numpy(np.load(path, allow_pickle=False).astype(np.int64))
        codes = _encode(self.model, clips, i)
        with write_errors(path):
            self.folder.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(f".{os.getpid()}.partial")
            with partial.open("wb") as file:
                np.save(file, codes.cpu().numpy().astype(np.int32))
            partial.replace(path)
        return codes


def _encode(model: MusicGen, clips: Clips, i: int) -> Tensor:
    clip = clips[i]
    # One clip at a time: batched convolutions round differently, and a clip's codes must not depend on its
    # neighbours.
    return model.encode(torch.from_numpy(clip.audio)[None], clip.sample_rate)[0]


@contextlib.contextmanager
def _interruptible(kept: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(f"stopped by Ctrl-C: {kept}.") from None


def _by_kind(sites: Iterable[Site]) -> dict[Kind, list[Site]]:
    kinds: dict[Kind, list[Site]] = {}
    for site in sites:
        kinds.setdefault(site.kind, []).append(site)
    return kinds


def _layers(sites: Iterable[Site]) -> list[int]:
    return sorted({site.layer for site in sites})


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


def _plain(column: pd.Series) -> npt.NDArray[Any]:
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


def _digest(parts: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(list(parts)).encode()).hexdigest()[:16]


def _versions() -> dict[str, str]:
    packages = ("interp", "torch", "nnsight", "audiocraft", "transformers", "numpy", "zarr")
    found = {}
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found
