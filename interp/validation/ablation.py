"""Necessity: take the direction out of music that has the trait. Does the trait go, and is it gone from the inside?

Two questions that neither pushing nor probing answers. *Does the judge stop hearing it?* Music that has the trait is
continued (or a text asks for it) while the direction is projected out, or everything linear about the trait is erased
(LEACE, arXiv 2306.03819), at the site or at every layer of its kind; a random direction is projected out as control.
*Can the probe be refitted?* Given music is heard with the erasure in place, and a fresh probe is fitted to what is
read at the site and after it. A score that comes back later says that the model carries the trait elsewhere as well, so
that one site is not necessary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from interp.directions import Direction, fit_leace, random_like
from interp.directions.erasure import Eraser
from interp.directions.reading import Stack, read_stacks
from interp.errors import DataError
from interp.probes import ProbeResult, Settings
from interp.probes.data import ProbeData
from interp.probes.probing import probe_data
from interp.sites import Place, Site
from interp.steering import Ablate, Intervention
from interp.steering.checks import check_interventions
from interp.steering.edits import Edits
from interp.steering.ops import Timeline
from interp.traits import Trait
from interp.validation.arms import Arm

if TYPE_CHECKING:
    import xarray as xr

    from interp.backends.audiocraft import Visitor
    from interp.model import MusicGen

__all__ = ["ablation_arms", "erasures", "read_under", "refit_after"]

RANDOM_OUT = "random direction out"


def erasures(
    ds: xr.Dataset, treated: Direction, study: ProbeResult, *, seed: int = 0
) -> dict[str, tuple[Intervention, ...]]:
    """Ways to take a trait out, by name; all act on prompt and generated positions.

    Parameters
    ----------
    ds : Dataset
        Activations the probes were fitted to.
    treated : Direction
        The direction, at one site.
    study : ProbeResult
        Of that site's kind; erasers are fitted to its training clips.
    seed : int
        Of the random direction.
    """
    train = ~study.split.test
    names = pd.Index(np.asarray(ds["clip"].values).astype(str))
    rows = names.get_indexer(study.clips[train])
    labels = np.asarray(study.split.y)[train]
    every = [site for site in study.sites if site.kind == treated.site.kind and site.head == treated.site.head]
    fitted: dict[Site, Eraser] = {}
    for stack in read_stacks(ds, every, treated.pool or None):
        for site, x in zip(stack.sites, stack.x, strict=True):
            fitted[site] = fit_leace(site, x[rows], labels, trait=treated.trait, model=treated.model)
    rng = np.random.default_rng([seed, 11])
    ways: dict[str, tuple[Intervention, ...]] = {
        "direction out": (Ablate.project(treated, on="all"),),
        "LEACE": (Ablate.leace([fitted[treated.site]], on="all"),),
        "LEACE, every layer": (Ablate.leace([fitted[site] for site in sorted(fitted)], on="all"),),
        RANDOM_OUT: (Ablate.project(random_like(treated, rng), on="all"),),
    }
    if len(fitted) == 1:
        del ways["LEACE, every layer"]
    return ways


def ablation_arms(ways: Mapping[str, tuple[Intervention, ...]]) -> list[Arm]:
    """One arm without a dose for each way of :func:`erasures`; the random direction is the control.

    Examples
    --------
    >>> from interp.steering import Ablate
    >>> [(arm.name, arm.dosed) for arm in ablation_arms({"mute": (Ablate.zero("L1.resid"),)})]
    [('mute', False)]
    """
    return [
        Arm(
            name, lambda dose, i, items=items: items, control=name == RANDOM_OUT, dosed=False,  # type: ignore[misc]
            where=", ".join(str(site) for item in items for site in item.sites),
        )
        for name, items in ways.items()
    ]  # fmt: skip


def read_under(
    model: MusicGen,
    codes: Tensor,
    interventions: Sequence[Intervention],
    sites: Sequence[Site],
    *,
    batch_size: int = 16,
) -> NDArray[np.float32]:
    """Mean activations of given music, as layers after the interventions see them, ``[sites, clips, dim]``.

    Parameters
    ----------
    model : MusicGen
    codes : Tensor
        Long ``[clips, codebooks, frames]``, heard without a text.
    interventions : sequence of Intervention
        Applied to every clip; none to read the model as it is.
    sites : sequence of Site
        All of one kind, without heads.
    batch_size : int
        Clips at a time.

    Raises
    ------
    DataError
        If sites of several kinds, or heads, are asked for.
    """
    if len({site.kind for site in sites}) != 1 or any(site.head is not None for site in sites):
        raise DataError("activations under an ablation are read at sites of one kind that are no heads: L3.resid, ...")
    check_interventions(interventions, model.shape, lambda: model.fingerprint)
    means = np.zeros((len(sites), len(codes), model.shape.dim(sites[0].kind)), dtype=np.float32)
    for start in range(0, len(codes), batch_size):
        part = codes[start : start + batch_size].to(model.device)
        timeline = Timeline(0, model.sequence(part[:1])[0].shape[-1], model.frame_rate)
        items = [list(interventions)] * len(part)
        edits = Edits(items, [0] * len(part), model.shape, timeline, False, model.device, model.dtype)

        def visitor(place: Place, edits: Edits = edits) -> Visitor:
            return lambda x: edits.apply(place, x.flatten(2), 0, "cond").view(x.shape)

        visit = {place: visitor(place) for place in edits.keys}
        values = model.predict(part, read=sites, visit=visit, logits=False).values
        for i, site in enumerate(sites):
            means[i, start : start + len(part)] = values[site].float().mean(1).cpu().numpy()
    return means


def refit_after(
    model: MusicGen,
    codes: Tensor,
    labels: pd.DataFrame,
    trait: str,
    ways: Mapping[str, Sequence[Intervention]],
    sites: Sequence[Site],
    *,
    method: str = "logistic",
    seed: int = 0,
) -> pd.DataFrame:
    """Fit fresh probes to activations that were read with each erasure in place.

    Parameters
    ----------
    model : MusicGen
    codes : Tensor
        Long ``[clips, codebooks, frames]``: other music than the erasers were fitted to.
    labels : DataFrame
        One row a clip, with the trait's label and ``group``.
    trait : str
    ways : mapping
        See :func:`erasures`; the way ``none`` is added.
    sites : sequence of Site
        Where to refit.
    method, seed
        Of the probe; of its split.

    Returns
    -------
    DataFrame
        ``way, site, layer, test_score, lo, hi, chance, score, n_train, n_test``.
    """
    groups = labels["group"].astype(str).to_numpy() if "group" in labels else np.arange(len(labels)).astype(str)
    wanted = Trait.parse(trait).read(labels)
    # a small folder holds few songs of a class; about 0.6 of them are left to be dealt into folds
    of = np.zeros(wanted.keep.sum()) if wanted.graded else wanted.y
    songs = pd.Series(groups[wanted.keep]).groupby(of).nunique().min()
    folds = int(np.clip(songs // 2, 2, 5))
    settings = Settings(n_permutations=0, n_bootstrap=500, test_size=0.4, folds=folds, seed=seed)
    parts = []
    everything: dict[str, Sequence[Intervention]] = {"none": (), **ways}
    for name, items in everything.items():
        x = read_under(model, codes, items, sites)
        data = ProbeData.from_arrays([Stack(sites[0].kind, tuple(sites), x)], wanted, groups)
        parts.append(probe_data(data, methods=method, settings=settings).table.assign(way=name))
    table: Any = pd.concat(parts, ignore_index=True)
    return table[["way", "site", "layer", "test_score", "lo", "hi", "chance", "score", "n_train", "n_test"]]
