"""From activations to a verdict: choose the site on pilot seeds, build all arms, generate, judge, decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch

from interp.directions import Direction, Directions, random_like
from interp.errors import DataError
from interp.probes.study import ProbeStudy, probe
from interp.sites import Site
from interp.validation.ablation import ablation_arms, erasures
from interp.validation.arms import UNSTEERED, Arm, default_arms, full_arms, push
from interp.validation.run import Validation, run_arms
from interp.validation.sounds import prompts_with, prompts_without, reference_sounds
from interp.validation.verdict import necessity, verdict

if TYPE_CHECKING:
    import xarray as xr

    from interp.clips import Clips
    from interp.judges import Judge
    from interp.model import MusicGen

__all__ = ["choose", "is_readable", "pilot_doses", "scan", "validate"]

PILOT_SEED = 10_000
"""Added to the seed of pilots, so that no seed of a pilot is used again."""


def validate(
    model: MusicGen,
    ds: xr.Dataset,
    trait: str,
    *,
    arms: Literal["full", "basic"] = "full",
    doses: Sequence[float] = (0.5, 1.0, 1.5, 2.0, 3.0),
    n_seeds: int = 32,
    method: str = "logistic",
    site: str | Site | None = None,
    studies: tuple[ProbeStudy, ProbeStudy] | None = None,
    k: int = 8,
    clips: Clips | None = None,
    prompt_seconds: float = 1.5,
    seconds: float = 4.0,
    judge: str | Judge | None = None,
    pilot_seeds: int = 16,
    others: Sequence[str] = (),
    text: str | None = None,
    iti_doses: Sequence[float] = (),
    n_reference: int = 128,
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
        ``"drums"``, one class of a label against the others, ``"instrument=piano"``, or against one other,
        ``"genre=jazz|rock"``.
    arms : {"full", "basic"}
        Every arm and control of :func:`full_arms`, quality, specificity, necessity and a verdict (in ``info``); or the
        five arms of :func:`default_arms` at every dose, and what the judge hears of the trait.
    doses : sequence of float
        In standard deviations of the training activations along the direction.
    n_seeds : int
        Paired seeds; each continues a sound of its own.
    method : str
        Of the probe.
    site : str or Site, optional
        Where the probe direction acts. Without it, the residual site that works best on pilot seeds that are not used
        again.
    studies : pair of ProbeStudy, optional
        Of the heads and of the residual stream, if the probes are fitted already.
    k : int
        How many heads the arms of heads push.
    clips : Clips, optional
        Sounds to continue, and music to measure quality from; rendered when not given.
    prompt_seconds, seconds : float
        Length of the sound to continue, and of the whole.
    judge : str or Judge, optional
        Judges what was generated, never the prompt; by name or itself. The one that goes with the model when None.
    pilot_seeds : int
        Seeds of the pilot.
    others : sequence of str
        Other traits whose directions must not bring this one (full set).
    text : str, optional
        The prompt that asks for the trait (full set).
    iti_doses : sequence of float
        Doses of the arm of ITI's heads (full set); those of the probe when empty.
    n_reference : int
        Clips of the music that FAD and KAD are measured from (full set); 0 leaves them out.
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
        If a control cannot be built, or dose zero is not the unsteered music.
    """
    from interp.judges import embed
    from interp.judges.registry import makes_rendered_music, panel

    (judge,) = panel(judge, model=model, data=clips, traits=[trait])
    if clips is None and not makes_rendered_music(model):
        raise DataError(
            f"{model.name} is to continue music of its own kind: give labelled clips (clips=, --clips FOLDER), since "
            "rendered sounds are only for the model that ships."
        )
    if studies is None:
        one: dict[str, Any] = {
            "methods": (method,), "seed": seed, "n_permutations": 0, "n_bootstrap": 0 if arms == "basic" else 500,
            "progress": progress,
        }  # fmt: skip
        studies = probe(ds, trait, sites="heads", **one), probe(ds, trait, sites="resid", **one)
    heads, resid = studies
    codes = prompts_without(model, trait, n_seeds + pilot_seeds, prompt_seconds, seed=seed, clips=clips)
    common: dict[str, Any] = {
        "prompt_seconds": prompt_seconds, "seconds": seconds, "judge": judge, "progress": progress, **settings,
    }  # fmt: skip
    info: dict[str, Any] = {"method": method, "judge": judge.name, "seed": seed}
    pilot = range(seed + PILOT_SEED, seed + PILOT_SEED + pilot_seeds)
    if arms == "basic":
        if site is None:
            candidates = resid.directions.select(method=method)
            found = scan(model, trait, candidates, codes[n_seeds:], (2.0,), pilot, **common).table
            rates = found[found["arm"] != UNSTEERED].set_index("site")["rate"]
            site = str(rates.idxmax())
            info["pilot"] = {str(name): float(rate) for name, rate in rates.items()}
        treated = resid.directions.one(site=site, method=method)
        chosen = default_arms(ds, treated, heads, resid, k=k, n_seeds=n_seeds, seed=seed)
        result = run_arms(model, trait, chosen, codes[:n_seeds], doses, seeds=range(seed, seed + n_seeds), **common)
        return replace(result, info=info | {"site": str(site), "sigma": treated.sigma, "k": k, **result.info})
    candidates = resid.directions.select(method=method, site=site)
    references = {}
    if n_reference:
        rest = seconds - prompt_seconds
        for name, of in (("", trait), ("any", None)):
            music = reference_sounds(model, of, n_reference, rest, seed=seed, clips=clips)
            references[name] = embed(judge, music, model.sample_rate)
    quality: dict[str, Any] = {"measure": True, "references": references}
    tried = scan(model, trait, candidates, codes[n_seeds:], pilot_doses(doses), pilot, **quality, **common).table
    site, dose = choose(tried)
    info["pilot"] = tried.to_dict("records")
    treated = resid.directions.one(site=site, method=method)
    chosen = full_arms(
        ds, treated, heads, resid, dose=dose, doses=doses, text=text, sample_rate=model.sample_rate, k=k,
        iti_doses=iti_doses, n_seeds=n_seeds, seed=seed,
        others={name: _other(ds, name, method, str(site), seed) for name in others},
    )  # fmt: skip
    seeds = range(seed, seed + n_seeds)
    result = run_arms(model, trait, chosen, codes[:n_seeds], doses, seeds=seeds, **quality, **common)
    ways = erasures(ds, treated, resid, seed=seed)
    having = prompts_with(model, trait, n_seeds, prompt_seconds, seed=seed, clips=clips)
    without = run_arms(model, trait, ablation_arms(ways), having, (0.0,), seeds=seeds, **common)
    answer, losses = necessity(without.clips)
    said = verdict(result.table, result.clips, is_readable(resid.table, str(site)), necessary=answer)
    info |= {
        "site": str(site), "sigma": treated.sigma, "k": k, "dose": dose, "verdict": said,
        "necessity": losses, "ablation": without.table, **result.info,
    }  # fmt: skip
    return replace(result, info=info)


