"""One summary of judged clips: success, quality and specificity of every condition, each beside its unsteered twins.

**Success** is the share of clips in which the judge hears the trait, with Wilson's interval, the paired difference to
the twins with a bootstrap interval over seeds, and p-values of sign flips: alone, by Holm, and against the largest
statistic of the whole family. **Quality** is the share judged to be no music, the share of degenerate audio, and the
distance (FAD, KAD) of the clips' embeddings from those of reference music. **Specificity** is what else changed: how
many of the judge's other answers stay those of the unsteered twin (``kept``), how much of its harmony and rhythm does
(``chroma_kept``, ``onsets_kept``: correlations, :mod:`interp.judges.similarity`), and how similar the continuation is
to its prompt (``similarity``). Pushing anywhere makes another piece of music, so all are to be read beside the random
direction's.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from interp.errors import DataError
from interp.judges.distances import FEWEST, Reference, fad, kad
from interp.stats import bootstrap_interval, group_weights, holm, jackknife_interval, paired_bootstrap, wilson
from interp.validation.arms import UNSTEERED
from interp.validation.effects import cohens_h, matched_odds, sign_flip_max

__all__ = ["JUDGED", "References", "embeddings", "public", "summarise"]

JUDGED = "p_"
"""Prefix of the columns with the probability of every answer that the judge gives."""
KEY = ("judge", "trait", "arm", "dose")
UNIT = ("judge", "trait", "seed", "start", "stop")
FAMILY = ("judge", "trait")
OF_TWIN = ("kept", "chroma_kept", "onsets_kept")
"""Measures of likeness to the twin, which are 1 in the twin itself: they are their own difference to it."""
MEASURES = ("similarity", *OF_TWIN)

References = Mapping[str, NDArray[Any]] | Callable[[Mapping[str, Any]], Mapping[str, NDArray[Any]]]
"""Embeddings of music to measure FAD and KAD from, by name: ``""`` gives the columns ``fad`` and ``kad``, any other
name ``fad_<name>`` and ``kad_<name>``; or a function from a condition (column -> value) to that."""


def embeddings(clips: pd.DataFrame) -> NDArray[np.float64]:
    """The judge's embeddings of clips, ``[clips, dim]``; dim is 0 for a run without.

    Examples
    --------
    >>> embeddings(pd.DataFrame({"hit": [True, False], "e0": [1.0, 2.0], "e1": [0.0, 0.5]})).tolist()
    [[1.0, 0.0], [2.0, 0.5]]
    """
    columns = [name for name in clips.columns if _is_embedding(name)]
    x = clips[columns].to_numpy(np.float64)
    return x[:, ~np.isnan(x).all(axis=0)] if len(x) else x  # judges of a panel differ in dimensions


def public(clips: pd.DataFrame) -> pd.DataFrame:
    """The table of clips to publish: without embeddings, probabilities to five digits.

    Examples
    --------
    >>> public(pd.DataFrame({"hit": [True], "p_drums": [0.123456789], "e0": [1.0]})).to_dict("records")
    [{'hit': True, 'p_drums': 0.12346}]
    """
    table = clips[[name for name in clips.columns if not _is_embedding(name)]].copy()
    judged = [name for name in table.columns if name.startswith(JUDGED)]
    table[judged] = table[judged].astype(float).round(5)
    return table


def summarise(
    clips: pd.DataFrame,
    by: Sequence[str] = KEY,
    *,
    twin: str = UNSTEERED,
    unit: Sequence[str] = UNIT,
    family: Sequence[str] = FAMILY,
    measures: Sequence[str] = MEASURES,
    references: References | None = None,
) -> pd.DataFrame:
    """One row a condition.

    Parameters
    ----------
    clips : DataFrame
        One row a clip: ``arm, hit, not_music``, the columns of `by` and `unit`, and what else there is of ``control,
        where, degenerate``, `measures` and embeddings ``e0, e1, ...``.
    by : sequence of str
        Columns that make a condition: an arm's ``says`` among them. Those that the clips do not have are left out, as
        they are of `unit` and `family`.
    twin : str
        The arm that every other is compared with.
    unit : sequence of str
        Columns that a clip shares with its twin, and with no other clip of its condition.
    family : sequence of str
        Conditions alike in these columns are one family, within which p-values are corrected.
    measures : sequence of str
        Numbers whose mean, and mean difference to the twin, are told.
    references : mapping or callable, optional
        See :data:`References`.

    Returns
    -------
    DataFrame
        `by`, ``control, where, n, hits, rate, lo, hi`` (Wilson), ``not_music``; the paired difference to the twins
        ``diff, diff_lo, diff_hi`` (bootstrap over units) with ``p`` (sign flips), ``p_holm`` and ``p_max`` (corrected
        by Holm and by the largest statistic) and the effect sizes ``h`` and ``odds``; ``degenerate``; for each measure
        its mean and difference with intervals; ``fad, fad_lo, fad_hi`` (:func:`interp.judges.distances.fad_interval`),
        ``fad_diff`` with its interval (:func:`interp.judges.fad_difference`) and ``kad``.

    Raises
    ------
    DataError
        If a clip has no twin, or several.

    Examples
    --------
    >>> clips = pd.DataFrame({"arm": ["unsteered"] * 3 + ["push"] * 3, "method": [""] * 3 + ["ridge"] * 3,
    ...     "seed": [0, 1, 2] * 2, "hit": [False, False, True, True, True, True], "not_music": False})
    >>> summarise(clips, by=["arm", "method"])[["arm", "method", "n", "rate", "diff"]].round(2)
             arm method  n  rate  diff
    0  unsteered         3  0.33   NaN
    1       push  ridge  3  1.00  0.67
    """
    by, unit = ([str(name) for name in names if name in clips] for names in (by, unit))
    family = [name for name in family if name in by]
    if not by or not unit:
        raise DataError(f"the clips have no column to tell conditions or twins by: {', '.join(map(str, clips))}.")
    twins = _Twins(clips[clips["arm"] == twin], unit)
    lines: list[dict[str, Any]] = []
    gains: list[pd.Series | None] = []
    for key, rows in clips.groupby(by, sort=False, dropna=False):
        line = dict(zip(by, key if isinstance(key, tuple) else (key,), strict=True))
        line |= {name: rows[name].iloc[0] for name in ("control", "where") if name in rows and name not in by}
        hit = rows["hit"].to_numpy(float)
        lo, hi = wilson(hit.sum(), len(rows))
        line |= {"n": len(rows), "hits": int(hit.sum()), "rate": float(hit.mean()), "lo": float(lo), "hi": float(hi)}
        line["not_music"] = float(rows["not_music"].astype(float).mean())
        base = twins.of(rows) if (rows["arm"] != twin).any() else None
        gains.append(None)
        if base is not None:
            before = base["hit"].to_numpy(float)
            gain = paired_bootstrap(hit, before)
            line |= {"diff": gain.difference, "diff_lo": gain.lo, "diff_hi": gain.hi, "p": gain.p}
            line |= {"h": cohens_h(hit.mean(), before.mean()), "odds": matched_odds(hit, before)}
            gains[-1] = pd.Series(hit - before, index=_index(rows, [name for name in unit if name not in family]))
        line |= _quality(rows, base, measures)
        if references:
            known = references(line) if callable(references) else references
            line |= _distances(rows, base, known, twins)
        lines.append(line)
    return _corrected(pd.DataFrame(lines), gains, family)


class _Twins:
    """The unsteered clips, to be found by their unit."""

    def __init__(self, clips: pd.DataFrame, unit: Sequence[str]) -> None:
        self.unit, self.index = unit, _index(clips, unit)
        self.clips = clips.set_axis(self.index)
        if not self.index.is_unique:
            raise DataError(
                f"several unsteered clips are alike in {', '.join(unit)}: name what tells them apart (unit=)."
            )
        self._references: dict[int, tuple[NDArray[Any], Reference]] = {}
        self._left_out: dict[tuple[Any, ...], NDArray[np.float64]] = {}

    def of(self, rows: pd.DataFrame) -> pd.DataFrame | None:
        """The twins of some clips, in their order; None where there are none at all."""
        if self.clips.empty:
            return None
        wanted = _index(rows, self.unit)
        missing = ~wanted.isin(self.index)
        if missing.any():
            raise DataError(
                f"{int(missing.sum())} clips have no unsteered twin, the first is {wanted[missing][0]} "
                f"({', '.join(self.unit)}): run the same seeds unsteered, or name what twins share (unit=)."
            )
        return self.clips.loc[wanted]

    def reference(self, x: NDArray[Any]) -> Reference:
        """The reference made of an array, once for all conditions."""
        if id(x) not in self._references:
            self._references[id(x)] = x, Reference(x)  # the array is held, so that its id stays its own
        return self._references[id(x)][1]

    def left_out(self, base: pd.DataFrame, x: NDArray[np.float64], reference: Reference) -> NDArray[np.float64]:
        """:meth:`Reference.left_out` of twins, which many conditions share."""
        key = (id(reference), tuple(base.index))
        if key not in self._left_out:
            self._left_out[key] = reference.left_out(x)
        return self._left_out[key]


def _index(clips: pd.DataFrame, columns: Sequence[str]) -> Any:
    if not columns:
        return pd.RangeIndex(len(clips))
    frame = clips[list(columns)]
    return pd.Index(frame.iloc[:, 0]) if len(columns) == 1 else pd.MultiIndex.from_frame(frame)


def _corrected(table: pd.DataFrame, gains: Sequence[pd.Series | None], family: Sequence[str]) -> pd.DataFrame:
    """p-values corrected within each family; by the largest statistic where all of it are of the same units."""
    if "p" not in table:
        return table
    every: Mapping[Hashable, Any] = {"": range(len(table))}
    groups = table.groupby(list(family), sort=False).indices if family else every
    table["p_holm"] = table["p_max"] = np.nan
    for rows in groups.values():
        where = list(rows)
        table.loc[where, "p_holm"] = holm(table.loc[where, "p"])
        tested = [(i, gain) for i in where if (gain := gains[i]) is not None]
        if tested and all(gain.index.equals(tested[0][1].index) for _, gain in tested):
            largest = sign_flip_max(np.stack([gain.to_numpy() for _, gain in tested], 1)).p_max
            table.loc[[i for i, _ in tested], "p_max"] = largest
    return table


def _quality(rows: pd.DataFrame, base: pd.DataFrame | None, measures: Sequence[str]) -> dict[str, float]:
    """Share of degenerate audio, and each measure with its mean and paired difference to the twins."""
    line: dict[str, float] = {}
    if "degenerate" in rows:
        line["degenerate"] = float(rows["degenerate"].astype(float).mean())
    for name in ("not_music", *measures):
        if name not in rows or len(rows) < 2:
            continue
        after = rows[name].to_numpy(float)
        before = None if base is None else base[name].to_numpy(float)
        if np.isnan(after).any() or (before is not None and np.isnan(before).any()):
            continue
        weights = group_weights(np.arange(len(after)), 1000, np.random.default_rng(0)) / len(after)
        if name != "not_music":
            lo, hi = bootstrap_interval(weights @ after, len(after))
            line |= {name: float(after.mean()), f"{name}_lo": float(lo), f"{name}_hi": float(hi)}
        if before is not None and name not in OF_TWIN:
            lo, hi = bootstrap_interval(weights @ (after - before), len(after))
            line |= {f"{name}_diff": float((after - before).mean())}
            line |= {f"{name}_diff_lo": float(lo), f"{name}_diff_hi": float(hi)}
    return line


def _distances(
    rows: pd.DataFrame, base: pd.DataFrame | None, references: Mapping[str, NDArray[Any]], twins: _Twins
) -> dict[str, float]:
    line: dict[str, float] = {}
    x = embeddings(rows)
    if not x.shape[1] or len(x) < 2:
        return line
    for name, reference in references.items():
        tail = f"_{name}" if name else ""
        known = twins.reference(reference)
        value = fad(x, reference, n_draws=0).value
        line |= {f"fad{tail}": value, f"kad{tail}": kad(x, reference).value}
        few = len(x) < FEWEST  # then the interval says nothing
        left_out = np.full(len(x), np.nan) if few else known.left_out(x)
        around = jackknife_interval(value, left_out)
        line |= {f"fad{tail}_lo": around.lo, f"fad{tail}_hi": around.hi}
        if base is not None:
            y = embeddings(base)
            before = fad(y, reference, n_draws=0).value
            gap = jackknife_interval(value - before, left_out - (0 if few else twins.left_out(base, y, known)))
            line |= {f"fad{tail}_diff": gap.value, f"fad{tail}_diff_lo": gap.lo, f"fad{tail}_diff_hi": gap.hi}
    return line


def _is_embedding(name: str) -> bool:
    return name[:1] == "e" and name[1:].isdigit()
