"""Activations pooled while music is generated, conditional and unconditional rows apart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from interp.model import MusicGen
from interp.pooling import Pooling
from interp.sites import Kind, Site
from interp.steering._ops import Half, Key
from interp.steering.edits import Plan

__all__ = ["PooledCapture"]


class PooledCapture:
    """Adds every call's activations to a few vectors a row, so that nothing grows with the length of the music.

    Frame t is read at the position that feeds it (t + 1, its first codebook), where extraction reads it too.

    Parameters
    ----------
    plan : Plan
        Of the batch; it calls :meth:`tap`.
    sites : sequence of Site
    pooling : Pooling
    model : MusicGen
    frames : int
        Frames of every row, audio prompt included.
    """

    def __init__(self, plan: Plan, sites: Sequence[Site], pooling: Pooling, model: MusicGen, frames: int) -> None:
        self.plan, self.n_heads = plan, plan.shape.n_heads
        self.places: dict[Key, list[Site]] = defaultdict(list)
        for site in sites:
            self.places[site.kind, site.layer].append(site)
        steps = model.frame_steps(frames)
        names = [f"row {row}" for row in range(plan.n)]
        n_steps = plan.timeline.positions + 1
        pooler = pooling.pooler([frames] * plan.n, lambda _: steps, n_steps, names, model.device)
        # single frames as averages over one position: all vectors are then one product [vectors, positions]
        weights = torch.zeros(len(pooling.names), n_steps, device=model.device)
        averages = pooler.weights.shape[1]
        for column, source in enumerate(pooler.order.tolist()):
            if source < averages:
                weights[column] = pooler.weights[0, source]
            else:
                weights[column, int(pooler.picks[0, source - averages])] = 1
        self.weights = weights
        halves = 2 if plan.guided else 1
        self.sums = {
            key: torch.zeros(halves, plan.n, len(weights), self._width(key), device=model.device) for key in self.places
        }
        self.heard = torch.zeros(halves, n_steps, dtype=torch.bool)
        plan.listen(self.tap, list(self.places))
        self._first: Key = min(self.places, key=lambda k: plan.keys.index(k))

    def _width(self, key: Key) -> int:
        kind, _ = key
        return self.plan.shape.width if kind in ("heads", "cross_heads") else self.plan.shape.dim(kind)

    def tap(self, key: Key, x: Tensor, start: int, half: Half) -> None:
        """Called with the edited activation ``[rows, positions, width]`` of a place."""
        if key not in self.sums:
            return
        n, stop = self.plan.n, start + x.shape[1]
        weights = self.weights[:, start:stop]
        rows = {"both": (slice(0, n), slice(len(x) - n, None)), "cond": (slice(0, n), None)}.get(
            half, (None, slice(len(x) - n, None))
        )
        for index, part in enumerate(rows):
            if part is None or index >= len(self.heard):
                continue
            if key == self._first:
                self.heard[index, start:stop] = True
            # A frame's activation is there or it is not: a sum over no weight must not let a stray NaN in.
            if bool(weights.any()):
                self.sums[key][index] += torch.einsum("vp,npw->nvw", weights, x[part].detach().float())

    def values(self) -> dict[Kind, Tensor]:
        """For each kind, ``[rows, halves, vectors, sites, dim]``, float32 on the CPU, sites in forward order."""
        needed = self.weights.ne(0).any(0).cpu()
        assert bool(self.heard[:, needed].all()), "a position that is pooled was never fed"
        found: dict[Kind, list[Tensor]] = defaultdict(list)
        for (kind, _), total in sorted(self.sums.items(), key=lambda item: item[0][1]):
            for site in self.places[kind, _]:
                part = total if site.head is None else total.unflatten(-1, (self.n_heads, -1))[..., site.head, :]  # type: ignore[no-untyped-call]
                found[kind].append(part)
        return {kind: torch.stack(parts, 3).transpose(0, 1).cpu() for kind, parts in found.items()}
