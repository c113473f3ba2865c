"""Reading a store: lazy arrays over its blocks, which name the part of the disk that is damaged."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr
from xarray.backends import BackendArray
from xarray.core import indexing

from interp._index import Block, Index
from interp.errors import StoreError

__all__ = ["dataset", "finished", "open_store", "spoiled"]

Rows = npt.NDArray[np.int64]


def open_store(path: str | Path, partial: bool = False) -> xr.Dataset:
    """Open a store as a lazy dataset: all its sites and poolings, for the clips of the last extraction into it.

    Parameters
    ----------
    path : str or Path
        Folder.
    partial : bool
        Give the clips that are finished instead of refusing a store that is not.

    Raises
    ------
    StoreError
        If there is no store, it is incomplete, or a part of it is missing or damaged. Values are checked when they are
        read; the sentence names the file, and the same extraction makes it again.

    Examples
    --------
    >>> import tempfile
    >>> import interp
    >>> folder = Path(tempfile.mkdtemp()) / "acts.zarr"
    >>> clips = interp.Clips.from_arrays([[0.1] * 4000], 16000, {"drums": ["yes"]})
    >>> _ = interp.extract(interp.load("tiny", device="cpu"), clips, sites="resid", out=folder)
    >>> open_store(folder)["resid"].dims
    ('clip', 'pool', 'resid_site', 'resid_dim')
    """
    path = Path(path)
    if not (path / "zarr.json").is_file():
        raise StoreError(f"there is no store of activations at {path}: make one with extract(..., out={str(path)!r}).")
    index = Index.read(path)
    if not index.view:
        raise StoreError(f"{path} holds no clips yet: run the same extraction again.")
    group = open_group(path)
    rows = np.array(index.view["rows"], np.int64)
    done = np.logical_and.reduce([finished(group, block, index.batch_size)[rows] for block in index.blocks])
    if not done.all() and not partial:
        raise StoreError(
            f"{path} holds {done.sum()} of {len(done)} clips: run the same extraction again to go on, or open it with "
            "partial=True."
        )
    for block in index.blocks:
        for batch in np.unique(rows[done] // index.batch_size):
            if not chunk_file(path, block.name, batch).is_file():
                raise _damage(path, [chunk_file(path, block.name, batch)])
    ds = dataset(path, index, group)
    return ds if done.all() else ds.isel(clip=np.flatnonzero(done))


def dataset(path: Path, index: Index, group: zarr.Group | None = None) -> xr.Dataset:
    """All blocks of a store as one lazy dataset, for the clips of its view."""
    group = group if group is not None else open_group(path)
    rows = np.array(index.view["rows"], np.int64)
    pools = index.pools
    coords: dict[str, Any] = {**index.coords(), "pool": np.array(pools, object)}
    variables: dict[str, xr.Variable] = {}
    for kind, sites in index.sites().items():
        names = [str(site) for site in sites]
        coords[f"{kind}_site"] = np.array(names, object)
        blocks = [block for block in index.blocks if block.kind == kind]
        array = _Blocks(path, group, blocks, rows, pools, names)
        variables[kind] = xr.Variable(
            ("clip", "pool", f"{kind}_site", f"{kind}_dim"), indexing.LazilyIndexedArray(array)
        )
    return xr.Dataset(variables, coords=coords, attrs=index.view["attrs"])


class _Blocks(BackendArray):
    """Blocks of one kind as one array ``[clip, pool, site, dim]``; nothing is read before it is indexed."""

    def __init__(
        self,
        path: Path,
        group: zarr.Group,
        blocks: Sequence[Block],
        rows: Rows,
        pools: Sequence[str],
        sites: Sequence[str],
    ) -> None:
        self.path, self.rows = path, rows
        self.parts: list[tuple[Block, zarr.Array[Any], Rows, Rows]] = []
        for block in blocks:
            at_pool = np.array([block.pools.index(p) if p in block.pools else -1 for p in pools])
            at_site = np.array([block.sites.index(s) if s in block.sites else -1 for s in sites])
            self.parts.append((block, group[block.name], at_pool, at_site))  # type: ignore[arg-type]
        first = self.parts[0][1]
        self.shape = (len(rows), len(pools), len(sites), first.shape[3])
        self.dtype = np.dtype(first.dtype)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> npt.NDArray[Any]:
        axes = [np.atleast_1d(np.arange(size)[k]) for k, size in zip(key, self.shape, strict=True)]
        clips, pools, sites, dims = axes
        rows = self.rows[clips]
        out = np.empty([len(axis) for axis in axes], self.dtype)
        for block, array, at_pool, at_site in self.parts:
            to_pool, to_site = (np.flatnonzero(at[axis] >= 0) for at, axis in ((at_pool, pools), (at_site, sites)))
            if not (len(to_pool) and len(to_site) and len(rows) and len(dims)):
                continue
            where = (rows, at_pool[pools[to_pool]], at_site[sites[to_site]], dims)
            try:
                part = array.oindex[tuple(_slice(axis) for axis in where)]
            except Exception as error:  # whatever a decoder makes of bytes that changed
                bad = spoiled(self.path, array, block, rows)
                if not bad:
                    raise
                raise _damage(self.path, bad) from error
            out[np.ix_(np.arange(len(rows)), to_pool, to_site, np.arange(len(dims)))] = part
        single = tuple(0 if isinstance(k, int | np.integer) else slice(None) for k in key)
        return out[single]


def _slice(axis: Rows) -> Any:
    """A run of neighbours as a slice, which is read faster."""
    if len(axis) and np.array_equal(axis, np.arange(axis[0], axis[0] + len(axis))):
        return slice(int(axis[0]), int(axis[0]) + len(axis))
    return axis


def open_group(path: Path) -> zarr.Group:
    """The Zarr group of a store."""
    try:
        return zarr.open_group(path, mode="r+")
    except Exception as error:  # zarr has many ways to say that a file is not one of its own
        raise StoreError(
            f"{path} is not a store of activations, or its zarr.json is damaged: choose another place, or delete it "
            "and extract again."
        ) from error


def finished(group: zarr.Group, block: Block, batch_size: int) -> npt.NDArray[np.bool_]:
    """Which rows of a block are finished; those whose flags are damaged count as not."""
    flags: Any = group[block.done]
    try:
        return np.asarray(flags[:]).astype(bool)
    except ValueError:
        done = np.zeros(flags.shape[0], bool)
        for start in range(0, len(done), batch_size):
            try:
                done[start : start + batch_size] = flags[start : start + batch_size]
            except ValueError:
                continue
        return done


def spoiled(path: Path, array: zarr.Array[Any], block: Block, rows: Rows) -> list[Path]:
    """Chunks of a block that hold some of the rows and cannot be read."""
    size = array.chunks[0]
    bad = []
    for batch in np.unique(rows // size):
        file = chunk_file(path, block.name, int(batch))
        try:
            array[int(batch) * size : (int(batch) + 1) * size]
            if not file.is_file():
                bad.append(file)
        except Exception:
            bad.append(file)
    return bad


def chunk_file(path: Path, name: str, batch: int, axes: int = 4) -> Path:
    """Where a chunk of an array lies."""
    return functools.reduce(lambda folder, part: folder / part, [str(batch), *"0" * (axes - 1)], path / name / "c")


def _damage(path: Path, files: Sequence[Path]) -> StoreError:
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return StoreError(
        f"{files[0]}{more} is missing or damaged: run the same extraction into {path} again, which makes that part "
        "again."
    )
