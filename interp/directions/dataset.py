"""Directions of every method at every site of a dataset of activations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from interp.directions.collection import Direction, Directions
from interp.directions.reading import check_finite, fingerprint, read_stacks
from interp.directions.refit import refit
from interp.directions.targets import Scheme, Target, make_targets
from interp.errors import DataError
from interp.pooling import choose_pool
from interp.sites import Site

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["fit_directions", "targets_of"]


def fit_directions(
    ds: xr.Dataset,
    traits: str | Iterable[str],
    *,
    sites: str | Site | Iterable[str | Site] = "heads",
    pool: str | None = None,
    methods: Sequence[str] = ("logistic", "ridge", "mean_diff"),
    scheme: Scheme = "auto",
    clips: NDArray[np.bool_] | None = None,
    seed: int = 0,
    **fit: Any,
) -> Directions:
    """Fit directions of every method and trait at every site, on the same clips and the same scaling.

    Parameters
    ----------
    ds : xarray.Dataset
        From :func:`interp.extract`.
    traits : str or iterable of str
        Label columns, or choices within one: ``"drums"``, ``"genre=jazz|rock"``.
    sites : str, Site or iterable of them
        Where.
    pool : str, optional
        Which pooling; may be left out when there is one, or when ``"mean"`` is among them.
    methods : sequence of str
        From :data:`interp.geometry.METHODS`. Methods that need two classes are left out for graded traits,
        unless that leaves none.
    scheme : {"auto", "binary", "ovr", "pairwise", "graded"}
        What to do with traits of several classes, see :func:`interp.geometry.make_targets`.
    clips : bool array of shape (clips,), optional
        Clips to fit on (the training part of a study); all by default.
    seed : int
        For random directions.
    **fit
        ``ridge``, ``C``, ``standardise``, ``device``: see :func:`interp.directions.refit`.

    Returns
    -------
    Directions
        With sigma and intercept measured on the clips used: the logit is zero half-way between the class
        means (for graded traits: at the mean). ``score`` is left to :func:`interp.probe`, which holds clips
        out.

    Raises
    ------
    SiteError, DataError
        If the dataset lacks a site or a label, or nothing can be fitted.
    """
    from interp.directions.refit import BINARY_ONLY

    targets = targets_of(ds, traits, scheme, clips)
    mask = np.ones(ds.sizes["clip"], bool) if clips is None else np.asarray(clips, bool)
    model, pool = fingerprint(ds), choose_pool(ds["pool"].values, pool)
    found: list[Direction] = []
    for stack in read_stacks(ds, sites, pool):
        check_finite(stack.x, stack.sites, ds["clip"].values)
        x = stack.x[:, mask]
        for graded in (False, True):
            group = [t for t in targets if t.graded == graded]
            usable = [m for m in methods if not (graded and m in BINARY_ONLY)]
            if group and not usable:
                raise DataError(f"{', '.join(methods)} need two classes, but {group[0].trait} is graded: add ridge.")
            for method in usable if group else ():
                weights = refit(x, np.stack([t.y for t in group]), method=method, seed=seed, **fit)[:, :, 0]
                for row, site in enumerate(stack.sites):
                    for column, target in enumerate(group):
                        books = {"model": model, "pool": pool, "info": {"n_clips": int(target.used.sum()), **fit}}
                        found.append(_direction(site, weights[row, column], x[row], target, method, books))
    return Directions(found)


def targets_of(
    ds: xr.Dataset,
    traits: str | Iterable[str],
    scheme: Scheme = "auto",
    clips: NDArray[np.bool_] | None = None,
) -> list[Target]:
    """Targets of a dataset's labels, over the clips that are used."""
    from interp.activations import labels

    table = labels(ds)
    return make_targets(table if clips is None else table[np.asarray(clips, bool)], traits, scheme)


def _direction(
    site: Site, weight: NDArray[np.float64], x: NDArray[Any], target: Target, method: str, books: dict[str, Any]
) -> Direction:
    used = np.asarray(x[target.used], dtype=np.float64)
    y = target.y[target.used]
    means = [used.mean(axis=0)] if target.graded else [used[y > 0].mean(axis=0), used[y < 0].mean(axis=0)]
    info = books["info"] | ({"against": target.against} if target.against else {})
    return Direction.from_weight(
        site,
        weight,
        activations=used,
        intercept=-float(np.mean([m @ weight for m in means])),
        method=method,
        trait=target.trait,
        positive=target.positive,
        model=books["model"],
        pool=books["pool"],
        info=info,
    )
