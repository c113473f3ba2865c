"""One page to compare steered with unsteered music by ear: spectrograms, monitor traces, a slider over doses.

The page is a single HTML file beside a folder of sounds and pictures, or, with ``embed=True``, one file that holds
everything. It works from disk, without a server, the network, or anything that is not in it.
"""

from __future__ import annotations

import base64
import html
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from interp._files import atomic
from interp.errors import DataError
from interp.plots.sound import mel_levels, mel_ticks
from interp.report import write_audio

__all__ = ["UNSTEERED", "Take", "listening_page"]

UNSTEERED = "unsteered"
_MELS = 80
_FLOOR = -70.0  # dB below the loudest point of all sounds of the page
_TRACE = ("seconds", "C", "tau", "acted")


@dataclass(frozen=True, eq=False)
class Take:
    """One sound of the page.

    Parameters
    ----------
    arm : str
        What was done; ``"unsteered"`` is the side that all others are compared with.
    dose : float
        How much of it.
    seed : int
        Takes of one seed are twins: the same noise.
    audio : array or tensor of shape [samples] or [channels, samples]
        The sound, the prompt that it continues included.
    monitor : DataFrame, optional
        Trace of a self-monitor: ``seconds``, ``C`` (probability), ``tau`` (threshold) and ``acted``, one line a step
        (:attr:`interp.steering.Generation.monitor`, the lines of one row).
    notes : mapping of str to str
        Shown beside the player, for instance ``{"judge hears drums": "yes, 97 %"}``.
    """

    arm: str
    dose: float
    seed: int
    audio: Any
    monitor: pd.DataFrame | None = None
    notes: Mapping[str, str] = field(default_factory=dict)


