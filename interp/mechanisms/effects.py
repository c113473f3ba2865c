"""From the change of every pair to a table of effects, with intervals, nulls and the correction for many sites."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from interp.errors import DataError
from interp.sites import Site
from interp.stats import bootstrap_interval, group_weights, max_statistic

__all__ = ["Effects", "exchange_p", "site_table"]

Array = NDArray[np.float64]
_ROUNDING = 16 * float(np.finfo(np.float32).eps)  # of a metric, relative to its size
_ALL_FLIPS = 12  # units up to which all flips of sign are counted


@dataclass(frozen=True, eq=False)
class Effects:
    """What putting activations of one run into another does, site by site.

    Attributes
    ----------
    table : DataFrame
        A row for each site and window: ``site``, ``kind``, ``layer``, ``head``, ``start``, ``stop`` (seconds; NaN where
        all positions are patched), ``change`` (mean over pairs, in units of the metric; positive where the site carries
        what the pairs differ in) with ``lo`` and ``hi`` (95 %, pairs resampled), ``share`` (of the mean gap between the
        two sides), ``mismatched`` (mean change by a source of another pair), ``p``, ``p_max`` (corrected for all rows),
        ``rank`` (1: the largest change), ``n_pairs``.
    changes : array of shape (rows of the table, pairs)
        Change of every pair.
    mismatched : array of that shape, or None
        Change of every pair by a source of another pair.
    clean, corrupt : array of shape (pairs,)
        The metric of both sides.
    metric, how, method : str
        What was measured, which way, and whether by patching or estimated from gradients.
    """

    table: pd.DataFrame
    changes: Array
    mismatched: Array | None
    clean: Array
    corrupt: Array
    metric: str
    how: str
    method: str

    @property
    def gap(self) -> Array:
        """How far apart both sides of every pair are, ``[pairs]``."""
        return self.clean - self.corrupt

    def pairs(self) -> pd.DataFrame:
        """A row for each site, window and pair: ``site``, ``start``, ``stop``, ``pair``, ``clean``, ``corrupt``,
        ``change`` and ``mismatched`` (NaN where it was not measured)."""
        n = len(self.clean)
        where = self.table.loc[self.table.index.repeat(n), ["site", "start", "stop"]].reset_index(drop=True)
        other = np.full(self.changes.shape, np.nan) if self.mismatched is None else self.mismatched
        return where.assign(
            pair=np.tile(np.arange(n), len(self.table)), clean=np.tile(self.clean, len(self.table)),
            corrupt=np.tile(self.corrupt, len(self.table)), change=self.changes.ravel(), mismatched=other.ravel(),
        )  # fmt: skip

    def __repr__(self) -> str:
        best = self.table.loc[self.table["rank"] == 1].iloc[0]
        return (
            f"<{self.method} ({self.how}) of {len(self.table)} sites over {len(self.clean)} pairs, {self.metric}: most "
            f"at {best['site']}, {best['share']:.0%} of the gap>"
        )

    def _repr_html_(self) -> str:
        return str(self.table.sort_values("rank").head(20).to_html(index=False))


def site_table(sites: Sequence[Site]) -> pd.DataFrame:
    """Columns that say what a site is: ``site``, ``kind``, ``layer``, ``head``.

    Examples
    --------
    >>> site_table([Site.parse("L3.H5")]).to_dict("list")
    {'site': ['L3.H5'], 'kind': ['heads'], 'layer': [3], 'head': [5]}
    """
    return pd.DataFrame(
        {
            "site": [str(site) for site in sites],
            "kind": [site.kind for site in sites],
            "layer": [site.layer for site in sites],
            "head": pd.array([site.head for site in sites], dtype="Int64"),
        }
    )


def exchange_p(
    changes: Array, units: NDArray[np.intp], n_permutations: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Are mean changes above zero? P-values of every row alone, and corrected by the largest of all rows.

    Under the null that a pair's change is as likely its negative, whole units flip their sign together; the statistic
    is Student's t, so that a noisy row does not set the maximum for all (Westfall and Young 1993).

    Parameters
    ----------
    changes : array of shape (rows, pairs)
    units : int array of shape (pairs,)
        Independent unit of each pair, from 0.
    n_permutations : int
        Flips that are drawn; all of them where there are at most 12 units.
    rng : numpy.random.Generator

    Returns
    -------
    p, p_max : arrays of shape (rows,)

    Examples
    --------
    >>> changes = np.array([[1.0, 1.1, 0.9, 1.2, 1.0, 0.8], [0.1, -0.2, 0.1, -0.1, 0.2, -0.1]])
    >>> p, p_max = exchange_p(changes, np.arange(6), 100, np.random.default_rng(0))
    >>> p.round(3).tolist(), bool((p_max >= p).all())
    ([0.016, 0.609], True)
    """
    count = np.bincount(units).astype(float)
    sums = np.stack([np.bincount(units, weights=row) / count for row in changes], 1)  # [units, rows]
    n = len(sums)
    if n <= _ALL_FLIPS:
        signs = 1.0 - 2.0 * ((np.arange(1, 2**n)[:, None] >> np.arange(n)) & 1)  # the identity is counted by the p
    else:
        signs = rng.choice([-1.0, 1.0], size=(n_permutations, n))
    square = (sums**2).mean(0)

    def t(mean: Array) -> Array:
        spread = np.sqrt(np.maximum(square - mean**2, 1e-12 * square) / (n - 1))
        return np.divide(mean, spread, out=np.zeros_like(mean), where=spread > 0)

    tested = max_statistic(t(sums.mean(0)), t(signs @ sums / n))
    return tested.p, tested.p_max


