"""Zero-shot judge: CLAP (transformers) asked in words. Needs weights from a hub or a folder.

Two things go wrong with CLAP without a word, and are refused or mended here. Some checkpoints give (nearly) the same
vector to every caption, so that every answer is as likely as any other (``laion/larger_clap_music`` is reported to:
mean cosine .999; ``laion/larger_clap_general`` .29, ``laion/clap-htsat-unfused`` .18): such a checkpoint is refused.
And transformers crops clips longer than CLAP's window at random: here they are heard in evenly spaced windows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from interp.errors import DataError, ModelError
from interp.judges.accuracy import ACCURACY_COLUMNS, measure
from interp.judges.audio import Audio, mono, windows
from interp.traits import Trait

__all__ = ["CHECKPOINT", "MUSIC_WORDS", "QUESTIONS", "ClapJudge", "clap_questions"]

CHECKPOINT = "laion/larger_clap_general"

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
_ALIKE = 0.95
"""Mean cosine of answers' vectors above which a checkpoint says the same of everything."""


def clap_questions(traits: Sequence[str | Trait], labels: pd.DataFrame | None = None) -> dict[str, dict[str, str]]:
    """:data:`QUESTIONS`, and words for further labels.

    Parameters
    ----------
    traits : sequence of str or Trait
        What is asked for.
    labels : DataFrame, optional
        Labelled clips; their classes are the answers that compete.

    Returns
    -------
    dict
        Question -> answer -> words, for :class:`ClapJudge`.

    Examples
    --------
    >>> labels = pd.DataFrame({"choir": [0, 1], "style": ["baroque", "folk"]})
    >>> asked = clap_questions(["choir", "style=baroque"], labels)
    >>> asked["choir"], asked["style"]
    ({'choir': 'music with choir', 'no choir': 'music without choir'},
     {'baroque': 'baroque music', 'folk': 'folk music'})
    """
    asked = {question: dict(answers) for question, answers in QUESTIONS.items()}
    wanted = list(map(Trait.parse, traits))
    for name in dict.fromkeys(trait.column for trait in wanted):
        known = asked.get(name, {})
        named = [side for trait in wanted if trait.column == name for side in (trait.positive, trait.against) if side]
        if labels is not None and name in labels:
            read = Trait(name).read(labels)
            classes = [] if name in read.classes else sorted({*read.classes, *named})
        elif name in asked and set(named) <= set(known):
            continue
        else:
            classes = list(dict.fromkeys([*known, *named]))
        if len(classes) == 1:
            classes.append(f"no {classes[0]}")
        sound = "the sound of {}" if name == "instrument" else "{} music"
        words = {answer: known.get(answer, sound.format(answer)) for answer in classes}
        asked[name] = words or {name: f"music with {name}", f"no {name}": f"music without {name}"}
    return asked


