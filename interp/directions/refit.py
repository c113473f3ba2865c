"""Many refits of one direction: every method, at every site, under many weightings of the clips.

A bootstrap draw, a half of the data, a subsample, the data without one block: each is a row of clip
weights. :func:`refit` takes all rows at once. The linear methods need only weighted first and second
moments, which one matrix product computes for all rows and all traits; the logistic probe goes through the
batched solver of :mod:`interp.directions.solvers.logistic`.

=================  =========  =======================================================================
method             role       direction
=================  =========  =======================================================================
``logistic``       readout    weight of the L2-regularised logistic probe
``ridge``          readout    ``(S + ridge * I)^-1 cov(x, y)`` on standardised features
``least_squares``  readout    ``S^-1 cov(x, y)``: for classes, one-hot least squares
``lda``            readout    ``S_within^-1 (mean+ - mean-)``
``rfm``            readout    top eigenvector of a recursive feature machine's average gradient product
``mean_diff``      push       ``mean+ - mean-``; for graded traits ``cov(x, y)``
``pca_pairs``      push       first component of the differences of (positive, negative) pairs (RepE)
``random``         push       uniform on the sphere
=================  =========  =======================================================================

A *readout* is a weight that is multiplied with activations, a *push* is a difference of activations. They
transform differently when the basis changes: standardised readouts are divided by the standard deviation on
the way back, standardised pushes are multiplied by it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from interp._threads import each, workers
from interp.errors import DataError

__all__ = ["BINARY_ONLY", "METHODS", "ROLES", "Role", "refit", "role"]

Array = NDArray[np.float64]
Role = Literal["readout", "push"]
ROLES: dict[str, Role] = {
    "logistic": "readout",
    "ridge": "readout",
    "least_squares": "readout",
    "lda": "readout",
    "rfm": "readout",
    "mean_diff": "push",
    "pca_pairs": "push",
    "random": "push",
}
METHODS = tuple(ROLES)
BINARY_ONLY = ("logistic", "lda", "pca_pairs")
_SQUARINGS = 9
"""A second eigenvalue of 95 % of the first then counts for 1e-11 of the vector."""
_MOMENT_BYTES = 2**22
"""Bytes of a piece of weighted activations: what stays in a core's cache; larger ones take several times longer."""


def role(method: str) -> Role:
    """Whether directions of a method are readouts or pushes; combinations follow their first term."""
    return ROLES.get(method.split("+")[0], "readout")


