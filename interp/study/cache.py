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
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

import numpy as np
import pandas as pd

from interp._files import atomic
from interp.errors import DataError, StoreError
from interp.traits import Trait

if TYPE_CHECKING:
    from interp.study.study import Study

__all__ = ["BoundStep", "Cache", "Step", "fingerprint_of_code", "slug", "step"]

log = logging.getLogger(__name__)
R = TypeVar("R")


def slug(item: Any) -> str:
    """A trait, a set of classes or a text as part of a file's name.

    Examples
    --------
    >>> slug(Trait("genre", "jazz")), slug(("piano", "flute")), slug("L3.resid")
    ('genre_jazz', 'piano-flute', 'L3_resid')
    """
    text = "-".join(map(str, item)) if isinstance(item, tuple) else str(item)
    return re.sub(r"[^A-Za-z0-9-]+", "_", text).strip("_")


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
        the other. A step returns a DataFrame, :class:`~interp.directions.Directions`, or arrays by name.
    """

    def wrap(make: Callable[..., R]) -> Step[R]:
        return Step(make, per, shown)

    return wrap


class Step(Generic[R]):
    """A method whose result is kept; see :func:`step`."""

    def __init__(self, make: Callable[..., R], per: str | None, shown: bool) -> None:
        functools.update_wrapper(self, make)
        self.make, self.per, self.shown = make, per, shown
        self.name = make.__name__

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

    def all(self) -> pd.DataFrame:
        """The tables of all items one below the other; an item that the table does not name becomes its column."""
        if self.step.per is None:
            table = self()
            assert isinstance(table, pd.DataFrame)
            return table
        parts = []
        for item in self.items():
            table = self(item)
            assert isinstance(table, pd.DataFrame)
            name = ":".join(item) if isinstance(item, tuple) else str(item)
            parts.append(table if self.step.per in table else table.assign(**{self.step.per: name}))
        return pd.concat(parts, ignore_index=True)


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
            path = next((path for path in self._paths(name) if path.exists()), None)
            if path is None:
                start = time.perf_counter()
                path = self._write(name, make())
                log.info("%s: %.1f s", name, time.perf_counter() - start)
            self._kept[name] = _read(path)
        value = self._kept[name]
        return value.copy() if isinstance(value, pd.DataFrame) else value

    def _paths(self, name: str) -> Iterator[Path]:
        for suffix in ("csv", "safetensors", "npz"):
            yield self.folder / f"{name}.{suffix}"

    def _write(self, name: str, value: Any) -> Path:
        from interp.probes.directions import Directions

        csv, safetensors, npz = self._paths(name)
        if isinstance(value, pd.DataFrame):
            with atomic(csv) as partial:
                value.to_csv(partial, index=False)
            return csv
        if isinstance(value, Directions):
            value.save(safetensors)
            return safetensors
        if isinstance(value, Mapping) and all(isinstance(one, np.ndarray) for one in value.values()):
            arrays: dict[str, Any] = {str(key): one for key, one in value.items()}
            with atomic(npz) as partial:
                np.savez_compressed(partial, **arrays)
            return npz
        raise DataError(f"the step {name} returns {type(value).__name__}: return a DataFrame, Directions or arrays.")


def _read(path: Path) -> Any:
    try:
        if path.suffix == ".csv":
            table = pd.read_csv(path, keep_default_na=False, na_values=[""])
            return table.astype({"head": "Int64"}) if "head" in table.columns else table
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as kept:
                return {name: kept[name] for name in kept.files}
    except (OSError, ValueError, EOFError) as error:
        raise StoreError(f"the kept result {path} cannot be read ({error}): delete it, it will be made again.") from error
    from interp.probes.directions import Directions

    return Directions.load(path)


@functools.cache
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
