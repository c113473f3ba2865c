"""Do the heads that read a trait best matter most for it? The causal ranking against that of the probes.

The causal ranking asks what happens to the likelihood of music with and without the trait when one head is replaced by
its mean (:func:`interp.steering.causal_ranking`); attribution estimates the same from one backward pass. Neither is the
effect of *pushing* a head: a head may be needed to hear the trait and still not carry it to the output.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy import stats

from interp.errors import DataError
from interp.sites import select_sites
from interp.steering import causal_ranking
from interp.traits import Trait

if TYPE_CHECKING:
    from interp.model import MusicGen

__all__ = ["head_changes", "rank_agreement"]


def head_changes(model: MusicGen, codes: torch.Tensor, method: str, *, batch_size: int = 16) -> pd.DataFrame:
    """Change of the log-likelihood of every clip when one head is replaced by its mean.

    Parameters
    ----------
    model : MusicGen
    codes : Tensor
        Long ``[clips, codebooks, frames]``.
    method : {"ablate", "attribution"}
        A forward pass for every head, or one backward pass for all.
    batch_size : int
        Clips at a time.

    Returns
    -------
    DataFrame
        ``site`` and one column a clip, ``0`` to ``clips - 1``: the same table serves every trait of these clips.

    Examples
    --------
    >>> from interp.backends.build import random_musicgen
    >>> from interp.model import MusicGen
    >>> model = MusicGen(random_musicgen())
    >>> head_changes(model, torch.zeros(2, model.n_codebooks, 8, dtype=torch.long), "attribution").shape
    (4, 3)
    """
    table = causal_ranking(model, codes, sites="heads", method=method, batch_size=batch_size)  # type: ignore[arg-type]
    # the table is sorted by rank, its attribute is in the order in which the sites were chosen
    order = [str(site) for site in select_sites("heads", model.shape)]
    changes = pd.DataFrame(np.asarray(table.attrs["changes"]), columns=[str(i) for i in range(len(codes))])
    changes.insert(0, "site", order)
    return changes


def rank_agreement(
    changes: pd.DataFrame,
    labels: pd.DataFrame,
    trait: str | Trait,
    probes: pd.DataFrame,
    *,
    by: str = "cv_score",
    n_bootstrap: int = 2000,
    seed: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rank correlation of the heads' causal effects with their probes' scores.

    The effect of a head on a trait is the mean change of clips with it minus that of clips without, and its size is
    what is ranked. The interval draws clips anew, groups kept whole, within those with and those without; the p-value
    permutes heads.

    Parameters
    ----------
    changes : DataFrame
        Of :func:`head_changes`.
    labels : DataFrame
        One row a clip, with the trait's label and ``group``.
    trait : str or Trait
    probes : DataFrame
        One row a head with ``site`` and ``by``.
    by : str
        The probes' score; the cross-validated one, which no test clip has seen.
    n_bootstrap, seed : int
        Draws; their seed.

    Returns
    -------
    heads : DataFrame
        ``site, layer, head, effect, lo, hi, size, probe`` (size: the absolute effect).
    agreement : DataFrame
        One row each for Spearman and Kendall: ``statistic, value, lo, hi, p, n_heads, n_clips``.

    Raises
    ------
    DataError
        If fewer than two clips have the trait or lack it, or fewer than three heads are in both tables.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> labels = pd.DataFrame({"drums": [0, 1] * 10, "group": np.arange(20)})
    >>> matters = np.linspace(0, 1, 4)
    >>> changes = pd.DataFrame(0.01 * rng.normal(size=(4, 20)) + matters[:, None] * labels["drums"].to_numpy())
    >>> changes = changes.rename(columns=str).assign(site=["L0.H0", "L0.H1", "L1.H0", "L1.H1"])
    >>> probes = pd.DataFrame({"site": changes["site"], "cv_score": 0.5 + matters / 2})
    >>> heads, agreement = rank_agreement(changes, labels, "drums", probes, n_bootstrap=20)
    >>> agreement.set_index("statistic")["value"].round(2).to_dict()
    {'Spearman': 1.0, 'Kendall': 1.0}
    """
    trait = Trait.parse(trait)
    with_, without = np.flatnonzero(trait.has(labels)), np.flatnonzero(trait.lacks(labels))
    if min(len(with_), len(without)) < 2:
        raise DataError(f"{len(with_)} clips have {trait} and {len(without)} lack it: a ranking needs two of both.")
    score = probes.set_index("site")[by]
    sites = [site for site in changes["site"] if site in score.index]
    if len(sites) < 3:
        raise DataError(f"{len(sites)} heads have a probe and a causal effect: a rank correlation needs three.")
    x = changes.set_index("site").loc[sites].to_numpy(dtype=float)
    probe = score[sites].to_numpy(dtype=float)
    groups = labels["group"].astype(str).to_numpy() if "group" in labels else np.arange(len(labels)).astype(str)
    rng = np.random.default_rng(seed)
    weights = _drawn(groups, with_, n_bootstrap, rng), _drawn(groups, without, n_bootstrap, rng)
    effect = x[:, with_].mean(1) - x[:, without].mean(1)
    draws = (x @ weights[0].T - x @ weights[1].T).T
    lo, hi = np.quantile(draws, [0.025, 0.975], axis=0)
    parts = [site[1:].split(".H") for site in sites]
    heads = pd.DataFrame(
        {
            "site": sites, "layer": [int(a) for a, _ in parts], "head": [int(b) for _, b in parts],
            "effect": effect, "lo": lo, "hi": hi, "size": np.abs(effect), "probe": probe,
        }
    )  # fmt: skip
    lines = []
    for name in ("Spearman", "Kendall"):
        value = _correlation(name, np.abs(effect), probe)
        drawn = np.array([_correlation(name, np.abs(row), probe) for row in draws[:500]])
        null = np.array([_correlation(name, np.abs(effect), rng.permutation(probe)) for _ in range(999)])
        p = (1 + (np.abs(null) >= abs(value) - 1e-12).sum()) / (1 + len(null))
        # A resample's effects are noisier than the effects, which pulls every draw towards zero: put the middle back.
        shift = value - float(np.nanmedian(drawn))
        a, b = np.clip(np.nanquantile(drawn, [0.025, 0.975]) + shift, -1.0, 1.0)
        lines.append(
            {
                "trait": str(trait), "statistic": name, "value": value, "lo": float(a), "hi": float(b), "p": float(p),
                "n_heads": len(sites), "n_clips": len(with_) + len(without),
            }
        )  # fmt: skip
    heads.insert(0, "trait", str(trait))
    return heads, pd.DataFrame(lines)


def _correlation(name: str, a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    found: Any = stats.spearmanr(a, b) if name == "Spearman" else stats.kendalltau(a, b)
    return float(found.statistic)


def _drawn(
    groups: NDArray[np.generic], rows: NDArray[np.intp], n: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Weights ``[draws, clips of rows' table]`` that average over rows when groups are drawn with replacement."""
    from interp.stats import group_weights

    weights = np.zeros((n, len(groups)))
    if len(np.unique(groups[rows])) > 1:
        weights[:, rows] = group_weights(groups[rows], n, rng)
    else:
        weights[:, rows] = 1.0
    return weights / weights.sum(1, keepdims=True)
