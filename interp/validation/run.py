"""Generate every arm with the same noise, and judge what was generated."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from interp.errors import DataError
from interp.judges import Judge, accuracy_table, embed, hears, score
from interp.judges.base import has_embedding
from interp.judges.quality import degenerate
from interp.judges.registry import panel
from interp.judges.similarity import structure_similarity
from interp.stats import dose_response
from interp.traits import Trait
from interp.validation.arms import UNSTEERED, Arm
from interp.validation.effects import kept
from interp.validation.play import play_arms
from interp.validation.setting import Part, Setting
from interp.validation.summary import JUDGED, KEY, References, summarise

if TYPE_CHECKING:
    from interp.model import MusicGen

__all__ = ["Trial", "run_arms"]

_SHORTEST = 0.8  # s: what a judge can embed
Window = tuple[float, float | None]
_TAKEN = {*KEY, "control", "where", "seed", "hit", "score", "not_music", "start", "stop"}


@dataclass(frozen=True, eq=False, repr=False)
class Trial:
    """What came of some arms.

    Attributes
    ----------
    trait : Trait
        What was listened for.
    table : DataFrame
        One row per judge, arm and dose: :func:`interp.validation.summarise`.
    clips : DataFrame
        One row a generated clip (and judge, and window): ``judge, trait, arm, dose, control, where``, what each arm
        says of itself, ``seed, hit, score, not_music``. Of monitored rows ``acted`` and ``level``: the share of
        decisions at which the monitor let the push through, and its mean reading. Where it was measured,
        ``degenerate``, ``similarity`` to the prompt, ``kept`` (share of the judge's other answers that are those of
        the unsteered twin), ``chroma_kept`` and ``onsets_kept`` (correlation of harmony and rhythm with the twin's,
        :func:`interp.judges.similarity.structure_similarity`), every probability (``p_drums``, ...) and the judge's
        embedding ``e0, e1, ...``.
    audio : dict of (arm, dose) to Tensor of shape [seeds, channels, samples]
        The sounds that were kept, prompt included.
    sample_rate : int
        Of the sounds, in Hz.
    judges : DataFrame
        What the judges are worth (:func:`interp.judges.accuracy_table`).
    setting : Setting
        How the music was made.
    monitor : DataFrame
        Of monitored rows, what was read at each step (:class:`interp.steering.Generation`), with ``arm, dose, seed``.
    """

    trait: Trait
    table: pd.DataFrame
    clips: pd.DataFrame
    audio: Mapping[tuple[str, float], torch.Tensor]
    sample_rate: int
    judges: pd.DataFrame
    setting: Setting
    monitor: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def judge(self) -> str:
        """Name of the judge that decides: the first one."""
        return str(self.clips["judge"].iloc[0])

    def heard_by(self, judge: str = "") -> pd.DataFrame:
        """The clips as one judge heard them; the first judge when no name is given."""
        return self.clips[self.clips["judge"] == (judge or self.judge)]

    def summary(self) -> pd.DataFrame:
        """The share of clips that have the trait: one row an arm (and judge, of several), one column a dose."""
        index = ["judge", "arm"] if self.clips["judge"].nunique() > 1 else ["arm"]
        grid = self.clips.assign(hit=self.clips["hit"].astype(float)).pivot_table(
            index=index, columns="dose", values="hit", sort=False
        )
        grid = grid[sorted(grid.columns)]
        grid.columns = [f"{dose:g} σ" for dose in grid.columns]
        return grid.reset_index()

    def curves(self) -> pd.DataFrame:
        """The rows of :attr:`table` for a dose-response figure: unsteered, and arms with several doses."""
        rows = self.table[self.table["judge"] == self.judge]
        several = rows.groupby("arm")["dose"].transform("nunique") > 1
        return rows[several | (rows["arm"] == UNSTEERED)]

    def trend(self, arm: str = "probe") -> Any:
        """Dose-response of one arm over paired seeds, unsteered as dose 0 (:func:`interp.stats.dose_response`)."""
        clips = self.heard_by()
        rows = clips[clips["arm"].isin([arm, UNSTEERED])]
        return dose_response(rows["dose"].to_numpy(), rows["hit"].to_numpy(float), rows["seed"].to_numpy())

    def _headline(self) -> str:
        names = " and ".join(dict.fromkeys(self.clips["judge"]))
        return (
            f"{self.trait}: {self.clips['arm'].nunique()} arms on {self.clips['seed'].nunique()} paired seeds, heard "
            f"by {names}"
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._headline()})"

    def _repr_html_(self) -> str:
        shares = self.summary().to_html(index=False, border=0, na_rep="", float_format="{:.2f}".format)
        return f"<p>{html.escape(self._headline())}; share of clips that have it:</p>{shares}"


def run_arms(
    model: MusicGen,
    trait: str | Trait,
    arms: Sequence[Arm],
    codes: Sequence[torch.Tensor | None],
    doses: Sequence[float] = (),
    *,
    seeds: Sequence[int],
    judge: str | Judge | Sequence[str | Judge] | None = None,
    setting: Setting | None = None,
    references: References | None = None,
) -> Trial:
    """Continue every sound under every arm and dose with the same noise, and judge what was generated.

    Parameters
    ----------
    model : MusicGen
        What generates.
    trait : str or Trait
        What the judges listen for.
    arms : sequence of Arm
        The arm ``unsteered`` is added, unless one of this name is given (a monitor that never acts); every arm with a
        dose is run once more at dose zero.
    codes : sequence of Tensor of shape [codebooks, frames] or None
        The sounds to continue, one a seed; None to begin from nothing.
    doses : sequence of float
        Every arm gets all of them, unless it has its own.
    seeds : sequence of int
        Of the noise, one for each sound.
    judge : str, Judge, or several, optional
        Who listens, by name or itself; the one that goes with the model when None.
    setting : Setting, optional
        How the music is made and what else is measured.
    references : mapping or callable, optional
        Embeddings to measure FAD and KAD from (:data:`interp.validation.summary.References`).

    Returns
    -------
    Trial

    Raises
    ------
    DataError
        If a judge cannot hear the trait, seeds and sounds differ in number, or arms cannot be told apart.
    ControlError
        If dose zero of an arm is not the music of the same prompt and noise without it, to the last token.

    Examples
    --------
    >>> import interp
    >>> class Ear:
    ...     name, independent, questions = "ear", True, {"loud": ["loud"]}
    ...     def score(self, audio, sample_rate):
    ...         return pd.DataFrame({"loud": np.ones(len(audio)), "not_music": 0.0})
    ...     def accuracy_frame(self):
    ...         return pd.DataFrame()
    >>> asked = Arm("asked", control=False, dosed=False, text="drums")
    >>> setting = Setting(seconds=0.2, prompt_seconds=0.0, measure=False, progress=False)
    >>> model = interp.load("tiny", device="cpu")
    >>> trial = run_arms(model, "loud", [asked], [None, None], seeds=[0, 1], judge=Ear(), setting=setting)
    >>> trial.table[["arm", "n", "rate"]].to_dict("records")
    [{'arm': 'unsteered', 'n': 2, 'rate': 1.0}, {'arm': 'asked', 'n': 2, 'rate': 1.0}]
    """
    trait, setting = Trait.parse(trait), setting or Setting()
    judges = panel(judge, model=model, traits=[trait])
    _refuse_what_every_table_says(arms)
    played = play_arms(model, arms, codes, doses, seeds=seeds, setting=setting)
    says = tuple(dict.fromkeys(name for cell in played.cells for name in cell.arm.says))
    start, base = played.start, played.unsteered
    prompts = None if any(code is None for code in codes) or not start else base[..., :start]
    listeners = [_Listener(ear, trait, setting, prompts, model.sample_rate) for ear in judges]
    sound = _Sound(setting, model.sample_rate)
    audio: dict[tuple[str, float], torch.Tensor] = {}
    frames: dict[str, list[pd.DataFrame]] = {ear.name: [] for ear in judges}
    acted = _acted(played.made.monitor)
    for cell in played.cells:
        arm, n = cell.arm, len(codes)
        whole = base if cell is played.cells[0] else played.audio(cell)
        if setting.keep_audio or arm.keep:
            audio[arm.name, cell.dose] = whole
        where = {"trait": str(trait), "arm": arm.name, "dose": cell.dose, "control": arm.control, "where": arm.where}
        where |= {name: arm.says.get(name, "") for name in says}
        labels = pd.DataFrame({"seed": list(seeds)}).assign(**where)[[*where, "seed"]]
        if len(acted):
            rows = range(cell.at, cell.at + n) if cell.at >= 0 else [-1] * n  # edited sound has no row
            labels = labels.join(acted.reindex(rows).reset_index(drop=True))
        part = Part(arm, cell.dose, tuple(seeds), whole[..., start:], prompts, played.codes(cell), model.sample_rate)
        for window, within in sound.windows(part):
            heard = sound.measure(within, window)
            for listener in listeners:
                frames[listener.judge.name].append(listener.hear(within, window, labels, heard))
    clips = pd.concat([frame for parts in frames.values() for frame in parts], ignore_index=True)
    monitor = played.made.monitor if played.made.monitor.empty else played.placed(played.made.monitor)
    table = summarise(clips, (*KEY, *says, "start", "stop"), references=references)
    return Trial(trait, table, clips, audio, model.sample_rate, accuracy_table(judges), setting, monitor)


def _refuse_what_every_table_says(arms: Sequence[Arm]) -> None:
    for arm in arms:
        taken = _TAKEN & set(arm.says)
        if taken:
            raise DataError(f"the arm {arm.name!r} says {', '.join(sorted(taken))} of itself, which every table says.")


class Sounded(NamedTuple):
    """Columns of clips whoever listens: ``degenerate, chroma_kept, onsets_kept``, and those of one's own."""

    quality: pd.DataFrame
    own: list[pd.DataFrame]


