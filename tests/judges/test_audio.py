"""Audio in every accepted form, in batches of equal length, in windows that do not change."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interp.errors import ClipError
from interp.judges import RenderedJudge
from interp.judges.audio import by_length, mono, windows


@pytest.mark.parametrize(
    ("audio", "rate", "sentence"),
    [
        (np.zeros(100, np.float32), 16_000, "shape"),
        (np.zeros((2, 2, 2, 2), np.float32), 16_000, "shape"),
        ([], 16_000, "no clip"),
        ([np.zeros((1, 0), np.float32)], 16_000, "clip 0 has shape"),
        (np.full((1, 1, 20_000), np.nan, np.float32), 16_000, "not finite"),
        (np.zeros((1, 1, 20_000), np.float32), 0, "sample rate"),
        (np.zeros((1, 1, 1_000), np.float32), 16_000, "needs at least"),
    ],
)
def test_bad_audio_gets_a_sentence(audio, rate, sentence):
    with pytest.raises(ClipError, match=sentence):
        RenderedJudge().score(audio, rate)


def test_audio_comes_in_every_accepted_form(music):
    as_list = list(music[:2])
    forms = [music[:2], music[:2].numpy(), music[:2, 0], as_list, [clip[0] for clip in as_list]]
    forms.append(music[:2].repeat(1, 2, 1))  # stereo with equal channels
    for form in forms:
        torch.testing.assert_close(torch.stack(mono(form, 16_000)), music[:2, 0])


def test_resampling_keeps_a_tone_and_its_length():
    for rate in (8_000, 32_000, 44_100):
        time = torch.arange(rate) / rate
        heard = mono(torch.sin(2 * torch.pi * 440 * time)[None, None], rate, 16_000)[0]
        assert abs(len(heard) - 16_000) <= 1
        peak = torch.fft.rfft(heard).abs().argmax() * 16_000 / len(heard)
        assert abs(float(peak) - 440) < 2


def test_clips_of_different_length_are_judged_as_if_alone(music):
    mixed = [music[0], music[1][:, :40_000], music[2], music[3][:, :40_000]]
    together = RenderedJudge().score(mixed, 16_000)
    alone = pd.concat([RenderedJudge().score([clip], 16_000) for clip in mixed], ignore_index=True)
    np.testing.assert_allclose(together, alone, atol=1e-5)
    covered = [index for indices, _ in by_length([clip[0] for clip in mixed], 1) for index in indices]
    assert sorted(covered) == [0, 1, 2, 3]


@given(st.integers(1, 400), st.integers(1, 100))
def test_windows_cover_a_clip_evenly(length, size):
    clip = torch.arange(length)
    cut = windows(clip, size)
    assert set(torch.cat(cut).tolist()) == set(range(length))
    assert {len(window) for window in cut} == {min(size, length)}
    assert len(cut) == -(-length // size)
    starts = np.array([int(window[0]) for window in cut])
    assert np.ptp(np.diff(starts)) <= 1 if len(cut) > 1 else True
