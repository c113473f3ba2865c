"""The SMITIN study's own figures: FAD against success, the ladder, few pairs, and the monitor's traces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analyses._smitin_tables import CONTINUATION, label
from interp import plots
from interp.study import Drawing, slug
from interp.validation import UNSTEERED

__all__ = ["figures"]

_TONE = {"ITI": "blue", "SMITIN": "vermilion", "residual": "green", "SMITIN residual": "purple"}
_MARK = {"ITI": "o", "SMITIN": "s", "residual": "^", "SMITIN residual": "D"}
_RUNGS = ("ITI", "soft weights", "soft, every s", "SMITIN")
_WAYS = {"logistic": "vermilion", "mean_diff": "green", "random": "grey", "shuffled": "sky"}


def figures(
    t: Mapping[str, pd.DataFrame], trace: Mapping[str, Mapping[str, pd.DataFrame]], alpha: float, low: str
) -> Iterator[Drawing]:
    """Draw the tables of the study.

    Parameters
    ----------
    t : mapping of str to DataFrame
        Its tables.
    trace : mapping of trait to {"adding", "removing"} to DataFrame
        What the monitor heard.
    alpha : float
        SMITIN's largest strength.
    low : str
        The arm of the lower threshold.
    """
    for trait in trace:
        ax = strengths(t["success"], trait)
        yield f"strength_{slug(trait)}", ax, f"`{trait}`: success against strength."
        if t["success"]["fad"].notna().any():
            ax = trade_off(t["success"], trait)
            yield f"trade_off_{slug(trait)}", ax, f"`{trait}`: FAD against success; bars: 95 %."
    yield "# Which part matters"
    for trait in trace:
        caption = f"`{trait}`: hollow, the weaker dose; bars: 95 %."
        yield f"ladder_{slug(trait)}", ladder(t["ladder"], trait), caption
    yield "# What the monitor heard"
    for trait, heard in trace.items():
        for name, way, arm, title in (
            ("trace", "adding", "SMITIN", f"{trait}, adding"),
            ("trace_low", "adding", low, f"{trait}, adding, lower τ"),
            ("trace_removal", "removing", "SMITIN", f"{trait}, removing (P of absence)"),
        ):
            axs = traces(heard[way], arm, alpha, title)
            if axs:
                caption = f"`{trait}`: {arm} at α {alpha:g}, the first seeds, not chosen."
                yield f"{name}_{slug(trait)}", axs, caption
    yield "# How many pairs it takes"
    for trait in trace:
        yield f"pairs_{slug(trait)}", few_pairs(t["pairs"], trait), f"`{trait}`: probes of few pairs."


def _bars(table: pd.DataFrame) -> np.ndarray:
    """Distances from success to its interval in per cent, ``[2, rows]``."""
    found: np.ndarray = 100 * np.stack([table["rate"] - table["lo"], table["hi"] - table["rate"]]).clip(0)
    return found


@plots.style.styled
def trade_off(success: pd.DataFrame, trait: str) -> Axes:
    """Draw FAD against success over strengths, a line a rule, each starting from no steering."""
    rows = success[(success["trait"] == trait) & (success["task"] == CONTINUATION)]
    zero = rows[rows["arm"] == UNSTEERED]
    _, ax = plots.style.subplots(height=2.7)
    for arm, tone in _TONE.items():
        mine = rows[rows["arm"] == arm].sort_values("dose")
        if mine.empty:
            continue
        line = pd.concat([zero, mine])
        error = np.abs([mine["fad_diff"] - mine["fad_diff_lo"], mine["fad_diff_hi"] - mine["fad_diff"]])
        colour = plots.style.COLOURS[tone]
        ax.plot(100 * line["rate"], line["fad"], color=colour, lw=0.8, alpha=0.6, zorder=2)
        ax.errorbar(
            100 * mine["rate"], mine["fad"], yerr=error, xerr=_bars(mine), color=colour,
            marker=_MARK[arm], ls="", elinewidth=0.5, alpha=0.95, zorder=3, label=arm,
        )  # fmt: skip
        for one in mine.itertuples():
            ax.annotate(
                f"{one.dose:g}", (100 * one.rate, one.fad), xytext=(3, 3), textcoords="offset points", fontsize=6,
                color=colour,
            )  # fmt: skip
    ax.plot(100 * zero["rate"], zero["fad"], "k*", ms=7, zorder=4, label="unsteered")
    ax.set(xlabel="Success by the judge (%)", ylabel="FAD to music with the trait", title=f"{trait}; at the points: α")
    ax.set_xlim(-4, 106)
    ax.figure.legend(loc="outside lower center", ncols=3, fontsize=6.5)
    return plots.style.remember(ax, rows)


@plots.style.styled
def ladder(ladder: pd.DataFrame, trait: str) -> Axes:
    """Draw the rungs from ITI to SMITIN, directions in colours."""
    rows = ladder[(ladder["trait"] == trait) & (ladder["arm"] != UNSTEERED)].copy()
    parts = rows["arm"].str.rsplit(", ", n=1, expand=True)
    rows["rung"], rows["direction"] = parts[0], parts[1]
    zero = ladder[(ladder["trait"] == trait) & (ladder["arm"] == UNSTEERED)].iloc[0]
    keys = list(rows[["direction", "dose"]].drop_duplicates().itertuples(index=False, name=None))
    _, ax = plots.style.subplots(height=2.8)
    ax.axvspan(100 * zero["lo"], 100 * zero["hi"], color="black", alpha=0.08, lw=0)
    ax.axvline(100 * zero["rate"], color="black", ls="--", lw=0.9, label="unsteered")
    for j, (way, strength) in enumerate(keys):
        mine = rows[(rows["direction"] == way) & (rows["dose"] == strength)]
        y = np.array([_RUNGS.index(r) for r in mine["rung"]]) + (j - (len(keys) - 1) / 2) * 0.11
        weak = strength < max(s for w, s in keys if w == way)
        ax.errorbar(
            100 * mine["rate"], y, xerr=_bars(mine), ls="", marker="o", ms=4, elinewidth=0.7,
            color=plots.style.COLOURS[_WAYS[way]], mfc="white" if weak else None, label=f"{way}, {strength:g} σ",
        )  # fmt: skip
    ax.set(xlabel="Success by the judge (%)", title=trait, xlim=(-4, 104), ylim=(len(_RUNGS) - 0.5, -0.5))
    ax.set_yticks(range(len(_RUNGS)), ["ITI\n(k best heads)", "soft weights,\nall heads", "the same,\nevery s steps",
                                       "SMITIN\n(with monitor)"])  # fmt: skip
    ax.figure.legend(loc="outside lower center", ncols=2, fontsize=6.5)
    return plots.style.remember(ax, rows)


@plots.style.styled
def few_pairs(pairs: pd.DataFrame, trait: str) -> Axes:
    """Draw held-out accuracy and success against the number of pairs."""
    rows = pairs[pairs["trait"] == trait]
    _, ax = plots.style.subplots(height=2.6)
    one = rows.drop_duplicates("n_pairs").sort_values("n_pairs")
    ax.plot(one["n_pairs"], 100 * one["accuracy_monitor"], color="black", ls=":", marker="P", label="accuracy, monitor")
    ax.plot(one["n_pairs"], 100 * one["accuracy_heads"], color="grey", ls=":", marker="X", label="accuracy, its heads")
    for j, ((arm, strength), mine) in enumerate(rows.groupby(["arm", "dose"])):
        mine = mine.sort_values("n_pairs")
        x = mine["n_pairs"] * 1.03 ** (j - 1)
        tone = plots.style.COLOURS[_TONE[arm]]
        ax.errorbar(x, 100 * mine["rate"], yerr=_bars(mine), marker=_MARK[arm], color=tone,
                    elinewidth=0.7, label=f"success, {label(arm, strength)}")  # fmt: skip
    ax.set_xscale("log")
    ax.set_xticks(one["n_pairs"], [f"{n:.0f}" for n in one["n_pairs"]])
    ax.minorticks_off()
    ax.set(xlabel="Pairs of clips that the probes heard", ylabel="Success, accuracy (%)", ylim=(-3, 103), title=trait)
    ax.figure.legend(loc="outside lower center", ncols=2, fontsize=6.5)
    return plots.style.remember(ax, rows)


def strengths(success: pd.DataFrame, trait: str) -> Axes:
    """Draw success against strength."""
    rows = success[(success["trait"] == trait) & (success["task"] == CONTINUATION)]
    rows = rows[rows["arm"].isin([*_TONE, UNSTEERED])]
    keep = ["trait", "arm", "dose", "rate", "lo", "hi", "n", "not_music"]
    return plots.dose_response(rows[keep], xlabel="Strength α (σ)", title=trait)


def traces(trace: pd.DataFrame, arm: str, dose: float, title: str) -> list[Axes]:
    """Draw the monitor of the first seeds of an arm, beside what it heard without a push; none without traces."""
    if trace.empty:
        return []
    rows = trace[(trace["arm"] == arm) & (trace["dose"] == dose)]
    if rows.empty:
        return []
    names = {seed: f"seed {seed}" for seed in rows["seed"].unique()}
    zero = trace[trace["arm"] == UNSTEERED]
    return list(plots.monitor(rows, row="seed", compare=zero, labels=names, title=title))
