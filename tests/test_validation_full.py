"""The full set of controls, measures of quality and specificity, necessity, and the verdict's rule."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

import interp
from interp.clips import Clips
from interp.data import render_clips
from interp.directions import Direction
from interp.errors import ControlError, DataError
from interp.judges import RenderedJudge, fad
from interp.model import MusicGen
from interp.probes import probe
from interp.probes.study import ProbeStudy
from interp.steering import Add
from interp.validation import (
    Arm,
    Rule,
    ablation_arms,
    choose,
    cohens_h,
    dsp_baseline,
    erasures,
    fad_difference,
    far_site,
    full_arms,
    has_trait,
    judged_changes,
    kept,
    lacks_trait,
    matched_odds,
    necessity,
    pilot_doses,
    prompts_with,
    prompts_without,
    push,
    rank_agreement,
    read_under,
    refit_after,
    run_arms,
    sign_flip_max,
    split_trait,
    validate,
    verdict,
)


class _Loud:
    """A judge that hears a trait in what is loud, and embeds by level and spread."""

    name = "loud"
    questions: ClassVar = {"drums": ["drums"], "instrument": ["piano", "organ"]}
    independent = True

    def score(self, audio: torch.Tensor, sample_rate: int) -> pd.DataFrame:
        level = audio.square().mean(dim=(1, 2)).sqrt().numpy()
        return pd.DataFrame({"drums": level / (level + 0.05), "piano": 0.3, "organ": 0.7, "not_music": 0.0})

    def embed(self, audio: torch.Tensor, sample_rate: int) -> np.ndarray:
        x = audio.mean(1)
        return torch.stack([x.std(1), x.abs().mean(1), x[:, ::7].std(1)], 1).numpy()

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
    options: dict[str, Any] = {"methods": ("mean_diff",), "folds": 2, "n_permutations": 0, "n_bootstrap": 100}
    return probe(ds, "drums", sites="heads", **options), probe(ds, "drums", sites="resid", **options)


# -- the rule -------------------------------------------------------------------------------------------------------


def outcome(
    rates: dict[float, float], control: float = 0.1, not_music: float = 0.0, n: int = 64, readable: bool = True
) -> Any:
    """The verdict on planted clips: unsteered 0.1, the given rates of the probe, one rate of both controls."""
    rng = np.random.default_rng(0)
    luck = rng.permutation(n) / n
    other = rng.permutation(n) / n
    parts = []

    def add(arm: str, dose: float, rate: float, broken: float = 0.0) -> None:
        chance = luck if arm in ("unsteered", "probe") else other
        frame = {"trait": "t", "arm": arm, "dose": dose, "seed": range(n), "hit": chance < rate}
        parts.append(pd.DataFrame(frame).assign(not_music=luck >= 1 - broken))

    add("unsteered", 0.0, 0.1)
    for dose, rate in rates.items():
        add("probe", dose, rate, not_music)
        add("random", dose, control)
        add("shuffled labels", dose, 0.1)
    every = pd.concat(parts, ignore_index=True)
    from interp.validation.measures import summarise

    plan = [(Arm(arm), dose) for arm, dose in every[["arm", "dose"]].drop_duplicates().itertuples(index=False)]
    return verdict(summarise(every, plan, {}, {}, {}), every, readable)


def test_a_gain_that_controls_do_not_share_is_causal() -> None:
    said = outcome({1.0: 0.3, 2.0: 0.9})
    assert said.outcome == "causal" and said.dose == 2.0
    assert said.gain == pytest.approx(0.8, abs=0.03) and said.lo < said.gain < said.hi
    assert outcome({2.0: 0.9}, readable=False).outcome == "causal"


def test_a_site_that_reads_and_does_nothing_is_only_readable() -> None:
    assert outcome({1.0: 0.1, 2.0: 0.12}).outcome == "only readable"
    assert outcome({1.0: 0.1, 2.0: 0.12}, readable=False).outcome == "not readable"


def test_what_cannot_be_told_is_inconclusive_and_says_why() -> None:
    shared = outcome({2.0: 0.9}, control=0.6)
    assert shared.outcome == "inconclusive" and "control random" in shared.because
    noise = outcome({2.0: 0.9}, not_music=0.5)
    assert noise.outcome == "inconclusive" and "no music" in noise.because
    few = outcome({2.0: 0.6}, n=5)
    assert few.outcome == "inconclusive" and "chance" in few.because
    small = outcome({2.0: 0.3})
    assert small.outcome == "inconclusive" and "below 30%" in small.because


def test_no_verdict_without_a_control() -> None:
    table = pd.DataFrame({"arm": ["unsteered", "probe"], "dose": [0.0, 1.0], "diff": [np.nan, 1.0]})
    with pytest.raises(DataError, match="no verdict without"):
        verdict(table, pd.DataFrame(), True)


@pytest.mark.parametrize(("left", "n", "answer"), [(0.2, 64, "yes"), (0.9, 64, "no"), (0.6, 6, "unclear")])
def test_necessity(left: float, n: int, answer: str) -> None:
    luck = np.random.default_rng(1).permutation(n) / n
    rates = {"unsteered": 0.9, "random direction out": 0.9, "direction out": 0.9, "LEACE": left}
    frames = [pd.DataFrame({"arm": arm, "seed": range(n), "hit": luck < rate}) for arm, rate in rates.items()]
    found, table = necessity(pd.concat(frames))
    assert found == answer
    losses = table.set_index("way")["loss"]
    assert losses["direction out"] == 0 and losses["LEACE"] == pytest.approx(left - 0.9, abs=1.1 / n)


def test_choose_takes_the_least_cost_among_what_is_as_good() -> None:
    pilot = pd.DataFrame(
        {
            "site": ["L0.resid", "L1.resid", "L2.resid", "L3.resid"],
            "dose": [1.0, 2.0, 3.0, 2.0],
            "rate": [0.90, 0.94, 0.93, 0.5],
            "not_music": 0.0,
            "control": False,
            "fad": [40.0, 30.0, 20.0, 5.0],
        }
    )
    assert choose(pilot) == ("L2.resid", 3.0)
    assert choose(pilot, slack=0.0) == ("L1.resid", 2.0)


def test_choose_takes_the_lowest_dose_that_is_as_good_and_still_music() -> None:
    pilot = pd.DataFrame(
        {
            "site": ["L0.resid", "L0.resid", "L1.resid", "L1.resid", "L1.resid", "unsteered"],
            "dose": [2.0, 4.0, 2.0, 3.0, 4.0, 0.0],
            "rate": [0.5, 0.91, 0.9, 0.9, 1.0, 1.0],
            "not_music": [0.0, 0.0, 0.0, 0.0, 0.5, 0.0],
            "control": [False, False, False, False, False, True],
        }
    )
    assert choose(pilot) == ("L1.resid", 2.0)
    assert choose(pilot.assign(not_music=0.9)) == ("L1.resid", 4.0)
    assert pilot_doses((-1, 0.5, 1, 2, 3, 4)) == (1.0, 2.0, 3.0, 4.0)
    with pytest.raises(DataError, match="above zero"):
        pilot_doses((-1.0, 0.0))


# -- measures -------------------------------------------------------------------------------------------------------


def test_effect_sizes() -> None:
    assert cohens_h(1, 0) == pytest.approx(np.pi) and cohens_h(0.5, 0.5) == 0
    assert matched_odds([1, 1, 1, 0], [0, 0, 1, 1]) == pytest.approx(2.5 / 1.5)


def test_sign_flips_are_shared_by_the_family_and_exact_for_few_seeds() -> None:
    x = np.array([[1.0, 0.5, -1.0], [1.0, -0.5, -1.0], [1.0, 0.5, -1.0]])
    found = sign_flip_max(x)
    signs = np.array(np.meshgrid(*[[1, -1]] * 3)).reshape(3, -1).T
    null = np.abs(signs @ x / 3)
    assert found.p == pytest.approx((null >= np.abs(x.mean(0)) - 1e-9).mean(0))
    assert found.p_max == pytest.approx((null.max(1)[:, None] >= np.abs(x.mean(0)) - 1e-9).mean(0))
    rng = np.random.default_rng(0)
    below = [(sign_flip_max(rng.choice([-1, 0, 1], (20, 10)), n_flips=199, seed=i).p_max < 0.05).any()
             for i in range(200)]  # fmt: skip
    assert np.mean(below) < 0.10  # the family-wise error


def planted_scores() -> pd.DataFrame:
    columns = {"p_drums": [0.1, 0.9, 0.9, 0.9], "p_piano": [0.8, 0.8, 0.8, 0.1], "p_organ": [0.2, 0.2, 0.2, 0.9]}
    frame = pd.DataFrame({"arm": ["unsteered"] * 2 + ["push"] * 2, "dose": [0.0, 0.0, 1.0, 1.0], **columns})
    return frame.assign(seed=[0, 1, 0, 1], p_not_music=0.0)


def test_specificity_counts_other_answers_that_stay() -> None:
    scores = planted_scores()
    base, pushed = scores.iloc[:2], scores.iloc[2:]
    assert kept(pushed, base, "drums", _Loud.questions).tolist() == [1.0, 0.0]
    assert kept(pushed, base, "instrument=piano", _Loud.questions).tolist() == [0.0, 1.0]
    changes = judged_changes(scores, _Loud(), arm="push", dose=1.0).set_index("judged")  # type: ignore[arg-type]
    assert changes["diff"].to_dict() == {"drums": 0.5, "piano": -0.5, "organ": 0.5}
    assert changes["base"].to_dict() == {"drums": 0.5, "piano": 1.0, "organ": 0.0}


def test_difference_of_distances_is_paired() -> None:
    rng = np.random.default_rng(0)
    reference, near = rng.normal(size=(200, 3)), rng.normal(size=(40, 3))
    far = near + 2.0
    gap, lo, hi = fad_difference(far, near, reference, draws=50)
    assert gap == pytest.approx(fad(far, reference).value - fad(near, reference).value)
    assert 0 < lo < gap < hi
    assert fad_difference(near, near, reference, draws=20) == (0.0, 0.0, 0.0)


def test_ranks_that_agree_and_ranks_that_do_not() -> None:
    rng = np.random.default_rng(0)
    labels = pd.DataFrame({"drums": [0, 1] * 30, "group": np.repeat(np.arange(30), 2)})
    score = np.linspace(0.5, 1, 12)
    noise = 0.02 * rng.normal(size=(12, 60))
    sites = [f"L{i // 4}.H{i % 4}" for i in range(12)]
    changes = pd.DataFrame(noise + score[:, None] * labels["drums"].to_numpy(), columns=[str(i) for i in range(60)])
    changes.insert(0, "site", sites)
    probes = pd.DataFrame({"site": sites[::-1], "cv_score": score[::-1]})
    heads, agreement = rank_agreement(changes, labels, "drums", probes, n_bootstrap=300)
    assert heads["effect"].to_numpy() == pytest.approx(score, abs=0.03)
    spearman, kendall = (agreement.set_index("statistic").loc[name] for name in ("Spearman", "Kendall"))
    assert spearman["value"] > 0.95 and spearman["lo"] > 0.8 and kendall["value"] > 0.8 and spearman["p"] <= 0.002
    _, none = rank_agreement(changes, labels, "drums", probes.assign(cv_score=rng.permutation(score)), n_bootstrap=50)
    assert (none["p"] > 0.01).all()
    with pytest.raises(DataError, match="needs two of both"):
        rank_agreement(changes, labels.assign(drums=0), "drums", probes)


# -- sounds ---------------------------------------------------------------------------------------------------------


def test_traits_and_pairs(tiny_lm_model: MusicGen, clips: Clips) -> None:
    assert split_trait("drums") == ("drums", "", "") and split_trait("genre=jazz|rock") == ("genre", "jazz", "rock")
    labels = pd.DataFrame({"genre": ["jazz", "rock", "classical"], "drums": [1, 0, 1]})
    assert has_trait(labels, "genre=jazz|rock").tolist() == [True, False, False]
    assert lacks_trait(labels, "genre=jazz|rock").tolist() == [False, True, False]
    assert lacks_trait(labels, "genre=jazz").tolist() == [False, True, True]
    assert lacks_trait(labels, "drums").tolist() == [False, True, False]
    codes = prompts_with(tiny_lm_model, "instrument=piano", 3, 0.3, clips=clips)
    whole = tiny_lm_model.encode(torch.from_numpy(clips[0].audio)[None, :, :4800], 16000)[0]
    assert torch.equal(codes[0], whole)
    with pytest.raises(DataError, match="20 sounds have drums, but 30 are needed"):
        prompts_with(tiny_lm_model, "drums", 30, 0.3, clips=clips)


def test_signal_processing_puts_drums_into_music_and_nothing_else() -> None:
    music = render_clips(6, seed=5, seconds=2.5, factors={"drums": False}, clips_per_score=1)
    sounds = torch.stack([torch.from_numpy(np.asarray(clip.audio)) for clip in music])
    edits, judge = dsp_baseline("drums", 16_000), RenderedJudge()
    mixed = torch.stack([edits["DSP: drum loop"](sound, i) for i, sound in enumerate(sounds)])
    assert mixed.shape == sounds.shape and not torch.equal(mixed[0] - sounds[0], mixed[1] - sounds[1])
    before, after = (judge.score(x, 16_000)["drums"] >= 0.5 for x in (sounds, mixed))
    assert before.sum() <= 1 and after.sum() >= 4
    assert list(dsp_baseline("bass", 16_000)) == ["DSP: bass line"]
    assert dsp_baseline("genre=jazz", 16_000) == {} and dsp_baseline("instrument", 16_000) == {}


# -- arms and runs --------------------------------------------------------------------------------------------------


def test_every_control_is_what_it_says(ds: xr.Dataset, studies: tuple[ProbeStudy, ProbeStudy]) -> None:
    heads, resid = studies
    treated = resid.directions.one(site="L2.resid")
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


def test_an_arm_that_changes_something_at_dose_zero_is_refused(
    tiny_lm_model: MusicGen, clips: Clips, studies: tuple[ProbeStudy, ProbeStudy]
) -> None:
    direction = studies[1].directions.one(site="L1.resid")
    codes = prompts_without(tiny_lm_model, "drums", 2, 0.3, clips=clips)
    broken = Arm("broken", lambda dose, _: (Add(direction, dose=dose + 6.0),))
    with pytest.raises(ControlError, match="dose zero of the arm 'broken'"):
        run_arms(
            tiny_lm_model, "drums", [broken], codes, [1.0], seeds=[0, 1], judge=_Loud(),  # type: ignore[arg-type]
            prompt_seconds=0.3, seconds=0.8,
        )  # fmt: skip


def test_texts_mixes_and_pushes_share_their_noise(tiny: MusicGen) -> None:
    direction = Direction.from_weight("L4.resid", np.eye(256)[0], sigma=1.0, trait="drums")
    arms = [
        push("probe", direction, control=False), Arm("text", dosed=False, text="drums"),
        Arm("halved", dosed=False, sound=lambda audio, i: 0.5 * audio),
    ]  # fmt: skip
    codes = prompts_without(tiny, "drums", 2, 1.0, seed=3)
    common: dict[str, Any] = {"seeds": [4, 5], "judge": RenderedJudge(), "prompt_seconds": 1.0, "seconds": 2.0}
    made = run_arms(tiny, "drums", arms, codes, [0.0], measure=True, **common)
    base = made.audio["unsteered", 0.0]
    assert torch.equal(base, made.audio["probe", 0.0]) and not torch.equal(base, made.audio["text", 0.0])
    assert torch.equal(base[..., :16_000], made.audio["halved", 0.0][..., :16_000])
    assert torch.equal(0.5 * base[..., 16_000:], made.audio["halved", 0.0][..., 16_000:])
    alone = run_arms(tiny, "drums", [], codes, [], **common)  # no text, so no guidance: the same music
    assert torch.equal(base, alone.audio["unsteered", 0.0])
    twin = made.table.set_index("arm").loc["probe"]
    assert twin["kept"] == 1 and twin["similarity_diff"] == 0 and twin["diff"] == 0
    assert {"p_drums", "p_jazz", "degenerate", "similarity"} <= set(made.clips.columns)
    assert set(made.embeddings) == {(arm, 0.0) for arm in ("unsteered", "probe", "text", "halved")}


# -- necessity ------------------------------------------------------------------------------------------------------


def test_what_is_taken_out_is_gone_at_the_site_and_later_layers_feel_it(
    tiny_lm_model: MusicGen, ds: xr.Dataset, clips: Clips, studies: tuple[ProbeStudy, ProbeStudy]
) -> None:
    resid = studies[1]
    treated = resid.directions.one(site="L1.resid")
    ways = erasures(ds, treated, resid)
    assert list(ways) == ["direction out", "LEACE", "LEACE, every layer", "random direction out"]
    assert [arm.name for arm in ablation_arms(ways) if arm.control] == ["random direction out"]
    codes = torch.cat([tiny_lm_model.encode(torch.from_numpy(clips[i].audio)[None], 16000) for i in range(40)])
    plain = read_under(tiny_lm_model, codes, (), resid.sites)
    for name, items in ways.items():
        erased = read_under(tiny_lm_model, codes, items, resid.sites)
        assert erased.shape == plain.shape and not np.allclose(erased[2], plain[2], atol=1e-6), name
        if "every" not in name:
            assert np.array_equal(erased[0], plain[0]), name
    along = read_under(tiny_lm_model, codes, ways["direction out"], resid.sites)[1] @ treated.vector
    assert np.abs(along).max() < 1e-4 * np.abs(plain[1] @ treated.vector).max() + 1e-5
    with pytest.raises(DataError, match="no heads"):
        read_under(tiny_lm_model, codes, (), studies[0].sites)
    table = refit_after(
        tiny_lm_model, codes, clips.labels, "drums", {"LEACE": ways["LEACE"]}, resid.sites[1:], method="mean_diff"
    )
    assert len(table) == 4 and list(table["way"].unique()) == ["none", "LEACE"]
    scores = table.set_index(["way", "layer"])["test_score"]
    assert scores["none", 1] > 0.9 and scores["LEACE", 1] < scores["none", 1]


def test_validate_in_full(
    tiny_lm_model: MusicGen, ds: xr.Dataset, clips: Clips, studies: tuple[ProbeStudy, ProbeStudy]
) -> None:
    study = validate(
        tiny_lm_model, ds, "drums", doses=(1.0, 4.0), n_seeds=3, method="mean_diff", studies=studies, k=2, clips=clips,
        pilot_seeds=2, prompt_seconds=0.2, seconds=0.6, judge=_Loud(), others=("instrument=piano",),  # type: ignore[arg-type]
        iti_doses=(2.0,), n_reference=8,
    )  # fmt: skip
    info, table = study.info, study.table
    assert info["dose"] in (1.0, 4.0) and info["verdict"].outcome in ("causal", "inconclusive", "only readable")
    assert info["verdict"].necessary in ("yes", "no", "unclear") and len(info["necessity"]) == 3
    assert {"fad", "kad", "fad_any", "kept", "h", "odds", "p_max", "degenerate"} <= set(table.columns)
    assert (table["p_max"].dropna() >= table["p"].dropna() - 1e-9).all()
    assert table["arm"].tolist().count("unsteered") == 1 and "other trait: instrument=piano" in set(table["arm"])
    assert list(study.summary().columns) == ["arm", "0 σ", "1 σ", "2 σ", "4 σ"]


def test_the_rule_is_a_value_that_can_be_changed_on_purpose() -> None:
    strict = Rule(gain=0.95)
    assert strict != Rule() and Rule() == Rule(0.30, 0.15, 0.15, 0.20, 0.30, 0.05, ("random", "shuffled labels"))
