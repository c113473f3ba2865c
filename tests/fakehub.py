"""A hub cache with small random models in the exact layout of the real ones.

``facebook/musicgen-small`` (``state_dict.bin`` with ``best_state`` and the released settings, and
``compression_state_dict.bin`` that points to ``facebook/encodec_32khz``), ``facebook/encodec_32khz`` and
``t5-base`` (one layer, width 768 as the settings demand, and a sentencepiece model trained here). With the
hub offline, everything that loads the real models by name loads these instead. :func:`write_transformers` puts the same
weights in transformers' format beside them, as the real repositories have both::

    write_hub(Path(os.environ["HF_HOME"]) / "hub")
    interp.load("facebook/musicgen-small")
"""

from __future__ import annotations

import copy
import io
import random
from pathlib import Path
from typing import Any

import torch

__all__ = ["SETTINGS", "write_checkpoint", "write_hub", "write_transformers"]

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WIDTH, LAYERS, HEADS = 64, 3, 4
WORDS = [
    "a",
    "calm",
    "slow",
    "piano",
    "piece",
    "with",
    "soft",
    "strings",
    "and",
    "no",
    "drums",
    "energetic",
    "rock",
    "song",
    "loud",
    "bass",
    "guitar",
    "jazz",
]

SETTINGS: dict[str, Any] = {
    "device": "cuda",
    "dtype": "float32",
    "autocast": True,
    "autocast_dtype": "float16",
    "seed": 2036,
    "show": False,
    "continue_from": None,
    "execute_only": None,
    "execute_inplace": False,
    "benchmark_no_load": False,
    "efficient_attention_backend": "torch",
    "num_threads": 1,
    "mp_start_method": "forkserver",
    "label": None,
    "solver": "musicgen",
    "sample_rate": 32000,
    "channels": 1,
    "compression_model_checkpoint": "//pretrained/facebook/encodec_32khz",
    "compression_model_n_q": None,
    "interleave_stereo_codebooks": {"use": False, "per_timestep": False},
    "lm_model": "transformer_lm",
    "dataset": {"batch_size": 192, "num_workers": 10, "segment_duration": 30, "channels": 1, "sample_rate": 32000},
    "generate": {
        "every": 25,
        "lm": {"use_sampling": True, "temp": 1.0, "top_k": 250, "top_p": 0.0, "prompted_samples": True},
    },
    "optim": {"epochs": 500, "updates_per_epoch": 2000, "optimizer": "dadam", "lr": 1, "max_norm": 1.0},
    "fsdp": {"use": True, "param_dtype": "float16"},
    "tokens": {"padding_with_special_token": False},
    "cache": {"path": None, "write": False},
    "codebooks_pattern": {
        "modeling": "delay",
        "delay": {"delays": [0, 1, 2, 3], "flatten_first": 0, "empty_initial": 0},
        "unroll": {"flattening": [0, 1, 2, 3], "delays": [0, 0, 0, 0]},
        "music_lm": {"group_by": 2},
        "coarse_first": {"delays": [0, 0, 0]},
    },
    "transformer_lm": {
        "dim": WIDTH,
        "num_heads": HEADS,
        "num_layers": LAYERS,
        "hidden_scale": 4,
        "n_q": 4,
        "card": 2048,
        "dropout": 0.0,
        "emb_lr": None,
        "activation": "gelu",
        "norm_first": True,
        "bias_ff": False,
        "bias_attn": False,
        "bias_proj": False,
        "past_context": None,
        "causal": True,
        "custom": False,
        "memory_efficient": True,
        "attention_as_float32": False,
        "layer_scale": None,
        "positional_embedding": "sin",
        "xpos": False,
        "checkpointing": "none",
        "weight_init": "gaussian",
        "depthwise_init": "current",
        "zero_bias_init": True,
        "norm": "layer_norm",
        "cross_attention": False,
        "qk_layer_norm": False,
        "qk_layer_norm_cross": False,
        "attention_dropout": None,
        "kv_repeat": 1,
        "two_step_cfg": False,
    },
    "classifier_free_guidance": {"training_dropout": 0.3, "inference_coef": 3.0},
    "attribute_dropout": {"args": {"active_on_eval": False}, "text": {}, "wav": {}},
    "conditioners": {
        "description": {
            "model": "t5",
            "t5": {"name": "t5-base", "finetune": False, "word_dropout": 0.3, "normalize_text": False},
        },
        "args": {"merge_text_conditions_p": 0.25, "drop_desc_p": 0.5},
    },
    "fuser": {
        "cross_attention_pos_emb": False,
        "cross_attention_pos_emb_scale": 1,
        "sum": [],
        "prepend": [],
        "cross": ["description"],
        "input_interpolate": [],
    },
}
"""What a released MusicGen's ``xp.cfg`` says (the parts that matter to others left out), with small sizes."""


