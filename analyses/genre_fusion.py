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

    python -m analyses.genre_fusion --model facebook/musicgen-large --sets classical:electronic --data FOLDER \
        --judge clap --seconds 10 --prompt-seconds 5 --fade-seconds 10 --switch-second 5 --out figures/fusion_large
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analyses._fusion_pages import fusion_page, fusion_paragraph
from analyses._fusion_tables import fade_course, fade_shares, fusion_table, fusion_trends, half_way, with_mix
from analyses._study import from_command_line, slug
from analyses._transfer import Cell, Transfer, parse_sets
from analyses._transfer_tables import UNSTEERED, public
from interp import tables
from interp.data.audio import write_audio
from interp.directions import Direction, Directions, combine, orthogonalise, random_like
from interp.errors import DataError
from interp.steering import Add, Interpolate, Intervention, Row, cross_fade, generate

__all__ = ["Config", "main"]


@dataclass(frozen=True)
class Config:
    """What the study does; every field is a flag of the command line.

    Attributes
    ----------
    out : Path
        Folder of tables, figures, sounds and the page.
    model : str
        Name, folder or hub name of the checkpoint.
    data : Path or None
        Folder of labelled audio with metadata.csv; music is rendered without it (for the shipped model alone).
    trait : str
        Label of three classes or more.
    sets : tuple of str
        What is fused, as in classical:electronic,jazz:rock; three classes or more in one set are fused in equal parts
        and in pairs.
    judge : str
        auto, rendered, clap, clap:FOLDER or probe (not independent).
    judge_data : Path or None
        Labelled clips that measure CLAP, or train the judge probe.
    n_clips : int
        Clips to render for the probes.
    ratios : tuple of float
        Weights of the second class; the first has the rest.
    dose : float
        Of adding, in standard deviations along each direction.
    strength : float
        s of the paper's rule.
    layers : tuple of int
        Layers that the pilot tries; all by default (name some for a large model).
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
    seconds, prompt_seconds : float
        Length of the whole, and of the sound to continue.
    n_sounds : int
        Sounds kept for each set.
    seed : int
        Of clips, prompts, noise and random directions.
    """

    out: Path = Path("figures/genre_fusion")
    model: str = "tiny"
    data: Path | None = None
    trait: str = "genre"
    sets: tuple[str, ...] = ("classical:electronic", "jazz:rock")
    judge: str = "auto"
    judge_data: Path | None = None
    n_clips: int = 400
    ratios: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    dose: float = 3.0
    strength: float = 0.3
    layers: tuple[int, ...] = ()
    pilot_seeds: int = 4
    n_seeds: int = 12
    fade_seeds: int = 12
    fade_seconds: float = 4.0
    switch_second: float = 2.0
    fade_width: float = 1.0
    window: float = 1.0
    hop: float = 0.25
    seconds: float = 4.0
    prompt_seconds: float = 1.5
    n_sounds: int = 2
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
        ``pilot``, ``fusion`` (what is heard for every weighting), ``trends``, ``half_way`` (paired contrasts at equal
        weights), ``clips``, and with pieces that switch ``fade`` (before and after) and ``fade_course``; as written to
        ``config.out`` beside ``answer.md`` and ``index.html``.
    """
    config = from_command_line(Config, __doc__) if config is None else config
    if min(config.pilot_seeds, config.n_seeds) < 2 or config.fade_seeds == 1:
        raise DataError("steering compares twins: give two seeds or more, for the pilot and the switch as well.")
    if not all(0 <= r <= 1 for r in config.ratios) or len(set(config.ratios)) < 2:
        raise DataError("give two ratios or more between 0 and 1.")
    least = max(config.window, 0.8)
    if config.fade_seeds and not least <= config.switch_second <= config.fade_seconds - least:
        raise DataError(
            f"a switch at {config.switch_second:g} s of {config.fade_seconds:g} s leaves less than a window of "
            f"{least:g} s on one side: move it, or make the pieces longer."
        )
    study = _Study(config, progress)
    found = study.tables()
    for name, table in found.items():
        tables.write(table, config.out / name, formats=("csv",) if name == "clips" else ("csv", "md", "tex"))
    text = fusion_paragraph(config, found, study.base.ear.worth())
    (config.out / "answer.md").write_text(f"# {(__doc__ or '').splitlines()[0]}\n\n{text}\n")
    page = fusion_page(config, study.base, study.sets, found, text)
    print(tables.to_markdown(found["trends"]))
    print(text)
    print(f"Look and listen: {page}")
    return found


class _Study:
    def __init__(self, config: Config, progress: bool) -> None:
        self.config = config
        self.sets = parse_sets(config.sets)
        self.base = Transfer(config, [one for part in self.sets for one in part], progress)
        for part in self.sets:
            if not set(self.base.classes) - set(part):
                raise DataError(
                    f"every class of {config.trait} is in {':'.join(part)}: no other sound is left to start from."
                )

    def tables(self) -> dict[str, pd.DataFrame]:
        pilot = self._gather("pilot", self._pilot)
        best = {s: str(pilot[pilot["set"] == ":".join(s)].set_index("site")["rate"].idxmax()) for s in self.sets}
        clips = self._gather("fusion", lambda s: self._fuse(s, best[s]))
        clips["weights"] = clips["weights"].fillna("")
        found = {
            "pilot": pilot,
            "fusion": fusion_table(clips, self.base.reference()),
            "trends": fusion_trends(clips),
            "half_way": half_way(clips),
            "clips": public(clips),
        }
        if self.config.fade_seeds:
            windows = self._gather("fade", lambda s: self._fade(s, best[s]))
            windows["part"] = windows["part"].fillna("")
            found |= {"fade": fade_shares(windows), "fade_course": fade_course(windows)}
        return found

    def _gather(self, name: str, make: Callable[[tuple[str, ...]], pd.DataFrame]) -> pd.DataFrame:
        """One step a set, so that a stopped run loses little."""
        table = self.base.steps.table
        parts = [table(f"{name}_{slug('-'.join(s))}", lambda s=s: make(s)) for s in self.sets]  # type: ignore[misc]
        return pd.concat(parts, ignore_index=True).copy()  # many columns, in one piece

    def _seeds(self, part: tuple[str, ...], n: int, offset: int) -> list[int]:
        first = self.config.seed + 1000 * self.sets.index(part) + offset
        return list(range(first, first + n))

    def _others(self, part: tuple[str, ...]) -> list[str]:
        return [one for one in self.base.classes if one not in part]

    def _pilot(self, part: tuple[str, ...]) -> pd.DataFrame:
        """Every layer pushed towards each class alone: the share in which that class is heard."""
        c, cells = self.config, []
        for layer, site in self.base.layers("resid"):
            for value in part:
                push = Directions([self.base.towards(value, "mean_diff", site)])
                says = {"site": site, "layer": layer, "towards": value}
                cells.append(Cell(says, _always((Add(push, dose=c.dose),))))
        given = self.base.sounds(self._others(part), c.pilot_seeds, 500, after=c.n_seeds)
        clips = self.base.listen(cells, given, self._seeds(part, c.pilot_seeds, 500))
        clips["hit"] = clips["answer"] == clips["towards"]
        table = clips.groupby(["site", "layer"], sort=False).agg(
            rate=("hit", "mean"), not_music=("not_music", "mean"), n=("hit", "size")
        )
        return table.reset_index().assign(set=":".join(part))

    # Fusion ---------------------------------------------------------------------------------------------------------

    def _weights(self, part: tuple[str, ...]) -> list[tuple[float, ...]]:
        if len(part) == 2:
            return [(1 - r, r) for r in self.config.ratios]
        corners = [tuple(float(i == k) for i in range(len(part))) for k in range(len(part))]
        return [*corners, tuple(1 / len(part) for _ in part)]

    def _parts(self, part: tuple[str, ...], site: str, method: str, clean: bool = False) -> list[Direction]:
        """Directions of the classes, cleaned of each other if asked, with sigma measured on the training clips."""
        own = [self.base.towards(value, method, site) for value in part]
        if not clean:
            return own
        x = self.base.activations_at(site)
        return [orthogonalise(d, [o for o in own if o is not d], activations=x) for d in own]

    def _fuse(self, part: tuple[str, ...], site: str) -> pd.DataFrame:
        c = self.config
        name = "_".join(part)
        mean, ridge = self._parts(part, site, "mean_diff"), self._parts(part, site, "ridge")
        clean = self._parts(part, site, "mean_diff", clean=True)
        length = float(np.exp(np.mean(np.log([d.sigma for d in mean]))))
        cells = [Cell({"method": UNSTEERED, "weights": "", "ratio": np.nan}, play=f"{name}_unsteered")]
        for weights in self._weights(part):
            ratio = weights[1] if len(part) == 2 else np.nan
            told = ":".join(f"{w:.2g}" for w in weights)
            says: dict[str, Any] = {"weights": told, "ratio": ratio}
            even = max(weights) - min(weights) < 1e-9
            pushes: dict[str, tuple[Intervention, ...]] = {
                "sum": (Add(Directions(mean), dose=c.dose, weights=weights, mixture=True),),
                "equal length": (Add(Directions([replace(_sum(mean, weights), sigma=length)]), dose=c.dose),),
                "orthogonal": (Add(Directions(clean), dose=c.dose, weights=weights, mixture=True),),
                "interpolate": (Interpolate(Directions([_sum(ridge, weights)]), strength=c.strength),),
            }
            for method, push in pushes.items():
                kept = method in ("sum", "interpolate") and (even or max(weights) == 1)
                play = f"{name}_{method}_{told.replace(':', '-')}" if kept else ""
                cells.append(Cell(says | {"method": method}, _always(push), play=play))
            if even:
                rng = np.random.default_rng([c.seed, 31, self.sets.index(part)])
                # as long as the longest push of any weighting
                longest = max(mean, key=lambda d: d.sigma)
                draws = [random_like(longest, rng) for _ in range(c.n_seeds)]
                cells.append(Cell(says | {"method": "random"}, _drawn(draws, c.dose)))
        given = self.base.sounds(self._others(part), c.n_seeds, 0)
        return with_mix(self.base.listen(cells, given, self._seeds(part, c.n_seeds, 0)), part)

    # A switch in time -----------------------------------------------------------------------------------------------

    def _fade(self, part: tuple[str, ...], site: str) -> pd.DataFrame:
        """Pieces from nothing whose push changes from the first class to the second; judged in windows."""
        c, rate = self.config, self.base.model.sample_rate
        n = c.fade_seeds
        one, two = (Add(Directions([d]), dose=c.dose) for d in self._parts(part, site, "mean_diff")[:2])
        rng = np.random.default_rng([c.seed, 32, self.sets.index(part)])
        draws = [
            [Add(Directions([random_like(a.directions[0], rng)]), dose=c.dose) for a in (one, two)] for _ in range(n)
        ]
        arms: dict[str, Callable[[int], tuple[Intervention, ...]]] = {
            "first throughout": _always((one,)),
            "second throughout": _always((two,)),
            "switch": _always(cross_fade(one, two, c.switch_second)),
            "cross-fade": _always(cross_fade(one, two, c.switch_second, c.fade_width)),
            "random": lambda i: cross_fade(draws[i][0], draws[i][1], c.switch_second),
            UNSTEERED: lambda _: (),
        }
        seeds = self._seeds(part, n, 300)
        rows = [Row(seed=seeds[i], interventions=build(i)) for build in arms.values() for i in range(n)]
        made = generate(self.base.model, rows, seconds=c.fade_seconds, guidance=None, progress=self.base.progress)
        starts = np.arange(0.0, c.fade_seconds - c.window + 1e-6, c.hop)
        spans = [("", float(s), float(s) + c.window) for s in starts]
        spans += [("before", 0.0, c.switch_second), ("after", c.switch_second, c.fade_seconds)]
        tables_ = []
        for name, start, stop in spans:
            heard = self.base.ear.hear(made.audio[:, :, round(start * rate) : round(stop * rate)], rate)
            where = {
                "method": np.repeat(list(arms), n), "seed": np.tile(seeds, len(arms)), "part": name,
                "seconds": (start + stop) / 2,
            }  # fmt: skip
            tables_.append(heard.assign(**where))
        for k, arm in enumerate(arms):
            for i in range(min(c.n_sounds, n)):
                file = self.base.sound(f"{'_'.join(part)}_fade_{arm}", i)
                write_audio(file, made.audio[k * n + i], rate)
        return with_mix(pd.concat(tables_, ignore_index=True), part)


def _sum(directions: Sequence[Direction], weights: Sequence[float]) -> Direction:
    return combine(directions, weights)


def _always(push: tuple[Intervention, ...]) -> Callable[[int], tuple[Intervention, ...]]:
    return lambda _: push


def _drawn(draws: list[Direction], dose: float) -> Callable[[int], tuple[Intervention, ...]]:
    return lambda i: (Add(Directions([draws[i]]), dose=dose),)


if __name__ == "__main__":
    from interp.cli import sentences

    with sentences():
        main()
