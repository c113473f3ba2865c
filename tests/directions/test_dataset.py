"""Directions of a dataset: targets, penalties, books."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from interp.directions import Directions, fit_directions
from interp.directions.dataset import targets_of
from interp.directions.penalty import choose_penalty
from interp.directions.registry import L2_GRID
from interp.directions.targets import make_targets
from interp.errors import DataError, SiteError
from interp.probes import probe

Dataset = Callable[..., xr.Dataset]


def test_targets() -> None:
    table = pd.DataFrame(
        {"drums": [0, 1, 1, 0], "genre": ["jazz", "rock", None, "pop"], "tempo": [60.0, 90.0, 120.0, 110.0]}
    )
    drums, jazz, *_ = make_targets(table, ["drums", "genre"])
    assert drums.y.tolist() == [0, 1, 1, 0]
    assert (jazz.key, jazz.against) == (("genre=jazz", "jazz"), "not jazz")
    assert (jazz.y.tolist(), jazz.used.tolist()) == ([1, 0, 0], [True, True, False, True])
    assert jazz.spread(jazz.y).tolist() == [1, 0, -1, 0]
    pairs = make_targets(table, "genre", "pairwise")
    assert [str(t) for t in pairs] == ["genre=jazz|pop", "genre=jazz|rock", "genre=pop|rock"]
    assert [(t.key, t.output) for t in make_targets(table, "genre", "joint")][1] == (("genre", "pop"), 1)
    tempo = make_targets(table, "tempo", "graded")[0]
    assert tempo.graded and tempo.hit is None and (tempo.positive, tempo.against) == ("more", "less")
    assert drums.within(np.array([True, True, False, True])).y.tolist() == [0, 1, 0]
    for traits, words in (("mood", "no label 'mood'"), ([], "no trait"), ("genre=folk", "genre=folk")):
        with pytest.raises(DataError, match=words):
            make_targets(table, traits)
    with pytest.raises(DataError, match="3 clips are marked"):
        drums.within(np.ones(3, bool))


def test_fit_directions_keeps_the_books(dataset: Dataset) -> None:
    ds = dataset()
    found = fit_directions(ds, ["drums", "genre", "tempo"], sites="heads, resid", methods=("logistic", "ridge", "lda"))
    assert len(found) == 6 * (3 * 4 + 1)  # drums and three genres by three methods, the graded tempo by ridge only
    d = found.one(site="L1.H0", method="ridge", trait="drums")
    assert (d.model, d.pool, d.dim, d.positive, d.against) == ("abc123", "mean", 8, "drums", "not drums")
    assert np.isclose(d.info["l2"] / 240, L2_GRID, rtol=1e-6).any() and d.info["n_clips"] == 240
    x = ds["heads"].values[:, 0, 2]
    assert d.sigma == pytest.approx((x @ d.vector).std(ddof=1))
    drums = ds["drums"].values
    assert d.logit(x)[drums == 1].mean() > 0 > d.logit(x)[drums == 0].mean()
    part = np.arange(240) < 120
    trained = fit_directions(ds, "drums", methods=("ridge",), clips=part, l2=2.0)
    assert (trained[0].info["n_clips"], trained[0].info["l2"]) == (120, 2.0)
    with pytest.raises(DataError, match="graded"):
        fit_directions(ds, "tempo", methods=("lda",))
    with pytest.raises(SiteError):
        fit_directions(ds, "drums", sites="L9.H0")
    with pytest.raises(DataError, match="l2 is 'best'"):
        fit_directions(ds, "drums", l2="best")  # type: ignore[arg-type]


def test_one_direction_has_one_name(dataset: Dataset) -> None:
    """A probe and a fit of the same trait call it the same, and fitted alike it is the same."""
    ds = dataset(strength=0.6)
    for trait in ("drums", "genre=jazz", "genre=jazz|rock", "tempo"):
        method = "ridge"
        study = probe(ds, trait, methods=[method], n_permutations=0, n_bootstrap=0)
        train = np.isin(ds["clip"].values, study.clips[~study.split.test])
        for mine in study.directions:
            twin = fit_directions(ds, trait, sites=mine.site, methods=[method], clips=train, l2=mine.info["l2"])[0]
            names = [(d.trait, d.positive, d.against, d.method, d.towards) for d in (mine, twin)]
            assert names[0] == names[1]
            assert mine.vector @ twin.vector > 1 - 1e-12
            assert twin.intercept == pytest.approx(mine.intercept) and twin.norm == pytest.approx(mine.norm)
            assert Directions([mine, twin]).select(trait=trait) == Directions([mine, twin])


def test_classes_fitted_together_are_those_of_a_probe(dataset: Dataset) -> None:
    ds = dataset(strength=0.6)
    study = probe(ds, "genre", sites="L1.H0", methods=["logistic"], n_permutations=0, n_bootstrap=0)
    train = np.isin(ds["clip"].values, study.clips[~study.split.test])
    together = fit_directions(
        ds, "genre", sites="L1.H0", methods=["logistic"], clips=train, scheme="joint", l2=study.directions[0].info["l2"]
    )
    for mine, twin in zip(study.directions, together, strict=True):
        assert (mine.trait, mine.positive, mine.against) == (twin.trait, twin.positive, twin.against)
        assert mine.vector @ twin.vector > 1 - 1e-9
    with pytest.raises(DataError, match="3 directions of 'genre', which one push would add up"):
        study.directions.single_push()
    assert len(study.directions.select(trait="genre=jazz").single_push()) == 1


def test_the_penalty_is_the_one_that_predicts(dataset: Dataset) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(120) % 2
    x = rng.standard_normal((2, 120, 40))
    x[0, :, 0] += 0.8 * (y - 0.5)  # weak: wants a strong penalty
    x[1, :, 0] += 30 * (y - 0.5)
    fold = np.arange(120) // 24
    chosen = choose_penalty(x, y, fold, "ridge") / 120
    assert np.isclose(chosen[:, None], L2_GRID, rtol=1e-6).any(axis=1).all()
    assert chosen[1] == pytest.approx(max(L2_GRID))  # all are perfect: of equally good ones the strongest
    np.testing.assert_allclose(choose_penalty(x, y, fold, "lda", grid=[0.2]), 0.2)
    with pytest.raises(DataError, match="no penalty"):
        choose_penalty(x, y, fold, "mean_diff")


def test_targets_within_a_part_keep_their_names(dataset: Dataset) -> None:
    ds = dataset()
    part = np.arange(240) < 100
    (target,) = targets_of(ds, "drums", clips=part)
    assert target.used.sum() == 100 and len(target.used) == 240
