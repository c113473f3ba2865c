"""Training the learned codec: resumable, its codebooks all in use, its loss falling."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from interp.errors import StoreError
from interp.recipes.codec import Recipe, train
from interp.recipes.codec_parts import Follower, Losses
from interp.testbed.neural_codec import CodecSizes, NeuralCodec, Quantiser

SMALL = Recipe(
    sizes=CodecSizes(encoder=16, encoder_blocks=1, decoder=16, decoder_blocks=1, latent=8, entries=32),
    parts=1, first_parts=1, part_size=4, steps=60, batch_size=4, crop=16, warmup=5, quantise_from=20, save_every=20,
    average=0.8,
)  # fmt: skip


def test_interrupted_training_goes_on_and_learns(tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(step: int, loss: float) -> None:
        if step == 45:
            raise Stop

    with pytest.raises(Stop):
        train(tmp_path, SMALL, on_step=stop)
    losses: dict[int, float] = {}
    train(tmp_path, SMALL, on_step=losses.__setitem__)
    assert min(losses) == 41  # what was not saved is done again
    with (tmp_path / "log.csv").open() as log:
        rows = list(csv.DictReader(log))
    assert [int(row["step"]) for row in rows] == [20, 40, 60]
    assert float(rows[-1]["loss"]) < 0.8 * float(rows[0]["loss"])
    codec = NeuralCodec.load(tmp_path / "codec")
    codes = codec.encode(torch.from_numpy(np.load(tmp_path / "corpus" / "part-0000.npy") / 32767.0).float()[:, None])[0]
    assert all(len(codes[:, k].unique()) > 8 for k in range(4))
    with pytest.raises(StoreError, match="another crop"):
        train(tmp_path, dataclasses.replace(SMALL, crop=17))


def test_entries_find_clusters_and_restart_when_nothing_uses_them() -> None:
    torch.manual_seed(0)
    centres = torch.randn(6, 3) * 5
    points = centres.repeat(50, 1) + 0.01 * torch.randn(300, 3)
    quantiser = Quantiser(1, 6, 3)
    follower = Follower(quantiser, 0.9)
    follower.start(points, seed=0)
    rng = np.random.default_rng(0)
    quantiser.entries[0, 0] = 1e3  # out of reach
    follower.counts[0, 0], follower.sums[0, 0] = 1.0, torch.full((3,), 1e3)
    for _ in range(60):
        follower.follow(points, quantiser.encode(points[None])[0].T, rng)
    assert (quantiser.entries[0, 0] - points).norm(dim=1).min() < 0.1
    assert quantiser.entries.abs().max() < 50


def test_losses_are_zero_for_the_same_sound_and_grow_with_noise() -> None:
    torch.manual_seed(0)
    losses, sound = Losses(), torch.randn(2, 8000) * 0.1
    assert losses(sound, sound) == 0
    little, much = (float(losses(sound, sound + scale * torch.randn_like(sound))) for scale in (0.01, 0.1))
    assert 0 < little < much
