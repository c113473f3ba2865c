"""How directions lie to each other: cosines, paths of a penalty, planes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from interp.errors import DataError
from interp.plots.style import (
    COLOURS,
    DOUBLE,
    MARKERS,
    PALETTE,
    SINGLE,
    axes,
    cells,
    colour,
    legend,
    need,
    remember,
    styled,
)

__all__ = ["by_size", "cosines", "effect_against_detection", "matrix", "path", "plane"]

LEGEND = {
    "null": "unrelated directions, 95 %",
    "site": "one site",
    "median": "median of the sites",
    "ceiling": "split-half ceiling (median)",
    "shuffled": "shuffled labels, 95 % (median)",
}


@styled
def cosines(
    table: pd.DataFrame,
    *,
    score: str = "cosine",
    pair: tuple[str, str] = ("a", "b"),
    label: str | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the cosine of every pair of methods, one point a site, against the null and the split-half ceiling.

    Parameters
    ----------
    table : DataFrame
        Columns ``a`` and ``b`` (methods) and ``cosine``, one row a site; where present ``null_lo`` and ``null_hi``
        (what unrelated directions of this dimension reach), ``null_permuted`` (what the two methods reach on shuffled
        labels, which is the null to beat: both see the same activations) and ``ceiling`` (what the same method reaches
        on two halves of the clips).
    score : str
        The column with the cosine.
    pair : tuple of str
        The columns with the two methods.
    label, title : str, optional
        Of the vertical axis and of the axes.
    ax : Axes, optional
        Where to draw.

    Returns
    -------
    Axes

    Examples
    --------
    >>> table = pd.DataFrame({"site": ["L0.H0", "L0.H1"], "a": "logistic", "b": "ridge", "cosine": [0.8, 0.6],
    ...     "ceiling": 0.9})
    >>> cosines(table.assign(null_lo=-0.3, null_hi=0.3)).get_ylabel()
    'Cosine of the two directions'
    """
    need(table, (*pair, score), "cosines")
    pairs = [(str(a), str(b)) for a, b in table[list(pair)].drop_duplicates().itertuples(index=False)]
    ax = axes(ax, height=2.5)
    rng = np.random.default_rng(0)  # sideways jitter only
    for x, (_, rows) in enumerate(table.groupby(list(pair), sort=False)):
        shown = dict.fromkeys(LEGEND, "") if x else LEGEND
        if {"null_lo", "null_hi"} <= set(rows.columns):
            null = float(rows["null_lo"].median()), float(rows["null_hi"].median())
            ax.fill_between([x - 0.4, x + 0.4], *null, color="#DDDDDD", lw=0, zorder=0, label=shown["null"])
        ax.plot(
            x + rng.uniform(-0.26, 0.26, len(rows)), rows[score], "o", ms=2.6, mec="none", alpha=0.55, color=PALETTE[0],
            label=shown["site"], rasterized=len(rows) > 2000,
        )  # fmt: skip
        ax.hlines(float(rows[score].median()), x - 0.32, x + 0.32, color="black", lw=1.4, label=shown["median"])
        if "ceiling" in rows.columns and rows["ceiling"].notna().any():
            level = float(rows["ceiling"].median())
            tone = COLOURS["vermilion"]
            ax.hlines(level, x - 0.4, x + 0.4, color=tone, lw=1.2, ls=(0, (2, 1)), label=shown["ceiling"])
        if "null_permuted" in rows.columns and rows["null_permuted"].notna().any():
            level, tone = float(rows["null_permuted"].median()), COLOURS["green"]
            ax.hlines(level, x - 0.4, x + 0.4, color=tone, lw=1.2, ls=(0, (5, 1.5)), label=shown["shuffled"])
    ax.axhline(0, color="black", lw=0.5, zorder=1)
    lowest = float(np.nanmin(table[[c for c in (score, "null_lo") if c in table.columns]].to_numpy(float)))
    ax.set_ylim(min(-0.1, lowest - 0.08), 1.05)
    ax.set_xlim(-0.55, len(pairs) - 0.45)
    ax.tick_params(axis="x", length=0)
    reference = {a for a, _ in pairs}
    if len(pairs) > 1 and len(reference) == 1:  # said once, on the other axis
        label = label or f"Cosine with the {reference.pop()} direction"
        names = [str(b) for _, b in pairs]
    else:
        names = [f"{a}\n{b}" for a, b in pairs]
    turned: dict[str, Any] = {"rotation": 25, "ha": "right", "rotation_mode": "anchor"} if len(pairs) > 4 else {}
    ax.set_xticks(range(len(pairs)), names, linespacing=1.15, **turned)
    ax.set(ylabel=label or "Cosine of the two directions", title=title or "")
    legend(ax)
    return remember(ax, table)


