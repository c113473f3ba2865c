"""Directions, audio prompts and rows for a small random model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from interp.directions import Direction, Directions
from interp.model import MusicGen
from interp.sites import select_sites


@pytest.fixture(scope="session")
def make_directions(tiny_lm_model: MusicGen) -> Callable[..., Directions]:
    """Random directions at any sites of the small model, with everything a probe would know."""

    def make(spec: str = "heads", seed: int = 0, trait: str = "drums", **fields: object) -> Directions:
        rng = np.random.default_rng(seed)
        shape = tiny_lm_model.shape
        return Directions(
            Direction.from_weight(
                site,
                rng.standard_normal(shape.dim(site.kind)),
                sigma=float(rng.uniform(0.5, 1.5)),
                intercept=float(rng.normal()),
                score=float(rng.uniform(0.5, 0.95)),
                trait=trait,
                method="logistic",
                **fields,  # type: ignore[arg-type]
            )
            for site in select_sites(spec, shape)
        )

    return make


@pytest.fixture(scope="session")
def audio_prompt(tiny_lm_model: MusicGen) -> Tensor:
    """Seven frames of codes."""
    generator = torch.Generator().manual_seed(5)
    return torch.randint(0, tiny_lm_model.cardinality, (tiny_lm_model.n_codebooks, 7), generator=generator)
