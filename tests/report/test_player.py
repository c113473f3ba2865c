"""The player of notebooks."""

from __future__ import annotations

import numpy as np
import pytest

from interp.errors import ClipError
from interp.report import player


def test_player_for_notebooks() -> None:
    words = player(0.4 * np.sin(np.arange(32000) / 9), 16000, "a <b>").data
    assert "data:audio/mpeg;base64," in words and "a &lt;b&gt;" in words and len(words) < 60_000
    with pytest.raises(ClipError, match="empty"):
        player(np.zeros(0), 16000)
