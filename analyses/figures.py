"""Every figure and table of every study, each into its own folder.

    make figures       or          python -m analyses.figures --out figures --only demo,direction_geometry

A study is a module of this package with a ``Config`` and a ``main(config)``. Steps that are done are kept, so that the
same command goes on where it was stopped.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import time
from dataclasses import dataclass
from pathlib import Path

import analyses
from analyses._study import from_command_line
from interp.errors import DataError

__all__ = ["Config", "main", "studies"]


@dataclass(frozen=True)
class Config:
    """Which studies, and where to.

    Attributes
    ----------
    out : Path
        Folder that gets one folder for each study.
    only : tuple of str
        Names of studies; all of them when empty.
    """

    out: Path = Path("figures")
    only: tuple[str, ...] = ()


def studies() -> list[str]:
    """Names of the studies, the demo first."""
    names = [m.name for m in pkgutil.iter_modules(analyses.__path__) if not m.name.startswith("_")]
    return sorted((name for name in names if name != "figures"), key=lambda name: (name != "demo", name))


def main(config: Config | None = None) -> list[Path]:
    """Run the studies one after the other; return their folders.

    Raises
    ------
    DataError
        If a name is not that of a study.
    """
    config = Config() if config is None else config
    known = studies()
    wrong = [name for name in config.only if name not in known]
    if wrong:
        raise DataError(f"there is no study {', '.join(map(repr, wrong))}: there are {', '.join(known)}.")
    folders = []
    for name in config.only or known:
        module = importlib.import_module(f"analyses.{name}")
        folder = config.out / name
        print(f"== {name} -> {folder}", flush=True)
        start = time.perf_counter()
        module.main(dataclasses.replace(module.Config(), out=folder))
        print(f"== {name}: {time.perf_counter() - start:.0f} s", flush=True)
        folders.append(folder)
    return folders


if __name__ == "__main__":
    from interp.cli import sentences

    with sentences():
        main(from_command_line(Config, __doc__))
