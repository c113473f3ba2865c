"""Attention of one new position over cached keys and values, compiled with numba for the CPU.

torch's kernel spends its time on the bookkeeping of thousands of small matrices; this one streams through the cache
once. Keys are laid out ``[rows, heads, dim, positions]`` so that scores of successive positions are computed side by
side. A cache has two parts: a prefix that several rows share, and each row's own positions.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["attend", "step"]

F32 = NDArray[np.float32]


@numba.njit(nogil=True, fastmath=True, error_model="numpy", cache=True)  # type: ignore[untyped-decorator]
def attend(
    query: F32,
    prefix_keys: F32,
    prefix_values: F32,
    prefix_of: NDArray[np.int64],
    n_prefix: int,
    keys: F32,
    values: F32,
    n_own: int,
    out: F32,
) -> None:
    """Write softmax(q K^T / sqrt(dim)) V into ``out``.

    Parameters
    ----------
    query, out : array of shape (rows, heads, dim)
    prefix_keys : array of shape (prefixes, heads, dim, >= n_prefix)
    prefix_values : array of shape (prefixes, heads, >= n_prefix, dim)
    prefix_of : array of shape (rows,)
        Which prefix a row has.
    n_prefix, n_own : int
        Filled positions.
    keys : array of shape (rows, heads, dim, >= n_own)
    values : array of shape (rows, heads, >= n_own, dim)
    """
    rows, heads, dim = query.shape
    scale = np.float32(1.0 / np.sqrt(dim))
    total = n_prefix + n_own
    scores = np.empty(total, np.float32)
    own = scores[n_prefix:]
    for row in range(rows):
        prefix = prefix_of[row]
        for head in range(heads):
            for t in range(total):
                scores[t] = np.float32(0)
            for d in range(dim):
                q = query[row, head, d] * scale
                if n_prefix:
                    key = prefix_keys[prefix, head, d]
                    for t in range(n_prefix):
                        scores[t] += q * key[t]
                if n_own:
                    key = keys[row, head, d]
                    for t in range(n_own):
                        own[t] += q * key[t]
            top = scores[0]
            for t in range(total):
                top = max(top, scores[t])
            mass = np.float32(0)
            for t in range(total):
                weight = np.exp(scores[t] - top)
                scores[t] = weight
                mass += weight
            mixed = out[row, head]
            for d in range(dim):
                mixed[d] = np.float32(0)
            for t in range(n_prefix):
                weight = scores[t]
                value = prefix_values[prefix, head, t]
                for d in range(dim):
                    mixed[d] += weight * value[d]
            for t in range(n_own):
                weight = own[t]
                value = values[row, head, t]
                for d in range(dim):
                    mixed[d] += weight * value[d]
            for d in range(dim):
                mixed[d] /= mass


@numba.njit(nogil=True, fastmath=True, error_model="numpy", cache=True)  # type: ignore[untyped-decorator]
def step(
    projected: F32,
    prefix_keys: F32,
    prefix_values: F32,
    prefix_of: NDArray[np.int64],
    n_prefix: int,
    keys: F32,
    values: F32,
    n_own: int,
    out: F32,
) -> None:
    """Store the new position's key and value at ``n_own`` and attend from its query.

    ``projected`` holds query, key and value, ``(rows, 3, heads, dim)``; the rest as in :func:`attend`.
    """
    rows, _, heads, dim = projected.shape
    for row in range(rows):
        for head in range(heads):
            for d in range(dim):
                keys[row, head, d, n_own] = projected[row, 1, head, d]
                values[row, head, n_own, d] = projected[row, 2, head, d]
    attend(projected[:, 0], prefix_keys, prefix_values, prefix_of, n_prefix, keys, values, n_own + 1, out)
