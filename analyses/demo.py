"""The main path, end to end, on the model that ships: what hears a trait, what carries it, what pushing does.

    make demo          or          python -m analyses.demo --out figures/demo

Music is rendered and heard by the model; every head and layer is probed for three traits; the directions of three
methods are compared; then the model continues music that lacks the trait, pushed along the direction and along
controls, and a judge of sound alone says in how many continuations the trait is heard. Tables, figures, sounds and a
page that shows and plays all of it go to the output folder.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

import interp
from analyses._study import activations, from_command_line
from analyses._study import slug as slug_of
from interp import plots, tables
from interp.cli import RANKING, show
from interp.clips import Clips
from interp.data import render_clips
from interp.embed import embed
from interp.geometry import compare_methods
from interp.model import MusicGen
from interp.probes.study import ProbeStudy, probe
from interp.report import Report, write_audio
from interp.validation import UNSTEERED, Design, Setting, Validation, validate

__all__ = ["Config", "Result", "main"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Config:
    """What the demo does.

    Attributes
    ----------
    out : Path
        Folder of tables, figures, sounds and the page.
    model : str
        Any name that :func:`interp.load` takes; judge and rendered music are made for the one that ships.
    traits : tuple of str
        Label columns, or one class of one.
    n_clips : int
        Clips that the probes see.
    n_permutations, n_bootstrap : int
        Behind p-values and intervals.
    n_seeds, doses : int, tuple of float
        Paired continuations, and how far they are pushed, in standard deviations.
    method : str
        Whose direction pushes. Class-mean differences move a model further than a classifier's weights at the same
        sigma (arXiv 2306.03341, table 3); a classifier needs doses several times as large here.
    k : int
        Heads in the arms of heads.
    n_sounds : int
        Continuations kept as sound, for each trait.
    seed : int
        Of everything.
    """

    out: Path = Path("figures/demo")
    model: str = "tiny"
    traits: tuple[str, ...] = ("drums", "instrument=brass", "genre=jazz")
    n_clips: int = 400
    n_permutations: int = 200
    n_bootstrap: int = 1000
    n_seeds: int = 32
    doses: tuple[float, ...] = (0.5, 1.0, 2.0, 3.0, 4.0)
    method: str = "mean_diff"
    k: int = 8
    n_sounds: int = 3
    seed: int = 0

    @property
    def command(self) -> str:
        """The command that gives this."""
        changed = [
            f"--{f.name.replace('_', '-')} {_plain(getattr(self, f.name))}"
            for f in dataclasses.fields(self)
            if getattr(self, f.name) != f.default
        ]
        return " ".join(["python -m analyses.demo", *changed])


@dataclass(frozen=True)
class Result:
    """What the demo found: the probe table, the cosines, the causal table, and where the page is."""

    probes: pd.DataFrame
    cosines: pd.DataFrame
    causal: pd.DataFrame
    page: Path


def main(config: Config | None = None, *, progress: bool = True) -> Result:
    """Run the demo and write everything into ``config.out``."""
    config = Config() if config is None else config
    out = config.out
    out.mkdir(parents=True, exist_ok=True)
    times: dict[str, float] = {}
    with _timed("model", times):
        model = interp.load(config.model)
    with _timed("clips", times):
        clips = render_clips(config.n_clips, seed=config.seed, progress=progress)
    with _timed("extract", times):
        tag = f"{config.seed}-{config.n_clips}"
        ds = activations(model, clips, out, tag=tag, progress=progress)
    with _timed("probe", times):
        studies = {trait: _probe(config, ds, clips, trait, progress) for trait in config.traits}
    table = pd.concat([s.table for pair in studies.values() for s in pair], ignore_index=True)
    baseline = pd.concat([heads.baseline for heads, _ in studies.values()], ignore_index=True)
    everything = pd.concat([table, baseline], ignore_index=True)
    tables.write(everything, out / "probes")
    for trait, (heads, resid) in studies.items():
        rows = pd.concat([heads.ranking().head(5), resid.ranking().head(1), heads.baseline.head(1)])
        show(rows[RANKING], f"{trait}: the best of {len(heads.sites)} heads, the best layer, the mel spectrum")

    with _timed("geometry", times):
        cosines = pd.concat(
            [compare_methods(ds, trait, n_permutations=20, seed=config.seed) for trait in config.traits],
            ignore_index=True,
        )
        tables.write(cosines, out / "cosines")
    summary = _cosine_summary(cosines)
    show(summary, "Cosine of the methods' directions, median over heads, with null and ceiling")

    causal: dict[str, Validation] = {}
    for trait in config.traits:
        with _timed(f"steer {trait}", times):
            causal[trait] = validate(
                model, ds, trait, arms="basic", doses=config.doses, n_seeds=config.n_seeds, method=config.method,
                studies=studies[trait], design=Design(k=config.k), seed=config.seed,
                setting=Setting(measure=False, keep_audio=True, progress=progress),
            )  # fmt: skip
        tables.write(causal[trait].table, out / f"causal_{slug_of(trait)}")
        show(causal[trait].summary(), f"{trait}: share of {config.n_seeds} continuations in which the judge hears it")
        print(_sentence(trait, causal[trait]))
    causal_table = pd.concat([one.table for one in causal.values()], ignore_index=True)
    tables.write(causal_table, out / "causal")
    tables.write(
        pd.concat([one.clips for one in causal.values()], ignore_index=True), out / "causal_clips", formats=("csv",)
    )

    with _timed("figures", times):
        page = _page(config, model, ds, studies, everything, cosines, summary, causal, times)
    (out / "times.json").write_text(json.dumps(times, indent=1) + "\n")
    print(f"{sum(times.values()):.0f} s in all: " + ", ".join(f"{name} {spent:.0f}" for name, spent in times.items()))
    print(f"Look and listen: {page}")
    return Result(everything, cosines, causal_table, page)


@contextmanager
def _timed(name: str, times: dict[str, float]) -> Iterator[None]:
    start = time.perf_counter()
    yield
    times[name] = round(time.perf_counter() - start, 1)


def _probe(config: Config, ds: xr.Dataset, clips: Clips, trait: str, progress: bool) -> tuple[ProbeStudy, ProbeStudy]:
    common: dict[str, Any] = {
        "n_permutations": config.n_permutations, "n_bootstrap": config.n_bootstrap, "seed": config.seed,
        "progress": progress,
    }  # fmt: skip
    mel = {"mel spectrum": mel_features(clips)}
    return probe(ds, trait, sites="heads", baselines=mel, **common), probe(ds, trait, sites="resid", **common)


def mel_features(clips: Clips, n_mels: int = 32) -> np.ndarray:
    """Mean and standard deviation over time of each clip's log-mel spectrum, ``[clips, 2 n_mels]``."""
    import librosa

    rows = []
    for clip in clips:
        power = librosa.feature.melspectrogram(
            y=clip.audio.mean(axis=0), sr=clip.sample_rate, n_fft=1024, hop_length=clip.sample_rate // 50, n_mels=n_mels
        )
        level = np.log(power + 1e-6)
        rows.append(np.concatenate([level.mean(axis=1), level.std(axis=1)]))
    return np.stack(rows)


