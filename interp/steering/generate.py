"""Generation for experiments: many rows in one batch, each with its own prompt, audio, seed and interventions.

The loop is audiocraft's (delay pattern, guidance, sampling options, windows beyond the longest one), and so are its
greedy tokens. What is added: a row's noise belongs to its seed, a row's music does not depend on the batch it is in,
interventions differ from row to row, and everything that was edited is logged.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from interp.errors import ClipError, InterventionError, ModelError, SiteError
from interp.model import MusicGen
from interp.pooling import Pooling
from interp.sites import Kind, Site, select_sites
from interp.steering._jobs import Job, Row, audio_key, batches_of, halves_of, threads_for
from interp.steering._ops import Timeline
from interp.steering._parameters import check_interventions
from interp.steering._pooled import PooledCapture
from interp.steering.edits import Plan
from interp.steering.engine.reference import Batch, Engine, HookEngine, NNsightEngine
from interp.steering.engine.sampling import Noise, Sampler
from interp.steering.generation import Generation
from interp.steering.record import Capture, Edits, batch_edits, batch_log, batch_monitor

__all__ = ["Row", "generate"]

_log = logging.getLogger(__name__)
EngineName = Literal["auto", "fast", "hooks", "nnsight"]


@dataclass
class _Done:
    """What one batch gave."""

    codes: Tensor
    edits: Edits
    log: Any
    monitor: Any
    captured: dict[Site, list[Tensor]]
    pooled: dict[Kind, Tensor]


def generate(
    model: MusicGen,
    rows: Sequence[Row],
    seconds: float = 4.0,
    guidance: float | None = 3.0,
    temperature: float = 1.0,
    top_k: int = 250,
    top_p: float = 0.0,
    two_step: bool = False,
    greedy: bool = False,
    batch_size: int | None = None,
    progress: bool = True,
    engine: EngineName = "auto",
    *,
    capture: str | Site | Iterable[str | Site] = (),
    pool: str | Sequence[str] | None = None,
    extend_stride: float | None = None,
) -> Generation:
    """Generate music, steered row by row.

    Parameters
    ----------
    model : MusicGen
    rows : sequence of Row
        Any mixture of prompts, audio prompts, seeds and interventions.
    seconds : float
        Length of the result, audio prompt included.
    guidance : float or None
        Coefficient of classifier-free guidance; None or 1 runs the conditional rows alone.
    temperature, top_k, top_p : float, int, float
        audiocraft's sampling options; ``top_p`` above 0 takes precedence, ``temperature`` 0 is greedy.
    two_step : bool
        Conditional and unconditional rows in two calls (the fast engine does both at once; the music is the same).
    greedy : bool
        Take the most probable token.
    batch_size : int, optional
        Most rows at a time; by default what fits the memory. Does not change the music.
    progress : bool
        Show a progress bar.
    engine : {"auto", "fast", "hooks", "nnsight"}
        ``nnsight``: every edit through a trace, the reference. ``hooks``: plain hooks on audiocraft's modules, to the
        bit the same. ``fast``: own cache, tested equal. ``auto``: fast where the checkpoint allows it, else hooks.
    capture : sites
        Activations to keep, see :meth:`Generation.activation`; as the later layers saw them, after any edit.
    pool : str or sequence of str, optional
        Pool them over time while generating, as :mod:`interp.pooling` has it (``"mean, last"``), instead of keeping
        every frame; read them with :meth:`Generation.activations`. Within one window of the model.
    extend_stride : float, optional
        Beyond the model's longest window, by how many seconds the window moves on; 0.6 windows (18 s of 30) as in
        audiocraft.

    Returns
    -------
    Generation

    Raises
    ------
    InterventionError
        If an intervention is malformed, does not fit, or touches no call.
    CheckpointMismatch, SiteError, ClipError, ModelError
        If a direction, a site, an audio prompt or an option does not fit the model.

    Notes
    -----
    Rows without text whose interventions act on both halves have identical conditional and unconditional rows;
    guidance between equals changes nothing, so these are run once.
    """
    rows = list(rows)
    job = _prepare(
        model,
        rows,
        seconds,
        guidance,
        temperature,
        top_k,
        top_p,
        two_step,
        greedy,
        engine,
        capture,
        pool,
        extend_stride,
    )
    batches = batches_of(job, rows, batch_size)
    done: dict[int, tuple[_Done, int]] = {}
    results: list[tuple[list[int], _Done]] = []
    lock = threading.Lock()
    given = sum(row.audio.shape[-1] for row in rows if row.audio is not None)
    with _bar(progress, len(rows) * job.frames - given) as bar:

        def tick(n: int) -> None:
            with lock:
                bar.update(n)

        def work(batch: list[int]) -> list[tuple[list[int], _Done]]:
            return _with_room(job, rows, batch, tick)

        threads = threads_for(job, batches)
        if threads > 1:
            before = torch.get_num_threads()
            try:
                with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as workers:
                    for found in workers.map(work, batches):
                        results += found
            finally:
                torch.set_num_threads(before)
        else:
            for batch in batches:
                results += work(batch)
    for batch, result in results:
        for place, row in enumerate(batch):
            done[row] = (result, place)
    return _collect(job, rows, done, results)


def _prepare(
    model: MusicGen,
    rows: list[Row],
    seconds: float,
    guidance: float | None,
    temperature: float,
    top_k: int,
    top_p: float,
    two_step: bool,
    greedy: bool,
    engine: EngineName,
    capture: str | Site | Iterable[str | Site],
    pool: str | Sequence[str] | None,
    extend_stride: float | None,
) -> Job:
    if not rows:
        raise InterventionError("there are no rows to generate.")
    frames = int(seconds * model.frame_rate) if math.isfinite(seconds) else 0
    if frames < 1:
        raise ClipError(f"{seconds} seconds hold no frame: ask for {1 / model.frame_rate:g} seconds or more.")
    if guidance is not None and not math.isfinite(guidance):
        raise ModelError(f"guidance cannot be {guidance}: give a number, or None for none.")
    if not (math.isfinite(temperature) and temperature >= 0) or top_k < 0 or not 0 <= top_p <= 1:
        raise ModelError("sampling needs a temperature of 0 or more, top_k of 0 or more, and top_p from 0 to 1.")
    for text in dict.fromkeys(row.prompt for row in rows):
        model.check_prompt(text)
    checked: set[int] = set()
    for row in rows:
        if row.audio is not None:
            _check_audio(model, row.audio, frames)
        if id(row.interventions) not in checked:
            check_interventions(row.interventions, model.shape, lambda: model.fingerprint)
            checked.add(id(row.interventions))
    if model.frame_steps(1)[0] != 1 or model.frame_steps(4).diff().ne(1).any():
        raise ModelError("this checkpoint's codebook pattern is not one frame a step, which generation here needs.")
    sites = tuple(select_sites(capture, model.shape)) if not isinstance(capture, tuple | list) or capture else ()
    pooling = None if pool is None else _pooling(model, sites, pool, frames, seconds)
    stride = 0.6 * model.max_seconds if extend_stride is None else float(extend_stride)
    if seconds > model.max_seconds and not 0 < stride < model.max_seconds:
        raise ModelError(f"a stride of {stride:g} s does not move a window of {model.max_seconds:g} s on: give less.")
    return Job(
        model=model,
        engine=_engine(model, engine),
        frames=frames,
        seconds=float(seconds),
        stride=stride,
        guidance=None if guidance is None or guidance == 1 else float(guidance),
        two_step=two_step,
        temperature=float(temperature),
        top_k=min(int(top_k), model.cardinality),
        top_p=float(top_p),
        greedy=greedy or temperature == 0,
        capture=sites,
        pooling=pooling,
    )


def _pooling(
    model: MusicGen, sites: tuple[Site, ...], pool: str | Sequence[str], frames: int, seconds: float
) -> Pooling:
    if not sites:
        raise SiteError("there is nothing to pool: name the sites, generate(..., capture='heads', pool='mean').")
    if seconds > model.max_seconds:
        raise ModelError(
            f"activations are pooled within one window of {model.max_seconds:g} s, but {seconds:g} s are asked for: "
            "generate shorter music, or extract from its codes window by window."
        )
    if model.n_codebooks < 2:
        raise ModelError("a model of one codebook never hears the last frame it writes: extract from its codes.")
    return Pooling.parse(pool, model.frame_rate, frames)


def _check_audio(model: MusicGen, audio: Tensor, frames: int) -> None:
    if audio.shape[0] != model.n_codebooks or int(audio.min()) < 0 or int(audio.max()) >= model.cardinality:
        raise ClipError(
            f"the audio prompt has {audio.shape[0]} codebooks and codes up to {int(audio.max())}, but the model has "
            f"{model.n_codebooks} codebooks of {model.cardinality}: encode it with this model."
        )
    if audio.shape[1] >= frames:
        raise ClipError(
            f"the audio prompt is {audio.shape[1] / model.frame_rate:g} s long, which leaves nothing of "
            f"{frames / model.frame_rate:g} s to generate: shorten it or ask for more seconds."
        )
    if audio.shape[1] > int(model.max_seconds * model.frame_rate):
        raise ClipError(f"the audio prompt is longer than the model's window of {model.max_seconds:g} s: shorten it.")


def _engine(model: MusicGen, name: EngineName) -> Engine:
    if name == "nnsight":
        return NNsightEngine(model)
    if name == "hooks":
        return HookEngine(model)
    if name not in ("auto", "fast"):
        raise ModelError(f"there is no engine {name!r}: use auto, fast, hooks or nnsight.")
    from interp.steering.engine.fast import FastEngine, unsupported

    reason = unsupported(model)
    if reason is None:
        return FastEngine(model)
    if name == "fast":
        raise ModelError(f"the fast engine cannot run this checkpoint, because {reason}: use engine='hooks'.")
    _log.info("generating through plain hooks, because %s", reason)
    return HookEngine(model)


def _with_room(
    job: Job, rows: list[Row], batch: list[int], tick: Callable[[int], None]
) -> list[tuple[list[int], _Done]]:
    """Run a batch; if memory runs out, run its halves one after the other."""
    try:
        return [(batch, _run(job, [rows[i] for i in batch], tick))]
    except (MemoryError, RuntimeError) as error:
        if len(batch) == 1 or not _out_of_memory(error):
            raise
    _log.warning("out of memory with %d rows at once: splitting them, which changes nothing but the time", len(batch))
    if job.model.device.type == "cuda":
        torch.cuda.empty_cache()
    middle = len(batch) // 2
    return _with_room(job, rows, batch[:middle], tick) + _with_room(job, rows, batch[middle:], tick)


def _out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


# One batch -------------------------------------------------------------------------------------------------------


def _run(job: Job, rows: list[Row], tick: Callable[[int], None]) -> _Done:
    model, device = job.model, job.model.device
    guided = halves_of(job, rows[0]) == 2
    length = rows[0].prompt_frames
    timeline = Timeline(length, job.frames + model.n_codebooks, model.frame_rate)
    plan = Plan([r.interventions for r in rows], [r.seed for r in rows], model.shape, timeline, guided, device)
    capture = Capture(plan, job.capture) if job.capture and job.pooling is None else None
    pooler = None if job.pooling is None else PooledCapture(plan, job.capture, job.pooling, model, job.frames)
    noise = None if job.greedy else Noise([r.seed for r in rows], model.n_codebooks, model.cardinality, device)
    sampler = Sampler(noise, job.temperature, job.top_k, job.top_p)
    texts = list(dict.fromkeys(row.prompt for row in rows))
    text_of = [texts.index(row.prompt) for row in rows]
    cond, uncond = _conditions(model, texts, text_of, guided)
    prompt = torch.stack([row.audio for row in rows if row.audio is not None]) if length else None
    codes = torch.empty(len(rows), model.n_codebooks, 0, dtype=torch.long)
    if prompt is not None:
        codes = prompt
    audio_keys = [audio_key(row) for row in rows]
    places = {key: i for i, key in enumerate(dict.fromkeys(audio_keys))}
    audio_of = [places[key] for key in audio_keys]

    for offset, frames in _windows(job, length):
        heard = codes[..., offset:]
        batch = Batch(cond, uncond, plan, frames + model.n_codebooks, job.two_step, text_of, audio_of)
        made = _window(job, batch, heard.to(device), frames, offset, sampler, tick)
        codes = torch.cat([codes[..., :offset], made.cpu()], -1)
        # what a later window hears was generated by each row for itself
        audio_of = list(range(len(rows)))
    edits = batch_edits(plan)
    log = batch_log(plan, edits, job.guidance)
    captured = {} if capture is None else capture.values(job.frames)
    pooled = {} if pooler is None else pooler.values()
    return _Done(codes[..., : job.frames], edits, log, batch_monitor(plan), captured, pooled)


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


def _windows(job: Job, prompt: int) -> list[tuple[int, int]]:
    """Start and length, in frames, of the windows audiocraft decodes one after the other."""
    model = job.model
    if job.seconds <= model.max_seconds:
        return [(0, job.frames)]
    windows = []
    step = int(model.frame_rate * job.stride)
    offset, length = 0, prompt
    while offset + length < job.frames:
        chunk = min(job.seconds - offset / model.frame_rate, model.max_seconds)
        frames = int(chunk * model.frame_rate)
        windows.append((offset, frames))
        length = frames - step
        offset += step
    return windows


def _window(
    job: Job,
    batch: Batch,
    heard: Tensor,
    frames: int,
    offset: int,
    sampler: Sampler,
    tick: Callable[[int], None],
) -> Tensor:
    """Decode one window, given its first codes; returns codes ``[rows, codebooks, frames]``."""
    model, plan = job.model, batch.plan
    n = heard.shape[-1]
    unknown = -1
    codes = torch.full((plan.n, model.n_codebooks, frames), unknown, dtype=torch.long, device=model.device)
    codes[..., :n] = heard
    sequence, mask = model.sequence(codes)
    # the first position that holds a token of the first frame to come
    first = int(model.frame_steps(frames)[n])
    special = model.cardinality
    with job.engine.session(batch) as session:
        if first > 1:
            plan.begin(None)
            session.feed(sequence[..., : first - 1], offset, want=False)
        for position in range(first, sequence.shape[-1]):
            at = offset + position - 1
            plan.begin(at)
            cond, uncond = session.feed(sequence[..., position - 1 : position], at)
            logits = cond if uncond is None else uncond + (cond - uncond) * (job.guidance or 1.0)
            tokens = sampler(logits)
            tokens = torch.where(mask[:, position], tokens, special)
            slot = sequence[..., position]
            sequence[..., position] = torch.where(slot == unknown, tokens, slot)
            if position <= frames:
                tick(plan.n)
    return model.codes_of(sequence, frames)


def _collect(
    job: Job, rows: list[Row], done: dict[int, tuple[_Done, int]], results: list[tuple[list[int], _Done]]
) -> Generation:
    import pandas as pd

    codes = torch.stack([done[i][0].codes[done[i][1]] for i in range(len(rows))])

    def table(name: str) -> Any:
        frames = []
        for batch, result in results:
            frame = getattr(result, name)
            frames.append(frame.assign(row=np.array(batch, dtype=np.int64)[frame["row"].to_numpy(dtype=np.int64)]))
        whole = pd.concat([f for f in frames if len(f)] or frames[:1], ignore_index=True)
        order = [c for c in ("row", "intervention", "half", "step") if c in whole]
        return whole.sort_values(order, kind="stable", ignore_index=True)

    everyone = range(len(rows))
    full = job.capture if job.pooling is None else ()
    captured = {site: [done[i][0].captured[site][done[i][1]] for i in everyone] for site in full}
    kinds = results[0][1].pooled
    pooled = {kind: [done[i][0].pooled[kind][done[i][1]] for i in everyone] for kind in kinds}
    return Generation(
        model=job.model,
        codes=codes,
        rows=tuple(rows),
        log=table("log"),
        monitor=table("monitor"),
        captured=captured,
        pooled=pooled,
        edits=sorted(
            ((batch[e[0]], *e[1:]) for batch, result in results for e in result.edits),
            key=lambda e: (e[0], e[1], e[2]),
        ),
        settings={
            "model": job.model.name,
            "engine": job.engine.name,
            "seconds": job.seconds,
            "guidance": job.guidance,
            "two_step": job.two_step,
            "temperature": job.temperature,
            "top_k": job.top_k,
            "top_p": job.top_p,
            "greedy": job.greedy,
            **_pooled_settings(job),
        },
    )


def _pooled_settings(job: Job) -> dict[str, Any]:
    if job.pooling is None:
        return {}
    return {"capture": job.capture, "pool": job.pooling.spec, "pool_names": job.pooling.names}


class _NoBar:
    def update(self, n: int) -> None:
        """Nobody watches."""


@contextlib.contextmanager
def _bar(progress: bool, total: int) -> Any:
    if not progress:
        yield _NoBar()
        return
    from tqdm.auto import tqdm

    with tqdm(total=total, desc="generating", unit="frame", unit_scale=True) as bar:
        yield bar
