"""How much a clip still resembles other music: what it continues, or what it would have been without a push."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from interp.errors import DataError
from interp.judges.audio import Audio, by_length, mono
from interp.judges.dsp import chroma_vector
from interp.judges.network import log_mels

__all__ = ["Embed", "prompt_similarity", "structure_similarity"]

Embed = Callable[[Audio, int], NDArray[np.float32]]
"""Audio and its sample rate to one embedding per clip, ``[N, dim]``."""

_RATE = 16_000
_WINDOW, _HOP = 4096, 1024  # 256 ms, fine enough in frequency to tell semitones from about 130 Hz on; 64 ms a frame
_SMOOTH = 5  # frames of 24 ms: onsets within some 60 ms of each other still meet


def prompt_similarity(audio: Audio, prompt: Audio, sample_rate: int, embed: Embed | None = None) -> pd.DataFrame:
    """Compare each clip with its own prompt, and with the prompts of the others.

    Parameters
    ----------
    audio : Audio
        N continuations (without the prompt).
    prompt : Audio
        N prompts, in the same order.
    sample_rate : int
        Of both, in Hz.
    embed : callable, optional
        Embeds both, as a judge's ``embed`` does; without, only chroma is compared.

    Returns
    -------
    pandas.DataFrame
        N rows. ``embedding`` and ``chroma`` are cosines with the own prompt, in -1 to 1 and 0 to 1;
        ``embedding_others`` and ``chroma_others`` the mean cosine with all other prompts, the value that says nothing
        was kept (NaN when N is 1).

    Raises
    ------
    DataError
        If the numbers of clips and prompts differ.

    Examples
    --------
    >>> tone = np.sin(np.arange(16_000) / 9)[None, None]
    >>> round(float(prompt_similarity(tone, tone, 16_000)["chroma"].iloc[0]), 2)
    1.0
    """
    if len(audio) != len(prompt):
        raise DataError(f"there are {len(audio)} clips and {len(prompt)} prompts: give one prompt per clip.")
    columns: dict[str, NDArray[np.float64]] = {}
    chromas = [
        np.stack([chroma_vector(clip) for clip in mono(sounds, sample_rate, _RATE)]) for sounds in (audio, prompt)
    ]
    pairs = {"chroma": chromas}
    if embed is not None:
        embeddings = [np.asarray(embed(sounds, sample_rate), np.float64) for sounds in (audio, prompt)]
        pairs = {"embedding": embeddings, **pairs}
    for name, (clips, prompts) in pairs.items():
        cosine = _unit(clips) @ _unit(prompts).T
        own = np.diag(cosine)
        n = len(cosine)
        columns[name] = own
        columns[f"{name}_others"] = (cosine.sum(axis=1) - own) / (n - 1) if n > 1 else np.full(n, np.nan)
    return pd.DataFrame(columns)


def structure_similarity(audio: Audio, twins: Audio, sample_rate: int) -> pd.DataFrame:
    """Compare the harmony and the rhythm of clips with those of their twins, instant by instant.

    Parameters
    ----------
    audio : Audio
        N clips.
    twins : Audio
        N clips of the same lengths, in the same order: the unsteered music of the same seed.
    sample_rate : int
        Of both, in Hz.

    Returns
    -------
    pandas.DataFrame
        N rows. ``chroma``: correlation of the two chromagrams (12 pitch classes, 64 ms a frame, each frame about its
        mean). ``onsets``: correlation of the two onset envelopes (rises of the log-mel spectrum summed over bands, as
        in Boeck & Widmer 2013, 24 ms a frame, smoothed over 120 ms). Both are 1 for a clip and itself, about 0 for
        music that has nothing to do with it, and 0 where either is silent.

    Raises
    ------
    DataError
        If the numbers of clips and twins, or the lengths of a pair, differ.

    Examples
    --------
    >>> time = np.arange(16_000) / 16_000
    >>> plucked = [np.sin(2 * np.pi * pitch * time) * np.exp(-8 * (time % 0.25)) for pitch in (220.0, 311.1)]
    >>> structure_similarity([plucked[0]] * 2, plucked, 16_000).round(1).to_dict("records")
    [{'chroma': 1.0, 'onsets': 1.0}, {'chroma': -0.3, 'onsets': 1.0}]
    """
    pairs = [mono(sounds, sample_rate, _RATE) for sounds in (audio, twins)]
    lengths = [[len(clip) for clip in clips] for clips in pairs]
    if lengths[0] != lengths[1]:
        raise DataError("clips and their twins differ in number or length: give one twin of the same length per clip.")
    table = np.zeros((len(pairs[0]), 2))
    for indices, batch in by_length(pairs[0]):
        others = torch.stack([pairs[1][index] for index in indices])
        table[indices, 0] = _correlation(_chromagram(batch), _chromagram(others))
        table[indices, 1] = _correlation(_onsets(batch), _onsets(others))
    return pd.DataFrame(table, columns=["chroma", "onsets"])


@functools.cache
def _pitch_classes() -> Tensor:
    """Share of each frequency in each pitch class, float32 ``[12, frequencies]``."""
    import librosa

    return torch.from_numpy(librosa.filters.chroma(sr=_RATE, n_fft=_WINDOW, tuning=0.0))


def _chromagram(batch: Tensor) -> Tensor:
    """Chroma of clips ``[N, T]``, each frame about its mean: ``[N, 12, frames]``."""
    shape = torch.hann_window(_WINDOW)
    power = torch.stft(batch, _WINDOW, _HOP, window=shape, return_complex=True, pad_mode="constant").abs().square()
    chroma = (_pitch_classes() @ power).sqrt()
    return chroma - chroma.mean(1, keepdim=True)


def _onsets(batch: Tensor) -> Tensor:
    """Onset envelopes of clips ``[N, T]``, about their means: ``[N, frames]``."""
    rise = log_mels(batch)[:, 0].diff(dim=-1).clamp_min(0).mean(1, keepdim=True)
    smooth = torch.nn.functional.avg_pool1d(rise, _SMOOTH, stride=1, padding=_SMOOTH // 2, count_include_pad=False)
    return (smooth - smooth.mean(-1, keepdim=True))[:, 0]


def _correlation(a: Tensor, b: Tensor) -> NDArray[np.float64]:
    x, y = a.flatten(1).double(), b.flatten(1).double()
    size = x.norm(dim=1) * y.norm(dim=1)
    return np.asarray(torch.where(size > 1e-12, (x * y).sum(1) / size.clamp_min(1e-12), 0.0))


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
