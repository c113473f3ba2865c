"""Sound as a picture, and what a self-monitor heard in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.patches import Patch
from numpy.typing import NDArray

from interp.errors import ClipError, DataError
from interp.plots.style import COLOURS, DOUBLE, SINGLE, need, remember, styled, subplots

__all__ = ["mel_levels", "mel_ticks", "monitor", "spectrograms"]


def mel_levels(sounds: Sequence[Any], sample_rate: int, n_mels: int = 80) -> list[NDArray[np.float32]]:
    """Mel spectrograms of several sounds on one scale.

    Parameters
    ----------
    sounds : sequence of array or tensor of shape [samples] or [channels, samples]
        Channels are averaged.
    sample_rate : int
        In Hz.
    n_mels : int
        Mel bands.

    Returns
    -------
    list of float32 array of shape [n_mels, frames]
        Level in dB below the loudest point of all the sounds, -90 and more; 100 frames a second, low bands first.

    Raises
    ------
    ClipError
        If a sound is empty or not finite.

    Examples
    --------
    >>> tone = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    >>> [level] = mel_levels([tone], 16000)
    >>> level.shape, float(level.max())
    ((80, 101), 0.0)
    """
    import librosa

    powers = []
    for sound in sounds:
        wave = np.asarray(sound, dtype=np.float32)
        wave = wave.mean(axis=0) if wave.ndim == 2 else wave
        if wave.ndim != 1 or not wave.size or not np.isfinite(wave).all():
            raise ClipError(
                f"cannot show a sound of shape {list(np.shape(sound))} that is empty or not finite: give [samples] or "
                "[channels, samples]."
            )
        size = min(1024, 2 ** int(np.log2(wave.size)))
        hop = max(1, sample_rate // 100)
        powers.append(librosa.feature.melspectrogram(y=wave, sr=sample_rate, n_fft=size, hop_length=hop, n_mels=n_mels))
    loudest = max(float(power.max()) for power in powers) or 1.0
    return [10 * np.log10(np.maximum(power, loudest * 1e-9) / loudest) for power in powers]


def mel_ticks(sample_rate: int, n_mels: int, wanted: Sequence[float]) -> list[tuple[float, str]]:
    """Band (fractional, from 0) and name in kHz of the marks of a frequency axis, for those frequencies that exist."""
    import librosa

    bands = librosa.mel_frequencies(n_mels=n_mels, fmax=sample_rate / 2)
    there = [hertz for hertz in wanted if hertz <= sample_rate / 2]
    return [(float(np.interp(hertz, bands, np.arange(n_mels))), f"{hertz / 1000:g}") for hertz in there]


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
    ClipError
        If a sound is empty or not finite.

    Examples
    --------
    >>> tone = np.sin(2 * np.pi * 440 * np.arange(8000) / 16000)
    >>> [panel.get_title() for panel in spectrograms(tone, tone[None] / 2, 16000, start=0.2)]
    ['unsteered', 'steered']
    """
    levels = mel_levels((before, after), sample_rate, n_mels)
    if axs is None:
        _, axs = subplots(1, 2, width=DOUBLE * 0.75, height=1.9, sharey=True)
    panels = np.asarray(axs, dtype=object).ravel()
    image = None
    for ax, level, title, sound in zip(panels, levels, titles, (before, after), strict=True):
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
    places, names = zip(*mel_ticks(sample_rate, n_mels, (250, 500, 1000, 2000, 4000, 8000)), strict=True)
    panels[0].set_yticks(places, names)
    panels[0].set_ylabel("Frequency (kHz)")
    panels[1].tick_params(axis="y", length=0, labelleft=False)
    bar = panels[0].figure.colorbar(image, ax=list(panels), fraction=0.03, pad=0.02, label="Level (dB)")
    bar.outline.set_visible(False)
    return panels


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

    Examples
    --------
    >>> table = pd.DataFrame({"row": 0, "seconds": [0.0, 0.1, 0.2], "C": [0.2, 0.5, 0.9], "tau": 0.8,
    ...     "acted": [True, True, False]})
    >>> monitor(table.assign(decided_on=table["C"])).shape
    (1,)
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
