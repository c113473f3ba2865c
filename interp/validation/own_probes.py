"""The judge ``probe``: the model's own probes of labelled clips. It is never evidence on its own, and says so."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from interp.activations import extract
from interp.errors import DataError
from interp.judges.probe import ProbeJudge
from interp.probes import probe
from interp.traits import Trait

if TYPE_CHECKING:
    from interp.clips import Clips
    from interp.directions import Direction
    from interp.model import MusicGen

__all__ = ["probe_judge"]

_HEADS = 16
"""Heads whose probes answer together, as in SMITIN's monitor (arXiv 2404.02252)."""


def probe_judge(
    model: MusicGen | None = None,
    data: Clips | Path | str | None = None,
    traits: Sequence[str | Trait] = (),
    where: str = "",
    *,
    k: int = _HEADS,
    seed: int = 0,
) -> ProbeJudge:
    """Probe labelled clips at every head, and judge by the best heads of each trait.

    Parameters
    ----------
    model : MusicGen
        The unsteered model.
    data : Clips, or path of a folder
        Labelled sounds.
    traits : sequence of str or Trait
        What is to be heard. Several classes of one label, or a label of several classes, compete.
    where : str
        A folder of labelled sounds, in place of ``data``: what follows the name in ``--judge probe:FOLDER``.
    k : int
        Heads a trait.
    seed : int
        Of the split.

    Returns
    -------
    ProbeJudge

    Raises
    ------
    DataError
        If there is no model, no clip or no trait.
    """
    from interp.clips import Clips

    folder = where or data
    clips = Clips.from_folder(folder) if isinstance(folder, str | Path) else folder
    if model is None or clips is None or not traits:
        raise DataError(
            "the judge 'probe' is the model's own probes of labelled clips: name model, trait and their folder (--data "
            "FOLDER, or --judge probe:FOLDER)."
        )
    ds = extract(model, clips, sites="heads", progress=False)
    columns: dict[str, list[Trait]] = {}
    for trait in map(Trait.parse, traits):
        columns.setdefault(trait.column, []).append(trait)
    chosen: list[Direction] = []
    for column, wanted in columns.items():
        asked = str(wanted[0]) if len(wanted) == 1 else column
        fitted = probe(ds, asked, sites="heads", methods=("logistic",), n_permutations=0, n_bootstrap=0, seed=seed)
        best = list(fitted.ranking("logistic")["site"][:k])
        chosen += list(fitted.directions.select(method="logistic", site=best))
    return ProbeJudge(model, chosen)
