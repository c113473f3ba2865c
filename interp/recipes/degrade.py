"""Ruined audio: what a steered model puts out when it is pushed too far, and other sound that is not music.

Judges are trained and tested on it, since a judge that knows only clean music hears drums in any noise.
Every function takes music and returns something of the same shape that no trait should be read from.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from interp.errors import DataError

__all__ = ["AUDIO_KINDS", "CODE_KINDS", "KINDS", "UNSEEN_KINDS", "Codec", "blemish", "degrade", "round_trip"]

_RATE = 16_000


class Codec(Protocol):
    """What is needed of a codec; audiocraft's ``CompressionModel`` is one."""

    @property
    def cardinality(self) -> int: ...

    def encode(self, x: Tensor) -> tuple[Tensor, Any]: ...

    def decode(self, codes: Tensor, scale: Any = None) -> Tensor: ...


def round_trip(codec: Codec, audio: Tensor, batch_size: int = 4) -> Tensor:
    """Encode and decode clips ``[N, T]``; as many samples come back. Small batches stay within a CPU's cache."""
    heard = [
        codec.decode(codec.encode(part[:, None])[0])[:, 0, : audio.shape[1]] for part in torch.split(audio, batch_size)
    ]
    return torch.cat(heard)


# --- codes: [K, frames] of one clip, and those of another clip -> codes -------------------------------------------


def _shuffled(codes: Tensor, other: Tensor, n: int, rng: np.random.Generator) -> Tensor:
    """All frames in random order."""
    return codes[:, rng.permutation(codes.shape[1])]


def _random(codes: Tensor, other: Tensor, n: int, rng: np.random.Generator) -> Tensor:
    """Codes drawn uniformly, in all frames or in most of them."""
    drawn = torch.from_numpy(rng.integers(0, n, codes.shape))
    hit = torch.from_numpy(rng.random(codes.shape[1]) < rng.choice([0.6, 0.8, 1.0]))
    return torch.where(hit, drawn, codes)


def _coarse(codes: Tensor, other: Tensor, n: int, rng: np.random.Generator) -> Tensor:
    """The first codebook drawn at random, the finer ones kept."""
    drawn = codes.clone()
    drawn[0] = torch.from_numpy(rng.integers(0, n, codes.shape[1]))
    return drawn


def _mixed(codes: Tensor, other: Tensor, n: int, rng: np.random.Generator) -> Tensor:
    """Each codebook's codes in a random order of their own, so that no frame is one that ever sounded."""
    return torch.stack([book[rng.permutation(codes.shape[1])] for book in (codes[0], *other[1:])])


def _frozen(codes: Tensor, other: Tensor, n: int, rng: np.random.Generator) -> Tensor:
    """One to eight frames (at most 160 ms), over and over."""
    length = int(rng.choice([1, 1, 2, 3, 4, 6, 8]))
    start = int(rng.integers(0, codes.shape[1] - length))
    return codes[:, start + np.arange(codes.shape[1]) % length]


def _stuttered(codes: Tensor, other: Tensor, n: int, rng: np.random.Generator) -> Tensor:
    """Frames from anywhere, each held for 20 to 200 ms."""
    steps: list[int] = []
    while len(steps) < codes.shape[1]:
        steps += [int(rng.integers(0, codes.shape[1]))] * int(rng.integers(1, 11))
    return codes[:, steps[: codes.shape[1]]]


def _alternating(codes: Tensor, other: Tensor, n: int, rng: np.random.Generator) -> Tensor:
    """A handful of random code vectors in random order: a model that has collapsed onto a few tokens."""
    few = torch.from_numpy(rng.integers(0, n, (codes.shape[0], int(rng.integers(1, 9)))))
    return few[:, rng.integers(0, few.shape[1], codes.shape[1])]


# --- audio: [T] of one clip -> [T] --------------------------------------------------------------------------------


def _coloured(size: int, rng: np.random.Generator, slope: float) -> Tensor:
    """Noise with a power spectrum of ``1 / f ** slope``, unit RMS."""
    spectrum = np.fft.rfft(rng.standard_normal(size))
    spectrum /= np.maximum(np.fft.rfftfreq(size, 1 / _RATE), 20.0) ** (slope / 2)
    noise = np.fft.irfft(spectrum, size)
    return torch.from_numpy((noise / noise.std()).astype(np.float32))


