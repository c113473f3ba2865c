"""Closed-form linear probes for many sites, weightings, penalties and labellings at once.

Ridge, linear discriminant analysis with shrinkage, and differences of means share their sums: the Gram matrix of the
fold, formed once, and ``targets @ x'``, one matrix product for all labellings together.
"""

from __future__ import annotations

import torch
from torch import Tensor

from interp.directions.solvers.design import Design
from interp.directions.solvers.problems import Problems, Solution

__all__ = ["class_means", "one_hot", "solve_covariance", "solve_lda", "solve_mean_difference", "solve_ridge", "solved"]

_REFINED = 64
"""Problems per site up to which float32 solutions are refined once, and solved in float64."""
_SHARED = 16
"""Labellings per fold from which an eigendecomposition beats a factorisation per labelling."""
_SMALLEST = 1e-14
"""Eigenvalues below this share of the largest count as zero."""
_NO_DIGITS = 1e-6
"""Share of the largest diagonal entry of a Cholesky factor below which the smallest is rounding."""
_RANK = 1e-10
"""Eigenvalues below this share of the largest are none, where a matrix is singular."""


def solve_ridge(design: Design, targets: Problems) -> Solution:
    """Least squares with an L2 penalty on the weights and a free intercept.

    Minimises ``sum_i weight_i (y_i - u . x_i - b)^2 + l2 |u|^2`` (scikit-learn's ``Ridge`` with ``alpha = l2``) over
    weights on fold-standardised features, each output on its own.

    Parameters
    ----------
    design : Design
        Activations and folds; the weights of the problems are those of their folds (no class weights).
    targets : Problems
        Targets and penalties.

    Returns
    -------
    Solution
    """
    problems, outputs = targets.y.shape[:2]
    penalties = targets.l2.shape[1]
    count = targets.weight.sum(1)[:, None]
    target_mean = torch.linalg.vecdot(targets.y, targets.weight[:, None]) / count  # [problems, outputs]
    centred = (targets.y - target_mean[..., None]).mul_(targets.weight[:, None])
    mean, scale = design.mean[:, targets.fold, None], design.inverse[:, targets.fold, None]

    def project(residual: Tensor) -> Tensor:
        """``X_f^T residual`` for residuals of shape (..., problems, outputs, clips)."""
        product = (residual.flatten(-3, -2) @ design.x).view(design.n_sites, problems, outputs, -1)
        return torch.addcmul(product, residual.sum(-1)[..., None], mean, value=-1).mul_(scale)

    # Factor once per site, fold and penalty, in float64: small, and what decides the accuracy.
    per_penalty = targets.fold.view(penalties, -1)
    parts = []
    for k in range(penalties):
        for fold in torch.unique(per_penalty[k]).tolist():
            matrix = design.gram[:, fold].clone()
            matrix.diagonal(dim1=-2, dim2=-1).add_(targets.l2.double()[:, k, None])
            which = torch.nonzero(per_penalty[k] == fold).flatten() + k * per_penalty.shape[1]
            whole = slice(None) if len(which) == problems else which
            parts.append((whole, _inverse(matrix).to(design.dtype if problems > _REFINED else torch.float64)))

    def solve(moment: Tensor) -> Tensor:
        out = torch.empty_like(moment, dtype=parts[0][1].dtype)
        for which, inverse in parts:
            part = moment[:, which].to(inverse.dtype)
            out[:, which] = (part.flatten(1, 2) @ inverse).view_as(part)
        return out

    u = solve(project(centred))
    if design.dtype != torch.float64 and problems * outputs <= _REFINED:
        # one step of refinement on the residual of the rows, which the squared condition of the Gram does not touch
        w = u.to(design.dtype) * scale
        fitted = design.decision(w, -(w * mean).sum(-1))
        residual = (targets.y - target_mean[..., None] - fitted) * targets.weight[:, None]
        residual = residual - residual.sum(-1, keepdim=True) / count[..., None] * targets.weight[:, None]
        penalty_term = targets.penalty[:, :, None, None].double() * u
        u = u + solve((project(residual).double() - penalty_term).to(design.dtype))
    w, b = design.to_scaled(u.to(design.dtype), target_mean.expand(design.n_sites, -1, -1), targets.fold)
    return solved(w, b)


