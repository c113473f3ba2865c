"""One call that fits a linear probe at every site, for every fold, penalty and labelling: :func:`fit_many`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from interp._threads import each, workers
from interp.directions.solvers import linear, sklearn_loop
from interp.directions.solvers.design import Design
from interp.directions.solvers.logistic import solve_logistic
from interp.directions.solvers.solution import Solution, Targets
from interp.errors import DataError

__all__ = ["METHODS", "Fits", "fit_many", "make_targets", "site_chunks", "solve"]

Method = Literal["logistic", "ridge", "lda", "mean_diff", "onehot"]
ClassWeight = Literal["balanced"] | Mapping[int, float] | None
METHODS: tuple[str, ...] = ("logistic", "ridge", "lda", "mean_diff", "onehot")
PENALISED = ("logistic", "ridge", "onehot")
GRADED = ("ridge", "mean_diff")
"""Methods that take graded traits."""

SHRINKAGES = (0.01, 0.03, 0.1, 0.3, 1.0)
"""Shrinkages that cross-validation chooses from for LDA."""

TOLERANCE = {torch.float64: 1e-7, torch.float32: 1e-4}
_CACHE_BYTES = 8 * 2**20
"""Working set of a block on a CPU: large enough to hide the cost of a call, small enough for the outer cache."""
_HISTORY = 24
"""Vectors of the problem's width that L-BFGS holds at once, with temporaries."""


@dataclass(frozen=True)
class Fits:
    """Probes in the raw basis.

    Attributes
    ----------
    coef : array of shape (sites, penalties, folds, labellings, outputs, dim)
        Weights; one output for binary and graded targets, one per class otherwise.
    intercept : array of shape (sites, penalties, folds, labellings, outputs)
    converged : bool array of shape (sites, penalties, folds, labellings)
    iterations : int array of shape (sites, penalties, folds, labellings)
    """

    coef: NDArray[np.floating]
    intercept: NDArray[np.floating]
    converged: NDArray[np.bool_]
    iterations: NDArray[np.int64]

    def decision(self, x: ArrayLike) -> NDArray[np.floating]:
        """Decision values of activations of shape (sites, clips, dim).

        Returns
        -------
        array of shape (sites, penalties, folds, labellings, outputs, clips)
        """
        x = np.asarray(x)
        flat = self.coef.reshape(len(self.coef), -1, self.coef.shape[-1]) @ x.swapaxes(1, 2)
        return np.asarray(flat.reshape(*self.coef.shape[:-1], -1) + self.intercept[..., None])


