"""Traits: parsed once, and one reader of labels."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.errors import DataError
from interp.traits import Trait

WORDS = st.text("abcdefghijklm ABC-_0123456789#é", min_size=1, max_size=12).filter(lambda text: text.strip())
BLANKS = st.sampled_from(["", " ", "  ", "\t"])
YES = ["yes", "Y", "True", "t", "1", "ON", "present", "with", True, 1, 1.0, np.True_, "1.0"]
NO = ["no", "N", "False", "f", "0", "Off", "ABSENT", "without", False, 0, 0.0, np.False_, "0.0"]


def column(*cells: object, name: str = "x") -> pd.Series:
    return pd.Series(list(cells), name=name, dtype=object)


@settings(max_examples=400, deadline=None)
@given(WORDS, st.none() | WORDS, st.none() | WORDS, BLANKS)
def test_text_and_trait_are_one(label: str, positive: str | None, against: str | None, blank: str) -> None:
    text = label + (f"{blank}={blank}{positive}" if positive else "")
    text += f"{blank}|{blank}{against}" if positive and against else ""
    same = positive and against and " ".join(positive.split()) == " ".join(against.split())
    if same:
        with pytest.raises(DataError, match="against itself"):
            Trait.parse(text)
        return
    trait = Trait.parse(text)
    assert Trait.parse(str(trait)) == trait
    assert Trait.parse(trait) is trait
    assert trait.column == " ".join(label.split())
    assert "/" not in trait.slug
    assert " " not in trait.slug


@pytest.mark.parametrize("text", ["", " ", "=", "=a", "a=", "a= |b", "a=b|", "a=b|b", "a=b|b|c", "a=|b"])
def test_unreadable_traits_are_refused(text: str) -> None:
    with pytest.raises(DataError):
        Trait.parse(text)


@pytest.mark.parametrize("thing", [None, 3, ["drums"], b"drums"])
def test_only_text_is_parsed(thing: object) -> None:
    with pytest.raises(DataError, match="a trait is text"):
        Trait.parse(thing)  # type: ignore[arg-type]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 12), BLANKS), min_size=2, max_size=12))
def test_yes_and_no_in_any_writing(rows: list[tuple[bool, int, str]]) -> None:
    cells, truth = [], []
    for yes, spelling, blank in rows:
        cell = (YES if yes else NO)[spelling]
        cells.append(f"{blank}{cell}{blank}" if isinstance(cell, str) else cell)
        truth.append(yes)
    frame = pd.DataFrame({"drums": pd.Series(cells, dtype=object)})
    assert Trait("drums").has(frame).tolist() == truth
    assert Trait("drums").lacks(frame).tolist() == [not yes for yes in truth]
    if len(set(truth)) == 2:
        for trait in (Trait("drums"), Trait("drums", "yes"), Trait("drums", "1")):
            labels = trait.read(frame)
            assert labels.classes == ("not drums", "drums")
            assert labels.y.tolist() == [int(yes) for yes in truth]
            assert labels.natural
        assert Trait("drums", "no").read(frame).classes == ("drums", "not drums")
        assert Trait("drums", "no").has(frame).tolist() == Trait("drums").lacks(frame).tolist()


@pytest.mark.parametrize(
    ("positive", "negative"),
    [
        ("drums", "no drums"),
        ("Drums", "NO DRUMS"),
        ("with drums", "without drums"),
        ("drums", "without drums"),
        ("vocal", "instrumental"),
        ("Vocals", "instrumental"),
        ("voiced", "unvoiced"),
        ("swing", "not swing"),
        ("live", "non-live"),
    ],
)
def test_natural_positives(positive: str, negative: str) -> None:
    for cells in ((positive, negative), (negative, positive)):
        labels = Trait("x").read(column(*cells))
        assert labels.classes == (negative, positive)
        assert labels.natural
        assert labels.note == ""
        assert Trait("x").has(column(*cells)).tolist() == [cell == positive for cell in cells]


def test_a_pair_without_a_natural_positive_says_which_it_takes() -> None:
    cells = column("minor", "major", name="mode")
    labels = Trait("mode").read(cells)
    assert labels.positive == "minor"
    assert not labels.natural
    assert "'minor' counts as positive" in labels.note
    assert "mode=major" in labels.note
    assert Trait("mode", "major").read(cells).positive == "major"
    assert Trait("mode", "major").read(cells).note == ""
    with pytest.raises(DataError, match="name a class, as in mode=major"):
        Trait("mode").has(cells)


def test_names_like_missing_values_are_classes_and_empty_cells_are_not() -> None:
    labels = Trait("x").read(column("None", "NA", "nan", "", "  ", None, float("nan"), "null"))
    assert labels.classes == ("NA", "None", "nan", "null")
    assert labels.n_missing == 4


def test_classes_that_differ_in_case_are_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        labels = Trait("genre").read(column("Jazz", "jazz", "rock", " jazz  "))
    assert labels.classes == ("Jazz", "jazz", "rock")
    assert labels.y.tolist() == [0, 1, 2, 1]
    assert "differ in case only" in caplog.text
    with pytest.raises(DataError, match="did you mean 'rock'"):
        Trait("genre", "ROCK").read(column("jazz", "rock"))


@pytest.mark.parametrize("cell", ["piano;drums", "piano|drums", "piano, drums", "drums/piano", "piano + flute"])
def test_several_tags_in_a_cell_are_no_class(cell: str) -> None:
    for trait in (Trait("tags"), Trait("tags", "piano")):
        with pytest.raises(DataError, match="several tags in one cell"):
            trait.read(column(cell, "piano", "drums"))


@pytest.mark.parametrize("cell", ["R&B/Soul", "Drum, Bass", "C/D", "rock + roll"])
def test_a_name_with_a_mark_in_it_stays_a_class(cell: str) -> None:
    assert Trait("genre", cell).read(column(cell, "jazz", "pop")).y.tolist() == [1, 0, 0]


def test_numbers() -> None:
    assert Trait("takes").read(column(1, 2.0, "3", 1)).classes == ("1", "2", "3")
    graded = Trait("tempo").read(column(*range(60, 75), None))
    assert graded.graded
    assert graded.positive == "more"
    assert graded.n_missing == 1
    assert Trait("singer").read(column("01", "1", "02")).classes == ("01", "1", "02")
    with pytest.raises(DataError, match="infinite"):
        Trait("tempo").read(column(*range(20), float("inf")))
    with pytest.raises(DataError, match="'fast' is not a number"):
        Trait("tempo").read(column(1, 2, "fast"), "graded")
    with pytest.raises(DataError, match="nothing to probe"):
        Trait("tempo").read(column(3, 3, 3), "graded")


@pytest.mark.parametrize(
    ("trait", "cells", "match"),
    [
        ("drums", ("yes", "yes"), "one class"),
        ("x", (None, ""), "no clip has a label"),
        ("x=a", ("a", "a"), "every labelled clip has x=a"),
        ("x=z", ("a", "b"), "the labels are a, b"),
        ("x=a|z", ("a", "b"), "no clip has x=z"),
    ],
)
def test_what_cannot_be_probed_is_refused(trait: str, cells: tuple[object, ...], match: str) -> None:
    with pytest.raises(DataError, match=match):
        Trait.parse(trait).read(column(*cells))


def test_one_class_against_another_leaves_out_the_rest() -> None:
    cells = column("piano", "flute", "organ", None, "piano", name="instrument")
    labels = Trait.parse("instrument=piano|flute").read(cells)
    assert labels.keep.tolist() == [True, True, False, False, True]
    assert labels.y.tolist() == [1, 0, 1]
    assert (labels.against, labels.positive) == ("flute", "piano")
    assert Trait.parse("instrument=piano|flute").lacks(cells).tolist() == [False, True, False, False, False]
    assert Trait.parse("instrument=piano").lacks(cells).tolist() == [False, True, True, False, False]


def test_a_label_that_is_not_there() -> None:
    with pytest.raises(DataError, match="no label 'genre', only drums"):
        Trait("genre").read(pd.DataFrame({"drums": [0, 1], "group": ["a", "b"]}))


@settings(max_examples=500, deadline=None)
@given(
    st.lists(st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | WORDS, max_size=8), st.sampled_from("abcx")
)
def test_any_cells_are_read_or_refused_in_a_sentence(cells: list[object], choice: str) -> None:
    for trait in (Trait("x"), Trait("x", choice), Trait("x", choice, "d")):
        for ask in (trait.read, trait.has, trait.lacks):
            try:
                answer = ask(column(*cells))
            except DataError as error:
                assert str(error).endswith((".", "?"))
                continue
            if isinstance(answer, np.ndarray):
                assert answer.shape == (len(cells),)
            else:
                assert answer.y.shape == (answer.keep.sum(),)
                assert not answer.graded or np.isfinite(answer.y.astype(float)).all()
