"""One summary for every experiment: by any columns, with twins, families and references of its own."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from interp.errors import DataError
from interp.judges import fad, fad_difference
from interp.judges.distances import fad_interval
from interp.validation import summarise
from interp.validation.summary import embeddings, public


def planted(n: int = 12, traits: tuple[str, ...] = ("drums", "bass")) -> pd.DataFrame:
    """Clips of two traits and two tasks under three arms, embeddings and a graded measure among their columns."""
    rng = np.random.default_rng(0)
    parts = []
    for trait in traits:
        for task in ("asked", "continued"):
            for arm, dose, rate in (("unsteered", 0.0, 0.2), ("push", 1.0, 0.5), ("push", 2.0, 0.9)):
                rows = pd.DataFrame({"seed": range(n), "hit": rng.random(n) < rate, "not_music": False})
                rows = rows.assign(judge="ear", trait=trait, task=task, arm=arm, dose=dose)
                rows = rows.assign(control=arm == "unsteered", where="L1", similarity=rng.random(n), degenerate=False)
                parts.append(pd.concat([rows, pd.DataFrame(rng.normal(size=(n, 2)) + dose).add_prefix("e")], axis=1))
    return pd.concat(parts, ignore_index=True)


UNIT = ("judge", "trait", "task", "seed")


def test_conditions_are_any_columns_and_twins_share_the_unit() -> None:
    clips = planted()
    table = summarise(clips, ["trait", "task", "arm", "dose"], unit=UNIT, family=["trait", "task"])
    assert len(table) == 2 * 2 * 3
    for row in table.itertuples():
        part = clips.query("trait == @row.trait and task == @row.task and arm == @row.arm and dose == @row.dose")
        twin = clips.query("trait == @row.trait and task == @row.task and arm == 'unsteered'")
        assert row.rate == part["hit"].mean() and row.similarity == pytest.approx(part["similarity"].mean())
        if row.arm == "unsteered":
            assert np.isnan(row.diff)
        else:
            assert row.diff == pytest.approx(row.rate - twin["hit"].mean())
            gap = part["similarity"].to_numpy() - twin["similarity"].to_numpy()
            assert row.similarity_diff == pytest.approx(gap.mean())
            assert row.similarity_diff_lo < row.similarity_diff < row.similarity_diff_hi
    pooled = summarise(clips, ["arm", "dose"], unit=UNIT)
    assert list(pooled["n"]) == [48] * 3
    assert pooled.loc[2, "diff"] == pytest.approx(pooled.loc[2, "rate"] - pooled.loc[0, "rate"])


def test_the_order_of_clips_does_not_matter() -> None:
    clips = planted()
    mixed = clips.sample(frac=1, random_state=1)
    by, options = ["trait", "task", "arm", "dose"], {"unit": UNIT, "references": {"": np.eye(4, 2)}}
    a, b = (summarise(one, by, **options).sort_values(by, ignore_index=True) for one in (clips, mixed))
    exact = ["rate", "diff", "fad", "kad", "similarity", "h", "odds"]
    pd.testing.assert_frame_equal(a[exact], b[exact])


def test_p_values_are_corrected_within_their_family() -> None:
    from interp.stats import holm

    clips = planted()
    table = summarise(clips, ["trait", "task", "arm", "dose"], unit=UNIT, family=["trait", "task"])
    for _, part in table.groupby(["trait", "task"]):
        np.testing.assert_array_equal(part["p_holm"], holm(part["p"]))
        assert (part["p_max"].dropna() >= part["p"].dropna() - 1e-9).all()
    whole = summarise(clips, ["trait", "task", "arm", "dose"], unit=UNIT, family=[])
    assert whole["p_holm"].dropna().gt(table["p_holm"].dropna()).any()
    assert whole["p_max"].isna().all()  # not all of it is of the same seeds
    assert summarise(clips, ["trait", "task", "arm", "dose"], unit=UNIT, family=["trait"])["p_max"].isna().all()


def test_references_may_depend_on_the_condition() -> None:
    clips = planted()
    rng = np.random.default_rng(3)
    known = {trait: rng.normal(size=(40, 2)) for trait in ("drums", "bass")}
    by = ["trait", "task", "arm", "dose"]
    table = summarise(clips, by, unit=UNIT, references=lambda key: {"": known[key["trait"]], "any": known["bass"]})
    for row in table.itertuples():
        part = clips.query("trait == @row.trait and task == @row.task and arm == @row.arm and dose == @row.dose")
        twin = clips.query("trait == @row.trait and task == @row.task and arm == 'unsteered'")
        around = fad_interval(embeddings(part), known[row.trait])
        assert row.fad == fad(embeddings(part), known[row.trait], n_draws=0).value
        assert (row.fad_lo, row.fad_hi) == pytest.approx((around.lo, around.hi))
        assert row.fad_any == pytest.approx(fad(embeddings(part), known["bass"], n_draws=0).value)
        if row.arm != "unsteered":
            gap = fad_difference(embeddings(part), embeddings(twin), known[row.trait])
            assert (row.fad_diff, row.fad_diff_lo, row.fad_diff_hi) == pytest.approx((gap.value, gap.lo, gap.hi))


def test_clips_without_a_twin_or_with_several_are_refused() -> None:
    clips = planted()
    with pytest.raises(DataError, match=r"several unsteered clips are alike in judge, trait, seed: name what tells"):
        summarise(clips, ["trait", "task", "arm", "dose"])
    lost = clips[~((clips["arm"] == "unsteered") & (clips["seed"] == 3))]
    with pytest.raises(DataError, match="have no unsteered twin"):
        summarise(lost, ["trait", "task", "arm", "dose"], unit=UNIT)
    alone = summarise(clips[clips["arm"] != "unsteered"], ["trait", "task", "arm", "dose"], unit=UNIT)
    assert "diff" not in alone and len(alone) == 8
    with pytest.raises(DataError, match="no column to tell conditions or twins by"):
        summarise(pd.DataFrame({"hit": [True], "arm": "x"}), ["method"])


def test_a_published_table_has_no_embeddings() -> None:
    clips = planted().assign(p_drums=1 / 3, e="kept")
    shown = public(clips)
    assert not {"e0", "e1"} & set(shown) and (shown["p_drums"] == 0.33333).all() and "e" in shown
    assert (clips["p_drums"] == 1 / 3).all() and embeddings(clips).shape == (len(clips), 2)


def test_too_few_clips_have_a_distance_and_no_interval() -> None:
    clips = planted(3)
    table = summarise(clips, ["trait", "task", "arm", "dose"], unit=UNIT, references={"": np.eye(4, 2)})
    assert table["fad"].notna().all() and table[["fad_lo", "fad_hi", "fad_diff_lo", "fad_diff_hi"]].isna().all().all()
    assert (table["fad_diff"].isna() == (table["arm"] == "unsteered")).all()
