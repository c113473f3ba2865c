"""By which path: patching, attribution, attention, the lens, and what each part adds to the logits.

===========================  =====================================================================================
:func:`hear`                 what a run hears: music and text
:func:`patch`                put an activation of one run into another, for every site, with nulls
:func:`attribute`            the same estimated from gradients, for all sites at once
:func:`attention_weights`    what each head of a layer looks at
:func:`attention_summary`    ... in a few numbers a head; :func:`lag_profile` by distance, :func:`word_mass` by word
:func:`repetition`           which heads look at the previous occurrence of what is heard
:func:`lens`                 what every layer would say; :func:`lens_codes` as music
:func:`logit_attribution`    what every part adds to a difference of logits
===========================  =====================================================================================

:mod:`interp.plots` draws the tables.
"""

from __future__ import annotations

from interp.mechanisms.attention import attention_summary, attention_weights, lag_profile, repetition, word_mass
from interp.mechanisms.attribution import attribute
from interp.mechanisms.effects import Effects
from interp.mechanisms.heard import Heard, hear
from interp.mechanisms.lens import lens, lens_codes, lens_logits
from interp.mechanisms.logits import logit_attribution
from interp.mechanisms.metrics import Metric, likelihood, ratio, reading
from interp.mechanisms.patching import patch

__all__ = [
    "Effects",
    "Heard",
    "Metric",
    "attention_summary",
    "attention_weights",
    "attribute",
    "hear",
    "lag_profile",
    "lens",
    "lens_codes",
    "lens_logits",
    "likelihood",
    "logit_attribution",
    "patch",
    "ratio",
    "reading",
    "repetition",
    "word_mass",
]


def __dir__() -> list[str]:
    return __all__
