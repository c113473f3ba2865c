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
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np
import pandas as pd

import interp
from interp import tables
from interp._files import slug
from interp._terminal import err, say, sentences
from interp.clips import Clips
from interp.errors import DataError
from interp.study.cache import Cache, Step, fingerprint_of_code
from interp.study.config import Common, flags, quoted, read_flags
from interp.study.page import Drawing, write_page
from interp.traits import Trait

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

    from interp.judges import Judge
    from interp.model import MusicGen
    from interp.validation import Setting

__all__ = ["Study", "main"]

log = logging.getLogger(__name__)
C = TypeVar("C", bound=Common)
RENDERED = "rendered"
SHIPPED = "tiny"
_LONG = 200
"""Rows beyond which nobody reads a table in a text or a paper: it is written as CSV alone."""


class Study(Generic[C]):
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
    kept_apart: ClassVar[float] = 0.0
    """Share of a folder's groups that is kept from the probes, to be continued and compared with (:attr:`sounds`)."""
    unused: ClassVar[tuple[str, ...]] = ()
    """Fields of the configuration that mean nothing here; they are no flags, and refused when they are given."""
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Further names under which the study is run, and what differs then: ``{"style": {"trait": "genre"}}``."""
    listens: ClassVar[bool] = True
    """Whether a judge is always needed; it is then refused before any work if it cannot hear what it is asked for."""
    panel: ClassVar[bool] = False
    """Whether several judges may listen (:attr:`judges`), each of whom is reported; the first one decides."""
    only_drawn: ClassVar[tuple[str, ...]] = ()
    """Fields of the configuration that no step depends on."""

    config: C

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

    @property
    def judged(self) -> Sequence[Trait]:
        """What the judge is asked for; refused before any work if it cannot hear it."""
        return self.traits

    # What all studies share ------------------------------------------------------------------------------------------

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
    def code(self) -> str:
        """Fingerprint of the sources that the numbers come from."""
        return fingerprint_of_code(type(self))

    @functools.cached_property
    def model(self) -> MusicGen:
        """The model under study."""
        return interp.load(self.config.model)

    @property
    def rendered(self) -> bool:
        """Whether music is rendered, and not read from a folder."""
        return self.config.data is None or str(self.config.data) == RENDERED

    @property
    def judge(self) -> Judge:
        """Who listens; of several the one who decides."""
        return self.judges[0]

    @functools.cached_property
    def judges(self) -> list[Judge]:
        """All who listen."""
        from interp.judges.registry import panel

        c = self.config
        if c.data is None and c.model != SHIPPED and not Path(c.model).exists():
            raise _no_music(c.model)  # of a model of the hub: said before it is fetched
        data = None if self.rendered else self.clips
        if "," in c.judge and not self.panel:
            raise DataError(f"the study {self.name()} has one judge, not {c.judge}: name the one who decides.")
        return panel(c.judge, model=self.model, data=data, traits=self.judged)

    @functools.cached_property
    def _all_clips(self) -> Clips:
        c = self.config
        if c.data is not None and not self.rendered:
            return Clips.from_folder(c.data)
        from interp.judges.registry import makes_rendered_music

        if c.data is None and not makes_rendered_music(self.model):
            raise _no_music(self.model.name)
        from interp.data import render_clips

        return render_clips(c.n_clips, seed=c.seed, progress=self.progress)

    @functools.cached_property
    def _apart(self) -> NDArray[np.bool_]:
        if self.rendered or not self.kept_apart:
            return np.zeros(len(self._all_clips), dtype=bool)
        return held_back(self._all_clips, self.config.seed, self.kept_apart)

    @functools.cached_property
    def clips(self) -> Clips:
        """Labelled music that the probes hear."""
        return self._all_clips.subset(~self._apart) if self._apart.any() else self._all_clips

    @functools.cached_property
    def sounds(self) -> Clips | None:
        """Music of the folder that the probes never hear, to be continued; None where prompts are rendered."""
        return self._all_clips.subset(self._apart) if self._apart.any() else None

    def activations(
        self,
        sites: str | Sequence[str] = "heads, resid",
        *,
        clips: Clips | None = None,
        name: str = "",
        **settings: Any,
    ) -> xr.Dataset:
        """Activations of the clips, from a store beside the cache that a stopped run goes on filling.

        Parameters
        ----------
        sites, **settings
            As in :func:`interp.extract`.
        clips : Clips, optional
            Other clips than :attr:`clips`.
        name : str
            Of the store; by default it says which clips and sites are in it.
        """
        c = self.config
        chosen = self.clips if clips is None else clips
        content = f"rendered-{c.seed}-{c.n_clips}" if clips is None and self.rendered else content_of(chosen)
        parts = [self.model.fingerprint[:12], self.code, name or slug(str(sites)), content]
        store = c.out / ".cache" / f"{'-'.join(parts)}.zarr"
        store.parent.mkdir(parents=True, exist_ok=True)
        return interp.extract(self.model, chosen, sites=sites, out=store, progress=self.progress, **settings)

    def setting(self, **differs: Any) -> Setting:
        """How the study's music is made and heard (:class:`interp.validation.Setting`), with what differs."""
        from interp.validation import Setting

        c = self.config
        settings = {"seconds": c.seconds, "prompt_seconds": c.prompt_seconds, "guidance": c.guidance}
        return Setting(**{**settings, "progress": self.progress, **differs})

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


def _no_music(model: str) -> DataError:
    return DataError(
        f"{model} needs labelled music: give --data FOLDER, or say --data rendered for music like that of the model "
        "that ships."
    )


def held_back(clips: Clips, seed: int, share: float = 0.3) -> NDArray[np.bool_]:
    """Which clips of a folder are kept from the probes: whole groups, bool ``[clips]``.

    Examples
    --------
    >>> clips = Clips.from_arrays([np.zeros((1, 8), np.float32)] * 6, 16_000, pd.DataFrame({"group": list("aabbcc")}))
    >>> held_back(clips, 0).sum()
    np.int64(2)
    """
    groups = clips.labels["group"].astype(str).to_numpy() if "group" in clips.labels else np.asarray(clips.ids)
    names = np.unique(groups)
    kept = np.random.default_rng([seed, 6]).permutation(names)[: max(1, round(share * len(names)))]
    return np.isin(groups, kept)


def content_of(clips: Clips) -> str:
    """Sixteen hexadecimal digits of the audio and the labels of clips, in their order."""
    digest = hashlib.sha256(clips.labels.to_csv().encode())
    for i in range(len(clips)):
        digest.update(clips.key(i).encode())
    return digest.hexdigest()[:16]
