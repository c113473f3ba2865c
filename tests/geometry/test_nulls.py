"""Nulls cover at their nominal level where they should, and the disattenuated cosine finds the planted angle."""

from __future__ import annotations

import numpy as np
import pytest

from interp.directions.targets import Target
from interp.errors import DataError
from interp.geometry import (
    agreement,
    cosine_by_size,
    covariance_null,
    fit_halves,
    halve,
    permuted_null,
    refit,
    sphere_p,
    split_half,
    subsamples,
)
from interp.geometry.nulls import unit
from interp.stats import cosine_null


def coverage(hits: np.ndarray, nominal: float = 0.05) -> None:
    """The share of false alarms is the nominal one, within three standard errors."""
    assert abs(hits.mean() - nominal) < 3 * np.sqrt(nominal * (1 - nominal) / hits.size)


@pytest.mark.parametrize("dim", [2, 8, 64])
def test_sphere_null_covers(rng: np.random.Generator, dim: int) -> None:
    cosines = (unit(rng.standard_normal((4000, dim))) * unit(rng.standard_normal((4000, dim)))).sum(axis=1)
    coverage(np.abs(cosines) > float(cosine_null(dim)))
    coverage(sphere_p(cosines, dim) < 0.05)


def test_covariance_null_covers_where_the_sphere_does_not(rng: np.random.Generator) -> None:
    """Mean differences of unrelated labels on anisotropic activations."""
    dim, clips = 12, 100
    spread = np.geomspace(0.1, 3, dim)
    x = rng.standard_normal((1500, clips, dim)) * spread
    labels = np.where(rng.permuted(np.tile(np.arange(clips) % 2, (3000, 1)), axis=1), 1.0, -1.0)
    pairs = [refit(x[i::3], labels[i], method="mean_diff")[:, 0, 0] for i in range(3)]
    others = [refit(x[i::3], labels[i + 10], method="mean_diff")[:, 0, 0] for i in range(3)]
    cosines = np.concatenate([(unit(a) * unit(b)).sum(axis=1) for a, b in zip(pairs, others, strict=True)])
    null = covariance_null(np.diag(spread**2), ("push", "push"), draws=20000)
    coverage(np.abs(cosines) > np.quantile(np.abs(null), 0.95))
    assert np.mean(np.abs(cosines) > float(cosine_null(dim))) > 0.15


def test_covariance_null_of_readouts_covers(rng: np.random.Generator) -> None:
    dim, clips = 8, 150
    spread = np.geomspace(0.2, 2, dim)
    x = rng.standard_normal((600, clips, dim)) * spread
    a, b = (np.where(rng.permutation(clips) % 2, 1.0, -1.0) for _ in range(2))
    regression, means = refit(x, a, method="least_squares")[:, 0, 0], refit(x, b, method="mean_diff")[:, 0, 0]
    cosines = (unit(regression) * unit(means)).sum(axis=1)
    null = covariance_null(np.diag(spread**2), ("readout", "push"), draws=20000)
    coverage(np.abs(cosines) > np.quantile(np.abs(null), 0.95))


def test_permuted_null_covers(rng: np.random.Generator) -> None:
    """Unrelated traits on structured activations: the cosine exceeds the shuffled 95 % in about 5 % of cases."""
    hits = []
    for seed in range(8):
        gen = np.random.default_rng(seed)
        x = gen.standard_normal((40, 60, 6)) * np.geomspace(0.3, 2, 6)
        a, b = (np.where(gen.permutation(60) % 2, 1.0, -1.0) for _ in range(2))
        x += b[:, None] * np.array([1, 0, 0, 0, 0, 0.5])  # the other trait is really there
        found = (unit(refit(x, a, method="ridge")) * unit(refit(x, b, method="mean_diff"))).sum(axis=-1)[:, 0, 0]
        null = permuted_null(x, a, np.arange(60), ("ridge", "mean_diff"), y_other=b, n=60, seed=seed)
        hits.append(np.abs(found) > np.quantile(np.abs(null), 0.95, axis=1))
    rate = np.mean(hits)  # sites of one data set share their labels, hence the wide margin
    assert 0.01 < rate < 0.11


def test_two_methods_agree_on_nothing_at_all(rng: np.random.Generator) -> None:
    """Why the shuffled null is printed: ridge and logistic agree on shuffled labels far beyond the sphere null."""
    x, y = rng.standard_normal((2, 120, 16)), np.where(np.arange(120) % 2, 1.0, -1.0)
    null = permuted_null(x, y, np.arange(120), ("ridge", "logistic"), n=50)
    assert np.median(null) > 0.9 > float(cosine_null(16))


