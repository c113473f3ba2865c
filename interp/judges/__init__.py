"""Judges: audio in, trait scores out. None of them sees an activation, except one that says so."""

from __future__ import annotations

from interp.judges.accuracy import accuracy_table, measure, worth
from interp.judges.audio import Audio
from interp.judges.base import Judge, answers, can_hear, embed, has_embedding, hears, judge_all, require, score
from interp.judges.clap import ClapJudge
from interp.judges.distances import Fad, Kad, Reference, fad, fad_difference, fad_interval, frechet_distance, kad
from interp.judges.dsp import DspJudge
from interp.judges.probe import ProbeJudge
from interp.judges.quality import QualityJudge, Thresholds, degenerate, quality
from interp.judges.registry import load, panel, register
from interp.judges.rendered import RenderedJudge
from interp.judges.similarity import prompt_similarity
from interp.judges.tagger import TaggerJudge
from interp.judges.trained import TrainedJudge, train

__all__ = [
    "Audio",
    "ClapJudge",
    "DspJudge",
    "Fad",
    "Judge",
    "Kad",
    "ProbeJudge",
    "QualityJudge",
    "Reference",
    "RenderedJudge",
    "TaggerJudge",
    "Thresholds",
    "TrainedJudge",
    "accuracy_table",
    "answers",
    "can_hear",
    "degenerate",
    "embed",
    "fad",
    "fad_difference",
    "fad_interval",
    "frechet_distance",
    "has_embedding",
    "hears",
    "judge_all",
    "kad",
    "load",
    "measure",
    "panel",
    "prompt_similarity",
    "quality",
    "register",
    "require",
    "score",
    "train",
    "worth",
]
