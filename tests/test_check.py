"""A sound checkpoint passes; each way in which one can be broken is found, and named."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from interp.backends.build import random_musicgen
from interp.check import check
from interp.cli import app
from interp.model import MusicGen


def small(**options: Any) -> MusicGen:
    return MusicGen(random_musicgen(2, 2, 32, seed=1, **options), "small")


def test_the_shipped_model_passes(tiny: MusicGen) -> None:
    done = check(tiny, seconds=0.3)
    assert done.passed and done.facts["layers"] == 6
    said = done.table.set_index("fact")["value"]
    assert said["reading every site changes no logit"] == "largest difference 0"
    assert said["fast engine = nnsight"].startswith("100 %")


def test_a_released_layout_passes(hub_model: MusicGen) -> None:
    assert check(hub_model, seconds=0.1).failures == []


def test_a_model_without_text_passes() -> None:
    done = check(small(n_texts=0), seconds=0.1)
    assert done.passed and "the model hears no text" in set(done.table["value"])


def test_text_that_is_ignored_is_found() -> None:
    model = small()
    for layer in model.lm.transformer.layers:
        torch.nn.init.zeros_(layer.cross_attention.out_proj.weight)
    assert check(model, seconds=0.1).failures == ["text changes what is expected"]


def test_in_half_precision_what_rounding_may_tip_is_a_measurement() -> None:
    done = check(small(dtype=torch.bfloat16), seconds=0.1)
    said = done.table.set_index("fact")["holds"]
    assert said["fast engine = nnsight"] == "-" and said["a seed gives its music in every batch"] == "-"
    assert said["reading every site changes no logit"] == "yes"


def test_a_value_that_is_not_finite_is_found_where_it_arises() -> None:
    model = small()
    with torch.no_grad():
        model.lm.transformer.layers[1].linear1.weight[0, 0] = torch.nan
    done = check(model, seconds=0.1)
    assert not done.passed
    said = done.table.set_index("fact")["value"]
    assert any("L1.resid" in value and "L0.resid" not in value for value in said.astype(str))


def test_rows_that_hear_each_other_are_found() -> None:
    model = small()

    def leak(module: object, args: object, output: Tensor) -> Tensor:
        return output + output.mean(0, keepdim=True)

    model.lm.transformer.layers[0].register_forward_hook(leak)
    assert "a seed gives its music in every batch" in check(model, seconds=0.3).failures


def test_a_codec_that_rolls_dice_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small()
    encode = model.codec.encode

    def noisy(x: Tensor) -> tuple[Tensor, Tensor | None]:
        codes, scale = encode(x)
        return (codes + torch.randint_like(codes, 2)) % 32, scale

    monkeypatch.setattr(model.codec, "encode", noisy)
    assert "the codec is deterministic, its codes in range" in check(model, seconds=0.3).failures


def test_the_script_for_a_gpu_runs(tmp_path: Path) -> None:
    script = Path(__file__).parent / "gpu_check.py"
    words = ["--device", "cpu", "--sizes", "toy", "--turns", "1", "--rows", "2", "--out", str(tmp_path / "gpu.json")]
    subprocess.run([sys.executable, str(script), *words], check=True, capture_output=True)
    toy = json.loads((tmp_path / "gpu.json").read_text())["sizes"]["toy"]
    assert toy["check"]["passed"] and toy["extraction"]["of_bare"] > 0 and "monitored" in toy["steering"]["ratios"]


def test_from_the_command_line(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["check", "tiny", "--seconds", "0.1", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    kept = json.loads((tmp_path / "check.json").read_text())
    assert kept["passed"] and kept["dtype"] == "float32" and len(kept["checks"]) >= 12
    assert (tmp_path / "check.md").read_text().startswith("**tiny**")
    refused = CliRunner().invoke(app, ["check", "tiny", "--prompts", "jazz"])
    assert refused.exit_code == 1 and "two texts" in str(refused.output)
