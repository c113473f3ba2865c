"""How directions lie to each other: cosines that come with their nulls and their ceilings.

Fit: :func:`fit_directions` (every method at every site), :func:`refit` (many weightings at once),
:func:`fit_path`. Compare: :func:`cosine_table` (directions alone), :func:`compare_methods` and
:func:`compare_traits` (from activations: split-half ceiling, disattenuated cosine with interval, three
nulls), :func:`across_sites`, :func:`across_checkpoints`, :func:`cosine_by_size`, :func:`path_table`,
:func:`principal_angles`. Spaces: :func:`in_space`, :func:`cosine`.

Vectors of different sites are never compared as they are: they raise, unless a metric brings them into a
space that they share.
"""

from __future__ import annotations

from interp.directions.dataset import fit_directions, targets_of
from interp.directions.refit import BINARY_ONLY, METHODS, ROLES, refit, role
from interp.directions.targets import Target, make_targets
from interp.geometry.agreement import agreement, cosine_by_size, fit_halves, split_half
from interp.geometry.compare import compare_methods, compare_traits, cosine_table
from interp.geometry.erase import erase
from interp.geometry.layers import across_checkpoints, across_sites, mapped_null, top_codes
from interp.geometry.layout import clustered, map_directions, plane
from interp.geometry.nulls import covariance_null, covariance_of, permuted_null, sphere_p, unit
from interp.geometry.paths import PENALTIES, fit_path, path_cosines, path_table
from interp.geometry.resampling import halve, subsamples
from interp.geometry.spaces import (
    METRICS,
    cosine,
    cosine_matrix,
    in_space,
    output_map,
    through_output,
    through_unembedding,
    unembedding,
)
from interp.geometry.subspaces import angle_null, class_subspace, orthogonal_probes, principal_angles

__all__ = [
    "BINARY_ONLY",
    "METHODS",
    "METRICS",
    "PENALTIES",
    "ROLES",
    "Target",
    "across_checkpoints",
    "across_sites",
    "agreement",
    "angle_null",
    "class_subspace",
    "clustered",
    "compare_methods",
    "compare_traits",
    "cosine",
    "cosine_by_size",
    "cosine_matrix",
    "cosine_table",
    "covariance_null",
    "covariance_of",
    "erase",
    "fit_directions",
    "fit_halves",
    "fit_path",
    "halve",
    "in_space",
    "make_targets",
    "map_directions",
    "mapped_null",
    "orthogonal_probes",
    "output_map",
    "path_cosines",
    "path_table",
    "permuted_null",
    "plane",
    "principal_angles",
    "refit",
    "role",
    "sphere_p",
    "split_half",
    "subsamples",
    "targets_of",
    "through_output",
    "through_unembedding",
    "top_codes",
    "unembedding",
    "unit",
]
