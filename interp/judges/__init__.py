"""Judges: audio in, trait scores out. None of them sees an activation, except one that says so."""

from __future__ import annotations

from interp.judges.base import Audio, Judge, accuracy_table, judge_all
from interp.judges.clap import ClapJudge
from interp.judges.distances import Fad, Kad, fad, frechet_distance, kad
from interp.judges.dsp import DspJudge
from interp.judges.dsp_accuracy import measure_dsp_judge
from interp.judges.oversteer import over_steered
from interp.judges.probe import ProbeJudge
from interp.judges.quality import QualityJudge, Thresholds, degenerate, quality
from interp.judges.rendered import RenderedJudge
from interp.judges.rendered_accuracy import measure_rendered_judge
from interp.judges.similarity import prompt_similarity
from interp.judges.training import train_rendered_judge

__all__ = [
    "Audio",
    "ClapJudge",
    "DspJudge",
    "Fad",
    "Judge",
    "Kad",
    "ProbeJudge",
    "QualityJudge",
    "RenderedJudge",
    "Thresholds",
    "accuracy_table",
    "degenerate",
    "fad",
    "frechet_distance",
    "judge_all",
    "kad",
    "measure_dsp_judge",
    "measure_rendered_judge",
    "over_steered",
    "prompt_similarity",
    "quality",
    "train_rendered_judge",
]