def _cosine_summary(cosines: pd.DataFrame) -> pd.DataFrame:
    groups = cosines.groupby(["trait", "positive", "a", "b"], sort=False)
    return groups.agg(
        heads=("cosine", "size"),
        cosine=("cosine", "median"),
        lowest=("cosine", "min"),
        highest=("cosine", "max"),
        null_hi=("null_hi", "median"),
        null_permuted=("null_permuted", "median"),
        ceiling=("ceiling", "median"),
    ).reset_index()


def _sentence(trait: str, study: Validation) -> str:
    """What the causal table says of one trait, the dose with the largest gain beside the controls at that dose."""
    table = study.table
    base = table[table["arm"] == UNSTEERED].iloc[0]
    probe_rows = table[table["arm"] == "probe"]
    best = probe_rows.loc[probe_rows["diff"].idxmax()]
    same = table[(table["dose"] == best["dose"]) & table["control"] & (table["arm"] != UNSTEERED)]
    controls = ", ".join(f"{row.arm} {row.rate:.0%}" for row in same.itertuples())
    trend = study.trend("probe")
    return (
        f"{trait}, pushed along {study.method} at {study.site}: heard in {base['rate']:.0%} "
        f"unsteered and in {best['rate']:.0%} at "
        f"{best['dose']:g} sigma (gain {best['diff']:+.0%} [{best['diff_lo']:+.0%}, {best['diff_hi']:+.0%}], Holm p "
        f"{best['p_holm']:.2g}; trend over doses p {trend.p:.2g}); controls at that dose: {controls}. "
        f"Not music: {best['not_music']:.0%}.\n"
    )


