"""The look that all figures share: one column wide, safe for the colour-blind, and never without its table.

A figure of your own takes part by three things: the decorator :func:`styled`, axes from :func:`axes` or
:func:`subplots`, and :func:`remember`, which notes the table that the axes show::

    @style.styled
    def by_genre(table, ax=None):
        style.need(table, ("genre", "rate"), "rates by genre")
        ax = style.axes(ax)
        ax.bar(table["genre"], table["rate"])
        return style.remember(ax, table)

:func:`save` then writes the picture and, beside it, its numbers.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import LogLocator, NullFormatter

from interp import tables
from interp.errors import DataError

__all__ = [
    "COLOURS",
    "DOUBLE",
    "MARKERS",
    "PALETTE",
    "SINGLE",
    "STYLE",
    "axes",
    "cells",
    "colour",
    "data_of",
    "errorbars",
    "legend",
    "logarithmic",
    "need",
    "only",
    "remember",
    "save",
    "styled",
    "subplots",
]

SINGLE, DOUBLE = 3.4, 7.0
"""Widths of a figure, in inches: one column, and both columns of a page."""

COLOURS = {
    "black": "#000000",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "green": "#009E73",
    "blue": "#0072B2",
    "vermilion": "#D55E00",
    "purple": "#CC79A7",
    "grey": "#7F7F7F",
    "brown": "#7A4900",
}
"""The colours of Okabe and Ito (2008), without yellow, which a thin line loses on white; and grey and brown."""

PALETTE = [COLOURS[name] for name in ("blue", "vermilion", "green", "purple", "orange", "sky", "black")]
MARKERS = ["o", "s", "^", "D", "v", "P", "X"]

STYLE: dict[str, Any] = {
    "figure.dpi": 150,
    "savefig.dpi": 300,
    "figure.figsize": (SINGLE, 2.4),
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.axisbelow": True,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "lines.linewidth": 1.3,
    "lines.markersize": 4,
    "axes.prop_cycle": cycler(color=PALETTE),
    "image.cmap": "cividis",
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
}

# Colours that mean the same thing in every figure.
_MEANING = {
    "logistic": "blue",
    "ridge": "vermilion",
    "mean_diff": "green",
    "lda": "purple",
    "softmax": "orange",
    "least_squares": "orange",
    "onehot": "orange",
    "pca_pairs": "brown",
    "rfm": "black",
    "probe": "vermilion",
    "treated": "vermilion",
    "unsteered": "black",
    "random": "grey",
    "shuffled": "sky",
    "bottom": "purple",
    "flipped": "green",
    "mel": "orange",
    "mfcc": "purple",
    "chroma": "sky",
    "untrained": "grey",
}

P = ParamSpec("P")
T = TypeVar("T")
_DRAWN: WeakKeyDictionary[Axes, pd.DataFrame] = WeakKeyDictionary()


def styled(function: Callable[P, T]) -> Callable[P, T]:
    """Run a plotting function under the shared style, leaving the caller's settings alone."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        # Not matplotlib's rc_context: a first figure loads the backend, which in a notebook switches on `interactive`,
        # and the context would switch that off again, so that later figures would not be shown.
        settings: Any = mpl.rcParams
        before = {key: settings[key] for key in STYLE}
        settings.update(STYLE)
        try:
            return function(*args, **kwargs)
        finally:
            settings.update(before)

    return wrapper


@styled
def subplots(rows: int = 1, columns: int = 1, *, width: float = SINGLE, height: float = 2.4, **kwargs: Any) -> Any:
    """Return a figure and its axes in the shared style; like :func:`matplotlib.pyplot.subplots`, sizes in inches."""
    return plt.subplots(rows, columns, figsize=(width, height), **kwargs)


def axes(ax: Axes | None, *, width: float = SINGLE, height: float = 2.4) -> Axes:
    """Return the axes to draw on, new ones when none are given."""
    return subplots(width=width, height=height)[1] if ax is None else ax


def colour(name: str, index: int = 0) -> str:
    """Return the colour of a method or an arm: the same in every figure when the name is known."""
    for word, chosen in _MEANING.items():
        if name == word or name.startswith((word + " ", word + "_", word + "-")):
            return COLOURS[chosen]
    return PALETTE[index % len(PALETTE)]


def need(table: pd.DataFrame, columns: Iterable[str], what: str) -> None:
    """Raise unless the table has these columns and at least one row."""
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise DataError(
            f"cannot draw {what}: the table has no column {', '.join(map(repr, missing))}; "
            f"it has {', '.join(map(str, table.columns))}."
        )
    if table.empty:
        raise DataError(f"cannot draw {what}: the table has no rows.")


def only(table: pd.DataFrame, what: str, **choice: str | None) -> pd.DataFrame:
    """Keep the rows of one trait and method, raising where the choice is left open and the table holds several."""
    for column, value in choice.items():
        if column not in table.columns:
            continue
        present = table[column].unique()
        if value is None and len(present) > 1:
            raise DataError(
                f"cannot draw {what}: the table mixes {len(present)} values of {column} "
                f"({', '.join(map(str, present[:6]))}); choose one with {column}=..."
            )
        if value is not None:
            table = table[table[column] == value]
            if table.empty:
                raise DataError(
                    f"cannot draw {what}: no row has {column} {value!r}; there are {', '.join(map(str, present[:6]))}."
                )
    return table


