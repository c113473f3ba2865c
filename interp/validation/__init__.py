"""Does pushing along a direction *cause* the trait? Paired continuations, controls, a judge of audio alone.

:func:`validate` probes, chooses the site, builds the arms, generates and judges; :func:`run_arms` is its second half,
for arms of one's own: clips in a tidy table, from which :func:`summarise` makes one row a condition, by whatever
columns the arms say of themselves. Every arm continues the same sounds with the same noise: an effect is a difference
between twins.

Arms of :func:`validate`; the first five are the set ``"basic"``:

=================  =============================================================================================
unsteered          nothing is changed; dose zero of every arm must give the same tokens, or :class:`ControlError`
probe              the probe's direction, at one site
random             a direction drawn for each seed, as long as the probe's: how far one pushes, not where to
shuffled labels    the same probe fitted to shuffled labels (eight shuffles in turn), as long as the probe's
best heads         the directions of the heads that read the trait best, together
worst heads        the same number of heads that read it worst, each pushed by as many of its own sigma
random heads       the same number drawn from all but the best (eight draws in turn)
flipped sign       the probe's direction the other way
other layer        the treated *vector*, as long, at the layer furthest away: how local is it?
best other site    the trait's own direction at the other site that did best on the pilot, by as many of its own sigma
other trait: ...   another trait's direction at the same site, by as many of its own sigma
ITI heads          the 16 best heads, each pushed by its own sigma (arXiv 2306.03341): the baseline
text               no push; the prompt asks for the trait, under guidance
DSP: ...           no push; the trait is mixed into the unsteered sound, where that is possible at all
=================  =============================================================================================

The verdict (:mod:`interp.validation.verdict`) answers four questions apart, by a rule written before the run: whether
the push brings the trait; whether random directions and shuffled labels, which push as far at the same place and know
nothing, or other sites bring it as well; whether other traits stay; and whether the direction is needed
(:mod:`interp.validation.ablation`). What heads do is reported beside it. What each direction does to all other traits
is in :mod:`interp.validation.leakage`, causal against probe ranking in :mod:`interp.validation.ranking`.
"""

from __future__ import annotations

from interp.validation.ablation import ablation_arms
from interp.validation.arms import UNSTEERED, Arm, basic_arms, full_arms, push, shuffled_like
from interp.validation.experiment import validate
from interp.validation.findings import Rule, necessity
from interp.validation.leakage import leakage
from interp.validation.ranking import rank_agreement
from interp.validation.run import run_arms
from interp.validation.setting import Design, Setting
from interp.validation.sounds import prompts_with, prompts_without
from interp.validation.summary import summarise
from interp.validation.verdict import verdict

__all__ = [
    "UNSTEERED",
    "Arm",
    "Design",
    "Rule",
    "Setting",
    "ablation_arms",
    "basic_arms",
    "full_arms",
    "leakage",
    "necessity",
    "prompts_with",
    "prompts_without",
    "push",
    "rank_agreement",
    "run_arms",
    "shuffled_like",
    "summarise",
    "validate",
    "verdict",
]


def __dir__() -> list[str]:
    return __all__
