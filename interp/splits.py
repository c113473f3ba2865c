"""Splits that keep groups together and classes spread, and label permutations that respect groups."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from interp.errors import DataError

__all__ = ["group_folds", "group_test_split", "permute_labels"]

Mask = NDArray[np.bool_]
Index = NDArray[np.intp]


def _strata(y: NDArray[np.generic], graded: bool) -> NDArray[np.intp]:
    """Classes as integers; graded labels are cut into five parts of equal size."""
    if not graded:
        return np.unique(y, return_inverse=True)[1]
    edges = np.quantile(y.astype(float), [0.2, 0.4, 0.6, 0.8])
    return np.searchsorted(edges, y.astype(float), side="right")


def group_folds(
    y: ArrayLike,
    groups: ArrayLike,
    n_folds: int,
    *,
    seed: int | np.random.Generator,
    graded: bool = False,
) -> NDArray[np.intp]:
    """Deal groups into folds so that every class is spread evenly; no group is ever in two folds.

    Groups are visited in random order, those with the most uneven labels first, and each goes where it keeps the class
    counts of the folds closest to each other.

    Parameters
    ----------
    y, groups : array of shape (clips,)
        Labels and group of each clip.
    n_folds : int
        Folds.
    seed : int or numpy.random.Generator
        Decides the order and the ties.
    graded : bool
        Labels are numbers; they are spread by quintile.

    Returns
    -------
    int array of shape (clips,)
        Fold of each clip.

    Raises
    ------
    DataError
        If there are fewer groups (or, for a class, fewer groups that hold it) than folds.
    """
    y, groups = np.asarray(y), np.asarray(groups)
    strata = _strata(y, graded)
    names, group_of = np.unique(groups, return_inverse=True)
    if len(names) < n_folds:
        raise DataError(
            f"{len(names)} groups cannot be dealt into {n_folds} folds: ask for at most {len(names)} folds "
            "or add clips from other groups."
        )
    counts = np.zeros((len(names), int(strata.max()) + 1))
    np.add.at(counts, (group_of, strata), 1)
    if not graded:
        holders = (counts > 0).sum(axis=0)
        scarce = int(holders.argmin())
        if holders[scarce] < n_folds:
            raise DataError(
                f"class {str(np.unique(y)[scarce])!r} occurs in {holders[scarce]} of the groups, too few for {n_folds} "
                "folds: ask for fewer folds or add groups that hold it."
            )
    weight = 1 / np.maximum(counts.sum(axis=0), 1)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(names))
    order = order[np.argsort(-(counts[order] * weight).std(axis=1), kind="stable")]
    totals = np.zeros((n_folds, counts.shape[1]))
    fold_of = np.empty(len(names), dtype=np.intp)
    # Moving the sum of squares down as little as possible is what keeps the folds' class shares together.
    for group in order:
        cost = (((totals + counts[group]) ** 2 - totals**2) * weight**2).sum(axis=1)
        ties = np.flatnonzero(cost <= cost.min() * (1 + 1e-9) + 1e-15)
        fold = int(rng.choice(ties))
        fold_of[group] = fold
        totals[fold] += counts[group]
    if not graded and (totals == 0).any():
        fold_of = _repair(counts, fold_of, n_folds)
    return fold_of[group_of]


def _repair(counts: NDArray[np.float64], fold_of: NDArray[np.intp], n_folds: int) -> NDArray[np.intp]:
    """Move groups from folds that can spare them until every fold holds every class."""
    fold_of = fold_of.copy()
    for _ in range(8 * n_folds):
        totals = np.stack([counts[fold_of == fold].sum(axis=0) for fold in range(n_folds)])
        missing = np.argwhere(totals == 0)
        if not len(missing):
            return fold_of
        fold, stratum = missing[0]
        holders = np.flatnonzero(counts[:, stratum] > 0)
        # prefer a holder from a fold with several of them, and of the smallest size
        per_fold = np.bincount(fold_of[holders], minlength=n_folds)
        spare = holders[per_fold[fold_of[holders]] > 1]
        if not len(spare):
            break
        fold_of[spare[np.argmin(counts[spare].sum(axis=1))]] = fold
    raise DataError(f"the classes cannot be spread over {n_folds} folds without splitting groups: ask for fewer folds.")


def group_test_split(
    y: ArrayLike,
    groups: ArrayLike,
    test_size: float,
    *,
    seed: int | np.random.Generator,
    graded: bool = False,
) -> Mask:
    """Hold out about ``test_size`` of the clips, by whole groups, with the classes in proportion.

    Returns
    -------
    bool array of shape (clips,)
        True for the clips of the test part.

    Raises
    ------
    DataError
        If ``test_size`` is not between 0 and 1 or there are too few groups.
    """
    if not 0 < test_size < 1:
        raise DataError(f"test_size is {test_size}: give the share of clips to hold out, between 0 and 1.")
    y, groups = np.asarray(y), np.asarray(groups)
    strata = _strata(y, graded)
    names, group_of = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        raise DataError("all clips belong to one group, so none can be held out: give clips of several groups.")
    counts = np.zeros((len(names), int(strata.max()) + 1))
    np.add.at(counts, (group_of, strata), 1)
    holders = (counts > 0).sum(axis=0)
    if not graded and holders.min() < 2:
        name = np.unique(y)[int(holders.argmin())]
        raise DataError(
            f"class {str(name)!r} occurs in one group only, so it cannot be held out: add groups that hold it."
        )
    total = counts.sum(axis=0)
    goal = test_size * total
    weight = 1 / np.maximum(total, 1)
    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort(-(counts[order] * weight).std(axis=1), kind="stable")]
    test, held = np.zeros(len(names), dtype=bool), np.zeros_like(goal)
    left = total.copy()
    for group in order:
        gain = (((held + counts[group] - goal) ** 2 - (held - goal) ** 2) * weight**2).sum()
        keeps_train = graded or ((left - counts[group] > 0) | (counts[group] == 0)).all()
        if gain < 0 and keeps_train:
            test[group] = True
            held += counts[group]
            left -= counts[group]
    for stratum in np.flatnonzero((held == 0) & (total > 0)) if not graded else ():
        spare = np.flatnonzero((counts[:, stratum] > 0) & ~test)
        group = spare[np.argmin(counts[spare].sum(axis=1))]
        test[group] = True
    if not test.any():
        test[order[0]] = True
    mask = test[group_of]
    if not graded and len(np.unique(strata[~mask])) < counts.shape[1]:
        raise DataError("the classes cannot be on both sides of a split by group: add groups or change test_size.")
    return mask


def permute_labels(
    y: ArrayLike, groups: ArrayLike, n: int, *, seed: int | np.random.Generator, parts: ArrayLike | None = None
) -> Index:
    """Draw ways to shuffle labels that respect groups.

    Where labels are constant within every group, whole groups exchange their label, and the number of groups of each
    class is kept. Otherwise the labels of a group stay together as a block: blocks are shuffled inside, and exchanged
    between groups of the same size only; a group whose size no other has is shuffled inside. So every shuffle is as
    likely under the null as what was observed, and a split of the clips that was chosen by looking at the labels of
    groups would have been chosen as likely. (Blocks that are dealt to groups of other sizes mix labels of neighbouring
    groups; in data with group effects such a null is too narrow.)

    Parameters
    ----------
    y, groups : array of shape (clips,)
        Labels and groups.
    n : int
        Shuffles.
    seed : int or numpy.random.Generator
        Source of randomness.
    parts : array of shape (clips,), optional
        Labels never cross from one part into another (the training and the test part, say).

    Returns
    -------
    int array of shape (n, clips)
        Row i of ``y[index]`` is the i-th shuffle.

    Raises
    ------
    DataError
        If so few shuffles exist that no p-value below 0.05 is possible.
    """
    y, groups = np.asarray(y), np.asarray(groups)
    parts = np.zeros(len(y), dtype=int) if parts is None else np.asarray(parts)
    rng = np.random.default_rng(seed)
    out = np.tile(np.arange(len(y)), (n, 1))
    blocks = [np.flatnonzero(parts == part) for part in np.unique(parts)]
    log_ways = sum(_log_ways(y[rows], groups[rows]) for rows in blocks)
    if log_ways < np.log(20):
        raise DataError(
            f"labels can be shuffled between groups in only {round(np.exp(log_ways))} ways, so no p-value below 0.05 "
            "is possible: add groups, or ask for no permutations (n_permutations=0)."
        )
    for rows in blocks:
        members = [rows[groups[rows] == group] for group in np.unique(groups[rows])]
        if all(len(np.unique(y[block])) == 1 for block in members):
            first = np.array([block[0] for block in members])
            sizes = [len(block) for block in members]
            for i in range(n):
                out[i, np.concatenate(members)] = np.repeat(first[rng.permutation(len(members))], sizes)
            continue
        for size in {len(block) for block in members}:
            alike = np.stack([block for block in members if len(block) == size])
            for i in range(n):
                out[i, alike] = rng.permuted(alike[rng.permutation(len(alike))], axis=1)
    return out


def _log_ways(y: NDArray[np.generic], groups: NDArray[np.generic]) -> float:
    """Logarithm of the number of different labellings that shuffling can reach (a lower bound if labels vary)."""
    from scipy.special import gammaln

    _, y = np.unique(y, return_inverse=True)
    tallies = np.stack([np.bincount(y[groups == name], minlength=y.max() + 1) for name in np.unique(groups)])
    constant = bool(((tallies > 0).sum(axis=1) == 1).all())
    if constant:
        tallies = (tallies > 0).astype(int)
    inside = (gammaln(tallies.sum(axis=1) + 1) - gammaln(tallies + 1).sum(axis=1)).sum()
    between = 0.0
    for size in np.unique(tallies.sum(axis=1)):
        alike = tallies[tallies.sum(axis=1) == size]
        _, counts = np.unique(alike, axis=0, return_counts=True)
        between += gammaln(len(alike) + 1) - gammaln(counts + 1).sum()
    return float(inside + between)
