"""The main path, end to end, on the model that ships: what hears a trait, what carries it, what pushing does.

    make demo          or          python -m analyses.demo --out figures/demo

Music is rendered and heard by the model; every head and layer is probed for three traits; the directions of three
methods are compared; then the model continues music that lacks the trait, pushed along the direction and along
controls, and a judge of sound alone says in how many continuations the trait is heard. Tables, figures, sounds and a
page that shows and plays all of it go to the output folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

import interp
from interp import plots
from interp.geometry import compare_methods, project
from interp.probes import ProbeResult, probe
from interp.probes.baselines import mel
from interp.stats import dose_response
from interp.study import Common, Drawing, Study, main, step
from interp.traits import Trait
from interp.validation import UNSTEERED, Design, validate

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Config", "Demo"]

ARMS = (UNSTEERED, "probe", "random")
"""Arms of which sounds are kept."""


@dataclass(frozen=True)
class Config(Common):
    """What the demo does.

    Attributes
    ----------
    n_permutations, n_bootstrap : int
        Behind p-values and intervals.
    doses : tuple of float
        How far continuations are pushed, in standard deviations.
    method : str
        Whose direction pushes. Class-mean differences move a model further than a classifier's weights at the same
        sigma (arXiv 2306.03341, table 3); a classifier needs doses several times as large here.
    k : int
        Heads in the arms of heads.
    pilot_seeds : int
        Continuations that choose the layer, not used again.
    n_sounds : int
        Continuations kept as sound, for each trait.
    """

    out: Path = Path("figures/demo")
    traits: tuple[str, ...] = ("drums", "instrument=brass", "genre=jazz")
    n_permutations: int = 200
    n_bootstrap: int = 1000
    doses: tuple[float, ...] = (0.5, 1.0, 2.0, 3.0, 4.0)
    method: str = "mean_diff"
    k: int = 8
    pilot_seeds: int = 16
    n_sounds: int = 3


class Demo(Study[Config]):
    """A first look inside.

    Which heads of a MusicGen hear a trait, which direction carries it, what pushing along it does.
    """

    kept_apart = 0.3
    panel = True

    @cached_property
    def ds(self) -> xr.Dataset:
        return self.activations("heads, resid")

    @cached_property
    def spectrum(self) -> np.ndarray:
        return mel(self.clips)

    @cached_property
    def fitted(self) -> dict[Trait, tuple[ProbeResult, ProbeResult]]:
        """Probes of the heads, beside the mel spectrum, and of the layers."""
        c = self.config
        common: dict[str, Any] = {"n_permutations": c.n_permutations, "n_bootstrap": c.n_bootstrap, "seed": c.seed,
                                  "progress": self.progress}  # fmt: skip
        return {
            trait: (
                probe(self.ds, str(trait), sites="heads", baselines={"mel spectrum": self.spectrum}, **common),
                probe(self.ds, str(trait), sites="resid", **common),
            )
            for trait in self.traits
        }

    # Steps -----------------------------------------------------------------------------------------------------------

    @step()
    def probes(self) -> pd.DataFrame:
        """Every site, method and trait: cross-validated and held-out scores, beside the mel spectrum."""
        tables = [study.table for pair in self.fitted.values() for study in pair]
        return pd.concat([*tables, *(heads.baseline for heads, _ in self.fitted.values())], ignore_index=True)

    @step()
    def cosines(self) -> pd.DataFrame:
        """Cosines of the methods' directions at every head, with nulls and ceilings."""
        seed = self.config.seed
        tables = [compare_methods(self.ds, str(trait), n_permutations=20, seed=seed) for trait in self.traits]
        return pd.concat(tables, ignore_index=True)

    @step(per="trait", shown=False)
    def steered(self, trait: Trait) -> dict[str, Any]:
        """Continuations of music without the trait, pushed and judged."""
        c = self.config
        made = validate(
            self.model, self.ds, trait, judge=self.judges, clips=self.sounds, arms="basic", method=c.method,
            doses=c.doses, n_seeds=c.n_seeds, studies=self.fitted[trait],
            design=Design(k=c.k, pilot_seeds=c.pilot_seeds), setting=self.setting(measure=False, keep_audio=True),
            seed=c.seed,
        )  # fmt: skip
        dose = min(c.doses, key=lambda dose: abs(dose - 2))
        sounds = {arm: made.audio[arm, 0.0 if arm == UNSTEERED else dose] for arm in ARMS}
        return {
            "table": made.table[made.table["judge"] == made.judge].reset_index(drop=True),
            "clips": made.heard_by().reset_index(drop=True), "site": made.site, "dose": float(dose),
            "verdicts": pd.DataFrame([said.row() for said in made.verdicts.values()]),
            **({} if len(self.judges) == 1 else {"panel": made.table, "agreement": made.agreement}),
            "sounds": {arm: audio[: max(1, c.n_sounds)].numpy() for arm, audio in sounds.items()},
        }  # fmt: skip

    def tables(self) -> dict[str, pd.DataFrame]:
        made = super().tables()
        made["cosine_summary"] = cosine_summary(made["cosines"])
        made |= {"causal": self.steered.all("table"), "causal_clips": self.steered.all("clips")}
        made["verdicts"] = self.steered.all("verdicts")
        if len(self.judges) > 1:
            made |= {"panel": self.steered.all("panel"), "agreement": self.steered.all("agreement")}
        return made

    # What comes of it ------------------------------------------------------------------------------------------------

    def answer(self, t: Mapping[str, pd.DataFrame]) -> Iterator[str]:
        for trait in self.traits:
            rows = t["probes"][(t["probes"]["trait"] == str(trait)) & (t["probes"]["kind"] == "heads")]
            best = rows.loc[rows["cv_score"].idxmax()]
            yield f"{trait}: best heard at {best['site']}, held-out score {best['test_score']:.2f}."
            yield self._pushed(trait)

    def _pushed(self, trait: Trait) -> str:
        """What the causal table says of a trait: the dose with the largest gain beside the controls at that dose."""
        made = self.steered(trait)
        table, clips = made["table"], made["clips"]
        base = table[table["arm"] == UNSTEERED].iloc[0]
        treated = table[table["arm"] == "probe"]
        best = treated.loc[treated["diff"].idxmax()]
        same = table[(table["dose"] == best["dose"]) & table["control"] & (table["arm"] != UNSTEERED)]
        controls = ", ".join(f"{row.arm} {row.rate:.0%}" for row in same.itertuples())
        rows = clips[clips["arm"].isin(["probe", UNSTEERED])]
        trend = dose_response(rows["dose"].to_numpy(), rows["hit"].to_numpy(float), rows["seed"].to_numpy())
        said = ", ".join(f"{row.sufficient} by {row.judge}" for row in made["verdicts"].itertuples())
        return (
            f"{trait}, pushed along {self.config.method} at {made['site']}: heard in {base['rate']:.0%} unsteered and "
            f"in {best['rate']:.0%} at {best['dose']:g} sigma (gain {best['diff']:+.0%} [{best['diff_lo']:+.0%}, "
            f"{best['diff_hi']:+.0%}], Holm p {best['p_holm']:.2g}; trend over doses p {trend.p:.2g}); controls at "
            f"that dose: {controls}. Not music: {best['not_music']:.0%}. By the rule of the verdict, sufficient: "
            f"{said}."
        )

    def figures(self, t: Mapping[str, pd.DataFrame]) -> Iterator[Drawing]:
        yield "# Which heads hear it"
        yield (
            f"{self.ds.sizes['clip']} clips were heard by the model. A logistic probe was fitted at every head; clips "
            "of one group never lie on both sides of a split. Sites are ranked by cross-validation; the score shown "
            "was measured once, on clips held out."
        )
        for trait in self.traits:
            rows = t["probes"][(t["probes"]["trait"] == str(trait)) & (t["probes"]["method"] == "logistic")]
            yield f"heatmap_{trait.slug}", plots.heatmap(rows, title=str(trait)), f"`{trait}`: score of every head."
            ax = plots.ranking(rows, top=16, title=str(trait))
            yield f"ranking_{trait.slug}", ax, f"`{trait}`: the best sites, with 95 % intervals over scores held out."
        yield "# Which direction carries it"
        yield "Logistic, ridge and mean-difference directions of every head, mapped back to the raw basis."
        for trait in self.traits:
            table = t["cosines"]
            rows = table[table["trait"] == str(trait)]
            yield f"cosines_{trait.slug}", plots.cosines(rows, title=str(trait)), f"`{trait}`: one point a head."
        yield "# How the clips lie"
        site = self.steered(self.traits[0])["site"]
        places = project(interp.features(self.ds, site), seed=self.config.seed)
        labels = interp.labels(self.ds).reset_index(drop=True)
        for name in dict.fromkeys(trait.column for trait in self.traits):
            axs = list(plots.embedding(places.assign(**{name: labels[name]}), name))
            yield f"umap_{name}", axs, f"The clips' activations at {site}, coloured by `{name}`."
        yield "# What pushing does"
        for trait in self.traits:
            made = self.steered(trait)
            ax = plots.dose_response(made["table"], title=f"{trait}, pushed at {made['site']}")
            caption = f"`{trait}`: share of {self.config.n_seeds} continuations in which the judge hears it."
            yield f"dose_{trait.slug}", ax, caption
            panels = plots.spectrograms(
                made["sounds"][UNSTEERED][0], made["sounds"]["probe"][0], self.model.sample_rate,
                titles=(UNSTEERED, f"probe, {made['dose']:g} σ"), start=self.config.prompt_seconds,
            )  # fmt: skip
            caption = f"The first seed; the first {self.config.prompt_seconds:g} s are given."
            yield f"spectrograms_{trait.slug}", list(panels), caption

    def recordings(self, t: Mapping[str, pd.DataFrame]) -> Iterator[tuple[str, pd.DataFrame]]:
        for trait in self.traits:
            made, n = self.steered(trait), min(self.config.n_sounds, self.config.n_seeds)
            verdicts = made["clips"].set_index(["arm", "dose", "seed"])["hit"]
            files = self.recorded({arm: (f"{trait.slug}_{arm}", made["sounds"][arm][:n]) for arm in ARMS})
            if len(files):
                lines = pd.DataFrame({"seed": self.config.seed + files.index})
                for arm in ARMS:
                    dose = 0.0 if arm == UNSTEERED else made["dose"]
                    heard = [bool(verdicts[arm, dose, seed]) for seed in lines["seed"]]
                    lines = lines.assign(**{arm: files[arm], f"heard, {arm}": heard})
                yield f"`{trait}`: the first seeds, not chosen.", lines


def cosine_summary(cosines: pd.DataFrame) -> pd.DataFrame:
    """Cosines of the methods' directions: medians over heads, with null and ceiling."""
    groups = cosines.groupby(["trait", "positive", "a", "b"], sort=False)
    return groups.agg(
        heads=("cosine", "size"), cosine=("cosine", "median"), lowest=("cosine", "min"), highest=("cosine", "max"),
        null_hi=("null_hi", "median"), null_permuted=("null_permuted", "median"), ceiling=("ceiling", "median"),
    ).reset_index()  # fmt: skip


if __name__ == "__main__":
    main(Demo)
