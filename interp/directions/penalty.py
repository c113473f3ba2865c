"""Which penalty a direction is fitted at: chosen by cross-validation over groups, in one place for all who fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from interp import metrics
from interp._threads import each, workers
from interp.directions.blocks import site_chunks
from interp.directions.registry import Method, find
from interp.directions.solvers.design import Design
from interp.directions.solvers.problems import ClassWeight, Options, Problems, expand, make_problems
from interp.errors import DataError

__all__ = ["Amount", "choose_penalty", "cross_validate"]

Array = NDArray[np.float64]
Amount = Literal["cv"] | float
"""``"cv"``: chosen by cross-validation, or a number."""


def cross_validate(
    design: Design,
    entry: Method,
    problems: Problems,
    grid: NDArray[np.float64],
    held_out: NDArray[np.bool_],
    y: NDArray[np.generic],
    score: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Score every strength of the penalty on the clips that each fold holds out.

    Parameters
    ----------
    design : Design
        Under the weights of all clips first, then of every fold's training part.
    entry : Method
    problems : Problems
        One labelling under the folds; penalties unset.
    grid : array of shape (penalties,)
        In rising order.
    held_out : bool array of shape (folds, clips)
    y : array of shape (clips,)
    score : str
        One of :data:`interp.metrics.SCORES`.

    Returns
    -------
    penalty, score : Tensor of shape (sites,)
        The best, of equally good ones the strongest, and its mean score over folds.
    converged : bool Tensor of shape (sites,)
        Whether all fits did.
    """
    penalties = torch.as_tensor(grid, dtype=design.dtype, device=design.x.device).expand(design.n_sites, -1)
    if entry.penalty == "l2" and not design.standardize:  # a penalty means the same on features of any size
        penalties = penalties * design.variance[:, None]
    expanded = expand(problems, len(held_out), 1, slice(0, 1), penalties)
    solution = entry.solve(design, expanded, Options())
    lead = (design.n_sites, len(grid), len(held_out))
    outputs = problems.y.shape[1]
    w, b = solution.w.view(*lead, outputs, -1), solution.b.view(*lead, outputs)
    scores = []
    for k, rows in enumerate(held_out):
        index = torch.as_tensor(np.flatnonzero(rows), device=design.x.device)
        decision = design.decision(w[:, :, k], b[:, :, k], index)
        scores.append(metrics.score(score, decision, torch.as_tensor(y[rows], device=design.x.device)).double())
    mean = torch.stack(scores, dim=-1).nanmean(-1)  # [sites, penalties]
    # Of equally good penalties the strongest: the last of the maxima, with penalties in rising order.
    best = (mean - mean.amax(1, keepdim=True) >= -1e-9).double() * torch.arange(1, len(grid) + 1, device=mean.device)
    take = best.argmax(dim=1)[:, None]
    return penalties.gather(1, take)[:, 0], mean.gather(1, take)[:, 0], solution.converged.all(dim=1)


def choose_penalty(
    x: NDArray[np.floating],
    y: NDArray[np.generic],
    fold: NDArray[np.intp],
    method: str,
    *,
    grid: Sequence[float] | None = None,
    graded: bool = False,
    score: str | None = None,
    class_weight: ClassWeight = None,
    standardize: bool | None = None,
    dtype: str = "float32",
    device: str = "cpu",
    memory: int = 2**30,
) -> Array:
    """The strength of a method's penalty that predicts best on clips left out, at every site.

    Parameters
    ----------
    x : array of shape (sites, clips, dim)
    y : array of shape (clips,)
        Class indices or numbers.
    fold : int array of shape (clips,)
        From :func:`interp.splits.group_folds`.
    method : str
        One with a penalty.
    grid : sequence of float, optional
        Strengths; of ``l2`` per clip. The method's own by default.
    graded, score, class_weight, standardize, dtype, device, memory
        As for :func:`interp.directions.fit`; the score is balanced accuracy, or R2 for numbers, by default.

    Returns
    -------
    array of shape (sites,)
        Absolute: what ``l2`` or ``shrinkage`` of :func:`interp.directions.fit` takes.

    Raises
    ------
    DataError
        If the method has no penalty.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(60) % 2
    >>> x = rng.normal(size=(2, 60, 3)) + y[:, None]
    >>> choose_penalty(x, y, np.arange(60) // 12, "ridge").shape
    (2,)
    """
    entry = find(method)
    if not entry.penalty:
        raise DataError(f"{method} has no penalty to choose.")
    score = score or ("r2" if graded else "balanced_accuracy")
    kind = torch.float32 if dtype == "float32" else torch.float64
    amounts = np.sort(np.asarray(entry.grid if grid is None else grid, dtype=float))
    amounts = amounts * len(y) if entry.penalty == "l2" else amounts
    held_out = fold[None] == np.unique(fold)[:, None]
    masks = np.concatenate([np.ones((1, len(y)), dtype=bool), ~held_out])
    options: dict[str, Any] = {"coding": entry.coding, "graded": graded, "class_weight": class_weight}
    problems = make_problems(y[None], masks[1:], dtype=kind, device=device, **options)
    problems.fold += 1  # row 0 is all clips
    outputs, at_once = problems.y.shape[1], workers(device)
    unit = entry.standardize if standardize is None else standardize

    def choose(chunk: tuple[slice, int]) -> Array:
        design = Design(x[chunk[0]], masks, standardize=unit, dtype=kind, device=device)
        chosen, _, _ = cross_validate(design, entry, problems, amounts, held_out, y, score)
        return np.asarray(chosen.double().cpu().numpy())

    chunks = site_chunks(x.shape, len(held_out), len(amounts), 1, outputs, kind.itemsize, memory // at_once, device)
    return np.concatenate(each(choose, chunks, at_once))
