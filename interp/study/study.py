"""One question answered by one script: configuration in, tables, figures and an answer out.

A study is a class that says what its steps are; caching, the command line, the page and everything that studies share
(model, judge, labelled music, activations) are here. It may live in any file::

    @dataclass(frozen=True)
    class Config(Common):
        \"\"\"What it does.\"\"\"

    class Layers(Study[Config]):
        \"\"\"Which layer hears it?\"\"\"

        @step(per="trait")
        def probes(self, trait):
            return probe(self.activations("resid"), trait, sites="resid", seed=self.config.seed).table

        def answer(self, t):
            best = t["probes"].sort_values("test_score").iloc[-1]
            yield f"{best.site} hears it best."

    if __name__ == "__main__":
        main(Layers)
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import logging
import sys
import time
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import pandas as pd

from interp import tables
from interp._terminal import err, say, sentences
from interp.errors import DataError
from interp.study.cache import Cache, Step
from interp.study.config import Common, flags, quoted, read_flags
from interp.study.material import RENDERED, Material, content_of
from interp.study.page import Drawing, write_page
from interp.traits import Trait

if TYPE_CHECKING:
    pass

__all__ = ["Study", "main"]

log = logging.getLogger(__name__)
C = TypeVar("C", bound=Common)
_LONG = 200
"""Rows beyond which nobody reads a table in a text or a paper: it is written as CSV alone."""


class Study(Material[C]):
    """A study; subclasses name their configuration, ``Study[Config]``, and have steps.

    The first line of a subclass's docstring is the title of its page, the first paragraph after it the lead.

    Parameters
    ----------
    config : dataclass, optional
        The defaults when not given.
    progress : bool
        Show progress bars.

    Attributes
    ----------
    config : dataclass
    traits : tuple of Trait
        Of ``config.traits``.
    paragraphs : tuple of str
        The answer, after :meth:`run`.
    made_by : dict
        What made the results: command, model, data, judge, seed, code; stands in every figure and at the foot of the
        page.

    Raises
    ------
    DataError
        If the configuration cannot work (:meth:`check`); before anything is loaded or made.
    """

    Config: ClassVar[type[Common]] = Common
    unused: ClassVar[tuple[str, ...]] = ()
    """Fields of the configuration that mean nothing here; they are no flags, and refused when they are given."""
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Further names under which the study is run, and what differs then: ``{"style": {"trait": "genre"}}``."""
    listens: ClassVar[bool] = True
    """Whether a judge is always needed; it is then refused before any work if it cannot hear what it is asked for."""
    only_drawn: ClassVar[tuple[str, ...]] = ()
    """Fields of the configuration that no step depends on."""

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        for base in getattr(cls, "__orig_bases__", ()):
            for kind in typing.get_args(base) if isinstance(typing.get_origin(base), type) else ():
                if isinstance(kind, type) and issubclass(kind, Common):
                    cls.Config = kind

    def __init__(self, config: C | None = None, *, progress: bool = True) -> None:
        self.config = typing.cast(C, self.Config()) if config is None else config
        self.progress = progress
        self.paragraphs: tuple[str, ...] = ()
        for field in dataclasses.fields(self.config):
            if field.name in self.unused and getattr(self.config, field.name) != field.default:
                raise DataError(f"the study {self.name()} has no use for {field.name}: leave it out.")
        self.traits = tuple(map(Trait.parse, self.config.traits))
        self.check()

    # What a subclass says --------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Refuse a configuration that cannot work, before any work."""

    def tables(self) -> dict[str, pd.DataFrame]:
        """Every table, as it is written; by default those of all steps that are shown."""
        return {name: getattr(self, name).all() for name, item in self.steps().items() if item.shown}

    def answer(self, t: Mapping[str, pd.DataFrame]) -> Iterator[str]:
        """What the tables say, a paragraph at a time."""
        yield from ()

    def figures(self, t: Mapping[str, pd.DataFrame]) -> Iterator[Drawing]:
        """The figures, in the order of the page.

        Yields
        ------
        (name, axes, caption)
            A figure; it is written as ``<name>.png`` and ``.pdf``, its numbers beside it.
        str
            A paragraph; with ``#`` before it, the heading of a section.
        """
        yield from ()

    def recordings(self, t: Mapping[str, pd.DataFrame]) -> Iterator[tuple[str, pd.DataFrame]]:
        """Sounds to listen to: a caption, and a table in which paths of sounds become players."""
        yield from ()

    @classmethod
    def steps(cls) -> dict[str, Step[Any]]:
        """The steps in the order in which they are written."""
        steps: dict[str, Step[Any]] = {}
        for base in reversed(cls.__mro__):
            steps |= {name: item for name, item in vars(base).items() if isinstance(item, Step)}
        return steps

    @classmethod
    def name(cls) -> str:
        """The module's name, which is that of the study."""
        module = sys.modules.get(cls.__module__)
        spec = getattr(module, "__spec__", None)
        full = cls.__module__ if cls.__module__ != "__main__" else spec.name if spec else ""
        return full.rpartition(".")[2] or Path(getattr(module, "__file__", None) or cls.__name__).stem

    @classmethod
    def program(cls) -> str:
        """How the study is started."""
        module = sys.modules.get(cls.__module__)
        spec = getattr(module, "__spec__", None)
        if cls.__module__ == "__main__" and spec is None:
            file, here = Path(getattr(module, "__file__", None) or cls.name()), Path.cwd()
            return f"python {file.relative_to(here) if file.is_relative_to(here) else file}"
        return f"python -m {spec.name if spec else cls.__module__}"

    @property
    def command(self) -> str:
        """The command that gives these results, wherever they are written to."""
        config = dataclasses.replace(self.config, out=type(self.config).out)
        return " ".join([self.program(), quoted(flags(config))]).strip()

    @functools.cached_property
    def cache(self) -> Cache:
        """Where steps are kept."""
        left_out = {"out", "data", *self.only_drawn}
        parts = {k: v for k, v in dataclasses.asdict(self.config).items() if k not in left_out}
        parts |= {"study": self.name(), "data": RENDERED if self.rendered else content_of(self._all_clips)}
        parts |= {"fingerprint": self.model.fingerprint, "code": self.code}
        for name in self.config.judge.split(","):
            own = Path(name.strip().rpartition(":")[0])
            if own.suffix == ".py" and own.is_file():  # a judge of one's own is code too
                parts["judge"] = f"{parts['judge']} {hashlib.sha256(own.read_bytes()).hexdigest()}"
        return Cache(self.config.out / ".cache", parts)

    @functools.cached_property
    def made_by(self) -> dict[str, Any]:
        c = self.config
        parts: dict[str, Any] = {"command": self.command, "model": f"{self.model.name} {self.model.fingerprint[:12]}"}
        parts |= {"data": RENDERED if self.rendered else str(c.data), "seed": c.seed}
        if "judges" in self.__dict__:
            alone = all(judge.independent for judge in self.judges)
            parts["judge"] = f"{c.judge or self.judge.name}{'' if alone else ' (NOT independent)'}"
        return parts | {"code": self.code}

    # Running ---------------------------------------------------------------------------------------------------------

    def run(self) -> dict[str, pd.DataFrame]:
        """Make every table and figure, and write them, the answer and the page to ``config.out``.

        Returns
        -------
        dict of str to DataFrame
            Of :meth:`tables`.
        """
        out, start = self.config.out, time.perf_counter()
        if self.listens:
            assert self.judge is not None  # refused before any work
        made = self.tables()
        for name, table in made.items():
            tables.write(table, out / name, formats=("csv", "md", "tex") if len(table) <= _LONG else ("csv",))
        self.paragraphs = tuple(self.answer(made))
        write_page(self, made, self.paragraphs)
        log.info("%s: %.0f s", self.name(), time.perf_counter() - start)
        return made


def main(study: type[Study[Any]], argv: Sequence[str] | None = None) -> dict[str, pd.DataFrame]:
    """Run a study from the command line: read its flags, run it, say what it found and where it lies.

    What goes wrong is told in one sentence, with exit status 1 (2 where the command cannot be read).

    Parameters
    ----------
    study : type
        A subclass of :class:`Study`.
    argv : sequence of str, optional
        The words of the command line; those of the process by default.
    """
    doc = getattr(sys.modules.get(study.__module__), "__doc__", None) or study.__doc__
    words = sys.argv[1:] if argv is None else argv
    with sentences(status=2):
        config = read_flags(study.Config, words, prog=study.program(), doc=doc, unused=study.unused)
    with sentences():
        logging.basicConfig(format="%(message)s", stream=sys.stderr)
        logging.getLogger("interp.study").setLevel(logging.INFO)
        running = study(config)
        made = running.run()
        for paragraph in running.paragraphs:
            say(paragraph)
        err().print(f"Tables, figures and the page: {config.out / 'index.html'}", style="dim", markup=False)
    return made