def scan(
    model: MusicGen,
    trait: str,
    candidates: Sequence[Direction],
    codes: Sequence[torch.Tensor],
    doses: Sequence[float],
    seeds: Sequence[int],
    *,
    control: bool = False,
    seed: int = 0,
    **common: Any,
) -> Validation:
    """Push every candidate at every dose on a few seeds.

    Parameters
    ----------
    model, trait, codes, seeds
        As in :func:`interp.validation.run_arms`.
    candidates : sequence of Direction
        One a site.
    doses : sequence of float
    control : bool
        Push random directions of equal length, one a seed, at every site and dose as well.
    seed : int
        Of the random directions.
    **common
        For :func:`interp.validation.run_arms`.

    Returns
    -------
    Validation
        Its table has the column ``site`` as well; treated arms are called as their site, controls ``random SITE``.
    """
    arms: list[Arm] = [push(str(item.site), item, control=False) for item in candidates]
    if control:
        rng = np.random.default_rng([seed, 13])
        for item in candidates:
            draws = [Directions([random_like(item, rng)]) for _ in seeds]
            arms.append(push(f"random {item.site}", draws, control=True))
    settings = {"keep_audio": False, **common}
    made = run_arms(model, trait, arms, codes, doses, seeds=seeds, **settings)
    made.table.insert(1, "site", made.table["arm"].str.removeprefix("random "))
    return made


def pilot_doses(doses: Sequence[float]) -> tuple[float, ...]:
    """The four largest doses above zero: where a pilot looks."""
    found = sorted({float(dose) for dose in doses if dose > 0})[-4:]
    if not found:
        raise DataError("a pilot needs a dose above zero.")
    return tuple(found)


def choose(pilot: pd.DataFrame, *, slack: float = 0.05, not_music: float = 0.10) -> tuple[str, float]:
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
    """
    rows = pilot[~pilot["control"]]
    music = rows[rows["not_music"] <= not_music]
    rows = music if len(music) else rows
    near = rows[rows["rate"] >= rows["rate"].max() - slack]
    cost = ["fad"] if "fad" in near and near["fad"].notna().all() else []
    rising = [True] * len(cost) + [True, False]
    best = near.sort_values([*cost, "dose", "rate"], ascending=rising, kind="stable").iloc[0]
    return str(best["site"]), float(best["dose"])


def is_readable(probes: pd.DataFrame, site: str, alpha: float = 0.05) -> bool:
    """Whether the probe of a site beats chance: by its corrected p-value, or without one by its interval."""
    row = probes[probes["site"] == site].iloc[0]
    p = row.get("p_max", float("nan"))
    if pd.notna(p):
        return bool(p <= alpha)
    lo = row["lo"] if pd.notna(row["lo"]) else row["test_score"]
    return bool(lo > row["chance"])


def _other(ds: xr.Dataset, trait: str, method: str, site: str, seed: int) -> Direction:
    study = probe(ds, trait, sites=site, methods=(method,), n_permutations=0, n_bootstrap=0, seed=seed, progress=False)
    return study.directions[0]
