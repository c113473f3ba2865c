"""The arms of a causal study: what is done to the music, and the controls that must not work."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from interp.directions import Direction, Directions, fit, random_like
from interp.directions.reading import read_stacks
from interp.directions.registry import find
from interp.errors import ControlError
from interp.probes import ProbeResult
from interp.sites import Site
from interp.splits import permute_labels
from interp.steering import Add, Intervention
from interp.validation.mixes import SoundEdit, dsp_baseline

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["CURVES", "UNSTEERED", "Arm", "basic_arms", "far_site", "full_arms", "push", "shuffled_like"]

UNSTEERED = "unsteered"
CURVES = (UNSTEERED, "probe", "random", "shuffled labels", "ITI heads")
"""Arms that have more than one dose in the full set."""
_HEAD_DRAWS = 8
_POOL = 8
"""Shuffles drawn for each that is kept."""


def _nothing(dose: float, seed: int) -> tuple[Intervention, ...]:
    return ()


@dataclass(frozen=True)
class Arm:
    """One condition of a causal study.

    Parameters
    ----------
    name : str
        As tables and figures say it.
    build : callable (dose, seed index) -> interventions
        What is done to the row of that seed.
    control : bool
        Whether it must *not* work if the claim is true.
    where : str
        The site or sites, for the record.
    doses : tuple of float, optional
        Doses of this arm alone, in place of those of the run.
    dosed : bool
        False for what has no dose (a text, a mix, an ablation): one cell, written as dose 0.
    text : str or callable (seed index) -> str, optional
        A prompt in place of the run's.
    sound : callable, optional
        Edits the finished unsteered sound (the generated part) in place of steering.
    noise : int
        Added to the seed of the noise: other noise than the other arms have. The clip keeps the seed of its twin.
    says : mapping
        What tables say of it, column by column: ``{"place": "resid", "method": "ridge"}``.
    keep : bool
        Keep its sound, whatever the run keeps.

    Examples
    --------
    >>> arm = Arm("text", control=False, dosed=False, text="drums", says={"how": "asked"})
    >>> arm.build(0.0, 3), arm.prompt(3, "calm piano")
    ((), 'drums')
    """

    name: str
    build: Callable[[float, int], tuple[Intervention, ...]] = _nothing
    control: bool = True
    where: str = ""
    doses: tuple[float, ...] | None = None
    dosed: bool = True
    text: str | Callable[[int], str | None] | None = None
    sound: SoundEdit | None = None
    noise: int = 0
    says: Mapping[str, Any] = field(default_factory=dict)
    keep: bool = False

    def prompt(self, i: int, text: str | None = None) -> str | None:
        """The prompt of the row of seed i, where the run's is ``text``."""
        if callable(self.text):
            return self.text(i)
        return text if self.text is None else self.text


def push(
    name: str,
    directions: Directions | Direction | Sequence[Directions],
    *,
    control: bool,
    sign: float = 1.0,
    doses: tuple[float, ...] | None = None,
    says: Mapping[str, Any] | None = None,
) -> Arm:
    """An arm that adds directions, scaled by sigma; a sequence of them is gone through seed by seed.

    Examples
    --------
    >>> from interp.directions import Direction
    >>> arm = push("probe", Direction.from_weight("L1.resid", [0.0, 2.0], sigma=0.5), control=False)
    >>> arm.where, arm.build(2.0, 0)[0].dose
    ('L1.resid', 2.0)
    """
    if isinstance(directions, Direction):
        directions = Directions([directions])
    each = [directions] if isinstance(directions, Directions) else list(directions)
    where = ", ".join(dict.fromkeys(str(item.site) for directions in each for item in directions))
    return Arm(
        name, lambda dose, i: (Add(each[i % len(each)], dose=sign * dose),), control, where, doses, says=says or {}
    )


def basic_arms(
    ds: xr.Dataset,
    treated: Direction,
    heads: ProbeResult,
    resid: ProbeResult,
    *,
    k: int = 8,
    n_seeds: int = 32,
    seed: int = 0,
) -> list[Arm]:
    """The small set: probe, random, shuffled labels, best heads, worst heads, each at every dose.

    Raises
    ------
    ControlError
        If there are fewer than ``2 k`` heads, so that the worst would be among the best.

    Examples
    --------
    >>> import interp
    >>> from interp.probes import probe
    >>> tones = [np.sin(np.arange(4000) / (5 + 5 * (i % 2))) * (i + 4) / 32 for i in range(24)]
    >>> clips = interp.Clips.from_arrays(tones, 16_000, {"high": [1 - i % 2 for i in range(24)]})
    >>> model = interp.load("tiny", device="cpu")
    >>> ds = interp.extract(model, clips, sites="L3.heads, L3.resid, L5.resid", progress=False)
    >>> quick = {"methods": "ridge", "n_permutations": 0, "folds": 3}
    >>> heads, resid = (probe(ds, "high", sites=kind, **quick) for kind in ("heads", "resid"))
    >>> treated = resid.directions.one(site="L3.resid")

    >>> [arm.name for arm in basic_arms(ds, treated, heads, resid, k=2, n_seeds=4)]
    ['probe', 'random', 'shuffled labels', 'best heads', 'worst heads']
    """
    best, worst, _ = _head_sets(heads, treated.method, k, seed)
    return [
        push("probe", treated, control=False),
        push("random", _randoms(treated, n_seeds, seed), control=True),
        push("shuffled labels", _shuffles(ds, treated, resid, n_seeds, seed), control=True),
        push("best heads", best, control=False),
        push("worst heads", worst, control=True),
    ]


