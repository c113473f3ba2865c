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

    python -m analyses.timbre_transfer --model facebook/musicgen-large --trait genre --pairs classical:electronic \
        --data FOLDER --judge clap --seconds 10 --prompt-seconds 5 --out figures/style_transfer_large
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analyses._study import from_command_line, slug
from analyses._transfer import METHODS, Cell, Given, Transfer, parse_sets
from analyses._transfer_pages import transfer_page, transfer_paragraph
from analyses._transfer_tables import OTHER_NOISE, UNSTEERED, contrasts, kept, outcomes, public, success_at_quality
from interp import tables
from interp.directions import Direction, Directions, random_like
from interp.errors import DataError
from interp.steering import Add, Interpolate, Intervention

__all__ = ["Config", "main"]

PAIRS = {
    "instrument": ("piano:flute", "guitar:strings", "flute:brass"),
    "genre": ("classical:electronic", "electronic:jazz", "jazz:rock"),
}
"""Pairs taken when none are named; those of genres are the ones of the paper's demonstration."""

INTERPOLATE, NORM, DOSE = "interpolate", "add, equal norm", "add, equal dose"
PLAYED = ((INTERPOLATE, "ridge"), (INTERPOLATE, "logistic"), (DOSE, "mean_diff"), (DOSE, "random"))
"""Rules and methods of which sounds are kept, at the middle strength."""


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
        Label of several classes: instrument (timbre transfer), genre (style transfer).
    pairs : tuple of str
        Source and target, as in piano:flute,guitar:strings.
    judge : str
        auto, rendered, clap, clap:FOLDER or probe (not independent).
    judge_data : Path or None
        Labelled clips that measure CLAP, or train the judge probe.
    n_clips : int
        Clips to render for the probes.
    strengths : tuple of float
        s of the paper's rule.
    doses : tuple of float
        Of adding, in standard deviations; at equal norm in those of the methods' geometric mean.
    attention_times : float
        Attention outputs are pushed that many times as far as the residual stream: they are one of many parts of it.
    layers : tuple of int
        Layers of the map; all by default (name some for a large model).
    grid_seeds : int
        Sounds of each pair for the map of layers and strengths, which also chooses the layer.
    n_seeds : int
        Further sounds of each pair for everything else.
    text_seeds : int
        Text-to-music pieces of each pair; 0 for none.
    text : str
        Text for models that understand free text; {} stands for the class.
    text_rows : str
        Rows pushed in text-to-music: cond as in the paper's code (guidance multiplies the push), both or uncond.
    seconds, prompt_seconds : float
        Length of the whole, and of the sound to continue.
    n_sounds : int
        Sounds kept for each pair.
    seed : int
        Of clips, prompts, noise and random directions.
    """

    out: Path = Path("figures/timbre_transfer")
    model: str = "tiny"
    data: Path | None = None
    trait: str = "instrument"
    pairs: tuple[str, ...] = ()
    judge: str = "auto"
    judge_data: Path | None = None
    n_clips: int = 400
    strengths: tuple[float, ...] = (0.15, 0.25, 0.4)
    doses: tuple[float, ...] = (1.0, 2.0, 4.0)
    attention_times: float = 3.0
    layers: tuple[int, ...] = ()
    grid_seeds: int = 2
    n_seeds: int = 8
    text_seeds: int = 4
    text: str = "{} music"
    text_rows: str = "cond"
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
        ``grid`` (strength x layer), ``sites`` (the layers chosen), ``transfer`` (every rule, method and strength),
        ``by_pair``, ``contrasts``, ``at_quality`` (the table in the paper's form), ``kept``, ``text`` and ``clips``; as
        written to ``config.out`` beside ``answer.md`` and ``index.html``.
    """
    config = from_command_line(Config, __doc__) if config is None else config
    if not config.pairs:
        if config.trait not in PAIRS:
            raise DataError(f"no pairs are known for {config.trait}: say --pairs source:target.")
        config = replace(config, pairs=PAIRS[config.trait])
    if min(config.grid_seeds, config.n_seeds) < 2:
        raise DataError("steering compares twins: give two seeds or more, for the map of layers as well.")
    study = _Study(config, progress)
    found = study.tables()
    for name, table in found.items():
        tables.write(table, config.out / name, formats=("csv",) if name == "clips" else ("csv", "md", "tex"))
    text = transfer_paragraph(config, found, study.base.ear.worth())
    (config.out / "answer.md").write_text(f"# {(__doc__ or '').splitlines()[0]}\n\n{text}\n")
    page = transfer_page(config, study.base, study.pairs, found, text)
    print(tables.to_markdown(found["at_quality"]))
    print(text)
    print(f"Look and listen: {page}")
    return found


