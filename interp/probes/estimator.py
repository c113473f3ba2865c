"""The probe of one site as a scikit-learn estimator, for pipelines, searches and whatever else is built on them.

It solves the same problems as :func:`interp.directions.fit`, with ``coef_`` and ``intercept_`` for raw features also
where the fit standardizes them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, softmax
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from interp.directions.fitting import fit
from interp.errors import DataError

__all__ = ["GradedProbe", "Probe"]

Array = NDArray[np.float64]
_FLOATS = [np.float64, np.float32]


def _gives_log_odds(probe: Probe) -> bool:
    return probe.method in ("logistic", "lda")


class Probe(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A linear probe of classes.

    Parameters
    ----------
    method : str, default="logistic"
        One of :func:`interp.directions.methods`.
    l2 : float, default=1.0
        Penalty: one over scikit-learn's ``C``, or ``alpha`` of its ridge. Methods without one take no notice.
    shrinkage : float, default=0.1
        Of LDA's covariance, 0 to 1.
    standardize : bool or None, default=None
        Give features unit variance first; ``None`` as the method does.

    Attributes
    ----------
    coef_ : array of shape (1, dim), for more than two classes (classes, dim)
    intercept_ : array of shape (1,) or (classes,)
    classes_ : array of shape (classes,)
    n_iter_ : int
    converged_ : bool

    Examples
    --------
    >>> x = np.array([[0.0, 1.0], [1.0, 0.0], [0.2, 1.1], [1.2, 0.1]])
    >>> probe = Probe("mean_diff").fit(x, ["flute", "piano", "flute", "piano"])
    >>> probe.predict([[1.0, 0.2]]).tolist(), probe.coef_.shape
    (['piano'], (1, 2))
    """

    def __init__(
        self,
        method: str = "logistic",
        *,
        l2: float = 1.0,
        shrinkage: float = 0.1,
        standardize: bool | None = None,
    ) -> None:
        self.method = method
        self.l2 = l2
        self.shrinkage = shrinkage
        self.standardize = standardize

    def fit(self, X: ArrayLike, y: ArrayLike) -> Probe:  # scikit-learn's name
        """Fit to activations of shape (clips, dim) and one label per clip.

        Raises
        ------
        DataError
            If there is one class, no such method, or a parameter is out of range.
        """
        X, y = validate_data(self, X, y, dtype=_FLOATS, ensure_min_samples=2)
        check_classification_targets(y)
        self.classes_, index = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise DataError(f"labels hold 1 class ({self.classes_[0]!r}): a probe needs two.")
        fits = fit(
            np.asarray(X, dtype=np.float64)[None],
            index,
            method=self.method,
            l2=self.l2,
            shrinkage=self.shrinkage,
            standardize=self.standardize,
        )
        self.coef_ = fits.coef[0, 0, 0, 0]
        self.intercept_ = fits.intercept[0, 0, 0, 0]
        self.n_iter_ = int(fits.iterations[0, 0, 0, 0])
        self.converged_ = bool(fits.converged[0, 0, 0, 0])
        return self

    def decision_function(self, X: ArrayLike) -> Array:
        """Decision values: shape (clips,) for two classes, else (clips, classes)."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=_FLOATS)
        values = np.asarray(X, dtype=np.float64) @ self.coef_.T + self.intercept_
        return np.asarray(values[:, 0] if values.shape[1] == 1 else values)

    def predict(self, X: ArrayLike) -> NDArray[np.generic]:
        """Class of each clip."""
        values = self.decision_function(X)
        return np.asarray(self.classes_[(values > 0).astype(int) if values.ndim == 1 else values.argmax(axis=1)])

    @available_if(_gives_log_odds)
    def predict_proba(self, X: ArrayLike) -> Array:
        """Probability of each class, shape (clips, classes), of methods whose decision values are log odds."""
        values = self.decision_function(X)
        if values.ndim == 1:
            return np.stack([expit(-values), expit(values)], axis=1)
        return np.asarray(softmax(values, axis=1))

    @available_if(_gives_log_odds)
    def predict_log_proba(self, X: ArrayLike) -> Array:
        """Logarithm of the probability of each class."""
        return np.asarray(np.log(np.maximum(self.predict_proba(X), np.finfo(float).tiny)))


class GradedProbe(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A linear probe of numbers.

    Parameters
    ----------
    method : str, default="ridge"
        One of ``interp.directions.methods(graded=True)``.
    l2 : float, default=1.0
        Penalty, scikit-learn's ``alpha``.
    standardize : bool or None, default=None
        Give features unit variance first; ``None`` as the method does.

    Attributes
    ----------
    coef_ : array of shape (dim,)
    intercept_ : float

    Examples
    --------
    >>> x = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 1.0], [3.0, 0.0]])
    >>> GradedProbe(l2=1e-6).fit(x, x[:, 0] * 10).predict([[1.5, 0.5]]).round(3).tolist()
    [15.0]
    """

    def __init__(self, method: str = "ridge", *, l2: float = 1.0, standardize: bool | None = None) -> None:
        self.method = method
        self.l2 = l2
        self.standardize = standardize

    def fit(self, X: ArrayLike, y: ArrayLike) -> GradedProbe:
        """Fit to activations of shape (clips, dim) and one number per clip."""
        X, y = validate_data(self, X, y, dtype=_FLOATS, y_numeric=True, ensure_min_samples=2)
        fits = fit(
            np.asarray(X, dtype=np.float64)[None],
            np.asarray(y, dtype=np.float64),
            method=self.method,
            l2=self.l2,
            standardize=self.standardize,
        )
        self.coef_ = fits.coef[0, 0, 0, 0, 0]
        self.intercept_ = float(fits.intercept[0, 0, 0, 0, 0])
        return self

    def predict(self, X: ArrayLike) -> Array:
        """Value of each clip, shape (clips,)."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=_FLOATS)
        return np.asarray(np.asarray(X, dtype=np.float64) @ self.coef_ + self.intercept_)
