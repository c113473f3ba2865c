"""One method at every site: cross-validated penalty, a test part touched once, a null from shuffled labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from interp import metrics
from interp._threads import each, workers
from interp.directions.blocks import site_chunks
from interp.directions.penalty import cross_validate
from interp.directions.registry import SHRINKAGE_GRID, find
from interp.directions.solvers.design import Design
from interp.directions.solvers.problems import ClassWeight, Options, Problems, make_problems
from interp.errors import DataError

__all__ = ["Evaluation", "Split", "evaluate_sites"]

_PERMUTATION_BLOCK = 256


@dataclass(frozen=True)
class Split:
    """Who is trained and tested on what; shared by all sites and methods, so that they can be compared.

    Attributes
    ----------
    y : array of shape (clips,)
        Class indices or numbers.
    groups : array of shape (clips,)
    test : bool array of shape (clips,)
        The test part.
    fold : int array of shape (clips,)
        Cross-validation fold of the training clips; -1 in the test part.
    shuffles : int array of shape (permutations, clips)
        Label permutations that keep to their side of the split.
    graded : bool
    score : str
        What is reported and what penalties are chosen by.
    penalties : tuple of float
        Penalties per training clip that cross-validation chooses from.
    class_weight : {"balanced"}, dict or None
    shrinkage : tuple of float
        Amounts that cross-validation chooses from for LDA.
    """

    y: NDArray[np.generic]
    groups: NDArray[np.generic]
    test: NDArray[np.bool_]
    fold: NDArray[np.intp]
    shuffles: NDArray[np.intp]
    graded: bool
    score: str
    penalties: tuple[float, ...]
    class_weight: ClassWeight = None
    shrinkage: tuple[float, ...] = SHRINKAGE_GRID

    @property
    def outputs(self) -> int:
        """Outputs of a probe."""
        return 1 if self.graded or int(self.y.max()) == 1 else int(self.y.max()) + 1

    @property
    def chance(self) -> float:
        """What guessing reaches on the test part."""
        return metrics.chance(self.score, torch.as_tensor(self.y[self.test]))


@dataclass
class Evaluation:
    """Results of one method, one row per site.

    Attributes
    ----------
    cv_score, test_score, l2 : array of shape (sites,)
        ``l2`` is the chosen penalty, of LDA the chosen shrinkage (NaN for methods without).
    coef : array of shape (sites, outputs, dim)
        Weights of the probe fitted on the whole training part, raw basis, float64.
    intercept : array of shape (sites, outputs)
    decision : array of shape (sites, outputs, test clips)
        Decision values on the test part.
    train_decision : array of shape (sites, outputs, training clips)
    converged : bool array of shape (sites,)
        Whether every fit behind the row converged.
    null : array of shape (permutations, sites)
        Test scores on shuffled labels.
    """

    cv_score: NDArray[np.float64]
    test_score: NDArray[np.float64]
    l2: NDArray[np.float64]
    coef: NDArray[np.float64]
    intercept: NDArray[np.float64]
    decision: NDArray[np.float64]
    train_decision: NDArray[np.float64]
    converged: NDArray[np.bool_]
    null: NDArray[np.float64]


def evaluate_sites(
    x: NDArray[np.floating],
    method: str,
    split: Split,
    *,
    dtype: str = "float32",
    device: str = "cpu",
    memory: int = 2**30,
    tick: Callable[[int], object] = lambda done: None,
) -> Evaluation:
    """Evaluate one method at every site.

    Parameters
    ----------
    x : array of shape (sites, clips, dim)
        Activations of the split's clips.
    method : str
        See :func:`interp.directions.fit`.
    split : Split
        Splits, labels, shuffles.
    dtype : {"float32", "float64"}
        Arithmetic of cross-validation and permutations; the probe that is reported and made a direction of is always
        fitted in float64.
    device, memory
        Where to compute, and the bytes it may take.
    tick : callable
        Called with the number of sites done.

    Returns
    -------
    Evaluation
    """
    kind = torch.float32 if dtype == "float32" else torch.float64
    entry = find(method)
    train_rows, test_rows = np.flatnonzero(~split.test), np.flatnonzero(split.test)
    fold = split.fold[train_rows]
    held_out = fold[None] == np.arange(int(fold.max()) + 1)[:, None]
    masks = np.concatenate([np.ones((1, len(train_rows)), dtype=bool), ~held_out])
    outputs, n_folds = split.outputs, len(held_out)
    grid = np.array(split.penalties if entry.penalty == "l2" else [0.0]) * len(train_rows)
    grid = np.array(split.shrinkage) if entry.penalty == "shrinkage" else grid
    shape = (len(x), len(train_rows), x.shape[2])
    at_once = workers(device)
    chunks = site_chunks(shape, n_folds, len(grid), 1, outputs, kind.itemsize, memory // at_once, device)
    y_train = split.y[train_rows]
    options: dict[str, Any] = {"coding": entry.coding, "graded": split.graded, "class_weight": split.class_weight}
    cv_problems = make_problems(y_train[None], masks[1:], dtype=kind, device=device, **options)
    cv_problems.fold += 1  # mask 0 is the whole training part
    one = make_problems(y_train[None], masks[:1], dtype=torch.float64, device=device, **options)
    shuffled = _shuffled(split, train_rows, test_rows, dtype=kind, device=device, **options)

    def evaluate_block(chunk: tuple[slice, int]) -> Evaluation:
        rows = chunk[0]
        part = x[rows]
        inner = part[:, train_rows]
        design = Design(inner, masks, standardize=entry.standardize, dtype=kind, device=device)
        l2, cv_score, cv_ok = cross_validate(design, entry, cv_problems, grid, held_out, y_train, split.score)
        exact = Design(inner, masks[:1], standardize=entry.standardize, dtype=torch.float64, device=device)
        final = entry.solve(exact, replace(one, l2=l2.double()[:, None]), Options())
        unseen = exact.scaled(part[:, test_rows])
        decision = _decide(unseen, final.w, final.b)[:, 0]
        y_test = torch.as_tensor(split.y[test_rows], device=device)
        test_score = metrics.score(split.score, decision, y_test)
        null, null_ok = _null(design, part[:, test_rows], method, split, l2, shuffled)
        coef, intercept = exact.to_raw(final.w, final.b)
        result = Evaluation(
            cv_score=_array(cv_score),
            test_score=_array(test_score),
            l2=_array(l2 if entry.penalty else torch.full_like(l2, torch.nan)),
            coef=_array(coef[:, 0]),
            intercept=_array(intercept[:, 0]),
            decision=_array(decision),
            train_decision=_array(exact.decision(final.w, final.b)[:, 0]),
            converged=(cv_ok & final.converged[:, 0] & null_ok).cpu().numpy(),
            null=_array(null),
        )
        tick(rows.stop - rows.start)
        return result

    return _joined(each(evaluate_block, chunks, at_once))


def _shuffled(
    split: Split, train_rows: NDArray[np.intp], test_rows: NDArray[np.intp], *, device: str, **options: Any
) -> list[tuple[Problems, Tensor]]:
    """Problems of shuffled labels on the whole training part, in blocks, with the shuffled labels of the test part."""
    everything, blocks = np.ones((1, len(train_rows)), dtype=bool), []
    for start in range(0, len(split.shuffles), _PERMUTATION_BLOCK):
        labels = split.y[split.shuffles[start : start + _PERMUTATION_BLOCK]]
        problems = make_problems(labels[:, train_rows], everything, device=device, **options)
        blocks.append((problems, torch.as_tensor(labels[:, test_rows], device=device)))
    return blocks


def _null(
    design: Design,
    x_test: NDArray[np.floating],
    method: str,
    split: Split,
    l2: Tensor,
    shuffled: list[tuple[Problems, Tensor]],
) -> tuple[Tensor, Tensor]:
    """Test scores on shuffled labels, shape (permutations, sites), and whether all fits converged."""
    unseen = design.scaled(x_test)
    blocks = []
    ok = torch.ones(design.n_sites, dtype=torch.bool, device=design.x.device)
    for problems, y_test in shuffled:
        solution = find(method).solve(design, replace(problems, l2=l2[:, None]), Options())
        decision = _decide(unseen, solution.w, solution.b)
        blocks.append(metrics.score(split.score, decision, y_test).double().T)
        ok &= solution.converged.all(dim=1)
    return torch.cat(blocks) if blocks else torch.zeros(0, design.n_sites, dtype=torch.float64), ok


def _decide(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    flat = torch.baddbmm(b.flatten(1)[..., None], w.flatten(1, 2), x.mT)
    return flat.view(*b.shape, -1)


def _array(t: Tensor) -> NDArray[np.float64]:
    return np.asarray(t.double().cpu().numpy())


def _joined(results: list[Evaluation]) -> Evaluation:
    if not results:
        raise DataError("no site to evaluate.")
    names = list(Evaluation.__dataclass_fields__)
    axis = {"null": 1}
    return Evaluation(*(np.concatenate([getattr(r, n) for r in results], axis=axis.get(n, 0)) for n in names))
