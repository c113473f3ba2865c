"""Output of a model that was pushed far too hard: the ruin that a judge of steered music meets most."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from interp.errors import DataError

if TYPE_CHECKING:
    from interp.model import MusicGen

__all__ = ["STRENGTHS", "over_steered"]

#: Norm-scaled interpolation: at 10 a random direction is ten times as long as what is left of the residual vector.
STRENGTHS = (10.0, 30.0, 100.0)


def over_steered(
    model: MusicGen, n: int, seed: int = 0, seconds: float = 3.0, batch_size: int = 32, progress: bool = False
) -> Tensor:
    """Generate while random directions drown the residual stream of a random layer.

    Whatever trait the direction may carry by chance, nothing of the music is left at these strengths.

    Parameters
    ----------
    model : MusicGen
        Whose output is to be judged.
    n : int
        Number of clips.
    seed : int
        Of layers, directions, strengths and sampling.
    seconds : float
        Length of each clip.
    batch_size : int
        Clips generated at once.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Tensor, float32 ``[n, T]``
        Mono, at the model's sample rate.

    Raises
    ------
    DataError
        If `n` is not positive.
    """
    from interp.directions import Direction, Directions
    from interp.steering import Interpolate, Row, generate

    if n < 1:
        raise DataError(f"{n} clips were asked for: ask for at least one.")
    rng = np.random.default_rng([seed, 17])
    rows = []
    for i in range(n):
        layer = int(rng.integers(0, model.shape.n_layers))
        push = Direction.from_weight(f"L{layer}.resid", rng.normal(size=model.shape.width), method="random")
        strength = float(rng.choice(STRENGTHS))
        drown = Interpolate(directions=Directions([push]), strength=strength, rows="both")
        rows.append(Row(prompt=None, seed=int(rng.integers(2**31)) + i, interventions=(drown,)))
    made = generate(model, rows, seconds=seconds, guidance=3.0, batch_size=batch_size, progress=progress)
    audio: Tensor = made.audio.mean(1)
    return torch.nan_to_num(audio)