class _Listener:
    """One judge in one run: it remembers what it heard in the unsteered twins."""

    def __init__(
        self, judge: Judge, trait: Trait, setting: Setting, prompts: torch.Tensor | None, sample_rate: int
    ) -> None:
        self.judge, self.trait, self.setting, self.rate = judge, trait, setting, sample_rate
        self._twins: dict[Window, pd.DataFrame] = {}
        self._prompts: NDArray[np.float32] | None = None
        if setting.measure and has_embedding(judge) and prompts is not None and setting.prompt_seconds >= _SHORTEST:
            self._prompts = embed(judge, prompts, sample_rate)

    def hear(self, part: Part, window: Window, labels: pd.DataFrame, sound: Sounded) -> pd.DataFrame:
        """The clips of one arm and dose in one window; the unsteered ones come first."""
        frame = labels.copy()
        frame.insert(0, "judge", self.judge.name)
        if window[1] is not None:
            frame["start"], frame["stop"] = window
        scores = score(self.judge, part.audio, self.rate)
        twins = self._twins.setdefault(window, scores)
        columns = [frame, hears(self.judge, scores, self.trait)]
        if self.setting.measure:
            quality = sound.quality.copy()
            vectors = embed(self.judge, part.audio, self.rate) if has_embedding(self.judge) else None
            near = np.nan if vectors is None or self._prompts is None else _cosine(vectors, self._prompts)
            quality.insert(1, "similarity", near)
            quality.insert(2, "kept", kept(self.judge, scores, twins, self.trait))
            columns += [quality, scores.astype(float).add_prefix(JUDGED)]
            if vectors is not None:
                columns.append(pd.DataFrame(vectors).add_prefix("e"))
        return pd.concat([*columns, *sound.own], axis=1)


