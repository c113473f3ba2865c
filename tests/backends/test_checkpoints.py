"""Checkpoints by hub name and from a folder: loaded offline, run end to end, and refused with a sentence."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakehub import HEADS, LAYERS, SETTINGS, WIDTH, write_checkpoint

import interp
from interp.activations import extract, features, open_store
from interp.clips import Clips
from interp.errors import ModelError
from interp.model import MusicGen
from interp.sites import ModelShape


def changed(**changes: Any) -> dict[str, Any]:
    """The released settings with some values replaced, keys written with dots as double underscores."""
    settings = copy.deepcopy(SETTINGS)
    for path, value in changes.items():
        *parents, last = path.split("__")
        target = settings
        for parent in parents:
            target = target[parent]
        target[last] = value
    return settings


def test_a_hub_name_loads_with_the_hub_offline(hub_model: MusicGen) -> None:
    assert hub_model.name == "facebook/musicgen-small"
    assert hub_model.shape == ModelShape(LAYERS, HEADS, WIDTH)
    assert (hub_model.sample_rate, hub_model.frame_rate, hub_model.max_seconds) == (32000, 50.0, 30.0)
    assert (hub_model.n_codebooks, hub_model.cardinality) == (4, 2048)
    assert hub_model.condition_lengths([None, "", "loud drums"]) == [1, 1, 3]


def test_a_hub_model_hears_and_plays(hub_model: MusicGen, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    clips = Clips.from_arrays([0.2 * rng.normal(size=(2, n)) for n in (22050, 30000)], 44100, {"drums": [0, 1]})
    ds = extract(hub_model, clips, sites="all", pool="mean, last", out=tmp_path / "x.zarr")
    assert ds.heads.shape == (2, 2, LAYERS * HEADS, WIDTH // HEADS)
    assert np.isfinite(ds.heads.values).all()
    assert not np.allclose(features(ds, "L1.resid")[0], features(ds, "L1.resid")[1])
    assert json.loads(open_store(tmp_path / "x.zarr").attrs["made_by"])["model"]["fingerprint"] == hub_model.fingerprint
    # Continuation and text-to-music through audiocraft's own methods, traced model and all.
    musicgen = hub_model.audiocraft
    musicgen.set_generation_params(use_sampling=False, duration=0.6)
    audio = musicgen.generate_continuation(torch.from_numpy(clips[0].audio[:, :13230]), 44100, ["loud drums"])
    assert audio.shape == (1, 1, 19200)
    assert musicgen.generate(["calm piano", "loud drums"]).shape == (2, 1, 19200)


def test_a_folder_is_the_same_model_in_any_precision(hub: Path, hub_model: MusicGen, tmp_path: Path) -> None:
    folder = shutil.copytree(hub, tmp_path / "mine")
    model = interp.load(folder, device="cpu", dtype="bfloat16")
    assert model.dtype == torch.bfloat16
    assert model.fingerprint == hub_model.fingerprint
    assert model.name == str(folder)
    exact, rounded = (
        m.forward(m.sequence(torch.arange(24).view(1, 4, 6))[0], m.conditions(["loud drums"])).logits.float()
        for m in (hub_model, model)
    )
    assert 0 < (exact - rounded).abs().max() < 0.1 * exact.abs().max()
    write_checkpoint(tmp_path / "other", seed=1)
    assert interp.load(tmp_path / "other", device="cpu").fingerprint != hub_model.fingerprint


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            changed(conditioners__self_wav={"model": "chroma_stem", "chroma_stem": {"sample_rate": 32000}}),
            "conditioned on a melody .* cannot be traced yet: use one that is conditioned on text alone",
        ),
        (changed(conditioners__self_wav={"model": "style", "style": {}}), "conditioned on a style excerpt"),
        (changed(conditioners__genre={"model": "bert", "bert": {}}), r"conditioned on 'genre' \(a 'bert'\)"),
        (changed(fuser__cross=[], fuser__prepend=["description"]), "fuses its text other than by cross-attention"),
        (changed(lm_model="transformer_lm_magnet"), "not an autoregressive MusicGen"),
        (changed(transformer_lm__memory_efficient=False), "heads of .* cannot be read: .* memory_efficient: true"),
        (changed(conditioners__description__t5__name="t5-small"), "needs t5-small, which is not on this machine"),
    ],
)
def test_models_that_cannot_be_traced_get_a_sentence(
    hub: Path, tmp_path: Path, settings: dict[str, Any], sentence: str
) -> None:
    write_checkpoint(tmp_path, settings)
    with pytest.raises(ModelError, match=sentence):
        interp.load(tmp_path, device="cpu")


def test_weights_that_do_not_fit_their_settings(hub: Path, tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    package = torch.load(tmp_path / "state_dict.bin", weights_only=True)
    package["xp.cfg"] = package["xp.cfg"].replace("num_layers: 3", "num_layers: 4")
    torch.save(package, tmp_path / "state_dict.bin")
    with pytest.raises(ModelError, match="do not make a MusicGen"):
        interp.load(tmp_path, device="cpu")


class Bomb:
    """Unpickling it would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_nothing_pickled_is_ever_run(hub: Path, tmp_path: Path) -> None:
    for file in ("state_dict.bin", "compression_state_dict.bin"):
        folder = write_checkpoint(tmp_path / file)
        trace = tmp_path / f"ran-{file}"
        torch.save({"best_state": Bomb(trace), "xp.cfg": "", "pretrained": "x"}, folder / file)
        with pytest.raises(ModelError, match="never run: export the checkpoint"):
            interp.load(folder, device="cpu")
        assert not trace.exists()
    pickle.loads(pickle.dumps(Bomb(tmp_path / "armed")))
    assert (tmp_path / "armed").exists()  # the bomb was live


