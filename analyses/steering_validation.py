"""Does pushing along a probe's direction cause the trait, at what cost, and is the direction needed for it?

    python -m analyses.steering_validation --out figures/steering_validation
    python -m analyses.steering_validation --model facebook/musicgen-large --data FOLDER --traits drums \\
        --seconds 10 --prompt-seconds 5 --guidance 3

For each trait a pilot chooses site and dose on seeds that are not used again. Then the model continues sounds without
the trait, pushed along the direction and along every control, with the same noise; a judge of sound alone tells success
and specificity, and distances to music with the trait tell quality. The direction is also taken out of music that has
the trait, and probes are fitted anew to what is left; every trait's direction is pushed on the same sounds (leakage);
and the heads that matter are compared with the heads that read. The verdicts, of every judge (``--judge
rendered,tagger``; the first chooses site and dose), follow a rule that is written down in
:mod:`interp.validation.verdict`. Of a folder, 30 % of the groups are kept from the probes, to be continued and to
compare with.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from analyses._steering_tables import answer_directions, bars, choose_alpha, monitored_arms, monitored_controls, stacked
from analyses._steering_words import figures_of, sentence
from interp import plots, validation
from interp.data import render_clips
from interp.directions import Direction, Directions
from interp.errors import DataError
from interp.probes import ProbeResult, probe
from interp.study import Common, Drawing, Study, main, once, step
from interp.traits import Trait
from interp.validation import Arm, pilot
from interp.validation.ablation import erasures, refit_after
from interp.validation.cost import cost_beside
from interp.validation.effects import agreement
from interp.validation.findings import RULE
from interp.validation.pilot import PILOT_SEED, is_readable, pilot_doses, runner_up
from interp.validation.ranking import head_changes
from interp.validation.run import Trial
from interp.validation.sounds import draw, encode
from interp.validation.summary import public

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Config", "SteeringValidation"]

Made = dict[str, Any]
_HEARD_SECONDS = 2.0


@dataclass(frozen=True)
class Config(Common):
    """What the study does.

    Attributes
    ----------
    texts : tuple of str
        The prompt that asks for each trait; its name when empty.
    method : str
        Whose direction pushes.
    pilot_seeds, cost_seeds, ablation_seeds, leakage_seeds : int
        Paired continuations of further parts; the cost beside ITI's has seeds of its own, more, because FAD needs them.
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
        Clips of music that quality is measured from.
    n_heard : int
        Clips on which probes are refitted and heads are ranked by what happens without them.
    n_permutations : int
        Label shuffles behind what counts as readable.
    """

    out: Path = Path("figures/steering_validation")
    traits: tuple[str, ...] = ("drums", "instrument=flute|piano", "genre=jazz|classical")
    texts: tuple[str, ...] = ()
    method: str = "mean_diff"
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


class SteeringValidation(Study[Config]):
    """Does pushing cause the trait?

    Success, cost and specificity of pushing along a probe's direction, beside every control.
    """

    kept_apart = 0.3
    panel = True

    def check(self) -> None:
        c = self.config
        if c.texts and len(c.texts) != len(c.traits):
            raise DataError(f"{len(c.traits)} traits need {len(c.traits)} texts, not {len(c.texts)}.")

    # What is needed along the way ------------------------------------------------------------------------------------

    @functools.cached_property
    def ds(self) -> xr.Dataset:
        return self.activations("heads, resid")

    @once
    def probed(self, trait: Trait) -> tuple[ProbeResult, ProbeResult]:
        """Probes of heads and of the residual stream."""
        c = self.config
        common: dict[str, Any] = {"methods": (c.method,), "n_permutations": c.n_permutations, "n_bootstrap": 300}
        common |= {"seed": c.seed, "progress": self.progress}
        return probe(self.ds, str(trait), sites="heads", **common), probe(self.ds, str(trait), sites="resid", **common)

    @once
    def monitors(self, trait: Trait) -> ProbeResult:
        """Heads' logistic probes, which a monitor hears, and those of the method, which it pushes along."""
        methods = tuple(dict.fromkeys(("logistic", self.config.method)))
        return probe(
            self.ds, str(trait), sites="heads", methods=methods, n_permutations=0, n_bootstrap=0,
            seed=self.config.seed, progress=self.progress,
        )  # fmt: skip

    def chosen(self, trait: Trait) -> tuple[str, float]:
        """Site and dose."""
        return pilot.choose_site(self.scan(trait)["table"])

    def direction(self, trait: Trait, site: str) -> Direction:
        return self.probed(trait)[1].directions.one(site=site, method=self.config.method)

    def treated(self, trait: Trait) -> Direction:
        return self.direction(trait, self.chosen(trait)[0])

    def text(self, trait: Trait) -> str:
        """The prompt that asks for a trait."""
        return self.config.texts[self.traits.index(trait)] if self.config.texts else trait.answer

    @step(per="trait", shown=False)
    def references(self, trait: Trait) -> Made:
        """Embeddings of music with the trait, and of music of all kinds."""
        n = self.config.n_reference
        arrays = {name: self.reference_embeddings(of, n) for name, of in (("trait", trait), ("any", None))}
        return {name: array for name, array in arrays.items() if array is not None}

    @once
    def near(self, trait: Trait) -> dict[str, np.ndarray]:
        arrays = self.references(trait)
        return {"": arrays["trait"], "any": arrays["any"]} if arrays else {}

    def nearest(self, trait: Trait) -> Any:
        """What FAD is measured from: in the space of the first judge alone."""
        return lambda key: self.near(trait) if key["judge"] == self.judge.name else {}

    @once
    def lacking(self, trait: Trait) -> list[torch.Tensor]:
        """Sounds without the trait: those of the study, then those of the pilot."""
        return self.prompts(trait, self.config.n_seeds + self.config.pilot_seeds)

    def play(self, trait: Trait, arms: list[Arm], codes: Any, first: int, doses: Any = (0.0,), **differs: Any) -> Made:
        """Table and clips of some arms."""
        made = validation.run_arms(
            self.model, trait, arms, codes, doses, seeds=range(first, first + len(codes)), judge=self.judges,
            setting=self.setting(**differs), references=self.nearest(trait),
        )  # fmt: skip
        return self.told(made)

    def told(self, made: Trial) -> Made:
        """Table and clips as the first judge heard them, and as all others did."""
        first = {"table": by(made.table, self.judge.name), "clips": made.heard_by(self.judge.name)}
        if len(self.judges) == 1:
            return first
        return first | {f"{name}_of_all": table for name, table in (("table", made.table), ("clips", made.clips))}

    # Steps -----------------------------------------------------------------------------------------------------------

    @step(per="trait", shown=False)
    def scan(self, trait: Trait) -> Made:
        """Every layer and dose of the pilot, and random directions there."""
        c, codes = self.config, self.lacking(trait)[self.config.n_seeds :]
        candidates = list(self.probed(trait)[1].directions.select(method=c.method))
        first = c.seed + PILOT_SEED
        made = pilot.scan(
            self.model, trait, candidates, codes, pilot_doses(c.doses), control=True, seed=c.seed,
            seeds=range(first, first + len(codes)), judge=self.judges, setting=self.setting(),
            references=self.nearest(trait),
        )  # fmt: skip
        return self.told(made)

    @step(per="trait", shown=False)
    def arms(self, trait: Trait) -> Made:
        """Every arm and dose."""
        c, (site, dose) = self.config, self.chosen(trait)
        heads, resid = self.probed(trait)
        rival = runner_up(self.scan(trait)["table"], site, dose)
        arms = validation.full_arms(
            self.ds, self.treated(trait), heads, resid, dose=dose, doses=c.doses, text=self.text(trait),
            others={str(other): self.direction(other, site) for other in self.traits if other != trait},
            rival=None if rival is None else self.direction(trait, rival),
            sample_rate=self.model.sample_rate, k=c.k, k_iti=c.k_iti, iti_doses=c.iti_doses, n_seeds=c.n_seeds,
            seed=c.seed,
        )  # fmt: skip
        return self.play(trait, arms, self.lacking(trait)[: c.n_seeds], c.seed, c.doses)

    def erasing(self, trait: Trait) -> Any:
        return erasures(self.ds, self.treated(trait), self.probed(trait)[1], seed=self.config.seed)

    @step(per="trait", shown=False)
    def without(self, trait: Trait) -> Made:
        """The direction taken out of music that has the trait, continued from such sounds."""
        c = self.config
        codes = self.prompts(trait, c.ablation_seeds, present=True)
        return self.play(trait, validation.ablation_arms(self.erasing(trait)), codes, c.seed)

    @step(per="trait", shown=False)
    def without_text(self, trait: Trait) -> Made:
        """The direction taken out of music that is asked for in words, from nothing."""
        c = self.config
        return self.play(
            trait, validation.ablation_arms(self.erasing(trait)), [None] * c.ablation_seeds, c.seed, prompt_seconds=0.0,
            seconds=c.seconds - c.prompt_seconds, text=self.text(trait),
        )  # fmt: skip

    @step(per="trait", shown=False)
    def monitored_pilot(self, trait: Trait) -> Made:
        """SMITIN along the method's directions, its monitor hearing the logistic probes, on the pilot's seeds."""
        c = self.config
        arms, codes = monitored_arms(self.monitors(trait), c.method, c.alphas), self.lacking(trait)[c.n_seeds :]
        return self.play(trait, arms, codes, c.seed + PILOT_SEED)

    @step(per="trait", shown=False)
    def monitored(self, trait: Trait) -> Made:
        """The same at every strength on the seeds of the study, with controls at the strength that the pilot chose."""
        c, heads = self.config, self.monitors(trait)
        strengths = tuple(sorted({max(c.alphas), choose_alpha(self.monitored_pilot(trait)["table"])}))
        arms = monitored_arms(heads, c.method, c.alphas)
        arms += monitored_controls(self.ds, heads, c.method, strengths, c.seed)
        return self.play(trait, arms, self.lacking(trait)[: c.n_seeds], c.seed)

    @step(per="trait", shown=False)
    def cost(self, trait: Trait) -> Made:
        """One layer, self-monitored heads and ITI's heads at every strength, on seeds that nothing else saw."""
        c, (heads, _) = self.config, self.probed(trait)
        best = [heads.directions.one(site=site, method=c.method) for site in heads.ranking(c.method)["site"]]
        arms = [
            validation.push("probe", self.treated(trait), control=False, doses=pilot_doses(c.doses)),
            *monitored_arms(self.monitors(trait), c.method, c.alphas),
            validation.push("ITI heads", Directions(best[: c.k_iti]), control=False, doses=c.iti_doses),
        ]
        codes = self.prompts(trait, c.cost_seeds, seed=c.seed + 800_001, taken=c.n_seeds + c.pilot_seeds)
        return self.play(trait, arms, codes, c.seed + 40_000)

    @once
    def other_music(self) -> tuple[torch.Tensor, pd.DataFrame]:
        """Codes of other music than the probes saw, and its labels."""
        c, clips = self.config, self.sounds
        if clips is None:
            clips = render_clips(c.n_heard, seed=c.seed + 700_001, seconds=_HEARD_SECONDS)
        clips = clips[: c.n_heard]
        codes = encode(self.model, clips, min(_HEARD_SECONDS, *(clip.seconds for clip in clips)))
        shortest = min(code.shape[-1] for code in codes)
        return torch.stack([code[..., :shortest] for code in codes]), clips.labels

    @step(per="trait")
    def refits(self, trait: Trait) -> pd.DataFrame:
        """What a probe finds again after each erasure, layer by layer."""
        sites = [s for s in self.probed(trait)[1].sites if s.layer >= self.treated(trait).site.layer - 1]
        codes, labels = self.other_music()
        return refit_after(
            self.model, codes, labels, str(trait), self.erasing(trait), sites, method="lda", seed=self.config.seed
        )

    @step(shown=False)
    def changes(self, way: str) -> pd.DataFrame:
        """What happens to the model's answer without each head."""
        return head_changes(self.model, self.other_music()[0], way)

    @step()
    def leakage(self) -> pd.DataFrame:
        """Every answer's direction at one site: the one chosen for most traits, the latest of several."""
        c = self.config
        sites = [self.chosen(trait)[0] for trait in self.traits]
        site = max(dict.fromkeys(sites), key=lambda name: (sites.count(name), name))
        directions = answer_directions(self.ds, self.judge, site, c.method, c.seed)
        n = c.leakage_seeds if self.sounds is None else min(c.leakage_seeds, len(self.sounds))
        clips = draw(None, n, c.prompt_seconds, seed=c.seed + 600_001, clips=self.sounds)
        codes, first = encode(self.model, clips, c.prompt_seconds), c.seed + 20_000
        table = validation.leakage(
            self.model, directions, codes, c.leakage_dose, seeds=range(first, first + n), judge=self.judge,
            setting=self.setting(),
        )  # fmt: skip
        return table.assign(site=site, dose=c.leakage_dose)

    def verdicts(self, trait: Trait) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        """By every judge: the verdict on the chosen site, and on all others by the pilot's few seeds; and, of the
        chosen one, what else brings the trait and what else the push moves."""
        c, (site, dose) = self.config, self.chosen(trait)
        arms, scan, without = self.arms(trait), self.scan(trait), self.without(trait)
        resid = self.probed(trait)[1].table
        readable = {row.site: is_readable(resid, row.site) for row in resid.itertuples()}
        rows, against, moves = [], [], []
        for judge in self.judges:

            def heard(made: Made, what: str, name: str = judge.name) -> pd.DataFrame:
                return by(made.get(f"{what}_of_all", made[what]), name)

            said = validation.verdict(
                heard(arms, "table"), heard(arms, "clips"), readable[site], trait=trait, judge=judge, dose=dose,
                necessary=validation.necessity(heard(without, "clips"))[0],
            )  # fmt: skip
            rows.append({"site": site, "seeds": c.n_seeds, **said.row()})
            against.append(said.against.assign(judge=judge.name))
            moves.append(said.moves.assign(judge=judge.name))
            for other in [name for name in readable if name != site]:
                rule = dataclasses.replace(RULE, controls=(f"random {other}",), elsewhere=tuple(readable))
                said = validation.verdict(
                    heard(scan, "table"), heard(scan, "clips"), readable[other], trait=trait, judge=judge, arm=other,
                    rule=rule,
                )  # fmt: skip
                rows.append({"site": other, "seeds": c.pilot_seeds, **said.row()})
        return pd.DataFrame(rows), pd.concat(against, ignore_index=True), pd.concat(moves, ignore_index=True)

    def of_panel(self, arms: Made) -> dict[str, pd.DataFrame]:
        """What every judge heard, and how far they agree; nothing of a single judge."""
        if len(self.judges) == 1:
            return {}
        return {"panel": arms["table_of_all"], "judges_agree": agreement(arms["clips_of_all"])}

    # Tables ----------------------------------------------------------------------------------------------------------

    def of_trait(self, trait: Trait) -> dict[str, pd.DataFrame]:
        c, (site, dose) = self.config, self.chosen(trait)
        arms, scan, cost = self.arms(trait), self.scan(trait), self.cost(trait)
        monitored, alpha = self.monitored(trait)["table"], choose_alpha(self.monitored_pilot(trait)["table"])
        cost_table = cost_beside(
            cost["table"], cost["clips"], self.near(trait).get(""), against="ITI heads", prefix="iti"
        )
        music = {"continued": self.without(trait), "asked for": self.without_text(trait)}
        losses = {name: validation.necessity(made["clips"]) for name, made in music.items()}
        verdicts, against, moves = self.verdicts(trait)
        resid = self.probed(trait)[1].table
        probes = resid[["site", "test_score", "lo", "hi", "p_max"]].add_prefix("probe_")
        ranks = self.probed(trait)[0].ranking(c.method)
        heads, agreement = {}, {}
        for way in ("ablate", "attribution"):
            heads[way], agreement[way] = validation.rank_agreement(
                self.changes(way), self.other_music()[1], trait, ranks, seed=c.seed
            )
        return {
            "verdicts": verdicts.merge(probes, left_on="site", right_on="probe_site").drop(columns="probe_site"),
            "against": against,
            "moves": moves,
            **self.of_panel(arms),
            "arms": arms["table"],
            "clips": public(arms["clips"]),
            "scan": scan["table"],
            "necessity": stacked({name: table for name, (_, table) in losses.items()}, "music"),
            "ablation": stacked({name: made["table"] for name, made in music.items()}, "music"),
            "heads": stacked(heads, "method"),
            "agreement": stacked(agreement, "method"),
            "monitored": monitored,
            "cost": cost_table,
            "bars": bars(arms["table"], site, dose, monitored, alpha, cost_table),
        }

    def tables(self) -> dict[str, pd.DataFrame]:
        parts: dict[str, dict[str, pd.DataFrame]] = {}
        for trait in self.traits:
            for name, table in self.of_trait(trait).items():
                parts.setdefault(name, {})[str(trait)] = table
        return {name: stacked(by_trait, "trait") for name, by_trait in parts.items()} | super().tables()

    # What comes of it ------------------------------------------------------------------------------------------------

    def answer(self, t: Mapping[str, pd.DataFrame]) -> Iterator[str]:
        for trait in self.traits:
            yield sentence({name: rows_of(table, str(trait)) for name, table in t.items() if "trait" in table})
        limits = ", ".join(f"{name} {value}" for name, value in dataclasses.asdict(RULE).items())
        yield f"The rule of the verdicts was written before any number was seen: {limits}."

    def figures(self, t: Mapping[str, pd.DataFrame]) -> Iterator[Drawing]:
        for trait in self.traits:
            yield f"# {trait}"
            yield from figures_of(trait, {name: rows_of(table, str(trait)) for name, table in t.items()})
        yield "# Leakage"
        title = f"Every direction at {t['leakage']['site'].iloc[0]}, {self.config.leakage_dose:g} σ"
        caption = "Change of every judged share in points; grey: the interval holds zero."
        yield "leakage", plots.leakage(t["leakage"], title=title), caption
        yield (
            "All directions are pushed on the same sounds of all kinds. Answers of one question exclude each other, so "
            "a direction that brings one instrument takes the others away."
        )


def by(table: pd.DataFrame, judge: str) -> pd.DataFrame:
    """What one judge heard."""
    return table[table["judge"] == judge].dropna(axis=1, how="all").reset_index(drop=True)


def rows_of(table: pd.DataFrame, trait: str) -> pd.DataFrame:
    return table[table["trait"] == trait] if "trait" in table else table


if __name__ == "__main__":
    main(SteeringValidation)
