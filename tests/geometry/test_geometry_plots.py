"""Pictures of geometry show what their tables say."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from interp import plots
from interp.directions import fit_directions
from interp.directions.targets import make_targets
from interp.errors import DataError
from interp.geometry import cosine_matrix, cosine_table
from interp.geometry import plane as plane_table
from interp.geometry.paths import paths_of
from interp.plots.style import data_of

Dataset = Callable[..., xr.Dataset]


@pytest.fixture(autouse=True)
def close() -> Iterator[None]:
    yield
    plt.close("all")


def test_matrix_shows_the_cosines(dataset: Dataset) -> None:
    found = fit_directions(dataset(), ["drums", "genre"], sites="L0.resid", methods=("ridge", "mean_diff"))
    cosines = cosine_matrix(found, clustered=True)
    ax = plots.matrix(cosines, null=0.3)
    np.testing.assert_array_equal(ax.images[0].get_array(), cosines.to_numpy())
    assert [t.get_text() for t in ax.get_yticklabels()] == list(cosines.index)
    assert len(ax.lines[0].get_xdata()) == int((cosines.abs() < 0.3).sum().sum())
    with pytest.raises(DataError, match="square"):
        plots.matrix(cosines.iloc[:2])


def test_path_draws_medians(dataset: Dataset) -> None:
    ds = dataset()
    x = np.moveaxis(ds["heads"].values[:, 0], 1, 0)
    target = make_targets(ds[["drums"]].to_dataframe()[["drums"]], "drums")[0]
    table = paths_of(x, target, list("abcd"), penalties=[0.1, 10.0, 1e3], methods=("ridge",))
    ax = plots.path(table)
    expected = table.groupby("penalty")["angle_mean_diff"].median()
    np.testing.assert_allclose(ax.lines[0].get_ydata(), expected)
    assert ax.get_xscale() == "log" and "Angle" in ax.get_ylabel()
    assert len(data_of(ax)) == len(table)


def test_atlas_places_heads_and_residual_stream(dataset: Dataset) -> None:
    found = fit_directions(dataset(), "drums", sites="heads, resid", methods=("ridge", "mean_diff"))
    table = cosine_table(found)
    cells = plots.heatmap(table, "cosine", centre=0.0).images[0].get_array()
    assert cells.shape == (2, 4)
    row = table.set_index("site")["cosine"]
    assert cells[1, 0] == row["L1.H0"] and cells[0, 3] == row["L0.resid"]
    with pytest.raises(DataError, match="reduce="):
        plots.heatmap(pd.concat([table, table]), "cosine")


def test_plane_shows_class_means(dataset: Dataset) -> None:
    ds = dataset()
    found = fit_directions(ds, ["drums", "genre=jazz"], sites="L0.resid", methods=("mean_diff",))
    table = plane_table(ds["resid"].values[:, 0, 0], ds["drums"].values, found[0], found[1])
    ax = plots.plane(table)
    markers = [line for line in ax.lines if line.get_label() in ("0", "1")]
    for line in markers:
        expected = table[table["label"].astype(str) == line.get_label()][["along", "across"]].mean()
        np.testing.assert_allclose([line.get_xdata()[0], line.get_ydata()[0]], expected)
    assert len(markers) == 2 and len(ax.texts) == 4


def test_map_size_and_detection_draw() -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.random((12, 4)), columns=["umap_1", "umap_2", "pca_1", "pca_2"])
    table["label"], table["method"] = ["drums", "jazz", "piano"] * 4, ["ridge"] * 6 + ["mean_diff"] * 6
    table.attrs.update(umap_trust=0.91, pca_trust=0.8)
    panels = plots.directions_map(table)
    assert "0.91" in panels[0].get_title() and "0.80" in panels[1].get_title()
    sizes = pd.DataFrame(
        {"method": "ridge", "size": [10, 10, 40, 40], "cosine_full": 0.5, "cosine_disjoint": [0.1, 0.3, 0.6, 0.8]}
    )
    np.testing.assert_allclose(plots.by_size(sizes).lines[0].get_ydata(), [0.2, 0.7])
    scores = pd.DataFrame(
        {"method": ["ridge", "mean_diff"], "trait": "drums", "test_score": [0.9, 0.8], "effect": [0.1, 0.4]}
    )
    ax = plots.effect_against_detection(scores)
    assert ax.lines[1].get_ydata()[0] == 0.4
    with pytest.raises(DataError, match="no column 'effect'"):
        plots.effect_against_detection(scores.drop(columns="effect"))
