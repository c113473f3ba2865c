"""A DataFrame in, a table file out: CSV with every digit and row, Markdown and LaTeX rounded for a reader."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from interp._files import atomic
from interp.errors import DataError

__all__ = ["number", "read", "to_latex", "to_markdown", "write"]

MAX_ROWS = 200
"""How many rows a Markdown or LaTeX table shows unless told otherwise; a CSV has them all."""

_TEX = str.maketrans({
    "\\": r"\textbackslash{}", "_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "σ": r"$\sigma$", "α": r"$\alpha$",
    "τ": r"$\tau$", "×": r"$\times$", "≥": r"$\geq$",
    "–": "--", "…": r"\ldots{}", "±": r"$\pm$", "−": "$-$", "·": r"$\cdot$",
})  # fmt: skip


def to_markdown(table: pd.DataFrame, *, digits: int = 3, max_rows: int | None = MAX_ROWS) -> str:
    """Return a table as Markdown, its columns aligned in the source as well.

    Parameters
    ----------
    table : DataFrame
        The index is left out; reset it first if it says something.
    digits : int
        Digits after the decimal point; smaller non-zero numbers keep two significant digits.
    max_rows : int or None
        Rows to show; a last line says how many were left out.

    Returns
    -------
    str

    Examples
    --------
    >>> print(to_markdown(pd.DataFrame({"site": ["L0.H1"], "p": [0.00012], "score": [0.91234]})))
    | site  |       p | score |
    |-------|--------:|------:|
    | L0.H1 | 0.00012 | 0.912 |
    <BLANKLINE>
    """
    names, cells, numeric, left_out = _cells(table, digits, max_rows)
    names = [name.replace("|", r"\|") for name in names]
    cells = [[cell.replace("|", r"\|").replace("\n", " ") for cell in column] for column in cells]
    widths = [max(3, len(name), *(len(cell) for cell in column), 3) for name, column in zip(names, cells, strict=True)]

    def line(parts: Iterable[str]) -> str:
        justified = (
            part.rjust(width) if right else part.ljust(width)
            for part, width, right in zip(parts, widths, numeric, strict=True)
        )
        return "| " + " | ".join(justified) + " |"

    rule = "|".join(
        "-" * (width + 1) + ":" if right else "-" * (width + 2) for width, right in zip(widths, numeric, strict=True)
    )
    lines = [line(names), f"|{rule}|", *(line(row) for row in zip(*cells, strict=True))]
    return "\n".join(lines) + "\n" + (f"\n{left_out}\n" if left_out else "")


def to_latex(
    table: pd.DataFrame, *, digits: int = 3, max_rows: int | None = MAX_ROWS, caption: str = "", label: str = ""
) -> str:
    r"""Return a table as LaTeX in the ``booktabs`` form, text escaped.

    Parameters
    ----------
    table, digits, max_rows
        As in :func:`to_markdown`.
    caption, label : str
        With a caption the tabular sits in a ``table`` environment.

    Returns
    -------
    str

    Examples
    --------
    >>> print(to_latex(pd.DataFrame({"mean_diff": [0.5]})))
    \begin{tabular}{r}
    \toprule
    mean\_diff \\
    \midrule
    0.500 \\
    \bottomrule
    \end{tabular}
    <BLANKLINE>
    """
    names, cells, numeric, left_out = _cells(table, digits, max_rows)
    body = [" & ".join(cell.translate(_TEX) for cell in row) + r" \\" for row in zip(*cells, strict=True)]
    lines = [
        rf"\begin{{tabular}}{{{''.join('r' if right else 'l' for right in numeric)}}}",
        r"\toprule",
        " & ".join(name.translate(_TEX) for name in names) + r" \\",
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
    ]
    if left_out:
        lines.append(f"% {left_out}")
    if caption:
        reference = [rf"\label{{{label}}}"] if label else []
        lines = [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{caption.translate(_TEX)}}}",
            *reference,
            *lines,
            r"\end{table}",
        ]
    return "\n".join(lines) + "\n"


def write(
    table: pd.DataFrame,
    stem: str | Path,
    *,
    formats: str | tuple[str, ...] = ("csv", "md", "tex"),
    digits: int = 3,
    max_rows: int | None = MAX_ROWS,
    caption: str = "",
) -> dict[str, Path]:
    """Write a table in several formats.

    Parameters
    ----------
    table : DataFrame
        The index is left out.
    stem : str or Path
        Path without suffix; its folder is made when missing.
    formats : str or tuple of str
        Of ``csv`` (every row and digit), ``md`` and ``tex`` (rounded, the first ``max_rows`` rows).
    digits, max_rows, caption
        As in :func:`to_markdown` and :func:`to_latex`.

    Returns
    -------
    dict of str to Path
        The file of every format.

    Raises
    ------
    DataError
        If a format is unknown.
    StoreError
        If a file cannot be written; then none of that name is left half-written.

    Examples
    --------
    >>> import tempfile
    >>> files = write(pd.DataFrame({"site": ["L0.H1"]}), Path(tempfile.mkdtemp()) / "best", formats="csv")
    >>> read(files["csv"])["site"].tolist()
    ['L0.H1']
    """
    stem = Path(stem)
    formats = (formats,) if isinstance(formats, str) else tuple(formats)
    makers: dict[str, Callable[[], str]] = {
        "csv": lambda: table.to_csv(index=False),
        "md": lambda: to_markdown(table, digits=digits, max_rows=max_rows),
        "tex": lambda: to_latex(table, digits=digits, max_rows=max_rows, caption=caption),
    }
    for suffix in formats:
        if suffix not in makers:
            raise DataError(f"cannot write a table as {suffix!r}: use csv, md or tex.")
    written: dict[str, Path] = {}
    for suffix in formats:
        path = written[suffix] = stem.with_name(f"{stem.name}.{suffix}")
        with atomic(path) as partial:
            partial.write_text(makers[suffix](), encoding="utf-8")
    return written


def read(path: str | Path) -> pd.DataFrame:
    """Read a CSV table that :func:`write` wrote; only empty cells are missing, a class called ``None`` stays one.

    Raises
    ------
    DataError
        If the file is missing or is not a table.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"there is no table {path}: name a CSV file that interp wrote.")
    try:
        return pd.read_csv(path, keep_default_na=False, na_values=[""])
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a CSV table: name a CSV file that interp wrote.") from error


