"""Interventions: what is changed, where, how strongly, when, and on which rows; one formula a file."""

from __future__ import annotations

from interp.steering.interventions._directions import soft_weights
from interp.steering.interventions.ablate import Ablate
from interp.steering.interventions.add import Add
from interp.steering.interventions.base import Ears, Intervention, On, Parameters, Part
from interp.steering.interventions.call import Call
from interp.steering.interventions.clamp import Clamp
from interp.steering.interventions.fade import cross_fade
from interp.steering.interventions.interpolate import Interpolate
from interp.steering.interventions.smitin import Smitin
from interp.steering.interventions.swap import Swap
from interp.steering.interventions.values import SiteValues

__all__ = [
    "Ablate",
    "Add",
    "Call",
    "Clamp",
    "Ears",
    "Interpolate",
    "Intervention",
    "On",
    "Parameters",
    "Part",
    "SiteValues",
    "Smitin",
    "Swap",
    "cross_fade",
    "soft_weights",
]
