"""Folds solved by way of the problem that they share reach scikit-learn's optimum, whatever the weights and folds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from interp.directions import fit_many
from interp.directions.fit import expand_targets, make_targets
from interp.directions.solvers.design import Design
from interp.directions.solvers.pooled import fits_pooling, solve_by_pooling


def _sites(strength: float, clips: int = 300, dim: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = (rng.random(clips) < 0.4).astype(int)
    x = rng.normal(size=(5, clips, dim)) @ (np.eye(dim) + 0.3 * rng.normal(size=(dim, dim)))
    return x + strength * y[:, None] * rng.normal(size=(5, 1, dim)) + 3, y


def _expected(x: np.ndarray, y: np.ndarray, rows: np.ndarray, l2: float, class_weight: Any) -> np.ndarray:
    mean, spread = x[rows].mean(0), x[rows].std(0)
    model = LogisticRegression(C=1 / l2, tol=1e-12, solver="newton-cholesky", class_weight=class_weight)
    return model.fit((x[rows] - mean) / spread, y[rows]).coef_[0] / spread


@pytest.mark.parametrize("class_weight", [None, "balanced", {0: 1.0, 1: 3.0}])
@pytest.mark.parametrize("strength", [0.0, 0.5, 3.0])
@pytest.mark.parametrize("partition", [True, False])
def test_folds_reach_the_optimum_of_scikit_learn(class_weight: Any, strength: float, partition: bool) -> None:
    x, y = _sites(strength)
    rng = np.random.default_rng(1)
    fold = rng.integers(0, 4, len(y))
    train = fold != np.arange(4)[:, None] if partition else rng.random((4, len(y))) < 0.7
    penalties = (0.1, 10.0)
    fits = fit_many(x, y, train=train, l2=penalties, class_weight=class_weight)
    assert fits.converged.all()
    for site in (0, 3):
        for k, l2 in enumerate(penalties):
            for f in range(4):
                expected = _expected(x[site], y, train[f], l2, class_weight)
                error = np.linalg.norm(fits.coef[site, k, f, 0, 0] - expected) / np.linalg.norm(expected)
                assert error < 1e-5, (site, l2, f)


def test_the_shared_problem_solves_most_folds_in_few_steps() -> None:
    x, y = _sites(0.5, clips=600)
    fold = np.arange(600) % 5
    train = fold != np.arange(5)[:, None]
    design = Design(x, train)
    everything = make_targets(y[None], train, "logistic", False, None, torch.float64, "cpu")
    targets = expand_targets(everything, 5, 1, slice(0, 1), torch.ones(5, 1, dtype=torch.float64))
    assert fits_pooling(design, targets)
    _, done, steps = solve_by_pooling(design, targets, tol=1e-7)
    assert done.all()
    assert int(steps.max()) <= 12


def test_separable_folds_with_a_weak_penalty_fall_back_to_the_general_method() -> None:
    x, y = _sites(20.0, clips=120, dim=6)
    fold = np.arange(120) % 3
    train = fold != np.arange(3)[:, None]
    fits = fit_many(x, y, train=train, l2=1e-3)
    expected = _expected(x[1], y, train[2], 1e-3, None)
    assert np.linalg.norm(fits.coef[1, 0, 2, 0, 0] - expected) <= 1e-5 * np.linalg.norm(expected)


@pytest.mark.parametrize("seed", range(5))
def test_a_feature_that_is_constant_in_one_fold_gets_no_weight_there(seed: int) -> None:
    x, y = _sites(0.5, clips=300 + 90 * seed, seed=seed)
    fold = np.arange(len(y)) % 3
    x[:, fold != 0, 2] = 7.0
    train = fold != np.arange(3)[:, None]
    fits = fit_many(x, y, train=train)
    assert (fits.coef[:, 0, 0, 0, 0, 2] == 0).all()
    assert (fits.coef[:, 0, 1, 0, 0, 2] != 0).all()


@pytest.mark.parametrize("threads", [1, 3])
def test_blocks_side_by_side_give_what_one_after_the_other_gives(threads: int) -> None:
    x, y = _sites(0.5, clips=400)
    x = np.concatenate([x, x + 0.1, x[:, :, ::-1]] * 8)
    train = (np.arange(400) % 4) != np.arange(4)[:, None]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = fit_many(x, y, train=train)
        torch.set_num_threads(threads)
        together = fit_many(x, y, train=train)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    np.testing.assert_allclose(together.coef, alone.coef, rtol=1e-6, atol=1e-8)
