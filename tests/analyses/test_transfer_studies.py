"""Timbre transfer and genre fusion: their tables on planted clips, their figures, and both from start to end, small."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analyses import genre_fusion, timbre_transfer
from analyses._fusion_tables import fade_course, fade_shares, fusion_table, fusion_trends, half_way, with_mix
from analyses._transfer import parse_sets
from analyses._transfer_tables import contrasts, kept, success_at_quality
from analyses.genre_fusion import GenreFusion
from analyses.timbre_transfer import MEASURES, TimbreTransfer
from interp import plots
from interp.errors import DataError
from interp.judges.dsp import tempo_agrees
from interp.plots.style import data_of
from interp.study.config import read_flags
from interp.validation import summarise

PAIR = ("piano", "flute")


def judged(effects: dict[str, float], seeds: int = 40) -> pd.DataFrame:
    """Clips in which a method reaches the target more often by a known share per unit of strength."""
    rng = np.random.default_rng(0)
    rows = []
    for seed in range(seeds):
        luck, ruin = rng.random(2)
        arms = [("none", "unsteered", 0.0, 0.0), ("none", "other noise", 0.0, 0.0)]
        arms += [("interpolate", name, amount, effect) for name, effect in effects.items() for amount in (1.0, 2.0)]
        for push, method, amount, effect in arms:
            rows.append(
                {
                    "push": push, "method": method, "arm": method, "dose": amount, "pair": "piano:flute", "seed": seed,
                    "content": amount in (0.0, 1.0), "hit": luck < 0.1 + effect * amount, "source_heard": luck > 0.6,
                    "not_music": ruin < 0.2 * amount * (method == "noisy"), "degenerate": False, "chroma": 0.9,
                    "embedding": 0.5, "kept.drums": True, "density_change": 1.0, "tempo_kept": np.nan, "mode_kept": 1.0,
                    "e0": rng.normal(), "e1": rng.normal() + amount,
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def test_outcomes_find_planted_effects() -> None:
    clips = judged({"ridge": 0.4, "logistic": 0.1, "random": 0.0, "noisy": 0.45})
    table = summarise(
        clips, ["push", "method", "dose"], unit=["pair", "seed"], family=(), measures=MEASURES,
        references={"": np.random.default_rng(1).normal(size=(50, 2))},
    )  # fmt: skip
    rows = table.set_index(["method", "dose"])
    assert rows.loc[("ridge", 2.0), "rate"] == pytest.approx(0.9, abs=0.12)
    assert rows.loc[("ridge", 2.0), "diff"] == pytest.approx(
        rows.loc[("ridge", 2.0), "rate"] - rows.loc[("unsteered", 0.0), "rate"]
    )
    assert rows.loc[("ridge", 2.0), "p_holm"] < 0.01 and rows.loc[("random", 2.0), "p_holm"] == 1
    assert rows.loc[("ridge", 2.0), "fad"] > rows.loc[("unsteered", 0.0), "fad"]
    assert np.isnan(rows.loc[("unsteered", 0.0), "p"])
    best = success_at_quality(table).set_index("method")
    assert best.loc["ridge", "dose"] == 2 and np.isnan(best.loc["noisy", "rate"])  # never at most 10 % no music


def test_contrasts_are_paired_and_corrected() -> None:
    clips = judged({"ridge": 0.4, "logistic": 0.1, "random": 0.0})
    table = contrasts(clips).set_index(["measure", "a", "b"])
    row = table.loc[("hit", "ridge", "logistic")]
    mean = clips.groupby(["method"])["hit"].mean()
    assert row["difference"] == pytest.approx(mean["ridge"] - mean["logistic"])
    assert row["lo"] > 0 and row["p"] <= row["p_holm"] < 0.05 and row["n"] == 40
    assert table.loc[("not_music", "ridge", "logistic"), "difference"] == 0
    stays = kept(clips).set_index("method")
    assert stays.loc["ridge", "kept.drums"] == 1 and stays.loc["other noise", "chroma_diff"] == 0
    assert len(stays) == 5  # two without a push, three methods at the one strength that was measured


def fused(slope: float, seeds: int = 12) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    rows = []
    for seed in range(seeds):
        base = {"weights": "", "ratio": np.nan, "method": "unsteered", "p_jazz": 0.1, "p_rock": 0.1, "answer": "pop"}
        rows.append(base | {"seed": seed})
        for ratio in (0.0, 0.5, 1.0):
            p = float(np.clip(0.5 + slope * (ratio - 0.5) + rng.normal() * 0.05, 0, 1))
            says = {
                "weights": f"{1 - ratio:g}:{ratio:g}",
                "ratio": ratio,
                "method": "sum",
                "p_jazz": 1 - p,
                "p_rock": p,
            }
            rows.append(says | {"answer": "rock" if p > 0.5 else "jazz", "seed": seed})
            if ratio == 0.5:
                rows.append(base | {"weights": "0.5:0.5", "ratio": ratio, "method": "random", "seed": seed})
    return with_mix(pd.DataFrame(rows).assign(not_music=False, chroma=0.8), ("jazz", "rock"))


def test_fusion_follows_a_planted_ratio() -> None:
    clips = fused(0.8)
    trend = fusion_trends(clips).set_index("method")
    assert list(trend.index) == ["sum"]  # one weighting is no trend
    assert trend.loc["sum", "lo"] <= 0.8 <= trend.loc["sum", "hi"] and trend.loc["sum", "p_holm"] < 0.01
    assert fusion_trends(fused(0.0))["p_holm"].iloc[0] > 0.05
    table = fusion_table(clips)
    middle = table[(table["method"] == "sum") & (table["ratio"] == 0.5)].iloc[0]
    assert middle["both"] == 1 and middle["heard_any"] == 1
    assert middle["mix_lo"] <= middle["mix"] <= middle["mix_hi"] and abs(middle["mix"] - 0.5) < 0.1
    pairs = half_way(clips)
    row = pairs[(pairs["measure"] == "both") & (pairs["a"] == "random") & (pairs["b"] == "sum")].iloc[0]
    assert row["difference"] == -1 and row["p_holm"] < 0.01
    nothing = with_mix(clips.assign(**{"p_jazz": 0.0, "p_rock": 0.0, "answer": "not_music"}), ("jazz", "rock"))
    assert (nothing["mix"] == 0.5).all() and not nothing["heard_any"].any()


def windows(seeds: int = 10) -> pd.DataFrame:
    rows = []
    for seed in range(seeds):
        for method, turns in (("first throughout", False), ("switch", True), ("cross-fade", True), ("random", False)):
            spans = [("", 0.5), ("", 1.5), ("", 2.5), ("", 3.5), ("before", 1.0), ("after", 3.0)]
            for part, seconds in spans:
                late = turns and seconds > 2
                p = {"p_jazz": 0.1 if late else 0.8, "p_rock": 0.8 if late else 0.1}
                said = {"answer": "rock" if late else "jazz", "not_music": False}
                rows.append({"method": method, "seed": seed, "part": part, "seconds": seconds} | p | said)
    return with_mix(pd.DataFrame(rows), ("jazz", "rock"))


def test_a_planted_switch_is_seen() -> None:
    table = fade_shares(windows())
    row = table[table["set"] == "all"].set_index("method").loc["switch"]
    assert (row["before_heard_a"], row["after_heard_a"], row["after_heard_b"]) == (1, 0, 1)
    assert row["diff"] == pytest.approx(1.4) and row["p_holm"] < 0.05
    assert table.set_index(["set", "method"]).loc[("all", "random"), "diff"] == 0
    course = fade_course(windows())
    assert sorted(course["seconds"].unique()) == [0.5, 1.5, 2.5, 3.5]


def test_figures_show_what_they_are_given(tmp_path: Path) -> None:
    cells = [
        {"layer": layer, "amount": amount, "panel": panel, "rate": 0.1 * layer, "not_music": 0.3 * layer}
        for layer in range(3) for amount in (1.0, 2.0) for panel in "abcd"
    ]  # fmt: skip
    grid = plots.strength_by_layer(pd.DataFrame(cells))
    assert len(grid) == 4 and len(data_of(grid[0])) == 6
    plots.save(list(grid), tmp_path / "layers")
    named = plots.strength_by_layer(pd.DataFrame(cells), xlabel={name: f"of {name}" for name in "abcd"})
    assert [ax.get_xlabel() for ax in named] == ["", "of b", "of c", "of d"]
    with pytest.raises(DataError, match="several rows"):
        plots.strength_by_layer(pd.DataFrame(cells + cells[:1]))
    part = fusion_table(fused(0.8)).dropna(subset=["ratio"])
    plots.save(list(plots.fusion(part, names=("jazz", "rock"))), tmp_path / "fusion")
    axs = plots.switch(fade_course(windows()), 2.0, names=("jazz", "rock"), arms=("first throughout", "switch"))
    assert len(axs) == 2
    plots.save(list(axs), tmp_path / "switch")


def test_sets_tempi_and_commands() -> None:
    assert parse_sets(["piano:flute", "a:b"]) == [("piano", "flute"), ("a", "b")]
    for bad in (["piano"], ["piano:piano"], ["a:b", "a:b"], [], [":b"]):
        with pytest.raises(DataError):
            parse_sets(bad)
    with pytest.raises(DataError):
        parse_sets(["a:b:c"], most=2)
    agrees = tempo_agrees(np.array([100.0, 200.0, 105.0, 130.0, np.nan]), np.full(5, 100.0))
    np.testing.assert_array_equal(agrees, [1, 1, 1, 0, np.nan])
    words = ["--trait", "genre", "--pairs", "jazz:rock", "--layers", "1,2"]
    config = read_flags(timbre_transfer.Config, words, unused=TimbreTransfer.unused)
    said = "python -m analyses.timbre_transfer --trait genre --layers 1,2 --pairs jazz:rock"
    assert TimbreTransfer(config).command == said


def test_bad_input_is_one_sentence(tmp_path: Path) -> None:
    small = timbre_transfer.Config(out=tmp_path, pairs=("piano:flute",))
    with pytest.raises(DataError, match="two seeds or more"):
        replace(small, grid_seeds=1)
    with pytest.raises(DataError, match="no pairs are known"):
        TimbreTransfer(replace(small, pairs=(), trait="key"))
    with pytest.raises(DataError, match="no use for traits"):
        TimbreTransfer(replace(small, traits=("drums",)))
    with pytest.raises(DataError, match="no clip has instrument harp"):
        TimbreTransfer(replace(small, pairs=("piano:harp",), n_clips=30), progress=False).run()
    with pytest.raises(DataError, match="labelled clips"):
        TimbreTransfer(replace(small, judge="probe"), progress=False).run()
    fusion = genre_fusion.Config(out=tmp_path)
    with pytest.raises(DataError, match="leaves less than a window"):
        GenreFusion(replace(fusion, switch_second=3.9))
    with pytest.raises(DataError, match="two ratios"):
        GenreFusion(replace(fusion, ratios=(0.5,)))


def test_timbre_transfer(tmp_path: Path) -> None:
    config = timbre_transfer.Config(
        out=tmp_path, pairs=("piano:flute",), n_clips=220, strengths=(0.3,), doses=(3.0,), layers=(4,), grid_seeds=2,
        n_seeds=2, text_seeds=2, seconds=2.5, prompt_seconds=1.2, n_sounds=1,
    )  # fmt: skip
    found = TimbreTransfer(config, progress=False).run()
    clips = found["clips"]
    assert set(clips["mode"]) == {"continuation", "text"}
    assert (clips["mode"] == "continuation").sum() == 2 * (2 + 3 * 4)  # twins, and three rules with four methods
    assert set(found["sites"]["site"]) == {"L4.resid", "L4.attn"}
    assert found["transfer"]["fad"].notna().all()
    assert {"interpolate", "add, equal norm", "add, equal dose"} == set(found["contrasts"]["push"])
    page = (tmp_path / "index.html").read_text()
    assert "<audio" in page and "contrasts.csv" in page and "codec round trip" in page
    made = {path: path.stat().st_mtime_ns for path in tmp_path.glob(".cache/*/*.csv")}
    again = TimbreTransfer(config, progress=False).run()  # nothing is generated twice
    assert {path: path.stat().st_mtime_ns for path in made} == made
    for name, table in found.items():
        pd.testing.assert_frame_equal(table, again[name])


def test_genre_fusion(tmp_path: Path) -> None:
    config = genre_fusion.Config(
        out=tmp_path, sets=("jazz:rock",), n_clips=130, ratios=(0.0, 0.5, 1.0), layers=(3,), pilot_seeds=2, n_seeds=2,
        fade_seeds=2, seconds=2.5, prompt_seconds=1.2, fade_seconds=2.4, switch_second=1.2, hop=0.7, n_sounds=1,
    )  # fmt: skip
    found = GenreFusion(config, progress=False).run()
    assert len(found["clips"]) == 2 * (1 + 3 * 4 + 1)
    assert set(found["trends"]["method"]) == {"sum", "equal length", "orthogonal", "interpolate"}
    assert found["fusion"]["mix"].between(0, 1).all()
    assert set(found["fade"]["method"]) >= {"switch", "cross-fade", "random", "first throughout"}
    assert "<audio" in (tmp_path / "index.html").read_text()
    assert (tmp_path / "fusion_jazz-rock.pdf").is_file() and (tmp_path / "switch_jazz-rock.png").is_file()
