"""Intervals, permutation nulls, multiple comparisons and dose-response: the statistics every result comes with.

Everything here is arrays in, small results out; nothing knows about models or audio.
"""

from __future__ import annotations

from interp.stats.intervals import (
    Interval,
    bootstrap_interval,
    group_weights,
    jackknife_interval,
    mean_interval,
    wilson,
)
from interp.stats.nulls import MaxStatistic, benjamini_hochberg, cosine_null, holm, max_statistic, permutation_p
from interp.stats.paired import DoseResponse, PairedDifference, dose_response, paired_bootstrap

__all__ = [
    "DoseResponse",
    "Interval",
    "MaxStatistic",
    "PairedDifference",
    "benjamini_hochberg",
    "bootstrap_interval",
    "cosine_null",
    "dose_response",
    "group_weights",
    "holm",
    "jackknife_interval",
    "max_statistic",
    "mean_interval",
    "paired_bootstrap",
    "permutation_p",
    "wilson",
]


def __dir__() -> list[str]:
    return __all__
