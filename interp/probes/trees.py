"""Labels that have a tree: which family, and within each family which instrument."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from interp.directions import Directions
from interp.directions.reading import label_table
from interp.errors import DataError
from interp.probes.data import ProbeData
from interp.probes.probing import probe_data
from interp.probes.result import ProbeResult
from interp.probes.settings import Settings
from interp.sites import Site
from interp.traits import Trait

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["TreeResult", "label_levels", "tree"]


@dataclass(frozen=True)
class TreeResult:
    """A tree of labels, probed parent by parent.

    Attributes
    ----------
    table : DataFrame
        The tables of all results below each other, with ``node`` (the parent inside which it was probed, ``""`` at the
        root), ``level`` (0 at the root), ``n_missing`` (clips of this parent without a label at this level) and
        ``n_elsewhere`` (labelled clips of other parents, which are no part of this probe). P-values hold within one
        result; ``q`` and ``p_max`` do not correct over nodes.
    results : dict of str to ProbeResult
        By node.
    skipped : DataFrame
        Nodes that were not probed: ``node, level, n_clips, reason``.
    """

    table: pd.DataFrame
    results: dict[str, ProbeResult]
    skipped: pd.DataFrame

    @property
    def directions(self) -> Directions:
        """Directions of all results; their trait says inside which parent they were found."""
        return Directions(d for result in self.results.values() for d in result.directions)

    def summary(self, method: str | None = None) -> pd.DataFrame:
        """The best site of each node by cross-validation, with what was counted."""
        rows = []
        for node, result in self.results.items():
            best = result.ranking(method).iloc[0]
            own = self.table[(self.table["node"] == node) & (self.table["method"] == best["method"])].iloc[0]
            rows.append(
                {
                    "node": node,
                    "level": int(own["level"]),
                    "classes": ", ".join(result.labels.classes),
                    "n_clips": len(result.split.y),
                    "n_missing": int(own["n_missing"]),
                    "n_elsewhere": int(own["n_elsewhere"]),
                    **{k: best[k] for k in ("site", "method", "test_score", "lo", "hi", "chance", "null_max_95")},
                }
            )
        return pd.DataFrame(rows)


def label_levels(ds: xr.Dataset, path: str) -> pd.DataFrame:
    """The levels of a tree of labels, one column a level, missing labels as NaN.

    Parameters
    ----------
    ds : Dataset
    path : str
        Label columns from parent to child with slashes (``"family/instrument"``), or one column whose labels are
        paths (``"brass/trumpet"``; ``"brass"`` alone is a clip whose instrument is not known).

    Raises
    ------
    DataError
        If a column does not exist, or a single column holds no path.
    """
    columns = [part.strip() for part in path.split("/")]
    table = label_table(ds)
    for column in columns:
        if column not in table:
            known = ", ".join(map(str, table.columns)) or "no labels"
            raise DataError(f"no label column {column!r}: the clips have {known}.")
    series = [table[column].map(_text) for column in columns]
    if len(columns) == 1:
        parts = series[0].map(lambda v: [p.strip() for p in v.split("/")] if isinstance(v, str) else [])
        depth = int(parts.map(len).max())
        if depth < 2:
            raise DataError(
                f"the labels of {path!r} hold no hierarchy: write them as paths (brass/trumpet), or name the columns "
                f"from parent to child (family/{path})."
            )
        series = [parts.map(lambda p, k=k: p[k] if len(p) > k and p[k] else np.nan) for k in range(depth)]  # type: ignore[misc]
        columns = [f"{path}[{k}]" for k in range(depth)]
    return pd.DataFrame({column: values.to_numpy(dtype=object) for column, values in zip(columns, series, strict=True)})


def tree(
    ds: xr.Dataset,
    path: str,
    *,
    sites: str | Site | Iterable[str | Site] = "heads",
    pool: str | None = None,
    methods: str | Sequence[str] | None = None,
    min_clips: int = 2,
    progress: bool = False,
    **options: Any,
) -> TreeResult:
    """Probe the parents of a tree of labels, and the children of each parent among its own clips.

    A probe of instruments over all clips earns most of its score by telling families apart. Here the clips of other
    parents take no part in a child's probe: what is found at ``brass`` tells trumpets from trombones.

    Parameters
    ----------
    ds, sites, pool, methods, progress, **options
        As for :func:`interp.probes.probe`.
    path : str
        See :func:`label_levels`.
    min_clips : int
        Children with fewer clips are treated as unlabelled at their level (and counted as missing).

    Returns
    -------
    TreeResult
        Parents with a single child, or too few groups for the folds, are listed in ``skipped`` with the reason.

    Raises
    ------
    DataError
        If the root cannot be probed, or nothing below it is labelled.

    Examples
    --------
    >>> import interp
    >>> tones = [np.sin(np.arange(4000) / (5 + 5 * (i % 4))) * (i + 4) / 32 for i in range(32)]
    >>> labels = {"register": ["high", "high", "low", "low"] * 8, "pitch": ["c6", "c5", "c4", "c3"] * 8}
    >>> clips = interp.Clips.from_arrays(tones, 16_000, labels)
    >>> ds = interp.extract(interp.load("tiny", device="cpu"), clips, sites="L3.resid", progress=False)
    >>> result = tree(ds, "register/pitch", sites="resid", methods="mean_diff", n_permutations=0, folds=2)
    >>> result.summary().set_index("node")["classes"].to_dict()
    {'': 'high, low', 'high': 'c5, c6', 'low': 'c3, c4'}
    """
    settings = Settings.of(**options)
    levels = label_levels(ds, path)
    tables: list[pd.DataFrame] = []
    results: dict[str, ProbeResult] = {}
    skipped: list[dict[str, Any]] = []
    for node, depth, inside in _nodes(levels):
        labels = levels.iloc[:, depth].where(inside)
        counts = labels.value_counts()
        labels = labels.where(~labels.isin(counts.index[counts < min_clips]))
        present = int(labels.notna().sum())
        name = levels.columns[depth] + (f" within {node}" if node else "")
        try:
            if not present:
                raise DataError(f"no clip of {node or 'any parent'} has a label at this level.")
            read = Trait(name).read(labels, None if labels.nunique() == 2 else "categorical")
            data = ProbeData.of(ds, read, sites=sites, pool=pool)
            result = probe_data(data, methods=methods, settings=settings, progress=progress)
        except DataError as error:
            if not node:
                raise
            skipped.append({"node": node, "level": depth, "n_clips": present, "reason": str(error)})
            continue
        results[node] = result
        elsewhere = int((levels.iloc[:, 0].notna() & ~inside).sum()) if node else 0
        tables.append(
            result.table.assign(node=node, level=depth, n_missing=int(inside.sum()) - present, n_elsewhere=elsewhere)
        )
    if len(results) == 1:
        reasons = "; ".join(dict.fromkeys(str(row["reason"]) for row in skipped)) or "no child is labelled"
        raise DataError(f"nothing below the parents of {path!r} can be probed: {reasons}")
    return TreeResult(
        pd.concat(tables, ignore_index=True),
        results,
        pd.DataFrame(skipped, columns=["node", "level", "n_clips", "reason"]),
    )


def _nodes(levels: pd.DataFrame) -> Iterator[tuple[str, int, pd.Series]]:
    """Every parent with its depth and the clips inside it, parents before children; the root holds all clips."""
    yield "", 0, pd.Series(True, index=levels.index)
    for depth in range(1, levels.shape[1]):
        above = levels.iloc[:, :depth]
        known = above.notna().all(axis=1)
        names = above[known].agg("/".join, axis=1)
        for name in sorted(names.unique()):
            yield name, depth, known & (names.reindex(levels.index) == name)


def _text(value: object) -> Any:
    """A label as text; missing ones as NaN."""
    if value is None or (isinstance(value, float) and np.isnan(value)) or not str(value).strip():
        return np.nan
    return str(value).strip()
