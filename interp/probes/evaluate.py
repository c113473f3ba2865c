"""One method at every site: cross-validated penalty, a test part touched once, a null from shuffled labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from interp._threads import each, workers
from interp.directions.fit import PENALISED, SHRINKAGES, ClassWeight, expand_targets, make_targets, site_chunks, solve
from interp.directions.solvers.design import Design
from interp.directions.solvers.solution import Targets
from interp.errors import DataError
from interp.probes import metrics

__all__ = ["Evaluation", "Plan", "evaluate_sites"]

_PERMUTATION_BLOCK = 256


@dataclass(frozen=True)
class Plan:
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
    shrinkage: tuple[float, ...] = SHRINKAGES

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
    plan: Plan,
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
        Activations of the plan's clips.
    method : str
        See :func:`interp.directions.fit_many`.
    plan : Plan
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
    # One-hot least squares is ridge on features that keep their spread; for two classes one output says it all.
    standardize = method != "onehot"
    if method == "onehot" and plan.outputs == 1:
        method = "ridge"
    train_rows, test_rows = np.flatnonzero(~plan.test), np.flatnonzero(plan.test)
    fold = plan.fold[train_rows]
    held_out = fold[None] == np.arange(int(fold.max()) + 1)[:, None]
    masks = np.concatenate([np.ones((1, len(train_rows)), dtype=bool), ~held_out])
    outputs, n_folds = plan.outputs, len(held_out)
    chosen = method in PENALISED or method == "lda"
    grid = np.array(plan.penalties if method in PENALISED else [0.0]) * len(train_rows)
    grid = np.array(plan.shrinkage) if method == "lda" else grid
    shape = (len(x), len(train_rows), x.shape[2])
    at_once = workers(device)
    chunks = site_chunks(shape, n_folds, len(grid), 1, outputs, kind.itemsize, memory // at_once, device)
    y_train = plan.y[train_rows]
    cv_targets = make_targets(y_train[None], masks[1:], method, plan.graded, plan.class_weight, kind, device)
    cv_targets.fold += 1  # mask 0 is the whole training part
    one = make_targets(y_train[None], masks[:1], method, plan.graded, plan.class_weight, torch.float64, device)
    shuffled = []
    for start in range(0, len(plan.shuffles), _PERMUTATION_BLOCK):
        labels = plan.y[plan.shuffles[start : start + _PERMUTATION_BLOCK]]
        targets = make_targets(labels[:, train_rows], masks[:1], method, plan.graded, plan.class_weight, kind, device)
        shuffled.append((targets, torch.as_tensor(labels[:, test_rows], device=device)))

    def evaluate_block(chunk: tuple[slice, int]) -> Evaluation:
        rows = chunk[0]
        part = x[rows]
        design = Design(part[:, train_rows], masks, standardize=standardize, dtype=kind, device=device)
        l2, cv_score, cv_ok = _cross_validate(design, method, plan, cv_targets, grid, held_out, y_train)
        exact = Design(part[:, train_rows], masks[:1], standardize=standardize, dtype=torch.float64, device=device)
        final = solve(
            method,
            exact,
            Targets(one.y, one.weight, one.fold, l2.double()[:, None]),
            graded=plan.graded,
        )
        unseen = _scaled(exact, part[:, test_rows])
        decision = _decide(unseen, final.w, final.b)[:, 0]
        y_test = torch.as_tensor(plan.y[test_rows], device=device)
        test_score = metrics.score(plan.score, decision, y_test)
        null, null_ok = _null(design, part[:, test_rows], method, plan, l2, shuffled)
        coef, intercept = exact.to_raw(final.w, final.b)
        result = Evaluation(
            cv_score=_array(cv_score),
            test_score=_array(test_score),
            l2=_array(l2 if chosen else torch.full_like(l2, torch.nan)),
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


def _cross_validate(
    design: Design,
    method: str,
    plan: Plan,
    targets: Targets,
    grid: NDArray[np.float64],
    held_out: NDArray[np.bool_],
    y: NDArray[np.generic],
) -> tuple[Tensor, Tensor, Tensor]:
    """Chosen penalty, its mean score over folds, and whether all fits converged; each of shape (sites,)."""
    penalties = torch.as_tensor(grid, dtype=design.dtype, device=design.x.device).expand(design.n_sites, -1)
    if not design.standardize:  # a penalty means the same on features of any size
        penalties = penalties * design.variance[:, None]
    expanded = expand_targets(targets, len(held_out), 1, slice(0, 1), penalties)
    solution = solve(method, design, expanded, graded=plan.graded)
    lead = (design.n_sites, len(grid), len(held_out))
    w, b = solution.w.view(*lead, plan.outputs, -1), solution.b.view(*lead, plan.outputs)
    scores = []
    for k, rows in enumerate(held_out):
        index = torch.as_tensor(np.flatnonzero(rows), device=design.x.device)
        decision = design.decision(w[:, :, k], b[:, :, k], index)
        scores.append(metrics.score(plan.score, decision, torch.as_tensor(y[rows], device=design.x.device)).double())
    mean = torch.stack(scores, dim=-1).nanmean(-1)  # [sites, penalties]
    # Of equally good penalties the strongest: the last of the maxima, with penalties in rising order.
    best = (mean - mean.amax(1, keepdim=True) >= -1e-9).double() * torch.arange(1, len(grid) + 1, device=mean.device)
    choice = best.argmax(dim=1)
    take = choice[:, None]
    return penalties.gather(1, take)[:, 0], mean.gather(1, take)[:, 0], solution.converged.all(dim=1)


def _null(
    design: Design,
    x_test: NDArray[np.floating],
    method: str,
    plan: Plan,
    l2: Tensor,
    shuffled: list[tuple[Targets, Tensor]],
) -> tuple[Tensor, Tensor]:
    """Test scores on shuffled labels, shape (permutations, sites), and whether all fits converged."""
    unseen = _scaled(design, x_test)
    blocks = []
    ok = torch.ones(design.n_sites, dtype=torch.bool, device=design.x.device)
    for targets, y_test in shuffled:
        targets = replace(targets, l2=l2[:, None])
        solution = solve(method, design, targets, graded=plan.graded)
        decision = _decide(unseen, solution.w, solution.b)
        blocks.append(metrics.score(plan.score, decision, y_test).double().T)
        ok &= solution.converged.all(dim=1)
    return torch.cat(blocks) if blocks else torch.zeros(0, design.n_sites, dtype=torch.float64), ok


def _scaled(design: Design, x: NDArray[np.floating]) -> Tensor:
    raw = torch.as_tensor(x).to(design.x)
    return (raw - design.shift[:, None]) / design.scale[:, None]


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
