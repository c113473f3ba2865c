"""Sampling with noise that belongs to the row: rows of one seed share it, whatever batch they are in.

A token is drawn by the Gumbel trick, ``argmax(logits / temperature + g)``, with g a row's own noise for this step and
codebook. Twins (rows of one seed in different arms) so draw the same token wherever the arms' logits agree, and
differ no more often than the change of the distribution makes unavoidable; effects are differences between twins.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

__all__ = ["Noise", "Sampler"]

_CHUNK = 16


class Noise:
    """Gumbel noise ``[rows, codebooks, cardinality]`` for one step after another.

    Every different seed has one counter-based generator (Philox), read in order of steps: a row's noise depends on
    its seed and the step alone.
    """

    def __init__(self, seeds: Sequence[int], codebooks: int, cardinality: int, device: torch.device) -> None:
        unique = sorted(set(seeds))
        place = {seed: i for i, seed in enumerate(unique)}
        # Philox takes keys of 128 bits: negative seeds are mapped to the upper half
        self._streams = [np.random.Generator(np.random.Philox(key=seed % 2**64)) for seed in unique]
        self._index = torch.tensor([place[seed] for seed in seeds], device=device)
        self._shape = (codebooks, cardinality)
        self._device = device
        self._chunk: Tensor | None = None
        self._next = _CHUNK

    def step(self) -> Tensor:
        """Noise of the next step."""
        if self._next == _CHUNK:
            draws = np.empty((len(self._streams), _CHUNK, *self._shape), dtype=np.float32)
            for stream, out in zip(self._streams, draws, strict=True):
                stream.standard_exponential(dtype=np.float32, out=out)
            np.maximum(draws, np.finfo(np.float32).tiny, out=draws)
            self._chunk = torch.from_numpy(-np.log(draws)).to(self._device)
            self._next = 0
        assert self._chunk is not None
        noise = self._chunk[:, self._next]
        self._next += 1
        return noise[self._index]


class Sampler:
    """Draws tokens from logits, with audiocraft's options.

    Parameters
    ----------
    noise : Noise or None
        None for greedy decoding.
    temperature : float
    top_k : int
        Keep the k largest logits (ties with the k-th too); 0 keeps all.
    top_p : float
        Keep the most probable tokens until their probability exceeds p; 0 keeps all; takes precedence over top_k.
    """

    def __init__(self, noise: Noise | None, temperature: float = 1.0, top_k: int = 250, top_p: float = 0.0) -> None:
        self.noise, self.temperature, self.top_k, self.top_p = noise, temperature, top_k, top_p

    def __call__(self, logits: Tensor) -> Tensor:
        """Tokens ``[rows, codebooks]`` for logits ``[rows, codebooks, cardinality]``."""
        if self.noise is None:
            return logits.argmax(-1)
        logits = logits.float() / self.temperature
        noise = self.noise.step()
        if self.top_p > 0:
            return (self._nucleus(logits) + noise).argmax(-1)
        tokens = (logits + noise).argmax(-1)
        if 0 < self.top_k < logits.shape[-1]:
            if logits.is_cuda:  # the rows outside are not counted there: that would wait for the device at every step
                return self._masked(logits, noise)
            tokens = self._redraw(logits, noise, tokens)
        return tokens

    def _masked(self, logits: Tensor, noise: Tensor) -> Tensor:
        kth = logits.topk(self.top_k, dim=-1).values[..., -1:]
        return (logits.masked_fill(logits < kth, -torch.inf) + noise).argmax(-1)

    def _redraw(self, logits: Tensor, noise: Tensor, tokens: Tensor) -> Tensor:
        """Draw again where the winner is not among the k best: the others have won among the k best as well."""
        won = logits.gather(-1, tokens[..., None])
        outside = (logits > won).sum(-1) >= self.top_k
        if not outside.any():
            return tokens
        tokens = tokens.clone()
        tokens[outside] = self._masked(logits[outside], noise[outside])
        return tokens

    def _nucleus(self, logits: Tensor) -> Tensor:
        probabilities = torch.softmax(logits, -1)
        ordered, index = probabilities.sort(-1, descending=True)
        dropped = ordered.cumsum(-1) - ordered > self.top_p
        return logits.masked_fill(torch.zeros_like(dropped).scatter(-1, index, dropped), -torch.inf)
