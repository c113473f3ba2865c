"""Codes of clips, encoded once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from interp._files import atomic
from interp._manifest import digest
from interp.clips import Clip

if TYPE_CHECKING:
    from interp.model import MusicGen

__all__ = ["CodeCache", "encode_clip"]


class CodeCache:
    """Codes of clips on disk, by content of the clip and of the codec."""

    def __init__(self, folder: Path, model: MusicGen) -> None:
        self.folder, self.codec = folder, model.codec_fingerprint

    def get(self, key: str, encode: Callable[[], Tensor]) -> Tensor:
        """Codes of the clip with this key; encoded now if they are not there yet."""
        path = self.folder / f"{digest([self.codec, key])}.npy"
        with contextlib.suppress(FileNotFoundError, ValueError, EOFError):  # absent or cut short: encode again
            return torch.from_numpy(np.load(path, allow_pickle=False).astype(np.int64))
        codes = encode()
        with atomic(path) as partial:
            np.save(partial, codes.cpu().numpy().astype(np.int32))
        return codes


def encode_clip(model: MusicGen, clip: Clip) -> Tensor:
    """Codes ``[K, frames]`` of a clip."""
    # One clip at a time: batched convolutions round differently, and a clip's codes must not depend on its
    # neighbours.
    return model.encode(torch.from_numpy(clip.audio)[None], clip.sample_rate)[0]
