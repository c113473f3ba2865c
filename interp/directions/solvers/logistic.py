"""Logistic regression for many sites, folds, penalties and labellings at once.

Each problem is scikit-learn's: minimise ``sum_i weight_i * loss_i + l2/2 * |u|^2`` (``l2 = 1/C``) over weights on
fold-standardised features and an unpenalised intercept, binary or multinomial.

Newton's method spends nearly all its time forming Hessians: ``X^T diag(p(1-p)) X`` for every problem and iteration.
Here the fixed bound of Böhning and Lindsay (1988; Böhning 1992), ``X^T X / 4 + l2`` (``/ 2`` for softmax), is inverted
once per site and penalty, shared by all folds and label permutations, and used to precondition a batched L-BFGS. An
iteration is then two matrix products, and the first step from zero is the ridge solution, a warm start for free.
Problems that need more than a few steps get one Hessian per site and penalty at the point reached, in place of the
bound, again shared by all of them; the last stragglers (nearly separable, with a weak penalty) are finished by exact
Newton steps in float64. So are those whose gradient, computed once more in float64, says that rounding or a small last
step passed for convergence: a problem that is called converged is.
"""

from __future__ import annotations

import torch
from torch import Tensor

from interp.directions.solvers.design import Design
from interp.directions.solvers.lbfgs import History
from interp.directions.solvers.newton import finish_by_newton
from interp.directions.solvers.problems import Problems, Solution

__all__ = ["solve_logistic"]

_BEFORE_HESSIAN = 4
"""Gradients after which the bound is replaced by a Hessian, where that pays."""
_BEFORE_NEWTON = 40
"""Gradients after which a problem counts as hard."""
_WIDEST_NEWTON = 1200
"""Unknowns beyond which a Hessian per problem is too much; L-BFGS goes on instead."""
_ERROR = 3e-4
"""Distance to the optimum, as a share of the weights' length, that counts as converged in single precision."""


class _Gradient:
    """Gradients of all problems, in any precision; states ``[u, b]`` are (sites, problems, outputs, dim+1)."""

    def __init__(self, design: Design, problems: Problems, dtype: torch.dtype) -> None:
        fold = problems.fold
        self.x, self.y, self.weight = design.x.to(dtype), problems.y.to(dtype), problems.weight.to(dtype)
        self.inverse, self.mean = (t.to(dtype)[:, fold, None] for t in (design.inverse, design.mean))
        self.penalty = problems.penalty.to(dtype)[:, :, None, None]
        self.outputs = self.y.shape[1]

    def _assemble(self, product: Tensor, total: Tensor, v: Tensor) -> Tensor:
        """Gradient in ``[u, b]`` from ``residual @ x'`` and the residuals' sums."""
        gradient = torch.empty_like(v)
        part = torch.addcmul(product.view(*v.shape[:-1], -1), total[..., None], self.mean, value=-1).mul_(self.inverse)
        torch.addcmul(part, v[..., :-1], self.penalty, out=gradient[..., :-1])
        gradient[..., -1] = total
        return gradient

    def _probability(self, v: Tensor) -> Tensor:
        w = v[..., :-1] * self.inverse
        b = v[..., -1] - torch.linalg.vecdot(w, self.mean)
        z = torch.baddbmm(b.flatten(1)[..., None], w.flatten(1, 2), self.x.mT).view(*b.shape, -1)
        return z.sigmoid_() if self.outputs == 1 else z.softmax(dim=2)

    def gradient(self, v: Tensor) -> Tensor:
        """Gradient of every problem: two matrix products."""
        residual = self._probability(v).sub_(self.y).mul_(self.weight[:, None])
        return self._assemble(residual.flatten(1, 2) @ self.x, residual.sum(-1), v)


