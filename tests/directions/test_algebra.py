"""Laws that arithmetic on directions keeps."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.directions import Direction, Directions, combine, orthogonalise, project_out, random_like
from interp.errors import DataError

DIMS, SEEDS = st.integers(2, 24), st.integers(0, 2**32 - 1)


def some(seed: int, dim: int, n: int) -> list[Direction]:
    rng = np.random.default_rng(seed)
    return [
        Direction.from_weight("L1.resid", rng.standard_normal(dim), intercept=rng.normal(), trait=f"t{i}", score=i / n)
        for i in range(n)
    ]


@settings(max_examples=60, deadline=None)
@given(dim=DIMS, seed=SEEDS, scale=st.floats(1e-3, 1e3))
def test_sums_do_not_depend_on_order_or_scale(dim: int, seed: int, scale: float) -> None:
    a, b, c = some(seed, dim, 3)
    total = combine([a, b, c], [1.0, -2.0, 0.5])
    turned = combine([c, a, b], [0.5, 1.0, -2.0])
    np.testing.assert_allclose(total.weight, turned.weight, atol=1e-12)
    scaled = combine([a, b, c], [scale, -2 * scale, 0.5 * scale])
    np.testing.assert_allclose(scaled.vector, total.vector, atol=1e-9)
    assert scaled.norm == pytest.approx(scale * total.norm)
    np.testing.assert_allclose(combine([a]).vector, a.vector, atol=1e-12)
    with pytest.raises(DataError, match="cancel"):
        combine([a, a], [1.0, -1.0])


@settings(max_examples=60, deadline=None)
@given(dim=st.integers(3, 24), seed=SEEDS)
def test_projections_are_projections(dim: int, seed: int) -> None:
    a, b, c = some(seed, dim, 3)
    x = np.random.default_rng(seed).standard_normal((7, dim))
    once = project_out(x, [a, b])
    np.testing.assert_allclose(project_out(once, [a, b]), once, atol=1e-9)  # twice is once
    np.testing.assert_allclose(project_out(x, [b, a]), once, atol=1e-9)  # in any order
    assert (np.linalg.norm(once, axis=1) <= np.linalg.norm(x, axis=1) + 1e-9).all()
    if dim > 3:
        cleaned = orthogonalise(c, [a, b])
        np.testing.assert_allclose(orthogonalise(cleaned, [a, b]).vector, cleaned.vector, atol=1e-8)
        np.testing.assert_allclose(x @ cleaned.vector, once @ cleaned.vector, atol=1e-7)


@settings(max_examples=60, deadline=None)
@given(dim=DIMS, seed=SEEDS)
def test_flipping_is_its_own_inverse(dim: int, seed: int) -> None:
    (d,) = some(seed, dim, 1)
    x = np.random.default_rng(seed).standard_normal((5, dim))
    assert d.flip().flip() == d
    np.testing.assert_allclose(d.flip().logit(x), -d.logit(x))
    assert d.flip().positive == d.against != d.positive
    drawn = random_like(d, np.random.default_rng(seed))
    assert np.linalg.norm(drawn.vector) == pytest.approx(1) and math.isnan(drawn.score)


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, n=st.integers(1, 8), k=st.integers(1, 8))
def test_the_best_are_the_best(seed: int, n: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.choice([0.5, 0.7, 0.9, math.nan], n)
    listed = Directions(
        Direction.from_weight(f"L{i}.H0", [1.0, i], trait="drums", score=score)
        for i, score in zip(rng.permutation(n), scores, strict=True)
    )
    if k > n:
        with pytest.raises(Exception, match=f"write top:1 to top:{n}"):
            listed.at(f"top:{k}")
        return
    top = listed.at(f"top:{k}")
    assert len(top) == k and set(top) <= set(listed)
    ranks = [(-d.score if math.isfinite(d.score) else math.inf, d.site) for d in top]
    rest = [(-d.score if math.isfinite(d.score) else math.inf, d.site) for d in listed if d not in top]
    assert ranks == sorted(ranks) and (not rest or max(ranks) < min(rest))
    assert listed.at("heads") == Directions(sorted(listed, key=lambda d: d.site))
