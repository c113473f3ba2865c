"""The seam to transformers' MusicGen: its checkpoints become audiocraft models, and audiocraft models its checkpoints.

What ``MusicgenForConditionalGeneration.save_pretrained`` writes holds an LM, a T5 and an EnCodec. The LM's tensors go
into audiocraft's modules (:mod:`interp.backends.names`), so that sites, engines and fingerprints are those of every
other model here; T5 and EnCodec stay transformers' own modules, as audiocraft has them as well.

The two libraries differ in what no weight shows, all of it small: positions are the same sinusoids computed in another
order of float32 operations; and where texts of different lengths share a batch, transformers masks the padding in
cross-attention, which audiocraft does not. Here such texts never share a batch.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from interp.backends import names
from interp.backends.adapters import Adapter, merge
from interp.backends.audiocraft import (
    AudiocraftMusicGen,
    CompressionModel,
    HFEncodecCompressionModel,
    InterleaveStereoCompressionModel,
    LMModel,
    T5Conditioner,
    hash_weights,
    lm_fingerprint,
)
from interp.backends.build import build_lm
from interp.backends.devices import codec_device
from interp.backends.text import TextEncoder
from interp.errors import ModelError, StoreError

__all__ = ["CONFIG", "holds_checkpoint", "load", "save"]

CONFIG = "config.json"
_MAX_SECONDS = 30.0
"""Longest window of all released MusicGens; the format has no place for it."""
_NOT_YET = {
    "musicgen_melody": "a melody model, whose melody and text stand before its music",
    "musicgen_decoder": "an LM alone, without its codec and its text encoder",
}


def holds_checkpoint(folder: Path) -> bool:
    """Whether a folder is what transformers' ``save_pretrained`` wrote."""
    return (folder / CONFIG).is_file()


def load(
    name: str, folder: Path, device: torch.device, dtype: torch.dtype | None = None, adapter: Adapter | None = None
) -> tuple[AudiocraftMusicGen, str]:
    """Load a MusicGen in transformers' format.

    Parameters
    ----------
    name : str
        What to call it.
    folder : Path
        What ``MusicgenForConditionalGeneration.save_pretrained`` and its processor's wrote.
    device : torch.device
        Where to.
    dtype : torch.dtype, optional
        Of the LM; by default float16 of the transformer on a CUDA GPU and float32 elsewhere, as audiocraft has it.
    adapter : Adapter, optional
        Merged into the weights.

    Returns
    -------
    musicgen : audiocraft MusicGen
    fingerprint : str
        Of the LM's weights as they are on disk (with the adapter), equal to that of the same weights in audiocraft's
        format.

    Raises
    ------
    ModelError
        If a file is missing or cannot be read, or it is another architecture.
    """
    _check_architecture(name, folder)
    tokenizer = _tokenizer(name, folder)
    there = _read(name, folder)
    _check_sizes(name, there.config)
    more = () if adapter is None else _merge(adapter, there, name)
    lm = _build_lm(there, tokenizer)
    fingerprint = lm_fingerprint(lm.state_dict(), there.config.decoder.num_attention_heads, *more)
    _place(lm, device, dtype)
    codec = _codec(name, there.audio_encoder, there.config.decoder.audio_channels).to(codec_device(device))
    return AudiocraftMusicGen(name, codec, lm.eval(), max_duration=_MAX_SECONDS), fingerprint


# Reading ---------------------------------------------------------------------------------------------------------


def _check_architecture(name: str, folder: Path) -> None:
    file = folder / CONFIG
    try:
        kind = json.loads(file.read_text()).get("model_type")
    except FileNotFoundError:
        raise ModelError(f"{name} is not there in transformers' format: {folder} holds no {CONFIG}.") from None
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"cannot read {file}, which may be cut short: fetch it again.") from error
    if kind != "musicgen":
        what = _NOT_YET.get(str(kind), f"a {kind!r} of transformers, not a MusicGen")
        raise ModelError(
            f"{name} is {what}: use a text-to-music model, such as hf:facebook/musicgen-small, -medium or -large."
        )


def _tokenizer(name: str, folder: Path) -> Any:
    # looked for here because transformers makes up an empty vocabulary where there is none
    if not any((folder / file).is_file() for file in ("tokenizer.json", "spiece.model")):
        raise ModelError(
            f"{name} lacks the tokenizer of its T5 (tokenizer.json or spiece.model in {folder}): save that too, "
            "`AutoProcessor.from_pretrained('facebook/musicgen-small').save_pretrained(FOLDER)`."
        )
    from transformers import T5Tokenizer

    try:
        return T5Tokenizer.from_pretrained(folder)
    except Exception as error:  # whatever a file that is cut short makes a tokenizer stumble over
        raise ModelError(f"cannot read the tokenizer in {folder}, which may be cut short: fetch it again.") from error


