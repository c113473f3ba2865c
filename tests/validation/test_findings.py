"""The first and the last question of a verdict: does pushing bring the trait, and is the direction needed for it?"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from planted_clips import planted

from interp.errors import DataError
from interp.validation import Rule, necessity, summarise
from interp.validation.findings import Finding, sufficiency

CONTROLS = {"random": {1.0: 0.1, 2.0: 0.1}, "shuffled labels": {1.0: 0.1, 2.0: 0.1}}


def asked(probe: dict[float, float], n: int = 64, dose: float | None = None, **more: object) -> tuple[Finding, float]:
    return sufficiency(summarise(planted({"probe": probe, **CONTROLS}, n, **more)), dose=dose)  # type: ignore[arg-type]


def test_a_gain_beyond_chance_is_sufficient() -> None:
    finding, dose = asked({1.0: 0.3, 2.0: 0.9})
    assert finding.answer == "yes" and dose == 2.0
    assert finding.value == pytest.approx(0.8, abs=0.03) and finding.lo < finding.value < finding.hi


def test_no_gain_at_any_dose_is_a_no_and_a_wide_interval_is_none() -> None:
    assert asked({1.0: 0.1, 2.0: 0.12})[0].answer == "no"
    few = asked({1.0: 0.1, 2.0: 0.25}, n=20)[0]
    assert few.answer == "not shown" and "less than 30%" in few.because


def test_what_may_be_chance_or_is_no_music_is_not_shown() -> None:
    chance = asked({2.0: 0.6}, n=5)[0]
    assert chance.answer == "not shown" and "chance" in chance.because
    noise = asked({2.0: 0.9}, broken={"probe": 0.5})[0]
    assert noise.answer == "not shown" and "no music" in noise.because


def test_the_dose_that_was_chosen_on_other_seeds_decides() -> None:
    shares = {1.0: 0.3, 2.0: 0.9}
    finding, dose = asked(shares, dose=1.0)
    assert dose == 1.0 and finding.answer == "not shown" and finding.value < 0.3
    with pytest.raises(DataError, match="not run at the dose 3"):
        asked(shares, dose=3.0)
    uncontrolled, dose = asked({**shares, 4.0: 1.0})
    assert dose == 2.0 and uncontrolled.answer == "yes"  # nothing tells the largest dose from a push of its length


@pytest.mark.parametrize(("left", "n", "answer"), [(0.2, 64, "yes"), (0.9, 64, "no"), (0.6, 6, "not shown")])
def test_necessity(left: float, n: int, answer: str) -> None:
    luck = np.random.default_rng(1).permutation(n) / n
    rates = {"unsteered": 0.9, "random direction out": 0.9, "direction out": 0.9, "LEACE": left}
    frames = [pd.DataFrame({"arm": arm, "seed": range(n), "hit": luck < rate}) for arm, rate in rates.items()]
    finding, table = necessity(pd.concat(frames))
    assert finding.answer == answer
    losses = table.set_index("way")["loss"]
    assert losses["direction out"] == 0 and losses["LEACE"] == pytest.approx(left - 0.9, abs=1.1 / n)
    assert finding.value == losses.min() and finding.lo <= finding.value <= finding.hi


def test_necessity_of_nothing_is_no_answer() -> None:
    arms = ("unsteered", "random direction out", "direction out, every layer")
    clips = pd.concat([pd.DataFrame({"arm": arm, "seed": range(8), "hit": True}) for arm in arms])
    for ways in (None, ["LEACE"]):
        with pytest.raises(DataError, match="necessity needs clips of the arms"):
            necessity(clips, ways=ways)
    with pytest.raises(DataError, match="random direction out"):
        necessity(clips[clips["arm"] != "random direction out"], ways=["direction out, every layer"])


def test_the_rule_is_a_value_that_can_be_changed_on_purpose() -> None:
    table = summarise(planted({"probe": 0.9, "random": 0.1}))
    assert sufficiency(table)[0].answer == "yes" and sufficiency(table, rule=Rule(gain=0.95))[0].answer == "not shown"
    assert str(Finding("no", "", -0.5, -0.6, -0.4)) == "no -50% [-60%, -40%]"
