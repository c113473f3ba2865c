"""Music that begins later in its piece: the same codes at other positions, in every runner, written down."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from interp.activations import extract, features, open_store
from interp.backends import audiocraft as seam
from interp.backends.build import random_musicgen
from interp.clips import Clips
from interp.errors import ModelError
from interp.model import MusicGen
from interp.sites import Site
from interp.steering import Row, generate

EMBED = Site("embed")


@pytest.fixture(scope="module")
def model() -> MusicGen:
    return MusicGen(random_musicgen(2, 2, 32, seed=2))


def test_later_music_is_the_same_tokens_at_later_positions(model: MusicGen) -> None:
    codes = torch.randint(32, (2, 4, 12), generator=torch.Generator().manual_seed(0))
    first = model.predict(codes, read=["embed"], logits=False).values[EMBED]
    with model.starting_at(3.0):
        later = model.predict(codes, read=["embed"], logits=False).values[EMBED]
        with model.trace(codes=codes):
            traced = model.output.save()
        assert torch.equal(traced, model.forward(model.sequence(codes)[0][..., :-1]).logits)
    moved = seam.sinusoids(model.lm.transformer, torch.arange(150, 165))
    still = seam.sinusoids(model.lm.transformer, torch.arange(15))
    assert torch.allclose(later - first, (moved - still).expand_as(first), atol=1e-6)
    assert torch.equal(model.predict(codes, read=["embed"], logits=False).values[EMBED], first)


def test_the_end_of_a_long_piece_is_heard_where_it_stands(model: MusicGen) -> None:
    """Attention aside: the embedding of the last frames of a whole, and of the same frames alone with an offset."""
    codes = torch.randint(32, (1, 4, 40), generator=torch.Generator().manual_seed(1))
    whole = model.predict(codes, read=["embed"], logits=False).values[EMBED]
    with model.starting_at(30 / 50):
        part = model.predict(codes[..., 30:], read=["embed"], logits=False).values[EMBED]
    # the first steps of the part hear the start token where the whole hears music
    assert torch.equal(part[:, 4:10], whole[:, 34:40])


def test_every_engine_begins_there(model: MusicGen) -> None:
    rows = [Row("a", 1), Row("b", 2, torch.randint(32, (4, 7), generator=torch.Generator().manual_seed(3)))]
    made = {
        engine: generate(model, rows, 0.4, engine=engine, offset=12.0, progress=False)  # type: ignore[arg-type]
        for engine in ("nnsight", "hooks", "fast")
    }
    assert torch.equal(made["nnsight"].codes, made["hooks"].codes)
    assert torch.equal(made["nnsight"].codes, made["fast"].codes)
    assert not torch.equal(made["fast"].codes, generate(model, rows, 0.4, progress=False).codes)
    assert made["fast"].settings["offset"] == 12.0
    with model.starting_at(5.0):  # what generate is asked for holds, whatever is on around it
        assert torch.equal(generate(model, rows, 0.4, offset=12.0, progress=False).codes, made["fast"].codes)


def test_a_store_knows_where_its_clips_begin(model: MusicGen, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    clips = Clips.from_arrays([0.3 * rng.normal(size=(1, 8000)) for _ in range(3)], 16000)
    options: dict[str, Any] = {"sites": "resid", "progress": False}
    late = extract(model, clips, offset=20, out=tmp_path / "a.zarr", **options)
    with model.starting_at(20):
        codes = [model.encode(torch.from_numpy(clips[i].audio), 16000) for i in range(3)]
        by_hand = [model.predict(c, read=["L1.resid"]).values[Site("resid", 1)][0, 1:26].mean(0) for c in codes]
    assert np.allclose(features(late, "L1.resid"), torch.stack(by_hand), atol=1e-5)
    early = extract(model, clips, **options)
    assert not np.allclose(features(late, "L1.resid"), features(early, "L1.resid"))
    made_by = json.loads(open_store(tmp_path / "a.zarr").attrs["made_by"])
    assert made_by["offset"] == 20
    again = extract(model, clips, out=tmp_path / "a.zarr", **options)  # no clip of the store is taken for another
    assert np.allclose(features(again, "L1.resid"), features(early, "L1.resid"), atol=1e-6)


def test_where_music_cannot_begin(model: MusicGen) -> None:
    clips = Clips.from_arrays([np.full((1, 8000), 0.1)], 16000)
    for seconds in (-1.0, float("nan"), float("inf"), "30"):
        for begin in (
            lambda s: generate(model, [Row()], 0.1, offset=s, progress=False),
            lambda s: extract(model, clips, offset=s, progress=False),
            lambda s: model.starting_at(s).__enter__(),
        ):
            with pytest.raises(ModelError, match="music cannot begin at second"):
                begin(seconds)
    rope = MusicGen(random_musicgen(1, 2, 16, positional_embedding="rope"))
    with pytest.raises(ModelError, match="begins at second 0 alone"), rope.starting_at(1.0):
        pass
    with rope.starting_at(0.0):
        rope.predict(torch.zeros(1, 4, 5, dtype=torch.long))