def full_arms(
    ds: xr.Dataset,
    treated: Direction,
    heads: ProbeResult,
    resid: ProbeResult,
    *,
    dose: float,
    doses: Sequence[float],
    rival: Direction | None = None,
    others: Mapping[str, Direction] | None = None,
    text: str | None = None,
    sample_rate: int = 0,
    k: int = 8,
    k_iti: int = 16,
    iti_doses: Sequence[float] = (),
    n_seeds: int = 64,
    seed: int = 0,
) -> list[Arm]:
    """All arms and controls.

    Parameters
    ----------
    ds : Dataset
        The activations the probes were fitted to.
    treated : Direction
        What is claimed to carry the trait.
    heads, resid : ProbeResult
        Probes of the heads, and of the sites like the treated one.
    dose : float
        The decisive one, at which every control is run.
    doses : sequence of float
        Of the treated direction; random and shuffled directions also get the largest.
    rival : Direction, optional
        The same trait's direction at the best other site: what the claim about this site is measured against.
    others : mapping of str to Direction, optional
        Directions of other traits, each at a site of its own.
    text : str, optional
        The prompt that asks for the trait.
    sample_rate : int
        Of the model's sound, in Hz, for the DSP baseline; 0 leaves that out.
    k, k_iti : int
        Heads of the arms of heads; of the arm of ITI (fewer where the model has fewer).
    iti_doses : sequence of float
        Doses of ITI's arm; empty for those of the treated direction.
    n_seeds, seed : int
        How many random directions; seed of what is drawn.

    Raises
    ------
    ControlError
        If there are fewer than ``2 k`` heads, or no other layer of the kind.

    Examples
    --------
    >>> import interp
    >>> from interp.probes import probe
    >>> tones = [np.sin(np.arange(4000) / (5 + 5 * (i % 2))) * (i + 4) / 32 for i in range(24)]
    >>> clips = interp.Clips.from_arrays(tones, 16_000, {"high": [1 - i % 2 for i in range(24)]})
    >>> model = interp.load("tiny", device="cpu")
    >>> ds = interp.extract(model, clips, sites="L3.heads, L3.resid, L5.resid", progress=False)
    >>> quick = {"methods": "ridge", "n_permutations": 0, "folds": 3}
    >>> heads, resid = (probe(ds, "high", sites=kind, **quick) for kind in ("heads", "resid"))
    >>> treated = resid.directions.one(site="L3.resid")

    >>> arms = full_arms(ds, treated, heads, resid, dose=2.0, doses=(1.0, 2.0), k=2, n_seeds=4, text="a high tone")
    >>> [arm.name for arm in arms if arm.control]
    ['random', 'shuffled labels', 'flipped sign', 'worst heads', 'random heads', 'other layer']
    """
    best, worst, drawn = _head_sets(heads, treated.method, k, seed)
    iti = _ranked(heads, treated.method)[:k_iti]
    once, wide = (float(dose),), tuple(sorted({float(dose), float(max(doses))}))
    away = far_site(treated.site, [direction.site for direction in resid.directions])
    moved = replace(treated, site=away, intercept=np.nan, score=np.nan, info={"from": str(treated.site)})
    arms = [
        push("probe", treated, control=False),
        push("random", _randoms(treated, n_seeds, seed), control=True, doses=wide),
        push("shuffled labels", _shuffles(ds, treated, resid, n_seeds, seed), control=True, doses=wide),
        push("flipped sign", treated, control=True, sign=-1.0, doses=once),
        push("best heads", best, control=False, doses=once),
        push("worst heads", worst, control=True, doses=once),
        push("random heads", drawn, control=True, doses=once),
        push("other layer", moved, control=True, doses=once),
        *([] if rival is None else [push("best other site", rival, control=True, doses=once)]),
        push("ITI heads", Directions(iti), control=False, doses=tuple(map(float, iti_doses)) or None),
    ]
    named = (others or {}).items()
    arms += [push(f"other trait: {name}", direction, control=True, doses=once) for name, direction in named]
    if text is not None:
        arms.append(Arm("text", control=False, dosed=False, text=text))
    if sample_rate:
        edits = dsp_baseline(f"{treated.trait}", sample_rate, seed=seed)
        arms += [Arm(name, control=False, dosed=False, sound=edit) for name, edit in edits.items()]
    return arms


