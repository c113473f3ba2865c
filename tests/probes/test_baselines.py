"""Features of the sound alone, and of an untrained copy."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from planted_data import planted_dataset

from interp.clips import Clips
from interp.errors import DataError
from interp.probes import baselines, probe


def test_baselines_hear_what_is_there() -> None:
    rng = np.random.default_rng(0)
    rate, seconds = 8000, 0.5
    t = np.arange(int(rate * seconds)) / rate
    pitch = np.where(np.arange(40) % 2, 523.25, 440.0) * rng.choice([0.5, 1.0, 2.0], 40)
    audio = [np.sin(2 * np.pi * p * t + rng.uniform(0, 6))[None] + 0.01 * rng.normal(size=(1, len(t))) for p in pitch]
    labels = pd.DataFrame(
        {"note": np.arange(40) % 2, "group": [f"g{i}" for i in range(40)]}, index=[f"c{i}" for i in range(40)]
    )
    clips = Clips.from_arrays(audio, rate, labels)
    features = baselines.chroma(clips)
    assert features.shape == (40, 24)
    assert (features[:, :12].argmax(1) == np.where(np.arange(40) % 2, 0, 9)).all()  # C and A, whatever the octave
    spectrum, cepstrum = baselines.mel(clips, 32), baselines.mfcc(clips, 13)
    assert (spectrum.shape, cepstrum.shape) == ((40, 64), (40, 26))
    louder = Clips.from_arrays([2 * a for a in audio], rate, labels)
    difference = baselines.mel(louder, 32)[:, :32] - spectrum[:, :32]
    assert difference.max() == pytest.approx(np.log(4), abs=0.02)
    with pytest.raises(DataError, match="no clips"):
        baselines.mel([])


def test_an_untrained_copy_as_baseline() -> None:
    trained, _ = planted_dataset(n_groups=30)
    untrained, _ = planted_dataset(n_groups=30, strength=0.0)
    shuffled = untrained.isel(clip=np.random.default_rng(0).permutation(180))
    matched = baselines.align(trained, shuffled)
    assert (matched["clip"].values == trained["clip"].values).all()
    features = {"untrained L1.H1": baselines.site_features(matched, "L1.H1")}
    result = probe(trained, "drums", sites="L1.H1", methods="ridge", n_permutations=0, baselines=features)
    assert result.table["test_score"][0] > result.baseline["test_score"][0] + 0.1
    with pytest.raises(DataError, match="not in the other"):
        baselines.align(trained, shuffled.isel(clip=slice(0, 10)))
