"""What is asked of a run: the rows, and how they are sampled."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, SupportsIndex, TypedDict, get_args

import torch
from torch import Tensor

from interp.errors import ClipError, InterventionError, ModelError
from interp.steering.interventions import Intervention

__all__ = ["EngineName", "Options", "Row", "Settings", "as_rows"]

EngineName = Literal["auto", "fast", "hooks", "nnsight"]


@dataclass(frozen=True, eq=False)
class Row:
    """One piece of music to generate.

    Parameters
    ----------
    prompt : str or None
        Text; None for none.
    seed : int
        Rows of one seed share the sampler's noise, whatever their batch.
    codes : Tensor or None
        Codes of music to continue, long ``[codebooks, frames]`` (see :meth:`interp.MusicGen.encode`).
    interventions : tuple of Intervention
        Applied in this order.

    Raises
    ------
    ClipError
        If the codes are no codes.
    InterventionError
        If the prompt is no text, or the seed no whole number of 0 or more.

    Examples
    --------
    >>> from interp.steering import Ablate
    >>> row = Row("calm piano", seed=3, interventions=Ablate.zero("L0.H1"))
    >>> len(row.interventions), row.prompt_frames
    (1, 0)
    """

    prompt: str | None = None
    seed: int = 0
    codes: Tensor | None = None
    interventions: tuple[Intervention, ...] = ()

    def __post_init__(self) -> None:
        items = (self.interventions,) if isinstance(self.interventions, Intervention) else tuple(self.interventions)
        object.__setattr__(self, "interventions", items)
        if not (self.prompt is None or isinstance(self.prompt, str)):
            raise InterventionError(f"the prompt of a row is one text or None, not {self.prompt!r}.")
        if not isinstance(self.seed, SupportsIndex) or operator.index(self.seed) < 0:
            raise InterventionError(f"the seed of a row is a whole number of 0 or more, not {self.seed!r}.")
        object.__setattr__(self, "seed", operator.index(self.seed))
        if self.codes is not None:
            codes = torch.as_tensor(self.codes)
            if codes.ndim != 2 or codes.is_floating_point():
                raise ClipError(
                    f"a row continues codes of shape [codebooks, frames], not {tuple(codes.shape)} of {codes.dtype}: "
                    "encode the sound with model.encode(...)[0]."
                )
            object.__setattr__(self, "codes", codes.long().cpu() if codes.shape[1] else None)

    @property
    def prompt_frames(self) -> int:
        """Frames of the music that is continued."""
        return 0 if self.codes is None else int(self.codes.shape[1])

    @property
    def continued(self) -> bytes:
        """The music that is continued, as a key."""
        return b"" if self.codes is None else self.codes.numpy().tobytes()


def as_rows(rows: Row | str | Iterable[Row | str]) -> list[Row]:
    """Rows as a list; one row is one row, one text is one row.

    Raises
    ------
    InterventionError
        If there is none, or something is neither a row nor a text.

    Examples
    --------
    >>> len(as_rows("calm piano")), len(as_rows([Row(seed=1), "jazz"]))
    (1, 2)
    """
    items = [rows] if isinstance(rows, Row | str) else list(rows)
    if not items:
        raise InterventionError("there are no rows to generate.")
    made = [Row(item) if isinstance(item, str) else item for item in items]
    wrong = [item for item in made if not isinstance(item, Row)]
    if wrong:
        raise InterventionError(f"a row of music is a Row or a text, not {wrong[0]!r}: write Row(prompt=...).")
    return made


class Options(TypedDict, total=False):
    """Fields of :class:`Settings`, as :func:`interp.steering.generate` takes them by name."""

    temperature: float
    top_k: int
    top_p: float
    greedy: bool
    two_step: bool
    engine: EngineName
    extend_stride: float | None
    offset: float


@dataclass(frozen=True)
class Settings:
    """How tokens are drawn and the LM is run; the defaults are audiocraft's.

    Attributes
    ----------
    temperature : float
        0 is greedy.
    top_k : int
        Draw from the k most probable tokens; 0 for all.
    top_p : float
        Draw from the most probable tokens that hold this probability; above 0 it takes precedence over ``top_k``.
    greedy : bool
        Take the most probable token.
    two_step : bool
        Conditional and unconditional rows in two calls (the fast engine does both at once; the music is the same).
    engine : {"auto", "fast", "hooks", "nnsight"}
        ``nnsight``: every edit through a trace, the reference. ``hooks``: plain hooks on audiocraft's modules, to the
        bit the same. ``fast``: own cache, tested equal. ``auto``: fast where the checkpoint allows it, else hooks.
    extend_stride : float, optional
        Beyond the model's longest window, by how many seconds the window moves on; 0.6 windows (18 s of 30) if None.
    offset : float
        Second of the piece at which the music begins, audio prompt included; every window begins there.

    Raises
    ------
    ModelError
        If a number is out of range or the engine is unknown.

    Examples
    --------
    >>> Settings.of(temperature=0.8).top_k
    250
    """

    temperature: float = 1.0
    top_k: int = 250
    top_p: float = 0.0
    greedy: bool = False
    two_step: bool = False
    engine: EngineName = "auto"
    extend_stride: float | None = None
    offset: float = 0.0

    def __post_init__(self) -> None:
        numbers = (self.temperature, self.top_k, self.top_p)
        if not all(isinstance(x, int | float) and math.isfinite(x) for x in numbers) or not (
            self.temperature >= 0 and self.top_k >= 0 and 0 <= self.top_p <= 1
        ):
            raise ModelError("sampling needs a temperature of 0 or more, top_k of 0 or more, and top_p from 0 to 1.")
        if self.engine not in get_args(EngineName):
            raise ModelError(f"there is no engine {self.engine!r}: use {', '.join(get_args(EngineName))}.")

    @classmethod
    def of(cls, **options: Any) -> Settings:
        """Settings by name.

        Raises
        ------
        ModelError
            If there is no such setting; the sentence names those that there are.
        """
        known = cls.__dataclass_fields__
        unknown = [name for name in options if name not in known]
        if unknown:
            raise ModelError(f"generate knows no {unknown[0]!r}: beside its own arguments it takes {', '.join(known)}.")
        return replace(cls(), **options)
