"""Directions across sites, layers and checkpoints: compared in the one space that they share, or not at
all."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from interp.directions import Direction, Directions
from interp.errors import DataError, SiteError
from interp.geometry.nulls import unit
from interp.geometry.spaces import Metric, cosine_matrix, in_space, output_map, unembedding
from interp.stats import cosine_null

__all__ = ["across_checkpoints", "across_sites", "mapped_null", "top_codes"]

Array = NDArray[np.float64]
_DRAWS = 1000
"""Pairs of random directions behind the null of two sites."""


def mapped_null(map_a: Array, map_b: Array, *, draws: int = 2000, seed: int = 0, level: float = 0.95) -> float:
    """Absolute cosine that random directions of two sites reach after their maps, with probability ``1 -
    level``.

    A head writes into a few dimensions of the residual stream only, and unevenly, so the uniform null of
    the residual stream's dimension is too lenient.

    Parameters
    ----------
    map_a, map_b : arrays of shape (space, dim a), (space, dim b)
        For example :func:`interp.geometry.output_map`.
    """
    rng = np.random.default_rng(seed)
    a = unit(rng.standard_normal((draws, map_a.shape[1])) @ map_a.T)
    b = unit(rng.standard_normal((draws, map_b.shape[1])) @ map_b.T)
    return float(np.quantile(np.abs((a * b).sum(axis=1)), level))


def across_sites(directions: Sequence[Direction], model: Any, metric: Metric = "residual") -> pd.DataFrame:
    """Cosines of directions of different sites in the residual stream (or in the logits), each with its null.

    Parameters
    ----------
    directions : sequence of Direction
        Of one trait and method, say, over layers and heads.
    model : MusicGen
        The checkpoint they were read from.
    metric : {"residual", "logits"}
        The common space.

    Returns
    -------
    DataFrame
        One row per pair: ``site_a``, ``site_b``, ``layer_a``, ``layer_b``, ``a``, ``b`` (labels),
        ``cosine``, ``null_hi`` (95 % of the absolute cosine of random directions of these two sites,
        through the same weights).

    Raises
    ------
    SiteError
        If the metric has no common space.
    """
    if metric not in ("residual", "logits"):
        raise SiteError(f"sites have no common space under {metric!r}: use 'residual' or 'logits'.")
    matrix = cosine_matrix(directions, metric, model=model)
    last = unembedding(model) if metric == "logits" else None
    rng = np.random.default_rng(0)
    images: dict[Any, NDArray[np.float32]] = {}  # of random directions, drawn once a site and paired between sites
    for d in directions:
        if d.site not in images:
            through = output_map(model, d.site)
            through = through if last is None else last @ through
            images[d.site] = unit(rng.standard_normal((_DRAWS, d.dim)) @ through.T).astype(np.float32)
    nulls: dict[tuple[Any, Any], float] = {}
    rows = []
    for i, j in combinations(range(len(directions)), 2):
        a, b = directions[i], directions[j]
        if (a.site, b.site) not in nulls:
            # within one site the draws are paired with each other's neighbours, not with themselves
            other = np.roll(images[b.site], 1, axis=0) if a.site == b.site else images[b.site]
            nulls[a.site, b.site] = float(np.quantile(np.abs((images[a.site] * other).sum(axis=1)), 0.95))
        where = {"site_a": str(a.site), "site_b": str(b.site), "layer_a": a.site.layer, "layer_b": b.site.layer}
        names = {"a": matrix.index[i], "b": matrix.index[j]}
        rows.append(where | names | {"cosine": matrix.iat[i, j], "null_hi": nulls[a.site, b.site]})
    if not rows:
        raise DataError("one direction has nothing to be compared with: give two or more.")
    return pd.DataFrame(rows)


def across_checkpoints(a: Directions, b: Directions) -> pd.DataFrame:
    """Cosines between the same direction in two checkpoints that share a width.

    Meaningful only where the two share a basis: one trained on from the other, or two steps of one run. Two
    checkpoints trained from different seeds have unrelated bases, and cosines near zero say nothing then.

    Parameters
    ----------
    a, b : Directions
        The same sites, methods and traits in both.

    Returns
    -------
    DataFrame
        ``site``, ``kind``, ``layer``, ``head``, ``trait``, ``positive``, ``method``, ``cosine``, ``null_hi``.

    Raises
    ------
    SiteError
        If nothing matches, or a width differs.
    """
    keys = ("site", "method", "trait", "positive", "pool")
    other = {tuple(getattr(d, k) for k in keys): d for d in b}
    rows = []
    for d in a:
        twin = other.get(tuple(getattr(d, k) for k in keys))
        if twin is None:
            continue
        if twin.dim != d.dim:
            raise SiteError(f"{d} has width {d.dim} in one checkpoint and {twin.dim} in the other: no cosine.")
        where = {"site": str(d.site), "kind": d.site.kind, "layer": d.site.layer, "head": d.site.head}
        what = {"trait": d.trait, "positive": d.positive, "method": d.method}
        rows.append(where | what | {"cosine": float(d.vector @ twin.vector), "null_hi": float(cosine_null(d.dim))})
    if not rows:
        raise SiteError("the two checkpoints have no direction of the same site, method and trait in common.")
    return pd.DataFrame(rows).astype({"head": "Int64"})


def top_codes(direction: Direction, model: Any, k: int = 10) -> pd.DataFrame:
    """The codec codes that a direction promotes and suppresses most, by its direct effect on the logits.

    Returns
    -------
    DataFrame
        ``codebook``, ``code``, ``effect`` (of one unit of the direction, up to the final norm's common
        factor), ``rank`` within the codebook, from 0; the ``k`` most promoted and ``k`` most suppressed of
        every codebook.
    """
    effect = in_space([direction], "logits", model=model)[0].reshape(len(model.lm.linears), -1)
    rows = []
    for codebook, row in enumerate(effect):
        order = np.argsort(-row)
        for rank in [*range(min(k, len(row))), *range(max(len(row) - k, k), len(row))]:
            code = int(order[rank])
            rows.append({"codebook": codebook, "code": code, "effect": float(row[code]), "rank": rank})
    return pd.DataFrame(rows)
