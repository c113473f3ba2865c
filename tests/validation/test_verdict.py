"""The verdict follows a rule that was written before."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from interp.errors import DataError
from interp.validation import (
    Rule,
    necessity,
    summarise,
    verdict,
)


def outcome(
    rates: dict[float, float], control: float = 0.1, not_music: float = 0.0, n: int = 64, readable: bool = True
) -> Any:
    """The verdict on planted clips: unsteered 0.1, the given rates of the probe, one rate of both controls."""
    rng = np.random.default_rng(0)
    luck = rng.permutation(n) / n
    other = rng.permutation(n) / n
    parts = []

    def add(arm: str, dose: float, rate: float, broken: float = 0.0) -> None:
        chance = luck if arm in ("unsteered", "probe") else other
        frame = {"trait": "t", "arm": arm, "dose": dose, "seed": range(n), "hit": chance < rate}
        parts.append(pd.DataFrame(frame).assign(not_music=luck >= 1 - broken))

    add("unsteered", 0.0, 0.1)
    for dose, rate in rates.items():
        add("probe", dose, rate, not_music)
        add("random", dose, control)
        add("shuffled labels", dose, 0.1)
    every = pd.concat(parts, ignore_index=True)
    return verdict(summarise(every), every, readable)


def test_a_gain_that_controls_do_not_share_is_causal() -> None:
    said = outcome({1.0: 0.3, 2.0: 0.9})
    assert said.outcome == "causal" and said.dose == 2.0
    assert said.gain == pytest.approx(0.8, abs=0.03) and said.lo < said.gain < said.hi
    assert outcome({2.0: 0.9}, readable=False).outcome == "causal"


def test_a_site_that_reads_and_does_nothing_is_only_readable() -> None:
    assert outcome({1.0: 0.1, 2.0: 0.12}).outcome == "only readable"
    assert outcome({1.0: 0.1, 2.0: 0.12}, readable=False).outcome == "not readable"


def test_what_cannot_be_told_is_inconclusive_and_says_why() -> None:
    shared = outcome({2.0: 0.9}, control=0.6)
    assert shared.outcome == "inconclusive" and "control random" in shared.because
    noise = outcome({2.0: 0.9}, not_music=0.5)
    assert noise.outcome == "inconclusive" and "no music" in noise.because
    few = outcome({2.0: 0.6}, n=5)
    assert few.outcome == "inconclusive" and "chance" in few.because
    small = outcome({2.0: 0.3})
    assert small.outcome == "inconclusive" and "below 30%" in small.because


def test_no_verdict_without_a_control() -> None:
    table = pd.DataFrame({"arm": ["unsteered", "probe"], "dose": [0.0, 1.0], "diff": [np.nan, 1.0]})
    with pytest.raises(DataError, match="no verdict without"):
        verdict(table, pd.DataFrame(), True)


@pytest.mark.parametrize(("left", "n", "answer"), [(0.2, 64, "yes"), (0.9, 64, "no"), (0.6, 6, "unclear")])
def test_necessity(left: float, n: int, answer: str) -> None:
    luck = np.random.default_rng(1).permutation(n) / n
    rates = {"unsteered": 0.9, "random direction out": 0.9, "direction out": 0.9, "LEACE": left}
    frames = [pd.DataFrame({"arm": arm, "seed": range(n), "hit": luck < rate}) for arm, rate in rates.items()]
    found, table = necessity(pd.concat(frames))
    assert found == answer
    losses = table.set_index("way")["loss"]
    assert losses["direction out"] == 0 and losses["LEACE"] == pytest.approx(left - 0.9, abs=1.1 / n)


def test_necessity_of_nothing_is_no_answer() -> None:
    arms = ("unsteered", "random direction out", "direction out, every layer")
    clips = pd.concat([pd.DataFrame({"arm": arm, "seed": range(8), "hit": True}) for arm in arms])
    for ways in (None, ["LEACE"]):
        with pytest.raises(DataError, match="necessity needs clips of the arms"):
            necessity(clips, ways=ways)
    with pytest.raises(DataError, match="random direction out"):
        necessity(clips[clips["arm"] != "random direction out"], ways=["direction out, every layer"])


def test_the_rule_is_a_value_that_can_be_changed_on_purpose() -> None:
    strict = Rule(gain=0.95)
    assert strict != Rule() and Rule() == Rule(0.30, 0.15, 0.15, 0.20, 0.30, 0.05, ("random", "shuffled labels"))


def test_a_verdict_is_one_judges() -> None:
    table = pd.DataFrame({"judge": ["a", "b"], "arm": "unsteered", "dose": 0.0})
    with pytest.raises(DataError, match="choose the rows of one"):
        verdict(table, pd.DataFrame(), True)
