"""Sounds to continue, with or without a trait, and what signal processing can do without any model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from interp.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

    from interp.clips import Clips
    from interp.model import MusicGen

__all__ = [
    "SoundEdit",
    "dsp_baseline",
    "has_trait",
    "lacks_trait",
    "prompts_with",
    "prompts_without",
    "reference_sounds",
    "split_trait",
]

SoundEdit = Callable[[torch.Tensor, int], torch.Tensor]
"""``edit(audio [channels, samples], seed index) -> [channels, samples]``."""

_LAYER_DB = -3.0
"""Level of a layer that is mixed in, relative to the music: near where the rendered music has its drums and bass."""


def split_trait(trait: str) -> tuple[str, str, str]:
    """Label, class and class against it, empty where absent: ``genre=jazz|rock`` is ``("genre", "jazz", "rock")``."""
    name, _, value = trait.partition("=")
    value, _, against = value.partition("|")
    return name, value, against


def has_trait(labels: pd.DataFrame, trait: str) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which rows of a table of labels have a trait (``drums``, ``genre=jazz``).

    Raises
    ------
    DataError
        If there is no such label, or a yes/no trait has other values than 0 and 1.
    """
    name, value, _ = split_trait(trait)
    if name not in labels:
        raise DataError(f"the clips have no label {name!r}: they have {', '.join(labels.columns)}.")
    given = labels[name]
    if value:
        return np.asarray(given.astype(str) == value)
    known = given.dropna()
    if not known.isin([0, 1]).all():
        some = ", ".join(map(repr, list(dict.fromkeys(known))[:3]))
        raise DataError(f"{name!r} is not yes or no but {some}: write 0 and 1, or name a class, as in {name}=CLASS.")
    return np.asarray(given == 1)


def lacks_trait(labels: pd.DataFrame, trait: str) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which rows lack it; of a pair (``genre=jazz|rock``), which rows are of the other class."""
    name, _, against = split_trait(trait)
    absent: np.ndarray[Any, np.dtype[np.bool_]] = ~has_trait(labels, trait) & labels[name].notna().to_numpy()
    return absent & np.asarray(labels[name].astype(str) == against) if against else absent


def prompts_without(
    model: MusicGen, trait: str, n: int, seconds: float, *, seed: int = 0, clips: Clips | None = None
) -> list[torch.Tensor]:
    """Codes ``[codebooks, frames]`` of the first seconds of n sounds without the trait, one a group as far as they go.

    Raises
    ------
    DataError
        If too few sounds lack it.
    """
    return _prompts(model, trait, n, seconds, False, seed, clips)


def prompts_with(
    model: MusicGen, trait: str, n: int, seconds: float, *, seed: int = 0, clips: Clips | None = None
) -> list[torch.Tensor]:
    """The same of n sounds that have the trait: what necessity is tested on.

    Raises
    ------
    DataError
        If too few sounds have it.
    """
    return _prompts(model, trait, n, seconds, True, seed, clips)


def _prompts(
    model: MusicGen, trait: str, n: int, seconds: float, wanted: bool, seed: int, clips: Clips | None
) -> list[torch.Tensor]:
    name, value, against = split_trait(trait)
    if clips is None:
        from interp.data import render_clips

        only = value if wanted else against
        fixed: dict[str, Any] | None = {name: only or wanted} if only or not value else None
        # A class is absent from most scores; the seed is far from those that training and probing clips are drawn from.
        clips = render_clips(
            n if fixed else 2 * n + 16, seed=seed + 900_001, seconds=seconds, factors=fixed, clips_per_score=1
        )
    chosen = np.flatnonzero((has_trait if wanted else lacks_trait)(clips.labels, trait))
    if len(chosen) < n:
        raise DataError(
            f"{len(chosen)} sounds {'have' if wanted else 'lack'} {trait}, but {n} are needed: "
            "give more, or take fewer seeds."
        )
    codes = []
    for i in _one_a_group(clips, chosen)[:n]:
        clip = clips[int(i)]
        samples = round(seconds * clip.sample_rate)
        if clip.audio.shape[-1] < samples:
            raise DataError(f"the clip {clip.id} lasts {clip.seconds:.1f} s, but {seconds:g} s of it are continued.")
        audio = torch.as_tensor(np.asarray(clip.audio))[None, :, :samples]
        codes.append(model.encode(audio, clip.sample_rate)[0])
    return codes


def _one_a_group(clips: Clips, chosen: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The same clips, the first of each group before the second of any."""
    again = clips.labels.iloc[chosen].groupby("group").cumcount()
    ordered: np.ndarray[Any, Any] = chosen[np.argsort(again.to_numpy(), kind="stable")]
    return ordered


