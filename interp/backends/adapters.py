"""LoRA adapters in PEFT's format (``adapter_config.json``, ``adapter_model.safetensors``), merged into weights.

``W + scale * B @ A``, in float32. Names are those of transformers' MusicGen, whatever the format of the base.
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from interp.backends.hub import is_hub_name, snapshot
from interp.errors import ModelError

__all__ = ["Adapter", "merge", "read_adapter"]

SETTINGS, WEIGHTS = "adapter_config.json", "adapter_model"
_UNLIKE_LORA = (
    "use_dora", "use_qalora", "layer_replication", "target_parameters", "trainable_token_indices", "megatron_config",
    "alora_invocation_tokens", "lora_bias", "arrow_config", "use_bdlora", "kasa_config", "monteclora_config",
)  # fmt: skip
"""Settings that make of an adapter more than two factors a matrix."""
_KEEPS_BASE = (True, False, None, "gaussian", "eva", "orthogonal")
"""Initialisations that leave the base as it is; after others (PiSSA, OLoRA, ...) an adapter fits a changed base."""


@dataclass(frozen=True)
class Adapter:
    """An adapter that was read.

    Attributes
    ----------
    name : str
        Folder or hub name.
    base : str
        Name of the model it was trained on, as its settings have it; may be empty.
    factors : dict of str to (Tensor, Tensor, float)
        Name of a weight -> A ``[rank, in]``, B ``[out, rank]``, scale.
    replaced : dict of str to Tensor
        Weights that were trained whole (``modules_to_save``, biases).
    """

    name: str
    base: str
    factors: dict[str, tuple[Tensor, Tensor, float]] = field(default_factory=dict)
    replaced: dict[str, Tensor] = field(default_factory=dict)


def read_adapter(name: str | Path) -> Adapter:
    """Read a LoRA adapter.

    Parameters
    ----------
    name : str or Path
        Folder that PEFT's ``save_pretrained`` wrote, or hub name.

    Raises
    ------
    ModelError
        If it is not there, cannot be read, or is no plain LoRA.
    """
    folder = Path(name).expanduser()
    if not folder.is_dir():
        if not is_hub_name(str(name)):
            raise ModelError(f"there is no adapter {str(name)!r}: give the folder that holds its {SETTINGS}.")
        folder = snapshot(str(name), str(name))
    settings = _settings(folder)
    adapter = Adapter(str(name), str(settings.get("base_model_name_or_path") or ""))
    halves: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for key, tensor in _tensors(folder).items():
        path = re.fullmatch(r"base_model\.model\.(.+?)\.(lora_(?:embedding_)?[AB])(?:\.weight)?", key)
        if path is not None:
            halves[path[1]][path[2]] = tensor.float()
        elif key.startswith("base_model.model.") and ".lora_" not in key:
            adapter.replaced[key.removeprefix("base_model.model.").replace(".base_layer.", ".")] = tensor
        else:
            raise ModelError(f"the adapter {name} holds {key}, which is no part of a LoRA: only those can be merged.")
    for module, parts in halves.items():
        adapter.factors[f"{module}.weight"] = _factors(str(name), module, parts, settings)
    if not adapter.factors and not adapter.replaced:
        raise ModelError(f"the adapter {name} changes nothing: its file holds no tensor.")
    return adapter


def merge(adapter: Adapter, weights: Mapping[str, Tensor], base: str) -> dict[str, Tensor]:
    """Add an adapter to the weights of a model.

    Parameters
    ----------
    adapter : Adapter
    weights : mapping of str to Tensor
        Under transformers' names.
    base : str
        What the model was loaded as.

    Returns
    -------
    dict of str to Tensor
        All weights; those that change are new, in float32.

    Raises
    ------
    ModelError
        If the adapter was trained on another model.

    Examples
    --------
    >>> adapter = Adapter("mine", "", {"fc1.weight": (torch.ones(1, 2), torch.ones(3, 1), 0.5)})
    >>> merge(adapter, {"fc1.weight": torch.ones(3, 2)}, "small")["fc1.weight"].unique()
    tensor([1.5000])
    """
    _check_base(adapter, base)
    merged = dict(weights)
    for name, tensor in adapter.replaced.items():
        _check_shape(adapter, name, _target(adapter, name, merged, base), tensor, base)
        merged[name] = tensor.float()
    for name, (a, b, scale) in adapter.factors.items():
        old, change = _target(adapter, name, merged, base), scale * (b @ a)
        _check_shape(adapter, name, old, change, base)
        merged[name] = old.float() + change
    return merged


def _check_base(adapter: Adapter, base: str) -> None:
    """Two names on the hub can be compared; what a folder holds shows in names and shapes of its weights."""
    loaded = base.removeprefix("hf:")
    if is_hub_name(adapter.base) and is_hub_name(loaded) and adapter.base != loaded:
        raise ModelError(
            f"the adapter {adapter.name} was trained on {adapter.base}, not on {loaded}: "
            f"interp.load({adapter.base!r}, adapter={adapter.name!r})."
        )


def _target(adapter: Adapter, name: str, weights: Mapping[str, Tensor], base: str) -> Tensor:
    if name in weights:
        return weights[name]
    trained = f" (it was trained on {adapter.base})" if adapter.base else ""
    if name.startswith(("text_encoder.", "audio_encoder.")):
        raise ModelError(
            f"the adapter {adapter.name} changes {name}, which a checkpoint in audiocraft's format does not hold: load "
            "the base in transformers' format (hf:NAME, or its folder)."
        )
    raise ModelError(f"the adapter {adapter.name} changes {name}, which {base} does not have{trained}: load its base.")


def _check_shape(adapter: Adapter, name: str, old: Tensor, new: Tensor, base: str) -> None:
    if old.shape != new.shape:
        trained = f"; it was trained on {adapter.base}" if adapter.base else ""
        raise ModelError(
            f"the adapter {adapter.name} does not fit {base}: {name} is {list(old.shape)} there and {list(new.shape)} "
            f"in the adapter{trained}: load its base."
        )


def _settings(folder: Path) -> dict[str, Any]:
    file = folder / SETTINGS
    try:
        settings = json.loads(file.read_text())
    except FileNotFoundError:
        raise ModelError(f"the folder {folder} holds no {SETTINGS}: give the folder of a LoRA adapter.") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {file}, which may be cut short: fetch it again.") from error
    kind = settings.get("peft_type") if isinstance(settings, dict) else None
    if kind != "LORA":
        raise ModelError(f"{file} is of a {kind} adapter: only LoRA can be merged into the weights here.")
    for name in _UNLIKE_LORA:
        if settings.get(name):
            raise ModelError(f"{file} has {name}, which is more than LoRA: merge it with PEFT and load the result.")
    if settings.get("init_lora_weights") not in _KEEPS_BASE:
        raise ModelError(
            f"{file} began from {settings['init_lora_weights']}, which changes the base as well: convert it with "
            "PEFT's save_pretrained(..., path_initial_model_for_weight_conversion=...), or merge it with PEFT."
        )
    return settings


def _tensors(folder: Path) -> dict[str, Tensor]:
    safe, pickled = (folder / f"{WEIGHTS}{suffix}" for suffix in (".safetensors", ".bin"))
    file = safe if safe.is_file() else pickled
    if not file.is_file():
        raise ModelError(f"the folder {folder} holds no {safe.name}: give the folder of a LoRA adapter.")
    try:
        if file is safe:
            from safetensors.torch import load_file

            return dict(load_file(file))
        return dict(torch.load(file, map_location="cpu", weights_only=True))
    except Exception as error:  # safetensors has an exception of its own, torch several
        raise ModelError(f"cannot read {file}, which may be cut short: fetch it again.") from error


def _factors(
    name: str, module: str, parts: dict[str, Tensor], settings: dict[str, Any]
) -> tuple[Tensor, Tensor, float]:
    """A and B as those of a matrix, and their scale; an embedding's table is the transpose of one."""
    table = "lora_embedding_A" in parts
    a, b = (parts.get(f"lora_{'embedding_' if table else ''}{half}") for half in "AB")
    if a is None or b is None or a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1]:
        raise ModelError(f"the adapter {name} has no two matching factors for {module}: fetch it again.")
    rank = a.shape[0]
    alpha = float(_by_pattern(settings.get("alpha_pattern") or {}, module, settings.get("lora_alpha", 8)))
    scale = alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)
    return (b.T, a.T, scale) if table else (a, b, scale)


def _by_pattern(patterns: Mapping[str, Any], module: str, default: Any) -> Any:
    """The value of the first pattern that a module's path ends with, as PEFT matches them."""
    matches = (value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", module))
    return next(matches, default)