def _read(name: str, folder: Path) -> Any:
    """The model as transformers reads it, on the CPU in float32; refused if a weight of it was not in the files."""
    import transformers

    musicgen: Any = transformers.MusicgenForConditionalGeneration
    if not any(folder.glob("*.safetensors")) and not any(folder.glob("pytorch_model*.bin")):
        raise ModelError(
            f"{name} comes without weights (model.safetensors in {folder}): give a folder that save_pretrained wrote, "
            f"or fetch it with `hf download {name.removeprefix('hf:')}`."
        )
    try:
        held = _names(folder)
        with _quiet():
            model, report = musicgen.from_pretrained(
                folder, dtype=torch.float32, output_loading_info=True, local_files_only=True
            )
    except Exception as error:  # safetensors, torch and transformers each have their own
        reason = str(error).strip().split("\n")[0].rstrip(".:")
        raise ModelError(
            f"the weights of {name} in {folder} cannot be read ({reason}): they may be cut short, fetch them again."
        ) from error
    # transformers' report leaves out what it is told to for T5 alone: every name that has "decoder" in it
    has, wants = ({key for key in names if _of_lm(key)} for names in (held, model.state_dict()))
    missing = sorted(report["missing_keys"] | (wants - has))
    strange = sorted(has - wants - {"decoder.model.decoder.embed_positions.weights"})
    if missing or strange:
        what = f"lack {missing[0]}" if missing else f"hold {strange[0]}, which is no part of a MusicGen"
        raise ModelError(
            f"the weights of {name} in {folder} {what}: fetch them again, or save them with save_pretrained."
        )
    return model.eval().requires_grad_(False)


def _names(folder: Path) -> set[str]:
    """Names of the tensors in a folder's files, as transformers picks them: safetensors before pickles."""
    from safetensors import safe_open

    safe, names = sorted(folder.glob("*.safetensors")), set[str]()
    for file in safe or sorted(folder.glob("pytorch_model*.bin")):
        if safe:
            with safe_open(file, "pt") as tensors:
                names.update(tensors.keys())
        else:
            names.update(torch.load(file, map_location="cpu", weights_only=True, mmap=True))
    return names


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No progress bar and no report of transformers' own: what matters of it becomes an error."""
    import transformers

    logging: Any = transformers.utils.logging
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


def _check_sizes(name: str, config: Any) -> None:
    decoder, text = config.decoder, config.text_encoder
    if text.model_type != "t5":
        raise ModelError(f"the text encoder of {name} is a {text.model_type!r}: only T5 can be used.")
    if decoder.activation_function not in ("gelu", "relu"):
        raise ModelError(
            f"the LM of {name} computes with {decoder.activation_function!r}: only gelu and relu can be used."
        )
    if decoder.scale_embedding:
        raise ModelError(f"the LM of {name} scales its embeddings (scale_embedding), which no released MusicGen does.")


def _merge(adapter: Adapter, there: Any, name: str) -> tuple[str, ...]:
    """Merge an adapter into a model; returns what it did to T5, which is no part of the LM, for the fingerprint."""
    before = there.state_dict()
    after = merge(adapter, before, name)
    changed = {key: value for key, value in after.items() if value is not before[key]}
    there.load_state_dict(changed, strict=False)  # not all: T5 has its table under two names
    beside = {key: value for key, value in changed.items() if not _of_lm(key)}
    return (hash_weights(beside),) if beside else ()


def _of_lm(key: str) -> bool:
    return key.startswith(("decoder.", "enc_to_dec_proj."))


# Building --------------------------------------------------------------------------------------------------------


