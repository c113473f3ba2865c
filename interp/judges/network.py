"""The listening network of the rendered judge: two log-mel spectrograms, a small CNN, one head per trait.

It hears audio only. Its spectrograms have settings of their own (window, hop and bands differ from the codec's), so
that it does not see the very numbers the codec quantises.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

__all__ = ["EMBED_DIM", "HOP", "MIN_SECONDS", "SAMPLE_RATE", "ListeningNet", "log_mels"]

SAMPLE_RATE = 16_000
MIN_SECONDS = 0.8
HOP = 384  # 24 ms
_WINDOWS = (512, 2048)  # 32 ms tells drum hits apart, 128 ms tells bass notes apart
_BANDS = 64
_LOW, _HIGH = 30.0, 7600.0
_FLOOR = 1e-4  # 80 dB below a full-scale band after levelling
EMBED_DIM = 96


@functools.cache
def _filters(window: int) -> Tensor:
    """Mel filters, float32 ``[window // 2 + 1, bands]``, each of unit area so that both windows agree in level."""
    import torchaudio

    filters: Tensor = torchaudio.functional.melscale_fbanks(
        window // 2 + 1, _LOW, _HIGH, _BANDS, SAMPLE_RATE, norm=None
    )
    return filters / filters.sum(0, keepdim=True).clamp_min(1.0)


def log_mels(audio: Tensor) -> Tensor:
    """Two log-mel spectrograms of mono audio, levelled clip by clip.

    Parameters
    ----------
    audio : torch.Tensor, float32 ``[clips, samples]``
        At 16 kHz.

    Returns
    -------
    torch.Tensor, float32 ``[clips, 2, bands, frames]``
        Natural log of the magnitude, 24 ms a frame, roughly of zero mean and unit variance.
    """
    level = audio.square().mean(-1, keepdim=True).sqrt().clamp_min(1e-5)
    audio = audio / level * 0.1
    planes = []
    for window in _WINDOWS:
        shape = torch.hann_window(window)
        spectrum = torch.stft(audio, window, HOP, window=shape, return_complex=True, pad_mode="constant")
        magnitude = spectrum.abs().transpose(1, 2) / shape.sum()
        planes.append((magnitude @ _filters(window)).transpose(1, 2))
    return (torch.stack(planes, 1).clamp_min(_FLOOR).log() + 6.5) / 1.6


class ListeningNet(nn.Module):
    """CNN over log-mel spectrograms with one output per question.

    Parameters
    ----------
    heads : mapping of str to int
        Question -> number of classes; a question with one class is answered by a sigmoid, others by a softmax.
    channels : sequence of int
        Width of the four convolutions.
    """

    def __init__(self, heads: Mapping[str, int], channels: Sequence[int] = (16, 32, 64, 96)) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        before = len(_WINDOWS)
        for i, width in enumerate(channels):
            blocks += [
                nn.Conv2d(before, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
                nn.MaxPool2d((2, 2) if i < 3 else (2, 1)),
            ]
            before = width
        self.body = nn.Sequential(*blocks)
        rows = _BANDS // 2 ** len(channels)
        self.mix = nn.Sequential(
            nn.Conv1d(before * rows, EMBED_DIM, 1, bias=False), nn.BatchNorm1d(EMBED_DIM), nn.ReLU()
        )
        # mean, maximum and spread over time: what is there, whether it is ever there, whether it changes
        self.squeeze = nn.Sequential(nn.Dropout(0.2), nn.Linear(3 * EMBED_DIM, EMBED_DIM), nn.ReLU())
        self.heads = nn.ModuleDict({name: nn.Linear(EMBED_DIM, size) for name, size in heads.items()})

    def embed(self, mels: Tensor) -> Tensor:
        """Spectrograms ``[clips, 2, bands, frames]`` to embeddings ``[clips, EMBED_DIM]``."""
        hidden = self.mix(self.body(mels).flatten(1, 2))
        pooled = torch.cat([hidden.mean(-1), hidden.amax(-1), hidden.std(-1, correction=0)], 1)
        squeezed: Tensor = self.squeeze(pooled)
        return squeezed

    def forward(self, mels: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Return the logits by question, ``[clips, classes]`` each, and the embedding."""
        embedding = self.embed(mels)
        return {name: head(embedding) for name, head in self.heads.items()}, embedding
