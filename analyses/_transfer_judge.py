"""Who judges a transfer: the rendered judge, CLAP, or, marked as not independent, the model's own probes.

A study asks one question of every clip: which class of one label is heard (or whether it is music at all). Judges
answer in different forms; :class:`Ear` makes them one, with an embedding for distances beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from interp.clips import Clips
from interp.errors import DataError
from interp.judges import ClapJudge, ProbeJudge, RenderedJudge, degenerate
from interp.judges.base import Audio, answer, mono

if TYPE_CHECKING:
    from interp.model import MusicGen

__all__ = ["Ear", "choose_ear", "mel_embedding"]


class _Scores(Protocol):
    name: str

    def score(self, audio: Audio, sample_rate: int) -> pd.DataFrame: ...

    def accuracy_frame(self) -> pd.DataFrame: ...


class Ear:
    """A judge that is asked which class of one label it hears.

    Parameters
    ----------
    judge : RenderedJudge, ClapJudge or ProbeJudge
        Who hears.
    trait : str
        The label.
    classes : sequence of str
        The classes that the study needs; the judge must know them all.

    Raises
    ------
    DataError
        If the judge does not know the label or one of the classes.
    """

    def __init__(self, judge: RenderedJudge | ClapJudge | ProbeJudge, trait: str, classes: Sequence[str]) -> None:
        self.judge: Any = judge
        self.trait = trait
        self.name, self.independent = str(judge.name), bool(judge.independent)
        own = {trait: sorted(set(classes))} if isinstance(judge, ProbeJudge) else dict(judge.questions)
        self.answers = list(own.get(trait, []))
        missing = [one for one in classes if one not in self.answers]
        if missing:
            known = "; ".join(f"{q}: {', '.join(a)}" for q, a in own.items())
            raise DataError(f"the judge {self.name!r} cannot hear {trait} {', '.join(missing)}: it knows {known}.")
        self.others = {question: options for question, options in own.items() if question != trait}

    def hear(self, audio: Audio, sample_rate: int) -> pd.DataFrame:
        """Judge clips.

        Returns
        -------
        DataFrame
            One row a clip: ``p.<class>`` (P(class and music)), ``answer`` (a class, or ``not_music``), ``not_music``
            (bool), and ``says.<question>`` for every other question that the judge answers.
        """
        scores = self.judge.score(audio, sample_rate)
        if "not_music" not in scores:  # the model's own probes: signal processing says what is no music
            bad = degenerate(audio, sample_rate)["degenerate"].to_numpy(bool)
            total = scores[self.answers].sum(axis=1).clip(lower=1e-9)
            shares = scores[self.answers].div(total, axis=0)
            scores = shares.mul(~bad, axis=0).assign(not_music=bad.astype(float))
        table = scores[self.answers].add_prefix("p.").astype(float)
        table["answer"] = answer(scores, self.answers)
        table["not_music"] = scores["not_music"] >= 0.5
        for question, options in self.others.items():
            table[f"says.{question}"] = answer(scores, options).astype(str)
        return table

    def embed(self, audio: Audio, sample_rate: int) -> NDArray[np.float32]:
        """Embed clips for FAD, KAD and similarity: the judge's embedding, or the mel spectrum where it has none."""
        if hasattr(self.judge, "embed"):
            found: NDArray[np.float32] = self.judge.embed(audio, sample_rate)
            return found
        return mel_embedding(audio, sample_rate)

    def worth(self) -> str:
        """How often the judge is right, in words."""
        frame = self.judge.accuracy_frame()
        rows = frame[frame["trait"].isin([self.trait, *self.answers])] if len(frame) else frame
        if rows.empty:
            return f"the accuracy of the judge ({self.name}) was not measured"
        told = "; ".join(f"{row.value:.1%} on {row.audio}" for row in rows.drop_duplicates("audio").itertuples())
        note = "" if self.independent else " (not independent: it looks inside the model that it judges)"
        return f"the judge ({self.name}){note} is right in {told}"


