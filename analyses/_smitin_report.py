"""The SMITIN study's figures, its page, and what its tables say in words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analyses._smitin_arms import CONTINUATION, TEXT, Sounds
from analyses._smitin_tables import AVERAGE, label
from analyses._study import slug
from interp import plots
from interp.plots.style import COLOURS, remember, styled
from interp.report import Report

if TYPE_CHECKING:
    from analyses.smitin import Config

__all__ = ["answer", "write_report"]

_TONE = {"ITI": "blue", "SMITIN": "vermilion", "residual": "green", "SMITIN residual": "purple"}
_MARK = {"ITI": "o", "SMITIN": "s", "residual": "^", "SMITIN residual": "D"}
_RUNGS = ("ITI", "soft weights", "soft, every s", "SMITIN")
_WAYS = {"logistic": "vermilion", "mean_diff": "green", "random": "grey", "shuffled": "sky"}


# Words ----------------------------------------------------------------------------------------------------------


def answer(found: dict[str, pd.DataFrame], config: Config) -> pd.DataFrame:
    """What was found, whatever it is: one sentence or two a row."""
    success = found["success"]
    lines = []
    for task in (CONTINUATION, TEXT):
        mine = success[(success["task"] == task) & (success["trait"] == AVERAGE)]
        mine = mine.set_index(["arm", "strength"]).sort_index()
        if mine.empty:
            continue
        iti = mine.loc["ITI"]["rate"].idxmax()
        picks = [("none", 0.0), ("text", 0.0), ("ITI", iti), *(("SMITIN", a) for a in config.alphas)]
        picks += [(arm, mine.loc[arm]["rate"].idxmax()) for arm in ("residual", "SMITIN residual") if arm in mine.index]
        told = "; ".join(
            f"{label(*at)} {mine.loc[at, 'rate']:.0%}"
            + ("" if np.isnan(mine.loc[at, "fad"]) else f" (FAD {mine.loc[at, 'fad']:.1f})")
            for at in picks
        )
        lines.append(f"{task.capitalize()}, average over {len(config.traits)} traits, success by the judge: {told}.")
    lines += _reach(success, config)
    equal = found["equal_success"]
    for arm in equal["arm"].unique():
        rows = equal[(equal["arm"] == arm) & equal["difference"].notna()]
        better, worse = int((rows["hi"] < 0).sum()), int((rows["lo"] > 0).sum())
        all_ = int((equal["arm"] == arm).sum())
        lines.append(
            f"At equal success, {arm} has a lower FAD than ITI in {better} and a higher one in {worse} of the "
            f"{len(rows)} points that ITI reaches as well (of {all_}; 95 % intervals that leave out zero); median "
            f"difference {rows['difference'].median():+.2f}."
        )
    lines.append(_parts(found["ladder"]))
    gone = found["removal"]
    mine = gone[(gone["trait"] == AVERAGE) & (gone["arm"] != "none")]
    best = mine.loc[mine.groupby("arm")["rate"].idxmax()]
    base = float(gone.loc[(gone["trait"] == AVERAGE) & (gone["arm"] == "none"), "rate"].iloc[0])
    told = "; ".join(
        f"{label(r.arm, r.strength)} {r.rate:.0%} (not music {r.not_music:.0%})" for r in best.itertuples()
    )
    lines.append(f"Removal, share of continuations that lose the trait: unsteered {base:.0%}; {told}.")
    some = found["pairs"][(found["pairs"]["trait"] == AVERAGE)]
    for (arm, strength), rows in some.groupby(["arm", "strength"]):
        told = ", ".join(f"{int(r.n_pairs)} pairs {r.rate:.0%}" for r in rows.itertuples())
        lines.append(f"Success of {label(arm, strength)} by the number of pairs that its probes heard: {told}.")
    few = some.drop_duplicates("n_pairs")
    told = ", ".join(f"{int(r.n_pairs)}: {r.accuracy_heads:.0%} and {r.accuracy_monitor:.0%}" for r in few.itertuples())
    lines.append(f"Held-out accuracy of the heads that are heard (mean) and of the monitor, by pairs: {told}.")
    return pd.DataFrame({"text": lines})


def _reach(success: pd.DataFrame, config: Config) -> list[str]:
    """Where a gain of 70 points is reached, and where not: what the strongest of each rule does."""
    lines = []
    for trait in config.traits:
        rows = success[(success["trait"] == trait) & (success["task"] == CONTINUATION)]
        rules = rows[rows["arm"].isin(_TONE)]
        best = rules.loc[rules.groupby("arm", sort=False)["diff"].idxmax()].sort_values("diff", ascending=False)
        over = best[best["diff"] >= 0.7]
        told = "; ".join(
            f"{label(r.arm, r.strength)} {100 * r.diff:+.0f} [{100 * r.diff_lo:+.0f}, {100 * r.diff_hi:+.0f}], "
            f"not music {r.not_music:.0%}"
            for r in best.itertuples()
        )
        verdict = f"70 points are reached by {', '.join(over['arm'])}" if len(over) else "70 points are not reached"
        lines.append(f"{trait}, continuation: {verdict}. Largest gains in points: {told}.")
    return lines


def _parts(ladder: pd.DataFrame) -> str:
    """Which rung of the ladder costs or gains success, directions apart."""
    mine = ladder[ladder["trait"] == AVERAGE]
    told = []
    for way in ("logistic", "mean_diff", "random", "shuffled"):
        rows = mine[mine["arm"].str.endswith(f", {way}")]
        if rows.empty:
            continue
        for strength, some in rows.groupby("strength"):
            steps = ", ".join(f"{r.arm.rsplit(', ', 1)[0]} {r.rate:.0%}" for r in some.itertuples())
            told.append(f"{way} at {strength:g} sigma: {steps}")
    return f"From ITI to SMITIN one part at a time (average success; unsteered {mine['rate'].iloc[0]:.0%}): " + (
        "; ".join(told) + "."
    )


def _bars(table: pd.DataFrame) -> np.ndarray:
    """Distances from success to its interval in per cent, ``[2, rows]``."""
    found: np.ndarray = 100 * np.stack([table["rate"] - table["lo"], table["hi"] - table["rate"]]).clip(0)
    return found


# Figures --------------------------------------------------------------------------------------------------------


@styled
def trade_off(success: pd.DataFrame, trait: str) -> Axes:
    """Draw FAD against success over strengths, a line a rule, each starting from no steering."""
    rows = success[(success["trait"] == trait) & (success["task"] == CONTINUATION)]
    zero = rows[rows["arm"] == "none"]
    _, ax = plots.style.subplots(height=2.7)
    for arm, tone in _TONE.items():
        mine = rows[rows["arm"] == arm].sort_values("strength")
        if mine.empty:
            continue
        line = pd.concat([zero, mine])
        error = np.abs([mine["fad_diff"] - mine["fad_diff_lo"], mine["fad_diff_hi"] - mine["fad_diff"]])
        colour = COLOURS[tone]
        ax.plot(100 * line["rate"], line["fad"], color=colour, lw=0.8, alpha=0.6, zorder=2)
        ax.errorbar(
            100 * mine["rate"], mine["fad"], yerr=error, xerr=_bars(mine), color=colour,
            marker=_MARK[arm], ls="", elinewidth=0.5, alpha=0.95, zorder=3, label=arm,
        )  # fmt: skip
        for one in mine.itertuples():
            ax.annotate(
                f"{one.strength:g}", (100 * one.rate, one.fad), xytext=(3, 3), textcoords="offset points", fontsize=6,
                color=colour,
            )  # fmt: skip
    ax.plot(100 * zero["rate"], zero["fad"], "k*", ms=7, zorder=4, label="unsteered")
    ax.set(xlabel="Success by the judge (%)", ylabel="FAD to music with the trait", title=f"{trait}; at the points: α")
    ax.set_xlim(-4, 106)
    ax.figure.legend(loc="outside lower center", ncols=3, fontsize=6.5)
    return remember(ax, rows)


@styled
def ladder_figure(ladder: pd.DataFrame, trait: str) -> Axes:
    """Draw the rungs from ITI to SMITIN, directions in colours."""
    rows = ladder[(ladder["trait"] == trait) & (ladder["arm"] != "none")].copy()
    parts = rows["arm"].str.rsplit(", ", n=1, expand=True)
    rows["rung"], rows["direction"] = parts[0], parts[1]
    zero = ladder[(ladder["trait"] == trait) & (ladder["arm"] == "none")].iloc[0]
    keys = list(rows[["direction", "strength"]].drop_duplicates().itertuples(index=False, name=None))
    _, ax = plots.style.subplots(height=2.8)
    ax.axvspan(100 * zero["lo"], 100 * zero["hi"], color="black", alpha=0.08, lw=0)
    ax.axvline(100 * zero["rate"], color="black", ls="--", lw=0.9, label="unsteered")
    for j, (way, strength) in enumerate(keys):
        mine = rows[(rows["direction"] == way) & (rows["strength"] == strength)]
        y = np.array([_RUNGS.index(r) for r in mine["rung"]]) + (j - (len(keys) - 1) / 2) * 0.11
        weak = strength < max(s for w, s in keys if w == way)
        ax.errorbar(
            100 * mine["rate"], y, xerr=_bars(mine), ls="", marker="o", ms=4, elinewidth=0.7,
            color=COLOURS[_WAYS[way]], mfc="white" if weak else None, label=f"{way}, {strength:g} σ",
        )  # fmt: skip
    ax.set(xlabel="Success by the judge (%)", title=trait, xlim=(-4, 104), ylim=(len(_RUNGS) - 0.5, -0.5))
    ax.set_yticks(range(len(_RUNGS)), ["ITI\n(k best heads)", "soft weights,\nall heads", "the same,\nevery s steps",
                                       "SMITIN\n(with monitor)"])  # fmt: skip
    ax.figure.legend(loc="outside lower center", ncols=2, fontsize=6.5)
    return remember(ax, rows)


@styled
def pairs_figure(pairs: pd.DataFrame, trait: str) -> Axes:
    """Draw held-out accuracy and success against the number of pairs."""
    rows = pairs[pairs["trait"] == trait]
    _, ax = plots.style.subplots(height=2.6)
    one = rows.drop_duplicates("n_pairs").sort_values("n_pairs")
    ax.plot(one["n_pairs"], 100 * one["accuracy_monitor"], color="black", ls=":", marker="P", label="accuracy, monitor")
    ax.plot(one["n_pairs"], 100 * one["accuracy_heads"], color="grey", ls=":", marker="X", label="accuracy, its heads")
    for j, ((arm, strength), mine) in enumerate(rows.groupby(["arm", "strength"])):
        mine = mine.sort_values("n_pairs")
        x = mine["n_pairs"] * 1.03 ** (j - 1)
        tone = COLOURS[_TONE[arm]]
        ax.errorbar(x, 100 * mine["rate"], yerr=_bars(mine), marker=_MARK[arm], color=tone,
                    elinewidth=0.7, label=f"success, {label(arm, strength)}")  # fmt: skip
    ax.set_xscale("log")
    ax.set_xticks(one["n_pairs"], [f"{n:.0f}" for n in one["n_pairs"]])
    ax.minorticks_off()
    ax.set(xlabel="Pairs of clips that the probes heard", ylabel="Success, accuracy (%)", ylim=(-3, 103), title=trait)
    ax.figure.legend(loc="outside lower center", ncols=2, fontsize=6.5)
    return remember(ax, rows)


def strengths_figure(success: pd.DataFrame, trait: str) -> Axes:
    """Draw success against strength."""
    rows = success[(success["trait"] == trait) & (success["task"] == CONTINUATION)]
    rows = rows[rows["arm"].isin([*_TONE, "none"])].assign(arm=rows["arm"].replace("none", "unsteered"))
    keep = ["trait", "arm", "strength", "rate", "lo", "hi", "n", "not_music"]
    return plots.dose_response(rows[keep], dose="strength", xlabel="Strength α (σ)", title=trait)


def _traces(file: Path, config: Config, stem: Path, save: dict[str, Any], title: str, arm: str) -> Path | None:
    """The monitor of the first rows of an arm at the largest strength, beside what it heard without a push."""
    if not file.exists():
        return None
    table = pd.read_csv(file)
    mine = table[(table["arm"] == arm) & (table["strength"] == max(config.alphas))]
    zero = table[table["arm"] == "none"]
    if mine.empty:
        return None
    names = {i: f"seed {config.seed + i}" for i in mine["index"].unique()}
    plots.save(list(plots.monitor(mine, row="index", compare=zero, labels=names, title=title)), stem, **save)
    return stem.with_name(f"{stem.name}.png")


# Page -----------------------------------------------------------------------------------------------------------


def write_report(
    config: Config, found: dict[str, pd.DataFrame], cache: Path, sounds: Sounds, about: dict[str, Any]
) -> Path:
    """Draw everything and write ``index.html``."""
    out = config.out
    save: dict[str, Any] = {"formats": ("png", "pdf"), "made_by": about}
    report = Report(
        "Self-monitored steering",
        f"SMITIN (arXiv 2404.02252) beside ITI, text and one-layer steering on {about['model'].split()[0]}; judge: "
        f"{about['judge']}.",
    )
    report.heading("What was found")
    for line in found["answer"]["text"]:
        report.text(line)
    report.heading("The paper's table")
    report.text(
        f"Averages over traits ({', '.join(config.traits)}), {config.n_seeds} paired continuations and "
        f"{config.n_text_seeds} clips from text each. FAD and KAD are to music with the trait after a codec "
        "round trip; compare arms of one column, not columns: embeddings and music differ from the paper's. "
        "Similarity is the cosine of the judge's embedding with the audio prompt, and for text the judge's mean "
        "probability of what the prompt names. The probe column is the model judging itself. The paper's numbers are "
        "second-hand."
    )
    report.table(found["paper_form"], "Ours, and the paper's for MusicGen-large.", csv=out / "paper_form.csv", digits=2)
    report.table(found["success"], "Every trait and strength.", csv=out / "success.csv", rows=8)
    report.heading("Success, and what it costs")
    pictures = []
    for trait in config.traits:
        for name, draw in (("strength", strengths_figure), ("trade_off", trade_off)):
            if name == "trade_off" and found["success"]["fad"].isna().all():
                continue
            plots.save(draw(found["success"], trait), out / f"{name}_{slug(trait)}", **save)
            caption = "success against strength." if name == "strength" else "FAD against success; bars: 95 %."
            pictures.append((out / f"{name}_{slug(trait)}.png", f"`{trait}`: {caption}"))
    report.figures(*pictures)
    if len(found["equal_success"]):
        text = "FAD against that of ITI, interpolated between its strengths, at equal success."
        report.table(found["equal_success"], text, csv=out / "equal_success.csv")
    report.heading("Which part matters")
    pictures = []
    for trait in config.traits:
        plots.save(ladder_figure(found["ladder"], trait), out / f"ladder_{slug(trait)}", **save)
        pictures.append((out / f"ladder_{slug(trait)}.png", f"`{trait}`: hollow, the weaker dose; bars: 95 %."))
    report.figures(*pictures)
    report.table(found["ladder"].drop(columns=["task", "probe"]), "", csv=out / "ladder.csv", rows=8)
    report.heading("What the monitor heard")
    pictures = []
    for trait in config.traits:
        low = f"SMITIN, τ {config.tau_low:g}"
        for kind, arm, title in (
            ("trace", "SMITIN", f"{trait}, adding"),
            ("trace", low, f"{trait}, adding, lower τ"),
            ("trace_removal", "SMITIN", f"{trait}, removing (P of absence)"),
        ):
            stem = out / f"{kind}{'_low' if arm == low else ''}_{slug(trait)}"
            path = _traces(cache / f"{kind}_{slug(trait)}.csv", config, stem, save, title, arm)
            if path is not None:
                pictures.append((path, f"`{trait}`: {arm} at α {max(config.alphas):g}, the first seeds, not chosen."))
    report.figures(*pictures)
    report.heading("Taking a trait away")
    report.table(
        found["removal"].drop(columns=["task", "probe"]), "Prompts that have the trait; success is its loss.",
        csv=out / "removal.csv", rows=12,
    )  # fmt: skip
    report.heading("How many pairs it takes")
    pictures = []
    for trait in config.traits:
        plots.save(pairs_figure(found["pairs"], trait), out / f"pairs_{slug(trait)}", **save)
        pictures.append((out / f"pairs_{slug(trait)}.png", f"`{trait}`: probes of few pairs."))
    report.figures(*pictures).table(found["pairs"], "", csv=out / "pairs.csv", rows=8)
    report.heading("Listen")
    for trait in config.traits:
        lines, columns = _sounds(found["success"], trait, sounds)
        if lines:
            report.sounds(pd.DataFrame(lines), f"`{trait}`, the first seeds, not chosen:", columns=columns)
    return report.write(out / "index.html", made_by=about)


def _sounds(success: pd.DataFrame, trait: str, sounds: Sounds) -> tuple[list[dict[str, Any]], list[str]]:
    rows = success[(success["trait"] == trait) & (success["task"] == CONTINUATION) & success["arm"].isin(sounds.arms)]
    best = rows.loc[rows.groupby("arm", sort=False)["rate"].idxmax()]
    at = list(best[["arm", "strength"]].itertuples(index=False, name=None))
    lines = []
    for i in range(sounds.n):
        paths = {label(arm, strength): sounds.path(trait, arm, strength, i) for arm, strength in at}
        if all(path.exists() for path in paths.values()):
            lines.append({"seed": i} | paths)
    return lines, [label(*one) for one in at]
