"""FAD and KAD against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.errors import DataError
from interp.judges import fad, fad_difference, kad
from interp.judges.distances import KAD_SCALE, Reference, fad_interval, frechet_distance

SETTINGS = settings(max_examples=25, deadline=None)


@SETTINGS
@given(st.integers(0, 2**31), st.integers(1, 12), st.integers(13, 60))
def test_fad_of_a_set_from_itself_is_zero(seed, dim, n):
    x = np.random.default_rng(seed).normal(size=(n, dim)) * 10
    assert fad(x, x, n_draws=0).value == pytest.approx(0, abs=1e-6 * n)


@SETTINGS
@given(st.integers(0, 2**31), st.integers(1, 10))
def test_fad_of_a_shifted_set_is_the_squared_shift(seed, dim):
    rng = np.random.default_rng(seed)
    x, shift = rng.normal(size=(50, dim)), rng.normal(size=dim)
    assert fad(x + shift, x, n_draws=0).value == pytest.approx(shift @ shift, rel=1e-6, abs=1e-6)


@SETTINGS
@given(st.integers(0, 2**31), st.integers(1, 10))
def test_frechet_distance_of_commuting_gaussians(seed, dim):
    """Where covariances share eigenvectors the distance is that of the standard deviations."""
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(rng.normal(size=(dim, dim)))
    a, b = rng.uniform(0, 3, dim), rng.uniform(0, 3, dim)
    shift = rng.normal(size=dim)
    found = frechet_distance(shift, (basis * a) @ basis.T, np.zeros(dim), (basis * b) @ basis.T)
    assert found == pytest.approx(shift @ shift + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum(), abs=1e-5)


@SETTINGS
@given(st.integers(0, 2**31), st.integers(2, 8))
def test_frechet_distance_equals_the_matrix_square_root(seed, dim):
    from scipy.linalg import sqrtm

    rng = np.random.default_rng(seed)
    a, b = (np.cov(rng.normal(size=(dim, 5 * dim))) for _ in range(2))
    slow = np.trace(a + b - 2 * np.real(sqrtm(a @ b)))
    assert frechet_distance(np.zeros(dim), a, np.zeros(dim), b) == pytest.approx(slow, rel=1e-5, abs=1e-7)
    assert frechet_distance(np.zeros(dim), b, np.zeros(dim), a) == pytest.approx(slow, rel=1e-5, abs=1e-7)


def test_fad_is_biased_by_small_sets_and_the_extrapolation_is_not():
    rng = np.random.default_rng(0)
    reference = rng.normal(size=(4000, 8))
    plain, extrapolated = [], []
    for draw in range(30):
        found = fad(rng.normal(size=(64, 8)), reference, seed=draw)
        plain.append(found.value)
        extrapolated.append(found.extrapolated)
    assert np.mean(plain) > 0.15  # the truth is 0
    assert abs(np.mean(extrapolated)) < 0.25 * np.mean(plain)


def test_fad_says_when_the_sets_are_too_small():
    rng = np.random.default_rng(0)
    small = fad(rng.normal(size=(10, 12)), rng.normal(size=(50, 12)))
    assert small.rank_deficient and np.isnan(small.extrapolated)
    assert not fad(rng.normal(size=(40, 12)), rng.normal(size=(50, 12))).rank_deficient


def test_kad_is_unbiased():
    """Its mean over many draws is 0 for equal distributions and the closed form for shifted Gaussians."""
    rng = np.random.default_rng(1)
    dim, width = 6, 2.0
    for shift in (0.0, 1.0):
        values = [
            kad(rng.normal(size=(12, dim)) + shift / np.sqrt(dim), rng.normal(size=(15, dim)), bandwidth=width).value
            for _ in range(1500)
        ]
        spread = (width**2 / (width**2 + 2)) ** (dim / 2)
        truth = KAD_SCALE * 2 * spread * (1 - np.exp(-(shift**2) / (2 * (width**2 + 2))))
        error = np.std(values) / np.sqrt(len(values))
        assert abs(np.mean(values) - truth) < 4 * error
        assert shift == 0 or truth > 20 * error  # so that the test could fail


def test_kad_p_values_are_uniform_when_nothing_changed_and_small_when_something_did():
    rng = np.random.default_rng(2)
    p = [kad(rng.normal(size=(16, 5)), rng.normal(size=(16, 5)), n_permutations=99, seed=i).p for i in range(120)]
    assert np.mean(np.array(p) <= 0.05) <= 0.12
    assert 0.4 < np.mean(p) < 0.6
    assert kad(rng.normal(size=(40, 5)) + 1, rng.normal(size=(40, 5)), n_permutations=99).p == 0.01


def test_kad_equals_a_slow_literal_sum():
    rng = np.random.default_rng(3)
    x, y, width = rng.normal(size=(7, 4)), rng.normal(size=(9, 4)) + 0.5, 1.7
    k = lambda a, b: np.exp(-((a - b) ** 2).sum() / (2 * width**2))  # noqa: E731
    xx = sum(k(x[i], x[j]) for i in range(7) for j in range(7) if i != j) / (7 * 6)
    yy = sum(k(y[i], y[j]) for i in range(9) for j in range(9) if i != j) / (9 * 8)
    xy = sum(k(a, b) for a in x for b in y) / 63
    assert kad(x, y, bandwidth=width).value == pytest.approx(100 * (xx + yy - 2 * xy))


def test_the_bandwidth_comes_from_the_reference_alone():
    rng = np.random.default_rng(4)
    reference = rng.normal(size=(30, 3))
    widths = {kad(rng.normal(size=(10, 3)) * scale, reference).bandwidth for scale in (0.1, 1, 100)}
    assert len(widths) == 1


@pytest.mark.parametrize("distance", [fad, kad])
def test_bad_embeddings_get_a_sentence(distance):
    rows = np.random.default_rng(0).normal(size=(5, 3))
    with pytest.raises(DataError, match="at least two clips"):
        distance(rows[:1], rows)
    with pytest.raises(DataError, match="at least two clips"):
        distance(rows, rows[0])
    with pytest.raises(DataError, match="2 dimensions and the reference 3"):
        distance(rows[:, :2], rows)
    with pytest.raises(DataError, match="not finite"):
        distance(np.full((5, 3), np.nan), rows)
    with pytest.raises(DataError, match="alike"):
        kad(rows, np.ones((5, 3)))


def test_batched_distances_are_those_of_one_by_one():
    rng = np.random.default_rng(0)
    for n, dim in ((20, 5), (8, 12)):  # with and without full rank
        reference, sets = rng.normal(size=(60, dim)), rng.normal(size=(3, n, dim)) + 0.5
        known = Reference(reference)
        np.testing.assert_allclose(known.distances(sets), [fad(x, reference, n_draws=0).value for x in sets], atol=1e-9)
        without = [fad(np.delete(sets[0], i, 0), reference, n_draws=0).value for i in range(n)]
        np.testing.assert_allclose(known.left_out(sets[0]), without, atol=1e-9)


def gaussians(n, dim, shift, seeds, twins=False):
    """Sets of n clips from a Gaussian; with twins that share half of their variance and lack the shift."""
    rng = np.random.default_rng(3)
    spread = np.linspace(2, 0.3, dim)
    for _ in range(seeds):
        z, own = rng.normal(size=(2, n, dim))
        x = 1.1 * z * spread + shift * np.eye(dim)[0]
        yield (x, (0.7 * z + np.sqrt(0.51) * own) * spread) if twins else x


@pytest.mark.parametrize(("n", "dim", "shift"), [(16, 8, 0.0), (32, 8, 2.0), (32, 48, 2.0)])
def test_the_interval_covers_what_sets_of_this_size_have_on_average(n, dim, shift):
    """300 sets; the bars allow three binomial standard errors (.013) below 95 %, and no interval twice too wide."""
    reference = Reference(np.random.default_rng(1).normal(size=(300, dim)) * np.linspace(2, 0.3, dim))
    values = reference.distances(np.stack(list(gaussians(n, dim, shift, 1500))))
    around = [fad_interval(x, reference) for x in gaussians(n, dim, shift, 300)]
    covered = np.mean([one.lo <= values.mean() <= one.hi for one in around])
    assert covered >= 0.95 - 3 * 0.013
    assert np.mean([one.hi - one.lo for one in around]) < 1.6 * 2 * 1.96 * values.std()


@pytest.mark.parametrize(("n", "dim", "shift"), [(16, 8, 0.0), (32, 8, 2.0)])
def test_the_paired_interval_covers_the_mean_difference(n, dim, shift):
    reference = Reference(np.random.default_rng(1).normal(size=(300, dim)) * np.linspace(2, 0.3, dim))
    a, b = (np.stack(sets) for sets in zip(*gaussians(n, dim, shift, 1500, twins=True), strict=True))
    differences = reference.distances(a) - reference.distances(b)
    around = [fad_difference(x, y, reference) for x, y in gaussians(n, dim, shift, 300, twins=True)]
    covered = np.mean([one.lo <= differences.mean() <= one.hi for one in around])
    assert covered >= 0.95 - 3 * 0.013
    assert np.mean([one.hi - one.lo for one in around]) < 1.6 * 2 * 1.96 * differences.std()


def test_twins_that_are_alike_do_not_differ_and_pairs_must_be_pairs():
    rng = np.random.default_rng(0)
    reference, near = rng.normal(size=(200, 3)), rng.normal(size=(40, 3))
    gap = fad_difference(near + 2.0, near, reference)
    assert gap.value == pytest.approx(fad(near + 2.0, reference).value - fad(near, reference).value)
    assert 0 < gap.lo < gap.value < gap.hi
    same = fad_difference(near, near, reference)
    assert (same.value, same.lo, same.hi) == (0, 0, 0)
    assert np.isnan(fad_interval(near[:3], reference).lo) and np.isnan(fad_difference(near[:3], near[:3], reference).hi)
    with pytest.raises(DataError, match="40 clips and 39 are no pairs"):
        fad_difference(near, near[1:], reference)
