"""Which sites cause what: ablation of every site, and attribution patching as its fast approximation.

A probe says where a trait can be read; this says where it makes a difference. The measured quantity is a *metric* of
the teacher-forced logits, by default the log-likelihood of the music that was given: its change when a site is
replaced by its mean is the site's effect. Attribution patching (Nanda 2023) estimates all effects at once from one
backward pass, ``(baseline - activation) * d metric / d activation``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.backends.audiocraft import Visitor
from interp.errors import DataError
from interp.model import MusicGen
from interp.sites import Place, Site, select_sites
from interp.steering.forced import _groups, texts_of

__all__ = ["Metric", "causal_ranking", "code_log_likelihood"]

Metric = Callable[[Tensor, Tensor], Tensor]
"""``metric(logits [rows, codebooks, frames, cardinality], codes [rows, codebooks, frames]) -> [rows]``."""


def code_log_likelihood(logits: Tensor, codes: Tensor) -> Tensor:
    """Mean log-likelihood of the codes, in nats a token: the default metric.

    Examples
    --------
    >>> logits = torch.zeros(1, 4, 10, 8)
    >>> code_log_likelihood(logits, torch.zeros(1, 4, 10, dtype=torch.long))
    tensor([-2.0794])
    """
    return torch.log_softmax(logits, -1).gather(-1, codes[..., None])[..., 0].mean((1, 2))


def causal_ranking(
    model: MusicGen,
    codes: Tensor,
    texts: str | Sequence[str | None] | None = None,
    *,
    labels: Sequence[Any] | np.ndarray[Any, Any] | None = None,
    sites: str | Site | Iterable[str | Site] = "heads",
    method: Literal["ablate", "attribution"] = "ablate",
    baseline: Literal["mean", "zero"] = "mean",
    metric: Metric = code_log_likelihood,
    batch_size: int = 16,
) -> pd.DataFrame:
    """Rank sites by what happens without them.

    Parameters
    ----------
    model : MusicGen
    codes : Tensor
        Music, long ``[rows, codebooks, frames]``.
    texts : str, None or sequence
        One text for all rows, or one each.
    labels : array of 0 and 1, optional
        A trait of the music. The effect on a trait is the mean change of rows with it minus that of rows without: a
        site the model needs for all music alike scores nothing.
    sites : sites
        Which sites, see :func:`interp.sites.select_sites`.
    method : {"ablate", "attribution"}
        One forward pass for every site, or one backward pass for all.
    baseline : {"mean", "zero"}
        What takes the place of an activation: its mean over all rows and positions, or zero.
    metric : callable
        See :data:`Metric`.
    batch_size : int
        Rows at a time.

    Returns
    -------
    DataFrame
        ``site``, ``kind``, ``layer``, ``head``, ``effect`` (mean change of the metric when the site is replaced, on
        the trait if there are labels), ``effect_sem``, ``rank`` (1: the largest absolute effect), ``method``; sorted
        by rank. ``attrs["changes"]`` holds the change of every row, ``[sites, rows]``.

    Raises
    ------
    ClipError
        If texts and codes differ in number.
    DataError
        If the labels do not fit or have one class, or an effect is not finite (site and row are named).

    Examples
    --------
    >>> from interp.backends.build import random_musicgen
    >>> from interp.model import MusicGen
    >>> model = MusicGen(random_musicgen())
    >>> codes = torch.zeros(2, model.n_codebooks, 8, dtype=torch.long)
    >>> causal_ranking(model, codes, sites="L0.H*", baseline="zero")["rank"].tolist()
    [1, 2]
    """
    chosen = select_sites(sites, model.shape)
    each = texts_of(codes, texts)
    trait = _checked(labels, len(codes))
    groups = _groups(model, each, batch_size)
    means = _means(model, codes, each, groups, chosen) if baseline == "mean" else {}
    changes = np.zeros((len(chosen), len(codes)))
    for rows in groups:
        some = [each[i] for i in rows]
        if method == "ablate":
            changes[:, rows] = _ablated(model, codes[rows], some, chosen, means, metric)
        else:
            changes[:, rows] = _attributed(model, codes[rows], some, chosen, means, metric)
    bad = np.argwhere(~np.isfinite(changes))
    if len(bad):
        raise DataError(
            f"the effect of {chosen[bad[0, 0]]} on row {bad[0, 1]} is NaN or infinite in "
            f"{str(model.dtype).removeprefix('torch.')}: run the model in float32, or leave the row out."
        )
    if trait is None:
        effect = changes.mean(1)
        sem = changes.std(1, ddof=1) / np.sqrt(len(codes)) if len(codes) > 1 else np.full(len(chosen), np.nan)
    else:
        with_, without = changes[:, trait], changes[:, ~trait]
        effect = with_.mean(1) - without.mean(1)
        sem = np.sqrt(sum(part.var(1, ddof=1) / part.shape[1] for part in (with_, without)))
    table = pd.DataFrame(
        {
            "site": [str(site) for site in chosen],
            "kind": [site.kind for site in chosen],
            "layer": [site.layer for site in chosen],
            "head": pd.array([site.head for site in chosen], dtype="Int64"),
            "effect": effect,
            "effect_sem": sem,
            "rank": (-np.abs(effect)).argsort(kind="stable").argsort() + 1,
            "method": method,
        }
    )
    table = table.sort_values("rank", ignore_index=True)
    table.attrs["changes"] = changes
    return table


def _checked(labels: Any, n: int) -> np.ndarray[Any, Any] | None:
    if labels is None:
        return None
    trait = np.asarray(labels).astype(bool)
    if trait.shape != (n,):
        raise DataError(f"{n} rows of music need {n} labels, not an array of shape {trait.shape}.")
    if min(trait.sum(), (~trait).sum()) < 2:
        raise DataError("a causal ranking for a trait needs at least two rows with it and two without.")
    return trait


def _means(
    model: MusicGen, codes: Tensor, texts: list[str | None], groups: list[list[int]], sites: list[Site]
) -> dict[Place, Tensor]:
    """Mean activation of every place over all rows and positions, ``[heads, head_dim]`` or ``[width]``."""
    sums: dict[Place, Tensor] = {}
    count = 0

    def keep(place: Place) -> Visitor:
        def visit(x: Tensor) -> None:
            sums[place] = sums.get(place, 0) + x.float().sum((0, 1))

        return visit

    visit = {site.place: keep(site.place) for site in sites}
    for rows in groups:
        model.predict(codes[rows], [texts[i] for i in rows], visit=visit, logits=False)
        count += len(rows) * (model.sequence(codes[rows])[0].shape[-1] - 1)
    return {place: total / count for place, total in sums.items()}


def _ablated(
    model: MusicGen,
    codes: Tensor,
    texts: list[str | None],
    sites: list[Site],
    means: dict[Place, Tensor],
    metric: Metric,
) -> np.ndarray[Any, Any]:
    """Change of the metric of every row when a site is replaced, ``[sites, rows]``."""
    codes = codes.to(model.device)
    conditions = model.conditions(texts)

    def measured(visit: dict[Place, Visitor]) -> Tensor:
        logits = model.predict(codes, conditions=conditions, visit=visit).logits
        assert logits is not None
        return metric(logits, codes)

    def replaced(site: Site) -> Visitor:
        def visit(x: Tensor) -> Tensor:
            x = x.clone()
            part = x if site.head is None else x[:, :, site.head]
            part[:] = _target(site, means, part).to(x.dtype)
            return x

        return visit

    with torch.no_grad():
        before = measured({})
        changes = [(measured({site.place: replaced(site)}) - before).cpu().numpy() for site in sites]
    return np.stack(changes)


def _attributed(
    model: MusicGen,
    codes: Tensor,
    texts: list[str | None],
    sites: list[Site],
    means: dict[Place, Tensor],
    metric: Metric,
) -> np.ndarray[Any, Any]:
    """First-order estimate of what :func:`_ablated` measures, for all sites from one backward pass."""
    codes = codes.to(model.device)
    kept: dict[Place, Tensor] = {}

    def keep(place: Place) -> Visitor:
        def visit(x: Tensor) -> Tensor:
            # weights are frozen: the first kept activation opens the graph, later ones hang on it
            kept[place] = x if x.requires_grad else x.detach().requires_grad_(True)
            return kept[place]

        return visit

    visit = {site.place: keep(site.place) for site in sites}
    with torch.enable_grad():
        logits = model.predict(codes, texts, visit=visit, grad=True).logits
        assert logits is not None
        gradients = torch.autograd.grad(metric(logits, codes).sum(), list(kept.values()))
    at = dict(zip(kept, gradients, strict=True))
    changes = []
    for site in sites:
        x, gradient = (
            (whole if site.head is None else whole[:, :, site.head]).detach().float()
            for whole in (kept[site.place], at[site.place])
        )
        changes.append(((_target(site, means, x) - x) * gradient).sum((1, 2)).cpu().numpy())
    return np.stack(changes)


def _target(site: Site, means: dict[Place, Tensor], like: Tensor) -> Tensor:
    """What takes the place of a site's activation, ``[dim]``: its mean if there is one, else zero."""
    if site.place not in means:
        return torch.zeros(like.shape[-1], device=like.device)
    mean = means[site.place]
    return mean if site.head is None else mean[site.head]
