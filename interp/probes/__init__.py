"""Linear probes over many sites at once: honest scores, nulls, rankings, and the directions that they find."""

from __future__ import annotations

from interp.probes.compared import BaselineResult, compare_baselines, extract_untrained
from interp.probes.curves import confusion_table, learning_curve
from interp.probes.data import ProbeData
from interp.probes.estimator import GradedProbe, Probe
from interp.probes.probing import probe, probe_data
from interp.probes.ranks import rank_intervals, top_set
from interp.probes.result import ProbeResult
from interp.probes.selective import selectivity
from interp.probes.settings import Settings
from interp.probes.time import TimeResult, over_time
from interp.probes.trees import TreeResult, tree

__all__ = [
    "BaselineResult",
    "GradedProbe",
    "Probe",
    "ProbeData",
    "ProbeResult",
    "Settings",
    "TimeResult",
    "TreeResult",
    "compare_baselines",
    "confusion_table",
    "extract_untrained",
    "learning_curve",
    "over_time",
    "probe",
    "probe_data",
    "rank_intervals",
    "selectivity",
    "top_set",
    "tree",
]


def __dir__() -> list[str]:
    return __all__
