"""The estimators keep scikit-learn's contract and solve scikit-learn's problems."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from interp.errors import DataError
from interp.probes import GradedProbe, Probe

PROBES = [*(Probe(method) for method in ("logistic", "ridge", "lda", "mean_diff", "onehot")), GradedProbe()]


@parametrize_with_checks(PROBES)
def test_scikit_learn_contract(estimator: BaseEstimator, check: Any) -> None:
    check(estimator)


def draw(classes: int = 2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = np.arange(150) % classes
    x = rng.normal(size=(150, 6)) * [0.2, 1, 3, 1, 1, 5] + rng.normal(size=(classes, 6))[y] + 4
    return x, np.array(["flute", "organ", "piano"])[y]


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize(
    ("probe", "reference"),
    [
        (Probe(l2=0.5), LogisticRegression(C=2.0, tol=1e-10, max_iter=10_000)),
        (Probe("ridge", l2=3.0), RidgeClassifier(3.0)),
        (Probe("lda", shrinkage=0.2), LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.2)),
    ],
)
def test_predictions_equal_scikit_learn(classes: int, probe: Any, reference: Any) -> None:
    x, y = draw(classes)
    reference = make_pipeline(StandardScaler(), clone(reference)).fit(x, y)
    fitted = clone(probe).fit(x, y)
    np.testing.assert_allclose(fitted.decision_function(x), reference.decision_function(x), atol=2e-5)
    assert (fitted.predict(x) == reference.predict(x)).all()
    if hasattr(fitted, "predict_proba"):
        np.testing.assert_allclose(fitted.predict_proba(x), reference.predict_proba(x), atol=2e-5)
        np.testing.assert_allclose(np.exp(fitted.predict_log_proba(x)).sum(1), 1, atol=1e-9)


@pytest.mark.parametrize("classes", [2, 3])
def test_mean_difference_is_the_nearest_mean(classes: int) -> None:
    x, y = draw(classes)
    assert (Probe("mean_diff").fit(x, y).predict(x) == NearestCentroid().fit(x, y).predict(x)).all()


def test_ridge_regression_equals_scikit_learn() -> None:
    x, _ = draw()
    y = x[:, 0] - x[:, 3] ** 2
    reference = make_pipeline(StandardScaler(), Ridge(2.0)).fit(x, y)
    np.testing.assert_allclose(GradedProbe(l2=2.0).fit(x, y).predict(x), reference.predict(x), atol=1e-8)


def test_one_output_a_class_on_one_hot_targets() -> None:
    x, y = draw(3)
    probe = Probe("onehot", l2=1e-3).fit(x, y)
    targets = np.where(y[:, None] == probe.classes_, 1.0, -1.0)
    reference = Ridge(1e-3).fit(x, targets)
    np.testing.assert_allclose(probe.decision_function(x), reference.predict(x), atol=1e-5)
    assert not hasattr(probe, "predict_proba")


def test_in_a_grid_search() -> None:
    x, y = draw()
    search = GridSearchCV(Probe(), {"l2": [0.01, 1.0, 100.0]}, cv=3).fit(x, y)
    assert search.best_score_ > 0.7


def test_one_class_is_refused() -> None:
    x, _ = draw()
    with pytest.raises(DataError, match="1 class"):
        Probe().fit(x, np.zeros(len(x)))
