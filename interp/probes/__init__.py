"""Linear probes over many sites at once: solvers, honest evaluation, rankings and directions."""

from __future__ import annotations

from interp.probes.directions import Direction, Directions
from interp.probes.fit import Fits, fit_many
from interp.probes.splits import group_folds, group_test_split, permute_labels
from interp.probes.study import ProbeStudy, probe, probe_arrays
from interp.probes.traits import Trait, read_trait

__all__ = [
    "Direction",
    "Directions",
    "Fits",
    "ProbeStudy",
    "Trait",
    "fit_many",
    "group_folds",
    "group_test_split",
    "permute_labels",
    "probe",
    "probe_arrays",
    "read_trait",
]
