"""Scores against baselines, clips and time, and which class is taken for which."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from interp.plots.heads import score_label
from interp.plots.style import (
    MARKERS,
    SINGLE,
    axes,
    cells,
    colour,
    errorbars,
    legend,
    need,
    remember,
    styled,
)

__all__ = ["baselines", "confusion", "learning_curve", "time_course"]


@styled
def baselines(
    table: pd.DataFrame,
    score: str = "test_score",
    *,
    name: str = "name",
    label: str | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the probe beside its baselines (mel spectrum, untrained copy, ...), with intervals, chance and null.

    Parameters
    ----------
    table : DataFrame
        Columns ``name`` (what was probed) and ``score``; where present ``trait`` (one group of points each), ``lo``,
        ``hi``, ``chance``, ``null_max_95``.
    score, label, title, ax
        As in :func:`heatmap`.
    name : str
        The column that tells the probe from its baselines.

    Returns
    -------
    Axes

    Examples
    --------
    >>> table = pd.DataFrame({"name": ["best site", "mel"], "test_score": [0.93, 0.85], "lo": [0.9, 0.8],
    ...     "hi": [0.96, 0.9]})
    >>> ax = baselines(table, label="Accuracy")
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('', 'Accuracy')
    """
    need(table, (name, score), "baselines")
    traits = table["trait"].unique() if "trait" in table.columns else np.array([""])
    names = list(table[name].unique())
    ax = axes(ax)
    step = 0.8 / len(names)
    for index, one in enumerate(names):
        rows = table[table[name] == one]
        if "trait" in rows.columns:
            rows = rows.set_index("trait").reindex(traits).reset_index()
        x = np.arange(len(traits)) + (index - (len(names) - 1) / 2) * step
        ax.errorbar(
            x, rows[score], yerr=errorbars(rows, score), fmt=MARKERS[index % len(MARKERS)],
            color=colour(str(one), index), elinewidth=1, capsize=2, label=str(one),
        )  # fmt: skip
    for index, trait in enumerate(traits):
        rows = table[table["trait"] == trait] if "trait" in table.columns else table
        left, right = index - 0.45, index + 0.45
        if "chance" in rows and rows["chance"].notna().any():
            level = float(rows["chance"].median())
            ax.hlines(level, left, right, color="black", lw=0.8, ls="--", label="chance" if index == 0 else "")
            if "null_max_95" in rows and rows["null_max_95"].notna().any():
                box = Rectangle(
                    (left, level), 0.9, float(rows["null_max_95"].max()) - level, color="#DDDDDD", lw=0, zorder=0,
                    label="best site on shuffled labels, 95 %" if index == 0 else None,
                )  # fmt: skip
                ax.add_patch(box)
    ax.set_xticks(range(len(traits)), [str(t) for t in traits])
    ax.tick_params(axis="x", length=0)
    ax.set(ylabel=score_label(score, label, table), title=title or "")
    legend(ax)
    return remember(ax, table)


@styled
def _curve(
    table: pd.DataFrame,
    x: str,
    score: str,
    by: str | None,
    label: str | None,
    xlabel: str,
    title: str | None,
    ax: Axes | None,
) -> Axes:
    need(table, (x, score), "a curve")
    ax = axes(ax)
    groups = [("", table)] if by is None or by not in table.columns else list(table.groupby(by, sort=False))
    for index, (one, rows) in enumerate(groups):
        rows = rows.sort_values(x)
        tone = colour(str(one), index)
        marker = MARKERS[index % len(MARKERS)] if len(rows) <= 15 else ""
        ax.plot(rows[x], rows[score], color=tone, marker=marker, markersize=3, label=str(one) or None)
        if {"lo", "hi"} <= set(rows.columns):
            ax.fill_between(rows[x], rows["lo"], rows["hi"], color=tone, alpha=0.18, lw=0)
    if {"lo", "hi"} <= set(table.columns) and bool(table[["lo", "hi"]].notna().to_numpy().any()):
        ax.fill_between([], [], [], color="#777777", alpha=0.25, lw=0, label="95 % interval")
    if "chance" in table.columns and table["chance"].notna().any():
        ax.axhline(float(table["chance"].median()), color="black", lw=0.8, ls="--", label="chance")
    ax.set(xlabel=xlabel, ylabel=score_label(score, label, table), title=title or "")
    if len(groups) > 1 or "chance" in table.columns:
        legend(ax, 3)
    return remember(ax, table)


