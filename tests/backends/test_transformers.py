"""Checkpoints in transformers' format: the same model as in audiocraft's, and what transformers itself computes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakehub import HEADS, LAYERS, SETTINGS, WIDTH, write_checkpoint, write_transformers
from torch import Tensor

import interp
from interp.backends.names import from_transformers, to_transformers
from interp.directions import Direction
from interp.errors import ModelError, StoreError
from interp.model import MusicGen
from interp.sites import ModelShape
from interp.steering import Add, Row, generate

HEAD_DIM = WIDTH // HEADS
FRAMES = 30


def cache_of(hub: Path) -> Path:
    return hub.parents[2]


def weights_of(hub: Path) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = torch.load(hub / "state_dict.bin", weights_only=True)["best_state"]
    return weights


@pytest.fixture(scope="module")
def folder(hub: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The hub's musicgen-small in transformers' format."""
    return write_transformers(tmp_path_factory.mktemp("hf") / "musicgen", weights_of(hub), cache_of(hub))


@pytest.fixture(scope="module")
def model(folder: Path) -> MusicGen:
    return interp.load(folder, device="cpu")


@pytest.fixture(scope="module")
def there(folder: Path) -> Any:
    """transformers' own model of that folder."""
    from transformers import MusicgenForConditionalGeneration

    return MusicgenForConditionalGeneration.from_pretrained(folder).eval()


@pytest.fixture(scope="module")
def audio() -> Tensor:
    return 0.3 * torch.randn(1, 1, 6400, generator=torch.Generator().manual_seed(0))


def text_inputs(folder: Path, text: str | None, there: Any) -> dict[str, Any]:
    """What transformers' users pass for a text, and for none."""
    from transformers import AutoProcessor

    if text is None:
        null = there.get_unconditional_inputs(1)
        return {"encoder_outputs": null.encoder_outputs, "attention_mask": null.attention_mask}
    return dict(AutoProcessor.from_pretrained(folder)(text=[text], return_tensors="pt"))


# One model -------------------------------------------------------------------------------------------------------


def test_both_formats_are_one_model(folder: Path, hub: Path, hub_model: MusicGen, model: MusicGen) -> None:
    assert model.shape == ModelShape(LAYERS, HEADS, WIDTH) and model.max_seconds == 30
    assert model.fingerprint == hub_model.fingerprint
    assert (model.format, hub_model.format) == ("transformers", "audiocraft")
    assert model.codec_fingerprint == hub_model.codec_fingerprint
    assert model.condition_lengths([None, "loud drums"]) == hub_model.condition_lengths([None, "loud drums"])
    codes = torch.randint(2048, (2, 4, FRAMES), generator=torch.Generator().manual_seed(0))
    texts = ["loud drums", None]
    for ours, theirs in zip(model.conditions(texts).values(), hub_model.conditions(texts).values(), strict=True):
        assert torch.equal(ours[0], theirs[0]) and torch.equal(ours[1], theirs[1])
    ours, theirs = (m.predict(codes, texts, read=["heads", "resid"]) for m in (model, hub_model))
    assert torch.equal(ours.logits, theirs.logits)
    assert all(torch.equal(ours.values[site], theirs.values[site]) for site in theirs.values)


def test_half_precision_on_disk_is_the_same_model(hub: Path, tmp_path: Path) -> None:
    """The released checkpoints are float16 in audiocraft's format and float32 in transformers'."""
    package = torch.load(write_checkpoint(tmp_path / "ac") / "state_dict.bin", weights_only=True)
    halves = {name: tensor.half() for name, tensor in package["best_state"].items()}
    torch.save(package | {"best_state": halves}, tmp_path / "ac" / "state_dict.bin")
    wide = write_transformers(tmp_path / "hf", {n: t.float() for n, t in halves.items()}, cache_of(hub))
    loaded = [interp.load(where, device="cpu") for where in (tmp_path / "ac", wide)]
    assert loaded[0].fingerprint == loaded[1].fingerprint != interp.load(hub, device="cpu").fingerprint


