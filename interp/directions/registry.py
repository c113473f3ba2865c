"""The registry of methods: each finds directions from a design and problems, and is known everywhere by its name.

=================  =========  =======================================================================
method             role       direction
=================  =========  =======================================================================
``logistic``       readout    weight of the L2-penalised logistic probe, binary or multinomial
``ridge``          readout    ``(S + l2 * I)^-1 cov(x, y)`` on standardised features
``onehot``         readout    the same on features as they are: the 'regression' of arXiv 2506.10225
``least_squares``  readout    ``S^-1 cov(x, y)``
``lda``            readout    ``S_within^-1 (mean+ - mean-)``, the covariance shrunken
``rfm``            readout    top eigenvector of a recursive feature machine's average gradient product
``mean_diff``      push       ``mean+ - mean-``; for graded traits ``cov(x, y)``
``pca_pairs``      push       first component of the differences of (positive, negative) pairs (RepE)
``random``         push       uniform on the sphere
=================  =========  =======================================================================

A *readout* is a weight that is multiplied with activations, a *push* is a difference of activations. They transform
differently when the basis changes: readouts of standardised features are divided by the standard deviation on the way
back, pushes are multiplied by it.

A method of your own is one decorated function, and then works in :func:`interp.directions.fit`, in probes, geometry,
steering and studies::

    @method(role="push", graded=False)
    def medians(design, problems, options):
        ...
        return Solution(w, b, converged, iterations)  # weights on design.x, see interp.directions.solvers
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

from interp.directions.solvers import linear
from interp.directions.solvers.design import Design
from interp.directions.solvers.logistic import solve_logistic
from interp.directions.solvers.problems import Coding, Options, Problems, Solution
from interp.directions.solvers.push import solve_pairs, solve_random
from interp.directions.solvers.rfm import solve_rfm
from interp.errors import DataError

__all__ = ["L2_GRID", "SHRINKAGE_GRID", "Method", "Role", "find", "method", "methods", "role"]

Role = Literal["readout", "push"]
Penalty = Literal["l2", "shrinkage", ""]
Solve = Callable[[Design, Problems, Options], Solution]

L2_GRID = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Penalties per clip that cross-validation chooses from."""
SHRINKAGE_GRID = (0.01, 0.03, 0.1, 0.3, 1.0)
"""Shrinkages that cross-validation chooses from."""
TOLERANCE = {torch.float64: 1e-7, torch.float32: 1e-4}


@dataclass(frozen=True)
class Method:
    """One way to find directions.

    Attributes
    ----------
    name : str
    solve : callable
        ``solve(design, problems, options) -> Solution``.
    role : {"readout", "push"}
        A weight on activations, or a difference of activations.
    graded : bool
        Whether it takes numbers as labels.
    several : bool
        Whether it takes more than two classes at once.
    penalty : {"l2", "shrinkage", ""}
        What it can be made stiffer by.
    standardize : bool
        Whether it sees features of unit variance, unless asked otherwise.
    coding : {"label", "sign"}
        Classes as 0 and 1, or as -1 and +1.
    class_weight : bool
        Whether classes may be weighted.
    """

    name: str
    solve: Solve
    role: Role
    graded: bool = True
    several: bool = True
    penalty: Penalty = ""
    standardize: bool = True
    coding: Coding = "label"
    class_weight: bool = False

    @property
    def grid(self) -> tuple[float, ...]:
        """Strengths of its penalty that cross-validation chooses from; penalties are per clip."""
        return {"l2": L2_GRID, "shrinkage": SHRINKAGE_GRID, "": ()}[self.penalty]


_METHODS: dict[str, Method] = {}


