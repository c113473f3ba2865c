"""How the tagger's calibration is made: tags on rendered clips, after the shipped model's codec, and on ruins.

``python -m interp.recipes.tagger_judge`` writes the shipped file again; it takes about a quarter of an hour.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from interp._files import atomic
from interp.judges.accuracy import accuracy_row, measure_answers
from interp.judges.musicnn import SAMPLE_RATE
from interp.judges.quality import degenerate
from interp.judges.tagger import QUESTIONS, WEIGHTS, Heard, TaggerJudge, auc, auc_row, listen, platt, tag_score
from interp.recipes.degrade import KINDS, UNSEEN_KINDS, Codec, degrade, round_trip
from interp.recipes.rendered_accuracy import TEST_SEED, shipped_codec

__all__ = ["train_tagger_judge"]

_PENALTY = 1e-3  # inverse, of the logistic regression that tells music from ruins
Listened = tuple[Heard, NDArray[np.bool_]]
"""What was heard, and which clips signal processing calls no music."""


def train_tagger_judge(
    path: Path = WEIGHTS, seed: int = 0, n_clips: int = 240, codec: Codec | None = None, progress: bool = False
) -> TaggerJudge:
    """Calibrate and measure the tagger, and write the calibration.

    Parameters
    ----------
    path : Path
        Where it goes.
    seed : int
        Of clips and ruins.
    n_clips : int
        Clips to calibrate on, and as many others to measure on; each of a score of its own.
    codec : Codec, optional
        The shipped model's when None.
    progress : bool
        Show a progress bar.

    Returns
    -------
    TaggerJudge
        As it hears the codec's output.
    """
    from interp.data import render_arrays

    codec = codec or shipped_codec()
    rng = np.random.default_rng([seed, 17])
    steps = _Progress(2 * (2 + len(KINDS)), progress)
    sets = []
    for first in (seed + 3 * TEST_SEED, seed + 4 * TEST_SEED):  # to calibrate on, to measure on
        rendered, labels = render_arrays(n_clips, first, 4.0, clips_per_score=1)
        audio = torch.from_numpy(rendered[:, 0])
        music = {"clean": _hear(audio), "codec round trip": _hear(round_trip(codec, audio))}
        steps(2)
        ruins = {}
        for kind in KINDS:
            some = torch.from_numpy(rng.permutation(n_clips)[: max(8, n_clips // 8)])
            ruins[kind] = _hear(degrade(audio[some], kind, codec, rng))
            steps(1)
        sets.append((music, ruins, labels))
    (music, ruins, labels), (new_music, new_ruins, new_labels) = sets
    info: dict[str, Any] = {
        "made_by": {"seed": seed, "clips": n_clips, "unseen kinds of ruin": list(UNSEEN_KINDS)},
        "answers": _calibrate(music, labels, new_music, new_labels),
        "music": _tell_music(music, {kind: heard for kind, heard in ruins.items() if kind not in UNSEEN_KINDS}),
        "accuracy": [],
    }
    _write(path, info)
    for where, heard in new_music.items():
        info["accuracy"] += _measure(TaggerJudge(where, path), where, heard, new_labels)
    info["accuracy"] += _false_alarms(TaggerJudge("clean", path), new_ruins)
    _write(path, info)
    return TaggerJudge("codec round trip", path)


class _Progress:
    def __init__(self, total: int, shown: bool) -> None:
        from tqdm.auto import tqdm

        self._bar = tqdm(total=total, desc="tagger", disable=None if shown else True)

    def __call__(self, steps: int) -> None:
        self._bar.update(steps)


def _hear(audio: torch.Tensor) -> Listened:
    clips = audio[:, None]
    return listen(clips, SAMPLE_RATE), degenerate(clips, SAMPLE_RATE)["degenerate"].to_numpy(bool)


def _calibrate(
    music: dict[str, Listened], labels: pd.DataFrame, new: dict[str, Listened], new_labels: pd.DataFrame
) -> dict[str, Any]:
    """Tags of every answer; by what is heard, slope and offset of the first clips, and the AUC of the others."""
    answers: dict[str, Any] = {}
    for question, of in QUESTIONS.items():
        for answer, names in of.items():
            truth, new_truth = (_has(table, question, answer) for table in (labels, new_labels))
            answers[answer] = {"tags": list(names)}
            for where, (heard, _) in music.items():
                slope, offset = platt(tag_score(heard, names), truth)
                value = auc(tag_score(new[where][0], names), new_truth)
                answers[answer][where] = {"slope": slope, "offset": offset, "auc": round(value, 4)}
    return answers


def _has(labels: pd.DataFrame, question: str, answer: str) -> NDArray[np.bool_]:
    return np.asarray(labels[question] == (1 if answer == question else answer))


def _tell_music(music: dict[str, Listened], ruins: dict[str, Listened]) -> dict[str, Any]:
    """Logistic regression of the embedding, folded into one weight each: music against ruins."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    x = np.concatenate([heard.embedding for heard, _ in (*music.values(), *ruins.values())])
    n_music = sum(len(ruined) for _, ruined in music.values())
    scaler = StandardScaler().fit(x[:n_music])
    fit = LogisticRegression(C=_PENALTY, class_weight="balanced", max_iter=5000)
    fit.fit(scaler.transform(x), np.arange(len(x)) < n_music)
    weights = fit.coef_[0] / scaler.scale_
    weights = np.array([float(f"{weight:.5g}") for weight in weights])
    return {"weights": weights.tolist(), "offset": float(fit.intercept_[0] - scaler.mean_ @ weights)}


