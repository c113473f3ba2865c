"""The probes of one site as scikit-learn estimators, for pipelines, searches and whatever else is built on them.

They solve the same problems as :func:`interp.directions.fit`, with ``coef_`` and ``intercept_`` for raw features
also where the fit standardises them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, softmax
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from interp.directions.fitting import Fits, fit
from interp.errors import DataError

__all__ = [
    "LDAProbe",
    "LogisticProbe",
    "MeanDifferenceProbe",
    "RidgeProbe",
    "RidgeRegressionProbe",
    "SoftmaxRegressionProbe",
]

Array = NDArray[np.float64]


class _ClassProbe(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """What all classifying probes share."""

    _method: Literal["logistic", "ridge", "lda", "mean_diff", "onehot"]

    def _options(self) -> dict[str, Any]:
        raise NotImplementedError

    def _features(self, x: Array) -> Array:
        return x

    def fit(self, X: ArrayLike, y: ArrayLike) -> _ClassProbe:  # scikit-learn's name
        """Fit to activations of shape (clips, dim) and one label per clip.

        Raises
        ------
        DataError
            If there is one class, or a parameter is out of range.
        """
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32], ensure_min_samples=2)
        check_classification_targets(y)
        self.classes_, index = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise DataError(f"labels hold 1 class ({self.classes_[0]!r}): a probe needs two.")
        fits = fit(
            self._features(np.asarray(X, dtype=np.float64))[None], index, method=self._method, **self._options()
        )
        self._store(fits)
        return self

    def _store(self, fits: Fits) -> None:
        self.coef_ = fits.coef[0, 0, 0, 0]
        self.intercept_ = fits.intercept[0, 0, 0, 0]
        self.n_iter_ = int(fits.iterations[0, 0, 0, 0])
        self.converged_ = bool(fits.converged[0, 0, 0, 0])

    def decision_function(self, X: ArrayLike) -> Array:
        """Decision values: shape (clips,) for two classes, else (clips, classes)."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        values = self._features(np.asarray(X, dtype=np.float64)) @ self.coef_.T + self.intercept_
        if values.shape[1] == 1:
            return np.asarray(values[:, 0])
        return np.asarray(values)

    def predict(self, X: ArrayLike) -> NDArray[np.generic]:
        """Class of each clip."""
        values = self.decision_function(X)
        return np.asarray(self.classes_[(values > 0).astype(int) if values.ndim == 1 else values.argmax(axis=1)])


class _Probabilities:
    """Adds probabilities where decision values are log odds."""

    def predict_proba(self, X: ArrayLike) -> Array:
        """Probability of each class, shape (clips, classes)."""
        values = self.decision_function(X)  # type: ignore[attr-defined]  # of the class it is mixed into
        if values.ndim == 1:
            return np.stack([expit(-values), expit(values)], axis=1)
        return np.asarray(softmax(values, axis=1))

    def predict_log_proba(self, X: ArrayLike) -> Array:
        """Logarithm of the probability of each class."""
        return np.asarray(np.log(np.maximum(self.predict_proba(X), np.finfo(float).tiny)))


class LogisticProbe(_Probabilities, _ClassProbe):
    """Logistic regression, binary or multinomial.

    Parameters
    ----------
    l2 : float, default=1.0
        Penalty; one over scikit-learn's ``C``.
    class_weight : {None, "balanced"} or dict, default=None
        Weight classes inversely to their frequency, or by label.
    standardize : bool, default=True
        Give features unit variance first; ``coef_`` is for raw features all the same.
    max_iter : int, default=1000
    tol : float or None, default=None

    Attributes
    ----------
    coef_ : array of shape (1, dim) or (classes, dim)
    intercept_ : array of shape (1,) or (classes,)
    classes_ : array of shape (classes,)
    n_iter_ : int
    converged_ : bool
    """

    _method = "logistic"

    def __init__(
        self,
        l2: float = 1.0,
        *,
        class_weight: Literal["balanced"] | Mapping[Any, float] | None = None,
        standardize: bool = True,
        max_iter: int = 1000,
        tol: float | None = None,
    ) -> None:
        self.l2 = l2
        self.class_weight = class_weight
        self.standardize = standardize
        self.max_iter = max_iter
        self.tol = tol

    def _options(self) -> dict[str, Any]:
        names = ("l2", "standardize", "max_iter", "tol")
        weight: Any = self.class_weight
        if isinstance(weight, Mapping):
            weight = {k: float(weight.get(name, 1.0)) for k, name in enumerate(self.classes_)}
        return {"class_weight": weight, **{name: getattr(self, name) for name in names}}


