"""How the LM is run while it is steered: the reference through nnsight, plain hooks, and a fast engine of its own."""

from __future__ import annotations

import logging

from interp.errors import ModelError
from interp.model import MusicGen
from interp.steering.engine.reference import Engine, HookEngine, NNsightEngine

__all__ = ["Engine", "choose_engine"]

_log = logging.getLogger(__name__)


def choose_engine(model: MusicGen, name: str) -> Engine:
    """The engine of this name; ``auto`` is the fast one where the checkpoint allows it, else plain hooks.

    Raises
    ------
    ModelError
        If the fast engine is asked for and cannot run the checkpoint.
    """
    if name == "nnsight":
        return NNsightEngine(model)
    if name == "hooks":
        return HookEngine(model)
    from interp.steering.engine.fast import FastEngine, unsupported

    reason = unsupported(model)
    if reason is None:
        return FastEngine(model)
    if name == "fast":
        raise ModelError(f"the fast engine cannot run this checkpoint, because {reason}: use engine='hooks'.")
    _log.info("generating through plain hooks, because %s", reason)
    return HookEngine(model)
