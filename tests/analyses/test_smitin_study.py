"""The SMITIN study: its statistics against slow ones and planted effects, its music, and a small run end to end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analyses._smitin_arms import Probes, ask, balanced, base_prompt, interventions, pairs
from analyses._smitin_tables import AVERAGE, CONTINUATION, PAPER, TEXT, equal_success, paper_table, summary
from analyses.smitin import Config
from analyses.smitin import Smitin as Study
from interp.clips import Clips
from interp.directions import Direction, Directions
from interp.errors import DataError
from interp.judges import fad
from interp.model import MusicGen
from interp.steering import Add, EveryN, Smitin
from interp.steering.interventions import soft_weights
from interp.study.config import read_flags
from interp.study.study import held_back
from interp.traits import Trait
from interp.validation import UNSTEERED

DIM = 5


def planted(n: int = 40, cost: float = 1.0, traits: tuple[str, ...] = ("drums", "genre=jazz")) -> pd.DataFrame:
    """Clips of two rules with equal success at half the strength, of which ITI costs ``cost`` per hit and SMITIN none.

    Noise is shared between arms of a seed, as it is between twins.
    """
    rng = np.random.default_rng(0)
    parts = []
    for trait in traits:
        luck, noise = rng.random(n), rng.standard_normal((n, DIM))
        for arm, strengths in ((UNSTEERED, (0.0,)), ("ITI", (1.0, 2.0, 3.0)), ("SMITIN", (2.0, 4.0))):
            for a in strengths:
                rate = 0.1 + 0.3 * (a if arm == "ITI" else a / 2)
                shift = cost * (rate - 0.1) if arm == "ITI" else 0.0
                table = pd.DataFrame(noise + shift, columns=[f"e{i}" for i in range(DIM)])
                table.insert(0, "hit", luck < rate)
                table = table.assign(
                    trait=trait, task=CONTINUATION, arm=arm, dose=a, seed=np.arange(n), not_music=False, acted=0.5,
                    level=0.2, similarity=0.9 - shift / 10, probe=0.7,
                )  # fmt: skip
                parts.append(table)
    return pd.concat(parts, ignore_index=True).sample(frac=1, random_state=1)  # the order must not matter


REFERENCE = {
    (t, CONTINUATION): np.random.default_rng(3).standard_normal((300, DIM)) for t in ("drums", "genre=jazz", "bass")
}


def test_summary_finds_planted_success_and_cost() -> None:
    found = summary(planted(), REFERENCE).set_index(["trait", "arm", "dose"])
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


def test_rules_are_compared_at_equal_success() -> None:
    table = equal_success(planted(n=60, cost=2.0), REFERENCE, ["SMITIN"])
    assert list(table["arm"].unique()) == ["SMITIN"] and len(table) == 4
    assert table["reached"].all()
    assert (table["hi"] < 0).all()  # SMITIN is cheaper wherever it succeeds as often
    same = equal_success(planted(n=60, cost=0.0), REFERENCE, ["SMITIN"])
    assert ((same["lo"] <= 1e-9) & (same["hi"] >= -1e-9)).all()
    # by hand: one trait, the strength that succeeds as often as ITI at 2
    clips = planted(n=60, cost=2.0)
    mine = clips[clips["trait"] == "drums"]

    def distance(arm: str, dose: float) -> float:
        x = mine[(mine["arm"] == arm) & (mine["dose"] == dose)][[f"e{i}" for i in range(DIM)]]
        return fad(x, REFERENCE["drums", CONTINUATION], n_draws=0).value

    row = table[(table["trait"] == "drums") & (table["dose"] == 4.0)].iloc[0]
    assert row["difference"] == pytest.approx(distance("SMITIN", 4.0) - distance("ITI", 2.0))


def test_a_success_that_iti_never_reaches_is_left_open() -> None:
    clips = planted()
    clips.loc[(clips["arm"] == "SMITIN") & (clips["dose"] == 4.0), "hit"] = True
    table = equal_success(clips[clips["dose"] != 3.0], REFERENCE, ["SMITIN"])
    assert table.loc[table["dose"] == 4.0, "difference"].isna().all()
    assert table.loc[table["dose"] == 2.0, "difference"].notna().all()


def test_the_papers_form_keeps_the_papers_numbers_apart() -> None:
    clips = planted()
    clips.loc[clips["arm"] == "SMITIN", "dose"] = clips["dose"].replace({2.0: 5.0, 4.0: 10.0})
    found = summary(clips, REFERENCE)
    table = paper_table(found, [(UNSTEERED, 0.0), ("text", 0.0), ("ITI", 3.0), ("SMITIN", 5.0), ("SMITIN", 10.0)])
    assert table["arm"].tolist() == ["unsteered", "ITI α 3", "SMITIN α 5", "SMITIN α 10"]
    ours = found[(found["trait"] == AVERAGE) & (found["arm"] == "ITI") & (found["dose"] == 3.0)].iloc[0]
    assert table.loc[1, "success %"] == pytest.approx(100 * ours["rate"])
    assert table["paper: success %"].tolist()[:3] == [7.4, 49.9, 23.3]
    assert np.isnan(table.loc[3, "paper: success %"])  # alpha 10 in continuation is not published
    assert PAPER[TEXT, "SMITIN", 10.0] == (39.5, 0.497, None)


@pytest.mark.parametrize("trait", ["drums", "instrument=flute"])
def test_pairs_differ_in_the_trait_alone(trait: str) -> None:
    clips = pairs(Trait.parse(trait), 6, 0, 1.0)
    name, _, value = trait.partition("=")
    table = clips.labels.reset_index(drop=True)
    first, second = table.iloc[::2].reset_index(drop=True), table.iloc[1::2].reset_index(drop=True)
    assert (first[name].astype(str) == (value or "1")).all() and (second[name].astype(str) != (value or "1")).all()
    for column in {"genre", "instrument", "drums", "bass", "tempo", "mode", "group"} - {name}:
        assert first[column].tolist() == second[column].tolist(), column
    assert first["group"].nunique() == 6
    with pytest.raises(DataError, match="no music can be rendered"):
        pairs(Trait("instrument", "theremin"), 4, 0, 1.0)


def test_a_folder_is_divided_by_groups_and_balanced() -> None:
    labels = pd.DataFrame({"drums": [1] * 30 + [0] * 50, "group": [f"g{i // 2}" for i in range(80)]})
    labels.index = pd.Index([f"c{i}" for i in range(80)])
    clips = Clips.from_arrays(np.zeros((80, 1, 100), np.float32), 16_000, labels)
    kept = held_back(clips, 0)
    assert kept.sum() == 24 and labels["group"][kept].value_counts().eq(2).all()
    used = balanced(clips.subset(~kept), Trait("drums"), 12, 0)
    assert used.labels["drums"].tolist() == [1, 0] * 12
    assert not set(used.labels["group"]) & set(labels["group"][kept])
    with pytest.raises(DataError, match="no label 'genre'"):
        balanced(clips, Trait("genre", "jazz"), 12, 0)


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
    with pytest.raises(DataError, match="needs a judge"):
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
