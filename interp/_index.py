"""What a store of activations holds, in one small file that is replaced whole: its rows, its blocks, its clips.

A *row* is a clip's content under a text, and stays where it is for good; a *block* is an array
``[row, pool, site, dim]`` of sites of one kind; the *view* is the table of clips of the last call, each with its row.
So labels can be corrected, clips added, removed and renamed, and sites and poolings added, without touching an
activation.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from interp._files import atomic
from interp.errors import StoreError
from interp.sites import KINDS, Kind, Site

__all__ = ["INDEX", "Block", "Index"]

INDEX = "index.json"


@dataclass(frozen=True)
class Block:
    """One array of a store: `sites` of one kind, each pooled by all of `pools`."""

    name: str
    kind: Kind
    pools: tuple[str, ...]
    sites: tuple[str, ...]

    @property
    def done(self) -> str:
        """Name of the array that says which rows are finished."""
        return f"{self.name}.done"


@dataclass
class Index:
    """See the module.

    Attributes
    ----------
    made_by : dict
        What every row has in common: model, precision, ...
    batch_size : int
        Rows in a chunk.
    rows : list of str
        Key of every row.
    blocks : list of Block
    view : dict
        Clips of the last call: ``ids``, ``rows``, ``labels`` (name -> dtype and values) and ``attrs``.
    """

    made_by: dict[str, Any]
    batch_size: int
    rows: list[str] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    view: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Index:
        """Read the index of the store at `path`.

        Raises
        ------
        StoreError
            If there is none, or a bit of it changed.
        """
        try:
            written = json.loads((path / INDEX).read_text(encoding="utf-8"))
            entries = written["index"]
            if _digest(json.dumps(entries)) != written["sha256"]:
                raise ValueError("its bytes changed on the disk")
            entries["blocks"] = [
                Block(b["name"], b["kind"], tuple(b["pools"]), tuple(b["sites"])) for b in entries["blocks"]
            ]
            return cls(**entries)
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = str(error).split("\n")[0].rstrip(".")
            raise StoreError(
                f"{path} is not a store of activations, or its {INDEX} is damaged ({reason}): choose another place, or "
                "delete it and extract again."
            ) from error

    def write(self, path: Path) -> None:
        """Replace the index of the store at `path`, unless it says the same."""
        text = json.dumps(asdict(self))
        text = f'{{"sha256": "{_digest(text)}", "index": {text}}}\n'
        if (path / INDEX).is_file() and (path / INDEX).read_text(encoding="utf-8") == text:
            return
        with atomic(path / INDEX) as partial:
            partial.write_text(text, encoding="utf-8")

    # Rows and blocks ----------------------------------------------------------------------------------------

    def take(self, keys: Iterable[str]) -> list[int]:
        """Row of every key; keys that are new get a row at the end."""
        known = {key: row for row, key in enumerate(self.rows)}
        places = []
        for key in keys:
            if key not in known:
                known[key] = len(self.rows)
                self.rows.append(key)
            places.append(known[key])
        return places

    @property
    def pools(self) -> list[str]:
        """Vectors of every clip, in order."""
        return list(dict.fromkeys(pool for block in self.blocks for pool in block.pools))

    def sites(self) -> dict[Kind, list[Site]]:
        """Sites of every kind, in forward order."""
        kinds = {kind: [site for b in self.blocks if b.kind == kind for site in b.sites] for kind in KINDS}
        return {kind: sorted({Site.parse(site) for site in sites}) for kind, sites in kinds.items() if sites}

    def extend(self, sites: Mapping[Kind, Sequence[Site]], pools: Sequence[str]) -> list[Block]:
        """Add what is lacking, so that every site is pooled in every way; returns the new blocks."""
        old_pools, old_sites = self.pools, self.sites()
        new_pools = [pool for pool in pools if pool not in old_pools]
        added: list[Block] = []
        for kind in KINDS:
            there = [str(site) for site in old_sites.get(kind, [])]
            lacking = [str(site) for site in sites.get(kind, []) if str(site) not in there]
            for block_sites, block_pools in ((there, new_pools), (lacking, old_pools + new_pools)):
                if block_sites and block_pools:
                    count = sum(block.kind == kind for block in [*self.blocks, *added])
                    name = f"{kind}-{count}" if count else kind
                    added.append(Block(name, kind, tuple(block_pools), tuple(block_sites)))
        self.blocks += added
        return added

    # The view -----------------------------------------------------------------------------------------------

    def show(self, header: xr.Dataset, rows: Sequence[int]) -> None:
        """Make the clips of a header the view."""
        labels = {
            str(name): {"dtype": coord.dtype.name, "values": _listed(coord.values)}
            for name, coord in header.coords.items()
            if coord.dims == ("clip",) and name != "clip"
        }
        self.view = {
            "ids": [str(clip) for clip in header["clip"].values],
            "rows": list(rows),
            "labels": labels,
            "attrs": dict(header.attrs),
        }

    def coords(self) -> dict[str, Any]:
        """Coordinates of the view's clips."""
        coords: dict[str, Any] = {"clip": np.array(self.view["ids"], object)}
        for name, column in self.view["labels"].items():
            values = [np.nan if value is None else value for value in column["values"]]
            coords[name] = ("clip", np.array(values, dtype=column["dtype"]))
        return coords


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _listed(values: Any) -> list[Any]:
    return [None if isinstance(value, float) and pd.isna(value) else value for value in values.tolist()]
