"""Pages that show and play, from a file, without a server or the network.

:class:`Report` collects text, figures, tables and sounds into one page, and shows itself in a notebook.
:func:`dose_page` generates the same music under several arms and doses and writes a page to compare them by ear;
:func:`listening_page` writes that page for sounds that are there already (:class:`Take`); :func:`player` puts a small
player into a notebook.
"""

from __future__ import annotations

from interp.report.doses import dose_page
from interp.report.listening import Take, listening_page
from interp.report.page import Report
from interp.report.player import player

__all__ = ["Report", "Take", "dose_page", "listening_page", "player"]


def __dir__() -> list[str]:
    return __all__
