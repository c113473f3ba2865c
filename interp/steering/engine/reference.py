"""Engines that run audiocraft's own modules: the reference through nnsight, and plain hooks.

An engine feeds tokens to the LM and lets :class:`~interp.steering.edits.Edits` read and edit activations on the way.
:mod:`interp.steering.engine.fast` is the third one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from interp.backends.audiocraft import Visitor, hooked
from interp.model import MusicGen
from interp.steering.edits import Edits
from interp.steering.ops import Half, Key

__all__ = ["Batch", "Engine", "HookEngine", "NNsightEngine", "Session"]

Conditions = dict[str, tuple[Tensor, Tensor]]


@dataclass
class Batch:
    """What an engine needs to know of a batch before its first call.

    Attributes
    ----------
    cond, uncond : dict
        Condition tensors of the conditional and of the unconditional rows (None: there are none).
    edits : Edits
    positions : int
        Most positions that will be fed in all.
    two_step : bool
        Whether conditional and unconditional rows are fed in separate calls.
    text_of, audio_of : list of int
        Rows with the same number have the same text; the same audio prompt.
    """

    cond: Conditions
    uncond: Conditions | None
    edits: Edits
    positions: int
    two_step: bool
    text_of: list[int]
    audio_of: list[int]


class Session(Protocol):
    """A stretch of music being decoded: keys and values are kept between calls."""

    def feed(self, tokens: Tensor, start: int, want: bool = True) -> tuple[Tensor, Tensor | None]:
        """Feed tokens ``[rows, codebooks, positions]`` whose first position is ``start``; more than one only at first.

        With ``want`` false (a prompt) the logits may be anything.

        Returns
        -------
        cond, uncond : Tensor
            Logits at the last position, ``[rows, codebooks, cardinality]``; uncond is None without guidance.
        """
        ...


class Engine(Protocol):
    """A way to run the LM."""

    name: str

    def session(self, batch: Batch) -> contextlib.AbstractContextManager[Session]:
        """Start decoding; state is dropped at the end of the block."""
        ...


def _joined(first: Conditions, second: Conditions) -> Conditions:
    return {
        name: (torch.cat([first[name][0], second[name][0]]), torch.cat([first[name][1], second[name][1]]))
        for name in first
    }


class _StreamingSession:
    """Common to both engines: guidance in one call or two over audiocraft's streaming state."""

    def __init__(self, model: MusicGen, batch: Batch, call: Callable[[Tensor, Conditions, int, Half], Tensor]) -> None:
        self._lm, self._batch, self._call = model.lm, batch, call
        self._both = None if batch.uncond is None or batch.two_step else _joined(batch.cond, batch.uncond)
        self._uncond_state: dict[str, Tensor] = {}

    def feed(self, tokens: Tensor, start: int, want: bool = True) -> tuple[Tensor, Tensor | None]:
        cond, uncond = self._feed(tokens, start)
        self._batch.edits.end()
        return cond, uncond

    def _feed(self, tokens: Tensor, start: int) -> tuple[Tensor, Tensor | None]:
        batch = self._batch
        if batch.uncond is None:
            return self._call(tokens, batch.cond, start, "cond"), None
        if self._both is not None:
            cond, uncond = torch.split(self._call(torch.cat([tokens, tokens]), self._both, start, "both"), len(tokens))
            return cond, uncond
        cond = self._call(tokens, batch.cond, start, "cond")
        # as audiocraft does: the unconditional rows have a memory of their own, exchanged around their call
        state = self._lm.get_streaming_state()
        self._lm.set_streaming_state(self._uncond_state)
        uncond = self._call(tokens, batch.uncond, start, "uncond")
        self._uncond_state.update(self._lm.get_streaming_state())
        self._lm.set_streaming_state(state)
        return cond, uncond


class NNsightEngine:
    """Every call is a trace, every edit goes through nnsight: the reference."""

    name = "nnsight"

    def __init__(self, model: MusicGen) -> None:
        self.model = model

    @contextlib.contextmanager
    def session(self, batch: Batch) -> Iterator[Session]:
        def call(tokens: Tensor, conditions: Conditions, start: int, half: Half) -> Tensor:
            def visitor(key: Key) -> Callable[[Tensor], Tensor | None]:
                def visit(x: Tensor) -> Tensor | None:
                    flat = x.flatten(2)
                    edited = batch.edits.apply(key, flat, start, half)
                    return None if edited is flat else edited.view(x.shape)

                return visit

            visit = {key: visitor(key) for key in batch.edits.keys}
            logits = self.model.forward(tokens, conditions, visit=visit).logits
            assert logits is not None
            return logits[:, :, -1]

        with self.model.streaming():
            yield _StreamingSession(self.model, batch, call)


class HookEngine:
    """Plain PyTorch hooks on audiocraft's modules: works for every checkpoint, no trace is opened."""

    name = "hooks"

    def __init__(self, model: MusicGen) -> None:
        self.model = model

    @contextlib.contextmanager
    def session(self, batch: Batch) -> Iterator[Session]:
        now: dict[str, Any] = {}

        def call(tokens: Tensor, conditions: Conditions, start: int, half: Half) -> Tensor:
            now.update(start=start, half=half)
            with torch.no_grad(), self.model.autocast():
                logits: Tensor = self.model.lm(tokens, conditions=[], condition_tensors=conditions)
            return logits[:, :, -1]

        def visitor(key: Key) -> Visitor:
            def visit(x: Tensor) -> Tensor:
                return batch.edits.apply(key, x.flatten(2), now["start"], now["half"]).view(x.shape)

            return visit

        visit = {key: visitor(key) for key in batch.edits.keys}
        with hooked(self.model.lm, visit), self.model.streaming():
            yield _StreamingSession(self.model, batch, call)
