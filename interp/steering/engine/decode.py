"""The decoding loop of one batch: audiocraft's (delay pattern, guidance, windows), with edits and a row's own noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.errors import InterventionError, ModelError
from interp.model import MusicGen
from interp.pooling import Pooling
from interp.sites import HEAD_KINDS, KINDS, Kind, Site
from interp.steering.edits import Edits
from interp.steering.engine.reference import Batch, Engine
from interp.steering.engine.sampling import Noise, Sampler
from interp.steering.interventions import Intervention
from interp.steering.ops import Half, Key, Timeline
from interp.steering.record import Capture, Edited, PooledCapture, edited, log_of, monitor_of
from interp.steering.rows import Row, Settings

__all__ = ["Done", "Run", "halves_of", "run_batch"]

_CHECK = 64
"""Steps between two looks at whether all logits are finite: a look waits for the device."""

Tick = Callable[[int], None]


@dataclass(frozen=True)
class Run:
    """What is the same for all rows of one call of :func:`interp.steering.generate`.

    Attributes
    ----------
    model, engine, settings
    frames, seconds, stride
        Length of the result, and by how much the window moves on beyond the model's longest one.
    guidance : float or None
        None for conditional rows alone.
    capture, pooling
        Sites to keep, and how they are pooled; in full if that is None.
    """

    model: MusicGen
    engine: Engine
    settings: Settings
    frames: int
    seconds: float
    stride: float
    guidance: float | None
    capture: tuple[Site, ...]
    pooling: Pooling | None = None


@dataclass
class Done:
    """Codes, record and activations of one batch."""

    codes: Tensor
    edited: Edited
    log: Any
    monitor: Any
    captured: dict[Site, list[Tensor]]
    pooled: dict[Kind, Tensor]


def halves_of(run: Run, row: Row) -> int:
    """How many rows of the LM a row of music takes."""
    if run.guidance is None:
        return 1
    if row.prompt is None and all(item.rows == "both" for item in row.interventions):
        return 1
    return 2


def run_batch(run: Run, rows: Sequence[Row], numbers: Sequence[int], tick: Tick) -> Done:
    """Generate rows that share length of prompt, length of text, and number of halves.

    Parameters
    ----------
    run : Run
    rows : sequence of Row
    numbers : sequence of int
        What the caller calls them, for errors.
    tick : callable
        Called with the number of new frames.

    Raises
    ------
    InterventionError, ModelError
        If an activation is not finite; row, step, site and intervention are named.
    """
    edits = _edits(run, rows)
    capture = Capture(edits, run.capture) if run.capture and run.pooling is None else None
    pooled = None if run.pooling is None else PooledCapture(edits, run.capture, run.pooling, run.model, run.frames)
    watch = _Watch(len(rows), run.model.device)
    try:
        codes = _decode(run, rows, edits, watch, tick)
    except _NotFiniteError as error:
        _locate(run, rows[error.row], numbers[error.row])
    lines = edited(edits)
    for row, _, _, _, moved in lines:
        if not np.isfinite(moved).all():
            _locate(run, rows[row], numbers[row])
    return Done(
        codes,
        lines,
        log_of(edits, lines, run.guidance),
        monitor_of(edits),
        {} if capture is None else capture.values(),
        {} if pooled is None else pooled.values(),
    )


def _edits(run: Run, rows: Sequence[Row]) -> Edits:
    model = run.model
    timeline = Timeline(rows[0].prompt_frames, run.frames + model.n_codebooks, model.frame_rate)
    guided = halves_of(run, rows[0]) == 2
    items, seeds = [row.interventions for row in rows], [row.seed for row in rows]
    return Edits(items, seeds, model.shape, timeline, guided, model.device, model.dtype)


def _decode(run: Run, rows: Sequence[Row], edits: Edits, watch: _Watch, tick: Tick) -> Tensor:
    model, settings = run.model, run.settings
    greedy = settings.greedy or settings.temperature == 0
    seeds = [row.seed for row in rows]
    noise = None if greedy else Noise(seeds, model.n_codebooks, model.cardinality, model.device)
    sampler = Sampler(noise, settings.temperature, min(settings.top_k, model.cardinality), settings.top_p)
    texts = list(dict.fromkeys(row.prompt for row in rows))
    text_of = [texts.index(row.prompt) for row in rows]
    cond, uncond = _conditions(model, texts, text_of, edits.guided)
    length = rows[0].prompt_frames
    codes = torch.empty(len(rows), model.n_codebooks, 0, dtype=torch.long)
    if length:
        codes = torch.stack([row.codes for row in rows if row.codes is not None])
    keys = [row.continued for row in rows]
    places = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    audio_of = [places[key] for key in keys]
    for offset, frames in _windows(run, length):
        prompt = codes[..., offset:].to(model.device)
        batch = Batch(cond, uncond, edits, frames + model.n_codebooks, settings.two_step, text_of, audio_of)
        made = _window(run, batch, prompt, frames, offset, sampler, watch, tick)
        codes = torch.cat([codes[..., :offset], made.cpu()], -1)
        # what a later window hears was generated by each row for itself
        audio_of = list(range(len(rows)))
    return codes[..., : run.frames]


def _conditions(
    model: MusicGen, texts: list[str | None], text_of: list[int], guided: bool
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Conditions of every row, each text embedded with the null text beside it, as audiocraft does for one row."""
    each = [model.conditions([text, None]) for text in texts]
    names = list(each[0])

    def pick(which: int) -> dict[str, Any]:
        return {
            name: (
                torch.cat([each[i][name][0][which : which + 1] for i in text_of]),
                torch.cat([each[i][name][1][which : which + 1] for i in text_of]),
            )
            for name in names
        }

    return pick(0), pick(1) if guided else None


