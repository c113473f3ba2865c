"""What the runs of an experiment share: how music is made, what of it is judged, and what else is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch

from interp.errors import DataError
from interp.validation.arms import Arm

__all__ = ["Design", "Measure", "Part", "Setting"]


@dataclass(frozen=True)
class Part:
    """The music of one arm and dose, all seeds, as a measure of one's own gets it.

    Attributes
    ----------
    arm : Arm
        What was done.
    dose : float
    seeds : tuple of int
        One a row.
    audio : Tensor of shape [seeds, channels, samples]
        What was generated (and, in a run with windows, lies in the window).
    prompts : Tensor of shape [seeds, channels, samples], or None
        The sounds that were continued.
    codes : Tensor of shape [seeds, codebooks, frames], or None
        Of the whole, prompt included; None for an arm that edits sound.
    sample_rate : int
        In Hz.
    """

    arm: Arm
    dose: float
    seeds: tuple[int, ...]
    audio: torch.Tensor
    prompts: torch.Tensor | None
    codes: torch.Tensor | None
    sample_rate: int


Measure = Callable[[Part], pd.DataFrame]
"""From one arm's music to further columns of its clips, one row a seed."""


@dataclass(frozen=True)
class Setting:
    """How the music of an experiment is made and heard.

    Attributes
    ----------
    seconds, prompt_seconds : float
        Length of the whole, and of the sound that is continued; only what comes after it is judged.
    guidance : float
        Coefficient of classifier-free guidance of rows with a text; rows without one have nothing to guide.
    text : str, optional
        Prompt of every row whose arm has none.
    measure : bool
        Quality and specificity as well: embeddings, every answer of the judge, degenerate audio, similarity.
    measures : tuple of callable
        Further columns: :data:`Measure`.
    windows : tuple of (start, stop)
        Judge each clip in each of these windows, in seconds from the end of the prompt, instead of as a whole; clips
        get the columns ``start`` and ``stop``.
    keep_audio : bool
        Keep the sound of every arm; otherwise of those that say ``keep``.
    progress : bool
        Show progress bars.
    options : mapping
        For :func:`interp.steering.generate`.

    Raises
    ------
    DataError
        If nothing is left to judge after the prompt, or a window lies outside of it.

    Examples
    --------
    >>> Setting(seconds=6.0).judged
    4.5
    """

    seconds: float = 4.0
    prompt_seconds: float = 1.5
    guidance: float = 2.0
    text: str | None = None
    measure: bool = True
    measures: tuple[Measure, ...] = ()
    windows: tuple[tuple[float, float], ...] = ()
    keep_audio: bool = False
    progress: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.prompt_seconds < self.seconds:
            raise DataError(
                f"{self.seconds:g} s with a sound of {self.prompt_seconds:g} s to continue leave nothing to judge: ask "
                "for more seconds, or continue less."
            )
        for start, stop in self.windows:
            if not 0 <= start < stop <= self.judged + 1e-6:
                raise DataError(
                    f"the window from {start:g} to {stop:g} s does not lie in the {self.judged:g} s that are judged."
                )

    @property
    def judged(self) -> float:
        """Seconds that are judged."""
        return self.seconds - self.prompt_seconds


@dataclass(frozen=True)
class Design:
    """Sizes of a validation.

    Attributes
    ----------
    pilot_seeds : int
        Seeds that choose site and dose, and are not used again.
    n_reference : int
        Clips of the music that FAD and KAD are measured from; 0 leaves them out.
    k : int
        Heads in the arms of heads.
    k_iti : int
        Heads in the arm of ITI.
    iti_doses : tuple of float
        Doses of the arm of ITI's heads; those of the probe when empty.
    others : tuple of str
        Other traits whose directions must not bring this one.
    text : str, optional
        The prompt that asks for the trait: one more arm.
    """

    pilot_seeds: int = 16
    n_reference: int = 128
    k: int = 8
    k_iti: int = 16
    iti_doses: tuple[float, ...] = ()
    others: tuple[str, ...] = ()
    text: str | None = None
