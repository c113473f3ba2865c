"""From the interventions of many rows to a few batched edits: what a decoding engine applies at every place."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from interp.errors import InterventionError
from interp.sites import KINDS, ModelShape
from interp.steering.interventions import Intervention
from interp.steering.monitor import Monitor
from interp.steering.ops import FormulaOp, Half, Key, Op, Rows, ShiftOp, Table, Timeline

__all__ = ["Edits", "Entry", "Tap"]

Tap = Callable[[Key, Tensor, int, Half], None]
"""Called with a place, its edited activation ``[rows, positions, width]``, the first position, which rows it has."""


@dataclass
class Entry:
    """One intervention of one row, with what became of it.

    Attributes
    ----------
    row, index : int
        Row of the batch, and place of the intervention among the row's.
    item : Intervention
    schedule : int
        Row of the table of factors.
    stage : int
        Order of application within the row; negative if it does nothing.
    unit : int
        Of the monitor, if it listens; else 0.
    ops : list of Op
        The operations it went into.
    """

    row: int
    index: int
    item: Intervention
    schedule: int
    stage: int = 0
    unit: int = 0
    ops: list[Op] = field(default_factory=list)


class Edits:
    """All edits of a batch.

    Parameters
    ----------
    rows : sequence of sequences of Intervention
        The interventions of each row, already checked against the model (:mod:`interp.steering.checks`).
    seeds : sequence of int
        Seed of each row, for interventions that draw.
    shape : ModelShape
    timeline : Timeline
    guided : bool
        Whether there are unconditional rows.
    device : torch.device
    dtype : torch.dtype
        Of the activations.

    Attributes
    ----------
    keys : list of (kind, layer)
        Places where :meth:`apply` must be called, in forward order.
    monitor : Monitor or None
        The self-monitors of the batch.

    Raises
    ------
    InterventionError
        If an intervention cannot touch any call, or pushes further than numbers of the dtype go.
    """

    def __init__(
        self,
        rows: Sequence[Sequence[Intervention]],
        seeds: Sequence[int],
        shape: ModelShape,
        timeline: Timeline,
        guided: bool,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.n, self.shape, self.timeline, self.guided = len(rows), shape, timeline, guided
        self.device, self.dtype, self.seeds = torch.device(device), dtype, list(seeds)
        self._factors: list[NDArray[np.float64]] = [np.zeros(timeline.positions)]
        self._factor_ids: dict[Any, int] = {}
        self._checked: set[tuple[int, int]] = set()
        self.entries: list[Entry] = []
        for row, items in enumerate(rows):
            self._enter(row, items)
        table = np.stack(self._factors)
        self.table = torch.tensor(table, dtype=torch.float32, device=self.device)
        self.monitor = self._listen(table)
        self._ops: dict[Key, list[Op]] = {}
        self._build()
        self._taps: list[Tap] = []
        self._tapped: set[Key] = set()
        self.keys: list[Key] = self._places()

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
            if item.additive:
                self._check_reach(item, schedule)
            stage += not (item.additive and was_additive)
            was_additive = item.additive
            self.entries.append(Entry(row, index, item, schedule, stage=stage))

    def _listen(self, table: NDArray[np.float64]) -> Monitor | None:
        ears = {id(entry.item): entry.item.ears for entry in self.entries}
        units = [(entry, ear) for entry in self.entries if (ear := ears[id(entry.item)]) is not None]
        for unit, (entry, _) in enumerate(units, 1):
            entry.unit = unit
        if not units:
            return None
        rows = [entry.row for entry, _ in units]
        factors = table[[entry.schedule for entry, _ in units]]
        return Monitor([ear for _, ear in units], rows, factors, self.timeline, self.shape, self.device)

    def _untouched(self, item: Intervention) -> str:
        time = self.timeline
        if item.on == "prompt" and time.prompt == 0:
            return f"an intervention on prompt steps needs an audio prompt, and this row has none: {item.describe()}."
        length = time.seconds[-1]
        return f"an intervention touches no call of a clip of {length:.2f} s: {item.describe()}."

    def _check_reach(self, item: Intervention, schedule: int) -> None:
        """A push that the dtype cannot hold, or whose square a norm cannot, would turn music into silence or noise."""
        if (id(item), schedule) in self._checked:
            return
        self._checked.add((id(item), schedule))
        peak = float(np.abs(self._factors[schedule]).max())
        for site, values in item.numbers.items():
            shift = values["shift"] * peak
            size = float(np.abs(shift).max())
            length = size * float(np.linalg.norm(shift / size)) if 0 < size < np.inf else size
            limits = torch.finfo(self.dtype).max, torch.finfo(torch.float32).max ** 0.5
            if not (size < limits[0] and length < limits[1]):
                raise InterventionError(
                    f"a push of {length:.3g} at {site} is more than {str(self.dtype).removeprefix('torch.')} "
                    f"activations can take: push less far; {item.describe()}."
                )

    def _schedule(self, item: Intervention) -> int:
        """Row of the factor table for this item; 0 if it is zero everywhere."""
        key = (item.schedule, item.window, item.on, item.span)
        if key in self._factor_ids:
            return self._factor_ids[key]
        step, seconds = self.timeline.step, self.timeline.seconds
        factors = np.array(item.schedule(step, seconds))
        if item.on != "all":
            factors[(step < 0) != (item.on == "prompt")] = 0
        if item.window is not None:
            start, stop = item.window
            factors[(seconds < start - 1e-9) | (seconds >= stop - 1e-9)] = 0
        if item.span is not None:
            factors[(step < item.span[0]) | (step >= item.span[1])] = 0
        if not factors.any():
            self._factor_ids[key] = 0
        else:
            self._factor_ids[key] = len(self._factors)
            self._factors.append(factors)
        return self._factor_ids[key]

    def _build(self) -> None:
        stages: dict[int, list[Entry]] = defaultdict(list)
        for entry in self.entries:
            if entry.stage >= 0:
                stages[entry.stage].append(entry)
        for stage in sorted(stages):
            families: dict[Hashable, list[Entry]] = defaultdict(list)
            for entry in stages[stage]:
                live = entry.unit > 0
                # all additive edits of a stage are one sum, whatever their class
                family = ("shift", live) if entry.item.additive else (entry.item.family, live)
                families[family].append(entry)
            for entries in sorted(families.values(), key=lambda part: part[0].unit > 0):
                for key, there in self._at(entries).items():
                    op = self._shift(key, there) if there[0].item.additive else self._formula(key, there)
                    self._ops.setdefault(key, []).append(op)
                    for entry in there:
                        entry.ops.append(op)

    def _at(self, entries: Sequence[Entry]) -> dict[Key, list[Entry]]:
        places: dict[Key, list[Entry]] = defaultdict(list)
        cache: dict[int, set[Key]] = {}
        for entry in entries:
            if id(entry.item) not in cache:
                cache[id(entry.item)] = {(site.kind, site.layer) for site in entry.item.sites}
            for key in cache[id(entry.item)]:
                places[key].append(entry)
        return places

    def _shift(self, key: Key, entries: Sequence[Entry]) -> Op:
        slots: list[list[Entry]] = []  # one entry a row in each
        seen: dict[int, int] = defaultdict(int)
        for entry in entries:
            if seen[entry.row] == len(slots):
                slots.append([])
            slots[seen[entry.row]].append(entry)
            seen[entry.row] += 1
        shifts = [(self._rows(part), self._gather(key, part, "shift").flatten(1)) for part in slots]
        return ShiftOp(shifts, self._acts([rows for rows, _ in shifts], entries), entries[0].unit > 0)

    def _formula(self, key: Key, entries: Sequence[Entry]) -> Op:
        first, rows = entries[0].item, self._rows(entries)
        groups, _ = self._groups(key)
        heads = {id(entry.item): [head for head, _ in _at_place(entry.item, key)] for entry in entries}
        touched = torch.zeros(self.n, groups, dtype=torch.bool)
        for entry in entries:
            touched[entry.row, heads[id(entry.item)]] = True
        names = list(next(iter(first.numbers.values())))
        parameters = {name: self._gather(key, entries, name) for name in names if name not in first.tables}
        tables = {name: self._table(key, entries, name) for name in names if name in first.tables}
        acts = self._acts([rows], entries)
        return FormulaOp(first.edit, rows, acts, touched.to(self.device), parameters, tables, first.own)

    def _acts(self, rows: Sequence[Rows], entries: Sequence[Entry]) -> NDArray[np.bool_]:
        if entries[0].unit:
            assert self.monitor is not None
            return self.monitor.acts
        return np.logical_or.reduce([part.any_at() for part in rows])

    def _rows(self, entries: Sequence[Entry]) -> Rows:
        index = torch.zeros(self.n, dtype=torch.long)
        cond, uncond = torch.zeros(self.n), torch.zeros(self.n)
        live = entries[0].unit > 0
        for entry in entries:
            index[entry.row] = entry.unit if live else entry.schedule
            cond[entry.row] = float(entry.item.rows != "uncond")
            uncond[entry.row] = float(entry.item.rows != "cond")
        table = self.monitor.gates if live and self.monitor is not None else self.table
        return Rows(table, index.to(self.device), cond.to(self.device), uncond.to(self.device))

    def _groups(self, key: Key) -> tuple[int, int]:
        """Number of groups at a place and the width of one."""
        if key[0] in ("heads", "cross_heads"):
            return self.shape.n_heads, self.shape.head_dim
        return 1, self.shape.width

    def _gather(self, key: Key, entries: Sequence[Entry], name: str) -> Tensor:
        """A parameter ``[rows, groups, ...]``, zeros where there is none; worked out once for each different item."""
        groups, _ = self._groups(key)
        place: dict[int, int] = {}
        blocks: list[dict[int, NDArray[np.float64]]] = []
        index = np.zeros(self.n, dtype=np.int64)
        for entry in entries:
            if id(entry.item) not in place:
                place[id(entry.item)] = len(blocks) + 1
                blocks.append({head: values[name] for head, values in _at_place(entry.item, key)})
            index[entry.row] = place[id(entry.item)]
        shapes = {np.shape(value) or (1,) for block in blocks for value in block.values()}
        full = np.zeros((len(blocks) + 1, groups, *_largest(shapes)))
        for i, block in enumerate(blocks, 1):
            for group, value in block.items():
                part = np.atleast_1d(value)
                whole: tuple[Any, ...] = (i, group, *(slice(0, size) for size in part.shape))
                full[whole] = part
        return torch.tensor(full, dtype=torch.float32, device=self.device)[torch.tensor(index, device=self.device)]

    def _table(self, key: Key, entries: Sequence[Entry], name: str) -> Table:
        groups, _ = self._groups(key)
        values: list[NDArray[np.float64]] = []
        offsets: dict[tuple[int, int], int] = {}
        filled = 0
        index = np.full((self.n, self.timeline.positions, groups), -1, dtype=np.int64)
        for entry in entries:
            for head, numbers in _at_place(entry.item, key):
                part = numbers[name]
                if (id(entry.item), head) not in offsets:
                    offsets[id(entry.item), head] = filled
                    values.append(part)
                    filled += len(part)
                rng = np.random.default_rng([abs(self.seeds[entry.row]), entry.index, 7])
                choice = np.asarray(entry.item.pick(self.timeline.step, len(part), rng))
                index[entry.row, :, head] = np.where(choice < 0, -1, choice + offsets[id(entry.item), head])
        full = np.zeros((filled, *_largest({part.shape[1:] for part in values})))
        at = 0
        for part in values:
            full[(slice(at, at + len(part)), *(slice(0, size) for size in part.shape[1:]))] = part
            at += len(part)
        choices = torch.tensor(full, dtype=torch.float32, device=self.device)
        return Table(choices, torch.tensor(index, device=self.device))

    # Running -------------------------------------------------------------------------------------------------

    def tap(self, tap: Tap, keys: Iterable[Key]) -> None:
        """Have ``tap(key, x, start, half)`` called with the edited activation of these places, and maybe of others."""
        self._taps.append(tap)
        self._tapped |= set(keys)
        self.keys = self._places()

    def _places(self) -> list[Key]:
        every = {*self._ops, *(self.monitor.keys if self.monitor else ()), *self._tapped}
        return sorted(every, key=lambda key: (key[1], KINDS.index(key[0])))

    def touches(self, start: int, stop: int) -> bool:
        """Whether any edit, tap, or reading of a monitor falls on these positions."""
        if self._taps or (self.monitor is not None and stop >= self.timeline.prompt):
            return True
        return any(op.acts[start:stop].any() for ops in self._ops.values() for op in ops)

    def takes_padding(self, key: Key) -> bool:
        """Whether :meth:`apply` there leaves rows beyond the batch's alone, so that nobody need cut them off."""
        return not self._taps and all(op.padding for op in self._ops.get(key, ()))

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
        for tap in self._taps:
            tap(key, x, start, half)
        return x

    def end(self) -> None:
        """The call is over: monitors draw their conclusion."""
        if self.monitor is not None:
            self.monitor.conclude()


def _at_place(item: Intervention, key: Key) -> list[tuple[int, dict[str, NDArray[np.float64]]]]:
    return [(site.head or 0, values) for site, values in item.numbers.items() if (site.kind, site.layer) == key]


def _largest(shapes: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
    """Sizes into which all shapes fit."""
    return tuple(int(size) for size in np.max(list(shapes), axis=0))
