"""The whole path on a model loaded by its hub name, offline: extract, probe, steer a continuation and a text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from interp.activations import extract
from interp.clips import Clips
from interp.model import MusicGen
from interp.probes import probe
from interp.steering import Add, Row, Smitin, generate


@pytest.fixture(scope="module")
def beeps() -> Clips:
    """Forty short sounds of twenty groups: a beep in noise (1) or noise alone (0)."""
    rng = np.random.default_rng(0)
    time = np.arange(8000) / 32000
    beep = [i % 2 for i in range(40)]
    audio = [0.05 * rng.normal(size=(1, 8000)) + 0.3 * on * np.sin(2 * np.pi * 440 * time) for on in beep]
    return Clips.from_arrays(audio, 32000, pd.DataFrame({"beep": beep, "group": [i // 2 for i in range(40)]}))


def test_extract_probe_steer(hub_model: MusicGen, beeps: Clips, tmp_path: Path) -> None:
    ds = extract(hub_model, beeps, sites="heads, resid", out=tmp_path / "acts.zarr")
    study = probe(ds, "beep", methods=("logistic",), n_permutations=20, n_bootstrap=50)
    assert set(study.table["test_score"].between(0, 1)) == {True}
    study.directions.save(tmp_path / "directions.safetensors")

    prompt = hub_model.encode(torch.from_numpy(beeps[0].audio)[None], beeps[0].sample_rate)[0]
    push = Add(study.top(2), dose=8.0)
    watch = Smitin(study.directions, alpha=5, s=5)
    rows = [
        Row("loud drums", seed=1),
        Row("loud drums", seed=1, interventions=(push,)),
        Row("loud drums", seed=1, interventions=(Add(study.top(2), dose=0.0),)),
        Row(None, seed=1, codes=prompt),
        Row(None, seed=1, codes=prompt, interventions=(push,)),
        Row(None, seed=1, codes=prompt, interventions=(watch,)),
    ]
    made = generate(hub_model, rows, seconds=0.6, progress=False)
    assert made.codes.shape == (6, 4, 30) and made.audio.shape == (6, 1, 19200)
    assert torch.equal(made.codes[0], made.codes[2])  # zero dose: the same tokens
    assert not torch.equal(made.codes[0], made.codes[1])
    assert torch.equal(made.codes[3][:, : prompt.shape[1]], prompt)  # the sound that is continued is kept
    assert not torch.equal(made.codes[3], made.codes[4])
    assert made.monitor["C"].between(0, 1).all() and set(made.monitor["row"]) == {5}
