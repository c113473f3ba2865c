"""When a trait becomes readable."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from planted_data import FRAMES, planted_dataset

from interp.activations import extract
from interp.clips import Clips
from interp.data.compose import DRUM_CHANNEL, compose
from interp.data.factors import draw_factors
from interp.data.render import SAMPLE_RATE, render_notes
from interp.errors import DataError
from interp.model import MusicGen
from interp.plots import time_course
from interp.probes import over_time


def test_a_trait_becomes_readable_when_it_begins() -> None:
    ds, _ = planted_dataset(n_groups=50, strength=3.0, pools=("mean", *FRAMES), from_frame=3)
    result = over_time(ds, "drums", sites="L1.H1, L0.H0", method="ridge", n_permutations=40, n_bootstrap=100)
    assert result.frames == (0, 25, 50, 75)
    course = result.course.set_index(["site", "frame"])
    assert course.loc[("L1.H1", 25), "test_score"] < 0.65
    assert course.loc[("L1.H1", 50), "test_score"] > 0.8
    onset = result.onset().set_index("site")["seconds"]
    assert onset["L1.H1"] == 1.0
    assert np.isnan(onset["L0.H0"])
    matrix = result.matrix("L1.H1")
    assert matrix.loc[50, 75] > 0.8  # what is read at one time reads the other
    assert matrix.loc[0, 75] < 0.7
    np.testing.assert_allclose(
        np.diag(matrix), result.course[result.course["site"] == "L1.H1"]["test_score"], atol=1e-6
    )


@pytest.mark.slow
def test_drums_become_readable_when_they_enter(tiny: MusicGen) -> None:
    """Rendered music in which drums enter after 0.6 s, or never; all else is the same."""
    audio, rows = [], []
    for i in range(120):
        score, enters = i // 2, i % 2
        factors = draw_factors(np.random.default_rng([4, score]), {"drums": True})
        notes = compose(factors, 1.2, np.random.default_rng([4, i]), 90.0, None)
        sound = render_notes([n for n in notes if n.channel != DRUM_CHANNEL or (enters and n.start >= 0.6)], 1.2)
        loud = np.sqrt(np.mean(sound[: len(sound) // 2] ** 2))  # of the part before: no trace of what comes
        audio.append(np.clip(0.08 * sound / (loud + 1e-6), -1, 1))
        rows.append({"enters": enters, "group": f"score-{score}"})
    clips = Clips.from_arrays(audio, SAMPLE_RATE, pd.DataFrame(rows))
    ds = extract(tiny, clips, sites="L1.resid, L3.resid", pool="every:10", progress=False)
    result = over_time(
        ds, "enters", sites="resid", method="ridge", folds=3, test_size=0.4, n_permutations=60, n_bootstrap=100
    )
    before, after = (0, 10, 20), (40, 50)
    course = result.course.set_index("frame")["test_score"]
    assert course.loc[list(before)].mean() < 0.6
    assert course.loc[list(after)].mean() > 0.7
    onset = result.onset()["seconds"].dropna()
    assert len(onset) and (onset >= 0.6).all()
    for site in ("L1.resid", "L3.resid"):
        matrix = result.matrix(site)
        assert (matrix.loc[40, 50] + matrix.loc[50, 40]) / 2 > 0.6  # what is read at one time is read at the other
        assert matrix.loc[list(after), list(before)].to_numpy().mean() < 0.6
    ax = time_course(result.course, events={"drums enter": 0.6})
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Time in the clip (s)", "Held-out balanced accuracy")


def test_time_with_labels_per_frame_and_short_clips() -> None:
    ds, direction = planted_dataset(n_groups=40, pools=FRAMES, strength=0.0)
    rng = np.random.default_rng(0)
    onset = rng.integers(1, 4, ds.sizes["clip"])
    labels = (np.arange(4)[None] >= onset[:, None]).astype(int)
    labels[:, 0] = ds["drums"].to_numpy()
    labels[:, 3] = 1 - ds["drums"].to_numpy()
    ds["heads"][:, :, 5] += 3.0 * (labels[:, :, None] - 0.5) * direction
    ds["heads"][3, 3] = np.nan  # one clip ends before the last frame
    result = over_time(ds, "drums", sites="L1.H1", method="logistic", labels=labels, n_permutations=0, n_bootstrap=0)
    assert result.n_dropped_frames == 1
    assert result.frames == (0, 25, 50)
    # the second frame's labels are another clip-level variable than the trait, and are found all the same
    assert result.course.set_index("frame")["test_score"][25] > 0.8
    with pytest.raises(DataError, match="clips by frames"):
        over_time(ds, "drums", sites="L1.H1", labels=labels[:, :2])
    with pytest.raises(DataError, match="no single frames"):
        over_time(planted_dataset(n_groups=12)[0], "drums", sites="L1.H1")
