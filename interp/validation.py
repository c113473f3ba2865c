"""Does pushing along a direction *cause* the trait? Paired continuations, controls, a judge of audio alone.

:func:`validate` probes, chooses the site, builds the arms, generates and judges; :func:`run_arms` is its second half,
for arms of one's own. Every arm continues the same sounds with the same noise: an effect is a difference between twins.

Arms of :func:`validate`:

================  ==============================================================================================
unsteered         nothing is changed
probe             the probe's direction, at one site
random            a direction drawn for each seed, as long as the probe's: how far one pushes, not where to
shuffled labels   the same probe fitted to shuffled labels (eight shuffles in turn), as long as the probe's
best heads        the directions of the heads that read the trait best, together
worst heads       the same number of heads that read it worst, each pushed by as many of its own sigma
================  ==============================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from interp.errors import ControlError, DataError
from interp.probes.directions import Direction, Directions, random_like
from interp.probes.fit import fit_many
from interp.probes.reading import read_stacks
from interp.probes.splits import permute_labels
from interp.probes.study import ProbeStudy, probe
from interp.sites import Site
from interp.stats import dose_response, holm, paired_bootstrap, wilson
from interp.steering import Add, Intervention, Row, generate

if TYPE_CHECKING:
    import xarray as xr

    from interp.clips import Clips
    from interp.judges import RenderedJudge
    from interp.model import MusicGen

__all__ = ["Arm", "Validation", "default_arms", "heard", "prompts_without", "run_arms", "shuffled_like", "validate"]

UNSTEERED = "unsteered"


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
    """

    name: str
    build: Callable[[float, int], tuple[Intervention, ...]]
    control: bool = True
    where: str = ""


@dataclass(frozen=True)
class Validation:
    """What came out.

    Attributes
    ----------
    table : DataFrame
        One row per arm and dose: ``trait, arm, control, where, dose, n, hits, rate, lo, hi`` (Wilson), the paired
        difference to unsteered ``diff, diff_lo, diff_hi`` (bootstrap over seeds) with ``p`` (sign flips) and ``p_holm``
        (over all arms and doses), and ``not_music``: the share that the judge hears as no music at all.
    clips : DataFrame
        One row per generated clip: ``trait, arm, dose, seed, hit, score, not_music``.
    audio : dict of (arm, dose) to Tensor of shape [seeds, channels, samples]
        The sounds, audio prompt included.
    sample_rate : int
        Of the sounds, in Hz.
    info : dict
        Site, method, accuracy of the judge, settings.
    """

    table: pd.DataFrame
    clips: pd.DataFrame
    audio: Mapping[tuple[str, float], torch.Tensor]
    sample_rate: int
    info: dict[str, Any] = field(default_factory=dict)

    def summary(self) -> pd.DataFrame:
        """The share of clips that have the trait: one row an arm, one column a dose."""
        grid = self.table.pivot_table(index="arm", columns="dose", values="rate", sort=False)
        grid.columns = [f"{dose:g} σ" for dose in grid.columns]
        return grid.reset_index()

    def trend(self, arm: str = "probe") -> Any:
        """Dose-response of one arm over paired seeds, unsteered as dose 0 (:func:`interp.stats.dose_response`)."""
        rows = self.clips[self.clips["arm"].isin([arm, UNSTEERED])]
        return dose_response(rows["dose"].to_numpy(), rows["hit"].to_numpy(float), rows["seed"].to_numpy())


