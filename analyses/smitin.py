"""SMITIN (arXiv 2404.02252) on any MusicGen: does self-monitored steering add a trait, and at what cost?

    python -m analyses.smitin --out figures/smitin

The paper's table (success, FAD, similarity to the prompt for no steering, text, ITI and SMITIN at two strengths, in
continuation and text-to-music) with a judge of sound alone, and what the paper's table leaves open: both rules swept
over strengths and compared *at equal success*; a ladder from ITI to SMITIN that changes one part at a time (choice of
heads, sparseness, the gate), each rung with the probe's weights and with mean differences as directions, with random
and shuffled-label controls; removal; the monitor's traces; and how few pairs of clips suffice.

Probes hear pairs of clips that differ in the trait alone: one score rendered with and without it, as the paper takes a
stem out of a mix. On a checkpoint from the hub give a folder of labelled clips (or say ``--data rendered``) and a
judge:

    python -m analyses.smitin --model facebook/musicgen-large --data FOLDER --judge clap \\
        --out figures/smitin-large --seconds 10 --prompt-seconds 3 --pair-seconds 3 --guidance 3 --alphas 5,10 \\
        --sweep 20 --iti 5,10,15 --k 48 --ladder 5,10 --n-seeds 64

FOLDER has ``metadata.csv`` (a column for each trait); 30 % of its groups are kept from the probes for prompts and
reference music. ``--judge probe`` takes the model's own probes: not independent evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from analyses._smitin_arms import ask, base_prompt, few_arms, ladder_arms, make_arm, removal_arms, rules
from analyses._smitin_figures import figures
from analyses._smitin_probes import Probes, few_probes, fit_probes, own_probability, shuffled_probes
from analyses._smitin_tables import (
    CONTINUATION,
    TEXT,
    label,
    pairs_table,
    paper_order,
    paper_table,
    sentences,
    summary,
)
from interp.data.pairs import balanced, render_pairs
from interp.study import Common, Drawing, Study, main, once, slug, step
from interp.traits import Trait
from interp.validation import UNSTEERED, Arm, run_arms
from interp.validation.cost import equal_success
from interp.validation.setting import Part

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Config", "Smitin"]

Made = dict[str, Any]
_PLAYED = (UNSTEERED, "ITI", "SMITIN", "residual", "SMITIN residual")
_TRACED = 4
"""Seeds of which the monitor's readings are kept."""


@dataclass(frozen=True)
class Config(Common):
    """What the study does; names as in the paper where it names them.

    Attributes
    ----------
    n_pairs : int
        Pairs of clips, with the trait and without, that the probes hear.
    pair_seconds : float
        Length of these clips.
    pool : str
        Which time step the probes read; last in the paper.
    k : int
        Heads that ITI pushes.
    s : int
        SMITIN acts at every s-th step.
    delta : float
        How much a confident monitor weakens the push.
    n_monitor : int
        Heads that the monitor hears.
    tau : float or None
        Threshold of the monitor; median(acc) - std(acc) without it.
    rows : str
        Under guidance, which rows are pushed.
    alphas : tuple of float
        SMITIN's strengths in the paper's table, in sigma.
    sweep : tuple of float
        Further strengths of SMITIN in continuation, for the comparison at equal success; 5 and 10 are the paper's.
    tau_low : float
        A lower threshold at SMITIN's largest strength, to see the gate at work; 0 for none.
    iti : tuple of float
        Strengths of ITI; the one whose success is best stands in the paper's table.
    resid : tuple of float
        Strengths of the one-layer mean difference at every step.
    smitin_resid : tuple of float
        The same, self-monitored at every s-th step.
    ladder : tuple of float
        Strengths of the ladder from ITI to SMITIN; mean differences get half of them.
    n_text_seeds : int
        Paired seeds of text-to-music.
    n_part_seeds : int
        Paired seeds of the ladder, of removal and of the ablation of the number of pairs.
    pilot_seeds : int
        Seeds that choose the layer of the residual arm, not used again.
    sizes : tuple of int
        Numbers of pairs in the ablation; all of them are added.
    n_reference : int
        Clips with the trait that FAD and KAD compare with.
    n_sounds : int
        Seeds kept as sound.
    """

    out: Path = Path("figures/smitin")
    n_pairs: int = 200
    pair_seconds: float = 4.0
    pool: str = "last"
    k: int = 16
    s: int = 5
    delta: float = 1.0
    n_monitor: int = 16
    tau: float | None = None
    rows: Literal["both", "cond", "uncond"] = "both"
    alphas: tuple[float, ...] = (20.0, 40.0)
    sweep: tuple[float, ...] = (5.0, 10.0)
    tau_low: float = 0.5
    iti: tuple[float, ...] = (3.0, 6.0, 10.0)
    resid: tuple[float, ...] = (3.0,)
    smitin_resid: tuple[float, ...] = (12.0,)
    ladder: tuple[float, ...] = (20.0,)
    n_text_seeds: int = 16
    n_part_seeds: int = 12
    pilot_seeds: int = 8
    sizes: tuple[int, ...] = (10, 30)
    n_reference: int = 200
    n_sounds: int = 2


