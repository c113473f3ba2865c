"""Where a trait can be read: heat map, ranking, baselines, learning curve, time course, confusion."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from interp.errors import DataError
from interp.plots._style import (
    COLOURS,
    MARKERS,
    SINGLE,
    axes,
    colour,
    errorbars,
    legend,
    need,
    only,
    remember,
    styled,
)

__all__ = ["baselines", "confusion", "heatmap", "learning_curve", "ranking", "time_course"]

LABELS = {
    "test_score": "Held-out accuracy",
    "cv_score": "Cross-validated accuracy",
    "score": "Score",
    "auroc": "AUROC",
    "cosine": "Cosine",
}


def _label(column: str, label: str | None, table: pd.DataFrame | None = None) -> str:
    if label is not None:
        return label
    named = (
        table["score"].dropna().unique() if table is not None and "score" in table.columns and column != "score" else []
    )
    if len(named) == 1 and column in ("test_score", "cv_score"):
        words = {"auroc": "AUROC", "r2": "R²", "f1": "F1"}.get(str(named[0]), str(named[0]).replace("_", " "))
        return f"{'Held-out' if column == 'test_score' else 'Cross-validated'} {words}"
    return LABELS.get(column, column.replace("_", " ").capitalize())


@styled
def heatmap(
    table: pd.DataFrame,
    score: str = "test_score",
    *,
    trait: str | None = None,
    method: str | None = None,
    kind: str = "heads",
    reduce: str | None = None,
    label: str | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw one score per layer and head.

    Heads that are not above the null of the best head (column ``p_max`` at least .05) are hatched.

    Parameters
    ----------
    table : DataFrame
        Columns ``layer``, ``head`` and ``score``; where present, ``kind``, ``trait``, ``method``, ``chance``,
        ``p_max``.
    score : str
        The column to show.
    trait, method : str, optional
        Which rows to take; needed where the table holds several.
    kind : str
        Kind of site, ``"heads"`` or ``"cross_heads"``.
    reduce : str, optional
        How several rows of one head become one number (``"mean"``, ``"max"``, ...); without it they are refused.
    label, title : str, optional
        Of the colour bar and of the axes.
    ax : Axes, optional
        Where to draw.

    Returns
    -------
    Axes

    Raises
    ------
    DataError
        If columns are missing, or a head has several rows and ``reduce`` is not given.
    """
    need(table, ("layer", "head", score), "a heat map of heads")
    if "kind" in table.columns:
        table = table[table["kind"] == kind]
    if reduce is None:
        table = only(table, "a heat map of heads", trait=trait, method=method)
    elif trait is not None or method is not None:
        table = only(table, "a heat map of heads", **{k: v for k, v in (("trait", trait), ("method", method)) if v})
    table = table.dropna(subset=["layer", "head"])
    need(table, (), f"a heat map of {kind}")
    columns = [score, *(c for c in ("p_max", "chance") if c in table.columns and c != score)]
    groups = table.groupby(["layer", "head"], sort=True)[columns]
    rows_each = len(table) / groups.ngroups
    if reduce is None and rows_each > 1:
        raise DataError(
            f"cannot draw a heat map of heads: {len(table)} rows for {groups.ngroups} heads; "
            'choose rows so that each head has one, or say reduce="mean".'
        )
    shown = groups.agg(reduce or "first").reset_index()
    shown = shown.astype({"layer": int, "head": int})
    grid = shown.pivot_table(index="layer", columns="head", values=score, dropna=False)
    n_layers, n_heads = grid.shape
    small = n_layers * n_heads <= 96
    ax = axes(ax, height=float(np.clip(0.75 + 0.26 * n_layers, 1.8, 4.5)))
    values = grid.to_numpy(float)
    low, high = np.nanmin(values), np.nanmax(values)
    chance = float(shown["chance"].median()) if "chance" in shown else None
    if chance is not None and np.isfinite(chance):
        low = min(low, chance)
    image = ax.imshow(values, aspect="auto", origin="upper", vmin=low, vmax=high if high > low else low + 1e-9)
    every = 1 if max(n_layers, n_heads) <= 12 else 4
    ax.set_xticks(range(0, n_heads, every), [str(v) for v in grid.columns[::every]])
    ax.set_yticks(range(0, n_layers, every), [str(v) for v in grid.index[::every]])
    ax.set(xlabel="Head", ylabel="Layer", title=title or "")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    if "p_max" in shown:
        nothing = shown.pivot_table(index="layer", columns="head", values="p_max", dropna=False).to_numpy(float) >= 0.05
        for layer, head in zip(*np.nonzero(nothing), strict=True):
            box = Rectangle((head - 0.5, layer - 0.5), 1, 1, fill=False, hatch="////", lw=0, ec="white", alpha=0.45)
            ax.add_patch(box)
        if nothing.any():
            ax.text(
                1.0, 1.01, "hatched: not above the best head of shuffled labels (p ≥ .05)",
                transform=ax.transAxes, ha="right", va="bottom", fontsize=5.5, color="#444444",
            )  # fmt: skip
            ax.set_title(title or "", pad=12)
    if small:
        for (layer, head), value in np.ndenumerate(values):
            if np.isfinite(value):
                light = (value - low) / max(high - low, 1e-9) > 0.55
                text = f"{value:.2f}".removeprefix("0") if abs(value) < 1 else f"{value:.1f}"
                ax.text(head, layer, text, ha="center", va="center", fontsize=6, color="black" if light else "white")
    inches = ax.figure.get_size_inches()[1]  # type: ignore[union-attr]
    bar = ax.figure.colorbar(image, ax=ax, fraction=0.05, pad=0.02, aspect=max(8.0, 9 * (inches - 0.6)))
    bar.set_label(
        _label(score, label, table) + (f" ({reduce} of {rows_each:,.0f})" if reduce and rows_each > 1 else "")
    )
    bar.outline.set_visible(False)  # type: ignore[operator]
    if chance is not None and low <= chance <= high:
        bar.ax.axhline(chance, color="white", lw=2.2)
        bar.ax.axhline(chance, color="black", lw=1, ls="--")
    return remember(ax, shown)


