"""The closed set of phrases that the shipped model understands, and its text conditioner.

A prompt is a comma-separated list of phrases in any order, each at most once: ``"jazz, piano, drums, no bass"``. What
is left out is left to the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from interp.backends.audiocraft import TextConditioner
from interp.data.factors import GENRES, INSTRUMENTS, MODES
from interp.errors import ModelError

__all__ = ["PHRASES", "PhraseConditioner", "describe_clip", "parse_prompt"]

#: What may be said of a clip, by trait.
PHRASES: dict[str, tuple[str, ...]] = {
    "genre": GENRES,
    "instrument": tuple(INSTRUMENTS),
    "drums": ("no drums", "drums"),
    "bass": ("no bass", "bass"),
    "tempo": ("slow", "medium", "fast"),
    "mode": MODES,
}
_TRAIT_OF = {phrase: trait for trait, phrases in PHRASES.items() for phrase in phrases}
_TOKEN_OF = {phrase: token for token, phrase in enumerate(_TRAIT_OF, start=1)}  # 0 pads
_SLOW, _FAST = 100.0, 130.0  # beats per minute


def parse_prompt(text: str | None) -> list[str]:
    """Phrases of a prompt; none for ``None`` or an empty text.

    Raises
    ------
    ModelError
        If a phrase is unknown or two phrases contradict each other; the sentence lists the known ones.
    """
    phrases = [" ".join(part.lower().split()) for part in (text or "").split(",")]
    phrases = [phrase for phrase in phrases if phrase]
    for phrase in phrases:
        if phrase not in _TRAIT_OF:
            known = "; ".join(", ".join(values) for values in PHRASES.values())
            raise ModelError(
                f"the shipped model does not know {phrase!r}: write a comma-separated list of its phrases ({known})."
            )
    traits = [_TRAIT_OF[phrase] for phrase in phrases]
    for trait in traits:
        if traits.count(trait) > 1:
            raise ModelError(f"the prompt {text!r} says two things about {trait}: keep one of them.")
    return phrases


def describe_clip(labels: Mapping[str, Any]) -> dict[str, str]:
    """The phrase for each trait of a rendered clip, from its labels."""
    tempo = float(labels["tempo"])
    return {
        "genre": str(labels["genre"]),
        "instrument": str(labels["instrument"]),
        "drums": PHRASES["drums"][int(labels["drums"])],
        "bass": PHRASES["bass"][int(labels["bass"])],
        "tempo": PHRASES["tempo"][0 if tempo < _SLOW else 1 if tempo <= _FAST else 2],
        "mode": str(labels["mode"]),
    }


def tokens_of(phrases: Sequence[Sequence[str]]) -> tuple[Tensor, Tensor]:
    """Token ids and mask, both ``[texts, longest]``, of lists of phrases."""
    longest = max(1, *(len(text) for text in phrases)) if phrases else 1
    tokens = torch.zeros(len(phrases), longest, dtype=torch.long)
    for row, text in enumerate(phrases):
        tokens[row, : len(text)] = torch.tensor([_TOKEN_OF[phrase] for phrase in text], dtype=torch.long)
    return tokens, (tokens > 0).int()


class PhraseConditioner(TextConditioner):  # type: ignore[misc]  # audiocraft is untyped
    """Looks up each phrase of a prompt in a table; audiocraft's ``LUTConditioner`` for phrases instead of words.

    Parameters
    ----------
    dim : int
        Size of the table's rows.
    output_dim : int
        Width of the LM.
    """

    def __init__(self, dim: int, output_dim: int) -> None:
        super().__init__(dim, output_dim)
        self.embed = nn.Embedding(len(_TOKEN_OF) + 1, dim)

    def tokenize(self, x: list[str | None]) -> tuple[Tensor, Tensor]:
        """Token ids and mask ``[texts, longest]``; raises :class:`ModelError` on unknown phrases."""
        tokens, mask = tokens_of([parse_prompt(text) for text in x])
        return tokens.to(self.embed.weight.device), mask.to(self.embed.weight.device)

    def forward(self, inputs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Condition ``[texts, longest, output_dim]``, zero where the mask is, and the mask."""
        tokens, mask = inputs
        return self.output_proj(self.embed(tokens)) * mask.unsqueeze(-1), mask
