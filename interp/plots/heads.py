"""Where a trait can be read: one number a head, and the ranking of sites."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from interp.errors import DataError
from interp.plots.style import COLOURS, MARKERS, axes, cells, colour, errorbars, legend, need, only, remember, styled

__all__ = ["heatmap", "ranking"]

LABELS = {
    "test_score": "Held-out accuracy",
    "cv_score": "Cross-validated accuracy",
    "score": "Score",
    "auroc": "AUROC",
    "cosine": "Cosine",
}


def score_label(column: str, label: str | None, table: pd.DataFrame | None = None) -> str:
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
    centre: float | None = None,
    reduce: str | None = None,
    label: str | None = None,
    null: str = "the best head of shuffled labels",
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw one number per layer and head, and a column for the residual stream where the table has it.

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
    centre : float, optional
        Middle of a two-sided colour scale, for numbers with a sign (0 for cosines).
    reduce : str, optional
        How several rows of one head become one number (``"mean"``, ``"max"``, ...); without it they are refused.
    label, title : str, optional
        Of the colour bar and of the axes.
    null : str
        What ``p_max`` compares with, in words.
    ax : Axes, optional
        Where to draw.

    Returns
    -------
    Axes

    Raises
    ------
    DataError
        If columns are missing, or a head has several rows and ``reduce`` is not given.

    Examples
    --------
    >>> table = pd.DataFrame({"layer": [0, 0, 1, 1], "head": [0, 1, 0, 1], "test_score": [0.5, 0.6, 0.9, 0.7],
    ...     "kind": "heads"})
    >>> ax = heatmap(table, title="drums")
    >>> ax.images[0].get_array().shape
    (2, 2)
    """
    need(table, ("layer", "head", score), "a heat map of heads")
    if reduce is None or trait is not None or method is not None:
        table = _rows(table, kind, trait, method, open_choice=reduce is not None)
    stream = table[table["kind"] == "resid"] if "kind" in table.columns else table.iloc[:0]
    heads = (table[table["kind"] == kind] if "kind" in table.columns else table).dropna(subset=["layer", "head"])
    need(heads, (), f"a heat map of {kind}")
    columns = [score, *(c for c in ("p_max", "chance") if c in heads.columns and c != score)]
    groups = heads.groupby(["layer", "head"], sort=True)[columns]
    rows_each = len(heads) / groups.ngroups
    if reduce is None and rows_each > 1:
        raise DataError(
            f"cannot draw a heat map of heads: {len(heads)} rows for {groups.ngroups} heads; "
            'choose rows so that each head has one, or say reduce="mean".'
        )
    shown = groups.agg(reduce or "first").reset_index().astype({"layer": int, "head": int})
    grid = shown.pivot_table(index="layer", columns="head", values=score, dropna=False)
    names = [str(head) for head in grid.columns]
    values = grid.to_numpy(float)
    if len(stream) and not stream.duplicated("layer").any() and stream[score].notna().any():
        resid = stream.set_index("layer")[score].reindex(grid.index).to_numpy(float)
        values, names = np.column_stack([values, np.full(len(values), np.nan), resid]), [*names, "", "resid"]
    chance = float(shown["chance"].median()) if "chance" in shown and centre is None else float("nan")
    low, high = _limits(values, centre, chance)
    size = max(grid.shape)
    ax = axes(ax, height=float(np.clip(0.75 + 0.26 * len(grid), 1.8, 4.5)))
    cmap = None if centre is None else "RdBu_r"
    image = cells(ax, values, grid.index, names, cmap=cmap, limits=(low, high), every=1 if size <= 12 else 4)
    ax.set(xlabel="Head", ylabel="Layer", title=title or "")
    if "p_max" in shown:
        hidden = shown.pivot_table(index="layer", columns="head", values="p_max", dropna=False).to_numpy(float) >= 0.05
        hatch(ax, hidden, title, null)
    if grid.size <= 96:
        _numbers(ax, values, low, high, two_sided=centre is not None)
    inches = ax.figure.get_size_inches()[1]  # type: ignore[union-attr]
    bar = ax.figure.colorbar(image, ax=ax, fraction=0.05, pad=0.02, aspect=max(8.0, 9 * (inches - 0.6)))
    several = f" ({reduce} of {rows_each:,.0f})" if reduce and rows_each > 1 else ""
    bar.set_label(score_label(score, label, heads) + several)
    bar.outline.set_visible(False)  # type: ignore[operator]
    if low <= chance <= high:
        bar.ax.axhline(chance, color="white", lw=2.2)
        bar.ax.axhline(chance, color="black", lw=1, ls="--")
    return remember(ax, shown)


