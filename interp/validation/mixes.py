"""What signal processing can do without any model: a layer that is mixed into finished music."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from interp.traits import Trait

__all__ = ["SoundEdit", "dsp_baseline"]

SoundEdit = Callable[[torch.Tensor, int], torch.Tensor]
"""``edit(audio [channels, samples], seed index) -> [channels, samples]``."""

_LAYER_DB = -3.0
"""Level of a layer that is mixed in, relative to the music: near where the rendered music has its drums and bass."""


def dsp_baseline(trait: str | Trait, sample_rate: int, *, seed: int = 0) -> dict[str, SoundEdit]:
    """What puts a trait into finished music without a model, by the name of the arm.

    ``drums`` and ``bass`` are layers: a rendered drum loop (or bass line) is mixed in, at a tempo and in a style of its
    own. For drums there are bursts of noise on the beat as well, which are percussive but no drum kit: whether a judge
    takes them for one says something about the judge. An instrument or a genre cannot be mixed in: there is no
    baseline for it, and the result is empty.

    Parameters
    ----------
    trait : str or Trait
        As everywhere.
    sample_rate : int
        Of the music to edit, in Hz.
    seed : int
        Of the layers, one for each seed index.

    Examples
    --------
    >>> sorted(dsp_baseline("drums", 16_000)), dsp_baseline("genre=jazz", 16_000)
    (['DSP: drum loop', 'DSP: noise bursts'], {})
    """
    trait = Trait.parse(trait)
    if trait == Trait("drums"):
        return {
            "DSP: drum loop": lambda audio, i: _mixed(audio, _layer("drums", audio, sample_rate, seed + i)),
            "DSP: noise bursts": lambda audio, i: _mixed(audio, _bursts(audio, sample_rate, seed + i)),
        }
    if trait == Trait("bass"):
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
