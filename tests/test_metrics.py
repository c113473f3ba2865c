"""Scores equal scikit-learn's, weighted and not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn import metrics as reference

from interp import metrics
from interp.errors import DataError
from interp.metrics import weighted_scores


def test_scores_equal_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 60)
    value = np.round(rng.normal(size=60) + y, 1)  # with ties
    d, t = torch.as_tensor(value)[None, None], torch.as_tensor(y)
    guess = (value > 0).astype(int)
    wanted = {
        "accuracy": reference.accuracy_score(y, guess),
        "balanced_accuracy": reference.balanced_accuracy_score(y, guess),
        "f1": reference.f1_score(y, guess),
        "auroc": reference.roc_auc_score(y, value),
    }
    y3 = rng.integers(0, 3, 60)
    value3 = rng.normal(size=(60, 3)) + np.eye(3)[y3]
    d3, t3, guess3 = torch.as_tensor(value3.T)[None], torch.as_tensor(y3), value3.argmax(1)
    one_hot = np.eye(3)[y3]
    wanted3 = {
        "accuracy": reference.accuracy_score(y3, guess3),
        "balanced_accuracy": reference.balanced_accuracy_score(y3, guess3),
        "f1": reference.f1_score(y3, guess3, average="macro"),
        "auroc": np.mean([reference.roc_auc_score(one_hot[:, k], value3[:, k]) for k in range(3)]),
    }
    for name, value_wanted in wanted.items():
        assert float(metrics.score(name, d, t)) == pytest.approx(value_wanted, abs=1e-6), name
        assert float(metrics.score(name, d3, t3)) == pytest.approx(wanted3[name], abs=1e-6), name
    numbers = torch.as_tensor(np.round(value + rng.normal(size=60), 1))
    assert float(metrics.score("r2", d, numbers)) == pytest.approx(reference.r2_score(numbers, value), abs=1e-6)
    assert float(metrics.score("spearman", d, numbers)) == pytest.approx(spearmanr(numbers, value).statistic, abs=1e-6)
    with pytest.raises(DataError, match="no score"):
        metrics.score("mcc", d, t)


def test_chance_is_what_guessing_reaches() -> None:
    y = torch.tensor([0] * 30 + [1] * 10)
    always = torch.full((1, 1, 40), -1.0)
    assert metrics.chance("accuracy", y) == pytest.approx(float(metrics.accuracy(always, y)))
    assert metrics.chance("balanced_accuracy", y) == pytest.approx(float(metrics.balanced_accuracy(always, y)))
    assert metrics.chance("f1", y) == pytest.approx(float(metrics.f1(-always, y)))
    assert metrics.chance("auroc", y) == pytest.approx(float(metrics.auroc(always, y)))
    assert metrics.chance("r2", y) == 0


@pytest.mark.parametrize("name", list(metrics.SCORES))
def test_weights_count_like_copies(name: str) -> None:
    rng = np.random.default_rng(1)
    graded = name in metrics.GRADED
    for outputs in (1,) if graded else (1, 3):
        y = rng.normal(size=40).round(1) if graded else rng.integers(0, max(2, outputs), 40)
        decision = rng.normal(size=(5, outputs, 40)).round(1)
        weights = rng.multinomial(40, np.full(40, 1 / 40), size=6).astype(float)
        drawn = weighted_scores(name, decision, y, weights)
        assert drawn.shape == (6, 5)
        for b in range(6):
            copies = np.repeat(np.arange(40), weights[b].astype(int))
            wanted = metrics.score(name, torch.as_tensor(decision[:, :, copies]), torch.as_tensor(y[copies]))
            np.testing.assert_allclose(drawn[b], wanted, atol=1e-6)


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.filterwarnings("error")
def test_resamples_that_lack_a_class_give_no_warning(outputs: int) -> None:
    y = np.array([0, 0, 1, 1] if outputs == 1 else [0, 1, 2, 2])
    decision = np.random.default_rng(0).normal(size=(2, outputs, 4))
    weights = np.array([[1.0, 1, 1, 1], [2, 2, 0, 0], [0, 0, 0, 0]])
    balanced = weighted_scores("balanced_accuracy", decision, y, weights)
    assert np.isfinite(balanced[:2]).all()  # over the classes that are there
    assert np.isnan(balanced[2]).all()
    area = weighted_scores("auroc", decision, y, weights)
    assert np.isfinite(area[0]).all()
    assert np.isnan(area[2]).all()
