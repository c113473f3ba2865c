"""Rankings with their uncertainty."""

from __future__ import annotations

import numpy as np
import pytest
from planted_data import planted_dataset

from interp.errors import DataError
from interp.probes import probe
from interp.probes.ranks import rank_intervals, top_set


def test_rank_intervals_cover_all_ranks_at_once() -> None:
    rng = np.random.default_rng(0)
    truth = np.array([1.1, 0.8, 0.8, 0.6, 0.55, 0.5])
    best, worst = np.array([(truth > t).sum() + 1 for t in truth]), np.array([(truth >= t).sum() for t in truth])
    covered = narrow = 0
    for _ in range(100):
        clips = rng.normal(size=(120, 6)) * 0.4 + truth + 0.2 * rng.normal(size=(120, 1))
        weights = rng.multinomial(120, np.full(120, 1 / 120), size=200) / 120
        lo, hi = rank_intervals(clips.mean(0), weights @ clips)
        assert (lo <= hi).all()
        covered += bool(((lo <= best) & (hi >= worst)).all())
        narrow += bool(hi[0] == 1)
    assert covered / 100 >= 0.92
    assert narrow / 100 > 0.9  # and says something


def test_who_is_surely_among_the_best() -> None:
    ds, _ = planted_dataset(n_groups=80, strength=3.0)
    result = probe(ds, "drums", n_permutations=20, methods=["ridge"])
    table = top_set(result, 1)
    assert table["site"][0] == "L1.H1"
    assert table["surely"].tolist() == [True] + [False] * 11
    assert table["possibly"].tolist() == [True] + [False] * 11
    assert table["rank_hi"][0] == 1
    assert table["rank_hi"][5] > 6  # the rest cannot be told apart
    with pytest.raises(DataError, match="k is 99"):
        top_set(result, 99)
    with pytest.raises(DataError, match="not fitted"):
        top_set(result, 1, "lda")