def test_names_go_both_ways(hub: Path, there: Any, tiny: MusicGen) -> None:
    weights = weights_of(hub)
    back = from_transformers(to_transformers(weights))
    assert set(back) == set(weights) and all(torch.equal(back[name], weights[name]) for name in weights)
    assert {n for n in there.state_dict() if n.startswith(("decoder", "enc_to"))} == set(to_transformers(weights))
    with pytest.raises(ModelError, match=r"no place for condition_provider\.conditioners\.description\.embed\.weight"):
        to_transformers(tiny.lm.state_dict())
    with pytest.raises(ModelError, match="no place for audio_enc_to_dec_proj"):
        from_transformers({"audio_enc_to_dec_proj.weight": torch.zeros(1)})
    with pytest.raises(ModelError, match=r"lacks decoder.*v_proj"):
        from_transformers({n: t for n, t in to_transformers(weights).items() if "1.self_attn.v_proj" not in n})


# Against transformers itself ---------------------------------------------------------------------------------------


@contextmanager
def watched(there: Any) -> Iterator[dict[str, Tensor]]:
    """Every site of transformers' own modules, by plain hooks."""
    seen: dict[str, Tensor] = {}
    handles = []

    def before(module: Any, name: str) -> None:
        def hook(_: Any, args: tuple[Tensor, ...]) -> None:
            seen[name] = args[0].detach()

        handles.append(module.register_forward_pre_hook(hook))

    def after(module: Any, name: str) -> None:
        def hook(_: Any, args: Any, output: Any) -> None:
            seen[name] = (output[0] if isinstance(output, tuple) else output).detach()

        handles.append(module.register_forward_hook(hook))

    layers = there.decoder.model.decoder.layers
    before(layers[0], "embed")
    for i, layer in enumerate(layers):
        before(layer.self_attn.out_proj, f"L{i}.heads")
        after(layer.self_attn.out_proj, f"L{i}.attn")
        before(layer.encoder_attn.out_proj, f"L{i}.cross_heads")
        after(layer.encoder_attn.out_proj, f"L{i}.cross")
        after(layer.fc2, f"L{i}.mlp")
        after(layer, f"L{i}.resid")
    yield seen
    for handle in handles:
        handle.remove()


def compared(model: MusicGen, there: Any, codes: Tensor, text: str | None, inputs: dict[str, Any]) -> float:
    """Largest difference of any site and of the logits between us and plain hooks on transformers."""
    tokens = model.sequence(codes)[0][..., :-1]
    with watched(there) as theirs, torch.no_grad():
        logits = there(**inputs, decoder_input_ids=tokens[0]).logits
    sites = ["embed", "heads", "attn", "cross_heads", "cross", "mlp", "resid"]
    ours = model.forward(tokens, text=text, read=sites)
    worst = [float((ours.logits[0] - logits).abs().max())]
    for site, value in ours.values.items():
        name = "embed" if site.kind == "embed" else f"L{site.layer}.{site.kind}"
        other = theirs[name]
        if site.head is not None:
            other = other[..., site.head * HEAD_DIM : (site.head + 1) * HEAD_DIM]
        worst.append(float((value - other).abs().max()))
    assert len(worst) == 2 + LAYERS * (2 * HEADS + 4)
    return max(worst)


@pytest.mark.parametrize("text", ["loud drums", "a calm slow piano piece with soft strings", None])
def test_every_site_is_what_transformers_computes(model: MusicGen, there: Any, folder: Path, text: str | None) -> None:
    codes = torch.randint(2048, (1, 4, FRAMES), generator=torch.Generator().manual_seed(1))
    assert compared(model, there, codes, text, text_inputs(folder, text, there)) < 1e-5


