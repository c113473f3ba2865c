"""What each head looks at: attention weights recomputed from what a trace reads, and what they add up to.

audiocraft runs attention through a fused kernel that never makes the weights. Here they are made of the residual stream
that entered the block and the block's own projections; a test holds ``weights @ values`` to what the heads put out.

A position hears the tokens of one step of the delayed sequence and predicts those of the next: position 0 hears the
start token, position t + 1 frame t of the first codebook.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.backends import parts
from interp.errors import DataError
from interp.mechanisms.effects import site_table
from interp.mechanisms.heard import Heard, in_batches, n_positions
from interp.model import MusicGen
from interp.sites import HEAD_KINDS, Kind, Site

__all__ = ["attention_summary", "attention_weights", "lag_profile", "repetition", "word_mass"]


def attention_weights(model: MusicGen, heard: Heard, layer: int, kind: Kind = "heads") -> Tensor:
    """Attention of every head of a layer.

    Parameters
    ----------
    model : MusicGen
    heard : Heard
        From :func:`interp.mechanisms.hear`; texts of one length.
    layer : int
    kind : {"heads", "cross_heads"}
        Self- or cross-attention.

    Returns
    -------
    Tensor
        Float32 ``[rows, heads, positions, keys]``; keys are positions, or tokens of the text. Rows sum to one over what
        is visible: positions up to the own one, all tokens.

    Raises
    ------
    SiteError
        If the layer does not exist or has no cross-attention.
    DataError
        If `kind` is not one of heads, or texts differ in length.

    Examples
    --------
    >>> from interp.backends.build import random_musicgen
    >>> from interp.mechanisms import hear
    >>> model = MusicGen(random_musicgen())
    >>> weights = attention_weights(model, hear(model, torch.zeros(1, 4, 10, dtype=torch.long)), layer=1)
    >>> weights.shape, bool(weights.sum(-1).sub(1).abs().max() < 1e-5), float(weights[0, 0, 0, 1])
    (torch.Size([1, 2, 13, 13]), True, 0.0)
    """
    _check_kind(kind)
    Site(kind, layer, 0).check(model.shape)
    if len(in_batches(model, heard, len(heard))) > 1:
        raise DataError("the texts differ in length, and so do their weights: look at those of one length together.")
    return next(weights for _, _, _, weights in _all_weights(model, heard, (kind,), len(heard), (layer,)))


@torch.no_grad()
def _all_weights(
    model: MusicGen, heard: Heard, kinds: Sequence[Kind], batch_size: int, layers: Sequence[int] | None = None
) -> Iterator[tuple[list[int], Kind, int, Tensor]]:
    """Rows, kind, layer and weights ``[rows, heads, positions, keys]``, one layer at a time."""
    parts.check_pre_norm(model.lm)
    chosen = range(model.shape.n_layers) if layers is None else layers
    streams = [Site("resid", layer - 1) if layer else Site("embed") for layer in chosen]
    more = [Site("attn", layer) for layer in chosen] if "cross_heads" in kinds else []
    for rows in in_batches(model, heard, batch_size):
        part = heard.take(rows)
        conditions = model.conditions(list(part.texts))
        values = model.predict(part.codes, conditions=conditions, read=[*streams, *more], logits=False).values
        text = parts.text_of(model.lm, conditions)
        with model.autocast():
            for layer, stream in zip(chosen, streams, strict=True):
                for kind in kinds:
                    x = values[stream] if kind == "heads" else values[stream] + values[Site("attn", layer)]
                    yield rows, kind, layer, parts.attention_of(model.lm, (kind, layer), x, text)[0]


def attention_summary(
    model: MusicGen, heard: Heard, *, prompt_seconds: float | None = None, batch_size: int = 4
) -> pd.DataFrame:
    """How each head spreads its attention.

    Parameters
    ----------
    model : MusicGen
    heard : Heard
    prompt_seconds : float, optional
        Where what was given ends and what was generated begins.
    batch_size : int
        Rows at a time; memory grows with it and with the square of the length.

    Returns
    -------
    DataFrame
        ``site``, ``kind``, ``layer``, ``head``; means over rows and positions of ``entropy`` (nats), and for
        self-attention ``start`` (mass on the start token), ``lag`` (mean distance of the rest, frames), ``own`` (mass
        on the own position) and, with a prompt, ``prompt`` and ``generated`` (mass of positions behind it on
        either; with ``start`` of these positions they sum to one).

    Raises
    ------
    DataError
        If the prompt does not end within the music.

    Examples
    --------
    >>> from interp.backends.build import random_musicgen
    >>> from interp.mechanisms import hear
    >>> model = MusicGen(random_musicgen())
    >>> attention_summary(model, hear(model, torch.zeros(1, 4, 10, dtype=torch.long)))["site"].tolist()[:3]
    ['L0.H0', 'L0.H1', 'L0.X.H0']
    """
    kinds: tuple[Kind, ...] = HEAD_KINDS if model.shape.cross_attention else ("heads",)
    n_steps = n_positions(model, heard.n_frames)
    behind = None if prompt_seconds is None else round(prompt_seconds * model.frame_rate) + 1
    if behind is not None and not 1 < behind <= heard.n_frames:
        raise DataError(
            f"a prompt of {prompt_seconds:g} s does not end within {heard.n_frames / model.frame_rate:g} s of music."
        )
    steps = torch.arange(n_steps, device=model.device)
    lag = (steps[:, None] - steps).clamp(min=0).float()
    sums = _Sums(model)
    for rows, kind, layer, weights in _all_weights(model, heard, kinds, batch_size):
        mean = weights.sum(0)  # [heads, positions, keys]
        parts_of: dict[str, Tensor] = {"entropy": torch.special.entr(weights).sum(-1).mean(-1).sum(0)}
        if kind == "heads":
            rest = mean[:, 1:, 1:]
            parts_of |= {
                "start": mean[:, 1:, 0].mean(-1),
                "lag": (rest * lag[1:, 1:]).sum((1, 2)) / rest.sum((1, 2)).clamp(min=1e-12) * len(rows),
                "own": mean.diagonal(dim1=1, dim2=2)[:, 1:].mean(-1),
            }
            if behind is not None:
                late = mean[:, behind:]
                parts_of |= {
                    "prompt": late[:, :, 1:behind].sum(-1).mean(-1),
                    "generated": late[:, :, behind:].sum(-1).mean(-1),
                }
        sums.add(kind, layer, parts_of)
    return sums.table(len(heard))


def lag_profile(
    model: MusicGen, heard: Heard, *, max_seconds: float | None = None, tempo: Sequence[float] | None = None,
    batch_size: int = 4,
) -> pd.DataFrame:  # fmt: skip
    """Self-attention by how far back it looks.

    Parameters
    ----------
    model : MusicGen
    heard : Heard
    max_seconds : float, optional
        Longest distance; half of the music by default, so that every distance is a mean over as many positions.
    tempo : sequence of float, optional
        Beats per minute of every row: distances are then counted in quarters of a beat.
    batch_size : int
        Rows at a time.

    Returns
    -------
    DataFrame
        ``site``, ``kind``, ``layer``, ``head``, ``lag`` (frames, or beats with a tempo), ``seconds`` (without a tempo)
        and ``mass``: mean attention at that distance (in that quarter of a beat), over positions that can look so far.
        The start token is not counted.

    Raises
    ------
    DataError
        If there are not as many tempi as rows, or the distance is longer than the music.

    Examples
    --------
    >>> from interp.backends.build import random_musicgen
    >>> from interp.mechanisms import hear
    >>> model = MusicGen(random_musicgen())
    >>> profile = lag_profile(model, hear(model, torch.zeros(1, 4, 10, dtype=torch.long)))
    >>> profile[profile["site"] == "L0.H0"]["lag"].tolist()
    [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    """
    if tempo is not None and len(tempo) != len(heard):
        raise DataError(f"{len(heard)} rows of music need {len(heard)} tempi, not {len(tempo)}.")
    longest = heard.n_frames // 2 if max_seconds is None else round(max_seconds * model.frame_rate)
    if not 0 < longest < heard.n_frames:
        raise DataError(f"a distance of {longest} frames does not lie within {heard.n_frames} frames of music.")
    lags = np.arange(longest + 1)
    sums: dict[tuple[int, int], dict[float, list[float]]] = {}
    for rows, _, layer, weights in _all_weights(model, heard, ("heads",), batch_size):
        heardof = weights[:, :, 1:, 1:]
        mass = torch.stack([heardof.diagonal(-int(lag), dim1=2, dim2=3).mean(-1) for lag in lags], -1).cpu().numpy()
        for i, row in enumerate(rows):
            unit = lags.astype(float)
            if tempo is not None:
                unit = np.round(lags / model.frame_rate * tempo[row] / 60 * 4) / 4
            for head in range(mass.shape[1]):
                bins = pd.Series(mass[i, head]).groupby(unit).sum()
                store = sums.setdefault((layer, head), {})
                for lag, value in bins.items():
                    store.setdefault(float(lag), []).append(float(value))
    tables = []
    for (layer, head), store in sums.items():
        table = pd.DataFrame({"lag": list(store), "mass": [float(np.mean(values)) for values in store.values()]})
        table.insert(0, "site", str(Site("heads", layer, head)))
        tables.append(table.sort_values("lag"))
    table = pd.concat(tables, ignore_index=True)
    table = site_table([Site.parse(site) for site in table["site"]]).assign(lag=table["lag"], mass=table["mass"])
    if tempo is None:
        table.insert(5, "seconds", table["lag"] / model.frame_rate)
    return table


def word_mass(
    model: MusicGen, heard: Heard, words: Sequence[str] | None = None, *, batch_size: int = 4
) -> pd.DataFrame:
    """Cross-attention to each token of the text, mean over rows and positions.

    Parameters
    ----------
    model : MusicGen
    heard : Heard
        With texts of one length in tokens.
    words : sequence of str, optional
        What to call the tokens, for example the phrases of the text; their numbers by default.
    batch_size : int
        Rows at a time.

    Returns
    -------
    DataFrame
        ``site``, ``kind``, ``layer``, ``head``, ``token``, ``word``, ``mass`` (sums to one over tokens).

    Raises
    ------
    DataError
        If texts differ in length, or there are not as many words as tokens.
    SiteError
        If the model has no cross-attention.

    Examples
    --------
    >>> import interp
    >>> from interp.mechanisms import hear
    >>> model = interp.load("tiny", "cpu")
    >>> heard = hear(model, torch.zeros(1, 4, 5, dtype=torch.long), "jazz, piano")
    >>> word_mass(model, heard, ["jazz", "piano"]).groupby("site")["mass"].sum().round(4).unique().tolist()
    [1.0]
    """
    Site("cross_heads", 0, 0).check(model.shape)
    lengths = set(model.condition_lengths(heard.texts))
    if len(lengths) > 1:
        raise DataError("the texts differ in length: compare texts with as many tokens.")
    names = [str(token) for token in range(max(lengths))] if words is None else list(words)
    if len(names) != max(lengths):
        raise DataError(f"the texts have {max(lengths)} tokens, but there are {len(names)} words: name each token.")
    masses: dict[int, Tensor] = {}
    for _, _, layer, weights in _all_weights(model, heard, ("cross_heads",), batch_size):
        masses[layer] = masses.get(layer, 0) + weights.mean(2).sum(0) / len(heard)  # [heads, tokens]
    sites = [Site("cross_heads", layer, head) for layer in masses for head in range(model.shape.n_heads) for _ in names]
    n = model.shape.n_layers * model.shape.n_heads
    mass = torch.cat(list(masses.values())).flatten().cpu().numpy()
    return site_table(sites).assign(token=list(range(len(names))) * n, word=names * n, mass=mass)


def repetition(model: MusicGen, heard: Heard, period: float, *, batch_size: int = 4) -> pd.DataFrame:
    """Which heads look at the previous occurrence of what is heard: scores on music that is looped.

    The first `period` seconds of every row are played again and again. In the repeats, a *repeating* head looks one
    period back; an *induction* head one step further on, at what followed there, which is what comes next (Olsson et
    al. 2022, arXiv 2209.11895). The same distances in the music as it was are the null.

    Parameters
    ----------
    model : MusicGen
    heard : Heard
    period : float
        Seconds of the loop.
    batch_size : int
        Rows at a time.

    Returns
    -------
    DataFrame
        ``site``, ``kind``, ``layer``, ``head``; mean attention ``repeat`` and ``induction`` in the looped music,
        ``repeat_null`` and ``induction_null`` in the music as it was.

    Raises
    ------
    DataError
        If the loop is not played at least twice.

    Examples
    --------
    >>> from interp.backends.build import random_musicgen
    >>> from interp.mechanisms import hear
    >>> model = MusicGen(random_musicgen())
    >>> repetition(model, hear(model, torch.zeros(1, 4, 20, dtype=torch.long)), 0.2).columns.tolist()[4:]
    ['repeat', 'induction', 'repeat_null', 'induction_null']
    """
    back = round(period * model.frame_rate)
    first = (
        back + n_positions(model, heard.n_frames) - heard.n_frames + 1
    )  # from here on all codebooks are heard for the second time
    if back < 2 or heard.n_frames < 2 * back:
        raise DataError(
            f"a loop of {period:g} s does not repeat in {heard.n_frames / model.frame_rate:g} s of music: choose one "
            f"of {2 / model.frame_rate:g} s to half of the music."
        )
    loop = heard.codes[..., torch.arange(heard.n_frames) % back]
    sums = _Sums(model)
    for suffix, codes in (("", loop), ("_null", heard.codes)):
        for _, kind, layer, weights in _all_weights(model, Heard(codes, heard.texts), ("heads",), batch_size):
            at = torch.arange(first, heard.n_frames + 1, device=weights.device)
            sums.add(
                kind, layer,
                {
                    f"repeat{suffix}": weights[:, :, at, at - back].mean(-1).sum(0),
                    f"induction{suffix}": weights[:, :, at, at - back + 1].mean(-1).sum(0),
                },
            )  # fmt: skip
    return sums.table(len(heard))


class _Sums:
    """Sums over batches of what is measured of every head, by name."""

    def __init__(self, model: MusicGen) -> None:
        self.n_heads = model.shape.n_heads
        self.sums: dict[tuple[Kind, int], dict[str, Tensor]] = {}

    def add(self, kind: Kind, layer: int, values: dict[str, Tensor]) -> None:
        """Add values ``[heads]``."""
        store = self.sums.setdefault((kind, layer), {})
        for name, value in values.items():
            store[name] = store.get(name, 0) + value

    def table(self, n_rows: int) -> pd.DataFrame:
        """Means over rows, a row a head, in forward order."""
        lines = []
        for (kind, layer), store in self.sums.items():
            columns = {name: (value / n_rows).cpu().numpy() for name, value in store.items()}
            sites = [Site(kind, layer, head) for head in range(self.n_heads)]
            lines.append(site_table(sites).assign(**columns))
        return pd.concat(lines, ignore_index=True)


def _check_kind(kind: Kind) -> None:
    if kind not in HEAD_KINDS:
        raise DataError(f"attention is that of {' or '.join(HEAD_KINDS)}, not of {kind!r}.")