@styled
def matrix(
    cosines: pd.DataFrame, *, null: float | None = None, title: str | None = None, ax: Axes | None = None
) -> Axes:
    """Draw a matrix of cosines; ``cosine_matrix(clustered=True)`` puts families side by side.

    Parameters
    ----------
    cosines : DataFrame
        Square, from :func:`interp.geometry.cosine_matrix`.
    null : float, optional
        Absolute cosines below this are dotted: unrelated directions reach them.
    title : str, optional
        Of the axes.
    ax : Axes, optional
        Where to draw.

    Examples
    --------
    >>> names = ["drums", "jazz"]
    >>> ax = matrix(pd.DataFrame([[1.0, 0.2], [0.2, 1.0]], names, names), null=0.3)
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['drums', 'jazz']
    """
    values = cosines.to_numpy(dtype=float)
    if values.ndim != 2 or values.shape[0] != values.shape[1] or not len(values):
        raise DataError(f"cannot draw a matrix of cosines of shape {values.shape}: give a square one.")
    side = float(np.clip(0.16 * len(values) + 1.6, SINGLE, DOUBLE))
    ax = axes(ax, width=side, height=side * 0.86)
    image = cells(ax, values, cosines.index, cosines.columns, cmap="RdBu_r", limits=(-1, 1))
    ax.set_aspect("equal")
    if null is not None:
        rows, columns = np.nonzero(np.abs(values) < null)
        ax.plot(columns, rows, ".", color="#555555", ms=max(1.0, 18 / len(values)), ls="none")
    size = float(np.clip(150 / len(values), 3.5, 7))
    ax.tick_params(axis="x", rotation=90, labelsize=size)
    ax.tick_params(axis="y", labelsize=size)
    ax.figure.colorbar(image, ax=ax, label="cosine")
    ax.set(title=title or "", xlabel=f"Dots: less than the null, {null:.2f}" if null is not None else "")
    return remember(ax, cosines.reset_index(names="direction"))


