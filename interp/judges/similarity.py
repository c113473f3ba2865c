"""How much a continuation still resembles the music it continues."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from interp.errors import DataError
from interp.judges.audio import Audio, mono
from interp.judges.dsp import chroma_vector

__all__ = ["Embed", "prompt_similarity"]

Embed = Callable[[Audio, int], NDArray[np.float32]]
"""Audio and its sample rate to one embedding per clip, ``[N, dim]``."""

_RATE = 16_000


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


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
