"""The verdict on a site and a trait, from a rule that was written before any number was seen.

================  =====================================================================================================
causal            at some dose that leaves the music music, pushing raises the judged share by at least ``gain``, the
                  gain survives the correction for all arms and doses, and every deciding control at that dose (random
                  directions and shuffled labels of equal length) stays within ``control`` of unsteered and below the
                  treated arm by more than chance
only readable     a probe reads the trait above chance, and at *every* dose tried the interval of the gain ends below
                  ``none``: whatever pushing does here, it is not much
not readable      the probe does not beat chance, and the site is not causal
inconclusive      anything else: too few seeds, a gain that the controls share, or music that breaks before the trait
                  comes
================  =====================================================================================================

*Necessary* is told apart from it and never changes the verdict: ``yes`` when taking the direction (or everything linear
about the trait) out of music that has it lowers the judged share by at least ``loss`` more than a random direction
does, ``no`` when the interval of that difference stays above minus ``loss``, else ``unclear``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from interp.errors import DataError
from interp.stats import paired_bootstrap
from interp.validation.ablation import RANDOM_OUT
from interp.validation.arms import UNSTEERED

__all__ = ["RULE", "Outcome", "Rule", "Verdict", "necessity", "verdict"]

Outcome = Literal["causal", "only readable", "inconclusive", "not readable"]


@dataclass(frozen=True)
class Rule:
    """Thresholds of the verdict, all in shares of clips.

    Attributes
    ----------
    gain : float
        Least gain over unsteered that counts.
    control : float
        Largest gain of a deciding control, either way.
    none : float
        Where the upper end of a gain's interval must lie for there to be no effect to speak of.
    not_music : float
        Largest share, beyond that of unsteered, of clips judged to be no music.
    loss : float
        Least loss, beyond a random direction's, for a site to be necessary.
    alpha : float
        Level of the corrected p-values, and of "by more than chance".
    controls : tuple of str
        Names of the arms that decide, those that are there; at least one must be.

    Examples
    --------
    >>> Rule(gain=0.5).gain, RULE.controls
    (0.5, ('random', 'shuffled labels'))
    """

    gain: float = 0.30
    control: float = 0.15
    none: float = 0.15
    not_music: float = 0.20
    loss: float = 0.30
    alpha: float = 0.05
    controls: tuple[str, ...] = ("random", "shuffled labels")


RULE = Rule()
"""The rule of all studies here."""


@dataclass(frozen=True)
class Verdict:
    """What the rule says, and the numbers it said it from.

    Attributes
    ----------
    outcome : str
        See the module.
    because : str
        The sentence that decided.
    dose, gain, lo, hi : float
        The dose that decided (NaN: none did), and its gain with interval.
    necessary : str
        ``yes``, ``no``, ``unclear``, or ``not tested``.
    judge : str
        Who heard it, and how often that judge is right, in words (:func:`interp.judges.accuracy.worth`).
    """

    outcome: Outcome
    because: str
    dose: float = float("nan")
    gain: float = float("nan")
    lo: float = float("nan")
    hi: float = float("nan")
    necessary: str = "not tested"
    judge: str = ""


def verdict(
    table: pd.DataFrame,
    clips: pd.DataFrame,
    readable: bool,
    *,
    arm: str = "probe",
    necessary: str = "not tested",
    rule: Rule = RULE,
) -> Verdict:
    """Apply the rule to one site and trait.

    Parameters
    ----------
    table : DataFrame
        Of :class:`interp.validation.run.Trial`, as one judge heard it: one row per arm and dose.
    clips : DataFrame
        Its clips, by the same judge, for the paired comparison with controls.
    readable : bool
        Whether a probe at the site beats chance on held-out clips.
    arm : str
        The treated arm.
    necessary : str
        What :func:`necessity` says.
    rule : Rule

    Raises
    ------
    DataError
        If the arm, or every deciding control, is missing.

    Examples
    --------
    >>> n = 20
    >>> rates = {"unsteered": 2, "probe": 18, "random": 2, "shuffled labels": 3}
    >>> clips = pd.concat(
    ...     pd.DataFrame({"trait": "drums", "arm": arm, "dose": float(arm != "unsteered"), "seed": range(n)})
    ...     .assign(hit=np.arange(n) < hits, not_music=False)
    ...     for arm, hits in rates.items()
    ... )
    >>> from interp.validation import summarise
    >>> said = verdict(summarise(clips), clips, readable=True)
    >>> said.outcome, round(said.gain, 1)
    ('causal', 0.8)
    """
    if "judge" in table and table["judge"].nunique() > 1:
        raise DataError("a verdict is one judge's: choose the rows of one, as in table[table['judge'] == 'rendered'].")
    base = table[table["arm"] == UNSTEERED].iloc[0]
    treated = table[table["arm"] == arm].sort_values("dose")
    present = [name for name in rule.controls if (table["arm"] == name).any()]
    if treated.empty or not present:
        raise DataError(
            f"no verdict without the arm {arm!r} and a control ({' or '.join(rule.controls)}); the table has "
            f"{', '.join(map(str, table['arm'].unique()))}."
        )
    reasons: list[tuple[float, Any, str]] = []
    for row in treated.itertuples():
        why = _fails(row, base, table, clips, present, rule)
        if why is None:
            reasons.append((row.diff, row, ""))
        elif row.diff >= rule.gain:
            reasons.append((-1.0, row, why))
    passed = [reason for reason in reasons if not reason[2]]
    best = treated.loc[treated["diff"].idxmax()]
    if passed:
        _, row, _ = max(passed, key=lambda reason: reason[0])
        sentence = f"at {row.dose:g} sigma the share rises by {row.diff:+.0%} [{row.diff_lo:+.0%}, {row.diff_hi:+.0%}]"
        sentence += f", {' and '.join(present)} stay within {rule.control:.0%}"
        return Verdict("causal", sentence, row.dose, row.diff, row.diff_lo, row.diff_hi, necessary)
    numbers = (float(best["dose"]), float(best["diff"]), float(best["diff_lo"]), float(best["diff_hi"]), necessary)
    if not readable:
        return Verdict("not readable", "no probe beats chance here, and no dose passes", *numbers)
    if (treated["diff_hi"] < rule.none).all():
        sentence = f"no dose can raise the share by {rule.none:.0%} (largest upper end {treated['diff_hi'].max():+.0%})"
        return Verdict("only readable", sentence, *numbers)
    if reasons:
        _, row, why = max(reasons, key=lambda reason: reason[1].diff)
        return Verdict("inconclusive", f"{row.diff:+.0%} at {row.dose:g} sigma, but {why}", *numbers)
    sentence = f"the largest gain, {best['diff']:+.0%} [{best['diff_lo']:+.0%}, {best['diff_hi']:+.0%}] at "
    sentence += f"{best['dose']:g} sigma, is below {rule.gain:.0%} but no smaller than {rule.none:.0%} for sure"
    return Verdict("inconclusive", sentence, *numbers)


def _fails(
    row: Any, base: pd.Series, table: pd.DataFrame, clips: pd.DataFrame, controls: Sequence[str], rule: Rule
) -> str | None:
    """Why a dose is not enough for a causal verdict; None if it is."""
    if row.diff < rule.gain:
        return "the gain is too small"
    if row.diff_lo <= 0 or row.p_max > rule.alpha:
        return f"the gain may be chance (corrected p {row.p_max:.2g})"
    if row.not_music - base["not_music"] > rule.not_music:
        return f"{row.not_music:.0%} of the clips are no music"
    here = clips[(clips["arm"] == row.arm) & (clips["dose"] == row.dose)].set_index("seed")["hit"].astype(float)
    seen = False
    for name in controls:
        same = table[(table["arm"] == name) & (table["dose"] == row.dose)]
        if same.empty:
            continue
        seen = True
        if abs(float(same["diff"].iloc[0])) > rule.control:
            return f"the control {name} moves the share by {float(same['diff'].iloc[0]):+.0%}"
        there = clips[(clips["arm"] == name) & (clips["dose"] == row.dose)].set_index("seed")["hit"].astype(float)
        if paired_bootstrap(here, there.reindex(here.index)).lo <= 0:
            return f"it may not exceed the control {name}"
    return None if seen else "no control was run at this dose"


def necessity(clips: pd.DataFrame, *, ways: Sequence[str] | None = None, rule: Rule = RULE) -> tuple[str, pd.DataFrame]:
    """Whether taking the direction out takes the trait out, beyond what a random direction takes.

    Parameters
    ----------
    clips : DataFrame
        Clips of a run of :func:`interp.validation.ablation_arms` on music that has the trait.
    ways : sequence of str, optional
        The arms that count, those at the one site by default: what every layer together does is no property of it.
    rule : Rule

    Returns
    -------
    answer : {"yes", "no", "unclear"}
    table : DataFrame
        ``way, rate, random, loss, lo, hi``: judged share, that with a random direction out, and their paired
        difference with its interval.

    Raises
    ------
    DataError
        If no way that counts was run, or none with a random direction out.

    Examples
    --------
    >>> arms = {"unsteered": 20, "direction out": 2, "random direction out": 19}
    >>> clips = pd.concat(
    ...     pd.DataFrame({"trait": "drums", "arm": arm, "dose": 0.0, "seed": range(20), "hit": np.arange(20) < hits})
    ...     for arm, hits in arms.items()
    ... )
    >>> answer, table = necessity(clips)
    >>> answer, table["loss"].round(2).tolist()
    ('yes', [-0.85])
    """
    hits = clips.pivot_table(index="seed", columns="arm", values="hit", aggfunc="mean", sort=False).astype(float)
    counts = ("direction out", "LEACE") if ways is None else tuple(ways)
    lacking = [name for name in (RANDOM_OUT, *(ways or ())) if name not in hits]
    if lacking or not set(counts) & set(hits.columns):
        raise DataError(
            f"necessity needs clips of the arms {RANDOM_OUT} and {' or '.join(counts)}, and has {', '.join(hits)}: run "
            "the arms of interp.validation.ablation_arms, or name the ways that count."
        )
    lines = []
    for way in [name for name in hits.columns if name not in (UNSTEERED, RANDOM_OUT)]:
        change = paired_bootstrap(hits[way], hits[RANDOM_OUT])
        lines.append(
            {
                "way": way, "rate": hits[way].mean(), "random": hits[RANDOM_OUT].mean(), "loss": change.difference,
                "lo": change.lo, "hi": change.hi,
            }
        )  # fmt: skip
    table = pd.DataFrame(lines)
    counted = table[table["way"].isin(counts)]
    if ((counted["loss"] <= -rule.loss) & (counted["hi"] < 0)).any():
        return "yes", table
    return ("no" if bool(np.all(counted["lo"] > -rule.loss)) else "unclear"), table
