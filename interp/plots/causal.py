"""What steering did: dose-response, arms, cost, leakage, refits, heads that matter."""

from __future__ import annotations

import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from interp.plots.style import (
    COLOURS,
    MARKERS,
    axes,
    cells,
    colour,
    errorbars,
    legend,
    logarithmic,
    need,
    only,
    remember,
    styled,
)

__all__ = ["arms", "dose_response", "leakage", "rank_scatter", "refits", "tradeoff"]


@styled
def dose_response(
    table: pd.DataFrame,
    score: str = "rate",
    *,
    dose: str = "dose",
    arm: str = "arm",
    trait: str | None = None,
    label: str | None = None,
    xlabel: str = "Dose (σ of the activation along the direction)",
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw what a judge hears against the dose, the treated arm beside its controls.

    Parameters
    ----------
    table : DataFrame
        Columns ``arm``, ``dose`` and ``rate``, one row a point; where present ``lo``, ``hi`` (interval), ``trait``, and
        ``draw`` (several draws of one control: thin lines; rows without a draw are their pool). Rows of the arm
        ``unsteered`` become a horizontal line with its interval.
    score : str
        What is on the vertical axis.
    dose, arm : str
        The columns with the dose and with the arm.
    trait : str, optional
        Which rows to take; needed where the table holds several.
    label, xlabel, title : str, optional
        Of the axes.
    ax : Axes, optional
        Where to draw.

    Returns
    -------
    Axes

    Examples
    --------
    >>> table = pd.DataFrame({"arm": ["unsteered", "probe", "probe", "random"], "dose": [0, 1, 2, 2],
    ...     "rate": [0.1, 0.5, 0.9, 0.1]})
    >>> ax = dose_response(table, title="drums")
    >>> ax.get_title(), [line.get_label() for line in ax.lines if not line.get_label().startswith("_")]
    ('drums', ['unsteered'])
    """
    need(table, (arm, dose, score), "a dose-response")
    table = only(table, "a dose-response", trait=trait)
    ax = axes(ax, height=2.7)
    draws = table[table["draw"].notna()] if "draw" in table.columns else table.iloc[:0]
    pooled = table[table["draw"].isna()] if "draw" in table.columns else table
    base = pooled[pooled[arm] == "unsteered"]
    arms = [name for name in pooled[arm].unique() if name != "unsteered"]
    if len(base):
        row = base.iloc[0]
        if {"lo", "hi"} <= set(base.columns):
            ax.axhspan(float(row["lo"]), float(row["hi"]), color="black", alpha=0.08, lw=0, zorder=0)
        ax.axhline(float(row[score]), color="black", lw=0.9, ls="--", zorder=1, label="unsteered")
    spread = float(pooled[dose].max() - pooled[dose].min()) or 1.0
    for index, name in enumerate(arms):
        tone = colour(str(name), index)
        for _, rows in draws[draws[arm] == name].groupby("draw") if len(draws) else ():
            rows = rows.sort_values(dose)
            ax.plot(rows[dose], rows[score], color=tone, lw=0.5, alpha=0.55, zorder=2)
        rows = pooled[pooled[arm] == name].sort_values(dose)
        first = index == 0
        # Arms share their doses; a small step aside keeps the intervals apart.
        x = rows[dose] + (index - (len(arms) - 1) / 2) * 0.012 * spread
        ax.errorbar(
            x, rows[score], yerr=errorbars(rows, score), color=tone, marker=MARKERS[index % len(MARKERS)], ms=3.5,
            lw=1.6 if first else 1.0, elinewidth=0.8, capsize=1.5, zorder=4 if first else 3, label=str(name),
        )  # fmt: skip
    if score == "rate":
        ax.set_ylim(-0.03, 1.03)
    ax.set(xlabel=xlabel, ylabel=label or "Share judged to have the trait", title=title or "")
    legend(ax)
    return remember(ax, table)


@styled
def arms(
    table: pd.DataFrame,
    *,
    trait: str | None = None,
    label: str = "Judged share",
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw every arm at its decisive dose beside unsteered: treated arms filled, controls open.

    Parameters
    ----------
    table : DataFrame
        One row an arm: ``arm, control, rate, lo, hi``, drawn in the order given; a row ``unsteered`` becomes a line and
        a band. Where an arm has several doses, give the one to show.
    trait : str, optional
        Which rows to take; needed where the table holds several.
    label, title : str, optional
        Of the axes.
    ax : Axes, optional
        Where to draw.

    Examples
    --------
    >>> table = pd.DataFrame({"arm": ["unsteered", "probe", "random"], "control": [True, False, True],
    ...     "rate": [0.1, 0.9, 0.2]})
    >>> ax = arms(table.assign(lo=table["rate"] - 0.1, hi=table["rate"] + 0.1))
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['probe', 'random']
    """
    need(table, ("arm", "control", "rate", "lo", "hi"), "a comparison of arms")
    table = only(table, "a comparison of arms", trait=trait)
    base, rows = table[table["arm"] == "unsteered"], table[table["arm"] != "unsteered"].reset_index(drop=True)
    ax = axes(ax, height=0.9 + 0.19 * len(rows))
    for row in base.itertuples():
        ax.axvspan(row.lo, row.hi, color="black", alpha=0.08, lw=0, zorder=0)
        ax.axvline(row.rate, color="black", lw=0.9, ls="--", zorder=1)
    bars = errorbars(rows, "rate")
    for i, row in rows.iterrows():
        tone = COLOURS["grey"] if row["control"] else COLOURS["vermilion" if row["arm"] == "probe" else "blue"]
        ax.errorbar(
            row["rate"], i, xerr=None if bars is None else bars[:, [i]], color=tone, marker="o", ms=4.5,
            mfc="white" if row["control"] else tone, elinewidth=0.9, capsize=1.8, zorder=3,
        )  # fmt: skip
    # "other trait: genre=jazz|classical" leaves no room for the axis; the table has it in full
    short = [re.sub(r"^(other trait: )(?:[^=|]+=)?([^|]+).*", r"\1\2", str(name)) for name in rows["arm"]]
    doses = rows["dose"] if "dose" in rows else [0] * len(rows)
    names = [f"{name} ({dose:g} σ)" if dose else name for name, dose in zip(short, doses, strict=True)]
    ax.set_yticks(range(len(rows)), names)
    ax.set(xlim=(-0.03, 1.03), ylim=(len(rows) - 0.4, -0.6), xlabel=label, title=title or "")
    ax.grid(axis="y", color="0.92", lw=0.6)
    return remember(ax, table)


@styled
def leakage(
    table: pd.DataFrame,
    *,
    value: str = "diff",
    label: str = "Change of the share (points)",
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the leakage matrix: each direction's effect on every judged trait.

    Parameters
    ----------
    table : DataFrame
        ``direction, judged, diff`` and, where present, ``lo, hi``: cells whose interval holds zero are set in grey.
    value, label, title : str, optional
        Column to draw; words for it.
    ax : Axes, optional
        Where to draw.

    Examples
    --------
    >>> table = pd.DataFrame({"direction": ["drums", "drums"], "judged": ["drums", "jazz"], "diff": [0.8, -0.05]})
    >>> ax = leakage(table)
    >>> [text.get_text() for text in ax.texts]
    ['+80', '-5']
    """
    need(table, ("direction", "judged", value), "a leakage matrix")
    rows, columns = list(dict.fromkeys(table["direction"])), list(dict.fromkeys(table["judged"]))
    grid = table.pivot_table(index="direction", columns="judged", values=value, sort=False).loc[rows, columns]
    ax = axes(ax, width=max(3.4, 0.9 + 0.34 * len(columns)), height=1.2 + 0.26 * len(rows))
    reach = 100 * max(0.5, float(np.nanmax(np.abs(grid.to_numpy()))))
    image = cells(ax, 100 * grid.to_numpy(float), rows, columns, cmap="RdBu_r", limits=(-reach, reach))
    sure = table.set_index(["direction", "judged"])
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            share = 100 * grid.loc[row, column]
            if np.isnan(share):
                continue
            known = "lo" not in sure or sure.loc[(row, column), "lo"] > 0 or sure.loc[(row, column), "hi"] < 0
            tone = "white" if abs(share) > 0.6 * reach else "black" if known else "0.55"
            ax.text(j, i, f"{share:+.0f}".replace("+0", "0").replace("-0", "0"), ha="center", va="center",
                    fontsize=6, color=tone)  # fmt: skip
            if row == column:
                ax.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, ec="black", lw=1.2, clip_on=False))
    ax.tick_params(axis="x", rotation=45)
    plt.setp(ax.get_xticklabels(), ha="right", rotation_mode="anchor")
    ax.set(xlabel="Judged", ylabel="Pushed along", title=title or "")
    bar = ax.figure.colorbar(image, ax=ax, fraction=0.03, pad=0.02, label=label)
    bar.outline.set_visible(False)
    return remember(ax, table)


@styled
def tradeoff(
    table: pd.DataFrame,
    *,
    quality: str = "fad",
    label: str = "FAD (lower is better)",
    trait: str | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw success against what it costs: one line an arm, one point a dose.

    Parameters
    ----------
    table : DataFrame
        ``arm, dose, rate`` and the column of the cost.
    quality, label : str
        That column, and its name.
    trait : str, optional
        Which rows to take; needed where the table holds several.
    title : str, optional
    ax : Axes, optional
        Where to draw.

    Examples
    --------
    >>> table = pd.DataFrame({"arm": ["probe", "probe"], "dose": [1.0, 2.0], "rate": [0.5, 0.9], "fad": [4.0, 6.0]})
    >>> tradeoff(table).get_ylabel()
    'FAD (lower is better)'
    """
    need(table, ("arm", "dose", "rate", quality), "a trade-off")
    table = only(table, "a trade-off", trait=trait)
    ax = axes(ax, height=2.7)
    base = table[table["arm"] == "unsteered"]
    if len(base):
        ax.plot(base["rate"], base[quality], "k*", ms=7, label="unsteered", zorder=4, ls="none")
    for index, name in enumerate(name for name in table["arm"].unique() if name != "unsteered"):
        rows = table[table["arm"] == name].sort_values("dose")
        tone, marker = colour(str(name), index), MARKERS[index % len(MARKERS)]
        ax.plot(rows["rate"], rows[quality], color=tone, marker=marker, ms=4, lw=1.1, label=str(name), zorder=3)
        if len(rows) > 1:
            for row in rows.to_dict("records"):
                ax.annotate(f"{row['dose']:g}", (row["rate"], row[quality]), xytext=(3, 3), textcoords="offset points",
                            fontsize=5.5, color=tone)  # fmt: skip
    ax.set(xlim=(-0.03, 1.03), xlabel="Share judged to have the trait", ylabel=label, title=title or "")
    if table[quality].min() > 0 and table[quality].max() > 5 * table[quality].min():
        logarithmic(ax)  # one arm that breaks the music must not flatten the others
    legend(ax)
    return remember(ax, table)


@styled
def rank_scatter(
    heads: pd.DataFrame,
    *,
    agreement: str = "",
    label: str = "Cross-validated score of the probe",
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw how much each head matters against how well it reads.

    Parameters
    ----------
    heads : DataFrame
        ``site, layer, size, probe``: size of the causal effect and score of the probe.
    agreement : str
        A line with the rank correlation, set into the axes.
    label, title : str, optional
    ax : Axes, optional
        Where to draw.

    Examples
    --------
    >>> heads = pd.DataFrame({"site": ["L0.H0", "L0.H1", "L1.H0"], "layer": [0, 0, 1], "size": [0.1, 0.4, 0.2],
    ...     "probe": [0.5, 0.9, 0.6]})
    >>> rank_scatter(heads).get_ylabel()
    'Size of the causal effect (nats a token)'
    """
    need(heads, ("site", "layer", "size", "probe"), "a comparison of rankings")
    ax = axes(ax, height=2.6)
    points = ax.scatter(heads["probe"], heads["size"], c=heads["layer"], cmap="viridis", s=16, zorder=3, lw=0)
    for row in heads.nlargest(3, "size").itertuples():
        ax.annotate(row.site, (row.probe, row.size), xytext=(4, 0), textcoords="offset points", fontsize=6, va="center")
    bar = ax.figure.colorbar(points, ax=ax, fraction=0.04, pad=0.02, label="Layer")
    bar.set_ticks(sorted(heads["layer"].unique()))
    bar.outline.set_visible(False)
    ax.set(xlabel=label, ylabel="Size of the causal effect (nats a token)", title=title or "")
    ax.set_xlim(right=heads["probe"].max() + 0.12 * np.ptp(heads["probe"]))
    if agreement:
        ax.set_ylim(top=heads["size"].max() * 1.25)  # room for the words
        ax.text(0.02, 0.98, agreement, transform=ax.transAxes, va="top", fontsize=6.5)
    return remember(ax, heads)


@styled
def refits(table: pd.DataFrame, *, trait: str | None = None, title: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw the held-out score of probes that were fitted anew after each erasure, layer by layer.

    Parameters
    ----------
    table : DataFrame
        ``way, layer, test_score, lo, hi, chance``.
    trait : str, optional
        Which rows to take; needed where the table holds several.
    title : str, optional
    ax : Axes, optional
        Where to draw.

    Examples
    --------
    >>> table = pd.DataFrame({"way": ["none", "none", "LEACE", "LEACE"], "layer": [3, 4, 3, 4],
    ...     "test_score": [0.9, 0.9, 0.5, 0.7]})
    >>> ax = refits(table.assign(chance=0.5, lo=table["test_score"] - 0.1, hi=table["test_score"] + 0.1))
    >>> ax.get_xlabel()
    'Layer (residual stream)'
    """
    need(table, ("way", "layer", "test_score", "chance"), "refitted probes")
    table = only(table, "refitted probes", trait=trait)
    ax = axes(ax, height=2.6)
    ways = list(dict.fromkeys(table["way"]))
    for index, way in enumerate(ways):
        rows = table[table["way"] == way].sort_values("layer")
        tone = "black" if way == "none" else COLOURS["grey"] if "random" in way else colour("", index - 1)
        x = rows["layer"] + (index - (len(ways) - 1) / 2) * 0.06
        ax.errorbar(
            x, rows["test_score"], yerr=errorbars(rows, "test_score"), color=tone,
            marker=MARKERS[index % len(MARKERS)], ms=3.5, lw=1.1, elinewidth=0.8, capsize=1.5,
            label="nothing taken out" if way == "none" else way,
        )  # fmt: skip
    ax.axhline(float(table["chance"].mean()), color="0.5", lw=0.8, ls=":", label="chance")
    ax.set_xticks(sorted(table["layer"].unique()))
    ax.set(xlabel="Layer (residual stream)", ylabel="Held-out score, refitted", title=title or "")
    legend(ax)
    return remember(ax, table)
