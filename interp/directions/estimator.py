"""A direction as the estimator that it came from: to be fitted again on halves, subsamples and shuffled labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from interp.directions.collection import Directions
from interp.directions.dataset import amounts_of
from interp.directions.direction import Direction
from interp.directions.fitting import fit
from interp.directions.registry import find
from interp.directions.targets import Target, target_of
from interp.errors import DataError
from interp.sites import Site

__all__ = ["Estimator", "estimators_of"]

Array = NDArray[np.float64]
_SAME = 1e-5
"""How far from one the cosine of a direction with its own refit may be."""


@dataclass(frozen=True, eq=False)
class Estimator:
    """The directions of one trait and method at some sites, and how they were fitted.

    Attributes
    ----------
    target : Target
        What they are fitted to.
    method : str
    directions : tuple of Direction
        One a site.
    penalty : mapping from "l2" or "shrinkage" to array of shape (sites,)
        Of every site, for all clips of the target; empty for methods without.
    options : mapping
        Other arguments of :func:`interp.directions.fit`.
    """

    target: Target
    method: str
    directions: tuple[Direction, ...]
    penalty: Mapping[str, Array]
    options: Mapping[str, Any]

    @property
    def sites(self) -> tuple[Site, ...]:
        """Sites, in order."""
        return tuple(d.site for d in self.directions)

    @property
    def graded(self) -> bool:
        """Whether labels are numbers."""
        return self.target.graded

    def vectors(
        self, x: NDArray[np.floating], weights: Array | None = None, labellings: NDArray[np.generic] | None = None
    ) -> Array:
        """Unit vectors of the same estimator, at the same penalty per clip, on other weights or labels.

        Parameters
        ----------
        x : array of shape (sites, clips, dim)
            Activations at the estimator's sites, of all clips.
        weights : array of shape (fits, clips), optional
            Weight of each clip in each fit.
        labellings : array of shape (fits, used clips), optional
            Labels in place of the target's, of the clips that take part.

        Returns
        -------
        array of shape (sites, fits, dim)
            NaN where there is no direction.
        """
        used = self.target.used
        amounts: dict[str, Any] = {
            name: values[:, None] / (used.sum() if name == "l2" else 1) for name, values in self.penalty.items()
        }
        fits = fit(
            x[:, used],
            self.target.y if labellings is None else labellings,
            None if weights is None else weights[:, used],
            method=self.method,
            graded=self.graded,
            per_clip=True,
            **amounts,
            **self.options,
        )
        vectors = fits.unit(output=self.target.output)[:, 0]  # [sites, folds, labellings, dim]
        return vectors[:, :, 0] if labellings is None else vectors[:, 0]

    def check(self, x: NDArray[np.floating]) -> None:
        """Fit the directions again on the same clips, and refuse if they are not these directions.

        Raises
        ------
        DataError
            If they were fitted on other clips, labels or activations, or in another way.
        """
        if self.method == "random":
            return
        again = self.vectors(x)[:, 0]
        for direction, vector in zip(self.directions, again, strict=True):
            cosine = float(direction.vector @ vector)
            if not cosine > 1 - _SAME:
                raise DataError(
                    f"{direction} does not come out of these clips: fitted again, its cosine with itself is "
                    f"{cosine:.4f}. Name the clips that it was fitted on with clips= (of a probe: its training part)."
                )


def estimators_of(
    directions: Iterable[Direction], labels: pd.DataFrame, clips: NDArray[np.bool_] | None = None
) -> list[Estimator]:
    """Directions as estimators: those that share trait, class and method, and differ in their site, are one.

    Parameters
    ----------
    directions : iterable of Direction
        From :func:`interp.directions.fit_directions` or :func:`interp.probes.probe`, of sites of one width.
    labels : DataFrame of shape (clips, columns)
        Labels of all clips.
    clips : bool array of shape (clips,), optional
        Clips that they were fitted on; all by default.

    Raises
    ------
    DataError
        If a direction does not say at which penalty it was fitted, or two are the same.
    """
    families: dict[tuple[str, str, str], list[Direction]] = {}
    for direction in directions:
        families.setdefault((direction.trait, direction.positive, direction.method), []).append(direction)
    targets: dict[tuple[str, str], Target] = {}
    estimators = []
    for (trait, positive, method), members in families.items():
        find(method)
        Directions(members).single_push()
        if (trait, positive) not in targets:
            target = target_of(labels, trait, positive)
            targets[trait, positive] = target if clips is None else target.within(clips)
        amounts = [amounts_of(d) for d in members]
        penalty = {name: np.array([a[name] for a in amounts]) for name in amounts[0]}
        options: dict[str, Any] = {"seed": int(members[0].info.get("seed", 0))}
        if members[0].info.get("class_weight") is not None:
            options["class_weight"] = members[0].info["class_weight"]
        estimators.append(Estimator(targets[trait, positive], method, tuple(members), penalty, options))
    return estimators
