"""The tagger judge: calibrated tags of recorded music, what it abstains from, tags of one's own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from interp.clips import Clips
from interp.data import render_arrays
from interp.errors import ClipError, DataError, StoreError
from interp.judges import embed, hears, load, score
from interp.judges.accuracy import worth
from interp.judges.tagger import (
    ENOUGH,
    WEIGHTS,
    Heard,
    TaggerJudge,
    auc,
    auc_interval,
    listen,
    platt,
    tag_score,
    tags_of,
)
from interp.traits import Trait

RATE = 16_000


def loud_genres(labels: pd.DataFrame) -> pd.Series:
    return labels["genre"].isin(["rock", "electronic"])


@pytest.fixture(scope="module")
def judge() -> TaggerJudge:
    return TaggerJudge("clean")


@pytest.fixture(scope="module")
def music() -> tuple[torch.Tensor, pd.DataFrame]:
    audio, labels = render_arrays(48, 88_000_000, 3.0, clips_per_score=1)
    return torch.from_numpy(audio), labels


@pytest.fixture(scope="module")
def scores(judge: TaggerJudge, music: tuple[torch.Tensor, pd.DataFrame]) -> pd.DataFrame:
    return score(judge, music[0], RATE)


def test_probabilities_add_up(judge: TaggerJudge, scores: pd.DataFrame) -> None:
    for question, of in judge.questions.items():
        assert scores[of].to_numpy().min() >= 0
        if len(of) > 1:
            assert of[-1] == f"other {question}"
            np.testing.assert_allclose(scores[of].sum(axis=1) + scores["not_music"], 1, atol=1e-6)


def test_rendered_music_is_music_and_its_traits_are_heard(
    judge: TaggerJudge, scores: pd.DataFrame, music: tuple[torch.Tensor, pd.DataFrame]
) -> None:
    labels = music[1]
    assert (scores["not_music"] < 0.5).mean() > 0.85
    for answer, measured in judge.info["answers"].items():
        if answer not in scores:
            continue
        truth = (labels[["genre", "instrument"]] == answer).any(axis=1)
        truth |= (answer == "drums") & (labels["drums"] == 1)
        value, there = auc(scores[answer].to_numpy(), truth.to_numpy()), measured["clean"]["auc"]
        few = min(truth.sum(), (~truth).sum())
        error = np.sqrt(there * (1 - there) / few)  # no less than that of Hanley and McNeil 1982
        assert abs(value - there) < 3 * error, answer
    frame = judge.accuracy_frame()
    assert set(frame["measure"]) >= {"accuracy", "AUC", "recall", "share heard"}
    assert frame["audio"].str.startswith(("clean", "all")).all()


def test_noise_silence_and_clicks_are_no_music(judge: TaggerJudge) -> None:
    rng = np.random.default_rng(3)
    noise = 0.1 * rng.standard_normal((8, 1, 3 * RATE))
    bursts = noise * (np.arange(3 * RATE) % 8000 < 3000)
    clicks = np.where(rng.random((8, 1, 3 * RATE)) < 5e-4, 0.7, 0.0)
    sounds = np.concatenate([noise, bursts, clicks, np.zeros((1, 1, 3 * RATE))]).astype(np.float32)
    heard = score(judge, sounds, RATE)
    assert heard["not_music"].to_numpy()[-1] == 1.0
    assert (heard["not_music"] >= 0.5).mean() > 0.9
    assert (heard["drums"] >= 0.5).mean() <= 0.1


def test_what_the_tags_do_not_tell_is_not_answered(tmp_path: Path, music: tuple[torch.Tensor, pd.DataFrame]) -> None:
    info = json.loads(WEIGHTS.read_text())
    info["answers"]["drums"]["codec round trip"]["auc"] = 0.61
    info["answers"]["rock"]["codec round trip"]["auc"] = 0.5
    path = tmp_path / "tagger.json"
    path.write_text(json.dumps(info))
    deaf = TaggerJudge("codec round trip", path)
    assert "drums" not in deaf.questions and "rock" not in deaf.questions["genre"]
    with pytest.raises(DataError, match=r"cannot hear 'drums' in this audio: the AUC .* is 0.61 on codec round trip"):
        hears(deaf, music[0][:1], "drums", RATE)
    path.write_text("{}")
    with pytest.raises(StoreError, match="damaged"):
        TaggerJudge(path=path)
    with pytest.raises(StoreError, match="no calibration"):
        TaggerJudge(path=tmp_path / "gone.json")


def test_rate_length_and_neighbours(judge: TaggerJudge, music: tuple[torch.Tensor, pd.DataFrame]) -> None:
    clips = [music[0][0], music[0][1][:, : 2 * RATE], music[0][2]]
    together = embed(judge, clips, RATE)
    assert together.shape == (3, 400)
    np.testing.assert_allclose(embed(judge, clips[1:2], RATE), together[1:2], atol=1e-3)
    doubled = torch.from_numpy(np.repeat(music[0][:2].numpy(), 2, axis=-1))
    assert score(judge, doubled, 2 * RATE)["not_music"].notna().all()
    with pytest.raises(ClipError, match=r"clip 1 lasts 0.50 s"):
        judge.score([clips[0], clips[1][:, :8000]], RATE)


def test_tags_of_ones_own_are_calibrated_on_labelled_clips(music: tuple[torch.Tensor, pd.DataFrame]) -> None:
    loud = loud_genres(music[1]).to_numpy()
    some = np.sort(np.concatenate([np.flatnonzero(loud)[:12], np.flatnonzero(~loud)[:12]]))
    audio, labels = music[0][some], music[1].iloc[some].reset_index(drop=True)
    own = labels[["genre", "group"]].assign(busy=np.where(loud_genres(labels), "yes", "no"))
    judge = TaggerJudge("clean")
    judge.learn("busy", ["rock", "techno", "electronic"], audio, RATE, own, "my clips")
    heard = hears(judge, audio, "busy", RATE)
    assert auc(heard["score"].to_numpy(), loud_genres(labels).to_numpy()) > ENOUGH
    row = judge.accuracy_frame().iloc[-1]
    assert (row["trait"], row["measure"], row["audio"], row["n"]) == ("busy", "AUC", "my clips", 24)
    with pytest.raises(DataError, match="no tag 'kazoo'"):
        judge.learn("busy", ["kazoo"], audio, RATE, own)
    shuffled = own.assign(busy=np.random.default_rng(0).permutation(own["busy"]))
    with pytest.raises(DataError, match=r"cannot hear 'busy'.*opera is 0\.\d\d on labelled clips"):
        judge.learn("busy", ["opera"], audio, RATE, shuffled)
    with pytest.raises(DataError, match="8 of each"):
        judge.learn("busy", ["drums"], audio[:9], RATE, own[:9])


def test_by_name(music: tuple[torch.Tensor, pd.DataFrame]) -> None:
    assert load("tagger", traits=["drums"]).name == "tagger"
    clips = Clips.from_arrays(music[0].numpy(), RATE, music[1].assign(loud=loud_genres(music[1])))
    judge = load("tagger:loud=rock+techno+electronic", data=clips, traits=["loud", "genre=electronic"])
    assert judge.questions["loud"] == ["loud"]
    with pytest.raises(DataError, match="never measured: give clips"):
        load("tagger:loud=techno")
    with pytest.raises(DataError, match="never measured: give clips"):
        load("tagger", traits=["instrument=harpsichord"])
    with pytest.raises(DataError, match="cannot hear 'orchestral'"):
        load("tagger", traits=["orchestral"])
    with pytest.raises(DataError, match="cannot read 'loud'"):
        load("tagger:loud")


def test_labelled_clips_decide_what_is_heard_of_known_traits_too(music: tuple[torch.Tensor, pd.DataFrame]) -> None:
    every = (music[1]["genre"] == "rock").to_numpy()
    some = np.concatenate([np.flatnonzero(every)[:8], np.flatnonzero(~every)[:8]])
    sounds, rock, labels = music[0].numpy()[some], every[some], music[1].iloc[some]
    clips = Clips.from_arrays(sounds, RATE, labels.assign(genre=np.where(rock, "rock", "jazz")))
    judge = load("tagger", data=clips, traits=["genre=rock"])
    row = judge.accuracy_frame().iloc[-1]
    assert (row["trait"], row["measure"], row["audio"], row["n"]) == ("rock", "AUC", "the labelled clips", 16)
    assert row["lo"] < row["value"] <= row["hi"] and worth(judge, "genre=rock").endswith("on the labelled clips")
    turned = Clips.from_arrays(sounds, RATE, labels.assign(genre=np.where(rock, "jazz", "rock")))
    with pytest.raises(DataError, match=r"cannot hear 'rock'.* is 0\.\d\d on the labelled clips"):
        load("tagger", data=turned, traits=["genre=rock"])
    few = clips[:9]  # too few to calibrate on: as it was shipped
    assert (
        load("tagger", data=few, traits=["genre=rock"])
        .score(music[0][:1], RATE)
        .equals(load("tagger", traits=["genre=rock"]).score(music[0][:1], RATE))
    )


def test_an_interval_of_an_auc_holds_the_auc_and_narrows() -> None:
    for value in (0.5, 0.8, 1.0):
        wide, narrow = auc_interval(value, 10, 10), auc_interval(value, 200, 200)
        assert 0 <= wide[0] < narrow[0] <= value and value - 0.01 <= narrow[1] <= max(wide[1], narrow[1]) <= 1
    rng = np.random.default_rng(0)
    truth = np.arange(60) < 30
    inside = [  # scores of two normals, one apart: the AUC is that of the normal law at 1 / sqrt 2, .760
        low <= 0.7602 <= high
        for low, high in (auc_interval(auc(rng.normal(size=60) + truth, truth), 30, 30) for _ in range(400))
    ]
    assert 0.92 <= np.mean(inside) <= 0.99


def test_parts() -> None:
    logits = np.linspace(-3, 3, 100, dtype=np.float32)[:, None] * np.ones((1, 50), np.float32)
    heard = Heard({"MTT_musicnn": logits, "MSD_musicnn": 2 * logits}, logits)
    np.testing.assert_allclose(heard.tag("drums"), logits[:, 0], rtol=1e-6)
    np.testing.assert_allclose(heard.tag("rock"), 1.5 * logits[:, 0], rtol=1e-6)  # both models have it
    np.testing.assert_allclose(tag_score(heard, ["drums", "beat"]), logits[:, 0] + np.log(2), rtol=1e-6)
    truth = logits[:, 0] > 0
    slope, offset = platt(heard.tag("drums"), truth)
    assert slope > 0 and abs(offset / slope) < 0.05
    assert auc(-heard.tag("drums"), truth) == 0.0
    assert tags_of(Trait("genre", "metal"), {"genre=metal": ["metal", "hard rock"]}) == ["metal", "hard rock"]
    assert tags_of(Trait("mood"), {}) == []
    assert listen(np.zeros((1, 1, RATE), np.float32), RATE).embedding.shape == (1, 400)