def _build_lm(there: Any, tokenizer: Any) -> LMModel:
    """audiocraft's LM around the tensors of transformers' (not copied, but for queries, keys and values)."""
    decoder = there.config.decoder
    stereo = decoder.audio_channels == 2
    weights = {key: value for key, value in there.state_dict().items() if _of_lm(key)}
    if "enc_to_dec_proj.weight" not in weights:  # T5 is as wide as the LM: audiocraft projects nevertheless
        weights["enc_to_dec_proj.weight"] = torch.eye(decoder.hidden_size)
        weights["enc_to_dec_proj.bias"] = torch.zeros(decoder.hidden_size)
    with torch.device("meta"):  # no memory and no random numbers for weights that are replaced
        lm = build_lm(
            TextEncoder(there.text_encoder, tokenizer, decoder.hidden_size),
            n_layers=decoder.num_hidden_layers,
            n_heads=decoder.num_attention_heads,
            width=decoder.hidden_size,
            n_codebooks=decoder.num_codebooks,
            cardinality=decoder.vocab_size,
            delays=[book // 2 if stereo else book for book in range(decoder.num_codebooks)],
            guidance=float(there.generation_config.guidance_scale or 3.0),
            activation=decoder.activation_function,
            hidden_scale=(decoder.ffn_dim + 0.5) / decoder.hidden_size,  # audiocraft rounds the product down
        )
    lm.load_state_dict(names.from_transformers(weights), assign=True)
    return lm


def _place(lm: LMModel, device: torch.device, dtype: torch.dtype | None) -> None:
    lm.to(device)
    if dtype is not None:
        lm.to(dtype)
    elif device.type == "cuda":
        lm.transformer.to(torch.float16)
    provider: Any = lm.condition_provider
    provider.device = str(device)
    provider.conditioners["description"].move(device)


def _codec(name: str, encodec: Any, channels: int) -> CompressionModel:
    from transformers import EncodecModel

    if not isinstance(encodec, EncodecModel):
        raise ModelError(f"the codec of {name} is a {type(encodec).__name__}: only EnCodec can be used.")
    try:
        codec = HFEncodecCompressionModel(encodec)
        return InterleaveStereoCompressionModel(codec) if channels == 2 else codec
    except (AssertionError, ValueError, ZeroDivisionError) as error:
        raise ModelError(f"the codec of {name} cannot be used with it ({error}).") from error


# Writing ---------------------------------------------------------------------------------------------------------


def save(musicgen: AudiocraftMusicGen, folder: str | Path) -> Path:
    """Write a MusicGen in transformers' format: model, tokenizer and processor.

    Parameters
    ----------
    musicgen : audiocraft MusicGen
        Conditioned on text by T5, with transformers' EnCodec, as all released ones are.
    folder : str or Path
        A new folder; written completely or not at all.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    ModelError
        If the format has no place for a part of the model.
    StoreError
        If the folder is there already or cannot be written.
    """
    import transformers

    there: Any = transformers
    folder = Path(folder).expanduser()
    if folder.exists():
        raise StoreError(f"{folder} is there already: give the name of a new folder.")
    with _quiet():
        model, tokenizer = _to_transformers(musicgen)
    extractor = there.EncodecFeatureExtractor(1, musicgen.sample_rate, padding_side="left")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            with _quiet():
                model.save_pretrained(partial)
                there.MusicgenProcessor(extractor, tokenizer).save_pretrained(partial)
            partial.chmod(0o755)
            partial.rename(folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    except OSError as error:
        raise StoreError(f"cannot write {folder}: {error.strerror or error}.") from error
    return folder


def _to_transformers(musicgen: AudiocraftMusicGen) -> tuple[Any, Any]:
    """transformers' model with the tensors of an audiocraft one, and the tokenizer."""
    import transformers

    there: Any = transformers
    lm = musicgen.lm
    conditioners = dict(lm.condition_provider.conditioners)
    text: Any = conditioners.get("description")
    codec: Any = musicgen.compression_model
    stereo = isinstance(codec, InterleaveStereoCompressionModel)
    encodec = codec.model if stereo else codec
    why = ""
    if not isinstance(text, T5Conditioner) or len(conditioners) != 1:
        why = "its text encoder is no T5"
    elif not isinstance(encodec, HFEncodecCompressionModel):
        why = "its codec is not transformers' EnCodec"
    if why:
        raise ModelError(f"{musicgen.name} cannot be written in transformers' format: {why}.")
    weights = names.to_transformers(lm.state_dict())
    weights |= {f"text_encoder.{key}": value for key, value in text.t5.state_dict().items()}
    weights |= {f"audio_encoder.{key}": value for key, value in encodec.model.state_dict().items()}
    with torch.device("meta"):
        model = there.MusicgenForConditionalGeneration(_config(lm, weights, text, encodec, stereo))
    report = model.load_state_dict(weights, strict=False, assign=True)
    if report.missing_keys or report.unexpected_keys:
        key = (report.missing_keys + report.unexpected_keys)[0]
        raise ModelError(f"{musicgen.name} cannot be written in transformers' format, for {key}.")
    model.tie_weights()
    model.generation_config = there.GenerationConfig(
        bos_token_id=lm.card,
        decoder_start_token_id=lm.card,
        pad_token_id=lm.card,
        do_sample=True,
        guidance_scale=float(lm.cfg_coef),
        max_length=int(musicgen.max_duration * musicgen.frame_rate),
    )
    return model, text.t5_tokenizer


def _config(lm: LMModel, weights: Mapping[str, Tensor], text: Any, encodec: Any, stereo: bool) -> Any:
    from transformers import MusicgenConfig, MusicgenDecoderConfig

    layers: Any = lm.transformer.layers
    activation = {torch.nn.functional.gelu: "gelu", torch.nn.functional.relu: "relu"}.get(layers[0].activation)
    if activation is None:
        raise ModelError("this LM computes with an activation that transformers' MusicGen does not have.")
    decoder = MusicgenDecoderConfig(
        vocab_size=lm.card,
        hidden_size=lm.dim,
        num_hidden_layers=len(layers),
        num_attention_heads=layers[0].self_attn.num_heads,
        ffn_dim=len(weights["decoder.model.decoder.layers.0.fc1.weight"]),
        num_codebooks=lm.n_q,
        audio_channels=2 if stereo else 1,
        activation_function=activation,
        pad_token_id=lm.card,
        bos_token_id=lm.card,
    )
    return MusicgenConfig(text_encoder=text.t5.config, audio_encoder=encodec.model.config, decoder=decoder)
