"""The seam to audiocraft: the only module of the toolkit that imports it.

Importing audiocraft makes xformers log that its CUDA extensions do not fit this torch. MusicGen's attention
runs on torch's own kernels and never needs them, and a user cannot act on the note: it is dropped here, and
nothing else is.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from interp.errors import ModelError

__all__ = [
    "AudiocraftMusicGen",
    "BaseConditioner",
    "CompressionModel",
    "ConditionFuser",
    "ConditionTensors",
    "ConditioningAttributes",
    "ConditioningProvider",
    "DelayedPatternProvider",
    "EncodecModel",
    "LMModel",
    "LUTConditioner",
    "QuantizedResult",
    "ResidualVectorQuantizer",
    "SEANetDecoder",
    "SEANetEncoder",
    "TextConditioner",
    "build_lm",
    "build_sequence",
    "builders",
    "check_traceable",
    "condition_lengths",
    "condition_tensors",
    "convert_audio",
    "frame_steps",
    "has_called_projection",
    "hash_weights",
    "lm_fingerprint",
    "random_codec",
    "random_musicgen",
    "set_precision",
]

ConditionTensors = dict[str, tuple[Tensor, Tensor]]
"""Conditions of a batch as audiocraft passes them: name -> (embedding ``[rows, tokens, width]``, mask)."""


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
    from audiocraft.models.encodec import CompressionModel, EncodecModel
    from audiocraft.models.lm import LMModel
    from audiocraft.models.musicgen import MusicGen as AudiocraftMusicGen
    from audiocraft.modules.codebooks_patterns import DelayedPatternProvider
    from audiocraft.modules.conditioners import (
        BaseConditioner,
        ConditionFuser,
        ConditioningAttributes,
        ConditioningProvider,
        LUTConditioner,
        TextConditioner,
    )
    from audiocraft.modules.seanet import SEANetDecoder, SEANetEncoder
    from audiocraft.quantization.base import QuantizedResult
    from audiocraft.quantization.vq import ResidualVectorQuantizer
    from audiocraft.utils.autocast import TorchAutocast


_RELEASED: dict[str, Any] = {
    "causal": True,
    "cross_attention": True,
    "norm_first": True,
    "memory_efficient": True,
    "activation": "gelu",
    "hidden_scale": 4,
    "bias_ff": False,
    "bias_attn": False,
    "bias_proj": False,
    "weight_init": "gaussian",
    "depthwise_init": "current",
    "zero_bias_init": True,
}
"""What the released MusicGens set in ``transformer_lm``, besides sizes."""


def build_lm(
    conditioner: BaseConditioner,
    *,
    n_layers: int,
    n_heads: int,
    width: int,
    n_codebooks: int = 4,
    cardinality: int = 2048,
    delays: Sequence[int] | None = None,
    guidance: float = 3.0,
    guidance_dropout: float = 0.3,
    dropout: float = 0.0,
    two_step_guidance: bool = False,
    **transformer: Any,
) -> LMModel:
    """Build an audiocraft LM with the released MusicGen's settings and weights drawn from torch's global
    generator.

    Parameters
    ----------
    conditioner : audiocraft BaseConditioner
        Text conditioner, entered as ``description`` and fused by cross-attention; its output dimension is
        `width`.
    n_layers, n_heads, width, n_codebooks, cardinality : int
        Sizes.
    delays : sequence of int, optional
        Delay of each codebook in steps; 0, 1, 2, ... by default.
    guidance, guidance_dropout : float
        Classifier-free guidance: default coefficient, and the share of texts dropped in training.
    dropout : float
        Dropout of the transformer in training.
    two_step_guidance : bool
        Whether guidance runs conditional and unconditional rows in two calls.
    **transformer
        Overrides of the transformer's settings, for example ``memory_efficient=False``.

    Returns
    -------
    LMModel
        In training mode, as audiocraft builds it.
    """
    settings = _RELEASED | transformer
    fuser = ConditionFuser({"cross": ["description"], "prepend": [], "sum": [], "input_interpolate": []})
    return LMModel(
        DelayedPatternProvider(n_codebooks, list(delays) if delays is not None else None),
        ConditioningProvider({"description": conditioner}),
        fuser,
        n_q=n_codebooks,
        card=cardinality,
        dim=width,
        num_heads=n_heads,
        num_layers=n_layers,
        cfg_coef=guidance,
        cfg_dropout=guidance_dropout,
        dropout=dropout,
        two_step_cfg=two_step_guidance,
        **settings,
    )


def random_codec(
    n_codebooks: int = 4,
    cardinality: int = 32,
    sample_rate: int = 16000,
    frame_rate: int = 50,
    channels: int = 1,
) -> CompressionModel:
    """Build a tiny EnCodec with weights drawn from torch's global generator.

    It makes no sensible sound, but its codes depend on the audio, have the right shape and survive every call
    a real codec takes.
    """
    hop = sample_rate // frame_rate
    ratios = _factorise(hop)
    settings: dict[str, Any] = {
        "n_filters": 2,
        "n_residual_layers": 1,
        "dimension": 8,
        "ratios": ratios,
        "channels": channels,
        "lstm": 0,
    }
    quantizer = ResidualVectorQuantizer(dimension=8, n_q=n_codebooks, bins=cardinality, kmeans_init=False)
    codec = EncodecModel(
        SEANetEncoder(**settings),
        SEANetDecoder(**settings),
        quantizer,
        frame_rate=frame_rate,
        sample_rate=sample_rate,
        channels=channels,
    )
    # The quantiser's uniform initial code vectors are far smaller than what a random encoder puts out, so
    # that one code would win everywhere: draw them from the encoder's outputs instead, level by level.
    with torch.no_grad():
        residual = codec.encoder(torch.randn(4, channels, sample_rate))
        residual = residual.transpose(1, 2).reshape(-1, 8)
        levels: Any = quantizer.vq.layers
        for level in levels:
            picked = residual[torch.randint(len(residual), (cardinality,))]
            level._codebook.embed.copy_(picked)
            nearest = torch.cdist(residual, picked).argmin(1)
            residual = residual - picked[nearest]
    return codec.eval()


def _factorise(hop: int) -> list[int]:
    ratios: list[int] = []
    for factor in (10, 8, 5, 4, 3, 2):
        while hop % factor == 0 and hop > 1:
            ratios.append(factor)
            hop //= factor
    if hop != 1:
        ratios.append(hop)
    return ratios


def random_musicgen(
    n_layers: int = 2,
    n_heads: int = 2,
    width: int = 16,
    seed: int = 0,
    *,
    n_codebooks: int = 4,
    cardinality: int = 32,
    sample_rate: int = 16000,
    frame_rate: int = 50,
    max_seconds: float = 30.0,
    n_texts: int = 64,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    **transformer: Any,
) -> AudiocraftMusicGen:
    """Build a MusicGen of any size with random weights: audiocraft's own classes, no file and no network.

    Parameters
    ----------
    n_layers, n_heads, width : int
        Sizes of the LM; musicgen-small has 24, 16 and 1024.
    seed : int
        Same seed, same weights. torch's global generator is left as it was.
    n_codebooks, cardinality : int
        Codebooks and entries of each; musicgen has 4 of 2048.
    sample_rate, frame_rate : int
        Of the codec, in Hz and frames per second.
    max_seconds : float
        Longest window the model hears.
    n_texts : int
        Size of the table of text embeddings; any text is hashed into it.
    device, dtype
        Where the weights are put.
    **transformer
        Overrides of the transformer's settings, see :func:`build_lm`.

    Returns
    -------
    audiocraft MusicGen
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        conditioner = LUTConditioner(n_bins=n_texts, dim=width, output_dim=width, tokenizer="noop")
        lm = build_lm(
            conditioner,
            n_layers=n_layers,
            n_heads=n_heads,
            width=width,
            n_codebooks=n_codebooks,
            cardinality=cardinality,
            **transformer,
        )
        codec = random_codec(n_codebooks, cardinality, sample_rate, frame_rate)
    lm = lm.to(device=device, dtype=dtype)
    lm.condition_provider.device = str(device)
    name = f"random-{n_layers}x{n_heads}x{width}-{seed}"
    return AudiocraftMusicGen(name, codec.to(device), lm.eval(), max_duration=max_seconds)


