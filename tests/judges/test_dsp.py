"""Signal measures on sounds whose measure is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from interp.errors import ClipError, DataError
from interp.judges import Judge
from interp.judges.dsp import MEASURES, DspJudge, chroma_vector, krumhansl_key

RATE = 16_000


def clicks(tempo: float, seconds: float = 6.0) -> np.ndarray:
    """Short noise bursts on the beat over a faint chord."""
    rng = np.random.default_rng(0)
    time = np.arange(int(seconds * RATE)) / RATE
    out = 0.01 * np.sin(2 * np.pi * 220 * time)
    for beat in np.arange(0.1, seconds - 0.1, 60 / tempo):
        at = int(beat * RATE)
        out[at : at + 400] += rng.normal(size=400) * np.exp(-np.arange(400) / 80)
    return out.astype(np.float32)


def chord(keys: list[int], seconds: float = 3.0) -> np.ndarray:
    time = np.arange(int(seconds * RATE)) / RATE
    return np.mean([np.sin(2 * np.pi * 440 * 2 ** ((key - 69) / 12) * time) for key in keys], 0).astype(np.float32)


@pytest.mark.parametrize("tempo", [90.0, 117.0, 140.0])
def test_the_tempo_of_clicks_is_found_within_two_per_cent(tempo):
    found = DspJudge(["tempo"]).score([clicks(tempo)], RATE)["tempo"][0]
    assert found == pytest.approx(tempo, rel=0.02)


def test_the_number_of_onsets_is_found():
    assert DspJudge(["onset_density"]).score([clicks(120.0)], RATE)["onset_density"][0] == pytest.approx(2, abs=0.25)


@pytest.mark.parametrize("pitch", [300.0, 1000.0, 3000.0])
def test_the_centroid_of_a_tone_is_its_pitch(pitch):
    time = np.arange(2 * RATE) / RATE
    tone = np.sin(2 * np.pi * pitch * time).astype(np.float32)
    assert DspJudge(["centroid"]).score([tone], RATE)["centroid"][0] == pytest.approx(pitch, rel=0.06)


def test_clicks_are_percussive_and_chords_are_not():
    sounds = [clicks(120.0)[: 3 * RATE], chord([60, 64, 67])]
    shares = DspJudge(["percussive_share"]).score(sounds, RATE)["percussive_share"]
    assert shares[0] > 0.8 > 0.1 > shares[1]


@pytest.mark.parametrize(("tonic", "third"), [(0, 4), (7, 4), (9, 3), (2, 3)])
def test_the_key_of_a_cadence_is_found(tonic, third):
    """I, IV, V, I in major; i, iv, V, i in (harmonic) minor."""
    root = 60 + tonic
    chords = [[0, third, 7], [5, 5 + third, 12], [7, 11, 14], [0, third, 7], [0, third, 7]]
    audio = np.concatenate([chord([root + key for key in keys], 0.8) for keys in chords])
    row = DspJudge(["key", "major"]).score([audio], RATE).iloc[0]
    assert row["key"] == tonic
    assert (row["major"] > 0) == (third == 4)


def test_chroma_of_a_note_is_its_pitch_class_and_sums_to_one():
    vector = chroma_vector(chord([69]))
    assert vector.argmax() == 9 and vector.sum() == pytest.approx(1)
    assert chroma_vector(np.zeros(RATE, np.float32)).sum() == 0
    assert krumhansl_key(np.roll([5, 0, 3, 0, 4, 3, 0, 5, 0, 3, 0, 2.0], 4))[0] == 4


def test_measures_do_not_depend_on_loudness_or_on_each_other():
    audio = clicks(120.0, 3.0)
    judge = DspJudge()
    loud, faint = judge.score([audio], RATE), judge.score([audio * 0.05], RATE)
    np.testing.assert_allclose(loud, faint, rtol=0.02, atol=0.02)
    for measure in MEASURES:
        assert DspJudge([measure]).score([audio], RATE)[measure][0] == pytest.approx(loud[measure][0])


def test_silence_has_no_measure_and_bad_input_a_sentence():
    assert DspJudge().score(torch.zeros(1, 1, RATE), RATE).isna().all().all()
    with pytest.raises(DataError, match="no measure 'groove'"):
        DspJudge(["groove"])
    with pytest.raises(ClipError, match=r"lasts 0\.06 s"):
        DspJudge().score(np.zeros((1, 1, 1000), np.float32), RATE)


def test_it_reports_its_accuracy():
    judge = DspJudge(["tempo", "centroid"])
    assert isinstance(judge, Judge)
    frame = judge.accuracy_frame()
    assert set(frame["trait"]) == {"tempo", "centroid"}
    assert (frame["n"] >= 100).all() and frame["value"].between(0, 1).all()
