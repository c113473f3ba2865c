"""Extraction: what is kept is what a plain forward pass of each clip alone gives, on disk or in memory."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch

import interp
from interp import _batch, _extraction
from interp.activations import extract, features, labels, open_store, stack
from interp.backends.build import random_musicgen
from interp.clips import Clips
from interp.directions.reading import read_stacks
from interp.errors import ClipError, DataError, InterpError, Interrupted, ModelError, SiteError, StoreError
from interp.model import MusicGen
from interp.sites import Site, select_sites

ALL_POOLS = ["mean", "last", "every:10", "window:0.1-0.3"]


def noise_clips(n: int = 7, seed: int = 0, longest: float = 0.8) -> Clips:
    """Clips of unequal length with labels of every type, some missing."""
    rng = np.random.default_rng(seed)
    audio = [0.3 * rng.normal(size=(1, int(16000 * s))) for s in rng.uniform(0.35, longest, n)]
    table = pd.DataFrame(
        {
            "drums": [i % 2 == 0 for i in range(n)],
            "genre": [[None, "jazz", "rock"][i % 3] for i in range(n)],
            "tempo": [np.nan if i == 2 else 90.0 + i for i in range(n)],
            "group": [i // 2 for i in range(n)],
        },
        index=[f"clip-{i}" for i in range(n)],
    )
    return Clips.from_arrays(audio, 16000, table)


def alone(model: MusicGen, clips: Clips, i: int, text: str | None = None) -> dict[Site, npt.NDArray[np.float32]]:
    """Every site of one clip on its own, all frames: ``[frames, dim]``."""
    codes = model.encode(torch.from_numpy(clips[i].audio), clips[i].sample_rate)
    tokens, _ = model.sequence(codes)
    values = model.forward(tokens, model.conditions([text]), read=select_sites("all", model.shape)).values
    steps = model.frame_steps(codes.shape[-1])
    return {site: value[0, steps].numpy() for site, value in values.items()}


def test_each_clip_is_what_it_is_alone(tiny_lm_model: MusicGen) -> None:
    clips = noise_clips()
    texts = ["drums", None] * 3 + ["piano"]
    ds = extract(tiny_lm_model, clips, sites="all", pool=ALL_POOLS, text=texts, batch_size=4)
    assert [str(p) for p in ds["pool"].values] == [
        "mean", "last", "frame:0", "frame:10", "frame:20", "frame:30", "window:0.1-0.3"
    ]  # fmt: skip
    for i, text in enumerate(texts):
        for site, frames in alone(tiny_lm_model, clips, i, text).items():
            row = ds[site.kind].values[i][:, list(ds[f"{site.kind}_site"].values).index(str(site))]
            expected = [frames.mean(0), frames[-1]]
            expected += [frames[t] if t < len(frames) else np.full(frames.shape[1], np.nan) for t in (0, 10, 20, 30)]
            expected.append(frames[4:14].mean(0))  # steps 5 to 14 hear frames 4 to 13
            np.testing.assert_allclose(row, np.stack(expected), rtol=1e-4, atol=2e-6, err_msg=str(site))


def test_texts_of_unequal_length_do_not_touch_each_other(hub_model: MusicGen) -> None:
    clips = noise_clips(3)
    texts = ["loud drums", None, "a calm slow piano piece with soft strings"]
    assert len(set(hub_model.condition_lengths(texts))) == 3
    together = extract(hub_model, clips, sites="resid, cross_heads", text=texts)
    for i, text in enumerate(texts):
        for site, frames in alone(hub_model, clips, i, text).items():
            if site.kind in ("resid", "cross_heads"):
                np.testing.assert_allclose(
                    features(together, site)[i], frames.mean(0), rtol=1e-4, atol=1e-5, err_msg=str(site)
                )


def test_a_store_is_what_memory_holds(tiny_lm_model: MusicGen, tmp_path: Path) -> None:
    clips = noise_clips()
    options: dict[str, Any] = {"sites": "L0.H1, L2.H3, resid", "pool": ALL_POOLS, "batch_size": 3}
    memory = extract(tiny_lm_model, clips, **options)
    disk = extract(tiny_lm_model, clips, out=tmp_path / "x.zarr", **options)
    assert set(disk.data_vars) == {"heads", "resid"}
    for kind in disk.data_vars:
        np.testing.assert_array_equal(disk[kind].values, memory[kind].values)
    assert disk.attrs == memory.attrs
    made_by = json.loads(disk.attrs["made_by"])
    assert made_by["model"] == {"name": tiny_lm_model.name, "fingerprint": tiny_lm_model.fingerprint}
    assert made_by["sites"]["heads"] == ["L0.H1", "L2.H3"]
    assert made_by["dtype"] == "float32"
    assert "torch" in made_by["versions"]
    for ds in (disk, memory):
        pd.testing.assert_frame_equal(labels(ds), clips.labels, check_dtype=False)


def test_features_and_stack(tiny_lm_model: MusicGen) -> None:
    ds = extract(tiny_lm_model, noise_clips(3), sites="all", pool="mean, last")
    x, sites = stack(ds, "heads", "last")
    assert x.shape == (12, 3, 8)
    assert [str(site) for site in sites[:5]] == ["L0.H0", "L0.H1", "L0.H2", "L0.H3", "L1.H0"]
    np.testing.assert_array_equal(x[5], features(ds, "L1.H1", "last"))
    x, sites = stack(ds, "L2.resid, embed, L0.mlp")
    assert [str(site) for site in sites] == ["embed", "L0.mlp", "L2.resid"]
    np.testing.assert_array_equal(x[2], features(ds, "L2.resid", "mean"))
    np.testing.assert_array_equal(x[2], features(ds, "L-1.resid"))  # the mean where it is among several, as in probes
    (heads, resid) = read_stacks(ds, "L2.resid, L0-1.H1,")
    assert (heads.kind, resid.kind) == ("heads", "resid") and heads.x.shape == (2, 3, 8)
    np.testing.assert_array_equal(resid.x[0], x[2])
    few = extract(tiny_lm_model, noise_clips(3), sites="L1.H2")
    for call, error, sentence in [
        (lambda: stack(ds, "heads, resid"), DataError, "different widths"),
        (lambda: stack(few, "resid"), SiteError, "no sites 'resid'"),
        (lambda: features(few, "L1.H3"), SiteError, "the dataset has no site L1.H3, only L1.H2"),
        (lambda: features(few, "L1.H2", "last"), DataError, "only by mean"),
        (lambda: features(ds, "L1.H*"), SiteError, "4 sites of the dataset: name one"),
    ]:
        with pytest.raises(error, match=sentence):
            call()


def test_precisions(tiny_lm_model: MusicGen, tmp_path: Path) -> None:
    clips = noise_clips(3)
    exact = extract(tiny_lm_model, clips).heads.values
    half = extract(tiny_lm_model, clips, dtype="float16", out=tmp_path / "half").heads
    assert half.dtype == np.float16
    np.testing.assert_array_equal(half, exact.astype(np.float16))
    brain = extract(tiny_lm_model, clips, dtype="bfloat16", out=tmp_path / "brain").heads
    np.testing.assert_array_equal(brain, torch.from_numpy(exact).bfloat16().float().numpy())
    assert json.loads(open_store(tmp_path / "brain").attrs["made_by"])["dtype"] == "bfloat16"
    with pytest.raises(DataError, match="cannot be kept as 'int8'"):
        extract(tiny_lm_model, clips, dtype="int8")


def test_codes_are_made_once(tiny_lm_model: MusicGen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips, encoded = noise_clips(3), []
    encode = MusicGen.encode
    monkeypatch.setattr(MusicGen, "encode", lambda self, *args: encoded.append(1) or encode(self, *args))
    first = extract(tiny_lm_model, clips, cache=tmp_path)
    assert len(encoded) == 3
    second = extract(tiny_lm_model, clips, sites="heads, resid", cache=tmp_path)
    assert len(encoded) == 3
    np.testing.assert_array_equal(first.heads, second.heads)
    cut = next(tmp_path.glob("*.npy"))
    cut.write_bytes(cut.read_bytes()[:20])  # cut short: made again
    np.testing.assert_array_equal(extract(tiny_lm_model, clips, cache=tmp_path).heads, first.heads)
    assert len(encoded) == 4
    known = [encode(tiny_lm_model, torch.from_numpy(clip.audio), 16000)[0] for clip in clips]
    np.testing.assert_array_equal(extract(tiny_lm_model, clips, codes=known.__getitem__).heads, first.heads)
    assert len(encoded) == 4


def test_no_pass_goes_further_than_it_must(tiny_lm_model: MusicGen) -> None:
    ran: list[int] = []
    handles = [
        tiny_lm_model.lm.transformer.layers[i].norm2.register_forward_hook(lambda *_, i=i: ran.append(i))
        for i in range(3)
    ]
    try:
        extract(tiny_lm_model, noise_clips(2), sites="L1.H0")
    finally:
        for handle in handles:
            handle.remove()
    assert ran == [0]  # layer 1 was left inside its attention


def test_mismatched_stores_name_both_sides(tiny_lm_model: MusicGen, hub_model: MusicGen, tmp_path: Path) -> None:
    clips = noise_clips(3)
    out = tmp_path / "x.zarr"
    extract(tiny_lm_model, clips, out=out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    for change, named in [
        ({"dtype": "float16"}, 'dtype = "float32", but this call has dtype = "float16"'),
        ({"model": hub_model}, f"{tiny_lm_model.fingerprint}.*{hub_model.fingerprint}"),
    ]:
        with pytest.raises(StoreError, match=named):
            extract(**{"model": tiny_lm_model, "clips": clips, "out": out, **change})
    # The batch size is no part of what a store is, and nothing is done twice.
    extract(tiny_lm_model, clips, out=out, batch_size=1)
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_places_that_hold_no_store(tiny_lm_model: MusicGen, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no store of activations"):
        open_store(tmp_path / "nothing")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match="not a store of activations: choose another place"):
        extract(tiny_lm_model, noise_clips(2), out=tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    extract(tiny_lm_model, noise_clips(2), out=tmp_path / "x")
    for name, content in [("index.json", "{}"), ("index.json", '{"sha256": "00", "index": {}}'), ("zarr.json", "{")]:
        good = (tmp_path / "x" / name).read_text()
        (tmp_path / "x" / name).write_text(content)
        for call in (
            lambda: open_store(tmp_path / "x"),
            lambda: extract(tiny_lm_model, noise_clips(2), out=tmp_path / "x"),
        ):
            with pytest.raises(StoreError, match=r"not a store of activations, or its .* is damaged"):
                call()
        (tmp_path / "x" / name).write_text(good)
    assert open_store(tmp_path / "x").sizes["clip"] == 2


def test_bad_input_gets_a_sentence(tiny_lm_model: MusicGen) -> None:
    clips = noise_clips(2)
    long = Clips.from_arrays([np.zeros((1, 31 * 16000))], 16000)
    named = Clips.from_arrays([np.ones((1, 9000))], 16000, {"heads": [1]})
    for arguments, error, sentence in [
        ({"sites": "L99.H3"}, SiteError, "layers 0 to 2"),
        ({"pool": "median"}, DataError, "cannot read 'median'"),
        ({"text": ["a"]}, DataError, "2 clips but 1 texts"),
        ({"batch_size": 0}, DataError, "at least 1"),
        ({"clips": long}, ClipError, r"lasts 31\.0 s, but .* hears at most 30 s.* long ones with clips\.windows\(30\)"),
        ({"clips": named}, DataError, "a label cannot be called 'heads'"),
        ({"pool": "window:9-10"}, ClipError, r"2 of 2 clips .*'clip-0' lasts 0.* the window 9-10 s holds no frame"),
    ]:
        with pytest.raises(error, match=sentence):
            extract(**{"model": tiny_lm_model, "clips": clips, **arguments})
    assert extract(tiny_lm_model, long.windows(10), batch_size=1).sizes["clip"] == 3


def test_a_model_with_prefix_positions_is_refused() -> None:
    """A melody model hears its prefix before the first frame: every site would be read at the wrong position."""
    musicgen = random_musicgen(2, 2, 16)
    musicgen.lm.fuser.fuse2cond = {"cross": [], "sum": [], "input_interpolate": [], "prepend": ["self_wav"]}
    with pytest.raises(ModelError, match="puts 'self_wav' before its music, as melody models do"):
        MusicGen(musicgen)


def test_nan_is_named_by_clip_and_site(tiny_lm_model: MusicGen, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = noise_clips(5)
    whole = _batch._pool_equal

    def spoil(value: float) -> Any:
        def run(*args: Any) -> Any:
            values, present = whole(*args)
            values["heads"][1, 0, 6, 3] = value
            return values, present

        return run

    for value, dtype, sentence in [
        (float("nan"), "float32", "at L1.H2 for the clip 'clip-1' is NaN or infinite"),
        (float("inf"), "bfloat16", "at L1.H2 for the clip 'clip-1' is NaN or infinite"),
        (1e6, "float16", "at L1.H2 for the clip 'clip-1' is too large for float16"),
    ]:
        monkeypatch.setattr(_batch, "_pool_equal", spoil(value))
        with pytest.raises(DataError, match=sentence):
            extract(tiny_lm_model, clips, dtype=dtype)


def test_a_clip_that_fails_loses_nothing(tiny_lm_model: MusicGen, tmp_path: Path) -> None:
    clips = noise_clips(6)
    folder = clips.to_folder(tmp_path / "clips")
    good = (folder / "clip-4.wav").read_bytes()
    broken = Clips.from_folder(folder)
    (folder / "clip-4.wav").write_bytes(b"broken")
    with pytest.raises(ClipError, match=r"1 of 6 clips cannot be used: 'clip-4\.wav' cannot read the audio file"):
        extract(tiny_lm_model, broken, out=tmp_path / "x", batch_size=2)
    assert not (tmp_path / "x").exists()  # refused before any work
    (folder / "clip-4.wav").write_bytes(good[:2000])
    with pytest.raises(ClipError, match=r"'clip-4\.wav' holds .* though its header says"):
        extract(tiny_lm_model, broken, out=tmp_path / "x", batch_size=2)
    (folder / "clip-4.wav").write_bytes(good[:-4000] + np.full(1000, np.nan, np.float32).tobytes())
    with pytest.raises(ClipError, match=r"clip-4\.wav.* NaN"):  # which only decoding can tell
        extract(tiny_lm_model, broken, out=tmp_path / "x", batch_size=2)
    with pytest.raises(StoreError, match="holds 4 of 6 clips: run the same extraction again"):
        open_store(tmp_path / "x")
    partial = open_store(tmp_path / "x", partial=True)
    assert list(partial["clip"].values) == [f"clip-{i}.wav" for i in range(4)]
    (folder / "clip-4.wav").write_bytes(good)
    whole = extract(tiny_lm_model, broken, out=tmp_path / "x", batch_size=2)
    np.testing.assert_allclose(whole.heads, extract(tiny_lm_model, clips).heads, rtol=1e-4, atol=1e-6)


def test_a_disk_that_is_too_small_is_seen_before_the_work(
    tiny_lm_model: MusicGen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = noise_clips(6)
    extract(tiny_lm_model, clips.subset(clips.ids[:2]), "L0.resid", out=tmp_path / "x.zarr", batch_size=2)
    free = shutil.disk_usage(tmp_path)._replace(free=2 * 2 * tiny_lm_model.shape.width * 4 - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    monkeypatch.setattr(type(tiny_lm_model), "forward", None)  # whatever is heard now breaks
    with pytest.raises(StoreError, match=r"will take .* GiB more, but .* GiB are free: make room"):
        extract(tiny_lm_model, clips, "L0.resid", out=tmp_path / "x.zarr", batch_size=2)
    monkeypatch.undo()
    assert extract(tiny_lm_model, clips, "L0.resid", out=tmp_path / "x.zarr", batch_size=2).sizes["clip"] == 6


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_refuses_gets_a_sentence(
    tiny_lm_model: MusicGen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    import zarr.storage._local as local

    put, written = local._put, []

    def refuse(path: Path, *args: Any, **kwargs: Any) -> Any:
        if "heads/c" in path.as_posix():
            written.append(path)
            if len(written) > 2:
                raise OSError(code, os.strerror(code))
        return put(path, *args, **kwargs)

    clips, out = noise_clips(6), tmp_path / "x"
    with monkeypatch.context() as patch:
        patch.setattr(local, "_put", refuse)
        sentence = "no space is left on the disk" if code == errno.ENOSPC else "cannot write"
        with pytest.raises(StoreError, match=f"{sentence}.*run the same command again; what is stored is kept"):
            extract(tiny_lm_model, clips, out=out, batch_size=2)
    assert open_store(out, partial=True).sizes["clip"] == 4
    np.testing.assert_array_equal(
        extract(tiny_lm_model, clips, out=out, batch_size=2).heads, extract(tiny_lm_model, clips, batch_size=2).heads
    )


def test_ctrl_c_gets_a_sentence_and_loses_nothing(
    tiny_lm_model: MusicGen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, calls = _batch.pool_forward, []

    def press(*args: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return whole(*args)

    monkeypatch.setattr(_extraction, "pool_forward", press)
    clips = noise_clips(6)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore Ctrl-C
    try:
        with pytest.raises(Interrupted, match="stopped by Ctrl-C: what is stored is kept") as caught:
            extract(tiny_lm_model, clips, out=tmp_path / "x", batch_size=2)
    finally:
        signal.signal(signal.SIGINT, before)
    assert isinstance(caught.value, InterpError) and isinstance(caught.value, KeyboardInterrupt)
    assert open_store(tmp_path / "x", partial=True).sizes["clip"] == 4
    extract(tiny_lm_model, clips, out=tmp_path / "x", batch_size=2)
    assert len(calls) == 4  # only the batch that was interrupted ran again


WORKERS = """
import os, sys, time
sys.path.insert(0, {tests!r})
from test_activations import noise_clips
from interp import _extraction
from interp.backends.build import random_musicgen
from interp.activations import extract
from interp.model import MusicGen

