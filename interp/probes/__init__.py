"""Linear probes over many sites at once: honest scores, nulls, rankings, and the directions that they find."""

from __future__ import annotations

from interp.probes.compared import compare_baselines, extract_untrained
from interp.probes.curves import confusion_table, learning_curve
from interp.probes.estimator import GradedProbe, Probe
from interp.probes.probing import probe
from interp.probes.result import ProbeResult
from interp.probes.selective import selectivity
from interp.probes.settings import Settings
from interp.probes.time import over_time
from interp.probes.trees import tree

__all__ = [
    "GradedProbe",
    "Probe",
    "ProbeResult",
    "Settings",
    "compare_baselines",
    "confusion_table",
    "extract_untrained",
    "learning_curve",
    "over_time",
    "probe",
    "selectivity",
    "tree",
]


def __dir__() -> list[str]:
    return __all__
