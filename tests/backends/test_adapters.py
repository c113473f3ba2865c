"""LoRA adapters as PEFT writes them, merged when a model is loaded, and refused where they do not belong."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from fakehub import LAYERS, WIDTH, write_checkpoint, write_transformers
from torch import Tensor

import interp
from interp.errors import ModelError
from interp.model import MusicGen

LM = "decoder.model.decoder"
RANK = 4


def write_adapter(folder: Path, tensors: dict[str, Tensor], **settings: Any) -> Path:
    """A folder as ``PeftModel.save_pretrained`` writes it (PEFT 0.21)."""
    from safetensors.torch import save_file

    config = {
        "peft_type": "LORA", "task_type": None, "base_model_name_or_path": "facebook/musicgen-small", "revision": None,
        "r": RANK, "lora_alpha": 16, "lora_dropout": 0.05, "bias": "none", "fan_in_fan_out": False, "use_rslora": False,
        "use_dora": False, "init_lora_weights": True,
        "inference_mode": True, "rank_pattern": {}, "modules_to_save": None,
        "alpha_pattern": {}, "target_modules": ["q_proj", "v_proj"], "layers_to_transform": None, "lora_bias": False,
        "layer_replication": None, "target_parameters": None, "trainable_token_indices": None, "peft_version": "0.21.2",
    }  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps(config | settings))
    named = {f"base_model.model.{name}": tensor.contiguous() for name, tensor in tensors.items()}
    save_file(named, folder / "adapter_model.safetensors", {"format": "pt"})
    return folder


def pair(module: str, rows: int, columns: int, seed: int, rank: int = RANK) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    a, b = (torch.randn(shape, generator=draw) * 0.05 for shape in ((rank, columns), (rows, rank)))
    return {f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b}


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    """What fine-tuners of MusicGen adapt: attention, feed-forward, tables, heads and the projection of the text."""
    parts: dict[str, Tensor] = {}
    for i in range(LAYERS):
        for j, module in enumerate(
            ("self_attn.q_proj", "self_attn.v_proj", "encoder_attn.k_proj", "self_attn.out_proj")
        ):
            parts |= pair(f"{LM}.layers.{i}.{module}", WIDTH, WIDTH, 10 * i + j)
    parts |= pair(f"{LM}.layers.1.fc1", 4 * WIDTH, WIDTH, 50, rank=2)
    parts |= pair("decoder.lm_heads.2", 2048, WIDTH, 51)
    draw = torch.Generator().manual_seed(52)
    parts[f"{LM}.embed_tokens.0.lora_embedding_A"] = 0.05 * torch.randn(RANK, 2049, generator=draw)
    parts[f"{LM}.embed_tokens.0.lora_embedding_B"] = 0.05 * torch.randn(WIDTH, RANK, generator=draw)
    parts["enc_to_dec_proj.weight"] = 0.05 * torch.randn(WIDTH, 768, generator=draw)
    parts["enc_to_dec_proj.bias"] = 0.05 * torch.randn(WIDTH, generator=draw)
    return parts


@pytest.fixture(scope="module")
def adapter(tensors: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_adapter(
        tmp_path_factory.mktemp("lora") / "mine", tensors, modules_to_save=["enc_to_dec_proj"],
        alpha_pattern={"self_attn.v_proj": 32}, rank_pattern={"fc1": 2},
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(hub: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    weights = torch.load(hub / "state_dict.bin", weights_only=True)["best_state"]
    return write_transformers(tmp_path_factory.mktemp("hf") / "musicgen", weights, hub.parents[2])


@pytest.fixture(scope="module")
def adapted(folder: Path, adapter: Path) -> MusicGen:
    return interp.load(folder, device="cpu", adapter=adapter)


def test_an_adapter_is_what_its_layers_compute(
    folder: Path, tensors: dict[str, Tensor], adapted: MusicGen, hub: Path
) -> None:
    """Against transformers' model with the low-rank branch added to the outputs of its layers, as PEFT runs it."""
    from transformers import AutoProcessor, MusicgenForConditionalGeneration

    there = MusicgenForConditionalGeneration.from_pretrained(folder).eval()
    there.enc_to_dec_proj.load_state_dict({k: tensors[f"enc_to_dec_proj.{k}"] for k in ("weight", "bias")})
    for name, a in tensors.items():
        if ".lora_A" in name:
            module = name.removesuffix(".lora_A.weight")
            b = tensors[f"{module}.lora_B.weight"]
            scale = (32 if "self_attn.v_proj" in module else 16) / len(a)

            def branch(_: Any, args: Any, out: Tensor, a: Tensor = a, b: Tensor = b, scale: float = scale) -> Tensor:
                return out + scale * args[0] @ a.T @ b.T

            there.get_submodule(module).register_forward_hook(branch)
    table = [tensors[f"{LM}.embed_tokens.0.lora_embedding_{half}"] for half in "AB"]
    there.get_submodule(f"{LM}.embed_tokens.0").register_forward_hook(
        lambda _, args, out: out + 16 / RANK * table[0].T[args[0]] @ table[1].T
    )
    codes = torch.randint(2048, (1, 4, 20), generator=torch.Generator().manual_seed(0))
    tokens = adapted.sequence(codes)[0][..., :-1]
    words = AutoProcessor.from_pretrained(folder)(text=["loud drums"], return_tensors="pt")
    with torch.no_grad():
        logits = there(**words, decoder_input_ids=tokens[0]).logits
        base = interp.load(folder, device="cpu").forward(tokens, text="loud drums").logits
    ours = adapted.forward(tokens, text="loud drums").logits
    assert ours is not None and base is not None
    assert (ours[0] - logits).abs().max() < 2e-5
    assert (ours - base).abs().max() > 0.1


