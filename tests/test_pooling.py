"""Pooling against the same written out frame by frame."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from interp.directions import Direction, Directions
from interp.errors import ClipError, DataError
from interp.model import MusicGen
from interp.pooling import Pooling, choose_pool, steps_between
from interp.steering import Add, Row, generate

SPEC = "last, mean, every:4, window:0.1-0.2"


def test_every_way_to_pool_over_clips_of_unequal_length(tiny_lm_model: MusicGen) -> None:
    frames = [11, 6, 9]
    x = torch.randn(3, 15, 5, generator=torch.Generator().manual_seed(0))
    pooling = Pooling.parse(SPEC, frame_rate=50.0, max_frames=11)
    assert pooling.names == ["last", "mean", "frame:0", "frame:4", "frame:8", "window:0.1-0.2"]
    pooler = pooling.pooler(frames, tiny_lm_model.frame_steps, 15, ["a", "b", "c"])
    pooled = pooler(x)
    assert pooled.shape == (3, 6, 5)
    for row, count in enumerate(frames):
        heard = x[row, 1 : 1 + count]  # frame t is read at step t + 1
        torch.testing.assert_close(pooled[row, 0], heard[-1], rtol=0, atol=0)
        torch.testing.assert_close(pooled[row, 1], heard.mean(0))
        for column, frame in enumerate((0, 4, 8), start=2):
            assert bool(pooler.present[row, column]) == (frame < count)
            if frame < count:
                torch.testing.assert_close(pooled[row, column], heard[frame], rtol=0, atol=0)
        # steps from 0.1 s on and before 0.2 s
        torch.testing.assert_close(pooled[row, 5], x[row, 5 : min(10, count)].mean(0))


def test_one_vector_needs_no_other(tiny_lm_model: MusicGen) -> None:
    x = torch.randn(1, 6, 3)
    for spec, expected in [("mean", x[0, 1:6].mean(0)), ("last", x[0, 5])]:
        pooler = Pooling.parse(spec, 50.0, 5).pooler([5], tiny_lm_model.frame_steps, 6, ["a"])
        torch.testing.assert_close(pooler(x)[0, 0], expected)


def test_half_precision_is_averaged_in_single(tiny_lm_model: MusicGen) -> None:
    # 300 frames of 400: their sum, 120,000, is beyond float16.
    x = torch.full((1, 301, 2), 400.0, dtype=torch.float16)
    pooled = Pooling.parse("mean", 50.0, 300).pooler([300], tiny_lm_model.frame_steps, 301, ["a"])(x)
    assert pooled.dtype == torch.float32
    np.testing.assert_allclose(pooled, 400.0, rtol=1e-5)


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("median", "cannot read 'median' as a pooling"),
        ("", "no pooling is named"),
        (["mean", 3], "not 3"),
        ("every:0", "covers no frame"),
        ("window:2-1", "covers no frame"),
        ("mean, mean", "gives 'mean' twice"),
        ("every:2, every:4", "gives 'frame:0' twice"),
    ],
)
def test_a_spec_that_cannot_be_read_gets_a_sentence(spec: object, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        Pooling.parse(spec, 50.0, 10)  # type: ignore[arg-type]


def test_a_window_beyond_a_clip_names_it(tiny_lm_model: MusicGen) -> None:
    with pytest.raises(
        ClipError, match=r"the window 0\.5-1\.0 s holds no frame of the clip 'b', which is 0\.20 s long"
    ):
        Pooling.parse("window:0.5-1.0", 50.0, 100).pooler([60, 10], tiny_lm_model.frame_steps, 70, ["a", "b"])


def test_one_vector_is_chosen_the_same_way_everywhere() -> None:
    assert choose_pool(["last"]) == "last"
    assert choose_pool(["last", "mean"]) == "mean"
    assert choose_pool(["frame:0", "last"], " last ") == "last"
    for names, pool, sentence in [
        (["frame:0", "frame:25"], None, "several ways .frame:0, frame:25.: name one"),
        (["mean"], "last", "no vectors pooled by 'last', only by mean"),
    ]:
        with pytest.raises(DataError, match=sentence):
            choose_pool(names, pool)


def test_a_second_is_the_same_to_a_pooling_and_to_an_intervention(tiny_lm_model: MusicGen) -> None:
    """What a window reads is what an intervention in that window changes."""
    directions = Directions([Direction("L1.resid", np.eye(32)[0], sigma=1.0, method="random", trait="x")])
    for start, stop in [(0.2, 0.3), (0.0, 0.1), (0.13, 0.29)]:
        push = Add(directions, strength=1.0, window=(start, stop))
        music = generate(tiny_lm_model, [Row(None, 0, interventions=(push,))], 0.6, None, progress=False)
        pushed = sorted(set(music.calls()["step"]))
        assert pushed == list(steps_between(start, stop, tiny_lm_model.frame_rate))
        pooler = Pooling.parse(f"window:{start}-{stop}", tiny_lm_model.frame_rate, 30).pooler(
            [30], tiny_lm_model.frame_steps, 34, ["a"]
        )
        assert pooler.weights[0, 0].nonzero()[:, 0].tolist() == pushed
