"""Tokens are drawn by the softmax and its cuts, with noise that belongs to the seed."""

from __future__ import annotations

import math

import numpy as np
import torch

from interp.steering.engine.sampling import Noise, Sampler


def test_samples_follow_the_softmax_and_its_cuts() -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, 1.0]).expand(4000, 1, 5)

    def shares(**options: float) -> np.ndarray:
        sampler = Sampler(Noise(list(range(4000)), 1, 5, torch.device("cpu")), **options)  # type: ignore[arg-type]
        drawn = torch.stack([sampler(logits) for _ in range(5)])
        return torch.bincount(drawn.flatten(), minlength=5).numpy() / drawn.numel()

    p = torch.softmax(logits[0, 0], -1).numpy()
    tolerance = 4 * math.sqrt(0.25 / 20000)
    assert np.abs(shares(top_k=0) - p).max() < tolerance
    warm = torch.softmax(logits[0, 0] / 2, -1).numpy()
    assert np.abs(shares(top_k=0, temperature=2.0) - warm).max() < tolerance
    kept = np.where([1, 1, 0, 0, 1], p, 0)  # two equal logits tie for the second place: audiocraft keeps both
    assert np.abs(shares(top_k=2) - kept / kept.sum()).max() < tolerance
    # cumulative probability before the token is at most 0.6: the best, then one of the tied second ones
    nucleus = shares(top_k=0, top_p=0.6)
    assert nucleus[[2, 3]].sum() == 0
    assert nucleus[0] > 0.6


def test_top_k_draws_as_a_masked_argmax() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(64, 4, 33, generator=generator) * 3
    for k in (1, 2, 8, 32, 33):
        noise = Noise(list(range(64)), 4, 33, torch.device("cpu"))
        expected_noise = Noise(list(range(64)), 4, 33, torch.device("cpu")).step()
        kth = logits.topk(k, -1).values[..., -1:]
        expected = (logits.masked_fill(logits < kth, -torch.inf) + expected_noise).argmax(-1)
        assert torch.equal(Sampler(noise, top_k=k)(logits), expected)


def test_a_seed_has_its_noise_whoever_is_beside_it() -> None:
    together, alone = (Noise(seeds, 2, 8, torch.device("cpu")) for seeds in ([3, 4, 3], [3]))
    for _ in range(40):
        step = together.step()
        assert torch.equal(step[0], step[2])
        assert torch.equal(step[:1], alone.step())
