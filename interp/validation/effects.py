"""Sizes and tests of effects on paired seeds, and what the rest of the judge's answers did."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from interp.errors import DataError
from interp.judges import Judge
from interp.judges.base import answers
from interp.stats import MaxStatistic, bootstrap_interval, group_weights, max_statistic, paired_bootstrap
from interp.traits import Trait

__all__ = ["agreement", "cohens_h", "kept", "matched_odds", "paired_differences", "sign_flip_max"]


def cohens_h(a: float, b: float) -> float:
    """Effect size of two proportions, ``2 asin sqrt(a) - 2 asin sqrt(b)`` (Cohen 1988): 0.2 small, 0.8 large.

    Examples
    --------
    >>> round(cohens_h(0.5, 0.25), 3)
    0.524
    """
    return float(2 * np.arcsin(np.sqrt(a)) - 2 * np.arcsin(np.sqrt(b)))


def matched_odds(treated: ArrayLike, control: ArrayLike) -> float:
    """Conditional odds ratio of matched pairs: those that gained over those that lost, half a pair added to both.

    Examples
    --------
    >>> matched_odds([1, 1, 0], [0, 0, 0])
    5.0
    """
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

    Examples
    --------
    >>> sign_flip_max([[1, 1], [1, -1], [1, 1]]).p.tolist()
    [0.25, 1.0]
    """
    x = np.asarray(differences, dtype=float)
    n = len(x)
    if n <= 12:
        signs = 1.0 - 2.0 * ((np.arange(1, 2**n)[:, None] >> np.arange(n)) & 1)  # without the flip that changes nothing
    else:
        signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(n_flips, n))
    return max_statistic(np.abs(x.mean(0)), np.abs(signs @ x / n))


def paired_differences(
    table: pd.DataFrame, column: str, measure: str, unit: Sequence[str] = ("seed",), *, later: bool = False
) -> pd.DataFrame:
    """Every two conditions against each other on the same units.

    Parameters
    ----------
    table : DataFrame
        Rows of conditions and units, such as clips.
    column : str
        Which condition a row is of.
    measure : str
        What is compared; rows of one condition and unit are averaged.
    unit : sequence of str
        Columns that say which rows belong together.
    later : bool
        Of two conditions, the one that appears later is ``a``.

    Returns
    -------
    DataFrame
        One row a pair, in the order in which conditions appear: ``a, b, n`` (units), the mean ``difference`` of a minus
        b with ``lo, hi``, and ``p`` (:func:`interp.stats.paired_bootstrap`), not corrected.

    Raises
    ------
    DataError
        If a condition lacks a unit.

    Examples
    --------
    >>> clips = pd.DataFrame({"method": ["ridge", "lda"] * 3, "seed": [0, 0, 1, 1, 2, 2], "hit": [1, 0, 1, 1, 1, 0]})
    >>> paired_differences(clips, "method", "hit")[["a", "b", "n", "difference"]].round(2).to_dict("records")
    [{'a': 'ridge', 'b': 'lda', 'n': 3, 'difference': 0.67}]
    """
    values = table[[*unit, column]].assign(value=table[measure].astype(float))
    wide = values.pivot_table(index=list(unit), columns=column, values="value", aggfunc="mean")
    rows = []
    for pair in combinations(table[column].unique(), 2):
        a, b = reversed(pair) if later else pair
        gain = paired_bootstrap(wide[a].to_numpy(), wide[b].to_numpy())
        line = {"a": a, "b": b, "n": len(wide), "difference": gain.difference, "lo": gain.lo, "hi": gain.hi}
        rows.append(line | {"p": gain.p})
    return pd.DataFrame(rows, columns=["a", "b", "n", "difference", "lo", "hi", "p"])


def kept(judge: Judge, scores: pd.DataFrame, twins: pd.DataFrame, trait: str | Trait) -> NDArray[np.float64]:
    """For each clip, the share of the judge's other questions with the answer of the unsteered twin.

    Parameters
    ----------
    judge : Judge
        Who was asked.
    scores, twins : DataFrame
        Of :func:`interp.judges.score`, row by row of clips and of their twins.
    trait : str or Trait
        Whose own question does not count.

    Returns
    -------
    array of shape (clips,)
        NaN where the judge has no other question.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> judge = SimpleNamespace(name="ear", questions={"drums": ["drums"], "bass": ["bass"]})
    >>> before = pd.DataFrame({"drums": [0.1, 0.1], "bass": [0.9, 0.9], "not_music": 0.0})
    >>> kept(judge, pd.DataFrame({"drums": [0.9, 0.9], "bass": [0.8, 0.2], "not_music": 0.0}), before, "drums").tolist()
    [1.0, 0.0]
    """
    own = Trait.parse(trait).column
    others = [question for question in judge.questions if question != own]
    if not others:
        return np.full(len(scores), np.nan)
    same = answers(judge, scores)[others].to_numpy() == answers(judge, twins)[others].to_numpy()
    return np.asarray(same.mean(axis=1), dtype=float)


def agreement(clips: pd.DataFrame, *, n_bootstrap: int = 2000, seed: int = 0) -> pd.DataFrame:
    """How far the judges of a panel agree on which clips have the trait.

    Parameters
    ----------
    clips : DataFrame
        Of :func:`interp.validation.run_arms` with several judges.
    n_bootstrap, seed : int
        Draws of whole seeds behind the interval; their seed.

    Returns
    -------
    DataFrame
        One row a pair of judges: ``a, b, n, a_hears, b_hears, agree`` (shares of clips), and Cohen's ``kappa, lo, hi``
        (agreement beyond chance; NaN where both always say the same).

    Raises
    ------
    DataError
        If there is one judge only.

    Examples
    --------
    >>> clips = pd.DataFrame({"judge": ["x"] * 4 + ["y"] * 4, "arm": "probe", "dose": 1.0, "seed": [0, 1, 2, 3] * 2,
    ...                       "hit": [True, True, False, False, True, False, False, False]})
    >>> agreement(clips)[["a", "b", "agree", "kappa"]].to_dict("records")
    [{'a': 'x', 'b': 'y', 'agree': 0.75, 'kappa': 0.5}]
    """
    unit = [name for name in ("trait", "arm", "dose", "seed", "start", "stop") if name in clips]
    wide = clips.pivot_table(index=unit, columns="judge", values="hit", aggfunc="mean", sort=False).astype(float)
    if wide.shape[1] < 2:
        raise DataError("agreement needs several judges: judge=[...], or --judge with commas.")
    weights = group_weights(wide.index.get_level_values("seed").astype(str), n_bootstrap, np.random.default_rng(seed))
    lines: list[dict[str, Any]] = []
    for a, b in combinations(wide.columns, 2):
        x, y = wide[a].to_numpy(), wide[b].to_numpy()
        draws = _kappa(x, y, weights / weights.sum(1, keepdims=True))
        lo, hi = bootstrap_interval(draws, wide.index.get_level_values("seed").nunique())
        lines.append({
            "a": a, "b": b, "n": len(wide), "a_hears": x.mean(), "b_hears": y.mean(), "agree": float((x == y).mean()),
            "kappa": float(_kappa(x, y, np.full((1, len(x)), 1 / len(x)))[0]), "lo": float(lo), "hi": float(hi),
        })  # fmt: skip
    return pd.DataFrame(lines)


def _kappa(x: NDArray[np.float64], y: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cohen's kappa under each row of weights that add up to one."""
    same, p, q = weights @ (x == y), weights @ x, weights @ y
    chance = p * q + (1 - p) * (1 - q)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(chance < 1 - 1e-12, (same - chance) / (1 - chance), np.nan))
