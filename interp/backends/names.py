"""Weights of MusicGen's LM under audiocraft's names and under transformers', and from one to the other without a loss.

The two libraries compute the same. audiocraft keeps query, key and value of an attention in one tensor, transformers
in three; all else is a matter of names. transformers' are those of ``MusicgenForConditionalGeneration``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from interp.errors import ModelError

__all__ = ["from_transformers", "to_transformers"]

_LAYER, _LAYER_THERE = "transformer.layers.#.", "decoder.model.decoder.layers.#."
_NORMS = {"norm1": "self_attn_layer_norm", "norm_cross": "encoder_attn_layer_norm", "norm2": "final_layer_norm"}
_NAMES: dict[str, str] = {
    "emb.#.weight": "decoder.model.decoder.embed_tokens.#.weight",
    "linears.#.weight": "decoder.lm_heads.#.weight",
    **{f"out_norm.{part}": f"decoder.model.decoder.layer_norm.{part}" for part in ("weight", "bias")},
    **{
        f"condition_provider.conditioners.description.output_proj.{part}": f"enc_to_dec_proj.{part}"
        for part in ("weight", "bias")
    },
    **{
        f"{_LAYER}{ours}.{part}": f"{_LAYER_THERE}{theirs}.{part}"
        for ours, theirs in _NORMS.items()
        for part in ("weight", "bias")
    },
    f"{_LAYER}self_attn.out_proj.weight": f"{_LAYER_THERE}self_attn.out_proj.weight",
    f"{_LAYER}cross_attention.out_proj.weight": f"{_LAYER_THERE}encoder_attn.out_proj.weight",
    f"{_LAYER}linear1.weight": f"{_LAYER_THERE}fc1.weight",
    f"{_LAYER}linear2.weight": f"{_LAYER_THERE}fc2.weight",
}
"""audiocraft's name -> transformers' name; # is the number of a layer or of a codebook."""
_JOINED: dict[str, tuple[str, ...]] = {
    f"{_LAYER}{ours}.in_proj_weight": tuple(f"{_LAYER_THERE}{theirs}.{part}_proj.weight" for part in "qkv")
    for ours, theirs in {"self_attn": "self_attn", "cross_attention": "encoder_attn"}.items()
}
"""audiocraft's name -> the three of transformers that are one below the other in it."""
_BACK = {theirs: ours for ours, theirs in _NAMES.items()}
_PARTS = {theirs: ours for ours, parts in _JOINED.items() for theirs in parts}


def to_transformers(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """audiocraft's tensors under transformers' names.

    Parameters
    ----------
    weights : mapping of str to Tensor
        State dict of an audiocraft LM that is conditioned on one text, without a text encoder.

    Returns
    -------
    dict of str to Tensor
        Views of the same memory.

    Raises
    ------
    ModelError
        If there is a tensor for which transformers' MusicGen has no place.

    Examples
    --------
    >>> list(to_transformers({"emb.3.weight": torch.zeros(33, 8)}))
    ['decoder.model.decoder.embed_tokens.3.weight']
    >>> parts = to_transformers({"transformer.layers.0.self_attn.in_proj_weight": torch.ones(24, 8)})
    >>> [list(part.shape) for part in parts.values()]
    [[8, 8], [8, 8], [8, 8]]
    """
    result: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        form, number = _form(name)
        if form in _JOINED:
            result |= zip((part.replace("#", number) for part in _JOINED[form]), tensor.chunk(3), strict=True)
        else:
            result[_renamed(form, number, _NAMES, "transformers' MusicGen")] = tensor
    return result


def from_transformers(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """transformers' tensors under audiocraft's names: the inverse of :func:`to_transformers`.

    Parameters
    ----------
    weights : mapping of str to Tensor
        ``decoder.*`` and ``enc_to_dec_proj.*`` of a ``MusicgenForConditionalGeneration``.

    Returns
    -------
    dict of str to Tensor

    Raises
    ------
    ModelError
        If there is a tensor for which audiocraft's MusicGen has no place, or one of query, key and value lacks.

    Examples
    --------
    >>> lm = {"transformer.layers.0.cross_attention.in_proj_weight": torch.randn(24, 8)}
    >>> back = from_transformers(to_transformers(lm))
    >>> list(back) == list(lm) and all(torch.equal(back[name], lm[name]) for name in lm)
    True
    """
    result: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        form, number = _form(name)
        if form not in _PARTS:
            result[_renamed(form, number, _BACK, "audiocraft's MusicGen")] = tensor
            continue
        whole = _PARTS[form].replace("#", number)
        parts = [part.replace("#", number) for part in _JOINED[_PARTS[form]]]
        if whole not in result:
            _check_all(parts, weights)
            result[whole] = torch.cat([weights[part] for part in parts])
    return result


def _check_all(parts: Iterable[str], weights: Mapping[str, Tensor]) -> None:
    missing = [part for part in parts if part not in weights]
    if missing:
        raise ModelError(f"the checkpoint lacks {missing[0]}: fetch it again.")


def _form(name: str) -> tuple[str, str]:
    """A name with # for its number, and the number."""
    number = re.search(r"(?<=\.)\d+(?=\.)", name)
    return (name, "") if number is None else (f"{name[: number.start()]}#{name[number.end() :]}", number[0])


def _renamed(form: str, number: str, names: Mapping[str, str], whose: str) -> str:
    if form not in names:
        raise ModelError(f"{whose} has no place for {form.replace('#', number)}: the checkpoint is of another kind.")
    return names[form].replace("#", number)
