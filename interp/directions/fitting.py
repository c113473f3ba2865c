"""The one fitter: :func:`fit` finds directions at many sites, under many weightings, penalties and labellings at once.

A fold of cross-validation, a half of the clips, a bootstrap draw, the clips without one block: each is a row of clip
weights. A permutation of the labels is a labelling. Whatever is fitted, and whoever asks, it is the same estimator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from interp._threads import each, workers
from interp.directions.blocks import rows_at_once, site_chunks
from interp.directions.checks import check_classes, check_method, check_numbers, checked, penalties_of
from interp.directions.registry import Method, find
from interp.directions.solvers.design import Design
from interp.directions.solvers.problems import ClassWeight, Options, expand, make_problems
from interp.errors import DataError

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Fits", "fit"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Fits:
    """Probes in the raw basis, axes named by :attr:`DIMS`.

    Attributes
    ----------
    coef : array of shape (site, penalty, fold, labelling, output, dim)
        Weights; one output for two classes and for numbers, one per class otherwise.
    intercept : array of shape (site, penalty, fold, labelling, output)
    converged : bool array of shape (site, penalty, fold, labelling)
    iterations : int array of shape (site, penalty, fold, labelling)
    """

    coef: NDArray[np.floating]
    intercept: NDArray[np.floating]
    converged: NDArray[np.bool_]
    iterations: NDArray[np.int64]

    DIMS = ("site", "penalty", "fold", "labelling", "output", "dim")

    def at(self, **index: int) -> NDArray[np.floating]:
        """Weights with some axes fixed, the others in their order: ``fits.at(penalty=0, fold=0, labelling=0)``.

        Raises
        ------
        DataError
            If there is no axis of a name.
        """
        unknown = set(index) - set(self.DIMS)
        if unknown:
            raise DataError(f"no axis is called {', '.join(sorted(unknown))}: the axes are {', '.join(self.DIMS)}.")
        chosen = tuple(index.get(name, slice(None)) for name in self.DIMS)
        return np.asarray(self.coef[chosen])

    def unit(self, *, output: int = 0) -> Array:
        """Unit vectors of one output, float64, shape (site, penalty, fold, labelling, dim).

        For several classes the common part of all weights, which no prediction depends on, is taken out first. Where
        there is no direction (constant activations) the vector is NaN.
        """
        coef = self.coef.astype(np.float64)
        coef = coef - coef.mean(axis=-2, keepdims=True) if coef.shape[-2] > 1 else coef
        vector = coef[..., output, :]
        length = np.linalg.norm(vector, axis=-1, keepdims=True)
        return np.asarray(vector / np.where(length > 0, length, np.nan))

    def decision(self, x: ArrayLike) -> NDArray[np.floating]:
        """Decision values of activations of shape (sites, clips, dim).

        Returns
        -------
        array of shape (site, penalty, fold, labelling, output, clip)
        """
        x = np.asarray(x)
        flat = self.coef.reshape(len(self.coef), -1, self.coef.shape[-1]) @ x.swapaxes(1, 2)
        return np.asarray(flat.reshape(*self.coef.shape[:-1], -1) + self.intercept[..., None])

    def to_dataset(self) -> xr.Dataset:
        """All arrays with their axes named."""
        import xarray as xr

        arrays = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return xr.Dataset({name: (self.DIMS[: value.ndim], value) for name, value in arrays.items()})


def fit(
    x: NDArray[np.floating],
    y: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    method: str = "logistic",
    l2: float | Sequence[float] | Array = 1.0,
    shrinkage: float | Sequence[float] | Array = 0.1,
    per_clip: bool = False,
    standardize: bool | None = None,
    class_weight: ClassWeight = None,
    graded: bool | None = None,
    dtype: Literal["float32", "float64"] = "float64",
    device: str = "cpu",
    memory: int = 2**30,
    tol: float | None = None,
    max_iter: int = 1000,
    seed: int = 0,
) -> Fits:
    """Fit a probe at every site, under every weighting of the clips, at every penalty, for every labelling.

    Parameters
    ----------
    x : array of shape (sites, clips, dim)
        Activations.
    y : array of shape (clips,) or (labellings, clips)
        Class indices from 0, or numbers (``graded``). Several labellings (permutations, traits) are fitted together.
    weights : array of shape (clips,) or (folds, clips), optional
        Weight of each clip in each fit: true and false for a training part, or any numbers from 0. Ones by default.
    method : str
        One of :func:`interp.directions.methods`.
    l2 : float, sequence of float, or array of shape (sites, penalties)
        Penalties: ``1/C`` of scikit-learn's ``LogisticRegression``, ``alpha`` of its ``Ridge``.
    shrinkage : as ``l2``
        Of LDA's covariance, 0 to 1; for methods whose penalty it is.
    per_clip : bool
        Penalties are per clip: every row of weights is scaled to weigh as much as there are clips, and ``l2`` times the
        clips is what penalises it. A half of the clips is then penalised like all of them.
    standardize : bool, optional
        Give every feature unit variance under the row's weights first; by default as the method does. Results are
        mapped back to raw features.
    class_weight : {"balanced"} or dict, optional
        Weight classes inversely to their frequency in the row, or by class index (for methods that allow it).
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
    seed : int
        Of methods that draw.

    Returns
    -------
    Fits

    Raises
    ------
    DataError
        If shapes do not fit, values are not finite, a row lacks a class, or the memory is too small for one problem.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(100) % 2
    >>> x = rng.normal(size=(3, 100, 4)) + np.array([0, 1, 2])[:, None, None] * y[:, None]
    >>> fits = fit(x, y, [y >= 0, np.arange(100) < 50])
    >>> fits.at(penalty=0, labelling=0, output=0).shape  # sites, weightings, dim
    (3, 2, 4)
    >>> ((fits.decision(x)[:, 0, 0, 0, 0] > 0) == y).mean(axis=1).round(1).tolist()
    [0.6, 0.8, 1.0]
    """
    entry = find(method)
    x, labels, rows = checked(x, y, weights)
    graded = bool(np.issubdtype(np.asarray(y).dtype, np.floating)) if graded is None else graded
    penalties = penalties_of(entry, len(x), shrinkage if entry.penalty == "shrinkage" else l2)
    check_method(entry, graded, class_weight)
    if graded:
        check_numbers(labels, rows)
    else:
        check_classes(labels, rows, entry)
    if per_clip:
        rows = rows * (rows.shape[1] / rows.sum(axis=1, keepdims=True))
        penalties = penalties * rows.shape[1] if entry.penalty == "l2" else penalties
    kind = torch.float64 if dtype == "float64" else torch.float32
    parts = []
    at_once = workers(device)
    step = rows_at_once(x.shape, penalties.shape[1], kind.itemsize, memory // at_once)
    for start in range(0, len(rows), step):
        fitter = _Fitter(
            entry, x, labels, rows[start : start + step], penalties, graded, class_weight, kind, device,
            entry.standardize if standardize is None else standardize, Options(tol, max_iter, seed, (0, start, 0)),
        )  # fmt: skip
        parts.append(fitter.run(memory, at_once))
    if len(parts) == 1:
        return parts[0]
    return Fits(*(np.concatenate([getattr(p, name) for p in parts], axis=2) for name in Fits.__dataclass_fields__))


@dataclass(frozen=True)
class _Fitter:
    """A block of rows of weights."""

    entry: Method
    x: NDArray[np.floating]
    labels: NDArray[np.generic]
    rows: NDArray[np.floating] | NDArray[np.bool_]
    penalties: Array
    graded: bool
    class_weight: ClassWeight
    kind: torch.dtype
    device: str
    standardize: bool
    options: Options

    def run(self, memory: int, at_once: int) -> Fits:
        problems = make_problems(
            self.labels, self.rows, coding=self.entry.coding, graded=self.graded, class_weight=self.class_weight,
            dtype=self.kind, device=self.device,
        )  # fmt: skip
        n_folds, n_labels, outputs = len(self.rows), len(self.labels), problems.y.shape[1]
        n_penalties = self.penalties.shape[1]
        shape = (len(self.x), n_penalties, n_folds, n_labels)
        dtype = np.float64 if self.kind == torch.float64 else np.float32
        out = Fits(
            np.empty((*shape, outputs, self.x.shape[2]), dtype),
            np.empty((*shape, outputs), dtype),
            np.empty(shape, dtype=bool),
            np.empty(shape, dtype=np.int64),
        )
        first = self.options.first

        def fit_block(chunk: tuple[slice, int]) -> None:
            sites, block = chunk
            design = Design(self.x[sites], self.rows, standardize=self.standardize, dtype=self.kind, device=self.device)
            l2 = torch.as_tensor(self.penalties[sites], dtype=self.kind, device=self.device)
            for start in range(0, n_labels, block):
                chosen = slice(start, min(start + block, n_labels))
                part = expand(problems, n_folds, n_labels, chosen, l2)
                options = Options(
                    self.options.tol, self.options.max_iter, self.options.seed, (sites.start, first[1], start)
                )
                solution = self.entry.solve(design, part, options)
                w, b = design.to_raw(solution.w, solution.b)
                lead = (design.n_sites, n_penalties, n_folds, chosen.stop - chosen.start)
                out.coef[sites, :, :, chosen] = w.view(*lead, outputs, -1).cpu().numpy()
                out.intercept[sites, :, :, chosen] = b.view(*lead, outputs).cpu().numpy()
                out.converged[sites, :, :, chosen] = solution.converged.view(lead).cpu().numpy()
                out.iterations[sites, :, :, chosen] = solution.iterations.view(lead).cpu().numpy()

        budget = memory // at_once
        each(
            fit_block,
            site_chunks(self.x.shape, n_folds, n_penalties, n_labels, outputs, self.kind.itemsize, budget, self.device),
            at_once,
        )
        return out
