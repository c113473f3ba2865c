"""A page that shows figures and tables and plays sound, from a folder, without a server or the network.

A :class:`Report` collects blocks in order and writes one ``index.html``. Pictures and sounds are referred to relative
to it, or, with ``embed=True``, put inside it, so that the single file can be mailed.
"""

from __future__ import annotations

import base64
import html
import mimetypes
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd

from interp._files import atomic
from interp.errors import ClipError, DataError
from interp.tables import number

__all__ = ["Report", "write_audio"]

_CSS = """
:root { color-scheme: light; --ink: #1c1c1c; --soft: #5c5c5c; --rule: #dcdcdc; --tint: #f6f6f3; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 58rem; color: var(--ink); background: #fff;
  font: 16px/1.55 "Source Sans 3", "Segoe UI", "Helvetica Neue", Arial, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.2rem; margin: 2.8rem 0 .6rem; padding-top: .8rem; border-top: 1px solid var(--rule); }
p { max-width: 44rem; margin: .5rem 0 .9rem; }
.lead { font-size: 1.08rem; color: var(--soft); }
figure { margin: 1rem 0; }
figure img { max-width: 100%; height: auto; display: block; }
figcaption, .caption, footer { color: var(--soft); font-size: .88rem; max-width: 44rem; }
.caption { margin: 1rem 0 .3rem; }
.row { display: flex; flex-wrap: wrap; gap: 1.2rem 2rem; align-items: flex-start; }
.row figure { flex: 1 1 22rem; min-width: 0; max-width: 27rem; }
.row figure.wide { flex-basis: 100%; max-width: 100%; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums; }
th, td { padding: .28rem .75rem .28rem 0; text-align: left; vertical-align: middle; white-space: nowrap; }
th { border-bottom: 1.5px solid var(--ink); font-weight: 600; }
td { border-bottom: 1px solid var(--rule); }
.n { text-align: right; }
audio { height: 34px; width: 12.2rem; vertical-align: middle; }
a { color: #0072B2; }
code { font-size: .9em; background: var(--tint); padding: .1em .3em; border-radius: 3px; }
footer { margin-top: 3rem; border-top: 1px solid var(--rule); padding-top: .8rem; overflow-wrap: anywhere; }
@media print { audio { display: none; } body { max-width: none; } }
"""


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
        self._blocks: list[tuple[str, Any]] = []

    def heading(self, text: str) -> Report:
        """Begin a section."""
        self._blocks.append(("heading", text))
        return self

    def text(self, text: str) -> Report:
        """Add a paragraph; words between backticks are set as code."""
        self._blocks.append(("text", text))
        return self

    def figures(self, *pictures: tuple[str | Path, str]) -> Report:
        """Add pictures side by side, each as (path of a PNG or SVG, caption).

        A CSV file of the same name beside the picture is linked as its numbers.
        """
        self._blocks.append(("figures", [(Path(path), caption) for path, caption in pictures]))
        return self

    def table(
        self, table: pd.DataFrame, caption: str = "", *, csv: str | Path | None = None, digits: int = 3, rows: int = 40
    ) -> Report:
        """Add a table: the first rows of it, with a link to the CSV file that has them all."""
        self._blocks.append(("table", (table, caption, Path(csv) if csv else None, digits, rows)))
        return self

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
        """
        names = list(columns)
        missing = [name for name in names if name not in table.columns]
        if missing:
            raise DataError(f"cannot list sounds: the table has no column {', '.join(map(repr, missing))}.")
        self._blocks.append(("sounds", (table, caption, names)))
        return self

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
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        here = path.parent.resolve()

        def address(file: Path) -> str:
            if not file.is_file():
                raise ClipError(f"the report refers to {file}, which does not exist: make it first.")
            if embed:
                kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
                return f"data:{kind};base64,{base64.b64encode(file.read_bytes()).decode()}"
            return quote(Path(os.path.relpath(file.resolve(), here)).as_posix())

        body = [_block(kind, content, address) for kind, content in self._blocks]
        foot = ""
        if made_by:
            parts = " · ".join(f"{html.escape(str(k))}: {html.escape(str(v))}" for k, v in made_by.items())
            foot = f"<footer>{parts}</footer>"
        lead = f'<p class="lead">{_inline(self.lead)}</p>' if self.lead else ""
        page = (
            f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{html.escape(self.title)}</title>\n<style>{_CSS}</style>\n</head>\n<body>\n"
            f"<h1>{html.escape(self.title)}</h1>\n{lead}\n" + "\n".join(body) + f"\n{foot}\n</body>\n</html>\n"
        )
        with atomic(path) as partial:
            partial.write_text(page, encoding="utf-8")
        return path


def _inline(text: str) -> str:
    parts = html.escape(text).split("`")
    return "".join(f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts))


def _block(kind: str, content: Any, address: Any) -> str:
    if kind == "heading":
        return f"<h2>{html.escape(content)}</h2>"
    if kind == "text":
        return f"<p>{_inline(content)}</p>"
    if kind == "figures":
        return f'<div class="row">{"".join(_figure(path, caption, address) for path, caption in content)}</div>'
    if kind == "table":
        table, caption, csv, digits, rows = content
        more = ""
        if csv is not None:
            more = f' <a href="{address(csv)}" download="{html.escape(csv.name)}">The whole table as CSV</a>.'
        cells = [
            [html.escape(number(value, digits)) for value in row] for row in table.head(rows).itertuples(index=False)
        ]
        right = [pd.api.types.is_numeric_dtype(d) and not pd.api.types.is_bool_dtype(d) for d in table.dtypes]
        return f'<p class="caption">{_inline(caption)}{more}</p>' + _table(list(table.columns), cells, right)
    table, caption, names = content
    cells = []
    for row in table.to_dict("records"):
        line = []
        for name, value in row.items():
            if name in names:
                empty = value is None or (isinstance(value, float) and np.isnan(value)) or str(value) == ""
                player = "" if empty else f'<audio controls preload="metadata" src="{address(Path(value))}"></audio>'
                line.append(player)
            else:
                line.append(html.escape(number(value, 2)))
        cells.append(line)
    head = f'<p class="caption">{_inline(caption)}</p>' if caption else ""
    return head + _table(list(table.columns), cells, [False] * table.shape[1])


def _is_wide(path: Path) -> bool:
    """Whether a picture has panels side by side: in half a page they could not be read."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            return picture.width > 2 * picture.height
    except OSError:  # a drawing in vectors; a file that is missing is told of where it is read
        return False


