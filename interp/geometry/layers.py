"""Directions across sites and layers: compared in the one space that they share, or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from interp.directions import Direction
from interp.errors import DataError, SiteError
from interp.geometry.nulls import unit
from interp.geometry.spaces import Metric, cosine_matrix, output_map, unembedding

__all__ = ["across_sites"]

Array = NDArray[np.float64]
_DRAWS = 1000
"""Pairs of random directions behind the null of two sites."""


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

    Examples
    --------
    >>> import numpy as np
    >>> import interp
    >>> from interp.directions import Direction
    >>> model = interp.load("tiny", device="cpu")
    >>> pair = [Direction.from_weight(site, np.ones(model.shape.width), model=model.fingerprint)
    ...     for site in ("L1.resid", "L2.resid")]
    >>> across_sites(pair, model)[["site_a", "site_b", "cosine"]].round(2).to_dict("records")
    [{'site_a': 'L1.resid', 'site_b': 'L2.resid', 'cosine': 1.0}]
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
