"""Control tasks tell a trait from an identity."""

from __future__ import annotations

import numpy as np
import pytest
from planted_data import planted_dataset

from interp.errors import DataError
from interp.probes import selectivity
from interp.probes.selective import control_labels


def test_selectivity_tells_a_trait_from_an_identity() -> None:
    ds, _ = planted_dataset(1, n_groups=24, per_group=10, group_spread=1.5, constant=True, strength=2.0)
    table = selectivity(ds, "drums", method="ridge", n_controls=4).set_index("site")
    # groups are told apart everywhere, so any label that is fixed per song can be learnt; only one head knows the trait
    assert table["control"].mean() > 0.55
    assert table["selectivity"].idxmax() == "L1.H1"
    others = table.drop(index="L1.H1")
    assert others["selectivity"].abs().mean() < 0.1
    with pytest.raises(DataError, match="one clip"):
        selectivity(ds.assign_coords(group=("clip", np.arange(240))), "drums")


def test_control_labels_are_fixed_per_group() -> None:
    groups = np.repeat(np.arange(30), 3)
    y = np.arange(90) % 3
    drawn = control_labels(y, groups, np.random.default_rng(0))
    assert all(len(np.unique(drawn[groups == g])) == 1 for g in range(30))
    assert set(drawn) == {0, 1, 2}
