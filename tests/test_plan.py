"""What is planned is what is written, and grows as it must."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import interp
from interp.backends.build import random_musicgen
from interp.cli import app
from interp.errors import ModelError
from interp.model import MusicGen
from interp.plan import RELEASED, plan


@pytest.fixture(scope="module")
def small() -> MusicGen:
    return MusicGen(random_musicgen(6, 4, 64, seed=2), "small")


def test_disk_is_that_of_the_store(small: MusicGen, tmp_path: Path) -> None:
    said = plan(small, clips=64, seconds=0.5, sites="heads, resid", pool="mean, last")
    noise = 0.1 * torch.randn(64, 8000, generator=torch.Generator().manual_seed(0)).numpy()
    clips = interp.Clips.from_arrays(list(noise), 16000)
    interp.extract(small, clips, "heads, resid", "mean, last", out=tmp_path / "acts.zarr", progress=False)
    data = sum(p.stat().st_size for p in (tmp_path / "acts.zarr").rglob("c/**/*") if p.is_file())
    assert said.disk_gib * 2**30 == pytest.approx(data, rel=0.02)


def test_time_grows_with_clips_and_rows(small: MusicGen) -> None:
    few, many = (plan(small, n, 0.5, rows=n, row_seconds=0.2).table.set_index("stage")["seconds"] for n in (20, 20_000))
    assert (many > 20 * few).all()


def test_the_released_ones_need_no_weights() -> None:
    """Sizes as published: 300 M, 1.5 B and 3.3 B with the text encoder and what it is projected by."""
    weights = {name: sizes.lm_weights / 1e6 for name, sizes in RELEASED.items()}
    assert weights["facebook/musicgen-small"] == pytest.approx(420, abs=2)
    assert weights["facebook/musicgen-medium"] == pytest.approx(1840, abs=10)
    assert weights["facebook/musicgen-large"] == pytest.approx(3260, abs=20)


def test_what_cannot_be_planned_is_said(small: MusicGen) -> None:
    with pytest.raises(ModelError, match="are not known"):
        plan("facebook/musicgen-huge")
    with pytest.raises(ModelError, match="30 s at once"):
        plan(small, clips=1, seconds=31)


def test_from_the_command_line() -> None:
    done = CliRunner().invoke(
        app, ["plan", "tiny", "--clips", "20", "--seconds", "1", "--rows", "2", "--row-seconds", "1"]
    )
    assert done.exit_code == 0, done.output
    assert "encode" in done.stdout and "generate" in done.stdout
