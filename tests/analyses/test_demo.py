"""The demo from start to end, small: on rendered music and the model that ships, and on a folder with any judge."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analyses.demo import ARMS, Config, Demo
from interp.errors import DataError

SMALL = Config(
    traits=("drums",), n_clips=64, n_permutations=5, n_bootstrap=20, n_seeds=2, doses=(2.0, 3.0), k=4, n_sounds=1,
    seconds=2.0, prompt_seconds=1.0,
)  # fmt: skip


@pytest.mark.slow
def test_the_demo_from_start_to_end(tmp_path: Path) -> None:
    config = replace(SMALL, out=tmp_path)
    tables = Demo(config, progress=False).run()
    assert set(tables["probes"]["site"]) >= {"L0.H0", "L5.resid", "mel spectrum"}
    assert tables["probes"]["test_score"].between(0, 1).all()
    assert len(tables["cosines"]) == 48 * 3 and tables["cosine_summary"]["ceiling"].notna().all()
    causal = tables["causal"].set_index(["arm", "dose"])
    assert len(causal) == 1 + 5 * 2 and len(tables["causal_clips"]) == 2 * len(causal)
    rate = tables["causal_clips"].groupby(["arm", "dose"])["hit"].mean()
    assert np.allclose(causal["rate"].sort_index(), rate.sort_index())
    assert sorted(path.name for path in (tmp_path / "audio").iterdir()) == sorted(f"drums_{arm}_0.wav" for arm in ARMS)
    for name in ("heatmap_drums", "ranking_drums", "cosines_drums", "umap_drums", "dose_drums", "spectrograms_drums"):
        assert (tmp_path / f"{name}.png").stat().st_size > 1000 and (tmp_path / f"{name}.pdf").is_file(), name
    page = (tmp_path / "index.html").read_text()
    assert page.count("<audio") == 3 and "codec round trip" in page  # the judge's own accuracy stands beside it
    assert "python -m analyses.demo --traits drums --n-clips 64" in page
    assert set(tables["verdicts"]["sufficient"]) <= {"yes", "no", "not shown"} and "panel" not in tables
    answer = (tmp_path / "answer.md").read_text()
    assert "drums, pushed along mean_diff at L" in answer and "controls at that dose: random" in answer
    assert "By the rule of the verdict, sufficient: " in answer
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob(".cache/*/*")}
    again = Demo(config, progress=False).run()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob(".cache/*/*")} == kept
    for name, table in tables.items():
        pd.testing.assert_frame_equal(table, again[name])


def test_bad_input_is_refused_at_once() -> None:
    with pytest.raises(DataError, match="two seeds or more"):
        replace(SMALL, n_seeds=1)
    with pytest.raises(DataError, match="too little to judge"):
        replace(SMALL, prompt_seconds=1.5)
    with pytest.raises(DataError, match="no judge 'ears'"):
        Demo(replace(SMALL, judge="ears"), progress=False).judge  # noqa: B018
    with pytest.raises(DataError, match="cannot hear 'instrument=harp'"):
        Demo(replace(SMALL, traits=("instrument=harp",)), progress=False).run()
