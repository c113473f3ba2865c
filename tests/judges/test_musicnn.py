"""The taggers give what the original TensorFlow code gives, of weights that are read without it."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

import interp.judges.musicnn as musicnn
from interp.errors import ModelError, StoreError
from interp.judges.musicnn import FRAMES, MODELS, TAGS, load_network, log_mel, read_checkpoint, tags, windows_of

GOLD = json.loads((Path(__file__).parents[1] / "data" / "musicnn_gold.json").read_text())
RATE = 16_000


def signal() -> torch.Tensor:
    """Six seconds of decaying tones and noise bursts, as described in the file."""
    rng = np.random.default_rng(0)
    t = np.arange(6 * RATE) / RATE
    y = np.zeros(len(t))
    for k, frequency in enumerate([220, 277.18, 329.63, 440]):
        y += 0.1 * np.sin(2 * np.pi * frequency * t) * np.exp(-2 * ((t + 0.1 * k) % 1.5))
    for beat in np.arange(0, 6, 0.5):
        i = int(beat * RATE)
        burst = 0.3 * rng.standard_normal(2000) * np.exp(-np.arange(2000) / 300)
        y[i : i + 2000] += burst[: len(y) - i]
    return torch.from_numpy(y.astype(np.float32))


@pytest.mark.parametrize("model", MODELS)
def test_equal_to_the_original(model: str) -> None:
    mel = log_mel(signal()[None])[0]
    step = 61  # a second, as the original's librosa.time_to_frames counts it
    windows = torch.stack([mel[at : at + FRAMES] for at in range(0, len(mel) - FRAMES + 1, step)])
    with torch.no_grad():
        logits, _ = load_network(model)(windows)
    gold = np.array(GOLD[model])
    assert gold.shape == (4, 50) == (len(windows), len(TAGS[model]))
    np.testing.assert_allclose(torch.sigmoid(logits).numpy(), gold, rtol=0, atol=1e-5)


def test_clips_of_any_length_are_heard_the_same_each_time_and_alone() -> None:
    sound = signal()
    for samples in (RATE, 3 * RATE, 5 * RATE):
        batch = torch.stack([sound[:samples], 0.5 * sound[-samples:], sound[:samples]])
        logits, embedding = tags(batch, MODELS[:2], batch_size=2)
        assert embedding.shape == (3, 400) and np.isfinite(embedding).all()
        for model in MODELS[:2]:
            assert logits[model].shape == (3, 50)
            np.testing.assert_allclose(logits[model][0], logits[model][2], atol=1e-4)
            np.testing.assert_allclose(logits[model][:1], tags(batch[:1], [model])[0][model], atol=1e-4)


def test_windows_cover_a_clip() -> None:
    for n in (1, 186, 187, 188, 281, 282, 1000):
        starts = windows_of(n)
        assert starts[0] == 0 and starts[-1] == max(0, n - FRAMES)
        assert all(0 < b - a <= 94 for a, b in pairwise(starts))


def test_a_mean_of_probabilities_is_told() -> None:
    sound = signal()[None, : 4 * RATE]
    mel = log_mel(sound)[0]
    with torch.no_grad():
        windows = torch.stack([mel[at : at + FRAMES] for at in windows_of(len(mel))])
        mean = torch.sigmoid(load_network("MTT_musicnn")(windows)[0]).mean(0)
    logits, _ = tags(sound)
    np.testing.assert_allclose(1 / (1 + np.exp(-logits["MTT_musicnn"][0])), mean.numpy(), atol=1e-6)


def test_what_is_missing_or_damaged_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="no tagger 'big'"):
        load_network("big")
    monkeypatch.setattr(musicnn.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"pip install --no-deps musicnn==0\.1\.0"):
        musicnn._package_folder()
    monkeypatch.undo()
    with pytest.raises(StoreError, match="no checkpoint can be read"):
        read_checkpoint(tmp_path)
    folder = musicnn._package_folder() / "MTT_vgg"
    for name in (".index", ".data-00000-of-00001"):
        shutil.copy(folder / name, tmp_path)
    assert len(read_checkpoint(tmp_path)) == len(read_checkpoint(folder)) > 30
    with (tmp_path / ".data-00000-of-00001").open("r+b") as data:
        data.truncate(1000)
    with pytest.raises(StoreError, match="no checkpoint can be read"):
        read_checkpoint(tmp_path)
    (tmp_path / ".index").write_bytes(b"x" * 100)
    with pytest.raises(StoreError, match="no table"):
        read_checkpoint(tmp_path)
