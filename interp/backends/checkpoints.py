"""Checkpoints of every format, from a folder or the Hugging Face hub, read without running anything in them.

In audiocraft's format a released model is two files: ``state_dict.bin`` (the LM's weights and its settings as YAML) and
``compression_state_dict.bin`` (the codec, or the name of one). A folder of audiocraft's trainer holds ``checkpoint.th``
instead, whose settings name the codec. The text encoder comes from the hub by its own name. transformers' format is
read by :mod:`interp.backends.transformers`.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from interp.backends import names, transformers
from interp.backends.adapters import Adapter, merge, read_adapter
from interp.backends.audiocraft import (
    AudiocraftMusicGen,
    CompressionModel,
    builders,
    has_called_projection,
    lm_fingerprint,
)
from interp.backends.devices import codec_device
from interp.backends.hub import ask_hub, download, is_hub_name, snapshot
from interp.backends.inert import Inert, plain, read_inert, refuse_program
from interp.errors import ModelError

__all__ = ["Loaded", "load_checkpoint"]

LM_FILE, CODEC_FILE, TRAINING_FILE = "state_dict.bin", "compression_state_dict.bin", "checkpoint.th"
_TEXT_ENCODERS = "the text encoder"
_MELODY = {
    "chroma_stem": "a melody (as facebook/musicgen-melody is)",
    "style": "a style excerpt (as facebook/musicgen-style is)",
    "clap": "CLAP embeddings",
}


class Loaded(NamedTuple):
    """What was loaded.

    Attributes
    ----------
    musicgen : audiocraft MusicGen
    fingerprint : str
        Of the LM's weights as they are on disk (with the adapter), whatever device, dtype and format.
    form : str
        Whose format it was in: ``audiocraft`` or ``transformers``.
    """

    musicgen: AudiocraftMusicGen
    fingerprint: str
    form: str


def load_checkpoint(
    name: str,
    device: torch.device,
    dtype: torch.dtype | None = None,
    codec: str | Path | None = None,
    adapter: str | Path | None = None,
) -> Loaded:
    """Load a MusicGen from files or by its hub name.

    Parameters
    ----------
    name : str
        Folder of a released model, of audiocraft's trainer or of transformers' ``save_pretrained``, the LM's file, or
        hub name; ``hf:`` before it asks for transformers' format where there are both.
    device : torch.device
        Where to.
    dtype : torch.dtype, optional
        Of the LM; by default float16 on a CUDA GPU and float32 elsewhere.
    codec : str or Path, optional
        File or folder of the codec's checkpoint, or its hub name, for an LM in audiocraft's format that comes without.
    adapter : str or Path, optional
        Folder or hub name of a LoRA adapter, merged into the weights.

    Returns
    -------
    Loaded

    Raises
    ------
    ModelError
        If it is not there, cannot be read, is of a kind that cannot be traced, or its parts do not fit.
    """
    change = None if adapter is None else read_adapter(adapter)
    lm_file = None if name.startswith("hf:") else _lm_file(name)
    if lm_file is not None:
        form = "audiocraft"
        musicgen, fingerprint = _load_audiocraft(name, lm_file, device, dtype, codec, change)
    else:
        if codec is not None:
            raise ModelError(f"{name} is in transformers' format and brings its own codec: leave codec= out.")
        folder, form = _transformers_folder(name), "transformers"
        musicgen, fingerprint = transformers.load(name, folder, device, dtype, change)
    _check_codec(name, musicgen)
    return Loaded(musicgen, fingerprint, form)


def _load_audiocraft(
    name: str,
    lm_file: Path,
    device: torch.device,
    dtype: torch.dtype | None,
    codec_source: str | Path | None,
    adapter: Adapter | None,
) -> tuple[AudiocraftMusicGen, str]:
    codec_file = _codec_file(name, lm_file, codec_source)
    weights, settings = _parts(_read(lm_file), lm_file)
    cfg = _settings(settings, lm_file)
    try:
        _refuse(name, cfg)
        cfg.device = device.type if device.index is None else str(device)
        cfg.dtype = str(dtype or (torch.float16 if device.type == "cuda" else torch.float32)).removeprefix("torch.")
        if adapter is not None:
            weights = names.from_transformers(merge(adapter, names.to_transformers(weights), name))
        fingerprint = lm_fingerprint(weights, int(cfg.transformer_lm.num_heads))
        lm = ask_hub(lambda: builders.get_lm_model(cfg), name, _text_encoder(cfg))
        lm.load_state_dict(weights)
        if dtype is not None:
            # all of it; audiocraft puts only the transformer into half precision and leaves it to autocast
            lm.to(dtype)
        lm.cfg = cfg
    except _MALFORMED as error:
        reason = _reason(error)
        raise ModelError(f"the settings and the weights in {lm_file} do not make a MusicGen ({reason}).") from error
    try:
        codec = _load_codec(name, codec_file, cfg, codec_device(device))
        return AudiocraftMusicGen(name, codec, lm.eval()), fingerprint
    except _MALFORMED as error:
        raise ModelError(f"the codec of {name} cannot be used with it ({_reason(error)}).") from error


def _malformed() -> tuple[type[Exception], ...]:
    """What audiocraft's builders raise at settings that are not what they expect."""
    from omegaconf.errors import OmegaConfBaseException

    lookup = (AttributeError, KeyError, IndexError, ImportError)
    return (*lookup, TypeError, RuntimeError, AssertionError, ValueError, OmegaConfBaseException)


