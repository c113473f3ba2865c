"""Specificity: is it this direction at this site that brings the trait, and is it this trait alone that it brings?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from interp.errors import DataError
from interp.judges import Judge
from interp.stats import bootstrap_interval, group_weights, holm
from interp.traits import Trait
from interp.validation.arms import UNSTEERED
from interp.validation.findings import RULE, Finding, Rule
from interp.validation.leakage import judged_changes
from interp.validation.summary import JUDGED

__all__ = ["site_specificity", "trait_specificity"]

_DRAWS = 4000
_MOST = 10.0
"""Parts of a gain are not told beyond this."""


def site_specificity(
    clips: pd.DataFrame, dose: float, *, arm: str = "probe", rule: Rule = RULE
) -> tuple[Finding, pd.DataFrame]:
    """Which part of the gain comes without the direction, or without the site.

    Arms of ``rule.controls`` push as far at the same site along directions that know nothing of the trait; those of
    ``rule.elsewhere`` push towards the trait at other sites. **Yes** if for every one of them the interval of its part
    of the treated gain ends below ``rule.shared``, and at least one of either kind was run. **No** if for some arm the
    interval, corrected for their number, begins above it. To claim all, each is tested at the full level (an
    intersection of tests); to claim one of several, each at its share of it.

    Parameters
    ----------
    clips : DataFrame
        Clips of one judge, paired by seed.
    dose : float
        The dose that decides, at which arms are compared.
    arm : str
        The treated arm, which must be sufficient: parts of no gain mean nothing.
    rule : Rule

    Returns
    -------
    finding : Finding
        Its value is the largest part: 1 where something else does all of it.
    table : DataFrame
        ``against, place`` ("here", "elsewhere"), ``gain, part, lo, hi``.

    Raises
    ------
    DataError
        If no arm of ``rule.controls`` was run at this dose.

    Examples
    --------
    >>> hits = {"unsteered": 2, "probe": 18, "random": 3, "other layer": 17}
    >>> clips = pd.concat(
    ...     pd.DataFrame({"arm": arm, "dose": float(arm != "unsteered"), "seed": range(20), "hit": np.arange(20) < n})
    ...     for arm, n in hits.items()
    ... )
    >>> finding, table = site_specificity(clips, 1.0)
    >>> finding.answer, table[["against", "part"]].round(2).to_dict("records")
    ('no', [{'against': 'random', 'part': 0.06}, {'against': 'other layer', 'part': 0.94}])
    """
    base = _hits(clips, UNSTEERED, 0.0)
    assert base is not None  # every run has its unsteered twins
    treated = _hits(clips, arm, dose)
    against = [(name, "here") for name in rule.controls] + [(name, "elsewhere") for name in rule.elsewhere]
    others = [(name, place, _hits(clips, name, dose)) for name, place in against if name != arm]
    others = [item for item in others if item[2] is not None]
    if treated is None or not any(place == "here" for _, place, _ in others):
        raise DataError(
            f"no verdict without the arm {arm!r} and a control ({' or '.join(rule.controls)}) at {dose:g} sigma: run "
            "them there."
        )
    gain = (treated - base).to_numpy(float)
    weights = group_weights(np.arange(len(gain)), _DRAWS, np.random.default_rng(0))
    lines: list[dict[str, Any]] = []
    surely: list[str] = []
    for name, place, hits in others:
        assert hits is not None
        own = (hits.reindex(base.index) - base).to_numpy(float)
        draws = _part(weights @ own, weights @ gain)
        lo, hi = bootstrap_interval(draws, len(gain))
        sure_lo, _ = bootstrap_interval(draws, len(gain), 1 - rule.alpha / len(others))
        part = float(_part(own.sum(), gain.sum()))
        lines.append({"against": name, "place": place, "gain": own.mean(), "part": part, "lo": lo, "hi": hi})
        surely += [name] * bool(sure_lo > rule.shared)
    table = pd.DataFrame(lines)
    most = table.loc[table["part"].idxmax()]
    numbers = (float(most["part"]), float(most["lo"]), float(most["hi"]))
    said = f"{most['against']} brings {numbers[0]:.0%} [{numbers[1]:.0%}, {numbers[2]:.0%}] of the gain"
    if surely:
        return Finding("no", said, *numbers), table
    if (table["hi"] >= rule.shared).any():
        return Finding("not shown", f"{said}, not surely less than {rule.shared:.0%}", *numbers), table
    if not (table["place"] == "elsewhere").any():
        return Finding("not shown", f"{said}, but no other site was pushed", *numbers), table
    return Finding("yes", f"of {len(table)} controls and other sites {said} at most", *numbers), table


def trait_specificity(
    clips: pd.DataFrame, judge: Judge, trait: str | Trait, dose: float, *, arm: str = "probe", rule: Rule = RULE
) -> tuple[Finding, pd.DataFrame]:
    """Whether other traits stay as they were.

    **Yes** if for every answer to the judge's other questions the interval of its share's change lies within
    ``rule.moved`` either way. **No** if some share changes by that much, by more than chance after Holm's correction
    over all of them. Answers to the trait's own question compete with it, and do not count.

    Parameters
    ----------
    clips : DataFrame
        Clips of this judge, with the probability of its every answer (a run that measures).
    judge : Judge
    trait : str or Trait
        Which was pushed.
    dose : float
        The dose that decides.
    arm : str
        The treated arm.
    rule : Rule

    Returns
    -------
    finding : Finding
        Its value is the largest change.
    table : DataFrame
        ``judged, base, rate, diff, lo, hi, p, p_holm`` of every other answer; empty where there is none.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> judge = SimpleNamespace(name="ear", questions={"drums": ["drums"], "bass": ["bass"]})
    >>> clips = pd.DataFrame({"arm": ["unsteered"] * 20 + ["probe"] * 20, "dose": [0.0] * 20 + [1.0] * 20,
    ...                       "seed": [*range(20)] * 2, "p_drums": 0.5, "p_not_music": 0.0,
    ...                       "p_bass": [0.1] * 20 + [0.9] * 18 + [0.1] * 2})
    >>> finding, _ = trait_specificity(clips, judge, "drums", 1.0)
    >>> finding.answer, finding.because[:14], round(finding.value, 2)
    ('no', 'bass changes b', 0.9)
    """
    own = Trait.parse(trait).column
    others = [answer for question, of in judge.questions.items() if question != own for answer in of]
    if not others:
        return Finding("not shown", f"the judge {judge.name} hears no other trait"), pd.DataFrame()
    if not any(name.startswith(JUDGED) for name in clips):
        return Finding("not shown", "other traits were not measured in this run"), pd.DataFrame()
    clips = clips.sort_values("seed", kind="stable")  # changes are paired row by row
    table = judged_changes(clips, judge, arm=arm, dose=dose)
    table = table[table["judged"].isin(others)].reset_index(drop=True)
    table["p_holm"] = holm(table["p"])
    most = table.loc[table["diff"].abs().idxmax()]
    numbers = (float(most["diff"]), float(most["lo"]), float(most["hi"]))
    said = f"{most['judged']} changes by {numbers[0]:+.0%} [{numbers[1]:+.0%}, {numbers[2]:+.0%}]"
    moved = table[(table["diff"].abs() >= rule.moved) & (table["p_holm"] <= rule.alpha)]
    if len(moved):
        more = f", one of {len(moved)} that move" if len(moved) > 1 else ""
        return Finding("no", f"{said}{more}", *numbers), table
    if ((table["lo"] > -rule.moved) & (table["hi"] < rule.moved)).all():
        return Finding("yes", f"of {len(table)} other answers {said} at most", *numbers), table
    return Finding("not shown", f"{said}, and not every change is surely below {rule.moved:.0%}", *numbers), table


def _hits(clips: pd.DataFrame, arm: str, dose: float) -> pd.Series | None:
    """1 where the trait is heard, by seed; None where the arm was not run at the dose."""
    rows = clips[(clips["arm"] == arm) & (clips["dose"] == dose)]
    hits: pd.Series = rows.set_index("seed")["hit"].astype(float).sort_index()
    return hits if len(hits) else None


def _part(of: Any, whole: Any) -> NDArray[np.float64]:
    """Quotients within +-:data:`_MOST`; where there is no gain to be part of, that or nothing."""
    x, y = np.asarray(of, float), np.asarray(whole, float)
    quotient = np.where(y > 1e-9, x / np.where(y > 1e-9, y, 1.0), np.where(x > 0, _MOST, 0.0))
    return np.clip(quotient, -_MOST, _MOST)
