"""Generate arms: every arm at each of its doses continues the same sounds with the same noise, in one batched run.

Whoever compares arms plays them here: :func:`interp.validation.run_arms`, which has them judged, and
:func:`interp.report.dose_page`, which has them listened to. So dose zero of every arm is always checked.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from interp.errors import ControlError, DataError
from interp.steering import Row, generate
from interp.validation.arms import UNSTEERED, Arm
from interp.validation.setting import Setting

if TYPE_CHECKING:
    from interp.model import MusicGen
    from interp.steering import Generation

__all__ = ["Cell", "Played", "play_arms"]

_DECODE = 32


@dataclass(frozen=True)
class Cell:
    """One arm at one dose.

    Attributes
    ----------
    arm : Arm
    dose : float
        0 for an arm without doses.
    at : int
        Its first row among those that were generated, one row a seed; -1 for an arm that edits finished sound.
    """

    arm: Arm
    dose: float
    at: int = -1


@dataclass(frozen=True, eq=False)
class Played:
    """What was generated.

    Attributes
    ----------
    cells : tuple of Cell
        The unsteered music first, then every arm at each of its doses.
    seeds : tuple of int
        One a row of each cell.
    made : Generation
        Rows of the cells in their order, and behind them the rows that dose zero was checked with.
    start : int
        Sample at which the generated part begins.
    """

    cells: tuple[Cell, ...]
    seeds: tuple[int, ...]
    made: Generation
    model: MusicGen = field(repr=False)
    start: int

    def audio(self, cell: Cell) -> torch.Tensor:
        """The sounds of one cell, what was continued included: ``[seeds, channels, samples]``."""
        if cell.at < 0:
            return self._edited(cell.arm)
        stop = cell.at + len(self.seeds)
        batches = (self.made.codes[i : min(i + _DECODE, stop)] for i in range(cell.at, stop, _DECODE))
        return torch.cat([self.model.decode(codes) for codes in batches])

    def codes(self, cell: Cell) -> torch.Tensor | None:
        """The codes of one cell, ``[seeds, codebooks, frames]``; None for an arm that edits finished sound."""
        return None if cell.at < 0 else self.made.codes[cell.at : cell.at + len(self.seeds)]

    @functools.cached_property
    def unsteered(self) -> torch.Tensor:
        """The sounds of the unsteered arm."""
        return self.audio(self.cells[0])

    def placed(self, table: pd.DataFrame) -> pd.DataFrame:
        """A table with a column ``row`` (log, monitor) with ``arm, dose, seed``, without the rows of the checks."""
        where = {
            cell.at + i: (cell.arm.name, cell.dose, seed)
            for cell in self.cells
            if cell.at >= 0
            for i, seed in enumerate(self.seeds)
        }
        rows = table[table["row"].isin(where.keys())].copy()
        for i, name in enumerate(("arm", "dose", "seed")):
            rows[name] = [where[row][i] for row in rows["row"]]
        return rows

    def _edited(self, arm: Arm) -> torch.Tensor:
        """The unsteered sound with an edit of what was generated."""
        assert arm.sound is not None
        base = self.unsteered
        after = torch.stack([arm.sound(sound, i) for i, sound in enumerate(base[..., self.start :])]).to(base.dtype)
        return torch.cat([base[..., : self.start], after], dim=-1)


def play_arms(
    model: MusicGen,
    arms: Sequence[Arm],
    codes: Sequence[torch.Tensor | None],
    doses: Sequence[float] = (),
    *,
    seeds: Sequence[int],
    setting: Setting | None = None,
) -> Played:
    """Continue every sound under every arm and dose with the same noise.

    Parameters
    ----------
    model : MusicGen
        What generates.
    arms : sequence of Arm
        The arm ``unsteered`` is added, unless one of this name is given (a monitor that never acts); every arm with a
        dose is run once more at dose zero.
    codes : sequence of Tensor of shape [codebooks, frames] or None
        The sounds to continue, one a seed; None to begin from nothing.
    doses : sequence of float
        Every arm gets all of them, unless it has its own.
    seeds : sequence of int
        Of the noise, one for each sound.
    setting : Setting, optional
        How the music is made.

    Returns
    -------
    Played

    Raises
    ------
    DataError
        If seeds and sounds differ in number, or arms cannot be told apart.
    ControlError
        If dose zero of an arm is not the music of the same prompt and noise without it, to the last token.

    Examples
    --------
    >>> import interp
    >>> model = interp.load("tiny", device="cpu")
    >>> asked = Arm("asked", dosed=False, text="drums")
    >>> setting = Setting(seconds=0.1, prompt_seconds=0.0, progress=False)
    >>> played = play_arms(model, [asked], [None], seeds=[3], setting=setting)
    >>> [(cell.arm.name, list(played.audio(cell).shape)) for cell in played.cells]
    [('unsteered', [1, 1, 1600]), ('asked', [1, 1, 1600])]
    """
    setting = setting or Setting()
    cells, rows = _rows(_cells(arms, doses, seeds, codes), codes, list(seeds), setting)
    checks = _checks(cells, rows, codes, list(seeds), setting)
    guidance = None if all(one.prompt is None for one in rows) else setting.guidance
    made = generate(
        model, rows, seconds=setting.seconds, guidance=guidance, progress=setting.progress, **setting.options
    )
    for arm, zero, plain in checks:
        if not torch.equal(made.codes[zero], made.codes[plain]):
            raise ControlError(
                f"dose zero of the arm {arm.name!r} is not the unsteered music: what the other doses do cannot be told "
                "from what merely installing the intervention does."
            )
    start = round(setting.prompt_seconds * model.sample_rate)
    return Played(tuple(cells), tuple(seeds), made, model, start)


def _cells(arms: Sequence[Arm], doses: Sequence[float], seeds: Sequence[int], codes: Sequence[Any]) -> list[Cell]:
    """Every arm at each of its doses, the unsteered music first."""
    if len(seeds) != len(codes) or not len(codes):
        raise DataError(f"{len(seeds)} seeds and {len(codes)} sounds to continue: give one seed for each sound.")
    own = [arm for arm in arms if arm.name == UNSTEERED]
    base = own[0] if own else Arm(UNSTEERED, control=True, dosed=False)
    cells = [Cell(base, 0.0)]
    for arm in arms:
        if arm is base:
            continue
        amounts = (doses if arm.doses is None else arm.doses) if arm.dosed else (0.0,)
        if not len(amounts):
            raise DataError(f"the arm {arm.name!r} has no dose: give doses to it or to the run.")
        cells += [Cell(arm, float(dose)) for dose in amounts]
    names = [(cell.arm.name, cell.dose) for cell in cells]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise DataError(f"two arms are called {twice[0][0]!r} at dose {twice[0][1]:g}: name them apart.")
    return cells


def _row(arm: Arm, i: int, dose: float | None, codes: Sequence[Any], seeds: Sequence[int], setting: Setting) -> Row:
    """The row of one seed; with nothing done to it where there is no dose."""
    items = () if dose is None else arm.build(dose, i)
    return Row(arm.prompt(i, setting.text), seeds[i] + arm.noise, codes[i], items)


def _rows(
    cells: Sequence[Cell], codes: Sequence[Any], seeds: Sequence[int], setting: Setting
) -> tuple[list[Cell], list[Row]]:
    """The rows of every cell, and the cells with their places among them."""
    placed: list[Cell] = []
    rows: list[Row] = []
    for cell in cells:
        placed.append(cell if cell.arm.sound is not None else Cell(cell.arm, cell.dose, len(rows)))
        if cell.arm.sound is None:
            rows += [_row(cell.arm, i, cell.dose, codes, seeds, setting) for i in range(len(codes))]
    return placed, rows


def _checks(
    cells: Sequence[Cell], rows: list[Row], codes: Sequence[Any], seeds: Sequence[int], setting: Setting
) -> list[tuple[Arm, int, int]]:
    """Add the rows that dose zero is checked with: (arm, the row of its dose zero, the row that this must equal)."""
    n, base = len(codes), cells[0].arm
    checks: list[tuple[Arm, int, int]] = []

    def bare(arm: Arm, i: int) -> int:
        """A row of the arm's own prompt and noise to which nothing is done."""
        plain = _row(arm, i, None, codes, seeds, setting)
        if not rows[i].interventions and (plain.prompt, plain.seed) == (rows[i].prompt, rows[i].seed):
            return i
        rows.append(plain)
        return len(rows) - 1

    if any(rows[i].interventions for i in range(n)):
        checks.append((base, 0, bare(base, 0)))
    dosed = {id(cell.arm): cell.arm for cell in cells if cell.arm.dosed and cell.arm is not base}
    for at, arm in enumerate(dosed.values()):
        i = at % n
        rows.append(_row(arm, i, 0.0, codes, seeds, setting))
        checks.append((arm, len(rows) - 1, bare(arm, i)))
    return checks
