"""Parts of audiocraft's LM called on their own, on what a trace has read: the rest of a forward pass, the read-out of
logits, the weights of attention.

None of it is a second model: every part calls the LM's own modules in the order in which its layers call them, and
tests hold each to the nnsight pass that it continues or explains.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from interp.backends.audiocraft import ConditionTensors, LMModel, Visitor, frame_steps, hooked
from interp.errors import ModelError
from interp.sites import Place

__all__ = [
    "attention_of", "check_pre_norm", "frame_logits", "frame_positions", "logit_direction", "read_out", "rest_of_pass",
    "text_of",
]  # fmt: skip


def check_pre_norm(lm: LMModel) -> None:
    """Raise :class:`ModelError` unless every layer adds to the residual stream and normalises its own input only."""
    layers: Any = lm.transformer.layers
    if not layers[0].norm_first:
        raise ModelError(
            "this LM normalises its residual stream after every addition (norm_first=False), so that what a part adds "
            "cannot be followed to the end: use a model in the form of the released MusicGens."
        )


def text_of(lm: LMModel, conditions: ConditionTensors) -> Tensor | None:
    """What cross-attention reads, ``[rows, tokens, width]``; None without text."""
    if not conditions:
        return None
    rows = len(next(iter(conditions.values()))[0])
    weight = next(lm.transformer.parameters())
    text: Tensor | None = lm.fuser(weight.new_zeros(rows, 1, lm.dim), conditions)[1]
    return text


def rest_of_pass(
    lm: LMModel, x: Tensor, after: Place, text: Tensor | None, visit: Mapping[Place, Visitor] | None = None
) -> Tensor:
    """Run the LM on from a residual stream.

    Parameters
    ----------
    lm : LMModel
        With pre-norm layers, see :func:`check_pre_norm`.
    x : Tensor
        ``[rows, positions, width]``, the stream after `after` has been added to it.
    after : (kind, layer)
        ``embed``, ``attn``, ``cross``, ``mlp`` or ``resid``: what was added last.
    text : Tensor or None
        Of :func:`text_of`, for the same rows.
    visit : mapping of place to function, optional
        Visitors of places further on, called through plain hooks.

    Returns
    -------
    Tensor
        The stream after the last layer, ``[rows, positions, width]``.
    """
    kind, at = after
    layers: Any = lm.transformer.layers
    visitors = dict(visit or {})
    here = visitors.pop(("resid", at), None)  # the layer that is entered half way is not called as a whole
    with hooked(lm, visitors) if visitors else contextlib.nullcontext():
        if kind in ("attn", "cross"):
            layer = layers[at]
            if kind == "attn" and text is not None:
                x = x + layer.layer_scale_cross(layer._cross_attention_block(layer.norm_cross(x), text))
            x = x + layer.layer_scale_2(layer._ff_block(layer.norm2(x)))
        if here is not None:
            replacement = here(x)
            x = x if replacement is None else replacement
        for layer in layers[at + 1 :]:
            x = layer(x, cross_attention_src=text)
    return x


def frame_positions(lm: LMModel, n_frames: int, counted: range) -> list[Tensor]:
    """For every codebook the positions whose output predicts the counted frames, long ``[counted]`` each."""
    steps = [frame_steps(lm, n_frames, codebook)[counted.start : counted.stop] for codebook in range(lm.n_q)]
    return [step - 1 for step in steps]


def read_out(lm: LMModel, x: Tensor) -> Tensor:
    """Logits ``[rows, codebooks, positions, cardinality]`` of a residual stream: final norm and output heads."""
    x = lm.out_norm(x) if lm.out_norm else x
    return torch.stack([linear(x) for linear in lm.linears], 1)


def frame_logits(lm: LMModel, x: Tensor, positions: list[Tensor]) -> Tensor:
    """Logits of frames, float32 ``[rows, codebooks, frames, cardinality]``, of a residual stream after the last layer;
    `positions` are those of :func:`frame_positions`, and no other is computed."""
    x = lm.out_norm(x) if lm.out_norm else x
    linears: Any = lm.linears
    logits = [linear(x[:, at.to(x.device)]) for linear, at in zip(linears, positions, strict=True)]
    return torch.stack(logits, 1).float()


def logit_direction(
    lm: LMModel, x: Tensor, codebook: int, towards: Tensor, against: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The vector whose inner product with a residual stream is a difference of logits, the final norm held as it is.

    Parameters
    ----------
    lm : LMModel
    x : Tensor
        ``[rows, frames, width]``: the stream after the last layer, whose standard deviation the norm divides by.
    codebook : int
    towards, against : Tensor
        Codes, long ``[rows, frames]``; against the mean of all entries where `against` is None.

    Returns
    -------
    direction : Tensor
        Float32 ``[rows, frames, width]``. Linear in the stream once the standard deviation is fixed; the subtraction of
        the mean is part of it.
    constant : Tensor
        ``[rows, frames]``: what biases of the norm and of the output heads add.
    """
    linear: Any = lm.linears[codebook]
    weight = linear.weight.float()
    direction = weight[towards] - (weight.mean(0) if against is None else weight[against])
    constant = torch.zeros(direction.shape[:-1], device=x.device)
    if linear.bias is not None:
        constant += linear.bias[towards] - (linear.bias.mean() if against is None else linear.bias[against])
    norm: Any = lm.out_norm
    if norm:
        if norm.bias is not None:
            constant += direction @ norm.bias.float()
        scale = (x.float().var(-1, unbiased=False, keepdim=True) + norm.eps).rsqrt()
        direction = direction * norm.weight.float() * scale
        direction = direction - direction.mean(-1, keepdim=True)
    return direction, constant


