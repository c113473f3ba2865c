"""Exact Newton steps for the few logistic problems on which a fixed bound of the Hessian is too loose."""

from __future__ import annotations

import torch
from torch import Tensor

from interp.directions.solvers.design import Design
from interp.directions.solvers.problems import Problems

__all__ = ["finish_by_newton"]

_MAX_STEPS = 60
_BLOCK_BYTES = 64 * 2**20


def finish_by_newton(
    design: Design, targets: Problems, v: Tensor, done: Tensor, iterations: Tensor, *, tol: float
) -> None:
    """Take the unfinished problems to their optimum, in float64, in place.

    Parameters
    ----------
    design, targets
        As for :func:`interp.directions.solvers.logistic.solve_logistic`.
    v : Tensor of shape (sites, problems, outputs, dim+1)
        Weights on fold-standardised features and intercept; where ``done`` is false a starting point, overwritten.
    done, iterations : Tensor of shape (sites, problems)
        Updated.
    tol : float
        Stop when a full Newton step is at most this share of the weights' length.
    """
    outputs = targets.y.shape[1]
    size = design.n_clips * (design.dim + 1) * 8 * (1 + outputs)
    block = max(1, _BLOCK_BYTES // size)
    todo = torch.nonzero(~done)
    for part in torch.split(todo, block):
        rows, columns = part.unbind(1)
        solved, ok, steps = _newton(design, targets, v[rows, columns].double(), rows, columns, tol=tol)
        v[rows, columns] = solved.to(v.dtype)
        done[rows, columns] = ok
        iterations[rows, columns] += steps


def _newton(
    design: Design, targets: Problems, v: Tensor, rows: Tensor, columns: Tensor, *, tol: float
) -> tuple[Tensor, Tensor, Tensor]:
    fold = targets.fold[columns]
    mean, inverse = design.mean[rows, fold].double(), design.inverse[rows, fold].double()
    x = (design.x[rows].double() - mean[:, None]) * inverse[:, None]
    basis = None
    if x.shape[2] > x.shape[1]:  # weights lie in the span of the clips: as many unknowns as clips
        basis, triangle = torch.linalg.qr(x.mT)
        x, v = triangle.mT, torch.cat([v[..., :-1] @ basis, v[..., -1:]], dim=-1)
    x = torch.cat([x, x.new_ones(*x.shape[:2], 1)], dim=2)  # [problem, clip, unknowns]
    y, weight = targets.y[columns].double(), targets.weight[columns].double()
    l2 = targets.penalty[rows, columns].double()
    ridge = torch.cat([l2[:, None].expand(-1, x.shape[2] - 1), l2.new_zeros(len(l2), 1)], dim=1)

    def loss(v: Tensor) -> Tensor:
        z = v @ x.mT
        if y.shape[1] == 1:
            data = torch.nn.functional.softplus(z) - y * z
        else:
            data = (z.logsumexp(dim=1, keepdim=True) - z) * y
        return (data * weight[:, None]).sum((1, 2)) + 0.5 * (ridge[:, None] * v.square()).sum((1, 2))

    ok = torch.zeros(len(v), dtype=torch.bool, device=v.device)
    steps = torch.zeros(len(v), dtype=torch.long, device=v.device)
    value = loss(v)
    for _ in range(_MAX_STEPS):
        z = v @ x.mT
        p = z.sigmoid() if y.shape[1] == 1 else z.softmax(dim=1)
        gradient = ((p - y) * weight[:, None]) @ x + ridge[:, None] * v
        step = -_solve(_hessian(x, p, weight, ridge), gradient)
        slope = (gradient * step).sum((1, 2))
        small = step.square().sum((1, 2)).sqrt() <= tol * v.square().sum((1, 2)).sqrt()
        rate = torch.ones_like(value)
        for _ in range(30):
            trial = v + rate[:, None, None] * step
            new = loss(trial)
            # near the optimum the change drowns in rounding: a full step is right there
            good = (new <= value + 1e-4 * rate * slope) | small | (slope.abs() <= 1e-13 * value.abs())
            if bool(good.all()):
                break
            rate = torch.where(good, rate, rate / 2)
        move = ~ok
        v = torch.where(move[:, None, None], trial, v)
        value = torch.where(move, new, value)
        steps += move
        ok |= small
        if bool(ok.all()):
            break
    if basis is not None:
        v = torch.cat([v[..., :-1] @ basis.mT, v[..., -1:]], dim=-1)
    return v, ok, steps


def _hessian(x: Tensor, p: Tensor, weight: Tensor, ridge: Tensor) -> Tensor:
    """Shape (problems, outputs * (dim+1), outputs * (dim+1))."""
    outputs, width = p.shape[1], x.shape[2]
    if outputs == 1:
        return (x * (p * (1 - p) * weight[:, None])[:, 0, :, None]).mT @ x + torch.diag_embed(ridge)
    full = x.new_zeros(len(x), outputs, width, outputs, width)
    for a in range(outputs):
        for b in range(a + 1):
            curvature = weight * p[:, a] * ((1.0 if a == b else 0.0) - p[:, b])
            block = (x * curvature[..., None]).mT @ x
            full[:, a, :, b] = full[:, b, :, a] = block
        full[:, a, :, a] += torch.diag_embed(ridge)
    full = full.view(len(x), outputs * width, outputs * width)
    # A common shift of all intercepts changes nothing and leaves the Hessian singular along it: pin it.
    pin = x.new_zeros(outputs, width)
    pin[:, -1] = 1
    flat = pin.flatten()
    return full + weight.sum(1)[:, None, None] / outputs * (flat[:, None] * flat[None, :])


def _solve(hessian: Tensor, gradient: Tensor) -> Tensor:
    flat = gradient.flatten(1)[..., None]
    factor, info = torch.linalg.cholesky_ex(hessian)
    if bool((info != 0).any()):
        size = hessian.diagonal(dim1=1, dim2=2).amax(dim=1)
        eye = torch.eye(hessian.shape[1], dtype=hessian.dtype, device=hessian.device)
        factor = torch.linalg.cholesky(hessian + 1e-10 * size[:, None, None] * eye)
    return torch.cholesky_solve(flat, factor).view_as(gradient)
