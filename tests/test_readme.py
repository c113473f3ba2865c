"""The steps of the README, as they are written, in an empty folder, show what the README says they show."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
pytestmark = pytest.mark.slow


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.M | re.S)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder in which every line of the first shell block was run."""
    folder = tmp_path_factory.mktemp("readme")
    outputs = []
    for line in blocks("sh")[0].splitlines():
        program, *words = shlex.split(line, comments=True)
        assert program == "interp"
        done = subprocess.run(
            [sys.executable, "-m", "interp.cli", *words],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "80", "NO_COLOR": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stderr[-2000:]}"
        outputs.append(f"$ {line}\n{done.stdout}")
    (folder / "output.txt").write_text("\n".join(outputs))
    return folder


def test_the_steps_run_and_drums_are_heard_where_the_readme_says(folder: Path) -> None:
    heard = pd.read_csv(folder / "steer" / "verdicts.csv").groupby(["arm", "dose"])["hit"].sum()
    assert heard["unsteered", 0.0] == 0
    assert heard["drums", 3.0] >= 3
    assert (folder / "steer" / "index.html").is_file()


def test_the_verdict_has_its_controls(folder: Path) -> None:
    table = pd.read_csv(folder / "validate" / "causal.csv").set_index(["arm", "dose"])
    best = table.loc["probe"]["rate"].max()
    assert best >= table.loc["unsteered", 0.0]["rate"] + 0.5
    for control in ("random", "shuffled labels"):
        assert table.loc[control]["rate"].max() <= best - 0.3


def test_what_is_printed_fits_eighty_columns(folder: Path) -> None:
    for line in (folder / "output.txt").read_text().splitlines():
        if not line.startswith("$") and not line.startswith(("Listen", "add ")) and "  " in line.strip():
            assert len(line.rstrip()) <= 80, line


def test_the_python_of_the_steps_runs_in_the_same_folder(folder: Path) -> None:
    code = next(block for block in blocks("python") if "interp.extract(model, clips" in block)
    code = code.replace('validate(model, ds, "drums")', 'validate(model, ds, "drums", arms="basic", n_seeds=8)')
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