def _rows(table: pd.DataFrame, kind: str, trait: str | None, method: str | None, *, open_choice: bool) -> pd.DataFrame:
    choice = {name: value for name, value in (("trait", trait), ("method", method)) if value or not open_choice}
    if "kind" in table.columns:
        table = table[table["kind"].isin([kind, "resid"])]
        need(table, (), f"a heat map of {kind}")
    return only(table, "a heat map of heads", **choice)


def _limits(values: NDArray[np.floating], centre: float | None, chance: float) -> tuple[float, float]:
    if centre is not None:
        reach = float(np.nanmax(np.abs(values - centre))) or 1.0
        return centre - reach, centre + reach
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    low = float(np.nanmin([low, chance]))
    return low, high if high > low else low + 1e-9


def hatch(ax: Axes, cells_hidden: NDArray[np.bool_], title: str | None, null: str) -> None:
    """Hatch the cells that do not stand out from a null, and say so."""
    for layer, head in zip(*np.nonzero(cells_hidden), strict=True):
        box = Rectangle((head - 0.5, layer - 0.5), 1, 1, fill=False, hatch="////", lw=0, ec="white", alpha=0.45)
        ax.add_patch(box)
    if cells_hidden.any():
        words = f"hatched: not above {null} (p ≥ .05)"
        ax.text(1.0, 1.01, words, transform=ax.transAxes, ha="right", va="bottom", fontsize=5.5, color="#444444")
        ax.set_title(title or "", pad=12)


def _numbers(ax: Axes, values: NDArray[np.floating], low: float, high: float, *, two_sided: bool) -> None:
    for (layer, head), value in np.ndenumerate(values):
        if not np.isfinite(value):
            continue
        share = (value - low) / max(high - low, 1e-9)
        dark = abs(share - 0.5) > 0.35 if two_sided else share <= 0.55
        rounded = round(float(value), 2) + 0.0  # no cell says minus nothing
        text = f"{rounded:.2f}".replace("0.", ".", 1) if abs(rounded) < 1 else f"{value:.1f}"
        ax.text(head, layer, text, ha="center", va="center", fontsize=6, color="white" if dark else "black")


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

    Examples
    --------
    >>> table = pd.DataFrame({"site": ["L0.H0", "L1.H0", "L1.H1"], "test_score": [0.6, 0.9, 0.7],
    ...     "lo": [0.5, 0.8, 0.6], "hi": [0.7, 0.95, 0.8]})
    >>> ax = ranking(table, top=2)
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['L1.H0', 'L1.H1']
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
        ax.set(
            xlabel=score_label(score, label, table) + (" (95 % interval)" if bars is not None else ""),
            title=title or "",
        )
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
        ax.set(xlabel="Rank of the site", ylabel=score_label(score, label, table), title=title or "")
    legend(ax)
    return remember(ax, pd.concat([shown, reference]) if len(reference) else shown)


def _family(sites: pd.DataFrame) -> int:
    """How many sites the null of the best is over: those of the largest kind."""
    return int(sites["kind"].value_counts().iloc[0]) if "kind" in sites.columns else len(sites)
