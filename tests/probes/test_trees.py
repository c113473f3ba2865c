"""Hierarchical labels: each child is probed among the clips of its parent, and what is left out is counted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from planted_data import planted_dataset

from interp.errors import DataError
from interp.probes import probe, tree

OPTIONS: dict[str, Any] = {"sites": "L1.H1, L1.H2", "methods": ["ridge"], "folds": 3, "n_permutations": 40}


def labelled() -> tuple[xr.Dataset, np.ndarray, np.ndarray]:
    """Family is planted at L1.H1; trumpet against trombone only among brass, along another direction of L1.H2."""
    ds, _ = planted_dataset(n_groups=40, per_group=6, strength=3.0)
    rng = np.random.default_rng(1)
    n = ds.sizes["clip"]
    family = np.where(ds["drums"].values, "brass", "reed").astype(object)
    other = rng.permutation(np.arange(n) % 2)
    child = np.where(family == "brass", np.where(other, "trumpet", "trombone"), np.where(other, "oboe", "clarinet"))
    values = ds["heads"].values
    values[:, 0, 6] = rng.normal(size=values[:, 0, 6].shape)
    brass = family == "brass"
    values[brass, 0, 6, 0] += 3.0 * (other[brass] - 0.5)
    child = child.astype(object)
    child[:12] = None  # not labelled below the family
    family[-6:] = None
    return ds.assign_coords(family=("clip", family), instrument=("clip", child)), family, child


def test_children_are_probed_within_their_parent() -> None:
    ds, family, child = labelled()
    result = tree(ds, "family/instrument", **OPTIONS)
    assert list(result.results) == ["", "brass", "reed"]
    table = result.table.set_index(["node", "site"])
    assert table.loc[("", "L1.H1"), "p_max"] < 0.05
    assert table.loc[("brass", "L1.H2"), "test_score"] > 0.8
    assert table.loc[("brass", "L1.H2"), "p_max"] < 0.05
    assert table.loc[("reed", "L1.H2"), "p_max"] > 0.05
    for node in ("brass", "reed"):
        inside = result.results[node]
        used = set(inside.clips)
        assert used == set(ds["clip"].values[(family == node) & (child != None)])  # noqa: E711
        counted = table.loc[node].iloc[0]
        assert counted["n_missing"] == ((family == node) & (child == None)).sum() > 0  # noqa: E711
        assert counted["n_elsewhere"] == sum(f not in (node, None) for f in family)
        assert counted["n_missing"] + counted["n_elsewhere"] + len(used) + 6 == ds.sizes["clip"]
    assert table.loc[""].iloc[0]["n_missing"] == 6
    assert result.results["brass"].labels.classes == ("trombone", "trumpet")
    direction = result.directions.select(site="L1.H2", trait="instrument within brass")
    assert len(direction) == 1
    assert direction[0].positive == "trumpet"
    assert len(result.summary()) == 3
    assert result.skipped.empty


def test_labels_that_are_paths_give_the_same() -> None:
    ds, family, child = labelled()
    paths = [None if f is None else f if c is None else f"{f}/{c}" for f, c in zip(family, child, strict=True)]
    one = tree(ds, "family/instrument", **OPTIONS).table
    two = tree(ds.assign_coords(sound=("clip", np.array(paths, object))), "sound", **OPTIONS).table
    for column in ("node", "test_score", "n_missing", "n_elsewhere", "p_max"):
        np.testing.assert_array_equal(one[column], two[column])


def test_what_cannot_be_probed_is_listed_with_its_reason() -> None:
    ds, _, child = labelled()
    single = child.copy()
    single[single == "clarinet"] = "oboe"
    result = tree(ds.assign_coords(instrument=("clip", single)), "family/instrument", **OPTIONS)
    assert list(result.results) == ["", "brass"]
    assert result.skipped["node"].tolist() == ["reed"]
    assert "one class ('oboe')" in result.skipped["reason"][0]
    with pytest.raises(DataError, match="hold no hierarchy"):
        tree(ds, "genre")
    with pytest.raises(DataError, match="no label column 'kin'"):
        tree(ds, "kin/instrument")
    with pytest.raises(DataError, match=r"interp\.probes\.tree"):
        probe(ds, "family/instrument")
    alone = ds.assign_coords(instrument=("clip", np.full(ds.sizes["clip"], None, object)))
    with pytest.raises(DataError, match="nothing below the parents"):
        tree(alone, "family/instrument", **OPTIONS)
