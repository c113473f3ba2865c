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
_ERROR = {torch.float32: 3e-4, torch.float64: 1e-5}
"""Distance to the optimum, as a share of the weights' length, that counts as converged."""


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


class _Search:
    """Quasi-Newton search of all problems side by side; those that are done leave it.

    Attributes
    ----------
    result : Tensor of shape (sites, problems, outputs, dim+1)
    done, iterations : Tensor of shape (sites, problems)
    shared : Tensor of shape (sites, penalties, dim+1, dim+1)
        Latest preconditioner of every site and penalty.
    """

    def __init__(self, design: Design, problems: Problems, tol: float) -> None:
        sites, count, device = design.n_sites, len(problems.y), design.x.device
        self.tol, self.objective, self.history = tol, _Objective(design, problems), History()
        self.result = design.x.new_zeros(sites, count, problems.y.shape[1], design.dim + 1)
        self.done = torch.zeros(sites, count, dtype=torch.bool, device=device)
        self.iterations = torch.zeros(sites, count, dtype=torch.long, device=device)
        self.site_ids, self.problem_ids = torch.arange(sites, device=device), torch.arange(count, device=device)
        self.active = ~self.done
        self.v, self.gradient = self.objective.start()
        self.shared = self.objective.preconditioner
        self._restart()

    def _restart(self) -> None:
        self.history = History()
        self.smoothed = self.objective.precondition(self.gradient)
        self.step = -self.smoothed
        self.rate = torch.ones(self.v.shape[:2], dtype=self.v.dtype, device=self.v.device)

    def sharpen(self) -> None:
        """Go on with one Hessian for each site and penalty in place of the bound."""
        self.objective.sharpen(self.v)
        self.shared = self.shared.index_copy(0, self.site_ids, self.objective.preconditioner)
        self._restart()

    def advance(self, iteration: int) -> bool:
        """Take a step, or go back on one; returns whether any problem is left."""
        move = self.rate[:, :, None, None] * self.step
        trial = self.v + move
        gradient = self.objective.gradient(trial)
        # Along the step the convex objective's slope rises from `before` < 0. Where it ends clearly positive the step
        # overshot: go back to where the secant puts its zero.
        before, after = _dot(self.gradient, self.step), _dot(gradient, self.step)
        accept = (after <= 0.5 * before.abs()) & self.active
        smoothed = self.objective.precondition(gradient)
        if bool(accept.all()):
            self.history.push(move, gradient - self.gradient, smoothed - self.smoothed)
            self.v, self.gradient, self.smoothed = trial, gradient, smoothed
            self.rate = torch.ones_like(self.rate)
            self.step = self.history.direction(gradient, smoothed)
        else:
            chosen = accept[:, :, None, None]
            self.history.push(
                torch.where(chosen, move, 0.0),
                torch.where(chosen, gradient - self.gradient, 0.0),
                torch.where(chosen, smoothed - self.smoothed, 0.0),
            )
            self.v = torch.where(chosen, trial, self.v)
            self.gradient = torch.where(chosen, gradient, self.gradient)
            self.smoothed = torch.where(chosen, smoothed, self.smoothed)
            shrink = (before / (before - after)).nan_to_num(0.25).clamp(0.05, 0.75)
            self.rate = torch.where(accept, 1.0, self.rate * shrink)
            self.step = torch.where(chosen, self.history.direction(self.gradient, self.smoothed), self.step)
        finished = accept & (_dot(self.step, self.step) <= self.tol**2 * _dot(self.v, self.v))
        return not bool(finished.any()) or self._retire(finished, iteration)

    def _retire(self, finished: Tensor, iteration: int) -> bool:
        rows, columns = torch.nonzero(finished, as_tuple=True)
        # the last step is smaller than the tolerance, costs no gradient, and is right to first order
        where = self.site_ids[rows], self.problem_ids[columns]
        self.result[where] = self.v[rows, columns] + self.step[rows, columns]
        self.done[where] = True
        self.iterations[where] = iteration
        self.active = self.active & ~finished
        sites_left, problems_left = self.active.any(dim=1), self.active.any(dim=0)
        if not bool(sites_left.any()):
            return False
        by_problem = self.shared.shape[1] == 1 and int(problems_left.sum()) < 0.8 * self.active.shape[1]
        if by_problem or int(sites_left.sum()) < 0.8 * self.active.shape[0]:
            rows = torch.nonzero(sites_left).flatten()
            kept = torch.nonzero(problems_left).flatten() if by_problem else None
            self.objective.keep(rows, kept)
            self.history.keep(rows, kept)
            for name in ("v", "gradient", "smoothed", "step", "rate", "active"):
                part = getattr(self, name)[rows]
                setattr(self, name, part if kept is None else part[:, kept])
            self.site_ids = self.site_ids[rows]
            self.problem_ids = self.problem_ids if kept is None else self.problem_ids[kept]
        return True

    def leave(self, limit: int) -> None:
        """Note where the problems stand that are not done."""
        rows, columns = torch.nonzero(self.active, as_tuple=True)
        where = self.site_ids[rows], self.problem_ids[columns]
        self.result[where] = self.v[rows, columns]
        self.iterations[where] = limit


def solve_logistic(design: Design, problems: Problems, *, tol: float, max_iter: int = 1000) -> Solution:
    """Solve all problems of one design.

    Parameters
    ----------
    design : Design
        Activations and folds.
    problems : Problems
        Labels, row weights and penalties; every training part holds every class.
    tol : float
        Stop when the quasi-Newton step is at most this share of the weights' length.
    max_iter : int
        Gradients evaluated per problem at most; Newton steps take over after 40, except for very wide problems.

    Returns
    -------
    Solution
        Converged where the gradient in float64 says so.
    """
    search = _Search(design, problems, tol)
    outputs, penalties = problems.y.shape[1], problems.l2.shape[1]
    wide = (min(design.dim, design.n_clips) + 1) * outputs > _WIDEST_NEWTON
    # A shared Hessian costs as much as dim / (2 problems) gradients of the problems that share it, and saves about ten.
    sharpen = design.dim <= 20 * outputs * len(problems.y) / penalties
    limit = max_iter if wide else min(max_iter, _BEFORE_NEWTON)
    for iteration in range(1, limit + 1):
        if not search.advance(iteration):
            break
        if sharpen and iteration == _BEFORE_HESSIAN:
            search.sharpen()
    search.leave(limit)
    v, done, iterations = search.result, search.done, search.iterations
    done &= _distance(design, problems, v, search.shared) <= _ERROR[design.dtype]
    if not wide and max_iter > limit and not bool(done.all()):
        finish_by_newton(design, problems, v, done, iterations, tol=tol)
    return Solution(*design.to_scaled(v[..., :-1], v[..., -1], problems.fold), done, iterations)


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
