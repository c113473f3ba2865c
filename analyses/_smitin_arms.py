"""The SMITIN study's music, probes and rules: pairs that differ in one trait, what hears it, what each arm pushes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

import interp
from interp.clips import Clips
from interp.data import render_arrays
from interp.data.factors import GENRES, INSTRUMENTS
from interp.directions import Directions, random_like
from interp.errors import DataError
from interp.probes import ProbeResult, probe
from interp.steering import Add, EveryN, Intervention, Smitin
from interp.steering.interventions import soft_weights
from interp.traits import Trait
from interp.validation import UNSTEERED, Arm
from interp.validation.setting import Part

if TYPE_CHECKING:
    import xarray as xr

    from interp.model import MusicGen

__all__ = [
    "Probes",
    "ask",
    "balanced",
    "base_prompt",
    "fit_probes",
    "interventions",
    "make_arm",
    "monitor_accuracy",
    "own_probability",
    "pairs",
    "shuffled_probes",
]

_OTHERS: dict[str, tuple[Any, ...]] = {"genre": GENRES, "instrument": tuple(INSTRUMENTS)}


# Music ----------------------------------------------------------------------------------------------------------------


def pairs(trait: Trait, n: int, seed: int, seconds: float, progress: bool = False) -> Clips:
    """Render n scores twice, with the trait and without: nothing else differs (the paper's stems taken out).

    For a class, the clip without it has another class of the same label; that of the pair, if one is named.

    Raises
    ------
    DataError
        If no music can be rendered with and without it.
    """
    known = _OTHERS.get(trait.column, ())
    asked = [name for name in (trait.positive, trait.against) if name]
    if not set(asked) <= set(known) or (not asked and trait.column not in ("drums", "bass")):
        raise DataError(f"no music can be rendered with and without {str(trait)!r}: give --data, a folder with labels.")
    others = ([trait.against] if trait.against else [v for v in known if v != trait.positive]) if asked else [False]
    sounds, tables = [], []
    for i, other in enumerate(others):
        count = len(range(i, n, len(others)))
        if not count:
            continue
        # scores are drawn alike whatever is fixed, so both sets hold the same scores
        both = [
            render_arrays(count, 1000 * seed + i, seconds, {trait.column: fixed}, "realistic", 1, progress)
            for fixed in (trait.positive or True, other)
        ]
        for j in range(count):  # clips of one score next to each other
            sounds += [audio[j] for audio, _ in both]
            tables += [labels.iloc[[j]] for _, labels in both]
    order = np.random.default_rng([seed, 5]).permutation(n)  # so that the first pairs hold all other classes
    order = (2 * order[:, None] + np.arange(2)).ravel()
    labels = pd.concat(tables).iloc[order]
    labels.index = pd.Index([f"pair-{seed}-{i // 2:05d}-{('with', 'without')[i % 2]}" for i in range(2 * n)])
    return Clips.from_arrays([sounds[i] for i in order], 16_000, labels)


def balanced(clips: Clips, trait: Trait, n: int, seed: int) -> Clips:
    """Of labelled clips, at most n with the trait and as many without, in turn.

    Raises
    ------
    DataError
        If there are fewer than eight of either.
    """
    rng = np.random.default_rng([seed, 10])
    sides = [rng.permutation(np.flatnonzero(side(clips.labels))) for side in (trait.has, trait.lacks)]
    count = min(n, *(len(side) for side in sides))
    if count < 8:
        raise DataError(f"{count} clips of the folder are left with (or without) {trait}: 8 or more are needed.")
    return clips.subset(np.stack([side[:count] for side in sides], axis=1).ravel())


def base_prompt(trait: Trait, seed: int, i: int, plain: bool) -> tuple[str, list[str]]:
    """A prompt that says nothing of the trait, and the answers that it names; plain words for the shipped model."""
    rng = np.random.default_rng([seed, 9, i])
    named = {question: str(rng.choice(values)) for question, values in _OTHERS.items() if question != trait.column}
    if plain:
        return ", ".join(named.values()), list(named.values())
    instrument = [named["instrument"]] if "instrument" in named else []
    return " with ".join([f"{named.get('genre', 'instrumental')} music", *instrument]), list(named.values())


def ask(trait: Trait, prompt: str, plain: bool) -> str:
    """The prompt that asks for the trait as well; the paper adds "add <instrument>"."""
    word = trait.answer if plain else f"add {trait.answer}"
    return f"{prompt}, {word}" if prompt else word


# Probes ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Probes:
    """A trait's probes: heads by method in one order, and the layers' mean differences."""

    heads: Mapping[str, Directions]
    resid: Directions
    studies: tuple[ProbeResult, ...] = ()

    def at(self, layer: str) -> Probes:
        """The same with one layer only."""
        return replace(self, resid=self.resid.select(site=layer))


def fit_probes(ds: xr.Dataset, trait: Trait, pool: str, seed: int, *, resid: bool = True, **settings: Any) -> Probes:
    """Logistic probes of all heads at the paper's pooling, mean differences of the same heads and of the layers."""
    common: dict[str, Any] = {"n_permutations": 0, "n_bootstrap": 0, "seed": seed, **settings}
    heads = probe(ds, str(trait), sites="heads", pool=pool, methods=("logistic", "mean_diff"), **common)
    layers = [probe(ds, str(trait), sites="resid", pool="mean", methods=("mean_diff",), **common)] if resid else []
    directions = sorted(heads.directions, key=lambda d: d.site)
    by_method = {m: Directions(d for d in directions if d.method == m) for m in ("logistic", "mean_diff")}
    return Probes(by_method, layers[0].directions if layers else Directions(), (heads, *layers))


def shuffled_probes(ds: xr.Dataset, trait: Trait, pool: str, seed: int, like: Probes) -> Probes:
    """With controls as long as the logistic push: random directions, and probes of labels swapped in half the pairs."""
    rng = np.random.default_rng([seed, 12])
    logistic = like.heads["logistic"]
    values = np.asarray(ds[trait.column].values).copy()
    if str(ds["clip"].values[0]).startswith("pair-"):
        for i in np.flatnonzero(rng.random(len(values) // 2) < 0.5):
            values[[2 * i, 2 * i + 1]] = values[[2 * i + 1, 2 * i]]
    else:
        values = rng.permutation(values)
    labels = {trait.column: (ds[trait.column].dims, values)}
    fitted = fit_probes(ds.assign_coords(labels), trait, pool, seed, resid=False)
    shuffled = {d.site: d for d in fitted.heads["logistic"]}
    controls = {
        "random": Directions(random_like(d, rng) for d in logistic),
        "shuffled": Directions(replace(shuffled[d.site], sigma=d.sigma, method="shuffled") for d in logistic),
    }
    return replace(like, heads={**like.heads, **controls})


def monitor_accuracy(ds: xr.Dataset, trait: Trait, probes: Probes, pool: str, n_monitor: int) -> tuple[float, float]:
    """Accuracy on other clips of the heads that are heard (their mean) and of the monitor (their median)."""
    truth = trait.has(interp.labels(ds))
    heard = Smitin(probes.heads["logistic"], n_monitor=n_monitor).monitored
    logits = np.stack([d.logit(interp.features(ds, d.site, pool=pool).astype(np.float64)) for d in heard])
    return float(((logits > 0) == truth).mean()), float(((np.median(logits, axis=0) > 0) == truth).mean())


def own_probability(model: MusicGen, probes: Probes, config: Any, prompt_seconds: float) -> Callable[[Part], Any]:
    """The paper's own measure: the monitor's median probability when the model hears the music again, unsteered."""
    monitor = Smitin(probes.heads["logistic"], n_monitor=config.n_monitor).monitored
    sites, pool = sorted({d.site for d in monitor}), config.pool
    start = round(prompt_seconds * model.frame_rate)

    def heard(part: Part) -> pd.DataFrame:
        if part.codes is None:
            return pd.DataFrame({"probe": [np.nan] * len(part.seeds)})
        codes: torch.Tensor = part.codes[..., start:]
        silent = np.zeros((1, round(codes.shape[-1] / model.frame_rate * model.sample_rate)), np.float32)
        clips = Clips.from_arrays([silent] * len(codes), model.sample_rate)
        read = interp.extract(
            model, clips, sites=sites, pool=pool, progress=False, codes=lambda i: codes[i], batch_size=32
        )
        logits = [d.logit(interp.features(read, d.site, pool=pool).astype(np.float64)) for d in monitor]
        return pd.DataFrame({"probe": np.median(1 / (1 + np.exp(-np.stack(logits))), axis=0)})

    return heard


# Rules ----------------------------------------------------------------------------------------------------------------


def make_arm(
    config: Any, probes: Probes, name: str, rule: str, strength: float = 0.0, method: str = "logistic",
    place: str = "heads", *, remove: bool = False, text: Callable[[int], str] | None = None, tau: float | None = None,
    says: Mapping[str, Any] | None = None,
) -> Arm:  # fmt: skip
    """One way to get (or lose) a trait.

    Parameters
    ----------
    config : Config
        Of the study: ``k`` to ``tau`` are named as in the papers.
    probes : Probes
        What is heard and pushed.
    name : str
        As tables say it, without the strength.
    rule, method, place, remove, tau
        See :func:`interventions`.
    strength : float
        In sigma; the dose of the arm.
    text : callable (seed index) -> str, optional
        What is asked for.
    says : mapping, optional
        Further columns of tables.
    """

    def build(dose: float, i: int) -> tuple[Intervention, ...]:
        return interventions(config, probes, rule, dose, method, place, remove=remove, tau=tau)

    columns = {"rule": rule, "method": method, "place": place, **(says or {})}
    control = method in ("random", "shuffled") or name == UNSTEERED
    dosed = rule not in ("none", "text")
    return Arm(name, build, control, place, (strength,) if dosed else None, dosed, text, says=columns)


def interventions(
    config: Any, probes: Probes, rule: str, dose: float, method: str = "logistic", place: str = "heads", *,
    remove: bool = False, tau: float | None = None,
) -> tuple[Intervention, ...]:  # fmt: skip
    """What is done to a row.

    Parameters
    ----------
    config, probes
        As in :func:`make_arm`.
    rule : {"none", "text", "iti", "soft", "sparse", "smitin", "add"}
        ``iti``: the k best heads alike, at every step. ``soft``: all heads, softly weighted, at every step.
        ``sparse``: the same at every s-th step. ``smitin``: the same, gated by the monitor. ``add``: one layer.
    dose : float
        In sigma.
    method : str
        Whose directions are pushed; the choice and the weights of heads, and the monitor, are always the logistic
        probes', so that the direction alone differs.
    place : {"heads", "resid"}
        Where.
    remove : bool
        Push the other way.
    tau : float, optional
        Threshold of the monitor, where it is not the study's.
    """
    if rule == "text":
        return ()
    logistic, c = probes.heads["logistic"], config
    if rule == "none":  # a monitor that never acts changes nothing, and says what it would have heard
        return (Smitin(logistic, s=c.s, n_monitor=c.n_monitor, tau=-1.0, remove=remove),)
    chosen = probes.resid if place == "resid" else probes.heads[method]
    weights = soft_weights(logistic) if place == "heads" else None
    sign: Any = {"rows": c.rows, "dose": -dose if remove else dose}
    if rule == "add":
        return (Add(chosen, **sign),)
    if rule == "iti":
        best = {d.site for d in logistic.top(min(c.k, len(logistic)))}
        return (Add(Directions(d for d in chosen if d.site in best), **sign),)
    if rule == "soft":
        return (Add(chosen, weights=weights, **sign),)
    if rule == "sparse":
        return (Add(chosen, weights=weights, schedule=EveryN(c.s), **sign),)
    own = place == "heads" and method == "logistic"
    return (
        Smitin(
            chosen, alpha=dose, s=c.s, delta=c.delta, n_monitor=c.n_monitor, tau=c.tau if tau is None else tau,
            remove=remove, weights=weights if weights is not None else (1.0,) * len(chosen),
            monitor=None if own else logistic, rows=c.rows,
        ),
    )  # fmt: skip