whole = _extraction.pool_forward

def work(log):
    def slow(model, codes, texts, sites, pooling, names):
        with open(log, "a") as file:
            file.write(names[0] + "\\n")
        time.sleep(0.5)
        return whole(model, codes, texts, sites, pooling, names)

    _extraction.pool_forward = slow
    extract(MusicGen(random_musicgen(3, 4, 32, seed=1)), noise_clips(24), out={out!r}, batch_size=2)

for log in {logs!r}:  # three processes for the price of one import
    child = os.fork()
    if child == 0:
        work(log)
        os._exit(0)
    print(child, flush=True)
print([os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(3)], flush=True)
"""


def batches(log: Path) -> list[str]:
    return log.read_text().split() if log.exists() else []


@pytest.mark.slow
def test_three_fill_a_store_and_one_is_killed(tiny_lm_model: MusicGen, tmp_path: Path) -> None:
    """kill -9 in the middle of a batch: the others do that batch again, and nothing else is done twice."""
    here, out, logs = Path(__file__).parent, tmp_path / "x", [tmp_path / f"log{i}" for i in range(3)]
    script = WORKERS.format(tests=str(here), out=str(out), logs=[str(log) for log in logs])
    command = [sys.executable, "-c", script]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=here.parent, start_new_session=True
    ) as workers:
        try:
            assert workers.stdout is not None
            first, *_ = (int(workers.stdout.readline()) for _ in range(3))
            while len(batches(logs[0])) < 2:  # its first batch is finished, it is inside the second
                assert workers.poll() is None
                time.sleep(0.02)
            os.kill(first, signal.SIGKILL)
            assert sorted(json.loads(workers.stdout.readline())) == [-signal.SIGKILL, 0, 0]
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(workers.pid, signal.SIGKILL)
    killed, *others = (batches(log) for log in logs)
    finished_by_killed = killed[:-1]
    assert finished_by_killed and all(others)
    once = sorted(finished_by_killed + others[0] + others[1], key=lambda name: int(name.split("-")[1]))
    assert once == [f"clip-{i}" for i in range(0, 24, 2)]
    expected = extract(tiny_lm_model, noise_clips(24), batch_size=2)
    np.testing.assert_array_equal(open_store(out).heads, expected.heads)


def test_the_names_are_exported() -> None:
    assert interp.extract is extract
    assert interp.open_store is open_store
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        interp.nothing  # noqa: B018
