"""Train and measure the rendered judge: from a seed, on rendered music, its codec round trips, and its ruins."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional

from interp.errors import DataError
from interp.judges.network import HOP, SAMPLE_RATE, ListeningNet, log_mels
from interp.judges.rendered import MUSIC, RenderedJudge
from interp.recipes.degrade import KINDS, UNSEEN_KINDS, Codec, blemish, degrade
from interp.recipes.rendered_accuracy import TEST_SEED, measure_rendered_judge, shipped_codec

if TYPE_CHECKING:
    from interp.model import MusicGen

__all__ = ["JudgeData", "fit_rendered_judge", "make_judge_data", "train_rendered_judge"]

log = logging.getLogger(__name__)

_BLOCK = 64  # clips rendered at once, from a seed of their own
_CROP = (1.6, 3.0)  # seconds


@dataclass
class JudgeData:
    """Music and ruins to train a judge on.

    Attributes
    ----------
    mels : Tensor, float16 ``[N, 2, bands, frames]``
        Spectrograms.
    answers : dict of str to Tensor, int64 ``[N]``
        Question -> index of the right answer (0/1 for yes/no questions); meaningless where `music` is 0.
    music : Tensor, bool ``[N]``
        Whether the clip is music.
    clean : Tensor, bool ``[N]``
        Whether it is music that saw no codec.
    questions : dict of str to list of str
        Question -> its answers.
    made_by : dict
        Seed and counts.
    """

    mels: Tensor
    answers: dict[str, Tensor]
    music: Tensor
    clean: Tensor
    questions: dict[str, list[str]]
    made_by: dict[str, Any]


def default_questions() -> dict[str, list[str]]:
    """Return the questions that rendered music has labels for."""
    from interp.data.factors import GENRES, INSTRUMENTS

    return {"drums": ["drums"], "bass": ["bass"], "instrument": list(INSTRUMENTS), "genre": list(GENRES)}


def _answers(labels: pd.DataFrame, questions: Mapping[str, list[str]]) -> dict[str, Tensor]:
    found = {}
    for question, answers in questions.items():
        column = labels[question]
        index = column.astype(int) if len(answers) == 1 else column.map({a: i for i, a in enumerate(answers)})
        found[question] = torch.tensor(index.to_numpy(np.int64))
    return found


def _mels(audio: Tensor) -> Tensor:
    return torch.cat([log_mels(part).half() for part in torch.split(audio, 4)])


@torch.no_grad()
def make_judge_data(
    seed: int = 0,
    n_clips: int = 6400,
    codec: Codec | None = None,
    seconds: float = 3.0,
    not_music: Tensor | None = None,
    progress: bool = False,
) -> JudgeData:
    """Render music and ruin some of it.

    Every rendered clip goes through the codec with the small faults of a language model. A third is also heard clean,
    and a quarter ruined, in equal parts by every kind that is not kept for testing.

    Parameters
    ----------
    seed : int
        Of music and ruin.
    n_clips : int
        Rendered clips, each of a score of its own, a quarter of them in the ``hard`` mix (quiet drums, doubled leads).
    codec : Codec, optional
        The shipped model's when None.
    seconds : float
        Length of each clip.
    not_music : Tensor, float32 ``[N, T]``, optional
        More sound that is not music, at 16 kHz: over-steered output of the model itself.
    progress : bool
        Show a progress bar.

    Raises
    ------
    DataError
        If `n_clips` is below 64.
    """
    from tqdm.auto import tqdm

    if n_clips < _BLOCK:
        raise DataError(f"{n_clips} clips are too few to train a judge: give at least {_BLOCK}.")
    codec = codec or shipped_codec()
    bar = tqdm(range(-(-n_clips // _BLOCK)), desc="judge: music and ruins", disable=not progress)
    parts = [
        part for number in bar for part in _block(seed, number, min(_BLOCK, n_clips - number * _BLOCK), codec, seconds)
    ]
    made_by = {"seed": seed, "n_clips": n_clips, "seconds": seconds, "kinds": _trained_kinds()}
    return _assemble(parts, not_music, made_by)


_Part = tuple[Tensor, dict[str, Tensor], bool, bool]  # spectrograms, answers, music, clean


def _trained_kinds() -> list[str]:
    return [kind for kind in KINDS if kind not in UNSEEN_KINDS]


def _hurried(codec: Codec) -> Codec:
    """A codec whose phase reconstruction, if it has any, stops after 8 iterations: four times as fast, nearly as good.

    A judge trained at 32 iterations gives the same instrument for 97 % of clips decoded with 8.
    """
    if getattr(codec, "iterations", 0) <= 8:
        return codec
    quick: Any = copy.copy(codec)
    quick.iterations = 8
    return cast(Codec, quick)


def _block(seed: int, number: int, n: int, codec: Codec, seconds: float) -> list[_Part]:
    """Block `number` of the training clips; blocks do not depend on each other."""
    from interp.data import render_arrays

    rng = np.random.default_rng([seed, 7, number])
    questions, kinds = default_questions(), _trained_kinds()
    codec = codec if number % 8 == 0 else _hurried(codec)
    mix: Literal["realistic", "hard"] = "hard" if number % 4 == 3 else "realistic"
    rendered, labels = render_arrays(n, seed * 1000 + number, seconds, mix=mix, clips_per_score=1)
    audio = torch.from_numpy(rendered[:, 0])
    answers = _answers(labels, questions)
    parts: list[_Part] = [(_mels(_stained(blemish(codec, audio, rng), rng)), answers, True, False)]
    kept = torch.from_numpy(rng.permutation(n)[: n // 3])
    parts.append((_mels(_stained(audio[kept], rng)), {q: a[kept] for q, a in answers.items()}, True, True))
    for i, chosen in enumerate(torch.split(torch.from_numpy(rng.permutation(n)[: n // 4]), 4)):
        kind = kinds[(number * 4 + i) % len(kinds)]
        ruined = _mels(degrade(audio[chosen], kind, codec, rng))
        parts.append((ruined, {q: a[chosen] for q, a in answers.items()}, False, False))
    return parts


def _assemble(parts: list[_Part], not_music: Tensor | None, made_by: dict[str, Any]) -> JudgeData:
    """Put the blocks together, and more sound that is not music with them."""
    questions = default_questions()
    extra = 0 if not_music is None else len(not_music)
    if not_music is not None:
        size = round(made_by["seconds"] * SAMPLE_RATE)
        filled = torch.nn.functional.pad(not_music, (0, max(size - not_music.shape[1], 0)), "circular")[:, :size]
        parts = [*parts, (_mels(filled), {q: torch.zeros(extra, dtype=torch.long) for q in questions}, False, False)]
    return JudgeData(
        mels=torch.cat([part[0] for part in parts]),
        answers={q: torch.cat([part[1][q] for part in parts]) for q in questions},
        music=torch.cat([torch.full((len(part[0]),), part[2]) for part in parts]),
        clean=torch.cat([torch.full((len(part[0]),), part[3]) for part in parts]),
        questions=questions,
        made_by={**made_by, "n_extra_not_music": extra},
    )


def _stained(audio: Tensor, rng: np.random.Generator) -> Tensor:
    """Music as it may come: some of it with faint noise, at 20 to 40 dB below."""
    noise = torch.from_numpy(rng.standard_normal(audio.shape).astype(np.float32))
    down = torch.from_numpy(10 ** (-rng.uniform(20, 40, len(audio)) / 20) * (rng.random(len(audio)) < 0.3))
    return audio + noise * audio.std(1, keepdim=True) * down.float()[:, None]


def fit_rendered_judge(
    data: JudgeData, seed: int = 0, epochs: int = 12, batch_size: int = 64, rate: float = 3e-3, progress: bool = False
) -> RenderedJudge:
    """Fit the network to `data`; the result has no accuracies yet.

    Crops of 1.6 to 3 s, AdamW with one cycle of the learning rate. Traits are learnt from music only.
    """
    from tqdm.auto import tqdm

    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    try:
        rng = np.random.default_rng([seed, 11])
        network = ListeningNet({MUSIC: 1, **{q: len(a) for q, a in data.questions.items()}})
        network.to(memory_format=torch.channels_last)
        optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=1e-2)
        n = len(data.mels)
        steps = n // batch_size
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, epochs * steps, pct_start=0.2)
        bar = tqdm(range(epochs), desc="judge: epochs", disable=not progress)
        for _ in bar:
            order = torch.from_numpy(rng.permutation(n))
            total = 0.0
            for batch in torch.split(order[: steps * batch_size], batch_size):
                loss = _loss(network, data, batch, rng)
                optimiser.zero_grad()
                torch.autograd.backward(loss)
                torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimiser.step()
                cycle.step()
                total += float(loss.detach())
            bar.set_postfix(loss=f"{total / steps:.3f}")
            log.info("loss %.3f", total / steps)
        network.eval()
        with torch.no_grad():
            music = data.mels[data.music][:1024]
            embeddings = torch.cat([network.embed(part.float()) for part in torch.split(music, 64)])
    finally:
        torch.random.set_rng_state(state)
    info = {**data.made_by, "epochs": epochs, "batch_size": batch_size, "rate": rate, "torch": torch.__version__}
    return RenderedJudge.from_network(network, data.questions, embeddings, {**info, "accuracy": []})


def _loss(network: ListeningNet, data: JudgeData, batch: Tensor, rng: np.random.Generator) -> Tensor:
    frames = data.mels.shape[-1]
    width = min(frames, round(rng.uniform(*_CROP) * SAMPLE_RATE / HOP))
    start = int(rng.integers(0, frames - width + 1))
    mels = data.mels[batch][..., start : start + width].float()
    # another microphone: overall level (the crop's own differs from the clip's) and a tilt of the spectrum
    n, bands = len(mels), mels.shape[2]
    level = torch.from_numpy(rng.normal(0, 0.15, (n, 1, 1, 1)).astype(np.float32))
    tilt = torch.from_numpy(rng.normal(0, 0.2, (n, 1, 1, 1)).astype(np.float32))
    mels = mels + level + tilt * torch.linspace(-1, 1, bands)[:, None]
    # SpecAugment (Park et al. 2019): a band of frequencies and a stretch of time hidden in every clip
    for axis, widest in ((2, 6), (3, 10)):
        size = mels.shape[axis]
        low = rng.integers(0, size, n)
        high = low + rng.integers(0, widest + 1, n)
        at = np.arange(size)
        hidden = torch.from_numpy((at >= low[:, None]) & (at < high[:, None]))
        mels = mels.masked_fill(hidden[:, None, :, None] if axis == 2 else hidden[:, None, None, :], 0.0)
    logits, _ = network(mels.contiguous(memory_format=torch.channels_last))
    music = data.music[batch]
    loss = functional.binary_cross_entropy_with_logits(logits[MUSIC][:, 0], music.float())
    for question, answers in data.questions.items():
        out, truth = logits[question][music], data.answers[question][batch][music]
        if len(answers) == 1:
            loss = loss + functional.binary_cross_entropy_with_logits(out[:, 0], truth.float())
        else:
            loss = loss + functional.cross_entropy(out, truth, label_smoothing=0.02)
    return loss


def train_rendered_judge(
    seed: int = 0,
    n_clips: int = 6400,
    out: Path | str | None = None,
    *,
    model: MusicGen | None = None,
    epochs: int = 12,
    n_test: int = 400,
    progress: bool = True,
) -> RenderedJudge:
    """Render, ruin, over-steer, train, measure, save: about twelve minutes on one idle core.

    Parameters
    ----------
    seed : int
        The same seed, model and machine give the same judge.
    n_clips, epochs : int
        Training size; see :func:`make_judge_data` and :func:`fit_rendered_judge`. One in 40 more clips is over-steered
        output of the model.
    out : Path, optional
        Where to save, without suffix; nothing is saved when None.
    model : MusicGen, optional
        Whose music is to be judged: its codec, and its over-steered output. The shipped one when None.
    n_test : int
        Test clips; see :func:`measure_rendered_judge`.
    progress : bool
        Show progress bars.

    Returns
    -------
    RenderedJudge
        With accuracies.
    """
    import interp
    from interp.recipes.oversteer import over_steered

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model = model or interp.load("tiny")
        drowned = over_steered(model, max(n_clips // 40, 1), seed, 3.0, progress=progress)
        data = make_judge_data(seed, n_clips, model.codec, not_music=drowned, progress=progress)
        judge = fit_rendered_judge(data, seed, epochs, progress=progress)
        judge.info["over_steered_model"] = model.fingerprint
        unheard = over_steered(model, max(n_test // 8, 1), seed + TEST_SEED, 3.0, progress=progress)
        judge.info["accuracy"] = measure_rendered_judge(judge, seed, n_test, model.codec, not_music=unheard)
    finally:
        torch.set_num_threads(threads)
    if out is not None:
        judge.save(out)
        log.info("judge saved to %s", out)
    return judge
