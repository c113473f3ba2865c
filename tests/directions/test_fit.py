"""The batched solvers against scikit-learn, on easy and hard problems."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from directions.sklearn_loop import fit_loop
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from interp.directions import fit
from interp.errors import DataError

Floats = NDArray[np.float64]
FINE, COARSE = 1e-5, 1e-3


def draw(
    seed: int, sites: int, clips: int, dim: int, classes: int = 2, signal: float = 1.5
) -> tuple[Floats, NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(sites, clips, dim)) * rng.uniform(0.1, 3, dim) + 3 * rng.normal(size=dim)
    z = (x[0] - x[0].mean(0)) / x[0].std(0)
    logits = signal * z @ rng.normal(size=(dim, classes)) / np.sqrt(dim)
    y = np.argmax(logits + rng.gumbel(size=logits.shape), axis=1)
    y[: 3 * classes] = np.tile(np.arange(classes), 3)  # every class in every fold
    return x, y


def three_folds(clips: int) -> NDArray[np.bool_]:
    return np.arange(clips)[None] % 3 != np.arange(3)[:, None]


def reference(x: Floats, y: NDArray[np.int64], l2: float, **options: object) -> tuple[Floats, float | Floats]:
    """scikit-learn's optimum on standardised features, in the raw basis."""
    scaler = StandardScaler().fit(x)
    model = LogisticRegression(C=1 / l2, tol=1e-13, max_iter=100_000, solver="newton-cholesky", **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(scaler.transform(x), y)
    coef = model.coef_ / scaler.scale_
    return coef, model.intercept_ - coef @ scaler.mean_


def worst(got: Floats, wanted: Floats) -> float:
    return float(np.linalg.norm(got - wanted) / np.linalg.norm(wanted))


CASES = {
    "ordinary": ({"clips": 240, "dim": 12}, 1.0),
    "separable": ({"clips": 150, "dim": 8, "signal": 80.0}, 1e-2),
    "nearly no penalty": ({"clips": 150, "dim": 8, "signal": 80.0}, 1e-4),
    "one feature": ({"clips": 60, "dim": 1}, 1.0),
    "more features than clips": ({"clips": 60, "dim": 100}, 1.0),
    "strong penalty": ({"clips": 120, "dim": 6}, 1e3),
    "three classes": ({"clips": 240, "dim": 8, "classes": 3}, 1.0),
    "five separable classes": ({"clips": 240, "dim": 8, "classes": 5, "signal": 60.0}, 1e-2),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", CASES)
def test_logistic_reaches_the_optimum_of_scikit_learn(name: str, dtype: str) -> None:
    shape, l2 = CASES[name]
    x, y = draw(3, 2, **shape)  # type: ignore[arg-type]
    train = three_folds(len(y))
    fits = fit(x, y, weights=train, l2=l2, dtype=dtype)  # type: ignore[arg-type]
    assert fits.converged.all()
    for site in range(2):
        for fold in range(3):
            coef, intercept = reference(x[site, train[fold]], y[train[fold]], l2)
            limit = FINE if dtype == "float64" else COARSE
            assert worst(fits.coef[site, 0, fold, 0], coef) < limit
            scale = np.abs(intercept).max() + np.linalg.norm(coef * x[site].std(0))
            assert np.abs(fits.intercept[site, 0, fold, 0] - intercept).max() < limit * scale


def test_collinear_and_constant_features() -> None:
    x, y = draw(5, 1, 120, 5)
    x = np.concatenate([x, x[:, :, :2], 2 * x[:, :, :1] - x[:, :, 1:2], np.full((1, 120, 1), 7.3)], axis=2)
    coef, intercept = reference(x[0], y, 0.5)
    for dtype, limit in (("float64", FINE), ("float32", COARSE)):
        fits = fit(x, y, l2=0.5, dtype=dtype)  # type: ignore[arg-type]
        assert worst(fits.coef[0, 0, 0, 0], coef) < limit
        assert fits.coef[0, 0, 0, 0, 0, -1] == 0
        assert abs(fits.intercept[0, 0, 0, 0, 0] - intercept[0]) < limit * (1 + abs(intercept[0]))  # type: ignore[index]


def test_a_feature_constant_in_one_fold_only() -> None:
    x, y = draw(6, 1, 90, 4)
    train = three_folds(90)
    x[0, train[1], 2] = 1.0
    fits = fit(x, y, weights=train)
    assert fits.coef[0, 0, 1, 0, 0, 2] == 0
    assert fits.coef[0, 0, 0, 0, 0, 2] != 0
    coef, _ = reference(x[0, train[1]], y[train[1]], 1.0)
    assert worst(fits.coef[0, 0, 1, 0], coef) < FINE


@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_unbalanced_classes(class_weight: str | None) -> None:
    x, y = draw(7, 1, 300, 6)
    y = ((x[0, :, 0] > np.quantile(x[0, :, 0], 0.95)) | (np.arange(300) % 60 == 0)).astype(np.int64)
    fits = fit(x, y, class_weight=class_weight)  # type: ignore[arg-type]
    coef, intercept = reference(x[0], y, 1.0, class_weight=class_weight)
    assert worst(fits.coef[0, 0, 0, 0], coef) < FINE
    assert abs(fits.intercept[0, 0, 0, 0, 0] - intercept[0]) < FINE * (1 + abs(intercept[0]))  # type: ignore[index]


def test_many_labellings_equal_one_at_a_time() -> None:
    x, y = draw(8, 3, 100, 6)
    rng = np.random.default_rng(0)
    labels = np.stack([rng.permutation(y) for _ in range(40)])
    for method in ("logistic", "ridge", "lda", "mean_diff"):
        together = fit(x, labels, method=method)  # type: ignore[arg-type]
        for row in (0, 17, 39):
            alone = fit(x, labels[row], method=method)  # type: ignore[arg-type]
            np.testing.assert_allclose(together.coef[:, :, :, row], alone.coef[:, :, :, 0], rtol=1e-5, atol=1e-7)
            np.testing.assert_allclose(
                together.intercept[:, :, :, row], alone.intercept[:, :, :, 0], rtol=1e-5, atol=1e-6
            )


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("method", ["logistic", "ridge", "lda", "mean_diff", "onehot"])
@pytest.mark.parametrize("standardize", [True, False])
def test_every_method_equals_the_scikit_learn_solver(method: str, classes: int, standardize: bool) -> None:
    x, y = draw(9, 2, 120, 6, classes)
    options = {"method": method, "weights": three_folds(120), "l2": [0.1, 10.0], "standardize": standardize}
    slow = fit_loop(x, y, **options)  # type: ignore[arg-type]
    for dtype, limit in (("float64", FINE), ("float32", COARSE)):
        fast = fit(x, y, dtype=dtype, **options)  # type: ignore[arg-type]
        assert fast.coef.shape == slow.coef.shape
        error = np.linalg.norm(fast.coef - slow.coef, axis=(-1, -2)) / np.linalg.norm(slow.coef, axis=(-1, -2))
        assert error.max() < limit
        assert np.abs(fast.intercept - slow.intercept).max() < limit * (1 + np.abs(slow.intercept).max())


@pytest.mark.parametrize("solver", ["lsqr", "eigen"])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("labellings", [1, 20])
def test_lda_with_many_shrinkages_equals_scikit_learn(solver: str, classes: int, labellings: int) -> None:
    x, y = draw(21, 1, 120, 6, classes)
    rng = np.random.default_rng(0)
    labels = np.stack([y, *(rng.permutation(y) for _ in range(labellings - 1))])
    amounts = [0.0, 0.05, 0.4, 1.0]
    z = StandardScaler().fit_transform(x[0])
    for dtype, limit in (("float64", FINE), ("float32", COARSE)):
        fits = fit(x, labels, method="lda", shrinkage=amounts, dtype=dtype)  # type: ignore[arg-type]
        assert fits.coef.shape[1] == len(amounts)
        for k, amount in enumerate(amounts):
            for p in (0, labellings - 1):
                model = LinearDiscriminantAnalysis(solver=solver, shrinkage=amount).fit(z, labels[p])
                decision = fits.decision(x)[0, k, 0, p].T
                wanted = model.decision_function(z).reshape(120, -1)
                if classes > 2:  # decision values of classes are fixed only up to a common shift
                    decision, wanted = (d - d.mean(1, keepdims=True) for d in (decision, wanted))
                assert worst(decision, wanted) < 10 * limit
    with pytest.raises(DataError, match="from 0 to 1"):
        fit(x, y, method="lda", shrinkage=[0.1, 1.5])


@pytest.mark.parametrize("method", ["ridge", "mean_diff"])
def test_graded_targets(method: str) -> None:
    x, _ = draw(10, 2, 80, 5)
    rng = np.random.default_rng(1)
    y = np.stack([x[1] @ rng.normal(size=5) + rng.normal(size=80) for _ in range(3)])
    options = {"method": method, "weights": three_folds(80), "l2": [0.01, 1.0, 100.0]}
    fast, slow = fit_loop(x, y, **options), fit(x, y, **options)  # type: ignore[arg-type]
    np.testing.assert_allclose(fast.coef, slow.coef, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(fast.intercept, slow.intercept, rtol=1e-8, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    clips=st.integers(24, 80),
    dim=st.integers(1, 30),
    log_l2=st.floats(-3, 3),
    offset=st.floats(-1e3, 1e3),
    classes=st.sampled_from([2, 2, 3]),
)
def test_the_gradient_vanishes_at_the_solution(
    seed: int, clips: int, dim: int, log_l2: float, offset: float, classes: int
) -> None:
    x, y = draw(seed, 1, clips, dim, classes)
    fits = fit(x + offset, y, l2=10**log_l2)
    assert fits.converged.all()
    scale = x[0].std(0)
    z = (x[0] - x[0].mean(0)) / scale
    u = fits.coef[0, 0, 0, 0] * scale
    logits = fits.decision(x + offset)[0, 0, 0, 0]
    onehot = np.eye(classes)[y].T
    p = torch.as_tensor(logits).softmax(0).numpy() if classes > 2 else 1 / (1 + np.exp(-logits))
    residual = p - (onehot if classes > 2 else onehot[1:])
    gradient = residual @ z + 10**log_l2 * u
    size = np.abs(onehot - onehot.mean(1, keepdims=True)).sum() + 10**log_l2 * np.linalg.norm(u)
    assert np.linalg.norm(gradient) < 1e-5 * size
    assert np.abs(residual.sum(1)).max() < 1e-5 * clips


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**16), scale=st.floats(1e-3, 1e3), offset=st.floats(-50, 50))
def test_standardised_probes_do_not_feel_units(seed: int, scale: float, offset: float) -> None:
    x, y = draw(seed, 1, 60, 4)
    for method in ("logistic", "ridge", "lda"):
        one = fit(x, y, method=method)  # type: ignore[arg-type]
        two = fit(x * scale + offset, y, method=method)  # type: ignore[arg-type]
        np.testing.assert_allclose(two.coef * scale, one.coef, rtol=1e-4, atol=1e-6)


def test_blocks_do_not_change_the_result() -> None:
    x, y = draw(11, 9, 60, 5)
    rng = np.random.default_rng(2)
    labels = np.stack([rng.permutation(y) for _ in range(70)])
    for method in ("logistic", "ridge"):
        wide = fit(x, labels, method=method)  # type: ignore[arg-type]
        narrow = fit(x, labels, method=method, memory=150_000)  # type: ignore[arg-type]
        np.testing.assert_allclose(wide.coef, narrow.coef, rtol=1e-4, atol=1e-6)


def test_softmax_weights_sum_to_zero() -> None:
    x, y = draw(12, 1, 120, 5, 4)
    fits = fit(x, y)
    np.testing.assert_allclose(fits.coef.sum(axis=-2), 0, atol=1e-6)


BAD = {
    "nan": (lambda x, y: fit(np.where(np.arange(5) == 3, np.nan, x), y), "not finite"),
    "one class": (lambda x, y: fit(x, np.zeros(60, int)), "one class"),
    "one-class fold": (
        lambda x, y: fit(x, np.arange(60) // 30, weights=np.arange(60)[None] < 30),
        "no clip of class 1",
    ),
    "labels of another length": (lambda x, y: fit(x, y[:-1]), "one label per clip"),
    "unknown method": (lambda x, y: fit(x, y, method="svm"), "no method is called 'svm'"),
    "graded logistic": (lambda x, y: fit(x, y.astype(float)), "needs classes"),
    "no penalty": (lambda x, y: fit(x, y, l2=0.0), "positive penalties"),
    "memory": (lambda x, y: fit(x, y, memory=1000), "memory budget"),
    "two dimensions": (lambda x, y: fit(x[0], y), r"\(sites, clips, dim\)"),
    "weighted ridge": (lambda x, y: fit(x, y, method="ridge", class_weight="balanced"), "class weights"),
    "tiny fold": (lambda x, y: fit(x, y, weights=np.arange(60)[None] < 1), "fewer than two clips"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_one_sentence(name: str) -> None:
    call, words = BAD[name]
    x, y = draw(13, 2, 60, 5)
    with pytest.raises(DataError, match=words) as caught:
        call(x, y)
    assert "\n" not in str(caught.value)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_gpu_agrees() -> None:
    x, y = draw(14, 4, 100, 8)
    for method in ("logistic", "ridge", "lda", "mean_diff"):
        here, there = (fit(x, y, method=method, device=device) for device in ("cpu", "cuda"))  # type: ignore[arg-type]
        np.testing.assert_allclose(here.coef, there.coef, rtol=1e-6, atol=1e-8)
