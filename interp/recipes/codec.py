"""How the learned codec is trained: rendered music in several sound fonts, spectral losses, codebooks that follow.

``python -m interp.recipes.codec FOLDER --font FILE --font FILE`` trains in FOLDER, and goes on where it stopped when
it is run again. Clips are rendered in a second process ahead of the training.

The codebooks start as k-means of what the encoder gives after ``quantise_from`` steps, follow its outputs as moving
averages, and entries that are not used any more start again at outputs of the moment (van den Oord et al. 2017,
Zeghidour et al. 2022, Dhariwal et al. 2020). Losses are those of magnitudes alone: the encoder hears no phase, so the
decoder chooses one that fits.
"""

from __future__ import annotations

import copy
import json
import math
import multiprocessing
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from interp._files import atomic
from interp.data.render import render_arrays
from interp.errors import StoreError
from interp.recipes.codec_parts import Follower, Losses, log_magnitude
from interp.testbed.neural_codec import SAMPLE_RATE, CodecSizes, NeuralCodec, magnitudes, synthesise

__all__ = ["Recipe", "train"]

_CLIP_SECONDS = 4.0
_CHECKED = 48  # held-out clips


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the codec.

    Attributes
    ----------
    seed : int
        Seed of rendering, initial weights, crops.
    sizes : CodecSizes
        Widths and depths.
    fonts : tuple of str
        Sound fonts beside TimGM6mb, by file name; part after part of the corpus takes the next one.
    parts, part_size : int
        Parts of the corpus, and clips in each; ``first_parts`` exist before the first step, then one more becomes
        available every ``steps_per_part`` steps.
    steps, batch_size, crop : int
        Optimiser steps, crops in each, code frames of a crop.
    learning_rate : float
        Of AdamW; reached after ``warmup`` steps, constant until ``decay_from`` (a share of the steps), then falling
        linearly to 0.
    quantise_from : int
        Step at which the codebooks start.
    commitment : float
        Weight of the distance between the encoder's outputs and the entries that stand for them.
    follow : float
        Decay, a step, of the moving averages that are the codebooks.
    average : float
        Decay, a step, of the average of all weights, which is what is exported.
    gain : tuple of float
        Lowest and highest change of level of a crop, in dB.
    save_every : int
        Steps between checkpoints and lines of the log.
    """

    seed: int = 0
    sizes: CodecSizes = field(default_factory=CodecSizes)
    fonts: tuple[str, ...] = ()
    parts: int = 18
    part_size: int = 300
    first_parts: int = 3
    steps_per_part: int = 100
    steps: int = 4200
    batch_size: int = 16
    crop: int = 64
    learning_rate: float = 1e-3
    warmup: int = 100
    decay_from: float = 0.7
    quantise_from: int = 300
    commitment: float = 0.25
    follow: float = 0.98
    average: float = 0.998
    gain: tuple[float, float] = (-9.0, 3.0)
    save_every: int = 250

    def rate(self, step: int) -> float:
        """Learning rate at a step, from 0."""
        start = self.decay_from * self.steps
        falling = max(0.0, (self.steps - step) / (self.steps - start))
        return self.learning_rate * min(1.0, (step + 1) / self.warmup, falling)


def train(
    folder: Path,
    recipe: Recipe | None = None,
    fonts: Sequence[Path] = (),
    on_step: Callable[[int, float], None] | None = None,
) -> Path:
    """Train the codec; run again to go on where it stopped.

    Parameters
    ----------
    folder : Path
        Where corpus, checkpoint (``codec.pt``), log and the averaged codec (``codec.safetensors``) go.
    recipe : Recipe, optional
        The shipped codec's by default, with ``fonts`` filled in.
    fonts : sequence of Path
        Sound fonts to render with beside TimGM6mb.
    on_step : callable, optional
        Called with number and loss of each finished step.

    Returns
    -------
    Path
        The averaged codec, for :meth:`NeuralCodec.load <interp.testbed.neural_codec.NeuralCodec.load>`.

    Raises
    ------
    StoreError
        If the folder holds a run with another recipe, or the loss is not finite.
    """
    recipe = recipe or Recipe(fonts=tuple(font.name for font in fonts))
    folder.mkdir(parents=True, exist_ok=True)
    claim(folder, asdict(recipe))
    renderer = multiprocessing.get_context("spawn").Process(
        target=_render_all, args=(folder, recipe, tuple(fonts)), daemon=True
    )
    if not all(_part_path(folder, part).exists() for part in range(recipe.parts + 1)):
        renderer.start()
    try:
        return _train(folder, recipe, on_step)
    finally:
        if renderer.pid is not None:
            renderer.terminate()


def claim(folder: Path, recipe: dict[str, Any]) -> None:
    """Write a recipe into a folder, or raise :class:`StoreError` if another one has been begun there."""
    path = folder / "recipe.json"
    text = json.dumps(recipe, indent=2)
    if not path.exists():
        with atomic(path) as partial:
            partial.write_text(text)
        return
    before, now = json.loads(path.read_text()), json.loads(text)
    # the length of the run may change while the learning rate is still at its plateau
    changed = [key for key in now if before.get(key) != now[key] and key not in ("steps", "decay_from")]
    if changed:
        raise StoreError(f"{folder} holds a run with another {', '.join(changed)}: choose another folder.")


def _part_path(folder: Path, part: int) -> Path:
    return folder / "corpus" / f"part-{part:04d}.npy"


def _render_all(folder: Path, recipe: Recipe, fonts: tuple[Path, ...]) -> None:
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    for part in [recipe.parts, *range(recipe.parts)]:  # the held-out part first
        path = _part_path(folder, part)
        if parent is not None and not parent.is_alive():
            return
        if path.exists():
            continue
        font = [None, *fonts][part % (len(fonts) + 1)] if part < recipe.parts else None
        hard = part // (len(fonts) + 1) % 3 == 2
        n = recipe.part_size if part < recipe.parts else min(_CHECKED, recipe.part_size)
        audio, _ = render_arrays(
            n, recipe.seed * 100_000 + 50_000 + part, _CLIP_SECONDS, mix="hard" if hard else "realistic", font=font
        )
        with atomic(path) as partial:
            np.save(partial, np.round(audio[:, 0] * 32767).astype(np.int16))


def _load_part(folder: Path, part: int) -> npt.NDArray[np.int16]:
    path = _part_path(folder, part)
    while not path.exists():  # another process renders it
        time.sleep(1.0)
    samples: npt.NDArray[np.int16] = np.load(path, allow_pickle=False)
    return samples


def _crops(parts: list[npt.NDArray[np.int16]], recipe: Recipe, rng: np.random.Generator) -> Tensor:
    n = recipe.crop * SAMPLE_RATE // 50
    crops = np.empty((recipe.batch_size, n), np.float32)
    for row in crops:
        clip = parts[rng.integers(len(parts))][rng.integers(recipe.part_size)]
        start = rng.integers(len(clip) - n + 1)
        row[:] = clip[start : start + n] / 32767 * 10 ** (rng.uniform(*recipe.gain) / 20)
    return torch.from_numpy(crops)


def _step_loss(
    codec: NeuralCodec, losses: Losses, audio: Tensor, recipe: Recipe, quantised: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Loss, latents ``[B, T, latent]`` and codes of a batch of crops ``[B, samples]``."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        latent = codec.latents(audio)
    latent = latent.float()
    commitment, codes, passed = torch.zeros(()), None, latent
    if quantised:
        codes = codec.quantiser.encode(latent.detach())
        rest = latent
        for k, book in enumerate(codec.quantiser.entries):
            entry = book[codes[:, k]]
            commitment = commitment + F.mse_loss(rest, entry)
            rest = rest - entry
        passed = latent + (codec.quantiser.decode(codes) - latent).detach()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        magnitude, phase = codec.spectrum(passed)
    true = magnitudes(audio, codec.window, 160)
    direct = (log_magnitude(true) - log_magnitude(magnitude)).abs().mean()
    made = synthesise(magnitude * phase, codec.window)
    return losses(audio, made) + direct + recipe.commitment * commitment, latent.detach(), codes


def _train(folder: Path, recipe: Recipe, on_step: Callable[[int, float], None] | None) -> Path:
    torch.manual_seed(recipe.seed)
    codec = NeuralCodec(recipe.sizes)
    average = copy.deepcopy(codec).requires_grad_(False)
    follower = Follower(codec.quantiser, recipe.follow)
    optimiser = torch.optim.AdamW(codec.parameters(), betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    path, done = folder / "codec.pt", 0
    if path.exists():
        saved = torch.load(path, weights_only=True)
        codec.load_state_dict(saved["codec"])
        average.load_state_dict(saved["average"])
        optimiser.load_state_dict(saved["optimiser"])
        follower.counts, follower.sums, done = saved["counts"], saved["sums"], saved["step"]
    held = torch.from_numpy(_load_part(folder, recipe.parts).astype(np.float32) / 32767)
    losses, parts, seen, kept = Losses(), list[npt.NDArray[np.int16]](), list[float](), list[Tensor]()
    begun = time.perf_counter()
    for step in range(done, recipe.steps):
        while len(parts) < min(recipe.parts, recipe.first_parts + step // recipe.steps_per_part):
            parts.append(_load_part(folder, len(parts)))
        rng = np.random.default_rng([recipe.seed, step])
        if step == recipe.quantise_from:
            kept = kept or [codec.latents(_crops(parts, recipe, rng)).detach().flatten(0, 1) for _ in range(24)]
            follower.start(torch.cat(kept), recipe.seed)
            kept = []
            average.load_state_dict(codec.state_dict())
        loss, latent, codes = _step_loss(
            codec, losses, _crops(parts, recipe, rng), recipe, step >= recipe.quantise_from
        )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(codec.parameters(), 1.0)
        for group in optimiser.param_groups:
            group["lr"] = recipe.rate(step)
        optimiser.step()
        if codes is not None:
            follower.follow(latent.flatten(0, 1), codes.transpose(1, 2).flatten(0, 1), rng)
        _average(average, codec, min(recipe.average, (step + 1) / (step + 10)))
        seen.append(loss.item())
        if not math.isfinite(seen[-1]):
            raise StoreError(f"the loss is not finite at step {step}: lower the learning rate and start again.")
        if (step + 1) % recipe.save_every == 0 or step + 1 == recipe.steps:
            state = {"counts": follower.counts, "sums": follower.sums, "step": step + 1}
            modules: dict[str, Any] = {"codec": codec, "average": average, "optimiser": optimiser}
            with atomic(path) as partial:
                torch.save(state | {name: module.state_dict() for name, module in modules.items()}, partial)
            average.save(folder / "codec")
            pace = (time.perf_counter() - begun) / len(seen)
            _write_log(
                folder, step + 1, float(np.mean(seen)), _held_out(average, losses, held), recipe.rate(step), pace
            )
            seen.clear()
            begun = time.perf_counter()
        if on_step is not None:
            on_step(step + 1, loss.item())
    return folder / "codec"


@torch.no_grad()
def _average(average: NeuralCodec, codec: NeuralCodec, decay: float) -> None:
    for old, new in zip(average.state_dict().values(), codec.state_dict().values(), strict=True):
        old.lerp_(new, 1 - decay)


@torch.no_grad()
def _held_out(codec: NeuralCodec, losses: Losses, audio: Tensor) -> tuple[float, list[float]]:
    """Loss of held-out clips through :meth:`NeuralCodec.decode`, and of each codebook the entropy in bits."""
    codes = codec.encode(audio[:, None])[0]
    made = codec.decode(codes)[:, 0]
    bits = []
    for k in range(codes.shape[1]):
        share = torch.bincount(codes[:, k].flatten(), minlength=codec.cardinality).float()
        share = share[share > 0] / share.sum()
        bits.append(float(-(share * share.log2()).sum()))
    return float(losses(audio, made)), bits


def _write_log(folder: Path, step: int, loss: float, held: tuple[float, list[float]], rate: float, pace: float) -> None:
    path = folder / "log.csv"
    if not path.exists():
        path.write_text("step,loss,held_out,bits,rate,seconds_per_step,time\n")
    bits = " ".join(f"{value:.2f}" for value in held[1])
    with path.open("a") as log:
        log.write(f"{step},{loss:.4f},{held[0]:.4f},{bits},{rate:.2e},{pace:.3f},{time.time():.0f}\n")


def _main() -> None:
    import argparse

    from tqdm.auto import tqdm

    parser = argparse.ArgumentParser(description="Train the codec of the shipped model; run again to go on.")
    parser.add_argument("folder", type=Path, help="training folder; lies outside of the package")
    parser.add_argument("--font", type=Path, action="append", default=[], help="another sound font; may be repeated")
    parser.add_argument("--steps", type=int, default=Recipe.steps, help="optimiser steps in all")
    arguments = parser.parse_args()
    recipe = Recipe(steps=arguments.steps, fonts=tuple(font.name for font in arguments.font))
    with tqdm(total=recipe.steps, desc="codec", mininterval=10) as bar:

        def show(step: int, loss: float) -> None:
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            bar.update(step - bar.n)

        train(arguments.folder, recipe, arguments.font, show)


if __name__ == "__main__":
    _main()