def refit(
    x: NDArray[np.floating],
    y: Array,
    weights: Array | None = None,
    *,
    method: str,
    ridge: float = 1.0,
    C: float = 1.0,
    standardise: bool = True,
    seed: int = 0,
    device: str = "cpu",
) -> Array:
    """Directions of one method for every site, target and weighting, in the raw basis and not normalised.

    Parameters
    ----------
    x : array of shape (sites, clips, dim)
        Activations.
    y : array of shape (clips,) or (targets, clips) or (targets, refits, clips)
        +1 and -1 for classes, 0 for clips that belong to neither; any numbers for a graded trait. With a
        refit axis, every refit has labels of its own (shuffled labels).
    weights : array of shape (refits, clips), optional
        Weight of each clip in each refit; one refit with equal weights by default.
    method : str
        One of :data:`METHODS`.
    ridge, C : float
        Penalties as scikit-learn counts them for all clips (``alpha`` of ridge, inverse penalty of logistic
        regression). In a refit they shrink with the weight in it: the penalty *per clip* stays the same.
    standardise : bool
        Whether penalised methods, ``pca_pairs`` and ``rfm`` see features of unit variance. Spread and mean
        are those of all clips that the target uses, so that all refits penalise the same thing.
    seed : int
        For ``random``.
    device : str
        Where to compute, ``"cpu"`` or ``"cuda"``.

    Returns
    -------
    array of shape (sites, targets, refits, dim)
        float64. A direction that does not exist (constant activations) is zero.

    Raises
    ------
    DataError
        If shapes do not fit, an activation is not finite, a class is empty in a refit, or the method does not
        apply.
    """
    x, y, weights = _checked(x, y, weights, method)
    sites, _, dim = x.shape
    targets, refits = y.shape[:2]
    if method == "random":
        draw = np.random.default_rng(seed).standard_normal((sites, targets, refits, dim))
        return draw / np.linalg.norm(draw, axis=-1, keepdims=True)
    out = np.empty((sites, targets, refits, dim))
    used = (y != 0).any(axis=1) if _is_binary(y) else np.ones((targets, y.shape[2]), bool)
    for clips in np.unique(used, axis=0):  # targets over the same clips share their moments
        columns = np.flatnonzero((used == clips).all(axis=1))
        part_y, part_w, part_x = y[columns][:, :, clips], weights[:, clips], x[:, clips]
        if method == "logistic":
            out[:, columns] = _logistic(part_x, part_y, part_w, C=C, standardise=standardise, device=device)
        elif method == "rfm":
            from interp.directions.solvers.rfm import rfm_directions

            out[:, columns] = rfm_directions(part_x, part_y, part_w, standardise=standardise, device=device)
        else:
            step = max(1, _MOMENT_BYTES // (8 * part_x[0].size * refits))

            def solve_block(
                start: int, x: NDArray[np.floating] = part_x, y: Array = part_y, w: Array = part_w, step: int = step
            ) -> Array:
                block = x[start : start + step]
                return _closed_form(block, y, w, method, ridge=ridge, standardise=standardise, device=device)

            out[:, columns] = np.concatenate(each(solve_block, range(0, sites, step), workers(device)))
    return out


def _checked(
    x: NDArray[np.floating], y: Array, weights: Array | None, method: str
) -> tuple[NDArray[np.floating], Array, Array]:
    if method not in METHODS:
        raise DataError(f"no method {method!r} to find a direction: use one of {', '.join(METHODS)}.")
    x, y = np.asarray(x), np.asarray(y, dtype=np.float64)
    if x.ndim != 3:
        raise DataError(f"activations have shape {x.shape}; give (sites, clips, dim).")
    weights = np.ones((1, x.shape[1])) if weights is None else np.asarray(weights, dtype=np.float64)
    y = y[None, None] if y.ndim == 1 else y[:, None] if y.ndim == 2 else y
    if weights.ndim != 2 or y.shape[-1] != x.shape[1] or weights.shape[1] != x.shape[1]:
        raise DataError(f"{x.shape[1]} clips, {y.shape[-1]} labels and weights {weights.shape} do not fit each other.")
    y = np.broadcast_to(y, (y.shape[0], len(weights), y.shape[2]))
    if not np.isfinite(x).all():
        raise DataError("the activations hold NaN or infinity; read them again.")
    if _is_binary(y):
        if min((weights * (y > 0)).sum(axis=-1).min(), (weights * (y < 0)).sum(axis=-1).min()) <= 0:
            raise DataError("a refit has clips of one class only: take more clips, or larger parts.")
    elif method in BINARY_ONLY:
        raise DataError(f"method {method!r} needs two classes, but the trait is graded: use ridge or mean_diff.")
    elif (np.ptp(y, axis=-1) == 0).any():
        raise DataError("a graded trait has the same value in every clip: there is no direction to find.")
    return x, y, weights


def _is_binary(y: Array) -> bool:
    return bool(((y == 1) | (y == -1) | (y == 0)).all())


def _scale(x: torch.Tensor, standardise: bool) -> torch.Tensor:
    """Spread of each feature over the clips (the second last axis), 1 where there is none or none is
    asked."""
    spread = x.std(dim=-2, correction=0)
    flat = spread <= 1e-12 * (x.mean(dim=-2).abs() + spread)
    return torch.where(flat | torch.tensor(not standardise), torch.ones_like(spread), spread)


def _closed_form(
    x: NDArray[np.floating], y: Array, w: Array, method: str, *, ridge: float, standardise: bool, device: str
) -> Array:
    """A few sites; y is (targets, refits, clips), w is (refits, clips). Returns (sites, targets, refits,
    dim)."""
    binary = _is_binary(y)
    xt = torch.as_tensor(np.asarray(x, dtype=np.float64), device=device)
    xt = xt - xt.mean(dim=1, keepdim=True)
    scale = _scale(xt, standardise and method in ("ridge", "pca_pairs"))[:, None, None]  # [sites, 1, 1, dim]
    xt = xt / scale[:, 0]
    wt, yt = torch.as_tensor(w, device=device), torch.as_tensor(y.copy(), device=device)
    mass = wt.sum(dim=1)  # [refits]
    mean = (wt @ xt) / mass[:, None]  # [sites, refits, dim]
    wy = wt * yt
    y_mean = wy.sum(dim=-1) / mass  # [targets, refits]
    cross = (wy.flatten(0, 1) @ xt).view(len(xt), *y_mean.shape, -1) / mass[:, None]
    cross -= y_mean[..., None] * mean[:, None]  # cov(x, y) [sites, targets, refits, dim]
    if binary:  # cov(x, +-1) = 2 p (1 - p) (mean+ - mean-)
        share = (1 + y_mean) / 2
        delta = cross / (2 * share * (1 - share))[..., None]
    if method == "mean_diff":
        return np.asarray((delta if binary else cross).cpu().numpy())
    if method == "pca_pairs":
        return np.asarray((_pair_component(xt, yt, wt, delta) * scale).cpu().numpy())
    out = torch.empty_like(cross)
    for rows in _pieces(xt, len(wt)):
        covariance = _second_moment(xt, wt[rows]) / mass[rows, None, None]
        covariance -= mean[:, rows, :, None] * mean[:, rows, None, :]  # [sites, refits, dim, dim]
        if method == "lda":
            p, d = share[:, rows, None, None], delta[:, :, rows]
            within = covariance[:, None] - p * (1 - p) * d[..., :, None] * d[..., None, :]
            out[:, :, rows] = _solve(within, d[..., None])[..., 0]
            continue
        if method == "ridge":
            covariance += ridge / x.shape[1] * torch.eye(xt.shape[2], dtype=xt.dtype, device=xt.device)
        out[:, :, rows] = _solve(covariance, cross[:, :, rows].permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    return np.asarray((out / scale).cpu().numpy())


def _pieces(x: torch.Tensor, refits: int) -> Iterator[slice]:
    """Ranges of refits whose weighted copies of x fit into memory."""
    step = max(1, _MOMENT_BYTES // (8 * x.numel()))
    for start in range(0, refits, step):
        yield slice(start, start + step)


def _second_moment(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """``x^T diag(w_r) x`` for every site and row r of weights: (sites, refits, dim, dim)."""
    if len(w) == 1 and bool((w == 1).all()):
        return (x.mT @ x)[:, None]
    weighted = (x.mT[:, None] * w[:, None, :]).flatten(1, 2)  # [sites, refits * dim, clips]
    return (weighted @ x).view(len(x), len(w), x.shape[2], x.shape[2])


def _solve(matrix: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Solve symmetric positive systems; where a matrix is singular, the solution of least length."""
    factor, info = torch.linalg.cholesky_ex(matrix)
    diagonal = factor.diagonal(dim1=-2, dim2=-1)
    fine = (info == 0) & (diagonal.amin(-1) > 1e-6 * diagonal.amax(-1))
    solved = torch.cholesky_solve(right.expand(*matrix.shape[:-1], right.shape[-1]), factor)
    if not bool(fine.all()):
        least = torch.linalg.pinv(matrix[~fine], rtol=1e-10, hermitian=True)
        solved[~fine] = least @ right.expand(*matrix.shape[:-1], right.shape[-1])[~fine]
    return solved


def _pair_component(x: torch.Tensor, y: torch.Tensor, w: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
    """First component of the differences of *all* (positive, negative) pairs, signed by the mean difference.

    Over all pairs their second moment is ``cov+ + cov- + delta delta^T``: no pairing has to be drawn.
    """
    out = torch.empty_like(delta)
    for rows in _pieces(x, len(w)):
        everything = _second_moment(x, w[rows])
        sums = w[rows] @ x
        for target in range(len(y)):
            d = delta[:, target, rows]
            moment = d[..., :, None] * d[..., None, :]
            positive = w[rows] * (y[target, rows] > 0)
            square, total = _second_moment(x, positive), positive @ x
            mass = positive.sum(dim=1)
            for second, first, n in (
                (square, total, mass),
                (everything - square, sums - total, w[rows].sum(dim=1) - mass),
            ):
                mean = first / n[:, None]
                moment += second / n[:, None, None] - mean[..., :, None] * mean[..., None, :]
            component = _top_eigenvector(moment)
            out[:, target, rows] = torch.where((component * d).sum(-1, keepdim=True) < 0, -component, component)
    return out


def _top_eigenvector(matrix: torch.Tensor) -> torch.Tensor:
    """Unit eigenvector of the largest eigenvalue of symmetric positive matrices, shape (..., dim).

    Squaring a matrix again and again leaves the projection on it, with products alone; an eigendecomposition, many
    times slower, is left for the few matrices whose first two eigenvalues are nearly equal.
    """
    power = matrix
    for _ in range(_SQUARINGS):
        power = power @ power
        power = power / power.diagonal(dim1=-2, dim2=-1).sum(-1).clamp_min(1e-300)[..., None, None]
    column = power.diagonal(dim1=-2, dim2=-1).argmax(-1)[..., None, None].expand(*power.shape[:-1], 1)
    vector = torch.nn.functional.normalize(power.gather(-1, column)[..., 0], dim=-1)
    image = (matrix @ vector[..., None])[..., 0]
    value = (image * vector).sum(-1, keepdim=True)
    bad = ~((image - value * vector).norm(dim=-1) <= 1e-10 * value[..., 0])
    if bool(bad.any()):
        vector[bad] = torch.linalg.eigh(matrix[bad]).eigenvectors[..., -1]
    return vector


def _logistic(x: NDArray[np.floating], y: Array, w: Array, *, C: float, standardise: bool, device: str) -> Array:
    from interp.directions.solvers.design import Design
    from interp.directions.solvers.logistic import solve_logistic
    from interp.directions.solvers.solution import Targets

    sites, clips, dim = x.shape
    targets, refits = y.shape[:2]
    weight = np.broadcast_to(w, y.shape).reshape(-1, clips)
    step = max(1, _MOMENT_BYTES // (8 * clips * len(weight)))
    out = np.empty((sites, targets, refits, dim))
    # scikit-learn penalises the sum of the losses: with equal mass in every refit, the penalty per clip stays
    even = torch.as_tensor(weight * (clips / weight.sum(axis=1, keepdims=True)), device=device)
    labels = torch.as_tensor((y.reshape(-1, 1, clips) > 0).astype(np.float64), device=device)

    def solve_block(start: int) -> None:
        part = np.asarray(x[start : start + step], dtype=np.float64)
        design = Design(part, np.ones((1, clips), bool), standardize=standardise, device=device)
        penalty = torch.full((len(part), 1), 1 / C, dtype=torch.float64, device=device)
        fold = torch.zeros(len(even), dtype=torch.long, device=device)
        solution = solve_logistic(design, Targets(labels, even, fold, penalty), tol=1e-6)
        weights, _ = design.to_raw(solution.w, solution.b)
        out[start : start + step] = weights[:, :, 0].reshape(len(part), targets, refits, dim).cpu().numpy()

    each(solve_block, range(0, sites, step), workers(device))
    return out
