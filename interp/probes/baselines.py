"""Features of the audio alone, for the question that every probe must answer: what does the model add?

Each function turns clips into an array of shape (clips, features) for ``probe(..., baselines={"mel": mel(clips)})``.
The other baseline, an untrained copy of the same model, is a dataset like any other; :func:`site_features` puts
sites of a dataset into the same form, and :func:`align` matches its clips.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from interp.errors import DataError

if TYPE_CHECKING:
    import xarray as xr

    from interp.sites import Site

__all__ = ["align", "audio_features", "chroma", "mel", "mfcc", "site_features"]

Floats = NDArray[np.float32]
_WINDOW_SECONDS, _HOP_SECONDS = 0.064, 0.02
"""A hop of one frame of the model's codec."""


class _Clip(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def audio(self) -> Floats: ...
    @property
    def sample_rate(self) -> int: ...


def mel(clips: Iterable[_Clip], n_mels: int = 64, *, progress: bool = False) -> Floats:
    """Mean and standard deviation over time of the log-mel spectrum, shape (clips, 2 * n_mels)."""
    return audio_features(clips, lambda power, rate: _log_mel(power, rate, n_mels), progress=progress)


def mfcc(clips: Iterable[_Clip], n_mfcc: int = 20, *, progress: bool = False) -> Floats:
    """Mean and standard deviation over time of mel cepstral coefficients, shape (clips, 2 * n_mfcc)."""
    from scipy.fft import dct

    def features(power: Floats, rate: int) -> Floats:
        return np.asarray(dct(_log_mel(power, rate, 64), axis=0, norm="ortho")[:n_mfcc], dtype=np.float32)

    return audio_features(clips, features, progress=progress)


def chroma(clips: Iterable[_Clip], *, progress: bool = False) -> Floats:
    """Mean and standard deviation over time of the twelve pitch classes, shape (clips, 24)."""

    def features(power: Floats, rate: int) -> Floats:
        import librosa

        bank = librosa.filters.chroma(sr=rate, n_fft=2 * (len(power) - 1))
        raw = bank @ power
        return np.asarray(raw / np.maximum(raw.max(axis=0, keepdims=True), 1e-10), dtype=np.float32)

    return audio_features(clips, features, progress=progress)


def audio_features(
    clips: Iterable[_Clip], per_frame: Callable[[Floats, int], Floats], *, progress: bool = False
) -> Floats:
    """Mean and standard deviation over time of something computed from the power spectrogram.

    Parameters
    ----------
    clips : iterable of clips
        With ``audio`` (channels, samples) and ``sample_rate``; channels are averaged.
    per_frame : callable
        From power spectrogram (bins, frames) and sample rate to (features, frames).
    progress : bool
        Show a progress bar.

    Returns
    -------
    array of shape (clips, 2 * features), float32

    Raises
    ------
    DataError
        If there is no clip, or one is empty.
    """
    from tqdm import tqdm

    rows = []
    for clip in tqdm(clips, desc="audio features", unit="clip", disable=not progress, leave=False):
        power = _power(clip)
        values = per_frame(power, int(clip.sample_rate))
        rows.append(np.concatenate([values.mean(axis=1), values.std(axis=1)]))
    if not rows:
        raise DataError("no clips to compute audio features of.")
    return np.asarray(np.stack(rows), dtype=np.float32)


def site_features(ds: xr.Dataset, site: str | Site, pool: str | None = None) -> Floats:
    """Activations at one site as baseline features, shape (clips, dim)."""
    from interp.directions.reading import read_stacks

    (stack,) = read_stacks(ds, [site], pool)
    return np.asarray(stack.x[0], dtype=np.float32)


def align(ds: xr.Dataset, other: xr.Dataset) -> xr.Dataset:
    """The other dataset with exactly the clips of the first, in its order.

    Raises
    ------
    DataError
        If a clip is missing there.
    """
    wanted, present = ds["clip"].values, set(other["clip"].values.tolist())
    missing = [clip for clip in wanted.tolist() if clip not in present]
    if missing:
        raise DataError(
            f"{len(missing)} clips (first: {missing[0]}) are not in the other dataset: extract it from the same clips."
        )
    return other.sel(clip=wanted)


def _power(clip: _Clip) -> Floats:
    import torch

    audio = torch.as_tensor(np.asarray(clip.audio, dtype=np.float32)).reshape(-1, np.shape(clip.audio)[-1]).mean(0)
    if not len(audio):
        raise DataError(f"clip {clip.id} is empty.")
    size = int(2 ** round(np.log2(_WINDOW_SECONDS * clip.sample_rate)))
    if len(audio) < size:
        audio = torch.nn.functional.pad(audio, (0, size - len(audio)))
    spectrum = torch.stft(
        audio,
        size,
        hop_length=max(1, round(_HOP_SECONDS * clip.sample_rate)),
        window=torch.hann_window(size),
        return_complex=True,
        pad_mode="constant",
    )
    return np.asarray(spectrum.abs().square().numpy())


def _log_mel(power: Floats, rate: int, n_mels: int) -> Floats:
    import librosa

    bank = librosa.filters.mel(sr=rate, n_fft=2 * (len(power) - 1), n_mels=n_mels)
    return np.asarray(np.log(bank @ power + 1e-6), dtype=np.float32)
