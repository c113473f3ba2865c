"""Splits that keep groups together, and shuffles that respect them."""

from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.errors import DataError
from interp.splits import group_folds, group_test_split, permute_labels

SIZES = st.lists(st.integers(1, 9), min_size=12, max_size=40)


def grouped(sizes: list[int], seed: int, classes: int = 2) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(len(sizes)), sizes)
    return groups, (rng.permutation(len(sizes)) % classes)[groups], rng


@settings(max_examples=30, deadline=None)
@given(sizes=SIZES, seed=st.integers(0, 999), constant=st.booleans())
def test_folds_keep_groups_together_and_hold_every_class(sizes: list[int], seed: int, constant: bool) -> None:
    groups, y, rng = grouped(sizes, seed)
    if not constant:
        y = np.concatenate([[0, 1, 0, 1, 0, 1], rng.integers(0, 2, max(0, len(y) - 6))])[: len(y)]
        y[np.unique(groups, return_index=True)[1]] = np.arange(len(sizes)) % 2
    fold = group_folds(y, groups, 3, seed=rng)
    assert all(len(np.unique(fold[groups == g])) == 1 for g in np.unique(groups))
    for k in range(3):
        assert set(y[fold == k]) == {0, 1}
        assert set(y[fold != k]) == {0, 1}


@settings(max_examples=30, deadline=None)
@given(sizes=SIZES, seed=st.integers(0, 999), share=st.floats(0.2, 0.5))
def test_the_test_part_is_whole_groups_in_proportion(sizes: list[int], seed: int, share: float) -> None:
    groups, y, rng = grouped(sizes, seed)
    test = group_test_split(y, groups, share, seed=rng)
    assert not set(groups[test]) & set(groups[~test])
    assert set(y[test]) == set(y[~test]) == {0, 1}
    for k in (0, 1):
        assert abs(test[y == k].sum() - share * (y == k).sum()) <= max(sizes) + 1


def test_folds_are_balanced_when_they_can_be() -> None:
    groups, y, rng = grouped([5] * 40, 0, 4)
    counts = pd.crosstab(group_folds(y, groups, 5, seed=rng), y).to_numpy()
    assert (counts == 10).all()
    tempo = np.repeat(rng.normal(size=40), 5)
    fold = group_folds(tempo, groups, 4, seed=rng, graded=True)
    means = [tempo[fold == k].mean() for k in range(4)]
    assert np.ptp(means) < 0.35  # by quintile


@settings(max_examples=25, deadline=None)
@given(sizes=SIZES, seed=st.integers(0, 999))
def test_shuffles_of_constant_groups_move_whole_groups(sizes: list[int], seed: int) -> None:
    groups, y, rng = grouped(sizes, seed)
    for index in permute_labels(y, groups, 5, seed=rng):
        shuffled = y[index]
        per_group = [shuffled[groups == g] for g in np.unique(groups)]
        assert all(len(np.unique(labels)) == 1 for labels in per_group)
        assert sum(int(labels[0]) for labels in per_group) == sum(int(y[groups == g][0]) for g in np.unique(groups))


@settings(max_examples=25, deadline=None)
@given(sizes=SIZES, seed=st.integers(0, 999))
def test_other_shuffles_keep_counts_and_parts(sizes: list[int], seed: int) -> None:
    groups, _, rng = grouped(sizes, seed)
    y = rng.integers(0, 2, len(groups))
    y[:4] = [0, 1, 0, 1]
    parts = groups % 2
    try:
        shuffles = permute_labels(y, groups, 5, seed=rng, parts=parts)
    except DataError:
        assert len(groups) < 40  # so few clips that there is hardly another order
        return
    size = np.bincount(groups)[groups]
    for index in shuffles:
        assert sorted(index) == list(range(len(y)))
        assert (parts[index] == parts).all()
        if any(len(np.unique(y[(groups == g)])) > 1 for g in np.unique(groups[parts == 0])):
            rows = parts == 0
            assert (size[index[rows]] == size[rows]).all()  # blocks go to groups of their own size
            source = groups[index]
            assert all(len(np.unique(source[groups == g])) == 1 for g in np.unique(groups[rows]))


def test_equal_groups_exchange_their_labels() -> None:
    y = np.array([0, 0, 1, 1, 1, 1, 0, 1, 0, 0, 1, 0])
    groups = np.repeat(np.arange(4), 3)
    sums = {tuple(y[i].reshape(4, 3).sum(1)) for i in permute_labels(y, groups, 50, seed=np.random.default_rng(0))}
    assert len(sums) == 4  # wherever the group with three ones goes
    assert all(sorted(s) == [1, 1, 1, 3] for s in sums)
