"""One call of :func:`interp.activations.extract`: what is wanted, and how its batches are made."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
import xarray as xr
from torch import Tensor

from interp._batch import by_kind, pool_forward
from interp._codes import CodeCache, digest, encode_clip
from interp._store import Store
from interp.clips import Clips
from interp.errors import ClipError, DataError, Interrupted
from interp.pooling import Pooling
from interp.sites import KINDS, Kind, Site, select_sites

if TYPE_CHECKING:
    from interp.model import MusicGen

__all__ = ["DTYPES", "Job"]

FORMAT = "interp.activations/1"
DTYPES = ("float32", "float16", "bfloat16")
Floats = npt.NDArray[np.floating[Any]]


class Job:
    """What one call wants; arguments as those of :func:`~interp.activations.extract`."""

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
        self.by_kind = by_kind(self.sites)
        self.pooling = Pooling.parse(pool, model.frame_rate, self._max_frames(pool))
        self.texts = [text] * len(clips) if text is None or isinstance(text, str) else list(text)
        if len(self.texts) != len(clips):
            raise DataError(f"there are {len(clips)} clips but {len(self.texts)} texts: give one text, or one a clip.")
        for one in set(self.texts):
            model.check_prompt(one)
        self.text = text if text is None or isinstance(text, str) else digest(self.texts)
        self.np_dtype = "float16" if dtype == "float16" else "float32"
        self.cache = CodeCache(Path(cache), model) if cache is not None else None
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
            "clips": {"number": len(self.clips), "ids": digest(self.clips.ids)},
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
            with np.errstate(over="ignore"):  # what overflows float16 is refused below, by name
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
            codes = self.cache.get(self.clips, i) if self.cache is not None else encode_clip(self.model, self.clips, i)
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


@contextlib.contextmanager
def _interruptible(kept: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(f"stopped by Ctrl-C: {kept}.") from None


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


def _versions() -> dict[str, str]:
    packages = ("interp", "torch", "nnsight", "audiocraft", "transformers", "numpy", "zarr")
    found = {}
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found
