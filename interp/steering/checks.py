"""Whether interventions fit a model: sites, widths, checkpoints, and a formula that works."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.directions import Direction, Directions
from interp.directions.erasure import Eraser
from interp.errors import CheckpointMismatch, InterventionError
from interp.sites import ModelShape
from interp.steering.interventions import Intervention, SiteValues

__all__ = ["check_interventions"]


def check_interventions(items: Sequence[Intervention], shape: ModelShape, fingerprint: Callable[[], str]) -> None:
    """Check that interventions fit a model.

    Raises
    ------
    SiteError
        If a site does not exist or a direction has another width.
    CheckpointMismatch
        If a direction or an eraser was found on another checkpoint.
    InterventionError
        If values have another width, a formula does not work, or something is not an intervention.
    """
    for item in items:
        if not isinstance(item, Intervention):
            raise InterventionError(f"{item!r} is not an intervention: use Add, Interpolate, Clamp, Ablate, Swap, ...")
        for spec in dataclasses.fields(item):
            _check_part(getattr(item, spec.name), shape, fingerprint)
        for site in item.sites:
            site.check(shape)
        if not item.own:
            _check_formula(item, shape)


def _check_part(part: Any, shape: ModelShape, fingerprint: Callable[[], str]) -> None:
    """Whatever an intervention holds that knows its site, its width or its checkpoint."""
    if isinstance(part, Directions | tuple | list):
        for inner in part:
            _check_part(inner, shape, fingerprint)
    elif isinstance(part, Direction):
        part.site.check(shape)
        part.check_shape(shape)
        if part.model:
            part.check_model(fingerprint())
    elif isinstance(part, SiteValues | Eraser):
        width = part.values.shape[1] if isinstance(part, SiteValues) else part.dim
        what = "values" if isinstance(part, SiteValues) else "the eraser"
        part.site.check(shape)
        if width != shape.dim(part.site.kind):
            verb = "have" if isinstance(part, SiteValues) else "has"
            raise InterventionError(
                f"{what} for {part.site} {verb} width {width}, but the site has {shape.dim(part.site.kind)}."
            )
        if isinstance(part, Eraser) and part.model and part.model != fingerprint():
            raise CheckpointMismatch(
                f"the eraser for {part.site} was fitted on checkpoint {part.model} but is used with "
                f"{fingerprint()}: fit it again on activations of this checkpoint."
            )


def _check_formula(item: Intervention, shape: ModelShape) -> None:
    """Run the formula once on zeros, at one site of each width."""
    for dim, site in {shape.dim(site.kind): site for site in item.sites}.items():
        entries = {
            name: value[:1] if name in item.tables else np.atleast_1d(value)[None]
            for name, value in item.numbers[site].items()
        }
        p = {name: torch.tensor(value[:, None, None], dtype=torch.float32) for name, value in entries.items()}
        h = torch.zeros(1, 1, 1, dim)
        try:
            result = item.edit(h, torch.ones(1, 1, 1, 1), p)
        except (RuntimeError, TypeError, KeyError, AttributeError, NotImplementedError) as error:
            problem = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InterventionError(
                f"the formula of {type(item).__name__} does not work at {site} of width {dim} ({problem}): look at "
                "Intervention.edit for the shapes it gets."
            ) from error
        if not isinstance(result, Tensor) or result.shape != h.shape:
            what = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
            raise InterventionError(
                f"the formula of {type(item).__name__} gives {what} at {site} for activations of {tuple(h.shape)}: "
                "it must keep their shape, and the numbers the site's width."
            )
