"""Blocks of sites, weightings and labellings that fit the memory and, on a CPU, the cache."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from interp.errors import DataError

__all__ = ["rows_at_once", "site_chunks"]

_CACHE_BYTES = 8 * 2**20
"""Working set of a block on a CPU: large enough to hide the cost of a call, small enough for the outer cache."""
_HISTORY = 24
"""Vectors of the problem's width that L-BFGS holds at once, with temporaries."""
_ROWS = 64
"""Rows of weights that are fitted together at most."""


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
    per_site = _per_site(shape, n_folds, n_penalties, itemsize)
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


def _per_site(shape: tuple[int, ...], n_folds: int, n_penalties: int, itemsize: int) -> int:
    _, clips, dim = shape
    return itemsize * clips * dim * 2 + 8 * dim * dim * (n_folds * (n_penalties + 1) + 2)


def rows_at_once(shape: tuple[int, ...], n_penalties: int, itemsize: int, memory: int) -> int:
    """Rows of weights whose Gram matrices take at most half of the memory."""
    one = _per_site(shape, 1, n_penalties, itemsize)
    more = 8 * shape[2] ** 2 * (n_penalties + 1)
    return int(np.clip(1 + (memory // 2 - one) // more, 1, _ROWS))
