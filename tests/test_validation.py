"""The causal study: paired, judged by sound alone, and with controls that are what they say."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

import interp
from interp.clips import Clips
from interp.directions.reading import read_stacks
from interp.errors import ControlError, DataError
from interp.model import MusicGen
from interp.probes import probe
from interp.probes.study import ProbeStudy
from interp.splits import permute_labels
from interp.stats import wilson
from interp.steering import Add
from interp.validation import Arm, default_arms, prompts_without, run_arms, shuffled_like, validate
from interp.validation import run as running


class _Threshold:
    """A judge that hears a trait in what is loud: simple enough to predict."""

    name = "loud"
    questions: ClassVar = {"drums": ["drums"], "instrument": ["piano", "organ"]}
    independent = True

    def score(self, audio: torch.Tensor, sample_rate: int) -> pd.DataFrame:
        level = audio.square().mean(dim=(1, 2)).sqrt().numpy()
        return pd.DataFrame({"drums": level / (level + 0.05), "piano": 0.3, "organ": 0.7, "not_music": 0.0})

    def accuracy_frame(self) -> pd.DataFrame:
        return pd.DataFrame(columns=["trait", "value", "audio"])


@pytest.fixture(scope="module")
def clips() -> Clips:
    rng = np.random.default_rng(0)
    labels = pd.DataFrame(
        {"drums": [0, 1] * 20, "instrument": ["piano", "organ"] * 20, "group": [f"g{i // 2}" for i in range(40)]}
    )
    sounds = [(0.05 + 0.2 * drums) * rng.normal(size=8000).astype(np.float32) for drums in labels["drums"]]
    return Clips.from_arrays(sounds, 16000, labels)


@pytest.fixture(scope="module")
def ds(tiny_lm_model: MusicGen, clips: Clips) -> xr.Dataset:
    return interp.extract(tiny_lm_model, clips, sites="heads, resid", progress=False)


@pytest.fixture(scope="module")
def studies(ds: xr.Dataset) -> tuple[ProbeStudy, ProbeStudy]:
    options = {"methods": ("logistic",), "folds": 2, "n_permutations": 0, "n_bootstrap": 0}
    return probe(ds, "drums", sites="heads", **options), probe(ds, "drums", sites="resid", **options)


def test_zero_dose_is_the_unsteered_music_and_other_doses_are_paired_with_it(
    tiny_lm_model: MusicGen, clips: Clips, studies: tuple[ProbeStudy, ProbeStudy]
) -> None:
    codes = prompts_without(tiny_lm_model, "drums", 4, 0.3, clips=clips)
    direction = studies[1].directions.one(site="L1.resid")
    arm = Arm("probe", lambda dose, _: (Add(direction, dose=dose),), control=False, where="L1.resid")
    study = run_arms(
        tiny_lm_model, "drums", [arm], codes, [0.0, 6.0], seeds=[5, 6, 7, 8], judge=_Threshold(),  # type: ignore[arg-type]
        prompt_seconds=0.3, seconds=0.8,
    )  # fmt: skip
    base, none, far = (study.audio[key] for key in (("unsteered", 0.0), ("probe", 0.0), ("probe", 6.0)))
    assert torch.equal(base, none)
    assert not torch.equal(base, far)
    given = round(0.3 * tiny_lm_model.frame_rate) * tiny_lm_model.sample_rate // int(tiny_lm_model.frame_rate)
    assert base.shape == far.shape and base.shape[-1] > given
    clip_rows = study.clips
    assert list(clip_rows.groupby(["arm", "dose"], sort=False).size()) == [4, 4, 4]
    assert clip_rows.groupby(["arm", "dose"])["seed"].apply(list).map(lambda s: s == [5, 6, 7, 8]).all()
    zero = study.table[(study.table["arm"] == "probe") & (study.table["dose"] == 0)].iloc[0]
    assert zero["diff"] == 0 and zero["p"] == 1
    for row in study.table.itertuples():
        judged = clip_rows[(clip_rows["arm"] == row.arm) & (clip_rows["dose"] == row.dose)]
        assert row.hits == judged["hit"].sum() and row.n == 4 and row.rate == row.hits / 4
        lo, hi = wilson(row.hits, 4)
        assert (row.lo, row.hi) == pytest.approx((float(lo), float(hi)))
    assert list(study.summary().columns) == ["arm", "0 σ", "6 σ"]
    assert study.trend("probe").n_units == 4


def test_the_prompt_itself_is_never_judged(tiny_lm_model: MusicGen, clips: Clips) -> None:
    lengths = []

    class Ruler(_Threshold):
        def score(self, audio: torch.Tensor, sample_rate: int) -> pd.DataFrame:
            lengths.append(audio.shape[-1] / sample_rate)
            return super().score(audio, sample_rate)

    codes = prompts_without(tiny_lm_model, "drums", 2, 0.4, clips=clips)
    run_arms(tiny_lm_model, "drums", [], codes, [1.0], seeds=[0, 1], judge=Ruler(), prompt_seconds=0.4, seconds=1.0)  # type: ignore[arg-type]
    assert lengths == [pytest.approx(0.6, abs=0.02)]


def test_prompts_lack_the_trait(tiny_lm_model: MusicGen, clips: Clips) -> None:
    codes = prompts_without(tiny_lm_model, "instrument=piano", 20, 0.5, clips=clips)
    organ = np.flatnonzero(clips.labels["instrument"] == "organ")
    for code, i in zip(codes, organ, strict=True):
        whole = tiny_lm_model.encode(torch.from_numpy(clips[int(i)].audio)[None], 16000)[0]
        assert torch.equal(code, whole)
    with pytest.raises(DataError, match="20 sounds lack drums, but 21 are needed"):
        prompts_without(tiny_lm_model, "drums", 21, 0.5, clips=clips)
    with pytest.raises(DataError, match="no label 'choir'"):
        prompts_without(tiny_lm_model, "choir", 2, 0.5, clips=clips)


def test_rendered_prompts_lack_the_trait_and_differ() -> None:
    seen: list[np.ndarray] = []

    def encode(audio: torch.Tensor, rate: int) -> torch.Tensor:
        seen.append(audio.numpy())
        return torch.zeros(1, 4, 10, dtype=torch.long)

    prompts_without(SimpleNamespace(encode=encode), "genre=jazz", 6, 0.5, seed=1)  # type: ignore[arg-type]
    assert len(seen) == 6 and len({sound.tobytes() for sound in seen}) == 6
    assert all(sound.shape == (1, 1, 8000) for sound in seen)


def test_shuffled_directions_are_as_long_and_know_nothing(
    ds: xr.Dataset, studies: tuple[ProbeStudy, ProbeStudy]
) -> None:
    treated = studies[1].directions.one(site="L1.resid")
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
    ds: xr.Dataset, studies: tuple[ProbeStudy, ProbeStudy]
) -> None:
    treated, study = studies[1].directions.one(site="L1.resid"), studies[1]
    train = ~study.plan.test
    y, groups = np.asarray(study.plan.y)[train], np.asarray(study.plan.groups)[train]
    drawn = permute_labels(y, groups, 200, rng=np.random.default_rng(3))
    (stack,) = read_stacks(ds, treated.site, treated.pool or None)
    names = pd.Index(np.asarray(ds["clip"].values).astype(str))
    x = stack.x[0, names.get_indexer(study.clips[train])].astype(float)

    def cosine(labels: np.ndarray) -> float:
        direction = x[labels == 1].mean(0) - x[labels == 0].mean(0)
        return abs(float(direction @ treated.vector / np.linalg.norm(direction)))

    mean_difference = replace(treated, method="mean_diff")
    line = study.table.assign(method="mean_diff")
    kept = shuffled_like(ds, mean_difference, replace(study, table=line), 25, seed=3)
    at_random = np.mean([cosine(y[order]) for order in drawn])
    assert np.mean([abs(one.vector @ treated.vector) for one in kept]) < 0.8 * at_random


def test_default_arms_push_equally_far(ds: xr.Dataset, studies: tuple[ProbeStudy, ProbeStudy]) -> None:
    heads, resid = studies
    treated = resid.directions.one(site="L1.resid")
    arms = {arm.name: arm for arm in default_arms(ds, treated, heads, resid, k=3, n_seeds=4)}
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
        default_arms(ds, treated, heads, resid, k=7)


def test_validate_chooses_its_site_on_pilot_seeds_and_tells_everything(
    tiny_lm_model: MusicGen, ds: xr.Dataset, clips: Clips, studies: tuple[ProbeStudy, ProbeStudy]
) -> None:
    seen: list[int] = []
    real = running.generate

    def spy(model: MusicGen, rows: list[running.Row], **settings: object) -> object:
        seen.append(len({row.seed for row in rows}))
        return real(model, rows, **settings)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "generate", spy)
        study = validate(
            tiny_lm_model, ds, "drums", arms="basic", doses=(1.0, 4.0), n_seeds=3, studies=studies, k=2, clips=clips,
            pilot_seeds=2, prompt_seconds=0.2, seconds=0.6, judge=_Threshold(),  # type: ignore[arg-type]
        )  # fmt: skip
    assert seen == [2, 3]
    assert study.info["site"] in study.info["pilot"] and len(study.info["pilot"]) == 3
    assert len(study.table) == 1 + 5 * 2
    assert study.table.loc[study.table["arm"] != "unsteered", ["diff", "p_holm"]].notna().all().all()
    assert (study.table["p_holm"].dropna() >= study.table["p"].dropna()).all()
