"""Every arm runs on the same sounds and noise, and is judged by sound alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from interp.clips import Clips
from interp.directions import Direction
from interp.errors import ControlError, DataError
from interp.judges import RenderedJudge
from interp.model import MusicGen
from interp.probes import ProbeResult
from interp.stats import wilson
from interp.steering import Add, Smitin
from interp.validation import UNSTEERED, Arm, Setting, prompts_without, push, run_arms, summarise
from interp.validation.effects import agreement
from interp.validation.setting import Part
from interp.validation.summary import embeddings, public


def short(**changes: Any) -> Setting:
    """0.5 s after 0.3 s that are given."""
    return Setting(**{"seconds": 0.8, "prompt_seconds": 0.3, "progress": False, "measure": False, **changes})


def test_zero_dose_is_the_unsteered_music_and_other_doses_are_paired_with_it(
    tiny_lm_model: MusicGen, clips: Clips, studies: tuple[ProbeResult, ProbeResult], loud: Any
) -> None:
    codes = prompts_without(tiny_lm_model, "drums", 4, 0.3, clips=clips)
    direction = studies[1].directions.one(site="L1.resid", method="logistic")
    trial = run_arms(
        tiny_lm_model, "drums", [push("probe", direction, control=False)], codes, [0.0, 6.0], seeds=[5, 6, 7, 8],
        judge=loud, setting=short(keep_audio=True),
    )  # fmt: skip
    base, none, far = (trial.audio[key] for key in (("unsteered", 0.0), ("probe", 0.0), ("probe", 6.0)))
    assert torch.equal(base, none)
    assert not torch.equal(base, far)
    given = round(0.3 * tiny_lm_model.frame_rate) * tiny_lm_model.sample_rate // int(tiny_lm_model.frame_rate)
    assert base.shape == far.shape and base.shape[-1] > given
    clip_rows = trial.clips
    assert list(clip_rows.groupby(["arm", "dose"], sort=False).size()) == [4, 4, 4]
    assert clip_rows.groupby(["arm", "dose"])["seed"].apply(list).map(lambda s: s == [5, 6, 7, 8]).all()
    zero = trial.table[(trial.table["arm"] == "probe") & (trial.table["dose"] == 0)].iloc[0]
    assert zero["diff"] == 0 and zero["p"] == 1
    for row in trial.table.itertuples():
        judged = clip_rows[(clip_rows["arm"] == row.arm) & (clip_rows["dose"] == row.dose)]
        assert row.hits == judged["hit"].sum() and row.n == 4 and row.rate == row.hits / 4
        lo, hi = wilson(row.hits, 4)
        assert (row.lo, row.hi) == pytest.approx((float(lo), float(hi)))
    assert list(trial.summary().columns) == ["arm", "0 σ", "6 σ"]
    assert trial.trend("probe").n_units == 4
    assert repr(trial) == "Trial(drums: 2 arms on 4 paired seeds, heard by loud)"
    assert "0 σ" in trial._repr_html_() and len(trial._repr_html_()) < 2000


def test_the_prompt_itself_is_never_judged(tiny_lm_model: MusicGen, clips: Clips, loud: Any) -> None:
    lengths = []

    class Ruler(type(loud)):  # type: ignore[misc]
        def score(self, audio: torch.Tensor, sample_rate: int) -> pd.DataFrame:
            lengths.append(audio.shape[-1] / sample_rate)
            return super().score(audio, sample_rate)

    codes = prompts_without(tiny_lm_model, "drums", 2, 0.4, clips=clips)
    run_arms(
        tiny_lm_model, "drums", [], codes, seeds=[0, 1], judge=Ruler(), setting=short(prompt_seconds=0.4, seconds=1.0)
    )
    assert lengths == [pytest.approx(0.6, abs=0.02)]


def test_an_arm_that_changes_something_at_dose_zero_is_refused(
    tiny_lm_model: MusicGen, clips: Clips, studies: tuple[ProbeResult, ProbeResult], loud: Any
) -> None:
    direction = studies[1].directions.one(site="L1.resid", method="mean_diff")
    codes = prompts_without(tiny_lm_model, "drums", 2, 0.3, clips=clips)
    common: dict[str, Any] = {"seeds": [0, 1], "judge": loud, "setting": short()}
    for broken in (
        Arm("broken", lambda dose, _: (Add(direction, dose=dose + 6.0),)),
        Arm("broken", lambda dose, _: (Add(direction, dose=dose + 6.0),), text="drums"),
        Arm("broken", lambda dose, _: (Add(direction, dose=dose + 6.0),), noise=7),
    ):
        with pytest.raises(ControlError, match="dose zero of the arm 'broken'"):
            run_arms(tiny_lm_model, "drums", [broken], codes, [1.0], **common)
    pushed = Arm(UNSTEERED, lambda dose, _: (Add(direction, dose=6.0),), dosed=False)
    with pytest.raises(ControlError, match="dose zero of the arm 'unsteered'"):
        run_arms(tiny_lm_model, "drums", [pushed], codes, **common)


def test_a_dosed_arm_with_a_text_or_noise_of_its_own_is_compared_with_its_own_kind(
    tiny_lm_model: MusicGen, clips: Clips, studies: tuple[ProbeResult, ProbeResult], loud: Any
) -> None:
    direction = studies[1].directions.one(site="L1.resid", method="mean_diff")
    codes = prompts_without(tiny_lm_model, "drums", 3, 0.3, clips=clips)
    arms = [
        replace(push("asked", direction, control=False), text=lambda i: f"drums {i}"),
        replace(push("other noise", direction, control=False, doses=(0.0,)), noise=50),
        Arm("noise alone", dosed=False, noise=50),
    ]
    trial = run_arms(
        tiny_lm_model, "drums", arms, codes, [0.0], seeds=[1, 2, 3], judge=loud, setting=short(keep_audio=True)
    )
    assert torch.equal(trial.audio["other noise", 0.0], trial.audio["noise alone", 0.0])
    assert not torch.equal(trial.audio["other noise", 0.0], trial.audio["unsteered", 0.0])
    assert not torch.equal(trial.audio["asked", 0.0], trial.audio["unsteered", 0.0])
    assert trial.clips.groupby("arm")["seed"].apply(list).map(lambda seeds: seeds == [1, 2, 3]).all()  # of the twins


def test_texts_mixes_and_pushes_share_their_noise(tiny: MusicGen) -> None:
    direction = Direction.from_weight("L4.resid", np.eye(256)[0], sigma=1.0, trait="drums")
    arms = [
        push("probe", direction, control=False), Arm("text", dosed=False, text="drums"),
        Arm("halved", dosed=False, sound=lambda audio, i: 0.5 * audio),
    ]  # fmt: skip
    codes = prompts_without(tiny, "drums", 2, 1.0, seed=3)
    setting = Setting(prompt_seconds=1.0, seconds=2.0, keep_audio=True, progress=False)
    made = run_arms(tiny, "drums", arms, codes, [0.0], seeds=[4, 5], setting=setting)
    base = made.audio["unsteered", 0.0]
    assert torch.equal(base, made.audio["probe", 0.0]) and not torch.equal(base, made.audio["text", 0.0])
    assert torch.equal(base[..., :16_000], made.audio["halved", 0.0][..., :16_000])
    assert torch.equal(0.5 * base[..., 16_000:], made.audio["halved", 0.0][..., 16_000:])
    alone = run_arms(tiny, "drums", [], codes, seeds=[4, 5], setting=setting)  # no text, so no guidance: the same music
    assert torch.equal(base, alone.audio["unsteered", 0.0])
    twin = made.table.set_index("arm").loc["probe"]
    assert twin["kept"] == 1 and twin["similarity_diff"] == 0 and twin["diff"] == 0
    assert twin["chroma_kept"] == pytest.approx(1) and twin["onsets_kept"] == pytest.approx(1)
    asked = made.table.set_index("arm").loc["text"]  # other music of the same seeds
    assert asked["chroma_kept"] < 0.95 and asked["onsets_kept_lo"] < 0.9 and "chroma_kept_diff" not in made.table
    judge = RenderedJudge()
    part = made.clips[made.clips["arm"] == "text"]
    new = made.audio["text", 0.0][..., 16_000:]
    np.testing.assert_allclose(embeddings(part), judge.embed(new, 16_000))
    np.testing.assert_array_equal(part["p_jazz"], judge.score(new, 16_000)["jazz"])
    own, given = judge.embed(new, 16_000), judge.embed(base[..., :16_000], 16_000)
    cosine = (own * given).sum(1) / np.linalg.norm(own, axis=1) / np.linalg.norm(given, axis=1)
    np.testing.assert_allclose(part["similarity"], cosine, rtol=1e-5)
    assert list(public(made.clips).filter(regex=r"^e[0-9]")) == []
    assert {"drums", "genre"} <= set(made.judges["trait"])


def test_what_an_arm_says_of_itself_is_a_column_and_a_condition(
    tiny_lm_model: MusicGen, clips: Clips, studies: tuple[ProbeResult, ProbeResult], loud: Any
) -> None:
    direction = studies[1].directions.one(site="L1.resid", method="mean_diff")
    codes = prompts_without(tiny_lm_model, "drums", 3, 0.3, clips=clips)
    arms = [
        push(f"{place}, {rule}", direction, control=False, says={"place": place, "rule|way": rule})
        for place in ("resid|heads", "heads")
        for rule in ("a", "b")
    ]
    trial = run_arms(
        tiny_lm_model, "drums", [*arms, Arm("kept", dosed=False, keep=True)], codes, [4.0], seeds=range(3), judge=loud,
        setting=short(),
    )  # fmt: skip
    assert trial.clips.groupby(["place", "rule|way"], sort=False).size().to_dict() == {
        ("", ""): 6, ("resid|heads", "a"): 3, ("resid|heads", "b"): 3, ("heads", "a"): 3, ("heads", "b"): 3,
    }  # fmt: skip
    assert list(trial.table["place"]) == ["", "resid|heads", "resid|heads", "heads", "heads", ""]
    assert list(trial.audio) == [("kept", 0.0)]
    by_place = summarise(trial.clips, ["place"])
    assert list(by_place["n"]) == [6, 6, 6]
    with pytest.raises(DataError, match="says dose of itself"):
        run_arms(tiny_lm_model, "drums", [Arm("x", says={"dose": 1})], codes, [1.0], seeds=range(3), judge=loud)


def test_windows_are_judged_one_by_one(tiny_lm_model: MusicGen, clips: Clips, loud: Any) -> None:
    codes = prompts_without(tiny_lm_model, "drums", 2, 0.3, clips=clips)
    setting = short(windows=((0.0, 0.2), (0.1, 0.5)), keep_audio=True)
    trial = run_arms(tiny_lm_model, "drums", [], codes, seeds=[0, 1], judge=loud, setting=setting)
    assert list(zip(trial.clips["seed"], trial.clips["start"], trial.clips["stop"], strict=True)) == [
        (0, 0.0, 0.2), (1, 0.0, 0.2), (0, 0.1, 0.5), (1, 0.1, 0.5),
    ]  # fmt: skip
    rate = tiny_lm_model.sample_rate
    late = trial.audio["unsteered", 0.0][..., round(0.4 * rate) : round(0.8 * rate)]
    np.testing.assert_array_equal(trial.clips["score"][2:], loud.score(late, rate)["drums"])
    assert list(trial.table["n"]) == [2, 2]
    for bad in ((0.3, 0.3), (0.2, 0.9), (-0.1, 0.2)):
        with pytest.raises(DataError, match=r"does not lie in the 0\.5 s"):
            short(windows=(bad,))
    with pytest.raises(DataError, match="leave nothing to judge"):
        short(prompt_seconds=0.8)


def test_measures_of_ones_own_see_what_was_generated(tiny_lm_model: MusicGen, clips: Clips, loud: Any) -> None:
    codes = prompts_without(tiny_lm_model, "drums", 2, 0.3, clips=clips)
    seen: list[Part] = []

    def peak(part: Part) -> pd.DataFrame:
        seen.append(part)
        return pd.DataFrame({"peak": part.audio.abs().amax((1, 2)).numpy()})

    arms = [Arm("halved", dosed=False, sound=lambda audio, i: 0.5 * audio)]
    trial = run_arms(tiny_lm_model, "drums", arms, codes, seeds=[0, 1], judge=loud, setting=short(measures=(peak,)))
    np.testing.assert_allclose(trial.clips["peak"][2:], 0.5 * trial.clips["peak"][:2].to_numpy())
    assert [part.codes is None for part in seen] == [False, True]
    assert torch.equal(seen[0].codes[0, :, : codes[0].shape[-1]], codes[0])  # type: ignore[index]
    assert seen[0].prompts is not None and seen[0].prompts.shape[-1] == round(0.3 * tiny_lm_model.sample_rate)
    assert summarise(trial.clips, measures=["peak"])["peak_diff"].notna().tolist() == [False, True]


def test_a_panel_is_told_apart_and_its_agreement_is_counted(
    tiny_lm_model: MusicGen, clips: Clips, studies: tuple[ProbeResult, ProbeResult], loud: Any
) -> None:
    class Quiet(type(loud)):  # type: ignore[misc]
        name = "quiet"

        def score(self, audio: torch.Tensor, sample_rate: int) -> pd.DataFrame:
            scores = super().score(audio, sample_rate)
            return scores.assign(drums=1 - scores["drums"])

    direction = studies[1].directions.one(site="L1.resid", method="mean_diff")
    codes = prompts_without(tiny_lm_model, "drums", 4, 0.3, clips=clips)
    arms = [push("probe", direction, control=False)]
    common: dict[str, Any] = {"seeds": range(4), "setting": short(measure=True)}
    both = run_arms(tiny_lm_model, "drums", arms, codes, [3.0], judge=[loud, Quiet()], **common)
    alone = run_arms(tiny_lm_model, "drums", arms, codes, [3.0], judge=loud, **common)
    pd.testing.assert_frame_equal(both.heard_by("loud"), alone.clips)
    pd.testing.assert_frame_equal(both.table[both.table["judge"] == "loud"], alone.table, check_like=True)
    assert list(both.table["judge"]) == ["loud"] * 2 + ["quiet"] * 2 and both.judge == "loud"
    assert (both.heard_by("loud")["hit"].to_numpy() != both.heard_by("quiet")["hit"].to_numpy()).all()
    (row,) = agreement(both.clips).to_dict("records")
    assert (row["a"], row["b"], row["n"], row["agree"]) == ("loud", "quiet", 8, 0.0)
    assert list(both.summary()["judge"]) == ["loud", "loud", "quiet", "quiet"]
    with pytest.raises(DataError, match="several judges"):
        agreement(alone.clips)


def test_what_monitors_read_stands_beside_the_clips(
    tiny_lm_model: MusicGen, clips: Clips, studies: tuple[ProbeResult, ProbeResult], loud: Any
) -> None:
    heads = studies[0].directions.select(method="logistic")
    codes = prompts_without(tiny_lm_model, "drums", 2, 0.3, clips=clips)
    arms = [
        Arm(UNSTEERED, lambda dose, i: (Smitin(heads, s=2, tau=-1.0),), dosed=False),
        Arm("SMITIN", lambda dose, i: (Smitin(heads, alpha=dose, s=2, tau=2.0),), control=False),
        Arm("plain", dosed=False),
        Arm("halved", dosed=False, sound=lambda audio, i: 0.5 * audio),
    ]
    trial = run_arms(tiny_lm_model, "drums", arms, codes, [1.0], seeds=[4, 9], judge=loud, setting=short())
    acted = trial.clips.groupby("arm", sort=False)["acted"].mean()
    assert acted["unsteered"] == 0 and acted["SMITIN"] == 1 and acted[["plain", "halved"]].isna().all()
    assert set(trial.monitor["arm"]) == {"unsteered", "SMITIN"} and set(trial.monitor["seed"]) == {4, 9}
    plain = run_arms(tiny_lm_model, "drums", [], codes, seeds=[4, 9], judge=loud, setting=short())
    assert trial.clips["score"][:2].tolist() == plain.clips["score"].tolist() and "acted" not in plain.clips


def test_bad_runs_are_refused_before_any_work(tiny_lm_model: MusicGen, clips: Clips, loud: Any) -> None:
    codes = prompts_without(tiny_lm_model, "drums", 2, 0.3, clips=clips)
    common: dict[str, Any] = {"judge": loud, "setting": short()}
    with pytest.raises(DataError, match="3 seeds and 2 sounds"):
        run_arms(tiny_lm_model, "drums", [], codes, seeds=[0, 1, 2], **common)
    with pytest.raises(DataError, match="'probe' has no dose"):
        run_arms(tiny_lm_model, "drums", [Arm("probe")], codes, seeds=[0, 1], **common)
    with pytest.raises(DataError, match="two arms are called 'probe' at dose 1"):
        run_arms(tiny_lm_model, "drums", [Arm("probe"), Arm("probe")], codes, [1.0], seeds=[0, 1], **common)
    with pytest.raises(DataError, match="cannot hear 'orchestral'"):
        run_arms(tiny_lm_model, "orchestral", [], codes, seeds=[0, 1], **common)
    with pytest.raises(DataError, match="the judge 'tagger' cannot hear 'bass'"):  # the judge of other models
        run_arms(tiny_lm_model, "bass", [], codes, seeds=[0, 1])
