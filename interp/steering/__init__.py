"""Steering: interventions, schedules, self-monitoring, and steered generation for experiments."""

from __future__ import annotations

from interp.steering._registry import register
from interp.steering.causal import causal_ranking, code_log_likelihood
from interp.steering.choice import choose
from interp.steering.files import load, save
from interp.steering.forced import forced_logits, kl_to_unsteered, log_likelihood
from interp.steering.generate import generate
from interp.steering.generation import Generation
from interp.steering.interventions import (
    Ablate,
    Add,
    Call,
    Clamp,
    Interpolate,
    Intervention,
    Smitin,
    Swap,
    cross_fade,
    soft_weights,
)
from interp.steering.rows import Row, Settings
from interp.steering.schedules import Constant, Curve, Decay, EveryN, Product, Ramp, RandomGate, Schedule

__all__ = [
    "Ablate",
    "Add",
    "Call",
    "Clamp",
    "Constant",
    "Curve",
    "Decay",
    "EveryN",
    "Generation",
    "Interpolate",
    "Intervention",
    "Product",
    "Ramp",
    "RandomGate",
    "Row",
    "Schedule",
    "Settings",
    "Smitin",
    "Swap",
    "causal_ranking",
    "choose",
    "code_log_likelihood",
    "cross_fade",
    "forced_logits",
    "generate",
    "kl_to_unsteered",
    "load",
    "log_likelihood",
    "register",
    "save",
    "soft_weights",
]


def __dir__() -> list[str]:
    return __all__