class _Sound:
    """What is measured of sound once, whoever listens: quality, likeness to the twins, measures of one's own."""

    def __init__(self, setting: Setting, sample_rate: int) -> None:
        self.setting, self.rate = setting, sample_rate
        self._twins: dict[Window, torch.Tensor] = {}

    def windows(self, part: Part) -> Iterator[tuple[Window, Part]]:
        """One arm's music in each window."""
        whole: list[Window] = [(0.0, None)]
        for window in self.setting.windows or whole:
            first, last = round(window[0] * self.rate), None if window[1] is None else round(window[1] * self.rate)
            yield window, Part(**{**vars(part), "audio": part.audio[..., first:last]})

    def measure(self, part: Part, window: Window) -> Sounded:
        """The first arm that is measured is taken for the twins of all others."""
        own = [measure(part).reset_index(drop=True) for measure in self.setting.measures]
        if not self.setting.measure:
            return Sounded(pd.DataFrame(), own)
        twins = self._twins.setdefault(window, part.audio)
        like = structure_similarity(part.audio, twins, self.rate).add_suffix("_kept")
        return Sounded(degenerate(part.audio, self.rate)[["degenerate"]].join(like), own)


# Monitors -------------------------------------------------------------------------------------------------------


def _acted(monitor: pd.DataFrame) -> pd.DataFrame:
    """By row: the share of decisions at which the push was let through, and the mean reading; empty if unmonitored."""
    if monitor.empty:
        return pd.DataFrame()
    decided = monitor[monitor["decided_on"].notna()].groupby("row")["acted"].mean().astype(float)
    return pd.DataFrame({"acted": decided, "level": monitor.groupby("row")["C"].mean().astype(float)})


def _cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    size = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    return np.asarray((x * y).sum(1) / np.maximum(size, 1e-12))
