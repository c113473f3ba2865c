"""Sounds with or without a trait: to be continued, and to be compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from interp.errors import DataError
from interp.traits import Trait

if TYPE_CHECKING:
    from interp.clips import Clips
    from interp.model import MusicGen

__all__ = ["draw", "encode", "prompts_with", "prompts_without", "reference_sounds"]

# Far from the seeds that training and probing clips are rendered from, and from each other.
PROMPTS, REFERENCE = 900_001, 800_003


def draw(
    trait: str | Trait | None,
    n: int,
    seconds: float,
    *,
    present: bool = True,
    seed: int = 0,
    clips: Clips | None = None,
) -> Clips:
    """Take n sounds that have a trait, or lack it.

    Parameters
    ----------
    trait : str, Trait or None
        Of a pair (``genre=jazz|rock``), those that lack it are of the other class. None for music of all kinds.
    n : int
        How many.
    seconds : float
        Length of rendered ones.
    present : bool
        Whether they have it.
    seed : int
        Of the rendering.
    clips : Clips, optional
        Labelled sounds to take them from, one of each group before the second of any; rendered, each from a score of
        its own, when not given.

    Returns
    -------
    Clips
        n of them.

    Raises
    ------
    DataError
        If too few have (lack) it.

    Examples
    --------
    >>> import pandas as pd
    >>> from interp.clips import Clips
    >>> labels = pd.DataFrame({"drums": [1, 1, 0, 1], "group": ["a", "a", "b", "c"]}, index=list("wxyz"))
    >>> clips = Clips.from_arrays([np.ones((1, 8))] * 4, 8000, labels)
    >>> list(draw("drums", 2, 1.0, clips=clips).ids)
    ['w', 'z']
    """
    trait = None if trait is None else Trait.parse(trait)
    if clips is None:
        clips, chosen = _rendered(trait, n, seconds, present, seed)
    elif trait is None:
        chosen = np.arange(len(clips))
    else:
        chosen = np.flatnonzero(trait.has(clips.labels) if present else trait.lacks(clips.labels))
    if len(chosen) < n:
        what = "there are" if trait is None else f"{'have' if present else 'lack'} {trait}"
        raise DataError(f"{len(chosen)} sounds {what}, but {n} are needed: give more, or take fewer seeds.")
    again = clips.labels.iloc[chosen].groupby("group").cumcount().to_numpy()
    return clips.subset(chosen[np.argsort(again, kind="stable")][:n])


def _rendered(trait: Trait | None, n: int, seconds: float, present: bool, seed: int) -> tuple[Clips, NDArray[np.intp]]:
    from interp.data import render_clips

    fixed: dict[str, Any] | None = None
    count = n
    if trait is not None:
        only = trait.positive if present else trait.against
        if only or not trait.positive:
            fixed = {trait.column: only or present}
        else:  # a class is absent from most scores
            count = 2 * n + 16
    clips = render_clips(count, seed=seed, seconds=seconds, factors=fixed, clips_per_score=1)
    if trait is None or fixed is not None:
        return clips, np.arange(n)
    return clips, np.flatnonzero((clips.labels[trait.column].astype(str) != trait.positive).to_numpy())


def encode(model: MusicGen, clips: Clips, seconds: float) -> list[torch.Tensor]:
    """Codes ``[codebooks, frames]`` of the first seconds of each clip.

    Raises
    ------
    DataError
        If a clip is shorter.

    Examples
    --------
    >>> import numpy as np
    >>> from interp.backends.build import random_musicgen
    >>> from interp.clips import Clips
    >>> from interp.model import MusicGen
    >>> clips = Clips.from_arrays([np.zeros(16_000)], 16_000)
    >>> [codes.shape for codes in encode(MusicGen(random_musicgen()), clips, 0.5)]
    [torch.Size([4, 25])]
    """
    codes = []
    for clip in clips:
        samples = round(seconds * clip.sample_rate)
        if clip.audio.shape[-1] < samples:
            raise DataError(f"the clip {clip.id} lasts {clip.seconds:.1f} s, but {seconds:g} s of it are continued.")
        audio = torch.as_tensor(np.asarray(clip.audio))[None, :, :samples]
        codes.append(model.encode(audio, clip.sample_rate)[0])
    return codes


def prompts_without(
    model: MusicGen, trait: str | Trait, n: int, seconds: float, *, seed: int = 0, clips: Clips | None = None
) -> list[torch.Tensor]:
    """Codes ``[codebooks, frames]`` of the first seconds of n sounds without the trait, one a group as far as they go.

    Raises
    ------
    DataError
        If too few sounds lack it, or one is shorter.

    Examples
    --------
    >>> import numpy as np
    >>> from interp.backends.build import random_musicgen
    >>> from interp.clips import Clips
    >>> from interp.model import MusicGen
    >>> clips = Clips.from_arrays([np.zeros(16_000)] * 2, 16_000, {"drums": ["yes", "no"]})
    >>> [codes.shape for codes in prompts_without(MusicGen(random_musicgen()), "drums", 1, 0.5, clips=clips)]
    [torch.Size([4, 25])]
    """
    return encode(model, draw(trait, n, seconds, present=False, seed=seed + PROMPTS, clips=clips), seconds)


def prompts_with(
    model: MusicGen, trait: str | Trait, n: int, seconds: float, *, seed: int = 0, clips: Clips | None = None
) -> list[torch.Tensor]:
    """The same of n sounds that have the trait: what necessity is tested on.

    Raises
    ------
    DataError
        If too few sounds have it, or one is shorter.

    Examples
    --------
    >>> import numpy as np
    >>> from interp.backends.build import random_musicgen
    >>> from interp.clips import Clips
    >>> from interp.model import MusicGen
    >>> clips = Clips.from_arrays([np.zeros(16_000)] * 2, 16_000, {"drums": ["yes", "no"]})
    >>> [codes.shape for codes in prompts_with(MusicGen(random_musicgen()), "drums", 1, 0.5, clips=clips)]
    [torch.Size([4, 25])]
    """
    return encode(model, draw(trait, n, seconds, seed=seed + PROMPTS, clips=clips), seconds)


def reference_sounds(
    model: MusicGen,
    trait: str | Trait | None,
    n: int,
    seconds: float,
    *,
    present: bool = True,
    seed: int = 0,
    clips: Clips | None = None,
) -> torch.Tensor:
    """Music that steered music is compared with, ``[n, channels, samples]``, once through the model's codec.

    Without the round trip the codec's own colour would count as a fault of every arm.

    Parameters
    ----------
    model : MusicGen
        Whose codec.
    trait : str, Trait or None
        Music that has this trait; None for music of all kinds.
    n : int
        Clips, at most: a folder of clips may hold fewer with the trait.
    seconds : float
        Length of each.
    present : bool
        False for music that lacks the trait.
    seed : int
        Of the rendering; never that of prompts or probing clips.
    clips : Clips, optional
        Labelled sounds in place of rendered ones.

    Raises
    ------
    DataError
        If there are fewer than two.

    Examples
    --------
    >>> import numpy as np
    >>> from interp.backends.build import random_musicgen
    >>> from interp.clips import Clips
    >>> from interp.model import MusicGen
    >>> clips = Clips.from_arrays([np.zeros(16_000)] * 4, 16_000, {"drums": ["yes", "no"] * 2})
    >>> reference_sounds(MusicGen(random_musicgen()), "drums", 2, 0.5, clips=clips).shape
    torch.Size([2, 1, 8000])
    """
    trait = None if trait is None else Trait.parse(trait)
    if clips is not None:
        there = np.ones(len(clips), bool) if trait is None else (trait.has if present else trait.lacks)(clips.labels)
        n = min(n, int(there.sum()))
    if n < 2:
        raise DataError(f"{n} reference sounds for {trait or 'music'}: a distance needs two or more.")
    parts = []
    for clip in draw(trait, n, seconds, present=present, seed=seed + REFERENCE, clips=clips):
        audio = torch.as_tensor(np.asarray(clip.audio))[None, :, : round(seconds * clip.sample_rate)]
        parts.append(model.encode(audio, clip.sample_rate))
    shortest = min(part.shape[-1] for part in parts)
    codes = torch.cat([part[..., :shortest] for part in parts])
    return torch.cat([model.decode(codes[i : i + 32]) for i in range(0, len(codes), 32)])
