"""How the language model of the shipped checkpoint is trained: codec, corpus and LM, from one seed, resumable.

``interp testbed train FOLDER`` runs :func:`train`; ``--codec FOLDER/codec`` puts a learned codec
(:mod:`interp.recipes.codec`) where the one of k-means stands. Rendering happens in a second process ahead of the LM.
"""

from __future__ import annotations

import logging
import math
import multiprocessing
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from interp._files import atomic
from interp.backends.audiocraft import hash_weights
from interp.data.render import render_arrays
from interp.errors import StoreError
from interp.recipes.codec import claim
from interp.recipes.corpus import CLIP_SECONDS, load_part, part_path, render_part
from interp.testbed.codec import MelCodec, fit_codebooks
from interp.testbed.lm import CONFIG, build_lm
from interp.testbed.neural_codec import NeuralCodec
from interp.testbed.prompts import PHRASES, tokens_of

__all__ = ["Recipe", "train"]

_TRAITS = tuple(PHRASES)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the shipped weights.

    Attributes
    ----------
    seed : int
        Seed of rendering, codec, initial weights and batches.
    codec_clips : int
        Clips the codebooks are fitted on.
    parts, part_size : int
        Parts of the corpus, and clips in each; ``first_parts`` exist before the first step, then one more becomes
        available every ``steps_per_part`` steps.
    steps, batch_size : int
        Optimiser steps, clips of 4 s in each.
    learning_rate : float
        Of Muon (the transformer's matrices) and AdamW (everything else); reached after ``warmup`` steps, constant
        until ``decay_from`` (a share of the steps), then falling linearly to 0.
    weight_decay : float
        Of both optimisers, on matrices.
    keep : tuple of float
        Probability that a training prompt mentions genre, instrument, drums, bass, tempo, mode.
    drop_prompt : float
        Probability that a training prompt is empty, as classifier-free guidance needs.
    save_every : int
        Steps between checkpoints and lines of the log.
    codec : str
        Identity of a learned codec's weights; empty for codebooks of k-means, which are fitted first.
    hard : int
        One part in so many has hard mixes.
    """

    seed: int = 0
    codec_clips: int = 1500
    parts: int = 48
    part_size: int = 500
    first_parts: int = 6
    steps_per_part: int = 20
    steps: int = 6000
    batch_size: int = 16
    learning_rate: float = 1.5e-3
    warmup: int = 150
    decay_from: float = 0.7
    weight_decay: float = 0.05
    keep: tuple[float, ...] = (0.85, 0.85, 0.85, 0.6, 0.4, 0.3)
    drop_prompt: float = 0.15
    save_every: int = 250
    codec: str = ""
    hard: int = 2

    def rate(self, step: int) -> float:
        """Learning rate at a step, from 0."""
        start = self.decay_from * self.steps
        falling = max(0.0, (self.steps - step) / (self.steps - start))
        return self.learning_rate * min(1.0, (step + 1) / self.warmup, falling)


def train(
    folder: Path,
    recipe: Recipe | None = None,
    on_step: Callable[[int], None] | None = None,
    codec: Path | None = None,
) -> Path:
    """Train codec and LM; run again to go on where it stopped.

    Parameters
    ----------
    folder : Path
        Where codebooks, corpus, checkpoints and the log go.
    recipe : Recipe, optional
        The shipped model's by default.
    on_step : callable, optional
        Called with the number of each finished step.
    codec : Path, optional
        A learned codec, as :func:`interp.recipes.codec.train` returns it; copied into the folder.

    Returns
    -------
    Path
        The last checkpoint, ``folder/lm.pt``; :func:`interp.testbed.shipped.export` makes the shipped files from it.

    Raises
    ------
    StoreError
        If the folder holds a run with another recipe.
    """
    recipe = recipe or Recipe()
    folder.mkdir(parents=True, exist_ok=True)
    if codec is not None:
        learned = NeuralCodec.load(codec)
        recipe = replace(recipe, codec=hash_weights(learned.state_dict()))
        if not (folder / "codec.json").exists():
            learned.save(folder / "codec")
    sizes = CONFIG | {"cardinality": _codec(folder, recipe).cardinality}
    claim(folder, asdict(recipe) | {"lm": sizes})
    renderer = multiprocessing.get_context("spawn").Process(target=_render_all, args=(folder, recipe), daemon=True)
    if not all(part_path(folder / "corpus", part).exists() for part in range(recipe.parts + 1)):
        renderer.start()
    try:
        return _train_lm(folder, recipe, sizes, on_step)
    finally:
        if renderer.pid is not None:
            renderer.terminate()


def _codec(folder: Path, recipe: Recipe) -> MelCodec | NeuralCodec:
    if recipe.codec:
        return NeuralCodec.load(folder / "codec")
    path = folder / "codebooks.npy"
    if not path.exists():
        _log.info("fitting the codec on %d clips", recipe.codec_clips)
        audio, _ = render_arrays(recipe.codec_clips, recipe.seed * 100_000 + 99_000, CLIP_SECONDS, progress=True)
        empty = MelCodec(torch.zeros(4, 256, 96))
        frames = torch.cat([empty.frames(torch.from_numpy(audio[i : i + 50])) for i in range(0, len(audio), 50)])
        books = fit_codebooks(frames.reshape(-1, frames.shape[-1]), recipe.seed)
        with atomic(path) as partial:
            np.save(partial, books.numpy())
    return MelCodec(torch.from_numpy(np.load(path, allow_pickle=False)))


def _render_all(folder: Path, recipe: Recipe) -> None:
    torch.set_num_threads(1)
    codec = _codec(folder, recipe)
    (folder / "corpus").mkdir(exist_ok=True)
    parent = multiprocessing.parent_process()
    for part in [recipe.parts, *range(recipe.parts)]:  # the held-out part first
        if parent is not None and not parent.is_alive():
            return
        render_part(folder / "corpus", part, recipe.seed, codec, recipe.part_size, recipe.hard)


def _prompts(phrases: npt.NDArray[np.int8], recipe: Recipe, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    said = []
    for row in phrases:
        kept = rng.random(len(_TRAITS)) < recipe.keep if rng.random() >= recipe.drop_prompt else np.zeros(len(_TRAITS))
        said.append([PHRASES[trait][row[i]] for i, trait in enumerate(_TRAITS) if kept[i]])
    tokens, mask = tokens_of(said)
    pad = len(_TRAITS) - tokens.shape[1]
    return torch.nn.functional.pad(tokens, (0, pad)), torch.nn.functional.pad(mask, (0, pad))


def _loss(lm: Any, codes: Tensor, prompts: tuple[Tensor, Tensor]) -> Tensor:
    from torch.nn.attention import SDPBackend, sdpa_kernel

    # the CPU's fused attention is slow backwards; the plain one costs half
    with sdpa_kernel(SDPBackend.MATH), torch.autocast("cpu", dtype=torch.bfloat16):
        condition = lm.condition_provider.conditioners["description"](prompts)
        output = lm.compute_predictions(codes, [], {"description": condition})
        logits = output.logits.float()[output.mask]
        return torch.nn.functional.cross_entropy(logits, codes[output.mask])


def _train_lm(folder: Path, recipe: Recipe, sizes: dict[str, int], on_step: Callable[[int], None] | None) -> Path:
    from tqdm.auto import tqdm

    torch.manual_seed(recipe.seed)
    lm = build_lm(**sizes)
    optimisers = _optimisers(lm, recipe)
    path, done = folder / "lm.pt", 0
    if path.exists():
        saved = torch.load(path, weights_only=True)
        lm.load_state_dict(saved["lm"])
        for optimiser, state in zip(optimisers, saved["optimisers"], strict=True):
            optimiser.load_state_dict(state)
        done = saved["step"]
    parts: list[tuple[Tensor, npt.NDArray[np.int8]]] = []
    size = recipe.part_size
    held_out = load_part(folder / "corpus", recipe.parts, wait=True)
    losses: list[float] = []
    lm.train()
    for step in tqdm(range(done, recipe.steps), initial=done, total=recipe.steps, desc="train"):
        while len(parts) < min(recipe.parts, recipe.first_parts + step // recipe.steps_per_part):
            parts.append(load_part(folder / "corpus", len(parts), wait=True))
        rng = np.random.default_rng([recipe.seed, step])
        clips = rng.integers(len(parts) * size, size=recipe.batch_size)
        codes = torch.stack([parts[c // size][0][c % size] for c in clips]).long()
        phrases = np.stack([parts[c // size][1][c % size] for c in clips])
        for optimiser in optimisers:
            optimiser.zero_grad(set_to_none=True)
            for group in optimiser.param_groups:
                group["lr"] = recipe.rate(step)
        loss = _loss(lm, codes, _prompts(phrases, recipe, rng))
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(lm.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            raise StoreError(f"the loss is not finite at step {step}: lower the learning rate and start again.")
        if (step + 1) % recipe.save_every == 0 or step + 1 == recipe.steps:
            held = _held_out_loss(lm, held_out, recipe)
            with (folder / "log.csv").open("a") as log:
                log.write(f"{step + 1},{np.mean(losses):.4f},{held:.4f},{recipe.rate(step):.2e},{time.time():.0f}\n")
            losses.clear()
            states = [optimiser.state_dict() for optimiser in optimisers]
            with atomic(path) as partial:
                torch.save({"lm": lm.state_dict(), "optimisers": states, "step": step + 1}, partial)
        if on_step is not None:
            on_step(step + 1)
    return path


def _optimisers(lm: Any, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the transformer's layers, AdamW for embeddings, output heads, norms and conditioner."""
    layers = [p for name, p in lm.named_parameters() if name.startswith("transformer.layers.") and p.ndim == 2]
    chosen = {id(p) for p in layers}
    rest = [p for p in lm.parameters() if id(p) not in chosen]
    groups = [
        {"params": [p for p in rest if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return [
        torch.optim.Muon(layers, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(groups, betas=(0.9, 0.95), fused=True),
    ]


@torch.no_grad()
def _held_out_loss(lm: Any, part: tuple[Tensor, npt.NDArray[np.int8]], recipe: Recipe) -> float:
    """Cross-entropy (nats a token) on up to 96 held-out clips with full prompts."""
    lm.eval()
    full = Recipe(keep=(1.0,) * len(_TRAITS), drop_prompt=0.0)
    rng = np.random.default_rng(0)
    n = recipe.batch_size
    losses = []
    for i in range(0, min(96, len(part[0])), n):
        losses.append(_loss(lm, part[0][i : i + n].long(), _prompts(part[1][i : i + n], full, rng)).item())
    lm.train()
    return float(np.mean(losses))
