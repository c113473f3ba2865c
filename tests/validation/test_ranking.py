"""The causal ranking of heads against that of their probes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from interp.errors import DataError
from interp.validation import (
    rank_agreement,
)


def test_ranks_that_agree_and_ranks_that_do_not() -> None:
    rng = np.random.default_rng(0)
    labels = pd.DataFrame({"drums": [0, 1] * 30, "group": np.repeat(np.arange(30), 2)})
    score = np.linspace(0.5, 1, 12)
    noise = 0.02 * rng.normal(size=(12, 60))
    sites = [f"L{i // 4}.H{i % 4}" for i in range(12)]
    changes = pd.DataFrame(noise + score[:, None] * labels["drums"].to_numpy(), columns=[str(i) for i in range(60)])
    changes.insert(0, "site", sites)
    probes = pd.DataFrame({"site": sites[::-1], "cv_score": score[::-1]})
    heads, agreement = rank_agreement(changes, labels, "drums", probes, n_bootstrap=300)
    assert heads["effect"].to_numpy() == pytest.approx(score, abs=0.03)
    spearman, kendall = (agreement.set_index("statistic").loc[name] for name in ("Spearman", "Kendall"))
    assert spearman["value"] > 0.95 and spearman["lo"] > 0.8 and kendall["value"] > 0.8 and spearman["p"] <= 0.002
    _, none = rank_agreement(changes, labels, "drums", probes.assign(cv_score=rng.permutation(score)), n_bootstrap=50)
    assert (none["p"] > 0.01).all()
    with pytest.raises(DataError, match="needs two of both"):
        rank_agreement(changes, labels.assign(drums=0), "drums", probes)
