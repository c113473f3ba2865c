"""What does training add? The untrained copy and the audio features, end to end."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from planted_data import planted_dataset

import interp
from interp import plots
from interp.backends.build import random_musicgen
from interp.clips import Clips
from interp.errors import CheckpointMismatch, DataError, ModelError, StoreError
from interp.model import MusicGen
from interp.probes import compare_baselines, extract_untrained


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
    result = compare_baselines(
        ds, "drums", clips=shuffled, untrained=untrained, sites="resid", method="ridge", folds=3, n_permutations=40
    )  # fmt: skip
    table = result.table.set_index("name")
    assert list(table.index) == ["best site", "untrained copy", "mel", "mfcc", "chroma"]
    assert (
        table.loc["best site", "test_score"]
        == result.probed.table["test_score"][result.probed.table["site"] == table.loc["best site", "site"]].item()
    )
    gap = table["test_score"]["best site"] - table["test_score"]
    np.testing.assert_allclose(table["difference"][1:], gap[1:], atol=1e-9)
    assert (table["difference_lo"][1:] <= table["difference"][1:] + 1e-9).all()
    assert (table["difference"][1:] <= table["difference_hi"][1:] + 1e-9).all()
    assert table.loc["chroma", "difference"] > 0.1
    assert table.loc["mel", "test_score"] > 0.7
    np.testing.assert_allclose(result.sites["added"], result.sites["trained"] - result.sites["untrained"])
    assert list(result.sites["site"]) == ["L2.resid", "L4.resid"]
    ax = plots.baselines(result.table)
    files = plots.save(ax, tmp_path / "baselines")
    assert {"png", "csv", "md", "tex"} <= set(files)
    again = compare_baselines(
        ds, "drums", clips=clips, untrained=untrained, sites="resid", method="ridge", folds=3, n_permutations=40
    )  # fmt: skip
    pd.testing.assert_frame_equal(result.table, again.table)


def test_a_dataset_against_itself_has_no_difference() -> None:
    ds, _ = planted_dataset(n_groups=30)
    twin = ds.copy()
    twin.attrs = {"made_by": '{"model": {"fingerprint": "def456"}}'}
    result = compare_baselines(ds, "drums", untrained=twin, method="ridge", n_permutations=0)
    assert (result.table["difference"].dropna() == 0).all()
    assert (result.sites[["added", "added_lo", "added_hi"]] == 0).all().all()


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
