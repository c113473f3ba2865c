"""What judges are worth, told beside what they say."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd
import pytest

from interp.errors import DataError
from interp.judges import RenderedJudge, accuracy_table
from interp.judges.accuracy import accuracy_row, measure, measure_answers, worth
from interp.stats import wilson

JUDGE = SimpleNamespace(name="ear", independent=True, questions={"drums": ["drums"], "genre": ["jazz", "rock"]})
SCORES = pd.DataFrame({"drums": [0.9, 0.4, 0.1], "jazz": [0.6, 0.3, 0.1], "rock": [0.3, 0.6, 0.1]})
SCORES["not_music"] = [0.1, 0.1, 0.8]
LABELS = pd.DataFrame({"drums": [1, 1, 0], "genre": ["jazz", "jazz", "rock"], "group": ["a", "a", "b"]})


def test_right_answers_are_counted():
    rows = measure_answers(JUDGE, SCORES, LABELS, "here")
    assert [(row["trait"], row["value"], row["n_groups"]) for row in rows] == [
        ("drums", pytest.approx(2 / 3), 2),
        ("genre", pytest.approx(1 / 3), 2),
    ]
    assert all(row["lo"] < row["value"] < row["hi"] for row in rows)
    assert (rows[0]["lo"], rows[0]["hi"]) == tuple(float(bound) for bound in wilson(2, 3))


@pytest.mark.parametrize("drums", [["yes", "Yes ", "no"], [True, True, False], ["drums", "drums", "no drums"]])
def test_labels_are_read_as_everywhere(drums):
    (row,) = measure_answers(JUDGE, SCORES, pd.DataFrame({"drums": drums}), "here")
    assert row["value"] == pytest.approx(2 / 3)


def test_clips_that_the_judge_could_not_know_are_not_counted():
    labels = LABELS.assign(genre=["jazz", "polka", None], drums=[1, None, 0])
    drums, genre = measure_answers(JUDGE, SCORES, labels, "here")
    assert (drums["n"], drums["value"]) == (2, 1.0) and (genre["n"], genre["value"]) == (1, 1.0)
    with pytest.raises(DataError, match="no clip has a label 'genre' that the judge 'ear' could answer"):
        measure_answers(JUDGE, SCORES, labels.assign(genre="polka"), "here")


def test_labels_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match="no label for any of drums, genre"):
        measure_answers(JUDGE, SCORES, LABELS[["group"]], "here")
    with pytest.raises(DataError, match="3 clips and 2 rows"):
        measure_answers(JUDGE, SCORES, LABELS[:2], "here")


def test_any_judge_can_be_measured(decoded, labels):
    frame = measure(RenderedJudge(), decoded, 16_000, labels, "after the codec")
    assert set(frame["trait"]) == {"drums", "bass", "instrument", "genre"}
    assert frame.set_index("trait").loc["drums", "value"] > 0.85 and (frame["audio"] == "after the codec").all()


def test_a_judge_that_was_never_measured_does_not_pass_unnoticed():
    never = SimpleNamespace(name="ear", independent=True, accuracy_frame=pd.DataFrame)
    table = accuracy_table([RenderedJudge(), never])
    assert {"drums", "instrument", "genre", "not_music"} <= set(table.loc[table["judge"] == "rendered", "trait"])
    assert list(table.loc[table["judge"] == "ear", "measure"]) == ["not measured"]
    assert worth(never, "drums") == "the judge ear was never measured on drums"
    frame = pd.DataFrame(
        [accuracy_row("drums", "accuracy", 3, 4, 0.5, "a"), accuracy_row("drums", "accuracy", 1, 4, 0.5, "b")]
    )
    inside = SimpleNamespace(name="own", independent=False, accuracy_frame=lambda: frame)
    assert worth(inside, "drums") == (
        "the judge own (not independent: it looks inside the model) is right in 75.0% on a; 25.0% on b"
    )