def reference_sounds(
    model: MusicGen, trait: str | None, n: int, seconds: float, *, seed: int = 0, clips: Clips | None = None
) -> torch.Tensor:
    """Music that steered music is compared with, ``[n, channels, samples]``, once through the model's codec.

    Without the round trip the codec's own colour would count as a fault of every arm.

    Parameters
    ----------
    model : MusicGen
        Whose codec.
    trait : str or None
        Music that has this trait; None for music of all kinds.
    n : int
        Clips, at most: a folder of clips may hold fewer with the trait.
    seconds : float
        Length of each.
    seed : int
        Of the rendering; never that of prompts or probing clips.
    clips : Clips, optional
        Labelled sounds in place of rendered ones.
    """
    if clips is None:
        from interp.data import render_clips

        name, value, _ = split_trait(trait or "")
        fixed: dict[str, Any] | None = {name: value or True} if trait else None
        clips = render_clips(n, seed=seed + 800_003, seconds=seconds, factors=fixed, clips_per_score=1)
        chosen = np.arange(n)
    else:
        chosen = np.flatnonzero(has_trait(clips.labels, trait)) if trait else np.arange(len(clips))
        chosen = _one_a_group(clips, chosen)[:n]
    parts = []
    for i in chosen:
        clip = clips[int(i)]
        audio = torch.as_tensor(np.asarray(clip.audio))[None, :, : round(seconds * clip.sample_rate)]
        parts.append(model.encode(audio, clip.sample_rate))
    if len(parts) < 2:
        raise DataError(f"{len(parts)} reference sounds for {trait or 'music'}: a distance needs two or more.")
    shortest = min(part.shape[-1] for part in parts)
    codes = torch.cat([part[..., :shortest] for part in parts])
    return torch.cat([model.decode(codes[i : i + 32]) for i in range(0, len(codes), 32)])


def dsp_baseline(trait: str, sample_rate: int, *, seed: int = 0) -> dict[str, SoundEdit]:
    """What puts a trait into finished music without a model, by the name of the arm.

    ``drums`` and ``bass`` are layers: a rendered drum loop (or bass line) is mixed in, at a tempo and in a style of its
    own. For drums there are bursts of noise on the beat as well, which are percussive but no drum kit: whether a judge
    takes them for one says something about the judge. An instrument or a genre cannot be mixed in: there is no
    baseline for it, and the result is empty.

    Parameters
    ----------
    trait : str
        As everywhere.
    sample_rate : int
        Of the music to edit, in Hz.
    seed : int
        Of the layers, one for each seed index.
    """
    if trait == "drums":
        return {
            "DSP: drum loop": lambda audio, i: _mixed(audio, _layer("drums", audio, sample_rate, seed + i)),
            "DSP: noise bursts": lambda audio, i: _mixed(audio, _bursts(audio, sample_rate, seed + i)),
        }
    if trait == "bass":
        return {"DSP: bass line": lambda audio, i: _mixed(audio, _layer("bass", audio, sample_rate, seed + i))}
    return {}


def _mixed(audio: torch.Tensor, layer: torch.Tensor) -> torch.Tensor:
    level = audio.square().mean().sqrt() / layer.square().mean().sqrt().clamp_min(1e-9)
    return audio + 10 ** (_LAYER_DB / 20) * level * layer


def _layer(what: str, audio: torch.Tensor, sample_rate: int, seed: int) -> torch.Tensor:
    """Drums or bass alone of a rendered score, as long as the audio."""
    import torchaudio

    from interp.data.compose import DRUM_CHANNEL, compose
    from interp.data.factors import draw_factors
    from interp.data.render import SAMPLE_RATE, render_notes

    rng = np.random.default_rng([seed, 31])
    seconds = audio.shape[-1] / sample_rate
    notes = compose(draw_factors(rng, {what: True}), seconds, rng, 80.0, None)
    bass = 2  # the channel that compose writes bass to
    kept = [note for note in notes if note.channel == (DRUM_CHANNEL if what == "drums" else bass)]
    sound = torch.from_numpy(render_notes(kept, seconds))
    if sample_rate != SAMPLE_RATE:
        sound = torchaudio.functional.resample(sound, SAMPLE_RATE, sample_rate)
    sound = torch.nn.functional.pad(sound, (0, max(audio.shape[-1] - len(sound), 0)))
    return sound[: audio.shape[-1]].expand_as(audio)


def _bursts(audio: torch.Tensor, sample_rate: int, seed: int) -> torch.Tensor:
    """White noise that starts anew on every beat and decays within 60 ms."""
    rng = np.random.default_rng([seed, 32])
    beat = 60.0 / rng.uniform(90, 140)
    time = np.arange(audio.shape[-1]) / sample_rate
    noise = rng.standard_normal(len(time)) * np.exp(-(time % (beat / 2)) / 0.06)
    return torch.from_numpy(noise.astype(np.float32)).expand_as(audio)
