"""Necessity: what is taken out is gone, and what comes back later is found."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr

from interp.clips import Clips
from interp.errors import DataError
from interp.model import MusicGen
from interp.probes import ProbeResult
from interp.validation import ablation_arms
from interp.validation.ablation import erasures, read_under, refit_after


def test_what_is_taken_out_is_gone_at_the_site_and_later_layers_feel_it(
    tiny_lm_model: MusicGen, ds: xr.Dataset, clips: Clips, studies: tuple[ProbeResult, ProbeResult]
) -> None:
    resid = studies[1]
    treated = resid.directions.one(site="L1.resid", method="mean_diff")
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
