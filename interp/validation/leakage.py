"""Leakage: what does each trait's direction do to every trait the judge hears?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from interp.directions import Direction
from interp.judges import Judge
from interp.judges.base import answers
from interp.stats import paired_bootstrap
from interp.validation.arms import UNSTEERED, push
from interp.validation.run import run_arms
from interp.validation.setting import Setting
from interp.validation.summary import JUDGED

if TYPE_CHECKING:
    from interp.model import MusicGen

__all__ = ["judged_changes", "leakage"]


def leakage(
    model: MusicGen,
    directions: Mapping[str, Direction],
    codes: Sequence[torch.Tensor],
    dose: float,
    *,
    seeds: Sequence[int],
    judge: Judge,
    setting: Setting | None = None,
) -> pd.DataFrame:
    """Push along every trait's direction on the same sounds; report the change of every judged share.

    Parameters
    ----------
    model, judge, setting
        As in :func:`interp.validation.run_arms`; one judge.
    directions : mapping of str to Direction
        One for each trait, named as the judge does (``drums``, ``piano``, ``jazz``).
    codes : sequence of Tensor [codebooks, frames]
        Sounds of all kinds to continue, one a seed. A share that is high without any push leaves little room to rise.
    dose : float
        In sigma, the same for all.
    seeds : sequence of int

    Returns
    -------
    DataFrame
        ``direction, judged, base, rate, diff, lo, hi, p, own``: one row for each direction and answer of the judge.

    Examples
    --------
    >>> import numpy as np
    >>> import interp
    >>> from interp.directions import Direction
    >>> class Ear:
    ...     name, independent, questions = "ear", True, {"loud": ["loud"]}
    ...     def score(self, audio, sample_rate):
    ...         return pd.DataFrame({"loud": np.ones(len(audio)), "not_music": 0.0})
    ...     def accuracy_frame(self):
    ...         return pd.DataFrame()
    >>> model = interp.load("tiny", device="cpu")
    >>> loud = Direction.from_weight("L3.resid", np.ones(model.shape.width), trait="loud", sigma=1.0)
    >>> setting = Setting(seconds=0.2, prompt_seconds=0.0, progress=False)
    >>> table = leakage(model, {"loud": loud}, [None, None], 1.0, seeds=[0, 1], judge=Ear(), setting=setting)
    >>> table[["direction", "judged", "base", "rate", "own"]].to_dict("records")
    [{'direction': 'loud', 'judged': 'loud', 'base': 1.0, 'rate': 1.0, 'own': True}]
    """
    arms = [push(name, direction, control=False) for name, direction in directions.items()]
    question, first = next((question, of[0]) for question, of in judge.questions.items())
    trait = question if len(judge.questions[question]) == 1 else f"{question}={first}"
    made = run_arms(
        model, trait, arms, codes, [dose], seeds=seeds, judge=judge,
        setting=replace(setting or Setting(), measure=True, keep_audio=False),
    )  # fmt: skip
    parts = [judged_changes(made.clips, judge, arm=name, dose=dose).assign(direction=name) for name in directions]
    table = pd.concat(parts, ignore_index=True)
    table["own"] = table["direction"] == table["judged"]
    return table[["direction", "judged", "base", "rate", "diff", "lo", "hi", "p", "own"]]


def judged_changes(clips: pd.DataFrame, judge: Judge, *, arm: str, dose: float) -> pd.DataFrame:
    """Change of the share of every answer of the judge between unsteered and one arm, paired by seed.

    Returns
    -------
    DataFrame
        ``judged, base, rate, diff, lo, hi, p``.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> judge = SimpleNamespace(name="ear", questions={"bass": ["bass"]})
    >>> clips = pd.DataFrame({"arm": ["unsteered"] * 2 + ["drums"] * 2, "dose": [0.0, 0.0, 1.0, 1.0],
    ...                       "p_bass": [0.1, 0.9, 0.8, 0.9], "p_not_music": 0.0})
    >>> judged_changes(clips, judge, arm="drums", dose=1.0)[["judged", "base", "rate", "diff"]]
      judged  base  rate  diff
    0   bass   0.5   1.0   0.5
    """
    before = _answers(clips[clips["arm"] == UNSTEERED], judge)
    after = _answers(clips[(clips["arm"] == arm) & (clips["dose"] == dose)], judge)
    lines = []
    for name in before:
        change = paired_bootstrap(after[name], before[name])
        lines.append(
            {
                "judged": name, "base": before[name].mean(), "rate": after[name].mean(), "diff": change.difference,
                "lo": change.lo, "hi": change.hi, "p": change.p,
            }
        )  # fmt: skip
    return pd.DataFrame(lines)


def _answers(clips: pd.DataFrame, judge: Judge) -> dict[str, NDArray[np.float64]]:
    """For every answer of every question, 1 where the judge gives it."""
    columns = [name for name in clips.columns if name.startswith(JUDGED)]
    scores = clips[columns].rename(columns=lambda name: name.removeprefix(JUDGED)).reset_index(drop=True)
    said_by_judge = answers(judge, scores)
    return {
        answer: np.asarray(said_by_judge[question] == (1.0 if len(of) == 1 else answer), dtype=float)
        for question, of in judge.questions.items()
        for answer in of
    }
