"""Every figure and table of every study, each into its own folder.

    make figures       or          python -m analyses.figures --out figures --only demo,direction_geometry

A study is a class in a module of this package; some are run under several names (style transfer is timbre transfer of
genres). Steps that are done are kept, so that the same command goes on where it was stopped. What is said for all
(``--model``, ``--data``, ``--judge``, ``--seed``, sizes) is handed to every study that has a use for it.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import analyses
from interp._terminal import err, sentences
from interp.errors import DataError
from interp.study import Common, Study
from interp.study.config import read_flags

__all__ = ["Config", "main", "run", "studies"]


@dataclass(frozen=True)
class Config(Common):
    """Which studies, where to, and what is said for all of them.

    Attributes
    ----------
    only : tuple of str
        Names of studies; all of them when empty.
    """

    only: tuple[str, ...] = ()


def studies() -> dict[str, tuple[type[Study[Any]], dict[str, Any]]]:
    """Every study by the name of its folder, the demo first, with what differs from its defaults."""
    known: dict[str, tuple[type[Study[Any]], dict[str, Any]]] = {}
    names = [module.name for module in pkgutil.iter_modules(analyses.__path__) if not module.name.startswith("_")]
    for name in sorted(set(names) - {"figures"}, key=lambda name: (name != "demo", name)):
        module = importlib.import_module(f"analyses.{name}")
        for item in vars(module).values():
            if isinstance(item, type) and issubclass(item, Study) and item.__module__ == module.__name__:
                known |= {name: (item, {})} | {other: (item, dict(what)) for other, what in item.variants.items()}
    return known


def run(config: Config, *, progress: bool = True) -> list[Path]:
    """Run the studies one after the other.

    Returns
    -------
    list of Path
        Their folders.

    Raises
    ------
    DataError
        If a name is not that of a study.
    """
    known = studies()
    wrong = [name for name in config.only if name not in known]
    if wrong:
        raise DataError(f"there is no study {', '.join(map(repr, wrong))}: there are {', '.join(known)}.")
    asked = {f.name: getattr(config, f.name) for f in dataclasses.fields(Common) if f.name != "out"}
    asked = {name: value for name, value in asked.items() if value != getattr(Common(), name)}
    folders = []
    for name in config.only or known:
        study, differs = known[name]
        fits = {field: value for field, value in asked.items() if field not in study.unused}
        folder, start = config.out / name, time.perf_counter()
        err().print(f"== {name} -> {folder}")
        study(dataclasses.replace(study.Config(), **fits | differs, out=folder), progress=progress).run()
        err().print(f"== {name}: {time.perf_counter() - start:.0f} s")
        folders.append(folder)
    return folders


def main(argv: Sequence[str] | None = None) -> None:
    """Run the studies that a command line names."""
    with sentences(status=2):
        config = read_flags(
            Config, sys.argv[1:] if argv is None else argv, prog="python -m analyses.figures", doc=__doc__
        )
    with sentences():
        run(config)


if __name__ == "__main__":
    main()
