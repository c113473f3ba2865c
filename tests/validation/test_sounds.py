"""Sounds to continue and to compare with."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from interp.clips import Clips
from interp.errors import DataError
from interp.model import MusicGen
from interp.traits import Trait
from interp.validation import prompts_with, prompts_without
from interp.validation.sounds import draw, encode, reference_sounds


def test_prompts_lack_the_trait(tiny_lm_model: MusicGen, clips: Clips) -> None:
    codes = prompts_without(tiny_lm_model, "instrument=piano", 20, 0.5, clips=clips)
    organ = np.flatnonzero(clips.labels["instrument"] == "organ")
    for code, i in zip(codes, organ, strict=True):
        whole = tiny_lm_model.encode(torch.from_numpy(clips[int(i)].audio)[None], 16000)[0]
        assert torch.equal(code, whole)
    with pytest.raises(DataError, match="20 sounds lack drums, but 21 are needed"):
        prompts_without(tiny_lm_model, "drums", 21, 0.5, clips=clips)
    with pytest.raises(DataError, match="no label 'choir'"):
        prompts_without(tiny_lm_model, "choir", 2, 0.5, clips=clips)


def test_rendered_prompts_lack_the_trait_and_differ() -> None:
    seen: list[np.ndarray] = []

    def encode(audio: torch.Tensor, rate: int) -> torch.Tensor:
        seen.append(audio.numpy())
        return torch.zeros(1, 4, 10, dtype=torch.long)

    prompts_without(SimpleNamespace(encode=encode), "genre=jazz", 6, 0.5, seed=1)
    assert len(seen) == 6 and len({sound.tobytes() for sound in seen}) == 6
    assert all(sound.shape == (1, 1, 8000) for sound in seen)


def test_prompts_with_the_trait_have_it(tiny_lm_model: MusicGen, clips: Clips) -> None:
    codes = prompts_with(tiny_lm_model, "instrument=piano", 3, 0.3, clips=clips)
    whole = tiny_lm_model.encode(torch.from_numpy(clips[0].audio)[None, :, :4800], 16000)[0]
    assert torch.equal(codes[0], whole)
    with pytest.raises(DataError, match="20 sounds have drums, but 30 are needed"):
        prompts_with(tiny_lm_model, "drums", 30, 0.3, clips=clips)


def test_of_a_pair_the_other_class_is_what_lacks_it() -> None:
    labels = pd.DataFrame({"genre": ["jazz", "rock", "classical"] * 2, "group": list("abcdef")})
    clips = Clips.from_arrays([np.ones((1, 800), np.float32)] * 6, 16_000, labels)
    assert draw("genre=jazz|rock", 2, 0.05, present=False, clips=clips).labels["genre"].tolist() == ["rock"] * 2
    assert set(draw("genre=jazz", 4, 0.05, present=False, clips=clips).labels["genre"]) == {"rock", "classical"}
    for trait, factor in (("genre=jazz|rock", "rock"), (Trait("genre", "jazz"), None)):
        rendered = draw(trait, 5, 0.5, present=False, seed=4).labels["genre"]
        assert len(rendered) == 5 and "jazz" not in set(rendered) and (factor is None or set(rendered) == {factor})


def test_labels_in_words_are_read_as_everywhere() -> None:
    labels = pd.DataFrame({"drums": ["yes", "No ", "yes", "no"], "group": list("abcd")})
    clips = Clips.from_arrays([np.ones((1, 800), np.float32)] * 4, 16_000, labels)
    assert list(draw("drums", 2, 0.05, present=False, clips=clips).ids) == [list(clips.ids)[1], list(clips.ids)[3]]


def test_a_clip_that_is_too_short_to_continue_is_named(tiny_lm_model: MusicGen, clips: Clips) -> None:
    with pytest.raises(DataError, match=r"lasts 0\.5 s, but 2 s of it are continued"):
        encode(tiny_lm_model, clips, 2.0)


def test_references_go_through_the_codec(tiny_lm_model: MusicGen, clips: Clips) -> None:
    music = reference_sounds(tiny_lm_model, "drums", 50, 0.3, clips=clips)
    assert len(music) == 20  # a folder may hold fewer
    lacking = reference_sounds(tiny_lm_model, "drums", 4, 0.3, present=False, clips=clips)
    first = torch.from_numpy(clips[0].audio)[None, :, :4800]
    torch.testing.assert_close(lacking[:1], tiny_lm_model.decode(tiny_lm_model.encode(first, 16_000)))
    assert len(reference_sounds(tiny_lm_model, None, 3, 0.3, clips=clips)) == 3
    with pytest.raises(DataError, match="1 reference sounds for music"):
        reference_sounds(tiny_lm_model, None, 1, 0.3, clips=clips)