def number(value: Any, digits: int = 3) -> str:
    """Return a number as a reader wants it: ``0.912``, ``0.00012``, ``1,234``; nothing for a missing one.

    Examples
    --------
    >>> [number(value) for value in (0.91234, 0.00012, 12345, float("nan"), True, 0.0)]
    ['0.912', '0.00012', '12,345', '', 'yes', '0.000']
    """
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    if isinstance(value, float | np.floating):
        if not np.isfinite(value):
            return "" if np.isnan(value) else str(value)
        if value and abs(value) < 10**-digits:
            return f"{value:.2g}"
        return f"{value:,.{digits}f}"
    return "" if value is None or value is pd.NA or value is pd.NaT else str(value)


def _cells(
    table: pd.DataFrame, digits: int, max_rows: int | None
) -> tuple[list[str], list[list[str]], list[bool], str]:
    if table.columns.empty:
        raise DataError("cannot write a table without columns.")
    shown = table if max_rows is None else table.head(max_rows)
    left_out = f"{len(shown):,} of {len(table):,} rows; the CSV file has them all." if len(shown) < len(table) else ""
    numeric = [pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype) for dtype in shown.dtypes]
    cells = [[number(value, digits) for value in shown.iloc[:, index]] for index in range(shown.shape[1])]
    return [str(name) for name in shown.columns], cells, numeric, left_out
