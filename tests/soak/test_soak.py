"""Hours in minutes: memory that stays flat, and kills at random moments after which nothing is lost.

Run by ``make soak``; about a quarter of an hour on two cores.
"""

from __future__ import annotations

import gc
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.soak
ROOT = Path(__file__).parents[2]
MIB = 2**20


def _resident() -> int:
    """Bytes of this process in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _growth(turns: int, warm: int, act: object) -> float:
    """MiB by which memory grew from after ``warm`` turns to the end, by the line through all readings between."""
    readings = []
    for turn in range(turns):
        act()  # type: ignore[operator]
        if turn >= warm and turn % 5 == 0:
            gc.collect()
            readings.append((turn, _resident() / MIB))
    at, size = np.array(readings).T
    slope = np.polyfit(at, size, 1)[0]
    return float(slope * (at[-1] - at[0]))


def test_a_thousand_traces_leave_memory_flat() -> None:
    import torch

    import interp

    model = interp.load("tiny")
    codes = torch.randint(0, 256, (2, 4, 50), generator=torch.Generator().manual_seed(0))

    def trace() -> None:
        with model.trace(codes=codes):
            model.resid[2].save()
            model.heads[3].save()

    growth = _growth(1000, 200, trace)
    print(f"\n1,000 traces: {growth:+.1f} MiB from the 200th to the last")
    assert growth < 20


def test_two_hundred_generations_leave_memory_flat() -> None:
    import interp
    from interp.steering import Row, generate

    model = interp.load("tiny")
    rows = [Row(prompt="jazz, piano", seed=seed) for seed in range(2)]
    growth = _growth(200, 40, lambda: generate(model, rows, seconds=1.0, progress=False))
    print(f"\n200 generations: {growth:+.1f} MiB from the 40th to the last")
    assert growth < 20


def _run(command: list[str], folder: Path, kill_after: float | None = None) -> bool:
    """Run a command in a folder; True if it came to its end, False if it was killed on the way."""
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        _, errors = process.communicate(timeout=kill_after)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return False
    assert process.returncode == 0, errors.decode()[-2000:]
    return True


def _contents(folder: Path) -> dict[str, bytes]:
    """Bytes of every table, array and sound of a folder; not of pages and pictures, which say when they were made."""
    kept = {".csv", ".safetensors", ".wav", ".npz"}
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and ".cache" not in p.parts]
    return {str(p.relative_to(folder)): p.read_bytes() for p in files if p.suffix in kept}


def _activations(store: Path) -> dict[str, np.ndarray]:
    import interp

    ds = interp.open_store(store)
    return {str(name): ds[name].to_numpy() for name in ds.variables}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with rendered clips and one uninterrupted run of every stage."""
    folder = tmp_path_factory.mktemp("soak")
    _run(["interp.cli", "testbed", "render", "clips", "--n", "120"], folder)
    for stage, (_, command) in STAGES.items():
        start = time.monotonic()
        _run([*command, "--out", f"whole-{stage}" + (".zarr" if stage == "extract" else "")], folder)
        SECONDS[stage] = time.monotonic() - start
        if stage == "extract":
            shutil.copytree(folder / "whole-extract.zarr", folder / "acts.zarr")
        if stage == "probe":
            shutil.copytree(folder / "whole-probe", folder / "probe")
    yield folder


STAGES: dict[str, tuple[int, list[str]]] = {
    "extract": (15, ["interp.cli", "extract", "clips"]),
    "probe": (10, ["interp.cli", "probe", "acts.zarr", "drums"]),
    "steer": (
        10,
        ["interp.cli", "steer", "probe/directions.safetensors", "--trait", "drums", "--sites", "L3.H2",
         "--method", "mean_diff", "--doses", "1,2", "--rows", "4"],
    ),
    "study": (15, ["analyses.direction_geometry", "--traits", "drums", "--n-clips", "80"]),
}  # fmt: skip
SECONDS: dict[str, float] = {}


@pytest.mark.parametrize("stage", STAGES)
def test_killed_at_random_moments_the_end_is_the_same(work: Path, stage: str) -> None:
    kills, command = STAGES[stage]
    suffix = ".zarr" if stage == "extract" else ""
    whole, out = work / f"whole-{stage}{suffix}", work / f"killed-{stage}{suffix}"
    moments = random.Random(stage)
    killed = 0
    while killed < kills:
        if _run([*command, "--out", out.name], work, kill_after=moments.uniform(0.2, 1.0) * SECONDS[stage]):
            _compare(stage, out, whole)
            shutil.rmtree(out)
        else:
            killed += 1
    _run([*command, "--out", out.name], work)
    _compare(stage, out, whole)
    hidden = [p.name for p in work.iterdir() if p.name.startswith(".")]
    assert not hidden, f"left behind: {hidden}"
    print(f"\n{stage}: {kills} kills within {SECONDS[stage]:.0f} s each, the end equals the uninterrupted run")


def _compare(stage: str, out: Path, whole: Path) -> None:
    if stage == "extract":
        mine, theirs = _activations(out), _activations(whole)
        assert mine.keys() == theirs.keys()
        for name in theirs:
            np.testing.assert_array_equal(mine[name], theirs[name], err_msg=name)
        return
    mine_files, whole_files = _contents(out), _contents(whole)
    assert mine_files.keys() == whole_files.keys()
    assert whole_files
    differing = [name for name in whole_files if mine_files[name] != whole_files[name]]
    assert not differing, differing
