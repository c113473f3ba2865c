"""Checkpoints by hub name and from a folder: loaded offline, run end to end, and refused with a sentence."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
import warnings
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
        torch.save({"best_state": Bomb(trace), "xp.cfg": ""}, folder / file)
        with pytest.raises(ModelError, match=r"is not a checkpoint of audiocraft: .* are never run"):
            interp.load(folder, device="cpu")
        assert not trace.exists()
    pickle.loads(pickle.dumps(Bomb(tmp_path / "armed")))
    assert (tmp_path / "armed").exists()  # the bomb was live


def test_files_that_are_missing_cut_short_or_something_else(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"holds no state_dict\.bin and no checkpoint\.th"):
        interp.load(tmp_path)
    write_checkpoint(tmp_path)
    whole = (tmp_path / "state_dict.bin").read_bytes()
    (tmp_path / "state_dict.bin").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="may be cut short: fetch it again"):
        interp.load(tmp_path)
    torch.save({"weights": {}}, tmp_path / "state_dict.bin")
    with pytest.raises(ModelError, match="is not a checkpoint of audiocraft"):
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


def codec_file(folder: Path, n_codebooks: int = 4, cardinality: int = 2048) -> None:
    """Write a small EnCodec with its weights, as a codec that was trained and exported."""
    from audiocraft.models import builders
    from omegaconf import OmegaConf

    config = {
        "compression_model": "encodec",
        "device": "cpu",
        "encodec": {
            "autoencoder": "seanet",
            "quantizer": "rvq",
            "sample_rate": 16000,
            "channels": 1,
            "causal": False,
            "renormalize": False,
        },
        "seanet": {
            "dimension": 8,
            "n_filters": 2,
            "n_residual_layers": 1,
            "ratios": [10, 8, 4],
            "lstm": 0,
            "encoder": {},
            "decoder": {},
        },
        "rvq": {"n_q": n_codebooks, "bins": cardinality, "kmeans_init": False},
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        codec = builders.get_compression_model(OmegaConf.create(config))
    package = {"best_state": codec.state_dict(), "xp.cfg": OmegaConf.to_yaml(OmegaConf.create(config))}
    torch.save(package, folder / "compression_state_dict.bin")


def training_folder(folder: Path, hub: Path, **changes: Any) -> Path:
    """A run of audiocraft's trainer: its checkpoint with optimiser, metrics and an OmegaConf tree, all pickled."""
    from omegaconf import OmegaConf

    package = torch.load(hub / "state_dict.bin", weights_only=True)
    weights = package["best_state"]
    cfg = OmegaConf.create(OmegaConf.to_container(OmegaConf.create(package["xp.cfg"]), resolve=False))
    cfg.compression_model_checkpoint = "//pretrained/facebook/encodec_32khz"
    cfg.solver = {"name": "musicgen", "width": "${transformer_lm.dim}", "steps": [1, 2, None]}
    OmegaConf.set_struct(cfg, True)
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([parameter])
    parameter.sum().backward()
    optimizer.step()
    saved = {
        "best_state": {"model": weights},
        "fsdp_best_state": {},
        "xp.cfg": cfg,
        "optimizer": optimizer.state_dict(),
        "history": [{"train": {"ce": np.float64(3.0)}}],
        "folder": folder,
        "xp.sig": "0a1b2c3d",
    } | changes
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(saved, folder / "checkpoint.th")
    return folder


def test_a_training_run_is_the_model_that_its_export_is(hub: Path, hub_model: MusicGen, tmp_path: Path) -> None:
    folder = training_folder(tmp_path / "run", hub)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(folder / "checkpoint.th", weights_only=True)  # what torch's own safe loader refuses
    for name in (folder, folder / "checkpoint.th"):
        model = interp.load(name, device="cpu")
        assert model.fingerprint == hub_model.fingerprint
        assert model.codec_fingerprint == hub_model.codec_fingerprint
        tokens = model.sequence(torch.arange(24).view(1, 4, 6))[0]
        ours, theirs = (m.forward(tokens, text="loud drums").logits for m in (model, hub_model))
        assert torch.equal(ours, theirs)
    assert model.lm.cfg.solver.width == WIDTH and list(model.lm.cfg.solver.steps) == [1, 2, None]