class Smitin(Study[Config]):
    """Does self-monitored steering add a trait?

    SMITIN (arXiv 2404.02252) beside ITI, text and one-layer steering, in continuation and text-to-music. FAD and KAD
    are to music with the trait after a codec round trip; compare arms of one column, not columns: embeddings and music
    differ from the paper's, and the paper's numbers are second-hand.
    """

    kept_apart = 0.3
    unused = ("n_clips",)

    @once
    def ds(self, trait: Trait) -> xr.Dataset:
        """Activations of clips with the trait and without."""
        c = self.config
        if self.rendered:
            clips = render_pairs(trait, c.n_pairs, seed=c.seed, seconds=c.pair_seconds, progress=self.progress)
        else:
            clips = balanced(self.clips, trait, c.n_pairs, seed=c.seed)
        pools = list(dict.fromkeys(("mean", c.pool)))
        return self.activations("heads, resid", clips=clips, name=f"pairs-{trait.slug}", pool=pools)

    @once
    def fitted(self, trait: Trait) -> Probes:
        return fit_probes(self.ds(trait), trait, self.config.pool, self.config.seed)

    @once
    def probed(self, trait: Trait) -> Probes:
        """The probes, with the layer where the mean difference works best on pilot seeds."""
        table = self.pilot(trait)
        return self.fitted(trait).at(str(table.loc[(table["rate"] - table["not_music"]).idxmax(), "arm"]))

    # Playing ---------------------------------------------------------------------------------------------------------

    def play(
        self, trait: Trait, arms: Sequence[Arm], n: int, offset: int, *, task: str = CONTINUATION, remove: bool = False,
        own: Probes | None = None, taken: int = 0, **differs: Any,
    ) -> Made:  # fmt: skip
        """Clips, traces and sounds of some arms on the same prompts and noise; ``own`` lets probes judge as well.

        A folder's sounds do not change with the seed: the first ``taken`` are left to others.
        """
        c, seeds = self.config, range(self.config.seed + offset, self.config.seed + offset + n)
        seconds = c.prompt_seconds if task == CONTINUATION else 0.0
        codes: list[Any] = [None] * n
        if task == CONTINUATION:
            codes = self.prompts(trait, n, present=remove, seed=c.seed + 31 * offset, taken=taken)
        measures: list[Callable[[Part], pd.DataFrame]] = []
        if own is not None:
            measures.append(own_probability(self.model, own, c, seconds))
        made = run_arms(
            self.model, trait, arms, codes, seeds=seeds, judge=self.judge,
            setting=self.setting(prompt_seconds=seconds, measures=tuple(measures), **differs),
        )  # fmt: skip
        clips = made.clips.assign(task=task)
        if remove:  # success: the trait is gone and music is left
            clips["hit"] = ~clips["hit"] & ~clips["not_music"]
        trace = made.monitor[made.monitor["seed"] < seeds[0] + _TRACED] if len(made.monitor) else pd.DataFrame()
        sounds = {f"{arm}|{dose:g}": audio[: c.n_sounds].numpy() for (arm, dose), audio in made.audio.items()}
        return {"clips": clips, "trace": trace, "sounds": sounds}

    @property
    def plain(self) -> bool:
        """Whether prompts are the phrases of the shipped model."""
        return self.model.name == "tiny"

    # Steps -----------------------------------------------------------------------------------------------------------

    @step(per="trait", shown=False)
    def pilot(self, trait: Trait) -> pd.DataFrame:
        """Every layer's mean difference at 3 sigma, on seeds of its own."""
        probes, c = self.fitted(trait), self.config
        arms = [
            make_arm(c, probes.at(str(d.site)), str(d.site), "add", 3.0, "mean_diff", "resid") for d in probes.resid
        ]
        taken = max(c.n_seeds, c.n_part_seeds)
        clips = self.play(trait, arms, c.pilot_seeds, 20_000, taken=taken, measure=False)["clips"]
        table = clips[clips["arm"] != UNSTEERED].groupby("arm", sort=False)[["hit", "not_music"]].mean()
        return table.rename(columns={"hit": "rate"}).reset_index()

    @step(per="trait", shown=False)
    def reference(self, trait: Trait) -> Made:
        """Embeddings of music with the trait (and of music without it) as long as what is judged."""
        c, arrays = self.config, {}
        for name, present, seconds in (
            (CONTINUATION, True, c.seconds - c.prompt_seconds),
            (TEXT, True, c.seconds),
            ("removal", False, c.seconds - c.prompt_seconds),
        ):
            arrays[name] = self.reference_embeddings(trait, c.n_reference, present=present, seconds=seconds)
        return {name: array for name, array in arrays.items() if array is not None}

    @step(per="trait", shown=False)
    def continuation(self, trait: Trait) -> Made:
        """Every rule and strength in continuation."""
        c, probes = self.config, self.probed(trait)
        make = partial(make_arm, c, probes)
        arms = rules(c, probes, trait, further=True, prompt=lambda i: "", plain=self.plain)
        arms.append(make("SMITIN + text", "smitin", max(c.alphas), text=lambda i: ask(trait, "", self.plain)))
        if c.tau_low:
            arms.append(make(f"SMITIN, τ {c.tau_low:g}", "smitin", max(c.alphas), tau=c.tau_low))
        arms = [replace(arm, keep=bool(c.n_sounds) and arm.name in _PLAYED) for arm in arms]
        return self.play(trait, arms, c.n_seeds, 0, own=probes)

    @step(per="trait", shown=False)
    def text(self, trait: Trait) -> Made:
        """The rules of the paper's table in text-to-music; prompts say nothing of the trait."""
        c, offset = self.config, 5_000
        named = [base_prompt(trait, c.seed, offset + i, self.plain) for i in range(c.n_text_seeds)]
        probes, plain = self.probed(trait), self.plain
        arms = rules(c, probes, trait, further=False, prompt=lambda i: named[i][0], plain=plain)
        made = self.play(trait, arms, c.n_text_seeds, offset, task=TEXT, own=probes)
        clips = made["clips"]
        index = clips["seed"] - c.seed - offset
        probabilities = [[row[f"p_{answer}"] for answer in named[i][1] if f"p_{answer}" in clips] for i, (_, row) in
                zip(index, clips.iterrows(), strict=True)]  # fmt: skip
        clips["named"] = [float(np.mean(values)) if values else np.nan for values in probabilities]
        return made

    @step(per="trait", shown=False)
    def rungs(self, trait: Trait) -> Made:
        """From ITI to SMITIN, one part at a time; with two directions, and controls."""
        c = self.config
        probes = shuffled_probes(self.ds(trait), trait, c.pool, c.seed, self.probed(trait))
        return self.play(trait, ladder_arms(c, probes), c.n_part_seeds, 7_000)

    @step(per="trait", shown=False)
    def removed(self, trait: Trait) -> Made:
        """Prompts that have the trait, and pushes against it; success is its loss."""
        arms = removal_arms(self.config, self.probed(trait))
        return self.play(trait, arms, self.config.n_part_seeds, 9_000, remove=True)

    @step(per="trait", shown=False)
    def few(self, trait: Trait) -> Made:
        """Probes of the first pairs, tested on the last quarter, and what they steer."""
        accuracies, fitted = few_probes(self.ds(trait), trait, self.config)
        made = self.play(trait, few_arms(self.config, fitted), self.config.n_part_seeds, 11_000)
        return {"clips": made["clips"].merge(accuracies, on="n_pairs", how="left")}

    # What comes of it ------------------------------------------------------------------------------------------------

    def tables(self) -> dict[str, pd.DataFrame]:
        c = self.config
        near = {(str(trait), task): x for trait in self.traits for task, x in self.reference(trait).items()}
        played = pd.concat([self.continuation.all("clips"), self.text.all("clips")], ignore_index=True)
        success = summary(played, near)
        lost = {(trait, CONTINUATION): x for (trait, task), x in near.items() if task == "removal"}
        return {
            "paper_form": paper_table(success, paper_order(c)),
            "success": success,
            "equal_success": equal_success(
                self.continuation.all("clips"), near, ["SMITIN", "residual", "SMITIN residual"]
            ),
            "ladder": summary(self.rungs.all("clips"), near),
            "removal": summary(self.removed.all("clips"), lost),
            "pairs": pairs_table(self.few.all("clips")),
            "probes": self.probe_table(),
        }

    def probe_table(self) -> pd.DataFrame:
        parts = []
        for trait in self.traits:
            for study, pool in zip(self.fitted(trait).studies, (self.config.pool, "mean"), strict=True):
                parts.append(study.table.assign(trait=str(trait), pool=pool))
        columns = ["trait", "site", "kind", "layer", "head", "method", "pool", "n_train", "n_test", "cv_score",
                   "test_score", "chance"]  # fmt: skip
        return pd.concat(parts, ignore_index=True)[columns]

    def answer(self, t: Mapping[str, pd.DataFrame]) -> Iterator[str]:
        return sentences(t, self.config.alphas)

    def figures(self, t: Mapping[str, pd.DataFrame]) -> Iterator[Drawing]:
        c = self.config
        yield "# Success, and what it costs"
        yield (
            f"{c.n_seeds} paired continuations and {c.n_text_seeds} clips from text a trait. Similarity is the cosine "
            "of the judge's embedding with the audio prompt; for text, `named` is the judge's mean probability of what "
            "the prompt names. The probe column is the model judging itself."
        )
        traces = {
            str(trait): {"adding": self.continuation(trait)["trace"], "removing": self.removed(trait)["trace"]}
            for trait in self.traits
        }
        yield from figures(t, traces, max(c.alphas), f"SMITIN, τ {c.tau_low:g}")

    def recordings(self, t: Mapping[str, pd.DataFrame]) -> Iterator[tuple[str, pd.DataFrame]]:
        for trait in self.traits:
            rows = t["success"]
            rows = rows[(rows["trait"] == str(trait)) & (rows["task"] == CONTINUATION) & rows["arm"].isin(_PLAYED)]
            best = rows.loc[rows.groupby("arm", sort=False)["rate"].idxmax()]
            sounds, parts = self.continuation(trait)["sounds"], {}
            for arm, dose in best[["arm", "dose"]].itertuples(index=False, name=None):
                if self.config.n_sounds:
                    stem = f"{trait.slug}_{slug(arm)}_{dose:g}"
                    parts[label(arm, dose)] = stem, sounds[f"{arm}|{dose:g}"]
            lines = self.recorded(parts)
            if len(lines):
                lines.insert(0, "seed", self.config.seed + np.arange(len(lines)))
                yield f"`{trait}`, the first seeds, not chosen:", lines


if __name__ == "__main__":
    main(Smitin)