def test_the_base_may_be_in_either_format(hub: Path, hub_model: MusicGen, adapter: Path, adapted: MusicGen) -> None:
    other = interp.load("facebook/musicgen-small", device="cpu", adapter=adapter)
    assert other.fingerprint == adapted.fingerprint != hub_model.fingerprint
    assert other.name == f"facebook/musicgen-small+{adapter}"
    assert interp.load("facebook/musicgen-small", device="cpu", dtype="float16", adapter=adapter).dtype == torch.float16


def test_an_adapted_model_is_written_as_a_whole_one(adapted: MusicGen, tmp_path: Path) -> None:
    assert interp.load(adapted.save_pretrained(tmp_path / "whole"), device="cpu").fingerprint == adapted.fingerprint


def test_rank_stabilised_scale(folder: Path, tmp_path: Path) -> None:
    one = pair(f"{LM}.layers.0.self_attn.q_proj", WIDTH, WIDTH, 0)
    stable = write_adapter(tmp_path / "stable", one, use_rslora=True, lora_alpha=16)
    plain = write_adapter(tmp_path / "plain", one, lora_alpha=16 * math.sqrt(RANK))
    loaded = [interp.load(folder, device="cpu", adapter=where) for where in (stable, plain)]
    assert loaded[0].fingerprint == loaded[1].fingerprint


def test_a_changed_text_encoder_is_another_model(folder: Path, hub: Path, tmp_path: Path) -> None:
    """Its weights are no part of the LM, but what the LM hears depends on them."""
    parts = pair("text_encoder.encoder.block.0.layer.0.SelfAttention.q", 16, 768, 0)
    changed = write_adapter(tmp_path / "t5", parts)
    base, ours = interp.load(folder, device="cpu"), interp.load(folder, device="cpu", adapter=changed)
    assert ours.fingerprint != base.fingerprint
    assert not torch.equal(
        ours.conditions("loud drums")["description"][0], base.conditions("loud drums")["description"][0]
    )
    with pytest.raises(ModelError, match=r"which a checkpoint in audiocraft's format does not hold: load .*hf:NAME"):
        interp.load("facebook/musicgen-small", device="cpu", adapter=changed)


