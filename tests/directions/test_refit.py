"""Refits against scikit-learn, and the identities between methods that make cosines interpretable."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge

from interp.directions.refit import METHODS, _top_eigenvector, refit, role
from interp.errors import DataError
from interp.geometry.nulls import covariance_of, unit

Classes = tuple[np.ndarray, np.ndarray]


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (unit(a) * unit(b)).sum(axis=-1)


def one(x: np.ndarray, y: np.ndarray, method: str, **options: object) -> np.ndarray:
    return refit(x, y, method=method, **options)[:, 0, 0]


def test_equal_scikit_learn_under_weights(classes: Classes, rng: np.random.Generator) -> None:
    x, y = classes
    weights = rng.multinomial(400, np.full(400, 1 / 400), size=3).astype(float)
    found = {m: refit(x, y, weights, method=m, ridge=7.0, C=0.3) for m in ("ridge", "least_squares", "logistic", "lda")}
    for site in range(3):
        spread = x[site].std(axis=0)
        z = (x[site] - x[site].mean(axis=0)) / spread
        for r, w in enumerate(weights):
            references = {
                "ridge": Ridge(7.0).fit(z, y, sample_weight=w).coef_ / spread,
                "least_squares": LinearRegression().fit(x[site], y, sample_weight=w).coef_,
                "logistic": LogisticRegression(C=0.3, tol=1e-10, max_iter=5000).fit(z, y, sample_weight=w).coef_[0]
                / spread,
            }
            for method, expected in references.items():
                got = found[method][site, 0, r]
                np.testing.assert_allclose(got, expected, rtol=2e-4, atol=2e-5 * np.abs(expected).max(), err_msg=method)
            repeated = np.repeat(np.arange(400), w.astype(int))
            lda = LinearDiscriminantAnalysis(solver="lsqr").fit(x[site][repeated], y[repeated])
            assert cosines(lda.coef_[0], found["lda"][site, 0, r]) > 1 - 1e-9


@settings(max_examples=30, deadline=None)
@given(share=st.floats(0.05, 0.95), dim=st.integers(2, 20), seed=st.integers(0, 2**32 - 1))
def test_least_squares_is_the_lda_direction(share: float, dim: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    y = np.where(rng.permutation(200) < 200 * share, 1.0, -1.0)
    x = rng.standard_normal((1, 200, dim)) @ rng.standard_normal((dim, dim)) + rng.standard_normal(dim) * y[:, None] + 5
    assert abs(cosines(one(x, y, "least_squares"), one(x, y, "lda"))[0] - 1) < 1e-8


def test_ridge_path_runs_from_least_squares_to_the_mean_difference(classes: Classes) -> None:
    x, y = classes
    start = one(x, y, "ridge", ridge=1e-10, standardise=False)
    end = one(x, y, "ridge", ridge=1e12, standardise=False)
    assert (cosines(start, one(x, y, "least_squares")) > 1 - 1e-8).all()
    assert (cosines(end, one(x, y, "mean_diff")) > 1 - 1e-8).all()
    # on standardised features the round penalty is round there: the end is the standardised mean difference
    variance = x.var(axis=1)
    assert (cosines(one(x, y, "ridge", ridge=1e12), one(x, y, "mean_diff") / variance) > 1 - 1e-8).all()


def test_logistic_path_ends_at_the_mean_difference_too(classes: Classes) -> None:
    x, y = classes
    end = one(x, y, "logistic", C=1e-7, standardise=False)
    assert (cosines(end, one(x, y, "mean_diff")) > 1 - 1e-5).all()


def test_standardising_is_undone(classes: Classes, rng: np.random.Generator) -> None:
    """Readouts and pushes of rescaled activations, mapped back, are those of the activations themselves."""
    x, y = classes
    scale = np.geomspace(0.01, 100, 12)
    for method in set(METHODS) - {"random"}:
        plain, rescaled = one(x, y, method), one(x * scale, y, method)
        back = rescaled * scale if role(method) == "readout" else rescaled / scale
        assert (cosines(plain, back) > 1 - 1e-6).all(), method


def test_whitening_makes_lda_and_mean_difference_coincide(classes: Classes) -> None:
    x, y = classes
    for site in x:
        values, vectors = np.linalg.eigh(covariance_of(site, y))
        white = (site @ (vectors / np.sqrt(values)))[None]
        assert cosines(one(white, y, "lda"), one(white, y, "mean_diff"))[0] > 1 - 1e-10
        assert cosines(one(site[None], y, "lda"), one(site[None], y, "mean_diff"))[0] < 0.9


def test_mean_difference_and_pairs(classes: Classes) -> None:
    x, y = classes
    np.testing.assert_allclose(one(x, y, "mean_diff"), x[:, y > 0].mean(1) - x[:, y < 0].mean(1))
    differences = (x[0][y > 0][:, None] - x[0][y < 0][None]).reshape(-1, 12) / x[0].std(axis=0)
    component = np.linalg.svd(differences, full_matrices=False)[2][0] * x[0].std(axis=0)
    assert abs(cosines(component, one(x, y, "pca_pairs")[0])) > 1 - 1e-9
    assert (cosines(one(x, y, "pca_pairs"), one(x, y, "mean_diff")) > 0).all()


@pytest.mark.parametrize("gap", [0.5, 1e-2, 1e-5, 1e-9])
def test_the_top_eigenvector_is_that_of_eigh_however_close_the_second(rng: np.random.Generator, gap: float) -> None:
    basis = torch.as_tensor(np.stack([ortho_group.rvs(20, random_state=seed) for seed in range(4)]))
    values = torch.as_tensor(np.concatenate([rng.uniform(0, 0.4, 18), [1 - gap, 1.0]]))
    scales = torch.tensor([1e-8, 1.0, 1e3, 1e8], dtype=torch.float64)[:, None, None]
    matrices = scales * (basis * values) @ basis.mT
    found = _top_eigenvector(matrices)
    image = (matrices @ found[..., None])[..., 0]
    torch.testing.assert_close((image * found).sum(-1), scales[:, 0, 0], rtol=1e-9, atol=0)
    if gap > 1e-9:  # where two eigenvalues are equal to nine digits, any vector between theirs will do
        assert ((found[:, None] @ basis)[:, 0, -1].abs() > 1 - 1e-6).all()
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(4, dtype=torch.float64))


def test_the_top_eigenvector_of_nothing_is_finite() -> None:
    assert torch.isfinite(_top_eigenvector(torch.zeros(2, 5, 5, dtype=torch.float64))).all()


def test_graded_traits(rng: np.random.Generator) -> None:
    truth = rng.standard_normal(6)
    x = rng.standard_normal((1, 300, 6))
    y = x[0] @ truth + 0.1 * rng.standard_normal(300)
    for method in ("ridge", "least_squares", "rfm"):
        assert cosines(one(x, y, method), truth)[0] > 0.97
    covariance = ((x[0] - x[0].mean(0)) * (y - y.mean())[:, None]).mean(0)
    np.testing.assert_allclose(one(x, y, "mean_diff")[0], covariance, atol=1e-12)
    for method in ("logistic", "lda", "pca_pairs"):
        with pytest.raises(DataError, match="graded"):
            refit(x, y, method=method)


def test_feature_machine_finds_what_no_linear_method_can(rng: np.random.Generator) -> None:
    x = rng.standard_normal((1, 200, 5))
    x = np.concatenate([x, x * np.array([1, 1, -1, 1, 1])], axis=1)  # symmetric: no mean differs along axis 2
    y = np.sign(x[0, :, 2] ** 2 - 0.5)
    found = one(x, y, "rfm", standardise=False)[0]
    assert abs(unit(found)[2]) > 0.9
    assert abs(unit(one(x, y, "ridge")[0])[2]) < 1e-9


def test_feature_machine_turns_with_the_data(classes: Classes) -> None:
    x, y = classes
    turn = ortho_group.rvs(12, random_state=0)
    turned = one(x[:1] @ turn, y, "rfm", standardise=False)
    assert cosines(turned, one(x[:1], y, "rfm", standardise=False) @ turn)[0] > 1 - 1e-6


def test_clips_without_weight_or_label_do_not_count(classes: Classes, rng: np.random.Generator) -> None:
    x, y = classes
    keep = rng.random(400) < 0.6
    spoiled = x.copy()
    spoiled[:, ~keep] = 1e3
    for method in set(METHODS) - {"random"}:
        expected = one(x[:, keep], y[keep], method)
        assert (cosines(one(spoiled, np.where(keep, y, 0.0), method), expected) > 1 - 1e-8).all(), method
    weighted = refit(x, y, keep[None].astype(float), method="mean_diff")[:, 0, 0]
    np.testing.assert_allclose(weighted, one(x[:, keep], y[keep], "mean_diff"))


def test_many_targets_at_once_are_each_alone(classes: Classes, rng: np.random.Generator) -> None:
    x, y = classes
    other = np.sign(rng.standard_normal(400))
    some = np.where(rng.random(400) < 0.5, other, 0.0)
    weights = rng.integers(0, 3, (2, 400)).astype(float)
    for method in ("logistic", "ridge", "lda", "mean_diff", "pca_pairs"):
        together = refit(x, np.stack([y, some, other]), weights, method=method)
        for column, labels in enumerate((y, some, other)):
            alone = refit(x, labels, weights, method=method)[:, 0]
            np.testing.assert_allclose(together[:, column], alone, rtol=1e-5, atol=1e-7, err_msg=method)


def test_more_dimensions_than_clips(rng: np.random.Generator) -> None:
    x = rng.standard_normal((1, 20, 50))
    y = np.where(np.arange(20) % 2, 1.0, -1.0)
    for method in METHODS:
        found = one(x, y, method)
        assert np.isfinite(found).all() and np.linalg.norm(found) > 0, method
    fitted = (x[0] - x[0].mean(0)) @ one(x, y, "least_squares")[0]
    np.testing.assert_allclose(fitted, y, atol=1e-6)  # the shortest of all exact solutions


def test_constant_features_get_no_weight(classes: Classes) -> None:
    x, y = classes
    x = np.concatenate([x, np.full((3, 400, 1), 4.2)], axis=2)
    for method in set(METHODS) - {"random"}:
        assert np.abs(unit(one(x, y, method))[:, -1]).max() < 1e-6, method


def test_bad_input(classes: Classes) -> None:
    x, y = classes
    with pytest.raises(DataError, match="no method 'svm'"):
        refit(x, y, method="svm")
    with pytest.raises(DataError, match="sites, clips, dim"):
        refit(x[0], y, method="ridge")
    with pytest.raises(DataError, match="do not fit"):
        refit(x, y[:-1], method="ridge")
    with pytest.raises(DataError, match="one class only"):
        refit(x, y, (y > 0)[None].astype(float), method="ridge")
    with pytest.raises(DataError, match="same value"):
        refit(x, np.full(400, 0.3), method="ridge")
    spoiled = x.copy()
    spoiled[0, 0, 0] = np.nan
    with pytest.raises(DataError, match="NaN"):
        refit(spoiled, y, method="ridge")