def far_site(site: Site, sites: Sequence[Site]) -> Site:
    """The site of the same kind (and head) whose layer is furthest away; the earlier one of two.

    Raises
    ------
    ControlError
        If there is no other layer.

    Examples
    --------
    >>> sites = [Site.parse(f"L{layer}.resid") for layer in range(6)]
    >>> far_site(sites[4], sites)
    Site('L0.resid')
    """
    like = sorted({other for other in sites if other.kind == site.kind and other.head == site.head and other != site})
    if not like:
        raise ControlError(f"there is no other layer to push in place of {site}: probe more than one layer.")
    return max(like, key=lambda other: (abs(other.layer - site.layer), -other.layer))


def _ranked(heads: ProbeResult, method: str) -> list[Direction]:
    return [heads.directions.one(site=name, method=method) for name in heads.ranking(method)["site"]]


def _head_sets(heads: ProbeResult, method: str, k: int, seed: int) -> tuple[Directions, Directions, list[Directions]]:
    """The k best heads, the k worst, and for every seed k drawn from those that are not among the best."""
    ranked = _ranked(heads, method)
    if len(ranked) < 2 * k:
        raise ControlError(f"the {k} best and the {k} worst of {len(ranked)} heads overlap: take fewer heads.")
    rng = np.random.default_rng([seed, 9])
    rest = ranked[k:]
    drawn = [Directions(rest[i] for i in sorted(rng.permutation(len(rest))[:k])) for _ in range(_HEAD_DRAWS)]
    return Directions(ranked[:k]), Directions(ranked[-k:]), drawn


def _randoms(treated: Direction, n: int, seed: int) -> list[Directions]:
    rng = np.random.default_rng([seed, 7])
    return [Directions([random_like(treated, rng)]) for _ in range(n)]


def _shuffles(ds: xr.Dataset, treated: Direction, study: ProbeResult, n: int, seed: int) -> list[Directions]:
    return [Directions([direction]) for direction in shuffled_like(ds, treated, study, n, seed=seed)]


def shuffled_like(ds: xr.Dataset, treated: Direction, study: ProbeResult, n: int, *, seed: int = 0) -> list[Direction]:
    """Fit the treated direction's probe to labels shuffled between groups; keep its sigma, so the push is as long.

    By chance a shuffle can agree with the true labels, the more so the fewer the groups, and its direction is then the
    trait's own in part. So eight times as many shuffles are drawn, and those that agree least (by the correlation of
    their labels with the true ones) are kept, in the order in which they were drawn.

    Parameters
    ----------
    ds : Dataset
        The activations that the study was made from.
    treated : Direction
        Whose site, method and sigma are taken.
    study : ProbeResult
        Whose clips, split and penalty are taken.
    n : int
        How many shuffles are kept.
    seed : int
        Of the shuffles.

    Returns
    -------
    list of Direction

    Examples
    --------
    >>> import interp
    >>> from interp.probes import probe
    >>> tones = [np.sin(np.arange(4000) / (5 + 5 * (i % 2))) * (i + 4) / 32 for i in range(24)]
    >>> clips = interp.Clips.from_arrays(tones, 16_000, {"high": [1 - i % 2 for i in range(24)]})
    >>> model = interp.load("tiny", device="cpu")
    >>> ds = interp.extract(model, clips, sites="L3.resid", progress=False)
    >>> resid = probe(ds, "high", sites="resid", methods="ridge", n_permutations=0, folds=3)
    >>> treated = resid.directions.one(site="L3.resid")

    >>> controls = shuffled_like(ds, treated, resid, 2)
    >>> [control.method for control in controls], controls[0].sigma == treated.sigma
    (['shuffled', 'shuffled'], True)
    """
    (stack,) = read_stacks(ds, treated.site, treated.pool or None)
    names = pd.Index(np.asarray(ds["clip"].values).astype(str))
    train = ~study.split.test
    rows = names.get_indexer(study.clips[train])
    y, groups = np.asarray(study.split.y)[train], np.asarray(study.split.groups)[train]
    orders = permute_labels(y, groups, _POOL * n, seed=np.random.default_rng([seed, 8]))
    agree = np.abs((y[orders] - y.mean()) @ (y - y.mean()))
    orders = orders[np.sort(np.argsort(agree, kind="stable")[:n])]
    line = study.table[(study.table["site"] == str(treated.site)) & (study.table["method"] == treated.method)]
    penalty = float(line["l2"].iloc[0])
    amount: dict[str, Any] = {} if np.isnan(penalty) else {find(treated.method).penalty: penalty}
    fits = fit(stack.x[:, rows], y[orders], method=treated.method, **amount)
    weights = fits.at(site=0, penalty=0, fold=0, output=0)
    info = {"like": treated.method, "labels": "shuffled"}
    return [
        replace(treated, vector=w / np.linalg.norm(w), method="shuffled", intercept=np.nan, score=np.nan, info=info)
        for w in weights.astype(np.float64)
    ]
