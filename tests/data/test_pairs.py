"""Pairs of clips: what differs between them is the trait alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from interp.clips import Clips
from interp.data.pairs import balanced, render_pairs
from interp.errors import DataError
from interp.study.material import held_back
from interp.traits import Trait


@pytest.mark.parametrize("trait", ["drums", "instrument=flute"])
def test_pairs_differ_in_the_trait_alone(trait: str) -> None:
    clips = render_pairs(trait, 6, seconds=1.0)
    name, _, value = trait.partition("=")
    table = clips.labels.reset_index(drop=True)
    first, second = table.iloc[::2].reset_index(drop=True), table.iloc[1::2].reset_index(drop=True)
    assert (first[name].astype(str) == (value or "1")).all() and (second[name].astype(str) != (value or "1")).all()
    for column in {"genre", "instrument", "drums", "bass", "tempo", "mode", "group"} - {name}:
        assert first[column].tolist() == second[column].tolist(), column
    assert first["group"].nunique() == 6
    with pytest.raises(DataError, match="no music can be rendered"):
        render_pairs("instrument=theremin", 4)


def test_a_folder_is_divided_by_groups_and_balanced() -> None:
    labels = pd.DataFrame({"drums": [1] * 30 + [0] * 50, "group": [f"g{i // 2}" for i in range(80)]})
    labels.index = pd.Index([f"c{i}" for i in range(80)])
    clips = Clips.from_arrays(np.zeros((80, 1, 100), np.float32), 16_000, labels)
    kept = held_back(clips, 0)
    assert kept.sum() == 24 and labels["group"][kept].value_counts().eq(2).all()
    used = balanced(clips.subset(~kept), Trait("drums"), 12)
    assert used.labels["drums"].tolist() == [1, 0] * 12
    assert not set(used.labels["group"]) & set(labels["group"][kept])
    with pytest.raises(DataError, match="no label 'genre'"):
        balanced(clips, Trait("genre", "jazz"), 12)
