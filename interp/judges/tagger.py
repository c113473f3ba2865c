"""A judge that was trained on recorded music: the tags of musicnn (:mod:`interp.judges.musicnn`), calibrated.

A tag is heard as loudly as its models say; what that is worth on the music at hand has to be measured. The shipped
calibration (``interp.recipes.tagger_judge``) is from rendered clips and from the same clips after the shipped model's
codec. For each of the two it holds, of every answer, the area under the curve (AUC) of its tags, and the two numbers
that turn them into a probability. Where the AUC is below .7 the judge does not answer, and says so: it *abstains*.
Tags for a trait of one's own are calibrated on labelled clips (:meth:`TaggerJudge.learn`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from interp.errors import ClipError, DataError, StoreError
from interp.judges.accuracy import ACCURACY_COLUMNS
from interp.judges.audio import Audio, by_length, mono
from interp.judges.musicnn import SAMPLE_RATE, TAGS, tags
from interp.judges.quality import degenerate
from interp.stats import wilson
from interp.traits import Trait

__all__ = [
    "ENOUGH",
    "FEWEST",
    "QUESTIONS",
    "WEIGHTS",
    "Heard",
    "TaggerJudge",
    "auc",
    "auc_interval",
    "listen",
    "platt",
    "tag_score",
    "tags_of",
]

WEIGHTS = Path(__file__).parent / "weights" / "tagger.json"
MODELS = ("MTT_musicnn", "MSD_musicnn")
ENOUGH = 0.7
"""AUC below which a judge had better say nothing."""
FEWEST = 8
"""Clips with a trait, and clips without it, that tags are calibrated on at least."""
_MIN_SECONDS = 0.8
Floats = NDArray[np.float64]

#: Question -> answer -> the tags that stand for it.
QUESTIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "drums": {"drums": ("drums", "beat", "beats")},
    "instrument": {
        "piano": ("piano",),
        "guitar": ("guitar",),
        "strings": ("strings", "violin", "cello"),
        "flute": ("flute",),
    },
    "genre": {
        "classical": ("classical", "classic"),
        "rock": ("rock", "hard rock", "classic rock"),
        "jazz": ("jazz",),
        "electronic": ("electronic", "electronica", "techno", "electro"),
    },
}


class Heard:
    """What :func:`listen` heard in N clips.

    Attributes
    ----------
    logits : dict of str to ndarray of float32, shape (N, 50)
        By model.
    embedding : ndarray of float32, shape (N, 400)
        The penultimate layers of both models.
    """

    def __init__(self, logits: dict[str, NDArray[np.float32]], embedding: NDArray[np.float32]) -> None:
        self.logits, self.embedding = logits, embedding

    def tag(self, name: str) -> Floats:
        """Logit of a tag, ``[N]``; the mean of those models that have it.

        Raises
        ------
        DataError
            If no model has it.
        """
        columns = [self.logits[m][:, TAGS[m].index(name)] for m in self.logits if name in TAGS[m]]
        if not columns:
            known = sorted({tag for model in self.logits for tag in TAGS[model]}, key=str.lower)
            raise DataError(f"the taggers have no tag {name!r}: choose among {', '.join(known)}.")
        return np.mean(columns, axis=0, dtype=np.float64)


def listen(audio: Audio, sample_rate: int) -> Heard:
    """Hear clips of any length and rate, each in evenly spaced windows of 3 s.

    Raises
    ------
    ClipError
        If a clip is empty, shorter than 0.8 s, or not finite.
    """
    clips = mono(audio, sample_rate, SAMPLE_RATE)
    for index, clip in enumerate(clips):
        if len(clip) < _MIN_SECONDS * SAMPLE_RATE:
            seconds = len(clip) / SAMPLE_RATE
            raise ClipError(f"clip {index} lasts {seconds:.2f} s: the judge needs at least {_MIN_SECONDS} s.")
    logits = {model: np.empty((len(clips), len(TAGS[model])), np.float32) for model in MODELS}
    embedding: NDArray[np.float32] | None = None
    for indices, batch in by_length(clips):
        said, inner = tags(batch, MODELS)
        if embedding is None:
            embedding = np.empty((len(clips), inner.shape[1]), np.float32)
        embedding[indices] = inner
        for model in MODELS:
            logits[model][indices] = said[model]
    assert embedding is not None  # mono refuses an empty list
    return Heard(logits, embedding)


def tag_score(heard: Heard, names: Sequence[str]) -> Floats:
    """How loudly tags are heard together, ``[N]``: the logarithm of the sum of their odds.

    Examples
    --------
    >>> logits = np.zeros((1, 50), np.float32)
    >>> tag_score(Heard({"MTT_musicnn": logits}, logits), ["drums", "beat"]).round(3)
    array([0.693])
    """
    return np.asarray(np.logaddexp.reduce([heard.tag(name) for name in names], axis=0), np.float64)


def auc(score: Floats, truth: NDArray[np.bool_]) -> float:
    """Area under the curve: how often a clip that has the trait scores above one that lacks it.

    Examples
    --------
    >>> auc(np.array([0.1, 0.4, 0.3, 0.9]), np.array([False, False, True, True]))
    0.75
    """
    from scipy.stats import rankdata

    n = int(truth.sum())
    ranks = rankdata(score)[truth].sum()
    return float((ranks - n * (n + 1) / 2) / (n * (len(truth) - n)))


def auc_interval(value: float, n_has: float, n_lacks: float) -> tuple[float, float]:
    """95 % interval of an AUC from the numbers of clips that have and lack the trait.

    The variance is that of Hanley and McNeil 1982; it is that of a share of so many independent trials, whose interval
    is Wilson's, which stays between 0 and 1 and has a width at 1 too.

    Examples
    --------
    >>> [round(end, 2) for end in auc_interval(0.8, 30, 30)]
    [0.67, 0.89]
    """
    shared = (n_has - 1) * (1 - value) / (2 - value) + (n_lacks - 1) * value / (1 + value)
    trials = n_has * n_lacks / (1 + shared)
    lo, hi = wilson(value * trials, trials)
    return float(lo), float(hi)


def platt(score: Floats, truth: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and offset that turn a score into log odds; as many clips with as without are assumed (Platt 1999).

    Examples
    --------
    >>> slope, offset = platt(np.linspace(-5, -3, 200), np.linspace(-5, -3, 200) > -4)
    >>> slope > 1, round(-offset / slope, 2)
    (True, -4.0)
    """
    from sklearn.linear_model import LogisticRegression

    centre, spread = score.mean(), score.std() + 1e-9
    fit = LogisticRegression(class_weight="balanced").fit(((score - centre) / spread)[:, None], truth)
    slope = float(fit.coef_[0, 0] / spread)
    return slope, float(fit.intercept_[0] - slope * centre)


