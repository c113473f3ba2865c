"""What a judge is: the one contract, and the one place where it is decided what a judge hears.

A judge measures audio alone. One that can be asked for traits has *questions*: a name and the answers that compete,
``{"drums": ["drums"], "genre": ["jazz", "rock"]}``; a question with a single answer is asked yes or no. Its
:meth:`Judge.score` gives the probability that an answer is right *and* that this is music, and ``not_music``.
:func:`hears` turns scores into what is counted, the same for every judge, study and command.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from interp.errors import DataError
from interp.judges.audio import Audio
from interp.traits import Trait

__all__ = [
    "Judge",
    "answers",
    "can_hear",
    "describe",
    "embed",
    "has_embedding",
    "hears",
    "judge_all",
    "named",
    "require",
    "score",
]


@runtime_checkable
class Judge(Protocol):
    """Measures traits in audio alone.

    A judge may also have ``abstains``, a mapping of answers to sentences that say why it does not give them, and
    ``embed(audio, sample_rate)``, one vector a clip, float32 ``[N, dim]``: distances between
    sets of clips and similarity to a prompt are measured with it (:func:`has_embedding`).

    Attributes
    ----------
    name : str
        Short name; tells several judges apart in tables.
    independent : bool
        False for a judge that looks inside the model it judges (the model's own probe).
    questions : mapping of str to sequence of str
        Question -> the answers that compete, which are columns of :meth:`score`; empty for a judge that only measures.

    Examples
    --------
    >>> class Loud:
    ...     name, independent, questions = "loud", True, {"loud": ["loud"]}
    ...     def score(self, audio, sample_rate):
    ...         level = np.abs(np.asarray(audio)).max(axis=(1, 2))
    ...         return pd.DataFrame({"loud": level, "not_music": 0.0})
    ...     def accuracy_frame(self):
    ...         return pd.DataFrame()
    >>> isinstance(Loud(), Judge)
    True
    >>> hears(Loud(), np.array([[[0.9, -0.2]], [[0.1, 0.0]]]), "loud", 16_000)
         hit  score  not_music
    0   True    0.9      False
    1  False    0.1      False
    """

    @property
    def name(self) -> str: ...

    @property
    def independent(self) -> bool: ...

    @property
    def questions(self) -> Mapping[str, Sequence[str]]: ...

    def score(self, audio: Audio, sample_rate: int) -> pd.DataFrame:
        """Return one row per clip; columns are answers and ``not_music`` (probabilities), or measures in their unit."""
        ...

    def accuracy_frame(self) -> pd.DataFrame:
        """Return columns ``trait, measure, value, lo, hi, chance, n, n_groups, audio``; empty if never measured."""
        ...


def has_embedding(judge: Judge) -> bool:
    """Whether a judge embeds clips, for distances and similarity.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> has_embedding(SimpleNamespace(embed=len)), has_embedding(SimpleNamespace())
    (True, False)
    """
    return callable(getattr(judge, "embed", None))


def embed(judge: Judge, audio: Audio, sample_rate: int) -> NDArray[np.float32]:
    """Let a judge embed clips, and check what it gives.

    Returns
    -------
    numpy.ndarray, float32 ``[N, dim]``

    Raises
    ------
    DataError
        If the judge has no embedding, or one is not finite.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> judge = SimpleNamespace(name="ear", embed=lambda audio, sample_rate: np.asarray(audio).mean(axis=2))
    >>> embed(judge, np.full((2, 1, 100), 0.25), 16_000).tolist()
    [[0.25], [0.25]]
    """
    if not has_embedding(judge):
        raise DataError(f"the judge {judge.name!r} has no embedding, so no distance can be measured with it.")
    vectors: NDArray[np.float32] = np.asarray(judge.embed(audio, sample_rate), dtype=np.float32)  # type: ignore[attr-defined]
    if vectors.shape[:1] != (len(audio),) or not np.isfinite(vectors).all():
        raise DataError(
            f"the judge {judge.name!r} gave embeddings {list(vectors.shape)} of {len(audio)} clips, finite or not: it "
            "must give one finite vector a clip."
        )
    return vectors


def describe(judge: Judge) -> str:
    """Name the traits that a judge can be asked for, as they are written: ``drums, instrument=piano, ...``."""
    asked = [(question, answer) for question, of in judge.questions.items() for answer in of]
    return ", ".join(question if question == answer else f"{question}={answer}" for question, answer in asked)


def can_hear(judge: Judge, trait: str | Trait) -> bool:
    """Whether a judge can be asked for a trait.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> judge = SimpleNamespace(name="ear", questions={"drums": ["drums"], "genre": ["jazz", "rock"]})
    >>> [can_hear(judge, trait) for trait in ("drums", "genre=jazz", "genre", "orchestral")]
    [True, True, False, False]
    """
    return _answer(judge, Trait.parse(trait)) is not None


def require(judges: Judge | Sequence[Judge], *traits: str | Trait) -> None:
    """Refuse at once, before any work, what a judge cannot hear.

    Raises
    ------
    DataError
        If a judge answers no question, or does not know a trait; the sentence says what it knows and what can be done.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> judge = SimpleNamespace(name="ear", questions={"drums": ["drums"]})
    >>> require(judge, "drums")
    >>> require(judge, "drums", "jazz")
    Traceback (most recent call last):
        ...
    interp.errors.DataError: the judge 'ear' cannot hear 'jazz': it knows drums. ...
    """
    several: Any = judges if isinstance(judges, list | tuple) else [judges]
    for judge in several:
        for trait in map(Trait.parse, traits):
            if _answer(judge, trait) is not None:
                continue
            why = getattr(judge, "abstains", {}).get(trait.answer)
            if why:
                raise DataError(why)
            if not judge.questions:
                raise DataError(
                    f"the judge {judge.name!r} measures sound and answers no question, so it cannot say whether it "
                    f"hears {str(trait)!r}: ask one that does, such as rendered, tagger, clap, or trained."
                )
            raise DataError(
                f"the judge {judge.name!r} cannot hear {str(trait)!r}: it knows {describe(judge)}. "
                "Name the tags of a tagger that stand for it, have a judge trained on the sound of your labelled clips "
                "(--judge trained, with their folder), or listen yourself (interp steer --doses)."
            )


def score(judge: Judge, audio: Audio, sample_rate: int) -> pd.DataFrame:
    """Let a judge score clips, and check what it says.

    Returns
    -------
    DataFrame
        As :meth:`Judge.score`: one row a clip, indexed from 0.

    Raises
    ------
    DataError
        If there is not one row a clip, an answer or ``not_music`` is missing, or a probability is not finite.

    Examples
    --------
    >>> class Ear:
    ...     name, independent, questions = "ear", True, {"loud": ["loud"]}
    ...     def score(self, audio, sample_rate):
    ...         return pd.DataFrame({"loud": np.abs(np.asarray(audio)).max(axis=(1, 2)), "not_music": 0.0})
    ...     def accuracy_frame(self):
    ...         return pd.DataFrame()
    >>> score(Ear(), np.full((2, 1, 100), 0.25), 16_000)
       loud  not_music
    0  0.25        0.0
    1  0.25        0.0
    """
    table = judge.score(audio, sample_rate).reset_index(drop=True)
    if len(table) != len(audio):
        raise DataError(
            f"the judge {judge.name!r} gave {len(table)} rows for {len(audio)} clips: it must give one a clip."
        )
    if judge.questions:
        _check(judge, table, [answer for of in judge.questions.values() for answer in of])
    return table


def answers(judge: Judge, scores: pd.DataFrame) -> pd.DataFrame:
    """What a judge answers to each of its questions.

    Parameters
    ----------
    judge : Judge
        Who was asked.
    scores : DataFrame
        Of :func:`score`.

    Returns
    -------
    DataFrame
        One row a clip and one column a question. Yes or no: 1.0 where the probability is at least one half, else 0.0.
        Otherwise the likeliest answer, or ``"not_music"`` where that is likelier than music.

    Raises
    ------
    DataError
        If an answer's column is missing, or a probability is not finite.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> judge = SimpleNamespace(name="ear", questions={"drums": ["drums"], "genre": ["jazz", "rock"]})
    >>> answers(judge, pd.DataFrame({"drums": [0.7, 0.1], "jazz": [0.6, 0.1], "rock": [0.2, 0.1],
    ...                              "not_music": [0.2, 0.8]}))
       drums      genre
    0    1.0       jazz
    1    0.0  not_music
    """
    return pd.DataFrame({question: _answered(judge, scores, of) for question, of in judge.questions.items()})


def hears(
    judge: Judge, heard: pd.DataFrame | Audio, trait: str | Trait, sample_rate: int | None = None
) -> pd.DataFrame:
    """Whether a judge hears a trait in each clip: the one definition of a hit.

    A yes/no trait is heard at a probability of at least one half; a class where no other answer, and not ``not_music``,
    is likelier.

    Parameters
    ----------
    judge : Judge
        Who is asked.
    heard : DataFrame, or Audio
        Scores of :func:`score`, or the clips themselves.
    trait : str or Trait
        ``"drums"``, ``"genre=jazz"``.
    sample_rate : int, optional
        Of audio, in Hz.

    Returns
    -------
    DataFrame
        One row a clip: ``hit`` (bool), ``score`` (probability of trait and music), ``not_music`` (bool: likelier no
        music at all).

    Raises
    ------
    DataError
        If the judge does not know the trait, or a score is not finite.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> judge = SimpleNamespace(name="ear", questions={"drums": ["drums"], "genre": ["jazz", "rock"]})
    >>> scores = pd.DataFrame({"drums": [0.7, 0.1], "jazz": [0.3, 0.1], "rock": [0.5, 0.1], "not_music": [0.2, 0.8]})
    >>> hears(judge, scores, "genre=rock")
         hit  score  not_music
    0   True    0.5      False
    1  False    0.1       True
    """
    trait = Trait.parse(trait)
    require(judge, trait)
    if not isinstance(heard, pd.DataFrame):
        if sample_rate is None:
            raise DataError("say the sample rate of the clips that are to be heard, in Hz.")
        heard = score(judge, heard, sample_rate)
    column, of = str(_answer(judge, trait)), judge.questions[trait.column]
    answered = _answered(judge, heard, of)
    hit = answered == (1.0 if len(of) == 1 else column)
    return pd.DataFrame({"hit": hit, "score": heard[column].astype(float), "not_music": heard["not_music"] >= 0.5})


def judge_all(judges: Sequence[Judge], audio: Audio, sample_rate: int) -> pd.DataFrame:
    """Let several judges judge the same clips.

    Parameters
    ----------
    judges : sequence of Judge
        Names must differ.
    audio : Audio
        N clips.
    sample_rate : int
        In Hz.

    Returns
    -------
    pandas.DataFrame
        N rows; column ``<judge>.<column>`` for every column of every judge. What the judges are worth is in
        :func:`interp.judges.accuracy_table`.

    Raises
    ------
    DataError
        If there is no judge, two share a name, or a judge breaks its contract (:func:`score`).

    Examples
    --------
    >>> from interp.judges import RenderedJudge
    >>> from interp.judges.quality import QualityJudge
    >>> judge_all([RenderedJudge(), QualityJudge()], np.zeros((1, 1, 16_000)), 16_000)[["rendered.bass", "quality.bad"]]
       rendered.bass  quality.bad
    0            0.0         True
    """
    named(judges)
    return pd.concat([score(judge, audio, sample_rate).add_prefix(f"{judge.name}.") for judge in judges], axis=1)


def named(judges: Sequence[Judge]) -> None:
    """Refuse judges that cannot be told apart in a table, or none at all.

    Raises
    ------
    DataError
        If there is no judge, or two share a name.
    """
    if not judges:
        raise DataError("there is no judge: give at least one.")
    names = [judge.name for judge in judges]
    if len(set(names)) < len(names):
        raise DataError(f"two judges share a name ({', '.join(names)}): give them different names.")


def _answer(judge: Judge, trait: Trait) -> str | None:
    """The answer (a column of scores) that a trait stands for; None if the judge does not know it."""
    of = list(judge.questions.get(trait.column, ()))
    if not trait.positive:
        return of[0] if len(of) == 1 else None
    return trait.positive if trait.positive in of else None


def _answered(judge: Judge, scores: pd.DataFrame, of: Sequence[str]) -> pd.Series:
    _check(judge, scores, of)
    if len(of) == 1:
        return (scores[of[0]] >= 0.5).astype(float)
    best: pd.Series = scores[list(of)].idxmax(axis=1)
    return best.where(scores["not_music"] < 0.5, "not_music")


def _check(judge: Judge, scores: pd.DataFrame, of: Sequence[str]) -> None:
    columns = [*of, "not_music"]
    missing = [name for name in columns if name not in scores]
    if missing:
        raise DataError(f"the scores of the judge {judge.name!r} have no column {', '.join(missing)}.")
    values: Any = scores[columns].to_numpy(float)
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        raise DataError(
            f"the judge {judge.name!r} gave {values[row, column]} for {columns[column]!r} in clip {row}: nothing can "
            "be counted from scores that are not finite; look for samples far out of range in that clip."
        )