def listening_page(
    takes: Sequence[Take],
    sample_rate: int,
    out: str | Path,
    *,
    title: str = "Before and after",
    lead: str = "",
    unit: str = "σ",
    start: float | None = None,
    monitored: str = "",
    embed: bool = False,
    links: Mapping[str, Path] | None = None,
    made_by: Mapping[str, Any] | None = None,
) -> Path:
    """Write the page.

    Parameters
    ----------
    takes : sequence of Take
        The arm ``"unsteered"`` for every seed, and each other arm for every seed at its doses.
    sample_rate : int
        In Hz.
    out : str or Path
        Folder for ``index.html``, ``audio`` and ``pictures``.
    title, lead : str
        At the head of the page.
    unit : str
        Of the doses.
    start : float, optional
        Second at which the generated part begins, where a sound is continued.
    monitored : str
        What the monitor's probability is of, for the axis: ``"drums"``.
    embed : bool
        Put sounds (as FLAC) and pictures into the page instead of beside it; for a handful of clips.
    links : mapping of str to Path, optional
        Files to offer below the list of sounds: name -> file. Not with ``embed``.
    made_by : mapping, optional
        What made it; shown at the foot.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    DataError
        If a sound is given twice or missing, or nothing is compared.
    ClipError
        If a sound is empty or not finite.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    table = _check(takes)
    pictures = _spectrograms([take.audio for take in takes], sample_rate)
    entries: dict[str, dict[str, Any]] = {}
    for take, picture in zip(takes, pictures, strict=True):
        name = f"{_slug(take.arm)}_{take.dose:g}_{take.seed}"
        if embed:
            sound = _data("audio/flac", _flac(take.audio, sample_rate))
            image = _data("image/png", picture)
        else:
            sound = _relative(write_audio(out / "audio" / f"{name}.wav", take.audio, sample_rate), out)
            target = out / "pictures" / f"{name}.png"
            target.parent.mkdir(exist_ok=True)
            with atomic(target) as partial:
                partial.write_bytes(picture)
            image = _relative(target, out)
        entries[_key(take)] = {
            "sound": sound,
            "picture": image,
            "seconds": np.shape(take.audio)[-1] / sample_rate,
            "notes": dict(take.notes),
            "monitor": _trace(take.monitor, np.shape(take.audio)[-1] / sample_rate),
        }
    arms = [str(arm) for arm in table["arm"].unique() if arm != UNSTEERED]
    data = {
        "unsteered": UNSTEERED,
        "arms": arms,
        "doses": {arm: sorted(table.loc[table["arm"] == arm, "dose"].unique().tolist()) for arm in arms},
        "seeds": table["seed"].unique().tolist(),
        "unit": unit,
        "start": start,
        "monitored": monitored,
        "frequencies": _frequencies(sample_rate),
        "takes": entries,
    }
    page = out / "index.html"
    with atomic(page) as partial:
        partial.write_text(_html(title, lead, data, {} if embed else _listed(links, out), made_by), encoding="utf-8")
    return page


def _key(take: Take) -> str:
    return f"{take.arm}|{take.dose:g}|{take.seed}"


def _check(takes: Sequence[Take]) -> pd.DataFrame:
    table = pd.DataFrame([(t.arm, float(t.dose), int(t.seed)) for t in takes], columns=["arm", "dose", "seed"])
    if table.duplicated().any():
        twice = table[table.duplicated()].iloc[0]
        raise DataError(f"{twice['arm']} at dose {twice['dose']:g} and seed {twice['seed']} is given twice.")
    seeds = set(table["seed"])
    if set(table.loc[table["arm"] == UNSTEERED, "seed"]) != seeds or not seeds:
        raise DataError(f"every seed needs a take of the arm {UNSTEERED!r}, which the others are compared with.")
    if (table["arm"] == UNSTEERED).all():
        raise DataError("there is nothing to compare: give a steered take.")
    for (arm, dose), rows in table.groupby(["arm", "dose"], sort=False):
        if set(rows["seed"]) != seeds:
            raise DataError(f"{arm} at dose {dose:g} lacks seed {min(seeds - set(rows['seed']))}: give every seed.")
    return table


def _trace(monitor: pd.DataFrame | None, seconds: float) -> dict[str, Any] | None:
    """What is drawn of a monitor; the delay pattern has a few steps after the last frame that is heard."""
    if monitor is None or monitor.empty:
        return None
    missing = [name for name in _TRACE if name not in monitor.columns]
    if missing:
        raise DataError(f"a monitor trace needs a column {', '.join(map(repr, missing))}.")
    monitor = monitor[monitor["seconds"] <= seconds]
    heard = monitor[monitor["C"].notna()]
    tau = float(monitor["tau"].iloc[0])
    return {
        "t": [round(float(x), 3) for x in heard["seconds"]],
        "p": [round(float(x), 4) for x in heard["C"]],
        "tau": round(tau, 4) if math.isfinite(tau) else None,
        "acted": [round(float(x), 3) for x in monitor.loc[monitor["acted"].astype(bool), "seconds"]],
    }


def _spectrograms(sounds: Sequence[Any], sample_rate: int) -> list[bytes]:
    """PNG pictures of mel spectrograms, one pixel a band and hundredth of a second, all on one scale."""
    return [_png(level) for level in mel_levels(sounds, sample_rate, _MELS)]


def _png(level: NDArray[Any]) -> bytes:
    from PIL import Image

    shades = np.clip((level / -_FLOOR + 1) * 255, 0, 255).astype(np.uint8)[::-1]
    picture = Image.fromarray(np.ascontiguousarray(shades), mode="P")
    picture.putpalette(_palette())
    file = io.BytesIO()
    picture.save(file, format="PNG", optimize=True)
    return file.getvalue()


@cache
def _palette() -> bytes:
    import matplotlib as mpl

    colours = mpl.colormaps["magma"](np.arange(256), bytes=True)[:, :3]
    return bytes(np.ascontiguousarray(colours).tobytes())


def _frequencies(sample_rate: int) -> list[tuple[float, str]]:
    """Height (0 at the foot, 1 at the head) and name of the marks of the frequency axis."""
    marks = mel_ticks(sample_rate, _MELS, (250, 1000, 2000, 4000, 8000))
    return [(round(band / (_MELS - 1), 4), name + (" kHz" if name == marks[-1][1] else "")) for band, name in marks]


def _flac(audio: Any, sample_rate: int) -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return write_audio(Path(folder) / "a.flac", audio, sample_rate).read_bytes()


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _relative(file: Path, folder: Path) -> str:
    return quote(file.relative_to(folder).as_posix())


def _listed(links: Mapping[str, Path] | None, out: Path) -> dict[str, str]:
    return {name: _relative(file, out) for name, file in (links or {}).items()}


def _slug(name: str) -> str:
    words = "".join(c if c.isalnum() else " " for c in name).split()
    return "-".join(words) or "arm"


def _asset(name: str) -> str:
    return files("interp.listening").joinpath(name).read_text(encoding="utf-8")


def _html(
    title: str, lead: str, data: dict[str, Any], links: Mapping[str, str], made_by: Mapping[str, Any] | None
) -> str:
    # "<" cannot end the script early when it is written as an escape
    content = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    foot = " · ".join(f"{html.escape(str(k))}: {html.escape(str(v))}" for k, v in (made_by or {}).items())
    more = ", ".join(f'<a href="{address}" download>{html.escape(name)}</a>' for name, address in links.items())
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{html.escape(title)}</title>
<style>
{_asset("page.css")}</style>
</head>
<body>
<main>
<h1>{html.escape(title)}</h1>
{f'<p class="lead">{html.escape(lead)}</p>' if lead else ""}
<noscript><p>The players need JavaScript; every sound is in the list below.</p></noscript>
<form id="controls" aria-label="What is compared" hidden>
<label for="seed"><span>Seed</span><select id="seed"></select></label>
<label for="arm"><span>Arm</span><select id="arm"></select></label>
<div class="dose"><label for="dose">Dose <output id="dose-now" for="dose"></output></label>
<input id="dose" type="range" min="0" step="1"><div id="ticks" aria-hidden="true"></div></div>
</form>
<div id="pair" hidden>
<section class="side" id="before" aria-labelledby="before-name"></section>
<section class="side" id="after" aria-labelledby="after-name"></section>
</div>
<div id="transport" hidden>
<label for="time">Position <output id="time-now" for="time"></output></label>
<input id="time" type="range" min="0" step="0.01" value="0">
<label class="check"><input id="loop" type="checkbox"> Repeat</label>
</div>
<p id="keys" hidden><kbd>Space</kbd> plays and pauses, <kbd>B</kbd> changes sides at the same moment,
<kbd>&larr;</kbd> <kbd>&rarr;</kbd> change the dose, <kbd>Home</kbd> goes back to the start.
Clicking a spectrogram moves there.</p>
<details id="all"><summary>All sounds</summary>
<div class="scroll"><table>
{_list(data)}
</table></div>
{f"<p>{more}</p>" if more else ""}</details>
</main>
{f"<footer>{foot}</footer>" if foot else ""}
<script id="data" type="application/json">{content}</script>
<script>
{_asset("page.js")}</script>
</body>
</html>
"""


def _list(data: dict[str, Any]) -> str:
    notes = list(dict.fromkeys(name for take in data["takes"].values() for name in take["notes"]))
    rows = []
    for key, take in data["takes"].items():
        arm, dose, seed = key.rsplit("|", 2)
        # a sound that lies in the page is not written into it twice
        inside = take["sound"].startswith("data:")
        sound = "in the page" if inside else f'<a href="{take["sound"]}">listen</a>'
        amount = "" if arm == data["unsteered"] else f"{dose} {data['unit']}"
        cells = [seed, arm, amount, *(take["notes"].get(name, "") for name in notes)]
        rows.append("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + f"<td>{sound}</td></tr>")
    names = ["Seed", "Arm", "Dose", *notes, "Sound"]
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in names)
    return f"<thead><tr>{head}</tr></thead>\n<tbody>\n" + "\n".join(rows) + "\n</tbody>"