def choose_ear(
    kind: str, model: MusicGen, trait: str, classes: Sequence[str], *, judge_data: Path | None, out: Path, seed: int = 0
) -> Ear:
    """Find the judge that a command line names.

    Parameters
    ----------
    kind : str
        ``auto`` (the rendered judge, for the shipped model alone), ``rendered``, ``clap`` or ``clap:<hub name or
        folder>``, ``probe`` (the model's own probes on the clips of ``judge_data``).
    model : MusicGen
        Whose music is judged.
    trait, classes
        See :class:`Ear`.
    judge_data : Path or None
        Folder of labelled clips: what ``probe`` is trained on, and what CLAP's accuracy is measured on.
    out : Path
        Where activations of ``judge_data`` are kept.
    seed : int
        Of the probes' splits.

    Raises
    ------
    DataError
        If no judge can be had; the sentence says which there are.
    """
    if kind == "auto" and model.name != "tiny":
        raise DataError(
            f"no judge for {model.name}: the rendered judge was trained on rendered music. Say --judge clap (weights "
            "from the hub), --judge clap:FOLDER, or --judge probe with --judge-data FOLDER of labelled clips."
        )
    if kind in ("auto", "rendered"):
        return Ear(RenderedJudge(), trait, classes)
    if kind == "clap" or kind.startswith("clap:"):
        words = {one: f"the sound of {one}" if trait == "instrument" else f"{one} music" for one in classes}
        checkpoint = kind.partition(":")[2] or "laion/larger_clap_music"
        judge = ClapJudge(checkpoint, {trait: words, "drums": {"drums": "music with drums", "no drums": "music without"
                                                               " drums"}}, device=str(model.device))  # fmt: skip
        if judge_data is not None:
            clips = Clips.from_folder(judge_data)
            labels = clips.labels[[trait, "group"]].astype(str)
            heard = [_mono(clip.audio, clip.sample_rate, model.sample_rate) for clip in clips]
            judge.measure(heard, model.sample_rate, labels, f"{judge_data}")
        return Ear(judge, trait, classes)
    if kind == "probe":
        if judge_data is None:
            raise DataError("the judge 'probe' learns from labelled clips: say --judge-data FOLDER, with metadata.csv.")
        from analyses._study import activations

        ds = activations(model, Clips.from_folder(judge_data), out, sites="heads", tag="judge")
        study = _all_heads(ds, trait, seed)
        chosen = [d for one in classes for d in _best(study, one)]
        return Ear(ProbeJudge(model, chosen), trait, classes)
    raise DataError(f"no judge is called {kind!r}: use auto, rendered, clap, clap:FOLDER or probe.")


def _all_heads(ds: Any, trait: str, seed: int) -> Any:
    """Logistic probes of all heads, one output a class."""
    from interp.probes import probe

    return probe(ds, trait, sites="heads", methods=("logistic",), n_permutations=0, n_bootstrap=0, seed=seed)


def _best(study: Any, value: str, k: int = 16) -> list[Any]:
    """Directions of one class at the k best heads (SMITIN's monitor takes 16)."""
    sites = list(study.ranking("logistic")["site"][:k])
    return [d for d in study.directions.select(method="logistic", site=sites) if value in (d.positive, d.trait)]


def _mono(audio: NDArray[np.float32], rate: int, target: int) -> NDArray[np.float32]:
    """One clip ``[channels, samples]`` as mono at another rate."""
    return np.asarray(mono([audio], rate, target)[0].numpy())


def mel_embedding(audio: Audio, sample_rate: int, n_mels: int = 32) -> NDArray[np.float32]:
    """Mean and spread over time of the log-mel spectrum, float32 ``[clips, 2 n_mels]``."""
    import librosa

    rows = []
    for clip in mono(audio, sample_rate, 16_000):
        power = librosa.feature.melspectrogram(y=clip.numpy(), sr=16_000, n_fft=1024, hop_length=320, n_mels=n_mels)
        level = np.log(power + 1e-6)
        rows.append(np.concatenate([level.mean(axis=1), level.std(axis=1)]))
    return np.stack(rows).astype(np.float32)