def legend(ax: Axes, columns: int = 2) -> None:
    """Put the legend below a figure of its own, or inside axes that share a figure with others."""
    if not ax.get_legend_handles_labels()[0]:
        return
    if len(ax.figure.axes) == 1:
        ax.figure.legend(loc="outside lower center", ncols=columns, fontsize=6.5)
    else:
        ax.legend(fontsize=6)


def logarithmic(ax: Axes) -> None:
    """Make the vertical axis logarithmic, with ticks that are read as numbers (20, 50, 100) and not as powers."""
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(NullFormatter())


def remember(ax: Axes, table: pd.DataFrame) -> Axes:
    """Note which numbers an Axes shows, so that :func:`save` can write them beside the picture."""
    _DRAWN[ax] = table.reset_index(drop=True)
    return ax


def data_of(ax: Axes) -> pd.DataFrame:
    """Return the numbers that an Axes shows.

    Raises
    ------
    DataError
        If it was not drawn by this package.

    Examples
    --------
    >>> ax = remember(axes(None), pd.DataFrame({"genre": ["jazz"], "rate": [0.5]}))
    >>> data_of(ax).to_dict("list")
    {'genre': ['jazz'], 'rate': [0.5]}
    """
    if ax not in _DRAWN:
        raise DataError("these axes were not drawn by interp.plots, so there is no table of what they show.")
    return _DRAWN[ax]


def errorbars(table: pd.DataFrame, score: str) -> np.ndarray | None:
    """Return the distances from score to the columns ``lo`` and ``hi``, shape [2, rows]; None without them."""
    if not {"lo", "hi"} <= set(table.columns) or not bool(table[["lo", "hi"]].notna().to_numpy().any()):
        return None
    value = table[score].to_numpy(float)
    # A bootstrap interval may leave out the score itself; matplotlib refuses negative lengths.
    return np.nan_to_num(np.clip([value - table["lo"].to_numpy(float), table["hi"].to_numpy(float) - value], 0, None))


def cells(
    ax: Axes,
    values: np.ndarray,
    rows: Iterable[object],
    columns: Iterable[object],
    *,
    cmap: str | None = None,
    limits: tuple[float, float] | None = None,
    every: int = 1,
) -> AxesImage:
    """Draw a matrix as coloured cells, row 0 at the head, without frame or tick marks.

    Parameters
    ----------
    ax : Axes
        Where to draw.
    values : array of shape [rows, columns]
        NaN stays white.
    rows, columns : iterable
        Names of the rows and columns.
    cmap : str, optional
        Colour map; cividis by default.
    limits : tuple of float, optional
        Values at the two ends of the colours.
    every : int
        Name every so many rows and columns only.

    Returns
    -------
    AxesImage
        For a colour bar.
    """
    down, across = [str(name) for name in rows], [str(name) for name in columns]
    low, high = limits or (None, None)
    image = ax.imshow(values, cmap=cmap, vmin=low, vmax=high, aspect="auto", origin="upper", interpolation="nearest")
    ax.set_yticks(range(0, len(down), every), down[::every])
    ax.set_xticks(range(0, len(across), every), across[::every])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return image


@styled
def save(
    ax: Axes | Iterable[Axes],
    stem: str | Path,
    *,
    formats: tuple[str, ...] = ("png",),
    made_by: Mapping[str, Any] | str | None = None,
    close: bool = True,
) -> dict[str, Path]:
    """Write a figure, and beside it the numbers that it shows as CSV, Markdown and LaTeX.

    Parameters
    ----------
    ax : Axes or iterable of Axes
        What a function of :mod:`interp.plots` returned; several axes of one figure give one table each.
    stem : str or Path
        Path without suffix; its folder is made when missing.
    formats : tuple of str
        Picture formats, for example ``("png", "pdf")``.
    made_by : mapping or str, optional
        What made the figure (command, model, seed); kept in the picture's metadata.
    close : bool
        Close the figure afterwards.

    Returns
    -------
    dict of str to Path
        The file of every format.

    Examples
    --------
    >>> import tempfile
    >>> ax = remember(axes(None), pd.DataFrame({"genre": ["jazz"], "rate": [0.5]}))
    >>> files = save(ax, Path(tempfile.mkdtemp()) / "rates", made_by={"seed": 0})
    >>> sorted(file.name for file in files["png"].parent.iterdir())
    ['rates.csv', 'rates.md', 'rates.png', 'rates.tex']
    """
    several = [ax] if isinstance(ax, Axes) else list(ax)
    figure = several[0].figure
    assert isinstance(figure, Figure)
    stem = Path(stem)
    stem.parent.mkdir(parents=True, exist_ok=True)
    note = made_by if isinstance(made_by, str) else json.dumps(dict(made_by), default=str) if made_by else None
    written: dict[str, Path] = {}
    for suffix in formats:
        path = stem.with_name(f"{stem.name}.{suffix}")
        key = {"png": "Description", "pdf": "Subject", "svg": "Description"}.get(suffix)
        figure.savefig(path, metadata={key: note} if note and key else None)
        written[suffix] = path
    shown = [panel for panel in several if panel in _DRAWN]
    for index, panel in enumerate(shown):
        name = stem if len(shown) == 1 else stem.with_name(f"{stem.name}_{index}")
        written |= tables.write(_DRAWN[panel], name)
    if close:
        plt.close(figure)
    return written
