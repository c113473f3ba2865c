"""What a judge says, in words short enough for a line of a terminal."""

from __future__ import annotations

import pandas as pd

from interp.judges.base import Judge, answers

__all__ = ["in_words"]


def in_words(judge: Judge, scores: pd.DataFrame) -> pd.DataFrame:
    """A judge's scores as a few readable columns.

    Parameters
    ----------
    judge : Judge
        Who said it.
    scores : DataFrame
        Of :func:`interp.judges.score`.

    Returns
    -------
    DataFrame
        One row a clip. ``music`` and a column a question, with the answer and its probability; of a judge without
        questions its yes/no flags, or else its first four measures.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> judge = SimpleNamespace(name="ear", questions={"drums": ["drums"], "genre": ["jazz", "rock"]})
    >>> in_words(judge, pd.DataFrame({"drums": [0.7], "jazz": [0.6], "rock": [0.2], "not_music": [0.2]}))
         music    drums     genre
    0  yes .80  yes .70  jazz .60
    """
    scores = scores.reset_index(drop=True)
    if not judge.questions:
        flags = [name for name in scores if scores[name].dtype == bool]
        return scores[flags].map(lambda flag: "yes" if flag else "no") if flags else scores.iloc[:, :4]
    said: dict[str, list[str]] = {"music": [_yes_or_no(1 - p) for p in scores["not_music"]]}
    for question, given in answers(judge, scores).items():
        of = judge.questions[str(question)]
        if len(of) == 1:
            said[str(question)] = [_yes_or_no(p) for p in scores[of[0]]]
        else:
            likely = zip(given, scores[list(of)].max(axis=1), strict=True)
            said[str(question)] = ["-" if answer == "not_music" else f"{answer} {_share(p)}" for answer, p in likely]
    return pd.DataFrame(said)


def _yes_or_no(p: float) -> str:
    return f"{'yes' if p >= 0.5 else 'no'} {_share(p)}"


def _share(p: float) -> str:
    return f"{p:.2f}".removeprefix("0")
