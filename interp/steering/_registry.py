"""Names of what can be written to a file of interventions: interventions, schedules and what they hold."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

from interp.errors import InterventionError

__all__ = ["REGISTRY", "register"]

Class = TypeVar("Class", bound=type[Any])

REGISTRY: dict[str, type[Any]] = {}
"""Registered classes by name."""


def register(cls: Class) -> Class:
    """Make a dataclass known by its name, so that :func:`interp.steering.save` writes it and ``load`` reads it.

    Put it above the ``@dataclass`` of an intervention or a schedule of your own; the file that is to be read must have
    been preceded by the import of the module that defines the class. Defining a class anew, as a notebook cell that is
    run twice does, replaces it.

    Raises
    ------
    InterventionError
        If it is no dataclass, or another module has registered a class of this name.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> from interp.steering import Add
    >>> @register
    ... @dataclass(frozen=True)
    ... class Nudge(Add):
    ...     "Add under another name."
    >>> REGISTRY.pop("Nudge").__name__
    'Nudge'
    """
    if not dataclasses.is_dataclass(cls):
        raise InterventionError(f"{cls.__name__} cannot be registered: put @dataclass(frozen=True) below @register.")
    known = REGISTRY.get(cls.__name__)
    if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
        raise InterventionError(
            f"{cls.__name__} is already the name of a class of {known.__module__}: give this one another name."
        )
    REGISTRY[cls.__name__] = cls
    return cls
