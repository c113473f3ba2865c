"""MusicGens of any size with random weights: audiocraft's own classes, no file and no network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from interp.backends.audiocraft import (
    AudiocraftMusicGen,
    BaseConditioner,
    CompressionModel,
    ConditionFuser,
    ConditioningProvider,
    DelayedPatternProvider,
    EncodecModel,
    LMModel,
    LUTConditioner,
    ResidualVectorQuantizer,
    SEANetDecoder,
    SEANetEncoder,
)

__all__ = ["build_lm", "random_codec", "random_musicgen", "released_codec"]

_RELEASED: dict[str, Any] = {
    "causal": True,
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
    conditioner: BaseConditioner | None,
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
    conditioner : audiocraft BaseConditioner or None
        Text conditioner, entered as ``description`` and fused by cross-attention; its output dimension is
        `width`. None builds an unconditional LM, without cross-attention.
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
    settings = _RELEASED | {"cross_attention": conditioner is not None} | transformer
    conditioners = {} if conditioner is None else {"description": conditioner}
    fuser = ConditionFuser({"cross": list(conditioners), "prepend": [], "sum": [], "input_interpolate": []})
    return LMModel(
        DelayedPatternProvider(n_codebooks, list(delays) if delays is not None else None),
        ConditioningProvider(conditioners),
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


def released_codec(n_codebooks: int = 4, cardinality: int = 2048, channels: int = 1) -> CompressionModel:
    """An untrained EnCodec of the sizes of ``facebook/encodec_32khz``, which the released MusicGens hear through: for
    measuring how long encoding takes and how much memory it needs, where the weights are not at hand."""
    settings: dict[str, Any] = {
        "n_filters": 64,
        "n_residual_layers": 1,
        "dimension": 128,
        "ratios": [8, 5, 4, 4],
        "channels": channels,
        "lstm": 2,
    }
    return EncodecModel(
        SEANetEncoder(**settings),
        SEANetDecoder(**settings),
        ResidualVectorQuantizer(dimension=128, n_q=n_codebooks, bins=cardinality, kmeans_init=False),
        frame_rate=50,
        sample_rate=32000,
        channels=channels,
    ).eval()


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
        Size of the table of text embeddings; any text is hashed into it. 0 builds a model that takes no text.
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
        conditioner = None
        if n_texts:
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
