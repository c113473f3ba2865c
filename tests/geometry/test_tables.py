"""Tables, paths, subspaces, erasure and layouts on a dataset shaped like an extraction."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.directions import Direction, fit, fit_directions, fit_leace
from interp.directions.erasure import erase
from interp.directions.targets import Target, make_targets
from interp.errors import CheckpointMismatch, DataError, SiteError
from interp.geometry import (
    class_subspace,
    compare_methods,
    compare_traits,
    cosine_matrix,
    cosine_table,
    map_directions,
    orthogonal_probes,
    plane,
    principal_angles,
)
from interp.geometry.paths import path_table, paths_of, scores
from interp.geometry.subspaces import angle_null

Dataset = Callable[..., xr.Dataset]


def target_of(values: np.ndarray) -> Target:
    return make_targets(pd.DataFrame({"t": values}), "t")[0]


def weight_of(x: np.ndarray, y: np.ndarray, method: str, **options: float) -> np.ndarray:
    return fit(x[None], y, method=method, **options).coef[0, 0, 0, 0, 0]


def test_cosine_table(dataset: Dataset) -> None:
    found = fit_directions(dataset(), ["drums", "genre"], methods=("logistic", "ridge", "mean_diff"))
    table = cosine_table(found)
    assert len(table) == 4 * 4 * 3
    assert {"site", "a", "b", "cosine", "null_lo", "null_hi", "p"} <= set(table.columns)
    row = table.query("site == 'L0.H1' and trait == 'drums' and a == 'logistic' and b == 'mean_diff'").iloc[0]
    a, b = (found.one(site="L0.H1", trait="drums", method=m) for m in ("logistic", "mean_diff"))
    assert row["cosine"] == pytest.approx(a.vector @ b.vector)
    assert (row["p"] < 0.05) == (abs(row["cosine"]) > row["null_hi"])
    traits = cosine_table(found.select(method="ridge"), by="trait")
    assert len(traits) == 4 * 6
    with pytest.raises(DataError, match="differ only in their method"):
        cosine_table(found.select(method="ridge"))


def test_compare_methods_has_nulls_and_ceilings(dataset: Dataset) -> None:
    ds = dataset(strength=0.8)
    table = compare_methods(
        ds, ["drums", "tempo"], methods=("ridge", "mean_diff", "random"), n_permutations=20, n_splits=4
    )
    assert len(table) == 2 * 3 * 4
    real = table[(table["a"] == "ridge") & (table["b"] == "mean_diff") & (table["trait"] == "drums")]
    assert (real["cosine"] > real["null_hi"]).all()
    assert (real["null_covariance"].between(0, 1)).all() and (real["null_permuted"].between(-1, 1)).all()
    assert (real["lo"] <= real["disattenuated"]).all()
    assert (real["ceiling"] < 1).all()
    against_random = table[table["b"] == "random"]
    assert (against_random["cosine"].abs() > against_random["null_hi"]).mean() < 0.4
    assert table["n_groups"].unique().tolist() == [60]
    with pytest.raises(DataError, match="two methods or more"):
        compare_methods(ds, "drums", methods=("ridge",))
    few = dataset(n=24, group_size=8)
    with pytest.raises(DataError, match="too few clips for a split half"):
        compare_methods(few, "drums", n_permutations=0, l2=1.0)


def test_compare_traits(dataset: Dataset) -> None:
    """A copy of a trait has cosine one with it, and other traits are told from it."""
    ds = dataset(strength=2.0)
    ds = ds.assign_coords(copy=ds["drums"])
    ds.attrs["labels"] = '["drums", "genre", "tempo", "copy"]'
    table = compare_traits(ds, ["drums", "copy", "genre=jazz"], n_permutations=10, n_splits=4, sites="resid")
    pairs = table.set_index(["site", "a", "b"])["disattenuated"]
    assert pairs.loc["L0.resid", "drums", "copy"] == pytest.approx(1)
    assert abs(pairs.loc["L0.resid", "drums", "genre=jazz"]) < 0.9


def test_path_table(dataset: Dataset) -> None:
    ds = dataset(strength=0.6)
    x = np.moveaxis(ds["heads"].values[:, 0], 1, 0)
    target = make_targets(ds[["drums"]].to_dataframe()[["drums"]], "drums")[0]
    test = np.arange(240) >= 180
    penalties = [1e-6, 1.0, 1e2, 1e9]
    table = paths_of(x, target, ["a", "b", "c", "d"], penalties=penalties, test=test, standardize=False)
    ridge = table[table["method"] == "ridge"]
    assert (ridge.loc[ridge["penalty"] == 1e-6, "angle_lda"] < 0.1).all()
    assert (ridge.loc[ridge["penalty"] == 1e9, "angle_mean_diff"] < 0.1).all()
    for _, path in ridge.groupby("site"):
        assert path["angle_mean_diff"].is_monotonic_decreasing
        assert path["sigma"].is_monotonic_increasing  # regularised directions follow the wide axes
    assert table["score"].between(0.3, 1).all()
    with pytest.raises(DataError, match="no path"):
        paths_of(x, target, list("abcd"), methods=("lda",))
    with pytest.raises(DataError, match="not on a path"):
        paths_of(x, target, list("abcd"), penalties=[0.0])
    with pytest.raises(DataError, match="one class only"):
        paths_of(x, target, list("abcd"), penalties=[1.0], test=np.arange(240) == 7)


def test_path_table_reads_the_dataset_as_its_label_asks(dataset: Dataset) -> None:
    ds, test = dataset(strength=0.6), np.arange(240) >= 180
    table = path_table(ds, "drums", sites="heads, resid", penalties=[1.0, 1e3], test=test)
    assert table["site"].nunique() == 6 and set(table["method"]) == {"ridge", "logistic"}
    target = make_targets(ds[["drums"]].to_dataframe()[["drums"]], "drums")[0]
    x = np.moveaxis(ds["heads"].values[:, 0], 1, 0)
    heads = paths_of(x, target, list(ds["heads_site"].values), penalties=[1.0, 1e3], test=test)
    own = table[table["site"].isin(heads["site"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(own, heads)
    numbers = path_table(ds, "tempo", sites="L0.resid", penalties=[1.0])
    assert set(numbers["method"]) == {"ridge"} and "angle_least_squares" in numbers and "score" not in numbers
    with pytest.raises(DataError, match="has several classes, a path for each: name one, as in genre=jazz"):
        path_table(ds, "genre", sites="L0.resid")


def test_score_is_the_area_under_the_curve() -> None:
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    y, along = rng.random(80) < 0.3, rng.integers(0, 9, 80).astype(float)
    x, axis = along[None, :, None], np.ones((1, 1, 1))
    assert scores(x, axis, target_of(y.astype(int)))[0, 0] == pytest.approx(roc_auc_score(y, along))
    numbers = 2 * along + rng.standard_normal(80)
    assert scores(x, axis, target_of(numbers))[0, 0] == pytest.approx(np.corrcoef(along, numbers)[0, 1])


def test_principal_angles_of_planted_subspaces() -> None:
    a = np.eye(6)[:2]
    b = np.array([[np.cos(0.3), 0, np.sin(0.3), 0, 0, 0], [0, np.cos(1.2), 0, np.sin(1.2), 0, 0]])
    np.testing.assert_allclose(principal_angles(a, np.array([[1, 2], [3, -1]]) @ b), [0.3, 1.2])
    with pytest.raises(SiteError, match="widths 6 and 5"):
        principal_angles(a, np.eye(5))
    with pytest.raises(DataError, match="span nothing"):
        principal_angles(a, np.zeros((1, 6)))
    null = angle_null((2, 2), 24, draws=200)
    assert (np.diff(null) > 0).all() and null[0] > 0.5
    with pytest.raises(DataError, match="do not fit"):
        angle_null((3, 9), 8)


def test_class_subspace_holds_the_means() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 200)
    x = rng.standard_normal((4, 10))[labels] + 0.0
    basis = class_subspace(x, labels)
    assert basis.shape == (3, 10)
    centred = x - np.stack([x[labels == c].mean(0) for c in range(4)]).mean(0)
    np.testing.assert_allclose(centred @ basis.T @ basis, centred, atol=1e-10)


def test_orthogonal_probes() -> None:
    """A trait on two axes has a second probe above chance, and nothing for a third."""
    rng = np.random.default_rng(0)
    y = np.where(np.arange(800) % 2, 1.0, -1.0)
    x = rng.standard_normal((1, 800, 6))
    x[0, :, 0] += 1.0 * y
    x[0, :, 1] = np.sign(rng.standard_normal(800)) * np.where(y > 0, 2.0, 0.5) + 0.1 * rng.standard_normal(800)
    x[0, :, 2] += 0.8 * y
    target, test = target_of((y > 0).astype(int)), np.arange(800) >= 400
    vectors, scores = orthogonal_probes(x, target, 3, method="mean_diff", test=test)
    np.testing.assert_allclose(vectors[0] @ vectors[0].T, np.eye(3), atol=1e-9)
    assert scores["score"][0] > 0.8 > scores["score"][2] + 0.1
    with pytest.raises(DataError, match="6 dimensions"):
        orthogonal_probes(x, target, 6)


@settings(max_examples=15, deadline=None)
@given(classes=st.integers(2, 4), dim=st.integers(4, 12), seed=st.integers(0, 2**32 - 1))
def test_leace_leaves_nothing_a_linear_probe_can_find(classes: int, dim: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, 200)
    x = rng.standard_normal((classes, dim))[labels] + rng.standard_normal((200, dim)) @ rng.standard_normal((dim, dim))
    eraser = fit_leace("L0.H0", x, labels)
    clean = eraser(x)
    y = (labels == 0).astype(int)
    before, after = weight_of(x, y, "mean_diff"), weight_of(clean, y, "mean_diff")
    assert np.linalg.norm(after) < 1e-8 * max(np.linalg.norm(before), 1)
    weight = weight_of(clean, y, "logistic", l2=0.01)
    assert np.abs((clean - clean.mean(0)) @ weight).max() < 1e-4  # no linear probe does better than a constant


def test_erased_directions(dataset: Dataset) -> None:
    """Erasing a direction is the same as fitting it on erased activations (push) or reading from them (readout)."""
    ds = dataset()
    x = ds["heads"].values[:, 0, 0]
    eraser = fit_leace("L0.H0", x, ds["genre"].values, trait="genre", model="abc123")
    found = fit_directions(ds, "drums", sites="L0.H0", methods=("ridge", "mean_diff"))
    push, readout = found.one(method="mean_diff"), found.one(method="ridge")
    cleaned_push = weight_of(eraser(x), ds["drums"].values, "mean_diff")
    np.testing.assert_allclose(erase(push, eraser).vector, cleaned_push / np.linalg.norm(cleaned_push), atol=1e-12)
    cleaned = erase(readout, eraser, activations=x)
    np.testing.assert_allclose(cleaned.logit(x), readout.logit(eraser(x)), atol=1e-9)
    assert cleaned.sigma == pytest.approx((x @ cleaned.vector).std(ddof=1))
    assert cleaned.info["erased"] == "genre" and cleaned.info["kept"] > 0
    genre = fit_directions(ds, "genre=jazz", sites="L0.H0", methods=("mean_diff",))[0]
    with pytest.raises(DataError, match="nothing of"):
        erase(genre, eraser)
    with pytest.raises(SiteError, match=r"L0\.H0 does not act on"):
        erase(fit_directions(ds, "drums", sites="L0.H1", methods=("ridge",))[0], eraser)
    with pytest.raises(CheckpointMismatch):
        erase(Direction.from_weight("L0.H0", np.ones(8), model="zzz"), eraser)


def test_clustering_keeps_families_together(dataset: Dataset) -> None:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((2, 30))
    directions = [
        Direction.from_weight("L0.resid", centres[i % 2] + 0.2 * rng.standard_normal(30), trait=f"t{i}")
        for i in range(8)
    ]
    matrix = cosine_matrix(directions)
    ordered = cosine_matrix(directions, clustered=True)
    assert sorted(ordered.index) == sorted(matrix.index)
    parity = [int(name[1:]) % 2 for name in ordered.index]
    assert parity in ([0] * 4 + [1] * 4, [1] * 4 + [0] * 4)
    assert ordered.loc["t3", "t5"] == matrix.loc["t3", "t5"]


def test_plane_keeps_lengths(dataset: Dataset) -> None:
    ds = dataset()
    x = ds["resid"].values[:, 0, 0]
    found = fit_directions(ds, ["drums", "genre=jazz"], sites="L0.resid", methods=("mean_diff",))
    table = plane(x, ds["drums"].values, found[0], found[1])
    assert np.corrcoef(table["along"], x @ found[0].vector)[0, 1] == pytest.approx(1)
    axis = np.array(table.attrs["b_axis"])
    assert np.corrcoef(table[["along", "across"]] @ axis, x @ found[1].vector)[0, 1] == pytest.approx(1)
    assert np.linalg.norm(axis) == pytest.approx(1)
    with pytest.raises(DataError, match="parallel"):
        plane(x, ds["drums"].values, found[0], found[0].flip())
    with pytest.raises(DataError, match="width 16"):
        plane(x[:, :4], ds["drums"].values, found[0], found[1])


def test_map_of_directions(dataset: Dataset) -> None:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((3, 16))
    directions = [
        Direction.from_weight(
            "L0.resid", centres[i % 3] + 0.3 * rng.standard_normal(16), trait=f"t{i % 3}", method=f"m{i}"
        )
        for i in range(24)
    ]
    table = map_directions(directions, "raw")
    assert len(table) == 24 and table.attrs["umap_trust"] > 0.7 and table.attrs["pca_trust"] > 0.7
    assert table["trait"].nunique() == 3
    with pytest.raises(DataError, match="eight or more"):
        map_directions(directions[:5], "raw")
