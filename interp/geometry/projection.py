"""Clips of one site in two dimensions: UMAP beside PCA, each with how far its picture can be trusted."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd

from interp.errors import DataError

__all__ = ["project"]


def project(
    features: Any,
    *,
    seed: int = 0,
    n_neighbors: int = 15,
    min_dist: float = 0.1,
    standardize: bool = True,
) -> pd.DataFrame:
    """Lay clips out in two dimensions by UMAP and by PCA.

    The seed fixes UMAP's layout (it then runs on one thread). Trustworthiness (Venna and Kaski, 2001) says which
    share of the neighbours in the picture are neighbours in the activations too: 1 is perfect; a picture with little
    of it shows structure that is not there.

    Parameters
    ----------
    features : array of shape [clips, dim]
        Activations at one site, for example from :func:`interp.activations.features`.
    seed : int
        Of UMAP's layout and of PCA's solver.
    n_neighbors : int
        UMAP's neighbourhood, and that of trustworthiness; cut to what the number of clips allows.
    min_dist : float
        UMAP's smallest distance between points.
    standardize : bool
        Scale every dimension to unit variance first.

    Returns
    -------
    DataFrame
        Columns ``umap_1``, ``umap_2``, ``pca_1``, ``pca_2``, one row a clip; ``attrs`` holds ``umap_trust``,
        ``pca_trust``, ``explained`` (share of variance of the two components), ``seed`` and ``n_neighbors``.

    Raises
    ------
    DataError
        If there are fewer than 8 clips, or values that are not finite.
    """
    import umap
    from sklearn.decomposition import PCA
    from sklearn.manifold import trustworthiness
    from sklearn.preprocessing import StandardScaler

    x = np.asarray(features, dtype=np.float64)
    if x.ndim != 2 or len(x) < 8:
        raise DataError(f"cannot project an array of shape {list(x.shape)}: give [clips, dim] with at least 8 clips.")
    if not np.isfinite(x).all():
        raise DataError("cannot project activations that are not finite: look for NaN in the store.")
    if standardize:
        x = StandardScaler().fit_transform(x)
    neighbours = min(n_neighbors, (len(x) - 1) // 2)
    pca = PCA(n_components=2, random_state=seed)
    flat = pca.fit_transform(x)
    with warnings.catch_warnings():
        # A fixed seed makes UMAP run on one thread, and it says so every time.
        warnings.filterwarnings("ignore", message="n_jobs value")
        layout = umap.UMAP(
            n_components=2, n_neighbors=neighbours, min_dist=min_dist, random_state=seed, n_jobs=1
        ).fit_transform(x)
    table = pd.DataFrame(np.column_stack([layout, flat]), columns=["umap_1", "umap_2", "pca_1", "pca_2"])
    table.attrs = {
        "umap_trust": float(trustworthiness(x, layout, n_neighbors=neighbours)),
        "pca_trust": float(trustworthiness(x, flat, n_neighbors=neighbours)),
        "explained": tuple(float(part) for part in pca.explained_variance_ratio_),
        "seed": seed,
        "n_neighbors": neighbours,
    }
    return table
