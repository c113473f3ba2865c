"""Judges by name: what ``--judge`` takes on every command and study, and ``judge=`` in Python.

==================  ================================================================================================
rendered            the judge of the shipped model's music (:class:`RenderedJudge`): the default there
tagger              musicnn's tags, trained on recorded music (:class:`TaggerJudge`), without a network: the default for
                    every other model. Calibrated and measured anew on labelled clips where there are enough of them.
                    Tags for a trait of one's own, with labelled clips: ``tagger:orchestral=classical+strings+violin``,
                    several traits apart by ``;``
clap, clap:WHERE    CLAP, asked in words (:class:`ClapJudge`); WHERE is a name on the hub or a folder
trained             a judge trained on the sound of labelled clips (:func:`interp.judges.train`)
probe               the model's own probes of labelled clips (:class:`ProbeJudge`): not independent
dsp, quality        measure sound and answer no question
FILE.py:NAME        a class or function of one's own, from a file; ``package.module:NAME`` from a module
==================  ================================================================================================

:func:`register` adds a name. A judge that was made for other music than the model's is refused, never assumed.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.errors import DataError
from interp.judges.base import Judge, named, require
from interp.traits import Trait

if TYPE_CHECKING:
    from interp.clips import Clips
    from interp.model import MusicGen

__all__ = ["load", "makes_rendered_music", "names", "panel", "register"]

Factory = Callable[..., Judge]
_FACTORIES: dict[str, Factory | str] = {}
"""Name -> what gives the judge, or where it is: ``module:NAME``, imported when it is asked for."""


def register(name: str, factory: Factory | str) -> None:
    """Make a judge known by a name.

    Parameters
    ----------
    name : str
        What ``--judge`` and :func:`load` take; letters, digits, ``-`` and ``_``.
    factory : callable or str
        A class or function that gives the judge, or where it is (``"package.module:NAME"``). It is called with those of
        the keywords ``where`` (what follows the name after a colon), ``model``, ``data`` (:class:`~interp.clips.Clips`
        or None) and ``traits`` (a tuple of :class:`~interp.traits.Trait`) that it takes.

    Raises
    ------
    DataError
        If the name is taken or malformed.

    Examples
    --------
    >>> class Silence:
    ...     name, independent, questions = "silence", True, {"silent": ["silent"]}
    ...     def score(self, audio, sample_rate): ...
    ...     def accuracy_frame(self): ...
    >>> register("silence", Silence)
    >>> load("silence").name
    'silence'
    """
    if not name or not name.replace("-", "").replace("_", "").isalnum():
        raise DataError(f"a judge cannot be called {name!r}: use letters, digits, - and _.")
    if _place(_FACTORIES.get(name, factory)) != _place(factory):  # a cell may run again
        raise DataError(f"there is a judge {name!r} already: give yours another name.")
    _FACTORIES[name] = factory


def _place(factory: Factory | str) -> str:
    return factory if isinstance(factory, str) else f"{factory.__module__}:{factory.__qualname__}"


def names() -> list[str]:
    """Names of the judges that are known."""
    return sorted(_FACTORIES)


def load(
    name: str,
    *,
    model: MusicGen | str | None = None,
    data: Clips | Path | str | None = None,
    traits: Sequence[str | Trait] = (),
) -> Any:
    """Load the judge that a name stands for.

    Parameters
    ----------
    name : str
        As in the module; several with commas. Empty for the judge that goes with the model.
    model : MusicGen or str, optional
        Whose music is judged. A name, before the model is loaded, tells only whether a judge goes with it.
    data : Clips or path of a folder, optional
        Labelled clips, for judges that learn from them or are measured on them.
    traits : sequence of str or Trait
        What it will be asked for; refused at once if it cannot hear them.

    Returns
    -------
    Judge, or list of Judge
        A list where several are named.

    Raises
    ------
    DataError
        If there is no such judge, it was made for other music than the model's, it needs labelled clips, or it cannot
        hear a trait.

    Examples
    --------
    >>> load("quality").name, [judge.name for judge in load("dsp,quality")]
    ('quality', ['dsp', 'quality'])
    """
    judges = panel(name, model=model, data=data, traits=traits)
    return judges if "," in name else judges[0]


def panel(
    judge: str | Judge | Sequence[str | Judge] | None,
    *,
    model: MusicGen | str | None = None,
    data: Clips | Path | str | None = None,
    traits: Sequence[str | Trait] = (),
) -> list[Judge]:
    """One judge or several, however they are given: by name, as objects, or None for the one that goes with the model.

    Parameters
    ----------
    judge : str, Judge, a sequence of them, or None
        Who judges; the first one decides where only one can.
    model, data, traits
        As in :func:`load`.

    Returns
    -------
    list of Judge
        With different names, each of which can hear every trait.

    Raises
    ------
    DataError
        As :func:`load`, or if an object is no judge.

    Examples
    --------
    >>> [judge.name for judge in panel(["dsp", load("quality")])]
    ['dsp', 'quality']
    """
    wanted = tuple(map(Trait.parse, traits))
    entries: list[str | Judge] = list(judge) if isinstance(judge, list | tuple) else [judge or ""]  # type: ignore[list-item]
    parts: list[str | Judge] = []
    for entry in entries:
        parts += [part.strip() for part in entry.split(",")] if isinstance(entry, str) else [entry]
    clips = _clips(data)
    judges = [_named(part, model, clips, wanted) if isinstance(part, str) else _checked(part) for part in parts]
    named(judges)
    require(judges, *wanted)
    return judges


def _named(name: str, model: MusicGen | str | None, data: Clips | None, traits: tuple[Trait, ...]) -> Judge:
    name = name or _default(model)
    model = None if isinstance(model, str) else model
    head, colon, where = name.partition(":")
    if head in _FACTORIES:
        known = _FACTORIES[head]
        factory = _imported(known) if isinstance(known, str) else known
    elif colon:
        factory, where = _imported(name), ""
    else:
        raise DataError(
            f"there is no judge {name!r}: use {', '.join(names())}, clap:FOLDER, or your own as FILE.py:NAME."
        )
    options = {"where": where, "model": model, "data": data, "traits": traits}
    if where and "where" not in _taken(factory, options):
        raise DataError(f"the judge {head!r} takes nothing after its name: write --judge {head}.")
    return _checked(factory(**_taken(factory, options)))


def _taken(factory: Factory, options: dict[str, Any]) -> dict[str, Any]:
    """Those keywords that a factory takes."""
    parameters = inspect.signature(factory).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return options
    return {key: value for key, value in options.items() if key in parameters}


def _checked(judge: Any) -> Judge:
    """A judge, or a sentence that says what it lacks to be one."""
    lacking = [
        part for part in ("name", "independent", "questions", "score", "accuracy_frame") if not hasattr(judge, part)
    ]
    if lacking:
        kind = getattr(judge, "__name__", type(judge).__name__)
        raise DataError(f"{kind} is no judge: it has no {', '.join(lacking)} (see interp.judges.Judge).")
    found: Judge = judge
    return found


def _imported(name: str) -> Factory:
    """A class or function from ``FILE.py:NAME`` or ``package.module:NAME``."""
    where, _, attribute = name.rpartition(":")
    try:
        if where.endswith(".py"):
            path = Path(where)
            spec = importlib.util.spec_from_file_location(path.stem, path)
            if not path.is_file() or spec is None or spec.loader is None:
                raise DataError(f"there is no file {where}: name the file that holds your judge, as in mine.py:Judge.")
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        else:
            module = importlib.import_module(where)
    except ImportError as error:
        raise DataError(
            f"there is no judge {name!r}: use {', '.join(names())}, or your own as FILE.py:NAME or package.module:NAME "
            f"({error})."
        ) from None
    factory = getattr(module, attribute, None)
    if not callable(factory):
        raise DataError(f"{where} has no class or function {attribute!r} that would give a judge.")
    found: Factory = factory
    return found


def _clips(data: Clips | Path | str | None) -> Clips | None:
    from interp.clips import Clips

    return Clips.from_folder(data) if isinstance(data, str | Path) else data


# What ships ------------------------------------------------------------------------------------------------------


def makes_rendered_music(model: MusicGen) -> bool:
    """Whether a model has the codec of the one that ships: it was trained on rendered music, from which sounds to
    continue can be rendered and which the judge ``rendered`` knows."""
    from interp.testbed.codec import MelCodec
    from interp.testbed.neural_codec import NeuralCodec

    return isinstance(model.codec, MelCodec | NeuralCodec)


def _default(model: MusicGen | str | None) -> str:
    """The judge that goes with a model: that of its own music where it ships, else ears trained on recorded music."""
    shipped = model == "tiny" if isinstance(model, str) else model is None or makes_rendered_music(model)
    return "rendered" if shipped else "tagger"


def _rendered(model: MusicGen | None = None) -> Judge:
    from interp.judges.rendered import RenderedJudge

    if model is not None and not makes_rendered_music(model):
        raise DataError(
            f"the judge 'rendered' was trained on the music of the model that ships, not on that of {model.name}: use "
            "another, or pass interp.judges.RenderedJudge() from Python if the music is alike."
        )
    return RenderedJudge()


def _tagger(
    where: str = "", model: MusicGen | None = None, data: Clips | None = None, traits: tuple[Trait, ...] = ()
) -> Judge:
    from interp.judges.base import can_hear
    from interp.judges.tagger import TaggerJudge, tags_of
    from interp.judges.trained import sounds

    chosen = _named_tags(where)
    codec = model is not None and makes_rendered_music(model)
    judge = TaggerJudge("codec round trip" if codec else "clean")
    asked = [Trait.parse(trait) for trait in chosen]
    asked += [trait for trait in traits if trait not in asked and tags_of(trait, chosen)]
    measured = [trait for trait in asked if str(trait) in chosen or _enough(data, trait)]
    unknown = [trait for trait in asked if trait not in measured and trait.answer not in judge.abstains]
    unknown = [trait for trait in unknown if not can_hear(judge, trait)]
    if unknown or (measured and data is None):
        raise DataError(
            f"what the tagger's tags for {', '.join(map(str, unknown or measured))} are worth was never measured: give "
            "clips that are labelled with it (--data FOLDER)."
        )
    if data is not None and measured:
        heard = sounds(data, model)
        what = "the labelled clips" if model is None else "the labelled clips, codec round trip"
        for trait in measured:
            judge.learn(trait, tags_of(trait, chosen), heard, 16_000, data.labels, what)
    return judge


def _enough(data: Clips | None, trait: Trait) -> bool:
    """Whether clips are labelled with a trait, and enough of them to calibrate tags on."""
    from interp.judges.tagger import FEWEST

    if data is None or trait.column not in data.labels:
        return False
    return min(int(trait.has(data.labels).sum()), int(trait.lacks(data.labels).sum())) >= FEWEST


def _named_tags(text: str) -> dict[str, list[str]]:
    """Tags by trait of ``trait=tag+tag;trait=tag``; a class with its label, ``genre=metal=metal+hard rock``."""
    chosen = {}
    for part in filter(None, text.split(";")):
        trait, equals, tags = part.rpartition("=")
        names = [name.strip() for name in tags.split("+")]
        if not equals or not all(names):
            raise DataError(
                f"cannot read {part!r}: write a trait and its tags, as in tagger:orchestral=strings+violin."
            )
        chosen[str(Trait.parse(trait))] = names
    return chosen


def _clap(
    where: str = "",
    model: MusicGen | None = None,
    data: Clips | None = None,
    traits: tuple[Trait, ...] = (),
) -> Judge:
    from interp.judges.audio import mono
    from interp.judges.clap import ClapJudge, clap_questions

    labels = None if data is None else data.labels
    device = "cpu" if model is None else str(model.device)
    judge = ClapJudge(where or None, clap_questions(traits, labels), device=device)
    if data is not None and any(question in data.labels for question in judge.questions):
        rate = data[0].sample_rate if model is None else model.sample_rate
        heard = [mono([clip.audio], clip.sample_rate, rate)[0] for clip in data]
        judge.measure(heard, rate, data.labels, "the labelled clips")
    return judge


def _trained(
    where: str = "", model: MusicGen | None = None, data: Clips | None = None, traits: tuple[Trait, ...] = ()
) -> Judge:
    from interp.judges.trained import train

    data = _clips(where) if where else data
    if data is None or not traits:
        raise DataError(
            "the judge 'trained' learns a trait from the sound of labelled clips: name the trait, and their folder "
            "(--data FOLDER, or --judge trained:FOLDER)."
        )
    return train(data, traits, model=model)


register("rendered", _rendered)
register("tagger", _tagger)
register("clap", _clap)
register("trained", _trained)
register("probe", "interp.validation.own_probes:probe_judge")
register("dsp", "interp.judges.dsp:DspJudge")
register("quality", "interp.judges.quality:QualityJudge")
