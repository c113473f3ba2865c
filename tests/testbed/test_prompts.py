"""Prompts of the shipped model: a closed vocabulary that says so."""

from __future__ import annotations

import pytest
import torch

from interp.errors import ModelError
from interp.testbed.prompts import PHRASES, PhraseConditioner, describe_clip, parse_prompt, tokens_of


def test_phrases_are_read_in_any_order_and_case() -> None:
    assert parse_prompt("Piano,  no   Drums ,jazz") == ["piano", "no drums", "jazz"]
    assert parse_prompt(None) == parse_prompt("") == []


def test_unknown_phrase_lists_the_known_ones() -> None:
    with pytest.raises(ModelError, match=r"does not know 'tuba'.*piano, guitar"):
        parse_prompt("jazz, tuba")
    with pytest.raises(ModelError, match="two things about drums"):
        parse_prompt("drums, no drums")


def test_empty_prompts_condition_on_nothing() -> None:
    conditioner = PhraseConditioner(8, 16)
    embedding, mask = conditioner(conditioner.tokenize([None, "jazz, piano"]))
    assert embedding.shape == (2, 2, 16)
    assert not embedding[0].any() and mask.tolist() == [[0, 0], [1, 1]]
    alone, _ = conditioner(conditioner.tokenize(["jazz, piano"]))
    torch.testing.assert_close(alone[0], embedding[1])


def test_every_phrase_has_its_own_token() -> None:
    phrases = [phrase for values in PHRASES.values() for phrase in values]
    tokens, _ = tokens_of([phrases])
    assert sorted(tokens[0].tolist()) == list(range(1, len(phrases) + 1))


def test_labels_are_described() -> None:
    labels = {"genre": "rock", "instrument": "flute", "drums": 0, "bass": 1, "tempo": 99.0, "mode": "minor"}
    said = describe_clip(labels)
    assert said == {
        "genre": "rock",
        "instrument": "flute",
        "drums": "no drums",
        "bass": "bass",
        "tempo": "slow",
        "mode": "minor",
    }
    assert parse_prompt(", ".join(said.values())) == list(said.values())
