"""What steering did: dose-response with controls, and sound as a picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from interp.errors import DataError
from interp.plots._style import DOUBLE, MARKERS, axes, colour, errorbars, legend, need, only, remember, styled, subplots

__all__ = ["dose_response", "spectrograms"]


@styled
def dose_response(
    table: pd.DataFrame,
    score: str = "rate",
    *,
    dose: str = "dose",
    arm: str = "arm",
    trait: str | None = None,
    label: str | None = None,
    xlabel: str = "Dose (σ of the activation along the direction)",
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw what a judge hears against the dose, the treated arm beside its controls.

    Parameters
    ----------
    table : DataFrame
        Columns ``arm``, ``dose`` and ``rate``, one row a point; where present ``lo``, ``hi`` (interval), ``trait``, and
        ``draw`` (several draws of one control: thin lines; rows without a draw are their pool). Rows of the arm
        ``unsteered`` become a horizontal line with its interval.
    score : str
        What is on the vertical axis.
    dose, arm : str
        The columns with the dose and with the arm.
    trait : str, optional
        Which rows to take; needed where the table holds several.
    label, xlabel, title : str, optional
        Of the axes.
    ax : Axes, optional
        Where to draw.

    Returns
    -------
    Axes
    """
    need(table, (arm, dose, score), "a dose-response")
    table = only(table, "a dose-response", trait=trait)
    ax = axes(ax, height=2.7)
    draws = table[table["draw"].notna()] if "draw" in table.columns else table.iloc[:0]
    pooled = table[table["draw"].isna()] if "draw" in table.columns else table
    base = pooled[pooled[arm] == "unsteered"]
    arms = [name for name in pooled[arm].unique() if name != "unsteered"]
    if len(base):
        row = base.iloc[0]
        if {"lo", "hi"} <= set(base.columns):
            ax.axhspan(float(row["lo"]), float(row["hi"]), color="black", alpha=0.08, lw=0, zorder=0)
        ax.axhline(float(row[score]), color="black", lw=0.9, ls="--", zorder=1, label="unsteered")
    spread = float(pooled[dose].max() - pooled[dose].min()) or 1.0
    for index, name in enumerate(arms):
        tone = colour(str(name), index)
        for _, rows in draws[draws[arm] == name].groupby("draw") if len(draws) else ():
            rows = rows.sort_values(dose)
            ax.plot(rows[dose], rows[score], color=tone, lw=0.5, alpha=0.55, zorder=2)
        rows = pooled[pooled[arm] == name].sort_values(dose)
        first = index == 0
        # Arms share their doses; a small step aside keeps the intervals apart.
        x = rows[dose] + (index - (len(arms) - 1) / 2) * 0.012 * spread
        ax.errorbar(
            x, rows[score], yerr=errorbars(rows, score), color=tone, marker=MARKERS[index % len(MARKERS)], ms=3.5,
            lw=1.6 if first else 1.0, elinewidth=0.8, capsize=1.5, zorder=4 if first else 3, label=str(name),
        )  # fmt: skip
    if score == "rate":
        ax.set_ylim(-0.03, 1.03)
    ax.set(xlabel=xlabel, ylabel=label or "Share judged to have the trait", title=title or "")
    legend(ax)
    return remember(ax, table)


@styled
def spectrograms(
    before: Any,
    after: Any,
    sample_rate: int,
    *,
    titles: tuple[str, str] = ("unsteered", "steered"),
    start: float | None = None,
    n_mels: int = 80,
    axs: Any = None,
) -> np.ndarray:
    """Draw the mel spectrograms of two sounds side by side, on one scale.

    Parameters
    ----------
    before, after : array of shape [samples] or [channels, samples]
        The sounds; channels are averaged.
    sample_rate : int
        In Hz.
    titles : tuple of str
        Of the two panels.
    start : float, optional
        Time in seconds at which the generated part begins: a vertical line.
    n_mels : int
        Mel bands.
    axs : array of Axes, optional
        Two axes to draw on.

    Returns
    -------
    ndarray of Axes, shape [2]

    Raises
    ------
    DataError
        If a sound is empty.
    """
    import librosa

    pictures = []
    for sound in (before, after):
        wave = np.asarray(sound, dtype=np.float32)
        wave = wave.mean(axis=0) if wave.ndim == 2 else wave
        if wave.ndim != 1 or wave.size == 0:
            raise DataError(f"cannot draw a sound of shape {list(wave.shape)}: give [samples] or [channels, samples].")
        hop = max(1, sample_rate // 100)
        power = librosa.feature.melspectrogram(
            y=wave, sr=sample_rate, n_fft=min(1024, 2 ** int(np.log2(wave.size))), hop_length=hop, n_mels=n_mels
        )
        pictures.append(power)
    if axs is None:
        _, axs = subplots(1, 2, width=DOUBLE * 0.75, height=1.9, sharey=True)
    panels = np.asarray(axs, dtype=object).ravel()
    loudest = max(float(power.max()) for power in pictures) or 1.0
    image = None
    for ax, power, title, sound in zip(panels, pictures, titles, (before, after), strict=True):
        level = 10 * np.log10(np.maximum(power, loudest * 1e-8) / loudest)
        seconds = np.asarray(sound).shape[-1] / sample_rate
        image = ax.imshow(
            level, origin="lower", aspect="auto", extent=(0, seconds, 0, n_mels), vmin=-70, vmax=0, cmap="magma"
        )
        if start is not None:
            ax.axvline(start, color="white", lw=0.9, ls="--")
            ax.annotate(
                "generated",
                (start, n_mels),
                xytext=(2, -2),
                textcoords="offset points",
                va="top",
                fontsize=6,
                color="white",
            )
        ax.set(xlabel="Time (s)", title=title)
    mels = librosa.mel_frequencies(n_mels=n_mels, fmax=sample_rate / 2)
    wanted = [f for f in (250, 500, 1000, 2000, 4000, 8000) if f <= sample_rate / 2]
    panels[0].set_yticks(np.interp(wanted, mels, np.arange(n_mels)), [f"{f / 1000:g}" for f in wanted])
    panels[0].set_ylabel("Frequency (kHz)")
    panels[1].tick_params(axis="y", length=0, labelleft=False)
    bar = panels[0].figure.colorbar(image, ax=list(panels), fraction=0.03, pad=0.02, label="Level (dB)")
    bar.outline.set_visible(False)
    return panels
