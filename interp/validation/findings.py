"""What a verdict is made of: the rule that was written before the run, and an answer with its interval."""

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

__all__ = ["RULE", "Answer", "Finding", "Rule", "necessity", "sufficiency"]

Answer = Literal["yes", "no", "not shown"]
NAN = float("nan")


@dataclass(frozen=True)
class Rule:
    """Thresholds of the verdict, all in shares of clips; none of them was chosen after seeing a result.

    Attributes
    ----------
    gain : float
        Least gain over unsteered that counts. Three clips in ten are heard without statistics, and are the least that
        32 pairs tell from nothing after the correction for some twenty arms and doses.
    none : float
        Where the upper end of a gain's interval must lie for there to be no effect to speak of: half of a gain that
        counts.
    not_music : float
        Largest share, beyond that of unsteered, of clips judged to be no music. Beyond one in five, what is counted is
        what the music breaks into.
    shared : float
        Largest part of the treated gain that a control, or a push at another site, may bring. From one half on, more of
        the effect is in what both have in common (a push of that length, a site of that kind) than in what is claimed.
    moved : float
        Change of another trait's share that counts as moving it: below a gain that counts, since harm needs less proof
        than benefit, and above what 64 pairs mistake for a change.
    loss : float
        Least loss, beyond a random direction's, for a direction to be necessary: as much as counts as a gain.
    alpha : float
        Level of corrected p-values.
    controls : tuple of str
        Arms that push as far at the same site and know nothing of the trait; at least one must be there.
    elsewhere : tuple of str
        Arms that push towards the trait at other sites. Those that are there count; without one, nothing is shown of
        the site.

    Examples
    --------
    >>> Rule(gain=0.5).gain, RULE.controls
    (0.5, ('random', 'shuffled labels'))
    """

    gain: float = 0.30
    none: float = 0.15
    not_music: float = 0.20
    shared: float = 0.50
    moved: float = 0.20
    loss: float = 0.30
    alpha: float = 0.05
    controls: tuple[str, ...] = ("random", "shuffled labels")
    elsewhere: tuple[str, ...] = ("other layer", "best other site")


RULE = Rule()
"""The rule of all studies here."""


@dataclass(frozen=True)
class Finding:
    """An answer to one of a verdict's questions.

    Attributes
    ----------
    answer : {"yes", "no", "not shown"}
        "no" is a result, with an interval that excludes the contrary; "not shown" is the lack of one.
    because : str
        What decided, in words.
    value, lo, hi : float
        The number that decided, with its 95 % interval; NaN where there is none.

    Examples
    --------
    >>> print(Finding("yes", "the share rises", 0.75, 0.59, 0.88))
    yes +75% [+59%, +88%]
    >>> print(Finding("not shown", "nothing was taken out"))
    not shown
    """

    answer: Answer
    because: str
    value: float = NAN
    lo: float = NAN
    hi: float = NAN

    def __str__(self) -> str:
        if np.isnan(self.value):
            return self.answer
        return f"{self.answer} {self.value:+.0%} [{self.lo:+.0%}, {self.hi:+.0%}]"


