"""Linear probes over many sites at once: solvers, honest evaluation, rankings and directions."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from interp.probes.study import ProbeStudy, probe, probe_arrays

if TYPE_CHECKING:
    from interp.probes.added import BaselineStudy, compare_baselines, extract_untrained
    from interp.probes.controls import selectivity
    from interp.probes.curves import confusion_table, learning_curve
    from interp.probes.estimators import (
        LDAProbe,
        LogisticProbe,
        MeanDifferenceProbe,
        RidgeProbe,
        RidgeRegressionProbe,
        SoftmaxRegressionProbe,
    )
    from interp.probes.hierarchy import HierarchyStudy, probe_hierarchy
    from interp.probes.joint import JointStudy, joint_probe
    from interp.probes.nested import nested_scores
    from interp.probes.rank import compare_rankings, layer_summary, rank_intervals, stability, top_k
    from interp.probes.time import TimeStudy, probe_over_time

_LATER = {
    "added": ["BaselineStudy", "compare_baselines", "extract_untrained"],
    "controls": ["selectivity"],
    "curves": ["confusion_table", "learning_curve"],
    "estimators": [
        "LDAProbe",
        "LogisticProbe",
        "MeanDifferenceProbe",
        "RidgeProbe",
        "RidgeRegressionProbe",
        "SoftmaxRegressionProbe",
    ],
    "hierarchy": ["HierarchyStudy", "probe_hierarchy"],
    "joint": ["JointStudy", "joint_probe"],
    "nested": ["nested_scores"],
    "rank": ["compare_rankings", "layer_summary", "rank_intervals", "stability", "top_k"],
    "time": ["TimeStudy", "probe_over_time"],
}
_HOME = {name: module for module, names in _LATER.items() for name in names}

__all__ = [
    "BaselineStudy",
    "HierarchyStudy",
    "JointStudy",
    "LDAProbe",
    "LogisticProbe",
    "MeanDifferenceProbe",
    "ProbeStudy",
    "RidgeProbe",
    "RidgeRegressionProbe",
    "SoftmaxRegressionProbe",
    "TimeStudy",
    "compare_baselines",
    "compare_rankings",
    "confusion_table",
    "extract_untrained",
    "joint_probe",
    "layer_summary",
    "learning_curve",
    "nested_scores",
    "probe",
    "probe_arrays",
    "probe_hierarchy",
    "probe_over_time",
    "rank_intervals",
    "selectivity",
    "stability",
    "top_k",
]


def __getattr__(name: str) -> Any:
    """Import what needs scikit-learn or is used less often when it is asked for."""
    if name in _HOME:
        return getattr(importlib.import_module(f"interp.probes.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
