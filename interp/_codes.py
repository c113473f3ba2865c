"""Codes of clips, encoded once."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from interp._files import atomic
from interp.clips import Clips

if TYPE_CHECKING:
    from interp.model import MusicGen

__all__ = ["CodeCache", "digest", "encode_clip"]


class CodeCache:
    """Codes of clips on disk, by content of the clip and of the codec."""

    def __init__(self, folder: Path, model: MusicGen) -> None:
        self.folder, self.model = folder, model

    def get(self, clips: Clips, i: int) -> Tensor:
        path = self.folder / f"{digest([self.model.codec_fingerprint, clips.key(i)])}.npy"
        with contextlib.suppress(FileNotFoundError, ValueError, EOFError):  # absent or cut short: encode again
            return torch.from_numpy(np.load(path, allow_pickle=False).astype(np.int64))
        codes = encode_clip(self.model, clips, i)
        with atomic(path) as partial:
            np.save(partial, codes.cpu().numpy().astype(np.int32))
        return codes


def encode_clip(model: MusicGen, clips: Clips, i: int) -> Tensor:
    clip = clips[i]
    # One clip at a time: batched convolutions round differently, and a clip's codes must not depend on its
    # neighbours.
    return model.encode(torch.from_numpy(clip.audio)[None], clip.sample_rate)[0]


def digest(parts: Sequence[Any]) -> str:
    """Sixteen hexadecimal digits of a list of plain values."""
    return hashlib.sha256(json.dumps(list(parts)).encode()).hexdigest()[:16]
