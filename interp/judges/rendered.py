"""The judge of the shipped model's music: a small network trained on rendered clips.

It answers whether drums and bass play, which instrument leads and which genre it is, and, first of all, whether this
is music at all. A trait's probability is that of *trait and music*: noise, frozen or scrambled codes never count as
drums. How it was trained is in :mod:`interp.recipes.rendered_judge`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from interp._files import atomic
from interp.errors import ClipError, StoreError
from interp.judges.accuracy import ACCURACY_COLUMNS
from interp.judges.audio import Audio, by_length, mono
from interp.judges.network import EMBED_DIM, MIN_SECONDS, SAMPLE_RATE, ListeningNet, log_mels

__all__ = ["MUSIC", "WEIGHTS", "RenderedJudge"]

WEIGHTS = Path(__file__).parent / "weights" / "rendered"
MUSIC = "music"
_SILENCE = 1e-4  # RMS, -80 dBFS: there is nothing to hear, whatever a network makes of rounding noise
_BATCH = 64


class RenderedJudge:
    """Judge drums, bass, instrument, genre, and whether a clip is music at all.

    Parameters
    ----------
    path : Path, optional
        Weights without their suffix (``<path>.safetensors`` and ``<path>.json``); the shipped ones when None.

    Attributes
    ----------
    questions : dict of str to list of str
        Question -> its answers, the columns of :meth:`score`: ``{"drums": ["drums"], "genre": ["classical", ...]}``.
    info : dict
        What made the weights: seed, clips, degradations, epochs, versions, accuracies.

    Raises
    ------
    StoreError
        If the weights are missing or damaged.

    Examples
    --------
    >>> judge = RenderedJudge()
    >>> list(judge.questions), judge.score([np.zeros(16_000)], 16_000)["not_music"].item()
    (['drums', 'bass', 'instrument', 'genre'], 1.0)
    """

    name = "rendered"
    independent = True

    def __init__(self, path: Path | str | None = None) -> None:
        path = WEIGHTS if path is None else Path(path)
        try:
            self.info: dict[str, Any] = json.loads(path.with_suffix(".json").read_text())
            tensors = load_file(path.with_suffix(".safetensors"))
            self.questions: dict[str, list[str]] = self.info["questions"]
            self._build({name: value.float() for name, value in tensors.items()})
        except FileNotFoundError:
            raise StoreError(
                f"there is no judge at {path}: train one with interp.recipes.rendered_judge.train_rendered_judge()."
            ) from None
        except Exception as error:  # safetensors, json and torch each have their own
            raise StoreError(f"the judge at {path} is damaged ({error}): train it anew.") from None

    @classmethod
    def from_network(
        cls, network: ListeningNet, questions: Mapping[str, list[str]], embeddings: Tensor, info: dict[str, Any]
    ) -> RenderedJudge:
        """Wrap a trained network; `embeddings` ``[clips, EMBED_DIM]`` of music fix the embedding's centre and scale."""
        judge = cls.__new__(cls)
        judge.questions = dict(questions)
        judge.info = {**info, "questions": judge.questions}
        centre = {"embedding.mean": embeddings.mean(0), "embedding.std": embeddings.std(0).clamp_min(1e-3)}
        judge._build({**network.state_dict(), **centre})
        return judge

    def _build(self, tensors: dict[str, Tensor]) -> None:
        # half precision is what is stored, so what is stored is what is used
        self._tensors = {k: v.half() if v.is_floating_point() else v for k, v in tensors.items()}
        full = {k: v.float() if v.is_floating_point() else v for k, v in self._tensors.items()}
        self._mean, self._std = full.pop("embedding.mean"), full.pop("embedding.std")
        channels = [full[f"body.{4 * i}.weight"].shape[0] for i in range(4)]
        self._network = ListeningNet({MUSIC: 1, **{q: len(a) for q, a in self.questions.items()}}, channels)
        counters = {k: v for k, v in self._network.state_dict().items() if k.endswith("num_batches_tracked")}
        self._network.load_state_dict({**counters, **full})
        self._network.eval()

    def save(self, path: Path | str) -> None:
        """Write ``<path>.safetensors`` and ``<path>.json``."""
        path = Path(path)
        keep = {k: v.contiguous() for k, v in self._tensors.items() if not k.endswith("num_batches_tracked")}
        with atomic(path.with_suffix(".safetensors")) as partial:
            save_file(keep, partial)
        with atomic(path.with_suffix(".json")) as partial:
            partial.write_text(json.dumps(self.info, indent=1) + "\n")

    @property
    def accuracy(self) -> Mapping[str, float]:
        """Share of right answers on held-out rendered audio after a codec round trip, by question."""
        return {row["trait"]: row["value"] for row in self.info["accuracy"] if row["audio"] == "codec round trip"}

    def accuracy_frame(self) -> pd.DataFrame:
        """Return all that was measured on groups never trained on, with intervals."""
        return pd.DataFrame(self.info["accuracy"], columns=ACCURACY_COLUMNS)

    def score(self, audio: Audio, sample_rate: int) -> pd.DataFrame:
        """Judge clips.

        Parameters
        ----------
        audio : Audio
            N clips of at least 0.8 s.
        sample_rate : int
            In Hz; resampled to 16 kHz when it differs.

        Returns
        -------
        pandas.DataFrame
            N rows; ``drums``, ``bass``, one column per instrument and per genre: P(trait and music); and
            ``not_music``. Instruments (genres) and ``not_music`` add up to one.

        Raises
        ------
        ClipError
            If a clip is empty, too short or not finite.
        """
        logits, _, silent = self._hear(audio, sample_rate)
        music = torch.sigmoid(logits[MUSIC][:, 0]) * (~silent).float()
        columns: dict[str, NDArray[np.float32]] = {}
        for question, answers in self.questions.items():
            out = logits[question]
            shares = torch.sigmoid(out) if len(answers) == 1 else torch.softmax(out, 1)
            for i, column in enumerate(answers):
                columns[column] = (shares[:, i] * music).numpy()
        columns["not_music"] = (1.0 - music).numpy()
        return pd.DataFrame(columns)

    def embed(self, audio: Audio, sample_rate: int) -> NDArray[np.float32]:
        """Embed clips for FAD, KAD and similarity.

        Returns
        -------
        numpy.ndarray, float32 ``[N, EMBED_DIM]``
            The layer before the answers, standardised on clean training music.
        """
        _, embedding, _ = self._hear(audio, sample_rate)
        standard: NDArray[np.float32] = ((embedding - self._mean) / self._std).numpy()
        return standard

    @torch.no_grad()
    def _hear(self, audio: Audio, sample_rate: int) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Logits by question, embeddings, and which clips are silent."""
        clips = mono(audio, sample_rate, SAMPLE_RATE)
        for index, clip in enumerate(clips):
            if len(clip) < MIN_SECONDS * SAMPLE_RATE:
                seconds = len(clip) / SAMPLE_RATE
                raise ClipError(f"clip {index} lasts {seconds:.2f} s: the judge needs at least {MIN_SECONDS} s.")
        embedding = torch.empty(len(clips), EMBED_DIM)
        logits = {name: torch.empty(len(clips), head.out_features) for name, head in self._heads()}
        silent = torch.empty(len(clips), dtype=torch.bool)
        for indices, batch in by_length(clips, _BATCH):
            silent[indices] = batch.square().mean(1).sqrt() < _SILENCE
            mels = torch.cat([log_mels(part) for part in torch.split(batch, 4)])  # four clips fit a CPU's cache
            answers, embedding[indices] = self._network(mels)
            for name, value in answers.items():
                logits[name][indices] = value
        return logits, embedding, silent

    def _heads(self) -> list[tuple[str, torch.nn.Linear]]:
        return [(name, head) for name, head in self._network.heads.items() if isinstance(head, torch.nn.Linear)]

    def __repr__(self) -> str:
        worth = ", ".join(f"{trait} {value:.3f}" for trait, value in self.accuracy.items())
        return f"RenderedJudge({worth})"
