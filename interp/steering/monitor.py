"""The running self-monitors of a batch: what SMITIN hears and decides, for all its rows at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from interp.sites import ModelShape
from interp.steering.interventions.base import Ears
from interp.steering.ops import Key, Timeline

__all__ = ["Monitor"]


class Monitor:
    """Self-monitors of several interventions; one *unit* each, from 1. Unit 0 never acts.

    Parameters
    ----------
    ears : sequence of Ears
        What each unit hears and how it decides.
    rows : sequence of int
        Row of the batch of each unit.
    factors : array of shape (units, positions)
        Schedule and window of each unit.
    timeline, shape, device
        Of the batch.

    Attributes
    ----------
    gates : Tensor
        Factor on the displacement ``[units + 1, positions]``, written by :meth:`decide`.
    trace, decided : Tensor
        C read at each position, and C that the decision there was based on, ``[units + 1, positions]``; NaN where none.
    acts : array of bool
        Positions where some unit may act.
    """

    def __init__(
        self,
        ears: Sequence[Ears],
        rows: Sequence[int],
        factors: NDArray[np.float64],
        timeline: Timeline,
        shape: ModelShape,
        device: torch.device,
    ) -> None:
        n, positions = len(ears), timeline.positions
        step = timeline.step
        allowed = np.zeros((n + 1, positions))
        tau, delta = np.zeros(n + 1), np.zeros(n + 1)
        size = max(len(ear.directions) for ear in ears)
        picked = np.zeros((n, size), dtype=np.int64)
        count = np.zeros(n, dtype=np.int64)
        layers: dict[int, tuple[NDArray[Any], NDArray[Any]]] = {}
        for i, ear in enumerate(ears):
            tau[i + 1], delta[i + 1] = ear.tau, ear.delta
            allowed[i + 1] = factors[i] * (step % ear.every == 0) * (step >= 0)
            count[i] = len(ear.directions)
            for j, direction in enumerate(ear.directions):
                layer, head = direction.site.layer, direction.site.head or 0
                if layer not in layers:
                    layers[layer] = (
                        np.zeros((n, shape.n_heads, shape.head_dim)),
                        np.zeros((n, shape.n_heads)),
                    )
                layers[layer][0][i, head] = direction.weight
                layers[layer][1][i, head] = direction.intercept
                picked[i, j] = layer * shape.n_heads + head
        picked[np.arange(size)[None] >= count[:, None]] = 0

        def put(x: NDArray[Any]) -> Tensor:
            return torch.tensor(x, dtype=torch.float32, device=device)

        self.rows = torch.tensor(list(rows), device=device)
        self.keys: list[Key] = [("heads", layer) for layer in sorted(layers)]
        self.acts = np.asarray((allowed != 0).any(0))
        self.gates = torch.zeros(n + 1, positions, device=device)
        self.trace = torch.full((n + 1, positions), torch.nan, device=device)
        self.decided = torch.full((n + 1, positions), torch.nan, device=device)
        self.tau, self.delta, self.allowed = put(tau), put(delta), put(allowed)
        self._weights = {layer: (put(w), put(b)) for layer, (w, b) in layers.items()}
        self._logits = torch.zeros(n, shape.n_layers * shape.n_heads, device=device)
        self._picked = torch.tensor(picked, device=device)
        self._padding = torch.arange(size, device=device)[None] >= torch.tensor(count, device=device)[:, None]
        half = torch.tensor(np.stack([(count - 1) // 2, count // 2], 1), device=device)
        self._middle = half
        self._heads = shape.n_heads
        self._last = torch.full((n + 1,), torch.nan, device=device)
        self._position: int | None = None
        self._all_rows = bool(n) and list(rows) == list(range(n))

    def decide(self, position: int | None) -> None:
        """Set the factor of every unit at a position from the last reading (none yet: C counts as 0).

        None announces a prompt: factors that were decided when its frames were generated stay as they are.
        """
        self._position = position
        if position is None:
            return
        if not self.acts[position]:
            self.gates[:, position] = 0
            return
        c = torch.nan_to_num(self._last)
        self.gates[:, position] = self.allowed[:, position] * (c < self.tau) * (1 - self.delta * c)
        self.decided[:, position] = torch.where(self.allowed[:, position] != 0, c, torch.nan)

    def hear(self, key: Key, x: Tensor) -> None:
        """Read a layer's heads ``[rows, width]`` before they are edited."""
        kind, layer = key
        if kind != "heads" or layer not in self._weights:
            return
        weight, bias = self._weights[layer]
        if not (self._all_rows and len(x) == len(self.rows)):
            x = x[self.rows]
        heads = x.float().view(len(x), self._heads, -1)
        start = layer * self._heads
        self._logits[:, start : start + self._heads] = (heads * weight).sum(-1) + bias

    def conclude(self) -> None:
        """All layers have been read: the median probability becomes the reading."""
        p = torch.sigmoid(self._logits.gather(1, self._picked)).masked_fill(self._padding, torch.inf)
        self._last[1:] = p.sort(dim=1).values.gather(1, self._middle).mean(1)
        if self._position is not None:
            self.trace[:, self._position] = self._last
