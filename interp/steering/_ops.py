"""Edits of a whole batch at one place: every row its own direction, strength and schedule, no loop over rows.

An operation holds one tensor of parameters per row (neutral for rows it does not concern) and a *factor* per row and
position. Positions are counted from the first of the clip, see :class:`Timeline`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from interp.sites import Kind

__all__ = [
    "AddOp",
    "ClampOp",
    "EraseOp",
    "InterpolateOp",
    "Key",
    "Op",
    "ReplaceOp",
    "Rows",
    "SmitinOp",
    "Timeline",
]

Key = tuple[Kind, int]
"""Kind of site and layer: a tensor that an engine hands over in one piece."""

Half = Literal["both", "cond", "uncond"]
"""Which rows a call has: the conditional ones, the unconditional ones, or the former followed by the latter."""


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


class Op:
    """Base: one vectorised edit at one place."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.any_at = rows.any_at()
        # sum of squared displacements, per half, row and position, for the log
        self.measured: Tensor | None = None

    def apply(self, x: Tensor, start: int, half: Half) -> Tensor:
        """Edit ``x [rows, positions, width]``, which begins at position ``start``; returns a new tensor."""
        stop = start + x.shape[1]
        if not self.any_at[start:stop].any():
            return x
        factors = self.rows.factors(start, stop, half)
        edited = self.edit(x, factors, start, half)
        self.measure(x, edited, start, half)
        return edited

    def edit(self, x: Tensor, factors: Tensor, start: int, half: Half) -> Tensor:
        raise NotImplementedError

    def measure(self, x: Tensor, edited: Tensor, start: int, half: Half) -> None:
        n = len(self.rows.index)
        if self.measured is None:
            self.measured = torch.zeros(2, n, self.rows.table.shape[1], device=x.device)
        moved = (edited - x).float().pow(2).sum(-1)
        stop = start + x.shape[1]
        if half in ("both", "cond"):
            self.measured[0, :, start:stop] = moved[:n]
        if half in ("both", "uncond"):
            self.measured[1, :, start:stop] = moved[-n:]


def _twice(x: Tensor, half: Half) -> Tensor:
    return torch.cat([x, x]) if half == "both" else x


def _padded(x: Tensor, n: int) -> Tensor:
    """Zeros below, up to ``n`` rows."""
    return x if len(x) == n else torch.cat([x, x.new_zeros(n - len(x), *x.shape[1:])])


class AddOp(Op):
    """Add a sum of shifts, each with its own schedule.

    Parameters
    ----------
    slots : list of (Rows, shift)
        Shifts ``[rows, width]``.
    """

    def __init__(self, slots: list[tuple[Rows, Tensor]]) -> None:
        super().__init__(slots[0][0])
        self.slots = slots
        self.any_at = np.logical_or.reduce([rows.any_at() for rows, _ in slots])
        used = torch.unique(torch.cat([rows.index for rows, _ in slots]))
        stacked = slots[0][0].table[used].cpu().numpy()
        # positions with the same factors share their summed shift: constant and periodic schedules cost one addition
        self._column = np.unique(stacked, axis=1, return_inverse=True)[1].reshape(-1)
        self._cache: dict[tuple[int, Half, int], Tensor] = {}

    def apply(self, x: Tensor, start: int, half: Half) -> Tensor:
        """Edit ``x``, which may have more rows at the end (an engine's padding): they are left alone."""
        positions = x.shape[1]
        if not self.any_at[start : start + positions].any():
            return x
        if positions > 1:
            return x + _padded(self._shift(start, start + positions, half, x.dtype), len(x))
        key = (int(self._column[start]), half, len(x))
        shift = self._cache.get(key)
        if shift is None:
            if len(self._cache) >= 4:
                self._cache.pop(next(iter(self._cache)))
            shift = self._cache[key] = _padded(self._shift(start, start + 1, half, x.dtype), len(x))
        return x + shift

    def _shift(self, start: int, stop: int, half: Half, dtype: torch.dtype) -> Tensor:
        total: Tensor | None = None
        for rows, shift in self.slots:
            part = rows.factors(start, stop, half)[:, :, None] * _twice(shift, half)[:, None]
            total = part if total is None else total + part
        assert total is not None
        return total.to(dtype)


