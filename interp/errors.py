"""Errors of the toolkit: one sentence each, saying what was asked, what was found and what to do.

Every exception raised on purpose derives from :class:`InterpError`; the command line prints its sentence and
exits with status 1 or 2, Python code can catch the specific class.
"""

from __future__ import annotations

__all__ = [
    "CheckpointMismatch",
    "ClipError",
    "ControlError",
    "DataError",
    "InterpError",
    "Interrupted",
    "InterventionError",
    "ModelError",
    "SiteError",
    "StoreError",
]


class InterpError(Exception):
    """Base class of every error the toolkit raises on purpose."""


class SiteError(InterpError, ValueError):
    """A site that cannot be parsed, or that the model does not have."""


class ClipError(InterpError, ValueError):
    """Audio or metadata that is missing, unreadable or empty."""


class StoreError(InterpError):
    """A store on disk that is damaged, incomplete, or made by something else."""


class DataError(InterpError, ValueError):
    """Labels or activations that no honest statistic can be computed from."""


class ControlError(InterpError):
    """A control arm that cannot be built; it never falls back to another arm."""


class InterventionError(InterpError, ValueError):
    """An intervention that is malformed, does not fit the model, or touched no call."""


class ModelError(InterpError):
    """A model that cannot be found, loaded or traced."""


class CheckpointMismatch(InterpError):
    """Two things that were made with different checkpoints are used together."""


class Interrupted(InterpError, KeyboardInterrupt):
    """Stopped by Ctrl-C at a point where nothing that was finished is lost; the sentence says how to go on."""
