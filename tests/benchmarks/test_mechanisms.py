"""Patching every head of the shipped model: how fast, against one trace for each head and pair, and against gradients.

The plain loop is measured on a few pairs and scaled, in the same process and on the same pairs; both ways of it are
printed: with the other run's activations read once, and with both runs in every trace, as nnsight's own examples do it.
Set ``INTERP_BENCH_SMOKE=1`` for a short run that checks that everything works and asserts no bar.
"""

from __future__ import annotations

import os
import time

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr

import interp
from interp import tables
from interp.backends.audiocraft import align_logits
from interp.data import render_clips
from interp.mechanisms import Heard, attribute, hear, patch
from interp.model import MusicGen
from interp.sites import select_sites

SMOKE = os.environ.get("INTERP_BENCH_SMOKE") == "1"
PAIRS, FEW, SECONDS = (4, 1, 1.0) if SMOKE else (64, 2, 2.0)


@pytest.fixture(scope="module")
def model() -> MusicGen:
    return interp.load("tiny", "cpu")


@pytest.fixture(scope="module")
def pairs(model: MusicGen) -> tuple[Heard, Heard]:
    """Two scores that differ in all, under one text: every head can differ."""
    clips = render_clips(2 * PAIRS, seed=9, seconds=SECONDS, clips_per_score=1)
    heard = hear(model, clips)
    return heard.take(range(PAIRS)), heard.take(range(PAIRS, 2 * PAIRS))


def loop(model: MusicGen, clean: Heard, corrupt: Heard, both: bool) -> np.ndarray:
    """The plain way: for each pair and head one trace that puts the head of the clean run into the corrupt one."""
    changes = []
    for i in range(len(clean)):
        a, b = clean.take([i]), corrupt.take([i])
        own, other = model.conditions(list(b.texts)), model.conditions(list(a.texts))
        with model.trace(codes=a.codes, conditions=other):
            heads = [model.heads[layer].clone() for layer in range(model.shape.n_layers)].save()

        def measured(logits: torch.Tensor, a: Heard = a, b: Heard = b) -> float:
            log_p = torch.log_softmax(align_logits(model.lm, logits.float(), a.n_frames), -1)
            difference = (log_p.gather(-1, a.codes[..., None]) - log_p.gather(-1, b.codes[..., None]))[..., 0]
            return float(difference.sum() / (a.codes != b.codes).sum())

        with model.trace(codes=b.codes, conditions=own):
            logits = model.output.save()
        before = measured(logits)
        for site in select_sites("heads", model.shape):
            assert site.head is not None
            if both:
                with model.trace(codes=torch.cat([a.codes, b.codes]), text=[*a.texts, *b.texts]):
                    live = model[site].clone()
                    live[1] = live[0]
                    model[site] = live
                    logits = model.output[1:].save()
            else:
                with model.trace(codes=b.codes, conditions=own):
                    model[site] = heads[site.layer][:, :, site.head]
                    logits = model.output.save()
            changes.append(measured(logits) - before)
    return np.array(changes).reshape(len(clean), -1).T


def test_every_head_of_the_shipped_model(model: MusicGen, pairs: tuple[Heard, Heard]) -> None:
    clean, corrupt = pairs
    few = (clean.take(range(FEW)), corrupt.take(range(FEW)))
    lines = []

    def timed(name: str, pairs_done: int, run: object) -> object:
        start = time.perf_counter()
        made = run()  # type: ignore[operator]
        seconds = time.perf_counter() - start
        print(f"{name}: {seconds:.2f} s for {pairs_done} pairs")
        lines.append({"run": name, "pairs": pairs_done, "seconds for 64": seconds * 64 / pairs_done})
        return made

    patch(model, *few, "ratio", null=False)  # warms up
    true = timed("patch", PAIRS, lambda: patch(model, clean, corrupt, "ratio", null=False))
    timed("patch, with the null", PAIRS, lambda: patch(model, clean, corrupt, "ratio"))
    plain = timed("a trace for each head and pair", FEW, lambda: loop(model, *few, both=False))
    timed("the same, both runs in each trace", FEW, lambda: loop(model, *few, both=True))
    rho = {}
    for steps in (0, 1, 4):
        name = f"attribute, {steps} steps"
        made = timed(name, PAIRS, lambda steps=steps: attribute(model, clean, corrupt, "ratio", steps=steps))
        rho[name] = spearmanr(made.table["change"], true.table["change"])[0]
    table = pd.DataFrame(lines)
    table["times patch"] = table["seconds for 64"] / table["seconds for 64"].iloc[0]
    table["spearman"] = table["run"].map(rho)
    print(
        f"\n48 heads, music of {SECONDS:g} s, {torch.get_num_threads()} threads\n{tables.to_markdown(table, digits=3)}"
    )
    np.testing.assert_allclose(true.changes[:, :FEW], plain, atol=2e-5)
    if not SMOKE:
        assert table["seconds for 64"].iloc[0] < 60
        assert rho["attribute, 4 steps"] > 0.8