def write_hub(cache: Path) -> Path:
    """Fill a hub cache with the three models; return the folder of ``facebook/musicgen-small`` in it."""
    write_t5(_repository(cache, "t5-base"))
    write_encodec(_repository(cache, "facebook/encodec_32khz"))
    return write_checkpoint(_repository(cache, "facebook/musicgen-small"))


def write_checkpoint(folder: Path, settings: dict[str, Any] | None = None, seed: int = 0) -> Path:
    """Write the two files of a MusicGen checkpoint with random weights.

    The LM is built without its text encoder: a released state dict does not hold one either.
    """
    from omegaconf import OmegaConf

    from interp.backends.audiocraft import LUTConditioner
    from interp.backends.build import build_lm

    settings = SETTINGS if settings is None else settings
    sizes = settings["transformer_lm"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        text = None
        if settings["conditioners"]:
            text = LUTConditioner(n_bins=1, dim=768, output_dim=sizes["dim"], tokenizer="noop")
        lm = build_lm(
            text,
            n_layers=sizes["num_layers"],
            n_heads=sizes["num_heads"],
            width=sizes["dim"],
            n_codebooks=sizes["n_q"],
            cardinality=sizes["card"],
            memory_efficient=sizes["memory_efficient"],
        )
    weights = {key: value for key, value in lm.state_dict().items() if not key.endswith("description.embed.weight")}
    folder.mkdir(parents=True, exist_ok=True)
    config = OmegaConf.to_yaml(OmegaConf.create(copy.deepcopy(settings)))
    package = {"best_state": weights, "xp.cfg": config, "version": "1.0.0", "exported": True}
    torch.save(package, folder / "state_dict.bin")
    codec = {"pretrained": "facebook/encodec_32khz", "exported": True, "version": "1.0.0"}
    torch.save(codec, folder / "compression_state_dict.bin")
    return folder


def write_transformers(folder: Path, weights: dict[str, torch.Tensor], cache: Path, stereo: bool = False) -> Path:
    """Write weights of an audiocraft LM as transformers' MusicGen, with its T5, EnCodec, tokenizer and processor.

    Names are changed as transformers' own conversion script does it, by replacing one word after the other.
    """
    from transformers import (
        EncodecFeatureExtractor,
        EncodecModel,
        GenerationConfig,
        MusicgenDecoderConfig,
        MusicgenForCausalLM,
        MusicgenForConditionalGeneration,
        MusicgenProcessor,
        T5EncoderModel,
        T5Tokenizer,
    )

    layers = 1 + max(int(name.split(".")[2]) for name in weights if name.startswith("transformer.layers."))
    config = MusicgenDecoderConfig(
        hidden_size=WIDTH,
        ffn_dim=4 * WIDTH,
        num_hidden_layers=layers,
        num_attention_heads=HEADS,
        num_codebooks=8 if stereo else 4,
        audio_channels=2 if stereo else 1,
    )
    model = MusicgenForConditionalGeneration(
        text_encoder=T5EncoderModel.from_pretrained(_repository(cache, "t5-base")),
        audio_encoder=EncodecModel.from_pretrained(_repository(cache, "facebook/encodec_32khz")),
        decoder=MusicgenForCausalLM(config),
    )
    for name, tensor in weights.items():
        if ".output_proj." in name:
            model.enc_to_dec_proj.get_parameter(name.rsplit(".", 1)[1]).data.copy_(tensor)
            continue
        for old, new in (
            ("emb.", "model.decoder.embed_tokens."),
            ("transformer.", "model.decoder."),
            ("cross_attention", "encoder_attn"),
            ("linear1", "fc1"),
            ("linear2", "fc2"),
            ("norm1", "self_attn_layer_norm"),
            ("norm_cross", "encoder_attn_layer_norm"),
            ("norm2", "final_layer_norm"),
            ("out_norm", "model.decoder.layer_norm"),
            ("linears", "lm_heads"),
        ):
            name = name.replace(old, new)
        if name.endswith("in_proj_weight"):
            for part, piece in zip(("q", "k", "v"), tensor.split(WIDTH), strict=True):
                own = name.replace("in_proj_weight", f"{part}_proj.weight")
                model.decoder.get_parameter(own).data.copy_(piece)
        else:
            model.decoder.get_parameter(name).data.copy_(tensor)
    model.generation_config = GenerationConfig(
        bos_token_id=2048, decoder_start_token_id=2048, pad_token_id=2048, do_sample=True, guidance_scale=3.0,
        max_length=1500,
    )  # fmt: skip
    model.save_pretrained(folder)
    extractor = EncodecFeatureExtractor(1, 32000, padding_side="left")
    MusicgenProcessor(extractor, T5Tokenizer.from_pretrained(_repository(cache, "t5-base"))).save_pretrained(folder)
    return folder


def write_t5(folder: Path) -> None:
    """Write a one-layer T5 of width 768 and its sentencepiece model."""
    import sentencepiece
    from transformers import T5Config, T5EncoderModel

    draw = random.Random(0)
    sentences = [" ".join(draw.choices(WORDS, k=8)) for _ in range(300)]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=model,
        vocab_size=40,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    (folder / "spiece.model").write_bytes(model.getvalue())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = T5Config(d_model=768, num_layers=1, d_ff=16, num_heads=2, d_kv=8, vocab_size=160)
        T5EncoderModel(config).save_pretrained(folder)


def write_encodec(folder: Path) -> None:
    """Write a tiny EnCodec with the released one's rates: 32 kHz, 50 frames a second, 4 codebooks of 2048."""
    from transformers import EncodecConfig, EncodecModel

    config = EncodecConfig(
        sampling_rate=32000,
        audio_channels=1,
        upsampling_ratios=[8, 5, 4, 4],
        num_filters=2,
        hidden_size=8,
        codebook_dim=8,
        codebook_size=2048,
        target_bandwidths=[2.2],
        normalize=False,
        num_lstm_layers=1,
        use_causal_conv=False,
        chunk_length_s=None,
    )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = EncodecModel(config).eval()
        # A fresh quantiser's code vectors are all zero: draw them near the encoder's outputs, level by level.
        residual = model.encoder(torch.randn(2, 1, 32000)).transpose(1, 2).reshape(-1, 8)
        for layer in model.quantizer.layers:
            noise = residual.std() * 0.3 * torch.randn(2048, 8)
            codes = residual[torch.randint(len(residual), (2048,))] + noise
            layer.codebook.embed.copy_(codes)
            residual = residual - codes[torch.cdist(residual, codes).argmin(1)]
        model.save_pretrained(folder)


def _repository(cache: Path, name: str) -> Path:
    """Folder of a model's files in a hub cache."""
    repository = cache / f"models--{name.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True, exist_ok=True)
    (repository / "refs" / "main").write_text(COMMIT)
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True, exist_ok=True)
    return snapshot
