"""Generate the same music under several arms and doses, and write a page to compare them by ear."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from interp import tables
from interp.errors import DataError
from interp.judges import Judge, hears
from interp.judges.base import require
from interp.report.listening import Take, listening_page
from interp.steering import Intervention, Smitin
from interp.traits import Trait
from interp.validation import UNSTEERED, Arm, Setting
from interp.validation.play import Played, play_arms

if TYPE_CHECKING:
    from interp.model import MusicGen

__all__ = ["dose_page"]


def dose_page(
    model: MusicGen,
    arms: Arm | Sequence[Arm],
    out: str | Path,
    *,
    doses: Sequence[float] = (1.0, 2.0, 3.0),
    seeds: Sequence[int] = range(4),
    codes: torch.Tensor | Sequence[torch.Tensor] | None = None,
    setting: Setting | None = None,
    monitor: Smitin | None = None,
    judge: Judge | None = None,
    trait: str | Trait = "",
    title: str = "Before and after",
    lead: str = "",
    unit: str = "σ",
    embed: bool = False,
) -> Path:
    """Generate every arm at every dose and seed in one batched run, and write a listening page.

    The arms are those of :func:`interp.validation.run_arms`, and are played as there: dose zero of each must be the
    unsteered music. Where a row is self-monitored (:class:`interp.steering.Smitin`), its monitor's trace is drawn
    below the spectrogram. All other rows are heard by the same monitor without acting on it, which changes no token:
    the trace of the unsteered music, and of a push that does not listen, stands beside it on the same scale.

    Parameters
    ----------
    model : MusicGen
        What generates.
    arms : Arm, or sequence of Arm
        What is done at a dose: ``[push("drums", direction, control=False)]``; the unsteered music is added.
    out : str or Path
        Folder for ``index.html``, the sounds and pictures, ``log.csv`` (what was edited) and ``monitor.csv``.
    doses : sequence of float
        All arms get all of them, unless they have their own; a dose of 0 is the unsteered music, which is always
        there.
    seeds : sequence of int
        Of the noise; rows of one seed are twins.
    codes : Tensor of shape [codebooks, frames], or one a seed, optional
        Sound to continue.
    setting : Setting, optional
        Length, text, guidance and options of the generation; how much is continued is read from the codes.
    monitor : Smitin, optional
        Whose probability is read in the rows without one of their own; the first of the arms when not given.
    judge : Judge, optional
        Its verdict on the generated part is written beside each sound; needs ``trait``.
    trait : str or Trait
        ``"drums"``, ``"genre=jazz"``.
    title, lead, unit, embed
        For :func:`listening_page`.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    DataError
        If there is no seed, no arm, or no dose but 0, the judge cannot hear the trait, or as many sounds to continue as
        there are seeds are not given.
    ControlError
        If dose zero of an arm is not the unsteered music to the last token.

    Examples
    --------
    >>> import tempfile
    >>> import interp
    >>> model = interp.load("tiny", device="cpu")
    >>> asked = Arm("asked for drums", dosed=False, text="drums")
    >>> short = Setting(seconds=0.2, prompt_seconds=0.0, progress=False)
    >>> page = dose_page(model, asked, tempfile.mkdtemp(), seeds=[1], setting=short)
    >>> sorted(file.name for file in (page.parent / "audio").iterdir())
    ['asked_for_drums_0_1.wav', 'unsteered_0_1.wav']
    """
    every = [arms] if isinstance(arms, Arm) else list(arms)
    amounts, numbers = sorted({float(dose) for dose in doses} - {0.0}), list(dict.fromkeys(int(seed) for seed in seeds))
    if not every or not numbers or (not amounts and any(arm.dosed and not arm.doses for arm in every)):
        raise DataError("a page needs a seed, an arm, and for every arm that has doses one other than 0.")
    about = Trait.parse(trait) if trait else None
    if judge is not None:
        if about is None:
            raise DataError("name the trait that the judge is to listen for.")
        require(judge, about)
    continued = _continued(codes, len(numbers))
    start = max((0 if sound is None else sound.shape[-1]) for sound in continued) / model.frame_rate
    setting = replace(setting or Setting(), prompt_seconds=start)
    model.check_prompt(setting.text)
    ear, threshold = _ear(monitor, every, amounts)
    if ear is not None:
        every = [_with_ear(arm, ear) for arm in [Arm(UNSTEERED, dosed=False), *every]]
    played = play_arms(model, every, continued, amounts, seeds=numbers, setting=setting)
    links = {"what was edited (CSV)": tables.write(_logged(played, ear), Path(out) / "log", formats=("csv",))["csv"]}
    traces = _traces(played, ear, threshold)
    if len(traces):
        links["what the monitor heard (CSV)"] = tables.write(traces, Path(out) / "monitor", formats=("csv",))["csv"]
    takes, verdicts = _takes(played, traces, judge, about)
    if len(verdicts):
        links["what the judge heard (CSV)"] = tables.write(verdicts, Path(out) / "verdicts", formats=("csv",))["csv"]
    return listening_page(
        takes, model.sample_rate, out, title=title, unit=unit, start=start or None,
        lead=lead or _lead(setting.text, start), monitored=_monitored(ear), embed=embed, links=links,
        made_by=_made_by(played),
    )  # fmt: skip


def _takes(
    played: Played, traces: pd.DataFrame, judge: Judge | None, trait: Trait | None
) -> tuple[list[Take], pd.DataFrame]:
    """The sounds of the page, and what the judge heard in each: ``arm, dose, seed, hit, score, not_music``."""
    takes, verdicts = [], []
    for cell in played.cells:
        audio = played.audio(cell)
        notes: list[dict[str, str]] = [{}] * len(audio)
        if judge is not None and trait is not None:
            heard = hears(judge, audio[..., played.start :], trait, played.model.sample_rate)
            verdicts.append(heard.assign(arm=cell.arm.name, dose=cell.dose, seed=list(played.seeds)))
            answers = zip(heard["hit"], heard["score"], strict=True)
            notes = [{f"judge hears {trait}": f"{'yes' if hit else 'no'}, {p:.0%}"} for hit, p in answers]
        for i, seed in enumerate(played.seeds):
            trace = traces[traces["row"] == cell.at + i] if len(traces) and cell.at >= 0 else None
            takes.append(Take(cell.arm.name, cell.dose, seed, audio[i].numpy(), trace, notes[i]))
    columns = ["arm", "dose", "seed", "hit", "score", "not_music"]
    return takes, pd.concat(verdicts, ignore_index=True)[columns] if verdicts else pd.DataFrame(columns=columns)


def _lead(prompt: str | None, start: float) -> str:
    text = f"Prompt: {prompt}." if prompt else "No text."
    given = f" The first {start:.2g} s are given, the rest is generated." if start else ""
    return f"{text}{given} Both sides share their seed: the same noise, with and without the push."


def _made_by(played: Played) -> dict[str, Any]:
    """The settings, and each arm at its highest dose in words."""
    last = {cell.arm.name: cell for cell in played.cells if cell.arm.name != UNSTEERED}
    words = [
        f"{name}: {'; '.join(item.describe() for item in cell.arm.build(cell.dose, 0) if not _is_ear(item))}"
        for name, cell in last.items()
        if cell.arm.dosed
    ]
    return {"model": played.model.name, "at the highest dose": "; ".join(words)} | dict(played.made.settings)


def _continued(codes: Any, n: int) -> list[torch.Tensor | None]:
    if codes is None or isinstance(codes, torch.Tensor):
        return [codes] * n
    if len(codes) != n:
        raise DataError(f"{n} seeds need {n} sounds to continue, or one for all, not {len(codes)}.")
    return list(codes)


# The monitor that listens everywhere ----------------------------------------------------------------------------


def _ear(monitor: Smitin | None, arms: Sequence[Arm], doses: Sequence[float]) -> tuple[Smitin | None, float]:
    """A self-monitor that never acts, and the threshold of the one that it was made from."""
    built = (item for arm in arms for dose in (arm.doses or doses or (0.0,))[:1] for item in arm.build(dose, 0))
    acts = monitor or next((item for item in built if isinstance(item, Smitin)), None)
    # a probability is never below 0, so this one never acts
    return (None, float("nan")) if acts is None else (replace(acts, tau=-1.0), acts.threshold)


def _is_ear(item: Intervention) -> bool:
    return isinstance(item, Smitin) and item.tau == -1.0


def _with_ear(arm: Arm, ear: Smitin) -> Arm:
    """The same arm, its rows heard by a monitor where they have none of their own."""

    def build(dose: float, i: int) -> tuple[Intervention, ...]:
        items = arm.build(dose, i)
        return items if any(isinstance(item, Smitin) for item in items) else (*items, ear)

    return replace(arm, build=build)


def _traces(played: Played, ear: Smitin | None, threshold: float) -> pd.DataFrame:
    """The first monitor's lines of each row; ears are shown with the threshold that they would act on."""
    if ear is None or played.made.monitor.empty:
        return pd.DataFrame()
    lines = played.placed(played.made.monitor)
    lines["tau"] = lines["tau"].where(lines["tau"] >= 0, threshold)
    return lines[lines["intervention"] == lines.groupby("row")["intervention"].transform("min")]


def _logged(played: Played, ear: Smitin | None) -> pd.DataFrame:
    """The log without the ears, which edit nothing."""
    log = played.placed(played.made.log)
    return log if ear is None else log[log["description"] != ear.describe()]


def _monitored(ear: Smitin | None) -> str:
    """What a monitor's probability is of."""
    if ear is None:
        return ""
    first = ear.directions[0]
    return f"no {first.towards}" if ear.remove else first.towards
