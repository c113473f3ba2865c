"""Pictures of paths: each number in its cell, and what cannot be drawn is refused."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import plot_samples as samples
import pytest

from interp import plots
from interp.errors import DataError
from interp.plots.style import data_of


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    yield
    plt.close("all")


def test_every_site_is_in_its_cell() -> None:
    for kind in ("heads", "cross_heads"):
        table = samples.patched(kind).sample(frac=1, random_state=0)
        ax = plots.patching(table)
        image = ax.images[0].get_array()
        for row in table.itertuples():
            assert image[row.layer, row.head] == pytest.approx(row.share)
        hatched = {(round(p.get_y() + 0.5), round(p.get_x() + 0.5)) for p in ax.patches if p.get_hatch()}
        assert hatched == {(row.layer, row.head) for row in table.itertuples() if row.p_max >= 0.05}
        assert any("mismatched pairs" in text.get_text() for text in ax.texts)
    blocks = samples.patched("blocks")
    ax = plots.patching(blocks, value="change")
    names = [text.get_text() for text in ax.get_xticklabels()]
    assert names == ["attn", "cross", "mlp", "resid"]
    for row in blocks.itertuples():
        assert ax.images[0].get_array()[row.layer, names.index(row.kind)] == pytest.approx(row.change)
    assert sum(bool(patch.get_hatch()) for patch in ax.patches) == (blocks["p_max"] >= 0.05).sum()
    untested = plots.patching(blocks.assign(p_max=np.nan))
    assert not untested.patches


def test_stretches_of_time_lie_side_by_side() -> None:
    table = samples.patched(windows=3)
    ax = plots.patching(table)
    assert [text.get_text() for text in ax.get_xticklabels()] == ["0–1", "1–2", "2–3"]
    np.testing.assert_allclose(np.asarray(ax.images[0].get_array()).ravel(), table["share"])
    assert [text.get_text() for text in ax.get_yticklabels()] == list(table["site"].unique())
    assert sum(bool(patch.get_hatch()) for patch in ax.patches) == (table["p_max"] >= 0.05).sum()


def test_kinds_are_not_mixed() -> None:
    both = pd.concat([samples.patched("heads"), samples.patched("cross_heads"), samples.patched("blocks")])
    with pytest.raises(DataError, match="kind="):
        plots.patching(both)
    assert plots.patching(both, "cross_heads").get_xlabel() == "Cross-attention head"
    with pytest.raises(DataError, match="no rows"):
        plots.patching(samples.patched(), "blocks")


def test_patterns_are_those_that_are_given() -> None:
    weights = np.random.default_rng(0).dirichlet(np.ones(5), 7)
    ax = plots.attention(weights)
    np.testing.assert_allclose(np.asarray(ax.images[0].get_array()) ** 2, weights)
    np.testing.assert_allclose(data_of(ax)["weight"], weights.ravel())
    with pytest.raises(DataError, match="5 keys need as many words"):
        plots.attention(weights, words=["a"])
    with pytest.raises(DataError, match=r"give weights \[positions, keys\]"):
        plots.attention(weights[0])
    page = plots.attention_page(weights[None, None])
    np.testing.assert_allclose(data_of(page[0, 0])["entropy"], -(weights * np.log(weights)).sum(1).mean())


def test_a_line_for_each_codebook_and_a_cell_for_each_part() -> None:
    ax = plots.lens(samples.lensed())
    assert len(ax.lines) == 4 and ax.get_xticklabels()[0].get_text() == "embed"
    table = samples.attributed()
    ax = plots.logit_attribution(table)
    image = np.asarray(ax.images[0].get_array())
    assert image.shape == (3, 5)
    assert image.sum() == pytest.approx(table.loc[table["layer"] >= 0, "contribution"].sum())
    assert f"sum {table['contribution'].sum():+.2f}" in ax.get_title()
    with pytest.raises(DataError, match="no rows"):
        plots.logit_attribution(table, codebook=3)
