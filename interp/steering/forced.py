"""Teacher forcing: what the model thinks of given music, and how far steering moves its thoughts.

Both measures are quality guards that need no judge: the likelihood of steered music under the *unsteered* model, and
the divergence of the steered from the unsteered next-token distribution on the same music (ITI, arXiv 2306.03341).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.backends.audiocraft import Visitor
from interp.errors import ClipError, InterventionError, ModelError
from interp.model import MusicGen
from interp.steering.checks import check_interventions
from interp.steering.edits import Edits
from interp.steering.generation import Generation
from interp.steering.interventions import Intervention
from interp.steering.ops import Half, Key, Timeline

__all__ = ["forced_logits", "kl_to_unsteered", "log_likelihood"]


def forced_logits(
    model: MusicGen,
    codes: Tensor,
    texts: Sequence[str | None],
    *,
    guidance: float | None = None,
    interventions: Sequence[Sequence[Intervention]] | None = None,
    prompt_frames: int = 0,
    gates: Sequence[dict[int, Tensor]] | None = None,
) -> Tensor:
    """Logits of every code of given music, all positions in one call.

    Parameters
    ----------
    model : MusicGen
    codes : Tensor
        Long ``[rows, codebooks, frames]``.
    texts : sequence of str or None
        One for each row, all of one length in tokens.
    guidance : float, optional
        Coefficient; None or 1 for the conditional rows alone.
    interventions : sequence of sequences of Intervention, optional
        One for each row; positions from ``prompt_frames`` on are the generated ones.
    prompt_frames : int
        Frames of the audio prompt.
    gates : sequence of dict, optional
        For self-monitored rows: its recorded factors at every position, for each intervention (see
        :func:`kl_to_unsteered`); a self-monitor cannot decide anew when all positions are computed at once.

    Returns
    -------
    Tensor
        ``[rows, codebooks, frames, cardinality]``, aligned with ``codes``: entry t holds the logits from which frame
        t is drawn.

    Raises
    ------
    ClipError
        If codes and texts do not go together.
    InterventionError, ModelError
        If an intervention does not fit, or logits are not finite; the row is named.

    Examples
    --------
    >>> import interp
    >>> model = interp.load("tiny", "cpu")
    >>> forced_logits(model, torch.zeros(1, 4, 3, dtype=torch.long), ["jazz, piano"]).shape[:3]
    torch.Size([1, 4, 3])
    """
    logits = _forced(model, codes, texts, guidance, interventions, prompt_frames, gates)
    return _finite(logits, range(len(logits)), interventions, model)


def _forced(
    model: MusicGen,
    codes: Tensor,
    texts: Sequence[str | None],
    guidance: float | None = None,
    interventions: Sequence[Sequence[Intervention]] | None = None,
    prompt_frames: int = 0,
    gates: Sequence[dict[int, Tensor]] | None = None,
) -> Tensor:
    if codes.ndim != 3 or len(codes) != len(texts):
        raise ClipError(f"give codes [rows, codebooks, frames] and one text a row, not {tuple(codes.shape)}.")
    codes = codes.to(model.device)
    guided = guidance is not None and guidance != 1
    timeline = Timeline(prompt_frames, model.sequence(codes[:1])[0].shape[-1], model.frame_rate)
    rows = interventions or [()] * len(texts)
    for items in rows:
        check_interventions(items, model.shape, lambda: model.fingerprint)
    edits = Edits(rows, [0] * len(texts), model.shape, timeline, guided, model.device, model.dtype)
    if edits.monitor is not None:
        if gates is None:
            raise InterventionError(
                "a self-monitor decides while it generates: give the factors it decided on, or use kl_to_unsteered."
            )
        for entry in edits.entries:
            if entry.unit:
                recorded = gates[entry.row][entry.index].to(edits.monitor.gates)
                edits.monitor.gates[entry.unit, : len(recorded)] = recorded
    half: Half = "both" if guided else "cond"

    def visitor(key: Key) -> Visitor:
        return lambda x: edits.apply(key, x.flatten(2), 0, half).view(x.shape)

    visit = {key: visitor(key) for key in edits.keys}
    if not guided:
        logits = model.predict(codes, texts, visit=visit).logits
        assert logits is not None
        return logits
    logits = model.predict(torch.cat([codes, codes]), [*texts, *[None] * len(texts)], visit=visit).logits
    assert logits is not None
    cond, uncond = torch.split(logits, len(texts))
    return uncond + (cond - uncond) * float(guidance or 1.0)


def _finite(
    logits: Tensor, numbers: Sequence[int], interventions: Sequence[Sequence[Intervention]] | None, model: MusicGen
) -> Tensor:
    """The logits ``[rows, ...]``, or an error that names the first row where they are not finite."""
    bad = ~logits.flatten(1).isfinite().all(1)
    if bool(bad.any()):
        i = int(bad.nonzero()[0, 0])
        says = f"the logits of row {numbers[i]} are not finite in {str(model.dtype).removeprefix('torch.')}"
        active = [item for item in interventions[i] if item.active] if interventions else []
        if active:
            raise InterventionError(f"{says}: push less far; {'; '.join(item.describe() for item in active)}.")
        raise ModelError(f"{says}, without any intervention: load the model in float32 or bfloat16.")
    return logits


def log_likelihood(
    model: MusicGen,
    codes: Tensor,
    texts: str | Sequence[str | None] | None = None,
    *,
    guidance: float | None = None,
    prompt_frames: int = 0,
    batch_size: int = 16,
) -> pd.DataFrame:
    """Log-likelihood of music under the unsteered model.

    Parameters
    ----------
    codes : Tensor
        Long ``[rows, codebooks, frames]``.
    texts : str, None or sequence
        One text for all rows, or one each.
    guidance : float, optional
        Judge by guided logits, as generation would; by default by the conditional ones.
    prompt_frames : int
        Frames at the start that do not count.
    batch_size : int
        Rows at a time.

    Returns
    -------
    DataFrame
        ``row``, ``log_likelihood`` (mean over counted frames and codebooks, in nats a token), ``perplexity``, and
        ``codebook_0``, ... (mean for each codebook).

    Raises
    ------
    ClipError
        If texts and codes differ in number.
    ModelError
        If logits are not finite; the row is named.

    Examples
    --------
    >>> import interp
    >>> model = interp.load("tiny", "cpu")
    >>> list(log_likelihood(model, torch.zeros(1, 4, 3, dtype=torch.long), "jazz, piano"))[:3]
    ['row', 'log_likelihood', 'perplexity']
    """
    each = texts_of(codes, texts)
    lines = []
    for rows in _groups(model, each, batch_size):
        part = codes[rows].to(model.device)
        logits = _finite(_forced(model, part, [each[i] for i in rows], guidance), rows, None, model)
        logp = torch.log_softmax(logits, -1).gather(-1, part[..., None])[..., 0]
        per_codebook = logp[..., prompt_frames:].mean(-1).cpu().numpy()
        for row, values in zip(rows, per_codebook, strict=True):
            mean = float(values.mean())
            named = {f"codebook_{k}": float(value) for k, value in enumerate(values)}
            lines.append({"row": row, "log_likelihood": mean, "perplexity": float(np.exp(-mean)), **named})
    return pd.DataFrame(lines).sort_values("row", ignore_index=True)


def kl_to_unsteered(generation: Generation, batch_size: int = 16) -> pd.DataFrame:
    """KL divergence of the steered from the unsteered next-token distribution, along the steered music.

    Both models hear the same tokens, row by row those that the steered run generated, with the same guidance. A
    self-monitored intervention acts where and as strongly as it did in the run.

    Returns
    -------
    DataFrame
        ``row``, ``kl`` (mean over generated frames and codebooks, in nats a token), ``kl_max`` (largest mean of one
        frame). Rows without an active intervention have exactly 0.

    Raises
    ------
    ClipError
        If the music is longer than the model's window.
    InterventionError, ModelError
        If logits are not finite; the row is named.

    Examples
    --------
    >>> from interp.backends.build import random_musicgen
    >>> from interp.model import MusicGen
    >>> from interp.steering import Row, generate
    >>> made = generate(MusicGen(random_musicgen()), [Row("a", 1)], 0.1, progress=False)
    >>> kl_to_unsteered(made)["kl"].tolist()
    [0.0]
    """
    model, codes = generation.model, generation.codes
    frames = codes.shape[-1]
    if frames > int(model.max_seconds * model.frame_rate):
        raise ClipError(f"the music is longer than the window of {model.max_seconds:g} s: compare a shorter piece.")
    guidance = generation.settings["guidance"]
    gates = _recorded(generation)
    texts = [row.prompt for row in generation.rows]
    lines = []
    for rows in _groups(model, texts, batch_size, [row.prompt_frames for row in generation.rows]):
        start = generation.rows[rows[0]].prompt_frames
        some = [texts[i] for i in rows]
        part = codes[rows]
        items = [generation.rows[i].interventions for i in rows]
        recorded = [gates.get(i, {}) for i in rows]
        bare = _forced(model, part, some, guidance)
        pushed = _forced(model, part, some, guidance, items, start, recorded)
        plain = torch.log_softmax(_finite(bare, rows, None, model), -1)
        steered = torch.log_softmax(_finite(pushed, rows, items, model), -1)
        kl = (steered.exp() * (steered - plain)).sum(-1)[..., start:].mean(1)
        for row, values in zip(rows, kl, strict=True):
            lines.append({"row": row, "kl": float(values.mean()), "kl_max": float(values.max())})
    return pd.DataFrame(lines).sort_values("row", ignore_index=True)


def _recorded(generation: Generation) -> dict[int, dict[int, Tensor]]:
    """Factors that self-monitors decided on, for each row and intervention, by position."""
    found: dict[int, dict[int, Tensor]] = {}
    size = generation.codes.shape[-1] + generation.model.n_codebooks
    for i, row in enumerate(generation.rows):
        for index, item in enumerate(row.interventions):
            if item.ears is not None:
                mine = generation.monitor.query("row == @i and intervention == @index")
                factors = torch.zeros(size)
                steps = torch.tensor(mine["step"].to_numpy(dtype=np.int64)) + row.prompt_frames
                factors[steps] = torch.tensor(mine["factor"].to_numpy(dtype=np.float32))
                found.setdefault(i, {})[index] = factors
    return found


def texts_of(codes: Tensor, texts: str | Sequence[str | None] | None) -> list[str | None]:
    """One text for each row of codes ``[rows, codebooks, frames]``.

    Raises
    ------
    ClipError
        If the codes have another shape, or there are more or fewer texts.
    """
    if codes.ndim != 3:
        raise ClipError(f"give codes [rows, codebooks, frames], not {tuple(codes.shape)}.")
    each = [texts] * len(codes) if texts is None or isinstance(texts, str) else list(texts)
    if len(each) != len(codes):
        raise ClipError(f"there are {len(codes)} rows of codes but {len(each)} texts: give one text, or one a row.")
    return each


def _groups(
    model: MusicGen, texts: Sequence[str | None], size: int, also: Sequence[int] | None = None
) -> list[list[int]]:
    """Rows whose texts are equally long (and that agree in ``also``), in batches."""
    lengths = model.condition_lengths(texts)
    groups: dict[tuple[int, int], list[int]] = {}
    for i, length in enumerate(lengths):
        groups.setdefault((length, also[i] if also else 0), []).append(i)
    return [members[i : i + size] for members in groups.values() for i in range(0, len(members), size)]
