"""Degenerate audio is flagged, music is not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from interp.errors import DataError
from interp.judges import RenderedJudge, quality
from interp.judges.quality import QualityJudge, Thresholds, degenerate
from interp.judges.similarity import prompt_similarity, structure_similarity
from interp.recipes.degrade import degrade

RATE = 16_000


def test_music_is_not_flagged(music, decoded):
    for sounds in (music, decoded):
        table = degenerate(sounds, RATE)
        assert len(table) == len(sounds)
        assert table["degenerate"].mean() <= 0.02
        assert quality(sounds, RATE, RenderedJudge())["bad"].mean() <= 0.05


def test_silence_and_near_silence(music):
    nearly = music[:2] * 1e-4
    mostly = music[2:4].clone()
    mostly[..., : int(0.85 * mostly.shape[-1])] = 0
    table = quality(torch.cat([torch.zeros_like(nearly), nearly, mostly]), RATE, RenderedJudge())
    assert table["silent"].all() and table["bad"].all()
    assert (table["not_music"][:2] == 1).all()


def test_clipping(music):
    loud = (music[:4] * 30).clamp(-1, 1)
    assert degenerate(loud, RATE)["clipped"].all()
    table = degenerate(loud.repeat_interleave(2, dim=-1), 2 * RATE)  # seen before resampling rounds the flat tops
    assert table["clipped"].all()


def test_a_held_frame_is_frozen_and_a_short_loop_is_looped(music):
    time = torch.arange(3 * RATE) / RATE
    buzz = torch.stack([torch.sin(2 * torch.pi * pitch * time).sign() * 0.1 for pitch in (110, 300)])[:, None]
    table = degenerate(buzz, RATE)
    assert table["frozen"].all() and not table["looped"].any()
    for length in (0.1, 0.2, 0.32):
        samples = int(length * RATE)
        cut = music[:6, :, RATE : RATE + samples].repeat(1, 1, 12)
        table = degenerate(cut, RATE)
        assert (table["looped"] | table["frozen"]).mean() > 0.8
        looped = table[table["looped"]]
        multiple = looped["loop_seconds"] / length
        assert (np.abs(multiple - multiple.round()) < 0.06).all()


def test_frozen_codes_are_bad(music, codec):
    ruined = degrade(music[:24, 0], "frozen codes", codec, np.random.default_rng(5))
    assert quality(ruined[:, None], RATE, RenderedJudge())["bad"].mean() > 0.9


def test_thresholds_can_be_moved(music):
    assert degenerate(music[:3], RATE, Thresholds(silent_db=0.0))["silent"].all()
    assert QualityJudge(thresholds=Thresholds(silent_db=0.0)).score(music[:3], RATE)["bad"].all()


def test_without_a_judge_signal_processing_alone_decides(music):
    table, judged = quality(music[:3], RATE), quality(music[:3], RATE, RenderedJudge())
    assert "not_music" not in table and table["bad"].equals(table["degenerate"])
    assert list(QualityJudge().score(music[:3], RATE)) == list(table)
    assert QualityJudge().accuracy_frame().empty and len(QualityJudge(RenderedJudge()).accuracy_frame())
    assert judged.columns[0] == "not_music"


def test_very_short_audio_is_measured_without_error():
    table = degenerate(np.random.default_rng(0).normal(size=(2, 1, 300)).astype(np.float32), RATE)
    assert len(table) == 2 and not table["looped"].any()


def test_a_clip_resembles_its_own_continuation_more_than_others(music):
    """First against second half of the same clips; shuffling the prompts destroys it."""
    half = music.shape[-1] // 2
    table = prompt_similarity(music[:24, :, half:], music[:24, :, :half], RATE, RenderedJudge().embed)
    assert table["embedding"].mean() > table["embedding_others"].mean() + 0.3
    assert table["chroma"].mean() > table["chroma_others"].mean()
    turned = prompt_similarity(music[:24, :, half:], music[:24, :, :half].roll(5, 0), RATE, RenderedJudge().embed)
    assert turned["embedding"].mean() < table["embedding"].mean() - 0.3


def test_a_clip_is_its_own_twin(music):
    table = prompt_similarity(music[:3], music[:3], RATE, RenderedJudge().embed)
    np.testing.assert_allclose(table[["embedding", "chroma"]], 1, atol=1e-5)
    with pytest.raises(DataError, match="3 clips and 2 prompts"):
        prompt_similarity(music[:3], music[:2], RATE)


def test_an_embedding_of_ones_own(music):
    table = prompt_similarity(music[:3], music[:3].flip(0), RATE, embed=lambda audio, rate: np.eye(3, dtype=np.float32))
    assert list(table["embedding"]) == [1, 1, 1] and list(table["embedding_others"]) == [0, 0, 0]


def test_structure_is_that_of_the_twin_and_of_no_other(music):
    own = structure_similarity(music[:24], music[:24], RATE)
    np.testing.assert_allclose(own, 1, atol=1e-6)
    other = structure_similarity(music[:24], music[:24].roll(1, 0), RATE)
    assert (other["chroma"].mean() < 0.5) and (other["onsets"].mean() < 0.5) and (other.abs() <= 1 + 1e-6).all().all()
    faint = structure_similarity(music[:8], 0.1 * music[:8], RATE)  # loudness is no structure
    np.testing.assert_allclose(faint, 1, atol=0.02)
    noise = torch.randn(music[:8].shape, generator=torch.Generator().manual_seed(0))
    stained = structure_similarity(music[:8], music[:8] + 0.1 * music[:8].std() * noise, RATE).mean()
    drowned = structure_similarity(music[:8], music[:8].std() * noise, RATE).mean()
    assert (stained > 0.5).all() and (drowned < 0.2).all()
    assert (structure_similarity(torch.zeros(1, 1, RATE), music[:1, :, :RATE], RATE) == 0).all().all()
    with pytest.raises(DataError, match="one twin of the same length"):
        structure_similarity(music[:2], music[:2, :, :RATE], RATE)
