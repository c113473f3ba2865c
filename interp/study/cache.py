"""Steps of a study that are done once: what they made is kept on disk beside all that it depends on.

The key of the cache is the configuration, the model, the content of the data, and the *code*: a hash of the sources of
``interp`` and of the study's own file with the files beside it that it imports. So a correction never shows the table
of yesterday, and a run that was stopped goes on.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import json
import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

import numpy as np
import pandas as pd

from interp._files import atomic, slug
from interp.errors import DataError, StoreError

if TYPE_CHECKING:
    from interp.study.study import Study

__all__ = ["BoundStep", "Cache", "Step", "fingerprint_of_code", "once", "step"]

log = logging.getLogger(__name__)
R = TypeVar("R")


def step(per: str | None = None, *, shown: bool = True) -> Callable[[Callable[..., R]], Step[R]]:
    """Make a method of a study a step: what it returns is made once and kept.

    Parameters
    ----------
    per : str, optional
        ``"trait"`` makes one result for each of ``study.traits``, ``"pair"`` for each of ``study.pairs``, and so on:
        the method takes it as its argument.
    shown : bool
        Whether the table is among those that the study writes (:meth:`Study.tables`).

    Returns
    -------
    Step
        Called as the method is. ``self.scan(trait)`` is one result, ``self.scan.all()`` the tables of all one below
        the other. A step returns a DataFrame, :class:`~interp.directions.Directions`, arrays by name, or several of
        these (and what JSON can hold) by name.

    Examples
    --------
    >>> from interp.study import Study
    >>> class Levels(Study):
    ...     @step(per="trait")
    ...     def level(self, trait): ...
    >>> list(Levels.steps())
    ['level']
    """

    def wrap(make: Callable[..., R]) -> Step[R]:
        return Step(make, per, shown)

    return wrap


def once(make: Callable[..., R]) -> Callable[..., R]:
    """Make a method's results stay in memory, one for each set of arguments: probes, for example, of a trait."""

    @functools.wraps(make)
    def kept(self: Any, *items: Any) -> R:
        results = self.__dict__.setdefault("_once", {})
        if (make.__name__, items) not in results:
            results[make.__name__, items] = make(self, *items)
        value: R = results[make.__name__, items]
        return value

    return kept


class Step(Generic[R]):
    """A method whose result is kept; see :func:`step`."""

    def __init__(self, make: Callable[..., R], per: str | None, shown: bool) -> None:
        self.make, self.per, self.shown = make, per, shown
        self.name, self.__doc__ = make.__name__, make.__doc__

    @overload
    def __get__(self, study: None, owner: type) -> Step[R]: ...
    @overload
    def __get__(self, study: Study[Any], owner: type) -> BoundStep[R]: ...
    def __get__(self, study: Study[Any] | None, owner: type) -> Step[R] | BoundStep[R]:
        return self if study is None else BoundStep(self, study)


class BoundStep(Generic[R]):
    """A step of one study."""

    def __init__(self, step: Step[R], study: Study[Any]) -> None:
        self.step, self.study = step, study

    def __call__(self, *item: Any) -> R:
        """The result: read if it was made before, made and kept otherwise."""
        name = "_".join([self.step.name, *map(slug, item)])
        value: R = self.study.cache.get(name, lambda: self.step.make(self.study, *item))
        return value

    def items(self) -> list[Any]:
        """What there is a result for each of."""
        return list(getattr(self.study, f"{self.step.per}s"))

    def all(self, part: str = "") -> pd.DataFrame:
        """The tables of all items one below the other; an item that the table does not name becomes its first column.

        Parameters
        ----------
        part : str
            Which table, of a step that returns several.
        """

        def table(*item: Any) -> pd.DataFrame:
            value: Any = self(*item)
            chosen: pd.DataFrame = value[part] if part else value
            return chosen

        per = self.step.per
        if per is None:
            return table()
        parts = []
        for item in self.items():
            rows = table(item)
            if per not in rows:
                rows.insert(0, per, ":".join(item) if isinstance(item, tuple) else str(item))
            parts.append(rows)
        return pd.concat(parts, ignore_index=True).copy()  # many columns, in one piece


