"""A logistic probe that is called converged is: the optimum decides, not the size of a last step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from interp.directions import fit
from interp.directions.solvers.design import Design
from interp.directions.solvers.logistic import solve_logistic
from interp.directions.solvers.problems import make_problems


def draw(clips: int, dim: int, signal: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(clips) % 2)
    x = rng.standard_normal((clips, dim)) @ (np.eye(dim) + rng.standard_normal((dim, dim)) / np.sqrt(dim))
    return x + signal * (y[:, None] - 0.5) * rng.standard_normal(dim), y


@pytest.mark.parametrize("signal", [0.0, 0.5])
def test_more_features_than_clips_and_the_weakest_penalty(signal: float) -> None:
    x, y = draw(300, 1024, signal)
    x = x.astype(np.float32)
    fits = fit(x[None], y, l2=1e-4 * 300, dtype="float32")
    assert fits.converged.all()
    wide = x.astype(np.float64)
    z = (wide - wide.mean(0)) / wide.std(0)
    exact = LogisticRegression(C=1 / (1e-4 * 300), tol=1e-12, max_iter=20_000).fit(z, y).coef_[0]
    coef = fits.at(site=0, penalty=0, fold=0, labelling=0, output=0) * wide.std(0)
    assert np.linalg.norm(coef - exact) < 1e-3 * np.linalg.norm(exact)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("method", ["logistic", "ridge", "lda"])
@pytest.mark.parametrize(("scale", "offset"), [(1e-30, 0.0), (1e25, 0.0), (1.0, 1e8)])
def test_columns_of_tiny_and_huge_spread_and_far_from_zero(
    dtype: str, method: str, scale: float, offset: float
) -> None:
    x, y = draw(200, 6, 1.0)
    expected = fit(x[None], y, method=method).at(site=0, penalty=0, fold=0, labelling=0, output=0)
    moved = x.copy()
    moved[:, 2] = scale * x[:, 2] + offset
    fits = fit(moved[None], y, method=method, dtype=dtype)  # type: ignore[arg-type]
    coef = fits.at(site=0, penalty=0, fold=0, labelling=0, output=0).astype(np.float64)
    coef[2] *= scale
    assert fits.converged.all()
    assert np.linalg.norm(coef - expected) < 1e-3 * np.linalg.norm(expected)


@settings(max_examples=40, deadline=None)
@given(
    clips=st.integers(20, 120),
    dim=st.integers(1, 150),
    signal=st.floats(0, 30),
    log_l2=st.floats(-4, 3),
    offset=st.floats(-100, 100),
    seed=st.integers(0, 2**31),
)
def test_converged_means_within_a_thousandth(
    clips: int, dim: int, signal: float, log_l2: float, offset: float, seed: int
) -> None:
    x, y = draw(clips, dim, signal, seed)
    x = (x + offset).astype(np.float32)
    fits = fit(x[None], y, l2=10**log_l2, dtype="float32")
    coef = fits.at(site=0, penalty=0, fold=0, labelling=0, output=0)
    assert fits.converged.all()
    exact = fit(x[None].astype(np.float64), y, l2=10**log_l2, tol=1e-9).coef[0, 0, 0, 0, 0]
    spread = x.astype(np.float64).std(0)
    assert np.linalg.norm((coef - exact) * spread) <= 1.1e-3 * np.linalg.norm(exact * spread)


def test_what_may_not_go_on_is_flagged() -> None:
    x, y = draw(120, 8, 20.0)
    weights = np.ones((1, 120), bool)
    design = Design(x[None].astype(np.float32), weights, dtype=torch.float32)
    problems = make_problems(y[None], weights, dtype=torch.float32)
    problems.l2 = torch.full((1, 1), 1e-3)
    assert not solve_logistic(design, problems, tol=1e-4, max_iter=3).converged.any()
    assert solve_logistic(design, problems, tol=1e-4).converged.all()


def test_several_classes_of_more_features_than_clips() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    x = rng.standard_normal((1, 60, 200)) + 0.5 * rng.standard_normal((3, 200))[y]
    narrow = fit(x, y, l2=0.01, dtype="float32")
    exact = fit(x, y, l2=0.01, tol=1e-9)
    assert narrow.converged.all() and exact.converged.all()
    assert np.linalg.norm(narrow.coef - exact.coef) < 1e-3 * np.linalg.norm(exact.coef)
