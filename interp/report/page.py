"""A page that shows figures and tables and plays sound, from a folder, without a server or the network.

A :class:`Report` collects blocks in order and writes one ``index.html``. Pictures and sounds are referred to relative
to it, or, with ``embed=True``, put inside it, so that the single file can be mailed. In a notebook a report shows
itself.
"""

from __future__ import annotations

import html
import mimetypes
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from interp.errors import ClipError, DataError
from interp.report._html import address, data_url, filled, footer, inline, write_page
from interp.tables import number

__all__ = ["Report"]

_Address = Callable[[Path], str]
"""How a page refers to a file."""


class Report:
    """A page of text, figures, tables and sounds, in the order in which they are added.

    Parameters
    ----------
    title : str
        Of the page.
    lead : str
        What it shows, in one or two sentences.

    Examples
    --------
    >>> import tempfile
    >>> report = Report("Drums", "Where they are read, and what pushing there does.")
    >>> _ = report.heading("Ranking").table(pd.DataFrame({"site": ["L3.H2"], "score": [0.93]}), "The best head.")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report.write(Path(folder) / "index.html").name
    'index.html'
    """

    def __init__(self, title: str, lead: str = "") -> None:
        self.title = title
        self.lead = lead
        self._blocks: list[Callable[[_Address], str]] = []

    def heading(self, text: str) -> Report:
        """Begin a section."""
        return self._add(lambda _: f"<h2>{html.escape(text)}</h2>")

    def text(self, text: str) -> Report:
        """Add a paragraph; words between backticks are set as code."""
        return self._add(lambda _: f"<p>{inline(text)}</p>")

    def figures(self, *pictures: tuple[str | Path, str]) -> Report:
        """Add pictures side by side, each as (path of a PNG or SVG, caption).

        A CSV file of the same name beside the picture is linked as its numbers.
        """
        return self._add(partial(_figures, [(Path(path), caption) for path, caption in pictures]))

    def table(
        self, table: pd.DataFrame, caption: str = "", *, csv: str | Path | None = None, digits: int = 3, rows: int = 40
    ) -> Report:
        """Add a table: the first rows of it, with a link to the CSV file that has them all."""
        return self._add(partial(_table, table, caption, Path(csv) if csv else None, digits, rows))

    def sounds(self, table: pd.DataFrame, caption: str = "", *, columns: Iterable[str] = ("sound",)) -> Report:
        """Add a table of sounds; the columns named hold paths of audio files and become players.

        Parameters
        ----------
        table : DataFrame
            One row a line; other columns are shown as text.
        caption : str
            Above the table.
        columns : iterable of str
            The columns that hold paths (an empty cell stays empty).

        Raises
        ------
        DataError
            If there is no such column.
        """
        names = list(columns)
        missing = [name for name in names if name not in table.columns]
        if missing:
            raise DataError(f"cannot list sounds: the table has no column {', '.join(map(repr, missing))}.")
        return self._add(partial(_sounds, table, caption, names))

    def write(self, path: str | Path, *, embed: bool = False, made_by: Mapping[str, Any] | None = None) -> Path:
        """Write the page.

        Parameters
        ----------
        path : str or Path
            The HTML file; its folder is made when missing.
        embed : bool
            Put pictures and sounds inside the file instead of referring to them.
        made_by : mapping, optional
            What made it (command, model, seed, versions); shown at the foot of the page.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        ClipError
            If a picture or sound is missing.
        StoreError
            If the page cannot be written.
        """
        path = Path(path)
        body = self._body(_inside if embed else partial(_beside, folder=path.parent), made_by)
        return write_page(path, self.title, "page.css", body)

    def _add(self, block: Callable[[_Address], str]) -> Report:
        self._blocks.append(block)
        return self

    def _body(self, refer: _Address, made_by: Mapping[str, Any] | None = None) -> str:
        lead = f'<p class="lead">{inline(self.lead)}</p>' if self.lead else ""
        blocks = [block(refer) for block in self._blocks]
        parts = [f"<h1>{html.escape(self.title)}</h1>", lead, *blocks, footer(made_by)]
        return '<div class="report">\n' + "\n".join(part for part in parts if part) + "\n</div>"

    def __repr__(self) -> str:
        return f"Report({self.title!r}, {len(self._blocks)} blocks)"

    def _repr_html_(self) -> str:
        return f"<style>\n{filled('page.css')}</style>\n{self._body(_inside)}"


def _inside(file: Path) -> str:
    kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    return data_url(kind, _there(file).read_bytes())


def _beside(file: Path, folder: Path) -> str:
    return address(_there(file), folder)


def _there(file: Path) -> Path:
    if not file.is_file():
        raise ClipError(f"the report refers to {file}, which does not exist: make it first.")
    return file


# Blocks ---------------------------------------------------------------------------------------------------------


def _figures(pictures: list[tuple[Path, str]], refer: _Address) -> str:
    return f'<div class="row">{"".join(_figure(path, caption, refer) for path, caption in pictures)}</div>'


def _figure(path: Path, caption: str, refer: _Address) -> str:
    numbers = path.with_suffix(".csv")
    link = f" {_download(numbers, 'The numbers as CSV', refer)}." if numbers.is_file() else ""
    alternative = html.escape(caption.replace("`", ""))
    wide = ' class="wide"' if _is_wide(path) else ""
    return (
        f'<figure{wide}><img src="{refer(path)}" alt="{alternative}">'
        f"<figcaption>{inline(caption)}{link}</figcaption></figure>"
    )


def _is_wide(path: Path) -> bool:
    """Whether a picture has panels side by side: in half a page they could not be read."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            return picture.width > 2 * picture.height
    except OSError:  # a drawing in vectors; a file that is missing is told of where it is read
        return False


def _table(table: pd.DataFrame, caption: str, csv: Path | None, digits: int, rows: int, refer: _Address) -> str:
    more = f" {_download(csv, 'The whole table as CSV', refer)}." if csv is not None else ""
    cells = [[html.escape(number(value, digits)) for value in row] for row in table.head(rows).itertuples(index=False)]
    right = [pd.api.types.is_numeric_dtype(d) and not pd.api.types.is_bool_dtype(d) for d in table.dtypes]
    return f'<p class="caption">{inline(caption)}{more}</p>' + _grid(list(table.columns), cells, right)


def _sounds(table: pd.DataFrame, caption: str, players: list[str], refer: _Address) -> str:
    cells = [
        [_player(value, refer) if name in players else html.escape(number(value, 2)) for name, value in row.items()]
        for row in table.to_dict("records")
    ]
    head = f'<p class="caption">{inline(caption)}</p>' if caption else ""
    return head + _grid(list(table.columns), cells, [False] * table.shape[1])


def _player(file: Any, refer: _Address) -> str:
    if file is None or (isinstance(file, float) and np.isnan(file)) or str(file) == "":
        return ""
    return f'<audio controls preload="metadata" src="{refer(Path(file))}"></audio>'


def _download(file: Path, words: str, refer: _Address) -> str:
    return f'<a href="{refer(file)}" download="{html.escape(file.name)}">{words}</a>'


def _grid(names: list[Any], cells: list[list[str]], right: list[bool]) -> str:
    mark = [' class="n"' if column else "" for column in right]
    head = "".join(f"<th{m}>{html.escape(str(name))}</th>" for name, m in zip(names, mark, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{m}>{cell}</td>" for cell, m in zip(row, mark, strict=True)) + "</tr>" for row in cells
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