_MALFORMED = _malformed()


def _reason(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".:") or type(error).__name__


def _parts(package: Mapping[str, Any], file: Path) -> tuple[Mapping[str, Tensor], Any]:
    """Weights (``best_state``) and settings (``xp.cfg``, YAML or a tree) of a released or a training checkpoint."""
    weights: Any = package.get("fsdp_best_state") or package.get("best_state")
    if isinstance(weights, Mapping) and isinstance(weights.get("model"), Mapping):
        weights = weights["model"]
    settings = package.get("xp.cfg")
    if isinstance(settings, Inert):
        settings = plain(settings)
    tensors = isinstance(weights, Mapping) and all(isinstance(value, Tensor) for value in weights.values())
    if not tensors or not weights or not isinstance(settings, str | dict):
        raise ModelError(
            f"{file} is not a checkpoint of audiocraft: it needs weights under 'best_state' (a training run has them "
            "after its first validation) and settings under 'xp.cfg'; other objects in it are never run."
        )
    return weights, settings


def _settings(settings: Any, file: Path) -> Any:
    """The settings of a checkpoint as an OmegaConf tree that can be added to."""
    from omegaconf import DictConfig, OmegaConf
    from yaml import YAMLError

    try:
        cfg = OmegaConf.create(settings)
    except (*_MALFORMED, YAMLError, RecursionError) as error:
        raise ModelError(f"the settings (xp.cfg) in {file} cannot be read ({_reason(error)}).") from error
    if not isinstance(cfg, DictConfig):
        raise ModelError(f"the settings (xp.cfg) in {file} are a list, not settings by name.")
    OmegaConf.set_struct(cfg, False)
    return cfg


def _load_codec(name: str, file: Path | str | None, cfg: Any, device: torch.device) -> CompressionModel:
    """The codec of a file, of a hub name, or the one that a training run's settings name."""
    if isinstance(file, str):
        pretrained: Any = file
    elif file is None:
        source = str(cfg.get("compression_model_checkpoint") or "nothing")
        if not source.startswith("//pretrained/"):
            raise ModelError(
                f"the codec of {name} was {source}, which is not here: say where it is, interp.load(..., codec=FILE), "
                f"or put it beside the checkpoint as {CODEC_FILE}."
            )
        pretrained = source.removeprefix("//pretrained/")
    else:
        package = _read(file)
        pretrained = package.get("pretrained")
        if pretrained is None:
            weights, tree = _parts(package, file)
            settings = _settings(tree, file)
            settings.device = str(device)
            codec = builders.get_compression_model(settings)
            codec.load_state_dict(weights)
            return codec.eval()
    if not isinstance(pretrained, str):
        raise ModelError(f"{file} names no codec that is known: fetch it again.")
    return ask_hub(lambda: CompressionModel.get_pretrained(pretrained, device=device), name, pretrained)


def _check_codec(name: str, musicgen: AudiocraftMusicGen) -> None:
    """The LM must predict the codes that the codec makes."""
    codec, lm = musicgen.compression_model, musicgen.lm
    has = (int(codec.num_codebooks), int(codec.cardinality))
    wants = (int(lm.n_q), int(lm.card))
    if has != wants:
        raise ModelError(
            f"the codec of {name} makes {has[0]} codebooks of {has[1]} codes, but its LM was trained on {wants[0]} of "
            f"{wants[1]}: give it the codec it was trained with ({CODEC_FILE})."
        )


