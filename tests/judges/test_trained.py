"""A judge trained on labelled clips: right on songs it never heard, and refused where sound does not tell."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from interp.clips import Clips
from interp.errors import DataError
from interp.judges import Judge, accuracy_table, embed, hears, score, train

RATE = 16_000


def sounds(wanted, seed, seconds=1.5):
    """Noise, with a tone of a pitch of its own for each class; level varies from clip to clip."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    pitch = {"low": 200.0, "mid": 900.0, "high": 3000.0, 0: 0.0, 1: 900.0}
    made = []
    for one in wanted:
        tone = np.sin(2 * np.pi * pitch[one] * rng.uniform(0.9, 1.1) * time)
        made.append((rng.uniform(0.1, 1) * (0.5 * tone + 0.2 * rng.normal(size=len(time))))[None].astype(np.float32))
    return made


def labelled(wanted, column, seed=0, **more):
    labels = pd.DataFrame({column: wanted, "group": [f"g{i // 2}" for i in range(len(wanted))], **more})
    return Clips.from_arrays(sounds(wanted, seed), RATE, labels)


def test_it_hears_what_it_was_taught_in_songs_it_never_heard():
    judge = train(labelled([0, 1] * 16, "orchestral"), "orchestral", seconds=1.0)
    assert isinstance(judge, Judge) and judge.independent and judge.questions == {"orchestral": ["orchestral"]}
    new = [1, 0, 1, 0, 0, 1]
    heard = hears(judge, sounds(new, 99), "orchestral", RATE)
    assert heard["hit"].astype(int).tolist() == new and heard["score"].between(0, 1).all()
    (row,) = judge.accuracy_frame().to_dict("records")
    assert row["measure"] == "held-out accuracy" and row["value"] > 0.9 and row["n_groups"] == 16
    assert row["lo"] > row["chance"] == 0.5 and list(accuracy_table([judge])["judge"]) == ["trained"]
    assert embed(judge, sounds(new, 99), RATE).shape == (6, 192)


def test_several_classes_compete_and_silence_is_no_music():
    judge = train(labelled(["low", "mid", "high"] * 10, "pitch"), "pitch")
    assert judge.questions == {"pitch": ["high", "low", "mid"]}
    scores = score(judge, [*sounds(["mid", "high"], 7), np.zeros((1, RATE), np.float32)], RATE)
    np.testing.assert_allclose(scores[["high", "low", "mid"]].sum(axis=1) + scores["not_music"], 1)
    assert hears(judge, scores, "pitch=mid")["hit"].tolist() == [True, False, False]
    assert scores["not_music"].tolist() == [0, 0, 1]


def test_the_same_seed_gives_the_same_judge_and_long_clips_are_heard_in_windows():
    clips = labelled([0, 1] * 10, "orchestral")
    first, again = (train(clips, "orchestral", seconds=1.0) for _ in range(2))
    audio = sounds([0, 1], 5, seconds=3.7)
    pd.testing.assert_frame_equal(first.score(audio, RATE), again.score(audio, RATE))
    parts = [
        first.score([audio[0][:, start : start + RATE]], RATE)["orchestral"].item()
        for start in (0, 14400, 28800, 43200)
    ]
    assert first.score(audio[:1], RATE)["orchestral"].item() == pytest.approx(np.mean(parts), abs=1e-6)


def test_the_interval_counts_songs_and_not_clips():
    """Twelve windows of every song: as many clips as one likes, no more evidence than there are songs."""
    wanted = np.repeat([0, 1] * 4, 12)
    clips = Clips.from_arrays(
        sounds(wanted, 0, 1.0),
        RATE,
        pd.DataFrame({"orchestral": wanted, "group": np.repeat(np.arange(8), 12).astype(str)}),
    )
    (row,) = train(clips, "orchestral").accuracy_frame().to_dict("records")
    assert (row["n"], row["n_groups"]) == (96, 8) and row["value"] == 1 and row["lo"] < 0.7


def test_what_sound_does_not_tell_is_refused():
    rng = np.random.default_rng(4)
    clips = labelled(list(rng.permutation([0, 1] * 16)), "orchestral")
    shuffled = Clips.from_arrays(
        [clip.audio for clip in clips], RATE, clips.labels.assign(orchestral=rng.permutation([0, 1] * 16))
    )
    with pytest.raises(DataError, match=r"does not tell orchestral: .* right in \d+%"):
        train(shuffled, "orchestral")


def test_labels_that_no_judge_can_learn_get_a_sentence():
    few = labelled([0, 0, 0, 0, 1, 1], "orchestral")
    with pytest.raises(DataError, match="clips of two groups or more"):
        train(few, "orchestral")
    with pytest.raises(DataError, match="tempo is a number"):
        train(labelled([0, 1] * 8, "orchestral", tempo=np.arange(16.0)), "tempo")
    with pytest.raises(DataError, match="two traits of one label"):
        train(labelled(["low", "mid", "high"] * 4, "pitch"), ["pitch=low", "pitch=high"])


def test_the_codec_of_the_model_stands_between_labelled_and_generated_music(tiny):
    clips = labelled([0, 1] * 12, "orchestral")
    judge = train(clips, "orchestral", model=tiny)
    assert judge.accuracy_frame()["audio"].item() == "labelled clips, codec round trip"
    new = [1, 0] * 8
    heard = torch.cat([tiny.decode(tiny.encode(torch.from_numpy(sound)[None], RATE)) for sound in sounds(new, 99)])
    assert (hears(judge, heard, "orchestral", RATE)["hit"] == np.array(new)).mean() > 0.8
    assert not np.allclose(judge.score(heard, RATE), train(clips, "orchestral").score(heard, RATE))
