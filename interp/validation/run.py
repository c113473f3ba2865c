"""Generate every arm with the same noise, judge what was generated, and sum it up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from interp.errors import ControlError
from interp.judges import Judge, degenerate, embed, hears, require, score
from interp.stats import dose_response
from interp.steering import Generation, Row, generate
from interp.validation.arms import UNSTEERED, Arm
from interp.validation.measures import summarise
from interp.validation.sounds import split_trait

if TYPE_CHECKING:
    from interp.model import MusicGen

__all__ = ["JUDGED", "Validation", "run_arms"]

JUDGED = "p_"
"""Prefix of the columns with the probability of every answer that the judge gives."""
_SHORTEST = 0.8  # s: what a judge can embed


@dataclass(frozen=True)
class Validation:
    """What came out.

    Attributes
    ----------
    table : DataFrame
        One row per arm and dose: ``trait, arm, control, where, dose, n, hits, rate, lo, hi`` (Wilson), ``not_music``:
        the share that the judge hears as no music at all, the paired difference to unsteered ``diff, diff_lo, diff_hi``
        (bootstrap over seeds) with ``p`` (sign flips), ``p_holm`` and ``p_max`` (corrected over all arms and doses by
        Holm and by the largest statistic), the effect sizes ``h`` and ``odds``, and what
        :func:`interp.validation.measures.summarise` adds of quality and specificity.
    clips : DataFrame
        One row per generated clip: ``trait, arm, dose, seed, hit, score, not_music``; with ``measure`` also every
        probability of the judge (``p_drums``, ...), ``degenerate`` and ``similarity``.
    audio : dict of (arm, dose) to Tensor of shape [seeds, channels, samples]
        The sounds, audio prompt included; empty unless they were kept.
    sample_rate : int
        Of the sounds, in Hz.
    info : dict
        Site, method, accuracy of the judge, settings.
    embeddings : dict of (arm, dose) to array of shape [seeds, dim]
        The judge's embeddings of what was generated; empty without ``measure``.
    """

    table: pd.DataFrame
    clips: pd.DataFrame
    audio: Mapping[tuple[str, float], torch.Tensor]
    sample_rate: int
    info: dict[str, Any] = field(default_factory=dict)
    embeddings: Mapping[tuple[str, float], NDArray[np.float32]] = field(default_factory=dict)

    def summary(self) -> pd.DataFrame:
        """The share of clips that have the trait: one row an arm, one column a dose."""
        grid = self.table.pivot_table(index="arm", columns="dose", values="rate", sort=False)
        grid = grid[sorted(grid.columns)]
        grid.columns = [f"{dose:g} σ" for dose in grid.columns]
        return grid.reset_index()

    def trend(self, arm: str = "probe") -> Any:
        """Dose-response of one arm over paired seeds, unsteered as dose 0 (:func:`interp.stats.dose_response`)."""
        rows = self.clips[self.clips["arm"].isin([arm, UNSTEERED])]
        return dose_response(rows["dose"].to_numpy(), rows["hit"].to_numpy(float), rows["seed"].to_numpy())


def run_arms(
    model: MusicGen,
    trait: str,
    arms: Sequence[Arm],
    codes: Sequence[torch.Tensor | None],
    doses: Sequence[float],
    *,
    seeds: Sequence[int],
    judge: Judge,
    prompt_seconds: float,
    seconds: float = 4.0,
    text: str | None = None,
    guidance: float = 2.0,
    measure: bool = False,
    references: Mapping[str, NDArray[np.float32]] | None = None,
    keep_audio: bool = True,
    progress: bool = False,
    **settings: Any,
) -> Validation:
    """Continue every sound under every arm and dose with the same noise, and judge what was generated.

    Parameters
    ----------
    model, trait, judge, prompt_seconds, seconds, progress, **settings
        As in :func:`validate`.
    arms : sequence of Arm
        The arm ``unsteered`` is added, and every arm is run once more at dose zero.
    codes : sequence of Tensor of shape [codebooks, frames] or None
        The sounds to continue, one a seed; None to begin from nothing.
    doses : sequence of float
        Every arm gets all of them, unless it has its own.
    seeds : sequence of int
        Of the noise, one for each sound.
    text : str, optional
        Prompt of every row whose arm has none.
    guidance : float
        Coefficient of classifier-free guidance for rows with a text; rows without one have nothing to guide.
    measure : bool
        Quality and specificity as well: embeddings, all that the judge hears, degenerate-audio checks.
    references : mapping of str to array [clips, dim], optional
        Embeddings of music to measure FAD and KAD from: ``""`` gives the columns ``fad`` and ``kad``, any other name
        the columns ``fad_<name>`` and ``kad_<name>``.
    keep_audio : bool
        Keep all sounds in the result.

    Returns
    -------
    Validation

    Raises
    ------
    ControlError
        If dose zero of an arm is not the unsteered music to the last token.
    """
    require(judge, trait)
    n = len(codes)
    plan: list[tuple[Arm, float]] = [(Arm(UNSTEERED, control=True, dosed=False), 0.0)]
    for arm in arms:
        own = (doses if arm.doses is None else arm.doses) if arm.dosed else (0.0,)
        plan += [(arm, float(dose)) for dose in own]
    made_of = [(arm, dose) for arm, dose in plan if arm.sound is None]
    rows = [_row(arm, dose, i, codes, seeds, text) for arm, dose in made_of for i in range(n)]
    zero = [(arm, at % n) for at, arm in enumerate(a for a in arms if a.dosed)]
    rows += [_row(arm, 0.0, i, codes, seeds, text) for arm, i in zero]
    given = None if all(row.prompt is None for row in rows) else guidance
    made = generate(model, rows, seconds=seconds, guidance=given, progress=progress, **settings)
    _check_zero(made, zero, len(made_of) * n)
    place = {(arm.name, dose): at for at, (arm, dose) in enumerate(made_of)}
    start = round(prompt_seconds * model.sample_rate)
    audio: dict[tuple[str, float], torch.Tensor] = {}
    embeddings: dict[tuple[str, float], NDArray[np.float32]] = {}
    parts = []
    base: torch.Tensor | None = None
    prompts: NDArray[np.float32] | None = None
    for arm, dose in plan:
        if arm.sound is None:
            at = place[arm.name, dose] * n
            sound = torch.cat([model.decode(made.codes[i : min(i + 32, at + n)]) for i in range(at, at + n, 32)])
        else:
            assert base is not None
            sound = torch.cat([base[..., :start], _edited(arm, base[..., start:])], dim=-1)
        if base is None:
            base = sound
            if measure and prompt_seconds >= _SHORTEST:
                prompts = embed(judge, base[..., :start], model.sample_rate)
        part = sound[..., start:]
        scores = score(judge, part, model.sample_rate)
        heard = hears(judge, scores, trait)
        frame = pd.DataFrame(
            {
                "trait": trait,
                "arm": arm.name,
                "dose": dose,
                "seed": np.asarray(list(seeds)),
                **heard,
            }
        )
        if measure:
            found = embed(judge, part, model.sample_rate)
            embeddings[arm.name, dose] = found
            frame["degenerate"] = degenerate(part, model.sample_rate)["degenerate"].to_numpy(bool)
            frame["similarity"] = np.nan if prompts is None else _cosine(found, prompts)
            frame = frame.join(scores.reset_index(drop=True).astype(float).round(5).add_prefix(JUDGED))
        parts.append(frame)
        if keep_audio:
            audio[arm.name, dose] = sound
    clips = pd.concat(parts, ignore_index=True)
    table = summarise(clips, plan, judge.questions if measure else {}, embeddings, references or {})
    worth = judge.accuracy_frame()
    worth = worth[worth["trait"] == split_trait(trait)[0]].to_dict("records")
    info = {"n_seeds": n, "seconds": seconds, "prompt_seconds": prompt_seconds, "judge_accuracy": worth}
    return Validation(table, clips, audio, model.sample_rate, info, embeddings)


def _row(
    arm: Arm, dose: float, i: int, codes: Sequence[torch.Tensor | None], seeds: Sequence[int], text: str | None
) -> Row:
    prompt = text if arm.text is None else arm.text
    return Row(prompt, seed=seeds[i], codes=codes[i], interventions=arm.build(dose, i))


def _check_zero(made: Generation, zero: Sequence[tuple[Arm, int]], first: int) -> None:
    for at, (arm, i) in enumerate(zero):
        if not torch.equal(made.codes[first + at], made.codes[i]):
            raise ControlError(
                f"dose zero of the arm {arm.name!r} is not the unsteered music: what the other doses do cannot be told "
                "from what merely installing the intervention does."
            )


def _edited(arm: Arm, sounds: torch.Tensor) -> torch.Tensor:
    assert arm.sound is not None
    return torch.stack([arm.sound(sound, i) for i, sound in enumerate(sounds)]).to(sounds.dtype)


def _cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    size = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    return np.asarray((x * y).sum(1) / np.maximum(size, 1e-12))
