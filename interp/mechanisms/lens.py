"""The lens: the model's own final norm and output heads, put on the residual stream of every layer.

What a layer would say if it were the last (nostalgebraist 2020; for music DecoderLens, Langedijk et al. 2024, after
which a layer can be heard). At the last layer the lens is the model.
"""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor

from interp.backends import parts
from interp.errors import SiteError
from interp.mechanisms.heard import Heard, frames_between, in_batches
from interp.model import MusicGen
from interp.sites import Site

__all__ = ["lens", "lens_codes", "lens_logits"]


def lens_logits(model: MusicGen, heard: Heard, site: str | Site) -> Tensor:
    """Logits of one layer.

    Parameters
    ----------
    model : MusicGen
    heard : Heard
    site : str or Site
        A residual stream: ``L3.resid`` or ``embed``.

    Returns
    -------
    Tensor
        Float32 ``[rows, codebooks, frames, cardinality]``, aligned with the codes that were heard.

    Raises
    ------
    SiteError
        If the site does not exist or is no residual stream.

    Examples
    --------
    >>> from interp.backends.build import random_musicgen
    >>> from interp.mechanisms import hear
    >>> model = MusicGen(random_musicgen())
    >>> heard = hear(model, torch.zeros(2, 4, 10, dtype=torch.long))
    >>> last = lens_logits(model, heard, "L1.resid")
    >>> bool((last - model.predict(heard.codes).logits).abs().max() < 1e-5)
    True
    """
    stream = Site.parse(site).check(model.shape)
    if stream.kind not in ("embed", "resid"):
        raise SiteError(f"{stream} is no residual stream: the lens is put on embed or L3.resid.")
    positions = parts.frame_positions(model.lm, heard.n_frames, range(heard.n_frames))
    logits: list[Tensor | None] = [None] * len(heard)
    with torch.no_grad():
        for rows in in_batches(model, heard, 16):
            part = heard.take(rows)
            x = model.predict(part.codes, list(part.texts), read=[stream], logits=False).values[stream]
            with model.autocast():
                for row, value in zip(rows, parts.frame_logits(model.lm, x, positions), strict=True):
                    logits[row] = value
    return torch.stack([value for value in logits if value is not None])


@torch.no_grad()
def lens(
    model: MusicGen, heard: Heard, *, counted: tuple[float, float] | None = None, batch_size: int = 16
) -> pd.DataFrame:
    """What every layer would say.

    Parameters
    ----------
    model : MusicGen
    heard : Heard
    counted : (start, stop), optional
        Seconds whose frames count; all by default.
    batch_size : int
        Rows at a time.

    Returns
    -------
    DataFrame
        A row for each layer and codebook: ``site``, ``layer`` (-1 for the embedding), ``codebook``; means over rows and
        frames of ``entropy``, ``kl`` (of the model's prediction from the layer's, zero at the last layer),
        ``log_likelihood`` (of the music that was heard), all in nats a token, ``accuracy`` (share of frames whose most
        likely code is the one that came) and ``agreement`` (whose most likely code is the model's).

    Raises
    ------
    DataError
        If no frame counts.

    Examples
    --------
    >>> from interp.backends.build import random_musicgen
    >>> from interp.mechanisms import hear
    >>> model = MusicGen(random_musicgen())
    >>> table = lens(model, hear(model, torch.zeros(2, 4, 10, dtype=torch.long)))
    >>> table.query("codebook == 0")["site"].tolist(), float(table["agreement"].iloc[-1])
    (['embed', 'L0.resid', 'L1.resid'], 1.0)
    """
    sites = [Site("embed"), *(Site("resid", layer) for layer in range(model.shape.n_layers))]
    frames = frames_between(model, counted, heard.n_frames, "what counts")
    positions = parts.frame_positions(model.lm, heard.n_frames, frames)
    sums: dict[Site, dict[str, Tensor]] = {site: {} for site in sites}
    for rows in in_batches(model, heard, batch_size):
        part = heard.take(rows)
        codes = part.codes[..., frames.start : frames.stop]
        values = model.predict(part.codes, list(part.texts), read=sites, logits=False).values
        with model.autocast():
            end = torch.log_softmax(parts.frame_logits(model.lm, values[sites[-1]], positions), -1)
            for site in sites:
                log_p = torch.log_softmax(parts.frame_logits(model.lm, values[site], positions), -1)
                measured = {
                    "entropy": -(log_p.exp() * log_p).sum(-1),
                    "kl": (end.exp() * (end - log_p)).sum(-1),
                    "log_likelihood": log_p.gather(-1, codes[..., None])[..., 0],
                    "accuracy": (log_p.argmax(-1) == codes).float(),
                    "agreement": (log_p.argmax(-1) == end.argmax(-1)).float(),
                }
                for name, value in measured.items():
                    sums[site][name] = sums[site].get(name, 0) + value.mean(-1).sum(0) / len(heard)  # [codebooks]
    lines = []
    for site, columns in sums.items():
        table = pd.DataFrame({name: value.cpu().numpy() for name, value in columns.items()})
        table.insert(0, "codebook", range(len(table)))
        table.insert(0, "layer", site.layer)
        table.insert(0, "site", str(site))
        lines.append(table)
    return pd.concat(lines, ignore_index=True)


def lens_codes(model: MusicGen, heard: Heard, site: str | Site) -> Tensor:
    """The music that a layer expects: at every frame its most likely codes, after the music that was heard.

    Parameters
    ----------
    model : MusicGen
    heard : Heard
    site : str or Site
        ``L3.resid`` or ``embed``.

    Returns
    -------
    Tensor
        Long ``[rows, codebooks, frames]``; ``model.decode`` makes sound of it.

    Raises
    ------
    SiteError
        If the site does not exist or is no residual stream.

    Examples
    --------
    >>> from interp.backends.build import random_musicgen
    >>> from interp.mechanisms import hear
    >>> model = MusicGen(random_musicgen())
    >>> codes = lens_codes(model, hear(model, torch.zeros(1, 4, 10, dtype=torch.long)), "L0.resid")
    >>> model.decode(codes).shape
    torch.Size([1, 1, 3200])
    """
    return lens_logits(model, heard, site).argmax(-1)
