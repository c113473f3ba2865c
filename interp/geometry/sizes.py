"""How fast a direction settles as clips are added."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from interp.directions.direction import Direction
from interp.directions.estimator import estimators_of
from interp.directions.reading import clip_groups, label_table
from interp.geometry.agreement import stack_of, strata_of
from interp.geometry.compare import activations_at
from interp.geometry.resampling import subsamples

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["cosine_by_size"]


def cosine_by_size(
    ds: xr.Dataset,
    directions: Iterable[Direction],
    sizes: Sequence[int],
    *,
    clips: NDArray[np.bool_] | None = None,
    n: int = 8,
    seed: int = 0,
) -> pd.DataFrame:
    """How fast directions settle as clips are added (ITI, figure 6A, and its honest twin).

    Parameters
    ----------
    ds : xarray.Dataset
        The activations that the directions were fitted on.
    directions : iterable of Direction
        Each is fitted again as it was, at its own penalty per clip.
    sizes : sequence of int
        Clips in a subsample; at most half of all.
    clips : bool array of shape (clips,), optional
        Clips that the directions were fitted on; all by default.
    n : int
        Pairs of subsamples of each size; groups are drawn whole.
    seed : int
        Of the draws.

    Returns
    -------
    DataFrame
        One row per direction, size and pair: ``trait``, ``positive``, ``method``, ``site``, ``size``, ``n_clips`` (in
        the subsample), ``cosine_full`` (subsample against the direction, whose clips contain it) and
        ``cosine_disjoint`` (two subsamples that share no group).

    Examples
    --------
    >>> import numpy as np
    >>> from interp.directions import fit_directions
    >>> import interp
    >>> tones = [np.sin(np.arange(4000) / (5 + 5 * (i % 2))) * (i + 4) / 32 for i in range(24)]
    >>> clips = interp.Clips.from_arrays(tones, 16_000, {"high": [1 - i % 2 for i in range(24)]})
    >>> ds = interp.extract(interp.load("tiny", device="cpu"), clips, sites="L3.resid", progress=False)
    >>> found = fit_directions(ds, "high", sites="L3.resid", methods=("mean_diff",))
    >>> table = cosine_by_size(ds, found, [8, 12], n=2)
    >>> table.groupby("size")["cosine_full"].mean().gt(0.5).tolist()
    [True, True]
    """
    directions = list(directions)
    table, groups = label_table(ds), clip_groups(ds)
    tables = []
    for kind in dict.fromkeys(d.site.kind for d in directions):
        members = [d for d in directions if d.site.kind == kind]
        x = activations_at(ds, members)
        for estimator in estimators_of(members, table, clips):
            stacked = stack_of(x, estimator)
            estimator.check(stacked)
            used = estimator.target.used
            drawn, _ = subsamples(strata_of([estimator.target])[used], groups[used], sizes, n=n, seed=seed)
            weights = np.zeros((*drawn.shape[:-1], len(used)))
            weights[..., used] = drawn
            v = estimator.vectors(stacked, weights.reshape(-1, len(used)))
            full = np.stack([d.vector for d in estimator.directions])[:, None, None]
            parts = v.reshape(len(v), len(sizes) * n, 2, -1)
            tables.append(
                pd.DataFrame(
                    {
                        "trait": str(estimator.target.trait),
                        "positive": estimator.target.positive,
                        "method": estimator.method,
                        "site": np.repeat([str(site) for site in estimator.sites], len(sizes) * n),
                        "size": np.tile(np.repeat(np.asarray(sizes), n), len(v)),
                        "n_clips": np.tile(drawn.sum(axis=(2, 3)).ravel() / 2, len(v)),
                        "cosine_full": (parts * full).sum(axis=-1).mean(axis=-1).ravel(),
                        "cosine_disjoint": (parts[:, :, 0] * parts[:, :, 1]).sum(axis=-1).ravel(),
                    }
                )
            )
    return pd.concat(tables, ignore_index=True)
