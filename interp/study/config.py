"""A study's configuration: fields that every study has, and how the command line reads and writes them.

Flags are typed by the annotations of the dataclass. What cannot be read is refused in one sentence; so is a word that
is no flag.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import inspect
import math
import re
import shlex
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NoReturn, TypeVar

from interp.errors import DataError

__all__ = ["SHORTEST", "Common", "flags", "quoted", "read_flags"]

C = TypeVar("C", bound="Common")


@dataclass(frozen=True)
class Common:
    """What every study takes; each field is a flag of the command line.

    Attributes
    ----------
    out : Path
        Folder of tables, figures, sounds and the page.
    model : str
        tiny, a checkpoint folder, or a hub name.
    data : Path or None
        Folder of labelled audio. Without it music is rendered, for the model that ships; rendered says so for any.
    judge : str
        Who listens, by a name that interp.judges.load takes; when empty, rendered for the model that ships, and tagger
        for any other.
    traits : tuple of str
        Labels, or classes of one: drums, genre=jazz, instrument=flute|piano.
    n_clips : int
        Clips to render; a folder is taken whole.
    n_seeds : int
        Paired pieces of every arm.
    seconds : float
        Length of a piece, the sound to continue included.
    prompt_seconds : float
        Length of the sound to continue.
    guidance : float
        Coefficient of classifier-free guidance where there is a text.
    seed : int
        Of everything that is drawn.

    Raises
    ------
    DataError
        If a number is not finite, a whole one is negative, a part has a single seed (what is steered is compared with
        its unsteered twin, over seeds), or what is left to generate is too short to be judged.

    Examples
    --------
    >>> Common(seed=-1)
    Traceback (most recent call last):
    interp.errors.DataError: --seed is -1: give 0 or more.
    """

    may_be_left_out: ClassVar[tuple[str, ...]] = ()
    """Numbers of seeds that may be 0, which leaves their part out."""

    out: Path = Path("figures")
    model: str = "tiny"
    data: Path | None = None
    judge: str = ""
    traits: tuple[str, ...] = ("drums", "instrument=flute", "genre=jazz")
    n_clips: int = 400
    n_seeds: int = 32
    seconds: float = 4.0
    prompt_seconds: float = 1.5
    guidance: float = 2.0
    seed: int = 0

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            name, value = _flag(item.name), getattr(self, item.name)
            for number in value if isinstance(value, tuple) else (value,):
                if isinstance(number, float) and not math.isfinite(number):
                    raise DataError(f"{name} is {number}: give a finite number.")
                if isinstance(number, int) and not isinstance(number, bool) and number < 0:
                    raise DataError(f"{name} is {number}: give 0 or more.")
            left_out = value == 0 and item.name in self.may_be_left_out
            if item.name.endswith("_seeds") and value < 2 and not left_out:
                raise DataError(f"{name} is {value}: steering compares twins, so give two seeds or more.")
        if not 0 <= self.prompt_seconds <= self.seconds - SHORTEST + 1e-9:
            raise DataError(
                f"{self.seconds:g} s less a prompt of {self.prompt_seconds:g} s leave too little to judge: leave "
                f"{SHORTEST:g} s or more."
            )


SHORTEST = 0.8
"""Seconds that a judge can embed."""


def read_flags(
    config: type[C], argv: Sequence[str], *, prog: str = "", doc: str | None = None, unused: Sequence[str] = ()
) -> C:
    """Read a configuration from the words of a command line.

    Parameters
    ----------
    config : type
        A dataclass whose fields are text, paths, numbers, yes/no (``--x``, ``--no-x``), one of several words
        (``Literal``), any of these or None, or tuples of them, written with commas.
    argv : sequence of str
        The words after the program's name.
    prog, doc : str
        What ``--help`` says above the flags.
    unused : sequence of str
        Fields that are no flags.

    Raises
    ------
    DataError
        If a word is no flag, or a value cannot be read as what its field is.

    Examples
    --------
    >>> read_flags(Common, ["--traits", "drums, genre=jazz", "--n-clips", "50", "--data", "music"])
    ... # doctest: +ELLIPSIS
    Common(out=...('figures'), ..., data=...('music'), ..., traits=('drums', 'genre=jazz'), n_clips=50, ...)
    >>> read_flags(Common, ["--n-clips", "many"])
    Traceback (most recent call last):
    interp.errors.DataError: cannot read --n-clips 'many': give a whole number.
    >>> read_flags(Common, ["--n-clip", "5"])
    Traceback (most recent call last):
    interp.errors.DataError: there is no flag --n-clip: did you mean --n-clips? --help lists them all.
    """
    parser = _Parser(prog=prog or None, description=doc, allow_abbrev=False, add_help=True,
                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    descriptions = _descriptions(config)
    kinds = typing.get_type_hints(config)
    fields = [item for item in dataclasses.fields(config) if item.name not in unused]
    for item in fields:
        kind, name = kinds[item.name], _flag(item.name)
        default = _written(item.default) or "none"
        text = f"{descriptions.get(item.name, '')} (default {default})".strip().replace("%", "%%")
        if kind is bool:
            parser.add_argument(name, action=argparse.BooleanOptionalAction, default=item.default, help=text)
        else:
            parser.add_argument(name, type=str, default=None, metavar=_noun(kind)[1], help=text)
    words: list[str] = []
    for word in argv:
        if words and words[-1].startswith("--") and "=" not in words[-1] and re.match(r"-[\d.]", word):
            words[-1] += f"={word}"  # numbers below zero, which argparse takes for flags where there are several
        else:
            words.append(word)
    known, unknown = parser.parse_known_args(words)
    if unknown:
        _refuse(unknown[0], [_flag(item.name) for item in fields])
    values = {}
    for item in fields:
        text = getattr(known, item.name)
        if isinstance(text, str):
            values[item.name] = _value(kinds[item.name], text, _flag(item.name))
        elif text is not None:
            values[item.name] = text
    return config(**values)


def flags(config: Common) -> list[str]:
    """The words of a command line that give this configuration: what differs from the defaults.

    Examples
    --------
    >>> flags(Common(traits=("drums", "bass"), seed=3))
    ['--traits', 'drums,bass', '--seed', '3']
    """
    words: list[str] = []
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if value == item.default:
            continue
        if isinstance(value, bool):
            words.append(_flag(item.name) if value else f"--no-{_flag(item.name)[2:]}")
        else:
            words += [_flag(item.name), _written(value) or "none"]
    return words


def quoted(words: Sequence[str]) -> str:
    """Words as a shell reads them."""
    return " ".join(map(shlex.quote, words))


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are exceptions."""

    def error(self, message: str) -> NoReturn:
        raise DataError(f"{message.removeprefix('argument ')}: --help lists what can be said.")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _written(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else "" if value is None else str(value)


def _refuse(word: str, names: Sequence[str]) -> NoReturn:
    flag = word.split("=")[0]
    if not flag.startswith("-"):
        raise DataError(f"{word!r} is no flag: write --name value, and lists with commas and no word between.")
    near = difflib.get_close_matches(flag, names, n=1)
    raise DataError(f"there is no flag {flag}: {f'did you mean {near[0]}? ' if near else ''}--help lists them all.")


_READERS: dict[Any, tuple[Callable[[str], Any], str, str]] = {
    int: (int, "a whole number", "N"),
    float: (float, "a number", "X"),
    str: (str, "text", "TEXT"),
    Path: (Path, "a path", "PATH"),
}


def _noun(kind: Any) -> tuple[str, str]:
    """What a field is, in words and in capitals."""
    inner = [part for part in typing.get_args(kind) if part not in (type(None), Ellipsis)]
    if typing.get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, inner))}", "|".join(map(str, inner))
    if typing.get_origin(kind) is tuple:
        return f"{_noun(inner[0])[0]}, or several with commas", f"{_noun(inner[0])[1]},..."
    if typing.get_origin(kind) in (typing.Union, types.UnionType) and len(inner) == 1:
        return f"{_noun(inner[0])[0]}, or none", _noun(inner[0])[1]
    if kind not in _READERS:
        raise TypeError(f"a field of a configuration cannot be {kind}: see interp.study.config.read_flags.")
    return _READERS[kind][1:]


