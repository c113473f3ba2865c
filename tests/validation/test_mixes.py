"""What signal processing can put into finished music."""

from __future__ import annotations

import numpy as np
import torch

from interp.data import render_clips
from interp.judges import RenderedJudge
from interp.validation.mixes import dsp_baseline


def test_signal_processing_puts_drums_into_music_and_nothing_else() -> None:
    music = render_clips(6, seed=5, seconds=2.5, factors={"drums": False}, clips_per_score=1)
    sounds = torch.stack([torch.from_numpy(np.asarray(clip.audio)) for clip in music])
    edits, judge = dsp_baseline("drums", 16_000), RenderedJudge()
    mixed = torch.stack([edits["DSP: drum loop"](sound, i) for i, sound in enumerate(sounds)])
    assert mixed.shape == sounds.shape and not torch.equal(mixed[0] - sounds[0], mixed[1] - sounds[1])
    before, after = (judge.score(x, 16_000)["drums"] >= 0.5 for x in (sounds, mixed))
    assert before.sum() <= 1 and after.sum() >= 4
    assert list(dsp_baseline("bass", 16_000)) == ["DSP: bass line"]
    assert dsp_baseline("genre=jazz", 16_000) == {} and dsp_baseline("instrument", 16_000) == {}
