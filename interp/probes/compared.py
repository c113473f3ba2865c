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

from interp.directions.reading import fingerprint
from interp.errors import CheckpointMismatch, DataError, StoreError
from interp.metrics import weighted_scores
from interp.probes import baselines as features
from interp.probes.data import ProbeData
from interp.probes.evaluate import Split, evaluate_sites
from interp.probes.measured import measured, named_place, site_columns, test_weights
from interp.probes.probing import baseline_features, probe_data
from interp.probes.result import ProbeResult
from interp.probes.settings import Settings
from interp.sites import Site
from interp.stats import bootstrap_interval
from interp.traits import Trait

if TYPE_CHECKING:
    import xarray as xr

    from interp.clips import Clips
    from interp.model import MusicGen

__all__ = ["AUDIO", "BaselineResult", "compare_baselines", "extract_untrained"]

AUDIO = {"mel": features.mel, "mfcc": features.mfcc, "chroma": features.chroma}
UNTRAINED = "untrained copy"


@dataclass(frozen=True)
class BaselineResult:
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
    probed : ProbeResult
        The probes of the trained model.
    """

    table: pd.DataFrame
    sites: pd.DataFrame
    probed: ProbeResult
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

    Examples
    --------
    >>> import numpy as np
    >>> import interp
    >>> from interp.backends.build import random_musicgen
    >>> model = interp.MusicGen(random_musicgen())
    >>> clips = interp.Clips.from_arrays([np.zeros(8000), np.ones(8000)], 16_000)
    >>> ds = interp.extract(model, clips, sites="heads", progress=False)
    >>> untrained = extract_untrained(model, clips, ds, progress=False)
    >>> untrained["heads"].shape == ds["heads"].shape, bool((untrained["heads"] == ds["heads"]).all())
    (True, False)
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
    trait: str | Trait,
    *,
    clips: Clips | None = None,
    untrained: xr.Dataset | None = None,
    audio: Sequence[str] = ("mel", "mfcc", "chroma"),
    others: Mapping[str, ArrayLike] | None = None,
    sites: str | Site | Iterable[str | Site] = "heads",
    pool: str | None = None,
    method: str = "logistic",
    progress: bool = False,
    **settings: Any,
) -> BaselineResult:
    """Probe the model, an untrained copy and the sound itself, on one split, and give the differences with intervals.

    ::

        untrained = extract_untrained(model, clips, ds)
        probed = compare_baselines(ds, "drums", clips=clips, untrained=untrained)
        plots.baselines(probed.table)

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
    sites, pool, method, progress, **settings
        As for :func:`interp.probes.probe`.

    Returns
    -------
    BaselineResult

    Raises
    ------
    DataError
        If there is nothing to compare with, or the untrained activations lack a clip or are the trained model's own.

    Examples
    --------
    >>> import numpy as np
    >>> import interp
    >>> tones = [np.sin(np.arange(4000) / (5 + 5 * (i % 2))) * (i + 4) / 32 for i in range(24)]
    >>> clips = interp.Clips.from_arrays(tones, 16_000, {"high": [1 - i % 2 for i in range(24)]})
    >>> ds = interp.extract(interp.load("tiny", device="cpu"), clips, sites="L3.resid", progress=False)

    >>> result = compare_baselines(ds, "high", clips=clips, audio=("mel",), sites="resid", n_permutations=0, folds=3)
    >>> result.table["name"].tolist(), result.table.columns.intersection(["difference", "n_groups"]).tolist()
    (['best site', 'mel'], ['difference', 'n_groups'])
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
    chosen = Settings.of(**settings)
    data = ProbeData.of(ds, trait, sites=sites, pool=pool, kind=chosen.kind)
    probed = probe_data(data, methods=method, settings=chosen, progress=progress)
    own, split = probed.evaluations[method], probed.split
    paired = _Paired(split, test_weights(split, chosen.n_bootstrap, chosen.seed))
    best = int(np.flatnonzero([str(s) == probed.ranking(method)["site"][0] for s in probed.sites])[0])
    best_draws = paired.draws(own.decision[best])
    rows = [_row(probed.table.iloc[best], "best site", None)]
    per_site = pd.DataFrame()
    if untrained is not None:
        if fingerprint(untrained) and fingerprint(untrained) == fingerprint(ds):
            raise DataError("the untrained activations are those of the trained model: make them by extract_untrained.")
        copy = ProbeData.of(features.align(ds, untrained), data.labels, sites=sites, pool=pool)
        row, per_site = _untrained(copy, probed, method, paired, best_draws, best, chosen)
        rows.append(row)
    for name, value in table.items():
        x = baseline_features(name, value, data)
        result = evaluate_sites(x[None], method, split, **chosen.solver)
        line = measured(named_place(name), result, method, split, data.labels, paired.weights).iloc[0]
        gap = paired.difference(
            own.test_score[best] - result.test_score[0], best_draws, paired.draws(result.decision[0])
        )
        rows.append(_row(line, name, gap))
    names = pd.DataFrame(rows).assign(n_groups=len(np.unique(split.groups[split.test])))
    return BaselineResult(names.reset_index(drop=True), per_site, probed, {**probed.info})