class SmitinOp(Op):
    """Add shifts whose factors a monitor writes as the run goes on."""

    def __init__(self, slots: list[tuple[Rows, Tensor]], acts: NDArray[np.bool_]) -> None:
        super().__init__(slots[0][0])
        self.slots = slots
        self.any_at = acts

    def apply(self, x: Tensor, start: int, half: Half) -> Tensor:
        """Edit ``x``, which may have more rows at the end; displacements follow from the monitor's trace."""
        stop = start + x.shape[1]
        if not self.any_at[start:stop].any():
            return x
        for rows, shift in self.slots:
            part = rows.factors(start, stop, half)[:, :, None] * _twice(shift, half)[:, None]
            x = x + _padded(part.to(x.dtype), len(x))
        return x


class _GroupOp(Op):
    """Base of edits that treat every head by itself; other places are one group."""

    def __init__(self, rows: Rows, groups: int) -> None:
        super().__init__(rows)
        self.groups = groups

    def edit(self, x: Tensor, factors: Tensor, start: int, half: Half) -> Tensor:
        h = x.view(*x.shape[:2], self.groups, -1)
        return self.change(h, factors[:, :, None, None].to(x.dtype), start, half).reshape(x.shape)

    def change(self, h: Tensor, factor: Tensor, start: int, half: Half) -> Tensor:
        """Edit ``h [rows, positions, groups, dim]`` with ``factor [rows, positions, 1, 1]``."""
        raise NotImplementedError


class InterpolateOp(_GroupOp):
    """``(h + s |h| v) / (1 + s)``; ``strength [rows, groups]``, ``vector [rows, groups, dim]``."""

    def __init__(self, rows: Rows, strength: Tensor, vector: Tensor) -> None:
        super().__init__(rows, strength.shape[1])
        self.strength, self.vector = strength, vector

    def change(self, h: Tensor, factor: Tensor, start: int, half: Half) -> Tensor:
        s = factor * _twice(self.strength, half)[:, None, :, None].to(h.dtype)
        v = _twice(self.vector, half)[:, None].to(h.dtype)
        return (h + s * h.norm(dim=-1, keepdim=True) * v) / (1 + s)


class ClampOp(_GroupOp):
    """Move the projection on ``vector [rows, groups, dim]`` into ``[low, high]``, each ``[rows, groups]``."""

    def __init__(self, rows: Rows, vector: Tensor, low: Tensor, high: Tensor) -> None:
        super().__init__(rows, vector.shape[1])
        self.vector, self.low, self.high = vector, low, high

    def change(self, h: Tensor, factor: Tensor, start: int, half: Half) -> Tensor:
        v = _twice(self.vector, half)[:, None].to(h.dtype)
        low = _twice(self.low, half)[:, None, :, None].to(h.dtype)
        high = _twice(self.high, half)[:, None, :, None].to(h.dtype)
        at = (h * v).sum(-1, keepdim=True)
        return h + factor * (torch.minimum(torch.maximum(at, low), high) - at) * v


class EraseOp(_GroupOp):
    """``h - left (right (h - mean))``; ``left [rows, groups, dim, k]``, ``right [rows, groups, k, dim]``."""

    def __init__(self, rows: Rows, mean: Tensor, left: Tensor, right: Tensor) -> None:
        super().__init__(rows, mean.shape[1])
        self.mean, self.left, self.right = mean, left, right

    def change(self, h: Tensor, factor: Tensor, start: int, half: Half) -> Tensor:
        mean, left, right = (_twice(t, half)[:, None].to(h.dtype) for t in (self.mean, self.left, self.right))
        read = right @ (h - mean)[..., None]
        return h - factor * (left @ read)[..., 0]


class ReplaceOp(_GroupOp):
    """Put given activations in place.

    Parameters
    ----------
    rows : Rows
    pool : Tensor
        All the activations, ``[n, dim]``.
    where : callable
        ``where(start, stop)`` gives the index into the pool ``[rows, positions, groups]``, negative to leave alone.
    groups : int
    """

    def __init__(self, rows: Rows, pool: Tensor, where: Callable[[int, int], Tensor], groups: int) -> None:
        super().__init__(rows, groups)
        self.pool, self.where = pool, where

    def change(self, h: Tensor, factor: Tensor, start: int, half: Half) -> Tensor:
        index = _twice(self.where(start, start + h.shape[1]), half)[..., None]
        value = self.pool[index[..., 0].clamp(min=0)].to(h.dtype)
        share = torch.where(index >= 0, factor.expand_as(h[..., :1]), torch.zeros((), dtype=h.dtype, device=h.device))
        # the full value exactly where the factor is 1, nothing at all where it is 0
        mixed = h + share * (value - h)
        return torch.where(share == 1, value, torch.where(share == 0, h, mixed))
