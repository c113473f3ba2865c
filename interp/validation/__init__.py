"""Does pushing along a direction *cause* the trait? Paired continuations, controls, a judge of audio alone.

:func:`validate` probes, chooses the site, builds the arms, generates and judges; :func:`run_arms` is its second half,
for arms of one's own. Every arm continues the same sounds with the same noise: an effect is a difference between twins.

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
other trait: ...   another trait's direction at the same site, by as many of its own sigma
ITI heads          the 16 best heads, each pushed by its own sigma (arXiv 2306.03341): the baseline
text               no push; the prompt asks for the trait, under guidance
DSP: ...           no push; the trait is mixed into the unsteered sound, where that is possible at all
=================  =============================================================================================

Only random directions and shuffled labels decide about the verdict (:mod:`interp.validation.verdict`): they push as far
at the same place and know nothing. That other layers or weaker heads do something as well is no evidence against a
site, and is reported beside it. Necessity is in :mod:`interp.validation.ablation`, what each direction does to all
other traits in :mod:`interp.validation.leakage`, and causal against probe ranking in :mod:`interp.validation.ranking`.
"""

from __future__ import annotations

from interp.validation.ablation import ablation_arms, erasures, read_under, refit_after
from interp.validation.arms import CURVES, UNSTEERED, Arm, default_arms, far_site, full_arms, push, shuffled_like
from interp.validation.leakage import judged_changes, leakage
from interp.validation.measures import cohens_h, fad_difference, kept, matched_odds, sign_flip_max
from interp.validation.ranking import head_changes, rank_agreement
from interp.validation.run import Validation, run_arms
from interp.validation.sounds import (
    dsp_baseline,
    has_trait,
    lacks_trait,
    prompts_with,
    prompts_without,
    reference_sounds,
    split_trait,
)
from interp.validation.study import choose, is_readable, pilot_doses, scan, validate
from interp.validation.verdict import RULE, Rule, Verdict, necessity, verdict

__all__ = [
    "CURVES",
    "RULE",
    "UNSTEERED",
    "Arm",
    "Rule",
    "Validation",
    "Verdict",
    "ablation_arms",
    "choose",
    "cohens_h",
    "default_arms",
    "dsp_baseline",
    "erasures",
    "fad_difference",
    "far_site",
    "full_arms",
    "has_trait",
    "head_changes",
    "is_readable",
    "judged_changes",
    "kept",
    "lacks_trait",
    "leakage",
    "matched_odds",
    "necessity",
    "pilot_doses",
    "prompts_with",
    "prompts_without",
    "push",
    "rank_agreement",
    "read_under",
    "reference_sounds",
    "refit_after",
    "run_arms",
    "scan",
    "shuffled_like",
    "sign_flip_max",
    "split_trait",
    "validate",
    "verdict",
]
