"""Logistic regression for many sites, folds, penalties and labellings at once.

Each problem is scikit-learn's: minimise ``sum_i weight_i * loss_i + l2/2 * |u|^2`` (``l2 = 1/C``) over weights on
fold-standardised features and an unpenalised intercept, binary or multinomial.

Newton's method spends nearly all its time forming Hessians: ``X^T diag(p(1-p)) X`` for every problem and iteration.
Here the fixed bound of Böhning and Lindsay (1988; Böhning 1992), ``X^T X / 4 + l2`` (``/ 2`` for softmax), is inverted
once per site and penalty, shared by all folds and label permutations, and used to precondition a batched L-BFGS. An
iteration is then two matrix products, and the first step from zero is the ridge solution, a warm start for free.
Problems on which that is slow (nearly separable ones with a weak penalty) are finished by exact Newton steps in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from interp.probes.design import Design
from interp.probes.newton import finish_by_newton
from interp.probes.solution import Solution, Targets

__all__ = ["solve_logistic"]

_MEMORY = 6
"""Pairs kept by L-BFGS."""


class _Objective:
    """Gradient and preconditioner of all problems; the state is ``[u, b]`` of shape (sites, problems, outputs, dim+1)."""

    def __init__(self, design: Design, targets: Targets) -> None:
        self.x, self.y, self.weight = design.x, targets.y, targets.weight
        self.fold, self.l2 = targets.fold, targets.l2
        self.inverse, self.mean = design.inverse[:, self.fold, None], design.mean[:, self.fold, None]
        self.penalty = targets.penalty[:, :, None, None]
        self.outputs = self.y.shape[1]
        self.mass = self.weight.sum(dim=1)  # [problems]
        self.build(design)

    def build(self, design: Design) -> None:
        """Invert the bound once per site and penalty."""
        bound = 0.25 if self.outputs == 1 else 0.5
        share = self.mass.mean() / design.n_clips
        gram = design.gram_all.double() * float(bound * share)
        eye = torch.eye(design.dim, dtype=torch.float64, device=gram.device)
        matrix = gram[:, None] + self.l2.double()[:, :, None, None] * eye
        self.inverse_bound = torch.cholesky_inverse(torch.linalg.cholesky(matrix)).to(self.x.dtype)
        self.inverse_mass = (1 / (bound * self.mass))[:, None]

    def start(self) -> tuple[Tensor, Tensor]:
        """Zero weights, intercepts at the class frequencies, and the gradient there (half the cost of any other)."""
        share = (self.y * self.weight[:, None]).sum(-1) / self.mass[:, None]
        residual = (share[..., None] - self.y) * self.weight[:, None]
        b = torch.logit(share) if self.outputs == 1 else share.log()
        if self.outputs > 1:
            b = b - b.mean(dim=1, keepdim=True)
        sites, dim = self.x.shape[0], self.x.shape[2]
        v = self.x.new_zeros(sites, *share.shape, dim + 1)
        v[..., -1] = b
        return v, self._assemble(residual.flatten(0, 1) @ self.x, residual.sum(-1).expand(sites, -1, -1), v)

    def _assemble(self, product: Tensor, total: Tensor, v: Tensor) -> Tensor:
        """Gradient in ``[u, b]`` from ``residual @ x'`` and the residuals' sums."""
        gradient = torch.empty_like(v)
        part = product.view(*v.shape[:-1], -1) - total[..., None] * self.mean
        torch.addcmul(part * self.inverse, self.penalty.expand_as(part), v[..., :-1], out=gradient[..., :-1])
        gradient[..., -1] = total
        return gradient

    def gradient(self, v: Tensor) -> Tensor:
        """Gradient of every problem: two matrix products."""
        w = v[..., :-1] * self.inverse
        b = v[..., -1] - (w * self.mean).sum(-1)
        z = torch.baddbmm(b.flatten(1)[..., None], w.flatten(1, 2), self.x.mT).view(*b.shape, -1)
        if self.outputs == 1:
            z.sigmoid_()
        else:
            z = z.softmax(dim=2)
        z.sub_(self.y).mul_(self.weight[:, None])
        return self._assemble(z.flatten(1, 2) @ self.x, z.sum(-1), v)

    def precondition(self, q: Tensor) -> Tensor:
        """The inverse of the bound, applied."""
        sites, penalties = self.inverse_bound.shape[:2]
        out = torch.empty_like(q)
        u = q[..., :-1].reshape(sites * penalties, -1, q.shape[-1] - 1)
        out[..., :-1] = (u @ self.inverse_bound.flatten(0, 1)).view(*q.shape[:-1], -1)
        out[..., -1] = q[..., -1] * self.inverse_mass
        return out

    def keep(self, sites: Tensor, problems: Tensor | None) -> None:
        """Drop the sites (and problems) that are done."""
        self.x, self.inverse_bound = self.x[sites], self.inverse_bound[sites]
        self.inverse, self.mean, self.penalty = self.inverse[sites], self.mean[sites], self.penalty[sites]
        if problems is not None:
            self.y, self.weight, self.mass = self.y[problems], self.weight[problems], self.mass[problems]
            self.inverse_mass = self.inverse_mass[problems]
            self.inverse, self.mean = self.inverse[:, problems], self.mean[:, problems]
            self.penalty = self.penalty[:, problems]


def solve_logistic(design: Design, targets: Targets, *, tol: float, max_iter: int = 200) -> Solution:
    """Solve all problems of one design.

    Parameters
    ----------
    design : Design
        Activations and folds.
    targets : Targets
        Labels, row weights and penalties; every training part holds every class.
    tol : float
        Stop when the quasi-Newton step is at most this share of the weights' length.
    max_iter : int
        Gradients evaluated per problem before Newton steps take over (or, for very wide problems, before giving up).

    Returns
    -------
    Solution
    """
    objective = _Objective(design, targets)
    problems = targets.y.shape[0]
    v, gradient = objective.start()
    done = torch.zeros(v.shape[:2], dtype=torch.bool, device=v.device)
    iterations = torch.zeros(v.shape[:2], dtype=torch.long, device=v.device)
    wide = (design.dim + 1) * objective.outputs > _WIDEST_NEWTON
    result, site_ids = v.clone(), torch.arange(design.n_sites, device=v.device)
    problem_ids = torch.arange(problems, device=v.device)
    history = _History()
    step = -objective.precondition(gradient)
    rate = torch.ones(v.shape[:2], dtype=v.dtype, device=v.device)
    active = torch.ones_like(done)
    for iteration in range(1, (max_iter if wide else min(max_iter, _BEFORE_NEWTON)) + 1):
        move = torch.where(active, rate, torch.zeros_like(rate))[:, :, None, None] * step
        trial = v + move
        trial_gradient = objective.gradient(trial)
        before, after = _dot(gradient, step), _dot(trial_gradient, step)
        # Along the step the convex objective's slope rises from `before` < 0; stopping where it is clearly positive
        # means overshooting, so go back to where the secant puts its zero.
        accept = (after <= 0.5 * before.abs()) & active
        if not bool(accept.all()):
            shrink = (before / (before - after)).nan_to_num(0.25).clamp(0.05, 0.75)
            rate = torch.where(accept, torch.ones_like(rate), rate * shrink)
        else:
            rate = torch.ones_like(rate)
        chosen = accept[:, :, None, None]
        history.push(torch.where(chosen, move, 0.0), torch.where(chosen, trial_gradient - gradient, 0.0))
        v = torch.where(chosen, trial, v)
        gradient = torch.where(chosen, trial_gradient, gradient)
        new_step = history.direction(gradient, objective.precondition)
        step = torch.where(chosen, new_step, step)
        length = _dot(v, v).sqrt()
        finished = accept & (_dot(step, step).sqrt() <= tol * length)
        if bool(finished.any()):
            # one last step that costs no gradient: the quasi-Newton step is smaller than the tolerance, and right
            v = torch.where(finished[:, :, None, None], v + step, v)
            rows, columns = torch.nonzero(finished, as_tuple=True)
            result[site_ids[rows], problem_ids[columns]] = v[rows, columns]
            done[site_ids[rows], problem_ids[columns]] = True
            iterations[site_ids[rows], problem_ids[columns]] = iteration
            active = active & ~finished
            sites_left = active.any(dim=1)
            columns_left = active.any(dim=0)
            by_column = targets.l2.shape[1] == 1 and int(columns_left.sum()) < 0.7 * active.shape[1]
            if not bool(sites_left.any()):
                break
            if by_column or int(sites_left.sum()) < 0.7 * active.shape[0]:
                rows = torch.nonzero(sites_left).flatten()
                columns_kept = torch.nonzero(columns_left).flatten() if by_column else None
                objective.keep(rows, columns_kept)
                history.keep(rows, columns_kept)
                cut = _Cut(rows, columns_kept)
                v, gradient, step, rate, active = (cut(t) for t in (v, gradient, step, rate, active))
                site_ids = site_ids[rows]
                problem_ids = problem_ids if columns_kept is None else problem_ids[columns_kept]
    rows, columns = torch.nonzero(active, as_tuple=True)
    if len(rows):
        result[site_ids[rows], problem_ids[columns]] = v[rows, columns]
        iterations[site_ids[rows], problem_ids[columns]] = iteration
        if not wide:
            finish_by_newton(design, targets, result, done, iterations, tol=tol)
    w, b = design.to_scaled(result[..., :-1], result[..., -1], targets.fold)
    return Solution(w, b, done, iterations)


_WIDEST_NEWTON = 800
"""Unknowns beyond which a Hessian per problem is too much; L-BFGS goes on instead."""
_BEFORE_NEWTON = 40
"""Gradients after which a problem counts as hard."""


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(dim=(2, 3))


@dataclass
class _Cut:
    rows: Tensor
    columns: Tensor | None

    def __call__(self, t: Tensor) -> Tensor:
        t = t[self.rows]
        return t if self.columns is None else t[:, self.columns]


class _History:
    """The last steps and gradient differences of L-BFGS, per problem."""

    def __init__(self) -> None:
        self.pairs: list[tuple[Tensor, Tensor, Tensor]] = []

    def push(self, s: Tensor, y: Tensor) -> None:
        sy = _dot(s, y)
        floor = torch.finfo(s.dtype).eps * (_dot(s, s) * _dot(y, y)).sqrt()
        rho = torch.where(sy > floor, 1 / sy, torch.zeros_like(sy))  # a rejected step leaves no trace
        self.pairs.append((s, y, rho))
        del self.pairs[:-_MEMORY]

    def keep(self, rows: Tensor, columns: Tensor | None) -> None:
        cut = _Cut(rows, columns)
        self.pairs = [(cut(s), cut(y), cut(rho)) for s, y, rho in self.pairs]

    def direction(self, gradient: Tensor, precondition: Callable[[Tensor], Tensor]) -> Tensor:
        """Minus the quasi-Newton inverse Hessian times the gradient (two-loop recursion)."""
        q, alphas = gradient.clone(), []
        for s, y, rho in reversed(self.pairs):
            alpha = rho * _dot(s, q)
            q -= alpha[:, :, None, None] * y
            alphas.append(alpha)
        s, y, rho = self.pairs[-1]
        curvature = _dot(y, precondition(y)) * rho
        scale = torch.where(curvature > 0, 1 / curvature, torch.ones_like(curvature))
        q = precondition(q) * scale[:, :, None, None]
        for (s, y, rho), alpha in zip(self.pairs, reversed(alphas), strict=True):
            beta = rho * _dot(y, q)
            q += (alpha - beta)[:, :, None, None] * s
        return -q
