"""Training the language model of the shipped checkpoint: from a seed, resumable, honest about its recipe."""

from __future__ import annotations

import csv
import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from interp.errors import StoreError
from interp.recipes.lm import Recipe, train
from interp.testbed import load
from interp.testbed.neural_codec import CodecSizes, NeuralCodec
from interp.testbed.shipped import export

SMALL = Recipe(codec_clips=24, parts=1, first_parts=1, part_size=16, steps=4, batch_size=2, warmup=2, save_every=2)


def test_rate_warms_up_stays_and_falls_to_zero() -> None:
    recipe = Recipe(steps=1000, warmup=100, learning_rate=1.0, decay_from=0.75)
    assert recipe.rate(0) == pytest.approx(0.01) and recipe.rate(99) == recipe.rate(700) == 1.0
    assert recipe.rate(875) == pytest.approx(0.5) and recipe.rate(999) == pytest.approx(1 / 250)


def test_interrupted_training_goes_on_and_ships(tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(step: int) -> None:
        if step == 3:
            raise Stop

    with pytest.raises(Stop):
        train(tmp_path, SMALL, on_step=stop)
    done: list[int] = []
    train(tmp_path, SMALL, on_step=done.append)
    assert done == [3, 4]  # step 3 was not saved, and is done again
    with (tmp_path / "log.csv").open() as log:
        assert [int(row[0]) for row in csv.reader(log)] == [2, 4]
    straight = tmp_path / "straight"
    shutil.copytree(tmp_path / "corpus", straight / "corpus")
    shutil.copy(tmp_path / "codebooks.npy", straight)
    train(straight, SMALL)
    one, other = (torch.load(f / "lm.pt", weights_only=True)["lm"] for f in (tmp_path, straight))
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-4, atol=1e-5)

    with pytest.raises(StoreError, match="another batch_size"):
        train(tmp_path, dataclasses.replace(SMALL, batch_size=3))

    export(tmp_path, tmp_path / "weights")
    shipped = load(weights=tmp_path / "weights")
    np.testing.assert_allclose(shipped.lm.emb[0].weight, one["emb.0.weight"].half().float())


def test_a_learned_codec_goes_along(tmp_path: Path) -> None:
    torch.manual_seed(0)
    codec = NeuralCodec(CodecSizes(encoder=8, encoder_blocks=1, decoder=8, decoder_blocks=1, latent=4, entries=300), 1)
    codec.quantiser.entries.normal_()
    codec.save(tmp_path / "made")
    train(tmp_path / "run", SMALL, codec=tmp_path / "made")
    export(tmp_path / "run", tmp_path / "weights")
    shipped = load(weights=tmp_path / "weights")
    assert shipped.lm.card == 300 and shipped.compression_model.iterations == 1
    music = torch.randn(1, 1, 8000) * 0.1
    codes = NeuralCodec.load(tmp_path / "made").encode(music)[0]
    assert torch.equal(shipped.compression_model.encode(music)[0], codes) and codes.max() > 255

    codec.quantiser.entries.normal_()
    codec.save(tmp_path / "other")
    with pytest.raises(StoreError, match="another codec"):
        train(tmp_path / "run", SMALL, codec=tmp_path / "other")