def validate(
    model: MusicGen,
    ds: xr.Dataset,
    trait: str,
    *,
    doses: Sequence[float] = (0.5, 1.0, 1.5, 2.0, 3.0),
    n_seeds: int = 32,
    method: str = "logistic",
    site: str | Site | None = None,
    studies: tuple[ProbeStudy, ProbeStudy] | None = None,
    k: int = 8,
    clips: Clips | None = None,
    prompt_seconds: float = 1.5,
    seconds: float = 4.0,
    judge: RenderedJudge | None = None,
    pilot_seeds: int = 8,
    seed: int = 0,
    progress: bool = False,
    **settings: Any,
) -> Validation:
    """Validate a probe's direction on continuations of sounds without the trait.

    Parameters
    ----------
    model : MusicGen
        The model that the activations come from.
    ds : Dataset
        Activations of heads and residual stream (:func:`interp.extract`).
    trait : str
        ``"drums"``, or one class of a label against the others: ``"instrument=piano"``.
    doses : sequence of float
        In standard deviations of the training activations along the direction.
    n_seeds : int
        Paired seeds; each continues a sound of its own.
    method : str
        Of the probe.
    site : str or Site, optional
        Where the probe direction acts. Without it, the residual site that works best at dose 2 on pilot seeds that are
        not used again.
    studies : pair of ProbeStudy, optional
        Of the heads and of the residual stream, if the probes are fitted already.
    k : int
        How many heads the arms of heads push.
    clips : Clips, optional
        Sounds without the trait to continue; rendered when not given.
    prompt_seconds, seconds : float
        Length of the sound to continue, and of the whole.
    judge : RenderedJudge, optional
        Judges what was generated, never the prompt.
    pilot_seeds : int
        Seeds of the pilot.
    seed : int
        Of prompts, noise, random directions and shuffles.
    progress : bool
        Show progress bars.
    **settings
        For :func:`interp.steering.generate`.

    Returns
    -------
    Validation

    Raises
    ------
    DataError
        If the judge cannot judge the trait, or too few sounds lack it.
    ControlError
        If a control cannot be built.
    """
    from interp.judges import RenderedJudge

    judge = RenderedJudge() if judge is None else judge
    heard(judge, pd.DataFrame(), trait)
    if studies is None:
        one: dict[str, Any] = {
            "methods": (method,),
            "seed": seed,
            "n_permutations": 0,
            "n_bootstrap": 0,
            "progress": progress,
        }
        studies = probe(ds, trait, sites="heads", **one), probe(ds, trait, sites="resid", **one)
    heads, resid = studies
    codes = prompts_without(model, trait, n_seeds + pilot_seeds, prompt_seconds, seed=seed, clips=clips)
    common: dict[str, Any] = {
        "prompt_seconds": prompt_seconds, "seconds": seconds, "judge": judge, "progress": progress, **settings,
    }  # fmt: skip
    info: dict[str, Any] = {"method": method, "judge": judge.name, "seed": seed}
    if site is None:
        candidates = resid.directions.select(method=method)
        pilot = [_push(str(item.site), Directions([item]), control=False) for item in candidates]
        found = run_arms(
            model,
            trait,
            pilot,
            codes[n_seeds:],
            [2.0],
            seeds=range(seed + 10_000, seed + 10_000 + pilot_seeds),
            **common,
        )
        rates = found.table[found.table["arm"] != UNSTEERED].set_index("arm")["rate"]
        site = str(rates.idxmax())
        info["pilot"] = {str(name): float(rate) for name, rate in rates.items()}
    treated = resid.directions.one(site=site, method=method)
    arms = default_arms(ds, treated, heads, resid, k=k, n_seeds=n_seeds, seed=seed)
    result = run_arms(model, trait, arms, codes[:n_seeds], doses, seeds=range(seed, seed + n_seeds), **common)
    info |= {"site": str(site), "sigma": treated.sigma, "k": k, **result.info}
    return replace(result, info=info)


def default_arms(
    ds: xr.Dataset,
    treated: Direction,
    heads: ProbeStudy,
    resid: ProbeStudy,
    *,
    k: int = 8,
    n_seeds: int = 32,
    seed: int = 0,
) -> list[Arm]:
    """Build the treated arms and the controls that the module's text lists.

    Raises
    ------
    ControlError
        If there are fewer than ``2 k`` heads, so that the worst would be among the best.
    """
    method = treated.method
    rng = np.random.default_rng([seed, 7])
    randoms = [Directions([random_like(treated, rng)]) for _ in range(n_seeds)]
    shuffled = [Directions([one]) for one in shuffled_like(ds, treated, resid, 8, seed=seed)]
    ranked = [Site.parse(name) for name in heads.ranking(method)["site"]]
    if len(ranked) < 2 * k:
        raise ControlError(f"the {k} best and the {k} worst of {len(ranked)} heads overlap: take fewer heads.")
    best = Directions(heads.directions.one(site=one, method=method) for one in ranked[:k])
    worst = Directions(heads.directions.one(site=one, method=method) for one in ranked[-k:])
    return [
        _push("probe", Directions([treated]), control=False),
        Arm("random", lambda dose, i: (Add(randoms[i], dose=dose),), where=str(treated.site)),
        Arm("shuffled labels", lambda dose, i: (Add(shuffled[i % 8], dose=dose),), where=str(treated.site)),
        _push("best heads", best, control=False),
        _push("worst heads", worst, control=True),
    ]


