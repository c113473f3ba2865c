"""Figures: a DataFrame in, an Axes out, in one look; :func:`save` writes the picture and the numbers it shows.

====================  ======================================================================
:func:`heatmap`       one score per layer and head
:func:`ranking`       the best sites, with intervals, against the null of the best site
:func:`baselines`     the probe beside a probe on the mel spectrum, on an untrained copy, ...
:func:`learning_curve`  score against the number of training clips
:func:`time_course`   score against the time in the clip
:func:`confusion`     which class is taken for which
:func:`cosines`       pairs of methods per site, with null and split-half ceiling
:func:`embedding`     clips in two dimensions: UMAP beside PCA
:func:`dose_response`  what a judge hears against the dose, with controls
:func:`spectrograms`  a sound before and after
:func:`strength_by_layer`  success for every layer and strength
:func:`fusion`        what is heard against the weights of two classes
:func:`switch`        two classes over the time in the clip
:func:`arms`          every arm at its decisive dose, treated and controls
:func:`tradeoff`      success against its cost in quality
:func:`leakage`       what each trait's direction does to every trait
:func:`refits`        probes fitted anew after an erasure
:func:`rank_scatter`  how much a head matters against how well it reads
:func:`monitor`       what a self-monitor heard over time, and when it let the push through
:func:`patching`      what putting an activation of one run into another does
:func:`attention`     what one head looks at; :func:`attention_page`: all heads
:func:`lens`          what every layer would say
:func:`logit_attribution`  what every part adds to a difference of logits
:func:`matrix`        cosines of all pairs of directions
:func:`path`          angles along a path of penalties
:func:`plane`         clips on the plane of two directions
:func:`by_size`       how directions settle with the number of clips
:func:`directions_map`  directions in two dimensions: UMAP beside PCA
:func:`effect_against_detection`  what pushing does against how well a direction detects
====================  ======================================================================

A plot has the name of the table that it draws. Every figure is one column (3.4 inches) wide unless axes are given,
uses colours that the colour-blind can tell apart, and marks chance; :mod:`interp.plots.style` is the look, for figures
of your own. Nothing here computes a statistic: intervals, nulls and p-values come in the table.
"""

from __future__ import annotations

from interp.plots import style
from interp.plots.causal import arms, dose_response, leakage, rank_scatter, refits, tradeoff
from interp.plots.curves import baselines, confusion, learning_curve, time_course
from interp.plots.geometry import by_size, cosines, effect_against_detection, matrix, path, plane
from interp.plots.heads import heatmap, ranking
from interp.plots.maps import directions_map, embedding
from interp.plots.mechanisms import attention, attention_page, lens, logit_attribution, patching
from interp.plots.sound import monitor, spectrograms
from interp.plots.style import save
from interp.plots.transfer import fusion, strength_by_layer, switch

__all__ = [
    "arms",
    "attention",
    "attention_page",
    "baselines",
    "by_size",
    "confusion",
    "cosines",
    "directions_map",
    "dose_response",
    "effect_against_detection",
    "embedding",
    "fusion",
    "heatmap",
    "leakage",
    "learning_curve",
    "lens",
    "logit_attribution",
    "matrix",
    "monitor",
    "patching",
    "path",
    "plane",
    "rank_scatter",
    "ranking",
    "refits",
    "save",
    "spectrograms",
    "strength_by_layer",
    "style",
    "switch",
    "time_course",
    "tradeoff",
]


def __dir__() -> list[str]:
    return __all__