def _page(
    config: Config,
    model: MusicGen,
    ds: xr.Dataset,
    studies: dict[str, tuple[ProbeStudy, ProbeStudy]],
    probes: pd.DataFrame,
    cosines: pd.DataFrame,
    summary: pd.DataFrame,
    causal: dict[str, Validation],
    times: dict[str, float],
) -> Path:
    out = config.out
    made_by = {"command": config.command, "model": f"{model.name} {model.fingerprint[:12]}", "seed": config.seed}
    save: dict[str, Any] = {"formats": ("png", "pdf"), "made_by": made_by}
    report = Report(
        f"A first look inside {model.name}",
        "Which heads of a MusicGen hear a trait, which direction carries it, what pushing along it does.",
    )
    report.heading("Which heads hear it")
    report.text(
        f"{ds.sizes['clip']} rendered clips were heard by the model. A logistic probe was fitted at every head; clips "
        "of one score never lie on both sides of a split. Sites are ranked by cross-validation; the score shown was "
        "measured once, on clips held out."
    )
    for trait in config.traits:
        rows = probes[(probes["trait"] == trait) & (probes["method"] == "logistic")]
        slug = slug_of(trait)
        plots.save(plots.heatmap(rows, title=trait), out / f"heatmap_{slug}", **save)
        plots.save(plots.ranking(rows, top=16, title=trait), out / f"ranking_{slug}", **save)
        report.figures(
            (out / f"heatmap_{slug}.png", f"`{trait}`: held-out score of every head."),
            (out / f"ranking_{slug}.png", f"`{trait}`: the best sites, with 95 % intervals over scores held out."),
        )
    report.table(
        probes.sort_values(["trait", "method", "cv_score"], ascending=[True, True, False])[
            ["trait", "method", *RANKING]
        ],
        "All sites, methods and traits.", csv=out / "probes.csv", rows=10,
    )  # fmt: skip

    report.heading("Which direction carries it")
    report.text("Logistic, ridge and mean-difference directions of every head, mapped back to the raw basis.")
    pictures = []
    for trait in config.traits:
        name, _, value = trait.partition("=")
        rows = cosines[(cosines["trait"] == name) & ((cosines["positive"].astype(str) == value) if value else True)]
        plots.save(plots.cosines(rows, title=trait), out / f"cosines_{slug_of(trait)}", **save)
        pictures.append((out / f"cosines_{slug_of(trait)}.png", f"`{trait}`: one point a head."))
    report.figures(*pictures).table(summary, "Medians over heads.", csv=out / "cosines.csv")

    site = causal[config.traits[0]].site
    table = embed(interp.features(ds, site), seed=config.seed)
    labels = interp.labels(ds).reset_index(drop=True)
    pictures = []
    for name in dict.fromkeys(trait.partition("=")[0] for trait in config.traits):
        table[name] = labels[name]
        plots.save(list(plots.embedding(table, name)), out / f"umap_{name}", **save)
        pictures.append((out / f"umap_{name}.png", f"The clips' activations at {site}, coloured by `{name}`."))
    report.heading("How the clips lie").figures(*pictures)

    report.heading("What pushing does")
    for trait, study in causal.items():
        slug = slug_of(trait)
        plots.save(
            plots.dose_response(study.table, title=f"{trait}, pushed at {study.site}"),
            out / f"dose_{slug}",
            **save,
        )
        _spectrogram(study, out / f"spectrograms_{slug}", save)
        report.text(f"{_sentence(trait, study)} {study.verdict.judge.capitalize()}.")
        report.figures(
            (
                out / f"dose_{slug}.png",
                f"`{trait}`: share of {config.n_seeds} continuations in which the judge hears it.",
            ),
            (
                out / f"spectrograms_{slug}.png",
                "The first seed, unsteered and pushed by 2 sigma; the first 1.5 s are given.",
            ),
        )
        report.table(study.table.drop(columns=["trait"]), "Every arm and dose.", csv=out / f"causal_{slug}.csv", rows=6)
        report.sounds(
            _sounds(config, study, slug), "The first seeds, not chosen:", columns=["unsteered", "probe", "random"]
        )
    return report.write(out / "index.html", made_by=made_by | {"seconds": round(sum(times.values()))})


def _dose(study: Validation) -> float:
    doses = sorted({dose for arm, dose in study.audio if arm == "probe"})
    return min(doses, key=lambda dose: abs(dose - 2))


def _spectrogram(study: Validation, stem: Path, save: dict[str, Any]) -> None:
    dose = _dose(study)
    panels = plots.spectrograms(
        study.audio[UNSTEERED, 0.0][0], study.audio["probe", dose][0], study.sample_rate,
        titles=(UNSTEERED, f"probe, {dose:g} σ"), start=study.setting.prompt_seconds,
    )  # fmt: skip
    plots.save(list(panels), stem, **save)


def _sounds(config: Config, study: Validation, slug: str) -> pd.DataFrame:
    dose = _dose(study)
    verdicts = study.clips.set_index(["arm", "dose", "seed"])["hit"]
    lines = []
    for i in range(min(config.n_sounds, config.n_seeds)):
        line: dict[str, Any] = {"seed": config.seed + i}
        for arm, at in ((UNSTEERED, 0.0), ("probe", dose), ("random", dose)):
            file = config.out / "audio" / f"{slug}_{arm}_{i}.wav"
            line[arm] = write_audio(file, study.audio[arm, at][i], study.sample_rate)
            line["heard" if arm == UNSTEERED else f"heard, {arm}"] = bool(verdicts[arm, at, config.seed + i])
        lines.append(line)
    return pd.DataFrame(lines)


def _plain(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


if __name__ == "__main__":
    from interp.cli import sentences

    with sentences():
        main(from_command_line(Config, __doc__))
