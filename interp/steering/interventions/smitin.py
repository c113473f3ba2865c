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

**Beyond the paper** the monitor may listen to other probes than those whose directions push (``listen``): a
classifier's weights hear best, other directions may move more, at heads or in the residual stream.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from interp.directions import Direction, Directions
from interp.errors import InterventionError
from interp.sites import Site
from interp.steering.interventions.base import Intervention, _directions, _need_sigma, _weights, soft_weights

__all__ = ["Smitin"]


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
    listen : Directions, optional
        Probes of heads, with intercept and score, that the monitor and ``tau`` are made of; ``directions`` if not
        given, as in the paper.
    """

    directions: Directions
    alpha: float = 5.0
    s: int = 5
    delta: float = 1.0
    n_monitor: int = 16
    tau: float | None = None
    remove: bool = False
    weights: tuple[float, ...] | None = None
    listen: Directions | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "directions", _directions(self.directions, "Smitin", unique=True))
        if self.listen is None:
            if any(item.site.kind != "heads" for item in self.directions):
                raise InterventionError("Smitin steers self-attention heads: give directions at sites like L3.H2.")
        else:
            object.__setattr__(self, "listen", _directions(self.listen, "Smitin's monitor", unique=True))
            if any(item.site.kind != "heads" for item in self.listen):
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
        _need_sigma(self.directions, f"alpha {self.alpha:g}")
        for item in self._listened:
            if not math.isfinite(item.intercept):
                raise InterventionError(f"{item} has no intercept, so it gives no probability to Smitin's monitor.")
            if not math.isfinite(item.score):
                raise InterventionError(f"{item} has no held-out accuracy (score), which Smitin ranks heads by.")
        object.__setattr__(self, "weights", _weights(self.weights, len(self.directions)))

    @functools.cached_property
    def sites(self) -> tuple[Site, ...]:  # type: ignore[override]  # worked out once: engines ask for every row
        return tuple(sorted({item.site for item in self.directions}))

    @property
    def _listened(self) -> Directions:
        return self.directions if self.listen is None else self.listen

    @property
    def active(self) -> bool:
        return self.alpha > 0

    @property
    def clean(self) -> bool:
        """Whether no reading that decides a step was taken in a forward pass that was edited."""
        return self.s > 1

    @property
    def w(self) -> tuple[float, ...]:
        """Soft weight of each direction."""
        return soft_weights(self.directions) if self.weights is None else self.weights

    @property
    def monitor(self) -> tuple[Direction, ...]:
        """The most accurate heads, turned round for removal; ties in forward order."""
        ranked = sorted(self._listened, key=lambda item: (-item.score, item.site))[: self.n_monitor]
        return tuple(item.flip() if self.remove else item for item in ranked)

    @property
    def threshold(self) -> float:
        """tau, given or ``median(acc) - std(acc)`` over the monitored heads."""
        if self.tau is not None:
            return float(self.tau)
        acc = np.array([item.score for item in self.monitor])
        return float(np.median(acc) - np.std(acc))

    def displacements(self) -> list[tuple[Site, NDArray[np.float64]]]:
        """``alpha * w * sigma * theta`` for each head, raw units."""
        sign = -1.0 if self.remove else 1.0
        return [
            (item.site, sign * self.alpha * w * item.sigma * item.vector)
            for item, w in zip(self.directions, self.w, strict=True)
        ]

    def _what(self) -> str:
        first = self.directions[0]
        return (
            f"SMITIN {'remove' if self.remove else 'add'} {first.trait}={first.positive}: alpha {self.alpha:g}, every "
            f"{self.s} steps, delta {self.delta:g}, off when the median of {len(self.monitor)} heads reaches tau "
            f"{self.threshold:.3f}"
        )
