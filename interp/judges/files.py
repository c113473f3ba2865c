"""Judges of sounds that lie on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from interp.data.audio import read_audio, sound_files
from interp.judges.base import Judge, judge_all, named

__all__ = ["judge_files"]


def judge_files(judges: Sequence[Judge], path: str | Path) -> pd.DataFrame:
    """Judge a sound, or every sound in a folder and the folders in it.

    Parameters
    ----------
    judges : sequence of Judge
        Names must differ.
    path : str or Path
        A wav, flac, mp3 or ogg file, or a folder; sample rates may differ.

    Returns
    -------
    DataFrame
        One row a file: ``file``, and the columns of :func:`interp.judges.base.judge_all`.

    Raises
    ------
    ClipError
        If there is no sound, or one cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> from interp.data.audio import write_audio
    >>> from interp.judges.quality import QualityJudge
    >>> file = write_audio(Path(tempfile.mkdtemp()) / "silence.wav", np.zeros(16000), 16000)
    >>> judge_files([QualityJudge()], file)["quality.silent"].tolist()
    [True]
    """
    named(judges)
    files = sound_files(path)
    by_rate: dict[int, list[tuple[int, np.ndarray]]] = {}
    for index, file in enumerate(files):
        wave, rate = read_audio(file)
        by_rate.setdefault(rate, []).append((index, wave))
    parts = []
    for rate, items in by_rate.items():
        scores = judge_all(judges, [wave for _, wave in items], rate)
        scores.index = pd.Index([index for index, _ in items])
        parts.append(scores)
    table = pd.concat(parts).sort_index()
    table.insert(0, "file", [str(file) for file in files])
    return table
