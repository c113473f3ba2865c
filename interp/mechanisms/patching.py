"""Patching: put the activation of one run into another, site by site, and see how much of their difference it carries.

A pair is two runs that differ in one thing (:mod:`interp.mechanisms.heard`). *Denoising* lets the corrupt run go on
with one activation of the clean run: what is restored was enough. *Noising* lets the clean run go on with one
activation of the corrupt run: what is lost was needed (Heimersheim and Nanda 2024, arXiv 2404.15255).

Both runs are traced once. A patch then is a change of the residual stream at the site's layer, and only the layers
behind it are run again (:func:`interp.backends.parts.rest_of_pass`), many pairs at a time; a test holds this to one
full nnsight trace for each site.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from interp._threads import each, workers
from interp.backends import parts
from interp.backends.audiocraft import ConditionTensors, Visitor
from interp.errors import DataError, SiteError
from interp.mechanisms.effects import Effects, effects
from interp.mechanisms.heard import Heard, check_pairs, frames_between, in_batches, n_positions, partners
from interp.mechanisms.metrics import Metric, metric_named
from interp.model import Forward, MusicGen
from interp.sites import KINDS, Kind, Place, Site, select_sites

__all__ = ["How", "Plan", "Run", "Windows", "keep", "make_plan", "patch", "run_of"]

How = Literal["denoise", "noise"]
Windows = tuple[float, float] | Sequence[tuple[float, float]] | None
_AFTER: dict[Kind, Kind] = {"heads": "attn", "cross_heads": "cross"}
"""The addition to the residual stream by which a head acts; other kinds are one themselves."""


@dataclass(frozen=True)
class Plan:
    """A checked question: which runs, what is exchanged, what is measured."""

    model: MusicGen
    own: Heard
    """What the run hears that is changed."""
    other: Heard
    """Where activations are taken from."""
    metric: Metric
    sites: tuple[Site, ...]
    steps: tuple[range, ...]
    windows: tuple[tuple[float, float], ...]
    counted: range
    how: How
    differs: Literal["text", "music", "both"]

    @property
    def sign(self) -> float:
        """Turns a change of the changed run towards the other side into a positive number."""
        return 1.0 if self.how == "denoise" else -1.0

    def measured(
        self, rows: Sequence[int], side: Heard, conditions: ConditionTensors, visit: dict[Place, Visitor],
        grad: bool = False,
    ) -> Tensor:  # fmt: skip
        """The metric of rows of the pairs, ``[rows]``, from one trace of `side`."""
        forward = self.model.predict(side.codes, conditions=conditions, visit=visit, read=self.metric.sites, grad=grad)
        assert forward.logits is not None
        logits = forward.logits[:, :, self.counted.start : self.counted.stop]
        return self.judged(rows, logits, forward.values)

    def judged(self, rows: Sequence[int], logits: Tensor, values: dict[Site, Tensor]) -> Tensor:
        """The metric, of logits of the counted frames and values ``[rows, positions, dim]``, each frame's where its
        first codebook enters."""
        seen = {site: value[:, self.counted.start + 1 : self.counted.stop + 1] for site, value in values.items()}
        own, other = (
            side.codes[list(rows), :, self.counted.start : self.counted.stop] for side in (self.own, self.other)
        )
        clean, corrupt = (other, own) if self.how == "denoise" else (own, other)
        return self.metric.measure(Forward(logits, seen), clean, corrupt)


@dataclass
class Run:
    """One traced run: the metric of every row, and the places that were kept."""

    measured: Tensor
    kept: dict[Place, Tensor]
    text: Tensor | None


def make_plan(
    model: MusicGen,
    clean: Heard,
    corrupt: Heard,
    metric: str | Metric,
    sites: str | Site | Iterable[str | Site],
    positions: Windows,
    how: How,
    counted: tuple[float, float] | None,
    groups: Sequence[Any] | None,
) -> Plan:
    """Check everything that can be wrong with a question, before any work; raises as :func:`patch` does."""
    parts.check_pre_norm(model.lm)
    differs = check_pairs(model, clean, corrupt)
    if how not in ("denoise", "noise"):
        raise DataError(f"how={how!r} is unknown: patching is 'denoise' or 'noise'.")
    if groups is not None and len(groups) != len(clean):
        raise DataError(f"{len(clean)} pairs need {len(clean)} groups, not {len(groups)}.")
    if positions is not None and not len(positions):
        raise DataError("no stretch of time is patched: give (start, stop), several of them, or None for all.")
    chosen, measure = select_sites(sites, model.shape), metric_named(metric)
    frames = frames_between(model, counted, clean.n_frames, "what counts")
    measure.check(clean, corrupt, frames)
    n_steps = n_positions(model, clean.n_frames)
    spans = [] if positions is None else [positions] if isinstance(positions[0], int | float) else list(positions)
    steps = [frames_between(model, span, n_steps, "what is patched") for span in spans]  # type: ignore[arg-type]
    windows = [(at.start / model.frame_rate, at.stop / model.frame_rate) for at in steps]
    _check_sites(model, clean, corrupt, differs, chosen, steps)
    last = max(_order((_AFTER.get(site.kind, site.kind), site.layer)) for site in chosen)
    for site in (site.check(model.shape) for site in measure.sites):
        if _order(site.place) <= last:
            raise SiteError(
                f"{measure.name} is read at or before {chosen[-1]}, which does not change it: patch sites before "
                f"{site}."
            )
    own, other = (corrupt, clean) if how == "denoise" else (clean, corrupt)
    return Plan(
        model, own, other, measure, tuple(chosen), tuple(steps) or (range(n_steps),),
        tuple(windows) or ((np.nan, np.nan),), frames, how, differs,
    )  # fmt: skip


def _order(place: Place) -> tuple[int, int]:
    return place[1], KINDS.index(place[0])


def _check_sites(
    model: MusicGen, clean: Heard, corrupt: Heard, differs: str, sites: Sequence[Site], steps: Sequence[range]
) -> None:
    """Refuse sites and windows at which both sides of a pair have the same activation, whatever the weights."""
    if differs == "text":
        for site in sites:
            if _order(site.place) < (0, KINDS.index("cross_heads")):
                raise SiteError(
                    f"these pairs differ in text alone, which enters at L0.cross, so that they are alike at {site}: "
                    "leave out what comes before (heads from layer 1 on: 'L1--1.H*')."
                )
    if differs == "music":
        tokens = (model.sequence(side.codes)[0] for side in (clean, corrupt))
        apart = torch.ne(*tokens).any(1).int().argmax(1)  # first step at which a pair differs
        for span in steps:
            if bool((apart >= span.stop).all()):
                raise DataError(
                    f"no pair differs before step {int(apart.min())}, after what is patched ({span.start} to "
                    f"{span.stop}): patch a later stretch."
                )


def patch(
    model: MusicGen,
    clean: Heard,
    corrupt: Heard,
    metric: str | Metric = "likelihood",
    sites: str | Site | Iterable[str | Site] = "heads",
    *,
    positions: Windows = None,
    how: How = "denoise",
    counted: tuple[float, float] | None = None,
    null: bool = True,
    groups: Sequence[Any] | None = None,
    n_permutations: int = 2000,
    batch_size: int = 16,
    seed: int = 0,
    progress: bool = False,
) -> Effects:
    """Patch every site of every pair.

    Parameters
    ----------
    model : MusicGen
    clean, corrupt : Heard
        The two sides, a pair a row, from :func:`hear`: equal but for text, or but for music.
    metric : str or Metric
        ``"likelihood"`` of the music both sides hear, ``"ratio"`` of the likelihoods of their next codes, or
        :func:`reading` of a probe behind the sites.
    sites : sites
        What is patched, one at a time, see :func:`interp.sites.select_sites`. Text enters at cross-attention: patch
        ``cross_heads`` apart.
    positions : (start, stop) or several of them, optional
        Seconds in which activations are exchanged, each stretch on its own; all positions by default.
    how : {"denoise", "noise"}
        Whose run goes on: the corrupt one with something of the clean, or the clean one with something of the corrupt.
    counted : (start, stop), optional
        Seconds whose frames the metric counts; all by default.
    null : bool
        Patch every pair a second time, with a source of another pair (:func:`interp.mechanisms.heard.partners`).
    groups : sequence, optional
        Independent unit of each pair (its song); without, every pair is its own.
    n_permutations : int
        Flips behind p-values.
    batch_size : int
        Pairs at a time; memory grows with it.
    seed : int
        Of partners, intervals and flips.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Effects

    Raises
    ------
    DataError
        If pairs do not go together, the metric means nothing for them or is not finite, or a stretch is empty.
    SiteError
        If a site does not exist, or no pair can differ at it.
    ModelError
        If the model's layers normalise the residual stream itself.

    Examples
    --------
    >>> from interp.backends.build import random_musicgen
    >>> from interp.mechanisms import hear
    >>> model = MusicGen(random_musicgen())
    >>> codes = torch.randint(0, 32, (3, 4, 10), generator=torch.Generator().manual_seed(0))
    >>> clean, corrupt = hear(model, codes, ["a", "b", "c"]), hear(model, codes, ["d", "e", "f"])
    >>> result = patch(model, clean, corrupt, sites="L0.resid, L1.cross", n_permutations=50)
    >>> result.table["site"].tolist(), result.changes.shape
    (['L0.resid', 'L1.cross'], (2, 3))
    """
    plan = make_plan(model, clean, corrupt, metric, sites, positions, how, counted, groups)
    away = partners(model, plan.own, plan.other, plan.differs, seed) if null else None
    shape = (len(plan.sites) * len(plan.steps), len(clean))
    changes, mismatched = np.zeros(shape), np.zeros(shape)
    measured = {"own": np.zeros(len(clean)), "other": np.zeros(len(clean))}
    with tqdm(total=len(clean), desc="patch", unit="pair", disable=None if progress else True) as bar:
        for rows in in_batches(model, plan.own, batch_size):
            own, other = run_of(plan, rows, "own"), run_of(plan, rows, "other")
            measured["own"][rows], measured["other"][rows] = own.measured.cpu(), other.measured.cpu()
            changes[:, rows] = _patched(plan, rows, own, other)
            if away is not None:
                mismatched[:, rows] = _patched(plan, rows, own, run_of(plan, rows, "other", away))
            bar.update(len(rows))
    sides = (measured["other"], measured["own"]) if how == "denoise" else (measured["own"], measured["other"])
    return effects(
        plan.sites, plan.windows, changes, mismatched if null else None, sides, groups, n_permutations, seed,
        metric=plan.metric.name, how=how, method="patching",
    )  # fmt: skip


@torch.no_grad()
def run_of(plan: Plan, rows: Sequence[int], side: Literal["own", "other"], heard: Heard | None = None) -> Run:
    """Trace one side (or what is heard instead of it) once and keep what patching needs of it."""
    model = plan.model
    run = (heard or getattr(plan, side)).take(rows)
    places = {site.place for site in plan.sites}
    if side == "own":
        for kind, layer in set(places):
            places |= {("resid", layer - 1) if layer > 0 else ("embed", -1)} if kind != "embed" else set()
            places |= {("attn", layer)} if kind in ("heads", "attn", "cross_heads", "cross") else set()
            places |= {("cross", layer)} if kind in ("cross_heads", "cross") else set()
            places |= {("resid", layer)} if kind == "mlp" else set()
    kept: dict[Place, Tensor] = {}
    conditions = model.conditions(list(run.texts))
    measured = plan.measured(rows, run, conditions, {place: keep(kept, place) for place in places})
    return Run(measured, kept, parts.text_of(model.lm, conditions))


def keep(kept: dict[Place, Tensor], place: Place) -> Visitor:
    """A visitor that keeps the tensor of a place."""

    def visit(x: Tensor) -> None:
        kept[place] = x

    return visit


def _patched(plan: Plan, rows: Sequence[int], own: Run, source: Run) -> np.ndarray[Any, Any]:
    """Change of the metric of every row, for every site and window, ``[sites * windows, rows]``."""
    model = plan.model
    positions = parts.frame_positions(model.lm, plan.own.n_frames, plan.counted)

    @torch.no_grad()  # which a thread of its own does not inherit
    def changed(at: tuple[Site, range]) -> np.ndarray[Any, Any]:
        site, steps = at
        after: Place = (_AFTER.get(site.kind, site.kind), site.layer)
        x = _stream(own.kept, after).clone()
        x[:, steps.start : steps.stop] += _difference(model, site, own, source)[:, steps.start : steps.stop]
        kept: dict[Place, Tensor] = {}
        with model.autocast():
            visit = {wanted.place: keep(kept, wanted.place) for wanted in plan.metric.sites}
            x = parts.rest_of_pass(model.lm, x, after, own.text, visit)
            logits = parts.frame_logits(model.lm, x, positions)
        values = {
            wanted: kept[wanted.place] if wanted.head is None else kept[wanted.place][:, :, wanted.head]
            for wanted in plan.metric.sites
        }
        measured = plan.judged(rows, logits, values)
        return (plan.sign * (measured - own.measured)).double().cpu().numpy()

    # a metric's hooks are seen by every thread
    n_workers = 1 if plan.metric.sites else workers(model.device.type)
    items = [(site, steps) for site in plan.sites for steps in plan.steps]
    return np.stack(each(changed, items, n_workers))


def _stream(kept: dict[Place, Tensor], after: Place) -> Tensor:
    """The residual stream after an addition, from what a trace kept."""
    kind, layer = after
    if kind in ("embed", "resid"):
        return kept[after]
    if kind == "mlp":
        return kept["resid", layer]
    x = kept["resid", layer - 1] if layer else kept["embed", -1]
    x = x + kept["attn", layer]
    return x + kept["cross", layer] if kind == "cross" else x


def _difference(model: MusicGen, site: Site, own: Run, source: Run) -> Tensor:
    """What the residual stream gains when the site's activation is exchanged, ``[rows, positions, width]``."""
    difference = source.kept[site.place] - own.kept[site.place]
    if site.head is None:
        return difference
    dim = model.shape.head_dim
    weight = model.output_projection(site)[:, site.head * dim : (site.head + 1) * dim]
    return difference[:, :, site.head] @ weight.to(difference).T
