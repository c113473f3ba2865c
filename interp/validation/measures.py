"""Success, quality and specificity of every arm and dose, each beside its unsteered twin.

**Success** is the share of clips in which the judge hears the trait, with Wilson's interval, the paired difference to
unsteered with a bootstrap interval over seeds, and p-values of sign flips: alone, by Holm, and against the largest
statistic of the whole family. **Quality** is the share judged to be no music, the share of degenerate audio, and the
distance (FAD, KAD) of the clips' embeddings from those of reference music. **Specificity** is what else changed: how
many of the judge's other answers stay those of the unsteered twin (``kept``), and how similar the continuation is to
its prompt. Pushing anywhere makes another piece of music, so both are to be read beside the random direction's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from interp.judges.base import answers
from interp.judges.distances import fad, kad
from interp.stats import MaxStatistic, bootstrap_interval, group_weights, holm, max_statistic, paired_bootstrap, wilson
from interp.validation.arms import UNSTEERED, Arm
from interp.validation.sounds import split_trait

__all__ = ["cohens_h", "fad_difference", "kept", "matched_odds", "sign_flip_max", "summarise"]

Embeddings = Mapping[tuple[str, float], NDArray[np.float32]]


def cohens_h(a: float, b: float) -> float:
    """Effect size of two proportions, ``2 asin sqrt(a) - 2 asin sqrt(b)`` (Cohen 1988): 0.2 small, 0.8 large."""
    return float(2 * np.arcsin(np.sqrt(a)) - 2 * np.arcsin(np.sqrt(b)))


def matched_odds(treated: ArrayLike, control: ArrayLike) -> float:
    """Conditional odds ratio of matched pairs: those that gained over those that lost, half a pair added to both."""
    difference = np.asarray(treated, dtype=float) - np.asarray(control, dtype=float)
    return float(((difference > 0).sum() + 0.5) / ((difference < 0).sum() + 0.5))


def sign_flip_max(differences: ArrayLike, *, n_flips: int = 4999, seed: int = 0) -> MaxStatistic:
    """Two-sided sign-flip test of many paired differences, corrected by the largest statistic of the family.

    Parameters
    ----------
    differences : array of shape (seeds, tests)
        Treated minus unsteered. A flip changes the sign of a seed in all tests at once, which keeps their dependence.
    n_flips : int
        Random flips; all of them when there are at most 2^12.
    seed : int
        Of the flips.

    Returns
    -------
    MaxStatistic
        Of the absolute means.
    """
    x = np.asarray(differences, dtype=float)
    n = len(x)
    if n <= 12:
        signs = 1.0 - 2.0 * ((np.arange(1, 2**n)[:, None] >> np.arange(n)) & 1)  # without the flip that changes nothing
    else:
        signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(n_flips, n))
    return max_statistic(np.abs(x.mean(0)), np.abs(signs @ x / n))


def kept(
    clips: pd.DataFrame, base: pd.DataFrame, trait: str, questions: Mapping[str, Sequence[str]]
) -> NDArray[np.float64]:
    """For each clip, the share of the judge's other questions with the answer of the unsteered twin."""
    others = [question for question in questions if question != split_trait(trait)[0]]
    if not others:
        return np.full(len(clips), np.nan)
    asked: Any = SimpleNamespace(name="judge", questions={question: questions[question] for question in others})
    return np.asarray((_said(asked, clips) == _said(asked, base)).mean(axis=1))


def _said(judge: Any, clips: pd.DataFrame) -> pd.DataFrame:
    columns = clips.columns[clips.columns.str.startswith("p_")]
    return answers(judge, clips[columns].rename(columns=lambda name: name[2:]).reset_index(drop=True))


def fad_difference(
    a: NDArray[np.float32], b: NDArray[np.float32], reference: NDArray[np.float32], *, draws: int = 200, seed: int = 0
) -> tuple[float, float, float]:
    """FAD of a minus FAD of b from one reference, with a bootstrap interval over the seeds that they share.

    FAD's bias falls with the number of clips and is the same for both, so it leaves the difference; each draw takes
    the same seeds for both.
    """
    rng = np.random.default_rng(seed)

    def gap(rows: NDArray[np.intp]) -> float:
        return fad(a[rows], reference, n_draws=0).value - fad(b[rows], reference, n_draws=0).value

    n = len(a)
    drawn = [gap(rng.integers(0, n, n)) for _ in range(draws)]
    lo, hi = bootstrap_interval(np.asarray(drawn), n)
    return gap(np.arange(n)), float(lo), float(hi)


