"""A small player for notebooks."""

from __future__ import annotations

import html
from typing import Any

from interp.data.audio import encode_audio
from interp.report._html import data_url

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

    Examples
    --------
    >>> import numpy as np
    >>> shown = player(np.sin(np.arange(16000) / 20), 16000, "a tone")
    >>> "audio/mpeg" in shown.data, shown.data.endswith("<span>a tone</span></div>")
    (True, True)
    """
    from IPython.display import HTML

    sound = data_url("audio/mpeg", encode_audio(audio, sample_rate, "MP3"))
    words = f" <span>{html.escape(label)}</span>" if label else ""
    name = html.escape(label or "sound", quote=True)
    return HTML(  # type: ignore[no-untyped-call]
        f'<div><audio controls aria-label="{name}" src="{sound}" style="vertical-align: middle"></audio>{words}</div>'
    )
