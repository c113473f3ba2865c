"""Without touching the package: a judge, a method, an intervention, a plot and a study of one's own.

They are defined in ``tests/outside``: the judge in ``ear.py``, everything else in ``lab.py``, which is run as a user
would run it.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

import interp
from interp import judges, plots, steering
from interp.data.audio import write_audio
from interp.directions import fit_directions, methods
from interp.directions.registry import _METHODS
from interp.errors import DataError
from interp.geometry import compare_methods
from interp.model import MusicGen
from interp.plots.style import data_of
from interp.probes import probe
from interp.sites import Site
from interp.steering import Row, generate
from interp.steering._registry import REGISTRY

HERE = Path(__file__).parent / "outside"


@pytest.fixture(scope="module")
def lab() -> ModuleType:
    spec = importlib.util.spec_from_file_location("lab", HERE / "lab.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["lab"] = module
    spec.loader.exec_module(module)
    yield module
    del _METHODS["signs"], REGISTRY["Quieten"], sys.modules["lab"]


@pytest.fixture(scope="module")
def ds() -> xr.Dataset:
    rng = np.random.default_rng(0)
    tones = [np.sin(np.arange(4000) / (5 + 5 * (i % 2))) * rng.uniform(0.2, 0.8) for i in range(24)]
    clips = interp.Clips.from_arrays(tones, 16000, {"high": [1 - i % 2 for i in range(24)]})
    return interp.extract(interp.load("tiny", device="cpu"), clips, sites="L3.resid", progress=False)


def _run(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    settings = os.environ | {"PYTHONPATH": str(HERE.parents[1])}
    return subprocess.run(
        [sys.executable, *map(str, words)], cwd=cwd, capture_output=True, text=True, env=settings, check=False
    )


@pytest.mark.slow
def test_a_study_runs_from_the_command_line_with_everything_of_ones_own(tmp_path: Path) -> None:
    done = _run(HERE / "lab.py", "--out", "out", "--judge", f"{HERE / 'ear.py'}:Level", "--n-clips", "8", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "4 arms were heard." in done.stdout
    table = pd.read_csv(tmp_path / "out" / "arms.csv")
    assert list(table["arm"]) == ["unsteered", "mean_diff", "signs", "quieter"] and set(table["judge"]) == {"level"}
    assert table["rate"].between(0, 1).all()
    assert {file.name for file in (tmp_path / "out").glob("rates.*")} >= {"rates.png", "rates.pdf", "rates.csv"}
    page = (tmp_path / "out" / "index.html").read_text()
    assert "rates.png" in page and "Everything in it is defined outside the package." in page


@pytest.mark.slow
def test_a_judge_of_ones_own_is_asked_by_a_command(tmp_path: Path) -> None:
    tone = np.sin(np.arange(8000) / 9)
    write_audio(tmp_path / "sounds" / "loud.wav", 0.9 * tone, 16000)
    write_audio(tmp_path / "sounds" / "soft.wav", 0.001 * tone, 16000)
    done = _run("-m", "interp.cli", "judge", "sounds", "--judge", f"{HERE / 'ear.py'}:Level", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "judge" / "judged.csv")
    assert (table["level.loud"] > 0.5).tolist() == [True, False]


def test_a_judge_of_ones_own_is_held_to_the_contract() -> None:
    judge = judges.load(f"{HERE / 'ear.py'}:Level", traits=["loud"])
    audio = np.stack([np.full((1, 800), 0.5), np.full((1, 800), 1e-4)])
    assert judges.hears(judge, audio, "loud", 16000)["hit"].tolist() == [True, False]
    with pytest.raises(DataError, match="level"):
        judges.load(f"{HERE / 'ear.py'}:Level", traits=["drums"])


def test_a_method_of_ones_own_is_known_everywhere(lab: ModuleType, ds: xr.Dataset) -> None:
    assert "signs" in methods()
    own, means = fit_directions(ds, "high", sites="L3.resid", methods=("signs", "mean_diff"))
    np.testing.assert_allclose(np.abs(own.vector), 1 / np.sqrt(len(own.vector)), rtol=1e-6)
    assert (np.sign(own.vector) == np.sign(means.vector)).all()
    result = probe(ds, "high", sites="L3.resid", methods=("signs",), n_permutations=0, n_bootstrap=0)
    assert set(result.table["method"]) == {"signs"} and result.directions.one(site="L3.resid").method == "signs"
    table = compare_methods(ds, "high", sites="L3.resid", methods=("mean_diff", "signs"), n_permutations=2, n_splits=2)
    assert 0.5 < table["cosine"].iloc[0] < 1


def test_an_intervention_of_ones_own_runs_is_logged_saved_and_read(
    lab: ModuleType, tiny_lm_model: MusicGen, tmp_path: Path
) -> None:
    quiet = lab.Quieten((Site.parse("L1.resid"),), share=0.9)
    rows = [Row("a", 1), Row("a", 1, None, (quiet,)), Row("a", 1, None, (lab.Quieten(quiet.at, share=0.0),))]
    made = generate(tiny_lm_model, rows, 0.5, progress=False)
    assert not torch.equal(made.codes[0], made.codes[1]) and torch.equal(made.codes[0], made.codes[2])
    assert "Quieten" in set(made.log["type"]) and (made.log.loc[made.log["row"] == 1, "displacement_mean"] > 0).all()
    (back,) = steering.load(steering.save(tmp_path / "quiet", quiet))
    assert back == quiet


def test_a_plot_of_ones_own_keeps_its_numbers(lab: ModuleType, tmp_path: Path) -> None:
    table = pd.DataFrame({"arm": ["a", "b"], "dose": [0.0, 1.0], "rate": [0.25, 0.75]})
    ax = lab.by_arm(table)
    pd.testing.assert_frame_equal(data_of(ax), table)
    plots.save(ax, tmp_path / "rates", formats=("png",))
    assert pd.read_csv(tmp_path / "rates.csv")["rate"].tolist() == [0.25, 0.75]
    with pytest.raises(DataError, match="rate"):
        lab.by_arm(table.drop(columns="rate"))
