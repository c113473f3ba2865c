"""Clips with a trait beside clips without it: one score rendered twice, or labelled clips in turn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from interp.clips import Clips
from interp.data.factors import GENRES, INSTRUMENTS
from interp.data.render import render_arrays
from interp.errors import DataError
from interp.traits import Trait

__all__ = ["balanced", "render_pairs"]

_OTHERS: dict[str, tuple[Any, ...]] = {"genre": GENRES, "instrument": tuple(INSTRUMENTS)}


def render_pairs(trait: str | Trait, n: int, *, seed: int = 0, seconds: float = 4.0, progress: bool = False) -> Clips:
    """Render n scores twice, with the trait and without: nothing else differs (the paper's stems taken out).

    For a class, the clip without it has another class of the same label; that of the pair, if one is named.

    Parameters
    ----------
    trait : str or Trait
        ``drums``, ``bass``, or a class of ``genre`` or ``instrument``.
    n : int
        Pairs.
    seed : int
        Of the scores.
    seconds : float
        Length of a clip.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Clips
        2 n of them, mono at 16 kHz: with the trait and without, in turn.

    Raises
    ------
    DataError
        If no music can be rendered with and without it.

    Examples
    --------
    >>> clips = render_pairs("drums", 2, seconds=0.2)
    >>> clips.labels["drums"].tolist(), clips.labels["group"].nunique()
    ([1, 0, 1, 0], 2)
    """
    trait = Trait.parse(trait)
    known = _OTHERS.get(trait.column, ())
    asked = [name for name in (trait.positive, trait.against) if name]
    if not set(asked) <= set(known) or (not asked and trait.column not in ("drums", "bass")):
        raise DataError(f"no music can be rendered with and without {str(trait)!r}: give --data, a folder with labels.")
    others = ([trait.against] if trait.against else [v for v in known if v != trait.positive]) if asked else [False]
    sounds, tables = [], []
    for i, other in enumerate(others):
        count = len(range(i, n, len(others)))
        if not count:
            continue
        # scores are drawn alike whatever is fixed, so both sets hold the same scores
        both = [
            render_arrays(count, 1000 * seed + i, seconds, {trait.column: fixed}, "realistic", 1, progress)
            for fixed in (trait.positive or True, other)
        ]
        for j in range(count):  # clips of one score next to each other
            sounds += [audio[j] for audio, _ in both]
            tables += [labels.iloc[[j]] for _, labels in both]
    order = np.random.default_rng([seed, 5]).permutation(n)  # so that the first pairs hold all other classes
    order = (2 * order[:, None] + np.arange(2)).ravel()
    labels = pd.concat(tables).iloc[order]
    labels.index = pd.Index([f"pair-{seed}-{i // 2:05d}-{('with', 'without')[i % 2]}" for i in range(2 * n)])
    return Clips.from_arrays([sounds[i] for i in order], 16_000, labels)


def balanced(clips: Clips, trait: str | Trait, n: int, *, seed: int = 0) -> Clips:
    """Of labelled clips, at most n with the trait and as many without, in turn.

    Raises
    ------
    DataError
        If there are fewer than eight of either.

    Examples
    --------
    >>> clips = Clips.from_arrays([[0.0, 0.1]] * 20, 16_000, {"drums": [1] * 9 + [0] * 11})
    >>> balanced(clips, "drums", 8).labels["drums"].tolist()[:4]
    [1, 0, 1, 0]
    """
    trait = Trait.parse(trait)
    rng = np.random.default_rng([seed, 10])
    sides = [rng.permutation(np.flatnonzero(side(clips.labels))) for side in (trait.has, trait.lacks)]
    count = min(n, *(len(side) for side in sides))
    if count < 8:
        raise DataError(f"{count} clips of the folder are left with (or without) {trait}: 8 or more are needed.")
    return clips.subset(np.stack([side[:count] for side in sides], axis=1).ravel())
