"""A random model, loud and quiet clips, their activations and probes; and a judge simple enough to predict."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

import interp
from interp.clips import Clips
from interp.model import MusicGen
from interp.probes import ProbeResult, probe


class Loud:
    """Hears a trait in what is loud, and embeds by level and spread."""

    name = "loud"
    independent = True
    questions: ClassVar = {"drums": ["drums"], "instrument": ["piano", "organ"]}

    def score(self, audio: torch.Tensor, sample_rate: int) -> pd.DataFrame:
        level = audio.square().mean(dim=(1, 2)).sqrt().numpy()
        return pd.DataFrame({"drums": level / (level + 0.05), "piano": 0.3, "organ": 0.7, "not_music": 0.0})

    def embed(self, audio: torch.Tensor, sample_rate: int) -> np.ndarray:
        x = audio.mean(1)
        return torch.stack([x.std(1), x.abs().mean(1), x[:, ::7].std(1)], 1).numpy()

    def accuracy_frame(self) -> pd.DataFrame:
        return pd.DataFrame()


@pytest.fixture
def loud() -> Loud:
    return Loud()


@pytest.fixture(scope="session")
def clips() -> Clips:
    rng = np.random.default_rng(0)
    labels = pd.DataFrame(
        {"drums": [0, 1] * 20, "instrument": ["piano", "organ"] * 20, "group": [f"g{i // 2}" for i in range(40)]}
    )
    sounds = [(0.05 + 0.2 * drums) * rng.normal(size=8000).astype(np.float32) for drums in labels["drums"]]
    return Clips.from_arrays(sounds, 16000, labels)


@pytest.fixture(scope="session")
def ds(tiny_lm_model: MusicGen, clips: Clips) -> xr.Dataset:
    return interp.extract(tiny_lm_model, clips, sites="heads, resid", progress=False)


@pytest.fixture(scope="session")
def studies(ds: xr.Dataset) -> tuple[ProbeResult, ProbeResult]:
    """Of the heads and of the residual stream."""
    options: dict[str, Any] = {
        "methods": ("logistic", "mean_diff"),
        "folds": 2,
        "n_permutations": 0,
        "n_bootstrap": 100,
    }
    return probe(ds, "drums", sites="heads", **options), probe(ds, "drums", sites="resid", **options)
