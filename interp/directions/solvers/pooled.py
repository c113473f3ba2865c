"""Logistic probes of cross-validation folds by way of the problem that the folds share.

Folds overlap in most of their rows, so their optima lie close together. The *pooled* problem (every row weighted by its
mean weight over the folds) is solved first, once for each labelling and penalty. Its solution is where every fold
starts, and the curvature there, summed over a fold's rows, is the fold's own Hessian but for the small distance to its
optimum: with that Hessian frozen, Newton's method takes three or four steps, each of two matrix products. The Hessians
of all folds together cost as much as one, because rows that a fold leaves out are few: what they add is taken away.

Everything here is in the coordinates ``x'`` of :class:`~interp.directions.solvers.design.Design`, where a fold's
standardisation is a penalty of its own for each feature, ``l2 * spread_f^2``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from interp.directions.solvers.design import Design
from interp.directions.solvers.solution import Targets

__all__ = ["fits_pooling", "solve_by_pooling"]

_POOLED_STEPS = 2
"""Steps of the pooled problem: one with the bound on the Hessian, the others with the Hessian at the point reached."""
_MIXTURE_STEPS = 3
"""Newton steps in the plane of weights and move."""
_FOLD_STEPS = {torch.float32: 4, torch.float64: 8}
"""Steps after which every fold gets a Hessian of its own, and after which it is left to the general method."""
_LABELLINGS = 8
"""Labellings up to which a Hessian for each is cheaper than more steps with a shared one."""


def fits_pooling(design: Design, targets: Targets) -> bool:
    """Whether the problems are few labellings of several folds, with two classes and no feature constant in a fold."""
    folds = _used(targets)
    labellings = targets.y.shape[0] // (len(folds) * targets.l2.shape[1])
    left_out = int((~design.train_np[folds.tolist()]).sum())
    return (
        targets.y.shape[1] == 1
        and len(folds) > 1
        and labellings <= _LABELLINGS
        and left_out <= 1.5 * design.n_clips
        and bool((design.inverse[:, folds] > 0).all())
    )


def _used(targets: Targets) -> Tensor:
    """Folds that the problems train on, in the order of the problems."""
    return torch.unique_consecutive(targets.fold[: len(targets.fold) // targets.l2.shape[1]])


def solve_by_pooling(design: Design, targets: Targets, *, tol: float) -> tuple[Tensor, Tensor, Tensor]:
    """Solve what converges quickly.

    Parameters
    ----------
    design : Design
        Activations and folds.
    targets : Targets
        Binary labels, row weights and penalties, ordered (penalty, fold, labelling).
    tol : float
        Largest last step, as a share of the weights' length.

    Returns
    -------
    v : Tensor of shape (sites, problems, 1, dim + 1)
        Weights on fold-standardised features, and the intercept.
    done : bool Tensor of shape (sites, problems)
        Which have converged; the others' values mean nothing.
    steps : long Tensor of shape (sites, problems)
        Gradients evaluated, those of the pooled problem included.
    """
    x, sites, penalties = design.x, design.n_sites, targets.l2.shape[1]
    which = _used(targets)
    folds = len(which)
    lead = (penalties, folds, -1)
    y, weight = targets.y[:, 0].view(*lead, design.n_clips), targets.weight.view(*lead, design.n_clips)
    pooled_y, pooled_weight = y[:, 0].flatten(0, 1), weight.mean(1).flatten(0, 1)  # [groups, clips]
    labellings = y.shape[2]
    groups = penalties * labellings
    spread = design.spread[:, which].square()  # [sites, folds, dim]
    l2 = targets.l2.repeat_interleave(labellings, dim=1)  # [sites, groups]
    ridge = torch.nn.functional.pad(l2[..., None] * spread.mean(1)[:, None], (0, 1))

    # The pooled problem: a step with the bound p(1-p) <= 1/4 from zero weights, then Newton steps.
    mass = pooled_weight.sum(-1)
    v = x.new_zeros(sites, groups, design.dim + 1)
    v[..., -1] = torch.logit((pooled_y * pooled_weight).sum(-1) / mass)
    bound = torch.nn.functional.pad(design.gram_all / (4 * design.n_clips), (0, 1, 0, 1))[:, None] * mass[:, None, None]
    total = (x.sum(1) / (4 * design.n_clips))[:, None] * mass[:, None]
    bound[..., -1, :-1] = bound[..., :-1, -1] = total
    bound[..., -1, -1] = mass / 4
    z = v[..., -1:].expand(-1, -1, design.n_clips)  # decision values
    for step in range(_POOLED_STEPS):
        p = z.sigmoid()
        factor = _factor(_gram(x, p * (1 - p) * pooled_weight, design.scratch) if step else bound, ridge)
        move = -_solve(factor, _gradient(x, (p - pooled_y) * pooled_weight, ridge, v))
        v, z = _best_mixture(x, v, z, move, pooled_y, pooled_weight, ridge)

    # Every fold from there: its Hessian is the whole one less the rows that it leaves out.
    p = z.sigmoid()
    curvature = p * (1 - p)  # [sites, groups, clips]
    row_weight = weight.transpose(1, 2).flatten(0, 1)  # [groups, folds, clips]
    hessian = _fold_hessians(x, curvature, row_weight, design, which)
    per_fold = torch.nn.functional.pad(l2[:, :, None, None] * spread[:, None], (0, 1))  # [sites, groups, folds, dim+1]
    factor = _factor(hessian, per_fold)
    v = v[:, :, None].expand(-1, -1, folds, -1).contiguous()
    done = torch.zeros(v.shape[:3], dtype=torch.bool, device=v.device)
    steps = torch.full(v.shape[:3], _POOLED_STEPS, dtype=torch.long, device=v.device)
    problem = _Folds(x, pooled_y, row_weight, per_fold, design.scratch)
    problem.descend(factor, v, done, steps, tol=tol)
    left = torch.nonzero(~done.flatten(1).all(1)).flatten()
    if len(left):  # nearly separable: here a fold's curvature is its own
        some = _Folds(x.index_select(0, left), pooled_y, row_weight, per_fold[left], design.scratch)
        one, one_done, one_steps = v[left], done[left], steps[left]
        some.descend(some.factor(one), one, one_done, one_steps, tol=tol)
        v[left], done[left], steps[left] = one, one_done, one_steps
    v[..., -1] += (v[..., :-1] * design.mean[:, which][:, None]).sum(-1)
    v[..., :-1] *= design.spread[:, which][:, None]
    order = v.view(sites, penalties, labellings, folds, -1).transpose(2, 3).flatten(1, 3)

    def problems(t: Tensor) -> Tensor:
        return t.view(sites, penalties, labellings, folds).transpose(2, 3).flatten(1)

    done &= v.isfinite().all(-1)
    return order[:, :, None], problems(done), problems(steps)


class _Folds:
    """Every fold of every labelling and penalty at some sites; states are (sites, groups, folds, dim + 1)."""

    def __init__(self, x: Tensor, y: Tensor, weight: Tensor, ridge: Tensor, scratch: Tensor) -> None:
        self.x, self.y, self.weight, self.ridge, self.scratch = x, y[:, None], weight, ridge, scratch

    def probability(self, v: Tensor) -> Tensor:
        """Of shape (sites, groups, folds, clips)."""
        z = torch.baddbmm(v[..., -1:].flatten(1, 2), v[..., :-1].flatten(1, 2), self.x.mT)
        return z.sigmoid_().view(*v.shape[:-1], -1)

    def factor(self, v: Tensor) -> Tensor:
        """Cholesky factors of the Hessians at ``v``."""
        p = self.probability(v)
        curvature = (1 - p).mul_(p).mul_(self.weight)
        gram = _gram(self.x, curvature.flatten(1, 2), self.scratch)
        return _factor(gram.view(*v.shape[:3], *gram.shape[2:]), self.ridge)

    def descend(self, factor: Tensor, v: Tensor, done: Tensor, steps: Tensor, *, tol: float) -> None:
        """Take Newton steps with frozen Hessians until all have converged or a step did not help, in place."""
        last = torch.full_like(v[..., 0], torch.inf)
        for _ in range(_FOLD_STEPS[v.dtype]):
            residual = self.probability(v).sub_(self.y).mul_(self.weight)
            gradient = _gradient(self.x, residual.flatten(1, 2), self.ridge.flatten(1, 2), v.flatten(1, 2))
            move = _solve(factor, gradient.view_as(v))
            size = move.square().sum(-1)
            # A step as long as the one before: the curvature has changed, and this method is not for it.
            active = ~done & (size < last)
            v -= move * active[..., None]
            steps += active
            done |= active & (size <= tol**2 * v.square().sum(-1))
            last = size
            if bool(done.all()):
                return


def _gradient(x: Tensor, residual: Tensor, ridge: Tensor, v: Tensor) -> Tensor:
    gradient = torch.empty_like(v)
    torch.addcmul(residual @ x, ridge[..., :-1], v[..., :-1], out=gradient[..., :-1])
    torch.sum(residual, -1, out=gradient[..., -1])  # the intercept has no penalty
    return gradient


def _best_mixture(
    x: Tensor, v: Tensor, z: Tensor, move: Tensor, y: Tensor, weight: Tensor, ridge: Tensor
) -> tuple[Tensor, Tensor]:
    """The best ``a u + b move`` with the best intercept, and its decision values.

    Far from the optimum a Newton step mostly has the wrong length. Finding the right one takes no product with the
    activations: the decision values of every mixture are mixtures of those of ``v`` and ``move``.
    """
    u, e = v[..., :-1], move[..., :-1]
    base = torch.stack([z - v[..., -1:], e @ x.mT, torch.ones_like(z)], dim=2)  # [sites, groups, 3, clips]
    vectors = torch.stack([u, e], dim=2)
    t = torch.stack([torch.ones_like(v[..., -1])] * 2 + [v[..., -1] + move[..., -1]], dim=-1)[..., None]
    penalty = torch.nn.functional.pad((vectors * ridge[..., None, :-1]) @ vectors.mT, (0, 1, 0, 1))
    size = penalty.diagonal(dim1=-2, dim2=-1)
    size += torch.finfo(x.dtype).eps * (size + weight.sum(-1, keepdim=True))  # the first `u` is zero
    for _ in range(_MIXTURE_STEPS):
        p = (t.mT @ base).sigmoid_()
        gradient = base @ ((p - y[:, None]) * weight[:, None]).mT + penalty @ t
        hessian = (base * (p * (1 - p) * weight[:, None])) @ base.mT + penalty
        t = t - torch.linalg.solve_ex(hessian, gradient)[0]
    mixed = torch.cat([(t[..., :2, :].mT @ vectors)[..., 0, :], t[..., 2, :]], dim=-1)
    return mixed, (t.mT @ base)[..., 0, :]


def _gram(x: Tensor, curvature: Tensor, scratch: Tensor) -> Tensor:
    """``[x', 1]^T diag(curvature) [x', 1]`` for curvatures (sites, groups, rows): (sites, groups, dim+1, dim+1)."""
    width = x.shape[2] + 1
    out = x.new_empty(x.shape[0], curvature.shape[1], width, width)
    room = scratch[: x.numel()].view(x.shape)
    for k in range(curvature.shape[1]):
        weighted = torch.mul(x, curvature[:, k, :, None], out=room)
        out[:, k, :-1, :-1] = x.mT @ weighted
    out[..., -1, :-1] = out[..., :-1, -1] = curvature @ x
    out[..., -1, -1] = curvature.sum(-1)
    return out


def _fold_hessians(x: Tensor, curvature: Tensor, weight: Tensor, design: Design, folds: Tensor) -> Tensor:
    """Of shape (sites, groups, folds, dim+1, dim+1), before the penalty.

    Class weights depend a little on the fold; the largest is taken, which a frozen Hessian can afford.
    """
    most = weight.amax(1)
    left = [torch.as_tensor(~train, device=x.device).nonzero().flatten() for train in design.train_np[folds.tolist()]]
    parts = []
    for rows in left:
        some = torch.index_select(x, 1, rows)
        parts.append(_gram(some, curvature[..., rows] * most[:, rows], design.scratch))
    covered = torch.cat(left)
    if len(covered) == x.shape[1] and len(torch.unique(covered)) == x.shape[1]:
        whole = torch.stack(parts).sum(0)
    else:
        whole = _gram(x, curvature * most, design.scratch)
    return whole[:, :, None] - torch.stack(parts, dim=2)


def _factor(matrix: Tensor, ridge: Tensor) -> Tensor:
    """Cholesky factors of matrices plus their penalties; nan where there is none."""
    matrix.diagonal(dim1=-2, dim2=-1).add_(ridge)
    factor, info = torch.linalg.cholesky_ex(matrix)
    if bool((info != 0).any()):
        factor = torch.where((info != 0)[..., None, None], torch.nan, factor)
    return factor


def _solve(factor: Tensor, gradient: Tensor) -> Tensor:
    return torch.cholesky_solve(gradient[..., None], factor)[..., 0]
