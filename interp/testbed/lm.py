"""The language model of the shipped checkpoint: audiocraft's ``LMModel``, small."""

from __future__ import annotations

from typing import Any

from interp.backends import build
from interp.testbed.codec import CARDINALITY, N_CODEBOOKS
from interp.testbed.prompts import PhraseConditioner

__all__ = ["CONFIG", "build_lm"]

#: Sizes of the shipped LM; everything else is as in the released MusicGen models.
CONFIG: dict[str, int] = {"dim": 256, "num_layers": 6, "num_heads": 8, "phrase_dim": 64}


def build_lm(dim: int, num_layers: int, num_heads: int, phrase_dim: int, cardinality: int = CARDINALITY) -> Any:
    """Build an untrained LM on the CPU, in float32, conditioned on phrases by cross-attention."""
    return build.build_lm(
        PhraseConditioner(phrase_dim, dim),
        n_layers=num_layers,
        n_heads=num_heads,
        width=dim,
        n_codebooks=N_CODEBOOKS,
        cardinality=cardinality,
        guidance_dropout=0.0,  # training drops prompts itself
    )