def test_the_path_of_a_models_file_is_the_model(hub: Path, hub_model: MusicGen) -> None:
    assert interp.load(hub / "state_dict.bin", device="cpu").fingerprint == hub_model.fingerprint
    with pytest.raises(ModelError, match="give the folder"):
        interp.load(hub / "compression_state_dict.bin", device="cpu")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"best_state": {}}, "needs weights under 'best_state' .* after its first validation"),
        ({"best_state": {"model": {"a": 3}}}, "needs weights under 'best_state'"),
        ({"xp.cfg": np.float64(3.0)}, "do not make a MusicGen|settings under 'xp.cfg'|is not a MusicGen"),
    ],
)
def test_training_runs_that_hold_no_model(hub: Path, tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        interp.load(training_folder(tmp_path / "run", hub, **changes), device="cpu")


def test_a_training_run_whose_codec_is_elsewhere(hub: Path, tmp_path: Path) -> None:
    from omegaconf import OmegaConf

    settings = copy.deepcopy(SETTINGS) | {"compression_model_checkpoint": "//sig/abc123"}
    folder = training_folder(tmp_path / "run", hub, **{"xp.cfg": OmegaConf.create(settings)})
    with pytest.raises(
        ModelError,
        match=r"was //sig/abc123, which is not here: say .*codec=FILE.* or put it .* compression_state_dict\.bin",
    ):
        interp.load(folder, device="cpu")
    elsewhere = tmp_path / "codec"
    elsewhere.mkdir()
    codec_file(elsewhere)
    for codec in (elsewhere, elsewhere / "compression_state_dict.bin"):
        assert interp.load(folder, device="cpu", codec=codec).sample_rate == 16000
    assert interp.load(folder, device="cpu", codec="facebook/encodec_32khz").sample_rate == 32000
    for codec in ("nowhere", tmp_path):
        with pytest.raises(ModelError, match="there is no codec"):
            interp.load(folder, device="cpu", codec=codec)
    codec_file(folder)
    assert interp.load(folder, device="cpu").sample_rate == 16000


def test_the_lms_file_alone_needs_a_codec(hub: Path, hub_model: MusicGen, tmp_path: Path) -> None:
    file = shutil.copy(hub / "state_dict.bin", tmp_path / "finetuned.bin")
    with pytest.raises(ModelError, match=r"holds no compression_state_dict\.bin: put it there, or say where the codec"):
        interp.load(file, device="cpu")
    model = interp.load(file, device="cpu", codec="facebook/encodec_32khz")
    assert model.fingerprint == hub_model.fingerprint and model.codec_fingerprint == hub_model.codec_fingerprint
    with pytest.raises(ModelError, match="takes no other codec and no adapter"):
        interp.load("tiny", codec="facebook/encodec_32khz")


class Reached:
    """Unpickling it would call a function of this process with the arguments of the file."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> Any:
        return self.function, self.arguments


def test_a_training_run_runs_nothing(hub: Path, tmp_path: Path) -> None:
    """Objects of every kind in a checkpoint, the harmful among them, are stand-ins; its weights load all the same."""
    import builtins
    import operator
    import os

    trace = tmp_path / "ran"
    script = f"open({str(trace)!r}, 'w').close()"
    bombs = [
        Bomb(trace),
        Reached(os.system, f"touch {trace}"),
        Reached(builtins.eval, script),
        Reached(builtins.exec, script),
        Reached(operator.attrgetter("__class__"), 3),
        Reached(builtins.setattr, torch.Tensor, "harmed", True),
    ]
    for number, bomb in enumerate(bombs):
        folder = training_folder(tmp_path / str(number), hub, history=[bomb], **{f"{number}": bomb})
        assert interp.load(folder, device="cpu").shape.n_layers == LAYERS
        assert not trace.exists() and not hasattr(torch.Tensor, "harmed")
    compiled = tmp_path / "compiled"
    compiled.mkdir()
    with warnings.catch_warnings(action="ignore"):  # torch would have us compile it in another way
        torch.jit.script(torch.nn.Linear(2, 2)).save(str(compiled / "checkpoint.th"))
    with pytest.raises(ModelError, match="TorchScript program"):
        interp.load(compiled, device="cpu")
    (compiled / "checkpoint.th").write_bytes(pickle.dumps(Bomb(trace)))
    with pytest.raises(ModelError, match=r"torch 1\.6 or later|cannot read"):
        interp.load(compiled, device="cpu")
    assert not trace.exists()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ("a: [1, 2", r"settings \(xp\.cfg\) in .* cannot be read"),
        ("a: &b [*b]", r"settings \(xp\.cfg\) in .* cannot be read"),
        ("- 1\n- 2", "are a list"),
        ("nothing of the kind", "lack transformer_lm"),
        ("", "lack transformer_lm"),
        ("transformer_lm: 3\nlm_model: transformer_lm", "do not make a MusicGen"),
        ("{transformer_lm: {memory_efficient: true}, lm_model: transformer_lm}", "do not make a MusicGen"),
        ("{transformer_lm: '${nowhere}', lm_model: transformer_lm}", "do not make a MusicGen"),
    ],
)
def test_settings_that_cannot_be_read(hub: Path, tmp_path: Path, settings: str, sentence: str) -> None:
    folder = write_checkpoint(tmp_path)
    package = torch.load(folder / "state_dict.bin", weights_only=True)
    torch.save(package | {"xp.cfg": settings}, folder / "state_dict.bin")
    with pytest.raises(ModelError, match=sentence):
        interp.load(folder, device="cpu")


def test_a_codec_that_is_not_the_lms(hub: Path, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path)
    for n_codebooks, cardinality in ((8, 2048), (4, 1024)):
        codec_file(folder, n_codebooks, cardinality)
        with pytest.raises(
            ModelError, match=f"makes {n_codebooks} codebooks of {cardinality} codes, but .* on 4 of 2048"
        ):
            interp.load(folder, device="cpu")
    codec_file(folder)
    assert interp.load(folder, device="cpu").encode(torch.zeros(16000), 16000).shape == (1, 4, 50)
    package = torch.load(folder / "compression_state_dict.bin", weights_only=True)
    torch.save(package | {"xp.cfg": "compression_model: something"}, folder / "compression_state_dict.bin")
    with pytest.raises(ModelError, match="cannot be used with it"):
        interp.load(folder, device="cpu")


def test_a_model_without_text_works_and_refuses_a_text(hub: Path, tmp_path: Path) -> None:
    from interp.steering import Row, generate

    settings = changed(conditioners=None, fuser__cross=[])
    model = interp.load(write_checkpoint(tmp_path / "model", settings), device="cpu")
    assert not model.shape.cross_attention and "no text" in repr(model)
    rng = np.random.default_rng(0)
    clips = Clips.from_arrays([0.2 * rng.normal(size=(1, n)) for n in (16000, 24000)], 32000)
    ds = extract(model, clips, sites="all", progress=False)
    assert "cross" not in ds and np.isfinite(ds.resid.values).all()
    made = [generate(model, [Row(seed=1)], 0.2, engine=e, progress=False).codes for e in ("nnsight", "hooks", "fast")]  # type: ignore[arg-type]
    assert torch.equal(made[0], made[1]) and torch.equal(made[0], made[2])
    with model.trace(codes=made[0]):
        assert model.resid[2].shape[-1] == WIDTH
    for refused in (
        lambda: model.conditions("loud drums"),
        lambda: model.predict(made[0], "loud drums"),
        lambda: generate(model, [Row("loud drums")], 0.2, progress=False),
        lambda: extract(model, clips, text="loud drums", progress=False),
    ):
        with pytest.raises(ModelError, match="takes no text"):
            refused()
