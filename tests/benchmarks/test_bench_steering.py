"""What steering costs: steered against unsteered, one batch against one run at a time, engines side by side.

Runs take turns in one process, every other turn in reverse order, and each turn gives one ratio: a run against the two
unsteered runs of the same turn. What is reported is the median ratio with a bootstrap interval over turns; a bar is
missed where the whole interval lies above it. The two unsteered runs against each other say what this machine can tell.
Set ``INTERP_BENCH_SMOKE=1`` for a short run that checks that everything works and asserts no bar.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch

import interp
from interp import tables
from interp.backends.audiocraft import ConditioningAttributes
from interp.backends.build import random_musicgen
from interp.directions import Direction, Directions
from interp.model import MusicGen
from interp.sites import select_sites
from interp.steering import Add, Intervention, Row, Smitin, generate

SMOKE = os.environ.get("INTERP_BENCH_SMOKE") == "1"
TURNS, FEW = (1, 1) if SMOKE else (25, 5)


def probes(model: MusicGen) -> Directions:
    """A probe at every head whose small sigma leaves the music as it is: only the work is measured."""
    rng = np.random.default_rng(0)
    return Directions(
        Direction.from_weight(
            site,
            rng.standard_normal(model.shape.head_dim),
            sigma=0.01,
            intercept=0.0,
            score=float(rng.uniform(0.5, 0.95)),
            trait="drums",
        )
        for site in select_sites("heads", model.shape)
    )


def times_of(runs: dict[str, Callable[[], object]], turns: int) -> pd.DataFrame:
    """Seconds of several runs, a row a turn, after one turn to warm up."""
    rows = []
    for turn in range(turns + 1):
        seconds = {}
        for name, run in list(runs.items())[:: -1 if turn % 2 else 1]:
            start = time.perf_counter()
            run()
            seconds[name] = time.perf_counter() - start
        rows.append(seconds)
    return pd.DataFrame(rows[1:])[list(runs)]


def ratios_of(times: pd.DataFrame, base: pd.Series, draws: int = 2000) -> pd.DataFrame:
    """Median over turns of each run against a base, with a 95 % bootstrap interval, and the least seconds."""
    rng = np.random.default_rng(0)
    picks = rng.integers(len(times), size=(draws, len(times)))
    lines = []
    for name in times:
        ratio = (times[name] / base).to_numpy()
        lo, hi = np.quantile(np.median(ratio[picks], axis=1), [0.025, 0.975])
        lines.append({"run": name, "seconds": times[name].min(), "ratio": np.median(ratio), "lo": lo, "hi": hi})
    return pd.DataFrame(lines)


@pytest.mark.parametrize(
    ("name", "size", "rows", "frames", "bar_fixed", "bar_monitored"),
    [
        ("the shipped model", None, 32, 100, 1.10, 1.20),
        ("musicgen-small's size", (24, 16, 1024, 2048), 2, 10, 1.03, 1.05),
    ],
)
def test_cost_of_steering(
    name: str, size: tuple[int, int, int, int] | None, rows: int, frames: int, bar_fixed: float, bar_monitored: float
) -> None:
    model = interp.load("tiny", "cpu") if size is None else MusicGen(random_musicgen(*size[:3], cardinality=size[3]))
    text = "jazz, piano" if size is None else "a"
    directions = probes(model)
    if SMOKE:
        rows, frames = 2, 3

    def run(*items: Intervention, engine: str = "auto") -> Callable[[], object]:
        batch = [Row(text, seed, None, items) for seed in range(rows)]
        return lambda: generate(model, batch, frames / model.frame_rate, engine=engine, progress=False)  # type: ignore[arg-type]

    attributes = [ConditioningAttributes(text={"description": text})] * rows
    fixed, monitored = Add(directions, dose=1.0), Smitin(directions, tau=2.0)
    times = times_of(
        {
            "unsteered": run(),
            "fixed directions at all heads": run(fixed),
            "self-monitored": run(monitored),
            "unsteered, again": run(),
        },
        TURNS,
    )
    ratios = ratios_of(times, times[["unsteered", "unsteered, again"]].mean(axis=1))
    slow = times_of(
        {
            "plain hooks, unsteered": run(engine="hooks"),
            "plain hooks, fixed": run(fixed, engine="hooks"),
            "naive nnsight loop (a trace a step), fixed": run(fixed, engine="nnsight"),
            "audiocraft's generate, unsteered": lambda: model.lm.generate(None, attributes, max_gen_len=frames),
        },
        FEW,
    )
    hooks = ratios_of(slow, slow["plain hooks, unsteered"])
    print(f"\n{name}: {rows} rows x {frames} frames, {torch.get_num_threads()} threads; against unsteered")
    print(tables.to_markdown(ratios, digits=3))
    print("against plain hooks, unsteered\n" + tables.to_markdown(hooks, digits=3))
    if not SMOKE:
        least = ratios.set_index("run")["lo"]
        assert least["fixed directions at all heads"] <= bar_fixed
        assert least["self-monitored"] <= bar_monitored
        assert hooks.set_index("run")["lo"]["plain hooks, fixed"] <= bar_fixed


def test_a_dose_response_in_batches_against_one_run_at_a_time() -> None:
    """5 strengths x 6 arms x 16 seeds; of the single runs a sample is timed, evenly spread over the arms."""
    model = interp.load("tiny", "cpu")
    directions = probes(model)
    rng = np.random.default_rng(1)
    arms = [directions] + [
        Directions(
            Direction.from_weight(d.site, rng.standard_normal(d.dim), sigma=d.sigma, trait="random") for d in directions
        )
        for _ in range(5)
    ]
    strengths, seeds, frames = (range(1, 6), range(16), 100) if not SMOKE else (range(1, 2), range(1), 3)
    items = [Add(arm, dose=float(strength)) for arm in arms for strength in strengths]
    rows = [Row("jazz, piano", seed, None, (item,)) for item in items for seed in seeds]
    length = frames / model.frame_rate
    generate(model, rows[:1], 0.1, progress=False)
    start = time.perf_counter()
    together = generate(model, rows, length, progress=False)
    batched = time.perf_counter() - start
    sample = range(0, len(rows), max(1, len(rows) // 24))
    start = time.perf_counter()
    for i in sample:
        alone = generate(model, [rows[i]], length, progress=False)
        assert torch.equal(alone.codes[0], together.codes[i])
    single = (time.perf_counter() - start) / len(sample) * len(rows)
    print(f"\n{len(rows)} rows x {frames} frames: {batched:.2f} s in batches, {single:.2f} s one at a time, "
          f"{single / batched:.1f} times")  # fmt: skip
    if not SMOKE:
        assert single / batched >= 4