def effects(
    sites: Sequence[Site],
    windows: Sequence[tuple[float, float]],
    changes: Array,
    mismatched: Array | None,
    sides: tuple[Array, Array],
    groups: Sequence[Any] | None,
    n_permutations: int,
    seed: int,
    **words: str,
) -> Effects:
    """Put together what was measured; rows of `changes` are sites, and within them windows.

    A row's p-value is the larger of two: that its change is above zero, and that it is above that of a source of
    another pair. Both have to be so for the site to carry what the pair differs in.
    """
    clean, corrupt = sides
    # Sums in another order round otherwise, and always to the same side: that is no change, and must not become one by
    # its consistency.
    rounding = _ROUNDING * float(np.abs(np.stack(sides)).max())
    changes = np.where(np.abs(changes) < rounding, 0.0, changes)
    places = [site for site in sites for _ in windows]
    table = site_table(places).assign(
        start=[start for _ in sites for start, _ in windows], stop=[stop for _ in sites for _, stop in windows]
    )
    sources = {"": changes} if mismatched is None else {"": changes, "mismatched ": mismatched}
    for name, values in {**sources, "metric ": np.stack([clean, corrupt])}.items():
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            where = "" if name == "metric " else f" at {places[bad[0, 0]]}"
            raise DataError(
                f"the {name}change of pair {bad[0, 1]}{where} is NaN or infinite: run the model in float32, or leave "
                "the pair out."
            )
    gap = float((clean - corrupt).mean())
    if gap == 0:
        raise DataError(
            f"the {words['metric']} of both sides is the same, so that there is nothing to carry: choose a metric that "
            "tells the pairs apart."
        )
    n = len(clean)
    units = np.arange(n) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    rng = np.random.default_rng([seed, 7])
    table["change"], table["lo"], table["hi"] = changes.mean(1), np.nan, np.nan
    table["share"] = table["change"] / gap
    table["mismatched"] = np.nan if mismatched is None else mismatched.mean(1)
    table["p"], table["p_max"] = np.nan, np.nan
    if units.max() >= 1:  # one unit has neither spread nor null
        weights = group_weights(units, 2000, rng)
        table["lo"], table["hi"] = bootstrap_interval(
            (weights @ changes.T) / weights.sum(1, keepdims=True), int(units.max()) + 1
        )
        tests = [exchange_p(changes, units, n_permutations, rng)]
        if mismatched is not None:
            tests.append(exchange_p(changes - mismatched, units, n_permutations, rng))
        table["p"], table["p_max"] = (np.max([test[i] for test in tests], 0) for i in (0, 1))
    table["rank"] = (-table["change"]).rank(method="first").astype(int)
    table["n_pairs"] = n
    return Effects(table, changes, mismatched, clean, corrupt, words["metric"], words["how"], words["method"])
