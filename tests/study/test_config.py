"""Flags are typed by annotations; what cannot be read is refused in one sentence; a command gives itself back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.errors import DataError
from interp.study import Common
from interp.study.config import flags, read_flags


@dataclass(frozen=True)
class Config(Common):
    """A configuration with a field of every kind.

    Attributes
    ----------
    doses : tuple of float
        How far.
    layers : tuple of int
        Where.
    umap, quick : bool
        Draw the map; hurry.
    tau : float or None
        Threshold.
    rows : str
        Which rows.
    pilot_seeds, extra_seeds : int
        Seeds of two parts.
    """

    may_be_left_out: ClassVar[tuple[str, ...]] = ("extra_seeds",)

    doses: tuple[float, ...] = (1.0, 2.0)
    layers: tuple[int, ...] = ()
    umap: bool = True
    quick: bool = False
    tau: float | None = None
    rows: Literal["both", "cond"] = "both"
    pilot_seeds: int = 4
    extra_seeds: int = 4


def test_every_kind_of_field_is_read() -> None:
    words = "--doses=1,2.5 --layers 0,3 --no-umap --quick --tau .5 --rows cond --data x/y --extra-seeds 0"
    config = read_flags(Config, [*words.split(), "--traits", " drums , genre=jazz"])
    assert config == Config(
        doses=(1.0, 2.5), layers=(0, 3), umap=False, quick=True, tau=0.5, rows="cond", data=Path("x/y"), extra_seeds=0,
        traits=("drums", "genre=jazz"),
    )  # fmt: skip
    assert read_flags(Config, ["--tau", "none", "--data", "none", "--doses", "none"]) == Config(doses=())
    assert read_flags(Config, ["--doses", "-1"]).doses == (-1.0,)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--umap on", "'on' is no flag"),
        ("--traits drums, bass", "'bass' is no flag"),
        ("--tau low", "cannot read --tau 'low': give a number, or none"),
        ("--n-seeds 3.5", "cannot read --n-seeds '3.5': give a whole number"),
        ("--doses 1;2", "give a number, or several with commas"),
        ("--rows all", "give one of both, cond"),
        ("--dose 1", "there is no flag --dose: did you mean --doses"),
        ("--n-seed 3", "there is no flag --n-seed: did you mean --n-seeds"),
        ("--doses", "--doses: expected one argument"),
        ("--tau nan", "--tau is nan: give a finite number"),
        ("--seed -1", "--seed is -1: give 0 or more"),
        ("--pilot-seeds 1", "--pilot-seeds is 1: steering compares twins"),
        ("--pilot-seeds 0", "give two seeds or more"),
        ("--seconds 2 --prompt-seconds 1.5", "leave too little to judge"),
        ("--guidance 2", "there is no flag --guidance"),
    ],
)
def test_what_cannot_be_read_is_refused(words: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        read_flags(Config, words.split(), unused=("guidance",))


def test_help_says_what_the_docstrings_say(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read_flags(Config, ["--help"], prog="python -m mine", doc="What is asked?", unused=("guidance",))
    told = " ".join(capsys.readouterr().out.split())
    expected = [
        "What is asked?",
        "--umap, --no-umap",
        "Draw the map; hurry (default True)",
        "How far (default 1.0,2.0)",
    ]
    for words in [*expected, "Folder of labelled audio.", "Threshold (default none)"]:
        assert words in told, words
    assert "--guidance" not in told


text = st.text(st.characters(whitelist_categories=("L", "N"), whitelist_characters="=|_ /.-"), min_size=1, max_size=9)
words = text.map(str.strip).filter(lambda word: word and word.lower() != "none" and not word.startswith("-"))


@given(
    traits=st.lists(words, min_size=1).map(tuple),
    doses=st.lists(st.floats(allow_nan=False, allow_infinity=False)).map(tuple),
    tau=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    data=st.none() | words.map(Path), umap=st.booleans(), seed=st.integers(0, 10**9),
)  # fmt: skip
def test_a_command_gives_the_configuration_that_it_was_made_of(**fields: object) -> None:
    config = replace(Config(), **fields)  # type: ignore[arg-type]
    assert read_flags(Config, flags(config)) == config
