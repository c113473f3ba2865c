"""The SMITIN study's prompts and rules: what is asked for, and what each arm pushes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from analyses._smitin_probes import Probes
from interp.data.factors import GENRES, INSTRUMENTS
from interp.directions import Directions
from interp.steering import Add, EveryN, Intervention, Smitin
from interp.steering.interventions import soft_weights
from interp.traits import Trait
from interp.validation import UNSTEERED, Arm

__all__ = [
    "ask",
    "base_prompt",
    "few_arms",
    "interventions",
    "ladder_arms",
    "make_arm",
    "middle",
    "removal_arms",
    "rules",
]

_OTHERS: dict[str, tuple[Any, ...]] = {"genre": GENRES, "instrument": tuple(INSTRUMENTS)}


# Prompts --------------------------------------------------------------------------------------------------------------


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


# Sets of arms ---------------------------------------------------------------------------------------------------------


def middle(strengths: tuple[float, ...]) -> float:
    return sorted(strengths)[len(strengths) // 2]


def rules(
    config: Any, probes: Probes, trait: Trait, *, further: bool, prompt: Callable[[int], str], plain: bool
) -> list[Arm]:
    """The arms of the paper's table; further strengths for the comparison at equal success.

    Parameters
    ----------
    config, probes
        As in :func:`make_arm`.
    trait : Trait
    further : bool
        In continuation, which is asked for nothing.
    prompt : callable (seed index) -> str
        What text-to-music is asked for.
    plain : bool
        As in :func:`ask`.
    """
    c, best = config, slice(None) if further else slice(-1, None)
    text = None if further else prompt
    make = partial(make_arm, c, probes)
    return [
        make(UNSTEERED, "none", text=text),
        make("text", "text", text=lambda i: ask(trait, prompt(i), plain)),
        *(make("ITI", "iti", a, text=text) for a in (c.iti if further else (middle(c.iti),))),
        *(make("SMITIN", "smitin", a, text=text) for a in sorted({*c.alphas, *(c.sweep if further else ())})),
        *(make("residual", "add", a, "mean_diff", "resid", text=text) for a in c.resid[best]),
        *(make("SMITIN residual", "smitin", a, "mean_diff", "resid", text=text) for a in c.smitin_resid[best]),
    ]


def ladder_arms(config: Any, probes: Probes) -> list[Arm]:
    """From ITI to SMITIN, one part at a time; with two directions, and controls as strong as in the paper's table."""
    c, make = config, partial(make_arm, config, probes)
    rungs = [("ITI", "iti"), ("soft weights", "soft"), ("soft, every s", "sparse"), ("SMITIN", "smitin")]
    half = tuple(a / 2 for a in c.ladder)
    plan = [
        (name, rule, a, method)
        for method, strengths in (("logistic", c.ladder), ("mean_diff", half))
        for a in strengths
        for name, rule in rungs
    ]
    strongest = ((*rungs[0], max(c.iti)), (*rungs[3], max(c.alphas)))
    plan += [(*rung, method) for method in ("random", "shuffled") for rung in strongest]
    arms = [make(f"{name}, {method}", rule, a, method) for name, rule, a, method in plan]
    return [make(UNSTEERED, "none"), *arms]


def removal_arms(config: Any, probes: Probes) -> list[Arm]:
    """Pushes against the trait."""
    c, make = config, partial(make_arm, config, probes, remove=True)
    return [
        make(UNSTEERED, "none"),
        make("ITI", "iti", middle(c.iti)),
        *(make("SMITIN", "smitin", a) for a in c.alphas),
        make("residual", "add", c.resid[-1], "mean_diff", "resid"),
    ]


def few_arms(config: Any, fitted: Mapping[int, Probes]) -> list[Arm]:
    """ITI and SMITIN by the number of pairs that the probes heard."""
    arms = []
    for n, probes in fitted.items():
        for name, rule, a in (("ITI", "iti", middle(config.iti)), ("SMITIN", "smitin", max(config.alphas))):
            arms.append(make_arm(config, probes, f"{name}, {n} pairs", rule, a, says={"n_pairs": n}))
    last = fitted[max(fitted)]
    return [make_arm(config, last, UNSTEERED, "none", says={"n_pairs": 0}), *arms]
