"""Is it still music? Checks for audio that no trait should be read from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.judges.accuracy import ACCURACY_COLUMNS
from interp.judges.audio import Audio, by_length, mono

if TYPE_CHECKING:
    from interp.judges.base import Judge

__all__ = ["QualityJudge", "Thresholds", "degenerate", "quality"]

_RATE = 16_000
_WINDOW, _HOP, _BANDS = 512, 160, 40  # 10 ms a frame
_LAGS = range(4, 41)  # loops of 40 to 400 ms; longer repetition is what music does


@dataclass(frozen=True)
class Thresholds:
    """Where a measure becomes a flag.

    Attributes
    ----------
    silent_db : float
        Level in dBFS below which a clip is silent.
    quiet_share : float
        Share of 10-ms frames that may be silent.
    clipped_share : float
        Share of samples that may stand at the clip's peak.
    frozen : float
        Correlation of spectra 100 ms apart above which the sound stands still.
    loop : float
        Correlation of spectra one loop length apart above which a short loop repeats.
    """

    silent_db: float = -60.0
    quiet_share: float = 0.75
    clipped_share: float = 0.05
    frozen: float = 0.985
    loop: float = 0.985


def degenerate(audio: Audio, sample_rate: int, thresholds: Thresholds | None = None) -> pd.DataFrame:
    """Measure silence, clipping, standstill and short loops.

    Parameters
    ----------
    audio : Audio
        N clips.
    sample_rate : int
        In Hz.
    thresholds : Thresholds, optional
        Where measures become flags.

    Returns
    -------
    pandas.DataFrame
        N rows. Measures: ``level_db`` (RMS, dBFS), ``quiet_share``, ``clipped_share``, ``stillness`` (correlation of
        log spectra 100 ms apart), ``loop_strength`` (largest such correlation over loops of 40 to 400 ms, relative to
        the worst in between) and ``loop_seconds``. Flags: ``silent``, ``clipped``, ``frozen``, ``looped``, and
        ``degenerate``, their union.

    Examples
    --------
    >>> degenerate(torch.zeros(1, 1, 16_000), 16_000)[["silent", "degenerate"]].to_dict("records")
    [{'silent': True, 'degenerate': True}]
    """
    limits = thresholds or Thresholds()
    clips = mono(audio, sample_rate, _RATE)
    raw = mono(audio, sample_rate)  # resampling rounds the flat tops of clipped samples
    rows: list[dict[str, float]] = [{} for _ in clips]
    for indices, batch in by_length(clips):
        for index, row in zip(indices, _measure(batch), strict=True):
            rows[index] = {**row, "clipped_share": _clipped_share(raw[index])}
    table = pd.DataFrame(rows)
    table["silent"] = (table["level_db"] < limits.silent_db) | (table["quiet_share"] > limits.quiet_share)
    table["clipped"] = table["clipped_share"] > limits.clipped_share
    table["frozen"] = ~table["silent"] & (table["stillness"] > limits.frozen)
    table["looped"] = ~table["silent"] & ~table["frozen"] & (table["loop_strength"] > limits.loop)
    table["degenerate"] = table[["silent", "clipped", "frozen", "looped"]].any(axis=1)
    return table


def quality(
    audio: Audio, sample_rate: int, judge: Judge | None = None, thresholds: Thresholds | None = None
) -> pd.DataFrame:
    """Tell which clips no trait should be read from.

    Parameters
    ----------
    audio : Audio
        N clips.
    sample_rate : int
        In Hz.
    judge : Judge, optional
        Hears whether it is music; without one, signal processing alone decides.
    thresholds : Thresholds, optional
        Of the degenerate-audio checks.

    Returns
    -------
    pandas.DataFrame
        N rows: with a judge ``not_music`` (probability); every column of :func:`degenerate`; and ``bad``: degenerate,
        or judged to be no music.

    Examples
    --------
    >>> quality(torch.zeros(1, 1, 16_000), 16_000)["bad"].tolist()
    [True]
    """
    table = degenerate(audio, sample_rate, thresholds)
    table["bad"] = table["degenerate"]
    if judge is not None:
        table.insert(0, "not_music", judge.score(audio, sample_rate)["not_music"].to_numpy())
        table["bad"] |= table["not_music"] >= 0.5
    return table


class QualityJudge:
    """:func:`quality` as a judge, to be used beside others in :func:`interp.judges.base.judge_all`."""

    name = "quality"
    independent = True
    questions: ClassVar[dict[str, list[str]]] = {}

    def __init__(self, judge: Judge | None = None, thresholds: Thresholds | None = None) -> None:
        self._judge = judge
        self._thresholds = thresholds

    def accuracy_frame(self) -> pd.DataFrame:
        """Return what the judge that hears whether it is music knows of music against degraded audio."""
        if self._judge is None:
            return pd.DataFrame(columns=ACCURACY_COLUMNS)
        frame = self._judge.accuracy_frame()
        return frame[frame["trait"] == "not_music"]

    def score(self, audio: Audio, sample_rate: int) -> pd.DataFrame:
        """See :func:`quality`."""
        return quality(audio, sample_rate, self._judge, self._thresholds)


def _clipped_share(clip: Tensor) -> float:
    """Share of samples at the clip's own peak, in runs: a single highest sample is no clipping."""
    peak = float(clip.abs().max())
    if peak == 0:
        return 0.0
    at_peak = clip.abs() >= peak * 0.999
    run = at_peak.clone()
    run[1:] &= at_peak[:-1]
    return float(run.float().mean())


