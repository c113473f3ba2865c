"""Clips and directions in two dimensions: UMAP beside PCA."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from interp.plots.style import DOUBLE, MARKERS, PALETTE, need, remember, styled, subplots

__all__ = ["directions_map", "embedding"]


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
        What :func:`interp.geometry.project` returns (columns ``umap_1``, ``umap_2``, ``pca_1``, ``pca_2``, one row a
        clip) with the label joined on. Its ``attrs`` (trustworthiness, explained variance) are printed above.
    label : str
        The column that colours the points: a few classes, or numbers (then with a colour bar).
    titles : dict of str to str, optional
        Instead of the panels' own titles, by method (``"umap"``, ``"pca"``).
    axs : array of Axes, optional
        Two axes to draw on.

    Returns
    -------
    ndarray of Axes, shape [2]

    Examples
    --------
    >>> layout = np.random.default_rng(0).normal(size=(20, 4))
    >>> table = pd.DataFrame(layout, columns=["umap_1", "umap_2", "pca_1", "pca_2"]).assign(genre=["jazz", "rock"] * 10)
    >>> embedding(table, "genre").shape
    (2,)
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

    Examples
    --------
    >>> layout = np.random.default_rng(0).normal(size=(4, 4))
    >>> table = pd.DataFrame(layout, columns=["umap_1", "umap_2", "pca_1", "pca_2"])
    >>> directions_map(table.assign(label=["drums", "jazz"] * 2, method=["ridge", "ridge", "lda", "lda"])).shape
    (2,)
    """
    need(table, ("umap_1", "umap_2", "pca_1", "pca_2", by, shape), "a map of directions")
    if axs is None:
        _, axs = subplots(1, 2, width=DOUBLE, height=3.0)
    panels = np.asarray(axs, dtype=object).ravel()
    colours = {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(sorted(table[by].unique(), key=str))}
    markers = {name: MARKERS[i % len(MARKERS)] for i, name in enumerate(sorted(table[shape].unique(), key=str))}
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
