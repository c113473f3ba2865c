"""Arithmetic on directions that keeps the books: combine, orthogonalise, project out, draw at random.

Only directions of one site and one checkpoint are ever mixed. What becomes unknown becomes NaN (and is
measured again by :meth:`Direction.measured`); it is never carried over silently.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from interp.directions.direction import WORDS, Array, Direction, check_width
from interp.errors import DataError, SiteError

__all__ = ["combine", "orthogonalise", "project_out", "random_like", "same_space"]


def same_space(directions: Iterable[Direction]) -> None:
    """Check that directions live in one basis: one site, one width, one checkpoint.

    Raises
    ------
    SiteError
        If the sites or widths differ.
    CheckpointMismatch
        If the checkpoints differ.
    """
    items = list(directions)
    for item in items[1:]:
        item.check_model(items[0].model)
        if item.site != items[0].site or item.dim != items[0].dim:
            raise SiteError(
                f"{items[0]} (dim {items[0].dim}) and {item} (dim {item.dim}) live in different bases and "
                "cannot be mixed or compared as they are: bring them into the residual stream first "
                "(interp.geometry.spaces.through_output)."
            )


def random_like(direction: Direction, seed: int | np.random.Generator) -> Direction:
    """A direction drawn uniformly from the sphere, with norm and sigma of the *treated* direction.

    Norm and sigma are kept so that the same strength or dose gives a displacement of the same length: it is a
    control for how far one pushes, and its sigma is not the spread of the activations along it.

    Examples
    --------
    >>> treated = Direction.from_weight("L0.H1", [3.0, 4.0], trait="drums", sigma=2.0)
    >>> control = random_like(treated, 0)
    >>> control.method, control.norm, control.sigma, bool(np.isclose(control.vector @ control.vector, 1))
    ('random', 5.0, 2.0, True)
    """
    draw = np.random.default_rng(seed).standard_normal(direction.dim)
    return replace(
        direction,
        vector=draw / np.linalg.norm(draw),
        method="random",
        intercept=math.nan,
        score=math.nan,
        info={"like": direction.method, "sigma_of": direction.method},
    )


def combine(
    directions: Sequence[Direction],
    weights: Sequence[float] | None = None,
    *,
    trait: str | None = None,
    activations: Array | None = None,
) -> Direction:
    """The weighted sum of unit vectors, made a direction again.

    Parameters
    ----------
    directions : sequence of Direction
        Directions of one site and one checkpoint.
    weights : sequence of float, optional
        One weight a direction; equal weights of 1 by default. Minus one subtracts.
    trait : str, optional
        Name of the result; by default the terms, written out.
    activations : array of shape (clips, dim), optional
        Where to measure the new sigma; without, it is NaN.

    Returns
    -------
    Direction
        With ``norm`` the length of the sum and NaN for intercept and score, which a sum does not have.

    Raises
    ------
    SiteError, CheckpointMismatch
        If the directions live in different spaces.
    DataError
        If there is none, the weights do not fit, or the sum is zero.

    Examples
    --------
    >>> jazz = Direction.from_weight("L0.H1", [2.0, 0.0], trait="genre", positive="jazz")
    >>> rock = Direction.from_weight("L0.H1", [0.0, 3.0], trait="genre", positive="rock")
    >>> both = combine([jazz, rock], [1, -1])
    >>> both.trait, both.vector.round(2).tolist()
    ('+1 genre=jazz -1 genre=rock', [0.71, -0.71])
    """
    weights = [1.0] * len(directions) if weights is None else list(weights)
    if not directions or len(weights) != len(directions):
        raise DataError(f"{len(directions)} directions and {len(weights)} weights: give one weight for each direction.")
    same_space(directions)
    total = np.sum([w * d.vector for w, d in zip(weights, directions, strict=True)], axis=0)
    terms = [f"{w:+g} {d.trait}={d.positive}" for w, d in zip(weights, directions, strict=True)]
    if np.linalg.norm(total) < 1e-9 * max(1.0, max(abs(w) for w in weights)):
        raise DataError(f"the directions cancel out ({', '.join(terms)}): no direction is left.")
    first = directions[0]
    methods = list(dict.fromkeys(d.method for d in directions))
    return Direction.from_weight(
        first.site,
        total,
        activations=activations,
        method="+".join(methods),
        trait=" ".join(terms) if trait is None else trait,
        model=first.model,
        pool=first.pool,
        info={"combined": terms},
    )


def orthogonalise(direction: Direction, against: Sequence[Direction], *, activations: Array | None = None) -> Direction:
    """What is left of a direction after its part in the span of others is taken away (Gram-Schmidt).

    Parameters
    ----------
    direction : Direction
        The direction to clean.
    against : sequence of Direction
        Directions of the same site and checkpoint; they need not be orthogonal to each other.
    activations : array of shape (clips, dim), optional
        Where to measure the new sigma, and to set the intercept so that the mean logit stays as it was;
        without, both are NaN.

    Returns
    -------
    Direction
        Its ``info`` says what was taken out and which share of the squared length was left (``"kept"``).

    Raises
    ------
    SiteError, CheckpointMismatch
        If the directions live in different spaces.
    DataError
        If nothing is left.

    Examples
    --------
    >>> loud = Direction.from_weight("L0.H1", [1.0, 0.0], trait="loud")
    >>> drums = Direction.from_weight("L0.H1", [1.0, 1.0], trait="drums")
    >>> clean = orthogonalise(drums, [loud])
    >>> clean.vector.tolist(), round(clean.info["kept"], 2)  # half of its squared length is left
    ([0.0, 1.0], 0.5)
    """
    same_space([direction, *against])
    rest = direction.vector - _span_part(direction.vector, against)
    rest -= _span_part(rest, against)  # twice is enough: the second pass removes what rounding left
    kept = float(rest @ rest)
    if kept < 1e-16:
        raise DataError(f"{direction} lies in the span of what it is orthogonalised against: nothing is left.")
    cleaned = Direction.from_weight(
        direction.site,
        direction.norm * rest,
        activations=activations,
        **{name: getattr(direction, name) for name in WORDS},
        info={**direction.info, "orthogonal_to": [str(d) for d in against], "kept": kept},
    )
    if activations is None:
        return cleaned
    mean = np.asarray(activations, dtype=np.float64).mean(axis=0)
    logit = direction.norm * float(mean @ direction.vector) + direction.intercept
    return replace(cleaned, intercept=logit - cleaned.norm * float(mean @ cleaned.vector))


def project_out(activations: Array, directions: Sequence[Direction], *, mean: Array | None = None) -> Array:
    """Activations without their part in the span of the directions.

    Parameters
    ----------
    activations : array of shape (..., dim)
        Activations at the directions' site.
    directions : sequence of Direction
        Directions of one site and checkpoint.
    mean : array of shape (dim,), optional
        Point that is left in place (mean ablation); the origin by default.

    Returns
    -------
    array of shape (..., dim)

    Raises
    ------
    SiteError, CheckpointMismatch
        If the directions live in different spaces.
    DataError
        If there is none, or the width differs.

    Examples
    --------
    >>> loud = Direction.from_weight("L0.H1", [1.0, 0.0], trait="loud")
    >>> project_out([[3.0, 4.0]], [loud]).tolist(), project_out([[3.0, 4.0]], [loud], mean=[1.0, 1.0]).tolist()
    ([[0.0, 4.0]], [[1.0, 4.0]])
    """
    if not directions:
        raise DataError("no direction to project out.")
    same_space(directions)
    x = np.asarray(activations, dtype=np.float64)
    check_width(directions[0], x.shape[-1])
    centre = np.zeros(x.shape[-1]) if mean is None else np.asarray(mean, dtype=np.float64)
    return np.asarray(x - _span_part(x - centre, directions))


def _span_part(x: Array, directions: Sequence[Direction]) -> Array:
    if not directions:
        return np.zeros_like(x)
    stacked = np.stack([d.vector for d in directions], axis=1)
    left, values, _ = np.linalg.svd(stacked, full_matrices=False)
    basis = left[:, values > values[0] * 1e-10]  # directions may be dependent; QR would invent a basis vector
    return np.asarray((x @ basis) @ basis.T)
