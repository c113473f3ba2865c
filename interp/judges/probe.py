"""The model's own probe as a judge. It looks inside the model it judges, so it is never evidence on its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from interp.errors import DataError
from interp.judges.accuracy import ACCURACY_COLUMNS
from interp.judges.audio import Audio, mono
from interp.judges.features import sound_features
from interp.judges.quality import degenerate
from interp.traits import Trait

if TYPE_CHECKING:
    from interp.directions import Direction
    from interp.model import MusicGen

__all__ = ["ProbeJudge"]


class ProbeJudge:
    """Judge audio by letting the model hear it and reading the probes: SMITIN's own measure of success.

    Steering moves what these probes read, so a rise of this score says that the model was pushed, not that the music
    changed. It is reported for comparison with the literature and marked ``independent = False``.

    Parameters
    ----------
    model : MusicGen
        The unsteered model.
    directions : iterable of Direction
        Probes with an intercept; several of one trait (and positive side) are combined by the median of their
        probabilities, as in SMITIN's monitor (arXiv 2404.02252).
    name : str
        Name of the judge.
    batch_size : int
        Clips at once.

    Raises
    ------
    DataError
        If there is no direction, one has no intercept, or they were read with different pooling.
    CheckpointMismatch
        If a direction was read from another checkpoint.

    Examples
    --------
    >>> from interp.backends.build import random_musicgen
    >>> from interp.directions import Direction
    >>> from interp.model import MusicGen
    >>> model = MusicGen(random_musicgen())
    >>> probe = Direction.from_weight("L1.resid", np.ones(16), trait="drums", intercept=0.0, model=model.fingerprint)
    >>> judge = ProbeJudge(model, [probe])
    >>> judge.questions, judge.independent, list(judge.score([np.ones(8_000)], 16_000))
    ({'drums': ['drums']}, False, ['drums', 'not_music'])
    """

    independent = False

    def __init__(
        self, model: MusicGen, directions: Iterable[Direction], *, name: str = "probe", batch_size: int = 16
    ) -> None:
        self.name = name
        self._model, self._batch_size = model, batch_size
        self._directions = list(directions)
        if not self._directions:
            raise DataError("there is no direction to judge by: give those of a probe.")
        for direction in self._directions:
            direction.check_model(model.fingerprint)
            if not np.isfinite(direction.intercept):
                raise DataError(
                    f"{direction} has no intercept, so no probability follows from it: give a fitted probe."
                )
        self._pool = self._directions[0].pool
        if any(direction.pool != self._pool for direction in self._directions):
            raise DataError(
                "the directions were read with different pooling: judge with those of one pooling at a time."
            )
        self._members: dict[str, list[Direction]] = {}
        self.questions: dict[str, list[str]] = {}
        for direction in self._directions:
            question, answer = _asked(direction)
            if answer not in self.questions.setdefault(question, []):
                self.questions[question].append(answer)
            self._members.setdefault(answer, []).append(direction)

    def accuracy_frame(self) -> pd.DataFrame:
        """Return held-out scores as the probes brought them along; `lo` and `hi` are the worst and best of several."""
        rows = []
        for column, members in self._members.items():
            scores = np.array([direction.score for direction in members])
            if np.isnan(scores).all():
                continue
            measured = {"value": np.nanmean(scores), "lo": np.nanmin(scores), "hi": np.nanmax(scores)}
            rows.append({"trait": column, "measure": "held-out probe score", **measured, "audio": "probe's test part"})
        return pd.DataFrame(rows, columns=ACCURACY_COLUMNS)

    def score(self, audio: Audio, sample_rate: int) -> pd.DataFrame:
        """Let the model hear clips and read the probes.

        Returns
        -------
        pandas.DataFrame
            N rows; for every answer the (median) probability of its probes, where several classes of a label compete
            divided by their sum, and 0 where the clip is no music; ``not_music`` (1 for silence, clipping, standstill
            and short loops, see :func:`interp.judges.quality.degenerate`).
        """
        music = 1.0 - degenerate(audio, sample_rate)["degenerate"].to_numpy(float)
        raw = self.probabilities(audio, sample_rate)
        columns: dict[str, NDArray[np.float64]] = {}
        for answers in self.questions.values():
            total = raw[answers].sum(axis=1).clip(lower=1e-9) if len(answers) > 1 else 1.0
            columns |= {answer: (raw[answer] / total).to_numpy() * music for answer in answers}
        return pd.DataFrame({**columns, "not_music": 1.0 - music})

    def probabilities(self, audio: Audio, sample_rate: int) -> pd.DataFrame:
        """Let the model hear clips and read the probes: for every answer the median probability, nothing else."""
        from interp.activations import extract, features
        from interp.clips import Clips

        heard = [clip[None].numpy() for clip in mono(audio, sample_rate, self._model.sample_rate)]
        labels = pd.DataFrame(index=[f"clip-{i:05d}" for i in range(len(heard))])
        clips = Clips.from_arrays(heard, self._model.sample_rate, labels)
        sites = sorted({direction.site for direction in self._directions})
        read = extract(self._model, clips, sites=sites, pool=self._pool, batch_size=self._batch_size, progress=False)
        columns: dict[str, NDArray[np.float64]] = {}
        for answer, members in self._members.items():
            logits = [
                direction.logit(features(read, direction.site, pool=self._pool).astype(np.float64))
                for direction in members
            ]
            columns[answer] = np.median(1 / (1 + np.exp(-np.stack(logits))), axis=0)
        return pd.DataFrame(columns)

    def embed(self, audio: Audio, sample_rate: int) -> NDArray[np.float32]:
        """Embed clips by their sound alone (:func:`interp.judges.features.sound_features`), not by what probes read."""
        return sound_features(audio, sample_rate)


def _asked(direction: Direction) -> tuple[str, str]:
    """The question that a probe answers, and its answer: the label and the class, or the label twice."""
    trait = Trait.parse(direction.trait)
    positive = trait.positive or direction.positive
    plain = positive in ("", "1", "1.0", "True", trait.column)
    return trait.column, trait.column if plain else positive
