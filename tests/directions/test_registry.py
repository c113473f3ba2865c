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

from interp.directions import fit, methods
from interp.directions.fitting import Fits
from interp.directions.registry import role
from interp.directions.solvers.push import top_eigenvector
from interp.errors import DataError
from interp.geometry.nulls import covariance_of, unit

Classes = tuple[np.ndarray, np.ndarray]


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (unit(a) * unit(b)).sum(axis=-1)


def one(x: np.ndarray, y: np.ndarray, method: str, **options: object) -> np.ndarray:
    """Weights of shape (sites, dim); labels are -1 and +1, or numbers."""
    return fit(x, labels_of(y), method=method, **{"shrinkage": 0.0} | options).coef[:, 0, 0, 0, -1]


def labels_of(y: np.ndarray) -> np.ndarray:
    return (y > 0).astype(int) if set(np.unique(y)) == {-1.0, 1.0} else y


def test_equal_scikit_learn_under_weights(classes: Classes, rng: np.random.Generator) -> None:
    x, y = classes
    weights = rng.multinomial(400, np.full(400, 1 / 400), size=3).astype(float)
    names = {"ridge": 7.0, "least_squares": 0.0, "logistic": 1 / 0.3, "lda": 0.0}
    found = {m: fit(x, labels_of(y), weights, method=m, l2=l2, shrinkage=0.0).coef for m, l2 in names.items()}
    for site in range(3):
        for r, w in enumerate(weights):
            mean = np.average(x[site], axis=0, weights=w)
            spread = np.sqrt(np.average((x[site] - mean) ** 2, axis=0, weights=w))
            z = (x[site] - mean) / spread
            references = {
                "ridge": Ridge(7.0).fit(z, y, sample_weight=w).coef_ / spread,
                "least_squares": LinearRegression().fit(x[site], y, sample_weight=w).coef_,
                "logistic": LogisticRegression(C=0.3, tol=1e-10, max_iter=5000).fit(z, y, sample_weight=w).coef_[0]
                / spread,
            }
            for method, expected in references.items():
                got = found[method][site, 0, r, 0, 0]
                np.testing.assert_allclose(got, expected, rtol=2e-4, atol=2e-5 * np.abs(expected).max(), err_msg=method)
            repeated = np.repeat(np.arange(400), w.astype(int))
            lda = LinearDiscriminantAnalysis(solver="lsqr").fit(x[site][repeated], y[repeated])
            assert cosines(lda.coef_[0], found["lda"][site, 0, r, 0, 0]) > 1 - 1e-9


@settings(max_examples=30, deadline=None)
@given(share=st.floats(0.05, 0.95), dim=st.integers(2, 20), seed=st.integers(0, 2**32 - 1))
def test_least_squares_is_the_lda_direction(share: float, dim: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    y = np.where(rng.permutation(200) < 200 * share, 1.0, -1.0)
    x = rng.standard_normal((1, 200, dim)) @ rng.standard_normal((dim, dim)) + rng.standard_normal(dim) * y[:, None] + 5
    assert abs(cosines(one(x, y, "least_squares"), one(x, y, "lda"))[0] - 1) < 1e-8


def test_ridge_path_runs_from_least_squares_to_the_mean_difference(classes: Classes) -> None:
    x, y = classes
    start = one(x, y, "ridge", l2=1e-10, standardize=False)
    end = one(x, y, "ridge", l2=1e12, standardize=False)
    assert (cosines(start, one(x, y, "least_squares")) > 1 - 1e-8).all()
    assert (cosines(end, one(x, y, "mean_diff")) > 1 - 1e-8).all()
    # on standardised features the round penalty is round there: the end is the standardised mean difference
    variance = x.var(axis=1)
    assert (cosines(one(x, y, "ridge", l2=1e12), one(x, y, "mean_diff") / variance) > 1 - 1e-8).all()


def test_logistic_path_ends_at_the_mean_difference_too(classes: Classes) -> None:
    x, y = classes
    end = one(x, y, "logistic", l2=1e7, standardize=False)
    assert (cosines(end, one(x, y, "mean_diff")) > 1 - 1e-5).all()


def test_standardising_is_undone(classes: Classes, rng: np.random.Generator) -> None:
    """Readouts and pushes of rescaled activations, mapped back, are those of the activations themselves."""
    x, y = classes
    scale = np.geomspace(0.01, 100, 12)
    for method in set(methods()) - {"random", "onehot"}:  # whose penalty is round in features as they are
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
def test_thetop_eigenvector_is_that_of_eigh_however_close_the_second(rng: np.random.Generator, gap: float) -> None:
    basis = torch.as_tensor(np.stack([ortho_group.rvs(20, random_state=seed) for seed in range(4)]))
    values = torch.as_tensor(np.concatenate([rng.uniform(0, 0.4, 18), [1 - gap, 1.0]]))
    scales = torch.tensor([1e-8, 1.0, 1e3, 1e8], dtype=torch.float64)[:, None, None]
    matrices = scales * (basis * values) @ basis.mT
    found = top_eigenvector(matrices)
    image = (matrices @ found[..., None])[..., 0]
    torch.testing.assert_close((image * found).sum(-1), scales[:, 0, 0], rtol=1e-9, atol=0)
    if gap > 1e-9:  # where two eigenvalues are equal to nine digits, any vector between theirs will do
        assert ((found[:, None] @ basis)[:, 0, -1].abs() > 1 - 1e-6).all()
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(4, dtype=torch.float64))