def test_files_that_are_missing_cut_short_or_something_else(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"holds no state_dict\.bin"):
        interp.load(tmp_path)
    write_checkpoint(tmp_path)
    whole = (tmp_path / "state_dict.bin").read_bytes()
    (tmp_path / "state_dict.bin").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="may be cut short: fetch it again"):
        interp.load(tmp_path)
    torch.save({"weights": {}}, tmp_path / "state_dict.bin")
    with pytest.raises(ModelError, match="is not an exported MusicGen"):
        interp.load(tmp_path)
    (tmp_path / "compression_state_dict.bin").unlink()
    with pytest.raises(ModelError, match=r"holds no compression_state_dict\.bin"):
        interp.load(tmp_path)


def test_a_model_that_is_not_here_says_how_to_get_it(hub: Path) -> None:
    with pytest.raises(
        ModelError, match=r"`hf download facebook/musicgen-large state_dict\.bin compression_state_dict\.bin`"
    ):
        interp.load("facebook/musicgen-large")
    for name in ("small", "a/b/c", "./nowhere/model"):
        with pytest.raises(ModelError, match="there is no model"):
            interp.load(name)


def test_a_stereo_model_has_eight_codebooks(hub: Path, tmp_path: Path) -> None:
    stereo = changed(
        interleave_stereo_codebooks={"use": True, "per_timestep": False},
        transformer_lm__n_q=8,
        codebooks_pattern__delay__delays=[0, 0, 1, 1, 2, 2, 3, 3],
    )
    model = interp.load(write_checkpoint(tmp_path, stereo), device="cpu")
    rng = np.random.default_rng(0)
    clips = Clips.from_arrays([0.2 * rng.normal(size=(2, 16000))], 32000)
    codes = model.encode(torch.from_numpy(clips[0].audio), 32000)
    assert codes.shape == (1, 8, 25)
    assert not torch.equal(codes[:, 0::2], codes[:, 1::2])  # left and right differ
    assert model.sequence(codes)[0].shape[-1] == 25 + 4
    assert model.decode(codes).shape == (1, 2, 16000)
    assert extract(model, clips, sites="L0.H0").heads.shape == (1, 1, 1, WIDTH // HEADS)
