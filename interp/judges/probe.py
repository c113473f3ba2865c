"""The model's own probe as a judge. It looks inside the model it judges, so it is never evidence on its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from interp.errors import DataError
from interp.judges.base import ACCURACY_COLUMNS, Audio, mono

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
    """

    independent = False

    def __init__(
        self, model: MusicGen, directions: Iterable[Direction], *, name: str = "probe", batch_size: int = 16
    ) -> None:
        self.name = name
        self._model, self._batch_size = model, batch_size
        self._directions = list(directions)
        if not self._directions:
            raise DataError("There is no direction to judge by; give those of a probe.")
        for direction in self._directions:
            direction.check_model(model.fingerprint)
            if not np.isfinite(direction.intercept):
                raise DataError(
                    f"{direction} has no intercept, so no probability follows from it; give a fitted probe."
                )
        self._pool = self._directions[0].pool
        if any(direction.pool != self._pool for direction in self._directions):
            raise DataError(
                "The directions were read with different pooling; judge with those of one pooling at a time."
            )

    @property
    def accuracy(self) -> Mapping[str, float]:
        """Mean held-out score of the probes, by column."""
        frame = self.accuracy_frame()
        return dict(zip(frame["trait"], frame["value"], strict=True))

    def accuracy_frame(self) -> pd.DataFrame:
        """Return held-out scores as the probes brought them along; `lo` and `hi` are the worst and best of several."""
        rows = []
        for column, members in self._columns().items():
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
            N rows; per trait the (median) probability of its positive side, in a column named after the trait for
            binary traits and after the class otherwise.
        """
        from interp.activations import extract, features
        from interp.clips import Clips

        heard = [clip[None].numpy() for clip in mono(audio, sample_rate, self._model.sample_rate)]
        labels = pd.DataFrame(index=[f"clip-{i:05d}" for i in range(len(heard))])
        clips = Clips.from_arrays(heard, self._model.sample_rate, labels)
        sites = sorted({direction.site for direction in self._directions})
        read = extract(self._model, clips, sites=sites, pool=self._pool, batch_size=self._batch_size, progress=False)
        columns: dict[str, NDArray[np.float64]] = {}
        for column, members in self._columns().items():
            logits = [
                direction.logit(features(read, direction.site, pool=self._pool).astype(np.float64))
                for direction in members
            ]
            columns[column] = np.median(1 / (1 + np.exp(-np.stack(logits))), axis=0)
        return pd.DataFrame(columns)

    def _columns(self) -> dict[str, list[Direction]]:
        columns: dict[str, list[Direction]] = {}
        for direction in self._directions:
            binary = direction.positive in ("1", "1.0", "True", "")
            columns.setdefault(direction.trait if binary else direction.positive, []).append(direction)
        return columns