def sufficiency(
    table: pd.DataFrame, *, arm: str = "probe", dose: float | None = None, rule: Rule = RULE
) -> tuple[Finding, float]:
    """Whether pushing brings the trait.

    **Yes** if at the dose that decides the share of clips with the trait rises by ``rule.gain``, by more than chance
    after the correction for every arm and dose, and the music stays music. **No** if at every dose that was tried the
    interval of the gain ends below ``rule.none``.

    Parameters
    ----------
    table : DataFrame
        Of :func:`interp.validation.summarise`, as one judge heard it.
    arm : str
        The treated arm.
    dose : float, optional
        The dose that decides, chosen on other seeds. Without it, the one of the largest gain among those that leave the
        music music, and at which a control was run, if there is such a dose.
    rule : Rule

    Returns
    -------
    finding : Finding
        Its value is the gain.
    dose : float

    Raises
    ------
    DataError
        If the arm was not run, or not at that dose.

    Examples
    --------
    >>> rows = {"arm": ["unsteered", "probe", "probe"], "dose": [0.0, 1.0, 2.0], "diff": [np.nan, 0.1, 0.6]}
    >>> table = pd.DataFrame(rows).assign(diff_lo=[np.nan, -0.1, 0.4], diff_hi=[np.nan, 0.3, 0.8], p_max=0.01,
    ...                                   not_music=0.0)
    >>> finding, dose = sufficiency(table)
    >>> print(finding, "at", dose)
    yes +60% [+40%, +80%] at 2.0
    """
    treated = table[table["arm"] == arm].sort_values("dose")
    base = float(table.loc[table["arm"] == UNSTEERED, "not_music"].iloc[0])
    if dose is not None:
        treated_here = treated[treated["dose"] == dose]
        if treated_here.empty:
            raise DataError(f"the arm {arm!r} was not run at the dose {dose:g} that is to decide: run it there.")
        row = treated_here.iloc[0]
    else:
        controlled = table.loc[table["arm"].isin(rule.controls), "dose"]
        music = treated["not_music"] - base <= rule.not_music
        rows = treated
        for wanted in (treated["dose"].isin(controlled), music):
            rows = rows[wanted[rows.index]] if wanted[rows.index].any() else rows
        row = rows.loc[rows["diff"].idxmax()]
    at, numbers = float(row["dose"]), (float(row["diff"]), float(row["diff_lo"]), float(row["diff_hi"]))
    said = f"at {at:g} sigma the share changes by {_points(*numbers)}"
    p = float(row["p_max"] if pd.notna(row["p_max"]) else row["p_holm"])
    if (treated["diff_hi"] < rule.none).all():
        highest = treated["diff_hi"].max()
        return Finding("no", f"no dose raises the share by {rule.none:.0%}: ends at {highest:+.0%}", *numbers), at
    if numbers[0] < rule.gain:
        return Finding("not shown", f"{said}, less than {rule.gain:.0%}", *numbers), at
    if numbers[1] <= 0 or p > rule.alpha:
        return Finding("not shown", f"{said}, which may be chance (corrected p {p:.2g})", *numbers), at
    if row["not_music"] - base > rule.not_music:
        return Finding("not shown", f"{said}, but {row['not_music']:.0%} of the clips are no music", *numbers), at
    return Finding("yes", said, *numbers), at


def necessity(
    clips: pd.DataFrame, *, ways: Sequence[str] | None = None, rule: Rule = RULE
) -> tuple[Finding, pd.DataFrame]:
    """Whether taking the direction out takes the trait out, beyond what a random direction takes.

    **Yes** if a way lowers the share by ``rule.loss`` more than a random direction does, by more than chance. **No** if
    the interval of that difference stays above minus ``rule.loss`` for every way.

    Parameters
    ----------
    clips : DataFrame
        Clips of a run of :func:`interp.validation.ablation_arms` on music that has the trait, by one judge.
    ways : sequence of str, optional
        The arms that count, those at the one site by default: what every layer together does is no property of it.
    rule : Rule

    Returns
    -------
    finding : Finding
        Its value is the difference, negative where the trait goes.
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
    >>> finding, table = necessity(clips)
    >>> finding.answer, table["loss"].round(2).tolist()
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
    lines: list[dict[str, Any]] = []
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
    most = counted.loc[counted["loss"].idxmin()]
    numbers = (float(most["loss"]), float(most["lo"]), float(most["hi"]))
    said = f"{most['way']} changes the share by {_points(*numbers)} more than a random direction out"
    if numbers[0] <= -rule.loss and numbers[2] < 0:
        return Finding("yes", said, *numbers), table
    answer: Answer = "no" if bool(np.all(counted["lo"] > -rule.loss)) else "not shown"
    return Finding(answer, said, *numbers), table


def _points(value: float, lo: float, hi: float) -> str:
    return f"{value:+.0%} [{lo:+.0%}, {hi:+.0%}]"
