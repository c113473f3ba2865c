"""SMITIN (arXiv 2404.02252): steer all heads softly, listen to the best ones, stop when the trait is there.

Every head has a logistic probe. At every ``s``-th decoding step, while the monitor hears too little of the trait,

    z_lh  <-  z_lh + alpha * w_lh * sigma_lh * theta_lh * (1 - delta * C),      if C < tau,

with ``w = ((acc - acc_min) / (acc_max - acc_min))^3``, C the median probability of the ``n_monitor`` most accurate
heads and ``tau = median(acc) - std(acc)`` over these heads. When ``C >= tau`` nothing is added, and the push comes
back when C falls below again.

**What the monitor hears.** At every step each monitored head is read *before* anything is written to it. The value
that decides step t is the reading of step t-1. With ``s > 1`` no step before an intervention step is edited itself,
so the reading holds no trace of a push inside the same forward pass: only what the push did to the music (tokens)
and to the memory (cached keys and values of later layers), which is what the rule is meant to hear. With ``s = 1``
every reading holds what the same step's pushes at *earlier layers* did; :attr:`Smitin.clean` says so. Before there is
a reading (no audio prompt, step 0) C counts as 0: no sign of the trait yet. With an audio prompt the last prompt
position has been read before step 0. Under guidance the conditional rows are heard.

What is not published (delta, over which heads tau is taken) is a parameter with a documented default.

**Beyond the paper** the monitor may hear other probes than those whose directions push (``monitor``): a
classifier's weights hear best, other directions may move more, at heads or in the residual stream.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from interp.directions import Direction, Directions
from interp.errors import InterventionError
from interp.steering._registry import register
from interp.steering.interventions._directions import (
    as_directions,
    as_weights,
    need_sigma,
    soft_weights,
)
from interp.steering.interventions.base import Ears, Intervention, Parameters

__all__ = ["Smitin"]


@register
@dataclass(frozen=True)
class Smitin(Intervention):
    """Self-monitored steering; parameters are named as in the paper.

    Parameters
    ----------
    directions : Directions
        Logistic probes of self-attention heads (all of them, the weights select), one a head, with sigma, intercept
        and held-out ``score`` (the accuracy). With ``listen``, any directions with sigma, at any site.
    alpha : float
        Strength in sigma; 5 in the paper, 10 its stronger setting.
    s : int
        Intervene once in ``s`` decoding steps; 5 in the paper (ten times a second).
    delta : float
        How much a confident monitor weakens the push, 0 to 1. Not published; 1 (the push fades linearly with C).
    n_monitor : int
        Heads that are listened to, 16 in the paper; all if there are fewer.
    tau : float, optional
        Threshold of C; ``median(acc) - std(acc)`` over the monitored heads if not given.
    remove : bool
        Take the trait away: the same rule for the probes turned round, so C is the median probability of absence.
    weights : sequence of float, optional
        Soft weights in place of ``((acc - acc_min) / (acc_max - acc_min))^3``.
    monitor : Directions, optional
        Probes of heads, with intercept and score, that are heard and that ``tau`` is made of; ``directions`` if not
        given, as in the paper.

    Raises
    ------
    InterventionError
        If a number is out of range, directions are not of heads or lack sigma, intercept or score, or point to several
        classes.

    Examples
    --------
    >>> from interp import Direction
    >>> heads = [
    ...     Direction.from_weight(f"L0.H{i}", [1.0, 0.0], sigma=1.0, intercept=0.0, score=score, trait="drums")
    ...     for i, score in enumerate((0.6, 0.8, 1.0))
    ... ]
    >>> item = Smitin(heads, alpha=10.0, n_monitor=2)
    >>> [str(d.site) for d in item.monitored], round(item.threshold, 3), [round(w, 3) for w in item.w]
    (['L0.H2', 'L0.H1'], 0.8, [0.0, 0.125, 1.0])
    """

    directions: Directions
    alpha: float = 5.0
    s: int = 5
    delta: float = 1.0
    n_monitor: int = 16
    tau: float | None = None
    remove: bool = False
    weights: tuple[float, ...] | None = None
    monitor: Directions | None = None

    additive: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "directions", as_directions(self.directions, "Smitin", unique=True))
        if self.monitor is None:
            if any(item.site.kind != "heads" for item in self.directions):
                raise InterventionError("Smitin steers self-attention heads: give directions at sites like L3.H2.")
        else:
            object.__setattr__(self, "monitor", as_directions(self.monitor, "Smitin's monitor", unique=True))
            if any(item.site.kind != "heads" for item in self.monitor):
                raise InterventionError("Smitin's monitor listens to self-attention heads: give probes like L3.H2.")
        if not math.isfinite(self.alpha) or self.alpha < 0:
            raise InterventionError(f"Smitin cannot have alpha {self.alpha}: give 0 or more (remove=True takes away).")
        if int(self.s) != self.s or self.s < 1:
            raise InterventionError(f"Smitin cannot act every {self.s} steps: s must be 1 or more.")
        if not 0 <= self.delta <= 1:
            raise InterventionError(f"Smitin cannot have delta {self.delta}: give a number from 0 to 1.")
        if self.n_monitor < 1:
            raise InterventionError("Smitin needs at least one head to listen to (n_monitor).")
        if self.tau is not None and not math.isfinite(self.tau):
            raise InterventionError(f"Smitin cannot have tau {self.tau}: give a probability.")
        if self.on != "generated":
            raise InterventionError("Smitin listens while it generates: it acts on generated positions only.")
        need_sigma(self.directions, f"alpha {self.alpha:g}")
        for item in self._probes:
            if not math.isfinite(item.intercept):
                raise InterventionError(f"{item} has no intercept, so it gives no probability to Smitin's monitor.")
            if not math.isfinite(item.score):
                raise InterventionError(f"{item} has no held-out accuracy (score), which Smitin ranks heads by.")
        object.__setattr__(self, "weights", as_weights(self.weights, len(self.directions)))

    @property
    def _probes(self) -> Directions:
        return self.directions if self.monitor is None else self.monitor

    @property
    def active(self) -> bool:
        return self.alpha > 0

    @property
    def w(self) -> tuple[float, ...]:
        """Soft weight of each direction."""
        return soft_weights(self.directions) if self.weights is None else self.weights

    @property
    def monitored(self) -> tuple[Direction, ...]:
        """The most accurate heads, turned round for removal; ties in forward order."""
        ranked = sorted(self._probes, key=lambda item: (-item.score, item.site))[: self.n_monitor]
        return tuple(item.flip() if self.remove else item for item in ranked)

    @property
    def threshold(self) -> float:
        """tau, as it was set or ``median(acc) - std(acc)`` over the monitored heads."""
        if self.tau is not None:
            return float(self.tau)
        acc = np.array([item.score for item in self.monitored])
        return float(np.median(acc) - np.std(acc))

    @property
    def ears(self) -> Ears:
        trait = f"{'not ' if self.remove else ''}{self.directions[0].towards}"
        return Ears(self.monitored, self.threshold, self.delta, self.s, trait)

    @property
    def clean(self) -> bool:
        """Whether no reading that decides a step was taken in a forward pass that was edited."""
        return self.ears.clean

    def parameters(self) -> Parameters:
        """``shift`` ``[dim]`` at each head, ``alpha * w * sigma * theta``, raw units."""
        sign = -1.0 if self.remove else 1.0
        return {
            item.site: {"shift": sign * self.alpha * w * item.sigma * item.vector}
            for item, w in zip(self.directions, self.w, strict=True)
        }

    @staticmethod
    def edit(h: Tensor, factor: Tensor, p: Mapping[str, Tensor]) -> Tensor:
        return h + factor * p["shift"]

    def what(self) -> str:
        return (
            f"SMITIN {'remove' if self.remove else 'add'} {self.directions[0].towards}: alpha {self.alpha:g}, every "
            f"{self.s} steps, delta {self.delta:g}, off when the median of {len(self.monitored)} heads reaches tau "
            f"{self.threshold:.3f}"
        )
