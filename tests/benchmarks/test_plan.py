"""What :func:`interp.plan.plan` says beforehand against what a run takes, at musicgen-small's true size."""

from __future__ import annotations

import time

import pytest
import torch

from interp._batch import pool_forward
from interp.backends.build import random_musicgen, released_codec
from interp.model import MusicGen
from interp.plan import plan
from interp.pooling import Pooling
from interp.sites import select_sites
from interp.steering import Row, generate

pytestmark = pytest.mark.bench


def test_within_a_quarter_of_what_it_takes() -> None:
    clips, seconds, rows, row_seconds = 8, 5.0, 4, 3.0
    said = plan("facebook/musicgen-small", clips, seconds, rows=rows, row_seconds=row_seconds, batch_size=4)
    expected = said.table.set_index("stage")["seconds"]

    codec = released_codec()
    wave = 0.1 * torch.randn(clips, 1, round(seconds * 32000))
    began = time.perf_counter()
    with torch.no_grad():
        for one in wave:
            codec.encode(one[None])
    taken = {"encode": time.perf_counter() - began}

    model = MusicGen(random_musicgen(24, 16, 1024, cardinality=2048))
    sites = select_sites("heads, resid", model.shape)
    pooling = Pooling.parse("mean", 50.0, round(seconds * 50))
    codes = [torch.randint(2048, (4, round(seconds * 50))) for _ in range(clips)]
    pool_forward(model, codes[:1], [None], sites, pooling)
    began = time.perf_counter()
    for start in range(0, clips, 4):
        pool_forward(model, codes[start : start + 4], [None] * 4, sites, pooling)
    taken["extract"] = time.perf_counter() - began

    music = [Row("jazz", seed) for seed in range(rows)]
    generate(model, music, 0.2, progress=False)
    began = time.perf_counter()
    generate(model, music, row_seconds, progress=False)
    taken["generate"] = time.perf_counter() - began

    for stage, measured in taken.items():
        print(f"\n{stage}: planned {expected[stage]:.1f} s, took {measured:.1f} s ({expected[stage] / measured:.2f})")
    for stage, measured in taken.items():
        assert expected[stage] == pytest.approx(measured, rel=0.25), stage
