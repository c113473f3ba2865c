"""By which path: patching by head and by layer, attention patterns, the lens, what each part adds to the logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from interp.errors import DataError
from interp.plots.heads import hatch, heatmap
from interp.plots.style import DOUBLE, MARKERS, PALETTE, SINGLE, axes, cells, legend, need, remember, styled, subplots

__all__ = ["attention", "attention_page", "lens", "logit_attribution", "patching"]

_BLOCKS = ("embed", "attn", "cross", "mlp", "resid")
_SHARE = "Share of the gap"


@styled
def patching(
    table: pd.DataFrame,
    kind: str | None = None,
    *,
    value: str = "share",
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw what patching each site does: layers by heads, layers by blocks, or sites by stretches of time.

    Parameters
    ----------
    table : DataFrame
        ``table`` of :func:`interp.mechanisms.patch`. Cells with ``p_max`` at least .05 are hatched.
    kind : {"heads", "cross_heads", "blocks"}, optional
        What to draw of a table that has several; with several stretches of time, sites of all kinds are drawn.
    value : str
        Column that is shown: ``share`` of the gap between both sides, or ``change``.
    title : str, optional
        Of the axes.
    ax : Axes, optional
        Where to draw.

    Returns
    -------
    Axes

    Raises
    ------
    DataError
        If columns or kinds are missing, or the table has several kinds and none is named.

    Examples
    --------
    >>> table = pd.DataFrame({"site": ["L0.X.H0", "L0.X.H1"], "kind": "cross_heads", "layer": 0, "head": [0, 1],
    ...     "start": np.nan, "stop": np.nan, "share": [0.1, 0.9], "p_max": [0.5, 0.01]})
    >>> patching(table, title="piano or flute").images[0].get_array().shape
    (1, 2)
    """
    need(table, ("site", "kind", "layer", "head", "start", "stop", value), "patching")
    table = table.reset_index(drop=True)
    if table.duplicated("site").any():
        return _by_time(table, value, title, ax)
    groups = table["kind"].where(table["kind"].isin(["heads", "cross_heads"]), "blocks")
    if kind is None and groups.nunique() > 1:
        raise DataError(f"cannot draw patching: the table has {', '.join(groups.unique())}; choose one with kind=...")
    chosen = table[groups == (kind or groups.iloc[0])]
    need(chosen, (), f"patching of {kind}")
    label = _SHARE if value == "share" else None
    if groups[chosen.index[0]] != "blocks":
        ax = heatmap(
            chosen if _tested(chosen) else chosen.drop(columns="p_max", errors="ignore"), value,
            kind=str(chosen["kind"].iloc[0]), centre=0.0, label=label, title=title, ax=ax, null=_null(chosen),
        )  # fmt: skip
        ax.set_xlabel("Cross-attention head" if chosen["kind"].iloc[0] == "cross_heads" else "Head")
        return remember(ax, chosen)
    ax = axes(ax, height=float(np.clip(0.75 + 0.26 * chosen["layer"].nunique(), 1.8, 4.5)))
    blocks = [name for name in _BLOCKS if (chosen["kind"] == name).any()]
    _grid(ax, chosen, "layer", "kind", blocks, value, title)
    ax.set(xlabel="", ylabel="Layer")
    return remember(ax, chosen)


def _by_time(table: pd.DataFrame, value: str, title: str | None, ax: Axes | None) -> Axes:
    """Sites by stretches of time."""
    order = list(table["site"].unique())
    spans = table[["start", "stop"]].drop_duplicates().sort_values(["start", "stop"])
    names = {(row.start, row.stop): f"{row.start:g}–{row.stop:g}" for row in spans.itertuples()}
    named = table.assign(span=[names[pair] for pair in zip(table["start"], table["stop"], strict=True)])
    named["order"] = named["site"].map({site: i for i, site in enumerate(order)})
    ax = axes(ax, height=float(np.clip(0.9 + 0.13 * len(order), 1.8, 6.0)))
    _grid(ax, named, "order", "span", list(names.values()), value, title)
    ax.set_yticks(range(len(order)), order)
    ax.set(xlabel="Patched, s", ylabel="")
    return remember(ax, table)


def _grid(
    ax: Axes, table: pd.DataFrame, down: str, across: str, columns: list[str], value: str, title: str | None
) -> None:
    """A column of a table as cells; those that do not stand out are hatched."""

    def cells_of(name: str) -> pd.DataFrame:
        return table.pivot_table(index=down, columns=across, values=name, dropna=False)[columns]

    _signed(cells_of(value), _SHARE if value == "share" else value, ax)
    ax.set_title(title or "")
    if _tested(table):
        hatch(ax, cells_of("p_max").to_numpy(float) >= 0.05, title, _null(table))