def _measure(batch: Tensor) -> list[dict[str, float]]:
    """Level, silence, stillness and loops of clips ``[N, T]`` of equal length at 16 kHz."""
    import torchaudio

    level = batch.square().mean(1).sqrt()
    window = torch.hann_window(_WINDOW)
    padded = torch.nn.functional.pad(batch, (0, max(_WINDOW - batch.shape[1], 0)))
    spectrum = torch.stft(padded, _WINDOW, _HOP, window=window, center=False, return_complex=True).abs()
    filters = torchaudio.functional.melscale_fbanks(_WINDOW // 2 + 1, 50.0, 7600.0, _BANDS, _RATE)
    bands = (spectrum.transpose(1, 2) @ filters).transpose(1, 2) / window.sum()  # [N, bands, frames]
    loud = bands.square().sum(1).sqrt()
    quiet_share = (loud < 1e-3 * 10 ** (-20 / 20)).float().mean(1)  # below -80 dBFS
    logs = (bands / bands.amax((1, 2), keepdim=True).clamp_min(1e-9)).clamp_min(1e-3).log()
    logs = logs - logs.mean(1, keepdim=True)
    unit = logs / logs.norm(dim=1, keepdim=True).clamp_min(1e-6)
    frames = unit.shape[2]

    def similar(lag: int) -> Tensor:
        return (unit[:, :, lag:] * unit[:, :, :-lag]).sum(1).mean(1)

    lags = [lag for lag in _LAGS if lag < frames // 2]
    if not lags:
        nothing = torch.zeros(len(batch))
        return _rows(level, quiet_share, nothing, nothing, nothing)
    curves = torch.stack([similar(lag) for lag in lags], 1)  # [N, lags]
    stillness = curves[:, : max(1, 10 - _LAGS.start + 1)].amin(1)
    # a loop repeats exactly at its length while the sound in between differs
    best, where = curves.max(1)
    seconds = torch.tensor(lags, dtype=torch.float32)[where] * _HOP / _RATE
    return _rows(level, quiet_share, stillness, best, seconds)


def _rows(level: Tensor, quiet: Tensor, still: Tensor, loop: Tensor, seconds: Tensor) -> list[dict[str, float]]:
    return [
        {
            "level_db": 20 * float(np.log10(max(float(a), 1e-10))),
            "quiet_share": float(b),
            "stillness": float(c),
            "loop_strength": float(d),
            "loop_seconds": float(e),
        }
        for a, b, c, d, e in zip(level, quiet, still, loop, seconds, strict=True)
    ]
