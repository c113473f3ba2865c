"""What does training add? A probe beside the same probe on the sound itself and on an untrained copy of the model."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from interp.directions.reading import Stack, check_finite, fingerprint, read_stacks
from interp.errors import CheckpointMismatch, DataError, StoreError
from interp.pooling import choose_pool
from interp.probes import baselines as features
from interp.probes.evaluate import evaluate_sites
from interp.probes.resample import weighted_scores
from interp.probes.study import ProbeStudy, _baseline_features, _rows, probe
from interp.sites import Site
from interp.stats import bootstrap_interval, group_weights

if TYPE_CHECKING:
    import xarray as xr

    from interp.clips import Clips
    from interp.model import MusicGen

__all__ = ["AUDIO", "BaselineStudy", "compare_baselines", "extract_untrained"]

AUDIO = {"mel": features.mel, "mfcc": features.mfcc, "chroma": features.chroma}
UNTRAINED = "untrained copy"


@dataclass(frozen=True)
class BaselineStudy:
    """A trait probed in the model and in what a probe of the model must beat.

    Attributes
    ----------
    table : DataFrame
        One row for the best site of the model, the best site of the untrained copy (each chosen by cross-validation on
        training clips) and each kind of audio feature: ``name, trait, method, site, cv_score, test_score, lo, hi,
        chance, null_max_95, p_max, difference`` (score of the model's best site less this one, on the same test
        clips) with its 95 % interval ``difference_lo, difference_hi`` (paired bootstrap over groups), ``n_groups`` of
        the test part. :func:`interp.plots.baselines` draws it.
    sites : DataFrame
        One row a site: ``site, kind, layer, head, trait, method, trained, untrained, added`` (their difference),
        ``added_lo, added_hi``; empty without an untrained copy.
    study : ProbeStudy
        The probes of the trained model.
    """

    table: pd.DataFrame
    sites: pd.DataFrame
    study: ProbeStudy
    info: dict[str, Any] = field(default_factory=dict)


def extract_untrained(
    model: MusicGen, clips: Clips, ds: xr.Dataset, *, seed: int = 0, out: str | Path | None = None, **options: Any
) -> xr.Dataset:
    """Activations of an untrained copy of the model for the same clips, at the same sites, pooled the same way.

    Parameters
    ----------
    model : MusicGen
        The trained model; see :meth:`interp.model.MusicGen.untrained` for what is drawn anew.
    clips : Clips
        The clips behind ``ds``; others are left out.
    ds : Dataset
        The trained model's activations, from :func:`interp.activations.extract`.
    seed : int
        Of the weights.
    out, **options
        As for :func:`interp.activations.extract`.

    Raises
    ------
    CheckpointMismatch
        If ``ds`` was made by another model.
    StoreError
        If ``ds`` does not say how it was made.
    DataError
        If clips are missing, or ``ds`` was made with a text per clip, which it does not keep (pass ``text``).
    """
    from interp.activations import extract

    made_by = json.loads(ds.attrs.get("made_by", "{}"))
    if not {"sites", "pool", "text"} <= set(made_by):
        raise StoreError("these activations do not say how they were made: extract them again (interp.extract).")
    if fingerprint(ds) != model.fingerprint:
        raise CheckpointMismatch(
            f"the activations are of the model {fingerprint(ds)}, but the model given is {model.fingerprint} "
            f"({model.name}): give the model that made them."
        )
    ids = [str(clip) for clip in ds["clip"].values]
    missing = sorted(set(ids) - set(clips.ids))
    if missing:
        raise DataError(f"{len(missing)} clips (first: {missing[0]}) are not among the clips given.")
    sites = [site for kind in made_by["sites"].values() for site in kind]
    text = options.pop("text", made_by["text"])
    if text is not None and text == made_by["text"] and len(text) == 16 and all(c in "0123456789abcdef" for c in text):
        raise DataError("the activations were made with a text for each clip: pass the same texts as text=.")
    return extract(
        model.untrained(seed), clips.subset(ids), sites=sites, pool=made_by["pool"], text=text, out=out,
        dtype=made_by["dtype"], info={"untrained_copy_of": model.fingerprint, "seed": seed}, **options,
    )  # fmt: skip


def compare_baselines(
    ds: xr.Dataset,
    trait: str,
    *,
    clips: Clips | None = None,
    untrained: xr.Dataset | None = None,
    audio: Sequence[str] = ("mel", "mfcc", "chroma"),
    others: Mapping[str, ArrayLike] | None = None,
    sites: str | Site | Iterable[str | Site] = "heads",
    pool: str | None = None,
    method: str = "logistic",
    n_bootstrap: int = 1000,
    seed: int = 0,
    **options: Any,
) -> BaselineStudy:
    """Probe the model, an untrained copy and the sound itself, on one split, and give the differences with intervals.

    ::

        untrained = extract_untrained(model, clips, ds)
        study = compare_baselines(ds, "drums", clips=clips, untrained=untrained)
        plots.baselines(study.table)

    Parameters
    ----------
    ds : Dataset
        Activations of the trained model.
    trait : str
        As for :func:`interp.probes.probe`.
    clips : Clips, optional
        The sounds behind ``ds``, for the audio features.
    untrained : Dataset, optional
        Activations of the untrained copy for the same clips (in any order), from :func:`extract_untrained`.
    audio : sequence of {"mel", "mfcc", "chroma"}
        Which features of the sound; needs ``clips``.
    others : dict of str to array of shape (clips, features), optional
        More features to compare with.
    sites, pool, method, n_bootstrap, seed, **options
        As for :func:`interp.probes.probe`.

    Returns
    -------
    BaselineStudy

    Raises
    ------
    DataError
        If there is nothing to compare with, or the untrained activations lack a clip or are the trained model's own.
    """
    for name in audio:
        if name not in AUDIO:
            raise DataError(f"no audio feature is called {name!r}: use {', '.join(AUDIO)}.")
    table = dict(others or {})
    if clips is not None:
        heard = clips.subset([str(clip) for clip in ds["clip"].values])
        table |= {name: AUDIO[name](heard) for name in audio}
    if not table and untrained is None:
        raise DataError("nothing to compare with: give the clips, the untrained copy's activations, or other features.")
    study = probe(
        ds, trait, sites=sites, pool=pool, methods=[method], n_bootstrap=n_bootstrap, seed=seed, **options
    )  # fmt: skip
    own, plan = study.evaluations[method], study.plan
    settings = {k: v for k, v in options.items() if k in ("dtype", "device", "memory")}
    weights = group_weights(plan.groups[plan.test], max(n_bootstrap, 2), np.random.default_rng([seed, 2]))
    paired = _Paired(plan, weights, n_bootstrap)
    best = int(np.flatnonzero([str(s) == study.ranking(method)["site"][0] for s in study.sites])[0])
    mine = paired.draws(own.decision[best])
    rows = [_row(study.table.iloc[best], "best site", None)]
    per_site = pd.DataFrame()
    if untrained is not None:
        row, per_site = _untrained(ds, untrained, study, method, sites, pool, paired, mine, best, settings, weights)
        rows.append(row)
    for name, value in table.items():
        x = _baseline_features(name, value, study.trait.keep, study.clips)
        result = evaluate_sites(x[None], method, plan, **settings)
        place = pd.DataFrame({"site": [name], "kind": "baseline", "layer": [-1], "head": pd.array([None], "Int64")})
        line = _rows(place, result, method, plan, study.trait, weights if n_bootstrap else None).iloc[0]
        gap = paired.difference(own.test_score[best] - result.test_score[0], mine, paired.draws(result.decision[0]))
        rows.append(_row(line, name, gap))
    names = pd.DataFrame(rows).assign(n_groups=len(np.unique(plan.groups[plan.test])))
    info = {**study.info, "pool": choose_pool(ds["pool"].values, pool)}
    return BaselineStudy(names.reset_index(drop=True), per_site, study, info)


class _Paired:
    """Differences of two probes on the same test clips under the same resamples of groups."""

    def __init__(self, plan: Any, weights: NDArray[np.float64], n_bootstrap: int) -> None:
        self.plan, self.weights, self.n_bootstrap = plan, weights, n_bootstrap
        self.n_groups = len(np.unique(plan.groups[plan.test]))

    def draws(self, decision: NDArray[np.float64]) -> NDArray[np.float64]:
        """Score under every resample, of decision values ``[outputs, clips]``; of many sites ``[sites, ...]``."""
        y = self.plan.y[self.plan.test]
        many = decision if decision.ndim == 3 else decision[None]
        drawn = weighted_scores(self.plan.score, many, y, self.weights)
        return drawn if decision.ndim == 3 else drawn[:, 0]

    def difference(self, observed: Any, a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[Any, Any, Any]:
        """The difference with its interval, NaN without resamples."""
        if not self.n_bootstrap:
            nothing = np.full(np.shape(observed), np.nan)
            return observed, nothing, nothing
        lo, hi = bootstrap_interval(a - b, self.n_groups)
        return observed, lo, hi


def _untrained(
    ds: xr.Dataset,
    untrained: xr.Dataset,
    study: ProbeStudy,
    method: str,
    sites: str | Site | Iterable[str | Site],
    pool: str | None,
    paired: _Paired,
    mine: NDArray[np.float64],
    best: int,
    settings: dict[str, Any],
    weights: NDArray[np.float64],
) -> tuple[dict[str, Any], pd.DataFrame]:
    """The row of the untrained copy's best site, and what training adds at every site."""
    if fingerprint(untrained) and fingerprint(untrained) == fingerprint(ds):
        raise DataError("the untrained activations are those of the trained model: make them with extract_untrained.")
    own, keep = study.evaluations[method], study.trait.keep
    tables, results = [], []
    for stack in read_stacks(features.align(ds, untrained), sites, pool):
        stack = Stack(stack.kind, stack.sites, stack.x[:, keep])
        check_finite(stack.x, stack.sites, study.clips)
        result = evaluate_sites(stack.x, method, study.plan, **settings)
        places = pd.DataFrame(
            {
                "site": [str(s) for s in stack.sites],
                "kind": stack.kind,
                "layer": [s.layer for s in stack.sites],
                "head": pd.array([s.head for s in stack.sites], dtype="Int64"),
            }
        )
        tables.append(_rows(places, result, method, study.plan, study.trait, weights if paired.n_bootstrap else None))
        results.append(result)
    theirs = pd.concat(tables, ignore_index=True)
    if [*theirs["site"]] != [str(s) for s in study.sites]:
        raise DataError("the untrained activations are of other sites than the trained ones: use extract_untrained.")
    decision, score = (np.concatenate([getattr(r, n) for r in results]) for n in ("decision", "test_score"))
    added, lo, hi = paired.difference(own.test_score - score, paired.draws(own.decision), paired.draws(decision))
    per_site = theirs[["site", "kind", "layer", "head", "trait", "method"]].assign(
        trained=own.test_score, untrained=score, added=added, added_lo=lo, added_hi=hi
    )
    top = int(theirs["cv_score"].to_numpy().argmax())
    gap = paired.difference(own.test_score[best] - score[top], mine, paired.draws(decision[top]))
    return _row(theirs.iloc[top], UNTRAINED, gap), per_site


def _row(line: pd.Series, name: str, gap: tuple[Any, Any, Any] | None) -> dict[str, Any]:
    kept = ("trait", "method", "site", "cv_score", "test_score", "lo", "hi", "chance", "null_max_95", "p_max", "score")
    difference = (np.nan, np.nan, np.nan) if gap is None else tuple(float(v) for v in gap)
    return {
        "name": name,
        **{k: line[k] for k in kept},
        **dict(zip(("difference", "difference_lo", "difference_hi"), difference, strict=True)),
    }
