"""What success costs: distances to music as it should be, of arms that succeed equally often."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from interp.judges import fad_difference
from interp.judges.distances import Reference
from interp.stats import jackknife_interval
from interp.validation.arms import UNSTEERED
from interp.validation.summary import embeddings

__all__ = ["ENOUGH", "cost_beside", "equal_success"]

Array = NDArray[np.float64]
ENOUGH = 0.05
"""Success that much below the other's still counts as equal."""


def equal_success(
    clips: pd.DataFrame, near: Mapping[tuple[str, str], Array], arms: Sequence[str], *, against: str = "ITI"
) -> pd.DataFrame:
    """FAD of rules where they succeed equally often.

    The FAD of ``against`` is interpolated between its strengths (unsteered is strength 0) at the success of each
    strength of every other rule; the interval leaves out one seed at a time, from all rules together.

    Parameters
    ----------
    clips : DataFrame
        ``trait, task, arm, dose, seed, hit``, and the judge's embedding (:func:`interp.validation.run_arms`).
    near : mapping of (trait, task) to array of shape (n, dim)
        Embeddings of music that is as it should be; a pair without any is left out.
    arms : sequence of str
        The rules.
    against : str
        Which rule they are compared with.

    Returns
    -------
    DataFrame
        ``trait, task, arm, dose, success, fad, fad_against, difference, lo, hi, reached``: the last is whether
        ``against`` has that success at any strength, whichever seed is left out; otherwise there is no interval.

    Examples
    --------
    >>> arms = [("unsteered", 0.0, 0, 0.0), ("ITI", 1.0, 1, 4.0), ("SMITIN", 1.0, 1, 2.0)]
    >>> clips = pd.DataFrame(
    ...     {"arm": arm, "dose": dose, "seed": seed, "hit": hit, "e0": far + seed}
    ...     for arm, dose, hit, far in arms for seed in range(5)
    ... ).assign(trait="drums", task="continuation")
    >>> near = {("drums", "continuation"): np.arange(5.0)[:, None]}
    >>> equal_success(clips, near, ["SMITIN"])[["arm", "fad", "fad_against", "difference"]].round(1).to_dict("records")
    [{'arm': 'SMITIN', 'fad': 4.0, 'fad_against': 16.0, 'difference': -12.0}]
    """
    rows = []
    for (trait, task), part in clips.groupby(["trait", "task"], sort=False):
        known = near.get((str(trait), str(task)))
        doses = sorted(part.loc[part["arm"] == against, "dose"].unique())
        if known is None or not doses:
            continue
        base = [(UNSTEERED, 0.0), *((against, dose) for dose in doses)]
        ours = [(arm, dose) for arm in arms for dose in sorted(part.loc[part["arm"] == arm, "dose"].unique())]
        chosen = [part[(part["arm"] == a) & (part["dose"] == d)].sort_values("seed") for a, d in [*base, *ours]]
        hits = np.stack([cell["hit"].to_numpy(float) for cell in chosen])
        reference, n, k = Reference(known), hits.shape[1], len(base)
        vectors = [embeddings(cell) for cell in chosen]
        # column 0: all seeds; column 1 + i: without seed i
        fads = np.stack([np.concatenate([reference.distances(x[None]), reference.left_out(x)]) for x in vectors])
        rates = np.concatenate([hits.mean(1)[:, None], (hits.sum(1)[:, None] - hits) / (n - 1)], axis=1)
        for j, (arm, dose) in enumerate(ours, start=k):
            there = np.array([_at(rates[j, b], rates[:k, b], fads[:k, b]) for b in range(n + 1)])
            gap = fads[j] - there
            reached = bool(np.isfinite(gap).all())
            around = jackknife_interval(gap[0], gap[1:]) if reached and n >= 4 else None
            rows.append({
                "trait": trait, "task": task, "arm": arm, "dose": dose, "success": rates[j, 0], "fad": fads[j, 0],
                "fad_against": there[0], "difference": gap[0], "lo": around.lo if around else np.nan,
                "hi": around.hi if around else np.nan, "reached": reached,
            })  # fmt: skip
    columns = ["trait", "task", "arm", "dose", "success", "fad", "fad_against", "difference", "lo", "hi", "reached"]
    return pd.DataFrame(rows, columns=columns)


def _at(success: float, rates: Array, distances: Array) -> float:
    """Distance on the rising branch of a curve where success is as asked; NaN where it never is."""
    top = int(rates.argmax())
    rates, distances = np.maximum.accumulate(rates[: top + 1]), distances[: top + 1]
    if success > rates[-1] or success < rates[0]:
        return float("nan")
    return float(np.interp(success, rates, distances))


def cost_beside(
    table: pd.DataFrame, clips: pd.DataFrame, reference: Array | None, *, against: str, prefix: str
) -> pd.DataFrame:
    """FAD of every arm and dose less that of the lowest dose of another that succeeds as often, or of its best dose.

    Parameters
    ----------
    table : DataFrame
        One row an arm and dose (:func:`interp.validation.summarise`), all from the same seeds.
    clips : DataFrame
        Their clips.
    reference : array of shape (clips, dim), optional
        Embeddings of music with the trait; without it only successes are compared.
    against, prefix : str
        The other arm, and how columns about it begin.

    Returns
    -------
    DataFrame
        The table with ``<prefix>_dose, _success, _equal, _fad, _kad`` and ``fad_gap, fad_gap_lo, fad_gap_hi``, empty
        for the other arm's own rows and for unsteered music; ``<prefix>_equal`` is false where it never succeeds as
        often.

    Examples
    --------
    >>> table = pd.DataFrame({"arm": ["ITI", "ITI", "probe"], "dose": [1.0, 2.0, 1.0], "rate": [0.4, 0.9, 0.6]})
    >>> clips = pd.DataFrame({"arm": ["ITI"], "dose": [1.0], "seed": [0]})
    >>> cost_beside(table, clips, None, against="ITI", prefix="iti").loc[2, ["iti_dose", "iti_success"]].tolist()
    [2.0, 0.9]
    """
    table = table.reindex(columns=[*table, *(name for name in ("fad", "kad") if name not in table)])
    rival = table[table["arm"] == against].sort_values("dose")
    known = None if reference is None else Reference(reference)
    vectors = {key: embeddings(rows.sort_values("seed")) for key, rows in clips.groupby(["arm", "dose"])}
    rows = []
    for row in table[~table["arm"].isin([UNSTEERED, against])].to_dict("records"):
        equal = rival[rival["rate"] >= row["rate"] - ENOUGH]
        other = equal.iloc[0] if len(equal) else rival.loc[rival["rate"].idxmax()]
        line = {
            "arm": row["arm"],
            "dose": row["dose"],
            f"{prefix}_dose": other["dose"],
            f"{prefix}_success": other["rate"],
        }
        line |= {f"{prefix}_equal": bool(len(equal)), f"{prefix}_fad": other["fad"], f"{prefix}_kad": other["kad"]}
        line |= dict.fromkeys(("fad_gap", "fad_gap_lo", "fad_gap_hi"), np.nan)
        if known is not None:
            ours, theirs = vectors[row["arm"], row["dose"]], vectors[against, other["dose"]]
            gap = fad_difference(ours, theirs, known)
            line |= {"fad_gap": gap.value, "fad_gap_lo": gap.lo, "fad_gap_hi": gap.hi}
        rows.append(line)
    return table.merge(pd.DataFrame(rows), on=["arm", "dose"], how="left")
