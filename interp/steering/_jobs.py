"""What is asked of a run: its rows, its options, and how the rows are divided into batches."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from interp.errors import ClipError, ModelError
from interp.model import MusicGen
from interp.pooling import Pooling
from interp.sites import Site
from interp.steering.engine.reference import Engine
from interp.steering.interventions import Intervention

__all__ = ["Job", "Row", "audio_key", "batches_of", "halves_of", "threads_for"]


@dataclass(frozen=True, eq=False)
class Row:
    """One piece of music to generate.

    Parameters
    ----------
    prompt : str or None
        Text; None for none.
    seed : int
        Rows of one seed share the sampler's noise, whatever their batch.
    audio : Tensor or None
        Codes of an audio prompt to continue, long ``[codebooks, frames]`` (see :meth:`MusicGen.encode`).
    interventions : tuple of Intervention
        Applied in this order.
    """

    prompt: str | None = None
    seed: int = 0
    audio: Tensor | None = None
    interventions: tuple[Intervention, ...] = ()

    def __post_init__(self) -> None:
        items = (self.interventions,) if isinstance(self.interventions, Intervention) else tuple(self.interventions)
        object.__setattr__(self, "interventions", items)
        object.__setattr__(self, "seed", int(self.seed))
        if self.audio is not None:
            audio = torch.as_tensor(self.audio)
            if audio.ndim != 2 or audio.is_floating_point():
                raise ClipError(
                    f"the audio prompt of a row is codes of shape [codebooks, frames], not {tuple(audio.shape)} of "
                    f"{audio.dtype}: encode the sound with model.encode(...)[0]."
                )
            object.__setattr__(self, "audio", audio.long().cpu() if audio.shape[1] else None)

    @property
    def prompt_frames(self) -> int:
        """Frames of the audio prompt."""
        return 0 if self.audio is None else int(self.audio.shape[1])


@dataclass(frozen=True)
class Job:
    """What is the same for all rows of one call of :func:`generate`."""

    model: MusicGen
    engine: Engine
    frames: int
    seconds: float
    stride: float
    guidance: float | None
    two_step: bool
    temperature: float
    top_k: int
    top_p: float
    greedy: bool
    capture: tuple[Site, ...]
    pooling: Pooling | None = None


def halves_of(job: Job, row: Row) -> int:
    """How many rows of the LM a row of music takes."""
    if job.guidance is None:
        return 1
    if row.prompt is None and all(item.rows == "both" for item in row.interventions):
        return 1
    return 2


def batches_of(job: Job, rows: list[Row], batch_size: int | None) -> list[list[int]]:
    """Rows that can run together, those that share a prompt next to each other, within the memory."""
    if batch_size is not None and batch_size < 1:
        raise ModelError(f"a batch of {batch_size} rows holds nothing: give 1 or more, or None.")
    lengths = dict(
        zip(
            (texts := list(dict.fromkeys(row.prompt for row in rows))),
            job.model.condition_lengths(texts),
            strict=True,
        )
    )
    groups: dict[tuple[int, int, int], list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        groups[row.prompt_frames, lengths[row.prompt], halves_of(job, row)].append(i)
    parallel = torch.get_num_threads() if runs_in_parallel(job) else 1
    batches: list[list[int]] = []
    for (_, _, halves), members in groups.items():
        most = most_rows(job, halves) if batch_size is None else batch_size
        members.sort(key=lambda i: (rows[i].prompt or "", audio_key(rows[i])))
        count = math.ceil(len(members) / most)
        if batch_size is None and len(members) >= 16 * parallel:
            count = max(count, parallel)
        batches += [list(part) for part in np.array_split(members, count)]
    return [[int(i) for i in batch] for batch in batches]


def audio_key(row: Row) -> bytes:
    return b"" if row.audio is None else row.audio.numpy().tobytes()


def most_rows(job: Job, halves: int) -> int:
    """How many rows fit into a quarter of the free memory (at most 4 GiB), and not more than are any use."""
    model = job.model
    if model.device.type == "cuda":
        free = torch.cuda.mem_get_info(model.device)[0]
    else:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    positions = min(job.frames, int(model.max_seconds * model.frame_rate)) + model.n_codebooks
    size = torch.finfo(model.dtype).bits // 8
    per_row = halves * positions * model.shape.width * (2 * model.shape.n_layers * size + 24 * 4)
    per_row += 16 * model.n_codebooks * model.cardinality * 8
    return int(min(max(1, min(free // 4, 4 * 2**30) // per_row), 256 // halves))


def runs_in_parallel(job: Job) -> bool:
    """Whether batches may run side by side: the fast engine keeps no state in the model."""
    return job.engine.name == "fast" and job.model.device.type == "cpu" and torch.get_num_threads() > 1


def threads_for(job: Job, batches: list[list[int]]) -> int:
    return min(torch.get_num_threads(), len(batches)) if runs_in_parallel(job) else 1
