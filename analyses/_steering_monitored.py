"""Self-monitored steering of all heads beside one layer and ITI: the arms, and the cost at equal success."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from interp import validation
from interp.directions import Directions, random_like
from interp.judges import Reference, fad_difference
from interp.steering import Smitin, soft_weights
from interp.validation import UNSTEERED, Arm

if TYPE_CHECKING:
    import xarray as xr

    from interp.probes import ProbeResult

__all__ = ["MONITORED", "choose_alpha", "cost_beside_iti", "monitored_arms", "monitored_controls"]

MONITORED = "SMITIN"
_DRAWS = 8
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
    """The strength that :func:`interp.validation.choose` takes."""
    rows = pilot[pilot["arm"] == MONITORED].assign(site="all heads", control=False)
    return validation.choose(rows, slack=_ENOUGH)[1]


def cost_beside_iti(
    table: pd.DataFrame, clips: pd.DataFrame, reference: NDArray[np.float32]
) -> pd.DataFrame:
    """FAD of every arm and dose less that of ITI's lowest dose that succeeds as often, or of its best where none does.

    Parameters
    ----------
    table : DataFrame
        Rows of the arms and of ``ITI heads``, all from the same seeds.
    clips : DataFrame
        Their clips, with embeddings.
    reference : array of shape (clips, dim)
        Of music with the trait.

    Returns
    -------
    DataFrame
        The table with columns about ITI, empty for ITI's own rows and for unsteered music; ``iti_equal`` is false where
        ITI never succeeds as often.
    """
    iti, known = table[table["arm"] == "ITI heads"].sort_values("dose"), Reference(reference)
    rows = []
    for row in table[~table["arm"].isin([UNSTEERED, "ITI heads"])].to_dict("records"):
        equal = iti[iti["rate"] >= row["rate"] - _ENOUGH]
        against = equal.iloc[0] if len(equal) else iti.loc[iti["rate"].idxmax()]
        ours, theirs = (
            validation.embeddings(clips[(clips["arm"] == arm) & (clips["dose"] == dose)])
            for arm, dose in ((row["arm"], row["dose"]), ("ITI heads", against["dose"]))
        )
        gap = fad_difference(ours, theirs, known)
        rows.append(
            {
                "arm": row["arm"], "dose": row["dose"], "iti_dose": against["dose"], "iti_success": against["rate"],
                "iti_equal": bool(len(equal)), "iti_fad": against["fad"], "iti_kad": against["kad"],
                "fad_gap": gap.value, "fad_gap_lo": gap.lo, "fad_gap_hi": gap.hi,
            }
        )  # fmt: skip
    return table.merge(pd.DataFrame(rows), on=["arm", "dose"], how="left")
