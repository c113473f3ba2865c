"""The SMITIN study's probes: heads and layers, their shuffled controls, and what they hear themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

import interp
from interp.clips import Clips
from interp.directions import Directions, random_like
from interp.probes import ProbeResult, probe
from interp.steering import Smitin
from interp.traits import Trait
from interp.validation.setting import Part

if TYPE_CHECKING:
    import xarray as xr

    from interp.model import MusicGen

__all__ = ["Probes", "few_probes", "fit_probes", "monitor_accuracy", "own_probability", "shuffled_probes"]


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


def few_probes(ds: xr.Dataset, trait: Trait, config: Any) -> tuple[pd.DataFrame, dict[int, Probes]]:
    """Probes of the first pairs, for every number of them, with their accuracies on the last quarter of the clips."""
    split = ds.sizes["clip"] - ds.sizes["clip"] // 4 // 2 * 2
    test = ds.isel(clip=slice(split, None))
    ds = ds.isel(clip=np.flatnonzero(~np.isin(ds["group"].values, test["group"].values)))
    rest, rows, fitted = ds.sizes["clip"], [], {}
    for n in [*(n for n in config.sizes if 2 * n < rest), rest // 2]:
        first = ds.isel(clip=slice(0, 2 * n))
        fitted[n] = fit_probes(first, trait, config.pool, config.seed, folds=2 if n < 20 else 5, resid=False)
        mean, median = monitor_accuracy(test, trait, fitted[n], config.pool, config.n_monitor)
        rows.append({"n_pairs": n, "accuracy_heads": mean, "accuracy_monitor": median})
    return pd.DataFrame(rows), fitted