def solve_lda(design: Design, targets: Problems, *, shrinkage: float | Tensor = 0.1) -> Solution:
    """Linear discriminant analysis with the within-class covariance shrunk towards a multiple of the identity.

    Parameters
    ----------
    design : Design
        Activations and folds.
    targets : Problems
        0/1 targets with one output, or one-hot targets with one output per class. Penalties are not used.
    shrinkage : float or Tensor of shape (sites, problems)
        Between 0 (the sample covariance) and 1 (a multiple of the identity); scikit-learn's definition.

    Returns
    -------
    Solution
        One weight for two classes (log odds of class 1); otherwise one per class.
    """
    onehot = one_hot(targets.y)
    shrink = torch.as_tensor(shrinkage, dtype=torch.float64, device=design.x.device)
    shrink = shrink.expand(design.n_sites, len(targets.y))
    mass = (onehot * targets.weight[:, None]).sum(-1)  # [problems, classes]
    share = mass / mass.sum(1, keepdim=True)
    means = class_means(design, targets, onehot, mass).double()  # fold-standardised, [sites, problems, classes, dim]
    if onehot.shape[1] == 2 and targets.y.shape[0] > _SHARED * design.n_folds:
        u = _two_classes(design, targets, means, share.double(), shrink)
    else:
        u = torch.empty_like(means)
        eye = torch.eye(design.dim, dtype=torch.float64, device=design.x.device)
        spread = means * share.double().sqrt()[..., None]
        for fold in torch.unique(targets.fold).tolist():  # a matrix per problem: not those of all folds at once
            which = torch.nonzero(targets.fold == fold).flatten()
            total = design.gram[:, fold, None] / design.count.double()[fold]
            within = total - spread[:, which].mT @ spread[:, which]  # the fold's features are centred
            level = within.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
            amount = shrink[:, which, None, None]
            u[:, which] = _solve((1 - amount) * within + amount * level * eye, means[:, which].mT).mT
    b = share.double().log() - 0.5 * (u * means).sum(-1)
    if targets.y.shape[1] == 1:
        u, b = u[:, :, 1:] - u[:, :, :1], b[:, :, 1:] - b[:, :, :1]
    w, b = design.to_scaled(u.to(design.dtype), b.to(design.dtype), targets.fold)
    return solved(w, b)


def _two_classes(design: Design, targets: Problems, means: Tensor, share: Tensor, shrinkage: Tensor) -> Tensor:
    """Both classes' weights for many labellings of one fold, from one eigendecomposition of its covariance.

    The within-class covariance is the fold's covariance less a matrix of rank one, and shrinking only moves its
    eigenvalues: the Sherman-Morrison formula in the eigenbasis solves every labelling with matrix products alone.
    """
    out = torch.empty_like(means)
    for fold in torch.unique(targets.fold).tolist():
        which = targets.fold == fold
        value, basis = torch.linalg.eigh(design.gram[:, fold] / design.count.double()[fold])
        rotated = means[:, which] @ basis[:, None]  # [sites, problems, 2, dim]
        gap = rotated[:, :, 1] - rotated[:, :, 0]
        product = (share[which, 0] * share[which, 1])[:, None]
        level = (value.clamp_min(0).sum(-1)[:, None, None] - product * gap.square().sum(-1, keepdim=True)) / design.dim
        amount = shrinkage[:, which, None]
        scale = (1 - amount) * value.clamp_min(0)[:, None] + amount * level
        scale = torch.where(scale > _SMALLEST * scale.amax(-1, keepdim=True), 1 / scale, 0.0)
        inner = gap * scale
        factor = (1 - amount) * product / (1 - (1 - amount) * product * (gap * inner).sum(-1, keepdim=True))
        along = (rotated * inner[:, :, None]).sum(-1, keepdim=True)
        solved = rotated * scale[:, :, None] + factor[:, :, None] * along * inner[:, :, None]
        out[:, which] = solved @ basis.mT[:, None]
    return out


