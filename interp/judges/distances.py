"""Distances between two sets of audio embeddings: Fréchet (FAD) and kernel (KAD) audio distance.

Both compare *distributions*, so both depend on the embedding and on the number of clips. FAD fits a Gaussian to each
set and is biased upwards by roughly ``c / n``: with 32 clips most of it is bias. It therefore comes with an
extrapolation to infinitely many clips, and with a flag when the covariance cannot have full rank. KAD is an unbiased
U-statistic, may be negative when the sets agree, and comes with a permutation p-value.

References
----------
FAD: Kilgour et al. 2019 (arXiv 1812.08466). Extrapolation: Chong & Forsyth 2020 (arXiv 1911.07023), used for music by
Gui et al. 2024 (arXiv 2311.01616). KAD: Chung et al. 2025 (arXiv 2502.15602).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from interp.errors import DataError

__all__ = ["Fad", "Kad", "fad", "frechet_distance", "kad", "mmd2"]

KAD_SCALE = 100.0
"""KAD is conventionally 100 times the squared MMD."""


@dataclass(frozen=True)
class Fad:
    """A Fréchet audio distance and what weakens it.

    Attributes
    ----------
    value : float
        The distance between the two sets as they are; biased upwards when `n` is small.
    extrapolated : float
        Intercept of a straight line in 1/n through the distances of random subsets of the judged set; NaN when there
        are fewer than 16 clips. May be slightly negative.
    se : float
        Standard error of that intercept, from the fit over independent draws.
    n, n_reference, dim : int
        Sizes of both sets and of the embedding.
    rank_deficient : bool
        True when either set has no more clips than dimensions: then compare only arms of equal size, or use KAD.
    """

    value: float
    extrapolated: float
    se: float
    n: int
    n_reference: int
    dim: int
    rank_deficient: bool

    def to_series(self) -> pd.Series:
        """Return the fields as a row."""
        return pd.Series(asdict(self))


@dataclass(frozen=True)
class Kad:
    """A kernel audio distance.

    Attributes
    ----------
    value : float
        100 times the unbiased estimate of the squared MMD; zero on average when the sets agree, so it may be negative.
    p : float
        Share of random relabellings of the pooled clips that reach `value` (with +1 correction); NaN when not asked.
    bandwidth : float
        Of the Gaussian kernel: the median distance within the *reference*, so that arms judged against one reference
        share it.
    n, n_reference, dim : int
        Sizes of both sets and of the embedding.
    """

    value: float
    p: float
    bandwidth: float
    n: int
    n_reference: int
    dim: int

    def to_series(self) -> pd.Series:
        """Return the fields as a row."""
        return pd.Series(asdict(self))


def frechet_distance(mean_a: ArrayLike, cov_a: ArrayLike, mean_b: ArrayLike, cov_b: ArrayLike) -> float:
    r"""Squared Fréchet (2-Wasserstein) distance of two Gaussians.

    ``|m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a^{1/2} S_b S_a^{1/2})^{1/2})``, through symmetric eigenproblems only: stable
    for covariances without full rank, no imaginary parts to throw away.

    Parameters
    ----------
    mean_a, mean_b : array_like, ``[dim]``
    cov_a, cov_b : array_like, ``[dim, dim]``
    """
    delta = np.asarray(mean_a, np.float64) - np.asarray(mean_b, np.float64)
    a, b = np.asarray(cov_a, np.float64), np.asarray(cov_b, np.float64)
    values, vectors = np.linalg.eigh(a)
    root = (vectors * np.sqrt(np.clip(values, 0.0, None))) @ vectors.T
    inner = np.linalg.eigvalsh(root @ b @ root)
    cross = float(np.sqrt(np.clip(inner, 0.0, None)).sum())
    return max(float(delta @ delta + np.trace(a) + np.trace(b) - 2.0 * cross), 0.0)


def fad(embeddings: ArrayLike, reference: ArrayLike, *, n_draws: int = 30, seed: int = 0) -> Fad:
    """Fréchet audio distance of a set of embeddings from a reference set.

    Parameters
    ----------
    embeddings, reference : array_like, ``[n, dim]`` and ``[n_reference, dim]``
        One embedding per clip.
    n_draws : int
        Random subsets for the extrapolation to infinite n; 0 leaves it out.
    seed : int
        Of the subsets.

    Returns
    -------
    Fad

    Raises
    ------
    DataError
        If a set has fewer than two clips, widths differ, or a value is not finite.
    """
    x, y = _pair(embeddings, reference)
    n, dim = x.shape
    mean_y, cov_y = y.mean(0), np.cov(y, rowvar=False).reshape(dim, dim)

    def distance(rows: NDArray[np.float64]) -> float:
        return frechet_distance(rows.mean(0), np.cov(rows, rowvar=False).reshape(dim, dim), mean_y, cov_y)

    extrapolated = se = float("nan")
    if n >= 16 and n_draws >= 3:
        rng = np.random.default_rng(seed)
        sizes = np.linspace(max(n // 4, 4), n, n_draws).round().astype(int)
        drawn = [distance(x[rng.choice(n, size, replace=False)]) for size in sizes]
        design = np.stack([np.ones(n_draws), 1.0 / sizes], axis=1)
        solution, *_ = np.linalg.lstsq(design, np.asarray(drawn), rcond=None)
        residual = np.asarray(drawn) - design @ solution
        variance = float(residual @ residual) / (n_draws - 2) * np.linalg.inv(design.T @ design)[0, 0]
        extrapolated, se = float(solution[0]), float(np.sqrt(variance))
    return Fad(distance(x), extrapolated, se, n, len(y), dim, min(n, len(y)) <= dim)


def mmd2(kernel: NDArray[np.float64], n: int) -> float:
    """Unbiased squared MMD from a pooled kernel matrix whose first `n` rows are one set and the rest the other."""
    m = len(kernel) - n
    xx, yy, xy = kernel[:n, :n], kernel[n:, n:], kernel[:n, n:]
    within = (xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1))
    return float(within - 2.0 * xy.mean())


def kad(
    embeddings: ArrayLike,
    reference: ArrayLike,
    *,
    bandwidth: float | None = None,
    n_permutations: int = 0,
    seed: int = 0,
) -> Kad:
    """Kernel audio distance of a set of embeddings from a reference set.

    Parameters
    ----------
    embeddings, reference : array_like, ``[n, dim]`` and ``[n_reference, dim]``
        One embedding per clip.
    bandwidth : float, optional
        Of the kernel ``exp(-|x-y|^2 / (2 bandwidth^2))``; the median distance within the reference when None.
    n_permutations : int
        Relabellings for the p-value; 0 leaves it out.
    seed : int
        Of the relabellings.

    Returns
    -------
    Kad

    Raises
    ------
    DataError
        If a set has fewer than two clips, widths differ, a value is not finite, or all reference clips are equal.
    """
    x, y = _pair(embeddings, reference)
    pooled = np.concatenate([x, y])
    norms = (pooled**2).sum(1)
    squared = np.clip(norms[:, None] + norms[None, :] - 2.0 * pooled @ pooled.T, 0.0, None)
    n, m = len(x), len(y)
    if bandwidth is None:
        upper = squared[n:, n:][np.triu_indices(m, 1)]
        bandwidth = float(np.sqrt(np.median(upper)))
    if not bandwidth > 0:
        raise DataError(
            "the reference clips are all alike, so no kernel bandwidth follows from them: give more of them."
        )
    kernel = np.exp(-squared / (2.0 * bandwidth**2))
    value = mmd2(kernel, n)
    p = float("nan")
    if n_permutations:
        rng = np.random.default_rng(seed)
        reached = 0
        for _ in range(n_permutations):
            order = rng.permutation(n + m)
            reached += mmd2(kernel[np.ix_(order, order)], n) >= value
        p = (reached + 1) / (n_permutations + 1)
    return Kad(KAD_SCALE * value, p, bandwidth, n, m, x.shape[1])


def _pair(embeddings: ArrayLike, reference: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Check both sets and return them as float64 matrices."""
    sets = []
    for name, values in (("judged", embeddings), ("reference", reference)):
        rows = np.asarray(values, dtype=np.float64)
        if rows.ndim != 2 or len(rows) < 2:
            raise DataError(
                f"the {name} set has shape {list(rows.shape)}: give embeddings of at least two clips, [clips, dim]."
            )
        if not np.isfinite(rows).all():
            raise DataError(f"the {name} set holds values that are not finite: drop those clips.")
        sets.append(rows)
    if sets[0].shape[1] != sets[1].shape[1]:
        raise DataError(
            f"the judged set has {sets[0].shape[1]} dimensions and the reference {sets[1].shape[1]}: embed both alike."
        )
    return sets[0], sets[1]
