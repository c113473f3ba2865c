"""What probing gives: the table of all sites, the directions, and everything behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from interp.directions import Directions
from interp.errors import DataError
from interp.probes.evaluate import Evaluation, Split
from interp.sites import Site
from interp.traits import Labels

__all__ = ["ProbeResult", "joined"]

_SHOWN = ["site", "method", "cv_score", "test_score", "lo", "hi", "chance", "null_max_95", "p_max"]


@dataclass(frozen=True, repr=False)
class ProbeResult:
    """A trait probed at many sites.

    Attributes
    ----------
    table : DataFrame
        One row per site and method: ``site, kind, layer, head, trait, method, n_train, n_test, n_groups, cv_score``
        (what ranking and penalties go by), ``test_score`` with its 95 % interval ``lo, hi`` over groups, ``chance``,
        ``null_max_95`` (what the best site reaches on shuffled labels in 95 of 100 cases), ``p`` (this site against
        its own null), ``p_max`` (against the best site of its kind), ``q`` (Benjamini-Hochberg over the sites of its
        kind), ``converged`` (every fit behind the row), ``score`` (which one), ``l2`` (penalty chosen; of LDA its
        shrinkage), ``n_missing`` (clips without a label).
    directions : Directions
        One per site and method (and class, for more than two classes).
    baseline : DataFrame
        The same table for features that are no activations: mel spectrum, chroma, an untrained model's.
    labels : Labels
        What was asked, and every clip's answer.
    split : Split
        Splits and shuffles.
    sites : tuple of Site
        In the order of the arrays in ``evaluations``.
    evaluations : dict
        Everything per method: decision values on the test part, nulls, weights.
    clips : array of str
        Ids of the clips in the split.
    info : dict
        What made it.
    """

    table: pd.DataFrame
    directions: Directions
    baseline: pd.DataFrame
    labels: Labels
    split: Split
    sites: tuple[Site, ...]
    evaluations: Mapping[str, Evaluation]
    clips: NDArray[np.str_]
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def methods(self) -> list[str]:
        """Methods, in the order asked for."""
        return list(self.evaluations)

    def method(self, name: str | None = None) -> str:
        """A method that was fitted; the first one by default.

        Raises
        ------
        DataError
            If it was not fitted.
        """
        name = self.methods[0] if name is None else name
        if name not in self.evaluations:
            raise DataError(f"method {name!r} was not fitted: there are {', '.join(self.methods)}.")
        return name

    def ranking(self, method: str | None = None) -> pd.DataFrame:
        """Rows of one method (the first by default), best cross-validated score first; ties in forward order.

        The rank comes from training clips alone, so the test score beside it is no best-of-many.

        Raises
        ------
        DataError
            If the method was not fitted.
        """
        rows = self.table[self.table["method"] == self.method(method)]
        rows = rows.sort_values("cv_score", ascending=False, kind="stable")
        return rows.reset_index(drop=True).rename_axis("rank")

    def null(self, method: str | None = None) -> NDArray[np.float64]:
        """Test scores on shuffled labels, shape (permutations, sites)."""
        return self.evaluations[self.method(method)].null

    def top(self, k: int = 10, method: str | None = None, *, positive: str | None = None) -> Directions:
        """Directions of the k best sites, best first.

        Parameters
        ----------
        k : int
            How many sites.
        method : str, optional
            The first one by default.
        positive : str, optional
            Which class, of a trait of several: a site has a direction for each, and together they cancel.

        Raises
        ------
        DataError
            If the method was not fitted, or the trait has several classes and none, or another, is named.
        """
        method = self.method(method)
        if self.labels.kind == "categorical" and positive not in self.labels.classes:
            raise DataError(
                f"{self.labels.name!r} has the classes {', '.join(self.labels.classes)}, each with a direction of its "
                f"own: name one, as in top({k}, positive={self.labels.classes[0]!r})."
            )
        best = [Site.parse(site) for site in self.ranking(method)["site"][:k]]
        chosen = [d for site in best for d in self.directions.select(site=site, method=method)]
        return Directions(d for d in chosen if positive is None or d.positive == positive)

    def __repr__(self) -> str:
        best = self.ranking().iloc[0]
        return (
            f"<ProbeResult of {self.labels.name!r} ({self.labels.kind}, {len(self.split.y)} clips, "
            f"{self.labels.n_missing} unlabelled) at {len(self.sites)} sites: best {best['site']} {best['score']} "
            f"{best['test_score']:.3f} [{best['lo']:.3f}, {best['hi']:.3f}], chance {best['chance']:.3f}>"
        )

    def _repr_html_(self) -> str:
        from html import escape

        rows = self.ranking().head(8)[_SHOWN]
        return f"<p>{escape(repr(self))}</p>{rows.to_html(index=False, float_format='{:.3f}'.format, border=0)}"


def joined(parts: list[Evaluation]) -> Evaluation:
    """Evaluations of all kinds in one; weights of different widths are padded with NaN."""
    if len(parts) == 1:
        return parts[0]
    width = max(p.coef.shape[-1] for p in parts)
    for p in parts:
        p.coef = np.pad(p.coef, ((0, 0), (0, 0), (0, width - p.coef.shape[-1])), constant_values=np.nan)
    names = list(Evaluation.__dataclass_fields__)
    return Evaluation(*(np.concatenate([getattr(p, n) for p in parts], axis=1 if n == "null" else 0) for n in names))
