"""The shipped model: audiocraft's own classes, small files, a card with measured bars."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from interp.backends.audiocraft import AudiocraftMusicGen, CompressionModel, LMModel
from interp.errors import ModelError
from interp.testbed import card, load
from interp.testbed.shipped import WEIGHTS


@pytest.fixture(scope="module")
def shipped() -> AudiocraftMusicGen:
    return load()


def test_it_is_audiocrafts_musicgen(shipped: AudiocraftMusicGen) -> None:
    lm = shipped.lm
    assert isinstance(lm, LMModel) and isinstance(shipped.compression_model, CompressionModel)
    layer = lm.transformer.layers[0]
    assert len(lm.transformer.layers) >= 6 and layer.self_attn.num_heads >= 8
    assert layer.norm_first and layer.self_attn.memory_efficient and layer.cross_attention is not None
    assert layer.linear1.bias is None and layer.self_attn.out_proj.bias is None
    assert lm.num_codebooks == 4 and lm.pattern_provider.delays == [0, 1, 2, 3]
    assert shipped.frame_rate == 50 and shipped.sample_rate >= 16_000


def test_audiocrafts_own_generate_runs_unchanged(shipped: AudiocraftMusicGen) -> None:
    shipped.set_generation_params(duration=0.5, use_sampling=True, top_k=250)
    torch.manual_seed(0)
    audio = shipped.generate(["jazz, piano, drums", "rock, organ, no drums"])
    assert audio.shape == (2, 1, 8000) and audio.isfinite().all() and audio.abs().max() > 0.01


def test_unknown_prompts_list_the_known_ones(shipped: AudiocraftMusicGen) -> None:
    shipped.set_generation_params(duration=0.1)
    with pytest.raises(ModelError, match=r"does not know 'a tuba solo'.*classical, rock, jazz, electronic"):
        shipped.generate(["a tuba solo"])


def test_the_files_are_small() -> None:
    assert sum(path.stat().st_size for path in WEIGHTS.iterdir()) <= 16e6


def test_missing_weights_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="shipped weights are not at"):
        load(weights=tmp_path)


def test_card_tells_what_was_measured() -> None:
    text = card()
    measured = {row["trait"]: row for row in json.loads((WEIGHTS / "card.json").read_text())["bars"]}
    assert set(measured) >= {"instrument", "drums", "genre"}
    for row in measured.values():
        assert f"{row['right']:.1%}" in text and row["lo"] <= row["right"] <= row["hi"]
