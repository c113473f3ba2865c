"""Audio of any accepted form as mono clips, in batches of equal length, and in windows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike

from interp.errors import ClipError

__all__ = ["Audio", "by_length", "mono", "windows"]

Audio = torch.Tensor | np.ndarray | Sequence[ArrayLike | torch.Tensor]
"""Audio of N clips: ``[N, C, T]``, or ``[N, T]``, or a list of ``[C, T]`` / ``[T]`` (lengths may differ)."""


def mono(audio: Audio, sample_rate: int, target_rate: int | None = None) -> list[torch.Tensor]:
    """Bring audio of any accepted form to mono clips at one sample rate.

    Parameters
    ----------
    audio : Audio
        ``[N, C, T]``, ``[N, T]`` or a list of ``[C, T]`` / ``[T]``.
    sample_rate : int
        Sample rate of `audio` in Hz.
    target_rate : int, optional
        Sample rate wanted, in Hz; `sample_rate` when None.

    Returns
    -------
    list of torch.Tensor
        N clips, float32 ``[T]``, channels averaged.

    Raises
    ------
    ClipError
        If there is no clip, a clip is empty or has a wrong shape, or a sample is not finite.

    Examples
    --------
    >>> stereo = np.array([[0.5, 0.5, 0.0], [-0.5, 0.5, 1.0]])
    >>> [clip.tolist() for clip in mono([stereo], 16_000)]
    [[0.0, 0.5, 0.5]]
    """
    if sample_rate <= 0:
        raise ClipError(f"the sample rate is {sample_rate}: give the rate of the audio in Hz, for example 16000.")
    if isinstance(audio, torch.Tensor | np.ndarray) and audio.ndim not in (2, 3):
        raise ClipError(f"the audio has shape {list(audio.shape)}: give [clips, channels, samples] or a list of clips.")
    if len(audio) == 0:
        raise ClipError("there is no clip to judge: give at least one.")
    clips: list[torch.Tensor] = []
    for index, item in enumerate(audio):
        clip = torch.as_tensor(np.asarray(item) if not isinstance(item, torch.Tensor) else item.detach().cpu())
        clip = clip.to(torch.float32)
        if clip.ndim not in (1, 2) or clip.numel() == 0:
            raise ClipError(
                f"clip {index} has shape {list(clip.shape)}: give [channels, samples] with at least one sample."
            )
        if not bool(torch.isfinite(clip).all()):
            raise ClipError(f"clip {index} holds samples that are not finite: drop it or generate it anew.")
        clips.append(clip.mean(0) if clip.ndim == 2 else clip)
    if target_rate is None or target_rate == sample_rate:
        return clips
    import torchaudio

    resampled: list[torch.Tensor] = [torch.empty(0)] * len(clips)
    for indices, batch in by_length(clips):
        for index, clip in zip(indices, torchaudio.functional.resample(batch, sample_rate, target_rate), strict=True):
            resampled[index] = clip
    return resampled


def by_length(clips: Sequence[torch.Tensor], batch_size: int = 64) -> list[tuple[list[int], torch.Tensor]]:
    """Group clips of equal length into batches, so that none is padded.

    Parameters
    ----------
    clips : sequence of torch.Tensor
        N clips ``[T]``.
    batch_size : int
        Largest batch.

    Returns
    -------
    list of (indices, batch)
        `indices` into `clips`, `batch` float32 ``[len(indices), T]``.

    Examples
    --------
    >>> [(where, list(batch.shape)) for where, batch in by_length([torch.ones(3), torch.ones(5), torch.ones(3)])]
    [([0, 2], [2, 3]), ([1], [1, 5])]
    """
    lengths: dict[int, list[int]] = {}
    for index, clip in enumerate(clips):
        lengths.setdefault(clip.shape[-1], []).append(index)
    batches = []
    for indices in lengths.values():
        for start in range(0, len(indices), batch_size):
            chunk = indices[start : start + batch_size]
            batches.append((chunk, torch.stack([clips[i] for i in chunk])))
    return batches


def windows(clip: torch.Tensor, size: int) -> list[torch.Tensor]:
    """Cut a clip into evenly spaced windows that cover it: the same ones each time, and as few as there can be.

    Parameters
    ----------
    clip : torch.Tensor
        ``[T]``.
    size : int
        Samples in a window; a clip that is no longer is its own one window.

    Returns
    -------
    list of torch.Tensor
        Views ``[size]`` (or ``[T]``); the first begins with the clip and the last ends with it.

    Examples
    --------
    >>> [window.tolist() for window in windows(torch.arange(5), 2)]
    [[0, 1], [1, 2], [3, 4]]
    """
    length = clip.shape[-1]
    if length <= size:
        return [clip]
    starts = np.linspace(0, length - size, -(-length // size)).astype(int)
    return [clip[..., start : start + size] for start in starts]
