"""What a judge is worth: how often it is right on labelled audio, told beside everything that it says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from interp.errors import DataError
from interp.judges.audio import Audio
from interp.judges.base import Judge, answers, score
from interp.stats import wilson
from interp.traits import Trait

__all__ = ["ACCURACY_COLUMNS", "accuracy_row", "accuracy_table", "measure", "measure_answers", "worth"]

ACCURACY_COLUMNS = ["trait", "measure", "value", "lo", "hi", "chance", "n", "n_groups", "audio"]

_RIGHT = ("accuracy", "balanced accuracy", "held-out accuracy")
"""Measures that say how often a judge is right."""


def accuracy_table(judges: Sequence[Judge]) -> pd.DataFrame:
    """Tell what each judge is worth: one row per judge and trait.

    Returns
    -------
    DataFrame
        ``judge, independent`` and the columns of :meth:`Judge.accuracy_frame`. A judge whose accuracy was never
        measured has a row with ``measure == "not measured"``, so that it cannot pass unnoticed.

    Examples
    --------
    >>> from interp.judges.quality import QualityJudge
    >>> accuracy_table([QualityJudge()])[["judge", "measure"]].to_dict("records")
    [{'judge': 'quality', 'measure': 'not measured'}]
    """
    rows: list[dict[str, Any]] = []
    for judge in judges:
        frame = judge.accuracy_frame().reindex(columns=ACCURACY_COLUMNS)
        records = frame.to_dict("records")
        if not frame["lo"].notna().any():  # nothing with an interval was counted
            records.insert(0, {"trait": "", "measure": "not measured", "value": np.nan})
        rows += [{"judge": judge.name, "independent": judge.independent, **row} for row in records]
    return pd.DataFrame(rows, columns=["judge", "independent", *ACCURACY_COLUMNS])


def worth(judge: Judge, trait: str | Trait) -> str:
    """Say in words how often a judge is right about a trait.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> frame = pd.DataFrame([accuracy_row("drums", "accuracy", 9, 10, 0.5, "songs")])
    >>> judge = SimpleNamespace(name="ear", independent=True, accuracy_frame=lambda: frame)
    >>> worth(judge, "drums")
    'the judge ear is right in 90.0% on songs'
    >>> worth(judge, "genre=jazz")
    'the judge ear was never measured on genre=jazz'
    >>> frame.loc[0, "measure"] = "AUC"
    >>> worth(judge, "drums")
    'the judge ear tells it from its absence with an AUC of 0.90 on songs'
    """
    trait = Trait.parse(trait)
    name = f"the judge {judge.name}{'' if judge.independent else ' (not independent: it looks inside the model)'}"
    frame = judge.accuracy_frame().reindex(columns=ACCURACY_COLUMNS)
    rows = frame[frame["trait"].isin([trait.column, trait.answer]) & frame["lo"].notna()]
    rows = rows.drop_duplicates(["measure", "audio"])
    right = "; ".join(f"{row.value:.1%} on {row.audio}" for row in rows[rows["measure"].isin(_RIGHT)].itertuples())
    areas = "; ".join(f"{row.value:.2f} on {row.audio}" for row in rows[rows["measure"] == "AUC"].itertuples())
    parts = [f"is right in {right}"] * bool(right) + [f"tells it from its absence with an AUC of {areas}"] * bool(areas)
    return f"{name} {' and '.join(parts)}" if parts else f"{name} was never measured on {trait}"


def measure(
    judge: Judge, audio: Audio, sample_rate: int, labels: pd.DataFrame, what: str = "labelled clips"
) -> pd.DataFrame:
    """Measure any judge on labelled audio.

    Parameters
    ----------
    judge : Judge
        Whom.
    audio : Audio
        N clips.
    sample_rate : int
        In Hz.
    labels : pandas.DataFrame
        N rows in the same order; a column per question, and ``group`` if there is one. Questions without a column are
        left out, clips whose label is empty or no answer of the judge are not counted.
    what : str
        Name of the audio, for the record.

    Returns
    -------
    DataFrame
        Columns :data:`ACCURACY_COLUMNS`, with Wilson's interval. It holds for clips of different groups.

    Raises
    ------
    DataError
        If no question has labels, or their number is not that of the clips.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> judge = SimpleNamespace(name="ear", questions={"loud": ["loud"]},
    ...     score=lambda audio, rate: pd.DataFrame({"loud": [float(np.max(x)) for x in audio], "not_music": 0.0}))
    >>> clips = [np.full((1, 8), level) for level in (0.9, 0.8, 0.1)]
    >>> measure(judge, clips, 8, pd.DataFrame({"loud": ["yes", "no", "no"]}))[["trait", "value", "n"]].round(2)
      trait  value  n
    0  loud   0.67  3
    """
    return pd.DataFrame(
        measure_answers(judge, score(judge, audio, sample_rate), labels, what), columns=ACCURACY_COLUMNS
    )


def measure_answers(judge: Judge, scores: pd.DataFrame, labels: pd.DataFrame, audio: str) -> list[dict[str, Any]]:
    """:func:`measure`, of scores that are there already.

    Returns
    -------
    list of dict
        Rows of :meth:`Judge.accuracy_frame`.
    """
    if len(labels) != len(scores):
        raise DataError(f"there are {len(scores)} clips and {len(labels)} rows of labels: give one row per clip.")
    asked = [question for question in judge.questions if question in labels.columns]
    if not asked:
        raise DataError(
            f"there is no label for any of {', '.join(judge.questions)}: name the columns like the questions."
        )
    answered = answers(judge, scores)
    rows = []
    for question in asked:
        truth = _truth(Trait(question), labels, judge.questions[question])
        counted = truth.notna().to_numpy()
        if not counted.any():
            raise DataError(f"no clip has a label {question!r} that the judge {judge.name!r} could answer.")
        n = int(counted.sum())
        groups = int(labels.loc[counted, "group"].nunique()) if "group" in labels.columns else n
        right = int((answered.loc[counted, question].to_numpy() == truth[counted].to_numpy()).sum())
        shares = truth[counted].value_counts(normalize=True)
        rows.append(accuracy_row(question, "accuracy", right, n, float(shares.max()), audio, groups))
    return rows


def _truth(trait: Trait, labels: pd.DataFrame, answers: Sequence[str]) -> pd.Series:
    """What the judge ought to say of each clip; NaN where it could not know."""
    empty = pd.Series(np.nan, index=range(len(labels)), dtype=object)
    if len(answers) == 1:
        asked = trait if answers[0] == trait.column else Trait(trait.column, answers[0])
        empty[asked.has(labels)] = 1.0
        empty[asked.lacks(labels)] = 0.0
        return empty
    cells = labels[trait.column].reset_index(drop=True)
    return cells.where(cells.isin(list(answers))).astype(object)


def accuracy_row(
    trait: str, measure: str, right: int, n: int, chance: float, audio: str, n_groups: int | None = None
) -> dict[str, Any]:
    """One row of :meth:`Judge.accuracy_frame` for `right` of `n`; `chance` is what the commonest answer would get.

    Examples
    --------
    >>> row = accuracy_row("drums", "accuracy", 9, 10, 0.5, "songs")
    >>> row["value"], round(row["lo"], 3), round(row["hi"], 3), row["n_groups"]
    (0.9, 0.596, 0.982, 10)
    """
    lo, hi = (float(bound) for bound in wilson(right, n))
    values = (trait, measure, right / n, lo, hi, chance, n, n if n_groups is None else n_groups, audio)
    return dict(zip(ACCURACY_COLUMNS, values, strict=True))
