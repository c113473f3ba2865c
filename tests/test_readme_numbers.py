"""Numbers in the README are those of the tables under ``figures/``: each sentence is made again from its table."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
README = re.sub(r"\s+", " ", (ROOT / "README.md").read_text())


def table(name: str) -> pd.DataFrame:
    return pd.read_csv(ROOT / "figures" / f"{name}.csv", keep_default_na=False, na_values=[""])


def row(name: str, **where: Any) -> pd.Series[Any]:
    rows = table(name)
    for column, value in where.items():
        rows = rows[rows[column] == value]
    assert len(rows) == 1, f"{len(rows)} rows of {name} with {where}"
    return rows.iloc[0]


def percent(share: float) -> str:
    """As the README writes it; halves to the even side, as Python's format has it."""
    return f"{100 * share:.0f} %"


@pytest.mark.parametrize(("trait", "word"), [("drums", "drums"), ("instrument=brass", "brass"), ("genre=jazz", "jazz")])
def test_the_table_of_the_demo(trait: str, word: str) -> None:
    rows = table("demo/causal")
    rows = rows[rows["trait"] == trait]
    rate = rows.set_index(["arm", "dose"])["rate"]
    place = rows.loc[rows["arm"] == "probe", "where"].iloc[0]
    cells = [rate["unsteered", 0.0], *(rate["probe", dose] for dose in (1.0, 2.0, 3.0, 4.0))]
    cells += [rate[arm, 3.0] for arm in ("random", "shuffled labels", "best heads", "worst heads")]
    assert f"| {word}, `{place}` | " + " | ".join(map(percent, cells)) + " |" in README


def test_what_heads_do_in_the_demo() -> None:
    rate = table("demo/causal").set_index(["trait", "arm", "dose"])["rate"]
    best, worst = (
        {trait: percent(rate[trait, f"{arm} heads", 3.0]) for trait in ("drums", "instrument=brass", "genre=jazz")}
        for arm in ("best", "worst")
    )
    assert f"({worst['drums']} against {best['drums']}), brass more often" in README
    assert f"({worst['instrument=brass']} against {best['instrument=brass']}) and jazz hardly" in README
    assert f"({worst['genre=jazz']} against {best['genre=jazz']})" in README


def test_no_head_beats_the_mel_spectrum_for_drums() -> None:
    rows = table("demo/probes")
    rows = rows[rows["trait"] == "drums"]
    spectrum = rows.loc[rows["site"] == "mel spectrum", "test_score"].max()
    heads = rows[rows["kind"] == "heads"]
    best = heads.loc[heads["test_score"].idxmax()]
    assert best["lo"] <= spectrum <= best["hi"]
    assert f"the mel spectrum does ({spectrum:.2f})".replace("0.", ".") in README


def test_regression_against_classification() -> None:
    answer = table("regression_vs_classification/answer").set_index("method")
    auroc = answer["auroc_resid"]
    numbers = {f"{auroc[method]:.3f}".lstrip("0") for method in ("logistic", "ridge", "lda")}
    assert len(numbers) == 1 and f"mean AUROC over layers {numbers.pop()} for all three" in README
    rest = (f"{auroc[name]:.3f}".lstrip("0") for name in ("least_squares", "mean_diff", "pca_pairs"))
    assert "least squares {}, mean difference {}, `pca_pairs` {}".format(*rest) in README

    def best(method: str, place: str) -> str:
        return percent(answer.loc[method, f"best_{place}_equal_norm"])

    assert (
        f"({best('ridge', 'resid')} against {best('logistic', 'resid')} at one layer, {best('ridge', 'heads')} against "
        f"{best('logistic', 'heads')} at eight heads; Holm p 1)" in README
    )
    gains = [
        row("regression_vs_classification/steering_contrasts", measure="best", place=place, push="equal norm",
            a="logistic", b="mean_diff")
        for place in ("resid", "heads")
    ]  # fmt: skip
    said = " and ".join(f"{-100 * gain['difference']:+.0f}" for gain in gains)
    assert f"({best('mean_diff', 'resid')} and {best('mean_diff', 'heads')}; {said} points" in README
    ridge = row(
        "regression_vs_classification/steering_contrasts", measure="best", place="resid", push="equal dose",
        a="logistic", b="ridge",
    )  # fmt: skip
    bounds = f"[{-100 * ridge['hi']:.0f}, {-100 * ridge['lo']:.0f}]"
    assert f"{-100 * ridge['difference']:.0f} points {bounds}, Holm p" in README
    worse = f"at one layer ({best('least_squares', 'resid')}) and as well at eight heads"
    assert f"{worse} ({best('least_squares', 'heads')} against {best('logistic', 'heads')})" in README


def test_smitin() -> None:
    rows = table("smitin/success")
    rows = rows[(rows["task"] == "continuation") & (rows["trait"] != "average")]
    rate = rows.groupby(["arm", "strength"])["rate"].mean()
    assert (
        f"none {percent(rate['none', 0.0])}, SMITIN {percent(rate['SMITIN', 20.0])} at α 20 and "
        f"{percent(rate['SMITIN', 40.0])} at α 40, ITI {percent(rate['ITI', 10.0])} at α 10" in README
    )
    rungs = table("smitin/ladder")
    rungs = rungs[(rungs["task"] == "continuation") & (rungs["trait"] != "average")]
    means = rungs.groupby(["arm", "strength"])[["rate", "not_music", "n"]].mean()
    step = {name: means.loc[(f"{name}, logistic", 20.0)] for name in ("ITI", "soft weights", "soft, every s", "SMITIN")}
    assert step["ITI"]["n"] == 12 and "Taken apart at 20 σ (12 seeds" in README
    assert f"ITI {percent(step['ITI']['rate'])}, where {percent(step['ITI']['not_music'])} of what comes out" in README
    assert (
        f"soft weights {percent(step['soft weights']['rate'])}, acting at every fifth step "
        f"{percent(step['soft, every s']['rate'])}, with the monitor {percent(step['SMITIN']['rate'])}." in README
    )


def test_ablation_and_probes() -> None:
    words = []
    for trait in ("drums", "instrument=flute|piano", "genre=jazz|classical"):
        line = row("steering_validation/agreement", trait=trait, statistic="Spearman", method="ablate")
        words.append((f"{line['value']:.2f}".replace("0.", "."), f"[{line['lo']:.2f}, {line['hi']:.2f}]"))
    flute = words[1][1].replace("0.", ".")
    assert f"(Spearman {words[0][0]} for drums, {words[1][0]} {flute} for flute, {words[2][0]} for jazz)" in README


def test_a_switch_of_genre() -> None:
    first, second = (
        row("genre_fusion/fade", set=pair, method="switch") for pair in ("classical:electronic", "jazz:rock")
    )
    assert (
        f"takes {first['n']} pieces from {percent(first['before_heard_a'])} heard as classical before it to "
        f"{percent(first['after_heard_b'])} heard as electronic after it, {second['n']} others from "
        f"{percent(second['before_heard_a'])} jazz to {percent(second['after_heard_b'])} rock" in README
    )