class Cache:
    """Results by name, in a folder of their own for each key.

    Parameters
    ----------
    folder : Path
        Where caches are kept.
    key : mapping
        All that the results depend on.

    Examples
    --------
    >>> import tempfile
    >>> cache = Cache(Path(tempfile.mkdtemp()), {"seed": 0})
    >>> cache.get("t", lambda: pd.DataFrame({"x": [1.5]}))["x"].tolist()
    [1.5]
    >>> cache.get("t", lambda: 1 / 0)["x"].tolist()  # not made again
    [1.5]
    """

    def __init__(self, folder: Path, key: Mapping[str, Any]) -> None:
        text = json.dumps(key, sort_keys=True, default=str, indent=1)
        self.folder = folder / hashlib.sha256(text.encode()).hexdigest()[:12]
        self._kept: dict[str, Any] = {}
        if not (self.folder / "key.json").exists():
            with atomic(self.folder / "key.json") as partial:
                partial.write_text(text + "\n")

    def get(self, name: str, make: Callable[[], Any]) -> Any:
        """What is kept under a name; made first if need be.

        Raises
        ------
        DataError
            If what is made is neither a DataFrame nor Directions nor arrays by name.
        StoreError
            If a kept file cannot be read, or the disk is full.
        """
        if name not in self._kept:
            path = self._path(name)
            if path is None:
                start = time.perf_counter()
                path = self._write(name, make())
                log.info("%s: %.1f s", name, time.perf_counter() - start)
            self._kept[name] = _read(path)
        return _copy(self._kept[name])

    def _path(self, name: str) -> Path | None:
        paths = (self.folder / f"{name}.{suffix}" for suffix in ("csv", "safetensors", "npz", "json"))
        return next((path for path in paths if path.exists()), None)

    def _write(self, name: str, value: Any) -> Path:
        from interp.directions import Directions

        path = self.folder / name
        if isinstance(value, pd.DataFrame):
            with atomic(path.with_name(f"{name}.csv")) as partial:
                value.to_csv(partial, index=False)
            return path.with_name(f"{name}.csv")
        if isinstance(value, Directions):
            return value.save(path.with_name(f"{name}.safetensors"))
        if isinstance(value, Mapping) and all(isinstance(part, np.ndarray) for part in value.values()):
            arrays: dict[str, Any] = {str(key): part for key, part in value.items()}
            with atomic(path.with_name(f"{name}.npz")) as partial:
                np.savez_compressed(partial, **arrays)
            return path.with_name(f"{name}.npz")
        if isinstance(value, Mapping):  # its parts first: the file that lists them says that all are there
            listed: dict[str, Any] = {}
            for key, part in value.items():
                plain = isinstance(part, str | int | float | list | tuple | type(None))
                listed[key] = {"value": part} if plain else {"file": self._write(f"{name}_{key}", part).name}
            with atomic(path.with_name(f"{name}.json")) as partial:
                partial.write_text(json.dumps(listed, indent=1) + "\n", encoding="utf-8")
            return path.with_name(f"{name}.json")
        raise DataError(
            f"the step {name} returns {type(value).__name__}: return a DataFrame, Directions, arrays by name, or "
            "several of these by name."
        )


def _copy(value: Any) -> Any:
    """A result that its user may change."""
    if isinstance(value, dict):
        return {key: _copy(part) for key, part in value.items()}
    return value.copy() if isinstance(value, pd.DataFrame) else value


def _read(path: Path) -> Any:
    from interp.directions import Directions

    try:
        if path.suffix == ".csv":
            table = pd.read_csv(path, keep_default_na=False, na_values=[""])
            return table.astype({"head": "Int64"}) if "head" in table.columns else table
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as kept:
                return {name: kept[name] for name in kept.files}
        if path.suffix == ".json":
            listed = json.loads(path.read_text(encoding="utf-8"))
            return {k: v["value"] if "value" in v else _read(path.with_name(v["file"])) for k, v in listed.items()}
    except (OSError, ValueError, EOFError) as error:
        raise StoreError(f"the kept {path} cannot be read ({error}): delete it, it will be made again.") from error
    return Directions.load(path)


def fingerprint_of_code(study: type) -> str:
    """Sixteen hexadecimal digits of the sources that a study's numbers come from.

    Parameters
    ----------
    study : type
        The class. Its own file counts, those of its bases, the files in the same folder that these import, and all of
        ``interp``.

    Raises
    ------
    DataError
        If the class was typed where no source is kept.
    """
    import interp

    assert interp.__file__ is not None
    house = Path(interp.__file__).parent
    digest = hashlib.sha256()
    for path in [*sorted(house.rglob("*.py")), *sorted(_own_files(study) - set(house.rglob("*.py")))]:
        digest.update(path.name.encode() + path.read_bytes())
    if _file_of(study.__module__) is None:  # a notebook's cell
        try:
            digest.update(inspect.getsource(study).encode())
        except (OSError, TypeError):
            raise DataError(f"the source of {study.__name__} cannot be read: write the study to a file.") from None
    return digest.hexdigest()[:16]


def _file_of(module: str) -> Path | None:
    name = getattr(sys.modules.get(module), "__file__", None)
    return Path(name).resolve() if name and Path(name).is_file() else None


def _own_files(study: type) -> set[Path]:
    """Files of a class and its bases, and those in their folders that they import."""
    waiting = [path for base in study.__mro__ if (path := _file_of(base.__module__)) is not None]
    waiting = [path for path in waiting if not path.is_relative_to(Path(sys.base_prefix))]
    known: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path in known:
            continue
        known.add(path)
        for name in _imported(path):
            sister = _file_of(name)
            if sister is not None and sister.parent == path.parent:
                waiting.append(sister)
    return known


def _imported(path: Path) -> Iterator[str]:
    """Full names of the modules that a file may import."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
