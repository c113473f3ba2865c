"""What the learned codec is trained with: codebooks that follow the encoder, and distances between sounds."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from interp.testbed.neural_codec import SAMPLE_RATE, Quantiser, magnitudes

__all__ = ["Follower", "Losses", "log_magnitude", "nearest"]

_RESOLUTIONS = (2048, 1024, 512, 256)
_FLOOR = 2e-2  # added to magnitudes before the logarithm


class Follower:
    """Moving averages that are the entries of a quantiser while it is trained."""

    def __init__(self, quantiser: Quantiser, decay: float) -> None:
        self.quantiser, self.decay = quantiser, decay
        books, entries, _ = quantiser.entries.shape
        self.counts = torch.zeros(books, entries)
        self.sums = torch.zeros_like(quantiser.entries)

    @torch.no_grad()
    def start(self, latent: Tensor, seed: int, rounds: int = 15) -> None:
        """k-means of ``[n, latent]``, codebook after codebook."""
        torch_seed = torch.Generator().manual_seed(seed)
        rest = latent.clone()
        for k, book in enumerate(self.quantiser.entries):
            book.copy_(rest[torch.randperm(len(rest), generator=torch_seed)[: len(book)]])
            for _ in range(rounds):
                code = nearest(rest, book)
                counts = torch.bincount(code, minlength=len(book)).float()
                sums = torch.zeros_like(book).index_add_(0, code, rest)
                alone = torch.randint(len(rest), (int((counts == 0).sum()),), generator=torch_seed)
                book.copy_(sums / counts.clamp(min=1)[:, None])
                book[counts == 0] = rest[alone]
            code = nearest(rest, book)
            # as if the average had seen batches of this distribution for ever
            share = torch.bincount(code, minlength=len(book)).float().clamp(min=1) / len(rest)
            self.counts[k] = share * 1024
            self.sums[k] = book * self.counts[k][:, None]
            rest = rest - book[code]

    @torch.no_grad()
    def follow(self, latent: Tensor, codes: Tensor, rng: np.random.Generator) -> None:
        """Move every entry towards the outputs ``[n, latent]`` it stood for; restart those that stand for none."""
        rest = latent
        for k, book in enumerate(self.quantiser.entries):
            code = codes[:, k]
            before = book[code]
            counts = torch.bincount(code, minlength=len(book)).float()
            sums = torch.zeros_like(book).index_add_(0, code, rest)
            self.counts[k].mul_(self.decay).add_(counts, alpha=1 - self.decay)
            self.sums[k].mul_(self.decay).add_(sums, alpha=1 - self.decay)
            dead = (self.counts[k] < 0.03 * self.counts[k].mean()).nonzero()[:, 0]
            if len(dead):
                chosen = torch.from_numpy(rng.integers(len(rest), size=len(dead)))
                self.counts[k][dead] = self.counts[k].mean()
                self.sums[k][dead] = rest[chosen] * self.counts[k][dead][:, None]
            book.copy_(self.sums[k] / self.counts[k][:, None])
            rest = rest - before


def nearest(points: Tensor, book: Tensor) -> Tensor:
    """Index of the entry of ``[entries, latent]`` nearest to each of ``[n, latent]``.

    Examples
    --------
    >>> nearest(torch.tensor([[0.2], [0.9]]), torch.tensor([[0.0], [1.0]])).tolist()
    [0, 1]
    """
    return ((book**2).sum(-1) - 2 * points @ book.T).argmin(-1)


class Losses:
    """Distances between a sound and what the decoder makes of it, in magnitudes of STFTs and of mel bands."""

    def __init__(self) -> None:
        from torchaudio.functional import melscale_fbanks

        self.windows = [torch.hann_window(n) for n in _RESOLUTIONS]
        self.filters = {
            n: melscale_fbanks(n // 2 + 1, 40.0, SAMPLE_RATE / 2, bands, SAMPLE_RATE, norm="slaney") * 100
            for n, bands in ((2048, 128), (512, 64))
        }

    def __call__(self, heard: Tensor, made: Tensor) -> Tensor:
        """Loss of audio ``[B, samples]`` against audio of the same shape."""
        total = torch.zeros(())
        for window in self.windows:
            n = len(window)
            true, false = magnitudes(heard, window, n // 4), magnitudes(made, window, n // 4)
            total = total + (log_magnitude(true) - log_magnitude(false)).abs().mean()
            miss = torch.linalg.vector_norm(true - false, dim=(1, 2)) / torch.linalg.vector_norm(true, dim=(1, 2))
            total = total + 0.5 * miss.mean()
            if n in self.filters:
                bands = self.filters[n]
                total = total + (log_magnitude(true @ bands) - log_magnitude(false @ bands)).abs().mean()
        return total


def log_magnitude(magnitude: Tensor) -> Tensor:
    """Logarithm with a floor, below which differences do not count.

    Examples
    --------
    >>> log_magnitude(torch.tensor([0.0, 0.98]))
    tensor([-3.9120,  0.0000])
    """
    return torch.log(magnitude + _FLOOR)
