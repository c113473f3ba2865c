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

from interp.errors import DataError
from interp.model import MusicGen
from interp.sites import Site, select_sites
from interp.steering._ops import Key
from interp.steering.engine.reference import installed
from interp.steering.forced import _aligned, _groups

__all__ = ["Metric", "causal_ranking", "code_log_likelihood"]

Metric = Callable[[Tensor, Tensor], Tensor]
"""``metric(logits [rows, codebooks, frames, cardinality], codes [rows, codebooks, frames]) -> [rows]``."""


def code_log_likelihood(logits: Tensor, codes: Tensor) -> Tensor:
    """Mean log-likelihood of the codes, in nats a token: the default metric."""
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
    DataError
        If the labels do not fit or have one class.
    """
    chosen = select_sites(sites, model.shape)
    each = [texts] * len(codes) if texts is None or isinstance(texts, str) else list(texts)
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


def _part(site: Site, model: MusicGen) -> slice:
    """Where a site lies in the tensor of its place."""
    if site.head is None:
        return slice(None)
    return slice(site.head * model.shape.head_dim, (site.head + 1) * model.shape.head_dim)


def _logits(
    model: MusicGen,
    codes: Tensor,
    texts: Sequence[str | None],
    keys: list[Key],
    edit: Callable[[Key, Tensor], Tensor],
    conditions: Any = None,
) -> Tensor:
    sequence, _ = model.sequence(codes)
    conditions = model.conditions(texts) if conditions is None else conditions
    with model.autocast(), installed(model.lm, keys, edit):
        logits = model.lm(sequence[..., :-1], [], conditions).float()
    return _aligned(model, logits, codes.shape[-1])


def _means(
    model: MusicGen, codes: Tensor, texts: list[str | None], groups: list[list[int]], sites: list[Site]
) -> dict[Key, Tensor]:
    """Mean activation of every place over all rows and positions."""
    keys: list[Key] = sorted({(site.kind, site.layer) for site in sites}, key=lambda key: key[1])
    sums: dict[Key, Tensor] = {}
    count = 0

    def keep(key: Key, x: Tensor) -> Tensor:
        sums[key] = sums.get(key, torch.zeros(x.shape[-1], device=x.device)) + x.float().sum((0, 1))
        return x

    with torch.no_grad():
        for rows in groups:
            _logits(model, codes[rows], [texts[i] for i in rows], keys, keep)
            count += len(rows) * (model.sequence(codes[rows])[0].shape[-1] - 1)
    return {key: total / count for key, total in sums.items()}


def _ablated(
    model: MusicGen,
    codes: Tensor,
    texts: list[str | None],
    sites: list[Site],
    means: dict[Key, Tensor],
    metric: Metric,
) -> np.ndarray[Any, Any]:
    codes = codes.to(model.device)
    conditions = model.conditions(texts)
    found = []
    with torch.no_grad():
        before = metric(_logits(model, codes, texts, [], lambda key, x: x, conditions), codes)
        for site in sites:
            key: Key = (site.kind, site.layer)
            part = _part(site, model)

            def replace(key: Key, x: Tensor, part: slice = part) -> Tensor:
                x = x.clone()
                x[..., part] = means[key][part].to(x.dtype) if key in means else 0
                return x

            after = metric(_logits(model, codes, texts, [key], replace, conditions), codes)
            found.append((after - before).cpu().numpy())
    return np.stack(found)


def _attributed(
    model: MusicGen,
    codes: Tensor,
    texts: list[str | None],
    sites: list[Site],
    means: dict[Key, Tensor],
    metric: Metric,
) -> np.ndarray[Any, Any]:
    codes = codes.to(model.device)
    keys: list[Key] = sorted({(site.kind, site.layer) for site in sites}, key=lambda key: key[1])
    kept: dict[Key, Tensor] = {}

    def keep(key: Key, x: Tensor) -> Tensor:
        # weights are frozen: the first kept activation opens the graph, later ones hang on it
        x = x if x.requires_grad else x.detach().requires_grad_(True)
        kept[key] = x
        return x

    with torch.enable_grad():
        value = metric(_logits(model, codes, texts, keys, keep), codes).sum()
        gradients = torch.autograd.grad(value, [kept[key] for key in keys])
    at = dict(zip(keys, gradients, strict=True))
    found = []
    for site in sites:
        key = (site.kind, site.layer)
        part = _part(site, model)
        x, gradient = kept[key].detach()[..., part].float(), at[key][..., part].float()
        target = means[key][part] if key in means else torch.zeros_like(x)
        found.append(((target - x) * gradient).sum((1, 2)).cpu().numpy())
    return np.stack(found)
