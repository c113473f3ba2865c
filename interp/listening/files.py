"""Sounds and directions from files; all sounds of a few arms in one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from interp.errors import ClipError
from interp.report import Report, write_audio

if TYPE_CHECKING:
    from interp.judges import Judge
    from interp.model import MusicGen
    from interp.steering import Intervention

__all__ = ["compare_sounds", "encode_file", "judge_files", "read_audio"]

SUFFIXES = (".wav", ".flac", ".mp3", ".ogg")


def read_audio(path: str | Path, start: float = 0.0, seconds: float | None = None) -> tuple[np.ndarray, int]:
    """Read a sound file, or a part of it: float32 ``[channels, samples]`` and its sample rate in Hz.

    Parameters
    ----------
    path : str or Path
    start : float
        Second to start from.
    seconds : float, optional
        Length of the part; to the end when not given.

    Raises
    ------
    ClipError
        If it is missing, damaged or empty, or has no such part.
    """
    import soundfile

    path = Path(path)
    if not path.is_file():
        raise ClipError(f"there is no sound {path}: name a {', '.join(s[1:] for s in SUFFIXES)} file.")
    try:
        with soundfile.SoundFile(path) as file:
            rate, length = int(file.samplerate), file.frames / file.samplerate
            if not 0 <= start < max(length, 1 / rate) or (seconds is not None and start + seconds > length + 1 / rate):
                part = f"{seconds:g} s from second {start:g} on" if seconds is not None else f"second {start:g}"
                raise ClipError(f"{path} is {length:.2f} s long and has no {part}: ask for an earlier or shorter part.")
            file.seek(round(start * rate))
            wave = file.read(-1 if seconds is None else round(seconds * rate), dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise ClipError(f"cannot read {path} as sound ({error}): replace the file.") from None
    if not wave.size or not np.isfinite(wave).all():
        raise ClipError(f"{path} holds no sound: replace the file.")
    return wave.T, rate


def encode_file(
    model: MusicGen, path: str | Path, start: float = 0.0, seconds: float | None = None
) -> torch.Tensor:
    """Codes ``[codebooks, frames]`` of a sound file, mixed down to as many channels as the model has.

    Parameters
    ----------
    model : MusicGen
    path : str or Path
    start, seconds : float
        Which part of the sound, see :func:`read_audio`.

    Raises
    ------
    ClipError
        If the file cannot be read, or what is left of it is longer than the model hears at once.
    """
    import soundfile

    if seconds is None and Path(path).is_file():
        try:  # from the header, before a long file is read
            length = soundfile.info(path).duration - start
        except (soundfile.LibsndfileError, RuntimeError):
            length = 0.0  # read_audio says what is wrong with it
        if length > model.max_seconds:
            raise ClipError(
                f"{path} goes on for {length:.1f} s, but the model hears {model.max_seconds:g} s at once: choose a "
                "part of it (--audio-start and --audio-seconds; start and seconds in Python)."
            )
    wave, rate = read_audio(path, start, seconds)
    audio = torch.from_numpy(wave.mean(axis=0, keepdims=True))
    channels = int(getattr(model.codec, "channels", 1))
    return model.encode(audio.expand(channels, -1)[None], rate)[0]


def judge_files(judges: Sequence[Judge], path: str | Path) -> pd.DataFrame:
    """Judge a sound, or every sound in a folder and the folders in it.

    Returns
    -------
    DataFrame
        One row a file: ``file``, and the columns of :func:`interp.judges.judge_all`.

    Raises
    ------
    ClipError
        If there is no sound, or one cannot be read.
    """
    from interp.judges import judge_all

    path = Path(path)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
        if not files:
            raise ClipError(f"there is no sound in {path}: put {', '.join(s[1:] for s in SUFFIXES)} files there.")
    else:
        files = [path]
    by_rate: dict[int, list[tuple[int, np.ndarray]]] = {}
    for index, file in enumerate(files):
        wave, rate = read_audio(file)
        by_rate.setdefault(rate, []).append((index, wave))
    parts = []
    for rate, items in by_rate.items():
        scores = judge_all(judges, [wave for _, wave in items], rate)
        scores.index = pd.Index([index for index, _ in items])
        parts.append(scores)
    table = pd.concat(parts).sort_index()
    table.insert(0, "file", [str(file) for file in files])
    return table


def compare_sounds(
    model: MusicGen,
    arms: Mapping[str, tuple[Intervention, ...]],
    out: str | Path,
    *,
    prompt: str | None = None,
    codes: torch.Tensor | None = None,
    seconds: float = 4.0,
    seeds: Sequence[int] = range(4),
    progress: bool = True,
    **settings: Any,
) -> Path:
    """Generate the same music under several arms and write a page to listen to them side by side.

    Parameters
    ----------
    model : MusicGen
        What generates.
    arms : mapping of str to tuple of Intervention
        Name -> what is done; the first two are drawn as spectrograms.
    out : str or Path
        Folder for ``index.html``, the sounds, the log of what was edited.
    prompt : str, optional
        Text.
    codes : Tensor of shape [codebooks, frames], optional
        Sound to continue.
    seconds : float
        Length of the result, the sound to continue included.
    seeds : sequence of int
        One row a seed.
    progress : bool
        Show a progress bar.
    **settings
        For :func:`interp.steering.generate`.

    Returns
    -------
    Path
        The page.
    """
    from interp import plots, tables
    from interp.steering import Row, generate

    out = Path(out)
    model.check_prompt(prompt)
    rows = [Row(prompt=prompt, seed=s, codes=codes, interventions=arm) for arm in arms.values() for s in seeds]
    made = generate(model, rows, seconds=seconds, progress=progress, **settings)
    audio = made.audio.reshape(len(arms), len(seeds), *made.audio.shape[1:])
    lines: list[dict[str, Any]] = []
    for j, seed in enumerate(seeds):
        line: dict[str, Any] = {"seed": seed}
        for i, name in enumerate(arms):
            line[name] = write_audio(out / "audio" / f"{_slug(name)}_{seed}.wav", audio[i, j], model.sample_rate)
        lines.append(line)
    log = tables.write(made.log, out / "log", formats=("csv",))["csv"]
    report = Report("Steered and unsteered", f"{model.name}, the same seeds under {len(arms)} arms.")
    names = list(arms)
    if len(names) > 1:
        start = None if codes is None else codes.shape[-1] / model.frame_rate
        pair = plots.spectrograms(audio[0, 0], audio[1, 0], model.sample_rate, titles=(names[0], names[1]), start=start)
        plots.save(list(pair), out / "spectrograms")
        report.figures((out / "spectrograms.png", f"The first seed: {names[0]}, and {names[1]}."))
    report.sounds(pd.DataFrame(lines), f"Prompt: {prompt or 'none'}.", columns=names)
    report.table(made.log, "What was edited.", csv=log)
    return report.write(out / "index.html", made_by=made.settings)


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name).strip("-").replace("---", "-").replace("--", "-") or "arm"
