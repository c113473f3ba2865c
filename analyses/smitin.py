"""SMITIN (arXiv 2404.02252) on any MusicGen: does self-monitored steering add a trait, and at what cost?

    python -m analyses.smitin --out figures/smitin

The paper's table (success, FAD, similarity to the prompt for no steering, text, ITI and SMITIN at two strengths, in
continuation and text-to-music) with a judge of sound alone, and what the paper's table leaves open: both rules swept
over strengths and compared *at equal success*; a ladder from ITI to SMITIN that changes one part at a time (choice of
heads, sparseness, the gate), each rung with the probe's weights and with mean differences as directions, with random
and shuffled-label controls; removal; the monitor's traces; and how few pairs of clips suffice.

Probes hear pairs of clips that differ in the trait alone: one score rendered with and without it, as the paper takes a
stem out of a mix. On a checkpoint from the hub give the same music or a folder of labelled clips, and a judge:

    python -m analyses.smitin --model facebook/musicgen-large --judge clap \\
        --out figures/smitin-large --seconds 10 --prompt-seconds 3 --pair-seconds 3 --guidance 3 --alphas 5,10 \\
        --sweep 20 --iti 5,10,15 --k 48 --ladder 5,10 --n-seeds 64 [--data folder]

``--data`` is a folder with ``metadata.csv`` (a column for each trait); 30 % of its groups are kept from the probes for
prompts and reference music. ``--judge probe`` takes the model's own probes instead of CLAP: not independent, no FAD.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

import interp
from analyses._smitin_arms import (
    CONTINUATION,
    TEXT,
    Arm,
    Probes,
    Sounds,
    fit_probes,
    monitor_accuracy,
    play,
    shuffled_probes,
)
from analyses._smitin_music import Session, balanced, pairs, reference
from analyses._smitin_report import answer, write_report
from analyses._smitin_tables import AVERAGE, embeddings, equal_success, paper_table, summary
from analyses._study import Steps, from_command_line, slug
from interp import judges, tables
from interp.clips import Clips
from interp.errors import DataError
from interp.judges import Judge, ProbeJudge

if TYPE_CHECKING:
    import xarray as xr

    from interp.model import MusicGen

__all__ = ["Config", "main"]


@dataclass(frozen=True)
class Config:
    """What the study does; every field is a flag of the command line, names as in the paper where it names them.

    Attributes
    ----------
    out : Path
        Folder of tables, figures, sounds and the page.
    model : str
        Name, folder or hub name of the checkpoint.
    data : Path or None
        Folder of labelled audio with metadata.csv; pairs are rendered without it.
    judge : str
        rendered (the shipped judge), clap, clap:FOLDER, or probe (the model's own, not independent).
    traits : tuple of str
        Traits to add.
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
    tau : str or None
        Threshold of the monitor; median(acc) - std(acc) by default.
    rows : str
        Under guidance, which rows are pushed: both, cond or uncond.
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
    n_seeds, n_text_seeds : int
        Paired seeds of continuation and of text-to-music.
    n_part_seeds : int
        Paired seeds of the ladder, of removal and of the ablation of the number of pairs.
    pilot_seeds : int
        Seeds that choose the layer of the residual arm, not used again.
    sizes : tuple of int
        Numbers of pairs in the ablation; all of them are added.
    seconds, prompt_seconds : float
        Length of a clip, and of its audio prompt.
    guidance : float
        Where there is text.
    n_reference : int
        Clips with the trait that FAD and KAD compare with.
    n_bootstrap : int
        Resamples behind intervals.
    n_sounds : int
        Seeds kept as sound.
    seed : int
        Of everything.
    """

    out: Path = Path("figures/smitin")
    model: str = "tiny"
    data: Path | None = None
    judge: str = ""
    traits: tuple[str, ...] = ("drums", "instrument=flute", "genre=jazz")
    n_pairs: int = 200
    pair_seconds: float = 4.0
    pool: str = "last"
    k: int = 16
    s: int = 5
    delta: float = 1.0
    n_monitor: int = 16
    tau: str | None = None
    rows: str = "both"
    alphas: tuple[float, ...] = (20.0, 40.0)
    sweep: tuple[float, ...] = (5.0, 10.0)
    tau_low: float = 0.5
    iti: tuple[float, ...] = (3.0, 6.0, 10.0)
    resid: tuple[float, ...] = (3.0,)
    smitin_resid: tuple[float, ...] = (12.0,)
    ladder: tuple[float, ...] = (20.0,)
    n_seeds: int = 32
    n_text_seeds: int = 16
    n_part_seeds: int = 12
    pilot_seeds: int = 8
    sizes: tuple[int, ...] = (10, 30)
    seconds: float = 4.0
    prompt_seconds: float = 1.5
    guidance: float = 2.0
    n_reference: int = 200
    n_bootstrap: int = 300
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
        ``paper_form`` (the paper's table, traits averaged), ``success`` (every trait, task, arm and strength),
        ``equal_success``, ``ladder`` (which part matters), ``removal``, ``pairs`` (ablation of their number),
        ``probes``, ``answer`` (one paragraph a row); as written to ``config.out`` beside ``index.html``.

    Raises
    ------
    DataError
        If the model needs a judge and none is named, or a trait cannot be rendered, found or heard.
    """
    config = from_command_line(Config, __doc__) if config is None else config
    if min(config.n_seeds, config.n_text_seeds, config.n_part_seeds, config.pilot_seeds) < 2:
        raise DataError("steering compares twins: give two seeds or more to every part.")
    if not config.judge:
        judges.load("", model=config.model, traits=config.traits)  # said before anything takes time
    model = interp.load(config.model)
    if config.judge != "probe":
        judges.load(config.judge, model=model, traits=config.traits)
    study = _Study(config, model, progress)
    found = study.tables()
    for key, table in found.items():
        tables.write(table, config.out / key)
    print(tables.to_markdown(found["paper_form"], digits=2))
    print("\n".join(found["answer"]["text"]))
    page = write_report(config, found, study.steps.folder, study.sounds(), study.about())
    print(f"Look and listen: {page}")
    return found


class _Study:
    def __init__(self, config: Config, model: MusicGen, progress: bool) -> None:
        self.config, self.model, self.progress = config, model, progress
        key = {k: v for k, v in dataclasses.asdict(config).items() if k not in ("out", "n_sounds")}
        self.steps = Steps(config.out, key | {"fingerprint": self.model.fingerprint})
        self.data = {trait: self._activations(trait) for trait in config.traits}
        self.probes = {trait: fit_probes(ds, trait, config.pool, config.seed) for trait, ds in self.data.items()}
        self.session = Session(
            self.model, self._judge(), data=config.data,
            plain_words=config.model == "tiny", k=config.k, s=config.s, delta=config.delta,
            n_monitor=config.n_monitor, tau=None if config.tau is None else float(config.tau), rows=config.rows,
            seconds=config.seconds, prompt_seconds=config.prompt_seconds, guidance=config.guidance, pool=config.pool,
            seed=config.seed, progress=progress,
        )  # fmt: skip

    # Listening ------------------------------------------------------------------------------------------------------

    def _activations(self, trait: str) -> xr.Dataset:
        c = self.config
        if c.data is None:
            name = f"pairs-{slug(trait)}-{c.seed}-{c.n_pairs}-{c.pair_seconds:g}"
            clips = pairs(trait, c.n_pairs, c.seed, c.pair_seconds, self.progress)
        else:
            name = f"{slug(str(c.data))}-{slug(trait)}-{c.seed}-{c.n_pairs}"
            clips = balanced(Clips.from_folder(c.data), trait, c.n_pairs, c.seed)
        store = c.out / ".cache" / f"{self.model.fingerprint[:12]}-{name}-{c.pool}.zarr"
        store.parent.mkdir(parents=True, exist_ok=True)
        pools = ["mean", *([c.pool] if c.pool != "mean" else [])]
        return interp.extract(self.model, clips, sites="heads, resid", pool=pools, out=store, progress=self.progress)

    def _judge(self) -> Judge:
        if self.config.judge != "probe":
            judge: Judge = judges.load(self.config.judge, model=self.model, traits=self.config.traits)
            return judge
        heads = [d for trait in self.config.traits for d in self.probes[trait].heads["logistic"]]
        return ProbeJudge(self.model, heads)

    # Tables ---------------------------------------------------------------------------------------------------------

    def tables(self) -> dict[str, pd.DataFrame]:
        c = self.config
        parts: dict[str, list[pd.DataFrame]] = {}
        references: dict[tuple[str, str], Any] = {}
        lost: dict[tuple[str, str], Any] = {}
        for trait in c.traits:
            at = self.pilot(trait)
            probes = self.probes[trait].at(at)
            steps: dict[str, Callable[[str, Probes], pd.DataFrame]] = {
                "continuation": self._continuation, "text": self._text, "ladder": self._ladder,
                "removal": self._removal, "pairs": self._pairs,
            }  # fmt: skip
            for name, make in steps.items():
                table = self.steps.table(f"{name}_{slug(trait)}", partial(make, trait, probes))
                parts.setdefault(name, []).append(table)
            references[trait, CONTINUATION] = self._reference(trait, True, c.seconds - c.prompt_seconds)
            references[trait, TEXT] = self._reference(trait, True, c.seconds)
            lost[trait, CONTINUATION] = self._reference(trait, False, c.seconds - c.prompt_seconds)
        clips = {name: pd.concat(some, ignore_index=True) for name, some in parts.items()}
        main_clips = pd.concat([clips["continuation"], clips["text"]], ignore_index=True)
        success = self.steps.table("success", lambda: summary(main_clips, references, n_bootstrap=c.n_bootstrap))
        order = [
            ("none", 0.0), ("text", 0.0), ("ITI", np.nan), *(("SMITIN", a) for a in sorted({*c.alphas, *c.sweep})),
            (f"SMITIN, τ {c.tau_low:g}", max(c.alphas)), ("SMITIN + text", max(c.alphas)),
            *(("residual", a) for a in c.resid), *(("SMITIN residual", a) for a in c.smitin_resid),
        ]  # fmt: skip
        found = {
            "paper_form": paper_table(success, order),
            "success": success,
            "equal_success": self.steps.table(
                "equal_success",
                lambda: equal_success(
                    clips["continuation"], references, ["SMITIN", "residual", "SMITIN residual"],
                    n_bootstrap=c.n_bootstrap,
                ),
            ),
            "ladder": self.steps.table(
                "ladder", lambda: summary(clips["ladder"], references, n_bootstrap=c.n_bootstrap)
            ),
            "removal": self.steps.table("removal", lambda: summary(clips["removal"], lost, n_bootstrap=c.n_bootstrap)),
            "pairs": self._pairs_table(clips["pairs"]),
            "probes": self._probe_table(),
        }  # fmt: skip
        found["answer"] = answer(found, c)
        return found

    def _reference(self, trait: str, present: bool, seconds: float) -> np.ndarray:
        def make() -> pd.DataFrame:
            x = reference(self.session, trait, present, self.config.n_reference, seconds)
            return pd.DataFrame(x, columns=[f"e{i}" for i in range(x.shape[1])])

        if not hasattr(self.session.judge, "embed"):
            return np.empty((0, 0))
        return embeddings(self.steps.table(f"reference_{slug(trait)}_{present}_{seconds:g}", make))

    def pilot(self, trait: str) -> str:
        """The layer where the mean difference works best at 3 sigma, on seeds of its own."""

        def make() -> pd.DataFrame:
            layers = self.probes[trait].resid
            arms = [Arm(str(d.site), "add", 3.0, "mean_diff", "resid") for d in layers]
            at = {a.name: self.probes[trait].at(a.name) for a in arms}
            named = [replace(a, method=a.name) for a in arms]
            n, first = self.config.pilot_seeds, 20_000
            clips = play(self.session, trait, CONTINUATION, named, at, n=n, seed=first)
            return clips.groupby("arm", sort=False)[["hit", "not_music"]].mean().reset_index()

        table = self.steps.table(f"pilot_{slug(trait)}", make)
        return str(table.loc[(table["hit"] - table["not_music"].fillna(0)).idxmax(), "arm"])

    def _rules(self, further: bool) -> list[Arm]:
        """The arms of the paper's table; further strengths for the comparison at equal success."""
        c = self.config
        best = slice(None) if further else slice(-1, None)
        return [
            Arm("none", "none"),
            Arm("text", "text", ask=True),
            *(Arm("ITI", "iti", a) for a in (c.iti if further else (_middle(c.iti),))),
            *(Arm("SMITIN", "smitin", a) for a in sorted({*c.alphas, *(c.sweep if further else ())})),
            *(Arm("residual", "add", a, "mean_diff", "resid") for a in c.resid[best]),
            *(Arm("SMITIN residual", "smitin", a, "mean_diff", "resid") for a in c.smitin_resid[best]),
        ]

    def _continuation(self, trait: str, probes: Probes) -> pd.DataFrame:
        c = self.config
        trace = self.steps.folder / f"trace_{slug(trait)}.csv"
        arms = [*self._rules(further=True), Arm("SMITIN + text", "smitin", max(c.alphas), ask=True)]
        if c.tau_low:
            arms.append(Arm(f"SMITIN, τ {c.tau_low:g}", "smitin", max(c.alphas), tau=c.tau_low))
        return play(
            self.session, trait, CONTINUATION, arms, probes, n=c.n_seeds, seed=0, own=True, trace=trace,
            keep=self.sounds(),
        )  # fmt: skip

    def _text(self, trait: str, probes: Probes) -> pd.DataFrame:
        n = self.config.n_text_seeds
        return play(self.session, trait, TEXT, self._rules(further=False), probes, n=n, seed=5_000, own=True)

    def _ladder(self, trait: str, probes: Probes) -> pd.DataFrame:
        """From ITI to SMITIN, one part at a time; with two directions, and controls."""
        c = self.config
        half = tuple(a / 2 for a in c.ladder)
        rungs = [("ITI", "iti"), ("soft weights", "soft"), ("soft, every s", "sparse"), ("SMITIN", "smitin")]
        arms = [Arm("none", "none")]
        arms += [
            Arm(f"{name}, {method}", rule, a, method)
            for method, strengths in (("logistic", c.ladder), ("mean_diff", half))
            for a in strengths
            for name, rule in rungs
        ]
        strongest = ((*rungs[0], max(c.iti)), (*rungs[3], max(c.alphas)))  # as strong as in the paper's table
        arms += [
            Arm(f"{name}, {method}", rule, a, method)
            for method in ("random", "shuffled")
            for name, rule, a in strongest
        ]
        more = dict(probes.heads) | shuffled_probes(self.data[trait], trait, c.pool, c.seed, probes)
        return play(self.session, trait, CONTINUATION, arms, replace(probes, heads=more), n=c.n_part_seeds, seed=7_000)

    def _removal(self, trait: str, probes: Probes) -> pd.DataFrame:
        c = self.config
        arms = [
            Arm("none", "none", remove=True),
            Arm("ITI", "iti", _middle(c.iti), remove=True),
            *(Arm("SMITIN", "smitin", a, remove=True) for a in c.alphas),
            Arm("residual", "add", c.resid[-1], "mean_diff", "resid", remove=True),
        ]
        trace = self.steps.folder / f"trace_removal_{slug(trait)}.csv"
        n = c.n_part_seeds
        return play(self.session, trait, CONTINUATION, arms, probes, n=n, seed=9_000, remove=True, trace=trace)

    # Pairs ----------------------------------------------------------------------------------------------------------

    def _pairs(self, trait: str, _: Probes) -> pd.DataFrame:
        """Probes of the first pairs, tested on the last quarter, and what they steer."""
        c, ds = self.config, self.data[trait]
        split = ds.sizes["clip"] - ds.sizes["clip"] // 4 // 2 * 2
        test = ds.isel(clip=slice(split, None))
        ds = ds.isel(clip=np.flatnonzero(~np.isin(ds["group"].values, test["group"].values)))
        rest = ds.sizes["clip"]
        sizes = [*(n for n in c.sizes if 2 * n < rest), rest // 2]
        named, arms, rows = {}, [Arm("none", "none", method="none")], []
        for n in sizes:
            some = fit_probes(
                ds.isel(clip=slice(0, 2 * n)), trait, c.pool, c.seed, folds=2 if n < 20 else 5, resid=False
            )
            named[str(n)] = some
            best, median = monitor_accuracy(test, trait, some, c.pool, c.n_monitor)
            rows.append({"method": str(n), "n_pairs": n, "accuracy_heads": best, "accuracy_monitor": median})
            arms += [Arm("ITI", "iti", _middle(c.iti), method=str(n))]
            arms += [Arm("SMITIN", "smitin", max(c.alphas), method=str(n))]
        named["none"] = named[str(sizes[-1])]
        clips = play(self.session, trait, CONTINUATION, arms, named, n=c.n_part_seeds, seed=11_000)
        return clips.drop(columns=[x for x in clips if x[:1] == "e" and x[1:].isdigit()]).merge(
            pd.DataFrame(rows).astype({"method": str}), on="method", how="left"
        )

    def _pairs_table(self, clips: pd.DataFrame) -> pd.DataFrame:
        parts = []
        for _, part in clips[clips["arm"] != "none"].groupby("n_pairs", sort=True):
            # of a folder, the largest number may differ between traits
            base = clips[(clips["arm"] == "none") & clips["trait"].isin(part["trait"])]
            found = summary(pd.concat([base, part], ignore_index=True), {})
            found = found[found["arm"] != "none"]
            if part["trait"].nunique() < clips["trait"].nunique():
                found = found[found["trait"] != AVERAGE]
            books = part.groupby("trait")[["n_pairs", "accuracy_heads", "accuracy_monitor"]].mean()
            books.loc[AVERAGE] = books.mean()
            parts.append(found.merge(books.reset_index(), on="trait"))
        table = pd.concat(parts, ignore_index=True)
        keep = ["trait", "n_pairs", "accuracy_heads", "accuracy_monitor", "arm", "strength", "n", "rate", "lo", "hi",
                "diff", "diff_lo", "diff_hi", "not_music", "acted"]  # fmt: skip
        return table[keep].sort_values(["trait", "arm", "strength", "n_pairs"], ignore_index=True)

    def _probe_table(self) -> pd.DataFrame:
        rows = []
        for trait, probes in self.probes.items():
            for study, pool in zip(probes.studies, (self.config.pool, "mean"), strict=True):
                rows.append(study.table.assign(trait=trait, pool=pool))
        columns = ["trait", "site", "kind", "layer", "head", "method", "pool", "n_train", "n_test", "cv_score",
                   "test_score", "chance"]  # fmt: skip
        return pd.concat(rows, ignore_index=True)[columns]

    def about(self) -> dict[str, Any]:
        """What made it, for the foot of the page; what the judge is worth."""
        judge = self.session.judge
        rows = judge.accuracy_frame().dropna(subset="lo").drop_duplicates("trait")
        worth = ", ".join(f"{row.trait} {row.value:.1%}" for row in rows.itertuples()) or "not measured"
        words = f"{judge.name}{'' if judge.independent else ' (NOT independent)'}; accuracy: {worth}"
        name = f"{self.model.name} {self.model.fingerprint[:12]}"
        return {"study": "analyses.smitin", "model": name, "judge": words, "seed": self.config.seed}

    def sounds(self) -> Sounds:
        """What the page plays."""
        c = self.config
        return Sounds(c.out / "audio", c.n_sounds, ("none", "ITI", "SMITIN", "residual", "SMITIN residual"))


def _middle(strengths: tuple[float, ...]) -> float:
    return sorted(strengths)[len(strengths) // 2]


if __name__ == "__main__":
    from interp.cli import sentences

    with sentences():
        main()