def condition_tensors(lm: LMModel, texts: Sequence[str | None]) -> ConditionTensors:
    """Embed texts as generation does; ``None`` is the null text of classifier-free guidance."""
    attributes = [
        ConditioningAttributes(text=dict.fromkeys(lm.condition_provider.text_conditions, text)) for text in texts
    ]
    with torch.no_grad():
        return dict(lm.condition_provider(lm.condition_provider.tokenize(attributes)))


def condition_lengths(lm: LMModel, texts: Sequence[str | None]) -> list[int]:
    """Length in tokens of each text on its own, at least 1 (a null text is one zero vector).

    Cross-attention in audiocraft does not mask padding, so a text padded to the length of a longer neighbour
    is not quite the same condition: rows whose activations must not depend on their neighbours share a batch
    with texts of their own length only.
    """
    lengths: dict[str | None, int] = {}
    for text in texts:
        if text not in lengths:
            embeddings = condition_tensors(lm, [text]).values()
            lengths[text] = max((embedding.shape[1] for embedding, _ in embeddings), default=1)
    return [lengths[text] for text in texts]


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


def lm_fingerprint(weights: Mapping[str, Tensor], n_heads: int) -> str:
    """Identity of an LM: its weights, and the number of heads, which no weight shows."""
    return hash_weights(weights, f"{n_heads} heads")


def hash_weights(state: Mapping[str, Tensor], *more: str) -> str:
    """Twelve hexadecimal digits of a state dict (names, shapes, dtypes and every byte) and of `more`."""
    digest = hashlib.sha256(json.dumps(more).encode())
    for key in sorted(state):
        tensor = state[key].detach().cpu().contiguous()
        digest.update(json.dumps([key, list(tensor.shape), str(tensor.dtype)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:12]