class ClapJudge:
    """Judge by comparing audio with words in CLAP's joint embedding (arXiv 2211.06687).

    As in the rendered judge, a trait's probability is that of *trait and music*.

    Parameters
    ----------
    checkpoint : str or Path
        Name on the hub, or a folder, of a transformers ``ClapModel`` with its processor; :data:`CHECKPOINT` when None.
    questions : mapping of str to mapping of str to str, optional
        Question -> answer -> words; :data:`QUESTIONS` when None. At least two answers each.
    device : str
        Where to run.
    batch_size : int
        Clips at once.

    Raises
    ------
    ModelError
        If the checkpoint cannot be loaded, or gives nearly the same vector to all answers.
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
        checkpoint: str | Path | None = None,
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
            raise DataError("every question needs two answers or more, and no answer may belong to two questions.")
        checkpoint = CHECKPOINT if checkpoint is None else checkpoint
        try:
            from transformers import ClapModel, ClapProcessor

            self._processor: Any = ClapProcessor.from_pretrained(checkpoint)
            model: Any = ClapModel.from_pretrained(checkpoint)
            self._model = model.to(device).eval()
        except (OSError, ValueError, ImportError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ModelError(f"no CLAP model could be loaded from {checkpoint}: {reason}") from None
        self._words = asked
        self._device, self._batch_size = device, batch_size
        self._rate = int(self._processor.feature_extractor.sampling_rate)
        self._texts = {q: self._embed_text(list(answers.values())) for q, answers in asked.items()}
        self._music = self._embed_text(list(MUSIC_WORDS))
        self._scale = float(self._model.logit_scale_a.detach().exp())
        self._measured = pd.DataFrame(columns=ACCURACY_COLUMNS)
        cosine = float(np.mean([1 - apart for apart in self.separation.values()]))
        if not cosine <= _ALIKE:
            raise ModelError(
                f"the CLAP checkpoint {checkpoint} says nearly the same of all answers (mean cosine of their words "
                f"{cosine:.3f}), so it cannot tell one from another: take another, such as {CHECKPOINT}."
            )

    @property
    def questions(self) -> dict[str, list[str]]:
        """Question -> the columns that answer it; yes/no questions have the one column of the same name."""
        return {q: [q] if set(a) == {q, f"no {q}"} else list(a) for q, a in self._words.items()}

    @property
    def separation(self) -> dict[str, float]:
        """Question -> 1 less the mean cosine of its answers' vectors: near 0, the words say the same to this CLAP."""
        apart = {}
        for question, texts in self._texts.items():
            n = len(texts)
            texts = torch.where(texts.any(1, keepdim=True), texts, 1 / texts.shape[1] ** 0.5)  # no vector at all: alike
            apart[question] = 1 - float(((texts @ texts.T).sum() - n) / (n * (n - 1)))
        return apart

    def accuracy_frame(self) -> pd.DataFrame:
        """Return what :meth:`measure` found, and the :attr:`separation` of every question's words."""
        rows = [{"trait": q, "measure": "separation of its words", "value": v} for q, v in self.separation.items()]
        return pd.DataFrame([*self._measured.to_dict("records"), *rows], columns=ACCURACY_COLUMNS)

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
            N rows; a column per question, and ``group`` if there is one.
        what : str
            Name of the audio, for the record.
        """
        self._measured = measure(self, audio, sample_rate, labels, what)
        return self._measured

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
        """Embed clips in CLAP's joint space, for FAD, KAD and similarity.

        Returns
        -------
        numpy.ndarray, float32 ``[N, dim]``
            Unit vectors. A clip longer than CLAP's window is heard in evenly spaced windows that cover it, whose
            vectors are averaged: the same clip gives the same vector, and global generators stay as they were.
        """
        clips = mono(audio, sample_rate, self._rate)
        size = int(self._processor.feature_extractor.nb_max_samples)
        cut = [(i, window.numpy()) for i, clip in enumerate(clips) for window in windows(clip, size)]
        parts = []
        for start in range(0, len(cut), self._batch_size):
            with _global_generator_kept():
                inputs = self._processor.feature_extractor(
                    [window for _, window in cut[start : start + self._batch_size]],
                    sampling_rate=self._rate, return_tensors="pt",
                )  # fmt: skip
            # a fusion extractor calls one clip of a batch longer, at random, when none is
            inputs["is_longer"] = torch.zeros_like(torch.as_tensor(inputs["is_longer"]))
            parts.append(self._unit(self._model.get_audio_features(**inputs.to(self._device))))
        total = torch.zeros(len(clips), parts[0].shape[1])
        total.index_add_(0, torch.tensor([i for i, _ in cut]), torch.cat(parts))
        embedded: NDArray[np.float32] = torch.nn.functional.normalize(total, dim=-1).numpy()
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


@contextmanager
def _global_generator_kept() -> Iterator[None]:
    """What transformers draws from numpy's global generator, here and only here, leaves it as it was."""
    state = np.random.get_state()
    try:
        yield
    finally:
        np.random.set_state(state)
