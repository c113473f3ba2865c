"""From files to codes, from generated music to a page one can listen to.

:func:`dose_page` generates the same music under several arms and doses and writes a page to compare them by ear;
:func:`listening_page` writes that page for sounds that are there already; :func:`compare_sounds` lists all sounds of a
few arms in a table; :func:`player` puts a small player into a notebook.
"""

from __future__ import annotations

from interp.listening.doses import dose_page
from interp.listening.files import compare_sounds, encode_file, judge_files, read_audio
from interp.listening.page import Take, listening_page
from interp.listening.player import player

__all__ = [
    "Take",
    "compare_sounds",
    "dose_page",
    "encode_file",
    "judge_files",
    "listening_page",
    "player",
    "read_audio",
]