class RidgeProbe(_ClassProbe):
    """Least squares on -1/+1 targets with an L2 penalty (scikit-learn's ``RidgeClassifier`` on standardised features).

    Parameters
    ----------
    l2 : float, default=1.0
        Penalty, scikit-learn's ``alpha``.
    standardize : bool, default=True
    """

    _method = "ridge"

    def __init__(self, l2: float = 1.0, *, standardize: bool = True) -> None:
        self.l2 = l2
        self.standardize = standardize

    def _options(self) -> dict[str, Any]:
        return {"l2": self.l2, "standardize": self.standardize}


class LDAProbe(_Probabilities, _ClassProbe):
    """Linear discriminant analysis with a shrunken covariance.

    Parameters
    ----------
    shrinkage : float, default=0.1
        0 for the sample covariance, 1 for a multiple of the identity.
    standardize : bool, default=True
    """

    _method = "lda"

    def __init__(self, shrinkage: float = 0.1, *, standardize: bool = True) -> None:
        self.shrinkage = shrinkage
        self.standardize = standardize

    def _options(self) -> dict[str, Any]:
        return {"shrinkage": self.shrinkage, "standardize": self.standardize}


class MeanDifferenceProbe(_ClassProbe):
    """Difference of class means in the raw basis, threshold half-way: the nearest mean.
    """

    _method = "mean_diff"

    def _options(self) -> dict[str, Any]:
        return {}


class SoftmaxRegressionProbe(_ClassProbe):
    """One linear output per class, fitted to one-hot targets by least squares: the 'regression' of arXiv 2506.10225.

    There, activations are divided by their length and the output has no bias. A bias is kept here, since without one
    the weights also have to carry the class frequencies.

    Parameters
    ----------
    l2 : float, default=1e-3
        Penalty.
    normalize : bool, default=False
        Divide each clip's activation by its length first. ``coef_`` is then for activations so divided; being a
        matter of length, its direction is one in the raw basis all the same.
    standardize : bool, default=False
    """

    _method = "onehot"

    def __init__(
        self,
        l2: float = 1e-3,
        *,
        normalize: bool = False,
        standardize: bool = False,
    ) -> None:
        self.l2 = l2
        self.normalize = normalize
        self.standardize = standardize

    def _options(self) -> dict[str, Any]:
        return {"l2": self.l2, "standardize": self.standardize}

    def _features(self, x: Array) -> Array:
        return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) if self.normalize else x


class RidgeRegressionProbe(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Ridge regression on a graded trait (scikit-learn's ``Ridge`` on standardised features).

    Parameters
    ----------
    l2 : float, default=1.0
        Penalty, scikit-learn's ``alpha``.
    standardize : bool, default=True

    Attributes
    ----------
    coef_ : array of shape (dim,)
    intercept_ : float
    """

    def __init__(self, l2: float = 1.0, *, standardize: bool = True) -> None:
        self.l2 = l2
        self.standardize = standardize

    def fit(self, X: ArrayLike, y: ArrayLike) -> RidgeRegressionProbe:
        """Fit to activations of shape (clips, dim) and one number per clip."""
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32], y_numeric=True, ensure_min_samples=2)
        fits = fit(
            np.asarray(X, dtype=np.float64)[None],
            np.asarray(y, dtype=np.float64),
            method="ridge",
            l2=self.l2,
            standardize=self.standardize,
        )
        self.coef_ = fits.coef[0, 0, 0, 0, 0]
        self.intercept_ = float(fits.intercept[0, 0, 0, 0, 0])
        return self

    def predict(self, X: ArrayLike) -> Array:
        """Value of each clip, shape (clips,)."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        return np.asarray(np.asarray(X, dtype=np.float64) @ self.coef_ + self.intercept_)