def _windows(run: Run, prompt: int) -> list[tuple[int, int]]:
    """Start and length, in frames, of the windows audiocraft decodes one after the other."""
    model = run.model
    if run.seconds <= model.max_seconds:
        return [(0, run.frames)]
    windows = []
    step = int(model.frame_rate * run.stride)
    offset, length = 0, prompt
    while offset + length < run.frames:
        chunk = min(run.seconds - offset / model.frame_rate, model.max_seconds)
        frames = int(chunk * model.frame_rate)
        windows.append((offset, frames))
        length = frames - step
        offset += step
    return windows


def _window(
    run: Run, batch: Batch, prompt: Tensor, frames: int, offset: int, sampler: Sampler, watch: _Watch, tick: Tick
) -> Tensor:
    """Decode one window after its first codes; returns codes ``[rows, codebooks, frames]``."""
    model, edits = run.model, batch.edits
    n = prompt.shape[-1]
    unknown = -1
    codes = torch.full((edits.n, model.n_codebooks, frames), unknown, dtype=torch.long, device=model.device)
    codes[..., :n] = prompt
    sequence, mask = model.sequence(codes)
    # the first position that holds a token of the first frame to come
    first = int(model.frame_steps(frames)[n])
    special, last = model.cardinality, sequence.shape[-1] - 1
    with run.engine.session(batch) as session:
        if first > 1:
            edits.begin(None)
            session.feed(sequence[..., : first - 1], offset, want=False)
        for position in range(first, last + 1):
            at = offset + position - 1
            edits.begin(at)
            cond, uncond = session.feed(sequence[..., position - 1 : position], at)
            logits = cond if uncond is None else uncond + (cond - uncond) * (run.guidance or 1.0)
            watch.see(logits)
            tokens = sampler(logits)
            tokens = torch.where(mask[:, position], tokens, special)
            slot = sequence[..., position]
            sequence[..., position] = torch.where(slot == unknown, tokens, slot)
            if position % _CHECK == 0 or position == last:
                watch.check()
            if position <= frames:
                tick(edits.n)
    return model.codes_of(sequence, frames)


# What is not finite ----------------------------------------------------------------------------------------------


class _NotFiniteError(Exception):
    """A row whose logits were not finite."""

    def __init__(self, row: int) -> None:
        super().__init__(row)
        self.row = row


class _Watch:
    """Which rows ever had logits that are not finite; kept on the device, so that no step waits for it."""

    def __init__(self, rows: int, device: torch.device) -> None:
        self.bad = torch.zeros(rows, dtype=torch.bool, device=device)

    def see(self, logits: Tensor) -> None:
        """Look at the logits ``[rows, codebooks, cardinality]`` of a step."""
        self.bad |= ~logits.sum((1, 2), dtype=torch.float32).isfinite()

    def check(self) -> None:
        """Raise if a row was not finite."""
        if bool(self.bad.any()):
            raise _NotFiniteError(int(self.bad.nonzero()[0, 0]))


class _ArisesError(Exception):
    """Where an activation first was not finite."""

    def __init__(self, key: Key, position: int, head: int) -> None:
        super().__init__(key, position, head)
        self.key, self.position, self.head = key, position, head


def _locate(run: Run, row: Row, number: int) -> None:
    """Run a row again, look at every activation, and say where it first is not finite.

    Raises
    ------
    InterventionError, ModelError
        Always: what was found.
    """
    edits, shape = _edits(run, [row]), run.model.shape

    def look(key: Key, x: Tensor, start: int, half: Half) -> None:
        bad = ~x.isfinite()
        if bool(bad.any()):
            _, position, column = bad.nonzero()[0].tolist()
            raise _ArisesError(key, start + position, column // shape.head_dim)

    kinds = [kind for kind in KINDS if kind != "embed" and (shape.cross_attention or not kind.startswith("cross"))]
    edits.tap(look, [("embed", -1), *((kind, layer) for layer in range(shape.n_layers) for kind in kinds)])
    where = "in the size of its edits or in its logits"
    try:
        _decode(run, [row], edits, _Watch(1, run.model.device), lambda n: None)
    except _ArisesError as error:
        kind, layer = error.key
        site = Site(kind, layer, error.head if kind in HEAD_KINDS else None)
        step = error.position - row.prompt_frames
        where = f"first at {site}, step {step} ({error.position / run.model.frame_rate:.2f} s)"
    except _NotFiniteError:
        pass
    dtype = str(run.model.dtype).removeprefix("torch.")
    says = f"row {number} is not finite in {dtype}, {where}"
    culprit = _furthest(edits)
    if culprit is None:
        raise ModelError(f"{says}, without any intervention: load the model in float32 or bfloat16.")
    raise InterventionError(f"{says}: push less far, or load the model in float32; {culprit.describe()}.")


def _furthest(edits: Edits) -> Intervention | None:
    """The intervention that has moved an activation furthest so far."""
    moves = [(np.nan_to_num(moved, nan=np.inf).max(), index) for _, index, _, _, moved in edited(edits) if len(moved)]
    if not moves:
        return None
    return edits.entries[max(moves)[1]].item