def test_the_shipped_lm_is_what_transformers_computes(tiny: MusicGen) -> None:
    """A trained LM, in transformers' modules under its names; its condition is given as it is."""
    from transformers import MusicgenDecoderConfig, MusicgenForCausalLM

    shape = tiny.shape
    lm = MusicgenForCausalLM(
        MusicgenDecoderConfig(
            vocab_size=tiny.cardinality,
            hidden_size=shape.width,
            ffn_dim=4 * shape.width,
            pad_token_id=256,
            num_hidden_layers=shape.n_layers,
            num_attention_heads=shape.n_heads,
            bos_token_id=256,
        )
    ).eval()
    weights = {n: t for n, t in tiny.lm.state_dict().items() if not n.startswith("condition_provider.")}
    report = lm.load_state_dict({n.removeprefix("decoder."): t for n, t in to_transformers(weights).items()})
    assert not report.missing_keys and not report.unexpected_keys
    codes = torch.randint(tiny.cardinality, (1, 4, 100), generator=torch.Generator().manual_seed(0))
    tokens = tiny.sequence(codes)[0][..., :-1]
    (condition, _), *_ = tiny.conditions("jazz, piano").values()
    heads = {}
    lm.model.decoder.layers[3].self_attn.out_proj.register_forward_pre_hook(lambda _, args: heads.update(h=args[0]))
    with torch.no_grad():
        logits = lm(input_ids=tokens[0], encoder_hidden_states=condition).logits
    ours = tiny.forward(tokens, text="jazz, piano", read=["L3.H5"])
    assert (ours.values[interp.Site("heads", 3, 5)] - heads["h"][..., 5 * 32 : 6 * 32]).abs().max() < 1e-4
    assert (ours.logits[0] - logits).abs().max() < 1e-4 * logits.abs().max()


def test_positions_differ_by_rounding_alone(model: MusicGen, there: Any) -> None:
    from interp.backends.audiocraft import sinusoids

    ours = sinusoids(model.lm.transformer, torch.arange(1504))
    assert (ours - there.decoder.model.decoder.embed_positions.weights[:1504]).abs().max() < 2e-4
    assert (ours - there.decoder.model.decoder.embed_positions.weights[:1504])[:50].abs().max() < 5e-6


def their_codes(there: Any, inputs: dict[str, Any], **options: Any) -> Tensor:
    """Codes of transformers' own ``generate``, caught on their way to the codec."""
    caught: list[Tensor] = []
    decode = there.audio_encoder.decode

    def catch(codes: Tensor, *args: Any, **kwargs: Any) -> Any:
        caught.append(codes[0])
        return decode(codes, *args, **kwargs)

    there.audio_encoder.decode = catch
    try:
        there.generate(**inputs, do_sample=False, guidance_scale=3.0, **options)
    finally:
        there.audio_encoder.decode = decode
    return caught[0]