def attention_of(lm: LMModel, place: Place, x: Tensor, text: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Attention weights of a layer, from the residual stream that enters its attention block.

    Parameters
    ----------
    lm : LMModel
    place : ("heads" or "cross_heads", layer)
        Self- or cross-attention.
    x : Tensor
        ``[rows, positions, width]``: the stream before the block.
    text : Tensor or None
        Of :func:`text_of`; keys of cross-attention.

    Returns
    -------
    weights : Tensor
        Float32 ``[rows, heads, positions, keys]``; rows sum to one over the keys that are visible.
    values : Tensor
        Float32 ``[rows, heads, keys, head_dim]``: ``weights @ values`` is what the heads put out.
    """
    kind, at = place
    layer: Any = lm.transformer.layers[at]
    module = layer.self_attn if kind == "heads" else layer.cross_attention
    query = layer.norm1(x) if kind == "heads" else layer.norm_cross(x)
    q, k, v = _projected(module, query, query if kind == "heads" else text)
    if module.rope is not None:
        q, k = module.rope.rotate_qk(q, k, start=0, time_dim=2)
    if module.kv_repeat > 1:
        k, v = (part.repeat_interleave(module.kv_repeat, dim=1) for part in (k, v))
    scores = q.float() @ k.float().transpose(-1, -2) / q.shape[-1] ** 0.5
    if module.causal:
        steps = torch.arange(x.shape[1], device=x.device)
        lag = steps[:, None] - steps
        hidden = lag < 0 if module.past_context is None else (lag < 0) | (lag > module.past_context)
        scores = scores.masked_fill(hidden, -torch.inf)
    return torch.softmax(scores, -1), v.float()


def _projected(module: Any, query: Tensor, key: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of a streaming attention module, each ``[rows, heads, positions, head_dim]``."""
    width, weight, bias = module.embed_dim, module.in_proj_weight, module.in_proj_bias
    sizes = [width, (len(weight) - width) // 2, (len(weight) - width) // 2]
    biases = [None] * 3 if bias is None else bias.split(sizes)
    inputs: Any = (query, key, key)
    q, k, v = (
        F.linear(part, matrix, shift) for part, matrix, shift in zip(inputs, weight.split(sizes), biases, strict=True)
    )
    if module.qk_layer_norm:
        q, k = module.q_layer_norm(q), module.k_layer_norm(k)
    dim = width // module.num_heads
    q, k, v = (part.view(*part.shape[:-1], -1, dim).transpose(1, 2) for part in (q, k, v))
    return q, k, v
