"""From activations to a verdict: choose the site on pilot seeds, build all arms, generate, judge, decide."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import torch

from interp.activations import held
from interp.directions import Direction
from interp.errors import DataError, SiteError
from interp.judges import Judge, embed
from interp.judges.base import has_embedding
from interp.judges.registry import makes_rendered_music, panel
from interp.probes import ProbeResult, probe
from interp.sites import Site, select_sites
from interp.traits import Trait
from interp.validation.ablation import ablation_arms, erasures
from interp.validation.arms import Arm, basic_arms, full_arms
from interp.validation.effects import agreement
from interp.validation.findings import Finding, necessity
from interp.validation.pilot import PILOT_SEED, choose_site, is_readable, pilot_doses, runner_up, scan
from interp.validation.run import Trial, run_arms
from interp.validation.setting import Design, Setting
from interp.validation.sounds import prompts_with, prompts_without, reference_sounds
from interp.validation.summary import References
from interp.validation.verdict import Verdict, verdict

if TYPE_CHECKING:
    import xarray as xr

    from interp.clips import Clips
    from interp.model import MusicGen

__all__ = ["DOSES", "Validation", "validate"]

DOSES = (0.5, 1.0, 2.0, 3.0, 4.0)
"""In standard deviations of the training activations along the direction."""


@dataclass(frozen=True, eq=False, repr=False)
class Validation(Trial):
    """What came of :func:`validate`: all that a :class:`Trial` holds, and what was decided.

    Attributes
    ----------
    site : str
        Where the direction acts.
    dose : float
        The dose chosen on the pilot, at which every control of the full set is run; NaN where there was no pilot.
    method : str
        Of the probe.
    sigma : float
        Standard deviation of the training activations along the direction: what one dose is.
    pilot : DataFrame
        Site, dose and judged share of the pilot; empty if the site was given.
    verdicts : dict of str to Verdict
        By judge.
    necessity : DataFrame
        Losses when the direction is taken out of music that has the trait, by judge; empty in the basic set.
    ablation : DataFrame
        The same, as a table of arms.
    agreement : DataFrame
        How far the judges agree (:func:`agreement`); empty for one judge.
    """

    site: str = ""
    dose: float = float("nan")
    method: str = ""
    sigma: float = float("nan")
    pilot: pd.DataFrame = field(default_factory=pd.DataFrame)
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    necessity: pd.DataFrame = field(default_factory=pd.DataFrame)
    ablation: pd.DataFrame = field(default_factory=pd.DataFrame)
    agreement: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def verdict(self) -> Verdict:
        """What the rule says by the first judge."""
        return self.verdicts[self.judge]

    def findings(self) -> pd.DataFrame:
        """What the rule says, a row a question and a column a judge: the answer, and the number that decided."""
        columns = {
            name: {**{asked: str(each) for asked, each in said.findings.items()}, "causal": said.outcome}
            for name, said in self.verdicts.items()
        }
        return pd.DataFrame(columns).rename_axis("asked").reset_index()

    def sentences(self) -> list[str]:
        """What decided, a paragraph a judge, and what it is worth; of several, who hears it and how far they agree."""
        lines = [
            f"{self.trait} at {self.site}: {said}{f' {said.worth[:1].upper()}{said.worth[1:]}.' if said.worth else ''}"
            for said in self.verdicts.values()
        ]
        if len(self.verdicts) > 1:
            kappas = ", ".join(
                f"{row.a} and {row.b} {row.kappa:.2f} [{row.lo:.2f}, {row.hi:.2f}]"
                for row in self.agreement.itertuples()
            )
            hearing = [name for name, said in self.verdicts.items() if said.sufficient.answer == "yes"]
            lines.append(
                f"Who hears the push bring it: {', '.join(hearing) or 'nobody'}. Agreement of the judges on single "
                f"clips (kappa): {kappas}."
            )
        return lines

    def _headline(self) -> str:
        return f"{super()._headline()}; pushed along {self.method} at {self.site}"

    def __repr__(self) -> str:
        rows = self.findings()
        widths = [max(len(str(cell)) for cell in (name, *rows[name])) for name in rows]
        lines = [rows.columns, *rows.itertuples(index=False)]
        grid = ["  ".join(str(c).ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines]
        return "\n".join([*textwrap.wrap(f"Validation of {self._headline()}", 80), *(f"  {line}" for line in grid)])

    def _repr_html_(self) -> str:
        said = self.findings().to_html(index=False, border=0)
        paragraphs = "".join(f"<p>{html.escape(line)}</p>" for line in self.sentences())
        return f"{said}{paragraphs}{super()._repr_html_()}"


def validate(
    model: MusicGen,
    ds: xr.Dataset,
    trait: str | Trait,
    *,
    judge: str | Judge | Sequence[str | Judge] | None = None,
    clips: Clips | None = None,
    arms: Literal["full", "basic"] = "full",
    method: str = "mean_diff",
    site: str | Site | None = None,
    doses: Sequence[float] = DOSES,
    n_seeds: int = 32,
    studies: tuple[ProbeResult, ProbeResult] | None = None,
    design: Design | None = None,
    setting: Setting | None = None,
    seed: int = 0,
) -> Validation:
    """Validate a probe's direction on continuations of sounds without the trait.

    Parameters
    ----------
    model : MusicGen
        The model that the activations come from.
    ds : Dataset
        Activations of heads and residual stream (:func:`interp.extract`).
    trait : str or Trait
        ``"drums"``, one class of a label against the others, ``"instrument=piano"``, or against one other,
        ``"genre=jazz|rock"``.
    judge : str, Judge, or several, optional
        Who judges what was generated, never the prompt; by name (``"rendered,clap"``) or itself. The one that goes with
        the model when None. Of several the first chooses site and dose, and each has a verdict of its own.
    clips : Clips, optional
        Sounds to continue, and music to measure quality from; rendered when not given, which only fits a model that was
        trained on rendered music.
    arms : {"full", "basic"}
        Every arm and control of :func:`full_arms`, quality, specificity and necessity; or the five arms of
        :func:`basic_arms` at every dose, and what the judges hear of the trait.
    method : str
        Of the probe. Class-mean differences move a model further than a classifier's weights at the same sigma (arXiv
        2306.03341, table 3).
    site : str or Site, optional
        Where the direction acts. Without it, the residual site that works best on pilot seeds that are not used again.
    doses : sequence of float
        In standard deviations of the training activations along the direction.
    n_seeds : int
        Paired seeds; each continues a sound of its own.
    studies : pair of ProbeResult, optional
        Of the heads and of the residual stream, if the probes are fitted already.
    design : Design, optional
        Further sizes: of the pilot, of the reference, heads; other traits, a text.
    setting : Setting, optional
        How the music is made.
    seed : int
        Of prompts, noise, random directions and shuffles.

    Returns
    -------
    Validation

    Raises
    ------
    SiteError
        If there is no such site in the model or in the activations.
    DataError
        If a judge cannot hear the trait, or too few sounds lack (or have) it.
    ControlError
        If a control cannot be built, or dose zero is not the unsteered music.
    """
    if arms not in ("full", "basic"):
        raise DataError(f"there is no set of arms {arms!r}: use full or basic.")
    trait, design, setting = Trait.parse(trait), design or Design(), setting or Setting(measure=arms == "full")
    judges = panel(judge, model=model, data=clips, traits=[trait])
    if clips is None and not makes_rendered_music(model):
        raise DataError(
            f"{model.name} is to continue music of its own kind: give labelled clips (clips=, --clips FOLDER), since "
            "rendered sounds are only for the model that ships."
        )
    if site is not None:
        site = _known(site, model, ds)
    experiment = _Experiment(model, ds, trait, judges, clips, arms == "full", design, setting, seed)
    return experiment.run(method, site, tuple(float(dose) for dose in doses), n_seeds, studies)


def _known(site: str | Site, model: MusicGen, ds: xr.Dataset) -> str:
    """One site that model and activations have."""
    chosen = select_sites(site, model.shape)
    if len(chosen) != 1 or chosen[0].kind != "resid":
        raise SiteError(f"a direction is validated at one site of the residual stream, not at {site}: write L3.resid.")
    return str(held(ds, chosen)[0])


@dataclass(frozen=True)
class _Experiment:
    """What the steps of :func:`validate` share."""

    model: MusicGen
    ds: xr.Dataset
    trait: Trait
    judges: list[Judge]
    clips: Clips | None
    full: bool
    design: Design
    setting: Setting
    seed: int

    def run(
        self, method: str, site: str | None, doses: tuple[float, ...], n: int,
        studies: tuple[ProbeResult, ProbeResult] | None,
    ) -> Validation:  # fmt: skip
        pilot_seeds = self.design.pilot_seeds
        codes = self._prompts(prompts_without, n + pilot_seeds)  # too few sounds: refused before any work
        having = self._prompts(prompts_with, n) if self.full else []
        heads, resid = studies or (self._probe("heads", method), self._probe("resid", method))
        candidates = list(resid.directions.select(method=method, site=site))
        if not candidates:
            raise SiteError(f"the activations have no probe of {method} at {site or 'the residual stream'}.")
        references = self._references()
        pilot, dose, rival = pd.DataFrame(), float("nan"), None
        if self.full or site is None:
            pilot = self._pilot(candidates, codes[n:], doses, references)
            site, dose = choose_site(pilot)
        if self.full:
            rival = _rival(pilot, resid, str(site), dose, method)
        treated = resid.directions.one(site=site, method=method)
        seeds = range(self.seed, self.seed + n)
        arms = self._arms(treated, heads, resid, doses, dose, n, rival)
        made = self._run(arms, codes[:n], doses, seeds, references)
        necessary: dict[str, tuple[Finding, pd.DataFrame]] = {}
        without = None
        if self.full:
            ways = erasures(self.ds, treated, resid, seed=self.seed)
            plain = replace(self.setting, measure=False, keep_audio=False)
            without = self._run(ablation_arms(ways), having, (0.0,), seeds, None, plain)
            necessary = {judge.name: necessity(without.heard_by(judge.name)) for judge in self.judges}
        readable = is_readable(resid.table, str(site))
        decisive = dose if self.full else None
        verdicts = {
            judge.name: self._verdict(judge, made, readable, decisive, necessary.get(judge.name, (None, None))[0])
            for judge in self.judges
        }
        losses = [table.assign(judge=name) for name, (_, table) in necessary.items() if len(table)]
        return Validation(
            **vars(made), site=str(site), dose=dose, method=method, sigma=treated.sigma, pilot=pilot,
            verdicts=verdicts, necessity=pd.concat(losses, ignore_index=True) if losses else pd.DataFrame(),
            ablation=pd.DataFrame() if without is None else without.table,
            agreement=agreement(made.clips) if len(self.judges) > 1 else pd.DataFrame(),
        )  # fmt: skip

    def _prompts(self, side: Any, n: int) -> list[torch.Tensor]:
        codes: list[torch.Tensor] = side(
            self.model, self.trait, n, self.setting.prompt_seconds, seed=self.seed, clips=self.clips
        )
        return codes

    def _probe(self, kind: str, method: str) -> ProbeResult:
        return probe(
            self.ds, str(self.trait), sites=kind, methods=(method,), seed=self.seed, n_permutations=0,
            n_bootstrap=500 if self.full else 0, progress=self.setting.progress,
        )  # fmt: skip

    def _references(self) -> References | None:
        """Embeddings, by each judge that has them, of music with the trait and of music of all kinds."""
        n = self.design.n_reference
        if not self.full or not n or not any(map(has_embedding, self.judges)):
            return None
        by_judge: dict[str, dict[str, Any]] = {judge.name: {} for judge in self.judges}
        for name, of in (("", self.trait), ("any", None)):
            music = reference_sounds(self.model, of, n, self.setting.judged, seed=self.seed, clips=self.clips)
            for judge in filter(has_embedding, self.judges):
                by_judge[judge.name][name] = embed(judge, music, self.model.sample_rate)
        return lambda key: by_judge[key["judge"]]

    def _pilot(
        self, candidates: Sequence[Direction], codes: Sequence[torch.Tensor], doses: tuple[float, ...],
        references: References | None,
    ) -> pd.DataFrame:  # fmt: skip
        """What the first judge hears of every candidate, on seeds of the pilot's own."""
        start = self.seed + PILOT_SEED
        made = scan(
            self.model, self.trait, candidates, codes, pilot_doses(doses) if self.full else (2.0,),
            seeds=range(start, start + len(codes)), judge=self.judges[:1], references=references,
            setting=replace(self.setting, keep_audio=False),
        )  # fmt: skip
        return made.table

    def _arms(
        self, treated: Direction, heads: ProbeResult, resid: ProbeResult, doses: tuple[float, ...], dose: float, n: int,
        rival: Direction | None,
    ) -> list[Arm]:  # fmt: skip
        design = self.design
        if not self.full:
            return basic_arms(self.ds, treated, heads, resid, k=design.k, n_seeds=n, seed=self.seed)
        return full_arms(
            self.ds, treated, heads, resid, dose=dose, doses=doses, text=design.text,
            sample_rate=self.model.sample_rate, k=design.k, k_iti=design.k_iti, iti_doses=design.iti_doses, n_seeds=n,
            seed=self.seed, rival=rival, others={name: self._other(name, treated) for name in design.others},
        )  # fmt: skip

    def _other(self, trait: str, treated: Direction) -> Direction:
        study = probe(
            self.ds, trait, sites=str(treated.site), methods=(treated.method,), n_permutations=0, n_bootstrap=0,
            seed=self.seed, progress=False,
        )  # fmt: skip
        return study.directions[0]

    def _run(
        self, arms: Sequence[Arm], codes: Sequence[torch.Tensor], doses: Sequence[float], seeds: Sequence[int],
        references: References | None, setting: Setting | None = None,
    ) -> Trial:  # fmt: skip
        return run_arms(
            self.model, self.trait, arms, codes, doses, seeds=seeds, judge=self.judges,
            setting=setting or self.setting, references=references,
        )  # fmt: skip

    def _verdict(
        self, judge: Judge, made: Trial, readable: bool, dose: float | None, necessary: Finding | None
    ) -> Verdict:
        table = made.table[made.table["judge"] == judge.name]
        clips = made.heard_by(judge.name)
        return verdict(table, clips, readable, trait=self.trait, judge=judge, dose=dose, necessary=necessary)


def _rival(pilot: pd.DataFrame, resid: ProbeResult, site: str, dose: float, method: str) -> Direction | None:
    """The direction at the best other site: by the pilot, or by its probe where the pilot tried no other."""
    ranked = [str(name) for name in resid.ranking(method)["site"] if str(name) != site]
    best = runner_up(pilot, site, dose) or (ranked[0] if ranked else None)
    return None if best is None else resid.directions.one(site=best, method=method)