class _Paired:
    """Differences of two probes on the same test clips under the same resamples of groups."""

    def __init__(self, split: Split, weights: NDArray[np.float64] | None) -> None:
        self.split, self.weights = split, weights
        self.n_groups = len(np.unique(split.groups[split.test]))

    def draws(self, decision: NDArray[np.float64]) -> NDArray[np.float64]:
        """Score under every resample, of decision values ``[outputs, clips]``; of many sites ``[sites, ...]``."""
        if self.weights is None:
            return np.empty((0, len(decision)) if decision.ndim == 3 else 0)
        y = self.split.y[self.split.test]
        many = decision if decision.ndim == 3 else decision[None]
        drawn = weighted_scores(self.split.score, many, y, self.weights)
        return drawn if decision.ndim == 3 else drawn[:, 0]

    def difference(self, observed: Any, a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[Any, Any, Any]:
        """The difference with its interval, NaN without resamples."""
        if self.weights is None:
            nothing = np.full(np.shape(observed), np.nan)
            return observed, nothing, nothing
        lo, hi = bootstrap_interval(a - b, self.n_groups)
        return observed, lo, hi


def _untrained(
    copy: ProbeData,
    probed: ProbeResult,
    method: str,
    paired: _Paired,
    best_draws: NDArray[np.float64],
    best: int,
    settings: Settings,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """The row of the untrained copy's best site, and what training adds at every site."""
    own = probed.evaluations[method]
    tables, results = [], []
    for stack in copy.stacks:
        result = evaluate_sites(stack.x, method, probed.split, **settings.solver)
        tables.append(measured(site_columns(stack), result, method, probed.split, copy.labels, paired.weights))
        results.append(result)
    theirs = pd.concat(tables, ignore_index=True)
    if [*theirs["site"]] != [str(s) for s in probed.sites]:
        raise DataError("the untrained activations are of other sites than the trained ones: use extract_untrained.")
    decision, score = (np.concatenate([getattr(r, n) for r in results]) for n in ("decision", "test_score"))
    added, lo, hi = paired.difference(own.test_score - score, paired.draws(own.decision), paired.draws(decision))
    per_site = theirs[["site", "kind", "layer", "head", "trait", "method"]].assign(
        trained=own.test_score, untrained=score, added=added, added_lo=lo, added_hi=hi
    )
    top = int(theirs["cv_score"].to_numpy().argmax())
    gap = paired.difference(own.test_score[best] - score[top], best_draws, paired.draws(decision[top]))
    return _row(theirs.iloc[top], UNTRAINED, gap), per_site


def _row(line: pd.Series, name: str, gap: tuple[Any, Any, Any] | None) -> dict[str, Any]:
    kept = ("trait", "method", "site", "cv_score", "test_score", "lo", "hi", "chance", "null_max_95", "p_max", "score")
    difference = (np.nan, np.nan, np.nan) if gap is None else tuple(float(v) for v in gap)
    return {
        "name": name,
        **{k: line[k] for k in kept},
        **dict(zip(("difference", "difference_lo", "difference_hi"), difference, strict=True)),
    }
