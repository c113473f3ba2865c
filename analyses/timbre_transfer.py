"""Can one instrument be turned into another, or one genre into another, by pushing while the model plays?

    python -m analyses.timbre_transfer --out figures/timbre_transfer
    python -m analyses.timbre_transfer --trait genre --out figures/style_transfer

The study of arXiv 2506.10225: sounds of a source class are continued (and, as text, asked for) while the residual
stream or the attention output is pushed towards a target class, by the paper's rule ``(h + s |h| v) / (1 + s)`` along
the target's probe weight, and by adding ``target - source``. Directions come from a regression on one-hot classes, from
a softmax classifier, and from class means. Success (the target is heard, the source is not) stands beside what it costs
(no music, FAD) for every strength and layer; regression and classification are compared on the same sounds and noise,
at equal norm and at equal dose, against random directions as long.

On a released model, with labelled clips of real music in FOLDER (``metadata.csv`` with a column ``genre``):

    python -m analyses.timbre_transfer --model facebook/musicgen-large --trait genre --pairs classical:electronic \\
        --data FOLDER --judge clap --seconds 10 --prompt-seconds 5 --out figures/style_transfer_large
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd

from analyses._transfer import METHODS, Given, Transfer, TransferConfig, parse_sets
from analyses._transfer_tables import OTHER_NOISE, contrasts, kept, paragraphs, success_at_quality
from interp import plots
from interp.directions import Direction, Directions, random_like
from interp.errors import DataError
from interp.steering import Add, Interpolate, Intervention
from interp.study import Drawing, main, slug, step
from interp.testbed.prompts import describe_clip
from interp.traits import Trait
from interp.validation import UNSTEERED, Arm, summarise
from interp.validation.summary import public

__all__ = ["Config", "TimbreTransfer"]

PAIRS = {
    "instrument": ("piano:flute", "guitar:strings", "flute:brass"),
    "genre": ("classical:electronic", "electronic:jazz", "jazz:rock"),
}
"""Pairs taken when none are named; those of genres are the ones of the paper's demonstration."""

INTERPOLATE, NORM, DOSE = "interpolate", "add, equal norm", "add, equal dose"
PLAYED = ((INTERPOLATE, "ridge"), (INTERPOLATE, "logistic"), (DOSE, "mean_diff"), (DOSE, "random"))
"""Rules and methods of which sounds are kept, at the middle strength."""
MEASURES = ("source_heard", "chroma", "embedding")
Pair = tuple[str, ...]


@dataclass(frozen=True)
class Config(TransferConfig):
    """What the study does. Guidance is that of text-to-music.

    Attributes
    ----------
    trait : str
        Label of several classes: instrument (timbre transfer), genre (style transfer).
    pairs : tuple of str
        Source and target, as in piano:flute,guitar:strings.
    strengths : tuple of float
        s of the paper's rule.
    doses : tuple of float
        Of adding, in standard deviations; at equal norm in those of the methods' geometric mean.
    attention_times : float
        Attention outputs are pushed that many times as far as the residual stream: they are one of many parts of it.
    grid_seeds : int
        Sounds of each pair for the map of layers and strengths, which also chooses the layer.
    n_seeds : int
        Further sounds of each pair for everything else.
    text_seeds : int
        Text-to-music pieces of each pair; 0 for none.
    text : str
        Text for models that understand free text; {} stands for the class.
    text_rows : str
        Rows pushed in text-to-music: cond as in the paper's code (guidance multiplies the push).
    """

    may_be_left_out: ClassVar[tuple[str, ...]] = ("text_seeds",)

    out: Path = Path("figures/timbre_transfer")
    trait: str = "instrument"
    pairs: tuple[str, ...] = ()
    strengths: tuple[float, ...] = (0.15, 0.25, 0.4)
    doses: tuple[float, ...] = (1.0, 2.0, 4.0)
    attention_times: float = 3.0
    grid_seeds: int = 2
    n_seeds: int = 8
    text_seeds: int = 4
    text: str = "{} music"
    text_rows: Literal["cond", "both", "uncond"] = "cond"
    guidance: float = 3.0


