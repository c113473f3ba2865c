"""What every judge keeps to, whatever it judges."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd
import pytest

from interp.errors import DataError
from interp.judges import Judge, RenderedJudge, embed, hears, score
from interp.judges.audio import mono
from interp.judges.base import answers, can_hear, has_embedding, judge_all, require
from interp.judges.dsp import DspJudge
from interp.judges.quality import QualityJudge
from interp.traits import Trait


class Loudness:
    """A judge that measures, as a user would write it."""

    name = "loudness"
    independent = True
    questions: ClassVar = {}

    def score(self, audio, sample_rate):
        return pd.DataFrame({"rms": [float(clip.square().mean().sqrt()) for clip in mono(audio, sample_rate)]})

    def accuracy_frame(self):
        return pd.DataFrame()


class Ear(Loudness):
    """A judge that answers, as it is told to."""

    name = "ear"
    questions: ClassVar = {"drums": ["drums"], "instrument": ["piano", "organ"]}

    def __init__(self, **columns):
        self.columns = columns

    def score(self, audio, sample_rate):
        return pd.DataFrame(self.columns)


SCORES = {"drums": [0.2, 0.5], "piano": [0.1, 0.6], "organ": [0.3, 0.3], "not_music": [0.6, 0.1]}
TWO = np.zeros((2, 1, 100), np.float32)


def test_every_judge_keeps_the_contract(music):
    judges = [RenderedJudge(), DspJudge(["centroid"]), QualityJudge(), Loudness()]
    for judge in judges:
        assert isinstance(judge, Judge)
        assert len(judge.score(music[:3], 16_000)) == 3
    table = judge_all(judges, music[:3], 16_000)
    assert len(table) == 3
    assert {"rendered.drums", "rendered.not_music", "dsp.centroid", "quality.bad", "loudness.rms"} <= set(table.columns)
    np.testing.assert_array_equal(table["rendered.jazz"], judges[0].score(music[:3], 16_000)["jazz"])
    assert [has_embedding(judge) for judge in judges] == [True, False, False, False]
    with pytest.raises(DataError, match="'dsp' has no embedding"):
        embed(judges[1], music[:3], 16_000)


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


def test_what_counts_as_heard():
    judge = Ear(**SCORES)
    scores = score(judge, TWO, 16_000)
    heard = hears(judge, scores, "drums")
    assert heard["hit"].tolist() == [False, True] and heard["score"].tolist() == [0.2, 0.5]
    assert heard["not_music"].tolist() == [True, False]
    assert hears(judge, scores, "instrument=piano")["hit"].tolist() == [False, True]
    assert hears(judge, scores, Trait("instrument", "organ"))["hit"].tolist() == [False, False]
    pd.testing.assert_frame_equal(hears(judge, TWO, "drums", 16_000), heard)
    with pytest.raises(DataError, match="sample rate"):
        hears(judge, TWO, "drums")
    assert answers(judge, scores).to_dict("list") == {"drums": [0.0, 1.0], "instrument": ["not_music", "piano"]}


@pytest.mark.parametrize("trait", ["instrument", "instrument=tuba", "tempo", "drums=1", "orchestral"])
def test_what_a_judge_cannot_hear_is_said_with_what_can_be_done(trait):
    judge = Ear(**SCORES)
    assert not can_hear(judge, trait) and can_hear(judge, "drums")
    for refuse in (lambda: require(judge, "drums", trait), lambda: hears(judge, pd.DataFrame(SCORES), trait)):
        with pytest.raises(DataError, match=r"cannot hear .* it knows drums, instrument=piano.*--judge trained"):
            refuse()


@pytest.mark.parametrize("judge", [DspJudge(), QualityJudge(), Loudness()])
def test_a_judge_that_answers_nothing_gets_one_sentence(judge):
    with pytest.raises(DataError, match=f"the judge '{judge.name}' measures sound and answers no question"):
        hears(judge, TWO, "drums", 16_000)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", list(SCORES))
def test_scores_that_are_not_finite_are_named_and_never_a_no(value, column):
    judge = Ear(**SCORES | {column: [0.3, value]})
    with pytest.raises(DataError, match=f"gave {value} for '{column}' in clip 1"):
        score(judge, TWO, 16_000)
    if column != "organ":
        trait = "instrument=piano" if column == "piano" else "drums"
        with pytest.raises(DataError, match="not finite"):
            hears(judge, pd.DataFrame(judge.columns), trait)


def test_scores_without_an_answer_are_refused():
    with pytest.raises(DataError, match="have no column organ"):
        score(Ear(drums=[0.1, 0.2], piano=[0.1, 0.2], not_music=[0.0, 0.0]), TWO, 16_000)