def _tested(table: pd.DataFrame) -> bool:
    return "p_max" in table.columns and bool(table["p_max"].notna().all())


def _null(table: pd.DataFrame) -> str:
    matched = "mismatched" in table.columns and bool(table["mismatched"].notna().any())
    return "no effect and mismatched pairs" if matched else "no effect"


def _signed(grid: pd.DataFrame, label: str, ax: Axes) -> Axes:
    """A table as cells, with colours around zero and a colour bar."""
    values = grid.to_numpy(float)
    reach = float(np.nanmax(np.abs(values))) or 1.0
    image = cells(ax, values, grid.index, grid.columns, cmap="RdBu_r", limits=(-reach, reach))
    bar = ax.figure.colorbar(image, ax=ax, fraction=0.05, pad=0.02)
    bar.set_label(label)
    bar.outline.set_visible(False)  # type: ignore[operator]
    return ax


@styled
def attention(
    weights: ArrayLike,
    *,
    frame_rate: float | None = None,
    words: Sequence[str] | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw what one head looks at: positions down, what is looked at across.

    Colours are those of the square root of the weight, so that faint attention over many keys can be seen.

    Parameters
    ----------
    weights : array of shape (positions, keys)
        One row and head of :func:`interp.mechanisms.attention_weights`.
    frame_rate : float, optional
        Positions a second: the axes are then in seconds.
    words : sequence of str, optional
        Names of the keys, for cross-attention.
    title : str, optional
        Of the axes.
    ax : Axes, optional
        Where to draw.

    Returns
    -------
    Axes

    Raises
    ------
    DataError
        If the weights are not a matrix, or there are not as many words as keys.

    Examples
    --------
    >>> attention(np.tril(np.ones((4, 4))), title="L0.H0").get_title()
    'L0.H0'
    """
    values = _weights(weights, 2, "positions, keys")
    if words is not None and len(words) != values.shape[1]:
        raise DataError(f"cannot draw attention: {values.shape[1]} keys need as many words, not {len(words)}.")
    ax = axes(ax, height=3.0)
    image = _pattern(ax, values, frame_rate, across=words is None)
    unit = "Position" if frame_rate is None else "Time, s"
    ax.set(
        ylabel=unit,
        xlabel="Looked at" if frame_rate is None or words is not None else "Looked at, s",
        title=title or "",
    )
    if words is not None:
        ax.set_xticks(range(len(words)), list(words), rotation=30, ha="right")
        ax.set_xlabel("")
    bar = ax.figure.colorbar(image, ax=ax, fraction=0.05, pad=0.02)
    ticks = [0.0, 0.01, 0.1, 0.25, 0.5, 1.0]
    bar.set_ticks([tick**0.5 for tick in ticks if tick**0.5 <= image.get_clim()[1]])
    bar.set_ticklabels([f"{tick:g}" for tick in ticks if tick**0.5 <= image.get_clim()[1]])
    bar.set_label("Attention")
    bar.outline.set_visible(False)
    position, key = np.indices(values.shape)
    return remember(ax, pd.DataFrame({"position": position.ravel(), "key": key.ravel(), "weight": values.ravel()}))


@styled
def attention_page(weights: ArrayLike, *, names: str = "L{}.H{}", title: str | None = None) -> NDArray[Any]:
    """Draw what all heads look at, a small picture each: layers down, heads across.

    Parameters
    ----------
    weights : array of shape (layers, heads, positions, keys)
        One row of :func:`interp.mechanisms.attention_weights`, layer by layer.
    names : str
        What a picture is called, with its layer and head.
    title : str, optional
        Of the page.

    Returns
    -------
    array of Axes, shape (layers, heads)

    Raises
    ------
    DataError
        If the weights have another shape.

    Examples
    --------
    >>> attention_page(np.tile(np.tril(np.ones((4, 4))), (2, 3, 1, 1))).shape
    (2, 3)
    """
    values = _weights(weights, 4, "layers, heads, positions, keys")
    n_layers, n_heads = values.shape[:2]
    figure, axs = subplots(n_layers, n_heads, width=DOUBLE, height=0.95 * DOUBLE / n_heads * n_layers, squeeze=False)
    for (layer, head), ax in np.ndenumerate(axs):
        _pattern(ax, values[layer, head], None, across=True)
        ax.set_xticks([])
        ax.set_yticks([])
        ax.set_title(names.format(layer, head), fontsize=5.5, pad=1.5)
    if title:
        figure.suptitle(title, fontsize=8)
    # Weights of all pictures would be a table of millions of rows: the page keeps how each head spreads its attention.
    entropy = -(values * np.log(np.maximum(values, 1e-30))).sum(-1).mean(-1)
    layer, head = np.indices(entropy.shape)
    remember(axs[0, 0], pd.DataFrame({"layer": layer.ravel(), "head": head.ravel(), "entropy": entropy.ravel()}))
    return np.asarray(axs)


@styled
def lens(table: pd.DataFrame, value: str = "kl", *, title: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw what every layer would say, a line a codebook.

    Parameters
    ----------
    table : DataFrame
        From :func:`interp.mechanisms.lens`.
    value : {"kl", "entropy", "accuracy", "agreement", "log_likelihood"}
        What is shown.
    title : str, optional
        Of the axes.
    ax : Axes, optional
        Where to draw.

    Returns
    -------
    Axes

    Examples
    --------
    >>> table = pd.DataFrame({"layer": [-1, 0, 1], "codebook": 0, "kl": [3.0, 1.0, 0.0]})
    >>> len(lens(table).lines)
    1
    """
    need(table, ("layer", "codebook", value), "the lens")
    words = {
        "kl": "KL to the last layer, nats", "entropy": "Entropy, nats", "accuracy": "Share of codes foreseen",
        "agreement": "Agreement with the end", "log_likelihood": "Log-likelihood, nats a token",
    }  # fmt: skip
    ax = axes(ax)
    for index, (codebook, rows) in enumerate(table.groupby("codebook")):
        rows = rows.sort_values("layer")
        tone, mark = PALETTE[index % len(PALETTE)], MARKERS[index % len(MARKERS)]
        ax.plot(rows["layer"], rows[value], marker=mark, color=tone, label=f"codebook {codebook}")
    layers = sorted(table["layer"].unique())
    ax.set_xticks(layers, ["embed" if layer < 0 else str(layer) for layer in layers])
    ax.set(xlabel="After layer", ylabel=words.get(value, value), title=title or "")
    legend(ax)
    return remember(ax, table)


@styled
def logit_attribution(
    table: pd.DataFrame, codebook: int = 0, *, title: str | None = None, ax: Axes | None = None
) -> Axes:
    """Draw what each part adds to a difference of logits: layers down; heads and feed-forward blocks across.

    Parameters
    ----------
    table : DataFrame
        From :func:`interp.mechanisms.logit_attribution`.
    codebook : int
        Of which codebook.
    title : str, optional
        Of the axes; what embedding and biases add is written below it.
    ax : Axes, optional
        Where to draw.

    Returns
    -------
    Axes

    Raises
    ------
    DataError
        If columns are missing, or there is no such codebook.

    Examples
    --------
    >>> table = pd.DataFrame({"codebook": 0, "site": ["embed", "L0.H0", "L0.mlp"], "kind": ["embed", "heads", "mlp"],
    ...     "layer": [-1, 0, 0], "head": [None, 0, None], "contribution": [1.0, 2.0, 3.0]})
    >>> logit_attribution(table).images[0].get_array().tolist()
    [[2.0, 3.0]]
    """
    need(table, ("codebook", "site", "kind", "layer", "head", "contribution"), "what parts add to logits")
    rows = table[table["codebook"] == codebook]
    need(rows, (), f"codebook {codebook}")
    inside = rows[rows["layer"] >= 0]
    prefix = inside["kind"].map({"heads": "H", "cross_heads": "X.H"})
    named = inside.assign(
        part=[k if pd.isna(p) else f"{p}{h}" for k, p, h in zip(inside["kind"], prefix, inside["head"], strict=True)]
    )
    grid = named.pivot_table(index="layer", columns="part", values="contribution", dropna=False)[named["part"].unique()]
    ax = _signed(grid, "Logits", axes(ax, width=DOUBLE if grid.shape[1] > 12 else SINGLE))
    ax.tick_params(axis="x", labelrotation=90)
    outside = ", ".join(f"{row.site} {row.contribution:+.2f}" for row in rows[rows["layer"] < 0].itertuples())
    ax.set(ylabel="Layer", title=f"{title or ''}\n{outside}; sum {rows['contribution'].sum():+.2f}".strip())
    return remember(ax, rows)


def _weights(weights: ArrayLike, ndim: int, axes_of: str) -> NDArray[np.float64]:
    values = np.asarray(weights, dtype=float)
    if values.ndim != ndim or not values.size:
        raise DataError(f"cannot draw attention: give weights [{axes_of}], not an array of shape {list(values.shape)}.")
    return values


def _pattern(ax: Axes, values: NDArray[np.float64], frame_rate: float | None, *, across: bool) -> Any:
    """One pattern; axes in seconds where there is a frame rate (the keys only if they are positions, `across`)."""
    per = frame_rate or 1.0
    extent = (
        -0.5 / (per if across else 1),
        (values.shape[1] - 0.5) / (per if across else 1),
        (len(values) - 0.5) / per,
        -0.5 / per,
    )
    return ax.imshow(np.sqrt(values), aspect="auto", interpolation="nearest", extent=extent, vmin=0)
