"""Splits, shuffles, scores and labels: the pieces that every study stands on."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn import metrics as reference

from interp.errors import DataError
from interp.probes import metrics, read_trait
from interp.probes.resample import weighted_scores
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
    fold = group_folds(y, groups, 3, rng=rng)
    assert all(len(np.unique(fold[groups == g])) == 1 for g in np.unique(groups))
    for k in range(3):
        assert set(y[fold == k]) == {0, 1}
        assert set(y[fold != k]) == {0, 1}


@settings(max_examples=30, deadline=None)
@given(sizes=SIZES, seed=st.integers(0, 999), share=st.floats(0.2, 0.5))
def test_the_test_part_is_whole_groups_in_proportion(sizes: list[int], seed: int, share: float) -> None:
    groups, y, rng = grouped(sizes, seed)
    test = group_test_split(y, groups, share, rng=rng)
    assert not set(groups[test]) & set(groups[~test])
    assert set(y[test]) == set(y[~test]) == {0, 1}
    for k in (0, 1):
        assert abs(test[y == k].sum() - share * (y == k).sum()) <= max(sizes) + 1


def test_folds_are_balanced_when_they_can_be() -> None:
    groups, y, rng = grouped([5] * 40, 0, 4)
    counts = pd.crosstab(group_folds(y, groups, 5, rng=rng), y).to_numpy()
    assert (counts == 10).all()
    tempo = np.repeat(rng.normal(size=40), 5)
    fold = group_folds(tempo, groups, 4, rng=rng, graded=True)
    means = [tempo[fold == k].mean() for k in range(4)]
    assert np.ptp(means) < 0.35  # by quintile


@settings(max_examples=25, deadline=None)
@given(sizes=SIZES, seed=st.integers(0, 999))
def test_shuffles_of_constant_groups_move_whole_groups(sizes: list[int], seed: int) -> None:
    groups, y, rng = grouped(sizes, seed)
    for index in permute_labels(y, groups, 5, rng=rng):
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
        shuffles = permute_labels(y, groups, 5, rng=rng, parts=parts)
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
    sums = {tuple(y[i].reshape(4, 3).sum(1)) for i in permute_labels(y, groups, 50, rng=np.random.default_rng(0))}
    assert len(sums) == 4  # wherever the group with three ones goes
    assert all(sorted(s) == [1, 1, 1, 3] for s in sums)


def test_scores_equal_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 60)
    value = np.round(rng.normal(size=60) + y, 1)  # with ties
    d, t = torch.as_tensor(value)[None, None], torch.as_tensor(y)
    guess = (value > 0).astype(int)
    wanted = {
        "accuracy": reference.accuracy_score(y, guess),
        "balanced_accuracy": reference.balanced_accuracy_score(y, guess),
        "f1": reference.f1_score(y, guess),
        "auroc": reference.roc_auc_score(y, value),
    }
    y3 = rng.integers(0, 3, 60)
    value3 = rng.normal(size=(60, 3)) + np.eye(3)[y3]
    d3, t3, guess3 = torch.as_tensor(value3.T)[None], torch.as_tensor(y3), value3.argmax(1)
    one_hot = np.eye(3)[y3]
    wanted3 = {
        "accuracy": reference.accuracy_score(y3, guess3),
        "balanced_accuracy": reference.balanced_accuracy_score(y3, guess3),
        "f1": reference.f1_score(y3, guess3, average="macro"),
        "auroc": np.mean([reference.roc_auc_score(one_hot[:, k], value3[:, k]) for k in range(3)]),
    }
    for name, value_wanted in wanted.items():
        assert float(metrics.score(name, d, t)) == pytest.approx(value_wanted, abs=1e-6), name
        assert float(metrics.score(name, d3, t3)) == pytest.approx(wanted3[name], abs=1e-6), name
    numbers = torch.as_tensor(np.round(value + rng.normal(size=60), 1))
    assert float(metrics.score("r2", d, numbers)) == pytest.approx(reference.r2_score(numbers, value), abs=1e-6)
    assert float(metrics.score("spearman", d, numbers)) == pytest.approx(spearmanr(numbers, value).statistic, abs=1e-6)
    with pytest.raises(DataError, match="no score"):
        metrics.score("mcc", d, t)


def test_chance_is_what_guessing_reaches() -> None:
    y = torch.tensor([0] * 30 + [1] * 10)
    always = torch.full((1, 1, 40), -1.0)
    assert metrics.chance("accuracy", y) == pytest.approx(float(metrics.accuracy(always, y)))
    assert metrics.chance("balanced_accuracy", y) == pytest.approx(float(metrics.balanced_accuracy(always, y)))
    assert metrics.chance("f1", y) == pytest.approx(float(metrics.f1(-always, y)))
    assert metrics.chance("auroc", y) == pytest.approx(float(metrics.auroc(always, y)))
    assert metrics.chance("r2", y) == 0


@pytest.mark.parametrize("name", list(metrics.SCORES))
def test_weights_count_like_copies(name: str) -> None:
    rng = np.random.default_rng(1)
    graded = name in metrics.GRADED
    for outputs in (1,) if graded else (1, 3):
        y = rng.normal(size=40).round(1) if graded else rng.integers(0, max(2, outputs), 40)
        decision = rng.normal(size=(5, outputs, 40)).round(1)
        weights = rng.multinomial(40, np.full(40, 1 / 40), size=6).astype(float)
        drawn = weighted_scores(name, decision, y, weights)
        assert drawn.shape == (6, 5)
        for b in range(6):
            copies = np.repeat(np.arange(40), weights[b].astype(int))
            wanted = metrics.score(name, torch.as_tensor(decision[:, :, copies]), torch.as_tensor(y[copies]))
            np.testing.assert_allclose(drawn[b], wanted, atol=1e-6)


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.filterwarnings("error")
def test_resamples_that_lack_a_class_give_no_warning(outputs: int) -> None:
    y = np.array([0, 0, 1, 1] if outputs == 1 else [0, 1, 2, 2])
    decision = np.random.default_rng(0).normal(size=(2, outputs, 4))
    weights = np.array([[1.0, 1, 1, 1], [2, 2, 0, 0], [0, 0, 0, 0]])
    balanced = weighted_scores("balanced_accuracy", decision, y, weights)
    assert np.isfinite(balanced[:2]).all()  # over the classes that are there
    assert np.isnan(balanced[2]).all()
    area = weighted_scores("auroc", decision, y, weights)
    assert np.isfinite(area[0]).all()
    assert np.isnan(area[2]).all()


def test_labels_are_read_as_they_are_meant() -> None:
    assert read_trait(pd.Series([True, False, True], name="x")).classes == ("0", "1")
    assert read_trait(pd.Series([0.0, 1.0, np.nan], name="x")).n_missing == 1
    assert read_trait(pd.Series(["b", "a", "", None], name="x")).y.tolist() == [1, 0]
    assert read_trait(pd.Series(np.arange(40), name="x")).kind == "graded"
    assert read_trait(pd.Series(np.arange(40) % 4, name="x")).kind == "categorical"
    assert read_trait(pd.Series(np.arange(40) % 4, name="x"), kind="graded").kind == "graded"
    assert read_trait(pd.Series(["10", "9", "10"], name="x")).classes == ("9", "10")  # as numbers, not as text
    pair = read_trait(pd.Series(list("abcab"), name="x"), "x=b|a")
    assert (pair.y.tolist(), pair.keep.tolist(), pair.classes) == (
        [0, 1, 0, 1],
        [True, True, False, True, True],
        ("a", "b"),
    )
    for values, name, kind, words in [
        (["a", "a"], "x", None, "one class"),
        ([1.0, np.inf] * 9, "x", "graded", "infinite"),
        ([2.0] * 20, "x", "graded", "nothing to probe"),
        (["a", "b", "c"], "x", "binary", "3 classes: write x=a"),
        (["a", "b"], "x", "graded", "not all numbers"),
        (["a", "a"], "x=a", None, "every labelled clip"),
    ]:
        with pytest.raises(DataError, match=words):
            read_trait(pd.Series(values, name="x"), name, kind)  # type: ignore[arg-type]
