"""The page of doses: every sound is what its arm alone gives, and reading along changes no music."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from interp.directions import Direction, Directions
from interp.errors import ControlError, DataError
from interp.model import MusicGen
from interp.report import dose_page
from interp.steering import Add, Row, Smitin, generate
from interp.validation import Arm, Setting, push


def _data(page: Path) -> dict[str, Any]:
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', page.read_text(), re.DOTALL)
    assert found
    return json.loads(found[1])


def _directions(model: MusicGen) -> Directions:
    rng = np.random.default_rng(0)
    made = [
        Direction.from_weight(
            f"L{layer}.H{head}", rng.normal(size=8), intercept=0.1, method="logistic", trait="drums", positive="1",
            sigma=1.0, score=0.6 + 0.05 * head, model=model.fingerprint,
        )
        for layer in range(3)
        for head in range(4)
    ]  # fmt: skip
    return Directions(made)


SHORT = Setting(seconds=0.5, prompt_seconds=0.0, text="a", progress=False)


def test_doses_are_generated_once_and_listening_in_changes_nothing(tiny_lm_model: MusicGen, tmp_path: Path) -> None:
    heads = _directions(tiny_lm_model)
    arms = [
        push("plain", heads, control=False),
        Arm("SMITIN", lambda dose, i: (Smitin(heads, alpha=dose, s=2, tau=0.9),)),
    ]
    page = dose_page(tiny_lm_model, arms, tmp_path, doses=(0, 2, 4), seeds=(5, 6), setting=SHORT)
    data = _data(page)
    assert len(data["takes"]) == 2 + 2 * 2 * 2 and data["monitored"] == "drums"
    for arm, dose, items in (
        ("unsteered", 0, ()),
        ("plain", 4, arms[0].build(4, 1)),
        ("SMITIN", 2, arms[1].build(2, 1)),
    ):
        alone = generate(tiny_lm_model, [Row("a", 6, None, items)], 0.5, guidance=SHORT.guidance, progress=False)
        take = data["takes"][f"{arm}|{dose}|6"]
        wave, rate = soundfile.read(tmp_path / unquote(take["sound"]), always_2d=True)
        assert rate == tiny_lm_model.sample_rate
        expected = alone.audio[0].numpy()
        np.testing.assert_allclose(wave.T, expected / max(1.0, np.abs(expected).max() / 0.99), atol=2**-13)
        assert take["monitor"]["tau"] == 0.9  # an ear is drawn with the threshold of the arm that acts on it
        assert bool(take["monitor"]["acted"]) == (arm == "SMITIN")
        if arm == "SMITIN":
            np.testing.assert_allclose(
                take["monitor"]["p"], alone.monitor["C"][alone.monitor["seconds"] <= 0.5], atol=1e-3
            )
    log = pd.read_csv(tmp_path / "log.csv")
    assert set(log["arm"]) == {"plain", "SMITIN"} and set(log["dose"]) == {2, 4}
    assert set(pd.read_csv(tmp_path / "monitor.csv")["arm"]) == {"unsteered", "plain", "SMITIN"}


def test_one_arm_without_a_monitor_and_sounds_to_continue(tiny_lm_model: MusicGen, tmp_path: Path) -> None:
    arm = push("steered", _directions(tiny_lm_model), control=False)
    codes = [torch.randint(0, tiny_lm_model.cardinality, (tiny_lm_model.n_codebooks, 10)) for _ in range(2)]
    page = dose_page(tiny_lm_model, arm, tmp_path, doses=(1,), seeds=(0, 1), codes=codes, setting=SHORT)
    data = _data(page)
    assert data["arms"] == ["steered"] and data["start"] == pytest.approx(10 / tiny_lm_model.frame_rate)
    assert all(take["monitor"] is None for take in data["takes"].values())
    with pytest.raises(DataError, match="2 seeds need 2 sounds"):
        dose_page(tiny_lm_model, arm, tmp_path, seeds=(0, 1), codes=codes[:1])
    with pytest.raises(DataError, match="one other than 0"):
        dose_page(tiny_lm_model, arm, tmp_path, doses=(0,))
    with pytest.raises(DataError, match="needs a seed"):
        dose_page(tiny_lm_model, arm, tmp_path, seeds=())


def test_the_judge_hears_what_was_generated_and_must_know_the_trait(tiny_lm_model: MusicGen, tmp_path: Path) -> None:
    class Ruler:
        name, independent, questions = "ruler", True, {"long": ["long"]}
        samples: ClassVar[set[int]] = set()

        def score(self, audio: Any, sample_rate: int) -> pd.DataFrame:
            self.samples.add(audio.shape[-1])
            return pd.DataFrame({"long": [0.75] * len(audio), "not_music": 0.0})

        def accuracy_frame(self) -> pd.DataFrame:
            return pd.DataFrame()

    arm = push("steered", _directions(tiny_lm_model), control=False)
    codes = torch.zeros(tiny_lm_model.n_codebooks, 10, dtype=torch.long)
    options = {"doses": (1,), "seeds": (0,), "codes": codes, "judge": Ruler(), "setting": SHORT}
    data = _data(dose_page(tiny_lm_model, arm, tmp_path, trait="long", **options))
    assert {str(take["notes"]) for take in data["takes"].values()} == {"{'judge hears long': 'yes, 75%'}"}
    generated = 0.5 - 10 / tiny_lm_model.frame_rate
    assert list(Ruler.samples) == [pytest.approx(generated * tiny_lm_model.sample_rate, abs=1)]
    for trait, words in (("drums", "ruler"), ("", "name the trait")):
        with pytest.raises(DataError, match=words):
            dose_page(tiny_lm_model, arm, tmp_path, trait=trait, **options)


def test_an_arm_that_acts_at_dose_zero_is_not_shown_as_its_dose(tiny_lm_model: MusicGen, tmp_path: Path) -> None:
    heads = _directions(tiny_lm_model)
    always = Arm("always", lambda dose, i: (Add(heads, dose=4.0 + dose),))
    with pytest.raises(ControlError, match="'always' is not the unsteered music"):
        dose_page(tiny_lm_model, always, tmp_path, doses=(1,), seeds=(0,), setting=SHORT)
    assert not (tmp_path / "index.html").exists()
