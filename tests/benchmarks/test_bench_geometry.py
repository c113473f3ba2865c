"""The directions of a whole model: every head, method and trait, fitted many times; and against scikit-learn."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge

from interp.directions import fit, methods

pytestmark = pytest.mark.bench

# musicgen-small has 24 x 16 heads of width 64; INTERP_BENCH_SHARE=0.05 runs a twentieth of them for a quick look
SHARE = float(os.environ.get("INTERP_BENCH_SHARE", "1"))
HEADS, DIM, TRAITS, REFITS, CLIPS = max(2, round(384 * SHARE)), 64, 6, 200, 400
ONCE = ("rfm",)
"""A kernel machine per refit is another order of work: fitted once, and its time given beside."""


def activations() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Heads with planted traits; labels of all traits; bootstrap weights over groups of four clips."""
    rng = np.random.default_rng(0)
    y = (rng.random((TRAITS, CLIPS)) < 0.5).astype(int)
    x = rng.standard_normal((HEADS, CLIPS, DIM), dtype=np.float32) * np.geomspace(0.3, 2, DIM, dtype=np.float32)
    for labels in y:
        x += (0.3 * (2 * labels - 1)[None, :, None] * rng.standard_normal((HEADS, 1, DIM))).astype(np.float32)
    weights = np.repeat(rng.multinomial(CLIPS // 4, np.full(CLIPS // 4, 4 / CLIPS), size=REFITS), 4, axis=1).astype(
        float
    )
    return x, y, weights


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def test_whole_geometry() -> None:
    """384 heads x 9 methods x 6 traits with 200 bootstrap refits: at most ten minutes on two cores."""
    x, y, weights = activations()
    print(f"\n{HEADS} heads of width {DIM}, {TRAITS} traits, {CLIPS} clips, {REFITS} refits, {os.cpu_count()} cores")
    spent = {}
    for method in methods():
        rows = weights[:1] if method in ONCE else weights
        spent[method] = seconds(lambda m=method, w=rows: fit(x, y, w, method=m))  # type: ignore[misc]
        fits = HEADS * TRAITS * len(rows)
        print(f"  {method:14s} {spent[method]:8.1f} s  {1e6 * spent[method] / fits:9.1f} us a fit, {fits} fits")
    total = sum(spent.values())
    print(f"  {'together':14s} {total:8.1f} s" + ("" if SHARE == 1 else f"  (x {1 / SHARE:g} = {total / SHARE:.0f} s)"))
    assert total / SHARE < 600


def test_ratio_to_scikit_learn() -> None:
    """The same refits one by one with scikit-learn, on a sample, scaled up."""
    x, y, weights = activations()
    x, y, weights = x[:2], y[:2], weights[:10]
    z = [(site - site.mean(0)) / site.std(0) for site in x.astype(np.float64)]

    def lda(site: np.ndarray, labels: np.ndarray, w: np.ndarray) -> None:
        rows = np.repeat(np.arange(CLIPS), w.astype(int))
        LinearDiscriminantAnalysis(solver="lsqr").fit(site[rows], labels[rows])

    loops: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], object]] = {
        "logistic": lambda s, t, w: LogisticRegression(C=1.0, max_iter=1000).fit(s, t, sample_weight=w),
        "ridge": lambda s, t, w: Ridge(1.0).fit(s, t, sample_weight=w),
        "least_squares": lambda s, t, w: LinearRegression().fit(s, t, sample_weight=w),
        "lda": lda,
    }
    for method, loop in loops.items():
        ours = seconds(lambda m=method: fit(x, y, weights, method=m))  # type: ignore[misc]
        theirs = seconds(lambda f=loop: [f(site, labels, w) for site in z for labels in y for w in weights])  # type: ignore[misc]
        print(f"  {method:14s} {ours:7.3f} s against {theirs:7.3f} s with scikit-learn: {theirs / ours:6.1f} times")
        assert np.isfinite(ours)
