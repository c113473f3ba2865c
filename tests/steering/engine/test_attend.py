"""The compiled kernel against torch's attention."""

from __future__ import annotations

import numpy as np
import torch

from interp.steering.engine import attend


def test_the_compiled_kernel_is_attention() -> None:
    rng = np.random.default_rng(0)
    rows, heads, dim, prefix, own = 5, 3, 7, 11, 4

    def draw(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    prefix_keys, prefix_values = draw(2, heads, prefix, dim), draw(2, heads, prefix, dim)
    keys, values = draw(rows, heads, own + 2, dim), draw(rows, heads, own + 2, dim)
    projected, of = draw(rows, 3, heads, dim), np.array([0, 1, 1, 0, 1])
    out = np.empty((rows, heads, dim), np.float32)
    cache_keys, cache_values = keys.transpose(0, 1, 3, 2).copy(), values.copy()
    attend.step(
        projected,
        prefix_keys.transpose(0, 1, 3, 2).copy(),
        prefix_values,
        of,
        prefix,
        cache_keys,
        cache_values,
        own,
        out,
    )
    assert np.array_equal(cache_keys[..., own], projected[:, 1])
    assert np.array_equal(cache_values[:, :, own], projected[:, 2])
    for row in range(rows):
        k = np.concatenate([prefix_keys[of[row]], keys[row, :, :own], projected[row, 1][:, None]], axis=1)
        v = np.concatenate([prefix_values[of[row]], values[row, :, :own], projected[row, 2][:, None]], axis=1)
        tensors = (torch.tensor(projected[row, 0][:, None]), torch.tensor(k), torch.tensor(v))
        expected = torch.nn.functional.scaled_dot_product_attention(*tensors)[:, 0].numpy()
        assert np.allclose(out[row], expected, atol=1e-5)
    nothing = np.zeros((1, heads, dim, 0), np.float32), np.zeros((1, heads, 0, dim), np.float32)
    query = np.zeros((rows, heads, dim), np.float32)
    attend.attend(query, *nothing, np.zeros(rows, np.int64), 0, cache_keys, cache_values, own + 1, out)
    assert np.allclose(out, cache_values[:, :, : own + 1].mean(2), atol=1e-5)
