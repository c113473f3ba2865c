"""Directions of a recursive feature machine: the top eigenvector of its average gradient outer product.

The method of MusicRFM (arXiv 2510.19127; Radhakrishnan et al., Science 2024): kernel ridge regression with
a Laplace kernel ``exp(-|x - z|_M / width)`` alternates with ``M <- mean_i g_i g_i^T``, where ``g_i`` is the
gradient of the predictor at clip i. Here it is batched over labellings, and takes the median
distance as the kernel's width, so that it needs no search. No validation part picks the round: the last one
counts.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from interp.directions.solvers.design import Design
from interp.directions.solvers.linear import one_hot
from interp.directions.solvers.problems import Problems, Solution
from interp.directions.solvers.push import thresholded

__all__ = ["solve_rfm"]

_ROUNDS = 4
"""How often the metric is learnt again."""
_RIDGE = 1e-2
"""Penalty of the kernel regression, as a share of the kernel's diagonal (which is one)."""
_MOST_CLIPS = 512
"""A kernel machine costs the cube of its clips: beyond this many, every k-th clip is used."""
_BYTES = 2**27


def solve_rfm(design: Design, problems: Problems) -> Solution:
    """Top eigenvectors of the average gradient outer product, with the sign that rises with the target.

    Computed in float64 on fold-standardised features; clips of weight zero are left out, others weigh in the
    regression and in the average.
    """
    outputs = problems.y.shape[1]
    y = problems.y if problems.graded else one_hot(problems.y)[:, -outputs:]
    out = torch.zeros(design.n_sites, *y.shape[:2], design.dim, dtype=torch.float64, device=design.x.device)
    for fold in torch.unique(problems.fold).tolist():
        which = torch.nonzero(problems.fold == fold).flatten()
        used = np.flatnonzero(design.weights[fold] > 0)
        if len(used) > _MOST_CLIPS:
            used = used[np.linspace(0, len(used) - 1, _MOST_CLIPS).round().astype(int)]
        rows = torch.as_tensor(used, device=design.x.device)
        labels = y[which][:, :, rows].double().flatten(0, 1)  # [problems * outputs, clips]
        mass = problems.weight[which][:, None, rows].double().expand(-1, outputs, -1).flatten(0, 1)
        mass = mass / mass.mean(dim=1, keepdim=True)
        labels = labels - (mass * labels).mean(dim=1, keepdim=True)
        step = max(1, _BYTES // (8 * len(used) ** 2))
        for site in range(design.n_sites):
            inverse = design.inverse[site, fold].double()
            x = (design.x[site, rows].double() - design.mean[site, fold].double()) * inverse
            parts = [
                _batch(x, labels[start : start + step], mass[start : start + step], _ROUNDS, _RIDGE)
                for start in range(0, len(labels), step)
            ]
            out[site, which] = (torch.cat(parts) * inverse).view(len(which), outputs, -1)
    return thresholded(design, problems, out.to(design.dtype))


def _batch(x: Tensor, y: Tensor, w: Tensor, rounds: int, ridge: float) -> Tensor:
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


def _median(distance: Tensor, w: Tensor) -> Tensor:
    """Median distance between different clips that have weight."""
    stride = max(1, distance.shape[1] // 128)  # a median needs no more pairs than 128 clips have
    distance, w = distance[:, ::stride, ::stride], w[:, ::stride]
    off = ~torch.eye(distance.shape[1], dtype=torch.bool, device=distance.device)
    use = (w[:, :, None] > 0) & (w[:, None, :] > 0) & off
    return torch.where(use, distance, torch.nan).flatten(1).nanmedian(dim=1).values.clamp_min(1e-12)
