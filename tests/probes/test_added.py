"""What does training add? The untrained copy and the audio features, end to end; learning curve and confusion table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from planted_data import planted_dataset
from sklearn.metrics import balanced_accuracy_score

import interp
from interp import plots
from interp.backends.build import random_musicgen
from interp.clips import Clips
from interp.errors import CheckpointMismatch, DataError, ModelError, StoreError
from interp.model import MusicGen
from interp.probes import compare_baselines, confusion_table, extract_untrained, learning_curve, probe


def test_the_untrained_copy_is_the_same_model_with_other_weights(tiny: MusicGen) -> None:
    codes = torch.randint(0, tiny.cardinality, (1, tiny.n_codebooks, 20), generator=torch.Generator().manual_seed(0))
    tokens, _ = tiny.sequence(codes)
    conditions = tiny.conditions([None])
    before = tiny.forward(tokens, conditions, read=["L2.resid"])
    state = torch.random.get_rng_state()
    copies = [tiny.untrained(seed) for seed in (3, 3, 4)]
    assert torch.equal(torch.random.get_rng_state(), state)
    assert copies[0].fingerprint == copies[1].fingerprint != copies[2].fingerprint != tiny.fingerprint
    one, same, _ = copies
    assert one.shape == tiny.shape
    trained = dict(tiny.lm.named_parameters())
    for name, weight in one.lm.named_parameters():
        assert weight.shape == trained[name].shape
        assert weight.data_ptr() != trained[name].data_ptr()
        if weight.ndim > 1:  # norms start at one and zero
            assert float((weight - trained[name]).abs().mean()) > 1e-3, name
            if name.startswith("transformer"):  # as audiocraft draws them
                assert 0.2 < float(weight.std() * np.sqrt(weight.shape[-1])) < 1.5, name
    a, b = (m.forward(tokens, m.conditions([None]), read=["L2.resid"]) for m in (one, same))
    assert torch.equal(a.logits, b.logits)
    again = tiny.forward(tokens, conditions, read=["L2.resid"])
    assert torch.equal(before.logits, again.logits)  # the trained model is as it was, traces included
    assert not torch.allclose(before.logits, a.logits)


def test_weights_that_cannot_be_drawn_are_refused() -> None:
    model = MusicGen(random_musicgen(2, 2, 16))
    model.lm.transformer.layers[0].register_parameter("gain", torch.nn.Parameter(torch.ones(3)))
    with pytest.raises(ModelError, match=r"it is not known how transformer\.layers\.0\.gain"):
        model.untrained()


@pytest.fixture(scope="module")
def heard(tiny: MusicGen) -> tuple[Clips, object]:
    from interp.data import render_clips

    clips = render_clips(72, seed=9, seconds=1.0)
    return clips, interp.extract(tiny, clips, sites="L2.resid, L4.resid", progress=False)


def test_training_adds_something_to_drums(tiny: MusicGen, heard: tuple[Clips, object], tmp_path: Path) -> None:
    clips, ds = heard
    shuffled = clips.subset(np.random.default_rng(0).permutation(len(clips)))
    untrained = extract_untrained(tiny, shuffled, ds, out=tmp_path / "untrained", progress=False)
    made_by = json.loads(untrained.attrs["made_by"])
    assert made_by["info"]["untrained_copy_of"] == tiny.fingerprint != made_by["model"]["fingerprint"]
    study = compare_baselines(
        ds, "drums", clips=shuffled, untrained=untrained, sites="resid", method="ridge", folds=3, n_permutations=40
    )  # fmt: skip
    table = study.table.set_index("name")
    assert list(table.index) == ["best site", "untrained copy", "mel", "mfcc", "chroma"]
    assert (
        table.loc["best site", "test_score"]
        == study.study.table["test_score"][study.study.table["site"] == table.loc["best site", "site"]].item()
    )
    gap = table["test_score"]["best site"] - table["test_score"]
    np.testing.assert_allclose(table["difference"][1:], gap[1:], atol=1e-9)
    assert (table["difference_lo"][1:] <= table["difference"][1:] + 1e-9).all()
    assert (table["difference"][1:] <= table["difference_hi"][1:] + 1e-9).all()
    assert table.loc["chroma", "difference"] > 0.1
    assert table.loc["mel", "test_score"] > 0.7
    np.testing.assert_allclose(study.sites["added"], study.sites["trained"] - study.sites["untrained"])
    assert list(study.sites["site"]) == ["L2.resid", "L4.resid"]
    ax = plots.baselines(study.table)
    files = plots.save(ax, tmp_path / "baselines")
    assert {"png", "csv", "md", "tex"} <= set(files)
    again = compare_baselines(
        ds, "drums", clips=clips, untrained=untrained, sites="resid", method="ridge", folds=3, n_permutations=40
    )  # fmt: skip
    pd.testing.assert_frame_equal(study.table, again.table)


def test_a_dataset_against_itself_has_no_difference() -> None:
    ds, _ = planted_dataset(n_groups=30)
    twin = ds.copy()
    twin.attrs = {"made_by": '{"model": {"fingerprint": "def456"}}'}
    study = compare_baselines(ds, "drums", untrained=twin, method="ridge", n_permutations=0)
    assert (study.table["difference"].dropna() == 0).all()
    assert (study.sites[["added", "added_lo", "added_hi"]] == 0).all().all()


def test_bad_baselines_get_a_sentence(tiny: MusicGen, heard: tuple[Clips, object]) -> None:
    clips, ds = heard
    planted, _ = planted_dataset(n_groups=20)
    named = interp.extract(tiny, clips[:2], sites="L0.resid", text=["jazz", "rock"], progress=False)
    for call, error, sentence in [
        (lambda: compare_baselines(planted, "drums"), DataError, "nothing to compare with"),
        (
            lambda: compare_baselines(planted, "drums", untrained=planted, method="ridge"),
            DataError,
            "those of the trained model",
        ),
        (lambda: compare_baselines(planted, "drums", audio=("tempogram",)), DataError, "'tempogram'"),
        (lambda: extract_untrained(tiny, clips[:5], ds), DataError, "67 clips .* are not among the clips"),
        (lambda: extract_untrained(tiny.untrained(), clips, ds), CheckpointMismatch, "give the model that made"),
        (lambda: extract_untrained(tiny, clips, planted), StoreError, "do not say how they were made"),
        (lambda: extract_untrained(tiny, clips, named), DataError, "a text for each clip"),
    ]:
        with pytest.raises(error, match=sentence):
            call()


def test_the_learning_curve_rises_and_ends_where_probe_does() -> None:
    ds, _ = planted_dataset(n_groups=60, strength=1.5)
    table = learning_curve(ds, "drums", sites="L1.H1, L0.H0", methods=["ridge"], repeats=4, n_bootstrap=200)
    curve = table[table["site"] == "L1.H1"].set_index("n_groups")
    assert curve.index.tolist() == [3, 6, 11, 22, 45] or curve.index.is_monotonic_increasing
    assert curve["test_score"].iloc[-1] > curve["test_score"].iloc[0] + 0.05
    assert (curve["repeats"].iloc[:-1] == 4).all()
    whole = probe(ds, "drums", sites="L1.H1", methods=["ridge"], n_permutations=0).table.iloc[0]
    assert curve["test_score"].iloc[-1] == pytest.approx(whole["test_score"])
    assert curve["n_train"].iloc[-1] == whole["n_train"]
    flat = table[table["site"] == "L0.H0"]
    assert ((flat["lo"] < 0.5) & (flat["hi"] > 0.5)).all()
    assert plots.learning_curve(table, by="site").get_xlabel() == "Training clips"
    graded = learning_curve(ds, "tempo", sites="L1.H3", methods=["ridge"], sizes=[0.2, 1.0], repeats=2)
    assert (graded["score"] == "r2").all()
    for sizes, sentence in [([0.0], "above 0"), ([2.0], "up to 1"), ([0.001], "ask for larger sizes")]:
        with pytest.raises(DataError, match=sentence):
            learning_curve(ds, "drums", sites="L1.H1", sizes=sizes)


@pytest.mark.parametrize(("trait", "site"), [("drums", "L1.H1"), ("genre", "L1.H2")])
def test_the_confusion_table_gives_the_score_back(trait: str, site: str) -> None:
    ds, _ = planted_dataset(n_groups=40)
    study = probe(ds, trait, methods=["ridge", "lda"], n_permutations=0)
    for method in study.methods:
        table = confusion_table(study, site, method)
        row = study.table[(study.table["site"] == site) & (study.table["method"] == method)].iloc[0]
        assert balanced_accuracy_score(table["true"], table["predicted"]) == pytest.approx(row["test_score"])
        assert len(table) == row["n_test"]
    assert confusion_table(study)["site"].iloc[0] == study.ranking()["site"][0] == site
    assert plots.confusion(confusion_table(study)).get_xlabel() == "Predicted"
    with pytest.raises(DataError, match="was not probed"):
        confusion_table(study, "L9.H9")
    with pytest.raises(DataError, match="graded"):
        confusion_table(probe(ds, "tempo", methods="ridge", n_permutations=0))
