"""The same model before it learnt anything: one architecture, weights drawn anew."""

from __future__ import annotations

import copy
import math
from collections import OrderedDict
from typing import Any

import torch
from torch import nn

from interp.backends.audiocraft import AudiocraftMusicGen
from interp.errors import ModelError

__all__ = ["untrained"]

_NNSIGHT = ("forward", "__nnsight__")
"""What nnsight puts on a module; a copy must not carry it, or it would report to the first model's trace."""


def untrained(musicgen: AudiocraftMusicGen, name: str, seed: int = 0) -> AudiocraftMusicGen:
    """A MusicGen of the same architecture whose LM has random weights; the codec is shared.

    The weights are drawn as audiocraft draws them before training (its own initialisation, with the checkpoint's
    settings where it has them); a frozen text encoder (T5), which training never touched, is shared too.

    Parameters
    ----------
    musicgen : audiocraft MusicGen
        The trained one.
    name : str
        What to call the new one.
    seed : int
        Same seed, same weights. torch's global generator is left as it was.

    Raises
    ------
    ModelError
        If a weight of the model is of a kind that cannot be drawn anew: a half-trained copy is no baseline.
    """
    lm = _copied(musicgen.lm, {})
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        _draw(lm, name)
    lm = lm.to(device=next(musicgen.lm.parameters()).device)
    return type(musicgen)(name, musicgen.compression_model, lm, max_duration=musicgen.max_duration)


def _copied(module: Any, done: dict[int, Any]) -> Any:
    """Modules and weights copied, everything else shared, without hooks or what nnsight left."""
    if id(module) in done:
        return done[id(module)]
    new = done[id(module)] = copy.copy(module)
    state = new.__dict__
    for name in _NNSIGHT:
        state.pop(name, None)
    for name in [name for name in state if name.endswith("_hooks") and isinstance(state[name], dict)]:
        state[name] = OrderedDict()
    if "_streaming_state" in state:
        state["_streaming_state"] = {}
    # on the CPU, where a seed means the same on every machine
    state["_parameters"] = {
        name: None if p is None else nn.Parameter(p.detach().to("cpu", copy=True), requires_grad=False)
        for name, p in module._parameters.items()
    }
    state["_buffers"] = {name: None if b is None else b.detach().clone() for name, b in module._buffers.items()}
    state["_modules"] = {
        name: None if child is None else _copied(child, done) for name, child in module._modules.items()
    }
    return new


def _draw(lm: Any, name: str) -> None:
    """Initialise as audiocraft does when it builds a model."""
    drawn: set[int] = set()
    for module in lm.modules():
        own = dict(module.named_parameters(recurse=False))
        if not own:
            continue
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()
        elif "in_proj_weight" in own:  # audiocraft's attention keeps the weights of a linear layer it threw away
            nn.init.kaiming_uniform_(own["in_proj_weight"], a=math.sqrt(5))
            if own.get("in_proj_bias") is not None:
                bound = 1 / math.sqrt(own["in_proj_weight"].shape[1])
                nn.init.uniform_(own["in_proj_bias"], -bound, bound)
            own = {k: p for k, p in own.items() if k.startswith("in_proj")}
        else:
            continue
        drawn.update(id(p) for p in own.values())
    left = [path for path, p in lm.named_parameters() if id(p) not in drawn]
    if left:
        raise ModelError(f"{name} cannot be made: it is not known how {left[0]} was initialised.")
    cfg: Any = getattr(lm, "cfg", None)
    settings: Any = {} if cfg is None else cfg.get("transformer_lm", {})
    lm._init_weights(
        settings.get("weight_init", "gaussian"),
        settings.get("depthwise_init", "current"),
        settings.get("zero_bias_init", True),
    )
