"""The training music of the shipped model: rendered, encoded, kept as codes in parts that survive an interruption."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from interp._files import atomic
from interp.backends.audiocraft import CompressionModel
from interp.data.render import render_arrays
from interp.testbed.prompts import PHRASES, describe_clip

if TYPE_CHECKING:
    from interp.data.factors import Mix

__all__ = ["CLIP_SECONDS", "encode_clips", "load_part", "part_path", "render_part"]

CLIP_SECONDS = 4.0
_TRAITS = tuple(PHRASES)


def encode_clips(codec: CompressionModel, audio: npt.NDArray[np.float32], batch: int = 100) -> torch.Tensor:
    """Codes ``[clips, 4, frames]`` (int64) of audio ``[clips, 1, samples]``."""
    chunks = (torch.from_numpy(audio[i : i + batch]) for i in range(0, len(audio), batch))
    return torch.cat([codec.encode(chunk)[0] for chunk in chunks])


def part_path(folder: Path, part: int) -> Path:
    """Where a part of the corpus is kept."""
    return folder / f"part-{part:04d}.npz"


def render_part(folder: Path, part: int, seed: int, codec: CompressionModel, size: int, hard: int = 6) -> Path:
    """Render and encode one part of the corpus unless it is there; one part in ``hard`` has hard mixes.

    The file holds ``codes`` (int16, ``[clips, 4, frames]``) and ``phrases`` (int8, ``[clips, traits]``, an index into
    each trait's phrases). It appears whole or not at all.
    """
    path = part_path(folder, part)
    if path.exists():
        return path
    mix: Mix = "hard" if part % hard == hard - 1 else "realistic"
    audio, labels = render_arrays(size, seed * 100_000 + part, CLIP_SECONDS, mix=mix)
    codes = encode_clips(codec, audio).to(torch.int16).numpy()
    said = [describe_clip({str(k): v for k, v in row.items()}) for row in labels.to_dict("records")]
    phrases = np.array([[PHRASES[trait].index(one[trait]) for trait in _TRAITS] for one in said], np.int8)
    with atomic(path) as partial:
        np.savez_compressed(partial, codes=codes, phrases=phrases)
    return path


def load_part(folder: Path, part: int, wait: bool = False) -> tuple[torch.Tensor, npt.NDArray[np.int8]]:
    """Codes (int16) and phrase indices of a part; with ``wait``, as soon as another process has rendered it."""
    path = part_path(folder, part)
    while wait and not path.exists():
        time.sleep(1.0)
    with np.load(path, allow_pickle=False) as data:
        return torch.from_numpy(data["codes"]), data["phrases"]
