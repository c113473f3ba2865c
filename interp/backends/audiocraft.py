"""The seam to audiocraft: the only module of the toolkit that imports it, and the only one that knows where in its
modules a site sits (:data:`PLACES`) and at which step a frame is heard.

Importing audiocraft makes xformers log that its CUDA extensions do not fit this torch. MusicGen's attention
runs on torch's own kernels and never needs them, and a user cannot act on the note: it is dropped here, and
nothing else is.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from interp.errors import ModelError
from interp.sites import HEAD_KINDS, Kind, ModelShape, Place

__all__ = [
    "PLACES",
    "AudiocraftMusicGen",
    "BaseConditioner",
    "CompressionModel",
    "ConditionFuser",
    "ConditionTensors",
    "ConditioningAttributes",
    "ConditioningProvider",
    "DelayedPatternProvider",
    "EncodecModel",
    "HFEncodecCompressionModel",
    "InterleaveStereoCompressionModel",
    "LMModel",
    "LUTConditioner",
    "QuantizedResult",
    "ResidualVectorQuantizer",
    "SEANetDecoder",
    "SEANetEncoder",
    "T5Conditioner",
    "TextConditioner",
    "TorchAutocast",
    "Visitor",
    "Where",
    "align_logits",
    "build_sequence",
    "builders",
    "check_traceable",
    "condition_tensors",
    "convert_audio",
    "first_position",
    "frame_steps",
    "has_called_projection",
    "hash_weights",
    "hooked",
    "join_heads",
    "layer_of",
    "lm_fingerprint",
    "model_shape",
    "output_projection",
    "revert_sequence",
    "set_precision",
    "sinusoids",
    "split_heads",
    "starting_at",
    "use_exact_positions",
]

ConditionTensors = dict[str, tuple[Tensor, Tensor]]
"""Conditions of a batch as audiocraft passes them: name -> (embedding ``[rows, tokens, width]``, mask)."""

Visitor = Callable[[Tensor], Tensor | None]
"""Called with the live tensor at a place; may change it in place or return a replacement (None: as it is)."""


@contextlib.contextmanager
def _without_extension_note() -> Iterator[None]:
    def keep(record: logging.LogRecord) -> bool:
        return "xFormers can't load C++/CUDA extensions" not in record.getMessage()

    logger = logging.getLogger("xformers")
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)


with _without_extension_note():
    from audiocraft.data.audio_utils import convert_audio
    from audiocraft.models import builders
    from audiocraft.models.encodec import (
        CompressionModel,
        EncodecModel,
        HFEncodecCompressionModel,
        InterleaveStereoCompressionModel,
    )
    from audiocraft.models.lm import LMModel
    from audiocraft.models.musicgen import MusicGen as AudiocraftMusicGen
    from audiocraft.modules.codebooks_patterns import DelayedPatternProvider
    from audiocraft.modules.conditioners import (
        BaseConditioner,
        ConditionFuser,
        ConditioningAttributes,
        ConditioningProvider,
        LUTConditioner,
        T5Conditioner,
        TextConditioner,
    )
    from audiocraft.modules.seanet import SEANetDecoder, SEANetEncoder
    from audiocraft.modules.transformer import StreamingTransformer, create_sin_embedding
    from audiocraft.quantization.base import QuantizedResult
    from audiocraft.quantization.vq import ResidualVectorQuantizer
    from audiocraft.utils.autocast import TorchAutocast


class Where(NamedTuple):
    """Where a kind of site sits: a module below ``transformer.layers[i]`` and the side of it that is meant."""

    module: str
    side: Literal["input", "output"]


PLACES: dict[Kind, Where] = {
    "embed": Where("", "input"),  # of layer 0
    "heads": Where("self_attn.out_proj", "input"),
    "attn": Where("layer_scale_1", "output"),  # the identity where the model has no layer scale
    "cross_heads": Where("cross_attention.out_proj", "input"),
    "cross": Where("layer_scale_cross", "output"),
    "mlp": Where("layer_scale_2", "output"),
    "resid": Where("", "output"),
}
"""Every kind of site, in the order in which a layer computes them. Attention goes through ``out_proj``, whose input
are the heads side by side."""


def layer_of(lm: Any, place: Place) -> tuple[Any, Where]:
    """The module of a place and its entry in :data:`PLACES`; `lm` is audiocraft's LM or nnsight's picture of it."""
    kind, layer = place
    where = PLACES[kind]
    module = lm.transformer.layers[max(layer, 0)]
    for name in filter(None, where.module.split(".")):
        module = getattr(module, name)
    return module, where


@contextlib.contextmanager
def hooked(lm: LMModel, visit: Mapping[Place, Visitor]) -> Iterator[None]:
    """Call visitors with the live tensors of their places through plain PyTorch hooks, until the block ends.

    Faster than a trace where the LM runs step by step, and tested equal to it. A visitor sees heads as
    ``[rows, positions, heads, head_dim]``, other places as ``[rows, positions, width]``.
    """
    handles: list[Any] = []

    def before(module: nn.Module, visitor: Visitor, kind: Kind) -> None:
        def hook(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
            replacement = visitor(split_heads(lm, kind, args[0]))
            return None if replacement is None else (join_heads(kind, replacement), *args[1:])

        handles.append(module.register_forward_pre_hook(hook))

    def after(module: nn.Module, visitor: Visitor) -> None:
        handles.append(module.register_forward_hook(lambda _, args, output: visitor(output)))

    try:
        for place, visitor in visit.items():
            module, where = layer_of(lm, place)
            if where.side == "input":
                before(module, visitor, place[0])
            else:
                after(module, visitor)
        yield
    finally:
        for handle in handles:
            handle.remove()


def split_heads(lm: Any, kind: Kind, value: Tensor) -> Tensor:
    """The live tensor of a place as it is shown: heads as a view ``[rows, positions, heads, head_dim]``."""
    if kind not in HEAD_KINDS:
        return value
    return value.view(*value.shape[:-1], lm.transformer.layers[0].self_attn.num_heads, -1)


def join_heads(kind: Kind, value: Tensor) -> Tensor:
    """The inverse of :func:`split_heads`."""
    return value.flatten(-2) if kind in HEAD_KINDS else value


def output_projection(lm: LMModel, place: Place) -> Tensor:
    """What takes all heads of a place, side by side, to what the block adds: float64 ``[width, width]``, with the layer
    scale if there is one."""
    kind, layer = place
    projection, _ = layer_of(lm, place)
    block, _ = layer_of(lm, ("cross" if kind == "cross_heads" else "attn", layer))
    weight: Tensor = projection.weight.detach().double()
    scale = getattr(block, "scale", None)
    return weight if scale is None else scale.detach().double()[:, None] * weight


class _ExactPositions(StreamingTransformer):
    """audiocraft's transformer with its sinusoidal positions computed in float32, whatever the dtype of activations.

    audiocraft computes them in that dtype. bfloat16 has 8 bits: of the 1,504 positions of half a minute of music 573
    are distinct, and the model hears its own past in the wrong order. In float32 nothing changes, to the bit.
    """

    first_position: int = 0

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        offsets = self._streaming_state.get("offsets", torch.zeros(1, dtype=torch.long, device=x.device))
        if self.positional_embedding in ("sin", "sin_rope"):
            positions = torch.arange(x.shape[1], device=x.device) + offsets[:, None] + self.first_position
            x = x + sinusoids(self, positions).to(x.dtype)
        apply: Any = self._apply_layer
        for layer in self.layers:
            x = apply(layer, x, *args, **kwargs)
        if self._is_streaming:
            self._streaming_state["offsets"] = (offsets + x.shape[1]).expand(len(x))
        return x


def sinusoids(transformer: Any, positions: Tensor) -> Tensor:
    """What a transformer adds to its input at positions ``[..., T]``: float32 ``[..., T, width]``."""
    width = transformer.layers[0].self_attn.embed_dim
    table: Tensor = create_sin_embedding(positions.reshape(1, -1, 1), width, transformer.max_period, torch.float32)
    return transformer.positional_scale * table.view(*positions.shape, width)


def use_exact_positions(lm: LMModel) -> None:
    """Let an LM compute its positions in float32, see :class:`_ExactPositions`."""
    if type(lm.transformer) is StreamingTransformer:
        lm.transformer.__class__ = _ExactPositions


@contextlib.contextmanager
def starting_at(lm: LMModel, position: int) -> Iterator[None]:
    """Let the music that an LM hears begin at a position, until the block ends."""
    transformer: Any = lm.transformer
    if not isinstance(transformer, _ExactPositions) or transformer.positional_embedding not in ("sin", "sin_rope"):
        if position:
            raise ModelError("this LM's positions are not sinusoidal: its music begins at second 0 alone.")
        yield
        return
    before, transformer.first_position = transformer.first_position, position
    try:
        yield
    finally:
        transformer.first_position = before


def first_position(lm: LMModel) -> int:
    """Where the music that an LM hears begins, see :func:`starting_at`."""
    return int(getattr(lm.transformer, "first_position", 0))


def model_shape(lm: LMModel) -> ModelShape:
    """Sizes of an LM that decide which sites exist."""
    layers: Any = lm.transformer.layers
    return ModelShape(
        n_layers=len(layers),
        n_heads=layers[0].self_attn.num_heads,
        width=lm.dim,
        cross_attention=layers[0].cross_attention is not None,
    )


def condition_tensors(lm: LMModel, texts: Sequence[str | None]) -> ConditionTensors:
    """Embed texts as generation does; ``None`` is the null text of classifier-free guidance.

    Cross-attention in audiocraft does not mask padding, so a text padded to the length of a longer neighbour is not
    quite the same condition: rows whose activations must not depend on their neighbours share a batch with texts of
    their own length only.
    """
    attributes = [
        ConditioningAttributes(text=dict.fromkeys(lm.condition_provider.text_conditions, text)) for text in texts
    ]
    with torch.no_grad():
        return dict(lm.condition_provider(lm.condition_provider.tokenize(attributes)))


def build_sequence(lm: LMModel, codes: Tensor) -> tuple[Tensor, Tensor]:
    """Arrange codes ``[B, K, T]`` by the LM's pattern: tokens ``[B, K, steps]`` and mask ``[K, steps]``."""
    pattern = lm.pattern_provider.get_pattern(codes.shape[-1])
    tokens, _, mask = pattern.build_pattern_sequence(codes.contiguous(), lm.special_token_id)
    return tokens, mask


