"""Generation for experiments: many rows in one batch, each with its own prompt, audio, seed and interventions.

The loop is audiocraft's (delay pattern, guidance, sampling options, windows beyond the longest one), and so are its
greedy tokens. What is added: a row's noise belongs to its seed, a row's music does not depend on the batch it is in,
interventions differ from row to row, and everything that was edited is logged.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any, Unpack

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.errors import ClipError, ModelError, SiteError
from interp.model import MusicGen
from interp.pooling import Pooling
from interp.sites import Site, select_sites
from interp.steering.checks import check_interventions
from interp.steering.engine import choose_engine
from interp.steering.engine.decode import Done, Run, halves_of, run_batch
from interp.steering.generation import Generation
from interp.steering.rows import Options, Row, Settings, as_rows

__all__ = ["generate"]

_log = logging.getLogger(__name__)
Tick = Callable[[int], None]
Part = tuple[list[int], Done]


def generate(
    model: MusicGen,
    rows: Row | str | Iterable[Row | str],
    seconds: float = 4.0,
    guidance: float | None = 3.0,
    *,
    batch_size: int | None = None,
    progress: bool = True,
    capture: str | Site | Iterable[str | Site] = (),
    pool: str | Sequence[str] | None = None,
    **options: Unpack[Options],
) -> Generation:
    """Generate music, steered row by row.

    Parameters
    ----------
    model : MusicGen
    rows : sequence of Row, Row or str
        Any mixture of prompts, audio prompts, seeds and interventions; a text is a row of this prompt.
    seconds : float
        Length of the result, audio prompt included.
    guidance : float or None
        Coefficient of classifier-free guidance; None or 1 runs the conditional rows alone.
    batch_size : int, optional
        Most rows at a time; by default what fits the memory. Does not change the music.
    progress : bool
        Show a progress bar.
    capture : sites
        Activations to keep, see :meth:`Generation.captured`; as the later layers saw them, after any edit.
    pool : str or sequence of str, optional
        Pool them over time while generating, as :mod:`interp.pooling` has it (``"mean, last"``), instead of keeping
        every frame; read them with :meth:`Generation.to_dataset`. Within one window of the model.
    **options
        Any of :class:`Settings`: temperature, top_k, top_p, greedy, two_step, engine, extend_stride, offset.

    Returns
    -------
    Generation

    Raises
    ------
    InterventionError
        If an intervention is malformed, does not fit, touches no call, or drives activations beyond what is finite.
    CheckpointMismatch, SiteError, ClipError, ModelError
        If a direction, a site, an audio prompt or an option does not fit the model.

    Notes
    -----
    Rows without text whose interventions act on both halves have identical conditional and unconditional rows;
    guidance between equals changes nothing, so these are run once.

    Examples
    --------
    >>> import interp
    >>> from interp.steering import Ablate
    >>> rows = [Row("jazz, piano", seed=1), Row("jazz, piano", seed=1, interventions=Ablate.zero("L5.resid"))]
    >>> music = generate(interp.load("tiny", "cpu"), rows, 0.1, engine="hooks", progress=False)
    >>> bool((music.codes[0] == music.codes[1]).all())
    False
    >>> music.log["calls"].tolist()
    [8, 8]
    """
    every = as_rows(rows)
    run = _prepare(model, every, seconds, guidance, Settings.of(**options), capture, pool)
    batches = _batches(run, every, batch_size)
    results: list[Part] = []
    lock = threading.Lock()
    prompts = sum(row.prompt_frames for row in every)
    with model.starting_at(run.settings.offset), _bar(progress, len(every) * run.frames - prompts) as update:

        def tick(n: int) -> None:
            with lock:
                update(n)

        def work(batch: list[int]) -> list[Part]:
            return _with_room(run, every, batch, tick)

        threads = min(torch.get_num_threads(), len(batches)) if _in_parallel(run) else 1
        if threads > 1:
            before = torch.get_num_threads()
            try:
                with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as workers:
                    for parts in workers.map(work, batches):
                        results += parts
            finally:
                torch.set_num_threads(before)
        else:
            for batch in batches:
                results += work(batch)
    return _collect(run, every, results)


# Checks ----------------------------------------------------------------------------------------------------------


def _prepare(
    model: MusicGen,
    rows: list[Row],
    seconds: float,
    guidance: float | None,
    settings: Settings,
    capture: str | Site | Iterable[str | Site],
    pool: str | Sequence[str] | None,
) -> Run:
    frames = int(seconds * model.frame_rate) if math.isfinite(seconds) else 0
    if frames < 1:
        raise ClipError(f"{seconds} seconds hold no frame: ask for {1 / model.frame_rate:g} seconds or more.")
    if guidance is not None and not math.isfinite(guidance):
        raise ModelError(f"guidance cannot be {guidance}: give a number, or None for none.")
    for text in dict.fromkeys(row.prompt for row in rows):
        model.check_prompt(text)
    checked: set[int] = set()
    for row in rows:
        if row.codes is not None:
            _check_codes(model, row.codes, frames)
        if id(row.interventions) not in checked:
            check_interventions(row.interventions, model.shape, lambda: model.fingerprint)
            checked.add(id(row.interventions))
    if model.frame_steps(1)[0] != 1 or model.frame_steps(4).diff().ne(1).any():
        raise ModelError("this checkpoint's codebook pattern is not one frame a step, which generation here needs.")
    sites = tuple(select_sites(capture, model.shape)) if not isinstance(capture, tuple | list) or capture else ()
    pooling = None if pool is None else _pooling(model, sites, pool, frames, seconds)
    stride = 0.6 * model.max_seconds if settings.extend_stride is None else float(settings.extend_stride)
    if seconds > model.max_seconds and not 0 < stride < model.max_seconds:
        raise ModelError(f"a stride of {stride:g} s does not move a window of {model.max_seconds:g} s on: give less.")
    return Run(
        model=model,
        engine=choose_engine(model, settings.engine),
        settings=settings,
        frames=frames,
        seconds=float(seconds),
        stride=stride,
        guidance=None if guidance is None or guidance == 1 else float(guidance),
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


def _check_codes(model: MusicGen, codes: Tensor, frames: int) -> None:
    if codes.shape[0] != model.n_codebooks or int(codes.min()) < 0 or int(codes.max()) >= model.cardinality:
        raise ClipError(
            f"the audio prompt has {codes.shape[0]} codebooks and codes up to {int(codes.max())}, but the model has "
            f"{model.n_codebooks} codebooks of {model.cardinality}: encode it with this model."
        )
    if codes.shape[1] >= frames:
        raise ClipError(
            f"the audio prompt is {codes.shape[1] / model.frame_rate:g} s long, which leaves nothing of "
            f"{frames / model.frame_rate:g} s to generate: shorten it or ask for more seconds."
        )
    if codes.shape[1] > int(model.max_seconds * model.frame_rate):
        raise ClipError(f"the audio prompt is longer than the model's window of {model.max_seconds:g} s: shorten it.")


# Batches ---------------------------------------------------------------------------------------------------------


def _batches(run: Run, rows: list[Row], batch_size: int | None) -> list[list[int]]:
    """Rows that can run together, those that share a prompt next to each other, within the memory."""
    if batch_size is not None and batch_size < 1:
        raise ModelError(f"a batch of {batch_size} rows holds nothing: give 1 or more, or None.")
    texts = list(dict.fromkeys(row.prompt for row in rows))
    lengths = dict(zip(texts, run.model.condition_lengths(texts), strict=True))
    groups: dict[tuple[int, int, int], list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        groups[row.prompt_frames, lengths[row.prompt], halves_of(run, row)].append(i)
    parallel = torch.get_num_threads() if _in_parallel(run) else 1
    batches: list[list[int]] = []
    for (_, _, halves), members in groups.items():
        most = _most_rows(run, halves) if batch_size is None else batch_size
        members.sort(key=lambda i: (rows[i].prompt or "", rows[i].continued))
        count = math.ceil(len(members) / most)
        if batch_size is None and len(members) >= 16 * parallel:
            count = max(count, parallel)
        batches += [list(part) for part in np.array_split(members, count)]
    return [[int(i) for i in batch] for batch in batches]


def _most_rows(run: Run, halves: int) -> int:
    """How many rows fit into a quarter of the free memory (at most 4 GiB), and not more than are any use."""
    model = run.model
    if model.device.type == "cuda":
        free = torch.cuda.mem_get_info(model.device)[0]
    else:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    positions = min(run.frames, int(model.max_seconds * model.frame_rate)) + model.n_codebooks
    size = torch.finfo(model.dtype).bits // 8
    per_row = halves * positions * model.shape.width * (2 * model.shape.n_layers * size + 24 * 4)
    per_row += 16 * model.n_codebooks * model.cardinality * 8
    return int(min(max(1, min(free // 4, 4 * 2**30) // per_row), 256 // halves))


def _in_parallel(run: Run) -> bool:
    """Whether batches may run side by side: the fast engine keeps no state in the model."""
    return run.engine.name == "fast" and run.model.device.type == "cpu" and torch.get_num_threads() > 1


def _with_room(run: Run, rows: list[Row], batch: list[int], tick: Tick) -> list[Part]:
    """Run a batch; if memory runs out, run its halves one after the other."""
    try:
        return [(batch, run_batch(run, [rows[i] for i in batch], batch, tick))]
    except (MemoryError, RuntimeError) as error:
        if len(batch) == 1 or not _out_of_memory(error):
            raise
    _log.warning("out of memory with %d rows at once: splitting them, which changes nothing but the time", len(batch))
    if run.model.device.type == "cuda":
        torch.cuda.empty_cache()
    middle = len(batch) // 2
    return _with_room(run, rows, batch[:middle], tick) + _with_room(run, rows, batch[middle:], tick)


def _out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


# The result ------------------------------------------------------------------------------------------------------


def _collect(run: Run, rows: list[Row], results: list[Part]) -> Generation:
    done = {row: (result, place) for batch, result in results for place, row in enumerate(batch)}
    everyone = range(len(rows))
    full = run.capture if run.pooling is None else ()
    settings = {"model": run.model.name, "seconds": run.seconds, "guidance": run.guidance}
    settings |= asdict(run.settings) | {"engine": run.engine.name}
    if run.pooling is not None:
        settings |= {"capture": run.capture, "pool": run.pooling.spec, "pool_names": run.pooling.names}
    return Generation(
        model=run.model,
        codes=torch.stack([done[i][0].codes[done[i][1]] for i in everyone]),
        rows=tuple(rows),
        log=_table(results, "log"),
        monitor=_table(results, "monitor"),
        settings=settings,
        _captured={site: [done[i][0].captured[site][done[i][1]] for i in everyone] for site in full},
        _pooled={kind: [done[i][0].pooled[kind][done[i][1]] for i in everyone] for kind in results[0][1].pooled},
        _edited=sorted(
            ((batch[line[0]], *line[1:]) for batch, result in results for line in result.edited),
            key=lambda line: line[:3],
        ),
    )


def _table(results: list[Part], name: str) -> pd.DataFrame:
    """One table of all batches, with the caller's rows."""
    frames = []
    for batch, result in results:
        frame = getattr(result, name)
        frames.append(frame.assign(row=np.array(batch, dtype=np.int64)[frame["row"].to_numpy(dtype=np.int64)]))
    whole = pd.concat([f for f in frames if len(f)] or frames[:1], ignore_index=True)
    order = [c for c in ("row", "intervention", "half", "step") if c in whole]
    return whole.sort_values(order, kind="stable", ignore_index=True)


@contextlib.contextmanager
def _bar(progress: bool, total: int) -> Iterator[Callable[[int], Any]]:
    if not progress:
        yield lambda n: None
        return
    from tqdm.auto import tqdm

    with tqdm(total=total, desc="generating", unit="frame", unit_scale=True) as bar:
        yield bar.update
