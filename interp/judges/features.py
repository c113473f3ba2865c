"""What sound alone says, without any training: the features of a judge that is trained on labelled clips."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from interp.judges.audio import Audio, by_length, mono
from interp.judges.network import SAMPLE_RATE, log_mels

__all__ = ["sound_features"]


def sound_features(audio: Audio, sample_rate: int) -> NDArray[np.float32]:
    """Describe clips by their log-mel spectra at two resolutions in time.

    Parameters
    ----------
    audio : Audio
        N clips.
    sample_rate : int
        In Hz; resampled to 16 kHz when it differs.

    Returns
    -------
    numpy.ndarray, float32 ``[N, 192]``
        For windows of 32 and of 128 ms, 32 bands each: mean over time, standard deviation over time, and mean absolute
        change from frame to frame. Level does not count: clips are levelled first.

    Examples
    --------
    >>> tone = np.sin(np.arange(16_000) * 0.1)
    >>> sound_features([tone, 0.1 * tone], 16_000).shape
    (2, 192)
    """
    clips = mono(audio, sample_rate, SAMPLE_RATE)
    rows: list[torch.Tensor] = [torch.empty(0)] * len(clips)
    for indices, batch in by_length(clips, 4):
        bands = log_mels(batch)  # [clips, 2 windows, 64 bands, frames]
        bands = (bands[:, :, ::2] + bands[:, :, 1::2]) / 2
        change = (bands[..., 1:] - bands[..., :-1]).abs()
        change = change.mean(-1) if change.shape[-1] else torch.zeros(bands.shape[:-1])
        described = torch.stack([bands.mean(-1), bands.std(-1, correction=0), change], 1).flatten(1)
        for index, row in zip(indices, described, strict=True):
            rows[index] = row
    return torch.stack(rows).numpy()
