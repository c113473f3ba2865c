"""The same probes, one scikit-learn estimator after the other: the reference, and slow."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from interp.directions.fitting import Fits

__all__ = ["fit_loop"]


def fit_loop(
    x: NDArray[np.floating],
    y: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    method: str,
    l2: Sequence[float] = (1.0,),
    shrinkage: Sequence[float] = (0.1,),
    class_weight: str | Mapping[int, float] | None = None,
    standardize: bool = True,
    max_iter: int = 10_000,
) -> Fits:
    """Fit with scikit-learn; arguments and result as :func:`interp.directions.fit`, weights true and false."""
    labels = np.atleast_2d(np.asarray(y))
    masks = np.ones((1, x.shape[1]), bool) if weights is None else np.atleast_2d(np.asarray(weights))
    penalties = {"lda": shrinkage, "mean_diff": (0.0,)}.get(method, l2)
    graded = labels.dtype.kind == "f"
    outputs = 1 if graded or labels.max() == 1 else int(labels.max()) + 1
    shape = (len(x), len(penalties), len(masks), len(labels))
    coef, intercept = np.empty((*shape, outputs, x.shape[2])), np.empty((*shape, outputs))
    converged, iterations = np.ones(shape, dtype=bool), np.ones(shape, dtype=np.int64)
    for s, k, f, p in np.ndindex(*shape):
        rows = masks[f]
        w, b, ok, steps = _fit_one(
            x[s, rows].astype(np.float64),
            labels[p, rows],
            method,
            float(penalties[k]),
            graded,
            class_weight,
            standardize and method != "mean_diff",
            max_iter,
            outputs,
        )
        coef[s, k, f, p], intercept[s, k, f, p] = w, b
        converged[s, k, f, p], iterations[s, k, f, p] = ok, steps
    return Fits(coef, intercept, converged, iterations)


def _fit_one(
    x: NDArray[np.float64],
    y: NDArray[np.generic],
    method: str,
    l2: float,
    graded: bool,
    class_weight: str | Mapping[int, float] | None,
    standardize: bool,
    max_iter: int,
    outputs: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64], bool, int]:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.neighbors import NearestCentroid
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler(with_std=standardize).fit(x)
    z = scaler.transform(x)
    ok, steps = True, 1
    if method == "logistic":
        model = LogisticRegression(C=1 / l2, class_weight=class_weight, tol=1e-10, max_iter=max_iter)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.fit(z, y)
        ok = not any(issubclass(w.category, ConvergenceWarning) for w in caught)
        w, b, steps = model.coef_, model.intercept_, int(model.n_iter_[0])
    elif method in ("ridge", "onehot"):
        if graded:
            target = y.astype(np.float64)[:, None]
        else:
            hot = y[:, None] == (np.array([1]) if outputs == 1 else np.arange(outputs))
            target = 2.0 * hot - 1
        model = Ridge(alpha=l2, solver="svd").fit(z, target)
        w, b = model.coef_.reshape(outputs, -1), np.atleast_1d(model.intercept_)
    elif method == "lda":
        model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=l2).fit(z, y)  # its place in the grid
        w, b = model.coef_, model.intercept_
    elif graded:
        centred = y.astype(np.float64) - y.astype(np.float64).mean()
        moment = centred @ z
        projected = z @ moment
        w = (moment * (projected @ centred) / (projected @ projected))[None]
        b = np.array([y.astype(np.float64).mean()])
    else:
        means = NearestCentroid().fit(z, y).centroids_
        w = means[1:] - means[:1] if outputs == 1 else means
        b = -(w * (means[1:] + means[:1]) / 2).sum(1) if outputs == 1 else -(means**2).sum(1) / 2
    w = w / (scaler.scale_ if standardize else 1.0)
    return w, b - w @ scaler.mean_, ok, steps
