"""Directions: what they accept, how they are kept, and the arithmetic on them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from interp.directions import (
    Direction,
    Directions,
    combine,
    orthogonalise,
    project_out,
    random_like,
)
from interp.errors import CheckpointMismatch, DataError, InterventionError, SiteError, StoreError
from interp.sites import ModelShape, Site


def make(rng: np.random.Generator, site: str = "L3.H2", dim: int = 8, **fields: object) -> Direction:
    kept = {"method": "ridge", "trait": "drums", "model": "abc123", "intercept": 0.5, "sigma": 2.0} | fields
    return Direction.from_weight(site, rng.standard_normal(dim), **kept)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_logit_is_that_of_the_weight(rng: np.random.Generator) -> None:
    weight, x = rng.standard_normal(6), rng.standard_normal((10, 6))
    direction = Direction.from_weight("L0.resid", weight, intercept=-0.3, activations=x)
    np.testing.assert_allclose(direction.logit(x), x @ weight - 0.3, atol=1e-12)
    assert direction.sigma == pytest.approx((x @ direction.vector).std(ddof=1))
    np.testing.assert_allclose(direction.step(2.0), 2 * direction.sigma * weight / np.linalg.norm(weight))


def test_vector_is_a_read_only_copy(rng: np.random.Generator) -> None:
    vector = np.array([0.6, 0.8])
    direction = Direction("L0.H0", vector)
    vector[0] = 99
    assert direction.vector[0] == 0.6
    with pytest.raises(ValueError, match="read-only"):
        direction.vector[0] = 1


@pytest.mark.parametrize(
    ("vector", "message"),
    [
        ([1.0, 1.0], "length 1.41421"),
        ([0.0, 0.0], "length 0"),
        ([math.nan, 1.0], "NaN"),
        ([[1.0, 0.0]], "shape"),
        ([], "shape"),
    ],
)
def test_bad_vectors_are_refused(vector: list[float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Direction("L0.H0", np.array(vector))


def test_bad_numbers_are_refused(rng: np.random.Generator) -> None:
    for fields in ({"norm": 0.0}, {"norm": math.inf}, {"sigma": -1.0}, {"sigma": math.inf}):
        with pytest.raises(DataError):
            Direction("L0.H0", np.array([1.0, 0.0]), **fields)
    with pytest.raises(DataError, match="is zero"):
        Direction.from_weight("L0.H0", np.zeros(4), method="ridge")
    with pytest.raises(SiteError, match=r"L99\.Q"):
        Direction("L99.Q", np.array([1.0, 0.0]))
    with pytest.raises(InterventionError, match="no sigma"):
        Direction("L0.H0", np.array([1.0, 0.0])).step(1.0)


def test_wrong_width_and_wrong_model_say_both_sides(rng: np.random.Generator) -> None:
    direction = make(rng)
    with pytest.raises(DataError, match=r"width 8.*have 5"):
        direction.logit(np.ones((2, 5)))
    with pytest.raises(CheckpointMismatch, match=r"abc123.*zzz"):
        direction.check_model("zzz")
    assert direction.check_model("abc123") is direction
    with pytest.raises(SiteError, match="width 8"):
        direction.check_shape(ModelShape(6, 8, 128))
    with pytest.raises(SiteError, match="layers 0 to 1"):
        direction.check_shape(ModelShape(2, 4, 32))
    assert direction.check_shape(ModelShape(6, 4, 32)) is direction


def test_flip_twice_is_the_same(rng: np.random.Generator) -> None:
    plain, pair = make(rng), make(rng, trait="family", positive="piano", against="organ")
    for direction in (plain, pair):
        x = rng.standard_normal((5, 8))
        np.testing.assert_allclose(direction.flip().logit(x), -direction.logit(x))
        assert direction.flip().flip() == direction
    assert (plain.flip().positive, plain.flip().against) == ("not drums", "drums")
    assert pair.flip().positive == "organ"


def test_select_and_one(rng: np.random.Generator) -> None:
    directions = Directions(
        make(rng, site, method=method, trait=trait)
        for site in ("L0.H0", "L0.H1", "L1.resid")
        for method in ("ridge", "logistic")
        for trait in ("drums", "bass")
    )
    assert len(directions.select(site=["L0.H0", Site.parse("L1.resid")], method="ridge")) == 4
    assert len(directions.select(kind="heads", layer=0, head=1)) == 4
    assert len(directions.select(where=lambda d: d.trait == "bass")) == 6
    assert directions.one(site="L0.H1", method="ridge", trait="bass").trait == "bass"
    assert directions.unique("layer") == [0, 1]
    with pytest.raises(DataError, match="4 directions match"):
        directions.one(site="L0.H1")
    with pytest.raises(DataError, match="no direction matches method=lda"):
        directions.one(method="lda")
    frame = directions.to_frame()
    assert list(frame["site"][:4]) == ["L0.H0"] * 4
    assert frame["head"].isna().sum() == 4
    assert Directions().to_frame().empty


@settings(max_examples=25, deadline=None)
@given(
    dims=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    seed=st.integers(0, 2**32 - 1),
    text=st.text(max_size=8),
)
def test_save_and_load_give_back_every_bit(
    tmp_path_factory: pytest.TempPathFactory, dims: list[int], seed: int, text: str
) -> None:
    rng = np.random.default_rng(seed)
    directions = Directions(
        make(rng, f"L{i}.H0", dim, trait=text, score=math.nan, against=text, info={"l2": 0.1})
        for i, dim in enumerate(dims)
    )
    path = tmp_path_factory.mktemp("store") / "directions"
    assert Directions.load(directions.save(path)) == directions
    assert [f.name for f in path.parent.iterdir()] == ["directions.safetensors"]


def test_numpy_values_in_info_are_saved_as_plain_ones(rng: np.random.Generator, tmp_path: Path) -> None:
    info = {"C": np.float64(0.5), "folds": np.arange(3), "deep": {"n": np.int64(4)}}
    loaded = Directions.load(Directions([make(rng, info=info)]).save(tmp_path / "d"))
    assert loaded[0].info == {"C": 0.5, "folds": [0, 1, 2], "deep": {"n": 4}}
    with pytest.raises(StoreError, match="JSON"):
        Directions([make(rng, info={"x": object()})]).save(tmp_path / "d")


def test_damaged_files_get_a_sentence(rng: np.random.Generator, tmp_path: Path) -> None:
    path = Directions([make(rng), make(rng)]).save(tmp_path / "d")
    with pytest.raises(StoreError, match="no directions at"):
        Directions.load(tmp_path / "missing")
    with pytest.raises(CheckpointMismatch, match="other"):
        Directions.load(path, model="other")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StoreError, match="damaged"):
        Directions.load(path)
    save_file({"x": np.zeros(3)}, path)
    with pytest.raises(StoreError, match="not a file of directions"):
        Directions.load(path)
    path.write_bytes(whole)
    tensors = load_file(path)
    words = dict.fromkeys(("method", "trait", "positive", "against", "model", "pool"), "")
    records = [{"site": "L0.H0", **words, "info": {}}]
    header = {"content": json.dumps({"format": "interp.directions/3", "records": records})}
    save_file(tensors, path, metadata=header)  # one record too few
    with pytest.raises(StoreError, match="do not match"):
        Directions.load(path)
    with pytest.raises(StoreError, match="no directions to save"):
        Directions().save(path)


def test_saving_where_one_cannot_write(rng: np.random.Generator, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="cannot write"):
        Directions([make(rng)]).save(tmp_path / "file" / "d")


def test_random_like_displaces_equally_far(rng: np.random.Generator) -> None:
    direction = make(rng, dim=64)
    draws = [random_like(direction, rng) for _ in range(200)]
    for draw in draws:
        assert np.linalg.norm(draw.step(3.0)) == pytest.approx(np.linalg.norm(direction.step(3.0)))
        assert draw.method == "random"
    cosines = np.array([d.vector @ direction.vector for d in draws])
    assert abs(cosines.mean()) < 4 * 0.125 / math.sqrt(200)
    assert cosines.std() == pytest.approx(1 / 8, rel=0.25)


def test_combine(rng: np.random.Generator) -> None:
    a, b, x = make(rng), make(rng, trait="bass"), rng.standard_normal((30, 8))
    total = combine([a, b], [1, -0.5], activations=x)
    expected = a.vector - 0.5 * b.vector
    np.testing.assert_allclose(total.weight, expected)
    assert total.sigma == pytest.approx((x @ total.vector).std(ddof=1))
    assert math.isnan(combine([a, b]).sigma)
    assert "bass" in total.trait
    with pytest.raises(DataError, match="cancel"):
        combine([a, a.flip()])
    with pytest.raises(DataError, match="one weight for each"):
        combine([a, b], [1.0])
    with pytest.raises(SiteError, match="different bases"):
        combine([a, make(rng, "L3.H3")])
    with pytest.raises(CheckpointMismatch):
        combine([a, replace(b, model="zzz")])


@settings(max_examples=40, deadline=None)
@given(dim=st.integers(3, 40), others=st.integers(1, 4), seed=st.integers(0, 2**32 - 1), close=st.booleans())
def test_orthogonalise_leaves_no_cosine(dim: int, others: int, seed: int, close: bool) -> None:
    rng = np.random.default_rng(seed)
    others = min(others, dim - 1)
    against = [make(rng, dim=dim) for _ in range(others)]
    direction = make(rng, dim=dim)
    if close:  # nearly inside the span: rounding must not let the others back in
        mixed = np.sum([d.vector for d in against], axis=0) + 1e-4 * direction.vector
        direction = Direction.from_weight("L3.H2", mixed, model="abc123")
    cleaned = orthogonalise(direction, [*against, against[0]])
    assert max(abs(cleaned.vector @ d.vector) for d in against) < 1e-10
    assert cleaned.vector @ direction.vector > 0
    assert cleaned.norm == pytest.approx(direction.norm * math.sqrt(cleaned.info["kept"]))


def test_orthogonalise_keeps_the_mean_logit(rng: np.random.Generator) -> None:
    a, b, x = make(rng), make(rng), rng.standard_normal((30, 8)) + 1
    cleaned = orthogonalise(a, [b], activations=x)
    assert cleaned.logit(x).mean() == pytest.approx(a.logit(x).mean())
    assert cleaned.sigma == pytest.approx((x @ cleaned.vector).std(ddof=1))
    assert math.isnan(orthogonalise(a, [b]).intercept)
    with pytest.raises(DataError, match="nothing is left"):
        orthogonalise(a, [a.flip(), b])
    with pytest.raises(SiteError):
        orthogonalise(a, [make(rng, "L0.H0")])


def test_project_out(rng: np.random.Generator) -> None:
    a, b, x = make(rng), make(rng), rng.standard_normal((3, 30, 8)) + 1
    left = project_out(x, [a, b, a])
    assert np.abs(left @ np.stack([a.vector, b.vector]).T).max() < 1e-12
    centre = x.reshape(-1, 8).mean(axis=0)
    kept = project_out(x, [a], mean=centre)
    np.testing.assert_allclose(kept.reshape(-1, 8).mean(axis=0), centre)
    assert (kept @ a.vector).std() < 1e-12
    np.testing.assert_allclose(project_out(left, [a, b]), left)  # nothing left to take
    with pytest.raises(DataError, match="no direction"):
        project_out(x, [])
    with pytest.raises(DataError, match="width"):
        project_out(np.ones((2, 3)), [a])


def test_matrix_needs_one_width(rng: np.random.Generator) -> None:
    assert Directions([make(rng), make(rng)]).matrix().shape == (2, 8)
    with pytest.raises(DataError, match=r"widths \[4, 8\]"):
        Directions([make(rng), make(rng, dim=4)]).matrix()
    with pytest.raises(DataError, match="holds str"):
        Directions(["ridge"])  # type: ignore[list-item]