class TimbreTransfer(Transfer[Config]):
    """Can one class of music be turned into another?

    Sounds of one class are continued while the model is pushed towards another; a judge of sound alone listens.
    """

    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {"style_transfer": {"trait": "genre"}}

    def check(self) -> None:
        if not self.config.pairs and self.config.trait not in PAIRS:
            raise DataError(f"no pairs are known for {self.config.trait}: say --pairs source:target.")
        self.pairs = parse_sets(self.config.pairs or PAIRS[self.config.trait], most=2)

    @property
    def wanted(self) -> list[str]:
        return [value for pair in self.pairs for value in pair]

    # What is pushed --------------------------------------------------------------------------------------------------

    def aims(self, pair: Pair, site: str) -> dict[tuple[str, str], Direction]:
        """Directions by rule and method: the target's for interpolation, target minus source for adding."""
        source, target = pair
        aims: dict[tuple[str, str], Direction] = {}
        for method in METHODS:
            aims[INTERPOLATE, method] = self.towards(target, method, site)
            aims[DOSE, method] = self.mix({target: 1.0, source: -1.0}, method, site)
        common = float(np.exp(np.mean([np.log(aims[DOSE, method].sigma) for method in METHODS])))
        return aims | {(NORM, method): replace(aims[DOSE, method], sigma=common) for method in METHODS}

    def arms(
        self, pair: Pair, site: str, rules: Mapping[str, tuple[str, ...]], *, random: bool, rows: Any = "both",
        times: float = 1.0, text: Callable[[int], str] | None = None, says: Mapping[str, Any] | None = None,
    ) -> list[Arm]:  # fmt: skip
        """Every strength of some rules and methods at one site, ``times`` as far."""
        c, aims, arms = self.config, self.aims(pair, site), []
        rng = np.random.default_rng([c.seed, 21, self.pairs.index(pair)])
        for rule, methods in rules.items():
            amounts = [round(times * amount, 6) for amount in (c.strengths if rule == INTERPOLATE else c.doses)]
            middle = amounts[len(amounts) // 2]
            # as long as the longest of the methods' pushes under this rule
            like = max((aims[rule, m] for m in METHODS), key=lambda d: d.sigma)
            draws = [random_like(like, rng) for _ in range(max(c.n_seeds, c.text_seeds))]
            pushed: dict[str, list[Direction]] = {m: [aims[rule, m]] for m in methods}
            for method, directions in (pushed | ({"random": draws} if random else {})).items():
                for amount in amounts:
                    content = random and text is None and amount == middle
                    columns = {"push": rule, "method": method, "content": content, **(says or {})}
                    keep = content and (rule, method) in PLAYED and c.n_sounds > 0
                    name = " ".join([rule, method, *map(str, (says or {}).values())])
                    build = pusher(rule, directions, rows)
                    arms.append(
                        Arm(name, build, method == "random", site, (amount,), text=text, says=columns, keep=keep)
                    )
        return arms

    def judge_of(self, pair: Pair, arms: list[Arm], starts: Given, *, text: bool = False) -> dict[str, Any]:
        """Whether the target is heard, and whether the source still is."""
        made = self.play(Trait(self.config.trait, pair[1]), arms, starts, text=text)
        clips = made["clips"]
        return made | {"clips": clips.assign(pair=":".join(pair), source_heard=clips["answer"] == pair[0])}

    # Steps -----------------------------------------------------------------------------------------------------------

    @step(per="pair", shown=False)
    def pilot(self, pair: Pair) -> dict[str, Any]:
        """Strengths and layers on sounds of their own."""
        c = self.config
        arms = [Arm(UNSTEERED, dosed=False, says={"push": "none", "method": UNSTEERED, "kind": "none", "layer": -1})]
        rules = {INTERPOLATE: ("ridge", "logistic"), DOSE: ("mean_diff",)}
        for kind, times in (("resid", 1.0), ("attn", c.attention_times)):
            for layer, site in self.layers(kind):
                says = {"kind": kind, "site": site, "layer": layer}
                arms += self.arms(pair, site, rules, random=False, times=times, says=says)
        starts = self.starts([pair[0]], c.grid_seeds, self.pairs.index(pair), 500, after=c.n_seeds)
        return self.judge_of(pair, arms, starts)

    @functools.cached_property
    def grid(self) -> pd.DataFrame:
        """Success for every layer and strength, on pilot sounds."""
        by = ["kind", "site", "layer", "push", "method", "dose"]
        return summarise(self.pilot.all("clips"), by, unit=["pair", "seed"], family=(), measures=MEASURES)

    @functools.cached_property
    def sites(self) -> pd.DataFrame:
        """The layer of each kind with the most success over all rules, methods and strengths, for each pair."""
        clips, rows = self.pilot.all("clips"), []
        for (pair, kind), part in clips[clips["arm"] != UNSTEERED].groupby(["pair", "kind"], sort=False):
            rates = part.groupby("site", sort=False)["hit"].mean()
            rows.append({"pair": pair, "kind": kind, "site": rates.idxmax(), "rate": rates.max(), "n": len(part)})
        return pd.DataFrame(rows)

    def site(self, pair: Pair) -> str:
        rows = self.sites
        return str(rows.loc[(rows["pair"] == ":".join(pair)) & (rows["kind"] == "resid"), "site"].iloc[0])

    @step(per="pair", shown=False)
    def moved(self, pair: Pair) -> dict[str, Any]:
        """Everything at the layer that the pilot chose."""
        plain = {"push": "none", "content": True}
        arms = [
            Arm(UNSTEERED, dosed=False, says=plain | {"method": UNSTEERED}, keep=self.config.n_sounds > 0),
            Arm(OTHER_NOISE, dosed=False, noise=50_000, says=plain | {"method": OTHER_NOISE}),
        ]
        rules = {INTERPOLATE: METHODS, NORM: METHODS, DOSE: METHODS}
        arms += self.arms(pair, self.site(pair), rules, random=True)
        return self.judge_of(pair, arms, self.starts([pair[0]], self.config.n_seeds, self.pairs.index(pair), 0))

    @step(per="pair", shown=False)
    def asked(self, pair: Pair) -> dict[str, Any]:
        """The source asked for in words, pushed towards the target; and the target asked for in words."""
        c, starts = self.config, self.starts([pair[0]], self.config.text_seeds, self.pairs.index(pair), 800)
        texts = {value: self.texts(starts, value) for value in pair}
        says = {"push": "none", "content": False}
        arms = [
            Arm(UNSTEERED, dosed=False, text=texts[pair[0]], says=says | {"method": UNSTEERED}),
            Arm("text: target", dosed=False, text=texts[pair[1]], says=says | {"method": "text: target"}),
        ]
        rules = {INTERPOLATE: ("ridge", "logistic"), DOSE: ("mean_diff",)}
        arms += self.arms(pair, self.site(pair), rules, random=True, rows=c.text_rows, text=texts[pair[0]])
        return self.judge_of(pair, arms, starts, text=True)

    def texts(self, starts: Given, value: str) -> Callable[[int], str]:
        """What is asked for: all that is known of the sound in the shipped model's words, or the template."""
        if self.model.name != "tiny":
            return lambda _: self.config.text.format(value)
        return lambda i: ", ".join({**describe_clip(starts.labels[i]), self.config.trait: value}.values())

    # What comes of it ------------------------------------------------------------------------------------------------

    def tables(self) -> dict[str, pd.DataFrame]:
        clips, by = self.moved.all("clips"), ["push", "method", "dose"]
        common: dict[str, Any] = {"unit": ["pair", "seed"], "family": (), "measures": MEASURES}
        moved = summarise(clips, by, references=self.reference(), **common)
        made = {
            "grid": self.grid,
            "sites": self.sites,
            "transfer": moved,
            "by_pair": summarise(clips, ["pair", *by], **common),
            "contrasts": contrasts(clips),
            "at_quality": success_at_quality(moved),
            "kept": kept(clips),
        }
        clips = clips.assign(mode="continuation")
        if self.config.text_seeds:
            texts = self.asked.all("clips")
            common["measures"] = ("source_heard",)  # there is no prompt to resemble
            made["text"] = summarise(texts, by, **common)
            clips = pd.concat([clips, texts.assign(mode="text")], ignore_index=True)
        return made | {"clips": public(clips)}

    def answer(self, t: Mapping[str, pd.DataFrame]) -> Iterator[str]:
        yield f"Pairs: {', '.join(':'.join(pair) for pair in self.pairs)}."
        yield from paragraphs(t)

    def figures(self, t: Mapping[str, pd.DataFrame]) -> Iterator[Drawing]:
        moved, start = t["transfer"], t["transfer"]["method"] == UNSTEERED
        yield "# Success against quality"
        for push in [push for push in moved["push"].unique() if push != "none" and "fad" in moved]:
            rows = moved[(moved["push"] == push) | start].assign(arm=lambda rows: rows["method"])
            ax = plots.tradeoff(rows, label="FAD (lower is better)", title=push)
            unit = "s" if push == INTERPOLATE else "doses in sigma"
            yield f"trade_off_{slug(push)}", ax, f"Success against FAD, {push}; {unit} beside the points."
        yield "# Strength and layer"
        yield f"Pilot sounds, {t['grid']['n'].max()} a cell: they chose the layer and were not used again."
        for kind, words in (("resid", "residual stream"), ("attn", "attention output")):
            part = t["grid"][t["grid"]["kind"] == kind].rename(columns={"dose": "amount"})
            names = [f"{p.split(',')[0]}, {m}" for p, m in zip(part["push"], part["method"], strict=True)]
            units = {name: "Strength s" if name.startswith("inter") else "Dose (σ)" for name in dict.fromkeys(names)}
            axs = list(plots.strength_by_layer(part.assign(panel=names), xlabel=units))
            yield f"layers_{kind}", axs, f"Share heard as the target, pushed at the {words}; hatched: no music."
        yield "# What stays"
        yield (
            "Agreement with the true continuation of the sound, at the middle strength, is in the table `kept`; `other "
            "noise` is the yardstick: a second continuation to which nothing was done."
        )

    def recordings(self, t: Mapping[str, pd.DataFrame]) -> Iterator[tuple[str, pd.DataFrame]]:
        names = {UNSTEERED: UNSTEERED} | {f"{rule} {method}": f"{rule}, {method}" for rule, method in PLAYED}
        for pair in self.pairs:
            made = self.moved(pair)
            rows = self.kept_sounds(made["sounds"], "_".join(pair), names)
            if len(rows):
                heard = made["clips"].query("method == @UNSTEERED")["answer"].to_numpy()[: len(rows)]
                rows.insert(0, "heard unsteered", heard)
                yield f"{pair[0]} to {pair[1]}: the first sounds, not chosen.", rows


def pusher(
    rule: str, directions: list[Direction], rows: Any
) -> Callable[[float, int], tuple[Intervention, ...]]:  # fmt: skip
    """Push by one rule; several directions are gone through seed by seed."""
    each = [Directions([direction]) for direction in directions]
    if rule == INTERPOLATE:
        return lambda amount, i: (Interpolate(each[i % len(each)], strength=amount, rows=rows),)
    return lambda amount, i: (Add(each[i % len(each)], dose=amount, rows=rows),)


if __name__ == "__main__":
    main(TimbreTransfer)