@styled
def ranking(
    table: pd.DataFrame,
    score: str = "test_score",
    *,
    trait: str | None = None,
    method: str | None = None,
    top: int = 16,
    label: str | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the best sites with their intervals against what the best of all sites reaches on shuffled labels.

    The order is that of the cross-validated score (column ``cv_score``) where there is one, so that what is shown
    beside it was not chosen for being high. Up to 40 sites are named, one a line; more are drawn as a curve over rank.

    Parameters
    ----------
    table : DataFrame
        Columns ``site`` and ``score``; where present ``lo``, ``hi`` (interval), ``chance``, ``null_max_95``,
        ``kind``, ``trait``, ``method``, ``score`` (what kind of score). Rows of the kind ``baseline`` are
        lines to compare with.
    score, trait, method, label, title, ax
        As in :func:`heatmap`.
    top : int
        How many sites to show.

    Returns
    -------
    Axes
    """
    need(table, ("site", score), "a ranking")
    table = only(table, "a ranking", trait=trait, method=method)
    based = table["kind"] == "baseline" if "kind" in table.columns else table["site"] == "mel"
    reference, sites = table[based], table[~based]
    by = "cv_score" if "cv_score" in sites.columns else score
    shown = sites.nlargest(top, by).reset_index(drop=True)
    need(shown, (), "a ranking")
    named = len(shown) <= 40
    ax = axes(ax, height=0.9 + 0.135 * len(shown) if named else 2.4)
    line, band = (ax.axvline, ax.axvspan) if named else (ax.axhline, ax.axhspan)
    low = float(np.nanmin(shown[["lo", score] if "lo" in shown else [score]].to_numpy(float)))
    chance = float(sites["chance"].median()) if "chance" in sites else np.nan
    null = float(sites["null_max_95"].max()) if "null_max_95" in sites else np.nan
    if np.isfinite(chance):
        line(chance, color="black", lw=0.8, ls="--", zorder=1, label="chance")
        low = min(low, chance)
    if np.isfinite(null):
        band(chance if np.isfinite(chance) else low, null, color="#DDDDDD", lw=0, zorder=0,
             label=f"best of {_family(sites):,} on shuffled labels, 95 %")  # fmt: skip
    for index, (name, rows) in enumerate(reference.groupby("site", sort=False)):
        tone = colour(str(name), 3 + index)
        line(float(rows[score].max()), color=tone, lw=1.2, ls=":", zorder=1, label=f"probe on {name}")
    bars = errorbars(shown, score)
    if named:
        y = np.arange(len(shown))
        kinds = shown["kind"] if "kind" in shown else pd.Series("heads", index=shown.index)
        for index, kind in enumerate(sorted(kinds.unique())):
            rows = (kinds == kind).to_numpy()
            ax.errorbar(
                shown.loc[rows, score], y[rows], xerr=None if bars is None else bars[:, rows], fmt=MARKERS[index],
                color=colour(str(kind), index), elinewidth=0.9, label=None if kinds.nunique() == 1 else str(kind),
            )  # fmt: skip
        ax.set_yticks(y, shown["site"].astype(str))
        ax.set_ylim(len(shown) - 0.4, -0.6)
        ax.set(xlabel=_label(score, label, table) + (" (95 % interval)" if bars is not None else ""), title=title or "")
        ax.grid(axis="y", color="#EEEEEE", lw=0.6)
        ax.tick_params(axis="y", length=0)
    else:
        rank = np.arange(1, len(shown) + 1)
        if bars is not None:
            value = shown[score].to_numpy(float)
            ax.fill_between(
                rank, value - bars[0], value + bars[1], color=COLOURS["sky"], alpha=0.35, lw=0, label="95 % interval"
            )
        ax.plot(rank, shown[score], color=COLOURS["blue"])
        ax.set_xscale("log")
        ticks = [10**power for power in range(int(np.log10(len(shown))) + 1)]
        ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        ax.set(xlabel="Rank of the site", ylabel=_label(score, label, table), title=title or "")
    legend(ax)
    return remember(ax, pd.concat([shown, reference]) if len(reference) else shown)


def _family(sites: pd.DataFrame) -> int:
    """How many sites the null of the best is over: those of the largest kind."""
    return int(sites["kind"].value_counts().iloc[0]) if "kind" in sites.columns else len(sites)


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
    ax.set(ylabel=_label(score, label, table), title=title or "")
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
    ax.set(xlabel=xlabel, ylabel=_label(score, label, table), title=title or "")
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
    """
    need(table, (true, predicted) if count is None else (true, predicted, count), "a confusion matrix")
    weights = pd.Series(1, index=table.index) if count is None else table[count]
    grid = weights.groupby([table[true], table[predicted]]).sum().unstack(fill_value=0)
    classes = list(grid.index) + [c for c in grid.columns if c not in grid.index]
    grid = grid.reindex(index=grid.index, columns=classes, fill_value=0)
    share = grid.div(grid.sum(axis=1), axis=0)
    size = 1.15 + 0.32 * len(classes)
    ax = axes(ax, width=min(max(size + 0.5, 2.2), SINGLE * 1.4), height=max(size, 1.8))
    ax.imshow(share, vmin=0, vmax=1, cmap="cividis", aspect="auto")
    for (row, column), value in np.ndenumerate(share.to_numpy(float)):
        n = int(grid.iat[row, column])
        if n:
            tone = "black" if value > 0.5 else "white"
            text = f"{100 * value:.0f} %\n{n:,}"
            ax.text(column, row, text, ha="center", va="center", fontsize=5.5, linespacing=0.95, color=tone)
    ax.set_xticks(range(len(classes)), [str(c) for c in classes], rotation=40, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(grid)), [str(c) for c in grid.index])
    ax.set(xlabel="Predicted", ylabel="True", title=title or "")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    long = grid.stack().rename("count").reset_index()
    long.columns = [true, predicted, "count"]
    return remember(ax, long)
