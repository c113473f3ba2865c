"""Arms and controls are what they say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import interp
from interp.directions.reading import read_stacks
from interp.errors import ControlError
from interp.probes import ProbeResult
from interp.splits import permute_labels
from interp.validation import basic_arms, full_arms, shuffled_like
from interp.validation.arms import far_site


def test_shuffled_directions_are_as_long_and_know_nothing(
    ds: xr.Dataset, studies: tuple[ProbeResult, ProbeResult]
) -> None:
    treated = studies[1].directions.one(site="L1.resid", method="logistic")
    shuffled = shuffled_like(ds, treated, studies[1], 6, seed=0)
    assert len(shuffled) == 6
    for one in shuffled:
        assert one.sigma == treated.sigma and one.method == "shuffled" and one.site == treated.site
        assert np.linalg.norm(one.vector) == pytest.approx(1)
        assert abs(one.vector @ treated.vector) < 0.95
    x = interp.features(ds, "L1.resid")
    drums = interp.labels(ds)["drums"].to_numpy() == 1

    def gap(direction: interp.Direction) -> float:  # type: ignore[name-defined]
        along = x @ direction.vector
        return float((along[drums].mean() - along[~drums].mean()) / along.std())

    # Where a trait fills much of the variance, directions of shuffled labels fall along it too, but either way round.
    gaps = np.array([gap(one) for one in shuffled_like(ds, treated, studies[1], 40, seed=1)])
    assert gap(treated) > 1.5
    assert 0.2 < (gaps > 0).mean() < 0.8


def test_of_all_shuffles_those_that_agree_least_with_the_labels_are_kept(
    ds: xr.Dataset, studies: tuple[ProbeResult, ProbeResult]
) -> None:
    treated, study = studies[1].directions.one(site="L1.resid", method="logistic"), studies[1]
    train = ~study.split.test
    y, groups = np.asarray(study.split.y)[train], np.asarray(study.split.groups)[train]
    drawn = permute_labels(y, groups, 200, seed=np.random.default_rng(3))
    (stack,) = read_stacks(ds, treated.site, treated.pool or None)
    names = pd.Index(np.asarray(ds["clip"].values).astype(str))
    x = stack.x[0, names.get_indexer(study.clips[train])].astype(float)

    def cosine(labels: np.ndarray) -> float:
        direction = x[labels == 1].mean(0) - x[labels == 0].mean(0)
        return abs(float(direction @ treated.vector / np.linalg.norm(direction)))

    mean_difference = replace(treated, method="mean_diff")
    line = study.table.query("method == 'logistic'").assign(method="mean_diff", l2=np.nan)
    kept = shuffled_like(ds, mean_difference, replace(study, table=line), 25, seed=3)
    at_random = np.mean([cosine(y[order]) for order in drawn])
    assert np.mean([abs(one.vector @ treated.vector) for one in kept]) < 0.8 * at_random


def test_basic_arms_push_equally_far(ds: xr.Dataset, studies: tuple[ProbeResult, ProbeResult]) -> None:
    heads, resid = studies
    treated = resid.directions.one(site="L1.resid", method="logistic")
    arms = {arm.name: arm for arm in basic_arms(ds, treated, heads, resid, k=3, n_seeds=4)}
    assert list(arms) == ["probe", "random", "shuffled labels", "best heads", "worst heads"]
    assert [arm.control for arm in arms.values()] == [False, True, True, False, True]

    def length(name: str, seed: int) -> float:
        (add,) = arms[name].build(2.0, seed)
        return float(sum(np.linalg.norm(v) for v in (n["shift"] for n in add.numbers.values())))  # type: ignore[attr-defined]

    for name in ("random", "shuffled labels"):
        for seed in range(4):
            assert length(name, seed) == pytest.approx(length("probe", 0))
    draws = {arms["random"].build(1.0, seed)[0].directions[0].vector.tobytes() for seed in range(4)}  # type: ignore[attr-defined]
    assert len(draws) == 4
    ranked = list(heads.ranking()["site"])
    assert arms["best heads"].where == ", ".join(ranked[:3])
    assert set(arms["worst heads"].where.split(", ")) == set(ranked[-3:])
    with pytest.raises(ControlError, match="overlap"):
        basic_arms(ds, treated, heads, resid, k=7)


def test_every_control_is_what_it_says(ds: xr.Dataset, studies: tuple[ProbeResult, ProbeResult]) -> None:
    heads, resid = studies
    treated = resid.directions.one(site="L2.resid", method="mean_diff")
    other = replace(treated, vector=np.eye(treated.dim)[0], sigma=0.5)
    arms = full_arms(
        ds, treated, heads, resid, dose=2.0, doses=(1.0, 2.0, 3.0), others={"piano": other}, text="drums",
        sample_rate=16_000, k=3, k_iti=5, iti_doses=(4.0,), n_seeds=4,
    )  # fmt: skip
    by = {arm.name: arm for arm in arms}
    assert list(by) == [
        "probe", "random", "shuffled labels", "flipped sign", "best heads", "worst heads", "random heads",
        "other layer", "ITI heads", "other trait: piano", "text", "DSP: drum loop", "DSP: noise bursts",
    ]  # fmt: skip
    assert by["probe"].doses is None and by["random"].doses == (2.0, 3.0) and by["flipped sign"].doses == (2.0,)
    assert by["ITI heads"].doses == (4.0,) and not by["text"].dosed and by["text"].text == "drums"
    moved = {
        name: [(site, n["shift"]) for site, n in by[name].build(2.0, 0)[0].numbers.items()]
        for name in by
        if by[name].dosed
    }
    site, vector = moved["probe"][0]
    assert str(site) == "L2.resid"
    assert moved["flipped sign"][0][1] == pytest.approx(-vector)
    assert str(moved["other layer"][0][0]) == "L0.resid" and moved["other layer"][0][1] == pytest.approx(vector)
    for name in ("random", "shuffled labels"):
        assert np.linalg.norm(moved[name][0][1]) == pytest.approx(np.linalg.norm(vector))
    assert np.linalg.norm(moved["other trait: piano"][0][1]) == pytest.approx(1.0)
    best = {str(one) for one, _ in moved["best heads"]}
    assert len(best) == 3 and len(moved["ITI heads"]) == 5 and best < {str(one) for one, _ in moved["ITI heads"]}
    for seed in range(4):
        drawn = {str(one) for one in by["random heads"].build(2.0, seed)[0].sites}
        assert len(drawn) == 3 and not drawn & best
    with pytest.raises(ControlError, match="no other layer"):
        far_site(treated.site, [treated.site])
