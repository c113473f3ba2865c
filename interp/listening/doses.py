"""Generate the same music under several arms and doses, and write a page to compare them by ear."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from interp.errors import DataError
from interp.listening.page import UNSTEERED, Take, listening_page

if TYPE_CHECKING:
    from interp.judges import Judge
    from interp.model import MusicGen
    from interp.steering import Generation, Intervention, Smitin

    Build = Callable[[float], "tuple[Intervention, ...]"]

__all__ = ["dose_page"]


def dose_page(
    model: MusicGen,
    arms: Mapping[str, Build] | Build,
    out: str | Path,
    *,
    doses: Sequence[float] = (1.0, 2.0, 3.0),
    seeds: Sequence[int] = range(4),
    prompt: str | None = None,
    codes: torch.Tensor | Sequence[torch.Tensor] | None = None,
    seconds: float = 4.0,
    monitor: Smitin | None = None,
    judge: Judge | None = None,
    trait: str = "",
    title: str = "Before and after",
    lead: str = "",
    unit: str = "σ",
    embed: bool = False,
    progress: bool = True,
    **settings: Any,
) -> Path:
    """Generate every arm at every dose and seed in one batched run, and write a listening page.

    Where a row is self-monitored (:class:`interp.steering.Smitin`), its monitor's trace is drawn below the
    spectrogram. All other rows are heard by the same monitor without acting on it, which changes no token: the trace
    of the unsteered music, and of a push that does not listen, stands beside it on the same scale.

    Parameters
    ----------
    model : MusicGen
        What generates.
    arms : mapping of str to callable, or one callable
        Name -> what is done at a dose: ``{"drums": lambda dose: (Add(direction, dose=dose),)}``.
    out : str or Path
        Folder for ``index.html``, the sounds and pictures, ``log.csv`` (what was edited) and ``monitor.csv``.
    doses : sequence of float
        All arms get all of them; a dose of 0 is the unsteered music, which is always there.
    seeds : sequence of int
        Of the noise; rows of one seed are twins.
    prompt : str, optional
        Text.
    codes : Tensor of shape [codebooks, frames], or one a seed, optional
        Sound to continue.
    seconds : float
        Length of the result, the sound to continue included.
    monitor : Smitin, optional
        Whose monitor hears the rows without one of their own; the first of the arms when not given.
    judge : Judge, optional
        Its verdict on the generated part is written beside each sound; needs ``trait``.
    trait : str
        ``"drums"``, ``"genre=jazz"``.
    title, lead, unit, embed
        For :func:`listening_page`.
    progress : bool
        Show a progress bar.
    **settings
        For :func:`interp.steering.generate`.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    DataError
        If there is no dose but 0, no seed, or as many sounds to continue as there are seeds are not given.
    """
    from interp import tables
    from interp.steering import Row, generate

    out = Path(out)
    builders = {trait or "steered": arms} if callable(arms) else dict(arms)
    amounts = sorted({float(dose) for dose in doses} - {0.0})
    seeds = list(dict.fromkeys(int(seed) for seed in seeds))
    if not amounts or not builders or not seeds or UNSTEERED in builders:
        raise DataError(f"a page needs an arm (not called {UNSTEERED!r}), a dose other than 0, and a seed.")
    if judge is not None and not trait:
        raise DataError("name the trait that the judge is to listen for.")
    model.check_prompt(prompt)
    continued = _continued(codes, len(seeds))
    plan = [(UNSTEERED, 0.0)] + [(arm, dose) for arm in builders for dose in amounts]
    built = {(arm, dose): () if arm == UNSTEERED else tuple(builders[arm](dose)) for arm, dose in plan}
    ear, threshold = _ear(monitor, built.values())
    rows = [
        Row(prompt, seed, sound, _with_ear(built[place], ear))
        for place in plan
        for seed, sound in zip(seeds, continued, strict=True)
    ]
    made = generate(model, rows, seconds=seconds, progress=progress, **settings)
    start = max(row.prompt_frames for row in rows) / model.frame_rate
    notes = _verdicts(made, judge, trait, start)
    traces = _traces(made, ear, threshold)
    places = pd.DataFrame([(arm, dose, seed) for arm, dose in plan for seed in seeds], columns=["arm", "dose", "seed"])
    takes = [
        Take(place.arm, place.dose, place.seed, made.audio[i].numpy(), traces.get(i), notes[i])
        for i, place in enumerate(places.itertuples(index=False))
    ]
    log = places.merge(_logged(made, ear), left_index=True, right_on="row")
    links = {"what was edited (CSV)": tables.write(log, out / "log", formats=("csv",))["csv"]}
    if traces:
        heard = pd.concat([part.assign(row=row) for row, part in traces.items()], ignore_index=True)
        heard = places.merge(heard, left_index=True, right_on="row")
        links["what the monitor heard (CSV)"] = tables.write(heard, out / "monitor", formats=("csv",))["csv"]
    what = [f"{name}: {built[name, amounts[-1]][0].describe()}" for name in builders if built[name, amounts[-1]]]
    return listening_page(
        takes, model.sample_rate, out, title=title, lead=lead or _lead(prompt, start), unit=unit,
        start=start or None, monitored=_monitored(ear), embed=embed, links=links,
        made_by={"model": model.name, "at the highest dose": "; ".join(what)} | dict(made.settings),
    )  # fmt: skip


def _lead(prompt: str | None, start: float) -> str:
    text = f"Prompt: {prompt}." if prompt else "No text."
    heard = f" The first {start:.2g} s are given, the rest is generated." if start else ""
    return f"{text}{heard} Both sides share their seed: the same noise, with and without the push."


def _continued(codes: Any, n: int) -> list[torch.Tensor | None]:
    if codes is None or isinstance(codes, torch.Tensor):
        return [codes] * n
    if len(codes) != n:
        raise DataError(f"{n} seeds need {n} sounds to continue, or one for all, not {len(codes)}.")
    return list(codes)


def _ear(monitor: Smitin | None, built: Iterable[tuple[Intervention, ...]]) -> tuple[Smitin | None, float]:
    """A self-monitor that never acts, and the threshold of the one that it was made from."""
    from interp.steering import Smitin

    found = monitor or next((item for items in built for item in items if isinstance(item, Smitin)), None)
    if found is None:
        return None, float("nan")
    # a probability is never below 0, so this one never acts
    return replace(found, tau=-1.0), found.threshold


def _with_ear(items: tuple[Intervention, ...], ear: Smitin | None) -> tuple[Intervention, ...]:
    from interp.steering import Smitin

    if ear is None or any(isinstance(item, Smitin) for item in items):
        return items
    return (*items, ear)


def _traces(made: Generation, ear: Smitin | None, threshold: float) -> dict[int, pd.DataFrame]:
    """The monitor's lines of each row; ears are shown with the threshold that they would act on."""
    if ear is None or made.monitor.empty:
        return {}
    lines = made.monitor.assign(tau=made.monitor["tau"].where(made.monitor["tau"] >= 0, threshold))
    first = lines.groupby("row")["intervention"].transform("min")
    lines = lines[lines["intervention"] == first]
    return {int(row): part.drop(columns=["row"]) for row, part in lines.groupby("row")}


def _logged(made: Generation, ear: Smitin | None) -> pd.DataFrame:
    """The log without the ears, which edit nothing."""
    if ear is None:
        return made.log
    return made.log[made.log["description"] != ear.describe()]


def _monitored(ear: Smitin | None) -> str:
    if ear is None:
        return ""
    first = ear.directions[0]
    return f"no {first.towards}" if ear.remove else first.towards


def _verdicts(made: Generation, judge: Judge | None, trait: str, start: float) -> list[dict[str, str]]:
    if judge is None:
        return [{} for _ in range(len(made))]
    from interp.judges import hears

    heard = hears(judge, made.audio[:, :, round(start * made.sample_rate) :], trait, made.sample_rate)
    said = zip(heard["hit"], heard["score"], strict=True)
    return [{f"judge hears {trait}": f"{'yes' if hit else 'no'}, {p:.0%}"} for hit, p in said]
