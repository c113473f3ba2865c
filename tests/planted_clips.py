"""Clips of judged arms with planted shares, paired by seed; and a second judge for panels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

JUDGE: Any = SimpleNamespace(
    name="ear",
    independent=True,
    questions={"drums": ["drums"], "bass": ["bass"], "genre": ["jazz", "rock"]},
    accuracy_frame=lambda: pd.DataFrame(),
)


def planted(
    shares: Mapping[str, float | Mapping[float, float]],
    n: int = 64,
    *,
    broken: Mapping[str, float] | None = None,
    bass: Mapping[str, float] | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Clips of arms in which a share is heard to have drums; unsteered in one of ten, unless it is said.

    Parameters
    ----------
    shares : mapping
        Arm -> share at dose 2, or dose -> share. Treated and unsteered clips share their luck, other arms have their
        own, as music from the same noise does.
    broken, bass : mapping, optional
        Arm -> share that is no music, and share heard to have a bass (a quarter where it is not said).
    """
    rng = np.random.default_rng(seed)
    lucks = {"": rng.permutation(n) / n}
    parts = []
    for arm, by_dose in {"unsteered": {0.0: 0.1}, **shares}.items():
        for dose, share in (by_dose if isinstance(by_dose, Mapping) else {2.0: by_dose}).items():
            key = "" if arm in ("unsteered", "probe") else arm
            luck = lucks.setdefault(key, rng.permutation(n) / n)
            rows = {"trait": "drums", "arm": arm, "dose": 0.0 if arm == "unsteered" else dose, "seed": range(n)}
            frame = pd.DataFrame({**rows, "hit": luck < share, "not_music": luck >= 1 - (broken or {}).get(arm, 0.0)})
            has_bass = np.roll(luck, 7) < (bass or {}).get(arm, 0.25)
            frame = frame.assign(p_drums=0.9 * frame["hit"], p_bass=0.9 * has_bass, p_jazz=0.8, p_rock=0.1)
            parts.append(frame.assign(p_not_music=0.9 * frame["not_music"]))
    return pd.concat(parts, ignore_index=True)


LEVEL = """
import numpy as np, pandas as pd
class Level:
    name, independent, questions = "level", True, {"drums": ["drums"]}
    def score(self, audio, sample_rate):
        loud = np.asarray(audio).std(axis=(1, 2))
        return pd.DataFrame({"drums": loud / (loud + 0.05), "not_music": 0.0})
    def accuracy_frame(self):
        return pd.DataFrame()
"""


def level_judge(folder: Path) -> Path:
    """A file with a judge that takes what is loud for drums."""
    path = folder / "level.py"
    path.write_text(LEVEL)
    return path