@pytest.mark.parametrize("steered", [False, True])
@pytest.mark.parametrize("continued", [False, True])
def test_greedy_music_with_guidance_is_transformers(
    model: MusicGen, there: Any, folder: Path, audio: Tensor, continued: bool, steered: bool
) -> None:
    rng = np.random.default_rng(0)
    at_head, at_resid = (
        Direction.from_weight(site, rng.normal(size=n)) for site, n in (("L1.H2", HEAD_DIM), ("L2.resid", WIDTH))
    )
    handles = []
    if steered:
        layers = there.decoder.model.decoder.layers
        head, whole = (torch.tensor(d.vector, dtype=torch.float32) for d in (at_head, at_resid))

        def push_head(_: Any, args: tuple[Tensor, ...]) -> None:
            args[0][: len(args[0]) // 2, :, 2 * HEAD_DIM : 3 * HEAD_DIM] += 4.0 * head

        handles = [
            layers[1].self_attn.out_proj.register_forward_pre_hook(push_head),
            layers[2].register_forward_hook(lambda _, args, output: output + 2.0 * whole),
        ]
    inputs = text_inputs(folder, "loud drums", there)
    if continued:
        inputs |= {"input_values": audio, "padding_mask": torch.ones(1, audio.shape[-1])}
    try:
        theirs = their_codes(there, inputs, max_new_tokens=30)
    finally:
        for handle in handles:
            handle.remove()
    # what a codebook says last depends on whether the others, which come earlier, still speak: as many frames
    frames = theirs.shape[-1]
    assert frames >= 26
    push = (Add(at_head, strength=4.0, rows="cond", on="all"), Add(at_resid, strength=2.0, on="all"))
    prompt = model.encode(audio, 32000)[0] if continued else None
    rows = [Row("loud drums", codes=prompt, interventions=push if steered else ())]
    for engine in ("nnsight", "hooks", "fast"):
        made = generate(model, rows, frames / 50, engine=engine, greedy=True, progress=False)  # type: ignore[arg-type]
        assert torch.equal(made.codes, theirs), engine
    if prompt is not None:
        assert torch.equal(theirs[0, :, : prompt.shape[-1]], prompt)


def test_audio_and_codes_are_transformers(model: MusicGen, there: Any, audio: Tensor) -> None:
    with torch.no_grad():
        codes = there.audio_encoder.encode(audio).audio_codes[0]
        sound = there.audio_encoder.decode(codes[None], [None]).audio_values
    assert torch.equal(model.encode(audio, 32000), codes)
    assert torch.equal(model.decode(codes), sound)


# Written -----------------------------------------------------------------------------------------------------------


def test_a_model_is_written_and_read_again(hub_model: MusicGen, there: Any, tmp_path: Path) -> None:
    from transformers import MusicgenForConditionalGeneration

    written = hub_model.save_pretrained(tmp_path / "mine")
    read = interp.load(written, device="cpu")
    assert read.fingerprint == hub_model.fingerprint and read.codec_fingerprint == hub_model.codec_fingerprint
    theirs = MusicgenForConditionalGeneration.from_pretrained(written)
    for name, tensor in there.state_dict().items():
        assert torch.equal(theirs.state_dict()[name], tensor), name
    assert theirs.generation_config.guidance_scale == 3.0 and theirs.generation_config.max_length == 1500
    inputs = text_inputs(written, "loud drums", theirs)
    assert their_codes(theirs, inputs, max_new_tokens=8).shape[:2] == (1, 4)
    with pytest.raises(StoreError, match="is there already"):
        hub_model.save_pretrained(written)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_model_that_the_format_cannot_hold(tiny: MusicGen, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be written in transformers' format: its text encoder is no T5"):
        tiny.save_pretrained(tmp_path / "tiny")
    assert not list(tmp_path.iterdir())


# Other layouts -------------------------------------------------------------------------------------------------------


def test_stereo(hub: Path, tmp_path: Path) -> None:
    """Eight interleaved codebooks, two of each delay; left and right stay apart."""
    settings = json.loads(json.dumps(SETTINGS))
    settings["interleave_stereo_codebooks"]["use"] = True
    settings["transformer_lm"]["n_q"] = 8
    settings["codebooks_pattern"]["delay"]["delays"] = [0, 0, 1, 1, 2, 2, 3, 3]
    ac = write_checkpoint(tmp_path / "ac", settings)
    hf = write_transformers(tmp_path / "hf", weights_of(ac), cache_of(hub), stereo=True)
    ours, theirs = (interp.load(where, device="cpu") for where in (hf, ac))
    assert ours.fingerprint == theirs.fingerprint and ours.codec_fingerprint == theirs.codec_fingerprint
    noise = 0.3 * torch.randn(1, 2, 6400, generator=torch.Generator().manual_seed(0))
    codes = ours.encode(noise, 32000)
    assert codes.shape == (1, 8, 10) and torch.equal(codes, theirs.encode(noise, 32000))
    assert torch.equal(ours.decode(codes), theirs.decode(codes))
    assert torch.equal(ours.predict(codes).logits, theirs.predict(codes).logits)
    from transformers import MusicgenForConditionalGeneration

    there = MusicgenForConditionalGeneration.from_pretrained(hf).eval()
    assert compared(ours, there, codes, "loud drums", text_inputs(hf, "loud drums", there)) < 1e-5
    written = interp.load(theirs.save_pretrained(tmp_path / "again"), device="cpu")
    assert written.fingerprint == ours.fingerprint and written.n_codebooks == 8


def test_the_hubs_older_layout(folder: Path, model: MusicGen, tmp_path: Path) -> None:
    """transformers 4 kept positions in the checkpoint, weight norm as weight_g and weight_v, and could pickle."""
    from safetensors.torch import load_file

    old = Path(shutil.copytree(folder, tmp_path / "old"))
    state = {}
    for name, tensor in load_file(old / "model.safetensors").items():
        name = name.replace("parametrizations.weight.original0", "weight_g")
        state[name.replace("parametrizations.weight.original1", "weight_v")] = tensor
    assert any(name.endswith("weight_g") for name in state)
    state["decoder.model.decoder.embed_positions.weights"] = torch.zeros(2048, WIDTH)
    (old / "model.safetensors").unlink()
    torch.save(state, old / "pytorch_model.bin")
    config = json.loads((old / "config.json").read_text())
    config |= {"torch_dtype": config.pop("dtype"), "transformers_version": "4.31.0.dev0"}
    (old / "config.json").write_text(json.dumps(config))
    read = interp.load(old, device="cpu")
    assert read.fingerprint == model.fingerprint and read.codec_fingerprint == model.codec_fingerprint


def test_a_hub_name_in_either_format(hub: Path, hub_model: MusicGen, folder: Path) -> None:
    """The real repositories hold both; a fine-tuner's holds transformers' alone."""
    mine = cache_of(hub) / "models--me--mine"
    shutil.copytree(hub.parents[1], mine)
    snapshot = mine / "snapshots" / hub.name
    shutil.copytree(folder, snapshot, dirs_exist_ok=True)
    try:
        for name in ("me/mine", "hf:me/mine", f"hf:{snapshot}"):
            assert interp.load(name, device="cpu").fingerprint == hub_model.fingerprint
        assert interp.load("me/mine", device="cpu").lm.cfg.transformer_lm.dim == WIDTH
        for file in ("state_dict.bin", "compression_state_dict.bin"):
            (snapshot / file).unlink()
        read = interp.load("me/mine", device="cpu")
        assert read.fingerprint == hub_model.fingerprint and not hasattr(read.lm, "cfg")
    finally:
        shutil.rmtree(mine)


def test_in_half_precision_and_untrained(model: MusicGen, folder: Path) -> None:
    half = interp.load(folder, device="cpu", dtype="bfloat16")
    assert half.dtype == torch.bfloat16 and half.fingerprint == model.fingerprint
    assert next(half.lm.condition_provider.conditioners["description"].t5.parameters()).dtype == torch.float32
    codes = torch.randint(2048, (1, 4, 10), generator=torch.Generator().manual_seed(0))
    ours, theirs = (m.predict(codes, "loud drums").logits for m in (half, model))
    assert 0 < (ours - theirs).abs().max() < 0.1 * theirs.abs().max()
    fresh = model.untrained(seed=3)
    assert fresh.fingerprint != model.fingerprint
    assert not torch.equal(fresh.predict(codes, "loud drums").logits, theirs)


# Bad input -----------------------------------------------------------------------------------------------------------


def changed_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    for path, value in changes.items():
        *parents, last = path.split("__")
        target = config
        for parent in parents:
            target = target[parent]
        target[last] = value
    (folder / "config.json").write_text(json.dumps(config))


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"model_type": "musicgen_melody"},
            "melody model, whose melody and text stand before its music: use a text-to",
        ),
        ({"model_type": "musicgen_decoder"}, "an LM alone, without its codec and its text encoder"),
        ({"model_type": "llama"}, "is a 'llama' of transformers, not a MusicGen"),
        ({"decoder__activation_function": "silu"}, "computes with 'silu': only gelu and relu"),
        ({"decoder__scale_embedding": True}, "scales its embeddings"),
        ({"decoder__num_hidden_layers": LAYERS + 1}, rf"lack decoder\.model\.decoder\.layers\.{LAYERS}\."),
        ({"decoder__num_hidden_layers": LAYERS - 1}, rf"hold decoder\.model\.decoder\.layers\.{LAYERS - 1}\."),
        ({"decoder__hidden_size": 2 * WIDTH}, "cannot be read .*they may be cut short, fetch them again"),
        ({"decoder__num_attention_heads": 5}, "cannot be read .*divisible"),
    ],
)
def test_other_architectures_get_a_sentence(copy: Path, changes: dict[str, Any], sentence: str) -> None:
    changed_config(copy, **changes)
    with pytest.raises(ModelError, match=sentence) as caught:
        interp.load(copy, device="cpu")
    assert "\n" not in str(caught.value)


