"""What a batch did, for the record: activations on the way, and which positions were edited and by how much."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from interp.model import MusicGen
from interp.pooling import Pooling
from interp.sites import Kind, Site
from interp.steering.edits import Edits, Entry
from interp.steering.interventions import Intervention
from interp.steering.ops import Half, Key, full_precision

__all__ = ["LOG_COLUMNS", "MONITOR_COLUMNS", "Capture", "Edited", "PooledCapture", "edited", "log_of", "monitor_of"]

LOG_COLUMNS = {
    "row": "int64",
    "intervention": "int64",
    "half": "object",
    "type": "object",
    "description": "object",
    "sites": "int64",
    "calls": "int64",
    "positions": "int64",
    "first_step": "Int64",
    "last_step": "Int64",
    "first_second": "float64",
    "last_second": "float64",
    "displacement_mean": "float64",
    "displacement_max": "float64",
    "guidance": "float64",
}
MONITOR_COLUMNS = [
    "row",
    "intervention",
    "trait",
    "step",
    "seconds",
    "C",
    "decided_on",
    "tau",
    "factor",
    "acted",
    "clean",
]

Edited = list[tuple[int, int, str, NDArray[np.int64], NDArray[np.float64]]]
"""Row, intervention, half, edited positions, and the length of the displacement over all sites at each."""


class Capture:
    """Keeps activations at sites as later layers see them, conditional and unconditional rows apart.

    Parameters
    ----------
    edits : Edits
        Of the batch; it calls :meth:`tap`.
    sites : sequence of Site
    """

    def __init__(self, edits: Edits, sites: Sequence[Site]) -> None:
        self.edits = edits
        self.places = _by_place(sites)
        positions = edits.timeline.positions - 1  # the last one is only predicted, never fed
        self.kept = {
            site: torch.full((2 if edits.guided else 1, edits.n, positions, edits.shape.dim(site.kind)), torch.nan)
            for site in sites
        }
        edits.tap(self.tap, self.places)

    def tap(self, key: Key, x: Tensor, start: int, half: Half) -> None:
        """Called with the edited activation ``[rows, positions, width]`` of a place."""
        n, stop = self.edits.n, start + x.shape[1]
        for site in self.places.get(key, ()):
            value = x if site.head is None else x.view(*x.shape[:2], self.edits.shape.n_heads, -1)[:, :, site.head]
            value = value.detach().float().cpu()
            if half in ("both", "cond"):
                self.kept[site][0, :, start:stop] = value[:n]
            if half in ("both", "uncond"):
                self.kept[site][1, :, start:stop] = value[-n:]

    def values(self) -> dict[Site, list[Tensor]]:
        """For each site and row, ``[halves, positions, dim]``: every position that was fed."""
        return {site: [kept[:, row] for row in range(self.edits.n)] for site, kept in self.kept.items()}


class PooledCapture:
    """Adds every call's activations to a few vectors a row, so that nothing grows with the length of the music.

    Frame t is read at the position that feeds it (t + 1, its first codebook), where extraction reads it too. Sums are
    float32, whatever the model runs in.

    Parameters
    ----------
    edits : Edits
        Of the batch; it calls :meth:`tap`.
    sites : sequence of Site
    pooling : Pooling
    model : MusicGen
    frames : int
        Frames of every row, audio prompt included.
    """

    def __init__(self, edits: Edits, sites: Sequence[Site], pooling: Pooling, model: MusicGen, frames: int) -> None:
        self.edits = edits
        self.places = _by_place(sites)
        steps = model.frame_steps(frames)
        names = [f"row {row}" for row in range(edits.n)]
        n_steps = edits.timeline.positions + 1
        pooler = pooling.pooler([frames] * edits.n, lambda _: steps, n_steps, names, model.device)
        # single frames as averages over one position: all vectors are then one product [vectors, positions]
        weights = torch.zeros(len(pooling.names), n_steps, device=model.device)
        averages = pooler.weights.shape[1]
        for column, source in enumerate(pooler.order.tolist()):
            if source < averages:
                weights[column] = pooler.weights[0, source]
            else:
                weights[column, int(pooler.picks[0, source - averages])] = 1
        self.weights = weights
        self.needed = weights.ne(0).any(0).cpu().numpy()
        halves = 2 if edits.guided else 1
        self.sums = {
            key: torch.zeros(halves, edits.n, len(weights), self._width(key), device=model.device)
            for key in self.places
        }
        self.fed = np.zeros((halves, n_steps), dtype=bool)
        edits.tap(self.tap, self.places)
        self._first: Key = min(self.places, key=lambda key: edits.keys.index(key))

    def _width(self, key: Key) -> int:
        kind, _ = key
        return self.edits.shape.width if kind in ("heads", "cross_heads") else self.edits.shape.dim(kind)

    def tap(self, key: Key, x: Tensor, start: int, half: Half) -> None:
        """Called with the edited activation ``[rows, positions, width]`` of a place."""
        if key not in self.sums:
            return
        n, stop = self.edits.n, start + x.shape[1]
        cond, uncond = slice(0, n), slice(len(x) - n, None)
        for index, part in enumerate((None if half == "uncond" else cond, None if half == "cond" else uncond)):
            if part is None or index >= len(self.fed):
                continue
            if key == self._first:
                self.fed[index, start:stop] = True
            # a frame's activation is there or it is not: a sum over no weight must not let a stray NaN in
            if self.needed[start:stop].any():
                with full_precision(x.device):
                    values = x[part].detach().float()
                    self.sums[key][index] += torch.einsum("vp,npw->nvw", self.weights[:, start:stop], values)

    def values(self) -> dict[Kind, Tensor]:
        """For each kind, ``[rows, halves, vectors, sites, dim]``, float32 on the CPU, sites in forward order."""
        assert self.fed[:, self.needed].all(), "a position that is pooled was never fed"
        vectors: dict[Kind, list[Tensor]] = defaultdict(list)
        for (kind, layer), total in sorted(self.sums.items(), key=lambda item: item[0][1]):
            for site in self.places[kind, layer]:
                if site.head is None:
                    vectors[kind].append(total)
                else:
                    heads = total.view(*total.shape[:-1], self.edits.shape.n_heads, -1)
                    vectors[kind].append(heads[..., site.head, :])
        return {kind: torch.stack(parts, 3).transpose(0, 1).cpu() for kind, parts in vectors.items()}


def _by_place(sites: Sequence[Site]) -> dict[Key, list[Site]]:
    places: dict[Key, list[Site]] = defaultdict(list)
    for site in sites:
        places[site.kind, site.layer].append(site)
    return dict(places)


def edited(edits: Edits) -> Edited:
    """Edited positions and displacements of every intervention of a batch that was run."""
    last = edits.timeline.positions - 1  # the last one is only predicted, never fed
    table = edits.table.cpu().numpy()
    gates = None if edits.monitor is None else edits.monitor.gates.cpu().numpy()
    lengths: dict[int, float] = {}
    lines: Edited = []
    for entry in edits.entries:
        for number, half in enumerate(("cond", "uncond") if edits.guided else ("cond",)):
            if entry.item.rows not in ("both", half):
                continue
            if entry.stage < 0:
                lines.append((entry.row, entry.index, half, np.zeros(0, dtype=np.int64), np.zeros(0)))
                continue
            factors = table[entry.schedule, :last] if gates is None or not entry.unit else gates[entry.unit, :last]
            positions = np.flatnonzero(factors)
            if entry.item.additive:
                if id(entry.item) not in lengths:
                    lengths[id(entry.item)] = _length(entry.item)
                moved = np.abs(factors[positions]) * lengths[id(entry.item)]
            else:
                moved = _measured(entry, number)[positions]
            lines.append((entry.row, entry.index, half, positions, moved.astype(np.float64)))
    return lines


def _length(item: Intervention) -> float:
    return float(np.sqrt(sum(float(np.sum(values["shift"] ** 2)) for values in item.numbers.values())))


def _measured(entry: Entry, half: int) -> NDArray[np.float64]:
    parts = [op.measured[half, entry.row] for op in entry.ops if op.measured is not None]
    if not parts:  # stopped before its first edit
        return np.zeros(len(entry.ops[0].acts))
    return sum(parts[1:], parts[0]).sqrt().cpu().numpy()


def log_of(edits: Edits, lines: Edited, guidance: float | None) -> pd.DataFrame:
    """One line for each row, intervention and half."""
    entries = {(entry.row, entry.index): entry.item for entry in edits.entries}
    described: dict[int, str] = {}
    step, seconds = edits.timeline.step, edits.timeline.seconds
    rows = []
    for row, index, half, positions, moved in lines:
        item = entries[row, index]
        if id(item) not in described:
            described[id(item)] = item.describe()
        some = len(positions) > 0
        generated = int((step[positions] >= 0).sum())
        rows.append(
            (
                row,
                index,
                half,
                type(item).__name__,
                described[id(item)],
                len(item.sites),
                generated + int(generated < len(positions)),
                len(positions),
                int(step[positions[0]]) if some else None,
                int(step[positions[-1]]) if some else None,
                float(seconds[positions[0]]) if some else np.nan,
                float(seconds[positions[-1]]) if some else np.nan,
                float(moved.mean()) if some else 0.0,
                float(moved.max()) if some else 0.0,
                np.nan if guidance is None else guidance,
            )
        )
    return pd.DataFrame(rows, columns=list(LOG_COLUMNS)).astype(LOG_COLUMNS)


def monitor_of(edits: Edits) -> pd.DataFrame:
    """One line for each self-monitored row, intervention and step."""
    monitor = edits.monitor
    if monitor is None:
        return pd.DataFrame(columns=MONITOR_COLUMNS)
    trace, decided, gates = (t.cpu().numpy() for t in (monitor.trace, monitor.decided, monitor.gates))
    tau = monitor.tau.cpu().numpy()
    frames = []
    ears = {id(entry.item): entry.item.ears for entry in edits.entries if entry.unit}
    for entry in edits.entries:
        ear = ears.get(id(entry.item))
        if ear is None or entry.stage < 0:
            continue
        read = np.flatnonzero(np.isfinite(trace[entry.unit]))
        frames.append(
            pd.DataFrame(
                {
                    "row": entry.row,
                    "intervention": entry.index,
                    "trait": ear.trait,
                    "step": edits.timeline.step[read],
                    "seconds": edits.timeline.seconds[read],
                    "C": trace[entry.unit, read],
                    "decided_on": decided[entry.unit, read],
                    "tau": tau[entry.unit],
                    "factor": gates[entry.unit, read],
                    "acted": gates[entry.unit, read] != 0,
                    "clean": ear.clean,
                }
            )
        )
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=MONITOR_COLUMNS)