def _push(name: str, directions: Directions, *, control: bool) -> Arm:
    where = ", ".join(str(item.site) for item in directions)
    return Arm(name, lambda dose, _: (Add(directions, dose=dose),), control, where)


def shuffled_like(ds: xr.Dataset, treated: Direction, study: ProbeStudy, n: int, *, seed: int = 0) -> list[Direction]:
    """Fit the treated direction's probe to labels shuffled between groups; keep its sigma, so the push is as long.

    Parameters
    ----------
    ds : Dataset
        The activations that the study was made from.
    treated : Direction
        Whose site, method and sigma are taken.
    study : ProbeStudy
        Whose clips, split and penalty are taken.
    n : int
        How many shuffles.
    seed : int
        Of the shuffles.

    Returns
    -------
    list of Direction
    """
    (stack,) = read_stacks(ds, treated.site, treated.pool or None)
    names = pd.Index(np.asarray(ds["clip"].values).astype(str))
    train = ~study.plan.test
    rows = names.get_indexer(study.clips[train])
    y, groups = np.asarray(study.plan.y)[train], np.asarray(study.plan.groups)[train]
    orders = permute_labels(y, groups, n, rng=np.random.default_rng([seed, 8]))
    line = study.table[(study.table["site"] == str(treated.site)) & (study.table["method"] == treated.method)]
    penalty = float(line["l2"].iloc[0])
    fits = fit_many(
        stack.x[:, rows], y[orders], method=treated.method, l2=1.0 if np.isnan(penalty) else penalty,  # type: ignore[arg-type]
    )  # fmt: skip
    weights = fits.coef[0, 0, 0, :, 0]
    info = {"like": treated.method, "labels": "shuffled"}
    return [
        replace(treated, vector=w / np.linalg.norm(w), method="shuffled", intercept=np.nan, score=np.nan, info=info)
        for w in weights.astype(np.float64)
    ]


def prompts_without(
    model: MusicGen, trait: str, n: int, seconds: float, *, seed: int = 0, clips: Clips | None = None
) -> list[torch.Tensor]:
    """Codes ``[codebooks, frames]`` of the first seconds of n sounds without the trait, one a group as far as they go.

    Raises
    ------
    DataError
        If too few sounds lack it.
    """
    name, _, value = trait.partition("=")
    if clips is None:
        from interp.data import render_clips

        fixed = {name: False} if not value else None
        # A class is absent from most scores; the seed is far from those that training and probing clips are drawn from.
        clips = render_clips(
            n if fixed else 2 * n + 16, seed=seed + 900_001, seconds=seconds, factors=fixed, clips_per_score=1
        )
    labels = clips.labels
    if name not in labels:
        raise DataError(f"the sounds to continue have no label {name!r}: they have {', '.join(labels.columns)}.")
    absent = labels[name].astype(str) != value if value else labels[name].astype(float) == 0
    chosen = np.flatnonzero(absent.to_numpy())
    if len(chosen) < n:
        raise DataError(f"{len(chosen)} sounds lack {trait}, but {n} are needed: give more, or take fewer seeds.")
    codes = []
    for i in chosen[:n]:
        clip = clips[int(i)]
        samples = round(seconds * clip.sample_rate)
        audio = torch.as_tensor(np.asarray(clip.audio))[None, :, :samples]
        codes.append(model.encode(audio, clip.sample_rate)[0])
    return codes


