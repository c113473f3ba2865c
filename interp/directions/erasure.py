"""LEACE: the smallest change after which no linear classifier finds a concept (Belrose et al., arXiv 2306.03819)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from interp.directions.direction import Direction
from interp.errors import DataError, InterventionError, SiteError
from interp.sites import Site

__all__ = ["Eraser", "erase", "fit_leace"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Eraser:
    """The affine map ``h - left (right (h - mean))`` at one site.

    Attributes
    ----------
    site : Site
        Where it acts.
    mean : array of shape (dim,)
        Mean of the training activations.
    left : array of shape (dim, rank)
        What is subtracted.
    right : array of shape (rank, dim)
        What is read.
    trait, model : str
        Which concept, and the fingerprint of the checkpoint it was fitted on.
    """

    site: Site
    mean: Array
    left: Array
    right: Array
    trait: str = ""
    model: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "site", Site.parse(self.site))
        for name in ("mean", "left", "right"):
            value = np.array(getattr(self, name), dtype=np.float64)
            if not np.isfinite(value).all():
                raise InterventionError(f"the eraser at {self.site} holds NaN or infinity; fit it on finite data.")
            value.setflags(write=False)
            object.__setattr__(self, name, value)
        dim = self.mean.size
        if self.left.ndim != 2 or self.left.shape[0] != dim or self.right.shape != self.left.shape[::-1]:
            raise InterventionError(
                f"the eraser at {self.site} needs left (dim, rank) and right (rank, dim) with dim {dim}, "
                f"not {self.left.shape} and {self.right.shape}."
            )

    @property
    def dim(self) -> int:
        """Width of the site."""
        return int(self.mean.size)

    def __call__(self, x: ArrayLike) -> Array:
        """Erase the concept from activations of shape ``(..., dim)``."""
        values = np.asarray(x, dtype=np.float64)
        return np.asarray(values - (values - self.mean) @ self.right.T @ self.left.T)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Eraser):
            return NotImplemented
        words = (self.site, self.trait, self.model) == (other.site, other.trait, other.model)
        return words and all(np.array_equal(getattr(self, n), getattr(other, n)) for n in ("mean", "left", "right"))

    def __hash__(self) -> int:
        return hash((self.site, self.trait, self.model, self.left.tobytes(), self.right.tobytes()))


def fit_leace(
    site: Site | str, x: ArrayLike, z: ArrayLike, *, trait: str = "", model: str = "", tolerance: float = 1e-6
) -> Eraser:
    """Fit a LEACE eraser.

    Parameters
    ----------
    site : Site or str
        Where the activations were read.
    x : array of shape (clips, dim)
        Activations.
    z : array of shape (clips,)
        The concept: classes (made one-hot) or a graded label (floats).
    trait, model : str
        Noted in the eraser.
    tolerance : float
        Directions of ``x`` whose variance is below this share of the largest are left alone.

    Returns
    -------
    Eraser
        After it the class means are equal (the cross-covariance with ``z`` is zero).

    Raises
    ------
    InterventionError
        If shapes do not fit, values are not finite, or ``z`` is constant.

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal((40, 3))
    >>> z = np.arange(40) % 2
    >>> x[:, 0] += 3 * z
    >>> eraser = fit_leace("L0.resid", x, z, trait="drums")
    >>> before, after = (np.linalg.norm(h[z == 1].mean(0) - h[z == 0].mean(0)) for h in (x, eraser(x)))
    >>> bool(before > 2), bool(after < 1e-9)
    (True, True)
    """
    data = np.asarray(x, dtype=np.float64)
    labels = np.asarray(z)
    if data.ndim != 2 or labels.shape != (len(data),):
        raise InterventionError(f"LEACE needs x (clips, dim) and z (clips,), not {data.shape} and {labels.shape}.")
    if labels.dtype.kind == "f":
        concept = labels.astype(np.float64)[:, None]
    else:
        concept = (labels[:, None] == np.unique(labels)[None, :]).astype(np.float64)
    if not (np.isfinite(data).all() and np.isfinite(concept).all()):
        raise InterventionError("LEACE needs finite activations and labels.")
    mean = data.mean(0)
    centred = data - mean
    concept = concept - concept.mean(0)
    if not np.abs(concept).sum():
        raise InterventionError("LEACE needs a concept that varies: all labels are the same.")
    values, vectors = np.linalg.eigh(centred.T @ centred / len(data))
    kept = values > tolerance * values.max()
    values, vectors = values[kept], vectors[:, kept]
    whiten = (vectors / np.sqrt(values)) @ vectors.T
    unwhiten = (vectors * np.sqrt(values)) @ vectors.T
    u, s, _ = np.linalg.svd(whiten @ (centred.T @ concept / len(data)), full_matrices=False)
    basis = u[:, s > tolerance * max(s.max(), 1e-300)]
    return Eraser(Site.parse(site), mean, unwhiten @ basis, basis.T @ whiten, trait=trait, model=model)


def erase(direction: Direction, eraser: Eraser, *, activations: Array | None = None) -> Direction:
    """The direction after a concept was erased from the activations.

    A push (mean difference) becomes its image, ``v - left (right v)``: the mean difference of the erased
    activations. A readout (probe weight) becomes ``w - right^T (left^T w)``: the weight that gives on
    untouched activations what ``w`` gives on erased ones.

    Parameters
    ----------
    direction : Direction
        The direction.
    eraser : Eraser
        Fitted at the same site on activations of the same checkpoint.
    activations : array of shape (clips, dim), optional
        Where to measure the new sigma; without, it is NaN.

    Returns
    -------
    Direction
        With ``info["erased"]`` and the share of its squared length that is left, ``info["kept"]``.

    Raises
    ------
    SiteError, CheckpointMismatch
        If the eraser belongs to another site or checkpoint.
    DataError
        If nothing is left.
    """
    direction.check_model(eraser.model)
    if eraser.site != direction.site or eraser.mean.size != direction.dim:
        raise SiteError(f"an eraser of {eraser.site} does not act on {direction}: fit one at {direction.site}.")
    v = direction.weight

    push = direction.role == "push"
    left = v - (eraser.left @ (eraser.right @ v) if push else eraser.right.T @ (eraser.left.T @ v))
    kept = float(left @ left / (v @ v))
    if kept < 1e-16:
        raise DataError(f"nothing of {direction} is left after {eraser.trait or 'the concept'} was erased.")
    intercept = direction.intercept
    if not push:  # w.(x - left right (x - mean)) + b, as a probe on untouched activations
        intercept += float(v @ (eraser.left @ (eraser.right @ eraser.mean)))
    cleaned = Direction.from_weight(
        direction.site,
        left,
        activations=activations,
        method=direction.method,
        trait=direction.trait,
        positive=direction.positive,
        against=direction.against,
        model=direction.model,
        pool=direction.pool,
        info={**direction.info, "erased": eraser.trait, "kept": kept},
    )
    return replace(cleaned, intercept=intercept if not push else cleaned.intercept)
