"""Of the causal study: self-monitored steering beside one layer and ITI, and the cost at equal success."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

import interp
from interp import validation
from interp.directions import Direction, Directions, fit_directions, random_like
from interp.judges import Judge
from interp.steering import Smitin
from interp.steering.interventions import soft_weights
from interp.traits import Trait
from interp.validation import UNSTEERED, Arm
from interp.validation.cost import ENOUGH
from interp.validation.pilot import choose_site

if TYPE_CHECKING:
    import xarray as xr

    from interp.probes import ProbeResult

__all__ = [
    "MONITORED",
    "answer_directions",
    "bars",
    "choose_alpha",
    "monitored_arms",
    "monitored_controls",
    "stacked",
]

MONITORED = "SMITIN"
_DRAWS = 8
_CONTROLS = ("random", "shuffled labels")


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
    return choose_site(rows, slack=ENOUGH)[1]


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


def answer_directions(ds: xr.Dataset, judge: Judge, site: str, method: str, seed: int) -> dict[str, Direction]:
    """The direction of every answer of the judge that the clips have as well."""
    labels, directions = interp.labels(ds), {}
    for question, answers in judge.questions.items():
        there = set(labels[question].astype(str)) if question in labels.columns else set()
        for name in answers if there else ():
            if len(answers) == 1 or name in there:  # a folder may lack a class that the judge knows
                trait = Trait(question) if len(answers) == 1 else Trait(question, name)
                directions[name] = fit_directions(ds, str(trait), sites=site, methods=(method,), seed=seed)[0]
    return directions


def stacked(parts: Mapping[str, pd.DataFrame], column: str) -> pd.DataFrame:
    """Tables one below the other, with their names in a column where they do not say them already."""
    return pd.concat([t if column in t else t.assign(**{column: name}) for name, t in parts.items()], ignore_index=True)
