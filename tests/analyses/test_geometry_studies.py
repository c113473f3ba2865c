"""The two geometry studies from start to end on the model that ships, small; and stopped and started again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from planted_clips import level_judge

from analyses import direction_geometry, regression_vs_classification
from analyses._regression_tables import contrast, contrasts, effects, per_seed
from analyses.direction_geometry import DirectionGeometry
from analyses.regression_vs_classification import RegressionVsClassification
from interp.errors import DataError


def planted_clips(effects: dict[str, float], seeds: int = 40) -> pd.DataFrame:
    """Judged clips in which a method's hits rise by a known share per sigma."""
    rng = np.random.default_rng(0)
    rows = []
    for seed in range(seeds):
        luck = rng.random()
        rows.append(
            {"method": "unsteered", "dose": 0.0, "seed": seed, "hit": luck < 0.1, "place": "unsteered", "push": ""}
        )
        for method, effect in effects.items():
            for dose in (1.0, 2.0, 3.0):
                hit = luck < 0.1 + effect * dose
                rows.append(
                    {"method": method, "dose": dose, "seed": seed, "hit": hit, "place": "resid", "push": "equal norm"}
                )
    table = pd.DataFrame(rows)
    return table.assign(trait="drums", not_music=False, site="L0.resid")


def test_effects_and_contrasts_find_planted_effects() -> None:
    clips = planted_clips({"logistic": 0.15, "ridge": 0.15, "mean_diff": 0.25, "random": 0.0})
    by_arm = effects(clips).set_index("method")
    for method, effect in (("logistic", 0.15), ("mean_diff", 0.25), ("random", 0.0)):  # mean over doses 1, 2, 3
        assert by_arm.loc[method, "gain_lo"] - 1e-9 <= 2 * effect <= by_arm.loc[method, "gain_hi"] + 1e-9
        assert by_arm.loc[method, "best_lo"] - 1e-9 <= 3 * effect <= by_arm.loc[method, "best_hi"] + 1e-9
    assert by_arm.loc["mean_diff", "p"] < 0.01 < by_arm.loc["random", "p"]
    assert by_arm.loc["logistic", "best_dose"] == 3
    by_seed = per_seed(clips).groupby("method")["gain"].mean()
    assert by_seed["ridge"] == pytest.approx(by_arm.loc["ridge", "gain"])
    table = contrasts(clips).query("measure == 'gain'")
    forth, back = contrast(table, "mean_diff", "logistic"), contrast(table, "logistic", "mean_diff")
    assert forth is not None and back is not None
    assert forth["difference"] == -back["difference"] > 0 and forth["lo"] == -back["hi"]
    assert forth["p_holm"] < 0.05
    same = contrast(table, "ridge", "logistic")
    assert same is not None and same["difference"] == 0 and same["p_holm"] == 1
    assert contrast(table, "ridge", "lda") is None


def test_a_best_dose_is_never_chosen_on_the_seeds_that_it_is_judged_on() -> None:
    """Without any effect, the largest of many doses is above the base rate; the cross-fitted one is not."""
    rng = np.random.default_rng(0)
    rows = [
        {"method": m, "dose": d, "seed": seed, "hit": rng.random() < 0.3, "place": "resid", "push": "equal norm"}
        for seed in range(400)
        for m, d in [("unsteered", 0.0), *(("random", float(d)) for d in range(1, 9))]
    ]
    clips = pd.DataFrame(rows).assign(trait="drums", not_music=False, site="L0.resid")
    row = effects(clips).iloc[0]
    assert row["best_lo"] <= 0 <= row["best_hi"]


@pytest.mark.slow
def test_direction_geometry(tmp_path: Path) -> None:
    config = direction_geometry.Config(
        out=tmp_path, traits=("drums", "tempo"), classes=("genre", "mode"), methods=("logistic", "ridge", "mean_diff"),
        once=(), n_clips=64, n_permutations=4, n_splits=2, n_blocks=4, umap=False,
    )  # fmt: skip
    tables = DirectionGeometry(config, progress=False).run()
    assert len(tables["methods"]) == 54 * (3 + 1)  # 48 heads and 6 layers; the graded trait has no logistic direction
    assert tables["methods"]["null_permuted"].notna().all()
    assert set(tables["inner_products"]["metric"]) == {"raw", "scores", "whitened"}
    for name in ("methods", "paths", "by_size", "layers", "subspaces", "dimensions"):
        assert (tmp_path / f"{name}.csv").is_file() and len(tables[name])
    for name in ("matrix", "layers", "cosines_drums", "atlas_drums"):
        assert (tmp_path / f"{name}.png").stat().st_size > 1000
    page = (tmp_path / "index.html").read_text()
    assert "have cosine" in page and "matrix.png" in page
    step = next(tmp_path.glob(".cache/*/methods.csv"))
    made = step.stat().st_mtime_ns
    again = DirectionGeometry(config, progress=False).run()
    assert step.stat().st_mtime_ns == made
    for name, table in tables.items():
        pd.testing.assert_frame_equal(table, again[name])


def test_a_judge_says_how_far_it_agrees_with_the_labels(tmp_path: Path) -> None:
    config = direction_geometry.Config(out=tmp_path, traits=("drums", "genre=jazz|rock"), n_clips=40, judge="rendered")
    study = DirectionGeometry(config, progress=False)
    heard = study.heard.all().set_index("trait")
    assert heard.loc["drums", "n"] == 40 > heard.loc["genre=jazz|rock", "n"] >= 10
    assert (heard["agree"] > 0.8).all() and (heard["lo"] <= heard["agree"]).all()
    with pytest.raises(DataError, match="cannot hear 'tempo'"):
        DirectionGeometry(replace(config, traits=("tempo",)), progress=False).heard.all()


@pytest.mark.slow
def test_regression_vs_classification(tmp_path: Path) -> None:
    config = regression_vs_classification.Config(
        out=tmp_path, traits=("drums",), methods=("logistic", "least_squares", "mean_diff"), n_clips=64, n_splits=2,
        n_blocks=4, n_bootstrap=50, doses=(2.0,), n_seeds=2, pilot_seeds=2, heads=0,
        judge=f"rendered,{level_judge(tmp_path)}:Level",
    )  # fmt: skip
    found = RegressionVsClassification(config, progress=False).run()
    assert list(found["answer"]["method"]) == ["logistic", "least_squares", "mean_diff"]
    assert found["answer"].notna().all(axis=None)
    assert found["detection"]["auroc"].between(0, 1).all()
    assert len(found["cosines"]) == 54 * 3 and found["cosines"]["ceiling"].notna().any()
    clips = found["steered_clips"]
    assert set(found["panel"]["judge"]) == {"rendered", "level"} and len(found["panel"]) == 2 * len(found["steering"])
    assert found["agreement"].loc[0, "n"] == len(clips) and set(clips["judge"]) == {"rendered"}
    assert len(clips) == 2 * (1 + 3 + 3 + 2)  # unsteered, equal dose, equal norm, two controls
    assert set(found["steering"]["push"]) == {"equal dose", "equal norm"}
    assert "logistic" in (tmp_path / "answer.md").read_text()
    assert (tmp_path / "dose_resid_drums.png").is_file() and (tmp_path / "path_drums.png").is_file()
    with pytest.raises(DataError, match="two seeds or more"):
        replace(config, pilot_seeds=1)
    with pytest.raises(DataError, match="must include logistic"):
        RegressionVsClassification(replace(config, methods=("ridge",)))
