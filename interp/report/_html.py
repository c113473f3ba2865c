"""What all pages share: one skeleton, files beside the page or inside it, the line at the foot."""

from __future__ import annotations

import base64
import html
import os
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

from interp._files import atomic

__all__ = ["address", "data_url", "filled", "footer", "inline", "write_page"]


def filled(asset: str, **parts: str) -> str:
    """A file of this room as text, its ``$names`` replaced where there are parts to fill in.

    Examples
    --------
    >>> filled("page.html", title="T", style="", body="", script="").splitlines()[0]
    '<!doctype html>'
    """
    text = files("interp.report").joinpath(asset).read_text(encoding="utf-8")
    return Template(text).substitute(parts) if parts else text


def write_page(path: Path, title: str, style: str, body: str, script: str = "") -> Path:
    """Write a whole page; ``style`` and ``script`` are files of this room."""
    page = filled(
        "page.html",
        title=html.escape(title),
        style=filled(style),
        body=body,
        script=f"<script>\n{filled(script)}</script>" if script else "",
    )
    with atomic(path) as partial:
        partial.write_text(page, encoding="utf-8")
    return path


def inline(text: str) -> str:
    """Text that may stand in a page; words between backticks are set as code.

    Examples
    --------
    >>> inline("a < `b`")
    'a &lt; <code>b</code>'
    """
    parts = html.escape(text).split("`")
    return "".join(f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts))


def footer(made_by: Mapping[str, Any] | None) -> str:
    """What made a page, at its foot.

    Examples
    --------
    >>> footer({"seed": 0}), footer(None)
    ('<footer>seed: 0</footer>', '')
    """
    said = " · ".join(f"{html.escape(str(name))}: {html.escape(str(value))}" for name, value in (made_by or {}).items())
    return f"<footer>{said}</footer>" if said else ""


def address(file: Path, folder: Path) -> str:
    """The address of a file as a page in a folder has to write it.

    Examples
    --------
    >>> address(Path("out/audio/a#1.wav"), Path("out"))
    'audio/a%231.wav'
    """
    return quote(Path(os.path.relpath(file.resolve(), folder.resolve())).as_posix())


def data_url(kind: str, content: bytes) -> str:
    """A file that lies inside the page.

    Examples
    --------
    >>> data_url("text/plain", b"hi")
    'data:text/plain;base64,aGk='
    """
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
