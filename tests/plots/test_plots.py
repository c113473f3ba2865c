"""Plots show the numbers they are given, fit their column, and leave the numbers beside the picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import plot_samples as samples
import pytest
from matplotlib.axes import Axes
from matplotlib.text import Text

from interp import plots, tables
from interp.errors import ClipError, DataError
from interp.plots.style import data_of

mpl.use("Agg")


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    yield
    plt.close("all")


def _figure(drawn: Any) -> Any:
    return (drawn if isinstance(drawn, Axes) else drawn[0]).figure


@pytest.mark.parametrize("name", samples.ALL)
def test_every_word_is_inside_the_figure_and_readable(name: str) -> None:
    figure = _figure(samples.ALL[name]())
    figure.canvas.draw()
    width, _ = figure.get_size_inches()
    assert width <= plots.style.DOUBLE
    assert width == pytest.approx(plots.style.SINGLE) or name in (
        "attention_page",
        "logit_attribution",
        "confusion",
        "embedding",
        "embedding_graded",
        "spectrograms",
    )
    box = figure.bbox
    words = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    assert len(words) > 4
    for text in words:
        if text.get_window_extent().width == 0:
            continue
        where = text.get_window_extent()
        inside = where.x0 >= box.x0 - 2 and where.x1 <= box.x1 + 2 and where.y0 >= box.y0 - 2 and where.y1 <= box.y1 + 2
        axis_end = text.axes is None and not inside
        assert inside or axis_end or not _shown(text), f"{text.get_text()!r} is cut off in {name}"
        assert text.get_fontsize() >= 5.5


def _shown(text: Text) -> bool:
    """Tick labels outside the limits of their axis are kept by matplotlib but never drawn."""
    axes = text.axes
    if axes is None:
        return True
    for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
            if text in (tick.label1, tick.label2):
                return bool(min(limits) <= tick.get_loc() <= max(limits)) and bool(text.get_text())
    return True


@pytest.mark.parametrize("name", [name for name in samples.ALL if name != "spectrograms"])
def test_the_numbers_lie_beside_the_picture(name: str, tmp_path: Path) -> None:
    drawn = samples.ALL[name]()
    several = [drawn] if isinstance(drawn, Axes) else list(drawn)
    shown = data_of(several[0])
    files = plots.save(several, tmp_path / "sub" / name, made_by={"seed": 0})
    assert sorted(files) == ["csv", "md", "png", "tex"]
    assert files["png"].read_bytes().startswith(b"\x89PNG")
    back = tables.read(files["csv"])
    assert list(back.columns) == list(shown.columns) and len(back) == len(shown)
    number = shown.select_dtypes("number").columns[-1]
    np.testing.assert_allclose(back[number].to_numpy(float), shown[number].to_numpy(float, na_value=np.nan))


def test_vector_formats(tmp_path: Path) -> None:
    files = plots.save(plots.heatmap(samples.heads()), tmp_path / "heat", formats=("pdf", "svg"), made_by="make demo")
    assert files["pdf"].read_bytes().startswith(b"%PDF")
    assert "<svg" in files["svg"].read_text()


def test_heatmap_shows_each_head_in_its_cell_whatever_the_order_of_rows() -> None:
    table = samples.heads(3, 5).sample(frac=1, random_state=1)
    image = plots.heatmap(table).images[0].get_array()
    for row in table.itertuples():
        assert image[row.layer, row.head] == pytest.approx(row.test_score)


def test_heatmap_hatches_what_is_not_above_the_null() -> None:
    table = samples.heads()
    ax = plots.heatmap(table)
    hatched = {(round(p.get_y() + 0.5), round(p.get_x() + 0.5)) for p in ax.patches if p.get_hatch()}
    expected = {(r.layer, r.head) for r in table.itertuples() if r.p_max >= 0.05}
    assert hatched == expected and expected


def test_heatmap_refuses_to_average_in_silence() -> None:
    twice = pd.concat([samples.heads(), samples.heads()])
    with pytest.raises(DataError, match="reduce="):
        plots.heatmap(twice)
    ax = plots.heatmap(twice.assign(test_score=np.repeat([0.2, 0.4], 48)), reduce="mean")
    np.testing.assert_allclose(ax.images[0].get_array(), 0.3)


def test_heatmap_of_other_kinds_is_not_mixed_in() -> None:
    table = samples.with_baseline(samples.heads())
    assert len(data_of(plots.heatmap(table))) == 48
    with pytest.raises(DataError, match="no rows"):
        plots.heatmap(table, kind="cross_heads")


def test_mixed_traits_or_methods_must_be_chosen() -> None:
    table = pd.concat([samples.heads(), samples.heads(trait="piano")])
    with pytest.raises(DataError, match="mixes 2 values of trait"):
        plots.ranking(table)
    assert set(data_of(plots.ranking(table, trait="piano"))["trait"]) == {"piano"}
    with pytest.raises(DataError, match="no row has trait 'bass'"):
        plots.ranking(table, trait="bass")


def test_ranking_goes_by_the_cross_validated_score_and_shows_the_held_out_one() -> None:
    table = samples.heads().assign(test_score=lambda t: 1 - t["cv_score"])
    ax = plots.ranking(table, top=5)
    expected = table.nlargest(5, "cv_score")
    assert [label.get_text() for label in ax.get_yticklabels()] == list(expected["site"])
    (points,) = (line for line in ax.lines if line.get_marker() == "o")
    np.testing.assert_allclose(np.asarray(points.get_xdata(), float), expected["test_score"])
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the best on top


def test_ranking_marks_chance_null_and_baseline() -> None:
    ax = plots.ranking(samples.with_baseline(samples.heads()))
    labels = {text.get_text() for text in ax.figure.legends[0].get_texts()}
    assert {"chance", "best of 48 on shuffled labels, 95 %", "probe on mel"} <= labels
    band = next(p for p in ax.patches if p.get_label().startswith("best of"))
    assert band.get_x() == pytest.approx(0.5) and band.get_x() + band.get_width() == pytest.approx(0.61)


def test_intervals_that_exclude_the_score_are_drawn() -> None:
    table = samples.heads().assign(lo=0.99, hi=1.0)
    plots.ranking(table).figure.canvas.draw()


def test_dose_response_draws_every_arm_and_the_unsteered_line() -> None:
    table = samples.doses()
    ax = plots.dose_response(table)
    labels = [text.get_text() for text in ax.figure.legends[0].get_texts()]
    assert sorted(labels) == sorted(["unsteered", "probe", "random", "shuffled labels", "worst heads"])
    probe = table[table["arm"] == "probe"].sort_values("dose")["rate"].to_numpy()
    assert any(len(line.get_ydata()) == 5 and np.allclose(line.get_ydata(), probe) for line in ax.lines)
    thin = [line for line in ax.lines if line.get_linewidth() == 0.5]
    assert len(thin) == 3  # the draws of the random control
    plain = plots.dose_response(table[table["draw"].isna()].drop(columns="draw"))
    assert not [line for line in plain.lines if line.get_linewidth() == 0.5]


def test_confusion_rows_sum_to_one_and_counts_are_kept() -> None:
    table = samples.confusions()
    ax = plots.confusion(table)
    np.testing.assert_allclose(ax.images[0].get_array().sum(axis=1), 1)
    shown = data_of(ax)
    assert shown["count"].sum() == len(table)
    again = data_of(plots.confusion(shown, count="count"))
    pd.testing.assert_frame_equal(again, shown)


def test_cosines_groups_by_pair() -> None:
    ax = plots.cosines(samples.cosines())
    points = [line for line in ax.lines if line.get_marker() == "o"]
    assert [len(line.get_ydata()) for line in points] == [48, 48, 48]
    assert np.median(points[0].get_ydata()) > 0.7 > 0.2 > abs(np.median(points[2].get_ydata()))


def test_spectrograms_share_one_scale() -> None:
    left, right = samples.ALL["spectrograms"]()
    assert left.images[0].get_clim() == right.images[0].get_clim()
    assert right.images[0].get_array().max() == pytest.approx(0, abs=1e-6)
    with pytest.raises(ClipError, match="cannot show a sound"):
        plots.spectrograms(np.zeros(0), np.zeros(16000), 16000)


@pytest.mark.parametrize(
    ("call", "column"),
    [
        (lambda t: plots.heatmap(t.drop(columns="head")), "head"),
        (lambda t: plots.ranking(t.drop(columns="site")), "site"),
        (lambda t: plots.ranking(t, "auroc"), "auroc"),
        (lambda t: plots.learning_curve(t), "n_train"),
        (lambda t: plots.cosines(t), "cosine"),
        (lambda t: plots.dose_response(t), "dose"),
        (lambda t: plots.embedding(t, "genre"), "umap_1"),
        (lambda t: plots.confusion(t), "predicted"),
        (lambda t: plots.baselines(t), "name"),
    ],
)
def test_a_missing_column_is_named(call: Any, column: str) -> None:
    with pytest.raises(DataError, match=f"no column.*{column}"):
        call(samples.heads())


def test_an_empty_table_is_refused() -> None:
    with pytest.raises(DataError, match="no rows"):
        plots.ranking(samples.heads().iloc[:0])


def test_the_callers_axes_and_settings_are_used_and_left_alone() -> None:
    before = dict(mpl.rcParams)
    _, ax = plt.subplots()
    assert plots.heatmap(samples.heads(), ax=ax) is ax
    assert dict(mpl.rcParams) == before
    with pytest.raises(DataError, match="not drawn by interp"):
        data_of(plt.subplots()[1])


def test_the_palette_can_be_told_apart_by_the_colour_blind() -> None:
    """Machado, Oliveira and Fernandes (2009), full deuteranopia and protanopia; distance in CIE Lab."""
    blind = {
        "deuteranopia": [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ],
        "protanopia": [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ],
    }
    rgb = np.array([mpl.colors.to_rgb(c) for c in plots.style.PALETTE])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    for matrix in blind.values():
        lab = _lab(np.clip(linear @ np.array(matrix).T, 0, 1))
        distance = np.linalg.norm(lab[:, None] - lab[None], axis=-1) + 1000 * np.eye(len(lab))
        assert distance.min() > 10  # about four times what is just noticeable


def _lab(linear: np.ndarray) -> np.ndarray:
    xyz = linear @ np.array([[0.4124, 0.2126, 0.0193], [0.3576, 0.7152, 0.1192], [0.1805, 0.0722, 0.9505]])
    f = np.cbrt(xyz / np.array([0.9505, 1.0, 1.089]))
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)
