"""Nulls cover at their nominal level where they should, and the disattenuated cosine finds the planted angle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from interp.directions import Directions, fit, fit_directions
from interp.directions.estimator import Estimator, estimators_of
from interp.directions.reading import label_table
from interp.directions.registry import find
from interp.errors import DataError
from interp.geometry import compare_methods, compare_traits, cosine_by_size
from interp.geometry.agreement import agreement, fit_halves, strata_of
from interp.geometry.nulls import covariance_null, sphere_p, unit
from interp.geometry.resampling import halve, subsamples
from interp.probes import probe
from interp.sites import Site
from interp.stats import cosine_null

Dataset = Callable[..., xr.Dataset]


def coverage(hits: np.ndarray, nominal: float = 0.05) -> None:
    """The share of false alarms is the nominal one, within three standard errors."""
    assert abs(hits.mean() - nominal) < 3 * np.sqrt(nominal * (1 - nominal) / hits.size)


def vectors(x: np.ndarray, y: np.ndarray, method: str) -> np.ndarray:
    """Of shape (sites, dim)."""
    return fit(x, y, method=method).unit()[:, 0, 0, 0]


def as_dataset(x: np.ndarray, groups: np.ndarray, **labels: np.ndarray) -> xr.Dataset:
    """Activations (sites, clips, dim) as extraction returns them."""
    sites = [f"L0.H{i}" for i in range(len(x))]
    coords = {"clip": [f"c{i}" for i in range(x.shape[1])], "pool": ["mean"], "heads_site": sites}
    ds = xr.Dataset({"heads": (("clip", "pool", "heads_site", "heads_dim"), x.swapaxes(0, 1)[:, None])}, coords=coords)
    return ds.assign_coords({name: ("clip", values) for name, values in {"group": groups, **labels}.items()})


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
    labels = rng.permuted(np.tile(np.arange(clips) % 2, (3000, 1)), axis=1)
    pairs = [vectors(x[i::3], labels[i], "mean_diff") for i in range(3)]
    others = [vectors(x[i::3], labels[i + 10], "mean_diff") for i in range(3)]
    cosines = np.concatenate([(unit(a) * unit(b)).sum(axis=1) for a, b in zip(pairs, others, strict=True)])
    null = covariance_null(np.diag(spread**2), ("push", "push"), draws=20000)
    coverage(np.abs(cosines) > np.quantile(np.abs(null), 0.95))
    assert np.mean(np.abs(cosines) > float(cosine_null(dim))) > 0.15


def test_covariance_null_of_readouts_covers(rng: np.random.Generator) -> None:
    dim, clips = 8, 150
    spread = np.geomspace(0.2, 2, dim)
    x = rng.standard_normal((600, clips, dim)) * spread
    a, b = (rng.permutation(clips) % 2 for _ in range(2))
    regression, means = vectors(x, a, "least_squares"), vectors(x, b, "mean_diff")
    cosines = (unit(regression) * unit(means)).sum(axis=1)
    null = covariance_null(np.diag(spread**2), ("readout", "push"), draws=20000)
    coverage(np.abs(cosines) > np.quantile(np.abs(null), 0.95))


def test_permuted_null_covers() -> None:
    """Unrelated traits on structured activations: the cosine exceeds the shuffled 95 % in about 5 % of cases."""
    hits = []
    for seed in range(8):
        gen = np.random.default_rng(seed)
        x = gen.standard_normal((40, 60, 6)) * np.geomspace(0.3, 2, 6)
        a, b = (gen.permutation(60) % 2 for _ in range(2))
        x += b[:, None] * np.array([2, 0, 0, 0, 0, 1.0])  # the other trait is really there
        ds = as_dataset(x, np.arange(60), a=a, b=b)
        table = compare_traits(ds, ["a", "b"], method="ridge", l2=1.0, n_permutations=60, n_splits=1, seed=seed)
        hits.append(table["cosine"].abs() > table["null_permuted"])
    rate = np.mean(hits)  # sites of one data set share their labels, hence the wide margin
    assert 0.01 < rate < 0.11


def test_two_methods_agree_on_nothing_at_all(rng: np.random.Generator) -> None:
    """Why the shuffled null is printed: ridge and logistic agree on shuffled labels far beyond the sphere null."""
    ds = as_dataset(rng.standard_normal((2, 120, 16)), np.arange(120), y=np.arange(120) % 2)
    table = compare_methods(ds, "y", methods=("ridge", "logistic"), l2=1.0, n_permutations=50, n_splits=1)
    assert (table["null_permuted"] > 0.9).all() and float(cosine_null(16)) < 0.9


Planted = tuple[dict[Site, np.ndarray], xr.Dataset, np.ndarray]


def planted(angle: float, seed: int, n: int = 320, dim: int = 12, scale: float = 1.0, noise: int = 0) -> Planted:
    """One site with two traits whose directions are at an angle; or as many sites of noise."""
    gen = np.random.default_rng(seed)
    groups = np.arange(n) // 4
    labels = [np.where(gen.random(n) < 0.5, 1.0, -1.0) for _ in range(2)]
    axes = np.zeros((2, dim))
    axes[0, 0], axes[1, :2] = 1, (np.cos(angle), np.sin(angle))
    x = gen.standard_normal((n, dim)) + 0.4 * gen.standard_normal((n // 4, dim))[groups]
    x += 0.75 * scale * (labels[0][:, None] * axes[0] + labels[1][:, None] * axes[1])
    stacked = np.random.default_rng(5).standard_normal((noise, n, dim)) if noise else x[None]
    ds = as_dataset(stacked, groups, a=(labels[0] > 0).astype(int), b=(labels[1] > 0).astype(int))
    return {Site.parse(f"L0.H{i}"): values for i, values in enumerate(stacked)}, ds, groups


def estimators(ds: xr.Dataset, traits: list[str], methods: list[str]) -> list[Estimator]:
    directions = fit_directions(ds, traits, methods=methods, l2=1.0)
    return estimators_of(directions, pd.DataFrame({name: ds[name].values for name in "ab"}))


@pytest.mark.parametrize("angle", [0.4, 1.1, np.pi / 2])
def test_disattenuated_cosine_finds_the_planted_angle(angle: float) -> None:
    rows = []
    for seed in range(60):
        x, ds, groups = planted(angle, seed)
        a, b = estimators(ds, ["a", "b"], ["mean_diff"])
        halved = fit_halves(x, [a, b], groups, n_splits=6, n_blocks=16, seed=seed)
        rows.append(agreement(halved, [(a, b)]).iloc[0])
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
        x, ds, groups = planted(np.pi / 2, seed)
        a, b = estimators(ds, ["a"], ["ridge", "mean_diff"])
        values.append(agreement(fit_halves(x, [a, b], groups, seed=seed), [(a, b)]).iloc[0])
    assert np.median([v["disattenuated"] for v in values]) == pytest.approx(1.0, abs=0.03)
    assert np.median([v["cosine_across"] for v in values]) < 0.97


def test_no_signal_gives_no_number() -> None:
    x, ds, groups = planted(1.0, 0, noise=12)
    a, b = estimators(ds, ["a", "b"], ["mean_diff"])
    table = agreement(fit_halves(x, [a, b], groups, jackknife=False), [(a, b)])
    unreliable = (table["reliability_a"] <= 0) | (table["reliability_b"] <= 0)
    assert unreliable.any()
    assert table.loc[unreliable, ["ceiling", "disattenuated"]].isna().all(axis=None)


def test_reliability_grows_with_signal_and_predicts_the_full_fit() -> None:
    r = {}
    for scale in (0.2, 1.0):
        x, ds, groups = planted(1.0, 3, n=600, scale=scale)
        a, b = estimators(ds, ["a", "b"], ["mean_diff"])
        r[scale] = agreement(fit_halves(x, [a, b], groups, n_splits=16), [(a, b)])["reliability_a"][0]
    assert r[1.0] > r[0.2] + 0.1
    # Spearman-Brown: the full direction's squared cosine with the truth
    full = 2 * r[1.0] / (1 + r[1.0])
    assert a.directions[0].vector[0] ** 2 == pytest.approx(full, abs=0.08)


@pytest.mark.parametrize("method", ["logistic", "ridge", "lda", "onehot", "mean_diff"])
@pytest.mark.parametrize("traits", ["drums", "genre", "genre=jazz|rock"])
def test_a_ceiling_is_of_the_estimator_that_it_stands_beside(dataset: Dataset, method: str, traits: str) -> None:
    """Refits of a probe's directions on the probe's clips are these directions, and a half is a fit on that half."""
    ds = dataset(strength=0.6)
    study = probe(ds, traits, methods=[method], n_permutations=0, n_bootstrap=0)
    train = np.isin(ds["clip"].values, study.clips[~study.split.test])
    table = label_table(ds)
    family = [d for d in study.directions if d.positive == study.directions[0].positive]
    (estimator,) = estimators_of(family, table, train)
    x = np.stack([ds["heads"].values[:, 0, i] for i in range(len(estimator.sites))])
    own = np.stack([d.vector for d in estimator.directions])
    assert ((estimator.vectors(x)[:, 0] * own).sum(-1) > 1 - 1e-9).all()
    halves = halve(strata_of([estimator.target])[train], ds["group"].values[train], n_splits=2, jackknife=False)
    half = np.zeros(len(train), bool)
    half[train] = halves.weights[1] > 0
    got = estimator.vectors(x, half[None].astype(float))[:, 0]
    used = estimator.target.used & half
    for row, direction in enumerate(estimator.directions):
        entry = find(method).penalty
        amounts = {} if not entry else {entry: direction.info[entry]}
        if entry == "l2":
            amounts["l2"] *= used.sum() / estimator.target.used.sum()  # the same penalty per clip
        labels = estimator.target.y[half[estimator.target.used]]
        expected = fit(x[row : row + 1][:, used], labels, method=method, **amounts).unit(output=estimator.target.output)
        assert got[row] @ expected[0, 0, 0, 0] > 1 - 1e-9


def test_directions_of_other_clips_or_penalties_are_refused(dataset: Dataset) -> None:
    ds = dataset(strength=0.6)
    study = probe(ds, "drums", methods=["logistic", "ridge"], n_permutations=0, n_bootstrap=0)
    with pytest.raises(DataError, match=r"does not come out of these clips.*clips="):
        compare_methods(ds, study.directions, n_permutations=0, n_splits=1)
    train = np.isin(ds["clip"].values, study.clips[~study.split.test])
    table = compare_methods(ds, study.directions, clips=train, n_permutations=0, n_splits=1)
    by_hand = [
        study.directions.one(site=s, method="logistic").vector @ study.directions.one(site=s, method="ridge").vector
        for s in table["site"]
    ]
    np.testing.assert_allclose(table["cosine"], by_hand, atol=1e-12)
    stiffer = Directions(d if d.method == "ridge" else d.noted(l2=100 * d.info["l2"]) for d in study.directions)
    with pytest.raises(DataError, match="logistic of drums"):
        compare_methods(ds, stiffer, clips=train, n_permutations=0, n_splits=1)
    nameless = Directions(replace(d, info={}) for d in study.directions)
    with pytest.raises(DataError, match="does not say at which l2"):
        compare_methods(ds, nameless, clips=train, n_permutations=0, n_splits=1)


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
    _, ds, _ = planted(1.0, 3, n=800)
    directions = fit_directions(ds, "a", methods=("mean_diff", "ridge"))
    table = cosine_by_size(ds, directions, [40, 120, 400], n=6)
    assert len(table) == 2 * 3 * 6
    curve = table.groupby(["method", "size"])[["cosine_full", "cosine_disjoint"]].mean()
    for method in ("mean_diff", "ridge"):
        for column in curve.columns:
            assert curve.loc[method, column].is_monotonic_increasing
    assert (curve["cosine_disjoint"] < curve["cosine_full"]).all()
    assert (table["n_clips"] >= table["size"]).all() and (table["n_clips"] < table["size"] + 4).all()
