"""Attribution patching: what patching every site would do, estimated from gradients for all sites at once.

The change of the metric is to first order the exchanged difference times the metric's gradient (Nanda 2023). Where the
metric bends, the gradient of one run alone misleads; its mean along the straight line between the inputs of both runs
repairs much of that (integrated gradients: Sundararajan et al. 2017; for patching: Hanna et al. 2024,
arXiv 2403.17806).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from interp.backends.audiocraft import ConditionTensors, Visitor
from interp.errors import DataError
from interp.mechanisms.effects import Effects, effects
from interp.mechanisms.heard import Heard, in_batches
from interp.mechanisms.metrics import Metric
from interp.mechanisms.patching import How, Plan, Windows, keep, make_plan
from interp.model import MusicGen
from interp.sites import Place, Site

__all__ = ["attribute"]

_EMBED: Place = ("embed", -1)


def attribute(
    model: MusicGen,
    clean: Heard,
    corrupt: Heard,
    metric: str | Metric = "likelihood",
    sites: str | Site | Iterable[str | Site] = "heads",
    *,
    positions: Windows = None,
    how: How = "denoise",
    counted: tuple[float, float] | None = None,
    steps: int = 4,
    groups: Sequence[Any] | None = None,
    n_permutations: int = 2000,
    batch_size: int = 16,
    seed: int = 0,
    progress: bool = False,
) -> Effects:
    """Estimate what :func:`patch` would measure, from a few backward passes for all sites and windows together.

    Parameters
    ----------
    model, clean, corrupt, metric, sites, positions, how, counted, groups, n_permutations, batch_size, seed, progress
        As for :func:`patch`.
    steps : int
        Points between the inputs of both runs at which gradients are taken (the midpoint rule); 0 takes the gradient of
        the run that would be patched, as plain attribution patching does.

    Returns
    -------
    Effects
        Without a null by mismatched pairs; p-values are those of the changes alone.

    Raises
    ------
    DataError, SiteError, ModelError
        As :func:`patch`; also if `steps` is negative.

    Examples
    --------
    >>> from interp.backends.build import random_musicgen
    >>> from interp.mechanisms import hear
    >>> model = MusicGen(random_musicgen())
    >>> codes = torch.randint(0, 32, (2, 4, 10), generator=torch.Generator().manual_seed(0))
    >>> clean, corrupt = hear(model, codes, ["a", "b"]), hear(model, codes, ["c", "d"])
    >>> attribute(model, clean, corrupt, sites="cross_heads").changes.shape
    (4, 2)
    """
    if steps < 0:
        raise DataError(f"gradients at {steps} steps are none: give 0 (those of the patched run) or more.")
    plan = make_plan(model, clean, corrupt, metric, sites, positions, how, counted, groups)
    shares = [0.0] if steps == 0 else [(k + 0.5) / steps for k in range(steps)]
    changes = np.zeros((len(plan.sites) * len(plan.steps), len(clean)))
    measured = np.zeros((2, len(clean)))
    with tqdm(total=len(clean), desc="attribute", unit="pair", disable=None if progress else True) as bar:
        for rows in in_batches(model, plan.own, batch_size):
            changes[:, rows], measured[:, rows] = _attributed(plan, rows, shares)
            bar.update(len(rows))
    own, other = measured
    return effects(
        plan.sites, plan.windows, changes, None, (other, own) if how == "denoise" else (own, other), groups,
        n_permutations, seed, metric=plan.metric.name, how=how, method=f"attribution, {steps} steps",
    )  # fmt: skip


def _attributed(plan: Plan, rows: Sequence[int], shares: Sequence[float]) -> tuple[np.ndarray[Any, Any], Tensor]:
    """Estimated changes ``[sites * windows, rows]``, and the metric of both runs ``[2, rows]``."""
    model, pair = plan.model, (plan.own.take(rows), plan.other.take(rows))
    conditions = [model.conditions(list(side.texts)) for side in pair]
    places = {site.place for site in plan.sites}
    kept: tuple[dict[Place, Tensor], ...] = ({}, {})
    measured = []
    for side, text, store in zip(pair, conditions, kept, strict=True):
        visit = {place: keep(store, place) for place in {*places, _EMBED}}
        with torch.no_grad():
            measured.append(plan.measured(rows, side, text, visit))
    gradients: dict[Place, Tensor] = {}
    for share in shares:
        for place, gradient in _gradients(plan, rows, conditions, kept, share).items():
            gradients[place] = gradients.get(place, 0) + gradient / len(shares)
    lines = []
    for site in plan.sites:
        difference = (kept[1][site.place] - kept[0][site.place]).float() * gradients[site.place]
        each = (difference if site.head is None else difference[:, :, site.head]).sum(-1)  # [rows, positions]
        lines += [plan.sign * each[:, steps.start : steps.stop].sum(1) for steps in plan.steps]
    return torch.stack(lines).double().cpu().numpy(), torch.stack(measured).double().cpu()


def _gradients(
    plan: Plan,
    rows: Sequence[int],
    conditions: Sequence[ConditionTensors],
    kept: tuple[dict[Place, Tensor], ...],
    share: float,
) -> dict[Place, Tensor]:
    """Gradients of the metric at every place, where the inputs lie this far from the own run's to the other's."""
    own, other = conditions
    mixed = {name: (torch.lerp(own[name][0], other[name][0], share), own[name][1]) for name in own}
    embedded = torch.lerp(kept[0][_EMBED], kept[1][_EMBED], share).requires_grad_(True)
    live: dict[Place, Tensor] = {}

    def open_graph(place: Place) -> Visitor:
        def visit(x: Tensor) -> Tensor:
            live[place] = embedded if place == _EMBED else x
            return live[place]

        return visit

    visit = {place: open_graph(place) for place in {*(site.place for site in plan.sites), _EMBED}}
    with torch.enable_grad():
        measured = plan.measured(rows, plan.own.take(rows), mixed, visit, grad=True)
        wanted = {site.place for site in plan.sites}
        places = [place for place in live if place in wanted]
        found = torch.autograd.grad(measured.sum(), [live[place] for place in places])
    return {place: gradient.float() for place, gradient in zip(places, found, strict=True)}
