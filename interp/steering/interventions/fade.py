"""From one intervention to another."""

from __future__ import annotations

from dataclasses import replace

from interp.steering.interventions.base import Intervention
from interp.steering.schedules import Ramp

__all__ = ["cross_fade"]


def cross_fade(
    before: Intervention, after: Intervention, at: float, width: float = 0.0
) -> tuple[Intervention, Intervention]:
    """Fade from one intervention to another around second ``at``, over ``width`` seconds (0: a switch).

    arXiv 2506.10225 shows a switch of style at the fifth second.

    Examples
    --------
    >>> from interp.steering import Ablate
    >>> before, after = cross_fade(Ablate.zero("L0.H1"), Ablate.zero("L0.H2"), at=5.0)
    >>> after.schedule.describe()
    'every step, from 0 at 5 s to 1 at 5 s'
    """
    start, stop = at - width / 2, at + width / 2
    return (
        replace(before, schedule=before.schedule * Ramp(start, stop, 1.0, 0.0)),
        replace(after, schedule=after.schedule * Ramp(start, stop, 0.0, 1.0)),
    )
