"""Training the shipped model: from a seed, resumable, honest about its recipe."""

from __future__ import annotations

import csv
import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from interp.errors import StoreError
from interp.testbed import export, load, train
from interp.testbed.training import Recipe

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
