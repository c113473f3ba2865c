"""From the interventions of many rows to a few batched edits: what a decoding engine applies at every place."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from interp.errors import InterventionError
from interp.sites import KINDS, ModelShape
from interp.steering._ops import (
    AddOp,
    ClampOp,
    EraseOp,
    Half,
    InterpolateOp,
    Key,
    Op,
    ReplaceOp,
    Rows,
    SmitinOp,
    Timeline,
)
from interp.steering._parameters import PARAMETERS, replacements
from interp.steering.interventions import Ablate, Add, Clamp, Interpolate, Intervention, Swap
from interp.steering.interventions.smitin import Smitin
from interp.steering.monitor import Monitor

__all__ = ["Entry", "Plan"]


@dataclass
class Entry:
    """One intervention of one row, with what became of it.

    Attributes
    ----------
    row, index : int
        Row of the batch, and place of the intervention among the row's.
    item : Intervention
    schedule : int
        Row of the plan's table of factors.
    stage : int
        Order of application within the row.
    """

    row: int
    index: int
    item: Intervention
    schedule: int
    stage: int = 0
    unit: int = 0
    ops: list[Op] = field(default_factory=list)


class Plan:
    """All edits of a batch.

    Parameters
    ----------
    rows : sequence of sequences of Intervention
        The interventions of each row, already checked against the model.
    seeds : sequence of int
        Seed of each row, for resample ablation.
    shape : ModelShape
    timeline : Timeline
    guided : bool
        Whether there are unconditional rows.
    device : torch.device

    Attributes
    ----------
    keys : list of (kind, layer)
        Places where :meth:`apply` must be called, in forward order.
    monitor : Monitor or None
        The self-monitors of the batch.

    Raises
    ------
    InterventionError
        If an intervention cannot touch any call.
    """

    def __init__(
        self,
        rows: Sequence[Sequence[Intervention]],
        seeds: Sequence[int],
        shape: ModelShape,
        timeline: Timeline,
        guided: bool,
        device: torch.device | str = "cpu",
    ) -> None:
        self.n, self.shape, self.timeline, self.guided = len(rows), shape, timeline, guided
        self.device, self.seeds = torch.device(device), list(seeds)
        self._factors: list[NDArray[np.float64]] = [np.zeros(timeline.positions)]
        self._factor_ids: dict[Any, int] = {}
        self.entries: list[Entry] = []
        for row, items in enumerate(rows):
            self._enter(row, items)
        self.table = torch.tensor(np.stack(self._factors), dtype=torch.float32, device=self.device)
        self._made: dict[tuple[int, str], dict[Key, list[tuple[int, NDArray[Any]]]]] = {}
        self.monitor: Monitor | None = None
        smitin = [entry for entry in self.entries if isinstance(entry.item, Smitin)]
        if smitin:
            self.monitor = Monitor(smitin, np.stack(self._factors), timeline, shape, self.device)
        self._ops: dict[Key, list[Op]] = {}
        self._build()
        self._tap: Callable[[Key, Tensor, int, Half], None] | None = None
        self.keys: list[Key] = []
        self.listen(None, [])

    # Building ------------------------------------------------------------------------------------------------

    def _enter(self, row: int, items: Sequence[Intervention]) -> None:
        stage, was_additive = -1, False
        for index, item in enumerate(items):
            schedule = self._schedule(item)
            if not item.active:
                self.entries.append(Entry(row, index, item, 0, stage=-1))
                continue
            if item.rows == "uncond" and not self.guided:
                raise InterventionError(
                    f"an intervention on unconditional rows touches no call, because there are none without guidance: "
                    f"{item.describe()}."
                )
            if schedule == 0:
                raise InterventionError(self._untouched(item))
            additive = isinstance(item, Add | Smitin)
            stage += not (additive and was_additive)
            was_additive = additive
            self.entries.append(Entry(row, index, item, schedule, stage=stage))

    def _untouched(self, item: Intervention) -> str:
        time = self.timeline
        if item.on == "prompt" and time.prompt == 0:
            return f"an intervention on prompt steps needs an audio prompt, and this row has none: {item.describe()}."
        length = time.seconds[-1]
        return f"an intervention touches no call of a clip of {length:.2f} s: {item.describe()}."

    def _schedule(self, item: Intervention) -> int:
        """Row of the factor table for this item; 0 if it is zero everywhere."""
        swap = (item.first, max(len(s.values) for s in item.source)) if isinstance(item, Swap) else None
        key = (item.schedule, item.window, item.on, swap)
        if key in self._factor_ids:
            return self._factor_ids[key]
        time = self.timeline
        step, seconds = time.step, time.seconds
        factors = np.array(item.schedule(step, seconds))
        if item.on != "all":
            factors[(step < 0) != (item.on == "prompt")] = 0
        if item.window is not None:
            start, stop = item.window
            factors[(seconds < start - 1e-9) | (seconds >= stop - 1e-9)] = 0
        if swap is not None:
            factors[(step < swap[0]) | (step >= swap[0] + swap[1])] = 0
        if not factors.any():
            self._factor_ids[key] = 0
        else:
            self._factor_ids[key] = len(self._factors)
            self._factors.append(factors)
        return self._factor_ids[key]

    def _rows(self, entries: Sequence[Entry], table: Tensor | None = None) -> Rows:
        index = torch.zeros(self.n, dtype=torch.long)
        cond, uncond = torch.zeros(self.n), torch.zeros(self.n)
        for entry in entries:
            index[entry.row] = entry.schedule if table is None else entry.unit
            cond[entry.row] = float(entry.item.rows != "uncond")
            uncond[entry.row] = float(entry.item.rows != "cond")
        d = self.device
        return Rows(self.table if table is None else table, index.to(d), cond.to(d), uncond.to(d))

    def _build(self) -> None:
        stages: dict[int, list[Entry]] = defaultdict(list)
        for entry in self.entries:
            if entry.stage >= 0:
                stages[entry.stage].append(entry)
        for stage in sorted(stages):
            by_type: dict[str, list[Entry]] = defaultdict(list)
            for entry in stages[stage]:
                by_type[_family(entry.item)].append(entry)
            for family in sorted(by_type):
                getattr(self, f"_build_{family}")(by_type[family])

    def _add(self, key: Key, op: Op, entries: Sequence[Entry]) -> None:
        self._ops.setdefault(key, []).append(op)
        for entry in entries:
            entry.ops.append(op)

    def _groups(self, key: Key) -> tuple[int, int]:
        """Number of groups at a place and the width of one."""
        if key[0] in ("heads", "cross_heads"):
            return self.shape.n_heads, self.shape.head_dim
        return 1, self.shape.width

    def _gather(self, key: Key, entries: Sequence[Entry], what: str, fill: float = 0.0) -> Tensor:
        """Parameters ``[rows, groups, ...]`` of a place; worked out once for each different item.

        ``what`` names one of the functions in ``_PARAMETERS``; groups and rows without one get ``fill``.
        """
        groups, _ = self._groups(key)
        made: dict[int, int] = {}
        blocks: list[NDArray[Any]] = []
        index = np.zeros(self.n, dtype=np.int64)
        for entry in entries:
            if id(entry.item) not in made:
                values = self._parameters(entry.item, what)[key]
                block = np.full((groups, *np.max([np.shape(v) for _, v in values], axis=0).astype(int)), fill)
                for group, value in values:
                    part = (group, *(slice(0, size) for size in value.shape))
                    block[part] = value if fill else block[part] + value  # type: ignore[index]  # a valid index
                made[id(entry.item)] = len(blocks) + 1
                blocks.append(block)
            index[entry.row] = made[id(entry.item)]
        full = np.full((len(blocks) + 1, *np.max([block.shape for block in blocks], axis=0)), fill)
        for i, block in enumerate(blocks):
            full[(i + 1, *(slice(0, size) for size in block.shape))] = block  # type: ignore[index]  # a valid index
        return torch.tensor(full, dtype=torch.float32, device=self.device)[torch.tensor(index, device=self.device)]

    def _parameters(self, item: Any, what: str) -> dict[Key, list[tuple[int, NDArray[Any]]]]:
        cached = self._made.get((id(item), what))
        if cached is None:
            cached = defaultdict(list)
            for site, value in PARAMETERS[what](item):
                cached[site.kind, site.layer].append((site.head or 0, np.asarray(value)))
            self._made[id(item), what] = cached
        return cached

    def _at(self, entries: Sequence[Entry]) -> dict[Key, list[Entry]]:
        places: dict[Key, list[Entry]] = defaultdict(list)
        cache: dict[int, set[Key]] = {}
        for entry in entries:
            if id(entry.item) not in cache:
                cache[id(entry.item)] = {(site.kind, site.layer) for site in entry.item.sites}
            for key in cache[id(entry.item)]:
                places[key].append(entry)
        return places

    def _slots(self, entries: Sequence[Entry]) -> list[list[Entry]]:
        """Distribute additive entries over slots, one entry a row in each."""
        slots: list[list[Entry]] = []
        seen: dict[int, int] = defaultdict(int)
        for entry in entries:
            if seen[entry.row] == len(slots):
                slots.append([])
            slots[seen[entry.row]].append(entry)
            seen[entry.row] += 1
        return slots

    def _build_add(self, entries: list[Entry]) -> None:
        for key, there in self._at(entries).items():
            slots = [
                (self._rows(part), self._gather(key, part, "displacement").flatten(1)) for part in self._slots(there)
            ]
            self._add(key, AddOp(slots), there)

    def _build_smitin(self, entries: list[Entry]) -> None:
        assert self.monitor is not None
        for key, there in self._at(entries).items():
            slots = [
                (
                    self._rows(part, self.monitor.gates),
                    self._gather(key, part, "displacement").flatten(1),
                )
                for part in self._slots(there)
            ]
            self._add(key, SmitinOp(slots, self.monitor.acts), there)

    def _build_interpolate(self, entries: list[Entry]) -> None:
        for key, there in self._at(entries).items():
            strength, vector = self._gather(key, there, "strength"), self._gather(key, there, "vector")
            self._add(key, InterpolateOp(self._rows(there), strength, vector), there)

    def _build_clamp(self, entries: list[Entry]) -> None:
        for key, there in self._at(entries).items():
            low, high = self._gather(key, there, "low", -np.inf), self._gather(key, there, "high", np.inf)
            self._add(key, ClampOp(self._rows(there), self._gather(key, there, "vector"), low, high), there)

    def _build_erase(self, entries: list[Entry]) -> None:
        for key, there in self._at(entries).items():
            mean, left, right = (self._gather(key, there, what) for what in ("mean", "left", "right"))
            self._add(key, EraseOp(self._rows(there), mean, left, right), there)

    def _build_replace(self, entries: list[Entry]) -> None:
        for key, there in self._at(entries).items():
            groups, width = self._groups(key)
            pool: list[NDArray[Any]] = [np.zeros((1, width))]
            filled, offsets = 1, {}
            index = np.full((self.n, self.timeline.positions, groups), -1, dtype=np.int64)
            for entry in there:
                for site, values in replacements(entry.item, width):
                    if (site.kind, site.layer) != key:
                        continue
                    if (id(entry.item), site) not in offsets:
                        offsets[id(entry.item), site] = filled
                        pool.append(values)
                        filled += len(values)
                    chosen = self._choose(entry, len(values))
                    index[entry.row, :, site.head or 0] = np.where(
                        chosen < 0, -1, chosen + offsets[id(entry.item), site]
                    )
            at = torch.tensor(index, device=self.device)
            values_pool = torch.tensor(np.concatenate(pool), dtype=torch.float32, device=self.device)
            op = ReplaceOp(self._rows(there), values_pool, lambda a, b, at=at: at[:, a:b], groups)  # type: ignore[misc]
            self._add(key, op, there)

    def _choose(self, entry: Entry, n: int) -> NDArray[np.int64]:
        """Which of ``n`` values goes to each position, negative for none."""
        step = self.timeline.step
        if isinstance(entry.item, Swap):
            at = step - entry.item.first
            return np.where((at >= 0) & (at < n), at, -1)
        if n == 1:
            return np.zeros_like(step)
        # drawn per position from the row's seed alone: twins of one seed get the same draws, whatever their batch
        draws = np.random.default_rng([abs(self.seeds[entry.row]), entry.index, 7]).random(len(step))
        return np.asarray((draws * n).astype(np.int64))

    # Running -------------------------------------------------------------------------------------------------

    def listen(self, tap: Callable[[Key, Tensor, int, Half], None] | None, keys: Sequence[Key]) -> None:
        """Have ``tap(key, x, start, half)`` called with the edited activation of some places."""
        self._tap = tap
        every = {*self._ops, *(self.monitor.keys if self.monitor else ()), *keys}
        self.keys = sorted(every, key=lambda k: (k[1], KINDS.index(k[0])))

    def touches(self, start: int, stop: int) -> bool:
        """Whether any edit, or any ear of a monitor, falls on these positions."""
        if self._tap is not None or (self.monitor is not None and stop >= self.timeline.prompt):
            return True
        return any(op.any_at[start:stop].any() for ops in self._ops.values() for op in ops)

    def takes_padding(self, key: Key) -> bool:
        """Whether :meth:`apply` there leaves rows beyond the plan's alone, so that nobody need cut them off."""
        return self._tap is None and all(isinstance(op, AddOp | SmitinOp) for op in self._ops.get(key, ()))

    def begin(self, position: int | None) -> None:
        """Announce the call that samples at one position; monitors decide about it (None: a prompt is fed)."""
        if self.monitor is not None:
            self.monitor.decide(position)

    def apply(self, key: Key, x: Tensor, start: int, half: Half) -> Tensor:
        """Read and edit the activation at a place.

        Parameters
        ----------
        key : (kind, layer)
        x : Tensor
            ``[rows, positions, width]``; under guidance in one call, conditional rows first.
        start : int
            Position of ``x[:, 0]``.
        half : {"both", "cond", "uncond"}
            Which rows ``x`` has.

        Returns
        -------
        Tensor
            Edited, or ``x`` itself where nothing is to be done.
        """
        if self.monitor is not None and half != "uncond":
            self.monitor.hear(key, x[: self.n, -1])
        for op in self._ops.get(key, ()):
            x = op.apply(x, start, half)
        if self._tap is not None:
            self._tap(key, x, start, half)
        return x

    def end(self) -> None:
        """The call is over: monitors draw their conclusion."""
        if self.monitor is not None:
            self.monitor.conclude()


def _family(item: Intervention) -> str:
    if isinstance(item, Add):
        return "add"
    if isinstance(item, Smitin):
        return "smitin"
    if isinstance(item, Interpolate):
        return "interpolate"
    if isinstance(item, Clamp):
        return "clamp"
    if isinstance(item, Ablate):
        return "erase" if item.how in ("project", "leace") else "replace"
    if isinstance(item, Swap):
        return "replace"
    raise InterventionError(f"no engine knows how to apply {type(item).__name__}.")
