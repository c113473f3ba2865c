"""A judge in a file of its own: is it loud?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd


class Level:
    """Hears that music is loud, from its level alone."""

    name, independent = "level", True
    questions: dict[str, list[str]] = {"loud": ["loud"]}  # noqa: RUF012

    def score(self, audio: Any, sample_rate: int) -> pd.DataFrame:
        """Probability from the level in dB: one half at -30."""
        level = [20 * np.log10(np.sqrt(np.square(np.asarray(clip)).mean()) + 1e-9) for clip in audio]
        return pd.DataFrame({"loud": 1 / (1 + np.exp(-(np.array(level) + 30))), "not_music": 0.0})

    def accuracy_frame(self) -> pd.DataFrame:
        """Right by definition."""
        return pd.DataFrame()
