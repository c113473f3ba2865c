"""The verdict on a site and a trait, from a rule that was written before any number was seen.

Four questions are answered apart, each with *yes*, *no* or *not shown*, an interval, and by each judge for itself:

=====================  ================================================================================================
sufficient             does pushing bring the trait, and leave the music music?
                       (:func:`~interp.validation.findings.sufficiency`)
specific to the site   does it take this direction at this site, or do random directions, shuffled labels or other
                       sites do as well? (:func:`~interp.validation.specificity.site_specificity`)
specific to the trait  do other traits stay as they were?
                       (:func:`~interp.validation.specificity.trait_specificity`)
necessary              does the trait go when the direction, or everything linear about it, is taken out?
                       (:func:`~interp.validation.findings.necessity`)
=====================  ================================================================================================

The first three make one word. *Causal*: all are yes. *Not sufficient*: the push does not bring the trait. *Sufficient,
not specific*: it does, but so does something else, or it brings something else as well. Otherwise *not shown*. Whether
the direction is necessary is told apart and never changes that word: a model may carry a trait twice. Whether a probe
*reads* the trait at the site is told as well, and counts for nothing: what can be read need not be used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from interp.errors import DataError
from interp.judges import Judge
from interp.judges.accuracy import worth
from interp.traits import Trait
from interp.validation.arms import UNSTEERED
from interp.validation.findings import RULE, Finding, Rule, sufficiency
from interp.validation.specificity import site_specificity, trait_specificity

__all__ = ["Outcome", "Verdict", "verdict"]

Outcome = Literal["causal", "sufficient, not specific", "not sufficient", "not shown"]
_UNTESTED = Finding("not shown", "nothing was taken out of music that has it")


@dataclass(frozen=True, eq=False, repr=False)
class Verdict:
    """What the rule says, by one judge, and the numbers it said it from.

    Attributes
    ----------
    sufficient, site, trait, necessary : Finding
        The four questions.
    dose : float
        The dose that decided, in sigma.
    readable : bool
        Whether a probe at the site beats chance on held-out clips.
    judge : str
        Who heard it.
    worth : str
        How often that judge is right, in words (:func:`interp.judges.accuracy.worth`); empty where it was not given.
    against : DataFrame
        Of :func:`site_specificity`; empty where pushing is not sufficient.
    moves : DataFrame
        Of :func:`trait_specificity`.
    """

    sufficient: Finding
    site: Finding
    trait: Finding
    necessary: Finding
    dose: float
    readable: bool
    judge: str
    worth: str
    against: pd.DataFrame
    moves: pd.DataFrame

    @property
    def findings(self) -> dict[str, Finding]:
        """The four questions by name, in the order in which they are asked."""
        return {
            "sufficient": self.sufficient, "specific to the site": self.site, "specific to the trait": self.trait,
            "necessary": self.necessary,
        }  # fmt: skip

    @property
    def outcome(self) -> Outcome:
        """The one word."""
        if self.sufficient.answer != "yes":
            return "not sufficient" if self.sufficient.answer == "no" else "not shown"
        specific = (self.site.answer, self.trait.answer)
        return "sufficient, not specific" if "no" in specific else "not shown" if "not shown" in specific else "causal"

    @property
    def because(self) -> str:
        """Which answers the word rests on, and what decided them."""
        parts = list(self.findings.items())[:3]
        deciding = {"causal": "yes", "not shown": "not shown"}.get(self.outcome, "no")
        return "; ".join(f"{name}: {each.answer}, {each.because}" for name, each in parts if each.answer == deciding)

    def frame(self) -> pd.DataFrame:
        """One row a question: ``judge, asked, answer, value, lo, hi, because``; the word itself comes last."""
        rows = [
            {"asked": name, "answer": e.answer, "value": e.value, "lo": e.lo, "hi": e.hi, "because": e.because}
            for name, e in self.findings.items()
        ]
        table = pd.DataFrame([*rows, {"asked": "causal", "answer": self.outcome, "because": self.because}])
        table.insert(0, "judge", self.judge)
        return table

    def row(self) -> dict[str, Any]:
        """The same in one row: ``outcome, because, dose, readable``, and of each question its answer, value, lo, hi."""
        row: dict[str, Any] = {"judge": self.judge, "outcome": self.outcome, "because": self.because}
        row |= {"dose": self.dose, "readable": self.readable}
        for name, each in self.findings.items():
            key = {"specific to the site": "site_specific", "specific to the trait": "trait_specific"}.get(name, name)
            row |= {key: each.answer, f"{key}_value": each.value, f"{key}_lo": each.lo, f"{key}_hi": each.hi}
        return row

    def __repr__(self) -> str:
        return f"Verdict({self})"

    def __str__(self) -> str:
        said = "; ".join(f"{name}: {each.answer} ({each.because})" for name, each in self.findings.items())
        read = "reads it" if self.readable else "does not read it beyond chance"
        return f"{self.outcome} at {self.dose:g} sigma by {self.judge or 'the judge'}. {said}. A probe {read} here."


def verdict(
    table: pd.DataFrame,
    clips: pd.DataFrame,
    readable: bool,
    *,
    trait: str | Trait,
    judge: Judge | None = None,
    arm: str = "probe",
    dose: float | None = None,
    necessary: Finding | None = None,
    rule: Rule = RULE,
) -> Verdict:
    """Apply the rule to one site and trait.

    Parameters
    ----------
    table : DataFrame
        Of :class:`interp.validation.run.Trial`, as one judge heard it: one row per arm and dose.
    clips : DataFrame
        Its clips, by the same judge.
    readable : bool
        Whether a probe at the site beats chance on held-out clips.
    trait : str or Trait
        What was pushed.
    judge : Judge, optional
        Who heard it: tells its other questions from the trait's own. Without it nothing is shown of other traits.
    arm : str
        The treated arm.
    dose : float, optional
        The dose that decides, where it was chosen on other seeds (:func:`sufficiency`).
    necessary : Finding, optional
        What :func:`interp.validation.necessity` says of other music; without it nothing is shown of that.
    rule : Rule

    Returns
    -------
    Verdict

    Raises
    ------
    DataError
        If the arm, or every control of the rule, is missing at the dose that decides, or several judges are mixed.

    Examples
    --------
    >>> import numpy as np
    >>> n = 20
    >>> rates = {"unsteered": 2, "probe": 18, "random": 2, "shuffled labels": 3, "other layer": 17}
    >>> clips = pd.concat(
    ...     pd.DataFrame({"trait": "drums", "arm": arm, "dose": float(arm != "unsteered"), "seed": range(n)})
    ...     .assign(hit=np.arange(n) < hits, not_music=False)
    ...     for arm, hits in rates.items()
    ... )
    >>> from interp.validation import summarise
    >>> said = verdict(summarise(clips), clips, readable=True, trait="drums")
    >>> said.outcome, said.sufficient.answer, said.site.answer, round(said.sufficient.value, 1)
    ('sufficient, not specific', 'yes', 'no', 0.8)
    """
    if "judge" in table and table["judge"].nunique() > 1:
        raise DataError("a verdict is one judge's: choose the rows of one, as in table[table['judge'] == 'rendered'].")
    if not (table["arm"] == arm).any() or not (table["arm"] == UNSTEERED).any():
        raise DataError(
            f"no verdict without the arms {arm!r} and {UNSTEERED!r}; the table has "
            f"{', '.join(map(str, table['arm'].unique()))}."
        )
    sufficient, dose = sufficiency(table, arm=arm, dose=dose, rule=rule)
    site, against = site_specificity(clips, dose, arm=arm, rule=rule)
    if sufficient.answer != "yes":
        site, against = Finding("not shown", "there is no gain to compare with"), pd.DataFrame()
    if judge is None:
        other, moves = Finding("not shown", "no judge was asked for other traits"), pd.DataFrame()
    else:
        other, moves = trait_specificity(clips, judge, trait, dose, arm=arm, rule=rule)
    name = judge.name if judge is not None else str(table["judge"].iloc[0]) if "judge" in table else ""
    told = "" if judge is None else worth(judge, trait)
    return Verdict(sufficient, site, other, necessary or _UNTESTED, dose, readable, name, told, against, moves)
