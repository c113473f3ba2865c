"""Stores: what is stored is what was asked for now; what changed is named and mended; nothing finished is lost."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_activations import noise_clips

from interp import _extraction
from interp._index import Block, Index
from interp.activations import extract, features, labels, open_store
from interp.clips import Clips
from interp.directions.reading import read_stacks
from interp.errors import ClipError, StoreError
from interp.model import MusicGen
from interp.sites import KINDS, ModelShape, select_sites


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the clips that went through the model, as they do."""
    names: list[str] = []
    whole = _extraction.pool_forward

    def note(*args: Any) -> Any:
        names.extend(args[5])
        return whole(*args)

    monkeypatch.setattr(_extraction, "pool_forward", note)
    return names


def same(ds: Any, other: Any) -> None:
    for kind in other.data_vars:
        np.testing.assert_allclose(ds[kind].values, other[kind].values, rtol=1e-4, atol=2e-6, err_msg=str(kind))


def test_labels_and_names_are_those_of_now(tiny_lm_model: MusicGen, tmp_path: Path, heard: list[str]) -> None:
    clips = noise_clips(4)
    extract(tiny_lm_model, clips, out=tmp_path / "x")
    table = clips.labels.assign(drums=[True, True, False, False], group="one", mood=["a", None, "None", "NA"])
    table.index = [f"new-{i}" for i in range(4)]
    audio = [clip.audio for clip in clips]
    ds = extract(tiny_lm_model, Clips.from_arrays(audio, 16000, table), out=tmp_path / "x")
    assert len(heard) == 4  # nothing was made again
    for there in (ds, open_store(tmp_path / "x")):
        pd.testing.assert_frame_equal(labels(there)[table.columns], table.rename_axis("clip"), check_dtype=False)
    same(ds, extract(tiny_lm_model, clips))


def test_content_decides_what_is_made_again(tiny_lm_model: MusicGen, tmp_path: Path, heard: list[str]) -> None:
    """Other audio, other codes or another text under the same names are other clips."""
    clips, out = noise_clips(4), tmp_path / "x"
    extract(tiny_lm_model, clips, out=out)
    audio = [clip.audio for clip in clips]
    audio[2] = audio[2][:, ::-1]
    replaced = Clips.from_arrays(audio, 16000, clips.labels)
    heard.clear()
    same(extract(tiny_lm_model, replaced, out=out), extract(tiny_lm_model, replaced))
    assert heard.count("clip-2") == 2 and heard.count("clip-0") == 1  # once each is for the one in memory
    heard.clear()
    same(extract(tiny_lm_model, clips, out=out, text="a"), extract(tiny_lm_model, clips, text="a"))
    assert len(heard) == 8
    heard.clear()
    extract(tiny_lm_model, clips, out=out)  # back to the first call: all of it is still there
    assert heard == []
    codes = torch.arange(4 * tiny_lm_model.n_codebooks * 20).reshape(4, -1, 20) % tiny_lm_model.cardinality
    for known in (codes, codes.flip(2)):
        ds = extract(tiny_lm_model, clips, out=out, codes=known.__getitem__)
        same(ds, extract(tiny_lm_model, clips, codes=known.__getitem__))


def test_clips_come_and_go(tiny_lm_model: MusicGen, tmp_path: Path, heard: list[str]) -> None:
    clips, out = noise_clips(9), tmp_path / "x"
    whole = extract(tiny_lm_model, clips, sites="heads, resid")
    for chosen, new in [([0, 1, 2, 3, 4], 5), ([4, 0, 2], 0), ([7, 2, 5, 0], 2), (range(8, -1, -1), 2), ([6], 0)]:
        heard.clear()
        ds = extract(tiny_lm_model, clips.subset(list(chosen)), sites="heads, resid", out=out, batch_size=4)
        assert len(heard) == new
        same(ds, whole.isel(clip=list(chosen)))
        stored = open_store(out)
        assert list(stored["clip"].values) == [clips.ids[i] for i in chosen]
        same(stored, whole.isel(clip=list(chosen)))
        np.testing.assert_array_equal(features(stored, "L1.H2"), features(ds, "L1.H2"))
    assert not [path for path in tmp_path.rglob("*") if "part" in path.name]


