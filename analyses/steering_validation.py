"""Does pushing along a probe's direction cause the trait, at what cost, and is the direction needed for it?

    python -m analyses.steering_validation --out figures/steering_validation

For each trait a pilot chooses site and dose on seeds that are not used again. Then the model continues sounds without
the trait, pushed along the direction and along every control, with the same noise; a judge of sound alone tells success
and specificity, and distances to rendered music tell quality. The direction is also taken out of music that has the
trait, and probes are fitted anew to what is left; every trait's direction is pushed on the same sounds (leakage); and
the heads that matter are compared with the heads that read. The verdict follows a rule that is written down in
:mod:`interp.validation.verdict`.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

import interp
from analyses import _steering_report as pages
from analyses._steering_monitored import (
    MONITORED,
    choose_alpha,
    cost_beside_iti,
    monitored_arms,
    monitored_controls,
)
from analyses._study import Steps, activations, from_command_line, held_back, labelled_clips, slug
from interp import judges, tables, validation
from interp.directions import Direction, Directions, fit_directions
from interp.errors import DataError
from interp.probes import ProbeResult, probe
from interp.traits import Trait
from interp.validation import RULE, UNSTEERED, Setting, Trial

if TYPE_CHECKING:
    from interp.clips import Clips
    from interp.model import MusicGen

__all__ = ["Config", "main"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Config:
    """What the study does; every field is a flag of the command line.

    Attributes
    ----------
    out : Path
        Folder of tables, figures and the page.
    model : str
        Name, folder or hub name of the checkpoint.
    data : Path or None
        Folder of labelled audio with metadata.csv; music is rendered without it. 30 % of its groups are kept from the
        probes, as sounds to continue and music to compare with.
    judge : str
        rendered, clap, or clap:FOLDER; the rendered judge when empty, which only the shipped model may leave.
    traits : tuple of str
        A yes/no label, or one class of a label against the rest or against another class.
    texts : tuple of str
        The prompt that asks for each trait; its name when empty.
    method : str
        Whose direction pushes.
    n_clips : int
        Clips that the probes see.
    n_seeds, pilot_seeds, cost_seeds, ablation_seeds, leakage_seeds : int
        Paired continuations of each part; the cost beside ITI's has seeds of its own, more, because FAD needs them.
    doses : tuple of float
        Of the treated direction, in standard deviations.
    iti_doses : tuple of float
        Of the heads that inference-time intervention pushes.
    alphas : tuple of float
        Strengths of self-monitored steering of all heads.
    leakage_dose : float
        Of every direction in the leakage matrix.
    k, k_iti : int
        Heads in the arms of heads, and in that of ITI.
    n_reference : int
        Clips of rendered music that quality is measured from.
    n_heard : int
        Clips on which probes are refitted and heads are ranked by what happens without them.
    n_permutations : int
        Label shuffles behind what counts as readable.
    prompt_seconds, seconds : float
        Length of the sound to continue, and of the whole.
    guidance : float
        Coefficient of classifier-free guidance where there is a text.
    seed : int
        Of everything.
    """

    out: Path = Path("figures/steering_validation")
    model: str = "tiny"
    data: Path | None = None
    judge: str = ""
    traits: tuple[str, ...] = ("drums", "instrument=flute|piano", "genre=jazz|classical")
    texts: tuple[str, ...] = ()
    method: str = "mean_diff"
    n_clips: int = 400
    n_seeds: int = 64
    pilot_seeds: int = 24
    cost_seeds: int = 128
    ablation_seeds: int = 24
    leakage_seeds: int = 16
    doses: tuple[float, ...] = (1.0, 2.0, 2.5, 3.0, 4.0)
    iti_doses: tuple[float, ...] = (2.0, 2.5, 3.0, 4.0, 5.0)
    alphas: tuple[float, ...] = (8.0, 12.0, 16.0)
    leakage_dose: float = 3.0
    k: int = 8
    k_iti: int = 16
    n_reference: int = 256
    n_heard: int = 128
    n_permutations: int = 100
    prompt_seconds: float = 1.5
    seconds: float = 4.0
    guidance: float = 2.0
    seed: int = 0


def main(config: Config | None = None, *, progress: bool = True) -> dict[str, pd.DataFrame]:
    """Run the study.

    Parameters
    ----------
    config : Config, optional
        Read from the command line when not given.
    progress : bool
        Show progress bars.

    Returns
    -------
    dict of str to DataFrame
        ``verdicts, arms, monitored, cost, clips, scan, necessity, refits, leakage, heads, agreement, bars``, as written
        to ``config.out``.
    """
    config = from_command_line(Config, __doc__) if config is None else config
    if not config.judge:
        judges.load("", model=config.model, traits=config.traits)  # said before anything takes time
    model = interp.load(config.model)
    judge = judges.load(config.judge, model=model, traits=config.traits)
    study = _Study(config, model, judge, progress)
    found = study.tables()
    for name, table in found.items():
        tables.write(table, config.out / name, formats=("csv",) if name in ("clips", "scan") else ("csv", "md", "tex"))
    page = pages.write(found, config, study.model, study.sites)
    for line in pages.sentences(found, config):
        print(line)
    print(f"Tables, figures and the page: {page}")
    return found


def _control(rows: pd.DataFrame, dose: float) -> float:
    """What a control gains at a dose, or at the largest it was run at."""
    here = rows[rows["dose"] == dose]
    return float((here if len(here) else rows.nlargest(1, "dose"))["diff"].iloc[0])


class _Study:
    def __init__(self, config: Config, model: MusicGen, judge: Any, progress: bool) -> None:
        self.config, self.model, self.judge, self.progress = config, model, judge, progress
        if config.texts and len(config.texts) != len(config.traits):
            raise DataError(f"{len(config.traits)} traits need {len(config.traits)} texts, not {len(config.texts)}.")
        self.clips = labelled_clips(config.data, config.n_clips, config.seed, progress)
        for trait in config.traits:
            Trait.parse(trait).has(self.clips.labels)
        self._given: Clips | None = None
        if config.data is not None:  # whole songs are kept from the probes, to be continued and to compare with
            kept = held_back(self.clips, config.seed)
            self._given, self.clips = self.clips.subset(kept), self.clips.subset(~kept)
        tag = f"{config.data or 'rendered'}-{config.seed}-{len(self.clips)}".replace("/", "_")
        self.ds = activations(model, self.clips, config.out, tag=tag, progress=progress)
        key = {k: v for k, v in dataclasses.asdict(config).items() if k != "out"}
        self.steps = Steps(config.out, key | {"fingerprint": model.fingerprint})
        self.probed: dict[str, tuple[ProbeResult, ProbeResult]] = {}
        self.sites: dict[str, tuple[str, float]] = {}
        self.references: dict[str | None, np.ndarray[Any, Any]] = {}
        self.setting = Setting(
            seconds=config.seconds, prompt_seconds=config.prompt_seconds, guidance=config.guidance, progress=progress
        )  # fmt: skip

    # -- what is needed along the way ---------------------------------------------------------------------------------

    def studies(self, trait: str) -> tuple[ProbeResult, ProbeResult]:
        """Probes of heads and of the residual stream."""
        if trait not in self.probed:
            one: dict[str, Any] = {
                "methods": (self.config.method,), "seed": self.config.seed, "progress": self.progress,
                "n_permutations": self.config.n_permutations, "n_bootstrap": 300,
            }  # fmt: skip
            heads, resid = (probe(self.ds, trait, sites=kind, **one) for kind in ("heads", "resid"))
            self.probed[trait] = heads, resid
        return self.probed[trait]

    def text(self, trait: str) -> str:
        """The prompt that asks for a trait."""
        return self.config.texts[self.config.traits.index(trait)] if self.config.texts else Trait.parse(trait).answer

    def prompts(self, trait: str) -> list[torch.Tensor]:
        """Sounds without the trait: those of the study, then those of the pilot."""
        c = self.config
        return validation.prompts_without(
            self.model, trait, c.n_seeds + c.pilot_seeds, c.prompt_seconds, seed=c.seed, clips=self._given
        )

    def treated(self, trait: str) -> Direction:
        return self.studies(trait)[1].directions.one(site=self.sites[trait][0], method=self.config.method)

    def run(self, name: str, make: Callable[[], Trial]) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Table and clips of a run that is made once."""

        def both() -> pd.DataFrame:
            made = make()
            self.steps.table(f"{name}_table", lambda: made.table)
            return made.clips

        clips = self.steps.table(f"{name}_clips", both)
        return self.steps.table(f"{name}_table", lambda: make().table), clips

    # -- steps --------------------------------------------------------------------------------------------------------

    def tables(self) -> dict[str, pd.DataFrame]:
        c = self.config
        found: dict[str, list[pd.DataFrame]] = {}
        for trait in c.traits:
            for name, table in self._trait(trait).items():
                found.setdefault(name, []).append(table if "trait" in table else table.assign(trait=trait))
        joined = {name: pd.concat(parts, ignore_index=True) for name, parts in found.items()}
        joined["leakage"] = self.steps.table("leakage", self._leakage)
        return joined

    def _trait(self, trait: str) -> dict[str, pd.DataFrame]:
        c, name = self.config, slug(trait)
        scan, scan_clips = self.run(f"scan_{name}", lambda: self._scan(trait))
        self.sites[trait] = validation.choose(scan)
        arms, clips = self.run(f"arms_{name}", lambda: self._arms(trait))
        without, without_clips = self.run(f"without_{name}", lambda: self._without(trait, asked=False))
        asked, asked_clips = self.run(f"without_text_{name}", lambda: self._without(trait, asked=True))
        tried, _ = self.run(f"monitored_pilot_{name}", lambda: self._monitored(trait, c.alphas, pilot=True))
        alpha = choose_alpha(tried)
        monitored, _ = self.run(f"monitored_{name}", lambda: self._monitored(trait, c.alphas, pilot=False, alpha=alpha))
        cost = self._beside_iti(trait)
        answer, losses = validation.necessity(without_clips)
        _, asked_losses = validation.necessity(asked_clips)
        losses = pd.concat([losses.assign(music="continued"), asked_losses.assign(music="asked for")])
        rates = pd.concat([without.assign(music="continued"), asked.assign(music="asked for")])
        heads, agreement = zip(*(self._ranks(trait, way) for way in ("ablate", "attribution")), strict=True)
        site, dose = self.sites[trait]
        resid = self.studies(trait)[1].table
        said = validation.verdict(arms, clips, validation.is_readable(resid, site), necessary=answer)
        verdicts = [{"trait": trait, "site": site, "seeds": c.n_seeds, **dataclasses.asdict(said)}]
        verdicts += self._scan_verdicts(trait, scan, scan_clips)
        return {
            "verdicts": pd.DataFrame(verdicts).merge(
                resid[["site", "test_score", "lo", "hi", "p_max"]].add_prefix("probe_"), left_on="site",
                right_on="probe_site",
            ).drop(columns="probe_site"),
            "arms": arms,
            "clips": validation.public(clips),
            "scan": scan,
            "necessity": losses,
            "ablation": rates,
            "refits": self.steps.table(f"refits_{name}", lambda: self._refits(trait)),
            "heads": pd.concat(heads, ignore_index=True),
            "agreement": pd.concat(agreement, ignore_index=True),
            "monitored": monitored,
            "cost": cost,
            "bars": self._bars(trait, arms, dose, monitored, alpha, cost),
        }  # fmt: skip

    def _scan(self, trait: str) -> Trial:
        c = self.config
        candidates = self.studies(trait)[1].directions.select(method=c.method)
        start = c.seed + 10_000
        return validation.scan(
            self.model, trait, list(candidates), self.prompts(trait)[c.n_seeds :], validation.pilot_doses(c.doses),
            seeds=range(start, start + c.pilot_seeds), control=True, seed=c.seed, judge=self.judge,
            references=self._references(trait), setting=self.setting,
        )  # fmt: skip

    def _scan_verdicts(self, trait: str, scan: pd.DataFrame, clips: pd.DataFrame) -> list[dict[str, Any]]:
        """The rule at every other site, from the few seeds of the pilot and random directions alone."""
        resid, found = self.studies(trait)[1].table, []
        for site in [one for one in scan.loc[~scan["control"], "site"].unique() if one != self.sites[trait][0]]:
            random = f"random {site}"
            rule = dataclasses.replace(RULE, controls=(random,))
            table = scan[scan["arm"].isin([UNSTEERED, site, random])]
            readable = validation.is_readable(resid, site)
            said = validation.verdict(table, clips, readable, arm=site, rule=rule)
            seeds = self.config.pilot_seeds
            found.append({"trait": trait, "site": site, "seeds": seeds, **dataclasses.asdict(said)})
        return found

    def _arms(self, trait: str) -> Trial:
        c = self.config
        heads, resid = self.studies(trait)
        site, dose = self.sites[trait]
        others = {one: self._direction(one, site) for one in c.traits if one != trait}
        arms = validation.full_arms(
            self.ds, self.treated(trait), heads, resid, dose=dose, doses=c.doses, others=others, text=self.text(trait),
            sample_rate=self.model.sample_rate, k=c.k, k_iti=c.k_iti, iti_doses=c.iti_doses, n_seeds=c.n_seeds,
            seed=c.seed,
        )  # fmt: skip
        return validation.run_arms(
            self.model, trait, arms, self.prompts(trait)[: c.n_seeds], c.doses,
            seeds=range(c.seed, c.seed + c.n_seeds), judge=self.judge, references=self._references(trait),
            setting=self.setting,
        )  # fmt: skip

    def _direction(self, trait: str, site: str) -> Direction:
        return self.studies(trait)[1].directions.one(site=site, method=self.config.method)

    def _references(self, trait: str) -> dict[str, np.ndarray[Any, Any]]:
        """Embeddings of music with the trait, and of music of all kinds."""
        c = self.config
        for of in (trait, None):
            if of not in self.references:
                music = validation.reference_sounds(
                    self.model, of, c.n_reference, c.seconds - c.prompt_seconds, seed=c.seed, clips=self._given
                )
                self.references[of] = judges.embed(self.judge, music, self.model.sample_rate)
        return {"": self.references[trait], "any": self.references[None]}

    def _without(self, trait: str, asked: bool) -> Trial:
        """Erase in music that has the trait: continued from such sounds, or asked for in words from nothing."""
        c, n = self.config, self.config.ablation_seeds
        ways = validation.erasures(self.ds, self.treated(trait), self.studies(trait)[1], seed=c.seed)
        given: Sequence[torch.Tensor | None] = [None] * n
        if not asked:
            given = validation.prompts_with(self.model, trait, n, c.prompt_seconds, seed=c.seed, clips=self._given)
        setting = self.setting
        if asked:
            setting = dataclasses.replace(
                setting, prompt_seconds=0.0, seconds=c.seconds - c.prompt_seconds, text=self.text(trait)
            )
        return validation.run_arms(
            self.model, trait, validation.ablation_arms(ways), given, (0.0,), seeds=range(c.seed, c.seed + n),
            judge=self.judge, setting=setting,
        )  # fmt: skip

    @functools.cached_property
    def _heard(self) -> tuple[torch.Tensor, pd.DataFrame]:
        """Codes of other music than the probes saw, and its labels."""
        c = self.config
        clips = self._given
        if clips is None:
            from interp.data import render_clips

            clips = render_clips(c.n_heard, seed=c.seed + 700_001, seconds=2.0)
        codes = []
        for clip in list(clips)[: c.n_heard]:
            audio = torch.as_tensor(np.asarray(clip.audio))[None, :, : round(2.0 * clip.sample_rate)]
            codes.append(self.model.encode(audio, clip.sample_rate))
        shortest = min(one.shape[-1] for one in codes)
        return torch.cat([one[..., :shortest] for one in codes]), clips.labels.iloc[: len(codes)]

    def _refits(self, trait: str) -> pd.DataFrame:
        c = self.config
        treated, resid = self.treated(trait), self.studies(trait)[1]
        sites = [site for site in resid.sites if site.layer >= treated.site.layer - 1]
        codes, labels = self._heard
        ways = validation.erasures(self.ds, treated, resid, seed=c.seed)
        return validation.refit_after(self.model, codes, labels, trait, ways, sites, method="lda", seed=c.seed)

    def _ranks(self, trait: str, way: str) -> tuple[pd.DataFrame, pd.DataFrame]:
        changes = self.steps.table(f"changes_{way}", lambda: validation.head_changes(self.model, self._heard[0], way))
        rows = self.studies(trait)[0].ranking(self.config.method)
        heads, agreement = validation.rank_agreement(changes, self._heard[1], trait, rows, seed=self.config.seed)
        return heads.assign(method=way), agreement.assign(method=way)

    def _both_probes(self, trait: str) -> ProbeResult:
        """Heads' logistic probes, which a monitor hears, and those of the method, which it pushes along."""
        c = self.config
        return probe(
            self.ds, trait, sites="heads", methods=tuple(dict.fromkeys(("logistic", c.method))), n_permutations=0,
            n_bootstrap=0, seed=c.seed, progress=self.progress,
        )  # fmt: skip

    def _monitored(
        self, trait: str, alphas: tuple[float, ...], *, pilot: bool, alpha: float | None = None
    ) -> Trial:
        """SMITIN along the method's directions, its monitor hearing the logistic probes: pilot, or study."""
        c = self.config
        heads = self._both_probes(trait)
        arms = monitored_arms(heads, c.method, alphas)
        if pilot:
            codes, start = self.prompts(trait)[c.n_seeds :], c.seed + 10_000
            return validation.run_arms(
                self.model, trait, arms, codes, alphas, seeds=range(start, start + c.pilot_seeds),
                judge=self.judge, references=self._references(trait), setting=self.setting,
            )  # fmt: skip
        of_controls = tuple(sorted({max(alphas), max(alphas) if alpha is None else alpha}))
        arms += monitored_controls(self.ds, heads, c.method, of_controls, c.seed)
        return validation.run_arms(
            self.model, trait, arms, self.prompts(trait)[: c.n_seeds], alphas,
            seeds=range(c.seed, c.seed + c.n_seeds), judge=self.judge, references=self._references(trait),
            setting=self.setting,
        )  # fmt: skip

    def _cost(self, trait: str) -> Trial:
        """One layer, self-monitored heads and ITI's heads at every strength, on seeds that nothing else saw."""
        c = self.config
        site, _ = self.sites[trait]
        heads, _ = self.studies(trait)
        best = [heads.directions.one(site=one, method=c.method) for one in heads.ranking(c.method)["site"]]
        layer = self._direction(trait, site)
        arms = [
            validation.push("probe", layer, control=False, doses=validation.pilot_doses(c.doses)),
            *monitored_arms(self._both_probes(trait), c.method, c.alphas),
            validation.push("ITI heads", Directions(best[: c.k_iti]), control=False, doses=c.iti_doses),
        ]
        seen = 0 if self._given is None else c.n_seeds + c.pilot_seeds  # a folder's sounds do not change with the seed
        codes = validation.prompts_without(
            self.model, trait, seen + c.cost_seeds, c.prompt_seconds, seed=c.seed + 800_001, clips=self._given
        )[seen:]
        start = c.seed + 40_000
        return validation.run_arms(
            self.model, trait, arms, codes, c.doses, seeds=range(start, start + c.cost_seeds),
            judge=self.judge, references=self._references(trait), setting=self.setting,
        )  # fmt: skip

    def _beside_iti(self, trait: str) -> pd.DataFrame:
        name = slug(trait)
        table, clips = self.run(f"cost_{name}", lambda: self._cost(trait))
        reference = self._references(trait)[""]
        return self.steps.table(f"beside_iti_{name}", lambda: cost_beside_iti(table, clips, reference))

    def _bars(
        self, trait: str, arms: pd.DataFrame, dose: float, monitored: pd.DataFrame, alpha: float, cost: pd.DataFrame
    ) -> pd.DataFrame:
        """Gain, controls, and the cost beside that of ITI's heads: of one layer, and of self-monitored heads."""
        rows = []
        for how, table, arm, at, controls in (
            ("one layer", arms, "probe", dose, ("random", "shuffled labels")),
            (MONITORED, monitored, MONITORED, alpha, (f"{MONITORED}, random", f"{MONITORED}, shuffled labels")),
        ):
            treated = table[(table["arm"] == arm) & (table["dose"] == at)].iloc[0]
            random, shuffled = (_control(table[table["arm"] == one], at) for one in controls)
            beside = cost[(cost["arm"] == arm) & (cost["dose"] == at)].iloc[0]
            rows.append(
                {
                    "trait": trait, "how": how, "site": self.sites[trait][0] if how == "one layer" else "all heads",
                    "dose": at, "unsteered": float(table.loc[table["arm"] == UNSTEERED, "rate"].iloc[0]),
                    "success": treated["rate"], "gain": treated["diff"], "gain_lo": treated["diff_lo"],
                    "gain_hi": treated["diff_hi"], "p_max": treated["p_max"], "random": random, "shuffled": shuffled,
                    "not_music": treated["not_music"], "fad": treated["fad"],
                    "cost_seeds": beside["n"], "cost_success": beside["rate"], "cost_fad": beside["fad"],
                    "cost_kad": beside["kad"], **beside.filter(regex="^(iti|fad_gap)"),
                }
            )  # fmt: skip
        return pd.DataFrame(rows)

    def _leakage(self) -> pd.DataFrame:
        """Every answer's direction at one site: the one chosen for most traits, the latest of several."""
        c = self.config
        chosen = [site for site, _ in self.sites.values()]
        site = max(dict.fromkeys(chosen), key=lambda one: (chosen.count(one), one))
        directions = {}
        labels = interp.labels(self.ds)
        for question, answers in self.judge.questions.items():
            if question not in labels.columns:
                continue
            for one in answers:
                if len(answers) > 1 and one not in set(labels[question].astype(str)):
                    continue  # a class that the judge knows and the folder lacks
                trait = question if len(answers) == 1 else f"{question}={one}"
                directions[one] = fit_directions(self.ds, trait, sites=site, methods=(c.method,), seed=c.seed)[0]
        n, start = c.leakage_seeds, c.seed + 20_000
        clips = self._given
        if clips is None:
            from interp.data import render_clips

            clips = render_clips(n, seed=c.seed + 600_001, seconds=c.prompt_seconds, clips_per_score=1)
        codes = []
        for clip in list(clips)[:n]:
            audio = torch.as_tensor(np.asarray(clip.audio))[None, :, : round(c.prompt_seconds * clip.sample_rate)]
            codes.append(self.model.encode(audio, clip.sample_rate)[0])
        table = validation.leakage(
            self.model, directions, codes, c.leakage_dose, seeds=range(start, start + len(codes)), judge=self.judge,
            setting=self.setting,
        )  # fmt: skip
        return table.assign(site=site, dose=c.leakage_dose)


if __name__ == "__main__":
    from interp.cli import sentences

    with sentences():
        main()
