"""What a GPU says: checks, cost of extraction and of steering, against plain hooks, audiocraft and a trace a step.

Not collected by pytest; one prepared script for minutes on such a machine without a network: weights are
random, sizes are those of the released models::

    python tests/gpu_check.py --out gpu.json                        # small and large, under 4 minutes
    python tests/gpu_check.py --device cpu --sizes toy --turns 1    # seconds; only shows that it runs

Bars at large size: extraction at .95 of the bare forward pass, steering at most 1.02 and self-monitored 1.05 of
unsteered, no synchronisation that grows with the steps, and no slower than audiocraft's own ``generate``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent / "benchmarks")]

from test_bench_steering import probes, ratios_of, times_of
from test_extraction import finish, speed

from interp.backends.audiocraft import ConditioningAttributes
from interp.backends.build import random_musicgen
from interp.check import check
from interp.model import MusicGen
from interp.steering import Add, Intervention, Row, Smitin, generate

SIZES = {"toy": (2, 2, 32), "small": (24, 16, 1024), "medium": (48, 24, 1536), "large": (48, 32, 2048)}
TEXT = "jazz, piano, drums"


def built(size: str, device: str, dtype: torch.dtype) -> MusicGen:
    return MusicGen(random_musicgen(*SIZES[size], cardinality=2048, device=device, dtype=dtype), f"random-{size}")


def extraction(model: MusicGen, size: str, rows: int, seconds: float, turns: int) -> dict[str, float]:
    """Share of the bare forward pass that extraction reaches, and plain hooks."""
    bare = random_musicgen(*SIZES[size], cardinality=2048, device=model.device, dtype=model.dtype)
    times = speed(model, bare.lm, rows, seconds, turns)
    return {"of_bare": times["bare"] / times["extract"], "hooks_of_bare": times["bare"] / times["hooks"], **times}


def steering(model: MusicGen, rows: int, frames: int, turns: int) -> dict[str, Any]:
    """Cost of steering, with 95 % intervals over turns; and audiocraft, hooks and nnsight beside it."""
    directions = probes(model)
    music = frames / model.frame_rate

    def run(*items: Intervention, engine: Any = "auto", length: float = music) -> Callable[[], object]:
        batch = [Row(TEXT, seed, None, items) for seed in range(rows)]

        def act() -> None:
            generate(model, batch, length, engine=engine, progress=False)
            finish(model.device)

        return act

    def audiocraft() -> None:
        with model.autocast():
            model.lm.generate(None, [ConditioningAttributes(text={"description": TEXT})] * rows, max_gen_len=frames)
        finish(model.device)

    fixed, monitored = Add(directions, dose=1.0), Smitin(directions, tau=2.0)
    times = times_of(
        {"unsteered": run(), "fixed": run(fixed), "monitored": run(monitored), "audiocraft": audiocraft}, turns
    )
    ratios = ratios_of(times, times["unsteered"]).set_index("run")
    # a step of the slow ways, on a tenth of the music
    few = max(4, frames // 10)
    slow = times_of(
        {
            "hooks": run(fixed, engine="hooks", length=few / model.frame_rate),
            "nnsight": run(fixed, engine="nnsight", length=few / model.frame_rate),
        },
        1,
    )
    step = times["unsteered"].median() / (frames + model.n_codebooks - 1)
    per_step = slow.median() / (few + model.n_codebooks - 1) / step
    return {"ms_a_step": 1000 * step, "ratios": ratios.to_dict("index"), "slow_ways": per_step.to_dict()}


def synchronisations(model: MusicGen, rows: int) -> dict[str, float]:
    """Waits for the GPU in a run of 40 and one of 80 frames; what grows with the steps is one too many."""
    if model.device.type != "cuda":
        return {}
    fixed = Add(probes(model), dose=1.0)
    counts = []
    for frames in (40, 80):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            batch = [Row(TEXT, seed, None, (fixed,)) for seed in range(rows)]
            generate(model, batch, frames / model.frame_rate, progress=False)
            torch.cuda.set_sync_debug_mode("default")
        counts.append(sum("synchroniz" in str(one.message) for one in caught))
    return {"in_40": counts[0], "in_80": counts[1], "a_step": (counts[1] - counts[0]) / 40}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--sizes", default="small,large")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    given = parser.parse_args()
    cuda = given.device.startswith("cuda")
    result: dict[str, Any] = {
        "card": torch.cuda.get_device_name() if cuda else given.device,
        "torch": torch.__version__,
        "sizes": {},
    }
    for size in given.sizes.split(","):
        began = time.perf_counter()
        model = built(size, given.device, torch.float16 if cuda else torch.float32)
        done = check(model, seconds=0.3)
        frames = given.frames if size != "toy" else 20
        line = {"check": done.to_dict()}
        line["extraction"] = extraction(model, size, given.rows, frames / model.frame_rate, given.turns)
        line["steering"] = steering(model, given.rows, frames, given.turns)
        line["synchronisations"] = synchronisations(model, given.rows)
        line["seconds"] = time.perf_counter() - began
        result["sizes"][size] = line
        given.out.write_text(json.dumps(result, indent=2) + "\n")  # what is known is kept, should the time run out
        print(size, json.dumps({name: value for name, value in line.items() if name != "check"}, indent=1))
        print(done.to_markdown())
        del model


if __name__ == "__main__":
    main()
