"""How directions lie to each other, and how clips lie in the space of a site."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from interp.plots._style import COLOURS, DOUBLE, PALETTE, axes, legend, need, remember, styled, subplots

__all__ = ["cosines", "embedding"]

LEGEND = {
    "null": "unrelated directions, 95 %",
    "site": "one site",
    "median": "median of the sites",
    "ceiling": "split-half ceiling (median)",
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
        (what unrelated directions of this dimension reach) and ``ceiling`` (what the same method reaches on two
        halves of the clips).
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
    """
    need(table, (*pair, score), "cosines")
    pairs = [(str(a), str(b)) for a, b in table[list(pair)].drop_duplicates().itertuples(index=False)]
    ax = axes(ax, height=2.5)
    rng = np.random.default_rng(0)  # sideways jitter only
    for x, (_, rows) in enumerate(table.groupby(list(pair), sort=False)):
        shown = dict.fromkeys(("null", "site", "median", "ceiling"), "") if x else LEGEND
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
def embedding(
    table: pd.DataFrame,
    label: str,
    *,
    titles: dict[str, str] | None = None,
    axs: Any = None,
) -> np.ndarray:
    """Draw clips in two dimensions, coloured by a label: UMAP, and beside it the first two principal components.

    Parameters
    ----------
    table : DataFrame
        What :func:`interp.embed.embed` returns (columns ``umap_1``, ``umap_2``, ``pca_1``, ``pca_2``, one row a clip)
        with the label joined on. Its ``attrs`` (trustworthiness, explained variance) are printed above the panels.
    label : str
        The column that colours the points: a few classes, or numbers (then with a colour bar).
    titles : dict of str to str, optional
        Instead of the panels' own titles, by method (``"umap"``, ``"pca"``).
    axs : array of Axes, optional
        Two axes to draw on.

    Returns
    -------
    ndarray of Axes, shape [2]
    """
    need(table, ("umap_1", "umap_2", "pca_1", "pca_2", label), "an embedding")
    if axs is None:
        _, axs = subplots(1, 2, width=DOUBLE * 0.75, height=2.6)
    panels = np.asarray(axs, dtype=object).ravel()
    values = table[label]
    graded = pd.api.types.is_float_dtype(values) or (pd.api.types.is_numeric_dtype(values) and values.nunique() > 8)
    size = float(np.clip(3000 / max(len(table), 1), 1.5, 14))
    attrs = table.attrs
    own = {
        "umap": "UMAP" + (f", trustworthiness {attrs['umap_trust']:.2f}" if "umap_trust" in attrs else ""),
        "pca": "PCA" + (f", trustworthiness {attrs['pca_trust']:.2f}" if "pca_trust" in attrs else ""),
    }
    explained = attrs.get("explained", (np.nan, np.nan))
    points = None
    for ax, method in zip(panels, ("umap", "pca"), strict=True):
        x, y = table[f"{method}_1"], table[f"{method}_2"]
        if graded:
            points = ax.scatter(x, y, c=values, s=size, lw=0, cmap="cividis", rasterized=len(table) > 5000)
        else:
            classes = sorted(values.dropna().unique(), key=str)
            for index, one in enumerate(classes):
                rows = (values == one).to_numpy()
                tone = PALETTE[index % len(PALETTE)]
                ax.scatter(
                    x[rows],
                    y[rows],
                    s=size,
                    lw=0,
                    alpha=0.75,
                    color=tone,
                    label=f"{label}: {one}" if method == "umap" else None,
                )
        ax.set_title({**own, **(titles or {})}[method])
        ax.set_xticks([])
        ax.set_yticks([])
        ax.spines[:].set_visible(True)
        ax.spines[:].set_color("#BBBBBB")
    panels[0].set(xlabel="UMAP 1", ylabel="UMAP 2")
    share = [f" ({100 * part:.0f} %)" if np.isfinite(part) else "" for part in explained]
    panels[1].set(xlabel=f"PC 1{share[0]}", ylabel=f"PC 2{share[1]}")
    if points is not None:
        panels[0].figure.colorbar(points, ax=list(panels), fraction=0.03, pad=0.02, label=label)
    else:
        below = panels[0].figure.legend(loc="outside lower center", ncols=4, markerscale=1.6)
        for handle in below.legend_handles:
            handle.set_alpha(1)
    remember(panels[0], table)
    return panels
