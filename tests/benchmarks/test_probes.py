"""The bars that the probes' speed and error rates are held to."""

from __future__ import annotations

import pytest
from benchmarks.bench_probes import cross_validated_ratio, permutation_ratio
from planted_data import DESIGNS, family_wise_hit, interval_covers


def test_cross_validated_logistic_probes_of_musicgen_small() -> None:
    result = cross_validated_ratio(384, 2000, 64)
    print(result)
    assert result["error"] < 1e-3
    assert result["ratio"] >= 10


def test_cross_validated_logistic_probes_of_musicgen_large() -> None:
    result = cross_validated_ratio(1536, 2000, 64)
    print(result)
    assert result["ratio"] >= 10


@pytest.mark.parametrize(("method", "bar"), [("logistic", 50), ("ridge", 60)])
def test_a_thousand_permutations(method: str, bar: float) -> None:
    result = permutation_ratio(method, 384, 2000, 64, 1000)
    print(method, result)
    assert result["ratio"] >= bar


@pytest.mark.parametrize("design", DESIGNS)
def test_family_wise_error_on_labels_that_say_nothing(design: str) -> None:
    runs = 400
    share = sum(family_wise_hit(1000 + seed, design) for seed in range(runs)) / runs
    print(f"{design}: family-wise error {share:.3f} over {runs} runs")
    assert 0.03 <= share <= 0.07


@pytest.mark.parametrize(
    ("n_groups", "group_spread", "constant"), [(40, 0.0, False), (40, 0.7, False), (60, 0.7, True)]
)
def test_intervals_cover_a_known_accuracy(n_groups: int, group_spread: float, constant: bool) -> None:
    runs = 1000
    hits = [interval_covers(s, n_groups=n_groups, group_spread=group_spread, constant=constant) for s in range(runs)]
    print(f"{n_groups} groups, spread {group_spread}, constant labels {constant}: {sum(hits) / runs:.3f} covered")
    assert 0.93 <= sum(hits) / runs <= 0.97