def fit_many(
    x: NDArray[np.floating],
    y: ArrayLike,
    *,
    method: Method = "logistic",
    l2: float | Sequence[float] = 1.0,
    train: ArrayLike | None = None,
    class_weight: ClassWeight = None,
    standardize: bool = True,
    shrinkage: float | Sequence[float] = 0.1,
    graded: bool | None = None,
    dtype: Literal["float32", "float64"] = "float64",
    device: str = "cpu",
    memory: int = 2**30,
    tol: float | None = None,
    max_iter: int = 1000,
    solver: Literal["batched", "sklearn"] = "batched",
) -> Fits:
    """Fit a probe at every site, for every fold, penalty and labelling.

    Parameters
    ----------
    x : array of shape (sites, clips, dim)
        Activations.
    y : array of shape (clips,) or (labellings, clips)
        Class indices from 0, or numbers (``graded``). Several labellings (permutations, traits) are fitted together.
    method : {"logistic", "ridge", "lda", "mean_diff", "onehot"}
        ``logistic``: binary or multinomial. ``ridge``: least squares on the numbers, on -1/+1 for two classes, on one
        -1/+1 target per class for more. ``lda``: shrunken discriminant analysis. ``mean_diff``: difference of means
        in the raw basis (for numbers: their covariance with the activations). ``onehot``: least squares on one 0/1
        target per class, also for two (the 'regression' of arXiv 2506.10225).
    l2 : float or sequence of float
        Penalties: ``1/C`` of scikit-learn's ``LogisticRegression``, ``alpha`` of its ``Ridge``, on standardised
        features.
    train : bool array of shape (clips,) or (folds, clips), optional
        Clips that each fold trains on; all by default.
    class_weight : {"balanced"} or dict, optional
        Weight classes inversely to their frequency in the fold, or by class index (logistic only).
    standardize : bool
        Give every feature unit variance over the fold's training clips first. Results are mapped back to raw
        features.
    shrinkage : float or sequence of float
        Of LDA's covariance, 0 to 1; several take the place of the penalties.
    graded : bool, optional
        Whether labels are numbers; by default if they are of floating type.
    dtype : {"float32", "float64"}
        Of the arithmetic; float32 is about twice as fast and good to 1e-3.
    device : str
        ``"cpu"``, ``"cuda"``, ...
    memory : int
        Bytes that the solver may use on top of ``x`` and the result.
    tol, max_iter
        Stopping rule of iterative methods; see :func:`interp.directions.solvers.logistic.solve_logistic`.
    solver : {"batched", "sklearn"}
        ``"sklearn"`` loops over scikit-learn estimators instead: slow, and the reference.

    Returns
    -------
    Fits

    Raises
    ------
    DataError
        If shapes do not fit, values are not finite, a fold lacks a class, or the memory is too small for one problem.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(100) % 2
    >>> x = rng.normal(size=(3, 100, 4)) + np.array([0, 1, 2])[:, None, None] * y[:, None]
    >>> fits = fit_many(x, y)
    >>> ((fits.decision(x)[:, 0, 0, 0, 0] > 0) == y).mean(axis=1).round(1).tolist()
    [0.6, 0.8, 1.0]
    """
    x, labels, masks = _checked(x, y, train)
    graded = bool(np.issubdtype(np.asarray(y).dtype, np.floating)) if graded is None else graded
    penalties = np.atleast_1d(np.asarray(shrinkage if method == "lda" else l2, dtype=float))
    penalties = penalties if method in (*PENALISED, "lda") else np.zeros(1)
    _check_method(method, graded, penalties, class_weight)
    if not graded:
        _check_classes(labels, masks)
    if solver == "sklearn":
        return Fits(
            *sklearn_loop.fit_loop(
                x, labels, masks, method, penalties, graded, class_weight, standardize, max_iter
            )
        )
    kind = torch.float64 if dtype == "float64" else torch.float32
    targets = make_targets(labels, masks, method, graded, class_weight, kind, device)
    n_labels, outputs = len(labels), targets.y.shape[1]
    n_folds, n_penalties = len(masks), len(penalties)
    shape = (len(x), n_penalties, n_folds, n_labels)
    coef = np.empty((*shape, outputs, x.shape[2]), dtype=dtype)
    intercept = np.empty((*shape, outputs), dtype=dtype)
    converged, iterations = np.empty(shape, dtype=bool), np.empty(shape, dtype=np.int64)
    at_once = workers(device)
    chunks = site_chunks(x.shape, n_folds, n_penalties, n_labels, outputs, kind.itemsize, memory // at_once, device)

    def fit_block(chunk: tuple[slice, int]) -> None:
        rows, block = chunk
        design = Design(x[rows], masks, standardize=standardize, dtype=kind, device=device)
        l2s = torch.as_tensor(penalties, dtype=kind, device=device).expand(design.n_sites, -1)
        for start in range(0, n_labels, block):
            chosen = slice(start, min(start + block, n_labels))
            part = expand_targets(targets, n_folds, n_labels, chosen, l2s)
            solution = solve(method, design, part, graded=graded, tol=tol, max_iter=max_iter)
            w, b = design.to_raw(solution.w, solution.b)
            lead = (design.n_sites, n_penalties, n_folds, chosen.stop - chosen.start)
            coef[rows, :, :, chosen] = w.view(*lead, outputs, -1).cpu().numpy()
            intercept[rows, :, :, chosen] = b.view(*lead, outputs).cpu().numpy()
            converged[rows, :, :, chosen] = solution.converged.view(lead).cpu().numpy()
            iterations[rows, :, :, chosen] = solution.iterations.view(lead).cpu().numpy()

    each(fit_block, chunks, at_once)
    return Fits(coef, intercept, converged, iterations)


def solve(
    method: str,
    design: Design,
    targets: Targets,
    *,
    graded: bool = False,
    tol: float | None = None,
    max_iter: int = 1000,
) -> Solution:
    """Solve the problems of one design with the named method; LDA takes the penalties of the targets as shrinkage."""
    if method == "logistic":
        return solve_logistic(design, targets, tol=TOLERANCE[design.dtype] if tol is None else tol, max_iter=max_iter)
    if method in ("ridge", "onehot"):
        return linear.solve_ridge(design, targets)
    if method == "lda":
        return linear.solve_lda(design, targets, shrinkage=targets.penalty)
    return linear.solve_covariance(design, targets) if graded else linear.solve_mean_difference(design, targets)


def make_targets(
    labels: NDArray[np.generic],
    masks: NDArray[np.bool_],
    method: str,
    graded: bool,
    class_weight: ClassWeight,
    dtype: torch.dtype,
    device: str,
) -> Targets:
    """Targets and row weights of all labellings (rows) and folds: problem ``f * labellings + p``, penalties unset."""
    n_folds, n_labels = len(masks), len(labels)
    index = torch.tensor(labels, device=device)  # a copy: labels may be read-only memory
    if graded:
        y = index.to(dtype)[:, None]
    else:
        n_classes = int(index.max()) + 1
        if n_classes == 2 and method != "onehot":
            y = index.to(dtype)[:, None]
        else:
            y = torch.nn.functional.one_hot(index.long(), n_classes).mT.to(dtype)
        if method == "ridge":
            y = 2 * y - 1
    mask = torch.as_tensor(masks, device=device).to(dtype)
    weight = mask[:, None].expand(-1, n_labels, -1)
    if class_weight is not None:
        onehot = torch.cat([1 - y, y], dim=1) if y.shape[1] == 1 else y  # [labellings, classes, clips]
        counts = torch.einsum("fn,pkn->fpk", mask, onehot)
        if class_weight == "balanced":
            per_class = mask.sum(1)[:, None, None] / (onehot.shape[1] * counts)
        else:
            given = [float(class_weight.get(k, 1.0)) for k in range(onehot.shape[1])]  # type: ignore[union-attr]
            per_class = torch.as_tensor(given, dtype=dtype, device=device).expand(n_folds, n_labels, -1)
        weight = weight * torch.einsum("fpk,pkn->fpn", per_class, onehot)
    fold = torch.arange(n_folds, device=device).repeat_interleave(n_labels)
    y_all = y[None].expand(n_folds, -1, -1, -1).flatten(0, 1) if n_folds > 1 else y
    # one fold: a view of one mask, however many labellings
    weights = weight[0] if n_folds == 1 else weight.reshape(n_folds * n_labels, -1)
    return Targets(y_all, weights, fold, torch.zeros(1, 1, dtype=dtype, device=device))


def expand_targets(targets: Targets, n_folds: int, n_labels: int, chosen: slice, l2: Tensor) -> Targets:
    """Problems of some labellings, ordered (penalty, fold, labelling)."""

    def pick(t: Tensor) -> Tensor:
        if n_folds == 1:
            return t[chosen]
        return t.view(n_folds, n_labels, *t.shape[1:])[:, chosen].flatten(0, 1)

    repeat = l2.shape[1]
    y, weight, fold = pick(targets.y), pick(targets.weight), pick(targets.fold)
    if repeat > 1:
        y, weight, fold = y.repeat(repeat, 1, 1), weight.repeat(repeat, 1), fold.repeat(repeat)
    return Targets(y, weight, fold, l2)


def site_chunks(
    shape: tuple[int, ...],
    n_folds: int,
    n_penalties: int,
    n_labels: int,
    outputs: int,
    itemsize: int,
    memory: int,
    device: str,
) -> Iterator[tuple[slice, int]]:
    """Cut sites (and labellings) into blocks that fit the memory and, on a CPU, the cache.

    Yields
    ------
    sites : slice
    labellings per block : int

    Raises
    ------
    DataError
        If the memory is too small for one site with one labelling.
    """
    n_sites, clips, dim = shape
    per_site = itemsize * clips * dim * 2 + 8 * dim * dim * (n_folds * (n_penalties + 1) + 2)
    per_label = itemsize * n_folds * n_penalties * outputs * (3 * clips + _HISTORY * (dim + 1))
    if per_site + per_label > memory:
        raise DataError(
            f"the memory budget of {memory / 2**20:.1f} MiB is too small: one site with {clips} clips, {dim} features, "
            f"{n_folds} folds and {n_penalties} penalties takes "
            f"{(per_site + per_label) / 2**20:.1f} MiB; raise the budget."
        )
    goal = memory if device != "cpu" else min(memory, max(_CACHE_BYTES, per_site + per_label))
    block = int(np.clip((goal - per_site) // per_label, min(n_labels, 32), n_labels))
    block = max(1, min(block, (memory - per_site) // per_label))
    step = int(np.clip(goal // (per_site + block * per_label), 1, n_sites))
    if device == "cpu" and step < 4:  # a few sites at once cost little cache and save many calls
        step = int(np.clip(min(4, memory // (per_site + block * per_label)), 1, n_sites)) if block == n_labels else 1
    for start in range(0, n_sites, step):
        yield slice(start, min(start + step, n_sites)), block


def _checked(
    x: NDArray[np.floating], y: ArrayLike, train: ArrayLike | None
) -> tuple[NDArray[np.floating], NDArray[np.generic], NDArray[np.bool_]]:
    x = np.asarray(x)
    if x.ndim != 3 or not all(x.shape):
        raise DataError(f"activations have shape {x.shape}: give (sites, clips, dim), none of them empty.")
    labels = np.atleast_2d(np.asarray(y))
    if labels.ndim != 2 or labels.shape[1] != x.shape[1]:
        raise DataError(f"labels of shape {np.shape(y)} do not fit {x.shape[1]} clips: give one label per clip.")
    masks = np.ones((1, x.shape[1]), dtype=bool) if train is None else np.atleast_2d(np.asarray(train, dtype=bool))
    if masks.shape[1] != x.shape[1]:
        raise DataError(f"training masks of shape {masks.shape} do not fit {x.shape[1]} clips.")
    if (masks.sum(axis=1) < 2).any():
        raise DataError("a fold trains on fewer than two clips: use fewer folds or more clips.")
    if not np.isfinite(x.sum(dtype=np.float64)):
        site, clip = np.argwhere(~np.isfinite(x).all(axis=2))[0]
        raise DataError(
            f"the activation of clip {clip} at site {site} is not finite: leave the clip out or extract it again."
        )
    return x, labels, masks


def _check_method(method: str, graded: bool, penalties: NDArray[np.float64], class_weight: ClassWeight) -> None:
    if method not in METHODS:
        raise DataError(f"no method is called {method!r}: use one of {', '.join(METHODS)}.")
    if graded and method not in GRADED:
        raise DataError(f"{method} needs classes, but the labels are numbers: use {' or '.join(GRADED)}, or cut them.")
    if class_weight is not None and method != "logistic":
        raise DataError(f"class weights are for logistic probes, not for {method}.")
    if isinstance(class_weight, Mapping) and not all(0 < w < np.inf for w in class_weight.values()):
        raise DataError(f"class weights are {dict(class_weight)}: give positive numbers.")
    if method == "lda" and not ((penalties >= 0) & (penalties <= 1)).all():
        raise DataError(f"shrinkage is {penalties.tolist()}: give numbers from 0 to 1.")
    if not np.isfinite(penalties).all() or (penalties < 0).any() or (method == "logistic" and (penalties <= 0).any()):
        raise DataError(f"l2 is {penalties.tolist()}: give positive penalties (zero is allowed for least squares).")


def _check_classes(labels: NDArray[np.generic], masks: NDArray[np.bool_]) -> None:
    if not np.issubdtype(labels.dtype, np.integer) and labels.dtype != bool:
        raise DataError(
            f"class labels are of type {labels.dtype}: give class indices 0, 1, ... (or graded=True for numbers)."
        )
    n_classes = int(labels.max()) + 1
    if labels.min() < 0 or n_classes < 2:
        raise DataError("labels hold one class: a probe needs two, numbered from 0.")
    for k in range(n_classes):
        held = (labels == k).astype(np.float32) @ masks.T.astype(np.float32)
        if (held == 0).any():
            labelling, fold = np.argwhere(held == 0)[0]
            where = f" of labelling {labelling}" if len(labels) > 1 else ""
            raise DataError(
                f"the training part of fold {fold} holds no clip of class {k}{where}: use fewer folds, or folds that "
                "spread the classes (interp.splits.group_folds)."
            )
