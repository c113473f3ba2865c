"""What a direction does to everything that the judge hears."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from interp.clips import Clips
from interp.directions import Direction
from interp.model import MusicGen
from interp.traits import Trait
from interp.validation import Setting, leakage, prompts_without
from interp.validation.effects import kept
from interp.validation.leakage import judged_changes


def planted_scores() -> pd.DataFrame:
    columns = {"p_drums": [0.1, 0.9, 0.9, 0.9], "p_piano": [0.8, 0.8, 0.8, 0.1], "p_organ": [0.2, 0.2, 0.2, 0.9]}
    frame = pd.DataFrame({"arm": ["unsteered"] * 2 + ["push"] * 2, "dose": [0.0, 0.0, 1.0, 1.0], **columns})
    return frame.assign(seed=[0, 1, 0, 1], p_not_music=0.0)


def test_specificity_counts_other_answers_that_stay(loud: Any) -> None:
    scores = planted_scores()
    base, pushed = scores.iloc[:2], scores.iloc[2:]
    before, after = (part.filter(like="p_").rename(columns=lambda name: name[2:]) for part in (base, pushed))
    assert kept(loud, after, before.reset_index(drop=True), "drums").tolist() == [1.0, 0.0]
    assert kept(loud, after, before.reset_index(drop=True), Trait("instrument", "piano")).tolist() == [0.0, 1.0]
    changes = judged_changes(scores, loud, arm="push", dose=1.0).set_index("judged")
    assert changes["diff"].to_dict() == {"drums": 0.5, "piano": -0.5, "organ": 0.5}
    assert changes["base"].to_dict() == {"drums": 0.5, "piano": 1.0, "organ": 0.0}


def test_every_direction_is_pushed_and_every_answer_is_counted(
    tiny_lm_model: MusicGen, clips: Clips, loud: Any
) -> None:
    rng = np.random.default_rng(0)
    directions = {
        name: Direction.from_weight("L1.resid", rng.normal(size=32), sigma=2.0, trait=name)
        for name in ("drums", "piano")
    }
    codes = prompts_without(tiny_lm_model, "drums", 3, 0.3, clips=clips)
    setting = Setting(seconds=0.6, prompt_seconds=0.3, progress=False)
    table = leakage(tiny_lm_model, directions, codes, 2.0, seeds=range(3), judge=loud, setting=setting)
    assert list(zip(table["direction"], table["judged"], strict=True)) == [
        (one, answer) for one in directions for answer in ("drums", "piano", "organ")
    ]
    assert table["own"].tolist() == [True, False, False, False, True, False]
    assert (table.loc[table["judged"] != "drums", "diff"] == 0).all()  # this judge always hears an organ