def test_thetop_eigenvector_of_nothing_is_finite() -> None:
    assert torch.isfinite(top_eigenvector(torch.zeros(2, 5, 5, dtype=torch.float64))).all()


def test_graded_traits(rng: np.random.Generator) -> None:
    truth = rng.standard_normal(6)
    x = rng.standard_normal((1, 300, 6))
    y = x[0] @ truth + 0.1 * rng.standard_normal(300)
    for method in ("ridge", "least_squares", "rfm"):
        assert cosines(one(x, y, method), truth)[0] > 0.97
    covariance = ((x[0] - x[0].mean(0)) * (y - y.mean())[:, None]).mean(0)
    np.testing.assert_allclose(unit(one(x, y, "mean_diff"))[0], unit(covariance), atol=1e-9)
    for method in ("logistic", "lda", "pca_pairs"):
        with pytest.raises(DataError, match="labels are numbers"):
            fit(x, y, method=method)


def test_feature_machine_finds_what_no_linear_method_can(rng: np.random.Generator) -> None:
    x = rng.standard_normal((1, 200, 5))
    x = np.concatenate([x, x * np.array([1, 1, -1, 1, 1])], axis=1)  # symmetric: no mean differs along axis 2
    y = np.sign(x[0, :, 2] ** 2 - 0.5)
    found = one(x, y, "rfm", standardize=False)[0]
    assert abs(unit(found)[2]) > 0.9
    assert abs(unit(one(x, y, "ridge")[0])[2]) < 1e-9


def test_feature_machine_turns_with_the_data(classes: Classes) -> None:
    x, y = classes
    turn = ortho_group.rvs(12, random_state=0)
    turned = one(x[:1] @ turn, y, "rfm", standardize=False)
    assert cosines(turned, one(x[:1], y, "rfm", standardize=False) @ turn)[0] > 1 - 1e-6


def test_clips_without_weight_do_not_count(classes: Classes, rng: np.random.Generator) -> None:
    x, y = classes
    keep = rng.random(400) < 0.6
    spoiled = x.copy()
    spoiled[:, ~keep] = 1e3
    for method in set(methods()) - {"random"}:
        expected = one(x[:, keep], y[keep], method)
        got = fit(spoiled, labels_of(y), keep, method=method, shrinkage=0.0).coef[:, 0, 0, 0, -1]
        assert (cosines(got, expected) > 1 - 1e-8).all(), method


def test_a_weight_of_two_is_the_clip_twice(classes: Classes, rng: np.random.Generator) -> None:
    x, y = classes
    weights = rng.integers(0, 3, 400)
    for method in set(methods()) - {"random", "rfm"}:  # the feature machine's width is a median of clips, not of draws
        twice = np.repeat(np.arange(400), weights)
        got = fit(x, labels_of(y), weights.astype(float), method=method).coef
        np.testing.assert_allclose(got, fit(x[:, twice], labels_of(y)[twice], method=method).coef, rtol=1e-4, atol=1e-6)


