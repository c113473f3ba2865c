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
from numpy.typing import NDArray

from interp.directions import Directions
from interp.directions.dataset import fit_directions
from interp.directions.direction import Direction
from interp.directions.estimator import Estimator, estimators_of
from interp.directions.penalty import Amount
from interp.directions.reading import check_finite, clip_groups, fingerprint, label_table, read_stacks
from interp.directions.targets import Scheme
from interp.errors import DataError
from interp.geometry.agreement import Activations, agreement, fit_halves
from interp.geometry.nulls import null_columns, sphere_p
from interp.geometry.spaces import Metric, cosine
from interp.sites import Site
from interp.stats import cosine_null
from interp.traits import Trait

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["activations_at", "compare_methods", "compare_traits", "cosine_table"]

Array = NDArray[np.float64]
Asked = str | Trait | Iterable[str | Trait] | Directions


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
        Inner product, see :func:`interp.geometry.spaces.in_space`.

    Returns
    -------
    DataFrame
        One row per site and pair, with the null of the dimension; see :mod:`interp.geometry.compare`.

    Raises
    ------
    DataError
        If there is no pair to compare.

    Examples
    --------
    >>> from interp.directions import Direction
    >>> pair = [Direction.from_weight("L0.H1", w, method=m, trait="drums", positive="drums") for m, w in (("ridge",
    ...     [1.0, 0]), ("lda", [1.0, 1.0]))]
    >>> cosine_table(pair)[["site", "a", "b", "cosine"]].round(2).to_dict("records")
    [{'site': 'L0.H1', 'a': 'ridge', 'b': 'lda', 'cosine': 0.71}]
    """
    directions = Directions(directions)
    groups: dict[tuple[Any, ...], list[Direction]] = {}
    for d in directions:
        key = (d.site, d.pool, *((d.trait, d.positive, d.against) if by == "method" else (d.method,)))
        groups.setdefault(key, []).append(d)
    rows = []
    for members in groups.values():
        for a, b in combinations(members, 2):
            dim = a.dim if metric in ("raw", "scores", "whitened") else model_width(a, metric, space)
            target = (a.trait, a.positive, a.against) if by == "method" else ("", "", "")
            names = (a.method, b.method) if by == "method" else (a.towards, b.towards)
            rows.append(_row(a.site, target, names, dim, cosine(a, b, metric, **space)))
    if not rows:
        raise DataError(f"no two directions of one site differ only in their {by}: there is no cosine to give.")
    return _finish(pd.DataFrame(rows), metric=metric, by=by)


def compare_methods(
    ds: xr.Dataset,
    what: Asked,
    *,
    clips: NDArray[np.bool_] | None = None,
    sites: str | Site | Iterable[str | Site] = "heads",
    pool: str | None = None,
    methods: Sequence[str] = ("logistic", "ridge", "mean_diff"),
    l2: Amount = "cv",
    shrinkage: Amount = "cv",
    scheme: Scheme = "auto",
    n_permutations: int = 50,
    n_splits: int = 8,
    n_blocks: int = 16,
    seed: int = 0,
) -> pd.DataFrame:
    """Cosines between methods, with ceiling, disattenuated cosine, interval and three nulls.

    What stands beside a cosine is of the same estimators as the directions: same method, same penalty per clip, same
    features. The directions are fitted again on their own clips, and refused where they do not come out.

    Parameters
    ----------
    ds : xarray.Dataset
        The activations that the directions were (or are) fitted on.
    what : Directions, or str, Trait or iterable of them
        Directions of one or more traits by two methods or more, of :func:`interp.directions.fit_directions` or a
        probe. Traits are fitted first, with ``sites, pool, methods, l2, shrinkage, scheme``.
    clips : bool array of shape (clips,), optional
        Clips that the directions were fitted on (the training part of a probe); all by default.
    sites, pool, methods, l2, shrinkage, scheme
        As for :func:`interp.directions.fit_directions`; for traits only.
    n_permutations : int
        Fits on shuffled labels per direction; zero leaves that null out.
    n_splits, n_blocks : int
        Split halves, and blocks of the jackknife.
    seed : int
        Seed.

    Returns
    -------
    DataFrame
        One row per site, trait and pair of methods: the shared columns, those of
        :func:`interp.geometry.agreement.agreement`, ``null_covariance`` (95 % of the absolute cosine between noise
        directions of the activations' covariance), ``null_permuted`` (95 % of the cosine when both methods are fitted
        on the same shuffled labels: how much they agree about nothing).

    Raises
    ------
    SiteError, DataError
        If the dataset lacks a site or a label, directions were not fitted on these clips, or there are too few groups
        for a split half.

    Examples
    --------
    >>> import numpy as np
    >>> import interp
    >>> tones = [np.sin(np.arange(4000) / (5 + 5 * (i % 2))) * (i + 4) / 32 for i in range(24)]
    >>> clips = interp.Clips.from_arrays(tones, 16_000, {"high": [1 - i % 2 for i in range(24)]})
    >>> ds = interp.extract(interp.load("tiny", device="cpu"), clips, sites="L3.resid", progress=False)
    >>> methods = ("ridge", "mean_diff")
    >>> table = compare_methods(ds, "high", sites="L3.resid", methods=methods, n_permutations=2, n_splits=2)
    >>> table[["site", "a", "b"]].to_dict("records")
    [{'site': 'L3.resid', 'a': 'ridge', 'b': 'mean_diff'}]
    """
    directions = _directions(ds, what, clips, sites, pool, methods, l2, shrinkage, scheme, seed)
    return _measured(ds, directions, "method", clips, n_permutations, n_splits, n_blocks, seed)


def compare_traits(
    ds: xr.Dataset,
    what: Asked,
    *,
    method: str = "mean_diff",
    clips: NDArray[np.bool_] | None = None,
    sites: str | Site | Iterable[str | Site] = "heads",
    pool: str | None = None,
    l2: Amount = "cv",
    shrinkage: Amount = "cv",
    scheme: Scheme = "auto",
    n_permutations: int = 50,
    n_splits: int = 8,
    n_blocks: int = 16,
    seed: int = 0,
) -> pd.DataFrame:
    """Cosines between the directions of different traits by one method, with the books of :func:`compare_methods`.

    ``null_permuted`` shuffles the labels of the first trait only: what the second one's direction looks like to a trait
    that is not there.

    Examples
    --------
    >>> import numpy as np
    >>> import interp
    >>> tones = [np.sin(np.arange(4000) / (5 + 5 * (i % 2))) * (i + 4) / 32 for i in range(24)]
    >>> labels = {"high": [1 - i % 2 for i in range(24)], "loud": [i > 11 for i in range(24)]}
    >>> clips = interp.Clips.from_arrays(tones, 16_000, labels)
    >>> ds = interp.extract(interp.load("tiny", device="cpu"), clips, sites="L3.resid", progress=False)
    >>> table = compare_traits(ds, ["high", "loud"], sites="L3.resid", n_permutations=2, n_splits=2)
    >>> table[["site", "a", "b"]].to_dict("records")
    [{'site': 'L3.resid', 'a': 'high', 'b': 'loud'}]
    """
    directions = _directions(ds, what, clips, sites, pool, [method], l2, shrinkage, scheme, seed)
    return _measured(ds, directions, "trait", clips, n_permutations, n_splits, n_blocks, seed)


def activations_at(ds: xr.Dataset, directions: Sequence[Direction]) -> Activations:
    """Activations of all clips at the sites of directions, pooled as they are.

    Raises
    ------
    SiteError, DataError
        If the dataset lacks a site or a pooling, or an activation is not finite.
    CheckpointMismatch
        If the directions were read from another checkpoint.
    """
    Directions(directions).check_model(fingerprint(ds))
    pools = list(dict.fromkeys(d.pool for d in directions))
    if len(pools) != 1:
        raise DataError(f"directions of poolings {', '.join(pools)} cannot be compared: select one.")
    x: dict[Site, NDArray[np.floating]] = {}
    for stack in read_stacks(ds, list(dict.fromkeys(d.site for d in directions)), pools[0] or None):
        check_finite(stack.x, stack.sites, ds["clip"].values)
        x |= dict(zip(stack.sites, stack.x, strict=True))
    return x


def _directions(
    ds: xr.Dataset,
    what: Asked,
    clips: NDArray[np.bool_] | None,
    sites: str | Site | Iterable[str | Site],
    pool: str | None,
    methods: Sequence[str],
    l2: Amount,
    shrinkage: Amount,
    scheme: Scheme,
    seed: int,
) -> Directions:
    if isinstance(what, Directions):
        return what
    return fit_directions(
        ds, what, sites=sites, pool=pool, methods=methods, l2=l2, shrinkage=shrinkage, scheme=scheme, clips=clips,
        seed=seed,
    )  # fmt: skip


def _measured(
    ds: xr.Dataset,
    directions: Directions,
    by: Literal["method", "trait"],
    clips: NDArray[np.bool_] | None,
    n_permutations: int,
    n_splits: int,
    n_blocks: int,
    seed: int,
) -> pd.DataFrame:
    groups = np.asarray(clip_groups(ds))
    tables = []
    for kind in directions.unique("kind"):
        members = directions.select(kind=kind)
        x = activations_at(ds, members)
        estimators = estimators_of(members, label_table(ds), clips)
        pairs = _pairs(estimators, by)
        if not pairs:
            continue
        chosen = list(dict.fromkeys(e for pair in pairs for e in pair))
        halved = fit_halves(x, chosen, groups, n_splits=n_splits, n_blocks=n_blocks, seed=seed)
        used = np.logical_or.reduce([e.target.used for e in chosen])
        rows = []
        for record in agreement(halved, pairs).to_dict("records"):
            a, b = pairs[record.pop("pair")]
            names = (a.method, b.method) if by == "method" else (str(a.target), str(b.target))
            what = (str(a.target.trait), a.target.positive, a.target.against) if by == "method" else ("", "", "")
            site = record.pop("site")
            rows.append(_row(site, what, names, len(x[site][0]), record.pop("cosine")) | record)
        table = pd.DataFrame(rows)
        table["n_clips"], table["n_groups"] = int(used.sum()), len(np.unique(groups[used]))
        tables.append(pd.concat([table, null_columns(x, pairs, groups, used, n_permutations, seed)], axis=1))
    if not tables:
        count = "two methods or more are" if by == "method" else "two traits (or a trait of several classes) are"
        raise DataError(f"{count} needed for a cosine between {by}s: there are {directions!r}.")
    table = _finish(pd.concat(tables, ignore_index=True), by=by, metric="raw")
    table.attrs.update(n_splits=n_splits, n_blocks=n_blocks, n_permutations=n_permutations, seed=seed)
    return table


def _pairs(estimators: Sequence[Estimator], by: Literal["method", "trait"]) -> list[tuple[Estimator, Estimator]]:
    """Pairs that differ in their method alone, or in their trait alone, in order, at one site at least."""
    return [
        (a, b)
        for a, b in combinations(sorted(estimators, key=lambda e: estimators.index(_first(estimators, e, by))), 2)
        if (a.target is b.target if by == "method" else a.method == b.method) and set(a.sites) & set(b.sites)
    ]


def _first(estimators: Sequence[Estimator], estimator: Estimator, by: Literal["method", "trait"]) -> Estimator:
    """The first estimator that shares what a pair shares."""
    return next(
        e for e in estimators if (e.target is estimator.target if by == "method" else e.method == estimator.method)
    )


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
