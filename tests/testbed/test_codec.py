"""The shipped codec keeps audiocraft's promises."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from interp.data import render_arrays
from interp.testbed.codec import HOP, MelCodec, fit_codebooks


@pytest.fixture(scope="module")
def fitted() -> tuple[MelCodec, torch.Tensor]:
    audio = torch.from_numpy(render_arrays(40, seed=3, seconds=2.0)[0])
    frames = MelCodec(torch.zeros(4, 256, 96)).frames(audio)
    return MelCodec(fit_codebooks(frames.reshape(-1, 96), seed=0)), audio


def test_shapes_and_ranges(fitted: tuple[MelCodec, torch.Tensor]) -> None:
    codec, audio = fitted
    codes, scale = codec.encode(audio[:3, :, : 10 * HOP + 1])
    assert scale is None and codes.shape == (3, 4, 11) and codes.dtype == torch.int64
    assert codes.min() >= 0 and codes.max() < codec.cardinality
    assert codec.decode(codes).shape == (3, 1, 11 * HOP)
    assert (codec.frame_rate, codec.sample_rate, codec.num_codebooks, codec.channels) == (50.0, 16_000, 4, 1)
    with pytest.raises(ValueError, match="always uses 4"):
        codec.set_num_codebooks(2)


def test_each_codebook_removes_error(fitted: tuple[MelCodec, torch.Tensor]) -> None:
    codec, audio = fitted
    frames = codec.frames(audio)
    codes = codec.quantize(frames)
    spread = ((frames - frames.mean((0, 1))) ** 2).mean()
    left = [
        ((frames - sum(codec.codebooks[k][codes[:, k]] for k in range(n))) ** 2).mean() / spread for n in range(1, 5)
    ]
    assert all(later < earlier for earlier, later in itertools.pairwise(left))
    assert left[-1] < 0.15


def test_nearest_entries_are_chosen(fitted: tuple[MelCodec, torch.Tensor]) -> None:
    codec, audio = fitted
    frames = codec.frames(audio[:1])
    codes = codec.quantize(frames)
    distance = torch.cdist(frames[0].double(), codec.codebooks[0].double())
    np.testing.assert_allclose(distance.gather(1, codes[0, 0][:, None])[:, 0], distance.min(1).values, rtol=1e-4)


def test_round_trip_keeps_the_sound_and_is_deterministic(fitted: tuple[MelCodec, torch.Tensor]) -> None:
    codec, audio = fitted
    codes, _ = codec.encode(audio[:4])
    sound = codec.decode(codes)
    torch.testing.assert_close(sound, codec.decode(codes), rtol=0, atol=0)
    before, after = codec.frames(audio[:4]), codec.frames(sound)
    corr = [np.corrcoef(b.flatten(), a.flatten())[0, 1] for b, a in zip(before.numpy(), after.numpy(), strict=True)]
    assert min(corr) > 0.9
    alone = codec.decode(codes[2:3])
    torch.testing.assert_close(alone[0], sound[2], rtol=1e-3, atol=1e-4)