def test_penalties_per_clip_do_not_depend_on_the_weight_of_all(classes: Classes, rng: np.random.Generator) -> None:
    x, y = classes
    half = np.arange(400) < 200
    for method in methods(penalised=True):
        per_clip = fit(x, labels_of(y), [half, 5.0 * half], method=method, l2=0.01, per_clip=True).coef
        alone = fit(x[:, half], labels_of(y)[half], method=method, l2=0.01 * 200).coef
        for row in range(2):
            np.testing.assert_allclose(per_clip[:, :, row], alone[:, :, 0], rtol=1e-5, atol=1e-8, err_msg=method)


def test_many_rows_and_labellings_at_once_are_each_alone(classes: Classes, rng: np.random.Generator) -> None:
    x, y = classes
    labels = np.stack([labels_of(y), rng.integers(0, 2, 400)])
    weights = rng.integers(0, 3, (70, 400)).astype(float)
    for method in ("logistic", "ridge", "lda", "mean_diff", "pca_pairs"):
        together = fit(x, labels, weights, method=method)
        for row, labelling in ((0, 0), (69, 1)):
            alone = fit(x, labels[labelling], weights[row], method=method)
            if method == "random":
                assert row == 0 == (not np.allclose(together.coef[:, 0, row, labelling], alone.coef[:, 0, 0, 0]))
                continue
            got = together.coef[:, :, row, labelling]
            np.testing.assert_allclose(got, alone.coef[:, :, 0, 0], rtol=1e-5, atol=1e-7, err_msg=method)


def test_random_directions_differ_between_sites_fits_and_seeds_only(classes: Classes) -> None:
    x, y = classes
    some = fit(x, labels_of(y), np.ones((2, 400)), method="random").unit()[:, 0, :, 0].reshape(6, -1)
    assert np.abs(some @ some.T - np.eye(6)).max() < 0.95
    again = fit(x + 1, labels_of(y), np.ones((2, 400)), method="random", memory=10**6).unit()[:, 0, :, 0]
    np.testing.assert_allclose(again.reshape(6, -1), some)
    assert not np.allclose(fit(x, labels_of(y), method="random", seed=1).unit(), some[:1])


def test_more_dimensions_than_clips(rng: np.random.Generator) -> None:
    x = rng.standard_normal((1, 20, 50))
    y = np.where(np.arange(20) % 2, 1.0, -1.0)
    for method in methods():
        found = one(x, y, method)
        assert np.isfinite(found).all() and np.linalg.norm(found) > 0, method
    fitted = (x[0] - x[0].mean(0)) @ one(x, y, "least_squares")[0]
    np.testing.assert_allclose(fitted, y, atol=1e-6)  # the shortest of all exact solutions


def test_constant_features_get_no_weight(classes: Classes) -> None:
    x, y = classes
    x = np.concatenate([x, np.full((3, 400, 1), 4.2)], axis=2)
    for method in set(methods()) - {"random"}:
        assert np.abs(unit(one(x, y, method))[:, -1]).max() < 1e-6, method


def test_bad_input(classes: Classes) -> None:
    x, y = classes
    labels = labels_of(y)
    for call, words in (
        (lambda: fit(x, labels, -np.ones(400)), "negative weight"),
        (lambda: fit(x, labels, np.ones(399)), "do not fit 400 clips"),
        (lambda: fit(x, labels, y > 0), "no clip of class 0"),
        (lambda: fit(x, np.full(400, 0.3), method="ridge"), "same value"),
        (lambda: fit(x, labels, l2=np.ones((2, 1))), r"do not fit 3 sites"),
        (lambda: fit(x, labels).at(refit=0), "no axis is called refit"),
    ):
        with pytest.raises(DataError, match=words):
            call()


def test_axes_have_names(classes: Classes) -> None:
    x, y = classes
    fits = fit(x, labels_of(y), l2=[0.1, 1.0], weights=np.ones((3, 400)))
    ds = fits.to_dataset()
    assert dict(ds.sizes) == {"site": 3, "penalty": 2, "fold": 3, "labelling": 1, "output": 1, "dim": 12}
    assert isinstance(fits, Fits) and fits.at(penalty=1, fold=0).shape == (3, 1, 1, 12)
    np.testing.assert_allclose(np.linalg.norm(fits.unit(), axis=-1), 1)
