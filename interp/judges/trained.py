"""A judge for a trait of one's own: trained on the sound of labelled clips, with its held-out accuracy beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from interp.errors import DataError
from interp.judges.accuracy import ACCURACY_COLUMNS
from interp.judges.audio import Audio, mono, windows
from interp.judges.features import sound_features
from interp.judges.network import SAMPLE_RATE
from interp.judges.quality import degenerate
from interp.stats import wilson
from interp.traits import Trait

if TYPE_CHECKING:
    from interp.clips import Clips
    from interp.model import MusicGen

__all__ = ["TrainedJudge", "sounds", "train"]

_STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)
"""Inverse penalties that cross-validation chooses from."""
Floats = NDArray[np.float64]


class TrainedJudge:
    """Hears what :func:`train` taught it; whether a clip is music at all is told by signal processing.

    Attributes
    ----------
    questions : dict of str to list of str
        Trait's label -> the answers that compete.
    """

    independent = True

    def __init__(
        self, models: dict[str, Any], questions: dict[str, list[str]], accuracy: pd.DataFrame, seconds: float, name: str
    ) -> None:
        self.name, self.questions = name, questions
        self._models, self._accuracy, self._seconds = models, accuracy, seconds

    def accuracy_frame(self) -> pd.DataFrame:
        """Return what was measured on groups of clips that were left out of training, with Wilson's interval."""
        return self._accuracy.copy()

    def score(self, audio: Audio, sample_rate: int) -> pd.DataFrame:
        """Judge clips.

        Returns
        -------
        pandas.DataFrame
            N rows; P(answer and music) for every answer, and ``not_music`` (1 for silence, clipping, standstill and
            short loops, see :func:`interp.judges.quality.degenerate`).
        """
        x, clip = _windowed(audio, sample_rate, self._seconds)
        music = 1.0 - degenerate(audio, sample_rate)["degenerate"].to_numpy(float)
        columns: dict[str, Floats] = {}
        for question, answers in self.questions.items():
            shares = _mean_by(self._models[question].predict_proba(x), clip)
            shares = shares[:, 1:] if len(answers) == 1 else shares
            columns |= {answer: shares[:, i] * music for i, answer in enumerate(answers)}
        return pd.DataFrame({**columns, "not_music": 1.0 - music})

    def embed(self, audio: Audio, sample_rate: int) -> NDArray[np.float32]:
        """Embed clips by :func:`interp.judges.features.sound_features`, scaled by the training clips."""
        scaler = next(iter(self._models.values()))[0]
        standard: NDArray[np.float32] = scaler.transform(sound_features(audio, sample_rate)).astype(np.float32)
        return standard

    def __repr__(self) -> str:
        shares = ", ".join(f"{row.trait} {row.value:.3f}" for row in self._accuracy.itertuples())
        return f"TrainedJudge({shares}; held out)"


def train(
    clips: Clips,
    traits: str | Trait | Sequence[str | Trait],
    *,
    model: MusicGen | None = None,
    seconds: float = 2.5,
    folds: int = 5,
    seed: int = 0,
    name: str = "trained",
) -> TrainedJudge:
    """Train a judge on the sound of labelled clips: logistic regression on log-mel statistics.

    Groups never straddle a fold. The penalty is chosen by cross-validation within the training part of each fold, so
    that the accuracy told is that of clips the judge had no part of.

    Parameters
    ----------
    clips : Clips
        Labelled audio; with a label for each trait, and groups.
    traits : str, Trait, or a sequence of them
        ``"orchestral"`` (yes or no), ``"mood"`` (all classes), ``"mood=calm"`` (one against the others).
    model : MusicGen, optional
        Whose music is to be judged: the clips go through its codec first, as what it generates does.
    seconds : float
        Length of the windows that are heard; that of the music to be judged.
    folds : int
        Of the cross-validation, at most.
    seed : int
        Of the folds.
    name : str
        Of the judge.

    Returns
    -------
    TrainedJudge

    Raises
    ------
    DataError
        If a trait is a number, a class has clips of fewer than two groups, or what the judge hears in clips that were
        left out is no better than the commonest answer (by its interval).

    Examples
    --------
    >>> from interp.clips import Clips
    >>> rng, time = np.random.default_rng(0), np.arange(8_000) / 16_000
    >>> sounds = [rng.normal(size=8_000) * 0.1 + (i % 2) * np.sin(6_000 * time) for i in range(16)]
    >>> labels = pd.DataFrame({"whistle": ["no", "yes"] * 8, "group": [f"song {i // 2}" for i in range(16)]})
    >>> train(Clips.from_arrays([x[None] for x in sounds], 16_000, labels), "whistle")
    TrainedJudge(whistle 1.000; held out)
    """
    wanted = [Trait.parse(trait) for trait in ([traits] if isinstance(traits, str | Trait) else traits)]
    read = {trait.column: trait.read(clips.labels) for trait in wanted}
    if len(read) < len(wanted):
        raise DataError("two traits of one label: train a judge for each, or name the label alone to hear all classes.")
    for labels in read.values():
        if labels.graded:
            raise DataError(f"{labels.name} is a number: a judge answers yes or no, or one of several classes.")
    x, clip = _windowed(sounds(clips, model), SAMPLE_RATE, seconds)
    groups = clips.labels["group"].astype(str).to_numpy() if "group" in clips.labels else np.arange(len(clips))
    heard = "labelled clips, codec round trip" if model is not None else "labelled clips"
    models, questions, rows = {}, {}, []
    for column, labels in read.items():
        kept = np.flatnonzero(labels.keep)
        y = np.full(len(clips), -1)
        y[kept] = labels.y
        used = np.isin(clip, kept)
        shares = _held_out(x[used], y[clip[used]], clip[used], groups[clip[used]], folds, seed, labels.name)
        rows.append(_accuracy(column, shares[kept], y[kept], groups[kept], heard, labels.name))
        models[column] = _fit(x[used], y[clip[used]], groups[clip[used]], folds, seed)
        questions[column] = [labels.positive] if labels.kind == "binary" else list(labels.classes)
    return TrainedJudge(models, questions, pd.DataFrame(rows, columns=ACCURACY_COLUMNS), seconds, name)


