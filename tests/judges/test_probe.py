"""The model's own probe: equal to reading by hand, and marked as not independent."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from interp.activations import extract, features
from interp.clips import Clips
from interp.directions import Direction
from interp.errors import CheckpointMismatch, DataError
from interp.judges import Judge, accuracy_table, hears
from interp.judges.probe import ProbeJudge

RATE = 16_000


@pytest.fixture(scope="module")
def audio(tiny_lm_model):
    rng = np.random.default_rng(0)
    size = tiny_lm_model.sample_rate
    return (0.1 * rng.normal(size=(4, 1, size)) * np.array([0.1, 0.5, 1, 2])[:, None, None]).astype(np.float32)


def direction(lm, site, seed, **fields):
    dim = lm.shape.head_dim if ".H" in site else lm.shape.width
    weight = np.random.default_rng(seed).normal(size=dim)
    known = {"method": "logistic", "trait": "drums", "intercept": 0.1, "score": 0.8, "model": lm.fingerprint}
    return Direction.from_weight(site, weight, **{**known, **fields})


def test_it_reads_what_one_reads_by_hand(tiny_lm_model, audio):
    model = tiny_lm_model
    probes = [
        direction(model, "L0.H1", 1, pool="last"),
        direction(model, "L2.H3", 2, pool="last"),
        direction(model, "L1.resid", 3, pool="last"),
        direction(model, "L1.H0", 4, pool="last", trait="genre", positive="jazz", score=0.6),
    ]
    judge = ProbeJudge(model, probes)
    found = judge.probabilities(audio, model.sample_rate)
    labels = pd.DataFrame(index=pd.Index(["a", "b", "c", "d"]))
    read = extract(model, Clips.from_arrays(audio, model.sample_rate, labels), "all", pool="last", progress=False)
    by_hand = [1 / (1 + np.exp(-probe.logit(features(read, probe.site)))) for probe in probes]
    np.testing.assert_allclose(found["drums"], np.median(by_hand[:3], axis=0), atol=1e-5)
    np.testing.assert_allclose(found["jazz"], by_hand[3], atol=1e-5)
    assert found["drums"].std() > 0
    assert judge.questions == {"drums": ["drums"], "genre": ["jazz"]}
    scores = judge.score(audio, model.sample_rate)
    for answer in ("drums", "jazz"):
        np.testing.assert_allclose(scores[answer], found[answer] * (1 - scores["not_music"]))


def test_classes_compete_and_silence_is_no_music(tiny_lm_model, audio):
    model = tiny_lm_model
    genres = {"jazz": 4, "rock": 5, "pop": 6}
    judge = ProbeJudge(
        model, [direction(model, "L1.H0", seed, trait="genre", positive=name) for name, seed in genres.items()]
    )
    sounds = np.concatenate([audio, np.zeros_like(audio[:1])])
    scores = judge.score(sounds, model.sample_rate)
    np.testing.assert_allclose(scores[list(genres)].sum(axis=1) + scores["not_music"], 1, atol=1e-6)
    assert scores["not_music"].iloc[-1] == 1
    heard = hears(judge, scores, "genre=rock")
    assert not heard["hit"].iloc[-1] and judge.embed(audio, model.sample_rate).shape == (4, 192)


def test_it_says_that_it_is_not_independent(tiny_lm_model):
    judge = ProbeJudge(
        tiny_lm_model, [direction(tiny_lm_model, "L0.H1", 1), direction(tiny_lm_model, "L0.H2", 2, score=0.9)]
    )
    assert isinstance(judge, Judge) and not judge.independent
    row = accuracy_table([judge]).iloc[0]
    assert not row["independent"] and row["measure"] == "held-out probe score"
    assert row["value"] == pytest.approx(0.85) and (row["lo"], row["hi"]) == (0.8, 0.9)


def test_probes_that_cannot_judge_get_a_sentence(tiny_lm_model):
    model = tiny_lm_model
    with pytest.raises(DataError, match="no direction"):
        ProbeJudge(model, [])
    with pytest.raises(DataError, match="no intercept"):
        ProbeJudge(model, [direction(model, "L0.H1", 1, intercept=np.nan)])
    with pytest.raises(DataError, match="different pooling"):
        ProbeJudge(model, [direction(model, "L0.H1", 1), direction(model, "L0.H1", 1, pool="last")])
    with pytest.raises(CheckpointMismatch):
        ProbeJudge(model, [direction(model, "L0.H1", 1, model="another")])
