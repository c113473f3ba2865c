"""Steering: interventions, schedules, self-monitoring, and steered generation for experiments."""

from __future__ import annotations

from interp.directions import Eraser, fit_leace
from interp.steering._jobs import Row
from interp.steering.causal import causal_ranking, code_log_likelihood
from interp.steering.files import dumps, load_interventions, loads, save_interventions
from interp.steering.forced import forced_logits, kl_to_unsteered, log_likelihood
from interp.steering.generate import generate
from interp.steering.generation import Generation
from interp.steering.interventions import (
    Ablate,
    Add,
    Clamp,
    Interpolate,
    Intervention,
    SiteValues,
    Swap,
    cross_fade,
    soft_weights,
    top_k,
)
from interp.steering.interventions.smitin import Smitin
from interp.steering.schedules import (
    Constant,
    Curve,
    Decay,
    EveryN,
    Function,
    Product,
    Ramp,
    RandomGate,
    Schedule,
)

__all__ = [
    "Ablate",
    "Add",
    "Clamp",
    "Constant",
    "Curve",
    "Decay",
    "Eraser",
    "EveryN",
    "Function",
    "Generation",
    "Interpolate",
    "Intervention",
    "Product",
    "Ramp",
    "RandomGate",
    "Row",
    "Schedule",
    "SiteValues",
    "Smitin",
    "Swap",
    "causal_ranking",
    "code_log_likelihood",
    "cross_fade",
    "dumps",
    "fit_leace",
    "forced_logits",
    "generate",
    "kl_to_unsteered",
    "load_interventions",
    "loads",
    "log_likelihood",
    "save_interventions",
    "soft_weights",
    "top_k",
]
