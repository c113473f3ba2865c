"""Music moved from one class to another, or to several at once: what timbre transfer and genre fusion share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
import pandas as pd
import torch

import interp
from interp import judges
from interp.directions import Direction, combine
from interp.errors import DataError
from interp.judges.audio import mono
from interp.judges.base import answers
from interp.judges.dsp import DspJudge, tempo_agrees
from interp.judges.similarity import prompt_similarity
from interp.probes import ProbeResult, probe
from interp.study import Common, Study, slug, step
from interp.traits import Trait
from interp.validation import Arm, run_arms
from interp.validation.setting import Part
from interp.validation.sounds import draw, encode

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["METHODS", "Given", "Transfer", "TransferConfig", "parse_sets"]

METHODS = ("ridge", "logistic", "mean_diff")
"""Regression on one-hot classes, softmax classification, and the difference of means: the probes of the studies."""
CONTENT = ("onset_density", "tempo", "major")
"""What should stay when timbre or style moves, as signal processing measures it."""
N_REFERENCE = 200


@dataclass(frozen=True)
class TransferConfig(Common):
    """What both studies take.

    Attributes
    ----------
    trait : str
        Label of several classes.
    layers : tuple of int
        Layers that are tried; all by default (name some for a large model).
    n_sounds : int
        Sounds kept of each part.
    """

    trait: str = "genre"
    layers: tuple[int, ...] = ()
    n_sounds: int = 2


C = TypeVar("C", bound=TransferConfig)


@dataclass(frozen=True)
class Given:
    """Sounds to continue.

    Attributes
    ----------
    codes : list of Tensor
        Long ``[codebooks, frames]`` of the first seconds of each.
    truth : list of array of shape (samples,)
        How they really go on, mono at the model's rate.
    labels : list of dict
        Of the clips.
    seeds : range
        Of the noise, one for each sound.
    """

    codes: list[torch.Tensor]
    truth: list[np.ndarray]
    labels: list[dict[str, Any]]
    seeds: range


class Transfer(Study[C]):
    """Directions of every class and method, sounds to start from, and what is measured of the music."""

    unused: ClassVar[tuple[str, ...]] = ("traits",)

    @property
    def wanted(self) -> list[str]:
        """Classes that take part."""
        raise NotImplementedError

    @property
    def judged(self) -> list[Trait]:
        return [Trait(self.config.trait, value) for value in dict.fromkeys(self.wanted)]

    def run(self) -> dict[str, pd.DataFrame]:
        lacking = [value for value in self.wanted if value not in self.classes]
        if lacking:
            raise DataError(
                f"no clip has {self.config.trait} {', '.join(lacking)}: there are {', '.join(self.classes)}."
            )
        return super().run()

    # Directions ------------------------------------------------------------------------------------------------------

    @functools.cached_property
    def classes(self) -> list[str]:
        """All classes of the label."""
        labels = self.clips.labels
        if self.config.trait not in labels:
            raise DataError(f"the clips have no label {self.config.trait!r}: they have {', '.join(labels.columns)}.")
        return sorted(labels[self.config.trait].dropna().astype(str).unique())

    @functools.cached_property
    def ds(self) -> xr.Dataset:
        return self.activations("resid, attn")

    @functools.cached_property
    def probed(self) -> ProbeResult:
        sites = [site for kind in ("resid", "attn") for _, site in self.layers(kind)]
        return probe(
            self.ds, self.config.trait, sites=sites, methods=METHODS, n_permutations=0, n_bootstrap=0,
            seed=self.config.seed, progress=self.progress,
        )  # fmt: skip

    def part(self, test: bool) -> np.ndarray:
        """Which clips of the dataset are the probes' test (or training) clips."""
        chosen = self.probed.clips[self.probed.split.test == test]
        return np.isin(np.asarray(self.ds["clip"].values).astype(str), chosen)

    def layers(self, kind: str) -> list[tuple[int, str]]:
        """Layers and sites of a kind, in forward order."""
        depth = self.model.shape.n_layers
        chosen = sorted({int(layer) for layer in self.config.layers}) or list(range(depth))
        if chosen[-1] >= depth:
            raise DataError(f"{self.model.name} has layers 0 to {depth - 1}, not {', '.join(map(str, chosen))}.")
        return [(layer, f"L{layer}.{kind}") for layer in chosen]

    def towards(self, value: str, method: str, site: str) -> Direction:
        """The probe's direction of one class against the others."""
        if len(self.classes) > 2:
            return self.probed.directions.one(site=site, method=method, positive=value)
        shared = self.probed.directions.one(site=site, method=method)  # two classes share a direction
        return shared if shared.positive == value else shared.flip()

    def activations_at(self, site: str) -> np.ndarray:
        """Training activations at a site, ``[clips, dim]``."""
        return np.asarray(interp.features(self.ds, site), dtype=np.float64)[self.part(test=False)]

    def mix(self, parts: dict[str, float], method: str, site: str) -> Direction:
        """Unit vector of a weighted sum of classes' directions, sigma measured on the training clips."""
        if len(self.classes) == 2 and set(parts.values()) == {1.0, -1.0}:
            return self.towards(next(k for k, v in parts.items() if v > 0), method, site)
        each = [self.towards(value, method, site) for value in parts]
        return replace(combine(each, list(parts.values()), activations=self.activations_at(site)), method=method)

    # Sounds ----------------------------------------------------------------------------------------------------------

    def starts(self, values: Sequence[str], n: int, index: int, offset: int, after: int = 0) -> Given:
        """Sounds of the classes in turn that no probe was trained on.

        Parameters
        ----------
        values : sequence of str
            Classes.
        n : int
            How many.
        index, offset : int
            Of the pair or set, and of the part of the study: both have sounds and noise of their own.
        after : int
            How many sounds of a folder, of the same classes, are taken by other parts and are left out here.
        """
        c, rate = self.config, self.model.sample_rate
        held_out = None if self.rendered else self.clips.subset(self.part(test=True))
        first = 0 if held_out is None else -(-after // len(values))
        chosen = []
        for rank, value in enumerate(values):
            count, seed = first - (-n // len(values)), c.seed + 900_001 + 1000 * offset + rank
            chosen.append(draw(Trait(c.trait, value), count, c.seconds, seed=seed, clips=held_out)[first:])
        coded = [encode(self.model, clip_set, c.prompt_seconds) for clip_set in chosen]
        order = [(i % len(values), i // len(values)) for i in range(n)]
        clips = [chosen[k][i] for k, i in order]
        start, stop = (round(s * rate) for s in (c.prompt_seconds, c.seconds))
        truth = [mono([clip.audio], clip.sample_rate, rate)[0][start:stop].numpy() for clip in clips]
        seeds = c.seed + 1000 * index + offset
        labels = [dict(chosen[k].labels.iloc[i]) for k, i in order]
        return Given([coded[k][i] for k, i in order], truth, labels, range(seeds, seeds + n))

    # Playing ---------------------------------------------------------------------------------------------------------

    def play(self, trait: Trait, arms: Sequence[Arm], starts: Given, *, text: bool = False) -> dict[str, Any]:
        """Judged clips of some arms on the same sounds and noise, and the sounds of those that are kept.

        Beside what :func:`interp.validation.run_arms` gives: ``answer``, similarity to the prompt (``chroma``,
        ``embedding``), ``kept.<question>`` (the judge's answer is what it says of the sound's true continuation), and
        changes of measures against it, of arms that say ``content``. With a text nothing is continued: all of it is
        generated, the same length is judged.
        """
        codes: list[Any] = [None] * len(starts.codes) if text else starts.codes
        made = run_arms(
            self.model, trait, arms, codes, seeds=starts.seeds, judge=self.judge,
            setting=self.setting(measures=(self.measure(starts),)),
        )  # fmt: skip
        heard = self.answers(made.clips)
        clips = made.clips.assign(answer=heard[self.config.trait])
        true_answers = answers(self.judge, judges.score(self.judge, starts.truth, self.model.sample_rate))
        at = clips["seed"].to_numpy() - starts.seeds[0]
        for question in heard.columns.drop(self.config.trait):
            clips[f"kept.{question}"] = heard[question].to_numpy() == true_answers[question].to_numpy()[at]
        n = self.config.n_sounds
        return {"clips": clips, "sounds": {arm: audio[:n].numpy() for (arm, _), audio in made.audio.items()}}

    def answers(self, clips: pd.DataFrame) -> pd.DataFrame:
        """What the judge answers to each of its questions, from the probabilities in a table of clips."""
        scores = clips.filter(regex="^p_").rename(columns=lambda name: name.removeprefix("p_"))
        return answers(self.judge, scores)

    def measure(self, starts: Given) -> Callable[[Part], pd.DataFrame]:
        """Similarity to the prompts, and of arms that say so what else stays, as :class:`DspJudge` hears it."""
        prompts = self.model.decode(torch.stack(starts.codes))
        dsp, truth = DspJudge(CONTENT), functools.cache(lambda: dsp.score(starts.truth, self.model.sample_rate))

        def measured(part: Part) -> pd.DataFrame:
            table = prompt_similarity(part.audio, prompts, part.sample_rate, getattr(self.judge, "embed", None))
            table = table[[name for name in ("chroma", "embedding") if name in table]].reset_index(drop=True)
            if part.arm.says.get("content"):
                now, before = dsp.score(part.audio, part.sample_rate), truth()
                table["density_change"] = (now["onset_density"] - before["onset_density"]).abs()
                table["tempo_kept"] = tempo_agrees(now["tempo"].to_numpy(), before["tempo"].to_numpy())
                both = np.sign(now["major"].to_numpy()) == np.sign(before["major"].to_numpy())
                table["mode_kept"] = np.where(now["major"].isna() | before["major"].isna(), np.nan, both)
            return table

        return measured

    def kept_sounds(self, sounds: dict[str, np.ndarray], prefix: str, names: dict[str, str]) -> pd.DataFrame:
        """Files of kept sounds, one row a seed; ``names`` from arms to what they are called."""
        there = {arm: name for arm, name in names.items() if arm in sounds}
        return self.recorded({name: (slug(f"{prefix}_{arm}"), sounds[arm]) for arm, name in there.items()})

    @step(shown=False)
    def reference(self) -> dict[str, np.ndarray]:
        """Embeddings of labelled music after a round trip through the codec, as long as what is judged."""
        array = self.reference_embeddings(None, N_REFERENCE, clips=None if self.rendered else self.clips)
        return {} if array is None else {"": array}


def parse_sets(sets: Sequence[str], least: int = 2, most: int | None = None) -> list[tuple[str, ...]]:
    """Read ``piano:flute`` as ``("piano", "flute")``.

    Raises
    ------
    DataError
        If a set has too few or too many classes, or one twice.
    """
    read = [tuple(part.strip() for part in text.split(":")) for text in sets]
    for text, parts in zip(sets, read, strict=True):
        fits = len(parts) >= least and (most is None or len(parts) <= most)
        if not fits or len(set(parts)) < len(parts) or not all(parts):
            raise DataError(f"{text!r} is not a set of different classes: write them as piano:flute.")
    if not read or len(set(read)) < len(read):
        raise DataError("give at least one set of classes, and each once, as in piano:flute,guitar:strings.")
    return read
