"""What goes into the solvers, and what comes out: problems over the rows of a design, and weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["ClassWeight", "Coding", "Options", "Problems", "Solution", "expand", "make_problems"]

ClassWeight = Literal["balanced"] | Mapping[int, float] | None
Coding = Literal["label", "sign"]


@dataclass
class Problems:
    """Problems over the rows of a design, ordered (penalty, fold, labelling).

    Attributes
    ----------
    y : Tensor of shape (problems, outputs, clips)
        0/1 for one output, one-hot for several; -1/+1 in their place where a method asks for signs; numbers for a
        graded trait.
    weight : Tensor of shape (problems, clips)
        Weight of each clip: that of the problem's fold, times that of its class.
    fold : long Tensor of shape (problems,)
        Row of the design's weights that each problem is fitted under.
    l2 : Tensor of shape (sites, penalties)
        Penalties; problem t uses penalty ``t // (problems / penalties)``.
    graded : bool
        Whether ``y`` are numbers.
    """

    y: Tensor
    weight: Tensor
    fold: Tensor
    l2: Tensor
    graded: bool = False

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


@dataclass(frozen=True)
class Options:
    """What some methods need besides the problems.

    Attributes
    ----------
    tol, max_iter : float or None, int
        Stopping rule of iterative methods.
    seed : int
        Of methods that draw.
    first : tuple of int
        Number of the design's first site, and of its first fold and labelling, among all that are fitted.
    """

    tol: float | None = None
    max_iter: int = 1000
    seed: int = 0
    first: tuple[int, int, int] = (0, 0, 0)


def make_problems(
    labels: NDArray[np.generic],
    weights: NDArray[np.floating] | NDArray[np.bool_],
    *,
    coding: Coding = "label",
    graded: bool = False,
    class_weight: ClassWeight = None,
    dtype: torch.dtype = torch.float64,
    device: str = "cpu",
) -> Problems:
    """Problems of all labellings (rows) under all rows of weights, ordered (fold, labelling); penalties unset.

    Parameters
    ----------
    labels : array of shape (labellings, clips)
        Class indices, or numbers.
    weights : array of shape (folds, clips)
    coding : {"label", "sign"}
        Classes as 0 and 1, or as -1 and +1.
    graded, class_weight, dtype, device
        As for :func:`interp.directions.fit`.
    """
    n_folds, n_labels = len(weights), len(labels)
    index = torch.tensor(labels, device=device)  # a copy: labels may be read-only memory
    if graded:
        y = onehot = index.to(dtype)[:, None]
    else:
        n_classes = max(2, int(index.max()) + 1)
        if n_classes == 2:
            y = index.to(dtype)[:, None]
            onehot = torch.cat([1 - y, y], dim=1)
        else:
            y = onehot = torch.nn.functional.one_hot(index.long(), n_classes).mT.to(dtype)
        if coding == "sign":
            y = 2 * y - 1
    mask = torch.as_tensor(weights, device=device).to(dtype)
    weight = mask[:, None].expand(-1, n_labels, -1)
    if class_weight is not None:
        counts = torch.einsum("fn,pkn->fpk", mask, onehot)
        if isinstance(class_weight, str):
            per_class = mask.sum(1)[:, None, None] / (onehot.shape[1] * counts)
        else:
            amounts = [float(class_weight.get(k, 1.0)) for k in range(onehot.shape[1])]
            per_class = torch.as_tensor(amounts, dtype=dtype, device=device).expand(n_folds, n_labels, -1)
        weight = weight * torch.einsum("fpk,pkn->fpn", per_class, onehot)
    fold = torch.arange(n_folds, device=device).repeat_interleave(n_labels)
    y_all = y[None].expand(n_folds, -1, -1, -1).flatten(0, 1) if n_folds > 1 else y
    # one fold: a view of one row of weights, however many labellings
    rows = weight[0] if n_folds == 1 else weight.reshape(n_folds * n_labels, -1)
    return Problems(y_all, rows, fold, torch.zeros(1, 1, dtype=dtype, device=device), graded)


def expand(problems: Problems, n_folds: int, n_labels: int, chosen: slice, l2: Tensor) -> Problems:
    """Problems of some labellings at every penalty of ``l2`` (sites, penalties), ordered (penalty, fold, labelling)."""

    def pick(t: Tensor) -> Tensor:
        if n_folds == 1:
            return t[chosen]
        return t.view(n_folds, n_labels, *t.shape[1:])[:, chosen].flatten(0, 1)

    repeat = l2.shape[1]
    y, weight, fold = pick(problems.y), pick(problems.weight), pick(problems.fold)
    if repeat > 1:
        y, weight, fold = y.repeat(repeat, 1, 1), weight.repeat(repeat, 1), fold.repeat(repeat)
    return Problems(y, weight, fold, l2, problems.graded)