def summarise(
    clips: pd.DataFrame,
    plan: Sequence[tuple[Arm, float]],
    questions: Mapping[str, Sequence[str]],
    embeddings: Embeddings,
    references: Mapping[str, NDArray[np.float32]],
) -> pd.DataFrame:
    """One row per arm and dose; see the module and :class:`interp.validation.Validation`.

    Parameters
    ----------
    clips : DataFrame
        All clips, seeds in the same order in every arm.
    plan : sequence of (Arm, dose)
        What was run, unsteered first.
    questions : mapping
        Those of the judge, for specificity; empty to leave quality and specificity out.
    embeddings : mapping of (arm, dose) to array [seeds, dim]
    references : mapping of name to array [clips, dim]
        See :func:`interp.validation.run_arms`.
    """
    cells = dict(list(clips.groupby(["arm", "dose"], sort=False)))
    base = cells[UNSTEERED, 0.0].reset_index(drop=True)
    hits = base["hit"].to_numpy(float)
    lines: list[dict[str, Any]] = []
    differences: list[NDArray[np.float64]] = []
    tested: list[int] = []
    for arm, dose in plan:
        rows = cells[arm.name, dose].reset_index(drop=True)
        hit, n = rows["hit"].to_numpy(float), len(rows)
        lo, hi = wilson(hit.sum(), n)
        line: dict[str, Any] = {
            "trait": rows["trait"][0], "arm": arm.name, "control": arm.control, "where": arm.where, "dose": dose,
            "n": n, "hits": int(hit.sum()), "rate": float(hit.mean()), "lo": float(lo), "hi": float(hi),
            "not_music": float(rows["not_music"].mean()),
        }  # fmt: skip
        if arm.name != UNSTEERED:
            gain = paired_bootstrap(hit, hits)
            line |= {"diff": gain.difference, "diff_lo": gain.lo, "diff_hi": gain.hi, "p": gain.p}
            line |= {"h": cohens_h(hit.mean(), hits.mean()), "odds": matched_odds(hit, hits)}
            differences.append(hit - hits)
            tested.append(len(lines))
        if questions:
            line |= _quality(rows, base, questions)
            line |= _distances(embeddings[arm.name, dose], references)
        lines.append(line)
    table = pd.DataFrame(lines)
    if tested:
        table["p_holm"] = holm(table["p"])
        table.loc[tested, "p_max"] = sign_flip_max(np.stack(differences, 1)).p_max
    return table


def _quality(rows: pd.DataFrame, base: pd.DataFrame, questions: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Share of degenerate audio, and each graded measure with its mean and paired difference to unsteered."""
    found = {"degenerate": float(rows["degenerate"].mean())}
    trait = str(rows["trait"][0])
    same = np.ones(len(base)), kept(rows, base, trait, questions)
    pairs = {
        "no_music": (base["not_music"].to_numpy(float), rows["not_music"].to_numpy(float)),
        "similarity": (base["similarity"].to_numpy(float), rows["similarity"].to_numpy(float)),
        "kept": same,
    }
    for name, (before, after) in pairs.items():
        if np.isnan(before).any() or np.isnan(after).any():
            continue
        weights = group_weights(np.arange(len(after)), 1000, np.random.default_rng(0)) / len(after)
        if name != "no_music":
            lo, hi = bootstrap_interval(weights @ after, len(after))
            found |= {name: float(after.mean()), f"{name}_lo": float(lo), f"{name}_hi": float(hi)}
        if name != "kept":  # nothing but 1 in the unsteered twin: the share itself is the difference
            lo, hi = bootstrap_interval(weights @ (after - before), len(after))
            found |= {f"{name}_diff": float((after - before).mean())}
            found |= {f"{name}_diff_lo": float(lo), f"{name}_diff_hi": float(hi)}
    return found


def _distances(embedding: NDArray[np.float32], references: Mapping[str, NDArray[np.float32]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, reference in references.items():
        tail = f"_{name}" if name else ""
        found[f"fad{tail}"] = fad(embedding, reference, n_draws=0).value
        found[f"kad{tail}"] = kad(embedding, reference).value
        if not name:
            rng = np.random.default_rng(0)
            n = len(embedding)
            # A resample has fewer different clips, so it lies further off: the spread is right, the level is not.
            drawn = [fad(embedding[rng.integers(0, n, n)], reference, n_draws=0).value for _ in range(60)]
            half = 1.96 * float(np.std(drawn, ddof=1))
            found |= {"fad_lo": found["fad"] - half, "fad_hi": found["fad"] + half}
    return found