def frame_steps(lm: LMModel, n_frames: int, codebook: int = 0) -> Tensor:
    """Step at which each frame's token of `codebook` enters the LM, long ``[n_frames]``."""
    pattern = lm.pattern_provider.get_pattern(n_frames)
    steps = torch.full((n_frames,), -1, dtype=torch.long)
    for step, coordinates in enumerate(pattern.layout):
        for at in coordinates:
            if at.q == codebook and at.t < n_frames:
                steps[at.t] = step
    return steps


def align_logits(lm: LMModel, logits: Tensor, n_frames: int) -> Tensor:
    """From positions to frames, ``[rows, K, positions, cardinality]`` to ``[rows, K, frames, cardinality]``.

    Entry t holds the logits from which frame t is drawn: one step before its token enters, codebook by codebook.
    """
    steps = [frame_steps(lm, n_frames, codebook).to(logits.device) - 1 for codebook in range(logits.shape[1])]
    return torch.stack([logits[:, codebook, at] for codebook, at in enumerate(steps)], 1)


def revert_sequence(lm: LMModel, sequence: Tensor, n_frames: int, unknown: int = -1) -> Tensor:
    """Codes ``[B, K, n_frames]`` of a sequence that :func:`build_sequence` arranged; `unknown` where it ends early."""
    pattern = lm.pattern_provider.get_pattern(n_frames)
    return torch.as_tensor(pattern.revert_pattern_sequence(sequence, special_token=unknown)[0][..., :n_frames])


