"""Models that many tests share; nothing here touches the network or a file."""

from __future__ import annotations

import pytest

import interp
from interp._audiocraft import random_musicgen
from interp.model import MusicGen


@pytest.fixture(scope="session")
def tiny_lm_model() -> MusicGen:
    """A small MusicGen with random weights: 3 layers, 4 heads, width 32; built in milliseconds, makes noise."""
    return MusicGen(random_musicgen(3, 4, 32, seed=1))


@pytest.fixture(scope="session")
def tiny() -> MusicGen:
    """The trained model that ships with the package."""
    return interp.load("tiny", device="cpu")
