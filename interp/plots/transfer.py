"""Transfer between classes: strength by layer, the fusion curve, a switch in time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.patches import Rectangle

from interp.errors import DataError
from interp.plots.style import DOUBLE, MARKERS, PALETTE, cells, colour, need, remember, styled, subplots

__all__ = ["fusion", "strength_by_layer", "switch"]


@styled
def strength_by_layer(
    table: pd.DataFrame,
    panel: str = "panel",
    score: str = "rate",
    *,
    bad: float = 0.25,
    label: str = "Target heard",
    xlabel: str | Mapping[str, str] = "Strength",
) -> np.ndarray:
    """Draw one heat map a panel: layers down, strengths across, the share in words; crossed out where it is no music.

    Parameters
    ----------
    table : DataFrame
        Columns ``layer``, ``amount``, ``panel``, ``score``, and ``not_music`` where present; one row a cell.
    panel : str
        Column that names the panels; three stand in a row.
    score : str
        The column to show, between 0 and 1.
    bad : float
        Share of ``not_music`` above which a cell is hatched.
    label : str
        Of the colour bar.
    xlabel : str or mapping of panel to str
        Of the horizontal axes.

    Returns
    -------
    ndarray of Axes, shape [panels]

    Raises
    ------
    DataError
        If a column is missing or a cell has several rows.

    Examples
    --------
    >>> table = pd.DataFrame({"layer": [2, 2, 3, 3], "amount": [1, 2, 1, 2], "panel": "ridge",
    ...     "rate": [0.1, 0.4, 0.5, 0.9]})
    >>> [panel.get_title() for panel in strength_by_layer(table)]
    ['ridge']
    """
    need(table, ("layer", "amount", panel, score), "strength by layer")
    if table.duplicated([panel, "layer", "amount"]).any():
        raise DataError("cannot draw strength by layer: a layer and strength has several rows; average them first.")
    names = list(table[panel].unique())
    columns = min(3, len(names))
    lines = -(-len(names) // columns)
    layers = table["layer"].nunique()
    height = lines * float(np.clip(0.9 + 0.17 * layers, 1.5, 4.5))
    figure, grid = subplots(lines, columns, width=DOUBLE * max(columns, 2) / 3, height=height, squeeze=False)
    panels = list(grid.ravel())
    image = None
    for at, (ax, name) in enumerate(zip(panels, names, strict=False)):
        part = table[table[panel] == name]
        shown = part.pivot_table(index="layer", columns="amount", values=score)
        values = shown.to_numpy(float)
        every = 1 if layers <= 12 else 4
        image = cells(ax, values, shown.index, [""] * shown.shape[1], limits=(0, 1), every=every)
        ax.set_xticks(range(shown.shape[1]), [f"{v:g}" for v in shown.columns])
        ruined = (
            part.pivot_table(index="layer", columns="amount", values="not_music").to_numpy(float) > bad
            if "not_music" in part
            else np.zeros(values.shape, bool)
        )
        for (row, column), value in np.ndenumerate(values):
            if ruined[row, column]:
                box = Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, hatch="////", lw=0, ec="white", alpha=0.6)
                ax.add_patch(box)
            if np.isfinite(value) and layers <= 12:
                tone = "white" if value < 0.55 else "black"
                ax.text(column, row, f"{value:.0%}", ha="center", va="center", fontsize=5.5, color=tone)
        words = xlabel if isinstance(xlabel, str) else xlabel[str(name)]
        ax.set(title=str(name), xlabel=words if at + columns >= len(names) else "")
        ax.set_ylabel("Layer" if ax in grid[:, 0] else "")
        remember(ax, part)
    for ax in panels[len(names) :]:
        ax.set_visible(False)
    bar = figure.colorbar(image, ax=list(grid.ravel()), fraction=0.02, pad=0.01, label=label)
    bar.outline.set_visible(False)
    return np.asarray(panels[: len(names)], dtype=object)


@styled
def fusion(table: pd.DataFrame, *, names: tuple[str, str] = ("A", "B"), title: str = "") -> np.ndarray:
    """Draw what is heard against the fusion ratio: the judged mix, and both classes' shares.

    Parameters
    ----------
    table : DataFrame
        Columns ``method``, ``ratio`` (weight of the second class), ``mix`` (its part in the two classes'
        probabilities) with ``mix_lo``, ``mix_hi``, and the shares ``heard_a``, ``heard_b``, ``both``.
    names : tuple of str
        The two classes.
    title : str
        Of the left panel.

    Returns
    -------
    ndarray of Axes, shape [2]

    Examples
    --------
    >>> table = pd.DataFrame({"method": "mix", "ratio": [0.0, 0.5, 1.0], "mix": [0.1, 0.5, 0.9],
    ...     "mix_lo": [0.0, 0.4, 0.8]})
    >>> table = table.assign(mix_hi=table["mix"] + 0.1, heard_a=[0.9, 0.4, 0.0], heard_b=[0.0, 0.4, 0.9],
    ...     both=[0.0, 0.2, 0.0])
    >>> fusion(table, names=("jazz", "rock")).shape
    (2,)
    """
    need(table, ("method", "ratio", "mix", "heard_a", "heard_b", "both"), "a fusion curve")
    figure, panels = subplots(1, 2, width=DOUBLE, height=2.7)
    left, right = panels
    left.plot([0, 1], [0, 1], color="black", lw=0.7, ls=":", label="as asked")
    methods = list(table["method"].unique())
    for index, name in enumerate(methods):
        rows = table[table["method"] == name].sort_values("ratio")
        tone = colour(str(name), index)
        x = rows["ratio"] + (index - (len(methods) - 1) / 2) * 0.012
        style: dict[str, Any] = {"color": tone, "marker": MARKERS[index % len(MARKERS)], "ms": 3.5}
        low = np.clip(rows["mix"] - rows["mix_lo"], 0, None)
        high = np.clip(rows["mix_hi"] - rows["mix"], 0, None)
        left.errorbar(x, rows["mix"], yerr=[low, high], lw=1.1, elinewidth=0.7, capsize=1.5, label=str(name), **style)
        if name != "random":
            right.plot(x, rows["heard_a"] + rows["heard_b"], lw=1.1, label=str(name), **style)
            right.plot(x, rows["both"], lw=0.9, ls="--", **style)
    left.set(
        xlabel=f"Fusion ratio (0: {names[0]}, 1: {names[1]})", title=title,
        ylabel=f"Judged mix (part of {names[1]})", ylim=(-0.03, 1.03),
    )  # fmt: skip
    right.set(
        xlabel=f"Fusion ratio (0: {names[0]}, 1: {names[1]})", ylabel="Share of clips", ylim=(-0.03, 1.03),
        title="solid: heard as one of the two; dashed: both plausible",
    )  # fmt: skip
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=6.5)
    remember(left, table)
    return np.asarray(panels, dtype=object)


@styled
def switch(
    table: pd.DataFrame,
    at: float,
    *,
    names: tuple[str, str] = ("A", "B"),
    window: float = 1.0,
    arms: tuple[str, ...] = (),
) -> np.ndarray:
    """Draw two classes' judged probabilities over the time in the clip, one panel an arm.

    Parameters
    ----------
    table : DataFrame
        Columns ``method``, ``seconds`` (middle of the window), ``p_a``, ``p_b`` and their ``_lo``, ``_hi``.
    at : float
        Second of the switch: a vertical line.
    names : tuple of str
        The class before and the one after.
    window : float
        Length of the judged window, shown as a band: within it the judge hears both sides.
    arms : tuple of str
        Which arms to draw, in this order; all by default.

    Returns
    -------
    ndarray of Axes, shape [arms]

    Examples
    --------
    >>> table = pd.DataFrame({"method": "switch", "seconds": [1.0, 2.0, 3.0], "p_a": [0.9, 0.5, 0.1],
    ...     "p_b": [0.1, 0.5, 0.9]})
    >>> for name in ("p_a", "p_b"):
    ...     table[f"{name}_lo"], table[f"{name}_hi"] = table[name] - 0.1, table[name] + 0.1
    >>> switch(table, at=2.0, names=("jazz", "rock")).shape
    (1,)
    """
    need(table, ("method", "seconds", "p_a", "p_b"), "a switch in time")
    chosen = list(arms or table["method"].unique())
    figure, grid = subplots(1, len(chosen), width=DOUBLE, height=2.3, sharey=True, squeeze=False)
    for ax, arm in zip(grid[0], chosen, strict=True):
        rows = table[table["method"] == arm].sort_values("seconds")
        ax.axvspan(at - window / 2, at + window / 2, color="black", alpha=0.06, lw=0)
        ax.axvline(at, color="black", lw=0.8, ls="--")
        for side, name, tone, mark in (("a", names[0], PALETTE[0], "o"), ("b", names[1], PALETTE[1], "s")):
            ax.plot(rows["seconds"], rows[f"p_{side}"], color=tone, marker=mark, ms=2.5, label=name)
            if f"p_{side}_lo" in rows:
                ax.fill_between(
                    rows["seconds"].to_numpy(float), rows[f"p_{side}_lo"].to_numpy(float),
                    rows[f"p_{side}_hi"].to_numpy(float), color=tone, alpha=0.2, lw=0,
                )  # fmt: skip
        ax.set(title=arm, xlabel="Middle of the window (s)", ylim=(-0.03, 1.03))
        remember(ax, rows)
    grid[0, 0].set_ylabel("Judged probability")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=6.5)
    return np.asarray(grid[0], dtype=object)
