"""Steering: interventions, schedules, self-monitoring, and steered generation for experiments."""

from __future__ import annotations

from interp.steering._registry import register
from interp.steering.causal import causal_ranking
from interp.steering.files import load, save
from interp.steering.forced import kl_to_unsteered, log_likelihood
from interp.steering.generate import generate
from interp.steering.generation import Generation
from interp.steering.interventions import Ablate, Add, Call, Clamp, Interpolate, Intervention, Smitin, Swap, cross_fade
from interp.steering.rows import Row, Settings
from interp.steering.schedules import Curve, Decay, EveryN, Ramp, RandomGate

__all__ = [
    "Ablate",
    "Add",
    "Call",
    "Clamp",
    "Curve",
    "Decay",
    "EveryN",
    "Generation",
    "Interpolate",
    "Intervention",
    "Ramp",
    "RandomGate",
    "Row",
    "Settings",
    "Smitin",
    "Swap",
    "causal_ranking",
    "cross_fade",
    "generate",
    "kl_to_unsteered",
    "load",
    "log_likelihood",
    "register",
    "save",
]


def __dir__() -> list[str]:
    return __all__
