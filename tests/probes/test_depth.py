"""Rankings with uncertainty, control tasks, sparse joint probes, nested scores, probes over time, baselines."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from planted_data import FRAMES, planted_dataset
from sklearn.linear_model import LogisticRegression

from interp.activations import extract
from interp.clips import Clips
from interp.data.compose import DRUM_CHANNEL, compose
from interp.data.factors import draw_factors
from interp.data.render import SAMPLE_RATE, render_notes
from interp.errors import DataError
from interp.model import MusicGen
from interp.plots import time_course
from interp.probes import (
    baselines,
    compare_rankings,
    joint_probe,
    layer_summary,
    nested_scores,
    probe,
    probe_over_time,
    rank_intervals,
    selectivity,
    stability,
    top_k,
)
from interp.probes.controls import control_labels
from interp.probes.joint import sparse_path


def test_rank_intervals_cover_all_ranks_at_once() -> None:
    rng = np.random.default_rng(0)
    truth = np.array([1.1, 0.8, 0.8, 0.6, 0.55, 0.5])
    best, worst = np.array([(truth > t).sum() + 1 for t in truth]), np.array([(truth >= t).sum() for t in truth])
    covered = narrow = 0
    for _ in range(100):
        clips = rng.normal(size=(120, 6)) * 0.4 + truth + 0.2 * rng.normal(size=(120, 1))
        weights = rng.multinomial(120, np.full(120, 1 / 120), size=200) / 120
        lo, hi = rank_intervals(clips.mean(0), weights @ clips)
        assert (lo <= hi).all()
        covered += bool(((lo <= best) & (hi >= worst)).all())
        narrow += bool(hi[0] == 1)
    assert covered / 100 >= 0.92
    assert narrow / 100 > 0.9  # and says something


def test_top_k_and_stability() -> None:
    ds, _ = planted_dataset(n_groups=80, strength=3.0)
    study = probe(ds, "drums", n_permutations=20, methods=["ridge"])
    table = top_k(study, 1)
    assert table["site"][0] == "L1.H1"
    assert table["surely"].tolist() == [True] + [False] * 11
    assert table["possibly"].tolist() == [True] + [False] * 11
    assert table["rank_hi"][0] == 1
    assert table["rank_hi"][5] > 6  # the rest cannot be told apart
    resamples, sites = stability(study, k=1, n_bootstrap=50)
    assert sites["site"][0] == "L1.H1"
    assert sites["selected"][0] == 1.0
    assert (resamples["overlap"] == 1).all()
    assert resamples["kendall_tau"].between(0.1, 1).all()
    layers = layer_summary(study.table)
    assert layers["best_site"][1] == "L1.H1"
    assert layers["sites"].tolist() == [4, 4, 4]
    assert layers["significant"].tolist()[1] >= 1
    with pytest.raises(DataError, match="k is 99"):
        top_k(study, 99)
    with pytest.raises(DataError, match="not fitted"):
        top_k(study, 1, "lda")


def test_rankings_are_compared() -> None:
    scores = {f"L0.H{i}": float(i) for i in range(20)}
    same = compare_rankings(scores, scores, k=5)
    assert (same.kendall_tau, same.overlap, same.expected_overlap) == (1.0, 1.0, 0.25)
    assert same.overlap_p == pytest.approx(1 / 15504)
    reverse = compare_rankings(scores, {k: -v for k, v in scores.items()}, k=5)
    assert (reverse.kendall_tau, reverse.overlap, reverse.overlap_p) == (-1.0, 0.0, 1.0)
    with pytest.raises(DataError, match="share 0 sites"):
        compare_rankings(scores, {"L9.H9": 1.0})


def test_selectivity_tells_a_trait_from_an_identity() -> None:
    ds, _ = planted_dataset(1, n_groups=24, per_group=10, group_spread=1.5, constant=True, strength=2.0)
    table = selectivity(ds, "drums", method="ridge", n_controls=4).set_index("site")
    # groups are told apart everywhere, so any label that is fixed per song can be learnt; only one head knows the trait
    assert table["control"].mean() > 0.55
    assert table["selectivity"].idxmax() == "L1.H1"
    others = table.drop(index="L1.H1")
    assert others["selectivity"].abs().mean() < 0.1
    with pytest.raises(DataError, match="one clip"):
        selectivity(ds.assign_coords(group=("clip", np.arange(240))), "drums")


def test_control_labels_are_fixed_per_group() -> None:
    groups = np.repeat(np.arange(30), 3)
    y = np.arange(90) % 3
    drawn = control_labels(y, groups, np.random.default_rng(0))
    assert all(len(np.unique(drawn[groups == g])) == 1 for g in range(30))
    assert set(drawn) == {0, 1, 2}


def test_the_joint_probe_finds_the_few() -> None:
    ds, _ = planted_dataset(n_groups=60, strength=2.5)
    study = joint_probe(ds, "drums", n_penalties=8, folds=3)
    assert study.selected[0] == "L1.H1"
    assert len(study.selected) <= 4
    chosen = study.path[study.path["chosen"]].iloc[0]
    assert chosen["test_score"] > 0.75
    assert chosen["lo"] < chosen["test_score"] < chosen["hi"]
    assert study.path["n_sites"].is_monotonic_increasing
    assert study.path["converged"].all()
    assert study.weights.set_index("site")["enters"].idxmax() == "L1.H1"
    genre = joint_probe(ds, "genre", n_penalties=6, folds=3, n_bootstrap=0)
    assert genre.selected[0] == "L1.H2"
    tempo = joint_probe(ds, "tempo", n_penalties=6, folds=3, sparsity="l1", n_bootstrap=0)
    assert tempo.selected[0] == "L1.H3"
    with pytest.raises(DataError, match="group or l1"):
        joint_probe(ds, "drums", sparsity="l2")  # type: ignore[arg-type]


def test_the_lasso_path_equals_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 10))
    y = (x[:, 0] - 0.5 * x[:, 3] + rng.logistic(size=200) > 0).astype(float)
    penalties = [0.1, 0.02]
    w, b, ok = sparse_path(
        torch.as_tensor(x),
        torch.as_tensor(y)[:, None],
        torch.arange(10),
        penalties,
        graded=False,
        tol=1e-9,
        max_iter=20_000,
    )
    assert all(ok)
    for k, penalty in enumerate(penalties):
        options = {"l1_ratio": 1.0, "solver": "saga", "C": 1 / (200 * penalty), "tol": 1e-9, "max_iter": 100_000}
        model = LogisticRegression(**options).fit(x, y)
        np.testing.assert_allclose(w[k, 0].numpy(), model.coef_[0], atol=1e-4)
        np.testing.assert_allclose(float(b[k, 0]), model.intercept_[0], atol=1e-4)


def test_nested_scores_use_every_group() -> None:
    ds, _ = planted_dataset(n_groups=40)
    table = nested_scores(ds, "drums", sites="L1.H0, L1.H1", methods="ridge", outer=4, folds=3)
    table = table.set_index("site")
    assert table.loc["L1.H1", "nested_score"] > 0.75
    assert table.loc["L1.H1", "lo"] < table.loc["L1.H1", "nested_score"] < table.loc["L1.H1", "hi"]
    assert table.loc["L1.H0", "lo"] < 0.5 < table.loc["L1.H0", "hi"]
    held_out = probe(ds, "drums", sites="L1.H1", methods="ridge", n_permutations=0).table.iloc[0]
    width = table.loc["L1.H1", "hi"] - table.loc["L1.H1", "lo"]
    assert width < held_out["hi"] - held_out["lo"]  # all clips are tested, not a quarter


def test_a_trait_becomes_readable_when_it_begins() -> None:
    ds, _ = planted_dataset(n_groups=50, strength=3.0, pools=("mean", *FRAMES), from_frame=3)
    study = probe_over_time(ds, "drums", sites="L1.H1, L0.H0", method="ridge", n_permutations=40, n_bootstrap=100)
    assert study.frames == (0, 25, 50, 75)
    course = study.course.set_index(["site", "frame"])
    assert course.loc[("L1.H1", 25), "test_score"] < 0.65
    assert course.loc[("L1.H1", 50), "test_score"] > 0.8
    onset = study.onset().set_index("site")["seconds"]
    assert onset["L1.H1"] == 1.0
    assert np.isnan(onset["L0.H0"])
    matrix = study.matrix("L1.H1")
    assert matrix.loc[50, 75] > 0.8  # what is read at one time reads the other
    assert matrix.loc[0, 75] < 0.7
    np.testing.assert_allclose(np.diag(matrix), study.course[study.course["site"] == "L1.H1"]["test_score"], atol=1e-6)


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
    study = probe_over_time(
        ds, "enters", sites="resid", method="ridge", folds=3, test_size=0.4, n_permutations=60, n_bootstrap=100
    )
    before, after = (0, 10, 20), (40, 50)
    course = study.course.set_index("frame")["test_score"]
    assert course.loc[list(before)].mean() < 0.6
    assert course.loc[list(after)].mean() > 0.7
    onset = study.onset()["seconds"].dropna()
    assert len(onset) and (onset >= 0.6).all()
    for site in ("L1.resid", "L3.resid"):
        matrix = study.matrix(site)
        assert (matrix.loc[40, 50] + matrix.loc[50, 40]) / 2 > 0.6  # what is read at one time is read at the other
        assert matrix.loc[list(after), list(before)].to_numpy().mean() < 0.6
    ax = time_course(study.course, events={"drums enter": 0.6})
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
    study = probe_over_time(
        ds, "drums", sites="L1.H1", method="logistic", labels=labels, n_permutations=0, n_bootstrap=0
    )
    assert study.n_dropped_frames == 1
    assert study.frames == (0, 25, 50)
    # the second frame's labels are another clip-level variable than the trait, and are found all the same
    assert study.course.set_index("frame")["test_score"][25] > 0.8
    with pytest.raises(DataError, match="clips by frames"):
        probe_over_time(ds, "drums", sites="L1.H1", labels=labels[:, :2])
    with pytest.raises(DataError, match="no single frames"):
        probe_over_time(planted_dataset(n_groups=12)[0], "drums", sites="L1.H1")


def test_baselines_hear_what_is_there() -> None:
    rng = np.random.default_rng(0)
    rate, seconds = 8000, 0.5
    t = np.arange(int(rate * seconds)) / rate
    pitch = np.where(np.arange(40) % 2, 523.25, 440.0) * rng.choice([0.5, 1.0, 2.0], 40)
    audio = [np.sin(2 * np.pi * p * t + rng.uniform(0, 6))[None] + 0.01 * rng.normal(size=(1, len(t))) for p in pitch]
    labels = pd.DataFrame(
        {"note": np.arange(40) % 2, "group": [f"g{i}" for i in range(40)]}, index=[f"c{i}" for i in range(40)]
    )
    clips = Clips.from_arrays(audio, rate, labels)
    features = baselines.chroma(clips)
    assert features.shape == (40, 24)
    assert (features[:, :12].argmax(1) == np.where(np.arange(40) % 2, 0, 9)).all()  # C and A, whatever the octave
    spectrum, cepstrum = baselines.mel(clips, 32), baselines.mfcc(clips, 13)
    assert (spectrum.shape, cepstrum.shape) == ((40, 64), (40, 26))
    louder = Clips.from_arrays([2 * a for a in audio], rate, labels)
    difference = baselines.mel(louder, 32)[:, :32] - spectrum[:, :32]
    assert difference.max() == pytest.approx(np.log(4), abs=0.02)
    with pytest.raises(DataError, match="no clips"):
        baselines.mel([])


def test_an_untrained_copy_as_baseline() -> None:
    trained, _ = planted_dataset(n_groups=30)
    untrained, _ = planted_dataset(n_groups=30, strength=0.0)
    shuffled = untrained.isel(clip=np.random.default_rng(0).permutation(180))
    matched = baselines.align(trained, shuffled)
    assert (matched["clip"].values == trained["clip"].values).all()
    features = {"untrained L1.H1": baselines.site_features(matched, "L1.H1")}
    study = probe(trained, "drums", sites="L1.H1", methods="ridge", n_permutations=0, baselines=features)
    assert study.table["test_score"][0] > study.baseline["test_score"][0] + 0.1
    with pytest.raises(DataError, match="not in the other"):
        baselines.align(trained, shuffled.isel(clip=slice(0, 10)))
