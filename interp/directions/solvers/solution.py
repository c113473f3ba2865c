"""What goes into the solvers, and what comes out: problems over the rows of a design, and weights."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["Solution", "Targets"]


@dataclass
class Targets:
    """Problems over the rows of a design.

    Attributes
    ----------
    y : Tensor of shape (problems, outputs, clips)
        0/1 for one output, one-hot for several.
    weight : Tensor of shape (problems, clips)
        Weight of each row; zero outside the problem's training part.
    fold : long Tensor of shape (problems,)
        Training part of each problem.
    l2 : Tensor of shape (sites, penalties)
        Penalties; problem t uses penalty ``t // (problems / penalties)``.
    """

    y: Tensor
    weight: Tensor
    fold: Tensor
    l2: Tensor

    @property
    def penalty(self) -> Tensor:
        """Penalty of each problem, shape (sites, problems)."""
        return self.l2.repeat_interleave(self.y.shape[0] // self.l2.shape[1], dim=1)


@dataclass
class Solution:
    """Weights on the scaled features of a design.

    Attributes
    ----------
    w : Tensor of shape (sites, problems, outputs, dim)
    b : Tensor of shape (sites, problems, outputs)
    converged : bool Tensor of shape (sites, problems)
    iterations : long Tensor of shape (sites, problems)
    """

    w: Tensor
    b: Tensor
    converged: Tensor
    iterations: Tensor
