"""Arrays on disk that are filled batch by batch: killed at any moment, nothing that was finished is lost.

A store is a Zarr v3 group that xarray opens. Beside the data it holds ``done``, one number a batch, written
after the batch's data, and every write of a chunk is a rename; so a batch is either done or will be done
again. Processes that fill one store claim a batch with a lock on one byte of a file, which the operating
system drops when they die.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr
from zarr.codecs import BloscCodec

from interp.errors import StoreError

__all__ = ["Store", "open_store", "write_errors"]

_DONE = "done"
_LOCK = ".lock"
_MANIFEST = "made_by"
_FREE = ("batch_size", "info", "versions")  # what may differ between the runs that fill one store


class Store:
    """A dataset on disk whose variables are filled in batches along their first dimension, ``clip``.

    Parameters
    ----------
    path : Path
        Folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with write_errors(path):
            self._group = zarr.open_group(path, mode="r+")
            self._locks = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT)
        self.n_batches: int = self._group[_DONE].shape[0]  # type: ignore[union-attr]
        self.batch_size: int = json.loads(str(self._group.attrs[_MANIFEST]))["batch_size"]

    @classmethod
    def create_or_open(
        cls,
        path: Path,
        coords: xr.Dataset,
        variables: Mapping[str, tuple[tuple[str, ...], tuple[int, ...]]],
        dtype: str,
        batch_size: int,
        compress: bool,
    ) -> Store:
        """Open the store at `path`, or make an empty one.

        Parameters
        ----------
        path : Path
            Folder.
        coords : Dataset
            Coordinates and attributes; the attribute ``made_by`` is the manifest, as JSON.
        variables : mapping of str to (dims, shape)
            Data variables; the first dimension is ``clip``.
        dtype : str
            Of the data.
        batch_size : int
            Clips per batch of a new store; one that exists keeps its own.
        compress : bool
            Whether to compress chunks.

        Raises
        ------
        StoreError
            If the store was made from something else (the sentence names both sides) or cannot be written.
        """
        manifest = json.loads(coords.attrs[_MANIFEST])
        if not (path / "zarr.json").exists():
            with write_errors(path):
                cls._create(path, coords, variables, dtype, batch_size, compress)
        _check_manifest(path, manifest)
        return cls(path)

    @staticmethod
    def _create(
        path: Path,
        coords: xr.Dataset,
        variables: Mapping[str, tuple[tuple[str, ...], tuple[int, ...]]],
        dtype: str,
        batch_size: int,
        compress: bool,
    ) -> None:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise StoreError(f"{path} exists and is not a store of activations: choose another place for the output.")
        path.parent.mkdir(parents=True, exist_ok=True)
        # Made beside its place and renamed, so that no process ever sees half a store.
        partial = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
        try:
            partial.chmod(0o777 & ~_umask())
            coords.to_zarr(partial, mode="w", zarr_format=3, consolidated=False)
            group = zarr.open_group(partial, mode="r+")
            codec = BloscCodec(cname="zstd", clevel=3, shuffle="shuffle") if compress else None
            for name, (dims, shape) in variables.items():
                group.create_array(
                    name,
                    shape=shape,
                    chunks=(batch_size, *shape[1:]),
                    dtype=dtype,
                    fill_value=float("nan"),
                    compressors=codec,
                    dimension_names=dims,
                )
            n_batches = -(-coords.sizes["clip"] // batch_size)
            group.create_array(
                _DONE, shape=(n_batches,), chunks=(1,), dtype="int8", fill_value=0, dimension_names=("batch",)
            )
            with warnings.catch_warnings():
                # zarr says that other readers may not know it; they then list the folder instead.
                warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
                zarr.consolidate_metadata(partial)
            try:
                partial.rename(path)
            except OSError:
                if not (path / "zarr.json").exists():  # else another process was first, and its store is as good
                    raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def done(self, batch: int) -> bool:
        """Whether a batch is complete."""
        return bool(self._group[_DONE][batch])  # type: ignore[index]

    def write(self, batch: int, start: int, blocks: Mapping[str, npt.NDArray[np.floating]]) -> None:
        """Store a batch whose first clip is `start`, then mark it as done."""
        with write_errors(self.path):
            for name, block in blocks.items():
                self._group[name][start : start + len(block)] = block  # type: ignore[index]
            self._group[_DONE][batch] = 1  # type: ignore[index]

    def claim(self, batch: int) -> bool:
        """Take a batch for this process, or find that another one has it."""
        try:
            fcntl.lockf(self._locks, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, batch)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return False
            raise StoreError(
                f"cannot lock {self.path / _LOCK} ({error.strerror}): put the store on a disk that supports locks."
            ) from error
        return True

    def release(self, batch: int) -> None:
        """Give a batch back."""
        fcntl.lockf(self._locks, fcntl.LOCK_UN, 1, batch)

    def close(self) -> None:
        """Drop all claims."""
        os.close(self._locks)


def open_store(path: str | Path, partial: bool = False) -> xr.Dataset:
    """Open a store as a lazy dataset.

    Parameters
    ----------
    path : str or Path
        Folder.
    partial : bool
        Give the clips that are finished instead of refusing a store that is not.

    Raises
    ------
    StoreError
        If there is no store, it is damaged, or it is incomplete.
    """
    path = Path(path)
    if not (path / "zarr.json").is_file():
        raise StoreError(f"there is no store of activations at {path}: make one with extract(..., out={str(path)!r}).")
    try:
        ds = xr.open_zarr(path, chunks=None, zarr_format=3, consolidated=True)
        done = ds[_DONE].values.astype(bool)
        ds = ds.drop_vars(_DONE)
        made_by = json.loads(ds.attrs[_MANIFEST])
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).strip("'\"").split("\n")[0].rstrip(".")
        raise StoreError(f"{path} is not a store of activations, or damaged ({reason}): make it again.") from error
    if not done.all():
        finished = np.repeat(done, made_by["batch_size"])[: ds.sizes["clip"]]
        if not partial:
            raise StoreError(
                f"{path} holds {finished.sum()} of {len(finished)} clips: run the same extraction again to go on, or "
                "open it with partial=True."
            )
        ds = ds.isel(clip=np.flatnonzero(finished))
    strings = {name: coord.astype(object) for name, coord in ds.coords.items() if coord.dtype.kind == "T"}
    return ds.assign_coords(strings)


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


def _check_manifest(path: Path, manifest: Mapping[str, Any]) -> None:
    try:
        found = json.loads(json.loads((path / "zarr.json").read_text())["attributes"][_MANIFEST])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} is not a store of activations: choose another place for the output.") from error
    for key in [key for key in {**found, **manifest} if key not in _FREE]:
        if found.get(key) != manifest.get(key):
            raise StoreError(
                f"{path} was made with {key} = {_short(found.get(key))}, but this call has {key} = "
                f"{_short(manifest.get(key))}: choose another place for the output, or ask for the same."
            )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 160 else f"{text[:150]}... ({len(text)} characters)"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
