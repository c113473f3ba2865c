"""The CLAP judge on a tiny random checkpoint in the layout of the hub, without a network."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from interp.errors import DataError, ModelError
from interp.judges import ClapJudge, Judge, accuracy_table, fad


@pytest.fixture(scope="module")
def judge(clap_checkpoint):
    return ClapJudge(clap_checkpoint)


@pytest.fixture(scope="module")
def sounds():
    noise = np.random.default_rng(0).normal(size=(5, 1, 24_000)) * np.linspace(0.01, 1, 5)[:, None, None]
    return noise.astype(np.float32)


def test_probabilities_are_of_trait_and_music(judge, sounds):
    assert isinstance(judge, Judge) and judge.independent
    scores = judge.score(sounds, 16_000)
    assert len(scores) == 5
    for answers in (["drums", "no drums"], ["classical", "rock", "jazz", "electronic"]):
        np.testing.assert_allclose(scores[answers].sum(axis=1) + scores["not_music"], 1, atol=1e-5)
    assert ((scores >= 0) & (scores <= 1)).all().all()


def test_scores_are_what_the_model_itself_says(clap_checkpoint, judge, sounds):
    """One question, against transformers' own forward pass."""
    from transformers import ClapModel, ClapProcessor

    from interp.judges.base import mono
    from interp.judges.clap import MUSIC_WORDS, QUESTIONS

    model, processor = ClapModel.from_pretrained(clap_checkpoint).eval(), ClapProcessor.from_pretrained(clap_checkpoint)
    clips = [clip.numpy() for clip in mono(sounds, 16_000, 48_000)]
    wanted = {}
    for name, words in {"genre": list(QUESTIONS["genre"].values()), "music": list(MUSIC_WORDS)}.items():
        inputs = processor.tokenizer(words, return_tensors="pt", padding=True)
        inputs |= processor.feature_extractor(clips, sampling_rate=48_000, return_tensors="pt")
        with torch.no_grad():
            wanted[name] = model(**inputs).logits_per_audio.softmax(1)
    expected = wanted["genre"] * wanted["music"][:, :1]
    got = judge.score(sounds, 16_000)[list(QUESTIONS["genre"])].to_numpy()
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_batches_do_not_matter_and_embeddings_serve_distances(clap_checkpoint, judge, sounds):
    small = ClapJudge(clap_checkpoint, batch_size=2)
    np.testing.assert_allclose(small.embed(sounds, 16_000), judge.embed(sounds, 16_000), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(judge.embed(sounds, 16_000), axis=1), 1, atol=1e-5)
    assert fad(judge.embed(sounds, 16_000), judge.embed(sounds, 16_000)).value == pytest.approx(0, abs=1e-6)


def test_accuracy_is_unknown_until_measured(clap_checkpoint, sounds):
    import pandas as pd

    judge = ClapJudge(clap_checkpoint)
    assert not judge.accuracy and list(accuracy_table([judge])["measure"]) == ["not measured"]
    labels = pd.DataFrame({"drums": [0, 1, 0, 1, 0], "genre": ["jazz"] * 5})
    frame = judge.measure(sounds, 16_000, labels, "noise")
    assert set(frame["trait"]) == {"drums", "genre"} == set(judge.accuracy)
    assert list(accuracy_table([judge])["n"]) == [5, 5]


def test_questions_of_ones_own(clap_checkpoint, sounds):
    judge = ClapJudge(clap_checkpoint, {"mood": {"calm": "calm music", "tense": "tense music"}})
    assert list(judge.score(sounds, 16_000).columns) == ["calm", "tense", "not_music"]
    with pytest.raises(DataError, match="two answers"):
        ClapJudge(clap_checkpoint, {"mood": {"calm": "calm music"}})


def test_a_missing_checkpoint_gets_a_sentence(tmp_path):
    with pytest.raises(ModelError, match="No CLAP model could be loaded from"):
        ClapJudge(tmp_path / "nothing")
