"""The numbers of an intervention, site by site, as the batched operations take them; and whether they fit a model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interp.errors import CheckpointMismatch, InterventionError
from interp.sites import ModelShape, Site
from interp.steering.interventions import Ablate, Interpolate, Intervention, Swap

__all__ = ["PARAMETERS", "Parameters", "check_interventions", "replacements"]

Parameters = list[tuple[Site, NDArray[Any]]]


def check_interventions(items: Sequence[Intervention], shape: ModelShape, fingerprint: Callable[[], str]) -> None:
    """Check that interventions fit a model.

    Raises
    ------
    SiteError
        If a site does not exist or a direction has another width.
    CheckpointMismatch
        If a direction was found on another checkpoint.
    InterventionError
        If values to put in place have another width, or something is not an intervention.
    """
    for item in items:
        if not isinstance(item, Intervention):
            raise InterventionError(
                f"{item!r} is not an intervention: use Add, Interpolate, Clamp, Ablate, Swap or Smitin."
            )
        for site in item.sites:
            site.check(shape)
        for direction in (*(getattr(item, "directions", None) or ()), *(getattr(item, "listen", None) or ())):
            direction.site.check(shape)
            direction.check_shape(shape)
            if direction.model:
                direction.check_model(fingerprint())
        for values in (*getattr(item, "bank", ()), *getattr(item, "source", ())):
            width = shape.dim(values.site.kind)
            if values.values.shape[1] != width:
                raise InterventionError(
                    f"values for {values.site} have width {values.values.shape[1]}, but the site has {width}."
                )
        for eraser in getattr(item, "erasers", ()):
            if eraser.dim != shape.dim(eraser.site.kind):
                raise InterventionError(
                    f"the eraser for {eraser.site} has width {eraser.dim}, "
                    f"but the site has {shape.dim(eraser.site.kind)}."
                )
            if eraser.model and eraser.model != fingerprint():
                raise CheckpointMismatch(
                    f"the eraser for {eraser.site} was fitted on checkpoint {eraser.model} but is used with "
                    f"{fingerprint()}: fit it again on activations of this checkpoint."
                )


def _strengths(item: Interpolate) -> Parameters:
    weights = item.weights or (1.0,) * len(item.directions)
    return [(d.site, np.array(item.strength * w)) for d, w in zip(item.directions, weights, strict=True)]


def _eraser(part: int) -> Callable[[Ablate], Parameters]:
    """Mean (0), left (1) or right (2) factor of what an ablation erases at each site."""

    def parameters(item: Ablate) -> Parameters:
        if item.how == "leace":
            return [(e.site, (e.mean, e.left, e.right)[part]) for e in item.erasers]
        at: dict[Site, list[NDArray[Any]]] = defaultdict(list)
        for d in item.directions or ():
            at[d.site].append(d.vector)
        found: Parameters = []
        for site, vectors in at.items():
            u, s, _ = np.linalg.svd(np.stack(vectors, 1), full_matrices=False)
            basis = u[:, s > 1e-9]
            found.append((site, (np.zeros(len(basis)), basis, basis.T)[part]))
        return found

    return parameters


PARAMETERS: dict[str, Callable[[Any], Parameters]] = {
    "displacement": lambda item: item.displacements(),
    "vector": lambda item: [(d.site, d.vector) for d in item.directions],
    "strength": _strengths,
    "low": lambda item: [(d.site, np.array(item.bounds(d)[0])) for d in item.directions],
    "high": lambda item: [(d.site, np.array(item.bounds(d)[1])) for d in item.directions],
    "mean": _eraser(0),
    "left": _eraser(1),
    "right": _eraser(2),
}


def replacements(item: Any, width: int) -> Parameters:
    if isinstance(item, Swap):
        return [(s.site, s.values) for s in item.source]
    if item.how == "zero":
        return [(site, np.zeros((1, width))) for site in item.at]
    if item.how == "mean":
        return [(s.site, s.values.mean(0, keepdims=True)) for s in item.bank]
    return [(s.site, s.values) for s in item.bank]
