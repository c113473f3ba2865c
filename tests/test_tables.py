"""Tables: what a reader sees is rounded and escaped, what a program reads is complete."""

from __future__ import annotations

import errno
import os
import string
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp import tables
from interp.errors import DataError, StoreError

TABLE = pd.DataFrame(
    {
        "site": ["L0.H1", "L3.resid"],
        "mean_diff": [0.91234567, 1e-5],
        "n": [1234, 7],
        "converged": [True, False],
        "hi": [np.nan, 2.0],
    }
)


def test_csv_keeps_every_digit_and_row(tmp_path: Path) -> None:
    paths = tables.write(TABLE, tmp_path / "deep" / "name.with.dots")
    assert sorted(paths) == ["csv", "md", "tex"]
    assert paths["csv"].name == "name.with.dots.csv"
    pd.testing.assert_frame_equal(tables.read(paths["csv"]), TABLE)


def test_classes_that_look_like_missing_values_come_back(tmp_path: Path) -> None:
    table = pd.DataFrame({"positive": ["None", "NA", "null", None], "score": [0.5, np.nan, np.inf, 1.0]})
    path = tables.write(table, tmp_path / "t", formats="csv")["csv"]
    pd.testing.assert_frame_equal(tables.read(path), table, check_dtype=False)


def test_a_table_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tables.write(TABLE, tmp_path / "t", formats="csv")["csv"]
    before = path.read_bytes()

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(StoreError, match=r"cannot write .*t\.csv: No space left"):
        tables.write(TABLE.head(1), tmp_path / "t", formats="csv")
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == ["t.csv"]


def test_markdown_has_one_line_a_row_of_equal_width() -> None:
    lines = tables.to_markdown(TABLE).splitlines()
    assert len(lines) == 2 + len(TABLE)
    assert len({len(line) for line in lines}) == 1
    assert "0.912" in lines[2] and "1,234" in lines[2] and "yes" in lines[2]
    assert "1e-05" in lines[3] and "no" in lines[3]


def test_latex_is_escaped_and_balanced() -> None:
    text = tables.to_latex(TABLE, caption="50 % of heads_a & more", label="tab:x")
    assert r"mean\_diff" in text and r"50 \% of heads\_a \& more" in text
    for name in ("table", "tabular"):
        assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}") == 1
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {line.count(" & ") for line in rows} == {TABLE.shape[1] - 1}


def test_long_tables_say_what_they_leave_out(tmp_path: Path) -> None:
    long = pd.DataFrame({"a": np.arange(1000)})
    paths = tables.write(long, tmp_path / "long", max_rows=10)
    assert "10 of 1,000 rows" in paths["md"].read_text()
    assert "% 10 of 1,000 rows" in paths["tex"].read_text()
    assert len(tables.read(paths["csv"])) == 1000


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text(alphabet=string.printable.strip() + " |_&%$#{}~^\\", max_size=8), min_size=1, max_size=4))
def test_markdown_cells_never_break_the_grid(cells: list[str]) -> None:
    text = tables.to_markdown(pd.DataFrame({"cell": cells}))
    body = text.splitlines()[2:]
    assert len(body) == len(cells)
    for line in body:
        assert line.replace(r"\|", "").count("|") == 2


@pytest.mark.parametrize("name", ["missing.csv", "."])
def test_reading_what_is_no_table_is_one_sentence(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="there is no table"):
        tables.read(tmp_path / name)


def test_reading_an_empty_or_binary_file(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "binary.csv").write_bytes(bytes(range(256)))
    for name in ("empty.csv", "binary.csv"):
        with pytest.raises(DataError, match="not a CSV table"):
            tables.read(tmp_path / name)


def test_unknown_format_and_no_columns(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="csv, md or tex"):
        tables.write(TABLE, tmp_path / "t", formats=("xlsx",))
    with pytest.raises(DataError, match="without columns"):
        tables.to_markdown(pd.DataFrame())
