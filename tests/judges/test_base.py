"""What every judge keeps to, whatever it judges."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
import pandas as pd
import pytest
import torch

from interp.errors import ClipError, DataError
from interp.judges import DspJudge, Judge, QualityJudge, RenderedJudge, accuracy_table, judge_all
from interp.judges.base import answer, by_length, measure_answers, mono


class Loudness:
    """A judge of three lines, as a user would write it."""

    name = "loudness"
    independent = True
    accuracy = MappingProxyType({})

    def score(self, audio, sample_rate):
        return pd.DataFrame({"rms": [float(clip.square().mean().sqrt()) for clip in mono(audio, sample_rate)]})

    def accuracy_frame(self):
        return pd.DataFrame()


def test_every_judge_keeps_the_protocol(music):
    judges = [RenderedJudge(), DspJudge(["centroid"]), QualityJudge(), Loudness()]
    for judge in judges:
        assert isinstance(judge, Judge)
        assert len(judge.score(music[:3], 16_000)) == 3
    table = judge_all(judges, music[:3], 16_000)
    assert len(table) == 3
    assert {"rendered.drums", "rendered.not_music", "dsp.centroid", "quality.bad", "loudness.rms"} <= set(table.columns)
    np.testing.assert_array_equal(table["rendered.jazz"], judges[0].score(music[:3], 16_000)["jazz"])


def test_a_verdict_carries_what_its_judges_are_worth(music):
    table = judge_all([RenderedJudge(), Loudness()], music[:2], 16_000)
    worth = pd.DataFrame(table.attrs["accuracy"])
    assert {"drums", "instrument", "genre", "not_music"} <= set(worth.loc[worth["judge"] == "rendered", "trait"])
    assert list(worth.loc[worth["judge"] == "loudness", "measure"]) == ["not measured"]
    assert worth.equals(accuracy_table([RenderedJudge(), Loudness()]))


def test_judges_that_cannot_be_told_apart_or_count_wrong_are_refused(music):
    class Sleepy(Loudness):
        name = "sleepy"

        def score(self, audio, sample_rate):
            return super().score(audio, sample_rate).iloc[1:]

    with pytest.raises(DataError, match="share a name"):
        judge_all([Loudness(), Loudness()], music[:2], 16_000)
    with pytest.raises(DataError, match="1 rows for 2 clips"):
        judge_all([Sleepy()], music[:2], 16_000)
    with pytest.raises(DataError, match="no judge"):
        judge_all([], music[:2], 16_000)


@pytest.mark.parametrize(
    ("audio", "rate", "sentence"),
    [
        (np.zeros(100, np.float32), 16_000, "shape"),
        (np.zeros((2, 2, 2, 2), np.float32), 16_000, "shape"),
        ([], 16_000, "no clip"),
        ([np.zeros((1, 0), np.float32)], 16_000, "Clip 0 has shape"),
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


def test_answers_and_their_accuracy():
    scores = pd.DataFrame({"drums": [0.9, 0.4, 0.1], "jazz": [0.6, 0.3, 0.1], "rock": [0.3, 0.6, 0.1]})
    scores["not_music"] = [0.1, 0.1, 0.8]
    assert list(answer(scores, ["drums"])) == [1.0, 0.0, 0.0]
    assert list(answer(scores, ["jazz", "rock"])) == ["jazz", "rock", "not_music"]
    labels = pd.DataFrame({"drums": [1, 1, 0], "genre": ["jazz", "jazz", "rock"], "group": ["a", "a", "b"]})
    rows = measure_answers(scores, labels, {"drums": ["drums"], "genre": ["jazz", "rock"]}, "here")
    assert [(row["trait"], row["value"], row["n_groups"]) for row in rows] == [
        ("drums", pytest.approx(2 / 3), 2),
        ("genre", pytest.approx(1 / 3), 2),
    ]
    assert all(row["lo"] < row["value"] < row["hi"] for row in rows)
    with pytest.raises(DataError, match="No column of labels"):
        measure_answers(scores, labels[["group"]], {"drums": ["drums"]}, "here")
    with pytest.raises(DataError, match="3 clips and 2 rows"):
        measure_answers(scores, labels[:2], {"drums": ["drums"]}, "here")
