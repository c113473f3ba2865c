"""Directions of every method at every site of a dataset of activations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from interp.directions.build import as_direction, centred
from interp.directions.collection import Directions
from interp.directions.direction import Direction
from interp.directions.fitting import fit
from interp.directions.penalty import Amount, choose_penalty
from interp.directions.reading import Stack, check_finite, clip_groups, fingerprint, label_table, read_stacks
from interp.directions.registry import Method, find
from interp.directions.targets import Scheme, Target, make_targets
from interp.errors import DataError
from interp.pooling import choose_pool
from interp.sites import Site
from interp.splits import group_folds
from interp.traits import Trait

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["amounts_of", "fit_directions", "targets_of"]

Array = NDArray[np.float64]


def fit_directions(
    ds: xr.Dataset,
    traits: str | Trait | Iterable[str | Trait],
    *,
    sites: str | Site | Iterable[str | Site] = "heads",
    pool: str | None = None,
    methods: Sequence[str] = ("logistic", "ridge", "mean_diff"),
    l2: Amount = "cv",
    shrinkage: Amount = "cv",
    folds: int = 5,
    scheme: Scheme = "auto",
    clips: NDArray[np.bool_] | None = None,
    device: str = "cpu",
    seed: int = 0,
) -> Directions:
    """Fit directions of every method and trait at every site, on the same clips.

    Parameters
    ----------
    ds : xarray.Dataset
        From :func:`interp.extract`.
    traits : str, Trait or iterable of them
        Label columns, or choices within one: ``"drums"``, ``"genre=jazz|rock"``.
    sites : str, Site or iterable of them
        Where.
    pool : str, optional
        Which pooling; may be left out when there is one, or when ``"mean"`` is among them.
    methods : sequence of str
        From :func:`interp.directions.methods`. Methods that need classes are left out for graded traits, unless that
        leaves none.
    l2, shrinkage : "cv" or float
        Penalties, for methods that have one: chosen by cross-validation over groups at every site, or fixed. ``l2`` is
        that of :func:`interp.directions.fit`.
    folds : int
        Of the cross-validation.
    scheme : {"auto", "binary", "ovr", "pairwise", "joint", "graded"}
        What to do with traits of several classes, see :func:`interp.directions.targets.make_targets`.
    clips : bool array of shape (clips,), optional
        Clips to fit on (the training part of a study); all by default.
    device : str
        Where to compute.
    seed : int
        Of folds, and for random directions.

    Returns
    -------
    Directions
        With sigma measured on the clips used, and log odds along the direction for classes. ``score`` is left to
        :func:`interp.probes.probe`, which holds clips out. ``info`` says what is needed to fit them again: the penalty,
        the number of clips, the seed.

    Raises
    ------
    SiteError, DataError
        If the dataset lacks a site or a label, or nothing can be fitted.

    Examples
    --------
    >>> import interp
    >>> tones = [np.sin(np.arange(4000) / (5 + 5 * (i % 2))) * (i + 4) / 32 for i in range(24)]
    >>> clips = interp.Clips.from_arrays(tones, 16_000, {"high": [1 - i % 2 for i in range(24)]})
    >>> ds = interp.extract(interp.load("tiny", device="cpu"), clips, sites="L3.resid", progress=False)

    >>> [direction] = fit_directions(ds, "high", sites="resid", methods=("ridge",), folds=3)
    >>> str(direction), direction.dim
    ('direction ridge of high at L3.resid', 256)
    """
    targets = targets_of(ds, traits, scheme, clips)
    needs_groups = any(find(m).penalty and _amount(find(m), l2, shrinkage) == "cv" for m in methods)
    groups = clip_groups(ds) if needs_groups else np.asarray(ds["clip"].values)
    fields = {"model": fingerprint(ds), "pool": choose_pool(ds["pool"].values, pool)}
    directions: list[Direction] = []
    for stack in read_stacks(ds, sites, fields["pool"]):
        check_finite(stack.x, stack.sites, ds["clip"].values)
        for graded in (False, True):
            group = [t for t in targets if t.graded == graded]
            usable = [m for m in methods if find(m).graded or not graded]
            if group and not usable:
                raise DataError(f"{', '.join(methods)} need two classes, but {group[0].trait} is graded: add ridge.")
            for method in usable if group else ():
                per_site: list[list[Direction | None]] = []
                for target in group:
                    amount = _amount(find(method), l2, shrinkage)
                    if amount == "cv":
                        amounts = _chosen(stack.x, target, groups, method, folds, device, seed)
                    else:
                        amounts = np.full(len(stack.sites), float(amount))
                    per_site.append(_directions(stack, target, method, amounts, fields, device, seed))
                directions += [d for at_site in zip(*per_site, strict=True) for d in at_site if d is not None]
    return Directions(directions)


def targets_of(
    ds: xr.Dataset,
    traits: str | Trait | Iterable[str | Trait],
    scheme: Scheme = "auto",
    clips: NDArray[np.bool_] | None = None,
) -> list[Target]:
    """Targets of a dataset's labels, over the clips that are used."""
    targets = make_targets(label_table(ds), traits, scheme)
    return targets if clips is None else [target.within(clips) for target in targets]


