"""Music moved from one class to another, or to several at once: what timbre transfer and genre fusion share.

:class:`Transfer` holds the model, the directions of every method at every layer, the sounds to start from and the
judge; :meth:`Transfer.listen` generates every cell of a plan on the same sounds and noise and returns one row a clip.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

import interp
from analyses._study import Steps, activations, labelled_clips, slug
from analyses._transfer_judge import choose_ear
from interp.clips import Clips
from interp.data.audio import write_audio
from interp.directions import Direction, combine
from interp.errors import DataError
from interp.judges import DspJudge, degenerate, prompt_similarity
from interp.judges.audio import mono
from interp.probes import probe
from interp.steering import Intervention, Row, generate

if TYPE_CHECKING:
    from interp.model import MusicGen

__all__ = ["Cell", "Given", "Transfer", "command", "parse_sets"]

METHODS = ("ridge", "logistic", "mean_diff")
"""Regression on one-hot classes, softmax classification, and the difference of means: the probes of the studies."""

CONTENT = ("onset_density", "tempo", "major")
"""What should stay when timbre or style moves, as signal processing measures it."""


@dataclass(frozen=True)
class Given:
    """A sound to continue.

    Attributes
    ----------
    codes : Tensor
        Long ``[codebooks, frames]`` of its first seconds.
    truth : array of shape (samples,)
        How it really goes on, mono at the model's rate.
    labels : dict
        Of the clip.
    """

    codes: torch.Tensor
    truth: np.ndarray
    labels: dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """One condition: what a table says of it, and what is done to the row of the i-th sound.

    Attributes
    ----------
    says : dict
        Columns of the table.
    build : callable (i) -> interventions
        What is done.
    text : callable (i) -> str, optional
        Text instead of the sound to continue.
    noise : int
        Added to the seed: other noise than the other cells have.
    play : str
        Name under which the first sounds are kept; empty for none.
    content : bool
        Whether tempo, density and mode are measured (tens of milliseconds a clip).
    """

    says: dict[str, Any]
    build: Callable[[int], tuple[Intervention, ...]] = field(default=lambda _: ())
    text: Callable[[int], str | None] | None = None
    noise: int = 0
    play: str = ""
    content: bool = False


class Transfer:
    """Model, directions, sounds and judge of a study.

    Parameters
    ----------
    config : dataclass
        With ``out, model, data, trait, judge, judge_data, n_clips, seconds, prompt_seconds, seed, n_sounds``.
    classes : sequence of str
        Classes of the label that take part.
    progress : bool
        Show progress bars.

    Raises
    ------
    DataError
        If a class has no clips, or the judge cannot hear it.
    """

    def __init__(self, config: Any, classes: Sequence[str], progress: bool) -> None:
        self.config, self.progress = config, progress
        if config.prompt_seconds + 0.8 > config.seconds:
            raise DataError(
                f"{config.seconds:g} s less a prompt of {config.prompt_seconds:g} s leave too little to judge."
            )
        self.model: MusicGen = interp.load(config.model)
        if config.data is None and config.model != "tiny":
            raise DataError(f"{config.model} needs clips of real music: say --data FOLDER, with metadata.csv.")
        self.ear = choose_ear(config.judge, self.model, config.trait, classes, judge_data=config.judge_data)
        self.clips: Clips = labelled_clips(config.data, config.n_clips, config.seed, progress)
        if config.trait not in self.clips.labels:
            raise DataError(
                f"the clips have no label {config.trait!r}: they have {', '.join(self.clips.labels.columns)}."
            )
        self.classes = sorted(self.clips.labels[config.trait].dropna().astype(str).unique())
        lacking = [one for one in classes if one not in self.classes]
        if lacking:
            raise DataError(f"no clip has {config.trait} {', '.join(lacking)}: there are {', '.join(self.classes)}.")
        name = slug(str(config.data or "rendered"))
        self.ds = activations(
            self.model, self.clips, config.out, sites="resid, attn",
            tag=f"{name}-{config.seed}-{len(self.clips)}-transfer",
            progress=progress,
        )  # fmt: skip
        key = {k: v for k, v in dataclasses.asdict(config).items() if k != "out"}
        self.steps = Steps(config.out, key | {"fingerprint": self.model.fingerprint})
        depth = self.model.shape.n_layers
        wanted = sorted({int(layer) for layer in config.layers}) or list(range(depth))
        if wanted[0] < 0 or wanted[-1] >= depth:
            raise DataError(f"{self.model.name} has layers 0 to {depth - 1}, not {', '.join(map(str, wanted))}.")
        self._sites = {kind: [(layer, f"L{layer}.{kind}") for layer in wanted] for kind in ("resid", "attn")}
        self.study = probe(
            self.ds, config.trait, sites=[site for part in self._sites.values() for _, site in part],
            methods=METHODS, n_permutations=0, n_bootstrap=0, seed=config.seed, progress=progress,
        )  # fmt: skip
        held_out = self.study.clips[self.study.split.test]
        ids = np.asarray(self.ds["clip"].values).astype(str)
        self.train = np.isin(ids, self.study.clips[~self.study.split.test])
        self.held_out = np.isin(ids, held_out)

    # Directions -----------------------------------------------------------------------------------------------------

    def layers(self, kind: str) -> list[tuple[int, str]]:
        """Layers and sites of a kind, in forward order; those of ``config.layers`` if any are named."""
        return self._sites[kind]

    def towards(self, value: str, method: str, site: str) -> Direction:
        """The probe's direction of one class against the others."""
        if len(self.classes) > 2:
            return self.study.directions.one(site=site, method=method, positive=value)
        one = self.study.directions.one(site=site, method=method)  # two classes share a direction
        return one if one.positive == value else one.flip()

    def activations_at(self, site: str) -> np.ndarray:
        """Training activations at a site, ``[clips, dim]``."""
        return np.asarray(interp.features(self.ds, site), dtype=np.float64)[self.train]

    def mix(self, parts: dict[str, float], method: str, site: str) -> Direction:
        """Unit vector of a weighted sum of classes' directions, sigma measured on the training clips."""
        if len(self.classes) == 2 and set(parts.values()) == {1.0, -1.0}:
            return self.towards(next(k for k, v in parts.items() if v > 0), method, site)
        found = combine(
            [self.towards(value, method, site) for value in parts], list(parts.values()),
            activations=self.activations_at(site),
        )  # fmt: skip
        return replace(found, method=method)

    # Sounds ---------------------------------------------------------------------------------------------------------

    def sounds(self, values: Sequence[str], n: int, offset: int, after: int = 0) -> list[Given]:
        """Sounds of the classes in turn that no probe was trained on.

        Parameters
        ----------
        values : sequence of str
            Classes.
        n : int
            How many.
        offset : int
            Of the seed of rendered sounds: those of different offsets are different.
        after : int
            How many sounds of a folder, of the same classes, are taken by other steps and are left out here.

        Raises
        ------
        DataError
            If there are too few.
        """
        c = self.config
        per_class = -(-n // len(values))
        found: list[list[Given]] = []
        for rank, value in enumerate(values):
            if c.data is None:
                from interp.data import render_clips

                clips = render_clips(
                    per_class, seed=c.seed + 900_001 + 1000 * offset + rank, seconds=c.seconds,
                    factors={c.trait: value}, clips_per_score=1,
                )  # fmt: skip
                chosen = np.arange(per_class)
            else:
                clips = self.clips
                where = np.flatnonzero((clips.labels[c.trait].astype(str) == value).to_numpy() & self.held_out)
                # one clip of each song first, so that pairs are as independent as the folder lets them be
                again = clips.labels.iloc[where].groupby("group").cumcount().to_numpy()
                first = -(-after // len(values))
                chosen = where[np.argsort(again, kind="stable")][first : first + per_class]
                if len(chosen) < per_class:
                    raise DataError(
                        f"{len(where)} held-out clips have {c.trait} {value}, but {first + per_class} are needed: "
                        "bring more clips or take fewer seeds."
                    )
            found.append([self._given(clips, int(i)) for i in chosen])
        return [found[i % len(values)][i // len(values)] for i in range(n)]

    def _given(self, clips: Clips, i: int) -> Given:
        clip, rate = clips[i], self.model.sample_rate
        wave = mono([clip.audio], clip.sample_rate, rate)[0]
        start, stop = (round(s * rate) for s in (self.config.prompt_seconds, self.config.seconds))
        if len(wave) < start + round(0.8 * rate):
            raise DataError(f"the clip {clip.id} lasts {len(wave) / rate:.1f} s: too short to continue.")
        channels = self.model.codec.channels
        codes = self.model.encode(wave[None, None, :start].expand(1, channels, -1), rate)[0]
        return Given(codes, wave[start:stop].numpy(), dict(clips.labels.iloc[i]))

    # Generation -----------------------------------------------------------------------------------------------------

    def listen(
        self, cells: Sequence[Cell], given: Sequence[Given], seeds: Sequence[int], *, guidance: float | None = None
    ) -> pd.DataFrame:
        """Generate every cell on the same sounds and noise, and judge what was generated.

        Returns
        -------
        DataFrame
            One row a clip: the cell's columns, ``seed``, what the ear hears (:meth:`Ear.hear`), ``degenerate``,
            similarity to the prompt (``chroma``, ``embedding``), ``kept.<question>`` (the judge's answer is what it
            says of the sound's true continuation), changes of measures against it where the cell asks, and the
            embedding ``e0, e1, ...``.
        """
        c, n, rate = self.config, len(given), self.model.sample_rate
        rows = []
        for cell in cells:
            for i in range(n):
                text = cell.text(i) if cell.text else None
                sound = None if cell.text else given[i].codes
                rows.append(Row(text, seeds[i] + cell.noise, sound, cell.build(i)))
        made = generate(self.model, rows, seconds=c.seconds, guidance=guidance, progress=self.progress)
        truth = [one.truth for one in given]
        said, start = self.ear.hear(truth, rate), round(c.prompt_seconds * rate)
        prompts = self.model.decode(torch.stack([one.codes for one in given]))
        dsp = DspJudge(CONTENT)
        measured: pd.DataFrame | None = None
        parts = []
        for k, cell in enumerate(cells):
            audio = made.audio[k * n : (k + 1) * n]
            # with a text there is no prompt: all of it was generated, the same length is judged
            new = audio[:, :, start:]
            table = self.ear.hear(new, rate)
            table["degenerate"] = degenerate(new, rate)["degenerate"].to_numpy(bool)
            for question in self.ear.others:
                table[f"kept.{question}"] = table[f"says.{question}"].to_numpy() == said[f"says.{question}"].to_numpy()
            near = prompt_similarity(new, prompts, rate, self.ear.embed)
            table["chroma"], table["embedding"] = near["chroma"], near["embedding"]
            if cell.content:
                measured = dsp.score(truth, rate) if measured is None else measured
                now = dsp.score(new, rate)
                table["density_change"] = (now["onset_density"] - measured["onset_density"]).abs()
                table["tempo_kept"] = tempo_agrees(now["tempo"].to_numpy(), measured["tempo"].to_numpy())
                both = np.sign(now["major"].to_numpy()) == np.sign(measured["major"].to_numpy())
                table["mode_kept"] = np.where(now["major"].isna() | measured["major"].isna(), np.nan, both)
            table = pd.concat([table, pd.DataFrame(self.ear.embed(new, rate)).add_prefix("e")], axis=1)
            names = {**cell.says, "seed": list(seeds)}
            parts.append(pd.concat([pd.DataFrame(names, index=table.index), table], axis=1))
            if cell.play:
                for i in range(min(c.n_sounds, n)):
                    write_audio(self.sound(cell.play, i), audio[i], rate)
        return pd.concat(parts, ignore_index=True)

    def sound(self, name: str, i: int) -> Path:
        """File of a kept sound."""
        return Path(self.config.out) / "audio" / f"{slug(name)}_{i}.wav"

    def reference(self) -> np.ndarray:
        """Embeddings of labelled music after a round trip through the codec, as long as what is judged."""

        def make() -> pd.DataFrame:
            c, rate = self.config, self.model.sample_rate
            parts = []
            for i in np.random.default_rng(c.seed).permutation(len(self.clips))[:200]:
                clip = self.clips[int(i)]
                wave = mono([clip.audio], clip.sample_rate, rate)[0][: round(c.seconds * rate)]
                if len(wave) >= round(c.seconds * rate):
                    parts.append(wave[None].expand(self.model.codec.channels, -1))
            if len(parts) < 16:
                raise DataError(f"{len(parts)} clips last {c.seconds:g} s; FAD needs 16: bring longer clips.")
            heard = []
            for k in range(0, len(parts), 32):
                batch = torch.stack(parts[k : k + 32])
                sound = self.model.decode(self.model.encode(batch, rate))
                heard.append(self.ear.embed(sound[:, :, round(c.prompt_seconds * rate) :], rate))
            return pd.DataFrame(np.concatenate(heard)).add_prefix("e")

        return self.steps.table("reference", make).to_numpy(float)


def tempo_agrees(a: np.ndarray, b: np.ndarray, within: float = 0.08) -> np.ndarray:
    """Whether tempi agree within 8 %, or at half or double tempo as beat trackers do; NaN where one is unknown."""
    ratio = np.log2(np.asarray(a, float) / np.asarray(b, float))
    off = np.abs(ratio[:, None] - np.array([-1.0, 0.0, 1.0])).min(axis=1)
    return np.where(np.isfinite(off), (off <= np.log2(1 + within)).astype(float), np.nan)


def parse_sets(given: Sequence[str], least: int = 2, most: int | None = None) -> list[tuple[str, ...]]:
    """Read ``piano:flute`` as ``("piano", "flute")``.

    Raises
    ------
    DataError
        If a set has too few or too many classes, or one twice.
    """
    sets = [tuple(part.strip() for part in one.split(":")) for one in given]
    for text, one in zip(given, sets, strict=True):
        if len(one) < least or (most is not None and len(one) > most) or len(set(one)) < len(one) or not all(one):
            raise DataError(f"{text!r} is not a set of different classes: write them as piano:flute.")
    if not sets or len(set(sets)) < len(sets):
        raise DataError("give at least one set of classes, and each once, as in piano:flute,guitar:strings.")
    return sets


def command(config: Any, module: str) -> str:
    """The command line that gives a configuration."""
    said = []
    for one in dataclasses.fields(config):
        value = getattr(config, one.name)
        if value != one.default:
            plain = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            said.append(f"--{one.name.replace('_', '-')} {plain}")
    return " ".join([f"python -m {module}", *said])