class _Study:
    def __init__(self, config: Config, progress: bool) -> None:
        self.config = config
        self.pairs = parse_sets(config.pairs, most=2)
        self.base = Transfer(config, [one for pair in self.pairs for one in pair], progress)

    # What is pushed ---------------------------------------------------------------------------------------------------

    def _aims(self, pair: tuple[str, ...], site: str) -> dict[tuple[str, str], Direction]:
        """Directions by rule and method: the target's for interpolation, target minus source for adding."""
        source, target = pair
        found: dict[tuple[str, str], Direction] = {}
        for method in METHODS:
            found[INTERPOLATE, method] = self.base.towards(target, method, site)
            found[DOSE, method] = self.base.mix({target: 1.0, source: -1.0}, method, site)
        common = float(np.exp(np.mean([np.log(found[DOSE, m].sigma) for m in METHODS])))
        for method in METHODS:
            found[NORM, method] = replace(found[DOSE, method], sigma=common)
        return found

    def _cells(
        self,
        pair: tuple[str, ...],
        site: str,
        rules: Mapping[str, tuple[str, ...]],
        *,
        random: bool,
        rows: Any = "both",
        times: float = 1.0,
    ) -> list[Cell]:
        """Every strength of some rules and methods at one site, ``times`` as far."""
        aims, cells = self._aims(pair, site), []
        rng = np.random.default_rng([self.config.seed, 21, self.pairs.index(pair)])
        n = max(self.config.n_seeds, self.config.text_seeds)
        for rule, methods in rules.items():
            given = self.config.strengths if rule == INTERPOLATE else self.config.doses
            amounts = [round(times * one, 6) for one in given]
            middle = amounts[len(amounts) // 2]
            # as long as the longest of the methods' pushes under this rule
            like = max((aims[rule, m] for m in METHODS), key=lambda d: d.sigma)
            draws = [random_like(like, rng) for _ in range(n)]
            arms: dict[str, Callable[[int], Direction]] = {m: _always(aims[rule, m]) for m in methods}
            if random:
                arms["random"] = draws.__getitem__
            for method, pick in arms.items():
                for amount in amounts:
                    says = {"push": rule, "method": method, "amount": amount, "content": amount == middle}
                    kept = random and rows == "both" and amount == middle and (rule, method) in PLAYED
                    play = f"{'_'.join(pair)}_{rule}_{method}" if kept else ""
                    cells.append(Cell(says, _pusher(rule, pick, amount, rows), play=play, content=amount == middle))
        return cells

    # Steps ----------------------------------------------------------------------------------------------------------

    def tables(self) -> dict[str, pd.DataFrame]:
        grid = self._gather("grid", self._grid)
        sites = _choose(grid)
        clips = self._gather("clips", lambda pair: self._transfer(pair, sites))
        reference = self.base.reference()
        by = ["push", "method", "amount"]
        table = outcomes(clips, by, reference)
        found = {
            "grid": outcomes(grid, ["kind", "site", "layer", "push", "method", "amount"]),
            "sites": sites,
            "transfer": table,
            "by_pair": outcomes(clips, ["pair", *by]),
            "contrasts": contrasts(clips),
            "at_quality": success_at_quality(table),
            "kept": kept(clips),
        }
        if self.config.text_seeds:
            texts = self._gather("text", lambda pair: self._text(pair, sites))
            found["text"] = outcomes(texts, by).drop(columns=["chroma", "embedding"])  # no prompt to resemble
            clips = pd.concat([clips.assign(mode="continuation"), texts.assign(mode="text")], ignore_index=True)
        found["clips"] = public(clips)
        return found

    def _gather(self, name: str, make: Callable[[tuple[str, ...]], pd.DataFrame]) -> pd.DataFrame:
        """One step a pair, so that a stopped run loses little."""
        parts = []
        for pair in self.pairs:
            step = f"{name}_{slug('-'.join(pair))}"
            part = self.base.steps.table(step, lambda p=pair: self._marked(make(p), p))  # type: ignore[misc]
            parts.append(part.assign(push=part["push"].fillna("")))
        return pd.concat(parts, ignore_index=True).copy()  # many columns, in one piece

    @staticmethod
    def _marked(clips: pd.DataFrame, pair: tuple[str, ...]) -> pd.DataFrame:
        """The pair, whether the target is heard, and whether the source still is."""
        heard = {"hit": clips["answer"] == pair[1], "source_heard": clips["answer"] == pair[0]}
        return clips.assign(
            pair=":".join(pair), p_target=clips[f"p.{pair[1]}"], p_source=clips[f"p.{pair[0]}"], **heard
        )

    def _sounds(self, pair: tuple[str, ...], n: int, offset: int, after: int = 0) -> tuple[list[Given], list[int]]:
        given = self.base.sounds([pair[0]], n, offset, after)
        first = self.config.seed + 1000 * self.pairs.index(pair) + offset
        return given, list(range(first, first + n))

    def _grid(self, pair: tuple[str, ...]) -> pd.DataFrame:
        c = self.config
        given, seeds = self._sounds(pair, c.grid_seeds, 500, after=c.n_seeds)
        cells = [Cell({"push": "", "method": UNSTEERED, "amount": 0.0, "kind": "", "site": "", "layer": -1})]
        chosen = {INTERPOLATE: ("ridge", "logistic"), DOSE: ("mean_diff",)}
        for kind, times in (("resid", 1.0), ("attn", c.attention_times)):
            for layer, site in self.base.layers(kind):
                for cell in self._cells(pair, site, chosen, random=False, times=times):
                    where = {"kind": kind, "site": site, "layer": layer}
                    cells.append(replace(cell, says=cell.says | where, content=False))
        return self.base.listen(cells, given, seeds)

    def _site(self, pair: tuple[str, ...], sites: pd.DataFrame, kind: str) -> str:
        row = sites[(sites["pair"] == ":".join(pair)) & (sites["kind"] == kind)]
        return str(row["site"].iloc[0])

    def _transfer(self, pair: tuple[str, ...], sites: pd.DataFrame) -> pd.DataFrame:
        """Everything at the layer that the map chose, and the best attention output beside it."""
        given, seeds = self._sounds(pair, self.config.n_seeds, 0)
        name = "_".join(pair)
        plain = {"push": "", "amount": 0.0, "content": True}
        cells = [
            Cell(plain | {"method": UNSTEERED}, content=True, play=f"{name}_unsteered"),
            Cell(plain | {"method": OTHER_NOISE}, noise=50_000, content=True),
        ]
        rules = {INTERPOLATE: METHODS, NORM: METHODS, DOSE: METHODS}
        cells += self._cells(pair, self._site(pair, sites, "resid"), rules, random=True)
        return self.base.listen(cells, given, seeds)

    def _text(self, pair: tuple[str, ...], sites: pd.DataFrame) -> pd.DataFrame:
        """The source asked for in words, pushed towards the target; and the target asked for in words."""
        c = self.config
        given, seeds = self._sounds(pair, c.text_seeds, 800)
        plain = {"push": "", "amount": 0.0, "content": False}
        texts = {value: _texts(self.base, given, value) for value in pair}
        cells = [
            Cell(plain | {"method": UNSTEERED}, text=texts[pair[0]]),
            Cell(plain | {"method": "text: target"}, text=texts[pair[1]]),
        ]
        rules = {INTERPOLATE: ("ridge", "logistic"), DOSE: ("mean_diff",)}
        site = self._site(pair, sites, "resid")
        for cell in self._cells(pair, site, rules, random=True, rows=c.text_rows):
            cells.append(replace(cell, text=texts[pair[0]], content=False, play=""))
        return self.base.listen(cells, given, seeds, guidance=3.0)


def _texts(base: Transfer, given: list[Given], value: str) -> Callable[[int], str]:
    """What is asked for: all that is known of the sound in the shipped model's words, or the template."""
    if base.model.name != "tiny":
        return lambda _: base.config.text.format(value)
    from interp.testbed.prompts import describe_clip

    return lambda i: ", ".join({**describe_clip(given[i].labels), base.config.trait: value}.values())


def _choose(grid: pd.DataFrame) -> pd.DataFrame:
    """The layer of each kind with the most success over all rules, methods and strengths, for each pair."""
    rows = []
    steered = grid[grid["method"] != UNSTEERED]
    for (pair, kind), part in steered.groupby(["pair", "kind"], sort=False):
        rates = part.groupby("site", sort=False)["hit"].mean()
        rows.append({"pair": pair, "kind": kind, "site": rates.idxmax(), "rate": rates.max(), "n": len(part)})
    return pd.DataFrame(rows)


def _always(direction: Direction) -> Callable[[int], Direction]:
    return lambda _: direction


def _pusher(
    rule: str, pick: Callable[[int], Direction], amount: float, rows: Any
) -> Callable[[int], tuple[Intervention, ...]]:
    if rule == INTERPOLATE:
        return lambda i: (Interpolate(Directions([pick(i)]), strength=amount, rows=rows),)
    return lambda i: (Add(Directions([pick(i)]), dose=amount, rows=rows),)


if __name__ == "__main__":
    from interp.cli import sentences

    with sentences():
        main()
