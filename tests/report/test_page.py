"""The report: one page that works from a folder, whatever is written on it."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
import plot_samples as samples
import pytest
from PIL import Image

from interp import plots
from interp.data.audio import write_audio
from interp.errors import ClipError, DataError
from interp.report import Report


class _Page(HTMLParser):
    """Collects addresses, and checks that tags are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.open: list[str] = []
        self.words = ""
        self.feed(text)
        self.close()
        assert not self.open, f"unclosed {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "link":  # an icon that is none
            self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "br", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def _report(folder: Path) -> Report:
    plots.save(plots.heatmap(samples.heads()), folder / "figs" / "heat map")
    tone = np.sin(np.arange(8000) / 20).astype(np.float32)
    write_audio(folder / "audio" / "a#1.wav", tone, 16000)
    table = pd.DataFrame({"site": ["<L0.H1> & co"], "score": [0.912345]})
    table.to_csv(folder / "table.csv", index=False)
    sounds = pd.DataFrame({"seed": [1, 2], "before": [folder / "audio" / "a#1.wav", None]})
    return (
        Report("Drums <b>", "Read `L0.H1`.")
        .heading("One & two")
        .text("A `code` word.")
        .figures((folder / "figs" / "heat map.png", "Heads."))
        .table(table, "Scores.", csv=folder / "table.csv")
        .sounds(sounds, "Listen.", columns=["before"])
    )


def test_every_address_is_relative_and_exists(tmp_path: Path) -> None:
    page = _report(tmp_path).write(tmp_path / "index.html", made_by={"seed": 0})
    parsed = _Page(page.read_text())
    assert len(parsed.addresses) == 4  # picture, its numbers, the table's numbers, one sound
    for address in parsed.addresses:
        assert not re.match(r"[a-z]+:|/", address)
        assert (tmp_path / unquote(address)).is_file()
    assert "<L0.H1> & co" in parsed.words and "0.912" in parsed.words and "seed: 0" in parsed.words


def test_pictures_with_panels_side_by_side_get_the_whole_width(tmp_path: Path) -> None:
    for name, size in (("square", (300, 200)), ("panels", (700, 200))):
        Image.new("RGB", size).save(tmp_path / f"{name}.png")
    (tmp_path / "vectors.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    pictures = [(tmp_path / name, "") for name in ("square.png", "panels.png", "vectors.svg")]
    page = Report("x").figures(*pictures).write(tmp_path / "index.html").read_text()
    assert re.findall(r'<figure( class="wide")?><img src="(\w+)', page) == [
        ("", "square"), (' class="wide"', "panels"), ("", "vectors"),
    ]  # fmt: skip


def test_the_page_may_lie_elsewhere(tmp_path: Path) -> None:
    page = _report(tmp_path / "data").write(tmp_path / "pages" / "deep" / "index.html")
    for address in _Page(page.read_text()).addresses:
        assert (page.parent / unquote(address)).is_file()


def test_embedded_page_stands_alone(tmp_path: Path) -> None:
    page = _report(tmp_path).write(tmp_path / "one.html", embed=True)
    addresses = _Page(page.read_text()).addresses
    assert all(address.startswith("data:") for address in addresses)
    picture = next(address for address in addresses if address.startswith("data:image/png"))
    assert base64.b64decode(picture.partition(",")[2]) == (tmp_path / "figs" / "heat map.png").read_bytes()


def test_nothing_on_the_page_asks_the_network(tmp_path: Path) -> None:
    text = _report(tmp_path).write(tmp_path / "index.html").read_text()
    assert "http" not in text and "@import" not in text and "<script" not in text


def test_in_a_notebook_it_shows_itself_and_styles_nothing_else(tmp_path: Path) -> None:
    words = _report(tmp_path)._repr_html_()
    addresses = _Page(words).addresses
    assert len(addresses) == 4 and all(address.startswith("data:") for address in addresses)
    style = words[words.index("<style>") + 7 : words.index("</style>")]
    for selectors in re.findall(r"([^{}]+)\{", re.sub(r"@media[^{]*\{", "", style)):
        assert all(".report" in one for one in selectors.split(",")), selectors


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ClipError, match=r"gone\.png, which does not exist"):
        Report("x").figures((tmp_path / "gone.png", "")).write(tmp_path / "index.html")
    with pytest.raises(DataError, match="no column 'after'"):
        Report("x").sounds(pd.DataFrame({"before": []}), columns=["after"])


def test_long_tables_are_cut_but_linked(tmp_path: Path) -> None:
    table = pd.DataFrame({"x": np.arange(100)})
    table.to_csv(tmp_path / "t.csv", index=False)
    text = Report("x").table(table, csv=tmp_path / "t.csv", rows=5).write(tmp_path / "index.html").read_text()
    assert text.count("<tr>") == 6 and "The whole table as CSV" in text
