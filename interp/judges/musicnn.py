"""The four taggers of Pons & Serra 2019 (``musicnn``, arXiv 1909.06654) in torch, with the weights of their wheel.

Trained on recorded music: MagnaTagATune (``MTT_``) and the Million Song Dataset (``MSD_``), fifty tags each. The
package ``musicnn`` only carries the weights: none of its code runs, and TensorFlow is not needed. Its checkpoints are
tables in the manner of LevelDB: an index file of sorted keys with a small protocol-buffer entry per tensor, and a data
file of raw little-endian numbers.
"""

from __future__ import annotations

import functools
import importlib.util
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from interp.errors import ModelError, StoreError

__all__ = ["MODELS", "SAMPLE_RATE", "TAGS", "Musicnn", "Vgg", "load_network", "log_mel", "read_checkpoint", "tags"]

SAMPLE_RATE = 16_000
HOP = 256
FRAMES = 187  # 3 s: what the networks were trained on
_N_FFT, _BANDS = 512, 96
_STEP = 94  # frames from one window to the next, at most
_HALF_MAX = 65504.0
_MAGIC = bytes.fromhex("57fb808b247547db")
MODELS = ("MTT_musicnn", "MSD_musicnn", "MTT_vgg", "MSD_vgg")
_MTT = (
    "guitar,classical,slow,techno,strings,drums,electronic,rock,fast,piano,ambient,beat,violin,vocal,synth,female,"
    "indian,opera,male,singing,vocals,no vocals,harpsichord,loud,quiet,flute,woman,male vocal,no vocal,pop,soft,sitar,"
    "solo,man,classic,choir,voice,new age,dance,male voice,female vocal,beats,harp,cello,no voice,weird,country,metal,"
    "female voice,choral"
)
_MSD = (
    "rock,pop,alternative,indie,electronic,female vocalists,dance,00s,alternative rock,jazz,beautiful,metal,chillout,"
    "male vocalists,classic rock,soul,indie rock,Mellow,electronica,80s,folk,90s,chill,instrumental,punk,oldies,blues,"
    "hard rock,ambient,acoustic,experimental,female vocalist,guitar,Hip-Hop,70s,party,country,easy listening,sexy,"
    "catchy,funk,electro,heavy metal,Progressive rock,60s,rnb,indie pop,sad,House,happy"
)
#: Tags of each model, in the order of its outputs.
TAGS: dict[str, tuple[str, ...]] = {name: tuple((_MTT if "MTT" in name else _MSD).split(",")) for name in MODELS}


# --- the checkpoint ------------------------------------------------------------------------------------------------


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A variable-length integer and the position after it."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _block(data: bytes, handle: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of the block at a handle (offset and size)."""
    offset, at = _varint(handle, 0)
    size, _ = _varint(handle, at)
    block, compression = data[offset : offset + size], data[offset + size]
    if compression:
        raise ValueError("a compressed block")
    end = size - 4 - 4 * int.from_bytes(block[-4:], "little")
    at, key = 0, b""
    while at < end:
        shared, at = _varint(block, at)
        fresh, at = _varint(block, at)
        length, at = _varint(block, at)
        key = key[:shared] + block[at : at + fresh]
        yield key, block[at + fresh : at + fresh + length]
        at += fresh + length


def _fields(message: bytes) -> dict[int, list[Any]]:
    """Fields of a protocol-buffer message: number -> values, integers or bytes."""
    fields: dict[int, list[Any]] = {}
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(message, at)
            fields.setdefault(tag >> 3, []).append(value)
            continue
        length = {1: 8, 5: 4}.get(kind)
        if length is None:
            length, at = _varint(message, at)
        fields.setdefault(tag >> 3, []).append(message[at : at + length])
        at += length
    return fields


def read_checkpoint(folder: Path) -> dict[str, NDArray[np.float32]]:
    """Read the float32 tensors of a TensorFlow checkpoint that has one shard and no compression.

    Parameters
    ----------
    folder : Path
        Holds ``.index`` and ``.data-00000-of-00001``.

    Returns
    -------
    dict of str to ndarray of float32
        By the variables' names; what the optimiser kept is left out.

    Raises
    ------
    StoreError
        If a file is missing or not of this form.
    """
    try:
        index = (folder / ".index").read_bytes()
        data = np.memmap(folder / ".data-00000-of-00001", np.uint8, "r")
        if index[-8:] != _MAGIC:
            raise ValueError("no table")
        footer = index[-48:]
        at = _varint(footer, _varint(footer, 0)[1])[1]  # past the handle of the block of other blocks' names
        tensors = {}
        for _, handle in _block(index, footer[at:]):
            for key, value in _block(index, handle):
                name, entry = key.decode(), _fields(value)
                if not name or "Adam" in name or entry.get(1, [0])[0] != 1:  # the header; not float32
                    continue
                shape = [_fields(size).get(1, [0])[0] for size in _fields(entry[2][0]).get(2, [])]
                offset, size = entry.get(4, [0])[0], entry[5][0]
                if size != 4 * math.prod(shape) or offset + size > len(data):
                    raise ValueError(f"{name} has {size} bytes for the shape {shape}")
                tensors[name] = np.frombuffer(data[offset : offset + size].tobytes(), "<f4").reshape(shape)
    except (OSError, ValueError, IndexError, KeyError) as error:
        raise StoreError(f"no checkpoint can be read from {folder} ({error}): install musicnn==0.1.0 anew.") from None
    return tensors


