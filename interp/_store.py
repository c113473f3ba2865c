"""Activations on disk, addressed by content: killed at any moment, nothing that was finished is lost.

A store is a Zarr v3 group with arrays ``[row, pool, site, dim]`` and one file, ``index.json``, which says what they
hold (:mod:`interp._index`). Beside each array stands one with a flag a row, written after the row's data; every chunk
carries a checksum and is written by a rename, so a row is finished, or it is made again. Processes that fill one store
claim a batch of rows with a lock on one byte of a file, which the operating system drops when they die.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec

from interp._index import INDEX, Block, Index
from interp._lazy import chunk_file, dataset, open_group, open_store, spoiled
from interp._manifest import shared
from interp.errors import StoreError
from interp.sites import Kind, Site

__all__ = ["Store", "keep", "open_store"]

_LOCK = ".lock"
_WHOLE = 2**40  # a byte beyond those of all batches: the lock on the index
_FREE = ("name",)  # what may differ between the models that fill one store
Floats = npt.NDArray[np.floating[Any]]


class Store:
    """A store that is open for writing.

    Parameters
    ----------
    path : Path
        Folder; made if it does not exist.
    header : Dataset
        From :func:`interp._manifest.describe`. What all rows have in common must be what the store was made with.
    dtype : str
        Of the data.
    batch_size : int
        Rows in a chunk of a new store; one that exists keeps its own.
    compress : bool
        Whether to compress chunks.

    Raises
    ------
    StoreError
        If the folder holds something else, the store was made with something else (the sentence names both sides), or
        the disk refuses.
    """

    def __init__(self, path: Path, header: xr.Dataset, dtype: str, batch_size: int, compress: bool = False) -> None:
        made_by = shared(header)
        self.path, self.dtype, self.compress = path, dtype, compress
        self._refuse_foreign()
        with write_errors(path):
            path.mkdir(parents=True, exist_ok=True)
            self._locks = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT)
        try:
            with self._whole():
                if not (path / INDEX).exists():
                    with write_errors(path):
                        zarr.open_group(path, mode="a", zarr_format=3)
                    Index(made_by, batch_size).write(path)
                self.index = Index.read(path)
                _check(path, self.index.made_by, made_by)
                self._group = open_group(path)
        except BaseException:
            os.close(self._locks)
            raise
        self.batch_size = self.index.batch_size
        self.rows: npt.NDArray[np.int64] = np.zeros(0, np.int64)

    def _refuse_foreign(self) -> None:
        """Refuse a folder that holds anything but a store, or the beginning of one."""
        if not self.path.exists() or (self.path / INDEX).exists():
            return
        if self.path.is_dir():
            begun = {_LOCK, "zarr.json"}
            others = [entry for entry in self.path.iterdir() if entry.name not in begun and not _partial(entry)]
            if not others:
                return
        raise StoreError(f"{self.path} exists and is not a store of activations: choose another place for the output.")

    def want(
        self, header: xr.Dataset, keys: Sequence[str], sites: Mapping[Kind, Sequence[Site]], dims: Mapping[Kind, int]
    ) -> None:
        """Make room for clips, sites and poolings that the store lacks, and make these clips its view.

        Parameters
        ----------
        header : Dataset
            From :func:`interp._manifest.describe`.
        keys : sequence of str
            Content of every clip.
        sites : mapping of kind to sites
        dims : mapping of kind to int
        """
        with self._whole(), write_errors(self.path):
            index = Index.read(self.path)
            self.rows = np.array(index.take(keys), np.int64)
            added = index.extend(sites, [str(pool) for pool in header["pool"].values])
            for block in index.blocks:
                self._make(block, len(index.rows), dims, block in added)
            index.show(header, self.rows.tolist())
            index.write(self.path)
            for folder in [self.path, *(self.path / name for b in index.blocks for name in (b.name, b.done))]:
                self._sweep(folder)
        self.index, self._group = index, open_group(self.path)
        self._refuse_small_disk()

    def _refuse_small_disk(self) -> None:
        """Refuse before the work what will not fit: chunks that are not there yet, against what is free."""
        needed = 0
        for block in self.index.blocks:
            array: Any = self._group[block.name]
            # the lower half of a bfloat16 kept in four bytes is zero, which packs to nothing
            size = int(np.prod(array.chunks)) * array.dtype.itemsize // (2 if self.compress else 1)
            needed += size * sum(not chunk_file(self.path, block.name, batch).exists() for batch in self.batches())
        free = shutil.disk_usage(self.path).free
        if needed > free:
            raise StoreError(
                f"{self.path} will take {needed / 2**30:.2g} GiB more, but {free / 2**30:.2g} GiB are free: make room, "
                "keep fewer sites or poolings, or halve it with dtype=float16 (--dtype)."
            )

    def _make(self, block: Block, n_rows: int, dims: Mapping[Kind, int], new: bool) -> None:
        size = self.batch_size
        if not new:
            for name in (block.name, block.done):
                array: Any = self._group[name]
                if array.shape[0] < n_rows:
                    array.resize((n_rows, *array.shape[1:]))
            return
        dim = dims.get(block.kind) or next(
            self._group[b.name].shape[3]  # type: ignore[union-attr]
            for b in self.index.blocks
            if b.kind == block.kind
        )
        shape = (len(block.pools), len(block.sites), dim)
        names = tuple(f"{block.name}_{axis}" for axis in ("pool", "site", "dim"))
        packing = [BloscCodec(cname="zstd", clevel=3, shuffle="shuffle")] if self.compress else []
        self._group.create_array(
            block.name, shape=(n_rows, *shape), chunks=(size, *shape), dtype=self.dtype, fill_value=float("nan"),
            compressors=[*packing, Crc32cCodec()], dimension_names=("row", *names), overwrite=True,
        )  # fmt: skip
        self._group.create_array(
            block.done, shape=(n_rows,), chunks=(size,), dtype="int8", fill_value=0, compressors=[Crc32cCodec()],
            dimension_names=("row",), overwrite=True,
        )  # fmt: skip

    def noted(self, what: str, clips: Sequence[str], keys: Sequence[str]) -> dict[str, str]:
        """What an earlier call noted of clips that still hold what they held."""
        view = self.index.view
        if not view:
            return {}
        before = {clip: self.index.rows[row] for clip, row in zip(view["ids"], view["rows"], strict=True)}
        notes = json.loads(view["attrs"]["made_by"]).get(what, {})
        return {c: notes[c] for c, key in zip(clips, keys, strict=True) if c in notes and before.get(c) == key}

    def batches(self) -> list[int]:
        """Batches that hold rows of the clips."""
        return np.unique(self.rows // self.batch_size).tolist()

    def clips_in(self, batch: int) -> npt.NDArray[np.int64]:
        """Positions of the clips whose rows are in a batch, in the order of the rows."""
        inside = np.flatnonzero(self.rows // self.batch_size == batch)
        return inside[np.argsort(self.rows[inside], kind="stable")]

    def lacking(self, batch: int) -> npt.NDArray[np.int64]:
        """Positions of the clips of a batch that some block lacks; chunks that are damaged are dropped on the way."""
        inside = self.clips_in(batch)
        whole = np.ones(len(inside), bool)
        start = batch * self.batch_size
        for block in self.index.blocks:
            done = self._flags(block, batch)
            if done.any() and spoiled(self.path, self._group[block.name], block, np.array([start])):  # type: ignore[arg-type]
                with write_errors(self.path):
                    chunk_file(self.path, block.done, batch, 1).unlink(missing_ok=True)  # first what says it is there
                    chunk_file(self.path, block.name, batch).unlink(missing_ok=True)
                done[:] = False
            whole &= done[self.rows[inside] - start]
        return inside[~whole]

    def _flags(self, block: Block, batch: int) -> npt.NDArray[np.bool_]:
        flags: Any = self._group[block.done]
        start = batch * self.batch_size
        try:
            return np.asarray(flags[start : start + self.batch_size]).astype(bool)
        except ValueError:  # its checksum does not fit
            chunk_file(self.path, block.done, batch, 1).unlink(missing_ok=True)
            return np.zeros(min(self.batch_size, flags.shape[0] - start), bool)

    def write(self, batch: int, clips: npt.NDArray[np.int64], values: Mapping[Kind, Floats]) -> None:
        """Keep clips of one batch, which must be claimed.

        Parameters
        ----------
        batch : int
        clips : int array ``[n]``
            Their positions.
        values : mapping of kind to array ``[n, pools, sites, dim]``
            Pools and sites in the order of the index.
        """
        start = batch * self.batch_size
        rows = self.rows[clips] - start
        pools, kinds = self.index.pools, self.index.sites()
        with write_errors(self.path):
            for block in self.index.blocks:
                for name in (block.name, block.done):
                    self._sweep(chunk_file(self.path, name, batch, 4 if name == block.name else 1).parent, batch)
                names = [str(site) for site in kinds[block.kind]]
                part = values[block.kind]
                if (len(block.pools), len(block.sites)) != part.shape[1:3]:
                    part = part[:, [pools.index(pool) for pool in block.pools]]
                    part = part[:, :, [names.index(site) for site in block.sites]]
                self._put(block.name, start, rows, part)
                self._put(block.done, start, rows, np.ones(len(rows), np.int8))

    def _put(self, name: str, start: int, rows: npt.NDArray[np.int64], values: npt.NDArray[Any]) -> None:
        array: Any = self._group[name]
        if np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows))):
            array[start + rows[0] : start + rows[0] + len(rows)] = values
        else:
            array.oindex[start + rows] = values

    def show(self, header: xr.Dataset, clips: npt.NDArray[np.int64]) -> None:
        """Make some of the clips the view, under a new header."""
        with self._whole(), write_errors(self.path):
            index = Index.read(self.path)
            index.show(header, self.rows[clips].tolist())
            index.write(self.path)
        self.index = index

    def dataset(self, header: xr.Dataset, clips: npt.NDArray[np.int64]) -> xr.Dataset:
        """Some of the clips, lazily, with the sites and poolings that the header names."""
        index = Index(self.index.made_by, self.batch_size, self.index.rows, self.index.blocks)
        index.show(header, self.rows[clips].tolist())
        ds = dataset(self.path, index, self._group)
        asked = {name: list(header[name].values) for name in header.coords if str(name).endswith("_site")}
        kinds = [str(name).removesuffix("_site") for name in asked]
        ds = ds[kinds].sel({"pool": list(header["pool"].values), **asked})
        return ds.drop_vars([name for name in ds.coords if name not in header.coords])

    def claim(self, batch: int) -> bool:
        """Take a batch for this process, or find that another one has it."""
        return self._lock(batch, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def release(self, batch: int) -> None:
        """Give a batch back."""
        fcntl.lockf(self._locks, fcntl.LOCK_UN, 1, batch)

    def close(self) -> None:
        """Drop all claims."""
        os.close(self._locks)

    def _lock(self, byte: int, how: int) -> bool:
        try:
            fcntl.lockf(self._locks, how, 1, byte)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return False
            raise StoreError(
                f"cannot lock {self.path / _LOCK} ({error.strerror}): put the store on a disk that supports locks."
            ) from error
        return True

    @contextlib.contextmanager
    def _whole(self) -> Iterator[None]:
        """Hold the index: nobody else changes what the store holds meanwhile."""
        self._lock(_WHOLE, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._locks, fcntl.LOCK_UN, 1, _WHOLE)

    @staticmethod
    def _sweep(folder: Path, batch: int | None = None) -> None:
        """Remove what killed processes left half-written where nobody else can be writing."""
        if folder.is_dir():
            for entry in folder.iterdir():
                if _partial(entry) and (batch is None or folder.name != "c" or entry.name.split(".")[0] == str(batch)):
                    entry.unlink(missing_ok=True)


def keep(path: str | Path, header: xr.Dataset, keys: Sequence[str], arrays: Mapping[Kind, Floats]) -> xr.Dataset:
    """Write activations that are in memory as a store, and open it.

    Parameters
    ----------
    path : str or Path
        Folder. A store that is there and was made by the same is added to.
    header : Dataset
        From :func:`interp._manifest.describe`.
    keys : sequence of str
        Content of every clip.
    arrays : mapping of kind to array ``[clips, pools, sites, dim]``
        In the order of the header.
    """
    sites = {kind: [Site.parse(str(site)) for site in header[f"{kind}_site"].values] for kind in arrays}
    dtype = next(iter(arrays.values())).dtype.name
    store = Store(Path(path), header, dtype, min(64, len(keys)))
    try:
        store.want(header, keys, sites, {kind: array.shape[3] for kind, array in arrays.items()})
        if store.index.sites() != sites or store.index.pools != list(header["pool"].values):
            raise StoreError(f"{path} holds other sites or poolings: choose another place for the output.")
        for batch in store.batches():
            while not store.claim(batch):
                time.sleep(0.2)
            clips = store.lacking(batch)
            if len(clips):
                store.write(batch, clips, {kind: array[clips] for kind, array in arrays.items()})
            store.release(batch)
    finally:
        store.close()
    return open_store(path)


@contextlib.contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turn what the disk refuses into one sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreError(
                f"no space is left on the disk of {path}: free some and run the same command again; what is stored "
                "is kept."
            ) from error
        reason = error.strerror or str(error)
        raise StoreError(
            f"cannot write {path} ({reason}): mend that and run the same command again; what is stored is kept."
        ) from error


def _partial(file: Path) -> bool:
    """Whether a file is one that was being written, by its name."""
    return file.name.endswith(".partial") or ".part." in file.name


def _check(path: Path, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    for key in dict.fromkeys([*there, *here]):
        sides = [_identity(made_by.get(key)) for made_by in (there, here)]
        if sides[0] != sides[1]:
            texts = [json.dumps(made_by.get(key)) for made_by in (there, here)]
            texts = [text if len(text) <= 160 else f"{text[:150]}... ({len(text)} characters)" for text in texts]
            raise StoreError(
                f"{path} was made with {key} = {texts[0]}, but this call has {key} = {texts[1]}: choose another place "
                "for the output, or ask for the same."
            )


def _identity(value: Any) -> Any:
    return {k: v for k, v in value.items() if k not in _FREE} if isinstance(value, dict) else value
