"""Zero-shot judge: CLAP (transformers) asked in words. Needs weights from a hub or a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from interp.errors import DataError, ModelError
from interp.judges.base import ACCURACY_COLUMNS, Audio, measure_answers, mono

__all__ = ["MUSIC_WORDS", "QUESTIONS", "ClapJudge"]

#: Question -> answer -> words. An answer that starts with "no " is the other side of a yes/no question.
QUESTIONS: dict[str, dict[str, str]] = {
    "drums": {"drums": "music with drums", "no drums": "music without drums or percussion"},
    "bass": {"bass": "music with a bass line", "no bass": "music without bass"},
    "genre": {name: f"{name} music" for name in ("classical", "rock", "jazz", "electronic")},
    "instrument": {
        name: f"the sound of a {name}"
        for name in ("piano", "guitar", "string section", "brass section", "flute", "organ")
    },
}
MUSIC_WORDS = ("music", "noise, static or silence")


class ClapJudge:
    """Judge by comparing audio with words in CLAP's joint embedding (arXiv 2211.06687).

    As in the rendered judge, a trait's probability is that of *trait and music*.

    Parameters
    ----------
    checkpoint : str or Path
        Name on the hub, or a folder, of a transformers ``ClapModel`` with its processor.
    questions : mapping of str to mapping of str to str, optional
        Question -> answer -> words; :data:`QUESTIONS` when None. At least two answers each.
    device : str
        Where to run.
    batch_size : int
        Clips at once.

    Raises
    ------
    ModelError
        If the checkpoint cannot be loaded.
    DataError
        If a question has fewer than two answers, or two questions share an answer.

    Notes
    -----
    Zero-shot accuracy depends on the words and the music, so it is unknown until :meth:`measure` is called with
    labelled audio; :func:`interp.judges.accuracy_table` says "not measured" until then.
    """

    independent = True

    def __init__(
        self,
        checkpoint: str | Path = "laion/larger_clap_music",
        questions: Mapping[str, Mapping[str, str]] | None = None,
        *,
        name: str = "clap",
        device: str = "cpu",
        batch_size: int = 16,
    ) -> None:
        self.name = name
        asked = {q: dict(a) for q, a in (QUESTIONS if questions is None else questions).items()}
        columns = [column for answers in asked.values() for column in answers]
        if any(len(answers) < 2 for answers in asked.values()) or len(set(columns)) < len(columns):
            raise DataError("Every question needs two answers or more, and no answer may belong to two questions.")
        try:
            from transformers import ClapModel, ClapProcessor

            self._processor: Any = ClapProcessor.from_pretrained(checkpoint)
            model: Any = ClapModel.from_pretrained(checkpoint)
            self._model = model.to(device).eval()
        except (OSError, ValueError, ImportError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ModelError(f"No CLAP model could be loaded from {checkpoint}: {reason}") from None
        self._words = asked
        self._device, self._batch_size = device, batch_size
        self._rate = int(self._processor.feature_extractor.sampling_rate)
        self._texts = {q: self._embed_text(list(answers.values())) for q, answers in asked.items()}
        self._music = self._embed_text(list(MUSIC_WORDS))
        self._scale = float(self._model.logit_scale_a.detach().exp())
        self._measured: list[dict[str, Any]] = []

    @property
    def questions(self) -> dict[str, list[str]]:
        """Question -> the columns that answer it; yes/no questions have the one column of the same name."""
        return {q: [q] if set(a) == {q, f"no {q}"} else list(a) for q, a in self._words.items()}

    @property
    def accuracy(self) -> Mapping[str, float]:
        """What :meth:`measure` found; empty before."""
        return {row["trait"]: row["value"] for row in self._measured}

    def accuracy_frame(self) -> pd.DataFrame:
        """Return what :meth:`measure` found."""
        return pd.DataFrame(self._measured, columns=ACCURACY_COLUMNS)

    def measure(
        self, audio: Audio, sample_rate: int, labels: pd.DataFrame, what: str = "labelled clips"
    ) -> pd.DataFrame:
        """Measure the judge on labelled audio; from then on that accuracy is reported beside its verdicts.

        Parameters
        ----------
        audio : Audio
            N clips.
        sample_rate : int
            In Hz.
        labels : pandas.DataFrame
            N rows; a column per question (0/1 for yes/no questions, else the answer), and ``group`` if there is one.
        what : str
            Name of the audio, for the record.
        """
        self._measured = measure_answers(self.score(audio, sample_rate), labels, self.questions, what)
        return self.accuracy_frame()

    def score(self, audio: Audio, sample_rate: int) -> pd.DataFrame:
        """Judge clips.

        Returns
        -------
        pandas.DataFrame
            N rows; P(answer and music) for every answer of every question, and ``not_music``.
        """
        heard = torch.from_numpy(self.embed(audio, sample_rate))
        music = torch.softmax(self._scale * heard @ self._music.T, 1)[:, 0]
        columns: dict[str, NDArray[np.float32]] = {}
        for question, answers in self._words.items():
            shares = torch.softmax(self._scale * heard @ self._texts[question].T, 1) * music[:, None]
            columns |= {answer: shares[:, i].numpy() for i, answer in enumerate(answers)}
        columns["not_music"] = (1 - music).numpy()
        return pd.DataFrame(columns)

    @torch.no_grad()
    def embed(self, audio: Audio, sample_rate: int) -> NDArray[np.float32]:
        """Embed clips in CLAP's joint space: unit vectors ``[N, dim]``, for FAD, KAD and similarity."""
        clips = [clip.numpy() for clip in mono(audio, sample_rate, self._rate)]
        parts = []
        for start in range(0, len(clips), self._batch_size):
            inputs = self._processor.feature_extractor(
                clips[start : start + self._batch_size], sampling_rate=self._rate, return_tensors="pt"
            )
            parts.append(self._unit(self._model.get_audio_features(**inputs.to(self._device))))
        embedded: NDArray[np.float32] = torch.cat(parts).numpy()
        return embedded

    @torch.no_grad()
    def _embed_text(self, words: Sequence[str]) -> torch.Tensor:
        inputs = self._processor.tokenizer(list(words), padding=True, return_tensors="pt").to(self._device)
        return self._unit(self._model.get_text_features(**inputs))

    @staticmethod
    def _unit(output: Any) -> torch.Tensor:
        # transformers 5 returns an output object, 4 returned the tensor
        features = output if isinstance(output, torch.Tensor) else output.pooler_output
        return torch.nn.functional.normalize(features.float().cpu(), dim=-1)