def planted(angle: float, seed: int, n: int = 320, dim: int = 12) -> tuple[np.ndarray, list[Target], np.ndarray]:
    gen = np.random.default_rng(seed)
    groups = np.arange(n) // 4
    labels = [np.where(gen.random(n) < 0.5, 1.0, -1.0) for _ in range(2)]
    axes = np.zeros((2, dim))
    axes[0, 0], axes[1, :2] = 1, (np.cos(angle), np.sin(angle))
    x = gen.standard_normal((n, dim)) + 0.4 * gen.standard_normal((n // 4, dim))[groups]
    x += 0.75 * (labels[0][:, None] * axes[0] + labels[1][:, None] * axes[1])
    return x[None], [Target(name, "1", "0", y) for name, y in zip("ab", labels, strict=True)], groups


@pytest.mark.parametrize("angle", [0.4, 1.1, np.pi / 2])
def test_disattenuated_cosine_finds_the_planted_angle(angle: float) -> None:
    rows = []
    for seed in range(60):
        x, targets, groups = planted(angle, seed)
        arms = [(0, "mean_diff"), (1, "mean_diff")]
        fitted = fit_halves(x, targets, groups, arms, n_splits=6, n_blocks=16, seed=seed)
        rows.append(agreement(fitted, [(arms[0], arms[1])]).iloc[0])
    truth = np.cos(angle)
    covered = np.mean([row["lo"] <= truth <= row["hi"] for row in rows])
    assert covered >= 0.86  # 95 % nominal; 60 runs have a standard error of 2.8 %
    assert np.mean([row["hi"] - row["lo"] for row in rows]) < 1.0
    estimates = np.array([row["disattenuated"] for row in rows])
    assert abs(estimates.mean() - truth) < 4 * estimates.std() / np.sqrt(60) + 0.02
    if angle < 1:  # noise hides part of the cosine, and disattenuation gives it back
        assert np.mean([row["cosine"] for row in rows]) < truth - 0.05


def test_same_direction_by_two_methods_disattenuates_to_one() -> None:
    """Isotropic noise: regression and mean difference look for the same direction, at any sample size."""
    values = []
    for seed in range(8):
        x, targets, groups = planted(np.pi / 2, seed)
        arms = [(0, "ridge"), (0, "mean_diff")]
        values.append(agreement(fit_halves(x, targets, groups, arms, seed=seed), [(arms[0], arms[1])]).iloc[0])
    assert np.median([v["disattenuated"] for v in values]) == pytest.approx(1.0, abs=0.03)
    assert np.median([v["cosine_across"] for v in values]) < 0.97


def test_no_signal_gives_no_number() -> None:
    x, targets, groups = planted(1.0, 0)
    noise = np.random.default_rng(5).standard_normal((12, *x.shape[1:]))
    arms = [(0, "mean_diff"), (1, "mean_diff")]
    table = agreement(fit_halves(noise, targets, groups, arms, jackknife=False), [(arms[0], arms[1])])
    unreliable = (table["reliability_a"] <= 0) | (table["reliability_b"] <= 0)
    assert unreliable.any()
    assert table.loc[unreliable, ["ceiling", "disattenuated"]].isna().all(axis=None)


def test_split_half_grows_with_signal_and_predicts_the_full_fit() -> None:
    x, targets, groups = planted(1.0, 3, n=600)
    halves = split_half(x, targets[0], groups, "mean_diff")
    weak = split_half(0.2 * x + np.random.default_rng(0).standard_normal(x.shape), targets[0], groups, "mean_diff")
    assert halves.shape == (1, 16)
    assert halves.mean() > weak.mean() + 0.1
    # Spearman-Brown: the full direction's squared cosine with the truth
    full = 2 * halves.mean() / (1 + halves.mean())
    found = unit(refit(x, targets[0].y, method="mean_diff"))[0, 0, 0, 0]
    assert found**2 == pytest.approx(full, abs=0.08)


def test_halves_keep_groups_whole() -> None:
    rng = np.random.default_rng(1)
    groups = rng.integers(0, 40, 300)
    strata = rng.integers(0, 3, 300)
    halves = halve(strata, groups, n_splits=5, n_blocks=8, seed=2)
    for row in halves.weights[1:]:
        inside, outside = set(groups[row > 0]), set(groups[row == 0])
        assert not inside & outside
        assert len(set(strata[row > 0])) == 3
    rows = halves.rows()
    assert (halves.weights[rows].sum(axis=1) == 1).all()  # two halves are all clips, once
    for block in range(8):
        less = halves.weights[halves.rows(block)].sum(axis=1)
        assert (less <= 1).all() and (less.sum(axis=1) < 300).all()
    assert halve(strata, groups, seed=7).weights.tolist() == halve(strata, groups, seed=7).weights.tolist()


def test_too_few_groups_for_a_split_half() -> None:
    y = np.where(np.arange(60) < 6, 1, 0)
    with pytest.raises(DataError, match="too few clips for a split half: class 1 occurs in 3 groups"):
        halve(y, np.arange(60) // 2)
    with pytest.raises(DataError, match="there are 60"):
        subsamples(y, np.arange(60), [40])
    with pytest.raises(DataError, match="lacks a class"):
        subsamples(y, np.arange(60), [3])


def test_cosine_by_size_rises() -> None:
    x, targets, groups = planted(1.0, 3, n=800)
    table = cosine_by_size(x, targets[0], groups, ["mean_diff", "ridge"], [40, 120, 400], n=6)
    assert len(table) == 2 * 3 * 6
    curve = table.groupby(["method", "size"])[["cosine_full", "cosine_disjoint"]].mean()
    for method in ("mean_diff", "ridge"):
        for column in curve.columns:
            assert curve.loc[method, column].is_monotonic_increasing
    assert (curve["cosine_disjoint"] < curve["cosine_full"]).all()
    assert (table["n_clips"] >= table["size"]).all() and (table["n_clips"] < table["size"] + 4).all()
