"""Figures of the causal study show the numbers they are given."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from interp import plots
from interp.errors import DataError
from interp.plots.style import data_of


@pytest.fixture
def table() -> pd.DataFrame:
    arms = ["unsteered", "probe", "probe", "random", "worst heads"]
    frame = pd.DataFrame({"arm": arms, "dose": [0.0, 1.0, 2.0, 2.0, 2.0], "rate": [0.1, 0.5, 0.9, 0.1, 0.2]})
    frame["control"] = ~frame["arm"].isin(["probe"])
    return frame.assign(lo=frame["rate"] - 0.1, hi=frame["rate"] + 0.1, fad=[5.0, 4.0, 3.0, 5.5, 6.0], trait="drums")


def test_arms(table: pd.DataFrame) -> None:
    ax = plots.arms(table[table["dose"] != 1.0])
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == ["probe (2 σ)", "random (2 σ)", "worst heads (2 σ)"]
    points = [line for line in ax.get_lines() if line.get_marker() == "o"]
    assert [float(line.get_xdata()[0]) for line in points] == [0.9, 0.1, 0.2]  # type: ignore[index]
    assert [line.get_markerfacecolor() == "white" for line in points] == [False, True, True]
    assert len(data_of(ax)) == 4
    plt.close(ax.figure)
    with pytest.raises(DataError, match="no column 'control'"):
        plots.arms(table.drop(columns="control"))


def test_tradeoff(table: pd.DataFrame) -> None:
    ax = plots.tradeoff(table)
    lines = {line.get_label(): line for line in ax.get_lines()}
    assert list(lines["probe"].get_xdata()) == [0.5, 0.9] and list(lines["probe"].get_ydata()) == [4.0, 3.0]
    assert {text.get_text() for text in ax.texts} == {"1", "2"}
    plt.close(ax.figure)


def test_leakage() -> None:
    names = ["drums", "jazz"]
    rows = [{"direction": a, "judged": b, "diff": 0.8 if a == b else -0.05, "lo": 0.6 if a == b else -0.2,
             "hi": 0.9 if a == b else 0.1} for a in names for b in names]  # fmt: skip
    ax = plots.leakage(pd.DataFrame(rows))
    assert [text.get_text() for text in ax.texts] == ["+80", "-5", "-5", "+80"]
    assert [text.get_color() for text in ax.texts] == ["white", "0.55", "0.55", "white"]
    assert np.asarray(ax.images[0].get_array()).tolist() == [[80.0, -5.0], [-5.0, 80.0]]
    assert len(ax.patches) == 2
    plt.close(ax.figure)


def test_ranks_and_refits() -> None:
    heads = pd.DataFrame({"site": [f"L0.H{i}" for i in range(5)], "layer": 0, "size": np.arange(5.0), "probe": 0.5})
    heads["probe"] += np.linspace(0, 0.4, 5)
    ax = plots.rank_scatter(heads, agreement="Spearman 1.00")
    assert {text.get_text() for text in ax.texts} == {"L0.H4", "L0.H3", "L0.H2", "Spearman 1.00"}
    plt.close(ax.figure)
    table = pd.DataFrame({"way": ["none"] * 2 + ["LEACE"] * 2, "layer": [3, 4] * 2, "test_score": [0.9, 0.9, 0.5, 0.7]})
    ax = plots.refits(table.assign(chance=0.5, lo=table["test_score"] - 0.1, hi=table["test_score"] + 0.1))
    assert len(data_of(ax)) == 4
    plt.close(ax.figure)
