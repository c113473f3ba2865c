"""How the activations of a clip's frames become a few vectors.

=====================  ===============================================================================
written                vectors
=====================  ===============================================================================
``mean``               mean over all frames
``last``               last frame
``frame:25``           frame 25
``every:25``           frames 0, 25, 50, ... each on its own; named ``frame:0``, ``frame:25``, ...
``window:1.0-2.5``     mean over the steps from 1.0 s on and before 2.5 s
=====================  ===============================================================================

Frame t is read where its first codebook enters the LM, which is at step t + 1 of the delayed sequence: there
the model has heard frames 0 to t of the first codebook, and is about to write the next one.

A *second* means the same here as in the ``window=`` of an intervention: step s, at which frame s is about to be
written, lies at s / frame rate. What is read in a window is therefore what an intervention in that window changes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from interp.backends.devices import full_precision
from interp.errors import ClipError, DataError

__all__ = ["Pooler", "Pooling", "choose_pool", "steps_between"]

_EVERY = re.compile(r"every:(\d+)")
_FRAME = re.compile(r"frame:(\d+)")
_WINDOW = re.compile(r"window:(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)")


def choose_pool(names: Iterable[str], pool: str | None = None) -> str:
    """Choose one vector a clip among those that were pooled; the same choice wherever none is named.

    Parameters
    ----------
    names : iterable of str
        What there is, for example ``ds["pool"].values``.
    pool : str, optional
        Which one. By default the only one, or ``mean`` where it is among several.

    Raises
    ------
    DataError
        If it is not there, or none is named and the choice is not clear.

    Examples
    --------
    >>> choose_pool(["last", "mean"]), choose_pool(["last"]), choose_pool(["last", "mean"], "last")
    ('mean', 'last', 'last')
    """
    pools = [str(name) for name in names]
    few = ", ".join(pools[:8]) + (", ..." if len(pools) > 8 else "")
    if pool is not None:
        if not isinstance(pool, str) or pool.strip() not in pools:
            raise DataError(f"there are no vectors pooled by {pool!r}, only by {few}: name one of these.")
        return pool.strip()
    if len(pools) == 1:
        return pools[0]
    if "mean" in pools:
        return "mean"
    raise DataError(f"there are vectors pooled in several ways ({few}): name one with pool=.")


def steps_between(start: float, stop: float, frame_rate: float) -> range:
    """Steps of the delayed sequence from second `start` on and before second `stop`.

    Examples
    --------
    >>> steps_between(0.2, 0.3, frame_rate=50)
    range(10, 15)
    """
    first, last = (math.ceil(edge * frame_rate - 1e-6) for edge in (start, stop))
    return range(first, last)


@dataclass(frozen=True)
class Pooling:
    """A list of ways to pool, for clips of at most `max_frames` frames.

    Attributes
    ----------
    spec : tuple of str
        As written.
    frame_rate : float
        Frames per second.
    max_frames : int
        Frames of the longest clip: decides how many vectors ``every:n`` gives. Shorter clips have NaN beyond
        their end.
    """

    spec: tuple[str, ...]
    frame_rate: float
    max_frames: int

    @classmethod
    def parse(cls, spec: str | Sequence[str], frame_rate: float, max_frames: int) -> Pooling:
        """Read ``"mean"``, ``"mean, last"`` or ``["mean", "every:25"]``.

        Raises
        ------
        DataError
            If it cannot be read, or names one vector twice.

        Examples
        --------
        >>> Pooling.parse("mean, every:25", frame_rate=50, max_frames=60).names
        ['mean', 'frame:0', 'frame:25', 'frame:50']
        """
        texts = [spec] if isinstance(spec, str) else list(spec)
        parts = []
        for text in texts:
            if not isinstance(text, str):
                raise DataError(f"a pooling is text such as 'mean' or 'every:25', not {text!r}.")
            parts += [part.strip() for part in text.split(",") if part.strip()]
        if not parts:
            raise DataError(f"no pooling is named by {spec!r}: write mean, last, every:25 or window:1.0-2.5.")
        for part in parts:
            window, every = _WINDOW.fullmatch(part), _EVERY.fullmatch(part)
            if (window and float(window[1]) >= float(window[2])) or (every and int(every[1]) == 0):
                raise DataError(f"the pooling {part!r} covers no frame: write every:25 or window:1.0-2.5.")
            if not (part in ("mean", "last") or window or every or _FRAME.fullmatch(part)):
                raise DataError(
                    f"cannot read {part!r} as a pooling: write mean, last, frame:25, every:25 (every 25th frame) or "
                    "window:1.0-2.5 (seconds)."
                )
        pooling = cls(tuple(parts), frame_rate, max_frames)
        names = pooling.names
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise DataError(f"the pooling {', '.join(parts)!r} gives {twice!r} twice: name each once.")
        return pooling

    def windows(self) -> list[tuple[str, int]]:
        """Windows among the ways to pool, each with its first step.

        Examples
        --------
        >>> Pooling.parse("mean, window:0.5-1", frame_rate=50, max_frames=1).windows()
        [('0.5-1', 25)]
        """
        matches = [match for match in map(_WINDOW.fullmatch, self.spec) if match]
        return [
            (m[0].removeprefix("window:"), steps_between(float(m[1]), float(m[2]), self.frame_rate).start)
            for m in matches
        ]

    @property
    def names(self) -> list[str]:
        """One name for each vector, in order."""
        names: list[str] = []
        for part in self.spec:
            every = _EVERY.fullmatch(part)
            if every:
                names += [f"frame:{frame}" for frame in range(0, self.max_frames, int(every[1]))]
            else:
                names.append(part)
        return names

    def pooler(
        self,
        n_frames: Sequence[int],
        frame_steps: Callable[[int], Tensor],
        n_steps: int,
        clips: Sequence[str],
        device: torch.device | str = "cpu",
    ) -> Pooler:
        """Prepare the pooling of one batch.

        Parameters
        ----------
        n_frames : sequence of int
            Frames of each row.
        frame_steps : callable
            Number of frames -> step of each frame, from the LM's own pattern.
        n_steps : int
            Positions of the batch, padding included.
        clips : sequence of str
            Names of the rows, for errors.
        device
            Where the activations are.

        Raises
        ------
        ClipError
            If a window holds no frame of a clip.
        """
        names = self.names
        picks = torch.full((len(n_frames), len(names)), -1, dtype=torch.long)
        weights = torch.zeros(len(n_frames), len(names), n_steps)
        averaged: list[int] = []
        for column, name in enumerate(names):
            window = _WINDOW.fullmatch(name)
            if window or name == "mean":
                averaged.append(column)
            for row, count in enumerate(n_frames):
                steps = frame_steps(count)
                if name == "last":
                    picks[row, column] = steps[-1]
                elif name == "mean":
                    weights[row, column, steps] = 1 / count
                elif window:
                    between = steps_between(float(window[1]), float(window[2]), self.frame_rate)
                    inside = range(between.start, min(between.stop, count))
                    if not inside:
                        raise ClipError(
                            f"the window {name.removeprefix('window:')} s holds no frame of the clip {clips[row]!r}, "
                            f"which is {count / self.frame_rate:.2f} s long: ask for an earlier window, or leave "
                            "the clip out."
                        )
                    weights[row, column, inside.start : inside.stop] = 1 / len(inside)
                elif (frame := int(name.removeprefix("frame:"))) < count:
                    picks[row, column] = steps[frame]
        picked = [column for column in range(len(names)) if column not in averaged]
        return Pooler(
            order=torch.tensor(averaged + picked).argsort().to(device),
            weights=weights[:, averaged].to(device),
            picks=picks[:, picked].clamp(min=0).to(device),
            present=torch.tensor([[c in averaged or bool(p[c] >= 0) for c in range(len(names))] for p in picks]),
        )


@dataclass(frozen=True)
class Pooler:
    """Pools one batch.

    Attributes
    ----------
    order : long tensor ``[vectors]``
        Where each vector stands among averages and picks put one after the other.
    weights : float tensor ``[rows, averages, steps]``
        Weight of each step in each average; zero on padding.
    picks : long tensor ``[rows, picks]``
        Step of each single frame.
    present : bool tensor ``[rows, vectors]``, on the CPU
        False where a clip ends before the frame.
    """

    order: Tensor
    weights: Tensor
    picks: Tensor
    present: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Pool activations ``[rows, steps, dim]`` into float32 ``[rows, vectors, dim]``.

        All averages are one matrix product, which reads the activations once and is computed in float32 whatever
        autocast is on; single frames are copied exactly.
        """
        parts = []
        if self.weights.shape[1]:
            with full_precision(x.device):
                parts.append(torch.bmm(self.weights, x.float()))
        if self.picks.shape[1]:
            rows = torch.arange(len(x), device=x.device)[:, None]
            parts.append(x[rows, self.picks].float())
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)[:, self.order]
