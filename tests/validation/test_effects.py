"""Effect sizes, sign flips, what else changed, and how far judges agree."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from interp.validation.effects import agreement, cohens_h, matched_odds, sign_flip_max


def test_effect_sizes() -> None:
    assert cohens_h(1, 0) == pytest.approx(np.pi) and cohens_h(0.5, 0.5) == 0
    assert matched_odds([1, 1, 1, 0], [0, 0, 1, 1]) == pytest.approx(2.5 / 1.5)


def test_sign_flips_are_shared_by_the_family_and_exact_for_few_seeds() -> None:
    x = np.array([[1.0, 0.5, -1.0], [1.0, -0.5, -1.0], [1.0, 0.5, -1.0]])
    found = sign_flip_max(x)
    signs = np.array(np.meshgrid(*[[1, -1]] * 3)).reshape(3, -1).T
    null = np.abs(signs @ x / 3)
    assert found.p == pytest.approx((null >= np.abs(x.mean(0)) - 1e-9).mean(0))
    assert found.p_max == pytest.approx((null.max(1)[:, None] >= np.abs(x.mean(0)) - 1e-9).mean(0))
    rng = np.random.default_rng(0)
    below = [(sign_flip_max(rng.choice([-1, 0, 1], (20, 10)), n_flips=199, seed=i).p_max < 0.05).any()
             for i in range(200)]  # fmt: skip
    assert np.mean(below) < 0.10  # the family-wise error


def test_kappa_is_what_it_is_in_the_books() -> None:
    from sklearn.metrics import cohen_kappa_score

    rng = np.random.default_rng(0)
    x = rng.random(200) < 0.4
    y = np.where(rng.random(200) < 0.8, x, rng.random(200) < 0.5)
    frames = [pd.DataFrame({"judge": name, "arm": "a", "dose": 1.0, "seed": range(200), "hit": hit}) for name, hit in
              (("x", x), ("y", y), ("z", x))]  # fmt: skip
    table = agreement(pd.concat(frames)).set_index(["a", "b"])
    row = table.loc["x", "y"]
    assert row["kappa"] == pytest.approx(cohen_kappa_score(x, y)) and row["agree"] == pytest.approx((x == y).mean())
    assert row["lo"] < row["kappa"] < row["hi"] and table.loc[("x", "z"), "kappa"] == pytest.approx(1)
    never = pd.concat(frames[:2]).assign(hit=False)
    assert np.isnan(agreement(never)["kappa"].item())
