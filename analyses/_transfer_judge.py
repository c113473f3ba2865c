"""Who judges a transfer: the rendered judge, CLAP, or, marked as not independent, the model's own probes.

A study asks one question of every clip: which class of one label is heard (or whether it is music at all). Judges
answer in different forms; :class:`Ear` makes them one, with an embedding for distances beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from interp import judges
from interp.judges import Audio, Judge
from interp.traits import Trait

if TYPE_CHECKING:
    from interp.model import MusicGen

__all__ = ["Ear", "choose_ear"]


class Ear:
    """A judge that is asked which class of one label it hears.

    Parameters
    ----------
    judge : Judge
        Who hears; it must have an embedding.
    trait : str
        The label.
    classes : sequence of str
        The classes that the study needs; the judge must know them all.

    Raises
    ------
    DataError
        If the judge does not know the label or one of the classes.
    """

    def __init__(self, judge: Judge, trait: str, classes: Sequence[str]) -> None:
        self.judge: Any = judge
        self.trait = trait
        self.name, self.independent = str(judge.name), bool(judge.independent)
        judges.require(judge, *(Trait(trait, one) for one in classes))
        self.answers = list(judge.questions[trait])
        self.others = {question: options for question, options in judge.questions.items() if question != trait}

    def hear(self, audio: Audio, sample_rate: int) -> pd.DataFrame:
        """Judge clips.

        Returns
        -------
        DataFrame
            One row a clip: ``p.<class>`` (P(class and music)), ``answer`` (a class, or ``not_music``), ``not_music``
            (bool), and ``says.<question>`` for every other question that the judge answers.
        """
        scores = judges.score(self.judge, audio, sample_rate)
        said = judges.answers(self.judge, scores)
        table = scores[self.answers].add_prefix("p.").astype(float)
        table["answer"] = said[self.trait]
        table["not_music"] = scores["not_music"] >= 0.5
        for question in self.others:
            table[f"says.{question}"] = said[question].astype(str)
        return table

    def embed(self, audio: Audio, sample_rate: int) -> NDArray[np.float32]:
        """Embed clips for FAD, KAD and similarity: the judge's embedding."""
        found: NDArray[np.float32] = self.judge.embed(audio, sample_rate)
        return found

    def worth(self) -> str:
        """How often the judge is right, in words."""
        frame = self.judge.accuracy_frame()
        rows = frame[frame["trait"].isin([self.trait, *self.answers]) & frame["lo"].notna()] if len(frame) else frame
        if rows.empty:
            return f"the accuracy of the judge ({self.name}) was not measured"
        told = "; ".join(f"{row.value:.1%} on {row.audio}" for row in rows.drop_duplicates("audio").itertuples())
        note = "" if self.independent else " (not independent: it looks inside the model that it judges)"
        return f"the judge ({self.name}){note} is right in {told}"


def choose_ear(kind: str, model: MusicGen, trait: str, classes: Sequence[str], *, judge_data: Path | None) -> Ear:
    """Find the judge that a command line names.

    Parameters
    ----------
    kind : str
        ``auto`` (the rendered judge, for the shipped model alone), ``rendered``, ``clap`` or ``clap:<hub name or
        folder>``, ``probe`` (the model's own probes on the clips of ``judge_data``).
    model : MusicGen
        Whose music is judged.
    trait, classes
        See :class:`Ear`.
    judge_data : Path or None
        Folder of labelled clips: what ``probe`` is trained on, and what CLAP's accuracy is measured on.

    Raises
    ------
    DataError
        If no judge can be had; the sentence says which there are.
    """
    kind = "" if kind == "auto" else kind
    asked = [Trait(trait, one) for one in classes]
    return Ear(judges.load(kind, model=model, data=judge_data, traits=asked), trait, classes)