class TaggerJudge:
    """Judge by the tags of models that were trained on recorded music.

    Parameters
    ----------
    where : {"clean", "codec round trip"}
        What is heard: music as it was recorded, or what comes out of the shipped model's codec. Decides how tags turn
        into probabilities, and which answers the judge abstains from.
    path : Path, optional
        The calibration; the shipped one when None.

    Attributes
    ----------
    questions : dict of str to list of str
        Question -> its answers, the columns of :meth:`score`. A question with several answers has one more, such as
        ``"other genre"``.
    abstains : dict of str to str
        Answer -> a sentence that says why it is not given.

    Raises
    ------
    StoreError
        If the calibration is missing or damaged.
    """

    name = "tagger"
    independent = True

    def __init__(self, where: str = "clean", path: Path | str | None = None) -> None:
        path = WEIGHTS if path is None else Path(path)
        try:
            self.info: dict[str, Any] = json.loads(path.read_text())
            self._music = np.array(self.info["music"]["weights"]), float(self.info["music"]["offset"])
            measured: dict[str, Any] = self.info["answers"]
            self._calibration = {
                a: (tuple(m["tags"]), float(m[where]["slope"]), float(m[where]["offset"])) for a, m in measured.items()
            }
            aucs = {a: float(m[where]["auc"]) for a, m in measured.items()}
        except FileNotFoundError:
            raise StoreError(
                f"there is no calibration at {path}: make one with interp.recipes.tagger_judge.train_tagger_judge()."
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"the calibration at {path} is damaged ({error}): make it anew.") from None
        self._where = where
        self._accuracy = [row for row in self.info["accuracy"] if row["audio"].startswith((where, "all"))]
        self.abstains = {a: _abstention(a, value, where) for a, value in aucs.items() if value < ENOUGH}
        self._answers: dict[str, list[str]] = {}
        for question, of in QUESTIONS.items():
            kept = [a for a in of if a not in self.abstains]
            if kept:
                self._answers[question] = kept

    @property
    def questions(self) -> dict[str, list[str]]:
        return {q: of if of == [q] else [*of, f"other {q}"] for q, of in self._answers.items()}

    def learn(
        self,
        trait: str | Trait,
        names: Sequence[str],
        audio: Audio,
        sample_rate: int,
        labels: pd.DataFrame,
        what: str = "labelled clips",
    ) -> None:
        """Let tags stand for a trait of one's own, calibrated and measured on labelled clips.

        Parameters
        ----------
        trait : str or Trait
            ``"orchestral"``, ``"genre=metal"``.
        names : sequence of str
            Tags of :data:`interp.judges.musicnn.TAGS`.
        audio : Audio
            N clips.
        sample_rate : int
            In Hz.
        labels : DataFrame
            N rows with the trait's column, and ``group`` if there is one.
        what : str
            Name of the audio, for the record.

        Raises
        ------
        DataError
            If a tag is unknown, fewer than 8 clips have or lack the trait, or the AUC of the tags is below .7.

        Examples
        --------
        >>> time = np.arange(16_000) / 16_000
        >>> sounds = [np.sin(2 * np.pi * 220 * time) * (1 if i % 2 else 0.01 * np.sin(90 * time)) for i in range(16)]
        >>> sounds = [x + 0.01 * np.random.default_rng(i).normal(size=16_000) for i, x in enumerate(sounds)]
        >>> judge = TaggerJudge()
        >>> judge.learn("hiss", ["ambient", "synth"], sounds, 16_000, pd.DataFrame({"hiss": [1, 0] * 8}))
        >>> judge.questions["hiss"], judge.accuracy_frame().iloc[-1][["trait", "measure"]].tolist()
        (['hiss'], ['hiss', 'AUC'])
        """
        trait = Trait.parse(trait)
        heard = listen(audio, sample_rate)
        score = tag_score(heard, names)
        has, lacks = trait.has(labels), trait.lacks(labels)
        if min(has.sum(), lacks.sum()) < FEWEST:
            raise DataError(
                f"{has.sum()} clips have {trait} and {lacks.sum()} lack it: tags are calibrated on {FEWEST} of each at "
                "least."
            )
        known = has | lacks
        value = auc(score[known], has[known])
        if value < ENOUGH:
            raise DataError(_abstention(trait.answer, value, what, names))
        slope, offset = platt(score[known], has[known])
        if trait.positive:
            of = [a for a in self._answers.get(trait.column, []) if a != trait.positive]
            self._answers[trait.column] = [*of, trait.positive]
        else:
            self._answers[trait.column] = [trait.column]
        self._calibration[trait.answer] = (tuple(names), slope, offset)
        self.abstains.pop(trait.answer, None)
        groups = labels.loc[known, "group"].nunique() if "group" in labels else int(known.sum())
        self._accuracy = [row for row in self._accuracy if row["trait"] not in (trait.answer, trait.column)]
        self._accuracy += [auc_row(trait.answer, score[known], has[known], what, int(groups))]

    def accuracy_frame(self) -> pd.DataFrame:
        """Return what was measured of the audio that is heard: shares of right answers, AUCs, false alarms in ruins."""
        return pd.DataFrame(self._accuracy, columns=ACCURACY_COLUMNS)

    def score(self, audio: Audio, sample_rate: int) -> pd.DataFrame:
        """Judge clips.

        Returns
        -------
        pandas.DataFrame
            N rows; P(answer and music) for every answer, and ``not_music``. Answers of a question with several, the
            one for "none of these", and ``not_music`` add up to one.

        Raises
        ------
        ClipError
            If a clip is empty, shorter than 0.8 s, or not finite.
        """
        heard = listen(audio, sample_rate)
        ruined = degenerate(audio, sample_rate)["degenerate"].to_numpy(bool)
        return self.scores(heard, ruined)

    def scores(self, heard: Heard, ruined: NDArray[np.bool_]) -> pd.DataFrame:
        """:meth:`score` of what was heard already; ``ruined`` clips ``[N]`` are no music."""
        weights, offset = self._music
        music = 1 / (1 + np.exp(-(heard.embedding @ weights + offset)))
        music = np.where(ruined, 0.0, music)
        columns: dict[str, Floats] = {}
        for question, of in self._answers.items():
            odds = {}
            for answer in of:
                names, slope, shift = self._calibration[answer]
                odds[answer] = np.exp(np.clip(slope * tag_score(heard, names) + shift, -30, 30))
            total = 1 + np.sum(list(odds.values()), axis=0)
            columns |= {answer: music * value / total for answer, value in odds.items()}
            if of != [question]:
                columns[f"other {question}"] = music / total
        columns["not_music"] = 1 - music
        return pd.DataFrame(columns)

    def embed(self, audio: Audio, sample_rate: int) -> NDArray[np.float32]:
        """Embed clips for FAD, KAD and similarity, in a space of recorded music.

        Returns
        -------
        numpy.ndarray, float32 ``[N, 400]``
            The penultimate layers of both models, averaged over a clip's windows.
        """
        return listen(audio, sample_rate).embedding

    def __repr__(self) -> str:
        told = ", ".join(answer for of in self._answers.values() for answer in of)
        return f"TaggerJudge({told}; {self._where})"


