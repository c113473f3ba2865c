"""Intervals cover, p-values are uniform under the null, corrections do what their papers say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as reference
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from interp import stats
from interp.errors import DataError


@settings(max_examples=50, deadline=None)
@given(n=st.integers(1, 500), share=st.floats(0, 1))
def test_wilson_equals_statsmodels(n: int, share: float) -> None:
    k = round(share * n)
    lo, hi = stats.wilson(k, n)
    np.testing.assert_allclose((lo, hi), proportion_confint(k, n, method="wilson"), atol=1e-12)


@settings(max_examples=12, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_corrections_equal_statsmodels(p: list[float]) -> None:
    np.testing.assert_allclose(stats.benjamini_hochberg(p), multipletests(p, method="fdr_bh")[1], atol=1e-12)
    np.testing.assert_allclose(stats.holm(p), multipletests(p, method="holm")[1], atol=1e-12)


def test_corrections_keep_nan() -> None:
    q = stats.benjamini_hochberg([0.01, np.nan, 0.04])
    assert np.isnan(q[1])
    np.testing.assert_allclose(q[[0, 2]], [0.02, 0.04])
    assert np.isnan(stats.holm([np.nan]))


def test_max_statistic_keeps_the_family_wise_error() -> None:
    rng = np.random.default_rng(0)
    hits = {"max": 0, "single": 0}
    for _ in range(400):
        shared = rng.normal(size=(101, 1))  # heads depend on each other
        scores = rng.normal(size=(101, 30)) + shared
        result = stats.max_statistic(scores[0], scores[1:])
        hits["max"] += result.p_max.min() <= 0.05
        hits["single"] += result.p.min() <= 0.05
        assert (result.p_max >= result.p - 1e-12).all()
    assert 0.02 <= hits["max"] / 400 <= 0.08
    assert hits["single"] / 400 > 0.3  # what the correction is for


def test_max_statistic_threshold() -> None:
    null = np.arange(100.0)[:, None] + np.zeros((1, 3))
    result = stats.max_statistic(np.array([200.0, 50.0, -1.0]), null)
    np.testing.assert_allclose(result.p_max, [1 / 101, 51 / 101, 1.0])
    assert result.threshold(0.95) == 95
    with pytest.raises(DataError, match="permutations, tests"):
        stats.max_statistic(np.zeros(3), np.zeros((10, 2)))


@pytest.mark.parametrize(("n_groups", "size", "spread"), [(20, 10, 0.0), (40, 5, 1.0), (100, 4, 2.0)])
def test_interval_over_groups_covers_a_known_accuracy(n_groups: int, size: int, spread: float) -> None:
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(n_groups), size)
    runs, covered = 600, 0
    effects = rng.normal(size=200_000) * spread + 1.0
    truth = (1 / (1 + np.exp(-effects))).mean()
    weights = stats.group_weights(groups, 800, rng)
    chance = 1 / (1 + np.exp(-(rng.normal(size=(runs, n_groups)) * spread + 1.0)))
    right = (rng.uniform(size=(runs, n_groups, size)) < chance[..., None]).reshape(runs, -1).astype(float)
    lo, hi = stats.bootstrap_interval(weights @ right.T / weights.sum(1)[:, None], n_groups)
    covered = ((lo <= truth) & (truth <= hi)).mean()
    assert 0.93 <= covered <= 0.97, covered


def test_clips_as_units_would_not_cover() -> None:
    rng = np.random.default_rng(2)
    chance = 1 / (1 + np.exp(-(rng.normal(size=(400, 30)) * 2.0)))
    right = (rng.uniform(size=(400, 30, 10)) < chance[..., None]).reshape(400, -1).astype(float)
    naive = stats.group_weights(np.arange(300), 400, rng)
    lo, hi = stats.bootstrap_interval(naive @ right.T / 300, 300)
    assert ((lo <= 0.5) & (hi >= 0.5)).mean() < 0.85


def test_group_weights_draw_whole_groups() -> None:
    groups = np.array(["a", "b", "a", "c", "b"])
    weights = stats.group_weights(groups, 50, np.random.default_rng(0))
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, 1] == weights[:, 4]).all()
    assert (weights[:, 0] + weights[:, 1] + weights[:, 3] == 3).all()
    with pytest.raises(DataError, match="two groups"):
        stats.group_weights(["a", "a"], 5, np.random.default_rng(0))


def test_mean_interval() -> None:
    x = np.random.default_rng(0).normal(1.0, 1.0, 400)
    interval = stats.mean_interval(x)
    half = 1.96 * x.std() / 20
    assert abs(interval.lo - (x.mean() - half)) < 0.02
    assert abs(interval.hi - (x.mean() + half)) < 0.02
    assert str(interval).startswith(f"{x.mean():.3f} [")


def test_paired_bootstrap() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=40) * 5
    result = stats.paired_bootstrap(base + 0.5 + 0.5 * rng.normal(size=40), base)
    assert result.lo < 0.5 < result.hi
    assert result.p < 0.001
    assert result.n_units == 40
    few = stats.paired_bootstrap([1.0, 1.0, 1.0], [0.0, 0.0, 0.0])
    assert few.p == pytest.approx(2 / 8)  # exact: all signs alike, both ways
    for bad in ([1.0, np.nan], [1.0]):
        with pytest.raises(DataError):
            stats.paired_bootstrap(bad, [0.0, 0.0])


def test_sign_flip_p_values_are_uniform_under_the_null() -> None:
    rng = np.random.default_rng(3)
    p = [stats.paired_bootstrap(*rng.normal(size=(2, 24)), n_bootstrap=200, seed=rng).p for _ in range(200)]
    assert reference.kstest(p, "uniform").pvalue > 0.01


def test_dose_response() -> None:
    rng = np.random.default_rng(0)
    dose = np.tile([0.0, 1.0, 2.0, 4.0], 16)
    unit = np.repeat(np.arange(16), 4)
    score = 0.1 * dose + rng.normal(size=16)[unit] + 0.05 * rng.normal(size=64)
    result = stats.dose_response(dose, score, unit)
    assert result.lo < 0.1 < result.hi
    assert result.hi - result.lo < 0.05  # the units' own levels do not blur it
    assert result.p < 0.001
    assert result.rho > 0.9
    assert result.increasing == 1.0
    flat = stats.dose_response(dose, rng.normal(size=64), unit)
    assert flat.p > 0.01
    with pytest.raises(DataError, match="lacks a dose"):
        stats.dose_response(dose[:-1], score[:-1], unit[:-1])
    with pytest.raises(DataError, match="two of both"):
        stats.dose_response([1.0, 1.0], [0.0, 1.0], [0, 1])


def test_dose_response_p_is_uniform_under_the_null() -> None:
    rng = np.random.default_rng(4)
    dose, unit = np.tile([0.0, 1.0, 2.0], 8), np.repeat(np.arange(8), 3)
    p = [stats.dose_response(dose, rng.normal(size=24), unit, n_permutations=199, seed=rng).p for _ in range(150)]
    assert reference.kstest(p, "uniform").pvalue > 0.01


@pytest.mark.parametrize("dim", [2, 8, 64, 512])
def test_cosine_null_matches_random_vectors(dim: int) -> None:
    rng = np.random.default_rng(dim)
    a, b = rng.normal(size=(2, 20_000, dim))
    cosine = np.abs((a * b).sum(1)) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    for level in (0.5, 0.95, 0.99):
        assert (cosine <= stats.cosine_null(dim, level)).mean() == pytest.approx(level, abs=0.01)
    largest = cosine.reshape(-1, 10).max(axis=1)
    assert (largest <= stats.cosine_null(dim, 0.95, n=10)).mean() == pytest.approx(0.95, abs=0.02)
