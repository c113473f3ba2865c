"""Judges: audio in, trait scores out. None of them sees an activation, except one that says so."""

from __future__ import annotations

from interp.judges.accuracy import accuracy_table
from interp.judges.audio import Audio
from interp.judges.base import Judge, answers, embed, has_embedding, hears, require, score
from interp.judges.clap import ClapJudge
from interp.judges.distances import Reference, fad, fad_difference, fad_interval, kad
from interp.judges.dsp import DspJudge
from interp.judges.files import judge_files
from interp.judges.probe import ProbeJudge
from interp.judges.quality import QualityJudge, degenerate, quality
from interp.judges.registry import load, panel, register
from interp.judges.rendered import RenderedJudge
from interp.judges.similarity import prompt_similarity, structure_similarity
from interp.judges.tagger import TaggerJudge
from interp.judges.trained import TrainedJudge, train

__all__ = [
    "Audio",
    "ClapJudge",
    "DspJudge",
    "Judge",
    "ProbeJudge",
    "QualityJudge",
    "Reference",
    "RenderedJudge",
    "TaggerJudge",
    "TrainedJudge",
    "accuracy_table",
    "answers",
    "degenerate",
    "embed",
    "fad",
    "fad_difference",
    "fad_interval",
    "has_embedding",
    "hears",
    "judge_files",
    "kad",
    "load",
    "panel",
    "prompt_similarity",
    "quality",
    "register",
    "require",
    "score",
    "structure_similarity",
    "train",
]


def __dir__() -> list[str]:
    return __all__
