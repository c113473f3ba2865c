"""One call of :func:`interp.activations.extract`: what is wanted, and how its batches are made."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
import xarray as xr
from torch import Tensor

from interp._batch import by_kind, pool_forward
from interp._codes import CodeCache, encode_clip
from interp._manifest import check_names, describe, digest
from interp._store import Store
from interp.clips import Clips, refuse
from interp.errors import ClipError, DataError, Interrupted
from interp.pooling import Pooling
from interp.sites import Kind, Site, select_sites

if TYPE_CHECKING:
    from interp.model import MusicGen

__all__ = ["DTYPES", "Job"]

_log = logging.getLogger(__name__)
DTYPES = ("float32", "float16", "bfloat16")
Floats = npt.NDArray[np.floating[Any]]
Positions = npt.NDArray[np.int64]


class Job:
    """What one call wants; arguments as those of :func:`~interp.activations.extract`.

    Everything that can be refused is refused here, before any work: whatever is wrong with any of the clips.
    """

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
        offset: float,
        skip_bad: bool,
        info: Mapping[str, Any] | None,
    ) -> None:
        self.model, self.dtype, self.skip_bad, self.info = model, dtype, skip_bad, dict(info or {})
        self.sites = by_kind(select_sites(sites, model.shape))
        self.np_dtype = "float16" if dtype == "float16" else "float32"
        self.cache = CodeCache(Path(cache), model) if cache is not None else None
        with model.starting_at(offset):  # refused now if music cannot begin there
            self.offset = float(offset)
        check_names(clips.labels)
        texts = [text] * len(clips) if text is None or isinstance(text, str) else list(text)
        if len(texts) != len(clips):
            raise DataError(f"there are {len(clips)} clips but {len(texts)} texts: give one text, or one a clip.")
        for prompt in set(texts):
            model.check_prompt(prompt)
        self.text = text if text is None or isinstance(text, str) else digest(texts)
        self.left_out: dict[str, str] = {}
        self.doubtful: dict[str, str] = {}
        self._known = codes
        lengths = self._lengths(clips)
        Pooling.parse(pool, model.frame_rate, 1)  # what cannot be read is said before any clip is looked at
        self.clips, chosen = self._usable(clips, lengths, pool)
        self._known = None if codes is None else lambda i: codes(chosen[i])
        self.texts = [texts[i] for i in chosen]
        longest = max(lengths[i] for i in chosen)
        self.pooling = Pooling.parse(pool, model.frame_rate, math.ceil(longest * model.frame_rate - 1e-3))
        self.contents = [self._content(i) for i in range(len(self.clips))]
        self._warn_of_copies()

    # What there is ------------------------------------------------------------------------------------------

    def _lengths(self, clips: Clips) -> list[float]:
        """Seconds of every clip; NaN where a file cannot be read."""
        if self._known is not None:
            return [int(self._known(i).shape[-1]) / self.model.frame_rate for i in range(len(clips))]
        lengths = []
        for i in range(len(clips)):
            try:
                lengths.append(clips.seconds(i))
            except ClipError:
                lengths.append(math.nan)
        return lengths

    def _usable(self, clips: Clips, lengths: Sequence[float], pool: str | Sequence[str]) -> tuple[Clips, list[int]]:
        """Clips that can be heard, and their positions; the others are refused by name, or left out."""
        longest = self.model.max_seconds
        problems = {} if self._known is not None else clips.problems()
        for name, seconds in zip(clips.ids, lengths, strict=True):
            if seconds > longest + 0.05:
                problems.setdefault(name, f"lasts {seconds:.1f} s, but {self.model.name} hears at most {longest:g} s")
            frames = seconds * self.model.frame_rate
            for window, first in Pooling.parse(pool, self.model.frame_rate, 1).windows():
                if frames + 1 <= first:  # one frame of doubt: a header may round its length
                    problems.setdefault(name, f"lasts {seconds:.2f} s, so that the window {window} s holds no frame")
            if 0 < frames < 1:
                self.doubtful[name] = f"lasts {seconds * 1000:.2g} ms, less than one frame"
        refuse(problems, len(clips), self.skip_bad, f"cut long ones with clips.windows({longest:g}) (--window)")
        self.left_out.update(problems)
        chosen = [i for i, name in enumerate(clips.ids) if name not in problems]
        return (clips if len(chosen) == len(clips) else clips.subset(chosen)), chosen

    def _content(self, i: int) -> str:
        """What a clip holds, whatever it is called."""
        if self._known is None:
            return self.clips.key(i)
        codes = torch.as_tensor(self._known(i), dtype=torch.long).cpu().contiguous().numpy()
        return f"codes {codes.shape} {hashlib.sha256(codes.tobytes()).hexdigest()[:32]}"

    def _keys(self) -> list[str]:
        """Address of a clip's activations in a store: its content, text and offset, and which copy of them it is."""
        codec = self.model.codec_fingerprint if self._known is None else ""
        seen: dict[str, int] = {}
        keys = []
        for content, text in zip(self.contents, self.texts, strict=True):
            key = digest([codec, content, text, *([self.offset] if self.offset else [])])
            seen[key] = seen.get(key, 0) + 1
            keys.append(key if seen[key] == 1 else f"{key}#{seen[key]}")
        return keys

    def _warn_of_copies(self) -> None:
        if self._known is not None:
            return
        table = pd.DataFrame({"content": self.contents, "clip": self.clips.ids, "group": self.clips.labels["group"]})
        copies = [part for _, part in table.groupby("content", sort=False) if part["group"].nunique() > 1]
        if copies:
            names = " and ".join(map(repr, copies[0]["clip"].head(2)))
            more = f", and {len(copies) - 1} more recordings" if len(copies) > 1 else ""
            _log.warning(
                "%s hold the same audio but stand in different groups%s: a split may have one on each side; give "
                "copies of a recording one group, or leave them out.",
                names,
                more,
            )

    def header(self, kept: Positions | None = None) -> xr.Dataset:
        """Coordinates and attributes of the result, without data."""
        chosen = list(range(len(self.clips))) if kept is None else kept.tolist()
        table = self.clips.labels.iloc[chosen]
        made_by: dict[str, Any] = {
            "pool": list(self.pooling.spec),
            "text": self.text,
            "offset": self.offset,
            "dtype": self.dtype,
            "clips": {
                "number": len(table),
                "ids": digest(list(table.index)),
                "content": digest([self.contents[i] for i in chosen]),
            },
            "info": self.info,
        }
        for name, notes in (("left_out", self.left_out), ("doubtful", self.doubtful)):
            if notes:
                made_by[name] = notes
        return describe(self.model, table, self.sites, self.pooling.names, **made_by)

    # The work -----------------------------------------------------------------------------------------------

    def in_memory(self, batch_size: int, progress: bool) -> xr.Dataset:
        """Extract into arrays."""
        arrays: dict[Kind, Floats] = {}
        kept: list[int] = []
        with self._bar(progress) as advance, _interruptible("nothing is kept without `out`"):
            for start in range(0, len(self.clips), batch_size):
                rows = range(start, min(start + batch_size, len(self.clips)))
                blocks, good = self.batch(rows, self.sites, self.pooling)
                for kind, block in blocks.items():
                    whole = (len(self.clips), *block.shape[1:])
                    arrays.setdefault(kind, np.empty(whole, self.np_dtype))[len(kept) : len(kept) + len(good)] = block
                kept += good
                advance(len(rows))
        header = self._finished(kept)
        dims = {kind: ("clip", "pool", f"{kind}_site", f"{kind}_dim") for kind in arrays}
        return header.assign({kind: (dims[kind], array[: len(kept)]) for kind, array in arrays.items()})

    def on_disk(self, path: Path, batch_size: int, progress: bool) -> xr.Dataset:
        """Extract what a store lacks, beside any other process that does the same."""
        keys, shape = self._keys(), self.model.shape
        size = min(batch_size, len(self.clips))
        store = Store(path, self.header(), self.np_dtype, size, self.dtype == "bfloat16")
        try:
            self.doubtful.update(store.noted("doubtful", self.clips.ids, keys))
            store.want(self.header(), keys, self.sites, {kind: shape.dim(kind) for kind in self.sites})
            self._fill(store, progress)
            kept = [i for i, name in enumerate(self.clips.ids) if name not in self.left_out]
            header = self._finished(kept)
            store.show(header, np.array(kept))
            return store.dataset(header, np.array(kept))
        finally:
            store.close()

    def _fill(self, store: Store, progress: bool) -> None:
        sites, pooling = store.index.sites(), Pooling(tuple(store.index.pools), self.model.frame_rate, 0)
        pending = store.batches()
        kept = "what is stored is kept, and the same command goes on from there"
        with self._bar(progress) as advance, _interruptible(kept):
            while pending:
                left = []
                for batch in pending:
                    if not store.claim(batch):
                        left.append(batch)
                        continue
                    try:
                        lacking = [int(i) for i in store.lacking(batch) if self.clips.ids[i] not in self.left_out]
                        if lacking:
                            blocks, good = self.batch(lacking, sites, pooling)
                            if good:
                                store.write(batch, np.array(good), blocks)
                    finally:
                        store.release(batch)
                    advance(len(store.clips_in(batch)))
                if left == pending:
                    time.sleep(0.2)  # the rest is in the hands of other processes; if one dies, its claims are ours
                pending = left

    def _finished(self, kept: Sequence[int]) -> xr.Dataset:
        """Header of the clips that came through; says what was left out and what looks odd."""
        for notes, sentence in ((self.left_out, "left out"), (self.doubtful, "doubtful")):
            if notes:
                clip, why = next(iter(notes.items()))
                more = f", and {len(notes) - 1} more" if len(notes) > 1 else ""
                _log.warning("%d clips are %s: %r %s%s.", len(notes), sentence, clip, why.rstrip("."), more)
        if not kept:
            raise ClipError("no clip is left: every one of them had to be left out.")
        return self.header(np.array(kept))

    def batch(
        self, clips: Sequence[int], sites: Mapping[Kind, Sequence[Site]], pooling: Pooling
    ) -> tuple[dict[Kind, Floats], list[int]]:
        """Activations of some clips, in the dtype that is kept; and which of the clips these are."""
        codes, good = [], []
        for i in clips:
            try:
                codes.append(self._codes(i))
                good.append(i)
            except ClipError as error:
                if not self.skip_bad:
                    raise
                self.left_out[self.clips.ids[i]] = str(error)
        if not good:
            return {}, []
        names = [self.clips.ids[i] for i in good]
        texts = [self.texts[i] for i in good]
        flat = [site for same in sites.values() for site in same]
        with self.model.starting_at(self.offset):
            values, present = pool_forward(self.model, codes, texts, flat, pooling, names)
        blocks: dict[Kind, Floats] = {}
        for kind, value in values.items():
            if self.dtype == "bfloat16":
                value = value.bfloat16().float()
            with np.errstate(over="ignore"):  # what overflows float16 is refused below, by name
                block = value.numpy().astype(self.np_dtype, copy=False)
            self._check_range(sites[kind], block, present.numpy(), names)
            if not present.all():
                block[~present.numpy()] = np.nan
            blocks[kind] = block
        return blocks, good

    def _codes(self, i: int) -> Tensor:
        if self._known is not None:
            codes = torch.as_tensor(self._known(i), dtype=torch.long)
        elif self.cache is not None:
            codes = self.cache.get(self.contents[i], lambda: self._encode(i))
        else:
            codes = self._encode(i)
        seconds = codes.shape[-1] / self.model.frame_rate
        if seconds > self.model.max_seconds + 0.05:
            raise ClipError(
                f"the clip {self.clips.ids[i]!r} lasts {seconds:.1f} s, but {self.model.name} hears at most "
                f"{self.model.max_seconds:g} s: cut it with clips.windows({self.model.max_seconds:g})."
            )
        return codes

    def _encode(self, i: int) -> Tensor:
        clip = self.clips[i]
        if clip.doubt:
            self.doubtful[clip.id] = clip.doubt
        return encode_clip(self.model, clip)

    def _check_range(
        self, sites: Sequence[Site], block: Floats, present: npt.NDArray[np.bool_], names: Sequence[str]
    ) -> None:
        """What was finite when it was pooled may be too large for the dtype in which it is kept."""
        bad = ~np.isfinite(block).all(-1) & present[:, :, None]
        if bad.any():
            row, _, column = np.argwhere(bad)[0]
            raise DataError(
                f"the activation at {sites[column]} for the clip {names[row]!r} is too large for {self.dtype}: keep it "
                f"as {'dtype=bfloat16 or ' if self.dtype == 'float16' else ''}float32."
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