def _noise(audio: Tensor, rng: np.random.Generator) -> Tensor:
    """White to brown noise alone, steady or in bursts."""
    noise = _coloured(len(audio), rng, rng.uniform(0, 2))
    if rng.random() < 0.4:
        rate, depth = rng.uniform(0.5, 12), rng.uniform(0.5, 1)
        swell = 1 - depth * (np.sin(2 * np.pi * rate * np.arange(len(audio)) / _RATE + rng.uniform(0, 6)) > 0)
        noise = noise * torch.from_numpy(swell.astype(np.float32))
    return noise * 0.1


def _buried(audio: Tensor, rng: np.random.Generator) -> Tensor:
    """Music under noise 3 to 15 dB louder than itself."""
    noise = _coloured(len(audio), rng, rng.uniform(0, 1))
    return audio + noise * audio.std() * 10 ** (rng.uniform(3, 15) / 20)


def _smeared(audio: Tensor, rng: np.random.Generator) -> Tensor:
    """Spread in time by a long steady noise tail, so that only the average spectrum is left."""
    tail = rng.standard_normal(int(rng.uniform(1.0, 2.0) * _RATE)).astype(np.float32)
    size = 2 * len(audio)
    spread = np.fft.irfft(np.fft.rfft(np.tile(audio.numpy(), 3)[:size], size) * np.fft.rfft(tail, size), size)
    wet = torch.from_numpy(spread[len(audio) // 2 :][: len(audio)].astype(np.float32))
    return wet / wet.std().clamp_min(1e-6) * 0.1


def _clipped(audio: Tensor, rng: np.random.Generator) -> Tensor:
    """Amplified 35 to 50 dB beyond full scale and cut off: a square wave of what was there."""
    return (audio / audio.std().clamp_min(1e-6) * 10 ** (rng.uniform(35, 50) / 20)).clamp(-1, 1) * rng.uniform(0.1, 1)


def _silent(audio: Tensor, rng: np.random.Generator) -> Tensor:
    """Nothing, or noise some 70 to 90 dB down."""
    return _coloured(len(audio), rng, 0.0) * (0.0 if rng.random() < 0.3 else 10 ** (-rng.uniform(70, 90) / 20))


def _tones(audio: Tensor, rng: np.random.Generator) -> Tensor:
    """A few steady sine waves."""
    time = np.arange(len(audio)) / _RATE
    tones = [
        np.sin(2 * np.pi * 10 ** rng.uniform(1.8, 3.7) * time + rng.uniform(0, 6))
        for _ in range(int(rng.integers(1, 5)))
    ]
    return torch.from_numpy((np.mean(tones, 0) * 0.2).astype(np.float32))


def _swept(audio: Tensor, rng: np.random.Generator) -> Tensor:
    """A siren: one tone that glides up and down."""
    time = np.arange(len(audio)) / _RATE
    pitch = 10 ** rng.uniform(2.3, 3.3) * 2 ** (rng.uniform(0.3, 1.5) * np.sin(2 * np.pi * rng.uniform(0.2, 3) * time))
    return torch.from_numpy((np.sin(2 * np.pi * np.cumsum(pitch) / _RATE) * 0.2).astype(np.float32))


def _instants(size: int, rate: float, rng: np.random.Generator) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Samples at which something sets in, `rate` times a second: as even as a metronome, or at random."""
    if rng.random() < 0.5:
        return np.arange(int(rng.integers(0, int(_RATE / rate))), size, int(_RATE / rate))
    return np.sort(rng.integers(0, size, max(1, int(size / _RATE * rate))))


def _bursts(audio: Tensor, rng: np.random.Generator) -> Tensor:
    """Bursts of white to pink noise of 10 to 300 ms in silence, cut off or dying away, in time or out of it."""
    out = torch.zeros(len(audio))
    length, slope = int(_RATE * 10 ** rng.uniform(-2, -0.5)), rng.uniform(0, 1)
    fall = np.exp(-np.arange(length) / (length * rng.uniform(0.1, 0.4))) if rng.random() < 0.7 else np.ones(length)
    for at in _instants(len(audio), rng.uniform(1, 12), rng):
        burst = _coloured(length, rng, slope) * torch.from_numpy(fall * rng.uniform(0.3, 1)).float()
        out[at : at + length] += burst[: len(audio) - at]
    return out * 0.2


def _clicks(audio: Tensor, rng: np.random.Generator) -> Tensor:
    """Clicks at random instants or as even as a metronome, over faint noise or nothing."""
    out = _coloured(len(audio), rng, 0.0) * (0.002 if rng.random() < 0.7 else 0.0)
    for at in _instants(len(audio), rng.uniform(2, 40), rng):
        out[at] += float(rng.choice([-1, 1]) * rng.uniform(0.2, 1))
    return out


CODE_KINDS: dict[str, Callable[[Tensor, Tensor, int, np.random.Generator], Tensor]] = {
    "shuffled codes": _shuffled,
    "random codes": _random,
    "random first codebook": _coarse,
    "mixed codebooks": _mixed,
    "frozen codes": _frozen,
    "stuttered codes": _stuttered,
    "alternating codes": _alternating,
}
AUDIO_KINDS: dict[str, Callable[[Tensor, np.random.Generator], Tensor]] = {
    "noise": _noise,
    "noise bursts": _bursts,
    "music under noise": _buried,
    "smeared": _smeared,
    "clipped": _clipped,
    "silence": _silent,
    "steady tones": _tones,
    "siren": _swept,
    "clicks": _clicks,
}
KINDS = (*CODE_KINDS, *AUDIO_KINDS)
#: Kept out of training: how the judge does on these tells how it does on ruin that nobody thought of.
UNSEEN_KINDS = ("alternating codes", "smeared", "siren")


def degrade(audio: Tensor, kind: str, codec: Codec, rng: np.random.Generator, batch_size: int = 4) -> Tensor:
    """Ruin clips.

    Every second clip of :data:`AUDIO_KINDS` is heard through the codec, as a model that plays such sound would be.

    Parameters
    ----------
    audio : Tensor, float32 ``[N, T]``
        Mono music at 16 kHz.
    kind : str
        One of :data:`KINDS`.
    codec : Codec
        Of the model whose music is judged.
    rng : numpy.random.Generator
        Decides all that is random.
    batch_size : int
        Clips decoded at once.

    Returns
    -------
    Tensor, float32 ``[N, T]``

    Raises
    ------
    DataError
        If `kind` is unknown.
    """
    if kind in AUDIO_KINDS:
        ruined = torch.stack([AUDIO_KINDS[kind](clip, rng).to(torch.float32) for clip in audio])
        if len(ruined) > 1:
            ruined[1::2] = round_trip(codec, ruined[1::2], batch_size)
        return ruined
    if kind not in CODE_KINDS:
        raise DataError(f"there is no degradation {kind!r}: choose one of {', '.join(KINDS)}.")
    codes = codec.encode(audio[:, None])[0]
    ruined = torch.stack(
        [CODE_KINDS[kind](codes[i], codes[(i + 1) % len(codes)], codec.cardinality, rng) for i in range(len(codes))]
    )
    return torch.cat([codec.decode(part)[:, 0, : audio.shape[1]] for part in torch.split(ruined, batch_size)])


def blemish(codec: Codec, audio: Tensor, rng: np.random.Generator, batch_size: int = 4) -> Tensor:
    """Round trip with the small faults of a language model: still music, and still the same traits.

    In half of the clips up to 4 % of the frames are taken from elsewhere in the clip, in one of six the codes of the
    last codebook come from random frames of the clip.
    """
    codes = codec.encode(audio[:, None])[0].clone()
    frames = codes.shape[2]
    for clip in codes:
        if rng.random() < 0.5:
            hit = np.flatnonzero(rng.random(frames) < rng.uniform(0, 0.04))
            clip[:, hit] = clip[:, rng.integers(0, frames, len(hit))]
        if rng.random() < 1 / 6:
            clip[-1] = clip[-1, rng.permutation(frames)]
    return torch.cat([codec.decode(part)[:, 0, : audio.shape[1]] for part in torch.split(codes, batch_size)])
