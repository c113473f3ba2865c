"""Can two genres be fused in a ratio, or one fade into the other at a second of one's choice?

    python -m analyses.genre_fusion --out figures/genre_fusion

After arXiv 2506.10225. Sounds of other genres are continued while the residual stream is pushed towards two genres
at once with weights 1 - r and r: by the weighted sum of both directions, by the sum made as long for every r, by
directions cleaned of each other first (Gram-Schmidt), and by the paper's rule ``(h + s |h| v) / (1 + s)`` along the
regression's sum. A judge of sound alone gives both genres' probabilities: does the judged mix follow r? Then pieces are
generated from nothing and the push changes from one genre to the other at a second (the paper switches at the fifth),
hard or over a second of cross-fade; the judge hears windows. Random directions as long are the control of both.

On a released model, with labelled clips of real music in FOLDER (``metadata.csv`` with a column ``genre``, three genres
or more), ten seconds and the paper's switch:

    python -m analyses.genre_fusion --model facebook/musicgen-large --sets classical:electronic --data FOLDER \\
        --judge clap --seconds 10 --prompt-seconds 5 --fade-seconds 10 --switch-second 5 --out figures/fusion_large
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from analyses._fusion_tables import (
    fade_course,
    fade_shares,
    fusion_table,
    fusion_trends,
    half_way,
    paragraphs,
    with_mix,
)
from analyses._transfer import Given, Transfer, TransferConfig, parse_sets
from interp import plots
from interp.directions import Direction, Directions, combine, orthogonalise, random_like
from interp.errors import DataError
from interp.steering import Add, Interpolate, Intervention, cross_fade
from interp.study import Drawing, main, slug, step
from interp.study.config import SHORTEST
from interp.traits import Trait
from interp.validation import UNSTEERED, Arm, push, run_arms
from interp.validation.summary import public

__all__ = ["Config", "GenreFusion"]

Set = tuple[str, ...]
Build = Callable[[float, int], tuple[Intervention, ...]]


@dataclass(frozen=True)
class Config(TransferConfig):
    """What the study does.

    Attributes
    ----------
    trait : str
        Label of three classes or more.
    sets : tuple of str
        What is fused, as in classical:electronic,jazz:rock; three classes or more in one set are fused in equal parts
        and in pairs.
    ratios : tuple of float
        Weights of the second class; the first has the rest.
    dose : float
        Of adding, in standard deviations along each direction.
    strength : float
        s of the paper's rule.
    pilot_seeds : int
        Sounds of each set that choose the layer, each pushed towards every class alone.
    n_seeds : int
        Further sounds of each set.
    fade_seeds : int
        Pieces of each set for the switch in time; 0 for none.
    fade_seconds, switch_second, fade_width : float
        Length of those pieces, second of the switch, and how long the soft one takes.
    window, hop : float
        Length of the judged windows and their distance, in seconds.
    """

    may_be_left_out: ClassVar[tuple[str, ...]] = ("fade_seeds",)

    out: Path = Path("figures/genre_fusion")
    sets: tuple[str, ...] = ("classical:electronic", "jazz:rock")
    ratios: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    dose: float = 3.0
    strength: float = 0.3
    pilot_seeds: int = 4
    n_seeds: int = 12
    fade_seeds: int = 12
    fade_seconds: float = 4.0
    switch_second: float = 2.0
    fade_width: float = 1.0
    window: float = 1.0
    hop: float = 0.25


class GenreFusion(Transfer[Config]):
    """Can genres be fused in a ratio, or fade into each other?

    Two genres at once, and one that turns into the other in time; a judge of sound alone listens.
    """

    unused = ("traits", "guidance")

    def check(self) -> None:
        c, self.sets = self.config, parse_sets(self.config.sets)
        if not all(0 <= r <= 1 for r in c.ratios) or len(set(c.ratios)) < 2:
            raise DataError("give two ratios or more between 0 and 1.")
        least = max(c.window, SHORTEST)
        if c.fade_seeds and not least <= c.switch_second <= c.fade_seconds - least:
            raise DataError(
                f"a switch at {c.switch_second:g} s of {c.fade_seconds:g} s leaves less than a window of {least:g} s "
                "on one side: move it, or make the pieces longer."
            )

    @property
    def wanted(self) -> list[str]:
        return [value for part in self.sets for value in part]

    def sounds_of_others(self, part: Set, n: int, offset: int, after: int = 0) -> Given:
        others = [value for value in self.classes if value not in part]
        if not others:
            raise DataError(f"every class of {self.config.trait} is in {':'.join(part)}: no other sound is left.")
        return self.starts(others, n, self.sets.index(part), offset, after)

    def listened(self, part: Set) -> Trait:
        return Trait(self.config.trait, part[0])

    # Fusion ----------------------------------------------------------------------------------------------------------

    @step(per="set", shown=False)
    def pilot(self, part: Set) -> pd.DataFrame:
        """Every layer pushed towards each class alone: the share in which that class is heard."""
        c, arms = self.config, []
        for layer, site in self.layers("resid"):
            for value in part:
                says = {"site": site, "layer": layer, "towards": value}
                aim = self.towards(value, "mean_diff", site)
                arms.append(push(f"{value} at {site}", aim, control=False, doses=(c.dose,), says=says))
        starts = self.sounds_of_others(part, c.pilot_seeds, 500, after=c.n_seeds)
        clips = self.play(self.listened(part), arms, starts)["clips"].query("arm != @UNSTEERED")
        heard = clips.assign(rate=clips["answer"] == clips["towards"]).groupby(["site", "layer"], sort=False)
        return heard.agg(rate=("rate", "mean"), not_music=("not_music", "mean"), n=("rate", "size")).reset_index()

    def best(self, part: Set) -> str:
        return str(self.pilot(part).set_index("site")["rate"].idxmax())

    def weightings(self, part: Set) -> list[tuple[float, ...]]:
        if len(part) == 2:
            return [(1 - r, r) for r in self.config.ratios]
        corners = [tuple(float(i == k) for i in range(len(part))) for k in range(len(part))]
        return [*corners, tuple(1 / len(part) for _ in part)]

    def parts(self, part: Set, site: str, method: str, clean: bool = False) -> list[Direction]:
        """Directions of the classes, cleaned of each other if asked, with sigma measured on the training clips."""
        own = [self.towards(value, method, site) for value in part]
        if not clean:
            return own
        x = self.activations_at(site)
        return [orthogonalise(d, [other for other in own if other is not d], activations=x) for d in own]

    @step(per="set", shown=False)
    def fusion(self, part: Set) -> dict[str, Any]:
        """Every weighting by every rule, and a random direction at equal weights."""
        c, site = self.config, self.best(part)
        mean, ridge = self.parts(part, site, "mean_diff"), self.parts(part, site, "ridge")
        clean = self.parts(part, site, "mean_diff", clean=True)
        length = float(np.exp(np.mean(np.log([d.sigma for d in mean]))))
        # as long as the longest push of any weighting
        longest, rng = max(mean, key=lambda d: d.sigma), np.random.default_rng([c.seed, 31, self.sets.index(part)])
        draws = [Directions([random_like(longest, rng)]) for _ in range(c.n_seeds)]
        keep = c.n_sounds > 0
        arms = [Arm(UNSTEERED, dosed=False, says={"method": UNSTEERED, "ratio": np.nan}, keep=keep)]
        for weights in self.weightings(part):
            even, text = max(weights) - min(weights) < 1e-9, ":".join(f"{w:.2g}" for w in weights)
            says: dict[str, Any] = {"weights": text, "ratio": weights[1] if len(part) == 2 else np.nan}
            rules: dict[str, tuple[float, Build]] = {
                "sum": (c.dose, added(Directions(mean), weights)),
                "equal length": (c.dose, added(Directions([replace(combine(mean, weights), sigma=length)]))),
                "orthogonal": (c.dose, added(Directions(clean), weights)),
                "interpolate": (c.strength, interpolated(Directions([combine(ridge, weights)]))),
            }
            if even:
                rules["random"] = (c.dose, drawn(draws))
            for method, (dose, build) in rules.items():
                played = keep and method in ("sum", "interpolate") and (even or max(weights) == 1)
                arms.append(
                    Arm(
                        f"{method} {text}", build, method == "random", site, (dose,), says=says | {"method": method},
                        keep=played,
                    )
                )  # fmt: skip
        made = self.play(self.listened(part), arms, self.sounds_of_others(part, c.n_seeds, 0))
        return made | {"clips": with_mix(made["clips"], part)}

    # A switch in time ------------------------------------------------------------------------------------------------

    @step(per="set", shown=False)
    def fade(self, part: Set) -> dict[str, Any]:
        """Pieces from nothing whose push changes from the first class to the second; judged in windows."""
        c, n, site = self.config, self.config.fade_seeds, self.best(part)
        sides = [Directions([d]) for d in self.parts(part, site, "mean_diff")[:2]]
        rng = np.random.default_rng([c.seed, 32, self.sets.index(part)])
        draws = [[Directions([random_like(d[0], rng)]) for d in sides] for _ in range(n)]

        def switched(pick: Callable[[int], list[Directions]], width: float = 0.0) -> Build:
            def build(dose: float, i: int) -> tuple[Intervention, ...]:
                before, after = (Add(directions, dose=dose) for directions in pick(i))
                return cross_fade(before, after, c.switch_second, width)

            return build

        builds: dict[str, Build] = {
            "first throughout": added(sides[0]),
            "second throughout": added(sides[1]),
            "switch": switched(lambda _: sides),
            "cross-fade": switched(lambda _: sides, c.fade_width),
            "random": switched(lambda i: draws[i]),
        }
        keep = c.n_sounds > 0
        arms = [
            Arm(name, build, name == "random", site, (c.dose,), says={"method": name}, keep=keep)
            for name, build in builds.items()
        ]
        arms.append(Arm(UNSTEERED, dosed=False, says={"method": UNSTEERED}, keep=keep))
        starts = np.arange(0.0, c.fade_seconds - c.window + 1e-6, c.hop)
        spans = [("", float(start), float(start) + c.window) for start in starts]
        spans += [("before", 0.0, c.switch_second), ("after", c.switch_second, c.fade_seconds)]
        windows = tuple(dict.fromkeys((start, stop) for _, start, stop in spans))
        first = c.seed + 1000 * self.sets.index(part) + 300
        made = run_arms(
            self.model, self.listened(part), arms, [None] * n, seeds=range(first, first + n), judge=self.judge,
            setting=self.setting(seconds=c.fade_seconds, prompt_seconds=0.0, windows=windows),
        )  # fmt: skip
        heard = made.clips.assign(
            answer=self.answers(made.clips)[c.trait], seconds=(made.clips["start"] + made.clips["stop"]) / 2
        )
        clips = pd.concat(
            [
                heard[(heard["start"] == start) & (heard["stop"] == stop)].assign(part=name)
                for name, start, stop in spans
            ],
            ignore_index=True,
        )
        sounds = {arm: audio[: c.n_sounds].numpy() for (arm, _), audio in made.audio.items()}
        return {"clips": with_mix(clips, part), "sounds": sounds}

    # What comes of it ------------------------------------------------------------------------------------------------

    def tables(self) -> dict[str, pd.DataFrame]:
        clips = self.fusion.all("clips")
        made = {
            "pilot": self.pilot.all(),
            "fusion": fusion_table(clips, self.reference().get("")),
            "trends": fusion_trends(clips),
            "half_way": half_way(clips),
            "clips": public(clips),
        }
        if self.config.fade_seeds:
            windows = self.fade.all("clips").fillna({"part": ""})
            made |= {"fade": fade_shares(windows), "fade_course": fade_course(windows)}
        return made

    def answer(self, t: Mapping[str, pd.DataFrame]) -> Iterator[str]:
        return paragraphs(t, self.config.switch_second)

    def figures(self, t: Mapping[str, pd.DataFrame]) -> Iterator[Drawing]:
        c = self.config
        yield "# Ratio against judged mix"
        for part in self.sets:
            rows = t["fusion"][(t["fusion"]["set"] == ":".join(part)) & t["fusion"]["ratio"].notna()]
            if len(rows):
                axs = list(plots.fusion(rows, names=(part[0], part[1]), title=" + ".join(part)))
                yield f"fusion_{slug(part)}", axs, f"{' + '.join(part)}: judged mix, and what is heard."
        if "fade" in t:
            yield "# A switch in time"
            for part in self.sets:
                rows = t["fade_course"][t["fade_course"]["set"] == ":".join(part)]
                arms = ("first throughout", "switch", "cross-fade", "random")
                axs = list(plots.switch(rows, c.switch_second, names=(part[0], part[1]), window=c.window, arms=arms))
                caption = f"{part[0]} to {part[1]} at {c.switch_second:g} s, judged in windows of {c.window:g} s."
                yield f"switch_{slug(part)}", axs, f"{caption} A window in the grey band hears both sides."

    def recordings(self, t: Mapping[str, pd.DataFrame]) -> Iterator[tuple[str, pd.DataFrame]]:
        for part in self.sets:
            names = {UNSTEERED: UNSTEERED} | {f"sum {w}": f"sum {w}" for w in ("1:0", "0.5:0.5", "0:1")}
            rows = self.kept_sounds(self.fusion(part)["sounds"], "_".join(part), names)
            if len(rows):
                yield f"{' + '.join(part)}: the first sounds, not chosen; weights as named.", rows
            if self.config.fade_seeds:
                names = {name: name for name in ("first throughout", "switch", "cross-fade", "random")}
                rows = self.kept_sounds(self.fade(part)["sounds"], f"{'_'.join(part)}_fade", names)
                if len(rows):
                    yield f"{part[0]} to {part[1]} in time.", rows


def added(directions: Directions, weights: tuple[float, ...] | None = None) -> Build:
    return lambda dose, _: (Add(directions, dose=dose, weights=weights, mixture=True),)


def interpolated(directions: Directions) -> Build:
    return lambda strength, _: (Interpolate(directions, strength=strength),)


def drawn(draws: list[Directions]) -> Build:
    return lambda dose, i: (Add(draws[i], dose=dose),)


if __name__ == "__main__":
    main(GenreFusion)
