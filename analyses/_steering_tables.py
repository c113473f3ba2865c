"""Of the causal study: self-monitored steering beside one layer and ITI, and the cost at equal success."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from interp import validation
from interp.directions import Directions, random_like
from interp.judges import fad_difference
from interp.judges.distances import Reference
from interp.steering import Smitin
from interp.steering.interventions import soft_weights
from interp.validation import UNSTEERED, Arm
from interp.validation.pilot import choose_site
from interp.validation.summary import embeddings

if TYPE_CHECKING:
    import xarray as xr

    from interp.probes import ProbeResult

__all__ = [
    "MONITORED",
    "bars",
    "choose_alpha",
    "cost_beside_iti",
    "monitored_arms",
    "monitored_controls",
]

MONITORED = "SMITIN"
_DRAWS = 8
_CONTROLS = ("random", "shuffled labels")
_ENOUGH = 0.05
"""Success that much below the other's still counts as equal."""


def _heard(heads: ProbeResult) -> tuple[Directions, tuple[float, ...]]:
    """Logistic probes of all heads, which the monitor hears, and SMITIN's weights from their accuracies."""
    listen = Directions(sorted(heads.directions.select(method="logistic"), key=lambda d: d.site))
    return listen, tuple(soft_weights(listen))


def monitored_arms(heads: ProbeResult, method: str, alphas: tuple[float, ...]) -> list[Arm]:
    """SMITIN's rule (arXiv 2404.02252: soft weights, every fifth step, monitor) along the directions of a method."""
    listen, weights = _heard(heads)
    push = Directions(heads.directions.one(site=d.site, method=method) for d in listen)
    return [_arm(MONITORED, [push], listen, weights, alphas, control=False)]


def monitored_controls(
    ds: xr.Dataset, heads: ProbeResult, method: str, alphas: tuple[float, ...], seed: int
) -> list[Arm]:
    """The same with random directions of equal length, and with directions of shuffled labels; eight draws in turn."""
    listen, weights = _heard(heads)
    push = [heads.directions.one(site=d.site, method=method) for d in listen]
    rng = np.random.default_rng([seed, 21])
    randoms = [Directions(random_like(d, rng) for d in push) for _ in range(_DRAWS)]
    shuffled = [validation.shuffled_like(ds, d, heads, _DRAWS, seed=seed) for d in push]
    sets = [Directions(per_head[k] for per_head in shuffled) for k in range(_DRAWS)]
    return [
        _arm(f"{MONITORED}, random", randoms, listen, weights, alphas, control=True),
        _arm(f"{MONITORED}, shuffled labels", sets, listen, weights, alphas, control=True),
    ]


def _arm(
    name: str,
    draws: list[Directions],
    listen: Directions,
    weights: tuple[float, ...],
    alphas: tuple[float, ...],
    *,
    control: bool,
) -> Arm:
    def build(alpha: float, i: int) -> tuple[Smitin, ...]:
        return (Smitin(draws[i % len(draws)], alpha=alpha, monitor=listen, weights=weights),)

    return Arm(name, build, control, "all heads", alphas)


def choose_alpha(pilot: pd.DataFrame) -> float:
    """The strength that :func:`interp.validation.pilot.choose_site` takes."""
    rows = pilot[pilot["arm"] == MONITORED].assign(site="all heads", control=False)
    return choose_site(rows, slack=_ENOUGH)[1]


def cost_beside_iti(table: pd.DataFrame, clips: pd.DataFrame, reference: np.ndarray | None) -> pd.DataFrame:
    """FAD of every arm and dose less that of ITI's lowest dose that succeeds as often, or of its best where none does.

    Parameters
    ----------
    table : DataFrame
        Rows of the arms and of ``ITI heads``, all from the same seeds.
    clips : DataFrame
        Their clips.
    reference : array of shape (clips, dim), optional
        Embeddings of music with the trait; without it only successes are compared.

    Returns
    -------
    DataFrame
        The table with columns about ITI, empty for ITI's own rows and for unsteered music; ``iti_equal`` is false where
        ITI never succeeds as often.
    """
    table = table.reindex(columns=[*table, *(name for name in ("fad", "kad") if name not in table)])
    iti = table[table["arm"] == "ITI heads"].sort_values("dose")
    known = None if reference is None else Reference(reference)
    vectors = {key: embeddings(rows.sort_values("seed")) for key, rows in clips.groupby(["arm", "dose"])}
    rows = []
    for row in table[~table["arm"].isin([UNSTEERED, "ITI heads"])].to_dict("records"):
        equal = iti[iti["rate"] >= row["rate"] - _ENOUGH]
        other = equal.iloc[0] if len(equal) else iti.loc[iti["rate"].idxmax()]
        line = {"arm": row["arm"], "dose": row["dose"], "iti_dose": other["dose"], "iti_success": other["rate"]}
        line |= {"iti_equal": bool(len(equal)), "iti_fad": other["fad"], "iti_kad": other["kad"]}
        line |= dict.fromkeys(("fad_gap", "fad_gap_lo", "fad_gap_hi"), np.nan)
        if known is not None:
            ours, theirs = vectors[row["arm"], row["dose"]], vectors["ITI heads", other["dose"]]
            gap = fad_difference(ours, theirs, known)
            line |= {"fad_gap": gap.value, "fad_gap_lo": gap.lo, "fad_gap_hi": gap.hi}
        rows.append(line)
    return table.merge(pd.DataFrame(rows), on=["arm", "dose"], how="left")


def bars(
    arms: pd.DataFrame, site: str, dose: float, monitored: pd.DataFrame, alpha: float, cost: pd.DataFrame
) -> pd.DataFrame:
    """Gain, controls, and the cost beside that of ITI's heads: of one layer, and of self-monitored heads."""
    rows = []
    for how, where, table, arm, at, controls in (
        ("one layer", site, arms, "probe", dose, _CONTROLS),
        (MONITORED, "all heads", monitored, MONITORED, alpha, tuple(f"{MONITORED}, {n}" for n in _CONTROLS)),
    ):
        treated = table[(table["arm"] == arm) & (table["dose"] == at)].iloc[0]
        random, shuffled = (_control(table[table["arm"] == name], at) for name in controls)
        beside = cost[(cost["arm"] == arm) & (cost["dose"] == at)].iloc[0]
        rows.append(
            {
                "how": how, "site": where, "dose": at, "success": treated["rate"],
                "unsteered": float(table.loc[table["arm"] == UNSTEERED, "rate"].iloc[0]), "gain": treated["diff"],
                "gain_lo": treated["diff_lo"], "gain_hi": treated["diff_hi"], "p_max": treated["p_max"],
                "random": random, "shuffled": shuffled, "not_music": treated["not_music"], "fad": treated.get("fad"),
                "cost_seeds": beside["n"], "cost_success": beside["rate"], "cost_fad": beside["fad"],
                "cost_kad": beside["kad"], **beside.filter(regex="^(iti|fad_gap)"),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def _control(rows: pd.DataFrame, dose: float) -> float:
    """What a control gains at a dose, or at the largest it was run at."""
    here = rows[rows["dose"] == dose]
    return float((here if len(here) else rows.nlargest(1, "dose"))["diff"].iloc[0])
