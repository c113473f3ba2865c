"""Interventions: what is changed, where, how strongly, when, and on which rows."""

from __future__ import annotations

from interp.steering.interventions.base import (
    Ablate,
    Add,
    Clamp,
    Interpolate,
    Intervention,
    On,
    Part,
    SiteValues,
    Swap,
    cross_fade,
    site_values,
    soft_weights,
    top_k,
)

__all__ = [
    "Ablate",
    "Add",
    "Clamp",
    "Interpolate",
    "Intervention",
    "On",
    "Part",
    "SiteValues",
    "Swap",
    "cross_fade",
    "site_values",
    "soft_weights",
    "top_k",
]