def heard(judge: RenderedJudge, scores: pd.DataFrame, trait: str) -> tuple[pd.Series, pd.Series]:
    """Whether the judge hears the trait in each clip, and the probability that it gives.

    Returns
    -------
    hit : bool Series
        For a yes/no trait a probability of at least one half; for a class, that no other answer (and not ``not_music``)
        is likelier.
    score : float Series

    Raises
    ------
    DataError
        If the judge does not know the trait.
    """
    name, _, value = trait.partition("=")
    answers = judge.questions.get(name, [])
    column = value or name
    if column not in answers or (not value and len(answers) > 1):
        known = [q if len(a) == 1 else f"{q}={one}" for q, a in judge.questions.items() for one in a]
        raise DataError(f"the judge {judge.name!r} cannot hear {trait!r}: it knows {', '.join(known)}.")
    if scores.empty:
        return pd.Series(dtype=bool), pd.Series(dtype=float)
    given = judge.answer(scores, name)
    return (given == value if value else given == 1), scores[column]


def run_arms(
    model: MusicGen,
    trait: str,
    arms: Sequence[Arm],
    codes: Sequence[torch.Tensor],
    doses: Sequence[float],
    *,
    seeds: Sequence[int],
    judge: RenderedJudge,
    prompt_seconds: float,
    seconds: float = 4.0,
    progress: bool = False,
    **settings: Any,
) -> Validation:
    """Continue every sound under every arm and dose with the same noise, and judge what was generated.

    Parameters
    ----------
    model, trait, judge, prompt_seconds, seconds, progress, **settings
        As in :func:`validate`.
    arms : sequence of Arm
        The arm ``unsteered`` is added.
    codes : sequence of Tensor of shape [codebooks, frames]
        The sounds to continue, one a seed.
    doses : sequence of float
        Every arm gets all of them.
    seeds : sequence of int
        Of the noise, one for each sound.

    Returns
    -------
    Validation
    """
    n = len(codes)
    plan: list[tuple[Arm, float]] = [(Arm(UNSTEERED, lambda *_: (), control=True), 0.0)]
    plan += [(arm, float(dose)) for arm in arms for dose in doses]
    rows = [
        Row(seed=seeds[i], audio=codes[i], interventions=arm.build(dose, i)) for arm, dose in plan for i in range(n)
    ]
    made = generate(model, rows, seconds=seconds, guidance=None, progress=progress, **settings)
    start = round(prompt_seconds * model.sample_rate)
    scores = judge.score(made.audio[:, :, start:], model.sample_rate)
    hit, score = heard(judge, scores, trait)
    clips = pd.DataFrame(
        {
            "trait": trait,
            "arm": np.repeat([arm.name for arm, _ in plan], n),
            "dose": np.repeat([dose for _, dose in plan], n),
            "seed": np.tile(np.asarray(list(seeds)), len(plan)),
            "hit": hit.to_numpy(bool),
            "score": score.to_numpy(float),
            "not_music": scores["not_music"].to_numpy(float) >= 0.5,
        }
    )
    audio = {(arm.name, dose): made.audio[i * n : (i + 1) * n] for i, (arm, dose) in enumerate(plan)}
    worth = judge.accuracy_frame()
    worth = worth[worth["trait"] == trait.partition("=")[0]].to_dict("records")
    info = {"n_seeds": n, "seconds": seconds, "prompt_seconds": prompt_seconds, "judge_accuracy": worth}
    return Validation(_summarise(clips, plan, trait), clips, audio, model.sample_rate, info)


def _summarise(clips: pd.DataFrame, plan: Sequence[tuple[Arm, float]], trait: str) -> pd.DataFrame:
    base = clips.loc[clips["arm"] == UNSTEERED, "hit"].to_numpy(float)
    lines = []
    for arm, dose in plan:
        rows = clips[(clips["arm"] == arm.name) & (clips["dose"] == dose)]
        hits, n = int(rows["hit"].sum()), len(rows)
        lo, hi = wilson(hits, n)
        line = {
            "trait": trait, "arm": arm.name, "control": arm.control, "where": arm.where, "dose": dose,
            "n": n, "hits": hits, "rate": hits / n, "lo": float(lo), "hi": float(hi),
            "not_music": float(rows["not_music"].mean()),
        }  # fmt: skip
        if arm.name != UNSTEERED:
            gain = paired_bootstrap(rows["hit"].to_numpy(float), base)
            line |= {"diff": gain.difference, "diff_lo": gain.lo, "diff_hi": gain.hi, "p": gain.p}
        lines.append(line)
    table = pd.DataFrame(lines)
    if "p" in table:
        table["p_holm"] = holm(table["p"])
    return table