def method(
    name: str = "",
    *,
    role: Role,
    graded: bool = True,
    several: bool = True,
    penalty: Penalty = "",
    standardize: bool = True,
    coding: Coding = "label",
    class_weight: bool = False,
) -> Callable[[Solve], Solve]:
    """Register the decorated function as a method, under its own name by default; see :class:`Method`.

    Raises
    ------
    DataError
        If there is a method of that name.

    Examples
    --------
    >>> @method("halfway", role="push")
    ... def _halfway(design, problems, options):
    ...     return find("mean_diff").solve(design, problems, options)
    >>> role("halfway"), "halfway" in methods()
    ('push', True)
    >>> del _METHODS["halfway"]
    """

    def register(solve: Solve) -> Solve:
        entry = Method(name or solve.__name__, solve, role, graded, several, penalty, standardize, coding, class_weight)
        if entry.name in _METHODS:
            raise DataError(f"there is a method {entry.name!r} already: choose another name.")
        _METHODS[entry.name] = entry
        return solve

    return register


def methods(*, graded: bool | None = None, penalised: bool | None = None) -> tuple[str, ...]:
    """Names of the methods, in the order of their registration.

    Parameters
    ----------
    graded : bool, optional
        Only methods that do (or do not) take numbers as labels.
    penalised : bool, optional
        Only methods that have (or do not have) a penalty.

    Examples
    --------
    >>> methods(graded=False)
    ('logistic', 'lda', 'onehot', 'pca_pairs')
    """
    return tuple(
        name
        for name, entry in _METHODS.items()
        if graded in (None, entry.graded) and penalised in (None, bool(entry.penalty))
    )


def find(name: str) -> Method:
    """The method of a name.

    Raises
    ------
    DataError
        If there is none; the sentence says which there are.
    """
    if name not in _METHODS:
        raise DataError(f"no method is called {name!r}: use one of {', '.join(_METHODS)}.")
    return _METHODS[name]


def role(name: str) -> Role:
    """Whether directions of a method are readouts or pushes; sums of directions follow their first term.

    Examples
    --------
    >>> role("lda"), role("mean_diff+lda"), role("shuffled")
    ('readout', 'push', 'readout')
    """
    entry = _METHODS.get(name.split("+")[0])
    return "readout" if entry is None else entry.role


@method(role="readout", graded=False, penalty="l2", class_weight=True)
def logistic(design: Design, problems: Problems, options: Options) -> Solution:
    """L2-penalised logistic regression, binary or multinomial."""
    tol = TOLERANCE[design.dtype] if options.tol is None else options.tol
    return solve_logistic(design, problems, tol=tol, max_iter=options.max_iter)


@method(role="readout", penalty="l2", coding="sign")
def ridge(design: Design, problems: Problems, options: Options) -> Solution:
    """Least squares with an L2 penalty on numbers, on -1/+1, or on one -1/+1 target per class."""
    return linear.solve_ridge(design, problems)


@method(role="push")
def mean_diff(design: Design, problems: Problems, options: Options) -> Solution:
    """Difference of class means in the raw basis; for numbers their covariance with the activations."""
    return (linear.solve_covariance if problems.graded else linear.solve_mean_difference)(design, problems)


@method(role="readout", graded=False, penalty="shrinkage")
def lda(design: Design, problems: Problems, options: Options) -> Solution:
    """Linear discriminant analysis; the penalty is the shrinkage of the covariance, 0 to 1."""
    return linear.solve_lda(design, problems, shrinkage=problems.penalty)


@method(role="readout", graded=False, penalty="l2", standardize=False, coding="sign")
def onehot(design: Design, problems: Problems, options: Options) -> Solution:
    """Ridge on features that keep their spread: one -1/+1 target, or one per class."""
    return linear.solve_ridge(design, problems)


@method(role="readout", standardize=False, coding="sign")
def least_squares(design: Design, problems: Problems, options: Options) -> Solution:
    """Least squares without a penalty; with more features than clips, the shortest of all solutions."""
    return linear.solve_ridge(design, problems)


@method(role="readout")
def rfm(design: Design, problems: Problems, options: Options) -> Solution:
    """A recursive feature machine."""
    return solve_rfm(design, problems)


@method(role="push", graded=False)
def pca_pairs(design: Design, problems: Problems, options: Options) -> Solution:
    """First component of the differences of all (positive, negative) pairs."""
    return solve_pairs(design, problems)


@method(role="push", standardize=False)
def random(design: Design, problems: Problems, options: Options) -> Solution:
    """A direction of no meaning: what any direction reaches."""
    return solve_random(design, problems, options)
