"""The SMITIN study's music: pairs that differ in one trait, prompts, reference, and who judges."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from analyses._study import held_back
from interp.clips import Clips
from interp.data import GENRES, INSTRUMENTS, render_arrays, render_clips
from interp.errors import DataError
from interp.traits import Trait

if TYPE_CHECKING:
    from interp.model import MusicGen

__all__ = ["Session", "ask", "balanced", "base_prompt", "codes_of", "pairs", "reference"]

_OTHERS: dict[str, tuple[Any, ...]] = {"genre": GENRES, "instrument": tuple(INSTRUMENTS)}
_CHUNK = 64


@dataclass(frozen=True)
class Session:
    """What all arms of a run share; ``k`` to ``tau`` are named as in the papers."""

    model: MusicGen
    judge: Any
    data: Path | None = None
    plain_words: bool = False
    k: int = 16
    s: int = 5
    delta: float = 1.0
    n_monitor: int = 16
    tau: float | None = None
    rows: Any = "both"
    seconds: float = 4.0
    prompt_seconds: float = 1.5
    guidance: float = 2.0
    pool: str = "last"
    seed: int = 0
    progress: bool = False


def pairs(trait: str, n: int, seed: int, seconds: float, progress: bool = False) -> Clips:
    """Render n scores twice, with the trait and without: nothing else differs (the paper's stems taken out).

    For a class, the clip without it has another class of the same label.
    """
    name, _, value = trait.partition("=")
    known = _OTHERS.get(name, ())
    if (value and value not in known) or (not value and name not in ("drums", "bass")):
        raise DataError(f"no music can be rendered with and without {trait!r}: give --data, a folder with labels.")
    others = [v for v in known if v != value] if value else [False]
    sounds, tables = [], []
    for i, other in enumerate(others):
        count = len(range(i, n, len(others)))
        if not count:
            continue
        # scores are drawn alike whatever is fixed, so both sets hold the same scores
        both = [
            render_arrays(count, 1000 * seed + i, seconds, {name: fixed}, "realistic", 1, progress)
            for fixed in (value or True, other)
        ]
        for j in range(count):  # clips of one score next to each other
            sounds += [audio[j] for audio, _ in both]
            tables += [labels.iloc[[j]] for _, labels in both]
    order = np.random.default_rng([seed, 5]).permutation(n)  # so that the first pairs hold all other classes
    order = (2 * order[:, None] + np.arange(2)).ravel()
    labels = pd.concat(tables).iloc[order]
    labels.index = pd.Index([f"pair-{seed}-{i // 2:05d}-{('with', 'without')[i % 2]}" for i in range(2 * n)])
    return Clips.from_arrays([sounds[i] for i in order], 16_000, labels)


def balanced(clips: Clips, trait: str, n: int, seed: int) -> Clips:
    """Of a folder's other clips, at most n with the trait and as many without, in turn."""
    free, rng = ~held_back(clips, seed), np.random.default_rng([seed, 10])
    asked = Trait.parse(trait)
    sides = [rng.permutation(np.flatnonzero(free & side(clips.labels))) for side in (asked.has, asked.lacks)]
    count = min(n, *(len(side) for side in sides))
    if count < 8:
        raise DataError(f"{count} clips of the folder are left with (or without) {trait}: 8 or more are needed.")
    return clips.subset(np.stack([side[:count] for side in sides], axis=1).ravel())


def _sounds(session: Session, trait: str, present: bool, n: int, seconds: float, seed: int) -> Clips:
    """n sounds with (without) the trait that no probe has heard."""
    name, _, value = trait.partition("=")
    if session.data is not None:
        clips = Clips.from_folder(session.data)
        asked = Trait.parse(trait)
        side = (asked.has if present else asked.lacks)(clips.labels)
        chosen = np.flatnonzero(held_back(clips, session.seed) & side)
        if len(chosen) < n:
            state = "have" if present else "lack"
            raise DataError(f"{len(chosen)} sounds kept for prompts {state} {trait}, {n} are needed: give more clips.")
        return clips.subset(chosen[np.random.default_rng([seed, 7]).permutation(len(chosen))[:n]])
    if present or not value:
        return render_clips(n, seed=seed, seconds=seconds, factors={name: value or present}, clips_per_score=1)
    clips = render_clips(2 * n + 16, seed=seed, seconds=seconds, clips_per_score=1)
    return clips.subset(np.flatnonzero((clips.labels[name] != value).to_numpy())[:n])


def codes_of(session: Session, trait: str, present: bool, n: int, seconds: float, seed: int) -> torch.Tensor:
    """Codes ``[n, codebooks, frames]`` of the first seconds of sounds with (without) the trait."""
    clips = _sounds(session, trait, present, n, seconds, seed)
    sounds: dict[tuple[int, int], list[torch.Tensor]] = {}
    for clip in clips:  # a folder may hold sounds of several rates, mono and stereo
        samples = round(seconds * clip.sample_rate)
        if clip.audio.shape[-1] < samples:
            raise DataError(f"the clip {clip.id} lasts {clip.seconds:.1f} s, but {seconds:g} s of it are needed.")
        one = torch.as_tensor(np.asarray(clip.audio))[:, :samples]
        sounds.setdefault((clip.sample_rate, len(one)), []).append(one)
    return torch.cat(
        [
            session.model.encode(part, rate)
            for (rate, _), some in sounds.items()
            for part in torch.split(torch.stack(some), _CHUNK)
        ]
    )


def reference(session: Session, trait: str, present: bool, n: int, seconds: float) -> np.ndarray:
    """Embeddings ``[n, dim]`` of music with (without) the trait, through the codec, so that only the music counts."""
    codes = codes_of(session, trait, present, n, seconds, session.seed + 700_001)
    sounds = [session.model.decode(part) for part in torch.split(codes, _CHUNK)]
    return np.concatenate([session.judge.embed(part, session.model.sample_rate) for part in sounds])


def base_prompt(session: Session, trait: str, seed: int) -> tuple[str, list[tuple[str, str]]]:
    """A prompt that says nothing of the trait, and what it names, as (question, answer)."""
    rng = np.random.default_rng([session.seed, 9, seed])
    named = [(q, str(rng.choice(values))) for q, values in _OTHERS.items() if q != trait.partition("=")[0]]
    if session.plain_words:
        return ", ".join(value for _, value in named), named
    words = dict(named)
    return " with ".join([f"{words.get('genre', 'instrumental')} music", *([words["instrument"]] if "instrument" in
    words else [])]), named  # fmt: skip


def ask(session: Session, trait: str, prompt: str) -> str:
    """The prompt that asks for the trait as well; the paper adds "add <instrument>"."""
    name, _, value = trait.partition("=")
    word = value or name
    if session.plain_words:
        return f"{prompt}, {word}" if prompt else word
    return f"{prompt}, add {word}" if prompt else f"add {word}"
