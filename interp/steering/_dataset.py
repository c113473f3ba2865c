"""What was captured while music was generated, in the form in which extraction keeps activations."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import xarray as xr

from interp._codes import digest
from interp._extraction import FORMAT, _plain, _versions
from interp._store import Store, open_store
from interp.errors import DataError, SiteError
from interp.sites import KINDS

if TYPE_CHECKING:
    from interp.steering.generation import Generation

__all__ = ["captured_dataset"]

_BATCH = 64


def captured_dataset(
    music: Generation, half: Literal["cond", "uncond"], labels: pd.DataFrame | None, out: str | Path | None
) -> xr.Dataset:
    """See :meth:`interp.steering.generation.Generation.activations`."""
    if not music.pooled:
        raise SiteError("nothing was pooled while generating: name sites and pooling, generate(..., capture=, pool=).")
    if half not in ("cond", "uncond"):
        raise SiteError(f"there is no half {half!r}: it is 'cond' or 'uncond'.")
    if half == "uncond" and music.settings.get("guidance") is None:
        raise SiteError("there are no unconditional rows without guidance.")
    # rows whose halves are identical were run once
    arrays = {
        kind: np.stack([np.asarray(x[min(len(x) - 1, int(half == "uncond"))]) for x in rows])
        for kind, rows in music.pooled.items()
    }
    sites = {kind: [site for site in music.settings["capture"] if site.kind == kind] for kind in arrays}
    table = _labels(music, labels)
    coords: dict[str, Any] = {
        "clip": np.array(list(table.index), object),
        "pool": np.array(music.settings["pool_names"], object),
        **{f"{kind}_site": np.array([str(site) for site in found], object) for kind, found in sites.items()},
    }
    taken = set(coords) | set(KINDS) | {f"{kind}_dim" for kind in KINDS}
    for name in table.columns:
        if name in taken:
            raise DataError(f"a label cannot be called {name!r}, which the store needs itself: rename the column.")
        coords[str(name)] = ("clip", _plain(table[name]))
    model = music.model
    prompts = [row.prompt for row in music.rows]
    batch_size = min(_BATCH, len(table))
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "model": {"name": model.name, "fingerprint": model.fingerprint},
        "sites": {kind: [str(site) for site in found] for kind, found in sites.items()},
        "pool": list(music.settings["pool"]),
        "text": prompts[0] if len(set(prompts)) == 1 else digest(prompts),
        "dtype": "float32",
        "model_dtype": str(model.dtype).removeprefix("torch."),
        "clips": {"number": len(table), "ids": digest(list(table.index)), "codes": digest(music.codes.tolist())},
        "frame_rate": model.frame_rate,
        "batch_size": batch_size,
        "captured": {"while": "generating", "half": half},
        "info": {k: v for k, v in music.settings.items() if k not in ("capture", "pool", "pool_names")},
        "versions": _versions(),
    }
    names = [str(name) for name in table.columns if name != "group"]
    header = xr.Dataset(coords=coords, attrs={"labels": json.dumps(names), "made_by": json.dumps(manifest)})
    dims = {kind: ("clip", "pool", f"{kind}_site", f"{kind}_dim") for kind in arrays}
    if out is None:
        return header.assign({kind: (dims[kind], array) for kind, array in arrays.items()})
    shapes: dict[str, tuple[tuple[str, ...], tuple[int, ...]]] = {
        kind: (dims[kind], array.shape) for kind, array in arrays.items()
    }
    store = Store.create_or_open(Path(out), header, shapes, "float32", batch_size, False)
    try:
        for batch in range(store.n_batches):
            start = batch * store.batch_size
            if not store.done(batch):
                store.write(batch, start, {k: a[start : start + store.batch_size] for k, a in arrays.items()})
    finally:
        store.close()
    return open_store(out)


def _labels(music: Generation, labels: pd.DataFrame | None) -> pd.DataFrame:
    """Prompt, seed and what was given, a row each; rows of one seed, which share their noise, are one group."""
    n = len(music)
    if labels is not None and len(labels) != n:
        raise DataError(f"there are {n} rows of music but {len(labels)} rows of labels: give one a row.")
    index: Sequence[str] = [f"row-{i:05d}" for i in range(n)]
    table = pd.DataFrame(
        {
            "prompt": np.array([row.prompt or "" for row in music.rows], object),
            "seed": [row.seed for row in music.rows],
            "group": [f"seed-{row.seed}" for row in music.rows],
        },
        index=pd.Index(index, name="clip"),
    )
    if labels is not None:
        for name in labels.columns:
            table[str(name)] = labels[name].to_numpy()
    table["group"] = table["group"].astype(str)
    return table
