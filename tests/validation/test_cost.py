"""The cost of arms that succeed equally often: planted costs are measured, and what cannot be compared is left open."""

from __future__ import annotations

import pytest
from planted_data import DIM, REFERENCE, planted_rules

from interp.judges import fad
from interp.validation.cost import cost_beside, equal_success


def test_rules_are_compared_at_equal_success() -> None:
    table = equal_success(planted_rules(n=60, cost=2.0), REFERENCE, ["SMITIN"])
    assert list(table["arm"].unique()) == ["SMITIN"] and len(table) == 4
    assert table["reached"].all()
    assert (table["hi"] < 0).all()  # SMITIN is cheaper wherever it succeeds as often
    same = equal_success(planted_rules(n=60, cost=0.0), REFERENCE, ["SMITIN"])
    assert ((same["lo"] <= 1e-9) & (same["hi"] >= -1e-9)).all()
    # by hand: one trait, the strength that succeeds as often as ITI at 2
    clips = planted_rules(n=60, cost=2.0)
    mine = clips[clips["trait"] == "drums"]

    def distance(arm: str, dose: float) -> float:
        x = mine[(mine["arm"] == arm) & (mine["dose"] == dose)][[f"e{i}" for i in range(DIM)]]
        return fad(x, REFERENCE["drums", "continuation"], n_draws=0).value

    row = table[(table["trait"] == "drums") & (table["dose"] == 4.0)].iloc[0]
    assert row["difference"] == pytest.approx(distance("SMITIN", 4.0) - distance("ITI", 2.0))


def test_a_success_that_iti_never_reaches_is_left_open() -> None:
    clips = planted_rules()
    clips.loc[(clips["arm"] == "SMITIN") & (clips["dose"] == 4.0), "hit"] = True
    table = equal_success(clips[clips["dose"] != 3.0], REFERENCE, ["SMITIN"])
    assert table.loc[table["dose"] == 4.0, "difference"].isna().all()
    assert table.loc[table["dose"] == 2.0, "difference"].notna().all()


def test_the_dose_that_succeeds_as_often_is_the_one_compared_with() -> None:
    clips = planted_rules(n=60, cost=2.0).query("trait == 'drums'")
    rates = clips.groupby(["arm", "dose"], sort=False)["hit"].mean().reset_index(name="rate")
    table = cost_beside(rates, clips, REFERENCE["drums", "continuation"], against="ITI", prefix="iti")
    row = table[(table["arm"] == "SMITIN") & (table["dose"] == 4.0)].iloc[0]
    assert row["iti_dose"] == 2.0 and row["iti_equal"] and row["iti_success"] == row["rate"]
    assert row["fad_gap_lo"] < row["fad_gap"] < row["fad_gap_hi"] < 0  # SMITIN costs nothing here
    assert table[table["arm"].isin(["ITI", "unsteered"])]["iti_dose"].isna().all()
    rates.loc[rates["arm"] == "ITI", "rate"] = 0.1
    never = cost_beside(rates, clips, None, against="ITI", prefix="iti").query("arm == 'SMITIN'")
    assert not never["iti_equal"].any() and never["fad_gap"].isna().all()