def amounts_of(direction: Direction) -> dict[str, float]:
    """The penalty that a direction was fitted at, as an argument of :func:`interp.directions.fit`.

    Raises
    ------
    DataError
        If its method has a penalty and the direction does not say which.

    Examples
    --------
    >>> amounts_of(Direction.from_weight("L0.H1", [1, 0], method="ridge", info={"l2": 3.0}))
    {'l2': 3.0}
    >>> amounts_of(Direction.from_weight("L0.H1", [1, 0], method="mean_diff"))
    {}
    """
    name = find(direction.method).penalty
    if not name:
        return {}
    amount = direction.info.get(name)
    if amount is None:
        raise DataError(f"{direction} does not say at which {name} it was fitted: fit it with interp.directions.")
    return {name: float(amount)}


def _amount(entry: Method, l2: Amount, shrinkage: Amount) -> Amount:
    amount: Amount = {"l2": l2, "shrinkage": shrinkage, "": np.nan}[entry.penalty]
    if isinstance(amount, str) and amount != "cv":
        raise DataError(f"{entry.penalty} is {amount!r}: give a number, or 'cv' to choose it by cross-validation.")
    return amount


def _chosen(
    x: NDArray[np.floating],
    target: Target,
    groups: NDArray[np.generic],
    method: str,
    folds: int,
    device: str,
    seed: int,
) -> Array:
    rng = np.random.default_rng([seed, 0])
    names = target.y if target.graded else np.array(target.labels.classes)[target.y]
    fold = group_folds(names, groups[target.used], folds, seed=rng, graded=target.graded)
    return choose_penalty(x[:, target.used], target.y, fold, method, graded=target.graded, device=device)


def _directions(
    stack: Stack, target: Target, method: str, amounts: Array, fields: dict[str, str], device: str, seed: int
) -> list[Direction | None]:
    entry = find(method)
    x = stack.x[:, target.used]
    penalty: dict[str, Any] = {entry.penalty: amounts[:, None]} if entry.penalty else {}
    fits = fit(x, target.y, method=method, graded=target.graded, device=device, seed=seed, **penalty)
    weights = centred(fits.at(penalty=0, fold=0, labelling=0))
    info: dict[str, Any] = {"n_clips": int(target.used.sum()), "seed": seed}
    several = weights.shape[1] > 1
    out = []
    for row, site in enumerate(stack.sites):
        out.append(
            as_direction(
                site,
                weights[row, target.output],
                float(fits.intercept[row, 0, 0, 0, target.output]),
                x[row],
                target.hit,
                odds=method in ("logistic", "lda") and not several,
                info=info | ({entry.penalty: float(amounts[row])} if entry.penalty else {}),
                method=method,
                trait=str(target.trait),
                positive=target.positive,
                against=target.against,
                **fields,
            )
        )
    return out
