"""The inverse Hessian that L-BFGS believes in, for many problems at once.

The compact form of Byrd, Nocedal and Schnabel (1994): instead of the two-loop recursion, whose steps come one after the
other, a few small matrix products per problem, which is what a batch of thousands wants.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["History"]

_MEMORY = 6
"""Pairs kept."""


class History:
    """Steps ``s``, gradient differences ``y`` and ``P y`` of the last iterations, for a preconditioner ``P``.

    Tensors are (sites, problems, pairs, width), oldest pair first.
    """

    def __init__(self) -> None:
        self.s = self.y = self.py = self.gamma = torch.empty(0)

    def push(self, s: Tensor, y: Tensor, py: Tensor) -> None:
        """Add a pair of every problem, shape (sites, problems, outputs, dim+1); zeros where a step was rejected."""
        new = [t.flatten(2).unsqueeze(2) for t in (s, y, py)]
        sy, ypy = (torch.linalg.vecdot(new[1], new[i])[..., None] for i in (0, 2))
        usable = (sy > 0) & (ypy > 0)
        first = not self.s.numel()
        gamma = torch.where(usable, sy / ypy, 1.0 if first else self.gamma)
        if not bool(usable.all()):  # rejected, or no curvature left above rounding: the pair leaves no trace
            new = [torch.where(usable, t, 0.0) for t in new]
        if not first:
            old = (self.s, self.y, self.py)
            new = [torch.cat([t[:, :, -(_MEMORY - 1) :], n], dim=2) for t, n in zip(old, new, strict=True)]
        self.s, self.y, self.py = new
        self.gamma = gamma

    def keep(self, rows: Tensor, columns: Tensor | None) -> None:
        """Drop sites (and problems)."""
        cut = [t[rows] for t in (self.s, self.y, self.py, self.gamma)]
        self.s, self.y, self.py, self.gamma = cut if columns is None else [t[:, columns] for t in cut]

    def direction(self, gradient: Tensor, smoothed: Tensor) -> Tensor:
        """Minus the inverse Hessian times the gradient; ``smoothed`` is the preconditioned gradient."""
        s, y, py, gamma = self.s, self.y, self.py, self.gamma
        g = gradient.flatten(2)[..., None]
        r = (s @ y.mT).triu()
        curvature = r.diagonal(dim1=-2, dim2=-1)
        d = y @ (py.mT * gamma)
        d.diagonal(dim1=-2, dim2=-1).add_(curvature)
        curvature += curvature == 0  # in place: an empty pair needs a one on the diagonal, and then solves to zero
        first = torch.linalg.solve_triangular(r, s @ g, upper=True)
        right = torch.baddbmm((d @ first).flatten(0, 1), (py * gamma).flatten(0, 1), g.flatten(0, 1), alpha=-1)
        second = torch.linalg.solve_triangular(r.mT, right.view_as(first), upper=False)
        out = (first * gamma).mT @ py - second.mT @ s
        return torch.addcmul(out, smoothed.flatten(2)[:, :, None], gamma, value=-1).view_as(gradient)
