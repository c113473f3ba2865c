"""What a judge is, how several judge at once, and how a judge's own accuracy is told beside its verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike

from interp.errors import ClipError, DataError

__all__ = [
    "ACCURACY_COLUMNS",
    "Audio",
    "Judge",
    "accuracy_row",
    "accuracy_table",
    "answer",
    "by_length",
    "judge_all",
    "measure_answers",
    "mono",
    "wilson",
]

Audio = torch.Tensor | np.ndarray | Sequence[ArrayLike | torch.Tensor]
"""Audio of N clips: ``[N, C, T]``, or ``[N, T]``, or a list of ``[C, T]`` / ``[T]`` (lengths may differ)."""


@runtime_checkable
class Judge(Protocol):
    """Measures traits in audio alone.

    Attributes
    ----------
    name : str
        Short name; prefixes the judge's columns in :func:`judge_all`.
    independent : bool
        False for a judge that looks inside the model it judges (the model's own probe).
    accuracy : Mapping[str, float]
        How well the judge does on held-out labelled audio, by trait; empty when that was never measured.
    """

    @property
    def name(self) -> str: ...

    @property
    def independent(self) -> bool: ...

    @property
    def accuracy(self) -> Mapping[str, float]: ...

    def score(self, audio: Audio, sample_rate: int) -> pd.DataFrame:
        """Return one row per clip; columns are traits (probabilities) or measures (in their unit)."""
        ...

    def accuracy_frame(self) -> pd.DataFrame:
        """Return columns ``trait, measure, value, lo, hi, chance, n, n_groups, audio``, one row per trait."""
        ...


ACCURACY_COLUMNS = ["trait", "measure", "value", "lo", "hi", "chance", "n", "n_groups", "audio"]


def mono(audio: Audio, sample_rate: int, target_rate: int | None = None) -> list[torch.Tensor]:
    """Bring audio of any accepted form to mono clips at one sample rate.

    Parameters
    ----------
    audio : Audio
        ``[N, C, T]``, ``[N, T]`` or a list of ``[C, T]`` / ``[T]``.
    sample_rate : int
        Sample rate of `audio` in Hz.
    target_rate : int, optional
        Sample rate wanted, in Hz; `sample_rate` when None.

    Returns
    -------
    list of torch.Tensor
        N clips, float32 ``[T]``, channels averaged.

    Raises
    ------
    ClipError
        If there is no clip, a clip is empty or has a wrong shape, or a sample is not finite.
    """
    if sample_rate <= 0:
        raise ClipError(f"The sample rate is {sample_rate}; give the rate of the audio in Hz, for example 16000.")
    if isinstance(audio, torch.Tensor | np.ndarray) and audio.ndim not in (2, 3):
        raise ClipError(f"Audio has shape {list(audio.shape)}; give [clips, channels, samples] or a list of clips.")
    if len(audio) == 0:
        raise ClipError("There is no clip to judge; give at least one.")
    clips: list[torch.Tensor] = []
    for index, item in enumerate(audio):
        clip = torch.as_tensor(np.asarray(item) if not isinstance(item, torch.Tensor) else item.detach().cpu())
        clip = clip.to(torch.float32)
        if clip.ndim not in (1, 2) or clip.numel() == 0:
            raise ClipError(
                f"Clip {index} has shape {list(clip.shape)}; give [channels, samples] with at least one sample."
            )
        if not bool(torch.isfinite(clip).all()):
            raise ClipError(f"Clip {index} holds samples that are not finite; drop it or generate it anew.")
        clips.append(clip.mean(0) if clip.ndim == 2 else clip)
    if target_rate is None or target_rate == sample_rate:
        return clips
    import torchaudio

    resampled: list[torch.Tensor] = [torch.empty(0)] * len(clips)
    for indices, batch in by_length(clips):
        for index, clip in zip(indices, torchaudio.functional.resample(batch, sample_rate, target_rate), strict=True):
            resampled[index] = clip
    return resampled


def by_length(clips: Sequence[torch.Tensor], batch_size: int = 64) -> list[tuple[list[int], torch.Tensor]]:
    """Group clips of equal length into batches, so that none is padded.

    Returns
    -------
    list of (indices, batch)
        `indices` into `clips`, `batch` float32 ``[len(indices), T]``.
    """
    lengths: dict[int, list[int]] = {}
    for index, clip in enumerate(clips):
        lengths.setdefault(clip.shape[-1], []).append(index)
    batches = []
    for indices in lengths.values():
        for start in range(0, len(indices), batch_size):
            chunk = indices[start : start + batch_size]
            batches.append((chunk, torch.stack([clips[i] for i in chunk])))
    return batches


def judge_all(judges: Sequence[Judge], audio: Audio, sample_rate: int) -> pd.DataFrame:
    """Let several judges judge the same clips.

    Parameters
    ----------
    judges : sequence of Judge
        Names must differ.
    audio : Audio
        N clips.
    sample_rate : int
        In Hz.

    Returns
    -------
    pandas.DataFrame
        N rows; column ``<judge>.<column>`` for every column of every judge. ``attrs["accuracy"]`` holds
        :func:`accuracy_table` as a list of records, so that a saved verdict keeps what its judges are worth.

    Raises
    ------
    DataError
        If there is no judge, two share a name, or one returns another number of rows than there are clips.
    """
    if not judges:
        raise DataError("There is no judge; give at least one.")
    names = [judge.name for judge in judges]
    if len(set(names)) < len(names):
        raise DataError(
            f"Two judges share a name ({', '.join(names)}); name them apart so that columns can be told apart."
        )
    frames = []
    for judge in judges:
        frame = judge.score(audio, sample_rate)
        if len(frame) != len(audio):
            raise DataError(
                f"Judge {judge.name} returned {len(frame)} rows for {len(audio)} clips; it must return one a clip."
            )
        frames.append(frame.reset_index(drop=True).add_prefix(f"{judge.name}."))
    table = pd.concat(frames, axis=1)
    table.attrs["accuracy"] = accuracy_table(judges).to_dict("records")
    return table


def accuracy_table(judges: Sequence[Judge]) -> pd.DataFrame:
    """Tell what each judge is worth: one row per judge and trait.

    A judge whose accuracy was never measured gets one row with ``measure == "not measured"``, so that it cannot pass
    unnoticed.
    """
    frames = []
    for judge in judges:
        frame = judge.accuracy_frame()
        if frame.empty:
            frame = pd.DataFrame([{"trait": "", "measure": "not measured", "value": np.nan}])
        frame = frame.reindex(columns=ACCURACY_COLUMNS)
        frame.insert(0, "judge", judge.name)
        frame.insert(1, "independent", judge.independent)
        frames.append(frame)
    return pd.DataFrame([row for frame in frames for row in frame.to_dict("records")])


def answer(scores: pd.DataFrame, answers: Sequence[str]) -> pd.Series:
    """Turn a classifier's probabilities into one answer a clip.

    Parameters
    ----------
    scores : pandas.DataFrame
        P(answer and music) by answer, and ``not_music``.
    answers : sequence of str
        The columns that compete. A single one is a yes/no question.

    Returns
    -------
    pandas.Series
        For a yes/no question 1.0 where the probability is at least one half, else 0.0; otherwise the likeliest answer,
        or ``"not_music"`` where that is likelier than music.
    """
    if len(answers) == 1:
        return (scores[answers[0]] >= 0.5).astype(float)
    best: pd.Series = scores[list(answers)].idxmax(axis=1)
    return best.where(scores["not_music"] < 0.5, "not_music")


def measure_answers(
    scores: pd.DataFrame, labels: pd.DataFrame, questions: Mapping[str, Sequence[str]], audio: str
) -> list[dict[str, Any]]:
    """Compare a classifier's answers with labels.

    Parameters
    ----------
    scores : pandas.DataFrame
        See :func:`answer`; one row per clip.
    labels : pandas.DataFrame
        One row per clip in the same order; one column per question that has labels. If there is a column ``group`` its
        number of groups is reported.
    questions : mapping of str to sequence of str
        Question -> its answers; those without a column of labels are left out.
    audio : str
        What was heard, for the record.

    Returns
    -------
    list of dict
        Rows as in :meth:`Judge.accuracy_frame`, with Wilson's interval. It holds for clips of different groups.

    Raises
    ------
    DataError
        If no question has labels, or their number is not that of the clips.
    """
    if len(labels) != len(scores):
        raise DataError(f"There are {len(scores)} clips and {len(labels)} rows of labels; give one row per clip.")
    asked = [question for question in questions if question in labels.columns]
    if not asked:
        raise DataError(f"No column of labels for any of {', '.join(questions)}; name the columns like the questions.")
    n = len(labels)
    groups = int(labels["group"].nunique()) if "group" in labels.columns else n
    rows = []
    for question in asked:
        given, truth = answer(scores, questions[question]).to_numpy(), labels[question].to_numpy()
        if len(questions[question]) == 1:
            truth = truth.astype(float)
        right = int((given == truth).sum())
        shares = pd.Series(truth).value_counts(normalize=True)
        rows.append(accuracy_row(question, "accuracy", right, n, float(shares.max()), audio, groups))
    return rows


def accuracy_row(
    trait: str, measure: str, right: int, n: int, chance: float, audio: str, n_groups: int | None = None
) -> dict[str, Any]:
    """One row of :meth:`Judge.accuracy_frame` for `right` of `n`; `chance` is what the commonest answer would get."""
    lo, hi = wilson(right, n)
    values = (trait, measure, right / n, lo, hi, chance, n, n if n_groups is None else n_groups, audio)
    return dict(zip(ACCURACY_COLUMNS, values, strict=True))


def wilson(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a share of `successes` out of `n` independent trials."""
    from statsmodels.stats.proportion import proportion_confint

    lo, hi = proportion_confint(successes, n, alpha=1 - level, method="wilson")
    # rounding must not put the share itself outside
    return min(float(lo), successes / n), max(float(hi), successes / n)
