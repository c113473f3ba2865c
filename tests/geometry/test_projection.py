"""Embeddings: seeded, honest about trust, and clear about bad input."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from interp.errors import DataError
from interp.geometry.projection import project


@pytest.fixture(scope="module")
def clusters() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1, 2], 20)
    return 8 * rng.normal(size=(3, 10))[label] + rng.normal(size=(60, 10)), label


def test_the_same_seed_gives_the_same_picture(clusters: tuple[np.ndarray, np.ndarray]) -> None:
    x, _ = clusters
    pd.testing.assert_frame_equal(project(x, seed=3), project(x, seed=3))


def test_clusters_stay_apart_and_trust_is_told(clusters: tuple[np.ndarray, np.ndarray]) -> None:
    x, label = clusters
    table = project(x)
    assert list(table.columns) == ["umap_1", "umap_2", "pca_1", "pca_2"]
    for method in ("umap", "pca"):
        points = table[[f"{method}_1", f"{method}_2"]].to_numpy()
        centres = np.stack([points[label == k].mean(axis=0) for k in range(3)])
        nearest = np.linalg.norm(points[:, None] - centres[None], axis=-1).argmin(axis=1)
        assert (nearest == label).mean() > 0.95
        assert 0.8 < table.attrs[f"{method}_trust"] <= 1
    assert 0 < sum(table.attrs["explained"]) <= 1


def test_noise_is_trusted_less_than_structure(clusters: tuple[np.ndarray, np.ndarray]) -> None:
    noise = np.random.default_rng(1).normal(size=(60, 10))
    assert project(noise).attrs["pca_trust"] < project(clusters[0]).attrs["pca_trust"]


def test_a_constant_feature_is_no_obstacle(clusters: tuple[np.ndarray, np.ndarray]) -> None:
    x = clusters[0].copy()
    x[:, 0] = 5
    assert np.isfinite(project(x).to_numpy()).all()


@pytest.mark.parametrize("x", [np.zeros((7, 3)), np.zeros(20)])
def test_too_few_clips(x: np.ndarray) -> None:
    with pytest.raises(DataError, match="at least 8 clips"):
        project(x)


def test_values_that_are_not_finite(clusters: tuple[np.ndarray, np.ndarray]) -> None:
    x = clusters[0].copy()
    x[3, 2] = np.nan
    with pytest.raises(DataError, match="not finite"):
        project(x)