def auc_row(
    trait: str, score: Floats, truth: NDArray[np.bool_], audio: str, n_groups: int | None = None
) -> dict[str, Any]:
    """A row of :meth:`TaggerJudge.accuracy_frame` for an AUC; its interval counts groups, not clips of one group."""
    n, value = len(truth), auc(score, truth)
    share = 1.0 if n_groups is None else n_groups / n
    lo, hi = auc_interval(value, share * truth.sum(), share * (~truth).sum())
    values = (trait, "AUC", value, lo, hi, 0.5, n, n if n_groups is None else n_groups, audio)
    return dict(zip(ACCURACY_COLUMNS, values, strict=True))


def _abstention(answer: str, value: float, where: str, names: Sequence[str] = ()) -> str:
    stand = " and ".join(names) or "that stand for it"
    return (
        f"the tagger cannot hear {answer!r} in this audio: the AUC of the tags {stand} is {value:.2f} on {where}, and "
        f"it answers from {ENOUGH} on; name other tags, or have a judge trained on labelled clips (--judge trained)."
    )


def tags_of(trait: Trait, chosen: Mapping[str, Sequence[str]]) -> list[str]:
    """The tags for a trait: those that were named, else the shipped ones, else the tag of its name; empty without one.

    Examples
    --------
    >>> tags_of(Trait("genre", "metal"), {}), tags_of(Trait("orchestral"), {"orchestral": ["strings"]})
    (['metal'], ['strings'])
    >>> tags_of(Trait("drums"), {})
    ['drums', 'beat', 'beats']
    """
    if str(trait) in chosen or trait.answer in chosen:
        return list(chosen.get(str(trait), chosen.get(trait.answer, ())))
    shipped = QUESTIONS.get(trait.column, {}).get(trait.answer)
    if shipped:
        return list(shipped)
    return [trait.answer] if any(trait.answer in TAGS[model] for model in MODELS) else []
