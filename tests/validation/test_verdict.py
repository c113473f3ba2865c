"""The word follows from the answers, by a rule that was written before."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from planted_clips import JUDGE, planted

from interp.errors import DataError
from interp.validation import summarise, verdict
from interp.validation.findings import Finding
from interp.validation.verdict import Verdict

ALONE = {"probe": 0.9, "random": 0.1, "shuffled labels": 0.12, "other layer": 0.1, "best other site": 0.3}


def said(shares: dict[str, float], n: int = 64, necessary: Finding | None = None, **more: Any) -> Verdict:
    clips = planted(shares, n, **more)
    known = {} if necessary is None else {"necessary": necessary}
    return verdict(summarise(clips), clips, True, trait="drums", judge=JUDGE, **known)


def test_causal_takes_three_answers() -> None:
    whole = said(ALONE)
    assert whole.outcome == "causal" and whole.because.count("yes") == 3 and whole.necessary.answer == "not shown"
    needless = Finding("no", "it stays", 0.0, -0.1, 0.1)
    assert said(ALONE, necessary=needless).outcome == "causal"  # told apart


@pytest.mark.parametrize(
    ("differs", "question", "outcome"),
    [
        ({"shares": {**ALONE, "best other site": 0.9}}, "site", "sufficient, not specific"),
        ({"shares": {**ALONE, "random": 0.8}}, "site", "sufficient, not specific"),
        ({"shares": ALONE, "bass": {"probe": 0.9}}, "trait", "sufficient, not specific"),
        ({"shares": {**ALONE, "probe": 0.1}}, "sufficient", "not sufficient"),
    ],
)
def test_one_no_is_enough(differs: dict[str, Any], question: str, outcome: str) -> None:
    result = said(**differs)
    assert result.outcome == outcome and getattr(result, question).answer == "no"
    assert getattr(result, question).because in result.because


def test_what_was_not_tested_is_not_shown() -> None:
    here = said({name: ALONE[name] for name in ("probe", "random", "shuffled labels")})
    assert here.outcome == "not shown" and here.sufficient.answer == "yes" and here.trait.answer == "yes"
    clips = planted(ALONE)
    nobody = verdict(summarise(clips), clips, False, trait="drums")
    assert nobody.outcome == "not shown" and nobody.trait.answer == "not shown" and nobody.worth == ""
    weak = said({**ALONE, "probe": 0.3}, n=24)
    assert weak.site.answer == "not shown" and "no gain to compare with" in weak.site.because


def test_a_verdict_as_a_table_and_in_words() -> None:
    result = said(ALONE)
    table = result.frame()
    assert table["asked"].tolist() == [*result.findings, "causal"] and set(table["judge"]) == {"ear"}
    assert table.loc[0, "lo"] < table.loc[0, "value"] < table.loc[0, "hi"]
    assert str(result).startswith("causal at 2 sigma by ear. sufficient: yes (")
    assert str(result).endswith("A probe reads it here.") and "never measured on drums" in result.worth


def test_no_verdict_without_arms_or_of_several_judges() -> None:
    clips = planted({"random": 0.1})
    with pytest.raises(DataError, match="no verdict without the arms 'probe'"):
        verdict(summarise(clips), clips, True, trait="drums")
    table = pd.DataFrame({"judge": ["a", "b"], "arm": "unsteered", "dose": 0.0})
    with pytest.raises(DataError, match="choose the rows of one"):
        verdict(table, pd.DataFrame(), True, trait="drums")
