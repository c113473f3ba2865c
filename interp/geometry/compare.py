"""Tables of cosines, every row with its nulls and its ceiling: what the plots and the studies draw.

Columns that all tables share: ``site``, ``kind``, ``layer``, ``head``, ``trait``, ``positive``,
``against``, ``a`` and ``b`` (the two methods, or the two traits), ``dim``, ``cosine``, ``null_lo`` and
``null_hi`` (95 % of unrelated uniform directions), ``p`` (of the cosine under that null). Tables made from
activations add what :func:`interp.geometry.agreement` measures and two stricter nulls.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from interp.directions import Direction, Directions
from interp.directions.dataset import targets_of
from interp.directions.reading import check_finite, clip_groups, read_stacks
from interp.directions.refit import BINARY_ONLY, Role, refit, role
from interp.directions.targets import Scheme, Target
from interp.errors import DataError
from interp.geometry.agreement import Arm, agreement, fit_halves
from interp.geometry.nulls import covariance_null, covariance_of, permuted_vectors, sphere_p, unit
from interp.geometry.spaces import Metric, cosine
from interp.pooling import choose_pool
from interp.sites import Site
from interp.stats import cosine_null

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["compare_methods", "compare_traits", "cosine_table"]

Array = NDArray[np.float64]


def cosine_table(
    directions: Iterable[Direction],
    by: Literal["method", "trait"] = "method",
    metric: Metric = "raw",
    **space: Any,
) -> pd.DataFrame:
    """Cosines between the methods of one trait, or the traits of one method, at every site.

    Parameters
    ----------
    directions : iterable of Direction
        Directions of one checkpoint.
    by : {"method", "trait"}
        What differs within a pair; all else is the same.
    metric, **space
        Inner product, see :func:`interp.geometry.in_space`.

    Returns
    -------
    DataFrame
        One row per site and pair, with the null of the dimension; see :mod:`interp.geometry.compare`.

    Raises
    ------
    DataError
        If there is no pair to compare.
    """
    directions = Directions(directions)
    groups: dict[tuple[Any, ...], list[Direction]] = {}
    for d in directions:
        key = (d.site, d.pool, *((d.trait, d.positive, d.info.get("against", "")) if by == "method" else (d.method,)))
        groups.setdefault(key, []).append(d)
    rows = []
    for members in groups.values():
        for a, b in combinations(members, 2):
            dim = a.dim if metric in ("raw", "scores", "whitened") else model_width(a, metric, space)
            target = (a.trait, a.positive, a.info.get("against", "")) if by == "method" else ("", "", "")
            names = (a.method, b.method) if by == "method" else (_trait_name(a), _trait_name(b))
            rows.append(_row(a.site, target, names, dim, cosine(a, b, metric, **space)))
    if not rows:
        raise DataError(f"no two directions of one site differ only in their {by}: there is no cosine to give.")
    return _finish(pd.DataFrame(rows), metric=metric, by=by)


def compare_methods(
    ds: xr.Dataset,
    traits: str | Iterable[str],
    *,
    sites: str | Site | Iterable[str | Site] = "heads",
    pool: str | None = None,
    methods: Sequence[str] = ("logistic", "ridge", "mean_diff"),
    scheme: Scheme = "auto",
    clips: NDArray[np.bool_] | None = None,
    n_permutations: int = 50,
    n_splits: int = 8,
    n_blocks: int = 16,
    seed: int = 0,
    **fit: Any,
) -> pd.DataFrame:
    """Cosines between methods, from activations: with ceiling, disattenuated cosine, interval and three
    nulls.

    Parameters
    ----------
    ds, traits, sites, pool, methods, scheme, clips
        As for :func:`interp.geometry.fit_directions`.
    n_permutations : int
        Refits on shuffled labels per pair; zero leaves that null out.
    n_splits, n_blocks : int
        Split halves, and blocks of the jackknife.
    seed : int
        Seed.
    **fit
        ``ridge``, ``C``, ``standardise``, ``device``.

    Returns
    -------
    DataFrame
        One row per site, target and pair of methods: the shared columns, those of
        :func:`interp.geometry.agreement`, ``null_covariance`` (95 % of the absolute cosine between noise
        directions of the activations' covariance), ``null_permuted`` (95 % of the cosine when both methods
        are fitted on the same shuffled labels: how much they agree about nothing).

    Raises
    ------
    SiteError, DataError
        If the dataset lacks a site or a label, or has too few groups for a split half.
    """
    targets = targets_of(ds, traits, scheme, clips)
    pairs: list[tuple[Arm, Arm]] = []
    for i, target in enumerate(targets):
        usable = [m for m in methods if not (target.graded and m in BINARY_ONLY)]
        pairs += [((i, a), (i, b)) for a, b in combinations(usable, 2)]
    if not pairs:
        raise DataError("two methods or more are needed for a cosine between methods.")
    options = {"n_splits": n_splits, "n_blocks": n_blocks, "n_permutations": n_permutations, "seed": seed}
    return _measured(ds, targets, pairs, sites, pool, clips, "method", options, fit)


def compare_traits(
    ds: xr.Dataset,
    traits: Iterable[str],
    *,
    method: str = "mean_diff",
    sites: str | Site | Iterable[str | Site] = "heads",
    pool: str | None = None,
    scheme: Scheme = "auto",
    clips: NDArray[np.bool_] | None = None,
    n_permutations: int = 50,
    n_splits: int = 8,
    n_blocks: int = 16,
    seed: int = 0,
    **fit: Any,
) -> pd.DataFrame:
    """Cosines between the directions of different traits, with the books of :func:`compare_methods`.

    ``null_permuted`` shuffles the labels of the first trait only: what the second one's direction looks
    like to a trait that is not there.
    """
    targets = targets_of(ds, traits, scheme, clips)
    pairs: list[tuple[Arm, Arm]] = [((i, method), (j, method)) for i, j in combinations(range(len(targets)), 2)]
    if not pairs:
        raise DataError("two traits (or a trait of several classes) are needed for a cosine between traits.")
    options = {"n_splits": n_splits, "n_blocks": n_blocks, "n_permutations": n_permutations, "seed": seed}
    return _measured(ds, targets, pairs, sites, pool, clips, "trait", options, fit)


def _measured(
    ds: xr.Dataset,
    targets: Sequence[Target],
    pairs: Sequence[tuple[Arm, Arm]],
    sites: str | Site | Iterable[str | Site],
    pool: str | None,
    clips: NDArray[np.bool_] | None,
    by: Literal["method", "trait"],
    options: dict[str, int],
    fit: dict[str, Any],
) -> pd.DataFrame:
    mask = np.ones(ds.sizes["clip"], bool) if clips is None else np.asarray(clips, bool)
    groups = np.asarray(clip_groups(ds))[mask]
    arms = list(dict.fromkeys(arm for pair in pairs for arm in pair))
    seed = options["seed"]
    tables = []
    for stack in read_stacks(ds, sites, choose_pool(ds["pool"].values, pool)):
        check_finite(stack.x, stack.sites, ds["clip"].values)
        x = stack.x[:, mask]
        halves: dict[str, Any] = {"n_splits": options["n_splits"], "n_blocks": options["n_blocks"], "seed": seed}
        measured = agreement(fit_halves(x, targets, groups, arms, **halves, **fit), pairs)
        rows = []
        for record in measured.to_dict("records"):
            (i, a), (j, b) = pairs[record.pop("pair")]
            site = stack.sites[record.pop("site")]
            one, two = targets[i], targets[j]
            names = (a, b) if by == "method" else (_name(one), _name(two))
            target = (one.trait, one.positive, one.against) if by == "method" else ("", "", "")
            rows.append(_row(site, target, names, x.shape[2], record.pop("cosine")) | record)
        table = pd.DataFrame(rows)
        table["n_clips"], table["n_groups"] = int(mask.sum()), len(np.unique(groups))
        nulls = _nulls(x, targets, groups, pairs, options["n_permutations"], seed, fit)
        tables.append(pd.concat([table, nulls], axis=1))
    table = _finish(pd.concat(tables, ignore_index=True), by=by, metric="raw")
    table.attrs.update(options | {"fit": fit})
    return table


def _nulls(
    x: NDArray[np.floating],
    targets: Sequence[Target],
    groups: ArrayLike,
    pairs: Sequence[tuple[Arm, Arm]],
    n_permutations: int,
    seed: int,
    fit: dict[str, Any],
) -> pd.DataFrame:
    """Columns null_covariance and null_permuted, one row per pair and site, in the order of
    :func:`agreement`."""
    covariances = [covariance_of(site) for site in x]
    noise: dict[tuple[int, Role, Role], float] = {}
    shuffled: dict[Arm, Array] = {}
    columns: dict[str, list[float]] = {"null_covariance": [], "null_permuted": []}
    for (i, a), (j, b) in pairs:
        for k, covariance in enumerate(covariances):
            key = (k, role(a), role(b))
            if key not in noise:
                draws = covariance_null(covariance, key[1:], seed=seed)
                noise[key] = float(np.quantile(np.abs(draws), 0.95))
            columns["null_covariance"].append(noise[key])
        if not n_permutations:
            columns["null_permuted"] += [np.nan] * len(x)
            continue
        for t, method in ((i, a), (j, b)) if i == j else ((i, a),):
            if (t, method) not in shuffled:
                shuffled[t, method] = permuted_vectors(
                    x, targets[t].y, groups, method, n=n_permutations, seed=seed, **fit
                )
        if i == j:
            null = (shuffled[i, a] * shuffled[i, b]).sum(axis=-1)
        else:
            other = unit(refit(x, targets[j].y, method=b, seed=seed + 1, **fit)[:, 0])
            null = np.abs((shuffled[i, a] * other).sum(axis=-1))
        columns["null_permuted"] += list(np.quantile(null, 0.95, axis=1))
    return pd.DataFrame(columns)


def _row(site: Site, target: tuple[str, str, str], names: tuple[str, str], dim: int, value: float) -> dict[str, Any]:
    where = {"site": str(site), "kind": site.kind, "layer": site.layer, "head": site.head}
    what = dict(zip(("trait", "positive", "against"), target, strict=True))
    return where | what | {"a": names[0], "b": names[1], "dim": dim, "cosine": value}


def _finish(table: pd.DataFrame, **attrs: Any) -> pd.DataFrame:
    table = table.astype({"head": "Int64"})
    limits = {dim: float(cosine_null(int(dim))) for dim in table["dim"].unique()}
    place = table.columns.get_loc("cosine") + 1
    table.insert(place, "null_lo", -table["dim"].map(limits))
    table.insert(place + 1, "null_hi", table["dim"].map(limits))
    table.insert(
        place + 2, "p", [float(sphere_p(c, int(d))) for c, d in zip(table["cosine"], table["dim"], strict=True)]
    )
    table.attrs.update(attrs)
    return table


def model_width(direction: Direction, metric: Metric, space: dict[str, Any]) -> int:
    """Dimension of the space that a metric through the model ends in, for one head: that of the head."""
    model = space.get("model")
    return direction.dim if model is None or metric == "logits" else min(direction.dim, int(model.shape.width))


def _name(target: Target) -> str:
    return target.trait if target.graded else f"{target.trait}={target.positive}"


def _trait_name(d: Direction) -> str:
    against = f"/{d.info['against']}" if d.info.get("against") else ""
    return f"{d.trait}={d.positive}{against}"