def _value(kind: Any, text: str, flag: str) -> Any:
    try:
        return _parsed(kind, text.strip())
    except ValueError:
        raise DataError(f"cannot read {flag} {text!r}: give {_noun(kind)[0]}.") from None


def _parsed(kind: Any, text: str) -> Any:
    """Read text as a field's type; ValueError where it is none."""
    inner = [part for part in typing.get_args(kind) if part not in (type(None), Ellipsis)]
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return None if text.lower() in ("", "none") else _parsed(inner[0], text)
    if origin is tuple:
        parts = [] if text.lower() == "none" else [part.strip() for part in text.split(",")]
        return tuple(_parsed(inner[0], part) for part in parts if part)
    if origin is Literal:
        return inner[[str(choice) for choice in inner].index(text)]
    return _READERS[kind][0](text)


def _descriptions(config: type) -> dict[str, str]:
    """What the NumPy-style docstrings of a dataclass and its bases say of each attribute."""
    descriptions: dict[str, str] = {}
    for base in reversed(config.__mro__):
        names: list[str] = []
        for line in inspect.cleandoc(base.__doc__ or "").splitlines() if dataclasses.is_dataclass(base) else ():
            if " : " in line and not line.startswith(" "):
                names = [name.strip() for name in line.split(" : ")[0].split(",")]
                descriptions |= dict.fromkeys(names, "")
            elif line.startswith("    ") and names:
                descriptions |= {name: f"{descriptions[name]} {line.strip()}".strip() for name in names}
            else:
                names = []
    return {name: text.rstrip(".") for name, text in descriptions.items()}
