"""Edits of a whole batch at one place: every row its own numbers and schedule, no loop over rows.

An operation holds one tensor of parameters per row and a *factor* per row and position. Where the factor is zero, and
at heads that an intervention does not name, the activation stays as it is, to the bit. Positions are counted from the
first of the clip, see :class:`Timeline`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from interp.sites import Kind

__all__ = ["FormulaOp", "Half", "Key", "Op", "Rows", "ShiftOp", "Table", "Timeline", "full_precision"]

Key = tuple[Kind, int]
"""Kind of site and layer: a tensor that an engine hands over in one piece."""

Half = Literal["both", "cond", "uncond"]
"""Which rows a call has: the conditional ones, the unconditional ones, or the former followed by the latter."""

Formula = Callable[[Tensor, Tensor, Mapping[str, Tensor]], Tensor]


@dataclass(frozen=True)
class Timeline:
    """Positions of a clip, from the first to the last that any call feeds.

    Attributes
    ----------
    prompt : int
        Frames of the audio prompt; positions before it are prompt positions.
    positions : int
        How many there are.
    frame_rate : float
        Frames per second.

    Examples
    --------
    >>> Timeline(2, 5, 50.0).step.tolist()
    [-2, -1, 0, 1, 2]
    """

    prompt: int
    positions: int
    frame_rate: float

    @property
    def step(self) -> NDArray[np.int64]:
        """0 at the first generated position, negative before."""
        return np.arange(self.positions, dtype=np.int64) - self.prompt

    @property
    def seconds(self) -> NDArray[np.float64]:
        """Time of the frame (of the first codebook) that a position writes."""
        return np.arange(self.positions) / self.frame_rate


@dataclass
class Rows:
    """Which rows an operation concerns and how strongly at each position.

    Attributes
    ----------
    table : Tensor
        Factors ``[schedules, positions]``; schedule 0 is all zeros.
    index : Tensor
        Schedule of each row, ``[rows]``.
    cond, uncond : Tensor
        1.0 where the row's conditional (unconditional) half is edited, ``[rows]``.
    """

    table: Tensor
    index: Tensor
    cond: Tensor
    uncond: Tensor

    def halves(self, half: Half) -> Tensor:
        """Mask of the rows of a call, ``[rows of the call]``."""
        if half == "both":
            return torch.cat([self.cond, self.uncond])
        return self.cond if half == "cond" else self.uncond

    def factors(self, start: int, stop: int, half: Half) -> Tensor:
        """Factors ``[rows of the call, positions]``."""
        values = self.table[self.index, start:stop]
        if half == "both":
            values = torch.cat([values, values])
        return values * self.halves(half)[:, None]

    def any_at(self) -> NDArray[np.bool_]:
        """Whether any row has a factor other than zero, at each position."""
        used = self.table[torch.unique(self.index)]
        return np.asarray((used != 0).any(0).cpu().numpy())


def full_precision(device: torch.device) -> torch.autocast:
    """A context in which float32 stays float32, whatever precision the model runs in."""
    return torch.autocast(device.type, enabled=False)


def _twice(x: Tensor, half: Half) -> Tensor:
    return torch.cat([x, x]) if half == "both" else x


def _padded(x: Tensor, n: int) -> Tensor:
    """Zeros below, up to ``n`` rows."""
    return x if len(x) == n else torch.cat([x, x.new_zeros(n - len(x), *x.shape[1:])])


class Op:
    """One vectorised edit at one place.

    Parameters
    ----------
    acts : array of bool, (positions,)
        Where some row may have a factor other than zero.
    """

    padding = False
    """Whether :meth:`apply` takes rows beyond the batch's (an engine's padding) and leaves them alone."""

    def __init__(self, acts: NDArray[np.bool_]) -> None:
        self.acts = acts
        # sum of squared displacements [halves, rows, positions], for the log, where they do not follow from parameters
        self.measured: Tensor | None = None

    def apply(self, x: Tensor, start: int, half: Half) -> Tensor:
        """Edit ``x [rows, positions, width]``, which begins at position ``start``; returns a new tensor."""
        raise NotImplementedError


class ShiftOp(Op):
    """Add a sum of shifts, each with its own schedule.

    Parameters
    ----------
    slots : list of (Rows, shift)
        Shifts ``[rows, width]``.
    acts : array of bool, (positions,)
    live : bool
        Whether factors are written as the run goes on (by a monitor), so that nothing can be kept.
    """

    padding = True

    def __init__(self, slots: list[tuple[Rows, Tensor]], acts: NDArray[np.bool_], live: bool) -> None:
        super().__init__(acts)
        self.slots, self.live = slots, live
        if not live:
            used = torch.unique(torch.cat([rows.index for rows, _ in slots]))
            stacked = slots[0][0].table[used].cpu().numpy()
            # positions of the same factors share their summed shift: constant and periodic schedules cost one addition
            self._column = np.unique(stacked, axis=1, return_inverse=True)[1].reshape(-1)
        self._cache: dict[tuple[int, Half, int], Tensor] = {}

    def apply(self, x: Tensor, start: int, half: Half) -> Tensor:
        stop = start + x.shape[1]
        if not self.acts[start:stop].any():
            return x
        if self.live or x.shape[1] > 1:
            return x + _padded(self._shift(start, stop, half, x.dtype), len(x))
        key = (int(self._column[start]), half, len(x))
        shift = self._cache.get(key)
        if shift is None:
            if len(self._cache) >= 4:
                self._cache.pop(next(iter(self._cache)))
            shift = self._cache[key] = _padded(self._shift(start, stop, half, x.dtype), len(x))
        return x + shift

    def _shift(self, start: int, stop: int, half: Half, dtype: torch.dtype) -> Tensor:
        total: Tensor | None = None
        for rows, shift in self.slots:
            part = rows.factors(start, stop, half)[:, :, None] * _twice(shift, half)[:, None]
            total = part if total is None else total + part
        assert total is not None
        return total.to(dtype)


@dataclass
class Table:
    """A parameter with a choice for each step.

    Attributes
    ----------
    entries : Tensor
        ``[n, ...]``.
    index : Tensor
        Which entry each row takes, ``[rows, positions, groups]``; negative for none.
    """

    entries: Tensor
    index: Tensor


class FormulaOp(Op):
    """Apply a formula, head by head where the place is one of heads.

    Parameters
    ----------
    edit : callable
        See :meth:`interp.steering.Intervention.edit`.
    rows : Rows
    acts : array of bool, (positions,)
    touched : Tensor
        Which groups of which rows are edited, bool ``[rows, groups]``.
    parameters : mapping of str to Tensor
        ``[rows, groups, ...]``.
    tables : mapping of str to Table
    own : bool
        Hand over the touched rows and groups alone; they touch the same groups.
    """

    def __init__(
        self,
        edit: Formula,
        rows: Rows,
        acts: NDArray[np.bool_],
        touched: Tensor,
        parameters: Mapping[str, Tensor],
        tables: Mapping[str, Table],
        own: bool,
    ) -> None:
        super().__init__(acts)
        self.formula, self.rows, self.touched = edit, rows, touched
        self.parameters, self.tables = dict(parameters), dict(tables)
        self.own = own
        self.columns = touched.any(0).nonzero()[:, 0]
        self._members: dict[Half, Tensor] = {}

    def apply(self, x: Tensor, start: int, half: Half) -> Tensor:
        stop = start + x.shape[1]
        if not self.acts[start:stop].any():
            return x
        with full_precision(x.device):
            before = x.view(*x.shape[:2], self.touched.shape[1], -1).float()
            factor = self.rows.factors(start, stop, half)[:, :, None, None]
            p = {name: _twice(value, half)[:, None] for name, value in self.parameters.items()}
            moves = (factor != 0) & _twice(self.touched, half)[:, None, :, None]
            for name, table in self.tables.items():
                index = _twice(table.index[:, start:stop], half)
                p[name] = table.entries[index.clamp(min=0)]
                moves = moves & (index >= 0)[..., None]
            after = self._own(before, factor, p, half) if self.own else self.formula(before.clone(), factor, p)
            after = torch.where(moves, after, before)
            self._measure(before, after, start, half)
        return after.to(x.dtype).reshape(x.shape)

    def _own(self, before: Tensor, factor: Tensor, p: Mapping[str, Tensor], half: Half) -> Tensor:
        if half not in self._members:
            concerned = _twice(self.rows.index, half).ne(0) & self.rows.halves(half).ne(0)
            self._members[half] = concerned.nonzero()[:, 0]
        rows = self._members[half]
        after = before.clone()
        if len(rows):
            h = before[rows][:, :, self.columns]
            part = {name: value[rows][:, :, self.columns] for name, value in p.items()}
            changed = self.formula(h, factor[rows], part)
            steps = torch.arange(before.shape[1], device=before.device)
            after[rows[:, None, None], steps[:, None], self.columns] = changed
        return after

    def _measure(self, before: Tensor, after: Tensor, start: int, half: Half) -> None:
        n = len(self.rows.index)
        if self.measured is None:
            self.measured = torch.zeros(2, n, len(self.acts), device=before.device)
        moved = (after - before).pow(2).sum((-1, -2))
        stop = start + before.shape[1]
        if half in ("both", "cond"):
            self.measured[0, :, start:stop] = moved[:n]
        if half in ("both", "uncond"):
            self.measured[1, :, start:stop] = moved[-n:]
