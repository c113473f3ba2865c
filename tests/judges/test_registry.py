"""Judges by name: those that ship, those of one's own, and those that do not go with a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import interp.judges.registry as registry
from interp.clips import Clips
from interp.errors import DataError
from interp.judges import RenderedJudge, load, register
from interp.judges.dsp import DspJudge
from interp.judges.quality import QualityJudge
from interp.judges.registry import panel
from interp.judges.tagger import TaggerJudge
from interp.judges.trained import TrainedJudge

OWN = """
import pandas as pd

class Loud:
    name, independent, questions = "loud", True, {"loud": ["loud"]}

    def __init__(self, threshold=0.1):
        self.threshold = threshold

    def score(self, audio, sample_rate):
        return pd.DataFrame({"loud": [float(abs(clip).max() > self.threshold) for clip in audio], "not_music": 0.0})

    def accuracy_frame(self):
        return pd.DataFrame()

def strict(model=None):
    judge = Loud(0.9)
    judge.name = "strict" if model is None else "strict with a model"
    return judge

class NoJudge:
    name = "nothing"
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(OWN)
    return path


@pytest.fixture(scope="module")
def clips() -> Clips:
    rng = np.random.default_rng(0)
    loud = [0, 1] * 12
    labels = pd.DataFrame({"buzz": loud, "group": [f"g{i // 2}" for i in range(24)]})
    time = np.arange(16_000) / 16_000
    sounds = [0.1 * rng.normal(size=16_000) + on * np.sin(2 * np.pi * 900 * time) for on in loud]
    return Clips.from_arrays([sound[None].astype(np.float32) for sound in sounds], 16_000, labels)


def test_the_judge_that_goes_with_the_model_is_taken_and_no_other_is_assumed(tiny, tiny_lm_model):
    assert isinstance(load("", model=tiny), RenderedJudge) and isinstance(load("", model="tiny"), RenderedJudge)
    for model in (tiny_lm_model, "facebook/musicgen-large"):
        assert isinstance(load("", model=model, traits=["drums"]), TaggerJudge)
    with pytest.raises(DataError, match="'rendered' was trained on the music of the model that ships"):
        load("rendered", model=tiny_lm_model)
    assert panel(RenderedJudge(), model=tiny_lm_model)[0].name == "rendered"  # said by hand


def test_several_judges_are_a_panel(tiny):
    both = load("rendered, quality", model=tiny)
    assert [type(judge) for judge in both] == [RenderedJudge, QualityJudge]
    assert [judge.name for judge in panel(["dsp", RenderedJudge()])] == ["dsp", "rendered"]
    assert [type(judge) for judge in panel(None)] == [RenderedJudge]
    with pytest.raises(DataError, match="share a name"):
        panel("dsp,dsp")


def test_what_a_judge_cannot_hear_is_refused_when_it_is_loaded():
    with pytest.raises(DataError, match="'rendered' cannot hear 'orchestral'"):
        load("rendered", traits=["drums", "orchestral"])
    with pytest.raises(DataError, match="'dsp' measures sound and answers no question"):
        panel("rendered,dsp", traits=["drums"])


def test_a_judge_from_a_file_or_a_module_of_ones_own(own, monkeypatch, tiny):
    judge = load(f"{own}:Loud", traits=["loud"])
    assert judge.name == "loud" and judge.score([np.ones(4)], 16_000)["loud"].tolist() == [1.0]
    assert load(f"{own}:strict").name == "strict" and load(f"{own}:strict", model=tiny).name == "strict with a model"
    monkeypatch.syspath_prepend(str(own.parent))
    assert load("mine:Loud").name == "loud"
    for name, sentence in {
        f"{own}:Quiet": "has no class or function 'Quiet'",
        f"{own}:NoJudge": "NoJudge is no judge: it has no independent, questions, score, accuracy_frame",
        f"{own.parent / 'gone.py'}:Loud": "no file",
        "no_such_module:Loud": "there is no judge 'no_such_module:Loud'",
        "ears": "there is no judge 'ears': use clap, dsp, probe, quality, rendered, tagger",
        "dsp:somewhere": "takes nothing after its name",
    }.items():
        with pytest.raises(DataError, match=sentence):
            load(name)
    with pytest.raises(DataError, match="int is no judge"):
        panel([3])  # type: ignore[list-item]


def test_a_judge_is_registered_once(monkeypatch):
    monkeypatch.setattr(registry, "_FACTORIES", dict(registry._FACTORIES))
    register("my-dsp", DspJudge)
    register("my-dsp", DspJudge)  # a cell runs again
    assert isinstance(load("my-dsp"), DspJudge)
    with pytest.raises(DataError, match="a judge 'my-dsp' already"):
        register("my-dsp", RenderedJudge)
    with pytest.raises(DataError, match="cannot be called 'a:b'"):
        register("a:b", DspJudge)


def test_judges_that_learn_need_labelled_clips(clips, tmp_path, tiny_lm_model):
    judge = load("trained", data=clips, traits=["buzz"])
    assert isinstance(judge, TrainedJudge) and judge.questions == {"buzz": ["buzz"]}
    folder = clips.to_folder(tmp_path / "clips")
    assert load(f"trained:{folder}", traits=["buzz"]).questions == {"buzz": ["buzz"]}
    for name in ("trained", "probe"):
        with pytest.raises(DataError, match=f"'{name}' .*--judge {name}:FOLDER"):
            load(name, traits=["buzz"])
    own = load("probe", model=tiny_lm_model, data=clips, traits=["buzz"])
    assert not own.independent and own.questions == {"buzz": ["buzz"]}
    assert len(own._directions) == 12  # all heads there are
