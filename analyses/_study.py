"""What all studies share: a configuration from the command line, activations, and steps that are done once.

A study is a module with a frozen dataclass ``Config`` and a function ``main(config)`` that returns its tables. Every
step's table is kept under ``<out>/.cache`` beside the configuration that made it; the same command goes on where it was
stopped, and a changed configuration starts afresh.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd

import interp
from interp.clips import Clips

if TYPE_CHECKING:
    import xarray as xr

    from interp.model import MusicGen

__all__ = ["Steps", "activations", "formats_of", "from_command_line", "held_back", "labelled_clips", "slug"]

log = logging.getLogger(__name__)
C = TypeVar("C")


def from_command_line(config: type[C], doc: str | None, argv: list[str] | None = None) -> C:
    """Read a configuration; every field is a flag, lists are written with commas."""
    name = config.__module__ if config.__module__ != "__main__" else "study"
    parser = argparse.ArgumentParser(
        prog=f"python -m {name}", description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    told = _attributes(config.__doc__ or "")
    for one in dataclasses.fields(config):  # type: ignore[arg-type]  # a dataclass by contract
        default = one.default
        parser.add_argument(
            f"--{one.name.replace('_', '-')}", default=default, type=_reader(default, str(one.type)),
            help=f"{told.get(one.name, '')} (default {_plain(default)})".strip(),
        )  # fmt: skip
    return config(**vars(parser.parse_args(argv)))


def _reader(default: Any, kind: str) -> Callable[[str], Any]:
    if isinstance(default, tuple):
        item = type(default[0]) if default else str
        return lambda text: tuple(item(part) for part in text.split(",") if part)
    if isinstance(default, bool):
        return lambda text: text.lower() in ("1", "yes", "true")
    if default is None:
        return Path if "Path" in kind else str
    return type(default)


def _attributes(doc: str) -> dict[str, str]:
    """What a NumPy-style docstring says of each attribute."""
    told: dict[str, str] = {}
    names: list[str] = []
    for line in doc.splitlines():
        if " : " in line and line.startswith("    ") and not line.startswith("     "):
            names = [name.strip() for name in line.split(" : ")[0].split(",")]
        elif line.startswith("        ") and names:
            for name in names:
                told[name] = f"{told.get(name, '')} {line.strip()}".strip()
        else:
            names = []
    return {name: text.rstrip(".").replace("%", "%%") for name, text in told.items()}


def _plain(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def slug(text: str) -> str:
    """A trait or site as part of a file's name."""
    return re.sub(r"[^A-Za-z0-9-]+", "_", text).strip("_")


def formats_of(table: pd.DataFrame) -> tuple[str, ...]:
    """Formats to write a table in: nobody reads hundreds of lines in a text or a paper."""
    return ("csv", "md", "tex") if len(table) <= 200 else ("csv",)


class Steps:
    """Tables that are made once and read again.

    Parameters
    ----------
    out : Path
        Output folder.
    key : dict
        What the tables depend on: the configuration without the output folder, and the model's fingerprint.
    """

    def __init__(self, out: Path, key: dict[str, Any]) -> None:
        text = json.dumps(key, sort_keys=True, default=str)
        self.folder = out / ".cache" / hashlib.sha256(text.encode()).hexdigest()[:12]
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "config.json").write_text(text + "\n")

    def table(self, name: str, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """The table of a step: read if it was made before, made and kept otherwise."""
        path = self.folder / f"{name}.csv"
        if not path.exists():
            log.info("making %s", name)
            made = make()
            part = path.with_suffix(f".{os.getpid()}.part")
            made.to_csv(part, index=False)
            part.replace(path)
        found = pd.read_csv(path, keep_default_na=False, na_values=[""])
        if "head" in found.columns:
            found = found.astype({"head": "Int64"})
        return found


def held_back(clips: Clips, seed: int, share: float = 0.3) -> np.ndarray:
    """Which clips of a folder are kept from the probes, for prompts and reference: whole groups."""
    groups = clips.labels["group"].astype(str).to_numpy() if "group" in clips.labels else np.asarray(clips.ids)
    names = np.unique(groups)
    kept = np.random.default_rng([seed, 6]).permutation(names)[: max(1, round(share * len(names)))]
    return np.isin(groups, kept)


def labelled_clips(data: Path | None, n_clips: int, seed: int, progress: bool = True) -> Clips:
    """Clips of a folder with ``metadata.csv``, or rendered ones."""
    if data is not None:
        return Clips.from_folder(data)
    from interp.data import render_clips

    return render_clips(n_clips, seed=seed, progress=progress)


def activations(
    model: MusicGen, clips: Clips, out: Path, *, sites: str = "heads, resid", tag: str = "", progress: bool = True
) -> xr.Dataset:
    """Activations of the clips, from a store in the output folder that a stopped run goes on filling."""
    store = out / ".cache" / f"{model.fingerprint[:12]}-{tag or len(clips)}.zarr"
    store.parent.mkdir(parents=True, exist_ok=True)
    return interp.extract(model, clips, sites=sites, out=store, progress=progress)
