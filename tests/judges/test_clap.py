"""The CLAP judge on a tiny random checkpoint in the layout of the hub, without a network."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from interp.errors import DataError, ModelError
from interp.judges import ClapJudge, Judge, accuracy_table, fad, load
from interp.judges.accuracy import worth
from interp.judges.clap import CHECKPOINT, clap_questions


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

    from interp.judges.audio import mono
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
    table = accuracy_table([judge])
    assert list(table["measure"]) == ["not measured", *["separation of its words"] * 4]
    assert worth(judge, "drums") == "the judge clap was never measured on drums"
    labels = pd.DataFrame({"drums": [0, 1, 0, 1, 0], "genre": ["jazz"] * 5})
    frame = judge.measure(sounds, 16_000, labels, "noise")
    assert set(frame["trait"]) == {"drums", "genre"}
    assert list(accuracy_table([judge])["n"].dropna()) == [5, 5]
    assert worth(judge, "drums").endswith("% on noise")


def test_questions_of_ones_own(clap_checkpoint, sounds):
    judge = ClapJudge(clap_checkpoint, {"mood": {"calm": "calm music", "tense": "tense music"}})
    assert list(judge.score(sounds, 16_000).columns) == ["calm", "tense", "not_music"]
    with pytest.raises(DataError, match="two answers"):
        ClapJudge(clap_checkpoint, {"mood": {"calm": "calm music"}})


def test_a_missing_checkpoint_gets_a_sentence(tmp_path):
    with pytest.raises(ModelError, match="no CLAP model could be loaded from"):
        ClapJudge(tmp_path / "nothing")


def test_a_checkpoint_that_says_the_same_of_all_words_is_refused(clap_checkpoint, tmp_path):
    from transformers import ClapModel, ClapProcessor

    model = ClapModel.from_pretrained(clap_checkpoint)
    torch.nn.init.zeros_(model.text_projection.linear2.weight)
    model.save_pretrained(tmp_path / "alike")
    ClapProcessor.from_pretrained(clap_checkpoint).save_pretrained(tmp_path / "alike")
    with pytest.raises(ModelError, match=r"alike says nearly the same .*words 1\.000.*" + CHECKPOINT):
        ClapJudge(tmp_path / "alike")


def test_separation_of_words_stands_beside_verdicts(judge):
    apart = judge.separation
    texts = judge._embed_text(["music with drums", "music without drums or percussion"])
    assert apart["drums"] == pytest.approx(1 - float(texts[0] @ texts[1]), abs=1e-6)
    rows = accuracy_table([judge]).set_index("trait")
    assert rows.loc["genre", "value"] == pytest.approx(apart["genre"])


def test_long_clips_are_heard_in_windows_that_do_not_change(clap_checkpoint, judge):
    """The window is 2 s: 5 s are heard in three windows, evenly spaced, and nothing is drawn at random."""
    rng = np.random.default_rng(1)
    long = (rng.normal(size=(1, 1, 5 * 48_000)) * np.linspace(0.01, 1, 5 * 48_000)).astype(np.float32)
    np.random.seed(3)
    torch.manual_seed(3)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    first, again = judge.embed(long, 48_000), judge.embed(long, 48_000)
    np.testing.assert_array_equal(first, again)
    assert (np.random.get_state()[1] == before[0]).all() and torch.equal(torch.get_rng_state(), before[1])
    parts = [long[..., start : start + 96_000] for start in (0, 72_000, 144_000)]
    mean = sum(judge.embed(part, 48_000)[0] for part in parts)
    np.testing.assert_allclose(first[0], mean / np.linalg.norm(mean), atol=1e-5)


def test_a_fusion_extractor_draws_nothing_either(clap_checkpoint, sounds):
    judge = ClapJudge(clap_checkpoint)
    extract = type(judge._processor.feature_extractor).__call__
    seen = []

    class Drawing(type(judge._processor.feature_extractor)):
        def __call__(self, *args, **options):
            inputs = extract(self, *args, **options)
            inputs["is_longer"][np.random.randint(len(inputs["is_longer"]))] = True
            seen.append(True)
            return inputs

    judge._processor.feature_extractor.__class__ = Drawing
    state = np.random.get_state()[1].copy()
    first = judge.embed(sounds, 16_000)
    assert seen and (np.random.get_state()[1] == state).all()
    np.testing.assert_array_equal(first, judge.embed(sounds, 16_000))


def test_words_for_labels_that_nobody_foresaw():
    import pandas as pd

    labels = pd.DataFrame({"choir": ["no", "yes"], "style": ["baroque", "folk"]})
    asked = clap_questions(["choir", "style=folk", "genre=jazz", "genre=tango"], labels)
    assert list(asked["style"]) == ["baroque", "folk"] and asked["choir"]["no choir"] == "music without choir"
    assert list(asked["genre"]) == ["classical", "rock", "jazz", "electronic", "tango"]
    assert clap_questions(["mood=calm"])["mood"] == {"calm": "calm music", "no calm": "no calm music"}


def test_load_names_a_checkpoint_and_measures_it_on_labelled_clips(clap_checkpoint):
    import pandas as pd

    from interp.clips import Clips

    rng = np.random.default_rng(0)
    labels = pd.DataFrame({"style": ["baroque", "folk"] * 3, "group": list("abcdef")})
    clips = Clips.from_arrays([rng.normal(size=(1, 16_000)).astype(np.float32) for _ in range(6)], 16_000, labels)
    judge = load(f"clap:{clap_checkpoint}", data=clips, traits=["style=folk"])
    assert judge.questions["style"] == ["baroque", "folk"]
    assert "never measured" not in worth(judge, "style=folk") and "never measured" in worth(judge, "drums")
