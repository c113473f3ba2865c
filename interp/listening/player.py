"""A small player for notebooks."""

from __future__ import annotations

import base64
import html
import io
from typing import Any

import numpy as np

from interp.errors import ClipError

__all__ = ["player"]


def player(audio: Any, sample_rate: int, label: str = "") -> Any:
    """Return a player to show in a notebook; the sound is kept in it as MP3, a sixth of the size of a WAV.

    Parameters
    ----------
    audio : array or tensor of shape [samples] or [channels, samples]
        Values in -1 to 1; turned down where it would clip.
    sample_rate : int
        In Hz.
    label : str
        Written beside the player.

    Returns
    -------
    IPython.display.HTML

    Raises
    ------
    ClipError
        If the sound is empty or not finite.
    """
    import soundfile
    from IPython.display import HTML

    wave = np.asarray(audio, dtype=np.float32)
    wave = wave[None] if wave.ndim == 1 else wave
    if wave.ndim != 2 or not wave.size or not np.isfinite(wave).all():
        raise ClipError(f"cannot play a sound of shape {list(wave.shape)}: it is empty or not finite.")
    wave = wave / max(1.0, float(np.abs(wave).max()) / 0.99)
    file = io.BytesIO()
    soundfile.write(file, wave.T, sample_rate, format="MP3")
    data = base64.b64encode(file.getvalue()).decode()
    words = f" <span>{html.escape(label)}</span>" if label else ""
    name = html.escape(label or "sound", quote=True)
    return HTML(  # type: ignore[no-untyped-call]
        f'<div><audio controls aria-label="{name}" src="data:audio/mpeg;base64,{data}" '
        f'style="vertical-align: middle"></audio>{words}</div>'
    )
