"""The monitor's figure shows what was heard, and shades exactly the time in which the push was on."""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from interp import plots
from interp.errors import DataError
from interp.plots.sound import _acting
from interp.plots.style import data_of

mpl.use("Agg")


def trace(rows: int = 2, steps: int = 40, s: int = 5) -> pd.DataFrame:
    """Rows whose monitor rises through the threshold and falls again; decisions every s steps."""
    parts = []
    for row in range(rows):
        c = 0.5 + 0.45 * np.sin(np.linspace(-1.5, 4.5, steps) + 0.2 * row)
        decided = np.where(np.arange(steps) % s == 0, np.r_[0.0, c[:-1]], np.nan)
        parts.append(
            pd.DataFrame(
                {"row": row, "seconds": 1.5 + 0.02 * np.arange(steps), "C": c, "tau": 0.7, "decided_on": decided,
                 "acted": decided < 0.7}
            )
        )  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def test_shading_lasts_from_a_decision_to_the_next() -> None:
    table = trace(1)
    spans = _acting(table)
    decisions = table[table["decided_on"].notna()]
    time_on = sum(stop - start for start, stop in spans)
    assert time_on == pytest.approx(0.02 * 5 * decisions["acted"].sum())
    assert 2 <= len(spans) < decisions["acted"].sum()  # off in the middle, neighbours joined
    assert spans[0][0] == pytest.approx(1.5)
    for at, acted in zip(decisions["seconds"], decisions["acted"], strict=True):
        assert any(a - 1e-9 <= at < b - 1e-9 for a, b in spans) == acted
    assert _acting(table.assign(acted=False)) == []


def test_panels_show_the_numbers_and_every_word_fits() -> None:
    table = trace(5)
    panels = plots.monitor(table, rows=3, compare=table.assign(C=table["C"] / 2), labels={0: "seed 7"}, title="drums")
    assert len(panels) == 3
    for row, ax in enumerate(panels):
        mine = table[table["row"] == row].reset_index(drop=True)
        pd.testing.assert_frame_equal(data_of(ax), mine)
        steered = next(line for line in ax.lines if line.get_label() == "C, steered")
        assert np.array_equal(steered.get_ydata(), mine["C"])
        threshold = next(line for line in ax.lines if line.get_label() == "threshold τ")
        assert set(threshold.get_ydata()) == {0.7}
        shaded = [p for p in ax.patches if isinstance(p, Rectangle)]
        assert len(shaded) == len(_acting(mine))
    assert panels[0].get_ylabel() == "seed 7"
    figure = panels[0].figure
    figure.canvas.draw()
    assert figure.get_size_inches()[0] == pytest.approx(plots.style.SINGLE)
    words = [t for t in figure.findobj(Text) if any(c.isalpha() for c in t.get_text())]  # ticks beyond are not drawn
    assert len(words) >= 3 + 1 + 1 + 4
    for text in words:
        box = text.get_window_extent()
        if text.get_visible() and text.get_text().strip() and box.width:
            assert box.x0 >= -2 and box.x1 <= figure.bbox.x1 + 2, text.get_text()
            assert text.get_fontsize() >= 5.5
    plt.close("all")


def test_what_cannot_be_drawn_is_said() -> None:
    with pytest.raises(DataError, match="tau"):
        plots.monitor(trace().drop(columns="tau"))
    _, ax = plots.style.subplots()
    with pytest.raises(DataError, match="2 rows of a monitor do not fit 1 axes"):
        plots.monitor(trace(), axs=[ax])
    plt.close("all")