def test_weights_that_no_musicgen_has(copy: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(copy / "model.safetensors")
    more = {"decoder.lm_heads.0.bias": torch.ones(2048)}
    save_file(state | more, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"hold decoder\.lm_heads\.0\.bias, which is no part of a MusicGen"):
        interp.load(copy, device="cpu")


def test_files_that_are_missing_or_cut_short(copy: Path) -> None:
    whole = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=r"cannot be read .*they may be cut short, fetch them again"):
        interp.load(copy, device="cpu")
    with pytest.raises(ModelError, match="is a part of a model: give the folder"):
        interp.load(copy / "model.safetensors", device="cpu")
    (copy / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"comes without weights \(model\.safetensors"):
        interp.load(copy, device="cpu")
    text = (copy / "tokenizer.json").read_text()
    (copy / "tokenizer.json").write_text(text[: len(text) // 2])
    with pytest.raises(ModelError, match="cannot read the tokenizer"):
        interp.load(copy, device="cpu")
    (copy / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match="lacks the tokenizer of its T5"):
        interp.load(copy, device="cpu")
    (copy / "config.json").write_text('{"model_type": ')
    with pytest.raises(ModelError, match=r"cannot read .*config\.json, which may be cut short"):
        interp.load(copy, device="cpu")
    with pytest.raises(ModelError, match="brings its own codec"):
        interp.load(copy, device="cpu", codec="facebook/encodec_32khz")


def test_weights_in_several_files(folder: Path, there: Any, model: MusicGen, tmp_path: Path) -> None:
    """As the larger models have them; without one of the files there is no model."""
    parts = Path(shutil.copytree(folder, tmp_path / "parts"))
    (parts / "model.safetensors").unlink()
    there.save_pretrained(parts, max_shard_size="2MB")
    shards = sorted(parts.glob("*.safetensors"))
    assert len(shards) > 2 and interp.load(parts, device="cpu").fingerprint == model.fingerprint
    shards[1].unlink()
    with pytest.raises(ModelError, match=r"cannot be read .*fetch them again"):
        interp.load(parts, device="cpu")


def test_every_part_goes_where_it_is_asked_for(folder: Path) -> None:
    from interp.backends.transformers import _place, load

    lm = load("mine", folder, torch.device("cpu"))[0].lm
    _place(lm, torch.device("meta"), torch.bfloat16)
    text: Any = lm.condition_provider.conditioners["description"]
    assert {p.device.type for part in (lm, text.t5) for p in part.parameters()} == {"meta"}
    assert {p.dtype for p in lm.parameters()} == {torch.bfloat16} and next(text.t5.parameters()).dtype == torch.float32
    assert (text.device, lm.condition_provider.device) == ("meta", "meta")


def test_a_name_that_is_not_here(hub: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"me/none is not on this machine, .*`hf download me/none`.*HF_HUB|hub"):
        interp.load("hf:me/none", device="cpu")
    with pytest.raises(ModelError, match="after hf: comes a hub name or a folder"):
        interp.load("hf:nowhere", device="cpu")
    with pytest.raises(ModelError, match=r"not there in transformers' format: .* holds no config\.json"):
        interp.load(f"hf:{tmp_path}", device="cpu")
