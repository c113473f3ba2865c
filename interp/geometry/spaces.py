"""Inner products: in which space two directions are compared.

===============  ===================================================================  =========================
metric           cosine between                                                       may be compared
===============  ===================================================================  =========================
``"raw"``        the vectors as they are                                              one site
``"scores"``     what the directions read from clips: the correlation of projections  one site
``"whitened"``   their images where the activations have unit covariance              one site
                 (Mahalanobis; readouts and pushes transform oppositely)
``"residual"``   what they write into the residual stream, through the output         all sites of one checkpoint
                 projection for heads
``"logits"``     what they do to the codebook logits, through the final norm and      all sites of one checkpoint
                 the unembedding
===============  ===================================================================  =========================

The residual stream is one additive space that all layers share, so what a head of layer 2 and a block of
layer 5 write into it can be compared; what a later layer *does* with it is not in this picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from interp.directions import Direction
from interp.directions.algebra import same_space
from interp.errors import DataError
from interp.sites import Site

__all__ = [
    "METRICS",
    "Metric",
    "cosine",
    "cosine_matrix",
    "in_space",
    "labels_of",
    "output_map",
    "through_output",
    "unembedding",
]

Array = NDArray[np.float64]
Metric = Literal["raw", "scores", "whitened", "residual", "logits"]
METRICS: tuple[Metric, ...] = get_args(Metric)


def in_space(
    directions: Sequence[Direction],
    metric: Metric = "raw",
    *,
    covariance: Array | None = None,
    model: Any = None,
) -> Array:
    """Coordinates in which the plain dot product is the inner product asked for.

    Parameters
    ----------
    directions : sequence of Direction
        What to compare.
    metric : {"raw", "scores", "whitened", "residual", "logits"}
        See the table of :mod:`interp.geometry.spaces`.
    covariance : array of shape (dim, dim), optional
        Covariance of the activations at the site, for ``"scores"`` and ``"whitened"``.
    model : MusicGen, optional
        The checkpoint, for ``"residual"`` and ``"logits"``.

    Returns
    -------
    array of shape (directions, space)
        Of the same length for all, not normalised.

    Raises
    ------
    SiteError
        If directions of different sites are compared in a space that is a site's own.
    CheckpointMismatch
        If directions come from different checkpoints, or another one than ``model``.
    DataError
        If there is no direction, or the metric lacks its covariance or model.

    Examples
    --------
    >>> from interp.directions import Direction
    >>> in_space([Direction.from_weight("L0.H1", [3.0, 4.0])], "raw").round(2).tolist()
    [[0.6, 0.8]]
    """
    if metric not in METRICS:
        raise DataError(f"no inner product {metric!r}: use one of {', '.join(METRICS)}.")
    if not directions:
        raise DataError("no directions to compare.")
    if metric in ("residual", "logits"):
        if model is None:
            raise DataError(f"the inner product {metric!r} runs through the model's weights: give model=.")
        written = through_output(directions, model)
        return written if metric == "residual" else written @ unembedding(model).T
    same_space(directions)
    stacked = np.stack([d.vector for d in directions])
    if metric == "raw":
        return stacked
    if covariance is None:
        raise DataError(f"the inner product {metric!r} needs the activations' covariance: give covariance=.")
    covariance = np.asarray(covariance, dtype=np.float64)
    if covariance.shape != (stacked.shape[1],) * 2:
        raise DataError(f"the covariance has shape {covariance.shape}, the directions have width {stacked.shape[1]}.")
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    keep = values > max(values[-1], 0) * 1e-10
    if not keep.any():
        raise DataError("the covariance is zero: the activations do not vary at this site.")
    root = np.sqrt(values[keep])
    rotated = stacked @ vectors[:, keep]
    pushes = np.array([metric == "whitened" and d.role == "push" for d in directions])
    return np.where(pushes[:, None], rotated / root, rotated * root)


def cosine(a: Direction, b: Direction, metric: Metric = "raw", **space: Any) -> float:
    """Cosine of two directions; arguments as for :func:`in_space`.

    Examples
    --------
    >>> a = Direction.from_weight("L0.H0", [1.0, 0.0])
    >>> b = Direction.from_weight("L0.H0", [1.0, 1.0])
    >>> round(cosine(a, b), 4)
    0.7071
    """
    return float(_cosines(in_space([a, b], metric, **space), [a, b])[0, 1])


def cosine_matrix(
    directions: Sequence[Direction], metric: Metric = "raw", *, clustered: bool = False, **space: Any
) -> pd.DataFrame:
    """Cosines of all pairs, labelled by what tells the directions apart.

    Parameters
    ----------
    directions, metric, **space
        As for :func:`in_space`.
    clustered : bool
        Put families side by side: in the order of an average-linkage tree on ``1 - |cosine|``, else as they come.

    Returns
    -------
    DataFrame
        Square; ``attrs["metric"]``.

    Examples
    --------
    >>> from interp.directions import Direction
    >>> pair = [Direction.from_weight("L0.H1", w, method=m) for m, w in (("ridge", [1.0, 0]), ("lda", [1.0, 1.0]))]
    >>> cosine_matrix(pair).round(2).to_numpy().tolist()
    [[1.0, 0.71], [0.71, 1.0]]
    >>> three = [Direction.from_weight("L0.H1", w, trait=t) for w, t in (([0, 1], "a"), ([2, 1], "b"), ([1, 9], "c"))]
    >>> list(cosine_matrix(three, clustered=True))
    ['b', 'c', 'a']
    """
    names = labels_of(directions)
    values = _cosines(in_space(directions, metric, **space), directions)
    frame = pd.DataFrame(values, index=names, columns=names)
    if clustered and len(values) > 2:
        order = _by_family(values)
        frame = frame.iloc[order, order]
    frame.attrs.update(metric=metric)
    return frame


def _by_family(cosines: Array) -> NDArray[np.intp]:
    from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
    from scipy.spatial.distance import squareform

    distance = np.clip(1 - np.abs((cosines + cosines.T) / 2), 0, None)
    np.fill_diagonal(distance, 0)
    flat = squareform(distance, checks=False)
    return np.asarray(leaves_list(optimal_leaf_ordering(linkage(flat, "average"), flat)))


def _cosines(coordinates: Array, directions: Sequence[Direction]) -> Array:
    lengths = np.linalg.norm(coordinates, axis=1)
    small = np.flatnonzero(lengths <= 1e-12 * max(lengths.max(initial=0.0), 1e-300))
    if len(small):
        raise DataError(f"{directions[int(small[0])]} has no length in this space, so it has no cosine there.")
    unit = coordinates / lengths[:, None]
    return np.clip(unit @ unit.T, -1.0, 1.0)


def labels_of(directions: Sequence[Direction]) -> list[str]:
    """A short name for each direction, made of the fields in which they differ."""
    columns: list[list[str]] = [
        [str(d.site) for d in directions],
        [d.towards for d in directions],
        [d.method for d in directions],
        [d.model for d in directions],
    ]
    told = [column for column in columns if len(set(column)) > 1] or [columns[2]]
    names = [" ".join(words) for words in zip(*told, strict=True)]
    seen: dict[str, int] = {}
    unique = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return unique


def output_map(model: Any, site: Site | str) -> Array:
    """Matrix that takes an activation at a site to what it adds to the residual stream.

    Returns
    -------
    array of shape (width, dim)
        The head's columns of the output projection, with the block's layer scale; the identity for all
        other sites.

    Raises
    ------
    SiteError
        If the model does not have the site.
    """
    site = Site.parse(site).check(model.shape)
    width = model.shape.width
    if site.head is None:
        return np.eye(width)
    weight = _numpy(model.output_projection(site))
    dim = model.shape.head_dim
    return weight[:, site.head * dim : (site.head + 1) * dim]


def through_output(directions: Iterable[Direction], model: Any) -> Array:
    """What each unit vector writes into the residual stream, of shape (directions, width).

    Raises
    ------
    SiteError, CheckpointMismatch
        If a direction does not fit the model.

    Examples
    --------
    >>> import interp
    >>> from interp.directions import Direction
    >>> model = interp.load("tiny", device="cpu")
    >>> head = Direction.from_weight("L1.H2", np.ones(model.shape.head_dim), model=model.fingerprint)
    >>> through_output([head], model).shape
    (1, 256)
    """
    rows = []
    maps: dict[Site, Array] = {}
    for d in directions:
        d.check_model(model.fingerprint).check_shape(model.shape)
        if d.site not in maps:
            maps[d.site] = output_map(model, d.site)
        rows.append(maps[d.site] @ d.vector)
    return np.stack(rows)


def unembedding(model: Any) -> Array:
    """Matrix from the residual stream to the logits of all codebooks, linearised at the final norm.

    The final norm subtracts the mean over features and multiplies by its gain; its division by the spread
    is left out, because a common factor changes no cosine. Logits matter only up to a shift per codebook,
    so each codebook's rows are centred.

    Returns
    -------
    array of shape (codebooks * cardinality, width)

    Examples
    --------
    >>> import interp
    >>> unembedding(interp.load("tiny", device="cpu")).shape
    (1024, 256)
    """
    heads = np.stack([_numpy(linear.weight) for linear in model.lm.linears])  # [K, card, width]
    heads = heads - heads.mean(axis=1, keepdims=True)
    matrix = heads.reshape(-1, heads.shape[-1])
    norm = getattr(model.lm, "out_norm", None)
    if norm is not None:
        if getattr(norm, "weight", None) is not None:
            matrix = matrix * _numpy(norm.weight)
        matrix = matrix - matrix.mean(axis=1, keepdims=True)  # the mean over features never reaches the logits
    return matrix


def _numpy(parameter: Any) -> Array:
    return np.asarray(parameter.detach().to("cpu", copy=True).double().numpy())