@styled
def path(
    table: pd.DataFrame,
    *,
    reference: str = "mean_diff",
    other: str = "lda",
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the angle to two fixed directions against the penalty: median over sites and the middle half of them.

    Parameters
    ----------
    table : DataFrame
        From :func:`interp.geometry.path_table`.
    reference, other : str
        Solid lines: angle to the first; dashed lines: angle to the second.
    title : str, optional
        Of the axes.
    ax : Axes, optional
        Where to draw.

    Examples
    --------
    >>> table = pd.DataFrame({"method": "ridge", "penalty": [0.1, 1.0], "angle_mean_diff": [60.0, 20.0],
    ...     "angle_lda": [10.0, 50.0]})
    >>> path(table, title="drums").get_xscale()
    'log'
    """
    need(table, ("method", "penalty", f"angle_{reference}", f"angle_{other}"), "a path")
    ax = axes(ax, height=2.6)
    for index, (method, rows) in enumerate(table.groupby("method", sort=False)):
        tone = colour(str(method), index)
        for name, style in ((reference, "-"), (other, (0, (3, 1.5)))):
            shares = rows.groupby("penalty")[f"angle_{name}"].quantile([0.25, 0.5, 0.75]).unstack()
            label = f"{method} to {name.replace('_', ' ')}"
            ax.plot(shares.index, shares[0.5], ls=style, color=tone, label=label)
            if name == reference:
                ax.fill_between(shares.index, shares[0.25], shares[0.75], color=tone, alpha=0.15, lw=0)
    ax.set_xscale("log")
    ax.set_ylim(bottom=0)
    ax.set(xlabel="Penalty (alpha of ridge, 1/C of logistic)", ylabel="Angle (degrees)", title=title or "")
    legend(ax)
    return remember(ax, table)


@styled
def plane(table: pd.DataFrame, *, title: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw clips and class means on the plane of two directions, with both directions as arrows.

    Parameters
    ----------
    table : DataFrame
        From :func:`interp.geometry.plane`.
    title : str, optional
        Of the axes.
    ax : Axes, optional
        Where to draw.

    Examples
    --------
    >>> points = np.random.default_rng(0).normal(size=(8, 2))
    >>> table = pd.DataFrame(points, columns=["along", "across"]).assign(label=["jazz", "rock"] * 4)
    >>> plane(table, title="genres").get_title()
    'genres'
    """
    need(table, ("along", "across", "label"), "a plane")
    ax = axes(ax, height=3.0)
    for index, (name, rows) in enumerate(table.groupby("label", sort=True)):
        tone = PALETTE[index % len(PALETTE)]
        ax.plot(rows["along"], rows["across"], "o", ms=2, mec="none", alpha=0.35, color=tone, rasterized=True)
        centre, spread = rows[["along", "across"]].mean(), np.cov(rows["along"], rows["across"])
        ax.plot(*_ellipse(centre.to_numpy(), spread), color=tone, lw=1)
        ax.plot(*centre, MARKERS[index % len(MARKERS)], color=tone, mec="white", ms=7, label=str(name))
    reach = 0.9 * float(np.abs(table[["along", "across"]].to_numpy()).max())
    for name, axis, tone in (
        (table.attrs.get("a", "a"), (1.0, 0.0), "black"),
        (table.attrs.get("b", "b"), table.attrs.get("b_axis", (0.0, 1.0)), COLOURS["vermilion"]),
    ):
        tip = (reach * float(axis[0]), reach * float(axis[1]))
        ax.annotate("", xy=tip, xytext=(0, 0), arrowprops={"arrowstyle": "->", "color": tone, "lw": 1.2})
        ax.annotate(str(name), tip, color=tone, fontsize=7, ha="center", va="bottom")
    ax.set_aspect("equal", adjustable="datalim")
    found = table.attrs.get("cosine")
    ax.set(
        xlabel="Along the first direction",
        ylabel="Across it, in their plane",
        title=title or (f"cosine {found:.2f}" if found is not None else ""),
    )
    legend(ax)
    return remember(ax, table)


def _ellipse(centre: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Points of the one-sigma ellipse, shape [2, points]."""
    values, vectors = np.linalg.eigh(covariance)
    turn = np.linspace(0, 2 * np.pi, 80)
    circle = np.stack([np.cos(turn), np.sin(turn)]) * np.sqrt(np.clip(values, 0, None))[:, None]
    return np.asarray(centre[:, None] + vectors @ circle)


@styled
def by_size(table: pd.DataFrame, *, title: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw how directions settle with clips: cosine of two disjoint subsamples (solid) and with all clips (dashed).

    Parameters
    ----------
    table : DataFrame
        From :func:`interp.geometry.cosine_by_size`.
    title : str, optional
        Of the axes.
    ax : Axes, optional
        Where to draw.

    Examples
    --------
    >>> table = pd.DataFrame({"method": "ridge", "size": [32, 32, 64, 64], "cosine_full": 0.9,
    ...     "cosine_disjoint": [0.5, 0.6, 0.7, 0.8]})
    >>> by_size(table).get_xlabel()
    'Clips'
    """
    need(table, ("method", "size", "cosine_full", "cosine_disjoint"), "cosines by sample size")
    ax = axes(ax, height=2.5)
    for index, (method, rows) in enumerate(table.groupby("method", sort=False)):
        tone = colour(str(method), index)
        curve = rows.groupby("size")[["cosine_disjoint", "cosine_full"]].quantile([0.25, 0.5, 0.75]).unstack()
        ax.plot(curve.index, curve["cosine_disjoint", 0.5], "o-", color=tone, label=f"{method}, disjoint clips")
        ax.fill_between(
            curve.index, curve["cosine_disjoint", 0.25], curve["cosine_disjoint", 0.75], color=tone, alpha=0.15, lw=0
        )
        ax.plot(curve.index, curve["cosine_full", 0.5], ls=(0, (3, 1.5)), color=tone, label=f"{method}, with all clips")
    ax.set_xscale("log")
    sizes = sorted(table["size"].unique())
    ax.set_xticks(sizes, [f"{size:g}" for size in sizes])
    ax.set_xticks([], minor=True)
    ax.set_ylim(top=1.02)
    ax.set(xlabel="Clips", ylabel="Cosine (median, middle half)", title=title or "")
    legend(ax)
    return remember(ax, table)


@styled
def effect_against_detection(
    table: pd.DataFrame,
    *,
    detection: str = "test_score",
    effect: str = "effect",
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw what pushing along a direction does against how well it detects, one point a method, trait and site.

    Parameters
    ----------
    table : DataFrame
        Columns ``method``, ``trait`` and the two scores; ``effect_lo`` and ``effect_hi`` where there are intervals.
    detection, effect : str
        The columns of the two axes.
    title : str, optional
        Of the axes.
    ax : Axes, optional
        Where to draw.

    Examples
    --------
    >>> table = pd.DataFrame({"method": ["ridge", "mean_diff"], "trait": "drums", "test_score": [0.95, 0.85],
    ...     "effect": [0.2, 0.7]})
    >>> effect_against_detection(table).get_xlabel()
    'Detects (held-out score)'
    """
    need(table, ("method", "trait", detection, effect), "effect against detection")
    ax = axes(ax, height=2.8)
    traits = list(dict.fromkeys(table["trait"]))
    for index, (method, rows) in enumerate(table.groupby("method", sort=False)):
        tone = colour(str(method), index)
        for trait, part in rows.groupby("trait", sort=False):
            mark = MARKERS[traits.index(trait) % len(MARKERS)]
            label = str(method) if trait == rows["trait"].iloc[0] else None
            ax.plot(part[detection], part[effect], mark, color=tone, ms=5, mec="white", mew=0.4, label=label)
            if {f"{effect}_lo", f"{effect}_hi"} <= set(part.columns):
                ax.vlines(part[detection], part[f"{effect}_lo"], part[f"{effect}_hi"], color=tone, lw=0.8, alpha=0.7)
    for index, trait in enumerate(traits):
        ax.plot([], [], MARKERS[index % len(MARKERS)], color="#777777", label=str(trait))
    ax.axhline(0, color="black", lw=0.5)
    ax.set(xlabel="Detects (held-out score)", ylabel="Steers (effect on the judged share)", title=title or "")
    legend(ax, columns=3)
    return remember(ax, table)
