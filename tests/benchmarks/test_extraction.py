"""How much extraction costs beyond the forward pass it reads, and whether its memory stays flat.

Bare forward passes, extraction, and plain PyTorch hooks that keep the same pooled values take turns on the
same batches
in one process, so that a ratio means something on a machine that is not perfectly quiet::

    python tests/benchmarks/test_extraction.py            # the whole table; several minutes
    python tests/benchmarks/test_extraction.py --quick    # seconds; only shows that it runs

The bar: bare time / extraction time of at least 0.85, for all heads and residuals pooled by mean and last.
The peak memory for 2,000 clips may be at most 1.15 times that for 200.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

import interp
from interp import testbed
from interp._batch import pool_forward
from interp.activations import extract
from interp.backends.audiocraft import LMModel
from interp.backends.build import random_musicgen
from interp.clips import Clips
from interp.model import MusicGen
from interp.pooling import Pooling
from interp.sites import select_sites

SITES, POOL = "heads, resid", "mean, last"
BAR_SPEED, BAR_MEMORY = 0.85, 1.15
BATCHES = 4  # of one call of `extract`, so that making the store is shared as in a real extraction


def models(quick: bool) -> dict[str, tuple[MusicGen, LMModel, int, float]]:
    """Model, the same LM that nnsight never saw, rows of a batch, seconds of a clip."""
    cpu = torch.device("cpu")
    found = {"tiny": (interp.load("tiny", cpu), testbed.load(cpu).lm, 16, 4.0)}
    if quick:
        name, sizes, cardinality, rows, seconds = "random, 4 x 4 x 128", (4, 4, 128), 64, 4, 1.0
    else:
        name, sizes, cardinality, rows, seconds = "random, musicgen-small's size", (24, 16, 1024), 2048, 2, 4.0
    musicgen, bare = (random_musicgen(*sizes, cardinality=cardinality) for _ in range(2))
    found[name] = (MusicGen(musicgen), bare.lm, rows, seconds)
    return found


def finish(device: torch.device) -> None:
    """Wait for what a GPU still has to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def hooked(lm: LMModel, n_frames: int) -> tuple[list[Tensor], Callable[[], None]]:
    """Plain hooks that keep the mean and the last frame of every layer's heads and residual; and how to remove them."""
    kept: list[Tensor] = []

    def pool(x: Tensor) -> None:
        kept.append(torch.stack([x[:, 1 : n_frames + 1].mean(1), x[:, n_frames]], 1))

    handles = []
    layers: Any = lm.transformer.layers
    for layer in layers:
        handles.append(layer.self_attn.out_proj.register_forward_pre_hook(lambda module, args: pool(args[0])))
        handles.append(layer.register_forward_hook(lambda module, args, output: pool(output)))
    return kept, lambda: [handle.remove() for handle in handles] and None


@torch.no_grad()
def speed(model: MusicGen, bare_lm: LMModel, rows: int, seconds: float, repeats: int) -> dict[str, float]:
    """Median seconds a batch takes: bare, read and pooled, extracted into a store, and hooked."""
    n_frames = round(seconds * model.frame_rate)
    codes = torch.randint(model.cardinality, (rows, model.n_codebooks, n_frames), device=model.device)
    sites = select_sites(SITES, model.shape)
    pooling = Pooling.parse(POOL, model.frame_rate, n_frames)
    texts = [None] * rows
    conditions = model.conditions(texts)
    # The very tokens that extraction feeds: nothing after the last frame's step.
    tokens = model.sequence(codes)[0][..., : int(model.frame_steps(n_frames)[-1]) + 1]

    def bare() -> object:
        with model.autocast():
            return bare_lm(tokens, [], conditions)

    def with_hooks() -> None:
        kept, remove = hooked(bare_lm, n_frames)
        bare()
        remove()
        torch.stack(kept).cpu()

    clips = Clips.from_arrays(np.zeros((BATCHES * rows, 1, 320), np.float32), 16000)
    with tempfile.TemporaryDirectory() as folder:
        count = iter(range(10**6))
        runs: dict[str, Callable[[], object]] = {
            "bare": bare,
            "read": lambda: pool_forward(model, list(codes), texts, sites, pooling),
            "extract": lambda: extract(
                model,
                clips,
                SITES,
                POOL,
                out=Path(folder) / f"{next(count)}",
                batch_size=rows,
                codes=lambda i: codes[i % rows],
                progress=False,
            ),
            "hooks": with_hooks,
        }
        times: dict[str, list[float]] = {name: [] for name in runs}
        for repeat in range(repeats + 1):
            for name, run in runs.items():
                begin = time.perf_counter()
                run()
                finish(model.device)
                if repeat:  # the first round warms up
                    times[name].append((time.perf_counter() - begin) / (BATCHES if name == "extract" else 1))
    return {name: statistics.median(values) for name, values in times.items()}


def peak_memory(n_clips: int, seconds: float) -> float:
    """Peak resident MiB of a fresh process that extracts `n_clips` clips into a store."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--child", str(n_clips), str(seconds), folder]
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def child(n_clips: int, seconds: float, folder: str) -> None:
    """Extract in this process and print its peak memory."""
    model = interp.load("tiny", device="cpu")
    n_frames = round(seconds * model.frame_rate)

    def codes(i: int) -> Tensor:
        generator = torch.Generator().manual_seed(i)
        return torch.randint(model.cardinality, (model.n_codebooks, n_frames), generator=generator)

    clips = Clips.from_arrays(np.zeros((n_clips, 1, 1), np.float32), model.sample_rate)
    extract(model, clips, SITES, POOL, out=Path(folder) / "x.zarr", codes=codes, progress=False)
    # not ru_maxrss, which begins at the size of the process that started this one
    status = Path("/proc/self/status").read_text()
    print(int(status.split("VmHWM:")[1].split()[0]) / 1024)


def table(quick: bool) -> pd.DataFrame:
    """Speed of every model."""
    rows = []
    for name, (model, bare, batch, seconds) in models(quick).items():
        repeats = 2 if quick or model.shape.width >= 1024 else 7
        times = speed(model, bare, batch, seconds, repeats)
        ratio = {f"bare/{key}": times["bare"] / times[key] for key in ("read", "extract", "hooks")}
        rows.append({"model": name, "rows": batch, "seconds": seconds, "bare [s]": times["bare"], **ratio})
    return pd.DataFrame(rows).set_index("model")


def memory(quick: bool) -> pd.Series:
    """Peak memory for few and for many clips."""
    few, many, seconds = (8, 32, 0.5) if quick else (200, 2000, 2.0)
    peaks = pd.Series({few: peak_memory(few, seconds), many: peak_memory(many, seconds)}, name="peak MiB")
    peaks.index.name = "clips"
    return peaks


@pytest.mark.bench
def test_extraction_keeps_up_with_the_model() -> None:
    found = table(quick=False)
    print(found.round(3).to_string())
    assert (found["bare/extract"] >= BAR_SPEED).all()


@pytest.mark.bench
def test_memory_does_not_grow_with_the_number_of_clips() -> None:
    peaks = memory(quick=False)
    print(peaks.round(1).to_string())
    assert peaks.iloc[1] <= BAR_MEMORY * peaks.iloc[0]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(int(sys.argv[2]), float(sys.argv[3]), sys.argv[4])
    else:
        parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("--quick", action="store_true", help="seconds instead of minutes; the numbers mean little")
        quick = parser.parse_args().quick
        print(table(quick).round(3).to_string(), memory(quick).round(1).to_string(), sep="\n\n")
