"""What a batch did, for the record: which calls, rows and positions were edited and by how much."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from interp.sites import Site
from interp.steering._ops import Half, Key
from interp.steering.edits import Entry, Plan
from interp.steering.interventions import Add
from interp.steering.interventions.smitin import Smitin

__all__ = [
    "LOG_COLUMNS",
    "MONITOR_COLUMNS",
    "Capture",
    "Edits",
    "batch_edits",
    "batch_log",
    "batch_monitor",
]

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

Edits = list[tuple[int, int, str, NDArray[np.int64], NDArray[np.float64]]]
"""Row, intervention, half, edited positions, and the length of the displacement over all sites at each."""


class Capture:
    """Keeps activations at sites as later layers see them, conditional and unconditional rows apart."""

    def __init__(self, plan: Plan, sites: Sequence[Site]) -> None:
        self.plan, self.sites = plan, tuple(sites)
        self.places: dict[Key, list[Site]] = defaultdict(list)
        for site in sites:
            self.places[site.kind, site.layer].append(site)
        positions = plan.timeline.positions
        self.kept = {
            site: torch.full((2 if plan.guided else 1, plan.n, positions, plan.shape.dim(site.kind)), torch.nan)
            for site in sites
        }
        plan.listen(self.tap, list(self.places))

    def tap(self, key: Key, x: Tensor, start: int, half: Half) -> None:
        """Called with the edited activation ``[rows, positions, width]`` of a place."""
        n, stop = self.plan.n, start + x.shape[1]
        for site in self.places.get(key, ()):
            value = x if site.head is None else x.view(*x.shape[:2], self.plan.shape.n_heads, -1)[:, :, site.head]
            value = value.detach().float().cpu()
            if half in ("both", "cond"):
                self.kept[site][0, :, start:stop] = value[:n]
            if half in ("both", "uncond"):
                self.kept[site][1, :, start:stop] = value[-n:]

    def values(self, frames: int) -> dict[Site, list[Tensor]]:
        """For each site and row, ``[halves, frames, dim]``."""
        return {site: [kept[:, row, :frames] for row in range(self.plan.n)] for site, kept in self.kept.items()}


def batch_edits(plan: Plan) -> Edits:
    """Edited positions and displacements of every intervention of a batch that was run."""
    last = plan.timeline.positions - 1  # the last one is only predicted, never fed
    table = plan.table.cpu().numpy()
    gates = None if plan.monitor is None else plan.monitor.gates.cpu().numpy()
    lengths: dict[int, float] = {}
    found: Edits = []
    for entry in plan.entries:
        for number, half in enumerate(("cond", "uncond") if plan.guided else ("cond",)):
            if entry.item.rows not in ("both", half):
                continue
            if entry.stage < 0:
                found.append((entry.row, entry.index, half, np.zeros(0, dtype=np.int64), np.zeros(0)))
                continue
            if isinstance(entry.item, Smitin):
                assert gates is not None
                factors = gates[entry.unit, :last]
            else:
                factors = table[entry.schedule, :last]
            positions = np.flatnonzero(factors)
            if isinstance(entry.item, Add | Smitin):
                if id(entry.item) not in lengths:
                    lengths[id(entry.item)] = _length(entry.item)
                moved = np.abs(factors[positions]) * lengths[id(entry.item)]
            else:
                moved = _measured(entry, number)[positions]
            found.append((entry.row, entry.index, half, positions, moved.astype(np.float64)))
    return found


def _length(item: Add | Smitin) -> float:
    at: dict[Site, Any] = defaultdict(float)
    for site, shift in item.displacements():
        at[site] = at[site] + shift
    return float(np.sqrt(sum(float(shift @ shift) for shift in at.values())))


def _measured(entry: Entry, half: int) -> NDArray[np.float64]:
    total = sum(op.measured[half, entry.row] for op in entry.ops if op.measured is not None)
    assert isinstance(total, Tensor)
    return total.sqrt().cpu().numpy()


def batch_log(plan: Plan, edits: Edits, guidance: float | None) -> pd.DataFrame:
    """One line for each row, intervention and half."""
    entries = {(entry.row, entry.index): entry.item for entry in plan.entries}
    described: dict[int, str] = {}
    step, seconds = plan.timeline.step, plan.timeline.seconds
    lines = []
    for row, index, half, positions, moved in edits:
        item = entries[row, index]
        if id(item) not in described:
            described[id(item)] = item.describe()
        some = len(positions) > 0
        generated = int((step[positions] >= 0).sum())
        lines.append(
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
    return pd.DataFrame(lines, columns=list(LOG_COLUMNS)).astype(LOG_COLUMNS)


def batch_monitor(plan: Plan) -> pd.DataFrame:
    """One line for each self-monitored row, intervention and step."""
    monitor = plan.monitor
    if monitor is None:
        return pd.DataFrame(columns=MONITOR_COLUMNS)
    trace, decided, gates = (t.cpu().numpy() for t in (monitor.trace, monitor.decided, monitor.gates))
    tau = monitor.tau.cpu().numpy()
    frames = []
    for entry in plan.entries:
        if not isinstance(entry.item, Smitin) or entry.stage < 0:
            continue
        heard = np.flatnonzero(np.isfinite(trace[entry.unit]))
        first = entry.item.directions[0]
        frames.append(
            pd.DataFrame(
                {
                    "row": entry.row,
                    "intervention": entry.index,
                    "trait": f"{'not ' if entry.item.remove else ''}{first.trait}={first.positive}",
                    "step": plan.timeline.step[heard],
                    "seconds": plan.timeline.seconds[heard],
                    "C": trace[entry.unit, heard],
                    "decided_on": decided[entry.unit, heard],
                    "tau": tau[entry.unit],
                    "factor": gates[entry.unit, heard],
                    "acted": gates[entry.unit, heard] != 0,
                    "clean": entry.item.clean,
                }
            )
        )
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=MONITOR_COLUMNS)
