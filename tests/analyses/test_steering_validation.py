"""The causal study from start to end on the model that ships, small; and what it does when told to go on."""

from __future__ import annotations

import typing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from planted_clips import level_judge

import analyses.steering_validation as studied
from analyses.steering_validation import Config, SteeringValidation
from interp import validation
from interp.errors import DataError
from interp.validation import pilot
from interp.validation.verdict import Outcome

SMALL = Config(
    traits=("drums",), n_clips=96, n_seeds=2, pilot_seeds=2, cost_seeds=2, ablation_seeds=2, leakage_seeds=2,
    doses=(2.0, 3.0), iti_doses=(3.0,), k=4, n_reference=6, n_heard=32, n_permutations=0, prompt_seconds=1.0,
    seconds=2.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("study")


def test_the_whole_study_and_going_on(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(SMALL, out=out, judge=f"rendered,{level_judge(out)}:Level")
    found = SteeringValidation(config, progress=False).run()
    arms = found["arms"]
    assert {"unsteered", "probe", "random", "shuffled labels", "other layer", "text"} <= set(arms["arm"])
    assert arms[["fad", "kad", "kept", "chroma_kept", "onsets_kept"]].notna().all().all()
    assert set(found["necessity"]["music"]) == {"continued", "asked for"}
    assert found["leakage"]["own"].sum() == found["leakage"]["direction"].nunique() == 12
    assert len(found["heads"]) == 2 * 48 and set(found["agreement"]["statistic"]) == {"Spearman", "Kendall"}
    verdicts = found["verdicts"].set_index(["judge", "site"])
    assert len(verdicts) == 2 * 6 and set(verdicts["outcome"]) <= set(typing.get_args(Outcome))
    assert set(verdicts["necessary"].groupby("judge").first()) <= {"yes", "no", "not shown"}
    assert set(found["panel"]["judge"]) == {"rendered", "level"} == set(found["judges_agree"].loc[0, ["a", "b"]])
    assert set(arms["judge"]) == {"rendered"} and "best other site" in set(arms["arm"])
    bar = found["bars"].iloc[0]
    rate = arms[(arms["arm"] == "probe") & (arms["dose"] == bar["dose"])]["rate"].iloc[0]
    assert bar["success"] == rate and bar["fad_gap"] == pytest.approx(bar["cost_fad"] - bar["iti_fad"], abs=1e-3)
    cost = found["cost"].set_index(["arm", "dose"])
    assert {"unsteered", "probe", "SMITIN", "ITI heads"} == set(found["cost"]["arm"])
    assert cost.loc[("SMITIN", 12.0), "fad_gap"] == pytest.approx(
        cost.loc[("SMITIN", 12.0), "fad"] - cost.loc[("ITI heads", 3.0), "fad"], abs=1e-3
    )
    page = (out / "index.html").read_text()
    assert found["verdicts"]["outcome"].iloc[0] in page and "leakage.png" in page
    assert not list(out.rglob("*.wav"))

    def never(*args: object, **settings: object) -> None:
        raise AssertionError("made again")

    for module, name in (
        (validation, "run_arms"), (validation, "leakage"), (pilot, "scan"), (studied, "head_changes"),
        (studied, "refit_after"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, never)
    again = SteeringValidation(config, progress=False).run()
    assert np.array_equal(again["arms"]["rate"], arms["rate"])


def test_bad_input_is_refused_at_once() -> None:
    with pytest.raises(DataError, match="facebook/musicgen-large needs labelled music: give --data"):
        SteeringValidation(Config(model="facebook/musicgen-large"), progress=False).run()
    with pytest.raises(DataError, match="no judge 'ears'"):
        SteeringValidation(Config(judge="ears"), progress=False).run()
    with pytest.raises(DataError, match="3 traits need 3 texts, not 1"):
        SteeringValidation(Config(texts=("drums",)))