def _measure(judge: TaggerJudge, where: str, heard: Listened, labels: pd.DataFrame) -> list[dict[str, Any]]:
    """Share of right answers and AUC of each answer, and how much music is called music."""
    scores = judge.scores(*heard)
    known = labels.copy()
    for question, of in judge.questions.items():
        if len(of) > 1:
            known[question] = known[question].where(known[question].isin(of), f"other {question}")
    rows = measure_answers(judge, scores, known, where)
    for question, answers in QUESTIONS.items():
        for answer, names in answers.items():
            rows.append(auc_row(answer, tag_score(heard[0], names), _has(labels, question, answer), where))
    kept = int((scores["not_music"] < 0.5).sum())
    return [*rows, accuracy_row("music", "accuracy", kept, len(scores), 0.5, where)]


def _false_alarms(judge: TaggerJudge, ruins: dict[str, Listened]) -> list[dict[str, Any]]:
    """Share of each kind of ruin that is told from music, and share in which a trait is heard all the same."""
    rows, heard_any, total = [], 0, 0
    answers = [a for q, of in judge.questions.items() for a in of if a != f"other {q}"]
    for kind, heard in ruins.items():
        scores = judge.scores(*heard)
        n = len(scores)
        right = int((scores["not_music"] >= 0.5).sum())
        name = f"all: {kind} (unseen)" if kind in UNSEEN_KINDS else f"all: {kind}"
        rows.append(accuracy_row("not_music", "recall", right, n, 0.5, name))
        if "drums" in scores:
            rows.append(accuracy_row("drums", "share heard", int((scores["drums"] >= 0.5).sum()), n, 0.0, name))
        heard_any += int((scores[answers] >= 0.5).any(axis=1).sum())
        total += n
    return [*rows, accuracy_row("any trait", "share heard", heard_any, total, 0.0, "all ruins")]


def _write(path: Path, info: dict[str, Any]) -> None:
    with atomic(path) as partial:
        partial.write_text(json.dumps(info, indent=1) + "\n")


def _main() -> None:
    judge = train_tagger_judge(progress=True)
    print(judge.accuracy_frame().round(3).to_string())  # noqa: T201


if __name__ == "__main__":
    _main()
