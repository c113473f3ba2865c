"""Models that many tests share, and a hub that is never reached."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

# Set before anything imports huggingface_hub: no test touches the network, and its cache is a fresh folder.
_HOME = tempfile.mkdtemp(prefix="interp-tests-")
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
os.environ |= {"HF_HOME": _HOME, "HF_HUB_CACHE": f"{_HOME}/hub", "HF_HUB_OFFLINE": "1"}
os.environ.pop("AUDIOCRAFT_CACHE_DIR", None)

import pytest  # noqa: E402

import interp  # noqa: E402
from interp.backends.build import random_musicgen  # noqa: E402
from interp.model import MusicGen  # noqa: E402


@pytest.fixture(scope="session")
def tiny_lm_model() -> MusicGen:
    """A small MusicGen with random weights: 3 layers, 4 heads, width 32; built in milliseconds, makes noise."""
    return MusicGen(random_musicgen(3, 4, 32, seed=1))


@pytest.fixture(scope="session")
def tiny() -> MusicGen:
    """The trained model that ships with the package."""
    return interp.load("tiny", device="cpu")


@pytest.fixture(scope="session")
def hub() -> Path:
    """The folder of a small random ``facebook/musicgen-small`` in a hub cache that also has what it needs."""
    from fakehub import write_hub

    return write_hub(Path(os.environ["HF_HUB_CACHE"]))


@pytest.fixture(scope="session")
def hub_model(hub: Path) -> MusicGen:
    """That model, loaded by its hub name with the hub offline."""
    return interp.load("facebook/musicgen-small", device="cpu")


@pytest.fixture(scope="session")
def clap_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small random CLAP."""
    from fakeclap import write_clap

    return write_clap(tmp_path_factory.mktemp("clap"))


# What an outsider writes: run by test_outside.py as a user would, never collected.
collect_ignore = ["outside"]
