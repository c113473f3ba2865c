"""Directions that are differences of activations, and what all methods without an intercept need: a threshold."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from interp.directions.solvers.design import Design, weighted_grams
from interp.directions.solvers.linear import class_means, one_hot, solved
from interp.directions.solvers.problems import Options, Problems, Solution

__all__ = ["solve_pairs", "solve_random", "thresholded", "top_eigenvector"]

_SQUARINGS = 9
"""A second eigenvalue of 95 % of the first then counts for 1e-11 of the vector."""


def thresholded(design: Design, problems: Problems, w: Tensor, *, turn: bool = True) -> Solution:
    """Give weights on ``x'`` the sign that rises with the target, and an intercept.

    For classes the decision is zero half-way between the means of the two sides. For numbers, weight and intercept are
    scaled so that they predict the number, by least squares along the direction.

    Parameters
    ----------
    w : Tensor of shape (sites, problems, outputs, dim)
    turn : bool
        Whether weights of classes are turned round where they fall.
    """
    weight = problems.weight[:, None]
    mean = design.mean[:, problems.fold, None]
    if problems.graded:
        target = (problems.y * weight).sum(-1) / weight.sum(-1)
        centred = (problems.y - target[..., None]) * weight
        along = design.decision(w, -(w * mean).sum(-1))
        spread = (along.square() * weight).sum(-1)
        slope = (along * centred).sum(-1) / spread.clamp_min(torch.finfo(w.dtype).tiny)
        w = w * slope[..., None]
        return solved(w, target - (w * mean).sum(-1))
    y = problems.y
    mass = (y * weight).sum(-1)
    positive = class_means(design, problems, y, mass, standard=False)  # minus the fold's mean
    share = (mass / weight.sum(-1))[..., None]
    difference = positive / (1 - share)  # mean of the class minus mean of all others
    if turn:
        w = torch.where((w * difference).sum(-1, keepdim=True) < 0, -w, w)
    middle = mean + positive - difference / 2
    return solved(w, -(w * middle).sum(-1))


def solve_pairs(design: Design, problems: Problems) -> Solution:
    """First component of the differences of all (positive, negative) pairs, signed by the mean difference.

    RepE (arXiv 2310.01405) takes it of drawn pairs. Over *all* pairs the second moment of the differences is
    ``cov+ + cov- + delta delta^T``, so that nothing has to be drawn. It is a push: a difference of activations.
    """
    onehot = one_hot(problems.y)[:, -problems.y.shape[1] :]
    out = design.x.new_empty(design.n_sites, *onehot.shape[:2], design.dim)
    for fold in torch.unique(problems.fold).tolist():
        which = torch.nonzero(problems.fold == fold).flatten()
        mean, inverse = design.mean[:, fold], design.inverse[:, fold]
        x = (design.x - mean[:, None]) * inverse[:, None]
        y, weight = onehot[which].double(), problems.weight[which].double()[:, None]
        rows = (y * weight).flatten(0, 1)  # [problems * outputs, clips]
        total = weight.sum(-1).expand(-1, y.shape[1]).flatten()
        mass = rows.sum(-1)
        centre = (rows.to(x.dtype) @ x).double() / mass[:, None]  # of the positive side; that of all is zero
        delta = centre * (total / (total - mass))[:, None]
        positive = weighted_grams(x, rows.to(x.dtype)).double()
        moment = _outer(delta) + positive / mass[:, None, None] - _outer(centre)
        other = delta - centre  # minus the mean of the negative side
        moment += (design.gram[:, fold, None] - positive) / (total - mass)[:, None, None] - _outer(other)
        component = top_eigenvector(moment)
        component = torch.where((component * delta).sum(-1, keepdim=True) < 0, -component, component)
        component = component * (design.spread[:, fold] * (inverse > 0)).double()[:, None]
        out[:, which] = component.view(len(x), len(which), y.shape[1], -1).to(out.dtype)
    # x' = (x - shift) / scale: a difference of x' is scale times one of x, and acting on x' it is scaled once more
    return thresholded(design, problems, out * design.scale.to(out.dtype)[:, None, None].square(), turn=False)


def solve_random(design: Design, problems: Problems, options: Options) -> Solution:
    """Directions uniform on the sphere of raw activations, a different one for every site, fold and labelling."""
    sites, (site, fold, labelling) = design.n_sites, options.first
    folds = int(problems.fold.max()) + 1
    per_fold = len(problems.y) // (folds * problems.l2.shape[1])
    draws = np.empty((sites, folds, per_fold, problems.y.shape[1], design.dim))
    for index in np.ndindex(sites, folds, per_fold):
        first = (site + index[0], fold + index[1], labelling + index[2])
        draws[index] = np.random.default_rng([options.seed, *first]).standard_normal(draws.shape[3:])
    raw = torch.as_tensor(draws / np.linalg.norm(draws, axis=-1, keepdims=True), device=design.x.device)
    w = raw.flatten(1, 2).repeat(1, problems.l2.shape[1], 1, 1) * design.scale.double()[:, None, None]
    w = w.to(design.dtype)
    return solved(w, -(w * design.mean[:, problems.fold, None]).sum(-1))


def _outer(v: Tensor) -> Tensor:
    return v[..., :, None] * v[..., None, :]


def top_eigenvector(matrix: Tensor) -> Tensor:
    """Unit eigenvector of the largest eigenvalue of symmetric positive matrices, shape (..., dim).

    Squaring a matrix again and again leaves the projection on it, with products alone; an eigendecomposition, many
    times slower, is left for the few matrices whose first two eigenvalues are nearly equal.
    """
    power = matrix
    for _ in range(_SQUARINGS):
        power = power @ power
        power = power / power.diagonal(dim1=-2, dim2=-1).sum(-1).clamp_min(1e-300)[..., None, None]
    column = power.diagonal(dim1=-2, dim2=-1).argmax(-1)[..., None, None].expand(*power.shape[:-1], 1)
    vector = torch.nn.functional.normalize(power.gather(-1, column)[..., 0], dim=-1)
    image = (matrix @ vector[..., None])[..., 0]
    value = (image * vector).sum(-1, keepdim=True)
    bad = ~((image - value * vector).norm(dim=-1) <= 1e-10 * value[..., 0])
    if bool(bad.any()):
        vector[bad] = torch.linalg.eigh(matrix[bad]).eigenvectors[..., -1]
    return vector