def test_an_adapter_for_another_base(hub: Path, folder: Path, tmp_path: Path, adapter: Path) -> None:
    one = pair(f"{LM}.layers.0.self_attn.q_proj", WIDTH, WIDTH, 0)
    medium = write_adapter(tmp_path / "medium", one, base_model_name_or_path="facebook/musicgen-medium")
    with pytest.raises(ModelError, match="was trained on facebook/musicgen-medium, not on facebook/musicgen-small"):
        interp.load("facebook/musicgen-small", device="cpu", adapter=medium)
    wide = write_adapter(tmp_path / "wide", pair(f"{LM}.layers.0.self_attn.q_proj", 128, 128, 0))
    with pytest.raises(
        ModelError, match=r"does not fit .*q_proj\.weight is \[64, 64\] there and \[128, 128\] in the adapter"
    ):
        interp.load(folder, device="cpu", adapter=wide)
    deep = write_adapter(tmp_path / "deep", pair(f"{LM}.layers.9.self_attn.q_proj", WIDTH, WIDTH, 0))
    with pytest.raises(ModelError, match=r"changes .*layers\.9.* does not have .*trained on facebook/musicgen-small"):
        interp.load(folder, device="cpu", adapter=deep)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"peft_type": "LOHA"}, "is of a LOHA adapter: only LoRA"),
        ({"use_dora": True}, "has use_dora, which is more than LoRA: merge it with PEFT"),
        ({"init_lora_weights": "pissa"}, "began from pissa, which changes the base as well"),
    ],
)
def test_other_adapters_get_a_sentence(folder: Path, tmp_path: Path, settings: dict[str, Any], sentence: str) -> None:
    other = write_adapter(tmp_path / "other", pair(f"{LM}.layers.0.self_attn.q_proj", WIDTH, WIDTH, 0), **settings)
    with pytest.raises(ModelError, match=sentence):
        interp.load(folder, device="cpu", adapter=other)


def test_files_of_an_adapter_that_are_missing_or_cut_short(folder: Path, tmp_path: Path) -> None:
    one = pair(f"{LM}.layers.0.self_attn.q_proj", WIDTH, WIDTH, 0)
    where = write_adapter(tmp_path / "mine", one)

    def refused(sentence: str, adapter: Path | str = where) -> None:
        with pytest.raises(ModelError, match=sentence):
            interp.load(folder, device="cpu", adapter=adapter)

    refused("there is no adapter 'nowhere'", "nowhere")
    refused("me/lora is not on this machine", "me/lora")
    refused(r"holds no adapter_config\.json", folder)
    weights = where / "adapter_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    refused(r"cannot read .*adapter_model\.safetensors, which may be cut short")
    weights.unlink()
    refused(r"holds no adapter_model\.safetensors")
    (where / "adapter_config.json").write_text("{")
    refused(r"cannot read .*adapter_config\.json")
    half = write_adapter(tmp_path / "half", {k: v for k, v in one.items() if "lora_A" in k})
    refused("no two matching factors", half)
    strange = write_adapter(tmp_path / "strange", one | {f"{LM}.layers.0.self_attn.q_proj.lora_C": torch.ones(1)})
    refused("holds .*lora_C, which is no part of a LoRA", strange)
    refused("holds no tensor", write_adapter(tmp_path / "empty", {}))


def test_a_model_of_another_kind_takes_no_adapter(hub: Path, tmp_path: Path, adapter: Path) -> None:
    from fakehub import SETTINGS

    settings = json.loads(json.dumps(SETTINGS)) | {"conditioners": None}
    settings["fuser"]["cross"] = []
    with pytest.raises(ModelError, match=r"changes .*encoder_attn.*, which .* does not have|enc_to_dec_proj"):
        interp.load(write_checkpoint(tmp_path, settings), device="cpu", adapter=adapter)
