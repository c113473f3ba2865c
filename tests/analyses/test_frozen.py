"""Numbers of every study on the model that ships, pinned bit for bit while the code beneath them is rebuilt.

Each study runs at a very small size, and cells of its tables are compared, as text with every digit, with those in
``frozen/``. This is no claim that the numbers are right: it says that a change of structure changed none of them. A
step that means to change numbers makes the tables of its study anew, in a commit that says why::

    FREEZE=1 python -m pytest tests/analyses/test_frozen.py -k "smitin or demo"

When the rebuild of a study is done, its entry in :data:`STUDIES` and its files go; with the last of them, this module.

A table is compared by the columns declared below and in the order of its keys, so that columns and rows may move and
further columns may appear. A column that has another name today, or is made of others, is one entry of ``today`` of its
table; an arm that has another name today is one entry of :data:`ARMS`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

import interp
from analyses import (
    demo,
    direction_geometry,
    genre_fusion,
    regression_vs_classification,
    smitin,
    steering_validation,
    timbre_transfer,
)
from interp.data import render_clips
from interp.probes import probe

FROZEN = Path(__file__).with_name("frozen")
MACHINE = FROZEN / "machine.json"

ARMS: dict[str, str] = {}
"""Names that arms have today, and those they have in the frozen tables."""


@dataclass(frozen=True)
class Table:
    """What is compared of one table.

    Attributes
    ----------
    keys : str
        Columns that name a row, with spaces between; no two rows share them.
    values : str
        Columns that are compared.
    file : str
        Where the study writes the table, as a pattern in its output folder; empty for a table that it returns.
    rows : str
        Which rows, as a query; all when empty.
    today : dict
        For a frozen column, its name today, or a function that makes it of the table.
    """

    keys: str
    values: str
    file: str = ""
    rows: str = ""
    today: Mapping[str, str | Callable[[pd.DataFrame], Any]] = field(default_factory=dict)

    def read(self, name: str, returned: Mapping[str, pd.DataFrame], out: Path) -> pd.DataFrame:
        """The declared cells as text, in the order of the keys."""
        if self.file:
            (path,) = out.glob(self.file)
            table = pd.read_csv(path, keep_default_na=False, na_values=[""])
        else:
            table = returned[name]
        table = table.query(self.rows) if self.rows else table
        keys, cells = self.keys.split(), {}
        for column in (*keys, *self.values.split()):
            source = self.today.get(column, column)
            values = source(table) if callable(source) else table[source]
            cells[column] = [text(value) for value in values]
            if column in keys:
                cells[column] = [ARMS.get(cell, cell) for cell in cells[column]]
        found = pd.DataFrame(cells).sort_values(keys, ignore_index=True)
        assert len(found), f"{name} has no rows"
        twice = found[found.duplicated(keys)]
        assert twice.empty, f"rows of {name} share their keys {keys}: {twice[keys].iloc[0].tolist()}"
        return found


def text(value: Any) -> str:
    """A cell as a table file has it: every digit; whole and yes/no numbers as numbers, whatever holds them."""
    if value is None or value is pd.NA or value != value:
        return ""
    if isinstance(value, bool | np.bool_ | int | np.integer):
        return str(float(value))
    return str(value)


@dataclass(frozen=True)
class Study:
    """A small run and what is compared of it."""

    run: Callable[[Path], Mapping[str, pd.DataFrame]]
    tables: Mapping[str, Table]


# What is run ----------------------------------------------------------------------------------------------------------


def run_steering_validation(out: Path) -> Mapping[str, pd.DataFrame]:
    config = steering_validation.Config(
        out=out, traits=("drums",), n_clips=80, n_seeds=2, pilot_seeds=2, cost_seeds=2, ablation_seeds=2,
        leakage_seeds=2, doses=(3.0,), iti_doses=(3.0,), alphas=(12.0,), k=4, k_iti=8, n_reference=8, n_heard=24,
        n_permutations=5, prompt_seconds=1.0, seconds=1.8,
    )  # fmt: skip
    return steering_validation.SteeringValidation(config, progress=False).run()


def run_smitin(out: Path) -> Mapping[str, pd.DataFrame]:
    config = smitin.Config(
        out=out, traits=("drums",), n_pairs=16, pair_seconds=2.0, alphas=(20.0,), sweep=(), iti=(3.0,), resid=(3.0,),
        smitin_resid=(16.0,), ladder=(20.0,), n_seeds=3, n_text_seeds=2, n_part_seeds=2, pilot_seeds=2, sizes=(8,),
        seconds=2.5, prompt_seconds=1.0, n_reference=12, n_sounds=0,
    )  # fmt: skip
    return smitin.Smitin(config, progress=False).run()


def run_transfer(out: Path, trait: str, pair: str, n_clips: int) -> Mapping[str, pd.DataFrame]:
    config = timbre_transfer.Config(
        out=out, trait=trait, pairs=(pair,), n_clips=n_clips, strengths=(0.3,), doses=(3.0,), layers=(4,),
        grid_seeds=2, n_seeds=2, text_seeds=2, seconds=2.5, prompt_seconds=1.2, n_sounds=1,
    )  # fmt: skip
    study = timbre_transfer.TimbreTransfer(config, progress=False)
    tables, source, target = study.run(), *pair.split(":")
    clips = [study.moved.all("clips").assign(mode="continuation"), study.asked.all("clips").assign(mode="text")]
    clips = pd.concat(clips, ignore_index=True)
    return tables | {"clips": clips.assign(p_source=clips[f"p_{source}"], p_target=clips[f"p_{target}"])}


def run_genre_fusion(out: Path) -> Mapping[str, pd.DataFrame]:
    config = genre_fusion.Config(
        out=out, sets=("jazz:rock",), n_clips=120, ratios=(0.0, 0.5, 1.0), layers=(3,), pilot_seeds=2, n_seeds=2,
        fade_seeds=2, seconds=2.5, prompt_seconds=1.2, fade_seconds=2.4, switch_second=1.2, hop=0.7, n_sounds=1,
    )  # fmt: skip
    study = genre_fusion.GenreFusion(config, progress=False)
    return study.run() | {"clips": study.fusion.all("clips")}


def run_regression_vs_classification(out: Path) -> Mapping[str, pd.DataFrame]:
    config = regression_vs_classification.Config(
        out=out, traits=("drums",), n_clips=80, n_splits=2, n_blocks=4, n_bootstrap=50, doses=(2.0,), n_seeds=2,
        pilot_seeds=2, heads=4,
    )  # fmt: skip
    return regression_vs_classification.RegressionVsClassification(config, progress=False).run()


def run_direction_geometry(out: Path) -> Mapping[str, pd.DataFrame]:
    config = direction_geometry.Config(
        out=out, traits=("drums", "genre=jazz"), classes=("genre", "mode"), n_clips=80, n_permutations=3, n_splits=2,
        n_blocks=4, umap=False,
    )  # fmt: skip
    return direction_geometry.DirectionGeometry(config, progress=False).run()


def run_demo(out: Path) -> Mapping[str, pd.DataFrame]:
    config = demo.Config(
        out=out, traits=("drums",), n_clips=80, n_permutations=10, n_bootstrap=50, n_seeds=3, doses=(2.0,), k=4,
        n_sounds=1,
    )  # fmt: skip
    return demo.Demo(config, progress=False).run()


def run_probe(out: Path) -> Mapping[str, pd.DataFrame]:
    """Every kind of trait and every method, at heads and layers; and the directions themselves."""
    clips = render_clips(120, seed=0, progress=False)
    ds = interp.extract(interp.load("tiny", device="cpu"), clips, sites="heads, resid", progress=False)
    probes, directions = [], []
    for trait, methods in (
        ("drums", ("logistic", "ridge", "mean_diff", "lda")),
        ("instrument=flute", ("logistic", "ridge", "mean_diff")),
        ("genre", ("logistic", "ridge", "mean_diff", "onehot")),
        ("tempo", ("ridge", "mean_diff")),
    ):
        for sites in ("heads", "resid"):
            study = probe(ds, trait, sites=sites, methods=methods, n_permutations=10, n_bootstrap=50, seed=0)
            probes.append(study.table.assign(asked=trait))
            directions.append(
                pd.DataFrame(
                    {
                        "asked": trait, "site": str(d.site), "method": d.method, "positive": d.positive,
                        "sigma": float(d.sigma), "first": float(d.vector[0]), "last": float(d.vector[-1]),
                    }
                    for d in study.directions
                )
            )  # fmt: skip
    return {
        "probes": pd.concat(probes, ignore_index=True),
        "directions": pd.concat(directions, ignore_index=True),
    }


# What is compared -----------------------------------------------------------------------------------------------------

ANSWERS = (
    "p_drums p_bass p_piano p_guitar p_strings p_brass p_flute p_organ p_classical p_rock p_jazz p_electronic "
    "p_not_music"
)
JUDGED = f"hit score not_music degenerate similarity {ANSWERS}"
GAIN = "n rate lo hi not_music diff diff_lo diff_hi p p_holm"
CAUSAL = f"hits {GAIN} p_max degenerate similarity kept fad kad fad_any"
BESIDE_ITI = "iti_dose iti_success iti_equal iti_fad iti_kad"  # the gaps of FAD need four seeds
COSINE = (
    "cosine null_lo null_hi p cosine_across ceiling reliability_a reliability_b disattenuated lo hi null_covariance "
    "null_permuted"
)
PROBED = "n_train n_test cv_score test_score lo hi chance null_max_95 p p_max q l2"
SOME_SITES = "kind == 'resid' or head == 0"

ROUNDED = {name: (lambda table, name=name: table[name].round(5)) for name in ANSWERS.split()}
STEERING_VALIDATION = {
    "clips": Table("arm dose seed", JUDGED),
    "scan_clips": Table("arm dose seed", JUDGED, file=".cache/*/scan_drums_clips.csv", today=ROUNDED),
    "cost_clips": Table("arm dose seed", JUDGED, file=".cache/*/cost_drums_clips.csv", today=ROUNDED),
    "monitored_clips": Table("arm dose seed", JUDGED, file=".cache/*/monitored_drums_clips.csv", today=ROUNDED),
    "without_clips": Table("arm dose seed", JUDGED, file=".cache/*/without_drums_clips.csv", today=ROUNDED),
    "without_text_clips": Table("arm dose seed", JUDGED, file=".cache/*/without_text_drums_clips.csv", today=ROUNDED),
    "arms": Table("arm dose", CAUSAL),
    "scan": Table("arm dose", f"site {CAUSAL}"),
    "monitored": Table("arm dose", CAUSAL),
    "cost": Table("arm dose", f"{CAUSAL} {BESIDE_ITI}"),
    "ablation": Table("music arm", f"hits {GAIN} p_max degenerate similarity kept"),
    "necessity": Table("music way", "rate random loss lo hi"),
    "refits": Table("way site", "test_score lo hi n_train n_test"),
    "heads": Table("method site", "effect lo hi size probe"),
    "agreement": Table("method statistic", "value lo hi p"),
    "leakage": Table("direction judged", "base rate diff lo hi p"),
    "verdicts": Table("site", "outcome because dose gain lo hi necessary probe_test_score probe_p_max"),
    "bars": Table(
        "how", f"site dose success gain p_max random shuffled not_music fad cost_success cost_fad {BESIDE_ITI}"
    ),
}


def none(table: pd.DataFrame) -> Any:
    return table["arm"].str.replace(r", .* pairs$", "", regex=True).replace("unsteered", "none")


def named(table: pd.DataFrame) -> Any:
    return table["similarity"].fillna(table["named"]) if "named" in table else table["similarity"]


TODAY = {"arm": none, "strength": "dose"}
PLAYED = "hit score not_music similarity acted level"
SUMMARY = f"{GAIN} fad fad_diff fad_diff_lo fad_diff_hi kad similarity similarity_lo similarity_hi acted level"
SMITIN = {
    "continuation": Table("arm strength seed", f"probe {PLAYED}", ".cache/*/continuation_drums_clips.csv", today=TODAY),
    "text": Table(
        "arm strength seed", f"probe {PLAYED}", ".cache/*/text_drums_clips.csv", today=TODAY | {"similarity": "named"}
    ),
    "ladder_clips": Table("arm strength seed", PLAYED, ".cache/*/rungs_drums_clips.csv", today=TODAY),
    "removal_clips": Table("arm strength seed", PLAYED, ".cache/*/removed_drums_clips.csv", today=TODAY),
    "pairs_clips": Table(
        "arm method strength seed",
        PLAYED,
        ".cache/*/few_drums_clips.csv",
        today=TODAY | {"method": lambda t: t["n_pairs"].replace(0, "none").astype(str)},
    ),
    "success": Table(
        "trait task arm strength", f"{SUMMARY} probe", today=TODAY | {"probe": "own", "similarity": named}
    ),
    "ladder": Table("trait task arm strength", SUMMARY, today=TODAY),
    "removal": Table("trait task arm strength", SUMMARY, today=TODAY),
    "equal_success": Table("trait arm strength", "success fad fad_against difference lo hi reached", today=TODAY),
    "pairs": Table(
        "trait arm strength n_pairs", "accuracy_heads accuracy_monitor rate diff diff_lo diff_hi acted", today=TODAY
    ),
    "probes": Table("site method pool", "n_train n_test cv_score test_score"),
}

HEARD = "p_target p_source answer hit source_heard not_music degenerate chroma embedding"
OUTCOME = "n hits rate lo hi source_heard not_music degenerate diff diff_lo diff_hi p p_holm source_diff"


def dotted(answers: str) -> dict[str, str]:
    return {name: name.replace("p.", "p_") for name in answers.split()}


def transfer_tables(answers: str, other: str) -> dict[str, Table]:
    kept = f"kept.drums kept.bass kept.{other} density_change tempo_kept mode_kept"
    now = {
        "push": lambda t: t["push"].replace("none", ""),
        "amount": "dose",
        "source_diff": "source_heard_diff",
        "chroma_lo": "chroma_diff_lo",
        "chroma_hi": "chroma_diff_hi",
        "site": lambda t: t["site"].fillna(""),
    }
    return {
        "clips": Table("mode push method amount seed", f"{HEARD} {answers} {kept}", today=now | dotted(answers)),
        "grid": Table("site push method amount", f"{OUTCOME} chroma embedding", today=now),
        "sites": Table("pair kind", "site rate n"),
        "transfer": Table("push method amount", f"{OUTCOME} chroma embedding fad kad", today=now),
        "contrasts": Table("push measure a b", "difference lo hi p p_holm"),
        "at_quality": Table(
            "push method", "amount rate not_music fad kad chroma diff diff_lo diff_hi p_holm", today=now
        ),
        "kept": Table("push method amount", f"{kept} chroma chroma_diff chroma_lo chroma_hi", today=now),
        "text": Table("push method amount", OUTCOME, today=now),
    }


GENRES = "p.classical p.rock p.jazz p.electronic"
FUSED = "p_a p_b mix heard_a heard_b heard_any both not_music"
GENRE_FUSION = {
    "clips": Table("method weights seed", f"{GENRES} answer {FUSED} degenerate chroma embedding", today=dotted(GENRES)),
    "fade_clips": Table(
        "method seed part seconds",
        f"{GENRES} answer {FUSED}",
        ".cache/*/fade_jazz-rock_clips.csv",
        today=dotted(GENRES),
    ),
    "pilot": Table("site", "rate not_music n"),
    "fusion": Table("method weights", f"n {FUSED} mix_lo mix_hi chroma fad"),
    "trends": Table("method", "slope lo hi p rho error p_holm"),
    "half_way": Table("measure a b", "difference lo hi p p_holm"),
    "fade": Table(
        "set method", "before_heard_a before_heard_b after_heard_a after_heard_b gain diff diff_lo diff_hi p p_holm"
    ),
    "fade_course": Table("method seconds", "p_a p_a_lo p_a_hi p_b p_b_lo p_b_hi not_music"),
}

PATH = "sigma cosine_lda angle_lda cosine_mean_diff angle_mean_diff score"
GAINED = "site gain gain_lo gain_hi p best best_lo best_hi best_dose best_rate not_music"
REGRESSION_VS_CLASSIFICATION = {
    "steered_clips": Table("place push method dose seed", "site hit score not_music"),
    "steering": Table("place push method", GAINED),
    "steering_contrasts": Table("measure place push a b", "difference lo hi p p_holm"),
    "detection": Table("site method", "auroc lo hi sigma"),
    "detection_contrasts": Table("kind a b", "difference lo hi"),
    "cosines": Table("site a b", "cosine cosine_across ceiling disattenuated lo hi", rows=SOME_SITES),
    "paths": Table("site method penalty", PATH, rows="site.str.contains('resid|H0')"),
    "answer": Table(
        "method", "auroc_heads auroc_resid cosine_logistic cosine_mean_diff gain_resid_equal_dose gain_resid_equal_norm"
    ),
}

DIRECTION_GEOMETRY = {
    "methods": Table("trait site a b", COSINE, rows=SOME_SITES),
    "inner_products": Table("trait metric site a b", "cosine null_hi p", rows="kind == 'resid'"),
    "traits": Table("trait site a b", COSINE),
    "paths": Table("trait site method penalty", PATH, rows=SOME_SITES.replace("head == 0", "site.str.contains('H0')")),
    "by_size": Table(
        "trait method site size draw",
        "n_clips cosine_full cosine_disjoint",
        today={"draw": lambda table: table.groupby(["trait", "method", "site", "size"]).cumcount()},
    ),
    "layers": Table("trait method site_a site_b", "cosine null_hi", rows="layer_a == 2"),
    "subspaces": Table("site a b rank", "angle null"),
    "dimensions": Table("trait method site rank", "score"),
    "summary": Table("kind trait a b", "cosine cosine_across ceiling disattenuated null_hi null_permuted"),
}

DEMO = {
    "probes": Table("site method", PROBED),
    "cosines": Table("site a b", COSINE, rows=SOME_SITES),
    "causal": Table("arm dose", f"hits {GAIN} p_max"),
    "causal_clips": Table("arm dose seed", "hit score not_music"),
}

PROBE = {
    "probes": Table("asked site method", PROBED),
    "directions": Table("asked site method positive", "sigma first last"),
}

INSTRUMENTS = "p.piano p.guitar p.strings p.brass p.flute p.organ"
STUDIES = {
    "steering_validation": Study(run_steering_validation, STEERING_VALIDATION),
    "smitin": Study(run_smitin, SMITIN),
    "timbre_transfer": Study(
        lambda out: run_transfer(out, "instrument", "piano:flute", 160), transfer_tables(INSTRUMENTS, "genre")
    ),
    "style_transfer": Study(
        lambda out: run_transfer(out, "genre", "jazz:rock", 120), transfer_tables(GENRES, "instrument")
    ),
    "genre_fusion": Study(run_genre_fusion, GENRE_FUSION),
    "regression_vs_classification": Study(run_regression_vs_classification, REGRESSION_VS_CLASSIFICATION),
    "direction_geometry": Study(run_direction_geometry, DIRECTION_GEOMETRY),
    "demo": Study(run_demo, DEMO),
    "probe": Study(run_probe, PROBE),
}


# How it is compared ---------------------------------------------------------------------------------------------------


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums of floating-point numbers depend on how many threads share them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(threads)


def made(study: Study, out: Path) -> dict[str, pd.DataFrame]:
    with one_thread():
        returned = study.run(out)
    return {name: table.read(name, returned, out) for name, table in study.tables.items()}


def machine() -> dict[str, Any]:
    """What the last bits depend on besides the code."""
    packages = ("torch", "numpy", "scipy", "scikit-learn", "pandas")
    loaded = [library for library in threadpool_info() if library["user_api"] == "blas"]
    blas = {f"{library['internal_api']} {library.get('architecture')}" for library in loaded}
    return {
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "blas": sorted(blas),
        "packages": {name: version(name) for name in packages},
    }


def frozen(study: str, table: str) -> Path:
    return FROZEN / f"{study}.{table}.csv.gz"


def differences(now: pd.DataFrame, then: pd.DataFrame, keys: list[str]) -> str:
    """What is not the same, in a few lines; empty when nothing is."""
    rows = [set(map(tuple, table[keys].to_numpy())) for table in (now, then)]
    if rows[0] != rows[1]:
        new, gone = sorted(rows[0] - rows[1]), sorted(rows[1] - rows[0])
        return f"rows by {keys}: {len(new)} new {new[:5]}, {len(gone)} gone {gone[:5]}"
    lines = []
    for column in then.columns.difference(keys, sort=False):
        where = np.flatnonzero(now[column] != then[column])
        if len(where):
            a, b = (pd.to_numeric(table[column].iloc[where], errors="coerce") for table in (now, then))
            size = ((a - b).abs() / np.maximum(a.abs(), b.abs())).max()
            row = where[0]
            lines.append(
                f"{column}: {len(where)} of {len(then)} cells, relative difference up to {size:.1e}; at "
                f"{then[keys].iloc[row].tolist()} {now[column].iloc[row]!r}, frozen {then[column].iloc[row]!r}"
            )
    return "\n  ".join(lines)


def freeze(name: str, tables: Mapping[str, pd.DataFrame]) -> None:
    """Write the tables of a study, and what its last bits depend on."""
    FROZEN.mkdir(exist_ok=True)
    for old in FROZEN.glob(f"{name}.*.csv.gz"):
        old.unlink()
    for table, cells in tables.items():
        cells.to_csv(frozen(name, table), index=False, compression={"method": "gzip", "mtime": 0})
    MACHINE.write_text(json.dumps(machine(), indent=1) + "\n")


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_numbers_are_those_frozen(name: str, tmp_path: Path) -> None:
    study = STUDIES[name]
    if os.environ.get("FREEZE"):
        freeze(name, made(study, tmp_path))
        pytest.skip("made anew")
    here, there = machine(), json.loads(MACHINE.read_text())
    if here != there:
        pytest.skip(f"frozen bits are of {there}; this is {here}")
    found = []
    for table, now in made(study, tmp_path).items():
        then = pd.read_csv(frozen(name, table), dtype=str, keep_default_na=False)
        said = differences(now, then, study.tables[table].keys.split())
        if said:
            found.append(f"{table}\n  {said}")
    assert not found, f"numbers of {name} moved:\n" + "\n".join(found)
