"""The renderer: the labels are true, the factors independent, the same seed gives the same sound."""

from __future__ import annotations

import numpy as np
import pytest

from interp.data import Factors, render_arrays, render_clips
from interp.data.compose import DRUM_CHANNEL, compose
from interp.data.factors import GENRES, INSTRUMENTS, draw_factors
from interp.data.render import SAMPLE_RATE, render_audio, render_notes
from interp.errors import DataError

PLAIN = Factors("rock", "piano", 0, drums=True, bass=True, tempo=120.0, mode="major", key=0, busy=0.5, octave=0)


def test_same_seed_same_sound_and_longer_sets_begin_alike() -> None:
    short, labels = render_arrays(3, seed=5, seconds=1.0)
    again, more_labels = render_arrays(5, seed=5, seconds=1.0)
    np.testing.assert_array_equal(short, again[:3])
    assert labels.equals(more_labels.iloc[:3])
    other, _ = render_arrays(3, seed=6, seconds=1.0)
    assert not np.array_equal(short, other)


def test_clips_of_a_score_share_what_the_group_promises() -> None:
    clips = render_clips(24, seed=1, seconds=0.5, clips_per_score=3)
    labels = clips.labels
    shared = labels.groupby("group")[["genre", "instrument", "preset", "tempo", "mode"]].nunique()
    assert (shared == 1).all(axis=None)
    assert labels.groupby("group").size().eq(3).all()
    assert labels.groupby("group")["drums"].nunique().max() == 2  # drums differ within a score


@pytest.mark.parametrize("seed", range(5))
def test_notes_say_what_the_labels_say(seed: int) -> None:
    rng = np.random.default_rng(seed)
    factors = draw_factors(rng, {})
    notes = compose(factors, 4.0, rng, 80.0, None)
    channels = {note.channel for note in notes}
    assert (DRUM_CHANNEL in channels) == factors.drums
    assert (2 in channels) == factors.bass
    assert {note.program for note in notes if note.channel == 0} == {factors.program}
    assert factors.program in INSTRUMENTS[factors.instrument]
    assert all(note.end > note.start >= 0 and 1 <= note.velocity <= 127 for note in notes)
    assert max(note.start for note in notes) > 3.0  # fills the time


def test_beats_are_where_the_tempo_puts_them() -> None:
    notes = compose(PLAIN, 4.0, np.random.default_rng(0), 80.0, None)
    kicks = sorted(note.start for note in notes if note.channel == DRUM_CHANNEL and note.key == 36)
    beats = np.array(kicks) / 0.5  # half a second a beat
    np.testing.assert_allclose(beats * 2, np.round(beats * 2), atol=1e-9)


def test_lead_pitches_belong_to_the_mode() -> None:
    notes = compose(PLAIN, 4.0, np.random.default_rng(3), 80.0, None)
    assert {note.key % 12 for note in notes if note.channel == 0} <= {0, 2, 4, 5, 7, 9, 11}


def test_factors_are_independent_in_the_draw() -> None:
    drawn = [draw_factors(np.random.default_rng([7, i]), {}) for i in range(2000)]
    for genre in GENRES:
        share = np.mean([one.drums for one in drawn if one.genre == genre])
        assert abs(share - 0.5) < 0.09  # 4 standard errors of 500
        pianos = np.mean([one.instrument == "piano" for one in drawn if one.genre == genre])
        assert abs(pianos - 1 / 6) < 0.07


def test_drums_are_heard_and_the_level_is_steady() -> None:
    rng = [np.random.default_rng(2) for _ in range(2)]
    without = Factors(**{**PLAIN.__dict__, "drums": False})
    loud, quiet = (render_audio(one, 2.0, r)[0] for one, r in zip((PLAIN, without), rng, strict=True))
    assert loud.dtype == np.float32 and loud.shape == (2 * SAMPLE_RATE,)
    for audio in (loud, quiet):
        assert 0.03 < np.sqrt(np.mean(audio**2)) < 0.15
    high = [np.mean(np.abs(np.fft.rfft(audio))[10_000:]) for audio in (loud, quiet)]
    assert high[0] > 2 * high[1]  # cymbals


def test_silence_without_notes() -> None:
    assert not render_notes([], 0.25).any()


def test_fixed_factors_hold_and_wrong_ones_are_refused() -> None:
    _, labels = render_arrays(8, seed=0, seconds=0.25, factors={"drums": False, "genre": "jazz"})
    assert not labels["drums"].any() and set(labels["genre"]) == {"jazz"}
    with pytest.raises(DataError, match="no genre 'polka'"):
        render_arrays(1, seed=0, seconds=0.25, factors={"genre": "polka"})
    with pytest.raises(DataError, match="no factor 'drum'"):
        render_arrays(1, seed=0, seconds=0.25, factors={"drum": True})
    with pytest.raises(DataError, match="at least one clip"):
        render_arrays(0, seed=0, seconds=0.25)
