"""Pictures of geometry: a table of :mod:`interp.geometry` in, an Axes out, in the look of :mod:`interp.plots`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from interp.errors import DataError
from interp.plots._style import COLOURS, DOUBLE, PALETTE, SINGLE, axes, colour, legend, need, remember, styled, subplots

__all__ = ["atlas", "by_size", "directions_map", "effect_against_detection", "matrix", "path", "plane"]

_MARKERS = ["o", "s", "^", "D", "v", "P", "X", "*"]


@styled
def matrix(
    cosines: pd.DataFrame, *, null: float | None = None, title: str | None = None, ax: Axes | None = None
) -> Axes:
    """Draw a matrix of cosines; give it :func:`interp.geometry.clustered` to have families side by side.

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
    """
    values = cosines.to_numpy(dtype=float)
    if values.ndim != 2 or values.shape[0] != values.shape[1] or not len(values):
        raise DataError(f"cannot draw a matrix of cosines of shape {values.shape}: give a square one.")
    side = float(np.clip(0.16 * len(values) + 1.6, SINGLE, DOUBLE))
    ax = axes(ax, width=side, height=side * 0.86)
    image = ax.imshow(values, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
    if null is not None:
        rows, columns = np.nonzero(np.abs(values) < null)
        ax.plot(columns, rows, ".", color="#555555", ms=max(1.0, 18 / len(values)), ls="none")
    size = float(np.clip(150 / len(values), 3.5, 7))
    ax.set_xticks(range(len(values)), cosines.columns, rotation=90, fontsize=size)
    ax.set_yticks(range(len(values)), cosines.index, fontsize=size)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
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
def atlas(
    table: pd.DataFrame,
    value: str = "cosine",
    *,
    kind: str = "heads",
    centre: float | None = 0.0,
    label: str | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw one number per layer and head, with a column for the residual stream where the table has it.

    Parameters
    ----------
    table : DataFrame
        Columns ``kind``, ``layer``, ``head`` and ``value``, one row a site.
    value : str
        The column to show.
    kind : str
        ``"heads"`` or ``"cross_heads"``.
    centre : float or None
        Middle of a two-sided colour scale; ``None`` for a one-sided one.
    label, title : str, optional
        Of the colour bar and of the axes.
    ax : Axes, optional
        Where to draw.
    """
    need(table, ("kind", "layer", "head", value), "an atlas")
    heads = table[table["kind"] == kind]
    if heads.empty or heads.duplicated(["layer", "head"]).any():
        raise DataError(f"an atlas needs exactly one row for each {kind} site; choose one trait and one pair first.")
    grid = heads.pivot(index="layer", columns="head", values=value).sort_index()
    resid = table[table["kind"] == "resid"].drop_duplicates("layer").set_index("layer")[value].reindex(grid.index)
    ax = axes(ax, height=0.28 * len(grid) + 1.2)
    cells = grid.to_numpy(dtype=float)
    ticks = [str(head) for head in grid.columns]
    if resid.notna().any():
        cells = np.column_stack([cells, np.full(len(cells), np.nan), resid.to_numpy(dtype=float)])
        ticks += ["", "resid"]
    if centre is None:
        image = ax.imshow(cells, cmap="cividis", aspect="auto", interpolation="nearest")
    else:
        reach = float(np.nanmax(np.abs(cells - centre))) or 1.0
        image = ax.imshow(
            cells, cmap="RdBu_r", vmin=centre - reach, vmax=centre + reach, aspect="auto", interpolation="nearest"
        )
    ax.set_xticks(range(len(ticks)), ticks)
    ax.set_yticks(range(len(grid)), [str(layer) for layer in grid.index])
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    ax.set(xlabel="Head", ylabel="Layer", title=title or "")
    ax.figure.colorbar(image, ax=ax, label=label or value.replace("_", " "))
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
    """
    need(table, ("along", "across", "label"), "a plane")
    ax = axes(ax, height=3.0)
    for index, (name, rows) in enumerate(table.groupby("label", sort=True)):
        tone = PALETTE[index % len(PALETTE)]
        ax.plot(rows["along"], rows["across"], "o", ms=2, mec="none", alpha=0.35, color=tone, rasterized=True)
        centre, spread = rows[["along", "across"]].mean(), np.cov(rows["along"], rows["across"])
        ax.plot(*_ellipse(centre.to_numpy(), spread), color=tone, lw=1)
        ax.plot(*centre, _MARKERS[index % len(_MARKERS)], color=tone, mec="white", ms=7, label=str(name))
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
def directions_map(table: pd.DataFrame, by: str = "label", *, shape: str = "method", axs: Any = None) -> np.ndarray:
    """Draw all directions in two dimensions: UMAP, and beside it PCA, each with its trustworthiness.

    Parameters
    ----------
    table : DataFrame
        From :func:`interp.geometry.map_directions`.
    by, shape : str
        Columns that give the colour and the marker.
    axs : array of Axes, optional
        Two axes to draw on.
    """
    need(table, ("umap_1", "umap_2", "pca_1", "pca_2", by, shape), "a map of directions")
    if axs is None:
        _, axs = subplots(1, 2, width=DOUBLE, height=3.0)
    panels = np.asarray(axs, dtype=object).ravel()
    colours = {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(sorted(table[by].unique(), key=str))}
    markers = {name: _MARKERS[i % len(_MARKERS)] for i, name in enumerate(sorted(table[shape].unique(), key=str))}
    for ax, way in zip(panels, ("umap", "pca"), strict=True):
        for (tone, mark), rows in table.groupby([by, shape], sort=True):
            label = f"{tone}, {mark}" if len(markers) > 1 else str(tone)
            ax.plot(
                rows[f"{way}_1"], rows[f"{way}_2"], markers[mark], ls="none", ms=4, mec="none", alpha=0.8,
                color=colours[tone], label=label if way == "umap" else None,
            )  # fmt: skip
        trust = table.attrs.get(f"{way}_trust")
        ax.set_title(way.upper() + (f", trustworthiness {trust:.2f}" if trust is not None else ""))
        ax.set_xticks([])
        ax.set_yticks([])
    panels[0].figure.legend(loc="outside lower center", ncols=3, fontsize=7)
    remember(panels[0], table)
    return panels


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
    """
    need(table, ("method", "trait", detection, effect), "effect against detection")
    ax = axes(ax, height=2.8)
    traits = list(dict.fromkeys(table["trait"]))
    for index, (method, rows) in enumerate(table.groupby("method", sort=False)):
        tone = colour(str(method), index)
        for trait, part in rows.groupby("trait", sort=False):
            mark = _MARKERS[traits.index(trait) % len(_MARKERS)]
            label = str(method) if trait == rows["trait"].iloc[0] else None
            ax.plot(part[detection], part[effect], mark, color=tone, ms=5, mec="white", mew=0.4, label=label)
            if {f"{effect}_lo", f"{effect}_hi"} <= set(part.columns):
                ax.vlines(part[detection], part[f"{effect}_lo"], part[f"{effect}_hi"], color=tone, lw=0.8, alpha=0.7)
    for index, trait in enumerate(traits):
        ax.plot([], [], _MARKERS[index % len(_MARKERS)], color="#777777", label=str(trait))
    ax.axhline(0, color="black", lw=0.5)
    ax.set(xlabel="Detects (held-out score)", ylabel="Steers (effect on the judged share)", title=title or "")
    legend(ax, columns=3)
    return remember(ax, table)