def _package_folder() -> Path:
    # found, not imported: importing the package would need TensorFlow
    spec = importlib.util.find_spec("musicnn")
    if spec is None or not spec.submodule_search_locations:
        raise ModelError("the tagger's weights are in the package musicnn: pip install --no-deps musicnn==0.1.0.")
    return Path(next(iter(spec.submodule_search_locations)))


# --- what the networks hear ----------------------------------------------------------------------------------------


@functools.cache
def _filters() -> Tensor:
    import librosa

    return torch.from_numpy(librosa.filters.mel(sr=SAMPLE_RATE, n_fft=_N_FFT, n_mels=_BANDS).T.copy())


def log_mel(audio: Tensor) -> Tensor:
    """What the networks hear.

    Parameters
    ----------
    audio : Tensor of float32, shape (clips, samples)
        At 16 kHz.

    Returns
    -------
    Tensor of float32, shape (clips, 1 + samples // 256, 96)
        ``log10(10000 mel + 1)`` of mel power that was rounded to half precision, as in the original.

    Examples
    --------
    >>> log_mel(torch.zeros(2, 48_000)).shape
    torch.Size([2, 188, 96])
    """
    # in double precision, as librosa does it: rounding to half precision makes much of the last bit of single precision
    frames = F.pad(audio.double(), (_N_FFT // 2, _N_FFT // 2)).unfold(-1, _N_FFT, HOP)
    window = torch.hann_window(_N_FFT, dtype=torch.float64)
    spectrum = torch.fft.rfft(frames * window).to(torch.complex64)
    mel = (spectrum.abs().square() @ _filters()).clamp(max=_HALF_MAX).half().float()
    return torch.log10(10_000 * mel + 1)


def windows_of(n_frames: int) -> list[int]:
    """First frames of the windows of 187 in which a clip is heard: evenly spaced, at most 94 frames apart.

    Examples
    --------
    >>> windows_of(251), windows_of(187), windows_of(400)
    ([0, 64], [0], [0, 71, 142, 213])
    """
    free = max(0, n_frames - FRAMES)
    return [round(at) for at in np.linspace(0, free, 1 + math.ceil(free / _STEP))]


# --- the networks --------------------------------------------------------------------------------------------------


class _Norm(nn.Module):
    """Batch normalisation of the last axis, with the averages of training."""

    def __init__(self, weights: Mapping[str, NDArray[np.float32]], index: int) -> None:
        super().__init__()
        name = f"batch_normalization_{index}" if index else "batch_normalization"
        gamma, beta, mean, variance = (
            torch.from_numpy(weights[f"{name}/{part}"].copy())
            for part in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        scale = gamma / torch.sqrt(variance + 1e-3)
        self.register_buffer("scale", scale)
        self.register_buffer("shift", beta - mean * scale)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.get_buffer("scale") + self.get_buffer("shift")


def _tensor(weights: Mapping[str, NDArray[np.float32]], name: str) -> Tensor:
    return torch.from_numpy(weights[name].copy())


class _Layers(nn.Module):
    """Convolutions ``[out, in, time, bands]`` and dense layers ``[out, in]`` of a checkpoint, by name."""

    def __init__(self, weights: Mapping[str, NDArray[np.float32]], n_norms: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(_Norm(weights, i) for i in range(n_norms))
        for name in [key.removesuffix("/kernel") for key in weights if key.endswith("/kernel")]:
            kernel = _tensor(weights, f"{name}/kernel")
            kernel = kernel.permute(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T
            self.register_buffer(f"kernel_{name}", kernel.contiguous())
            self.register_buffer(f"bias_{name}", _tensor(weights, f"{name}/bias"))

    def conv(self, name: str, x: Tensor, **options: Any) -> Tensor:
        """Convolution and rectifier."""
        kernel, bias = self.get_buffer(f"kernel_{name}"), self.get_buffer(f"bias_{name}")
        return F.relu(F.conv2d(x, kernel, bias, **options))

    def dense(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.get_buffer(f"kernel_{name}"), self.get_buffer(f"bias_{name}"))

    def norm(self, index: int, x: Tensor, channel: int = -1) -> Tensor:
        """Batch normalisation along an axis."""
        normed: Tensor = self.norms[index](x.transpose(channel, -1)).transpose(channel, -1)
        return normed


class Musicnn(_Layers):
    """Musically shaped convolutions (timbral and temporal), three of depth one, pooling over time, a dense layer.

    :meth:`forward` takes log mels ``[windows, 187, 96]`` and gives logits ``[windows, 50]`` and the penultimate layer
    ``[windows, 200]``.
    """

    dim = 200

    def __init__(self, weights: Mapping[str, NDArray[np.float32]]) -> None:
        super().__init__(weights, 11)

    def forward(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        heard = self.norm(0, mel[:, None], channel=1)  # [windows, 1, time, bands]
        features = []
        for i, name in enumerate(("conv2d", "conv2d_1")):  # timbre: tall filters, the loudest place in frequency
            made = self.conv(name, heard, padding=(3, 0))
            features.append(self._pooled(i + 1, made))
        for i, length in ((2, 128), (3, 64), (4, 32)):  # rhythm: long filters of one band
            made = self.conv(f"conv2d_{i}", F.pad(heard, (0, 0, length // 2 - 1, length // 2)))
            features.append(self._pooled(i + 1, made))
        front = torch.cat(features, 1)  # [windows, 561, time]
        first = self._deep(5, front)
        second = self._deep(6, first) + first
        third = self._deep(7, second) + second
        every = torch.cat([front, first, second, third], 1)
        pooled = torch.stack([every.amax(2), every.mean(2)], 2).flatten(1)
        penultimate = self.norm(10, F.relu(self.dense("dense", self.norm(9, pooled))))
        return self.dense("dense_1", penultimate), penultimate

    def _pooled(self, norm: int, made: Tensor) -> Tensor:
        """Normalised ``[windows, channels, time, places]`` at its greatest place."""
        return self.norm(norm, made, channel=1).amax(3)

    def _deep(self, index: int, x: Tensor) -> Tensor:
        """Convolution over seven frames of all channels of ``[windows, channels, time]``."""
        made = self.conv(f"conv2d_{index}", x.transpose(1, 2)[:, None], padding=(3, 0))[..., 0]
        return self.norm(index + 1, made, channel=1)


class Vgg(_Layers):
    """Five small convolutions with pooling; takes and gives what :class:`Musicnn` does, the penultimate layer being the
    last pooling ``[windows, 256]``."""

    dim = 256

    def __init__(self, weights: Mapping[str, NDArray[np.float32]]) -> None:
        super().__init__(weights, 6)

    def forward(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        x = self.norm(0, mel[:, None], channel=1)
        pools: list[tuple[tuple[int, int], int]] = [((4, 1), 2), ((2, 2), 2), ((2, 2), 2), ((2, 2), 2), ((4, 4), 4)]
        for i, (size, stride) in enumerate(pools, start=1):
            x = F.max_pool2d(self.norm(i, self.conv(f"{i}CNN", x, padding=1), channel=1), size, stride)
        penultimate = x.permute(0, 2, 3, 1).flatten(1)
        return self.dense("dense", penultimate), penultimate


@functools.cache
def load_network(model: str) -> Musicnn | Vgg:
    """One of :data:`MODELS`, read once a process.

    Raises
    ------
    ModelError
        If there is no such model, or the package with the weights is missing.
    StoreError
        If the weights cannot be read.
    """
    if model not in MODELS:
        raise ModelError(f"there is no tagger {model!r}: choose one of {', '.join(MODELS)}.")
    folder = _package_folder() / model
    weights = read_checkpoint(folder)
    try:
        network = Musicnn(weights) if model.endswith("musicnn") else Vgg(weights)
    except KeyError as error:
        raise StoreError(f"the checkpoint in {folder} lacks {error}: install musicnn==0.1.0 anew.") from None
    return network.eval()


@torch.no_grad()
def tags(
    audio: Tensor, models: Sequence[str] = ("MTT_musicnn",), batch_size: int = 8
) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.float32]]:
    """Hear clips of one length.

    Parameters
    ----------
    audio : Tensor of float32, shape (clips, samples)
        At 16 kHz. Less than 3 s is repeated until it fills a window, as the networks were trained.
    models : sequence of str
        Some of :data:`MODELS`.
    batch_size : int
        Windows at once.

    Returns
    -------
    logits : dict of str to ndarray of float32, shape (clips, 50)
        By model; the logit of a clip's mean probability over its windows.
    embedding : ndarray of float32, shape (clips, dims)
        Mean penultimate layers, those of all models side by side.
    """
    mel = torch.cat([log_mel(part) for part in torch.split(audio, 16)])
    if mel.shape[1] < FRAMES:
        mel = mel.repeat(1, -(-FRAMES // mel.shape[1]), 1)[:, :FRAMES]
    starts = windows_of(mel.shape[1])
    windows = torch.cat([mel[:, at : at + FRAMES] for at in starts])
    logits, embeddings = {}, []
    for model in models:
        network = load_network(model)
        parts = [network(part) for part in torch.split(windows, batch_size)]
        chances = torch.sigmoid(torch.cat([said for said, _ in parts]).double()).reshape(len(starts), len(mel), -1)
        logits[model] = torch.logit(chances.mean(0), 1e-9).float().numpy()
        embeddings.append(torch.cat([inner for _, inner in parts]).reshape(len(starts), len(mel), -1).mean(0))
    return logits, torch.cat(embeddings, 1).numpy()
