"""Reads the tensors and the settings of a training checkpoint without running anything that is pickled in it.

audiocraft's trainer (dora) saves ``checkpoint.th``: weights, but also an OmegaConf tree, optimisers and metrics as
pickled Python objects, which torch's own safe loader refuses. Here every class and function that the file names is
replaced by an inert stand-in that only remembers what it was given; tensors and plain containers alone are real.
"""

from __future__ import annotations

import collections
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from interp.errors import ModelError

__all__ = ["Inert", "plain", "read_inert", "refuse_program"]


class Inert:
    """Stands for an object of any class; keeps its state and does nothing."""

    state: Any = None

    def __new__(cls, *_: Any, **__: Any) -> Inert:
        return super().__new__(cls)

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.arguments, self.options = arguments, options

    def __call__(self, *arguments: Any, **options: Any) -> Inert:
        """What a pickled function is: nothing happens."""
        return Inert(*arguments, **options)

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def append(self, item: Any) -> None:
        """What a subclass of list is filled by."""

    def extend(self, items: Any) -> None:
        """What a subclass of list is filled by."""

    def add(self, item: Any) -> None:
        """What a subclass of set is filled by."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """What a subclass of dict is filled by."""


class _Tensor:
    """Puts a tensor together from its storage; hooks and metadata of the file are dropped."""

    __slots__ = ()

    def __call__(self, storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> torch.Tensor:
        rebuild: Any = torch._utils._rebuild_tensor
        tensor: torch.Tensor = rebuild(storage, offset, size, stride)
        return tensor


class _Parameter:
    """The tensor of a parameter."""

    __slots__ = ()

    def __call__(self, tensor: Any, *_: Any) -> Any:
        return tensor


_REAL: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _Tensor(),
    ("torch._utils", "_rebuild_parameter"): _Parameter(),
    ("torch", "Size"): torch.Size,
}
"""All that a file may name and get: containers, and what puts a tensor together from bytes. None runs code of the file,
and none has an attribute that a file could set."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        dtype = getattr(torch, name, None) if module == "torch" else None
        return dtype if isinstance(dtype, torch.dtype) else _REAL.get((module, name), Inert)


class _Pickle:
    """What :func:`torch.load` takes for the module ``pickle``."""

    Unpickler = _Unpickler
    UnpicklingError = pickle.UnpicklingError
    load: Callable[..., Any] = staticmethod(lambda file, **options: _Unpickler(file, **options).load())


def read_inert(file: Path) -> dict[str, Any]:
    """The dictionary in a training checkpoint: tensors on the CPU, plain values, :class:`Inert` for all else.

    Raises
    ------
    ModelError
        If the file is not in torch's zip format (since torch 1.6), or is no such dictionary.
    """
    if not zipfile.is_zipfile(file):
        raise ModelError(f"{file} is no checkpoint that torch 1.6 or later saved, or it is cut short: fetch it again.")
    refuse_program(file)
    pickle_module: Any = _Pickle
    try:
        package = torch.load(file, "cpu", pickle_module=pickle_module, weights_only=False)
    except Exception as error:  # whatever a file makes the stand-ins stumble over
        raise ModelError(f"{file} cannot be read as a checkpoint ({type(error).__name__}): fetch it again.") from error
    if not isinstance(package, dict):
        raise ModelError(f"{file} is not a checkpoint in audiocraft's format.")
    return package


def refuse_program(file: Path) -> None:
    """Raise :class:`ModelError` at a TorchScript archive, which :func:`torch.load` would hand to its compiler."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            if any(name.endswith("constants.pkl") for name in archive.namelist()):
                raise ModelError(f"{file} is a compiled TorchScript program, not a checkpoint: those are never run.")


def plain(node: Any) -> Any:
    """An OmegaConf tree that was read inertly, as dictionaries, lists and values; interpolations stay text."""
    if not isinstance(node, Inert):
        return node
    state = node.state[0] if isinstance(node.state, tuple) else node.state
    if not isinstance(state, dict):
        return None
    if "_content" not in state:
        return plain(state.get("_val"))
    content = state["_content"]
    if isinstance(content, dict):
        return {key: plain(value) for key, value in content.items()}
    return [plain(value) for value in content] if isinstance(content, list) else content
