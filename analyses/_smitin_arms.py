"""The SMITIN study's arms: what each pushes, and what is written down of the music that comes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

import interp
from analyses._smitin_music import Session, ask, base_prompt, codes_of
from analyses._study import slug
from interp import judges
from interp.clips import Clips
from interp.data.audio import write_audio
from interp.directions import Directions, random_like
from interp.probes import ProbeResult, probe
from interp.steering import Add, EveryN, Intervention, Row, Smitin, generate, soft_weights
from interp.traits import Trait

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["CONTINUATION", "TEXT", "Arm", "Probes", "Sounds", "fit_probes", "interventions", "monitor_accuracy", "play",
           "shuffled_probes"]  # fmt: skip

CONTINUATION, TEXT = "continuation", "text-to-music"
_CHUNK = 64


@dataclass(frozen=True)
class Arm:
    """One way to get (or lose) a trait.

    Parameters
    ----------
    name : str
        As tables say it, without the strength.
    rule : {"none", "text", "iti", "soft", "sparse", "smitin", "add"}
        ``iti``: the k best heads alike, at every step. ``soft``: all heads, softly weighted, at every step.
        ``sparse``: the same at every s-th step. ``smitin``: the same, gated by the monitor. ``add``: one layer.
    strength : float
        In sigma.
    method : str
        Whose directions are pushed; the choice and the weights of heads, and the monitor, are always the logistic
        probes', so that the direction alone differs.
    place : {"heads", "resid"}
        Where.
    remove : bool
        Push the other way.
    ask : bool
        The prompt asks for the trait.
    tau : float, optional
        Threshold of the monitor, where it is not the session's.
    """

    name: str
    rule: str
    strength: float = 0.0
    method: str = "logistic"
    place: str = "heads"
    remove: bool = False
    ask: bool = False
    tau: float | None = None


@dataclass(frozen=True)
class Probes:
    """A trait's probes: heads by method in one order, and the layers' mean differences."""

    heads: Mapping[str, Directions]
    resid: Directions
    studies: tuple[ProbeResult, ...] = ()

    def at(self, layer: str) -> Probes:
        """The same with one layer only."""
        return replace(self, resid=self.resid.select(site=layer))


def interventions(session: Session, arm: Arm, probes: Probes) -> tuple[Intervention, ...]:
    """What an arm does to a row."""
    if arm.rule == "text":
        return ()
    logistic = probes.heads["logistic"]
    if arm.rule == "none":  # a monitor that never acts changes nothing, and says what it would have heard
        return (Smitin(logistic, s=session.s, n_monitor=session.n_monitor, tau=-1.0, remove=arm.remove),)
    chosen = probes.resid if arm.place == "resid" else probes.heads[arm.method]
    dose = -arm.strength if arm.remove else arm.strength
    weights = soft_weights(logistic) if arm.place == "heads" else None
    if arm.rule == "add":
        return (Add(chosen, dose=dose, rows=session.rows),)
    if arm.rule == "iti":
        best = {d.site for d in logistic.top(min(session.k, len(logistic)))}
        return (Add(Directions(d for d in chosen if d.site in best), dose=dose, rows=session.rows),)
    if arm.rule == "soft":
        return (Add(chosen, dose=dose, weights=weights, rows=session.rows),)
    if arm.rule == "sparse":
        return (Add(chosen, dose=dose, weights=weights, rows=session.rows, schedule=EveryN(session.s)),)
    own = arm.place == "heads" and arm.method == "logistic"
    return (
        Smitin(
            chosen, alpha=arm.strength, s=session.s, delta=session.delta, n_monitor=session.n_monitor,
            tau=session.tau if arm.tau is None else arm.tau,
            remove=arm.remove, weights=weights if weights is not None else (1.0,) * len(chosen),
            monitor=None if own else logistic, rows=session.rows,
        ),
    )  # fmt: skip


# Probes ---------------------------------------------------------------------------------------------------------


def fit_probes(ds: xr.Dataset, trait: str, pool: str, seed: int, *, resid: bool = True, **settings: Any) -> Probes:
    """Logistic probes of all heads at the paper's pooling, mean differences of the same heads and of the layers."""
    common: dict[str, Any] = {"n_permutations": 0, "n_bootstrap": 0, "seed": seed, **settings}
    heads = probe(ds, trait, sites="heads", pool=pool, methods=("logistic", "mean_diff"), **common)
    studies = [heads]
    layers = Directions()
    if resid:
        studies.append(probe(ds, trait, sites="resid", pool="mean", methods=("mean_diff",), **common))
        layers = studies[1].directions
    directions = sorted(heads.directions, key=lambda d: d.site)
    found = {m: Directions(d for d in directions if d.method == m) for m in ("logistic", "mean_diff")}
    return Probes(found, layers, tuple(studies))