def learning_curve(
    table: pd.DataFrame,
    score: str = "test_score",
    *,
    by: str = "method",
    label: str | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the score against the number of training clips, on a logarithmic axis.

    Parameters
    ----------
    table : DataFrame
        Columns ``n_train`` and ``score``; where present ``lo``, ``hi``, ``chance`` and the column ``by``: one
        curve each.

    Returns
    -------
    Axes

    Examples
    --------
    >>> table = pd.DataFrame({"n_train": [16, 64, 256], "test_score": [0.6, 0.8, 0.9], "method": "ridge"})
    >>> learning_curve(table).get_xscale()
    'log'
    """
    ax = _curve(table, "n_train", score, by, label, "Training clips", title, ax)
    counts = np.unique(table["n_train"].to_numpy())
    ax.set_xscale("log")
    ticks = counts if len(counts) <= 7 else counts[np.unique(np.linspace(0, len(counts) - 1, 6).astype(int))]
    ax.set_xticks(ticks, [f"{int(n):,}" for n in ticks])
    ax.set_xticks([], minor=True)
    return ax


def time_course(
    table: pd.DataFrame,
    score: str = "test_score",
    *,
    by: str = "site",
    events: dict[str, float] | None = None,
    label: str | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the score against the time in the clip.

    Parameters
    ----------
    table : DataFrame
        Columns ``time`` or ``seconds`` and ``score``; where present ``lo``, ``hi``, ``chance`` and the column ``by``.
    events : dict of str to float, optional
        Things that happen at a time in seconds (``{"drums enter": 1.5}``), as vertical lines.

    Returns
    -------
    Axes

    Examples
    --------
    >>> table = pd.DataFrame({"time": [0.0, 0.5, 1.0], "test_score": [0.5, 0.7, 0.9], "site": "L3.resid"})
    >>> time_course(table, events={"drums enter": 0.4}).get_xlabel()
    'Time in the clip (s)'
    """
    x = "seconds" if "time" not in table.columns and "seconds" in table.columns else "time"
    ax = _curve(table, x, score, by, label, "Time in the clip (s)", title, ax)
    for name, when in (events or {}).items():
        ax.axvline(when, color="#555555", lw=0.8, ls=":")
        ax.annotate(name, (when, 1), xycoords=("data", "axes fraction"), xytext=(2, -2), textcoords="offset points",
                    va="top", fontsize=6.5, color="#555555")  # fmt: skip
    return ax


@styled
def confusion(
    table: pd.DataFrame,
    *,
    true: str = "true",
    predicted: str = "predicted",
    count: str | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a confusion matrix: shares of each true class, with the counts.

    Parameters
    ----------
    table : DataFrame
        One row a clip with columns ``true`` and ``predicted``, or one row a cell with a column ``count``
        besides.

    Returns
    -------
    Axes

    Examples
    --------
    >>> table = pd.DataFrame({"true": ["piano", "piano", "flute"], "predicted": ["piano", "flute", "flute"]})
    >>> [text.get_text().splitlines()[0] for text in confusion(table).texts]
    ['100 %', '50 %', '50 %']
    """
    need(table, (true, predicted) if count is None else (true, predicted, count), "a confusion matrix")
    weights = pd.Series(1, index=table.index) if count is None else table[count]
    grid = weights.groupby([table[true], table[predicted]]).sum().unstack(fill_value=0)
    classes = list(grid.index) + [c for c in grid.columns if c not in grid.index]
    grid = grid.reindex(index=grid.index, columns=classes, fill_value=0)
    share = grid.div(grid.sum(axis=1), axis=0)
    size = 1.15 + 0.32 * len(classes)
    ax = axes(ax, width=min(max(size + 0.5, 2.2), SINGLE * 1.4), height=max(size, 1.8))
    cells(ax, share.to_numpy(float), grid.index, classes, limits=(0, 1))
    for (row, column), value in np.ndenumerate(share.to_numpy(float)):
        n = int(grid.iat[row, column])
        if n:
            tone = "black" if value > 0.5 else "white"
            text = f"{100 * value:.0f} %\n{n:,}"
            ax.text(column, row, text, ha="center", va="center", fontsize=5.5, linespacing=0.95, color=tone)
    ax.tick_params(axis="x", rotation=40)
    plt.setp(ax.get_xticklabels(), ha="right", rotation_mode="anchor")
    ax.set(xlabel="Predicted", ylabel="True", title=title or "")
    long = grid.stack().rename("count").reset_index()
    long.columns = [true, predicted, "count"]
    return remember(ax, long)