class _Objective(_Gradient):
    """Gradients, and a preconditioner that the problems of a site and penalty share."""

    def __init__(self, design: Design, problems: Problems) -> None:
        super().__init__(design, problems, design.dtype)
        self.l2 = problems.l2
        self.mass = self.weight.sum(dim=1)  # [problems]
        bound = 0.25 if self.outputs == 1 else 0.5
        mass = float(self.mass.mean()) * bound
        matrix = design.gram_all.double() * (mass / design.n_clips)
        matrix = torch.nn.functional.pad(matrix[:, None].expand(-1, self.l2.shape[1], -1, -1), (0, 1, 0, 1))
        matrix[..., -1, -1] = mass
        self._invert(matrix)

    def _invert(self, matrix: Tensor) -> None:
        """Set the preconditioner: inverse of (sites, penalties, dim+1, dim+1) plus the penalty."""
        matrix.diagonal(dim1=-2, dim2=-1)[..., :-1] += self.l2.double()[..., None]
        factor, info = torch.linalg.cholesky_ex(matrix)
        if bool((info != 0).any()):
            matrix.diagonal(dim1=-2, dim2=-1).mul_(1 + 1e-8).add_(1e-12)
            factor = torch.linalg.cholesky(matrix)
        self.preconditioner = torch.cholesky_inverse(factor).to(self.x.dtype)

    def start(self) -> tuple[Tensor, Tensor]:
        """Zero weights, intercepts at the class frequencies, and the gradient there (half the cost of any other)."""
        share = (self.y * self.weight[:, None]).sum(-1) / self.mass[:, None]
        residual = (share[..., None] - self.y) * self.weight[:, None]
        b = torch.logit(share) if self.outputs == 1 else share.log()
        if self.outputs > 1:
            b = b - b.mean(dim=1, keepdim=True)
        v = self.x.new_zeros(self.x.shape[0], *share.shape, self.x.shape[2] + 1)
        v[..., -1] = b
        return v, self._assemble(residual.flatten(0, 1) @ self.x, residual.sum(-1).expand(v.shape[:-1]), v)

    def precondition(self, q: Tensor) -> Tensor:
        """The inverse of the bound (or of the shared Hessian), applied to every problem and output."""
        sites, penalties, width = self.preconditioner.shape[:3]
        rows = q.view(sites * penalties, -1, width)
        return (rows @ self.preconditioner.view(-1, width, width)).view_as(q)

    def sharpen(self, v: Tensor) -> None:
        """Replace the bound by the Hessian at the point reached, averaged over the problems that share it."""
        p = self._probability(v)
        curvature = p.mul_(1 - p).mul_(self.weight[:, None])
        sites, penalties = self.preconditioner.shape[:2]
        curvature = curvature.view(sites, penalties, -1, curvature.shape[-1]).mean(2)  # [sites, penalties, clips]
        if self.outputs > 1:  # softmax couples the classes; the mean p(1-p), widened as far as the coupling can go
            curvature *= self.outputs / (self.outputs - 1)
        mean, inverse = self.mean[:, :, 0].mean(1), self.inverse[:, :, 0].mean(1)  # folds differ little
        width = self.x.shape[2] + 1
        matrix = self.x.new_empty(sites, penalties, width, width, dtype=torch.float64)
        for k in range(penalties):
            weighted = self.x * curvature[:, k, :, None]
            mass = curvature[:, k].sum(-1).double()[:, None]
            total = weighted.sum(1).double()
            gram = (self.x.mT @ weighted).double()
            cross = total[:, :, None] * mean[:, None]
            gram = gram - cross - cross.mT + mass[..., None] * mean[:, :, None] * mean[:, None]
            matrix[:, k, :-1, :-1] = gram * inverse[:, :, None] * inverse[:, None]
            matrix[:, k, -1, :-1] = matrix[:, k, :-1, -1] = (total - mass * mean) * inverse
            matrix[:, k, -1, -1] = mass[:, 0]
        self._invert(matrix)

    def keep(self, sites: Tensor, problems: Tensor | None) -> None:
        """Drop the sites (and problems) that are done."""
        self.x, self.preconditioner, self.l2 = self.x[sites], self.preconditioner[sites], self.l2[sites]
        self.inverse, self.mean, self.penalty = self.inverse[sites], self.mean[sites], self.penalty[sites]
        if problems is not None:
            self.y, self.weight, self.mass = self.y[problems], self.weight[problems], self.mass[problems]
            self.inverse, self.mean = self.inverse[:, problems], self.mean[:, problems]
            self.penalty = self.penalty[:, problems]