def shuffled_probes(ds: xr.Dataset, trait: str, pool: str, seed: int, like: Probes) -> dict[str, Directions]:
    """Controls as long as the logistic push: random directions, and probes of labels swapped within half the pairs."""
    rng = np.random.default_rng([seed, 12])
    logistic = like.heads["logistic"]
    name = trait.partition("=")[0]
    values = np.asarray(ds[name].values).copy()
    if str(ds["clip"].values[0]).startswith("pair-"):
        for i in np.flatnonzero(rng.random(len(values) // 2) < 0.5):
            values[[2 * i, 2 * i + 1]] = values[[2 * i + 1, 2 * i]]
    else:
        values = rng.permutation(values)
    fitted = fit_probes(ds.assign_coords({name: (ds[name].dims, values)}), trait, pool, seed, resid=False)
    shuffled = {d.site: d for d in fitted.heads["logistic"]}
    return {
        "random": Directions(random_like(d, rng) for d in logistic),
        "shuffled": Directions(replace(shuffled[d.site], sigma=d.sigma, method="shuffled") for d in logistic),
    }


def monitor_accuracy(ds: xr.Dataset, trait: str, probes: Probes, pool: str, n_monitor: int) -> tuple[float, float]:
    """Accuracy on other clips of the heads that are heard (their mean) and of the monitor (their median)."""
    truth = Trait.parse(trait).has(interp.labels(ds))
    heard = Smitin(probes.heads["logistic"], n_monitor=n_monitor).monitored
    logits = np.stack([d.logit(interp.features(ds, d.site, pool=pool).astype(np.float64)) for d in heard])
    return float(((logits > 0) == truth).mean()), float(((np.median(logits, axis=0) > 0) == truth).mean())


def own_probability(session: Session, codes: torch.Tensor, probes: Probes) -> np.ndarray:
    """The paper's own measure: the monitor's median probability when the model hears the music again, unsteered."""
    monitor = Smitin(probes.heads["logistic"], n_monitor=session.n_monitor).monitored
    n, _, frames = codes.shape
    silent = np.zeros((1, round(frames / session.model.frame_rate * session.model.sample_rate)), np.float32)
    clips = Clips.from_arrays([silent] * n, session.model.sample_rate)
    sites = sorted({d.site for d in monitor})
    read = interp.extract(
        session.model, clips, sites=sites, pool=session.pool, progress=False, codes=lambda i: codes[i], batch_size=32
    )
    logits = [d.logit(interp.features(read, d.site, pool=session.pool).astype(np.float64)) for d in monitor]
    return np.median(1 / (1 + np.exp(-np.stack(logits))), axis=0)


# Playing --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sounds:
    """Where the sounds of the first seeds of some arms are left."""

    folder: Path
    n: int = 0
    arms: tuple[str, ...] = ()

    def path(self, trait: str, arm: str, strength: float, i: int) -> Path:
        """File of one sound."""
        return self.folder / f"{slug(trait)}_{slug(arm)}_{strength:g}_{i}.wav"


def play(
    session: Session,
    trait: str,
    task: str,
    arms: Sequence[Arm],
    probes: Probes | Mapping[str, Probes],
    *,
    n: int,
    seed: int,
    remove: bool = False,
    own: bool = False,
    keep: Sounds | None = None,
    trace: Path | None = None,
) -> pd.DataFrame:
    """Make and judge the music of several arms, all with the same prompts and noise.

    Parameters
    ----------
    session, trait, task, arms, probes
        What is done to what; several sets of probes are named by the arm's ``method``.
    n, seed : int
        Paired seeds, and the first of them.
    remove : bool
        Prompts have the trait, and losing it is success.
    own : bool
        Let the model's probes judge as well.
    keep : Sounds, optional
        Where sounds of the first seeds go.
    trace : Path, optional
        File of the monitor's traces.

    Returns
    -------
    DataFrame
        One row a clip: ``trait, task, arm, rule, method, place, strength, seed, hit, score, probe, not_music,
        similarity, acted, level`` (share of decisions at which the monitor let the push through, mean C), and the
        judge's embedding ``e0, e1, ...``.
    """
    model, start = session.model, 0
    prompts: list[tuple[str, list[tuple[str, str]]]] = [("", [])] * n
    codes: torch.Tensor | None = None
    if task == CONTINUATION:
        codes = codes_of(session, trait, remove, n, session.prompt_seconds, session.seed + 900_001 + 31 * seed)
        start = codes.shape[-1]
    else:
        prompts = [base_prompt(session, trait, seed + i) for i in range(n)]
    rows = []
    for arm in arms:
        mine = probes if isinstance(probes, Probes) else probes[arm.method]
        items = interventions(session, arm if isinstance(probes, Probes) else replace(arm, method="logistic"), mine)
        for i in range(n):
            text = ask(session, trait, prompts[i][0]) if arm.ask else prompts[i][0]
            audio = None if codes is None else codes[i]
            rows.append(Row(text or None, session.seed + seed + i, audio, items))
    made = generate(
        model, rows, seconds=session.seconds, guidance=session.guidance, progress=session.progress
    )  # fmt: skip
    asked = None
    if codes is not None:
        sounds = torch.cat([model.decode(part) for part in torch.split(codes, _CHUNK)])
        asked = _embed(session.judge, sounds, model.sample_rate)
    monitor = made.monitor
    decided = monitor[monitor["decided_on"].notna()].groupby("row")
    acted = decided["acted"].mean().reindex(range(len(rows))).to_numpy(float)
    level = monitor.groupby("row")["C"].mean().reindex(range(len(rows))).to_numpy(float)
    parts = []
    for j, arm in enumerate(arms):
        here = slice(j * n, (j + 1) * n)
        whole = torch.cat([model.decode(part) for part in torch.split(made.codes[here], _CHUNK)])
        audio = whole[:, :, round(start / model.frame_rate * model.sample_rate) :]
        part = _judged(session, trait, audio, asked, [p[1] for p in prompts], remove)
        if own:
            mine = probes if isinstance(probes, Probes) else probes["all"]
            part.insert(2, "probe", own_probability(session, made.codes[here, :, start:], mine))
        place = {
            "trait": trait, "task": task, "arm": arm.name, "rule": arm.rule, "method": arm.method, "place": arm.place,
            "strength": arm.strength, "seed": session.seed + seed + np.arange(n), "acted": acted[here],
            "level": level[here],
        }  # fmt: skip
        parts.append(pd.concat([pd.DataFrame(place), part], axis=1))
        if keep is not None and arm.name in keep.arms:
            for i in range(min(keep.n, n)):
                write_audio(keep.path(trait, arm.name, arm.strength, i), whole[i], model.sample_rate)
    if trace is not None and len(monitor):
        names = {r: (arms[r // n].name, arms[r // n].strength, r % n) for r in range(len(rows))}
        some = monitor[monitor["row"] % n < 4].copy()
        some[["arm", "strength", "index"]] = [names[r] for r in some["row"]]
        some.to_csv(trace, index=False)
    return pd.concat(parts, ignore_index=True)


def _embed(judge: Any, audio: torch.Tensor, rate: int) -> np.ndarray | None:
    return np.asarray(judge.embed(audio, rate)) if hasattr(judge, "embed") else None


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine of each row with its twin, as :func:`interp.judges.prompt_similarity` without its chroma."""
    sizes = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    found: np.ndarray = (a * b).sum(axis=1) / np.maximum(sizes, 1e-12)
    return found


def _judged(
    session: Session, trait: str, audio: torch.Tensor, asked: Any, named: list[list[tuple[str, str]]], remove: bool
) -> pd.DataFrame:
    """What the judge makes of clips: hit, score, not_music, similarity, embedding."""
    judge, rate = session.judge, session.model.sample_rate
    scores = judges.score(judge, audio, rate)
    heard = judges.hears(judge, scores, trait)
    hit, score, noise = (heard[name].to_numpy() for name in ("hit", "score", "not_music"))
    if remove:  # the trait is gone and music is left
        hit = ~hit & ~noise
    found = pd.DataFrame({"hit": hit, "score": score, "not_music": noise, "similarity": np.nan})
    embedding = _embed(judge, audio, rate)
    if asked is not None and embedding is not None:
        found["similarity"] = _cosine(embedding, asked)
    elif any(named):
        kept = [[scores[a].iloc[i] for _, a in one if a in scores] for i, one in enumerate(named)]
        found["similarity"] = [float(np.mean(one)) if one else np.nan for one in kept]
    if embedding is not None:
        columns = [f"e{i}" for i in range(embedding.shape[1])]
        found = pd.concat([found, pd.DataFrame(np.round(embedding, 5), columns=columns)], axis=1)
    return found
