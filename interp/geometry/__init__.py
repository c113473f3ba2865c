"""How directions lie to each other: cosines that come with their nulls and their ceilings.

Nothing is drawn here, and nothing is a direction of its own: what is compared comes from :mod:`interp.directions`, and
halves, subsamples and shuffled labels are fitted by the same estimator as the directions that they stand beside.

Tables: :func:`cosine_table` (directions alone), :func:`compare_methods` and :func:`compare_traits` (with split-half
ceiling, disattenuated cosine with interval, three nulls), :func:`cosine_by_size`, :func:`path_table`,
:func:`across_sites`, :func:`orthogonal_probes`. Spaces: :func:`cosine`, :func:`cosine_matrix`,
:func:`in_space`; :func:`principal_angles` between :func:`class_subspace` of two labels.

Vectors of different sites are never compared as they are: they raise, unless a metric brings them into a space that
they share.
"""

from __future__ import annotations

from interp.geometry.compare import compare_methods, compare_traits, cosine_table
from interp.geometry.layers import across_sites
from interp.geometry.layout import map_directions, plane
from interp.geometry.nulls import covariance_of
from interp.geometry.paths import path_table
from interp.geometry.projection import project
from interp.geometry.sizes import cosine_by_size
from interp.geometry.spaces import cosine, cosine_matrix
from interp.geometry.subspaces import class_subspace, orthogonal_probes, principal_angles

__all__ = [
    "across_sites",
    "class_subspace",
    "compare_methods",
    "compare_traits",
    "cosine",
    "cosine_by_size",
    "cosine_matrix",
    "cosine_table",
    "covariance_of",
    "map_directions",
    "orthogonal_probes",
    "path_table",
    "plane",
    "principal_angles",
    "project",
]


def __dir__() -> list[str]:
    return __all__