def test_sites_and_poolings_are_added(tiny_lm_model: MusicGen, tmp_path: Path) -> None:
    clips, out = noise_clips(5), tmp_path / "x"
    everything = extract(tiny_lm_model, clips, sites="all", pool="mean, last, every:10")
    first = extract(tiny_lm_model, clips, sites="L1.H2, L0.H1", out=out, batch_size=2)
    assert first["heads"].shape == (5, 1, 2, 8)
    calls: list[tuple[str, str, list[Any]]] = [
        ("heads", "mean", ["mean"]),
        ("L2.resid", "last", ["last"]),
        ("resid, L0.H1", "every:10, mean", ["frame:0", "frame:10", "frame:20", "frame:30", "mean"]),
        ("L0.H1", "mean", ["mean"]),
    ]
    for sites, pool, names in calls:
        ds = extract(tiny_lm_model, clips, sites=sites, pool=pool, out=out)
        assert list(ds["pool"].values) == names
        wanted = select_sites(sites, tiny_lm_model.shape)
        assert set(ds.data_vars) == {site.kind for site in wanted}
        for site in wanted:
            for name in names:
                np.testing.assert_allclose(
                    features(ds, site, name), features(everything, site, name), rtol=1e-4, atol=2e-6
                )
    stored = open_store(out)  # all of it, every site in every way
    assert stored["heads"].shape == (5, 6, 12, 8) and stored["resid"].shape == (5, 6, 3, 32)
    for kind in ("heads", "resid"):
        np.testing.assert_allclose(
            stored[kind].values,
            everything[kind].sel({"pool": stored["pool"], f"{kind}_site": stored[f"{kind}_site"]}).values,
            rtol=1e-4,
            atol=2e-6,
        )
    assert json.loads(stored.attrs["made_by"])["clips"]["number"] == 5


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("what", ["flip", "cut", "gone", "flag"])
def test_damage_is_named_and_mended(
    tiny_lm_model: MusicGen, tmp_path: Path, heard: list[str], what: str, dtype: str
) -> None:
    clips, out = noise_clips(6), tmp_path / "x"
    options: dict[str, Any] = {"sites": "heads, resid", "out": out, "batch_size": 2, "dtype": dtype}
    good = extract(tiny_lm_model, clips, **options).load()
    chunk = out / ("heads.done/c/1" if what == "flag" else "heads/c/1/0/0/0")
    content = bytearray(chunk.read_bytes())
    if what == "gone":
        chunk.unlink()
    elif what == "cut":
        chunk.write_bytes(content[:-7])
    else:
        content[len(content) // 2 - 3] ^= 16
        chunk.write_bytes(content)
    if what == "flag":
        with pytest.raises(StoreError, match="holds 4 of 6 clips: run the same extraction again"):
            open_store(out)
    else:
        for read in (
            lambda: open_store(out)["heads"].values,
            lambda: features(open_store(out), "L1.H0"),
            lambda: read_stacks(open_store(out), "all"),
        ):
            with pytest.raises(StoreError, match=r"heads/c/1/0/0/0 is missing or damaged: run the same extraction"):
                read()
    heard.clear()
    mended = extract(tiny_lm_model, clips, **options)
    assert heard == ["clip-2", "clip-3"]
    for kind in ("heads", "resid"):
        np.testing.assert_array_equal(mended[kind].values, good[kind].values)
        np.testing.assert_array_equal(open_store(out)[kind].values, good[kind].values)


def test_bad_clips_are_all_named_at_once_or_left_out(
    tiny_lm_model: MusicGen, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clips = noise_clips(8)
    folder = clips.to_folder(tmp_path / "clips")
    (folder / "clip-1.wav").write_bytes(b"broken")
    (folder / "clip-3.wav").write_bytes((folder / "clip-3.wav").read_bytes()[:2000])
    spoilt = (folder / "clip-5.wav").read_bytes()
    (folder / "clip-5.wav").write_bytes(spoilt[:-400] + np.full(100, np.nan, np.float32).tobytes())
    read = Clips.from_folder(folder)
    (folder / "clip-6.wav").unlink()
    with pytest.raises(ClipError, match=r"3 of 8 clips cannot be used: 'clip-1.wav' .*'clip-3.wav' .*'clip-6.wav' "):
        extract(tiny_lm_model, read)
    good = [0, 2, 4, 7]
    wanted = extract(tiny_lm_model, clips.subset(good))
    for out in (None, tmp_path / "x"):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            ds = extract(tiny_lm_model, read, out=out, batch_size=3, skip_bad=True)
        left_out = json.loads(ds.attrs["made_by"])["left_out"]
        assert list(left_out) == ["clip-1.wav", "clip-3.wav", "clip-6.wav", "clip-5.wav"]
        assert "cut short" in left_out["clip-3.wav"] and "NaN" in left_out["clip-5.wav"]
        assert "4 clips are left out: 'clip-1.wav' cannot read" in caplog.text
        assert list(ds["clip"].values) == [f"clip-{i}.wav" for i in good]
        same(ds, wanted)
    same(open_store(tmp_path / "x"), wanted)
    with pytest.raises(ClipError, match="2 of 2 clips cannot be used"):
        extract(tiny_lm_model, read.subset([1, 6]), skip_bad=True)
    with pytest.raises(ClipError, match="no clip is left"):
        extract(tiny_lm_model, read.subset([5]), skip_bad=True)


def test_what_looks_odd_is_noted(tiny_lm_model: MusicGen, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Silence, one sample, and a recording that stands in two groups."""
    sound = noise_clips(1)[0].audio
    table = pd.DataFrame({"group": ["a", "a", "b", "c"]}, index=["silence", "sound", "sound again", "click"])
    clips = Clips.from_arrays([0 * sound, sound, sound, [0.5]], 16000, table)
    for _ in range(2):  # also when nothing is left to do
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            ds = extract(tiny_lm_model, clips, out=tmp_path / "x")
        doubtful = json.loads(ds.attrs["made_by"])["doubtful"]
        assert set(doubtful) == {"silence", "click"} and doubtful["silence"] == "is silent"
        assert "2 clips are doubtful" in caplog.text
        assert "'sound' and 'sound again' hold the same audio but stand in different groups" in caplog.text


@pytest.mark.slow
def test_killed_at_any_moment(tiny_lm_model: MusicGen, tmp_path: Path) -> None:
    """kill -9 at random moments: what is under a final name is whole, and the same call ends as if nothing happened."""
    here, out = Path(__file__).parent, tmp_path / "x"
    script = (
        f"import os, random, signal, sys, time; sys.path.insert(0, {str(here)!r})\n"
        "from test_activations import noise_clips, random_musicgen\n"
        "from interp.activations import extract\nfrom interp.model import MusicGen\n"
        "clips, draw = noise_clips(24), random.Random(0)\n"
        "for _ in range(8):\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        model = MusicGen(random_musicgen(3, 4, 32, seed=1))\n"
        f"        extract(model, clips, 'heads, resid', out={str(out)!r}, batch_size=2)\n"
        "        os._exit(0)\n"
        "    time.sleep(draw.uniform(0.0, 0.2))\n"
        "    os.kill(child, signal.SIGKILL)\n"
        "    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=here.parent, check=True)
    assert str(-signal.SIGKILL) in done.stdout.split()
    ds = extract(tiny_lm_model, noise_clips(24), "heads, resid", out=out, batch_size=2)
    wanted = extract(tiny_lm_model, noise_clips(24), "heads, resid", batch_size=2)
    for kind in ("heads", "resid"):
        np.testing.assert_array_equal(ds[kind].values, wanted[kind].values)
    assert not [path for path in tmp_path.rglob("*") if "part" in path.name]
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


SHAPE = ModelShape(2, 2, 8)
KIND_SITES = {kind: select_sites(kind, SHAPE) for kind in KINDS}
REQUEST = st.tuples(
    st.sets(st.sampled_from(SHAPE.sites()), min_size=1, max_size=5),
    st.lists(st.sampled_from(["mean", "last", "frame:0", "frame:5"]), min_size=1, max_size=3, unique=True),
)


@settings(max_examples=2000, deadline=None)
@given(st.lists(REQUEST, min_size=1, max_size=4))
def test_blocks_cover_every_site_in_every_way_once(requests: list[tuple[set[Any], list[str]]]) -> None:
    index = Index({}, 4)
    asked_sites, asked_pools = set(), set()
    for sites, pools in requests:
        index.extend({kind: sorted(s for s in sites if s.kind == kind) for kind in KINDS}, pools)
        asked_sites |= sites
        asked_pools |= set(pools)
        cells = [(pool, site) for block in index.blocks for pool in block.pools for site in block.sites]
        assert len(cells) == len(set(cells))
        assert set(cells) == {(pool, str(site)) for pool in asked_pools for site in asked_sites}
        assert len({block.name for block in index.blocks}) == len(index.blocks)
    assert not index.extend({kind: [s for s in asked_sites if s.kind == kind] for kind in KINDS}, list(asked_pools))


@settings(max_examples=1000, deadline=None)
@given(st.lists(st.text(max_size=3)), st.lists(st.text(max_size=3)))
def test_rows_stay_where_they_are(first: list[str], second: list[str]) -> None:
    index = Index({}, 4)
    rows = index.take(first)
    assert [index.rows[row] for row in rows] == first
    again = index.take([*second, *first])
    assert again[len(second) :] == rows and [index.rows[row] for row in again] == [*second, *first]


def test_an_index_is_read_back(tmp_path: Path) -> None:
    index = Index({"format": "x"}, 4, ["a", "b"], [Block("heads", "heads", ("mean",), ("L0.H0",))])
    index.write(tmp_path)
    assert Index.read(tmp_path) == index
    text = (tmp_path / "index.json").read_text()
    for old, new in [('"a"', '"c"'), ('"mean"', '"last"'), ("heads", "resid")]:
        (tmp_path / "index.json").write_text(text.replace(old, new, 1))
        with pytest.raises(StoreError, match=r"damaged .its bytes changed on the disk"):
            Index.read(tmp_path)
