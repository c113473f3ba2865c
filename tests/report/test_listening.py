"""The listening page: what is on it, that it works in a browser, from disk."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
import soundfile
from browser import Browser, chromium

from interp.errors import ClipError, DataError
from interp.report import Take, listening_page

RATE = 16000


def _tone(pitch: float, seconds: float = 2.0) -> np.ndarray:
    return 0.4 * np.sin(2 * np.pi * pitch * np.arange(int(RATE * seconds)) / RATE).astype(np.float32)


def _trace(level: float) -> pd.DataFrame:
    seconds = np.arange(0, 2.04, 0.02)
    return pd.DataFrame(
        {"seconds": seconds, "C": level + 0.1 * np.sin(seconds), "tau": 0.8, "acted": np.arange(len(seconds)) % 5 == 0}
    )


def _takes() -> list[Take]:
    takes = [Take("unsteered", 0, seed, _tone(200 + seed), _trace(0.2), {"judge": "no, 3%"}) for seed in (3, 4)]
    for arm, step in (("a </script> & long name of an arm, mean difference at L5.resid", 100), ("other", 300)):
        for dose in (1, 2.5):
            for seed in (3, 4):
                takes.append(Take(arm, dose, seed, _tone(200 + seed + step * dose), _trace(0.5), {"judge": "yes, 97%"}))
    return takes


def _data(page: Path) -> dict[str, Any]:
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', page.read_text(), re.DOTALL)
    assert found
    return json.loads(found[1])


# ---- what is written ----


def test_every_address_is_relative_and_every_sound_is_there(tmp_path: Path) -> None:
    page = listening_page(_takes(), RATE, tmp_path, title="Drums <b>", start=0.5, made_by={"seed": "<0>"})
    data = _data(page)
    assert len(data["takes"]) == 10 and data["seeds"] == [3, 4] and list(data["doses"].values()) == [[1, 2.5]] * 2
    for key, take in data["takes"].items():
        assert (tmp_path / unquote(take["picture"])).read_bytes()[:4] == b"\x89PNG"
        wave, rate = soundfile.read(tmp_path / unquote(take["sound"]))
        given = next(t for t in _takes() if key == f"{t.arm}|{t.dose:g}|{t.seed}")
        assert rate == RATE
        np.testing.assert_allclose(wave, given.audio, atol=2**-14)
        assert max(take["monitor"]["t"]) <= 2.0 and take["monitor"]["tau"] == 0.8
    text = page.read_text()
    assert "Drums &lt;b&gt;" in text and "&lt;0&gt;" in text
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text) and "@import" not in text


def test_embedded_page_is_one_file(tmp_path: Path) -> None:
    page = listening_page(_takes()[:6], RATE, tmp_path, embed=True)
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
    take = next(iter(_data(page)["takes"].values()))
    assert take["sound"].startswith("data:audio/flac;base64,") and take["picture"].startswith("data:image/png")


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda takes: takes + takes[:1], DataError, "given twice"),
        (lambda takes: takes[1:], DataError, "every seed needs"),
        (lambda takes: takes[:2], DataError, "nothing to compare"),
        (lambda takes: takes[:-1], DataError, "lacks seed 4"),
        (lambda takes: [], DataError, "every seed needs"),
        (lambda takes: [*takes[:-1], replace(takes[-1], audio=np.full(9, np.nan))], ClipError, "not finite"),
        (lambda takes: [*takes[:-1], replace(takes[-1], audio=np.zeros(0))], ClipError, "empty"),
        (lambda takes: [*takes[:-1], replace(takes[-1], monitor=pd.DataFrame({"C": [0.1]}))], DataError, "'seconds'"),
    ],
)
def test_what_cannot_be_shown_is_one_sentence(tmp_path: Path, change: Any, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        listening_page(change(_takes()), RATE, tmp_path)


def test_arms_that_would_be_written_alike_keep_their_own_files(tmp_path: Path) -> None:
    takes = [Take("unsteered", 0, 0, _tone(200)), Take("a b", 1, 0, _tone(300)), Take("a_b", 1, 0, _tone(400))]
    data = _data(listening_page(takes, RATE, tmp_path))
    for take in takes:
        wave, _ = soundfile.read(tmp_path / unquote(data["takes"][f"{take.arm}|{take.dose:g}|0"]["sound"]))
        np.testing.assert_allclose(wave, take.audio, atol=2**-14)


# ---- in a browser ----


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    links = {}
    return listening_page(_takes(), RATE, tmp_path_factory.mktemp("page"), start=0.5, monitored="drums", links=links)


def _ready(browser: Browser) -> None:
    browser.until("document.querySelectorAll('.view image').length === 2")


def _shown(browser: Browser) -> list[str]:
    return [unquote(browser.ask(f"document.getElementById('{side}').dataset.sound")) for side in ("before", "after")]


@pytest.mark.slow
@pytest.mark.parametrize("embed", [False, True])
def test_it_loads_from_disk_without_complaint(browser: Browser, tmp_path: Path, embed: bool) -> None:
    browser.complaints.clear()
    browser.requests.clear()
    browser.open(listening_page(_takes(), RATE, tmp_path, embed=embed))
    _ready(browser)
    loaded = (
        "Promise.all([...document.querySelectorAll('.view image')].map(async (node) => { const one = new Image();"
        "one.src = node.href.baseVal; await one.decode(); return one.naturalHeight; }))"
    )
    assert browser.ask(loaded) == [80, 80]
    assert not browser.complaints
    assert {request.partition(":")[0] for request in browser.requests} <= {"file", "data"}


@pytest.mark.slow
@pytest.mark.parametrize("width", [320, 400, 1200])
def test_nothing_sticks_out(browser: Browser, page: Path, width: int) -> None:
    browser.open(page, width=width)
    _ready(browser)
    browser.ask("document.getElementById('all').open = true")
    assert browser.ask("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    wide = "[...document.querySelectorAll('.side')].map((one) => Math.round(one.getBoundingClientRect().left))"
    first, second = browser.ask(wide)
    assert (second > first) == (width == 1200)  # side by side where there is room
    outside = (
        "[...document.querySelectorAll('.view')].flatMap((view) => { const box = view.getBoundingClientRect();"
        "return [...view.querySelectorAll('text, path, image')].map((one) => one.getBoundingClientRect())"
        ".filter((r) => r.left < box.left - 1 || r.right > box.right + 1).length; })"
    )
    assert browser.ask(outside) == [0, 0]
    browser.resize(1000, 800)  # drawn anew
    browser.until(
        "[...document.querySelectorAll('.view')].every((v) => Math.abs(v.viewBox.baseVal.width - v.clientWidth) < 1)"
    )


@pytest.mark.slow
def test_a_change_of_dose_keeps_the_moment(browser: Browser, page: Path) -> None:
    browser.open(page)
    _ready(browser)
    before, after = _shown(browser)
    assert before.endswith("unsteered_0_3.wav") and after.endswith("_2.5_3.wav")
    browser.ask("Object.assign(document.getElementById('time'), {value: 0.8})."
                "dispatchEvent(new Event('input', {bubbles: true}))")  # fmt: skip
    browser.ask("document.querySelector('#after .play').click()")
    browser.until("Number(document.getElementById('time').value) > 0.85")
    browser.ask("document.getElementById('dose').focus()")
    browser.press("ArrowLeft")
    assert _shown(browser)[1].endswith("_1_3.wav") and browser.ask("document.getElementById('dose').value") == "1"
    assert browser.ask("document.getElementById('dose').getAttribute('aria-valuetext')") == "1 σ"
    reached = float(browser.ask("document.getElementById('time').value"))
    assert reached > 0.85
    browser.until(f"Number(document.getElementById('time').value) > {reached + 0.05}")  # it goes on, from there
    assert browser.ask("document.querySelector('#after .play').getAttribute('aria-pressed')") == "true"
    browser.press("ArrowLeft")  # dose 0 is the unsteered sound
    assert _shown(browser)[0] == _shown(browser)[1]


@pytest.mark.slow
def test_one_dose_needs_no_slider(browser: Browser, tmp_path: Path) -> None:
    browser.complaints.clear()
    takes = [take for take in _takes() if take.dose != 1]
    browser.open(listening_page(takes, RATE, tmp_path))
    _ready(browser)
    assert browser.ask("document.querySelector('.dose').checkVisibility()") is False
    assert "change the dose" not in browser.ask("document.getElementById('keys').innerText")
    before, after = _shown(browser)
    assert before.endswith("unsteered_0_3.wav") and after.endswith("_2.5_3.wav")
    browser.press("ArrowLeft")  # no way to a dose that is not there
    assert _shown(browser) == [before, after]
    browser.press("b")
    browser.press(" ")
    browser.until("document.querySelector('#after .play').getAttribute('aria-pressed') === 'true'")
    assert not browser.complaints


@pytest.mark.slow
def test_all_of_it_by_keyboard(browser: Browser, page: Path) -> None:
    browser.open(page)
    _ready(browser)
    reached = []
    for _ in range(8):
        browser.press("Tab")
        reached.append(browser.ask("document.activeElement.id || document.activeElement.className"))
    assert reached == ["seed", "arm", "dose", "play", "play", "time", "loop", ""]
    browser.ask("document.activeElement.blur()")
    browser.press("b")
    browser.press(" ")
    browser.until("document.querySelector('#after .play').getAttribute('aria-pressed') === 'true'")
    browser.press("b")
    browser.until("document.querySelector('#before .play').getAttribute('aria-pressed') === 'true'")
    browser.press(" ")
    browser.until("document.querySelectorAll('.play[aria-pressed=true]').length === 0")
    browser.press("Home")
    assert browser.ask("document.getElementById('time').value") == "0"
    browser.press("ArrowLeft")
    assert _shown(browser)[1].endswith("_1_3.wav")


@pytest.mark.slow
def test_seed_and_arm_can_be_chosen(browser: Browser, page: Path) -> None:
    browser.open(page)
    _ready(browser)
    for name, value in (("seed", "4"), ("arm", "other")):
        browser.ask(f"(() => {{ const one = document.getElementById('{name}'); one.value = '{value}';"
                    "one.dispatchEvent(new Event('change', {bubbles: true})); })()")  # fmt: skip
    before, after = _shown(browser)
    assert before.endswith("unsteered_0_4.wav") and after.endswith("other_2.5_4.wav")
    assert "yes, 97%" in browser.ask("document.querySelector('#after .note').textContent")
    browser.ask("document.querySelector('#after .view').dispatchEvent(new MouseEvent('click', {bubbles: true, clientX:"
                "document.querySelector('#after .view').getBoundingClientRect().right - 8}))")  # fmt: skip
    assert float(browser.ask("document.getElementById('time').value")) == pytest.approx(2.0, abs=0.02)


def _contrast(a: list[int], b: list[int]) -> float:
    """Of two colours, as WCAG 2.2 defines it."""
    lights = []
    for colour in (a, b):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (x / 255 for x in colour[:3])]
        lights.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(lights) + 0.05) / (min(lights) + 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
def test_legible_in_light_and_dark(browser: Browser, page: Path, dark: bool) -> None:
    browser.open(page, dark=dark)
    _ready(browser)
    paper = browser.ask("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (sum(paper) < 200) == dark
    for selector, style, least in (
        ("h1", "color", 4.5), (".note", "color", 4.5), ("#keys", "color", 4.5), (".view text", "fill", 4.5),
        (".view .limit-name", "fill", 4.5), (".view .trace", "stroke", 3), (".view .limit", "stroke", 3),
        (".view .acted", "stroke", 3), (".play", "color", 3),
    ):  # fmt: skip
        colour = browser.ask(
            f"getComputedStyle(document.querySelector('{selector}')).{style}.match(/\\d+/g).map(Number)"
        )
        assert _contrast(colour, paper) >= least, selector
