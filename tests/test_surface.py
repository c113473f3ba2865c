"""What a user meets: names that complete, pages of help that say what they must, examples that run."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import interp

ROOMS = [
    "interp", "interp.data", "interp.directions", "interp.geometry", "interp.judges", "interp.mechanisms",
    "interp.plots", "interp.probes", "interp.report", "interp.steering", "interp.study", "interp.testbed",
    "interp.validation",
]  # fmt: skip
# Without an example of their own, for a reason.
NO_EXAMPLE = {
    "interp.geometry.map_directions": "UMAP compiles itself for half a minute",
    "interp.geometry.project": "UMAP compiles itself for half a minute",
    "interp.study.main": "reads the command line",
    "interp.validation.validate": "a whole experiment, for minutes",
}


def _public(room: str) -> list[tuple[str, object]]:
    module = importlib.import_module(room)
    return [(f"{room}.{name}", getattr(module, name)) for name in module.__all__]


def _described(room: str) -> list[tuple[str, object]]:
    return [(name, thing) for name, thing in _public(room) if inspect.isfunction(thing) or inspect.isclass(thing)]


@pytest.mark.parametrize("room", ROOMS)
def test_completion_shows_exactly_what_is_public(room: str) -> None:
    module = importlib.import_module(room)
    assert isinstance(module, ModuleType) and len(set(module.__all__)) == len(module.__all__)
    files = {found.name for found in pkgutil.iter_modules(interp.__path__) if not found.name.startswith("_")}
    expected = {*module.__all__, *(files if room == "interp" else ())}
    assert {name for name in dir(module) if not name.startswith("__")} == expected
    assert all(hasattr(module, name) for name in expected)


def test_rooms_come_when_they_are_asked_for() -> None:
    code = (
        "import sys, interp; assert 'interp.judges' not in sys.modules; interp.judges.hears; interp.plots.style; "
        "print('interp.judges' in sys.modules, hasattr(interp, 'kitchen'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=_root())
    assert done.stdout.split() == ["True", "False"]


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_says_what_it_is(room: str) -> None:
    silent = [name for name, thing in _described(room) if len((thing.__doc__ or "").strip()) < 20]
    assert not silent
    assert (importlib.import_module(room).__doc__ or "").strip()


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_function_has_an_example_that_runs(room: str) -> None:
    """Examples are run as tests; here is asked that there are any."""
    functions = [(name, thing) for name, thing in _described(room) if inspect.isfunction(thing)]
    assert not [name for name, thing in functions if ">>>" not in (thing.__doc__ or "") and name not in NO_EXAMPLE]


def test_no_exception_outlives_its_reason() -> None:
    things = {name: thing for room in ROOMS for name, thing in _described(room)}
    assert not [name for name in NO_EXAMPLE if name not in things or ">>>" in (things[name].__doc__ or "")]


def _root() -> Path:
    return Path(interp.__file__).parents[1]
