"""Music to judge: rendered from a seed that no training used, and the same after the shipped codec."""

from __future__ import annotations

import pytest
import torch

from interp.data import render_arrays
from interp.recipes.degrade import round_trip
from interp.recipes.rendered_accuracy import shipped_codec

TEST_SEED = 77_000_000


@pytest.fixture(scope="session")
def rendered():
    """Audio ``[64, 1, T]`` of 2.5 s and its labels, each clip of a score of its own."""
    audio, labels = render_arrays(64, TEST_SEED, 2.5, clips_per_score=1)
    return torch.from_numpy(audio), labels


@pytest.fixture(scope="session")
def music(rendered):
    return rendered[0]


@pytest.fixture(scope="session")
def labels(rendered):
    return rendered[1]


@pytest.fixture(scope="session")
def codec():
    return shipped_codec()


@pytest.fixture(scope="session")
def decoded(music, codec):
    return round_trip(codec, music[:, 0])[:, None]
