"""All studies by name, and the card of the model that ships, small."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from analyses import figures
from analyses.model_card import Config, ModelCard
from interp.errors import DataError
from interp.judges import RenderedJudge
from interp.study import Common


def test_every_study_is_known() -> None:
    known = figures.studies()
    assert next(iter(known)) == "demo"
    assert set(known) == {
        "demo", "direction_geometry", "genre_fusion", "mechanisms", "model_card", "regression_vs_classification",
        "smitin", "steering_validation", "style_transfer", "timbre_transfer",
    }  # fmt: skip
    assert known["style_transfer"] == (known["timbre_transfer"][0], {"trait": "genre"})
    for name, (study, differs) in known.items():
        config = study.Config(**differs)
        assert isinstance(config, Common) and study.__doc__, name
        assert {"model", "data", "judge"}.isdisjoint(study.unused), name  # every study takes them


def test_a_name_that_is_no_study_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError, match="no study 'deno': there are demo, direction_geometry"):
        figures.run(figures.Config(only=("demo", "deno")))
    with pytest.raises(SystemExit) as stopped:
        figures.main(["--onyl", "demo"])
    assert stopped.value.code == 2 and "did you mean --only" in capsys.readouterr().err


@pytest.mark.slow
def test_the_model_card_among_all_studies(tmp_path: Path) -> None:
    config = figures.Config(out=tmp_path, only=("model_card",), n_seeds=6, seconds=2.0, prompt_seconds=1.0, n_clips=50)
    assert figures.run(config, progress=False) == [tmp_path / "model_card"]
    clips = pd.read_csv(tmp_path / "model_card" / "clips.csv")
    bars = pd.read_csv(tmp_path / "model_card" / "bars.csv").set_index("trait")
    assert len(clips) == 6 and list(bars.index) == ["genre", "instrument", "drums", "bass"]
    for trait, row in bars.iterrows():
        assert row["right"] == (clips[trait] == clips[f"heard_{trait}"]).mean()
        assert row["judge"] == RenderedJudge().accuracy[trait]
    page = (tmp_path / "model_card" / "index.html").read_text()
    assert page.count("<audio") == 6 and (tmp_path / "model_card" / "examples.png").stat().st_size > 5000
    assert set(clips["heard_drums"]) <= {"drums", "no drums"}
    card = tmp_path / "card.json"
    study = ModelCard(Config(out=tmp_path / "model_card", n_seeds=6, seconds=2.0, card=card), progress=False)
    study.run()  # nothing is generated anew
    assert json.loads(card.read_text())["bars"][0]["right"] == bars["right"].iloc[0]
