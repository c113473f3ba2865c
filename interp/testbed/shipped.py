"""The shipped files: loading them, writing them, and the model card."""

from __future__ import annotations

import csv
import functools
import json
from pathlib import Path
from typing import Any

import torch

from interp._files import atomic
from interp.errors import ModelError
from interp.testbed.prompts import PHRASES

__all__ = ["WEIGHTS", "card", "export", "load"]

#: Folder of the shipped weights.
WEIGHTS = Path(__file__).parent / "weights"
_MAX_SECONDS = 4.0


def load(device: str | torch.device = "cpu", weights: Path = WEIGHTS) -> Any:
    """Load the shipped model.

    Parameters
    ----------
    device : str or torch.device
        Where to put it; it is computed in float32 (the file holds float16).
    weights : Path
        Folder with ``model.safetensors`` and ``config.json``.

    Returns
    -------
    audiocraft.models.MusicGen
        With a :class:`~interp.testbed.codec.MelCodec` or a :class:`~interp.testbed.neural_codec.NeuralCodec` as its
        compression model.

    Raises
    ------
    ModelError
        If the files are missing.

    Examples
    --------
    >>> model = load()
    >>> model.name, model.sample_rate
    ('tiny', 16000)
    """
    from safetensors.torch import load_file

    from interp.testbed.lm import build_lm

    path = weights / "model.safetensors"
    if not path.exists():
        raise ModelError(f"the shipped weights are not at {path}: reinstall it, or run `interp testbed train`.")
    config = json.loads((weights / "config.json").read_text())
    tensors = {name: tensor.float() for name, tensor in load_file(path).items()}
    codec = _codec(config, {n.removeprefix("codec."): t for n, t in tensors.items() if n.startswith("codec.")})
    lm = build_lm(**config["lm"])
    lm.load_state_dict({n.removeprefix("lm."): t for n, t in tensors.items() if n.startswith("lm.")})
    for part in (codec, lm):
        part.to(device).eval().requires_grad_(False)
    return _tiny_class()("tiny", codec, lm, max_duration=_MAX_SECONDS)


def _codec(config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Any:
    """The codec of the shipped files: one of k-means, or a learned one."""
    from interp.testbed.codec import MelCodec
    from interp.testbed.neural_codec import CodecSizes, NeuralCodec

    if "codec" not in config:
        return MelCodec(tensors["codebooks"])
    codec = NeuralCodec(CodecSizes(**config["codec"]["sizes"]), config["codec"]["iterations"])
    codec.load_state_dict(tensors)
    return codec


@functools.cache
def _tiny_class() -> Any:
    from interp.backends.audiocraft import AudiocraftMusicGen

    class Tiny(AudiocraftMusicGen):  # type: ignore[misc]  # audiocraft is untyped
        """audiocraft's MusicGen, with a window of 4 s instead of 30 and a stride that fits it."""

        def set_generation_params(self, *args: Any, **options: Any) -> None:
            options.setdefault("extend_stride", _MAX_SECONDS / 2)
            super().set_generation_params(*args, **options)

    return Tiny


def export(folder: Path, weights: Path = WEIGHTS) -> None:
    """Write the shipped files from a training folder: codec and LM in float16, the recipe, the losses.

    Parameters
    ----------
    folder : Path
        What :func:`interp.recipes.lm.train` filled.
    weights : Path
        Where the files go.
    """
    import numpy as np
    from safetensors.torch import load_file, save_file

    saved = torch.load(folder / "lm.pt", weights_only=True)
    tensors = {f"lm.{name}": tensor.half().contiguous() for name, tensor in saved["lm"].items()}
    recipe = json.loads((folder / "recipe.json").read_text())
    about: dict[str, Any] = {"lm": recipe.pop("lm")}
    if recipe["codec"]:
        tensors |= {f"codec.{name}": tensor for name, tensor in load_file(folder / "codec.safetensors").items()}
        about["codec"] = json.loads((folder / "codec.json").read_text())
    else:
        tensors["codec.codebooks"] = torch.from_numpy(np.load(folder / "codebooks.npy", allow_pickle=False)).half()
    with atomic(weights / "model.safetensors") as partial:
        save_file(tensors, partial)
    with (folder / "log.csv").open() as log:
        *_, last = csv.reader(log)
    training = {"steps": int(last[0]), "train_loss": float(last[1]), "held_out_loss": float(last[2])}
    with atomic(weights / "config.json") as partial:
        partial.write_text(json.dumps({**about, "recipe": recipe, "training": training}, indent=2) + "\n")


def card(weights: Path = WEIGHTS) -> str:
    """The model card as text: what the shipped model is, how it was trained, what judges measured of it.

    The measurements are those that ``analyses/model_card.py`` wrote beside the weights.

    Examples
    --------
    >>> card().splitlines()[0]
    'tiny: the small MusicGen that ships with interp'
    """
    from safetensors import safe_open

    config = json.loads((weights / "config.json").read_text())
    recipe, training, lm = config["recipe"], config["training"], config["lm"]
    with safe_open(weights / "model.safetensors", "pt") as file:
        n_values = sum(file.get_tensor(name).numel() for name in file.keys())  # noqa: SIM118  # not a dict
    megabytes = sum(path.stat().st_size for path in weights.iterdir()) / 1e6
    known = "\n".join(f"  {trait:<11} {', '.join(phrases)}" for trait, phrases in PHRASES.items())
    n_clips = recipe["parts"] * recipe["part_size"]
    text = f"""tiny: the small MusicGen that ships with interp

Sizes     {lm["num_layers"]} layers x {lm["num_heads"]} heads, width {lm["dim"]}, {n_values / 1e6:.1f} M values,
          {megabytes:.1f} MB; 4 codebooks of 256, 50 frames a second, 16 kHz mono, up to {_MAX_SECONDS:g} s at once
Data      {n_clips} clips of 4 s composed from labelled factors and rendered with the General MIDI
          sound font TimGM6mb (carried by pretty_midi); no recorded music
Training  {training["steps"]} steps of {recipe["batch_size"]} clips, Muon and AdamW, seed {recipe["seed"]};
          cross-entropy {training["train_loss"]:.2f} (training clips, prompts dropped at random) and
          {training["held_out_loss"]:.2f} (held-out clips, full prompts) nats a token; ln 256 = 5.55
Licence   MIT, like the code
Can       continue and write four seconds of simple one-lead arrangements on these prompts
          (comma-separated phrases):
{known}
Cannot    free text, singing, recorded sounds, forms longer than a few bars; sound is that of 96 mel
          bands with reconstructed phase
"""
    path = weights / "card.json"
    if path.exists():
        measured = json.loads(path.read_text())
        text += f"\nMeasured by the audio judges on generated clips ({measured['command']}):\n"
        for row in measured["bars"]:
            asked = "" if row["bar"] is None else f"bar {row['bar']:.0%}, "
            text += (
                f"  {row['trait']:<11} heard as prompted {row['right']:.1%} [{row['lo']:.1%}, {row['hi']:.1%}] of "
                f"{row['n']} ({asked}chance {row['chance']:.0%}; judge itself {row['judge']:.1%})\n"
            )
    return text
