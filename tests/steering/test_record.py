"""Activations captured while generating are those that extraction gives for the generated codes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

import interp
from interp.backends.build import random_musicgen
from interp.errors import DataError, ModelError, SiteError, StoreError
from interp.model import MusicGen
from interp.probes import probe
from interp.steering import Ablate, Row, generate

SITES = "L0.H1, L2.H3, cross_heads, L1.mlp, resid"
POOL = ["mean", "last", "every:9", "window:0.1-0.3"]


@pytest.mark.parametrize("engine", ["fast", "hooks", "nnsight"])
@pytest.mark.parametrize(("prompted", "two_step"), [(False, False), (True, True)])
def test_captured_equals_extracted(
    tiny_lm_model: MusicGen, audio_prompt: Tensor, engine: str, prompted: bool, two_step: bool
) -> None:
    audio = audio_prompt if prompted else None
    rows = [Row(text, seed, audio) for seed, text in enumerate(["a", "b", "a", "c", "b"])]
    music = generate(
        tiny_lm_model, rows, 0.5, 3.0, two_step=two_step, engine=engine, capture=SITES, pool=POOL, batch_size=3,
        progress=False,
    )  # fmt: skip
    clips = interp.Clips.from_arrays([np.zeros((1, 8000))] * len(rows), 16000)
    cond = music.to_dataset()
    for half, texts in (("cond", [row.prompt for row in rows]), ("uncond", None)):
        captured = music.to_dataset(half)
        extracted = interp.extract(
            tiny_lm_model, clips, SITES, POOL, texts, codes=music.codes.__getitem__, progress=False
        )
        assert set(captured.data_vars) == set(extracted.data_vars)
        for kind in extracted.data_vars:
            assert captured[kind].dims == extracted[kind].dims
            assert list(captured[f"{kind}_site"].values) == list(extracted[f"{kind}_site"].values)
            np.testing.assert_allclose(
                captured[kind].values, extracted[kind].values, rtol=1e-3, atol=2e-5, err_msg=f"{kind} {half}"
            )
        assert list(captured["pool"].values) == list(extracted["pool"].values)
    assert np.abs(cond["resid"].values - music.to_dataset("uncond")["resid"].values).max() > 1e-3  # kept apart
    # and nothing was changed by listening
    plain = generate(
        tiny_lm_model, rows, 0.5, 3.0, two_step=two_step, engine=engine, batch_size=3, progress=False
    )  # fmt: skip
    assert torch.equal(plain.codes, music.codes)


def test_pooled_is_the_mean_of_what_is_captured_in_full(tiny_lm_model: MusicGen) -> None:
    rows = [Row("a", 0), Row(None, 1)]  # the second row's halves are identical and run once
    pooled = generate(tiny_lm_model, rows, 0.4, capture="L1.resid", pool="mean", progress=False).to_dataset()
    full = generate(tiny_lm_model, rows, 0.4, capture="L1.resid", progress=False).captured("L1.resid")
    # entry t is at position t, frame t is heard at position t + 1
    wanted = full[:, 1:21].mean(1)
    np.testing.assert_allclose(pooled["resid"].values[:, 0, 0], wanted, rtol=1e-4, atol=1e-5)
    assert generate(tiny_lm_model, rows, 0.4, capture="L1.resid", pool="mean", progress=False).sites == ()


def test_a_capture_is_a_store_that_can_be_probed(tiny: MusicGen, tmp_path: Path) -> None:
    prompts = [f"jazz, piano, {'drums' if i % 2 else 'no drums'}" for i in range(24)]
    rows = [Row(prompt, i) for i, prompt in enumerate(prompts)]
    music = generate(tiny, rows, 0.5, capture="resid", pool="mean", progress=False)
    heard = pd.DataFrame({"asked": [i % 2 for i in range(24)]})
    ds = music.to_dataset(labels=heard, out=tmp_path / "captured")
    made_by = json.loads(interp.open_store(tmp_path / "captured").attrs["made_by"])
    assert made_by["captured"] == {"while": "generating", "half": "cond"}
    assert made_by["model"]["fingerprint"] == tiny.fingerprint
    assert made_by["info"]["guidance"] == 3.0
    np.testing.assert_array_equal(ds["resid"].values, music.to_dataset()["resid"].values)
    table = interp.labels(ds)
    assert list(table["prompt"]) == prompts
    assert list(table["group"][:2]) == ["seed-0", "seed-1"]
    study = probe(ds, "asked", sites="resid", methods=["ridge"], folds=3, n_permutations=0)
    assert study.table["test_score"].max() > 0.9  # the prompt is in the residual stream
    again = music.to_dataset(labels=heard, out=tmp_path / "captured")  # nothing is done twice
    np.testing.assert_array_equal(again["resid"].values, ds["resid"].values)
    with pytest.raises(StoreError, match=r"captured = .*cond.*but this call has"):
        music.to_dataset("uncond", labels=heard, out=tmp_path / "captured")


def test_pooled_means_are_float32_whatever_the_precision_of_the_run() -> None:
    """In half precision, and with values whose sum over time half precision cannot hold."""
    model = MusicGen(random_musicgen(2, 2, 16, seed=3))
    model.lm.transformer.layers[1].linear2.weight.data *= 3e4
    with torch.autocast("cpu", dtype=torch.float16):
        full, pooled = (
            generate(model, "a", 0.6, engine="hooks", capture="L1.mlp", pool=pool, progress=False)
            for pool in (None, "mean")
        )
    wanted = full.captured("L1.mlp")[0, 1:31].double().mean(0)
    assert wanted.abs().max() * 30 > 65_504
    np.testing.assert_allclose(pooled.to_dataset()["mlp"].values[0, 0, 0], wanted, rtol=1e-5)


def test_a_generation_is_short_in_print(tiny_lm_model: MusicGen) -> None:
    rows = [Row("<b>", seed, None, Ablate.zero("L0.H1")) for seed in range(12)]
    music = generate(tiny_lm_model, rows, 0.1, progress=False)
    assert repr(music) == f"<Generation: 12 rows of 0.10 s by {tiny_lm_model.name}, 1 intervention>"
    page = music._repr_html_()
    assert "&lt;b&gt;" in page and "<b>&" not in page and "zero-ablate at L0.H1" in page and "and 4 more" in page
    assert len(page) < 5000
    table = rows[0].interventions[0]._repr_html_()
    assert "zero-ablate" in table and "L0.H1" in table and "generated positions" in table


def test_bad_captures_get_a_sentence(tiny_lm_model: MusicGen) -> None:
    rows = [Row("a", 0)]
    plain = generate(tiny_lm_model, rows, 0.2, None, progress=False)
    alone = generate(tiny_lm_model, rows, 0.2, None, capture="resid", pool="mean", progress=False)
    for call, error, sentence in [
        (lambda: plain.to_dataset(), SiteError, "nothing was pooled"),
        (lambda: alone.to_dataset("uncond"), SiteError, "no unconditional rows without guidance"),
        (lambda: alone.to_dataset("left"), SiteError, "no half 'left'"),
        (lambda: alone.to_dataset(labels=pd.DataFrame({"x": [1, 2]})), DataError, "1 rows of music but 2"),
        (lambda: alone.to_dataset(labels=pd.DataFrame({"resid": [1]})), DataError, "cannot be called 'resid'"),
        (lambda: generate(tiny_lm_model, rows, 0.2, pool="mean", progress=False), SiteError, "nothing to pool"),
        (
            lambda: generate(tiny_lm_model, rows, 31.0, capture="resid", pool="mean", progress=False),
            ModelError,
            "within one window of 30 s",
        ),
        (
            lambda: generate(tiny_lm_model, rows, 0.2, capture="resid", pool="median", progress=False),
            DataError,
            "median",
        ),
    ]:
        with pytest.raises(error, match=sentence):
            call()