def sounds(clips: Clips, model: MusicGen | None) -> list[torch.Tensor]:
    """Mono clips at 16 kHz; through the model's codec where there is one."""
    sounds = []
    for clip in clips:
        audio, rate = torch.as_tensor(np.asarray(clip.audio)), clip.sample_rate
        if model is not None:
            audio, rate = model.decode(model.encode(audio[None], rate))[0], model.sample_rate
        sounds += mono([audio], rate, SAMPLE_RATE)
    return sounds


def _windowed(audio: Audio, sample_rate: int, seconds: float) -> tuple[Floats, NDArray[np.int64]]:
    """Features of all windows ``[windows, dim]``, and the clip that each belongs to."""
    clips = mono(audio, sample_rate, SAMPLE_RATE)
    cut = [(i, window) for i, clip in enumerate(clips) for window in windows(clip, round(seconds * SAMPLE_RATE))]
    x = sound_features([window for _, window in cut], SAMPLE_RATE).astype(np.float64)
    return x, np.array([i for i, _ in cut])


def _mean_by(values: Floats, clip: NDArray[np.int64]) -> Floats:
    """Mean of the rows of each clip, ``[clips, ...]``; NaN for clips that have none."""
    n = int(clip.max()) + 1
    sums, counts = np.zeros((n, values.shape[1])), np.bincount(clip, minlength=n)
    np.add.at(sums, clip, values)
    with np.errstate(invalid="ignore"):
        return np.asarray(sums / counts[:, None])


def _splits(y: NDArray[Any], groups: NDArray[Any], folds: int, seed: int) -> list[tuple[Any, Any]]:
    from sklearn.model_selection import StratifiedGroupKFold

    fewest = min(len(np.unique(groups[y == label])) for label in np.unique(y))
    splitter = StratifiedGroupKFold(max(2, min(folds, fewest)), shuffle=True, random_state=seed)
    return list(splitter.split(y, y, groups))


def _fit(x: Floats, y: NDArray[Any], groups: NDArray[Any], folds: int, seed: int) -> Any:
    """Scaler and logistic regression, its penalty the one of the least held-out loss over groups."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def pipeline(strength: float) -> Any:
        return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))

    losses = np.zeros(len(_STRENGTHS))
    for train_rows, test_rows in _splits(y, groups, folds, seed):
        if len(np.unique(y[train_rows])) < len(np.unique(y)):
            continue
        for i, strength in enumerate(_STRENGTHS):
            fitted = pipeline(strength).fit(x[train_rows], y[train_rows])
            losses[i] += log_loss(y[test_rows], fitted.predict_proba(x[test_rows]), labels=fitted.classes_)
    return pipeline(_STRENGTHS[int(losses.argmin())]).fit(x, y)


def _held_out(
    x: Floats, y: NDArray[Any], clip: NDArray[np.int64], groups: NDArray[Any], folds: int, seed: int, name: str
) -> Floats:
    """Probabilities of each clip's classes by a judge that was fitted without its group, ``[clips, classes]``."""
    classes = np.unique(y)
    few = [c for c in classes if len(np.unique(groups[y == c])) < 2]
    if len(classes) < 2 or few:
        raise DataError(f"{name}: every class needs clips of two groups or more, so that a judge can be tested.")
    shares = np.zeros((len(x), len(classes)))
    for train_rows, test_rows in _splits(y, groups, folds, seed):
        if len(np.unique(y[train_rows])) < 2:
            raise DataError(f"{name}: too few groups have each class; label clips of more songs.")
        fitted = _fit(x[train_rows], y[train_rows], groups[train_rows], folds, seed)
        shares[np.ix_(test_rows, np.searchsorted(classes, fitted.classes_))] = fitted.predict_proba(x[test_rows])
    return _mean_by(shares, clip)


def _accuracy(
    column: str, shares: Floats, y: NDArray[Any], groups: NDArray[Any], heard: str, name: str
) -> dict[str, Any]:
    """The held-out accuracy; its interval counts groups, since clips of one group are no independent trials."""
    right, n_groups = float((shares.argmax(1) == y).mean()), len(np.unique(groups))
    chance = float(np.bincount(y).max() / len(y))
    lo, hi = (float(bound) for bound in wilson(right * n_groups, n_groups))
    if lo <= chance:
        raise DataError(
            f"the sound of the labelled clips does not tell {name}: a judge trained on it is right in {right:.0%} "
            f"[{lo:.0%}, {hi:.0%}] of clips it did not see, where the commonest answer is right in {chance:.0%}; bring "
            "clips of more songs, or judge by ear."
        )
    values = (column, "held-out accuracy", right, lo, hi, chance, len(y), n_groups, heard)
    return dict(zip(ACCURACY_COLUMNS, values, strict=True))
