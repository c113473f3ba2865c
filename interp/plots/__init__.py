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
====================  ======================================================================

Every figure is one column (3.4 inches) wide unless axes are given, uses colours that the colour-blind can tell apart,
and marks chance. Nothing here computes a statistic: intervals, nulls and p-values come in the table.
"""

from __future__ import annotations

from interp.plots._causal import arms, dose_response, leakage, rank_scatter, refits, spectrograms, tradeoff
from interp.plots._geometry import cosines, embedding
from interp.plots._heads import baselines, confusion, heatmap, learning_curve, ranking, time_course
from interp.plots._monitor import monitor
from interp.plots._style import COLOURS, DOUBLE, PALETTE, SINGLE, STYLE, drawn, logarithmic, save, select, subplots
from interp.plots._transfer import fusion, strength_by_layer, switch

__all__ = [
    "COLOURS",
    "DOUBLE",
    "PALETTE",
    "SINGLE",
    "STYLE",
    "arms",
    "baselines",
    "confusion",
    "cosines",
    "dose_response",
    "drawn",
    "embedding",
    "fusion",
    "heatmap",
    "leakage",
    "learning_curve",
    "logarithmic",
    "monitor",
    "rank_scatter",
    "ranking",
    "refits",
    "save",
    "select",
    "spectrograms",
    "strength_by_layer",
    "subplots",
    "switch",
    "time_course",
    "tradeoff",
]
