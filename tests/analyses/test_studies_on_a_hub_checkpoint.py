"""Every causal study on a checkpoint loaded by its hub name, with a folder of labelled audio and CLAP as judge.

The checkpoint and CLAP are small and random, in the formats of the released ones: what comes out has to have the right
form, and no more can be asked of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import interp.data
from analyses import (
    demo,
    genre_fusion,
    regression_vs_classification,
    smitin,
    steering_validation,
    timbre_transfer,
)
from interp import plots
from interp.clips import Clips
from interp.judges import ClapJudge, RenderedJudge
from interp.model import MusicGen

NAME, RATE, SECONDS, N = "facebook/musicgen-small", 32_000, 1.7, 72
PITCH = {"jazz": 330.0, "rock": 110.0, "classical": 660.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """72 short sounds of 36 songs: a tone of the genre's pitch in noise, with a click every quarter of a second."""
    rng = np.random.default_rng(0)
    time = np.arange(round(SECONDS * RATE)) / RATE
    genres = [list(PITCH)[i // 2 % 3] for i in range(N)]
    drums = [i % 2 for i in range(N)]
    audio = []
    for genre, drum in zip(genres, drums, strict=True):
        click = np.exp(-(time % 0.25) / 0.01) * rng.normal(size=len(time))
        tone = np.sin(2 * np.pi * PITCH[genre] * rng.uniform(0.9, 1.1) * time)
        audio.append((0.2 * tone + 0.02 * rng.normal(size=len(time)) + 0.3 * drum * click)[None])
    labels = pd.DataFrame({"drums": drums, "genre": genres, "group": [f"song-{i // 2}" for i in range(N)]})
    return Clips.from_arrays(audio, RATE, labels).to_folder(tmp_path_factory.mktemp("data") / "clips")


@pytest.fixture(scope="module")
def outs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each study, in which a second run with another judge finds the activations of the first."""
    return tmp_path_factory.mktemp("outs")


@pytest.fixture
def heard(hub: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Nothing may be rendered or judged by the judge of rendered music; notes what CLAP and the codec are given."""
    seen: dict[str, Any] = {"clap": 0, "encoded": []}

    def never(*args: object, **settings: object) -> None:
        raise AssertionError("rendered music in a study of given music")

    monkeypatch.setattr(interp.data, "render_clips", never)
    monkeypatch.setattr(steering_validation, "render_clips", never)
    monkeypatch.setattr("interp.data.pairs.render_arrays", never)
    monkeypatch.setattr(RenderedJudge, "__init__", never)
    save = plots.save  # a PDF of every figure would take as long as all the rest
    monkeypatch.setattr(plots, "save", lambda ax, stem, **settings: save(ax, stem, **settings | {"formats": ("png",)}))
    score, encode = ClapJudge.score, MusicGen.encode

    def counted(self: ClapJudge, audio: Any, sample_rate: int) -> pd.DataFrame:
        seen["clap"] += len(audio)
        return score(self, audio, sample_rate)

    def noted(self: MusicGen, audio: Any, sample_rate: int) -> Any:
        seen["encoded"] += list(np.asarray(audio, np.float32)[:, 0])
        return encode(self, audio, sample_rate)

    monkeypatch.setattr(ClapJudge, "score", counted)
    monkeypatch.setattr(MusicGen, "encode", noted)
    return seen


def from_the_folder(heard: dict[str, Any], folder: Path) -> bool:
    """Whether all that was encoded (prompts among them) is the beginning of a sound of the folder."""
    given = [clip.audio[0] for clip in Clips.from_folder(folder)]
    return bool(heard["encoded"]) and all(
        any(np.array_equal(audio, one[: len(audio)]) for one in given) for audio in heard["encoded"]
    )


def finite(table: pd.DataFrame, *columns: str) -> None:
    assert len(table)
    assert np.isfinite(table[list(columns)].to_numpy(float)).all(), table[list(columns)]


def test_steering_validation(folder: Path, clap_checkpoint: Path, heard: dict[str, Any], outs: Path) -> None:
    out = outs / "steering"
    config = steering_validation.Config(
        out=out, model=NAME, data=folder, judge=f"clap:{clap_checkpoint}", traits=("genre=jazz|rock",),
        n_seeds=2, pilot_seeds=2, cost_seeds=2, ablation_seeds=2, leakage_seeds=2, doses=(2.0,), iti_doses=(3.0,),
        alphas=(8.0,), k=2, k_iti=4, n_reference=6, n_heard=40, n_permutations=0, prompt_seconds=0.8, seconds=1.6,
        guidance=3.0,
    )  # fmt: skip
    found = steering_validation.SteeringValidation(config, progress=False).run()
    assert heard["clap"] and from_the_folder(heard, folder)
    finite(found["arms"], "rate", "lo", "hi", "not_music", "fad", "kad")
    finite(found["bars"], "success", "gain", "fad", "fad_gap")
    assert set(found["verdicts"]["trait"]) == set(config.traits)
    assert set(found["leakage"]["direction"]) == {"drums", *PITCH} and found["leakage"]["own"].sum() == 4
    page = (out / "index.html").read_text()
    assert f"clap:{clap_checkpoint}" in page and NAME in page


def test_smitin(folder: Path, clap_checkpoint: Path, heard: dict[str, Any], outs: Path) -> None:
    out = outs / "smitin"
    config = smitin_config(out, folder, f"clap:{clap_checkpoint}", "genre=jazz")
    found = smitin.Smitin(config, progress=False).run()
    assert heard["clap"] and from_the_folder(heard, folder)
    finite(found["paper_form"], "success %", "FAD")
    finite(found["success"], "rate", "lo", "hi", "not_music", "fad", "kad")
    page = (out / "index.html").read_text()
    assert "judge: clap:" in page and NAME in page and "<audio" in page


def smitin_config(out: Path, data: Path, judge: str, *traits: str) -> smitin.Config:
    return smitin.Config(
        out=out, model=NAME, data=data, judge=judge, traits=traits, n_pairs=24, k=4, n_monitor=4,
        alphas=(5.0,), sweep=(), tau_low=0.0, iti=(3.0,), resid=(3.0,), smitin_resid=(8.0,), ladder=(5.0,),
        n_seeds=2, n_text_seeds=2, n_part_seeds=2, pilot_seeds=2, sizes=(8,), seconds=1.6, prompt_seconds=0.8,
        guidance=3.0, n_reference=6, n_sounds=1,
    )  # fmt: skip


def test_smitin_with_the_models_own_probes(folder: Path, heard: dict[str, Any], outs: Path) -> None:
    out = outs / "smitin"
    found = smitin.Smitin(smitin_config(out, folder, "probe", "drums", "genre=jazz"), progress=False).run()
    assert not heard["clap"]
    finite(found["success"], "rate", "lo", "hi")
    assert "NOT independent" in (out / "index.html").read_text()


@pytest.mark.parametrize("judge", ["clap", "probe"])
def test_style_transfer(folder: Path, clap_checkpoint: Path, heard: dict[str, Any], outs: Path, judge: str) -> None:
    out = outs / "transfer"
    config = timbre_transfer.Config(
        out=out, model=NAME, data=folder, trait="genre", pairs=("jazz:rock",),
        judge=f"clap:{clap_checkpoint}" if judge == "clap" else judge, strengths=(0.3,), doses=(3.0,), layers=(1,),
        grid_seeds=2, n_seeds=2, text_seeds=2 if judge == "clap" else 0, seconds=1.6, prompt_seconds=0.8, n_sounds=1,
    )  # fmt: skip
    found = timbre_transfer.TimbreTransfer(config, progress=False).run()
    assert bool(heard["clap"]) == (judge == "clap") == from_the_folder(heard, folder)  # probes hear what was made
    for name in {"transfer", "grid", "text"} & set(found):
        finite(found[name], "rate", "lo", "hi", "source_heard", "not_music")
    finite(found["transfer"], "fad", "kad")
    page = (out / "index.html").read_text()
    assert f"judge: {judge}" in page and ("not independent" in page) == (judge == "probe")
    assert NAME in page and "<audio" in page


@pytest.mark.parametrize("judge", ["clap", "probe"])
def test_genre_fusion(folder: Path, clap_checkpoint: Path, heard: dict[str, Any], outs: Path, judge: str) -> None:
    out = outs / "fusion"
    config = genre_fusion.Config(
        out=out, model=NAME, data=folder, sets=("jazz:rock",),
        judge=f"clap:{clap_checkpoint}" if judge == "clap" else judge, ratios=(0.0, 0.5, 1.0), layers=(1,),
        pilot_seeds=2, n_seeds=2, fade_seeds=2 if judge == "clap" else 0, seconds=1.6, prompt_seconds=0.8,
        fade_seconds=1.6, switch_second=0.8, window=0.8, hop=0.4, n_sounds=1,
    )  # fmt: skip
    found = genre_fusion.GenreFusion(config, progress=False).run()
    assert bool(heard["clap"]) == (judge == "clap") == from_the_folder(heard, folder)  # probes hear what was made
    assert len(found["clips"]) == 2 * (1 + 3 * 4 + 1)
    page = (out / "index.html").read_text()
    assert f"judge: {judge}" in page and ("not independent" in page) == (judge == "probe")
    assert NAME in page and "<audio" in page


def test_regression_vs_classification(folder: Path, clap_checkpoint: Path, heard: dict[str, Any], outs: Path) -> None:
    config = regression_vs_classification.Config(
        out=outs / "regression", model=NAME, data=folder, judge=f"clap:{clap_checkpoint}", traits=("genre=jazz",),
        methods=("logistic", "ridge", "mean_diff"), n_splits=2, n_blocks=4, n_bootstrap=20, doses=(3.0,), n_seeds=2,
        pilot_seeds=2, heads=2, seconds=1.6, prompt_seconds=0.8,
    )  # fmt: skip
    found = regression_vs_classification.RegressionVsClassification(config, progress=False).run()
    assert heard["clap"] and from_the_folder(heard, folder)
    finite(found["steering"], "gain", "best", "not_music")
    finite(found["detection"], "auroc", "lo", "hi")


def test_demo(folder: Path, clap_checkpoint: Path, heard: dict[str, Any], outs: Path) -> None:
    config = demo.Config(
        out=outs / "demo", model=NAME, data=folder, judge=f"clap:{clap_checkpoint}", traits=("genre=jazz",),
        n_permutations=0, n_bootstrap=10, doses=(2.0,), n_seeds=2, pilot_seeds=2, k=2, n_sounds=1, seconds=1.6,
        prompt_seconds=0.8,
    )  # fmt: skip
    found = demo.Demo(config, progress=False).run()
    assert heard["clap"] and from_the_folder(heard, folder)
    finite(found["causal"], "rate", "lo", "hi", "not_music")
