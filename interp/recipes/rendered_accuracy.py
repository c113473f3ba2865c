"""How well the rendered judge does on music and ruins that it was not trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from interp.judges.accuracy import accuracy_row, measure_answers
from interp.judges.network import SAMPLE_RATE
from interp.judges.rendered import RenderedJudge
from interp.recipes.degrade import KINDS, UNSEEN_KINDS, Codec, degrade, round_trip
from interp.stats import wilson

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["TEST_SEED", "measure_rendered_judge", "shipped_codec"]

TEST_SEED = 1_000_000  # added to the seed: scores of the test part are never those of the training part


def shipped_codec() -> Codec:
    """Return the codec of the shipped model."""
    import interp

    codec: Codec = interp.load("tiny").codec
    return codec


@torch.no_grad()
def measure_rendered_judge(
    judge: RenderedJudge,
    seed: int = 0,
    n_clips: int = 400,
    codec: Codec | None = None,
    seconds: float = 4.0,
    not_music: Tensor | None = None,
) -> list[dict[str, Any]]:
    """Measure a judge on music it never saw: scores, seeds and ruins are all new.

    Parameters
    ----------
    judge : RenderedJudge
        Whom to measure.
    seed : int
        The seed it was trained from; test music is rendered from another.
    n_clips : int
        Clips, each of a score of its own, so that they are independent and Wilson's interval holds.
    codec : Codec, optional
        The shipped model's when None.
    seconds : float
        Length of the clips; also measured on their first 2.5 s.
    not_music : Tensor, float32 ``[N, T]``, optional
        Over-steered output that it was not trained on.

    Returns
    -------
    list of dict
        Rows as in :meth:`Judge.accuracy_frame`. For ``not_music``, balanced accuracy of music against ruin, then the
        share of each kind of ruin that is recognised. ``any trait``: share of ruined clips in which drums, bass, an
        instrument or a genre is heard with a probability of at least one half; it should be zero.
    """
    from interp.data import render_arrays

    codec = codec or shipped_codec()
    rng = np.random.default_rng([seed, 13])
    rendered, labels = render_arrays(n_clips, seed + TEST_SEED, seconds, clips_per_score=1)
    audio = torch.from_numpy(rendered[:, 0])
    decoded = round_trip(codec, audio)
    short = decoded[:, : round(2.5 * SAMPLE_RATE)]
    rows: list[dict[str, Any]] = []
    called_music: dict[str, NDArray[np.bool_]] = {}
    for name, sounds in {"codec round trip": decoded, "codec round trip, 2.5 s": short, "clean": audio}.items():
        scores = judge.score(sounds, SAMPLE_RATE)
        called_music[name] = (scores["not_music"] < 0.5).to_numpy()
        rows += measure_answers(judge, scores, labels, name)
    kinds: dict[str, tuple[int, int]] = {}
    traits = [answer for answers in judge.questions.values() for answer in answers]
    heard = total = 0
    per_kind = max(n_clips // 8, 8)
    for kind in (*KINDS, *(() if not_music is None else ("over-steered",))):
        if kind == "over-steered" and not_music is not None:
            ruined = not_music
        else:
            ruined = degrade(audio[torch.from_numpy(rng.permutation(n_clips)[:per_kind])], kind, codec, rng)
        scores = judge.score(ruined, SAMPLE_RATE)
        kinds[kind] = (int((scores["not_music"] >= 0.5).sum()), len(ruined))
        heard += int((scores[traits] >= 0.5).any(axis=1).sum())
        total += len(ruined)
    found, ruins = (sum(pair[i] for pair in kinds.values()) for i in (0, 1))
    for name, music in called_music.items():
        rows.append(accuracy_row("music", "accuracy", int(music.sum()), n_clips, 0.5, name))
    balanced = accuracy_row("not_music", "balanced accuracy", found, ruins, 0.5, "codec round trip")
    kept = float(called_music["codec round trip"].mean())
    low = [float(bound) for bound in wilson(int(called_music["codec round trip"].sum()), n_clips)]
    balanced["value"] = (balanced["value"] + kept) / 2
    balanced["lo"], balanced["hi"] = (balanced["lo"] + low[0]) / 2, (balanced["hi"] + low[1]) / 2  # conservative
    balanced["n"] = balanced["n_groups"] = ruins + n_clips
    rows.append(balanced)
    for kind, (right, n) in kinds.items():
        heard_in = f"{kind} (unseen)" if kind in UNSEEN_KINDS else kind
        rows.append(accuracy_row("not_music", "recall", right, n, 0.5, heard_in))
    rows.append(accuracy_row("any trait", "share heard", heard, total, 0.0, "all ruins"))
    return rows