def has_called_projection(custom: bool, memory_efficient: bool) -> bool:
    """Whether audiocraft runs attention itself, and so calls the output projection whose input are the heads."""
    return custom or memory_efficient


def check_traceable(lm: LMModel) -> None:
    """Raise :class:`ModelError` if an LM's heads cannot be read, or its positions are not those of its tokens."""
    prefix = list(lm.fuser.fuse2cond.get("prepend", []))
    if prefix:
        raise ModelError(
            f"this LM puts {' and '.join(map(repr, prefix))} before its music, as melody models do, so that its "
            "positions are not those of its frames: use a model that is conditioned by cross-attention alone."
        )
    attention: Any = lm.transformer.layers[0].self_attn
    if not has_called_projection(attention.custom, attention.memory_efficient):
        raise ModelError(
            "the heads of this LM cannot be read: its attention (torch's nn.MultiheadAttention) never calls its "
            "output projection; build it with memory_efficient=True, the weights stay as they are."
        )


def set_precision(musicgen: AudiocraftMusicGen) -> None:
    """Let a MusicGen generate under autocast if its weights are in half precision on a GPU, and plainly
    otherwise.

    audiocraft itself turns float16 autocast on for every GPU, also where float32 weights were asked for.
    """
    weight = next(musicgen.lm.transformer.parameters())
    half = weight.device.type == "cuda" and weight.dtype in (torch.float16, torch.bfloat16)
    musicgen.autocast = TorchAutocast(enabled=half, device_type=weight.device.type, dtype=weight.dtype)


def lm_fingerprint(weights: Mapping[str, Tensor], n_heads: int, *more: str) -> str:
    """Identity of an LM: its weights, whatever precision they are kept in, the number of heads, which no weight shows,
    and `more`.

    The released MusicGens are on the hub in float16 (audiocraft's format) and in float32 (transformers'), with the same
    values: half precision is read as the float32 that it stands for.
    """
    halves = (torch.float16, torch.bfloat16)
    values = {name: weight.float() if weight.dtype in halves else weight for name, weight in weights.items()}
    return hash_weights(values, f"{n_heads} heads", *more)


def hash_weights(state: Mapping[str, Tensor], *more: str) -> str:
    """Twelve hexadecimal digits of a state dict (names, shapes, dtypes and every byte) and of `more`."""
    digest = hashlib.sha256(json.dumps(more).encode())
    for key in sorted(state):
        tensor = state[key].detach().cpu().contiguous()
        digest.update(json.dumps([key, list(tensor.shape), str(tensor.dtype)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:12]