def solve_mean_difference(design: Design, targets: Problems) -> Solution:
    """Differences of class means in the *raw* basis, with the threshold half-way: the nearest-mean classifier.

    For two classes the weight is ``mean_1 - mean_0``; for more, one weight per class, ``mean_k - mean`` of the
    training part.

    Parameters
    ----------
    design : Design
        Activations and folds.
    targets : Problems
        0/1 targets with one output, or one-hot targets. Penalties are not used.

    Returns
    -------
    Solution
    """
    onehot = one_hot(targets.y)
    mass = (onehot * targets.weight[:, None]).sum(-1)
    means = class_means(design, targets, onehot, mass, standard=False)
    fold_mean = design.mean[:, targets.fold, None]
    if targets.y.shape[1] == 1:
        difference = means[:, :, 1:] - means[:, :, :1]
        middle = fold_mean + (means[:, :, 1:] + means[:, :, :1]) / 2
    else:
        difference, middle = means, fold_mean + means / 2
    # x' = (x - shift) / scale: the raw difference is scale * difference, and acting on x' it is scaled once more
    w = difference * design.scale[:, None, None].square()
    return solved(w, -(w * middle).sum(-1))


def solve_covariance(design: Design, targets: Problems) -> Solution:
    """The graded twin of the mean difference: covariance of raw activations and label, with a least-squares slope.

    It is where ridge goes as its penalty grows, on features that are not standardised.

    Parameters
    ----------
    design : Design
        Activations and folds.
    targets : Problems
        Graded targets with one output. Penalties are not used.

    Returns
    -------
    Solution
        Weight along the covariance vector and intercept so that ``w . x + b`` predicts the label.
    """
    count = targets.weight.sum(1)[:, None]
    target_mean = (targets.y * targets.weight[:, None]).sum(-1) / count
    centred = (targets.y - target_mean[..., None]) * targets.weight[:, None]
    moment = (centred.flatten(0, 1) @ design.x).view(design.n_sites, *target_mean.shape, -1)
    w = moment * design.scale[:, None, None].square()
    mean = design.mean[:, targets.fold, None]
    projected = design.decision(w, -(w * mean).sum(-1)) * targets.weight[:, None]
    slope = (projected * centred).sum(-1) / projected.square().sum(-1).clamp_min(torch.finfo(w.dtype).tiny)
    w = w * slope[..., None]
    return solved(w, target_mean - (w * mean).sum(-1))


def one_hot(y: Tensor) -> Tensor:
    """Indicators of all classes, (problems, classes, clips), of 0/1 targets with one output or one per class."""
    return torch.cat([1 - y, y], dim=1) if y.shape[1] == 1 else y


def class_means(design: Design, targets: Problems, onehot: Tensor, mass: Tensor, *, standard: bool = True) -> Tensor:
    """Class means minus the fold's mean, shape (sites, problems, classes, dim); in fold-standardised units or not."""
    share = onehot * targets.weight[:, None] / mass[..., None]
    means = (share.flatten(0, 1) @ design.x).view(design.n_sites, *mass.shape, -1) - design.mean[:, targets.fold, None]
    return means * design.inverse[:, targets.fold, None] if standard else means


def _singular(factor: Tensor, info: Tensor) -> Tensor:
    """Which matrices have no Cholesky factor, or one that keeps no digits."""
    diagonal = factor.diagonal(dim1=-2, dim2=-1)
    return (info != 0) | ~(diagonal.amin(-1) > _NO_DIGITS * diagonal.amax(-1))


def _inverse(matrix: Tensor) -> Tensor:
    """Inverses of symmetric positive matrices; where features depend on each other, of the shortest solution."""
    factor, info = torch.linalg.cholesky_ex(matrix)
    singular = _singular(factor, info)
    if not bool(singular.any()):
        return torch.cholesky_inverse(factor)
    out = torch.cholesky_inverse(torch.where(singular[..., None, None], torch.eye(matrix.shape[-1]).to(matrix), factor))
    out[singular] = torch.linalg.pinv(matrix[singular], rtol=_RANK, hermitian=True)
    return out


def _solve(matrix: Tensor, right: Tensor) -> Tensor:
    factor, info = torch.linalg.cholesky_ex(matrix)
    singular = _singular(factor, info)
    out = torch.cholesky_solve(right, factor)
    if bool(singular.any()):
        out[singular] = torch.linalg.pinv(matrix[singular], rtol=_RANK, hermitian=True) @ right[singular]
    return out


def solved(w: Tensor, b: Tensor) -> Solution:
    """What a closed form gives: converged wherever it is finite."""
    finite = (w.isfinite().all(-1) & b.isfinite()).all(-1)
    return Solution(w, b, finite, torch.ones_like(finite, dtype=torch.long))
