"""Where to push, and how far: a pilot on seeds that are not used again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from interp.directions import Direction, Directions, random_like
from interp.errors import DataError
from interp.judges import Judge
from interp.traits import Trait
from interp.validation.arms import UNSTEERED, Arm, push
from interp.validation.run import Trial, run_arms
from interp.validation.setting import Setting
from interp.validation.summary import References

if TYPE_CHECKING:
    from interp.model import MusicGen

__all__ = ["PILOT_SEED", "choose_site", "is_readable", "pilot_doses", "runner_up", "scan"]

PILOT_SEED = 10_000
"""Added to the seed of pilots, so that no seed of a pilot is used again."""


def scan(
    model: MusicGen,
    trait: str | Trait,
    candidates: Sequence[Direction],
    codes: Sequence[torch.Tensor | None],
    doses: Sequence[float],
    *,
    seeds: Sequence[int],
    judge: str | Judge | Sequence[str | Judge] | None = None,
    setting: Setting | None = None,
    references: References | None = None,
    control: bool = False,
    seed: int = 0,
) -> Trial:
    """Push every candidate at every dose on a few seeds.

    Parameters
    ----------
    model, trait, codes, seeds, judge, setting, references
        As in :func:`interp.validation.run_arms`.
    candidates : sequence of Direction
        One a site.
    doses : sequence of float
    control : bool
        Push random directions of equal length, one a seed, at every site and dose as well.
    seed : int
        Of the random directions.

    Returns
    -------
    Trial
        Its tables have the column ``site`` as well; treated arms are called as their site, controls ``random SITE``.

    Examples
    --------
    >>> import interp
    >>> import numpy as np
    >>> import pandas as pd
    >>> class Ear:
    ...     name, independent, questions = "ear", True, {"loud": ["loud"]}
    ...     def score(self, audio, sample_rate):
    ...         return pd.DataFrame({"loud": np.ones(len(audio)), "not_music": 0.0})
    ...     def accuracy_frame(self):
    ...         return pd.DataFrame()
    >>> model = interp.load("tiny", device="cpu")
    >>> loud = Direction.from_weight("L3.resid", np.ones(model.shape.width), trait="loud", sigma=1.0)
    >>> setting = Setting(seconds=0.2, prompt_seconds=0.0, measure=False, progress=False)
    >>> trial = scan(model, "loud", [loud], [None, None], [1.0], seeds=[0, 1], judge=Ear(), setting=setting)
    >>> trial.table[["arm", "dose", "rate"]].to_dict("records")
    [{'arm': 'unsteered', 'dose': 0.0, 'rate': 1.0}, {'arm': 'L3.resid', 'dose': 1.0, 'rate': 1.0}]
    """
    arms: list[Arm] = [Arm(UNSTEERED, dosed=False, says={"site": UNSTEERED})]
    arms += [push(str(item.site), item, control=False, says={"site": str(item.site)}) for item in candidates]
    if control:
        rng = np.random.default_rng([seed, 13])
        for item in candidates:
            draws = [Directions([random_like(item, rng)]) for _ in seeds]
            arms.append(push(f"random {item.site}", draws, control=True, says={"site": str(item.site)}))
    return run_arms(
        model, trait, arms, codes, doses, seeds=seeds, judge=judge, setting=setting, references=references
    )  # fmt: skip


def pilot_doses(doses: Sequence[float]) -> tuple[float, ...]:
    """The four largest doses above zero: where a pilot looks.

    Raises
    ------
    DataError
        If there is none.

    Examples
    --------
    >>> pilot_doses([0, 0.5, 1, 2, 3, 4])
    (1.0, 2.0, 3.0, 4.0)
    """
    amounts = sorted({float(dose) for dose in doses if dose > 0})[-4:]
    if not amounts:
        raise DataError("a pilot needs a dose above zero.")
    return tuple(amounts)


def choose_site(pilot: pd.DataFrame, *, slack: float = 0.05, not_music: float = 0.10) -> tuple[str, float]:
    """Site and dose from a pilot: of those whose share is within ``slack`` of the best, the one of least cost.

    Parameters
    ----------
    pilot : DataFrame
        Columns ``site, dose, control, rate, not_music``, and ``fad`` where it was measured.
    slack : float
        What still counts as the best share.
    not_music : float
        Cells in which more of the clips than this are no music do not count, unless all are like that.

    Returns
    -------
    site : str
    dose : float
        The cost is FAD; where it was not measured, the lowest dose wins, then the larger share, then the earlier layer.

    Examples
    --------
    >>> pilot = pd.DataFrame({"site": ["L1.resid", "L2.resid"], "dose": [3.0, 2.0], "control": False,
    ...                       "rate": [0.9, 0.88], "not_music": 0.0})
    >>> choose_site(pilot)
    ('L2.resid', 2.0)
    """
    rows = pilot[~pilot["control"]]
    music = rows[rows["not_music"] <= not_music]
    rows = music if len(music) else rows
    near = rows[rows["rate"] >= rows["rate"].max() - slack]
    cost = ["fad"] if "fad" in near and near["fad"].notna().all() else []
    rising = [True] * len(cost) + [True, False]
    best = near.sort_values([*cost, "dose", "rate"], ascending=rising, kind="stable").iloc[0]
    return str(best["site"]), float(best["dose"])


def runner_up(pilot: pd.DataFrame, site: str, dose: float, *, not_music: float = 0.10) -> str | None:
    """The best of the other sites of a pilot at the same dose: what a claim about a site is measured against.

    Parameters
    ----------
    pilot : DataFrame
        As for :func:`choose`.
    site : str
        The one that was chosen.
    dose : float
    not_music : float
        As for :func:`choose`.

    Returns
    -------
    str or None
        Of equal shares the earlier row; None where the pilot tried no other site at this dose.

    Examples
    --------
    >>> pilot = pd.DataFrame({"site": ["L1.resid", "L2.resid", "L3.resid"], "dose": 3.0, "control": False,
    ...                       "rate": [0.9, 0.5, 0.8], "not_music": [0.0, 0.0, 0.5]})
    >>> runner_up(pilot, "L1.resid", 3.0)
    'L2.resid'
    """
    control = pilot["control"].astype(bool)
    rows = pilot[~control & (pilot["site"] != site) & (pilot["dose"] == dose)]
    music = rows[rows["not_music"] <= not_music]
    rows = music if len(music) else rows
    return None if rows.empty else str(rows.sort_values("rate", ascending=False, kind="stable")["site"].iloc[0])


def is_readable(probes: pd.DataFrame, site: str, alpha: float = 0.05) -> bool:
    """Whether the probe of a site beats chance: by its corrected p-value, or without one by its interval.

    Examples
    --------
    >>> table = pd.DataFrame({"site": ["L1.resid"], "lo": [0.7], "test_score": [0.8], "chance": [0.5]})
    >>> is_readable(table, "L1.resid")
    True
    """
    row = probes[probes["site"] == site].iloc[0]
    p = row.get("p_max", float("nan"))
    if pd.notna(p):
        return bool(p <= alpha)
    lo = row["lo"] if pd.notna(row["lo"]) else row["test_score"]
    return bool(lo > row["chance"])
