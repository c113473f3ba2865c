"""Checkpoints in audiocraft's format, from a folder or the Hugging Face hub, read without running anything in
them.

A checkpoint is two files: ``state_dict.bin`` (the LM's weights and its settings as YAML) and
``compression_state_dict.bin`` (the codec, or the name of one). The text encoder comes from the hub by its own
name.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from interp.backends.audiocraft import (
    AudiocraftMusicGen,
    CompressionModel,
    builders,
    has_called_projection,
    lm_fingerprint,
)
from interp.errors import ModelError

__all__ = ["load_checkpoint"]

LM_FILE, CODEC_FILE = "state_dict.bin", "compression_state_dict.bin"
_TEXT_ENCODERS = "the text encoder"
_MELODY = {
    "chroma_stem": "a melody (as facebook/musicgen-melody is)",
    "style": "a style excerpt (as facebook/musicgen-style is)",
    "clap": "CLAP embeddings",
}


def load_checkpoint(
    name: str, device: torch.device, dtype: torch.dtype | None = None
) -> tuple[AudiocraftMusicGen, str]:
    """Load a MusicGen from a folder or by its hub name.

    Parameters
    ----------
    name : str
        Folder that holds the two files, or hub name.
    device : torch.device
        Where to.
    dtype : torch.dtype, optional
        Of the LM; by default float16 on a GPU and float32 elsewhere.

    Returns
    -------
    musicgen : audiocraft MusicGen
    fingerprint : str
        Of the LM's weights as they are on disk, whatever `device` and `dtype`.

    Raises
    ------
    ModelError
        If it is not there, cannot be read, or is of a kind that cannot be traced.
    """
    from omegaconf import OmegaConf

    lm_file, codec_file = _find(name, LM_FILE), _find(name, CODEC_FILE)
    package = _read(lm_file)
    settings, weights = package.get("xp.cfg"), package.get("best_state")
    if not isinstance(settings, str) or not isinstance(weights, Mapping):
        raise ModelError(
            f"{lm_file} is not an exported MusicGen (it needs 'best_state' and the settings 'xp.cfg' as text): export "
            "the training checkpoint with audiocraft.utils.export.export_lm."
        )
    try:
        cfg: Any = OmegaConf.create(settings)
        _refuse(name, cfg)
        cfg.device = device.type if device.index is None else str(device)
        cfg.dtype = str(dtype or (torch.float16 if device.type == "cuda" else torch.float32)).removeprefix("torch.")
        fingerprint = lm_fingerprint(weights, int(cfg.transformer_lm.num_heads))
        lm = _ask_hub(lambda: builders.get_lm_model(cfg), name, _text_encoder(cfg))
        lm.load_state_dict(weights)
        if dtype is not None:
            lm.to(
                dtype
            )  # all of it; audiocraft puts only the transformer into half precision and leaves it to autocast
        lm.cfg = cfg
        codec = _load_codec(name, codec_file, device)
        return AudiocraftMusicGen(name, codec, lm.eval()), fingerprint
    except (AttributeError, KeyError, TypeError, RuntimeError, AssertionError, ValueError) as error:
        reason = str(error).strip().split("\n")[0].rstrip(".:")
        raise ModelError(f"the settings and the weights in {lm_file} do not make a MusicGen ({reason}).") from error


def _load_codec(name: str, file: Path, device: torch.device) -> CompressionModel:
    package = _read(file)
    pretrained = package.get("pretrained")
    if pretrained is None:
        from omegaconf import OmegaConf

        cfg: Any = OmegaConf.create(package["xp.cfg"])
        cfg.device = str(device)
        codec = builders.get_compression_model(cfg)
        codec.load_state_dict(package["best_state"])
        return codec.eval()
    return _ask_hub(lambda: CompressionModel.get_pretrained(pretrained, device=device), name, pretrained)


def _refuse(name: str, cfg: Any) -> None:
    """One sentence for each kind of model that the toolkit cannot see into yet."""
    can = "use one that is conditioned on text alone, such as facebook/musicgen-small, -medium or -large"
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


def _find(name: str, filename: str) -> Path:
    """The file of a folder, or of a model on the hub (downloaded if need be)."""
    from huggingface_hub import errors, hf_hub_download

    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / filename).is_file():
            raise ModelError(f"the folder {folder} holds no {filename}: give a folder in audiocraft's format.")
        return folder / filename
    if folder.exists() or name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise ModelError(
            f"there is no model {name!r}: give 'tiny', a folder that holds {LM_FILE} and {CODEC_FILE}, or a hub name "
            "such as facebook/musicgen-small."
        )
    try:
        return Path(hf_hub_download(name, filename, cache_dir=os.environ.get("AUDIOCRAFT_CACHE_DIR")))
    except errors.LocalEntryNotFoundError as error:
        raise _not_here(name, f"{name} {LM_FILE} {CODEC_FILE}") from error
    except errors.EntryNotFoundError as error:
        raise ModelError(
            f"{name} on the hub holds no {filename}: only models in audiocraft's format can be loaded, such as "
            "facebook/musicgen-small."
        ) from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise ModelError(f"the hub has no model {name!r} that you may read: check the name.") from error
    except (errors.HfHubHTTPError, OSError) as error:
        raise _not_here(name, f"{name} {LM_FILE} {CODEC_FILE}") from error


def _ask_hub(build: Callable[[], Any], name: str, needs: str) -> Any:
    """Build a part that comes from the hub by its own name."""
    try:
        return build()
    except OSError as error:  # what transformers raises for all that is missing or cannot be reached
        raise _not_here(name, needs) from error


def _not_here(name: str, needs: str) -> ModelError:
    from huggingface_hub import constants

    missing = needs.split(" ")[0]
    what = f"{name} is" if missing == name else f"{name} needs {missing}, which is"
    return ModelError(
        f"{what} not on this machine, and the hub cannot be reached: where there is a network run `hf download "
        f"{needs}` and copy the result into {constants.HF_HUB_CACHE}."
    )


def _text_encoder(cfg: Any) -> str:
    names = [c.t5.name for key, c in cfg.conditioners.items() if key != "args" and c.model == "t5"]
    return str(names[0]) if names else _TEXT_ENCODERS


def _read(file: Path) -> dict[str, Any]:
    """Tensors and plain values of a file; nothing pickled is run."""
    try:
        package = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{file} holds Python objects besides weights, and those are never run: export the checkpoint with "
            "audiocraft.utils.export first."
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise ModelError(f"cannot read {file}, which may be cut short: fetch it again.") from error
    if not isinstance(package, dict):
        raise ModelError(f"{file} is not a checkpoint in audiocraft's format.")
    return package
