"""Directions of a recursive feature machine: the top eigenvector of its average gradient outer product.

The method of MusicRFM (arXiv 2510.19127; Radhakrishnan et al., Science 2024): kernel ridge regression with
a Laplace kernel ``exp(-|x - z|_M / width)`` alternates with ``M <- mean_i g_i g_i^T``, where ``g_i`` is the
gradient of the predictor at clip i. Here it is batched over weightings of the clips, and takes the median
distance as the kernel's width, so that it needs no search. No validation part picks the round: the last one
counts.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from interp._threads import each, workers

__all__ = ["rfm_directions"]

Array = NDArray[np.float64]
_BYTES = 2**27


def rfm_directions(
    x: NDArray[np.floating],
    y: Array,
    weights: Array,
    *,
    rounds: int = 4,
    ridge: float = 1e-2,
    max_clips: int = 512,
    standardise: bool = True,
    device: str = "cpu",
) -> Array:
    """Top eigenvectors of the average gradient outer product, with the sign that rises with the target.

    Parameters
    ----------
    x : array of shape (sites, clips, dim)
        Activations.
    y : array of shape (targets, refits, clips)
        Targets: +1/-1 or numbers.
    weights : array of shape (refits, clips)
        Weights; clips of weight zero are left out, others weigh in the regression and in the average.
    rounds : int
        How often the metric is learnt again.
    ridge : float
        Penalty of the kernel regression, as a share of the kernel's diagonal (which is one).
    max_clips : int
        A kernel machine costs the cube of its clips: beyond this many, every k-th clip is used.
    standardise : bool
        Whether features get unit variance first; the result is mapped back.
    device : str
        Where to compute.

    Returns
    -------
    array of shape (sites, targets, refits, dim)
        Unit vectors in standardised coordinates, divided by the spread: weights in the raw basis.
    """
    from interp.directions.refit import _scale

    if x.shape[1] > max_clips:
        kept = np.linspace(0, x.shape[1] - 1, max_clips).round().astype(int)
        x, y, weights = x[:, kept], y[..., kept], weights[:, kept]
    sites, clips, dim = x.shape
    targets, refits = y.shape[:2]
    out = np.empty((sites, targets, refits, dim))
    step = max(1, _BYTES // (8 * clips * clips))
    labels = torch.as_tensor(y.reshape(-1, clips).copy(), device=device)
    mass = torch.as_tensor(np.broadcast_to(weights, y.shape).reshape(-1, clips).copy(), device=device)
    mass = mass / mass.mean(dim=1, keepdim=True)
    mean = (mass * labels).mean(dim=1, keepdim=True)
    labels = labels - mean

    def learn(site: int) -> None:
        xs = torch.as_tensor(np.asarray(x[site], dtype=np.float64), device=device)
        xs = xs - xs.mean(dim=0)
        scale = _scale(xs, standardise)
        xs = xs / scale
        for start in range(0, len(labels), step):
            rows = slice(start, start + step)
            found = _batch(xs, labels[rows], mass[rows], rounds, ridge) / scale
            flat = out[site].reshape(-1, dim)
            flat[rows] = found.cpu().numpy()

    each(learn, range(sites), workers(device))
    return out


def _batch(x: torch.Tensor, y: torch.Tensor, w: torch.Tensor, rounds: int, ridge: float) -> torch.Tensor:
    dim = x.shape[1]
    metric = torch.eye(dim, dtype=x.dtype, device=x.device).expand(len(y), dim, dim)
    root = w.sqrt()
    diagonal = torch.full_like(y, ridge)
    for _ in range(rounds):
        mapped = x @ metric  # [refits, clips, dim]
        square = (mapped * x).sum(-1)
        distance = square[:, :, None] + square[:, None, :] - 2 * mapped @ x.T
        distance = distance.clamp_min_(0).sqrt_()
        width = _median(distance, w)[:, None, None]
        kernel = torch.exp(-distance / width)
        # weighted kernel ridge in its symmetric form: clips of weight zero drop out exactly
        system = root[:, :, None] * kernel * root[:, None, :] + torch.diag_embed(diagonal)
        alpha = root * torch.cholesky_solve((root * y)[..., None], torch.linalg.cholesky(system))[..., 0]
        # gradient at x_i: -sum_j alpha_j k_ij M (x_i - x_j) / (width d_ij); the diagonal adds nothing
        factor = torch.where(distance > 1e-9 * width, kernel / (width * distance), torch.zeros_like(kernel))
        factor = factor * alpha[:, None, :]
        gradient = (factor @ x - factor.sum(-1, keepdim=True) * x) @ metric
        outer = (gradient * w[..., None]).mT @ gradient
        trace = outer.diagonal(dim1=-2, dim2=-1).sum(-1)
        metric = outer * (dim / trace.clamp_min(1e-300))[:, None, None]
    vector = torch.linalg.eigh(metric).eigenvectors[..., -1]
    slope = ((x @ vector.T).T * y * w).sum(-1, keepdim=True)
    return torch.where(slope < 0, -vector, vector)


def _median(distance: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """Median distance between different clips that have weight."""
    stride = max(1, distance.shape[1] // 128)  # a median needs no more pairs than 128 clips have
    distance, w = distance[:, ::stride, ::stride], w[:, ::stride]
    off = ~torch.eye(distance.shape[1], dtype=torch.bool, device=distance.device)
    use = (w[:, :, None] > 0) & (w[:, None, :] > 0) & off
    return torch.where(use, distance, torch.nan).flatten(1).nanmedian(dim=1).values.clamp_min(1e-12)