def _figure(path: Path, caption: str, address: Any) -> str:
    twin = path.with_suffix(".csv")
    link = (
        f' <a href="{address(twin)}" download="{html.escape(twin.name)}">The numbers as CSV</a>.'
        if twin.is_file()
        else ""
    )
    alternative = html.escape(caption.replace("`", ""))
    wide = ' class="wide"' if _is_wide(path) else ""
    return (
        f'<figure{wide}><img src="{address(path)}" alt="{alternative}">'
        f"<figcaption>{_inline(caption)}{link}</figcaption></figure>"
    )


def _table(names: list[Any], cells: list[list[str]], right: list[bool]) -> str:
    mark = [' class="n"' if one else "" for one in right]
    head = "".join(f"<th{m}>{html.escape(str(name))}</th>" for name, m in zip(names, mark, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{m}>{cell}</td>" for cell, m in zip(row, mark, strict=True)) + "</tr>" for row in cells
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def write_audio(path: str | Path, audio: Any, sample_rate: int) -> Path:
    """Write a sound as a 16-bit WAV file, turned down where it would clip.

    Parameters
    ----------
    path : str or Path
        The file; its folder is made when missing.
    audio : array or tensor of shape [samples] or [channels, samples]
        Values in -1 to 1.
    sample_rate : int
        In Hz.

    Returns
    -------
    Path

    Raises
    ------
    ClipError
        If the sound is empty or not finite.
    """
    import soundfile

    wave = np.asarray(audio, dtype=np.float32)
    wave = wave[None] if wave.ndim == 1 else wave
    if wave.ndim != 2 or wave.size == 0 or not np.isfinite(wave).all():
        raise ClipError(f"cannot write {path}: the sound is empty or not finite (shape {list(wave.shape)}).")
    loudest = float(np.abs(wave).max())
    path = Path(path)
    with atomic(path) as partial:
        try:
            soundfile.write(partial, (wave / max(1.0, loudest / 0.99)).T, sample_rate, subtype="PCM_16")
        except soundfile.LibsndfileError as error:  # how it says that the disk is full
            raise OSError(f"is the disk full? {error}") from error
    return path
