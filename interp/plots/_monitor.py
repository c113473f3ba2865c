"""What a self-monitor heard over time, and when it let the push through."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.patches import Patch

from interp.errors import DataError
from interp.plots._style import COLOURS, SINGLE, need, remember, styled, subplots

__all__ = ["monitor"]


@styled
def monitor(
    table: pd.DataFrame,
    *,
    row: str = "row",
    rows: int = 4,
    compare: pd.DataFrame | None = None,
    labels: dict[Any, str] | None = None,
    title: str | None = None,
    axs: Any = None,
) -> np.ndarray:
    """Draw the monitor's probability over time, one panel a row of music, with the threshold and the interventions.

    Parameters
    ----------
    table : DataFrame
        Of :attr:`interp.steering.Generation.monitor`: ``row, seconds, C, tau, acted, decided_on``. A decision holds
        until the next one; where it was to act, the panel is shaded.
    row : str
        The column that tells rows apart.
    rows : int
        At most so many panels, in order.
    compare : DataFrame, optional
        The same music without a push, for the same rows: a thin grey line.
    labels : dict, optional
        Name of each row.
    title : str, optional
        Above the first panel.
    axs : array of Axes, optional
        Where to draw, one for each row.

    Returns
    -------
    ndarray of Axes, shape [rows]

    Raises
    ------
    DataError
        If a column is missing or there are fewer axes than rows.
    """
    need(table, (row, "seconds", "C", "tau", "acted", "decided_on"), "a monitor's trace")
    names = list(table[row].drop_duplicates())[:rows]
    if axs is None:
        axs = subplots(len(names), 1, width=SINGLE, height=0.72 * len(names) + 0.95, sharex=True, squeeze=False)[1]
    panels = np.asarray(axs, dtype=object).ravel()
    if len(panels) < len(names):
        raise DataError(f"{len(names)} rows of a monitor do not fit {len(panels)} axes: give one for each.")
    on, line, unsteered = COLOURS["orange"], COLOURS["blue"], COLOURS["grey"]
    for ax, name in zip(panels, names, strict=False):
        mine = table[table[row] == name].sort_values("seconds")
        for start, stop in _acting(mine):
            ax.axvspan(start, stop, color=on, alpha=0.25, lw=0, zorder=0)
        if compare is not None:
            other = compare[compare[row] == name].sort_values("seconds")
            ax.plot(other["seconds"], other["C"], color=unsteered, lw=0.8, zorder=2, label="C, unsteered")
        ax.plot(mine["seconds"], mine["C"], color=line, lw=1.1, zorder=3, label="C, steered")
        ax.axhline(float(mine["tau"].iloc[0]), color="black", lw=0.8, ls="--", zorder=2, label="threshold τ")
        ax.set(ylim=(-0.03, 1.03), yticks=(0, 0.5, 1))
        ax.set_ylabel((labels or {}).get(name, f"Row {name}"), fontsize=7)
        ax.margins(x=0)
        remember(ax, mine)
    panels[len(names) - 1].set_xlabel("Time in the clip (s)")
    panels[0].set_title(title or "Probability of the trait (median of heads)")
    handles, words = panels[0].get_legend_handles_labels()
    panels[0].figure.legend(
        [*handles, Patch(color=on, alpha=0.25, lw=0)], [*words, "intervening"], loc="outside lower center", ncols=2,
        fontsize=6.5,
    )  # fmt: skip
    return panels


def _acting(mine: pd.DataFrame) -> list[tuple[float, float]]:
    """Times between which the last decision was to act, neighbours joined."""
    seconds = mine["seconds"].to_numpy(float)
    step = float(np.median(np.diff(seconds))) if len(seconds) > 1 else 0.02
    decided = mine["decided_on"].notna().to_numpy()
    at, acted = seconds[decided], mine["acted"].to_numpy(bool)[decided]
    ends = np.append(at[1:], seconds[-1] + step)
    spans: list[tuple[float, float]] = []
    for start, stop, on in zip(at, ends, acted, strict=True):
        if not on:
            continue
        if spans and start - spans[-1][1] < step / 2:
            spans[-1] = (spans[-1][0], float(stop))
        else:
            spans.append((float(start), float(stop)))
    return spans