def _refuse(name: str, cfg: Any) -> None:
    """One sentence for each kind of model that the toolkit cannot see into yet."""
    can = "use one that is conditioned on text alone, such as facebook/musicgen-small, -medium or -large"
    if "transformer_lm" not in cfg:
        raise ModelError(f"{name} is not a MusicGen: its settings (xp.cfg) lack transformer_lm.")
    if cfg.get("lm_model") != "transformer_lm":
        raise ModelError(f"{name} is a {cfg.get('lm_model')!r}, not an autoregressive MusicGen: {can}.")
    for conditioner, settings in (cfg.get("conditioners") or {}).items():
        if conditioner == "args":
            continue
        kind = settings.get("model")
        if kind not in ("t5", "lut"):
            what = _MELODY.get(kind, f"{conditioner!r} (a {kind!r})")
            raise ModelError(f"{name} is conditioned on {what}, which cannot be traced yet: {can}.")
        if conditioner not in (cfg.fuser.get("cross") or []):
            raise ModelError(f"{name} fuses its text other than by cross-attention, which cannot be traced yet: {can}.")
    stereo = cfg.get("interleave_stereo_codebooks")
    if stereo and stereo.get("use") and stereo.get("per_timestep"):
        raise ModelError(f"{name} interleaves its channels in time, which cannot be traced yet: {can}.")
    transformer = cfg.transformer_lm
    if not has_called_projection(bool(transformer.get("custom")), bool(transformer.get("memory_efficient"))):
        raise ModelError(
            f"the heads of {name} cannot be read: its attention (torch's nn.MultiheadAttention) never calls its output "
            "projection; set memory_efficient: true in the transformer_lm part of its settings, the weights stay as "
            "they are."
        )


def _lm_file(name: str) -> Path | None:
    """The LM's file in audiocraft's format; None if the model is there in transformers' alone."""
    path = Path(name).expanduser()
    if path.is_file():
        if path.name == CODEC_FILE or path.suffix in (".safetensors", ".json"):
            raise ModelError(f"{path} is a part of a model: give the folder {path.parent}.")
        return path
    if path.is_dir():
        for file in (path / LM_FILE, path / TRAINING_FILE):
            if file.is_file():
                return file
        if transformers.holds_checkpoint(path):
            return None
        raise ModelError(
            f"the folder {path} holds no {LM_FILE} and no {TRAINING_FILE} (audiocraft's formats), and no "
            f"{transformers.CONFIG} (transformers'): give the folder of a MusicGen."
        )
    if not is_hub_name(name):
        raise ModelError(
            f"there is no model {name!r}: give 'tiny', a folder that holds {LM_FILE} and {CODEC_FILE} or what "
            "transformers' save_pretrained wrote, or a hub name such as facebook/musicgen-small."
        )
    try:
        return _download(name, LM_FILE)
    except ModelError:
        try:
            download(name, transformers.CONFIG, name)
        except ModelError:
            pass
        else:
            return None
        raise


def _transformers_folder(name: str) -> Path:
    where = name.removeprefix("hf:")
    path = Path(where).expanduser()
    if path.is_dir():
        return path
    if not is_hub_name(where):
        raise ModelError(f"there is no model {name!r}: after hf: comes a hub name or a folder in transformers' format.")
    return snapshot(where, where)


def _codec_file(name: str, lm_file: Path, source: str | Path | None) -> Path | str | None:
    """The codec's file, or its hub name; None where the LM's settings name the codec."""
    if source is not None:
        path = Path(source).expanduser()
        for file in (path, path / CODEC_FILE, path / TRAINING_FILE):
            if file.is_file():
                return file
        if path.is_dir() or not is_hub_name(str(source)):
            raise ModelError(f"there is no codec {str(source)!r}: give its file, its folder or its hub name.")
        return str(source)
    if is_hub_name(name):
        return _download(name, CODEC_FILE)
    beside = lm_file.with_name(CODEC_FILE)
    if beside.is_file():
        return beside
    if lm_file.suffix == ".bin":
        raise ModelError(
            f"the folder {lm_file.parent} holds no {CODEC_FILE}: put it there, or say where the codec is, "
            "interp.load(..., codec='facebook/encodec_32khz')."
        )
    return None


def _download(name: str, filename: str) -> Path:
    cache = os.environ.get("AUDIOCRAFT_CACHE_DIR")
    return download(name, filename, f"{name} {LM_FILE} {CODEC_FILE}", cache)


def _text_encoder(cfg: Any) -> str:
    conditioners = cfg.get("conditioners") or {}
    names = [c.t5.name for key, c in conditioners.items() if key != "args" and c.model == "t5"]
    return str(names[0]) if names else _TEXT_ENCODERS


def _read(file: Path) -> dict[str, Any]:
    """Tensors and plain values of a file; nothing pickled is run."""
    refuse_program(file)
    try:
        package = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        return read_inert(file)  # a training checkpoint, or worse: stand-ins for all that is not a tensor
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise ModelError(f"cannot read {file}, which may be cut short: fetch it again.") from error
    if not isinstance(package, dict):
        raise ModelError(f"{file} is not a checkpoint in audiocraft's format.")
    return package