def solve_logistic(design: Design, targets: Problems, *, tol: float, max_iter: int = 1000) -> Solution:
    """Solve all problems of one design.

    Parameters
    ----------
    design : Design
        Activations and folds.
    targets : Problems
        Labels, row weights and penalties; every training part holds every class.
    tol : float
        Stop when the quasi-Newton step is at most this share of the weights' length.
    max_iter : int
        Gradients evaluated per problem at most; Newton steps take over after 40, except for very wide problems.

    Returns
    -------
    Solution
    """
    sites, problems, device = design.n_sites, len(targets.y), design.x.device
    result = design.x.new_zeros(sites, problems, targets.y.shape[1], design.dim + 1)
    done = torch.zeros(sites, problems, dtype=torch.bool, device=device)
    iterations = torch.zeros(sites, problems, dtype=torch.long, device=device)
    site_ids, problem_ids = torch.arange(sites, device=device), torch.arange(problems, device=device)  # what is left
    objective = _Objective(design, targets)
    shared = objective.preconditioner
    v, gradient = objective.start()
    wide = (min(design.dim, design.n_clips) + 1) * objective.outputs > _WIDEST_NEWTON
    # A shared Hessian costs as much as dim / (2 problems) gradients of the problems that share it, and saves about ten.
    sharpen = design.dim <= 20 * objective.outputs * problems / targets.l2.shape[1]
    active = ~done
    history = History()
    smoothed = objective.precondition(gradient)
    step = -smoothed
    rate = torch.ones(v.shape[:2], dtype=v.dtype, device=device)
    limit = max_iter if wide else min(max_iter, _BEFORE_NEWTON)
    for iteration in range(1, limit + 1):
        move = rate[:, :, None, None] * step
        trial = v + move
        trial_gradient = objective.gradient(trial)
        # Along the step the convex objective's slope rises from `before` < 0. Where it ends clearly positive the step
        # overshot: go back to where the secant puts its zero.
        before, after = _dot(gradient, step), _dot(trial_gradient, step)
        accept = (after <= 0.5 * before.abs()) & active
        smoothed_trial = objective.precondition(trial_gradient)
        if bool(accept.all()):
            history.push(move, trial_gradient - gradient, smoothed_trial - smoothed)
            v, gradient, smoothed = trial, trial_gradient, smoothed_trial
            rate = torch.ones_like(rate)
            step = history.direction(gradient, smoothed)
        else:
            chosen = accept[:, :, None, None]
            history.push(
                torch.where(chosen, move, 0.0),
                torch.where(chosen, trial_gradient - gradient, 0.0),
                torch.where(chosen, smoothed_trial - smoothed, 0.0),
            )
            v = torch.where(chosen, trial, v)
            gradient = torch.where(chosen, trial_gradient, gradient)
            smoothed = torch.where(chosen, smoothed_trial, smoothed)
            shrink = (before / (before - after)).nan_to_num(0.25).clamp(0.05, 0.75)
            rate = torch.where(accept, 1.0, rate * shrink)
            step = torch.where(chosen, history.direction(gradient, smoothed), step)
        finished = accept & (_dot(step, step) <= tol**2 * _dot(v, v))
        if bool(finished.any()):
            rows, columns = torch.nonzero(finished, as_tuple=True)
            # the last step is smaller than the tolerance, costs no gradient, and is right to first order
            where = site_ids[rows], problem_ids[columns]
            result[where] = v[rows, columns] + step[rows, columns]
            done[where] = True
            iterations[where] = iteration
            active = active & ~finished
            sites_left, problems_left = active.any(dim=1), active.any(dim=0)
            if not bool(sites_left.any()):
                break
            by_problem = targets.l2.shape[1] == 1 and int(problems_left.sum()) < 0.8 * active.shape[1]
            if by_problem or int(sites_left.sum()) < 0.8 * active.shape[0]:
                rows = torch.nonzero(sites_left).flatten()
                columns_kept = torch.nonzero(problems_left).flatten() if by_problem else None
                objective.keep(rows, columns_kept)
                history.keep(rows, columns_kept)
                v, gradient, smoothed, step, rate, active = (
                    _cut(t, rows, columns_kept) for t in (v, gradient, smoothed, step, rate, active)
                )
                site_ids = site_ids[rows]
                problem_ids = problem_ids if columns_kept is None else problem_ids[columns_kept]
        if sharpen and iteration == _BEFORE_HESSIAN:
            objective.sharpen(v)
            shared = shared.index_copy(0, site_ids, objective.preconditioner)
            history = History()
            smoothed = objective.precondition(gradient)
            step, rate = -smoothed, torch.ones_like(rate)
    rows, columns = torch.nonzero(active, as_tuple=True)
    if len(rows):
        where = site_ids[rows], problem_ids[columns]
        result[where] = v[rows, columns]
        iterations[where] = limit
    done &= _distance(design, targets, result, shared) <= (_ERROR if tol > _ERROR / 10 else 10 * tol)
    if not wide and max_iter > limit and not bool(done.all()):
        finish_by_newton(design, targets, result, done, iterations, tol=tol)
    w, b = design.to_scaled(result[..., :-1], result[..., -1], targets.fold)
    return Solution(w, b, done, iterations)


def _distance(design: Design, problems: Problems, v: Tensor, preconditioner: Tensor) -> Tensor:
    """Distance of weights from the optimum, as a share of their length, shape (sites, problems).

    A quasi-Newton step from the gradient in float64: the curvature is that of the bound or of the shared Hessian, the
    rounding of single precision, which may hide a gradient, is not in it.
    """
    step = _Gradient(design, problems, torch.float64).gradient(v.double())
    rows = step.view(len(v) * preconditioner.shape[1], -1, step.shape[-1])
    step = (rows @ preconditioner.flatten(0, 1).double()).view_as(step)
    return step.flatten(2).norm(dim=-1) / v.double().flatten(2).norm(dim=-1).clamp_min(1e-300)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return torch.linalg.vecdot(a.flatten(2), b.flatten(2))


def _cut(t: Tensor, rows: Tensor, columns: Tensor | None) -> Tensor:
    t = t[rows]
    return t if columns is None else t[:, columns]
