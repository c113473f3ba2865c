"""The SMITIN study: its statistics against slow ones and planted effects, its music, and a small run end to end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from planted_data import REFERENCE, planted_rules

from analyses._smitin_arms import ask, base_prompt, interventions
from analyses._smitin_probes import Probes
from analyses._smitin_tables import AVERAGE, CONTINUATION, PAPER, TEXT, paper_table, summary
from analyses.smitin import Config
from analyses.smitin import Smitin as Study
from interp.directions import Direction, Directions
from interp.errors import DataError
from interp.model import MusicGen
from interp.steering import Add, EveryN, Smitin
from interp.steering.interventions import soft_weights
from interp.study.config import read_flags
from interp.traits import Trait
from interp.validation import UNSTEERED


def test_summary_finds_planted_success_and_cost() -> None:
    found = summary(planted_rules(), REFERENCE).set_index(["trait", "arm", "dose"])
    top = found.loc[("drums", "ITI", 3.0)]
    assert top["diff"] > 0.6 and top["p_holm"] < 0.01 and top["diff_lo"] < top["diff"] < top["diff_hi"]
    assert top["fad_diff_lo"] < top["fad_diff"] < top["fad_diff_hi"] and top["fad_diff_lo"] > 1
    gentle = found.loc[("drums", "SMITIN", 4.0)]
    assert gentle["fad_diff"] == pytest.approx(0, abs=1e-9) and gentle["rate"] > 0.5
    assert np.isnan(found.loc[("drums", UNSTEERED, 0.0), "diff"])
    both = found.loc[[("drums", "ITI", 3.0), ("genre=jazz", "ITI", 3.0)]]
    average = found.loc[(AVERAGE, "ITI", 3.0)]
    for column in ("rate", "fad", "fad_diff", "kad", "similarity"):
        assert average[column] == pytest.approx(both[column].mean())
    assert average["n"] == 80


def test_the_papers_form_keeps_the_papers_numbers_apart() -> None:
    clips = planted_rules()
    clips.loc[clips["arm"] == "SMITIN", "dose"] = clips["dose"].replace({2.0: 5.0, 4.0: 10.0})
    found = summary(clips, REFERENCE)
    table = paper_table(found, [(UNSTEERED, 0.0), ("text", 0.0), ("ITI", 3.0), ("SMITIN", 5.0), ("SMITIN", 10.0)])
    assert table["arm"].tolist() == ["unsteered", "ITI α 3", "SMITIN α 5", "SMITIN α 10"]
    ours = found[(found["trait"] == AVERAGE) & (found["arm"] == "ITI") & (found["dose"] == 3.0)].iloc[0]
    assert table.loc[1, "success %"] == pytest.approx(100 * ours["rate"])
    assert table["paper: success %"].tolist()[:3] == [7.4, 49.9, 23.3]
    assert np.isnan(table.loc[3, "paper: success %"])  # alpha 10 in continuation is not published
    assert PAPER[TEXT, "SMITIN", 10.0] == (39.5, 0.497, None)


def _probes(model: MusicGen) -> Probes:
    rng = np.random.default_rng(0)

    def some(method: str) -> Directions:
        return Directions(
            Direction.from_weight(f"L{i}.H{j}", rng.standard_normal(model.shape.head_dim), sigma=1.0, intercept=0.0,
                                  score=0.5 + 0.05 * i + 0.01 * j, method=method, trait="drums")
            for i in range(3) for j in range(4)
        )  # fmt: skip

    layers = Directions(
        Direction.from_weight(f"L{i}.resid", rng.standard_normal(model.shape.width), sigma=1.0, trait="drums")
        for i in range(3)
    )
    return Probes({"logistic": some("logistic"), "mean_diff": some("mean_diff")}, layers)


def test_arms_do_what_their_names_say(tiny: MusicGen) -> None:
    probes, config = _probes(tiny).at("L1.resid"), Config(k=4)

    def only(*what: object, **more: object) -> Add | Smitin:
        (item,) = interventions(config, probes, *what, **more)  # type: ignore[arg-type]
        assert isinstance(item, Add | Smitin)
        return item

    iti = only("iti", 3.0)
    assert isinstance(iti, Add) and iti.dose == 3.0 and [str(s) for s in iti.sites] == [f"L2.H{j}" for j in range(4)]
    moved = only("iti", 3.0, "mean_diff", remove=True)
    assert isinstance(moved, Add) and moved.dose == -3.0 and moved.sites == iti.sites
    assert {d.method for d in moved.directions} == {"mean_diff"}
    weights = soft_weights(probes.heads["logistic"])
    soft, sparse = only("soft", 3.0, "mean_diff"), only("sparse", 3.0)
    assert soft.weights == weights == sparse.weights and sparse.schedule == EveryN(5)
    smitin = only("smitin", 20.0)
    assert isinstance(smitin, Smitin) and smitin.monitor is None and smitin.w == weights and smitin.tau is None
    plain = Smitin(probes.heads["logistic"], 20.0)
    assert smitin.sites == plain.sites
    assert all(np.array_equal(smitin.numbers[site]["shift"], plain.numbers[site]["shift"]) for site in plain.sites)
    assert smitin.threshold == Smitin(probes.heads["logistic"]).threshold
    layer = only("smitin", 8.0, "mean_diff", "resid", remove=True, tau=0.5)
    assert isinstance(layer, Smitin) and layer.remove and layer.threshold == 0.5
    assert layer.monitor == probes.heads["logistic"] and [str(s) for s in layer.sites] == ["L1.resid"]
    assert interventions(config, probes, "text", 0.0) == ()
    idle = only("none", 0.0)
    assert isinstance(idle, Smitin) and idle.threshold == -1.0  # it listens, and never acts


def test_prompts_say_nothing_of_the_trait_until_asked(tiny: MusicGen) -> None:
    for trait in (Trait("drums"), Trait("genre", "jazz"), Trait("instrument", "flute")):
        text, named = base_prompt(trait, 0, 3, plain=True)
        assert trait.answer not in text and text == ", ".join(named)
        asked = ask(trait, text, plain=True)
        assert asked.endswith(trait.answer)
        tiny.check_prompt(asked)
        assert base_prompt(trait, 0, 3, plain=True) == (text, named)
    flute = Trait("instrument", "flute")
    assert ask(flute, base_prompt(flute, 0, 0, plain=False)[0], plain=False).endswith("music, add flute")


def test_bad_input_is_refused_at_once() -> None:
    with pytest.raises(DataError, match="needs labelled music"):
        Study(Config(model="facebook/musicgen-large"), progress=False).run()
    with pytest.raises(DataError, match="two seeds"):
        Config(n_part_seeds=1)
    with pytest.raises(DataError, match="cannot read --tau 'low'"):
        read_flags(Config, ["--tau", "low"])
    with pytest.raises(DataError, match="one of both, cond, uncond"):
        read_flags(Config, ["--rows", "all"])


def test_a_small_run_from_start_to_end(tmp_path: Path) -> None:
    config = Config(
        out=tmp_path, traits=("drums",), n_pairs=16, pair_seconds=2.0, alphas=(20.0, 40.0), sweep=(), iti=(3.0, 8.0),
        resid=(3.0,), smitin_resid=(16.0,), ladder=(20.0,), n_seeds=3, n_text_seeds=2, n_part_seeds=2, pilot_seeds=2,
        sizes=(8,), seconds=2.5, prompt_seconds=1.0, n_reference=12, n_sounds=1,
    )  # fmt: skip
    found = Study(config, progress=False).run()
    form = found["paper_form"]
    expected = ["unsteered", "text", "ITI α", "SMITIN α 20", "SMITIN α 40", "SMITIN, τ 0.5 α 40", "SMITIN + text α 40",
                "residual α 3", "SMITIN residual α 16"]  # fmt: skip
    told = form.loc[form["task"] == CONTINUATION, "arm"].tolist()
    assert len(told) == len(expected) and all(a.startswith(b) for a, b in zip(told, expected, strict=True))
    assert form[["FAD", "own probe % (not independent)"]].notna().all(axis=None)
    assert form["similarity"].notna().equals(form["task"] == CONTINUATION)
    assert form["named"].notna().equals(form["task"] == TEXT)
    assert set(form["task"]) == {CONTINUATION, TEXT}
    assert {"ITI, random", "SMITIN, shuffled", "soft weights, mean_diff"} <= set(found["ladder"]["arm"])
    assert found["pairs"]["n_pairs"].unique().tolist() == [8, 12]
    assert found["pairs"]["accuracy_heads"].between(0, 1).all()
    files = ["paper_form.tex", "success.csv", "trade_off_drums.pdf", "ladder_drums.png", "pairs_drums.csv"]
    files += [f"{name}_drums.png" for name in ("trace", "trace_low", "trace_removal", "strength")]
    for name in files:
        assert (tmp_path / name).is_file(), name
    page = (tmp_path / "index.html").read_text()
    assert page.count("<audio") >= 4 and "not independent" in page and "70 points" in page
    trace = pd.read_csv(next((tmp_path / ".cache").glob("*/continuation_drums_trace.csv")))
    quiet = trace[trace["arm"] == UNSTEERED]
    assert len(quiet) and not quiet["acted"].any()
    pushed = trace[(trace["arm"] == "SMITIN") & trace["decided_on"].notna()]
    assert (pushed["acted"] == (pushed["decided_on"] < pushed["tau"])).all()
    # the same command reads what it made
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / ".cache").rglob("*.csv")}
    again = Study(config, progress=False).run()
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / ".cache").rglob("*.csv")}
    pd.testing.assert_frame_equal(again["paper_form"], form)
