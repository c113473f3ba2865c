"""What else brings the trait, and what else the push brings."""

from __future__ import annotations

import numpy as np
import pytest
from planted_clips import JUDGE, planted

from interp.errors import DataError
from interp.validation import Rule
from interp.validation.specificity import site_specificity, trait_specificity

ALONE = {"probe": 0.9, "random": 0.1, "shuffled labels": 0.12, "other layer": 0.1, "best other site": 0.3}


def test_a_site_that_alone_does_it_is_specific() -> None:
    finding, table = site_specificity(planted(ALONE), 2.0)
    assert finding.answer == "yes" and len(table) == 4
    assert table.set_index("against").loc["best other site", "part"] == pytest.approx(0.25, abs=0.03)
    assert finding.value == table["part"].max() and (table["lo"] <= table["part"]).all()


@pytest.mark.parametrize("arm", ["random", "shuffled labels", "best other site"])
def test_what_does_as_well_elsewhere_or_by_chance_takes_the_claim_away(arm: str) -> None:
    finding, _ = site_specificity(planted({**ALONE, arm: 0.85}), 2.0)
    assert finding.answer == "no" and finding.because.startswith(f"{arm} brings")


def test_too_few_seeds_and_no_other_site_show_nothing() -> None:
    few, _ = site_specificity(planted({**ALONE, "random": 0.5}, n=8), 2.0)
    assert few.answer == "not shown"
    here = {name: ALONE[name] for name in ("probe", "random", "shuffled labels")}
    alone, _ = site_specificity(planted(here), 2.0)
    assert alone.answer == "not shown" and "no other site was pushed" in alone.because
    with pytest.raises(DataError, match=r"a control \(random or shuffled labels\) at 2 sigma"):
        site_specificity(planted({"probe": 0.9, "other layer": 0.1}), 2.0)


def test_the_rule_says_who_counts() -> None:
    clips = planted({"L1.resid": 0.9, "random L1.resid": 0.1, "L2.resid": 0.88})
    rule = Rule(controls=("random L1.resid",), elsewhere=("L1.resid", "L2.resid"))
    finding, table = site_specificity(clips, 2.0, arm="L1.resid", rule=rule)
    assert finding.answer == "no" and table["against"].tolist() == ["random L1.resid", "L2.resid"]


def test_how_often_the_claim_is_made_where_another_site_does_half_of_it() -> None:
    """At the border itself, "yes" and "no" are both errors: together no more often than their levels allow."""
    rng, said = np.random.default_rng(3), []
    for _ in range(120):
        clips = planted({"probe": 0.0, "random": 0.0, "best other site": 0.0}, n=40)
        share = {"unsteered": 0.1, "probe": 0.9, "random": 0.1, "best other site": 0.5}
        clips["hit"] = rng.random(len(clips)) < clips["arm"].map(share)
        said.append(site_specificity(clips, 2.0)[0].answer)
    assert said.count("yes") / 120 <= 0.08 and said.count("no") / 120 <= 0.08


def test_other_traits_that_stay_and_one_that_moves() -> None:
    stays, table = trait_specificity(planted(ALONE), JUDGE, "drums", 2.0)
    assert stays.answer == "yes" and set(table["judged"]) == {"bass", "jazz", "rock"}
    moves, _ = trait_specificity(planted(ALONE, bass={"probe": 0.8}), JUDGE, "drums", 2.0)
    assert moves.answer == "no" and moves.because.startswith("bass changes by +") and moves.value > 0.5
    few, _ = trait_specificity(planted(ALONE, n=10, bass={"probe": 0.5}), JUDGE, "drums", 2.0)
    assert few.answer == "not shown"


def test_the_order_of_clips_does_not_matter() -> None:
    clips = planted(ALONE, bass={"probe": 0.6})
    mixed = clips.sample(frac=1, random_state=1)
    for ask in (lambda rows: site_specificity(rows, 2.0), lambda rows: trait_specificity(rows, JUDGE, "drums", 2.0)):
        assert ask(clips)[0] == ask(mixed)[0]


def test_what_was_not_measured_is_not_shown() -> None:
    bare = planted(ALONE)[["trait", "arm", "dose", "seed", "hit", "not_music"]]
    assert "not measured" in trait_specificity(bare, JUDGE, "drums", 2.0)[0].because
    single = type("Single", (), {"name": "single", "questions": {"drums": ["drums"]}})()
    assert "hears no other trait" in trait_specificity(planted(ALONE), single, "drums", 2.0)[0].because
