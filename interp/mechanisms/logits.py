"""Direct logit attribution: what every part adds to a difference of logits, to the last of it.

The residual stream is a sum of what the embedding, the heads and the feed-forward blocks wrote, and logits are linear
in it but for the final norm. That norm is frozen: every part is divided by the standard deviation of the whole stream,
as it was (Elhage et al. 2021). Contributions then add up to the model's own logits; they say what a part writes
directly, not what later parts make of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from interp.backends import parts
from interp.errors import DataError
from interp.mechanisms.effects import site_table
from interp.mechanisms.heard import Heard, frames_between, in_batches
from interp.model import MusicGen
from interp.sites import Kind, Site
from interp.stats import bootstrap_interval, group_weights

__all__ = ["logit_attribution"]


def logit_attribution(
    model: MusicGen,
    heard: Heard,
    towards: Tensor | None = None,
    against: Tensor | None = None,
    *,
    counted: tuple[float, float] | None = None,
    batch_size: int = 16,
    seed: int = 0,
) -> pd.DataFrame:
    """Split a difference of logits into what each head, feed-forward block and the embedding add.

    Parameters
    ----------
    model : MusicGen
    heard : Heard
    towards, against : Tensor, optional
        Codes whose logits are compared, long ``[rows, codebooks, frames]``: by default those that were heard, against
        the mean over all entries of the codebook.
    counted : (start, stop), optional
        Seconds whose frames count; all by default.
    batch_size : int
        Rows at a time.
    seed : int
        Of the intervals.

    Returns
    -------
    DataFrame
        A row for each codebook and part: ``codebook``, ``site``, ``kind``, ``layer``, ``head``, ``contribution`` (mean
        over rows and frames, in logits) with ``lo`` and ``hi`` (95 %, rows resampled; NaN for one row). The part
        ``bias`` is what does not depend on the music. Of a codebook, contributions sum to the difference of the
        model's logits.

    Raises
    ------
    DataError
        If the codes do not fit, or no frame counts.
    ModelError
        If the model's layers normalise the residual stream itself.

    Examples
    --------
    >>> from interp.backends.build import random_musicgen
    >>> from interp.mechanisms import hear
    >>> model = MusicGen(random_musicgen())
    >>> table = logit_attribution(model, hear(model, torch.zeros(2, 4, 10, dtype=torch.long)))
    >>> logits = model.predict(torch.zeros(2, 4, 10, dtype=torch.long)).logits
    >>> difference = (logits[..., 0] - logits.mean(-1)).mean((0, 2))
    >>> bool(np.allclose(table.groupby("codebook")["contribution"].sum(), difference, atol=1e-5))
    True
    """
    parts.check_pre_norm(model.lm)
    towards = heard.codes if towards is None else towards.to(model.device)
    against = None if against is None else against.to(model.device)
    for codes in (towards, against):
        if codes is not None and codes.shape != heard.codes.shape:
            raise DataError(f"codes {list(codes.shape)} do not fit music {list(heard.codes.shape)}: compare as many.")
    frames = frames_between(model, counted, heard.n_frames, "what counts")
    written = _written(model)
    values = np.zeros((model.n_codebooks, len(written) + 1, len(heard)))
    for rows in in_batches(model, heard, batch_size):
        values[:, :, rows] = _contributions(model, heard, rows, towards, against, frames, written)
    n = len(written)
    table = pd.concat([site_table(written), pd.DataFrame({"site": ["bias"], "kind": ["bias"], "layer": [-1]})])
    table = pd.concat([table.assign(codebook=k) for k in range(model.n_codebooks)], ignore_index=True)
    flat = values.reshape(model.n_codebooks * (n + 1), len(heard))
    table["contribution"], table["lo"], table["hi"] = flat.mean(1), np.nan, np.nan
    if len(heard) > 1:
        weights = group_weights(np.arange(len(heard)), 2000, np.random.default_rng([seed, 8]))
        table["lo"], table["hi"] = bootstrap_interval((weights @ flat.T) / weights.sum(1, keepdims=True), len(heard))
    return table[["codebook", "site", "kind", "layer", "head", "contribution", "lo", "hi"]]


def _written(model: MusicGen) -> list[Site]:
    """What writes to the residual stream, in forward order."""
    kinds: tuple[Kind, ...] = ("embed", "heads", "cross_heads", "mlp")
    return [site for site in model.shape.sites() if site.kind in kinds]


@torch.no_grad()
def _contributions(
    model: MusicGen, heard: Heard, rows: Sequence[int], towards: Tensor, against: Tensor | None, frames: range,
    written: Sequence[Site],
) -> NDArray[np.float64]:  # fmt: skip
    """Mean over counted frames, ``[codebooks, parts and bias, rows]``."""
    part = heard.take(rows)
    layers = range(model.shape.n_layers)
    blocks = [
        Site(kind, i) for i in layers for kind in ("attn", "cross") if kind == "attn" or model.shape.cross_attention
    ]  # type: ignore[arg-type]
    last = Site("resid", len(layers) - 1)
    read = model.predict(part.codes, list(part.texts), read=[*written, *blocks, last], logits=False).values
    values = {site: value.float() for site, value in read.items()}
    projections = {site: model.output_projection(site).float() for site in written if site.head == 0}
    dim = model.shape.head_dim
    lines = np.zeros((model.n_codebooks, len(written) + 1, len(rows)))
    for codebook, at in enumerate(parts.frame_positions(model.lm, heard.n_frames, frames)):
        codes = [None if c is None else c[list(rows), codebook, frames.start : frames.stop] for c in (towards, against)]
        assert codes[0] is not None
        direction, bias = parts.logit_direction(model.lm, values[last][:, at], codebook, codes[0], codes[1])
        for i, site in enumerate(written):
            onto = direction
            if site.head is not None:
                weight = projections[Site(site.kind, site.layer, 0)]
                onto = direction @ weight[:, site.head * dim : (site.head + 1) * dim]
            lines[codebook, i] = (values[site][:, at] * onto).sum(-1).mean(1).cpu()
        for block in blocks:  # what a block adds beside its heads: the bias of its output projection
            kind: Kind = "heads" if block.kind == "attn" else "cross_heads"
            heads = torch.cat([values[Site(kind, block.layer, head)][:, at] for head in range(model.shape.n_heads)], -1)
            beside = values[block][:, at] - heads @ projections[Site(kind, block.layer, 0)].T
            bias = bias + (beside * direction).sum(-1)
        lines[codebook, -1] = bias.mean(1).cpu()
    return lines
