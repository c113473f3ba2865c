"""Speed of the probes against a scikit-learn loop, and their error rates over many runs.

``PYTHONPATH=.:tests python tests/benchmarks/bench_probes.py --help`` for sizes; ``make bench`` runs the bars.
Ratios are taken within one run on one machine, with scikit-learn at its default tolerance on all cores.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from interp.directions import fit

Floats = NDArray[np.float32]


def activations(sites: int, clips: int, dim: int, seed: int = 0) -> tuple[Floats, NDArray[np.int64]]:
    """Correlated features in which the trait is readable at some sites and not at others."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(clips) % 2)
    x = np.empty((sites, clips, dim), dtype=np.float32)
    for site in x:
        mix = rng.normal(size=(dim, dim)) / dim**0.5 + np.eye(dim)
        site[:] = rng.normal(size=(clips, dim)) @ mix
        site += (y[:, None] - 0.5) * rng.normal(size=dim) * rng.uniform(0, 0.5)
    return x, y


def seconds(work: Callable[[], Any], repeats: int = 3) -> tuple[float, Any]:
    """Best wall time of a few, and the last result."""
    best, result = np.inf, None
    for _ in range(repeats):
        start = time.perf_counter()
        result = work()
        best = min(best, time.perf_counter() - start)
    return best, result


def scaled(x: Floats) -> Floats:
    wide = x.astype(np.float64)
    return np.asarray((wide - wide.mean(0)) / wide.std(0), dtype=np.float32)


Loop = Callable[[list[Any]], None]


def _quietly(loop: Loop, problems: list[Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loop(problems)


def _on_one_core(loop: Loop, problems: list[Any]) -> None:
    with threadpool_limits(1):
        _quietly(loop, problems)


def seconds_per_problem(loop: Loop, problems: list[Any]) -> float:
    """Seconds per problem of a scikit-learn loop, the better of two ways.

    One is a fit at a time with all cores in its linear algebra; the other one process a core (joblib), started and
    warmed up beforehand.
    """
    together, _ = seconds(lambda: _quietly(loop, problems), repeats=2)
    cores = os.cpu_count() or 1
    with Parallel(cores) as pool:

        def side_by_side() -> None:
            pool(delayed(_on_one_core)(loop, problems[core::cores]) for core in range(cores))

        apart, _ = seconds(side_by_side, repeats=3)
    return min(together, apart) / len(problems)


def cross_validation(problems: list[Any]) -> None:
    """What has to be done for every site and fold: take the training rows, scale them, fit."""
    for x, y, train in problems:
        make_pipeline(StandardScaler(), LogisticRegression()).fit(x[train], y[train])


def logistic_permutations(problems: list[Any]) -> None:
    """Scaling is done once for all permutations, before the clock starts."""
    for x, y in problems:
        LogisticRegression().fit(x, y)


def ridge_permutations(problems: list[Any]) -> None:
    """The same with a ridge regression on the labels."""
    for x, y in problems:
        Ridge().fit(x, y)


def cross_validated_ratio(sites: int, clips: int, dim: int, folds: int = 5, sample: int = 80) -> dict[str, float]:
    """Logistic probes with grouped folds: seconds per fit of both, ratio, and how equal the coefficients are."""
    x, y = activations(sites, clips, dim)
    fold = (np.arange(clips) // 10) % folds
    train = fold[None] != np.arange(folds)[:, None]
    fit(x[:2], y, train, dtype="float32")
    fast, fits = seconds(lambda: fit(x, y, train, dtype="float32"))
    picks = [(s, f) for s in np.linspace(0, sites - 1, max(1, sample // folds), dtype=int) for f in range(folds)]
    slow = seconds_per_problem(cross_validation, [(x[s], y, train[f]) for s, f in picks])
    errors = []
    for s, f in picks[:10]:
        wide = scaled(x[s, train[f]]).astype(float)
        exact = LogisticRegression(tol=1e-10, max_iter=10_000).fit(wide, y[train[f]]).coef_[0]
        got = fits.at(site=s, penalty=0, fold=f, labelling=0, output=0) * x[s, train[f]].astype(float).std(0)
        errors.append(np.linalg.norm(got - exact) / np.linalg.norm(exact))
    per_fit = fast / (sites * folds)
    return {"batched_ms": 1e3 * per_fit, "sklearn_ms": 1e3 * slow, "ratio": slow / per_fit, "error": float(max(errors))}


def permutation_ratio(
    method: str, sites: int, clips: int, dim: int, permutations: int, sample: int = 40, slice_sites: int = 64
) -> dict[str, float]:
    """Fits on shuffled labels: seconds per fit of both and their ratio."""
    x, y = activations(min(sites, slice_sites), clips, dim)
    rng = np.random.default_rng(1)
    shuffled = np.stack([rng.permutation(y) for _ in range(permutations)])
    fit(x[:1], shuffled[:10], method=method, dtype="float32")  # type: ignore[arg-type]
    fast, _ = seconds(lambda: fit(x, shuffled, method=method, dtype="float32"), repeats=2)  # type: ignore[arg-type]
    loop = logistic_permutations if method == "logistic" else ridge_permutations
    problems = [(scaled(x[i % len(x)]), shuffled[i % permutations]) for i in range(sample)]
    slow = seconds_per_problem(loop, problems)
    per_fit = fast / (len(x) * permutations)
    return {"batched_us": 1e6 * per_fit, "sklearn_us": 1e6 * slow, "ratio": slow / per_fit}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sites", type=int, nargs="+", default=[384, 1536])
    parser.add_argument("--clips", type=int, default=2000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--permutations", type=int, default=1000)
    args = parser.parse_args()
    for sites in args.sites:
        print(f"{sites} sites, logistic, 5 folds:", cross_validated_ratio(sites, args.clips, args.dim))
    for method in ("logistic", "ridge"):
        result = permutation_ratio(method, args.sites[0], args.clips, args.dim, args.permutations)
        print(f"{args.permutations} permutations, {method}:", result)


if __name__ == "__main__":
    main()
