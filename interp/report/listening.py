"""One page to compare steered with unsteered music by ear: spectrograms, monitor traces, a slider over doses.

The page is a single HTML file beside a folder of sounds and pictures, or, with ``embed=True``, one file that holds
everything. It works from disk, without a server, the network, or anything that is not in it. Where there is one dose,
there is no slider.
"""

from __future__ import annotations

import html
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from interp._files import atomic, slug
from interp.data.audio import encode_audio, write_audio
from interp.errors import DataError
from interp.plots.sound import mel_levels, mel_ticks
from interp.report._html import address, data_url, filled, footer, write_page
from interp.validation.arms import UNSTEERED

__all__ = ["Take", "listening_page"]

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

    Examples
    --------
    >>> import tempfile
    >>> tone = np.sin(np.arange(8000) / 9)
    >>> takes = [Take("unsteered", 0, 1, tone), Take("drums", 2, 1, tone / 2)]
    >>> page = listening_page(takes, 16000, tempfile.mkdtemp(), title="Drums")
    >>> sorted(file.name for file in (page.parent / "audio").iterdir())
    ['drums_2_1.wav', 'unsteered_0_1.wav']
    """
    out = Path(out)
    table = _check(takes)
    names = _file_names(table)
    pictures = mel_levels([take.audio for take in takes], sample_rate, _MELS)
    entries: dict[str, dict[str, Any]] = {}
    for take, name, levels in zip(takes, names, pictures, strict=True):
        seconds = np.shape(take.audio)[-1] / sample_rate
        if embed:
            sound = data_url("audio/flac", encode_audio(take.audio, sample_rate, "FLAC"))
            picture = data_url("image/png", _png(levels))
        else:
            sound = address(write_audio(out / "audio" / f"{name}.wav", take.audio, sample_rate), out)
            with atomic(out / "pictures" / f"{name}.png") as partial:
                partial.write_bytes(_png(levels))
            picture = address(out / "pictures" / f"{name}.png", out)
        entries[_key(take)] = {
            "sound": sound,
            "picture": picture,
            "seconds": seconds,
            "notes": dict(take.notes),
            "monitor": _trace(take.monitor, seconds),
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
    more = {} if embed else {name: address(file, out) for name, file in (links or {}).items()}
    body = _body(title, lead, data, more, made_by)
    return write_page(out / "index.html", title, "listening.css", body, "listening.js")


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
    read = monitor[monitor["C"].notna()]
    tau = float(monitor["tau"].iloc[0])
    return {
        "t": [round(float(x), 3) for x in read["seconds"]],
        "p": [round(float(x), 4) for x in read["C"]],
        "tau": round(tau, 4) if math.isfinite(tau) else None,
        "acted": [round(float(x), 3) for x in monitor.loc[monitor["acted"].astype(bool), "seconds"]],
    }


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


def _file_names(table: pd.DataFrame) -> list[str]:
    """A name for each take; arms that would be written alike are numbered."""
    arms = list(dict.fromkeys(table["arm"]))
    slugs = [slug(arm) for arm in arms]
    told = {a: s if slugs.count(s) == 1 else f"{s}-{i}" for i, (a, s) in enumerate(zip(arms, slugs, strict=True))}
    return [f"{told[row.arm]}_{row.dose:g}_{row.seed}" for row in table.itertuples(index=False)]


def _body(
    title: str, lead: str, data: dict[str, Any], links: Mapping[str, str], made_by: Mapping[str, Any] | None
) -> str:
    more = ", ".join(f'<a href="{href}" download>{html.escape(name)}</a>' for name, href in links.items())
    return filled(
        "listening.html",
        title=html.escape(title),
        lead=f'<p class="lead">{html.escape(lead)}</p>' if lead else "",
        sounds=_list(data),
        links=f"<p>{more}</p>" if more else "",
        footer=footer(made_by),
        # "<" cannot end the script early when it is written as an escape
        data=json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
    )


def _list(data: dict[str, Any]) -> str:
    notes = list(dict.fromkeys(name for take in data["takes"].values() for name in take["notes"]))
    rows = []
    for key, take in data["takes"].items():
        arm, dose, seed = key.rsplit("|", 2)
        # a sound that lies in the page is not written into it twice
        inside = take["sound"].startswith("data:")
        sound = "in the page" if inside else f'<a href="{take["sound"]}">listen</a>'
        amount = "" if arm == data["unsteered"] or float(dose) == 0 else f"{dose} {data['unit']}"
        cells = [seed, arm, amount, *(take["notes"].get(name, "") for name in notes)]
        rows.append("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + f"<td>{sound}</td></tr>")
    names = ["Seed", "Arm", "Dose", *notes, "Sound"]
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in names)
    return f"<thead><tr>{head}</tr></thead>\n<tbody>\n" + "\n".join(rows) + "\n</tbody>"
