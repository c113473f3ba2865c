"""How well the signal measures agree with what was rendered; the result ships beside them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from interp._files import atomic
from interp.judges.accuracy import ACCURACY_COLUMNS, accuracy_row
from interp.judges.dsp import DspJudge
from interp.recipes.degrade import Codec, round_trip

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["measure_dsp_judge"]

_TEST_SEED = 2_000_000
_TOLERANCE = 0.04  # of the tempo, as usual in tempo estimation (Gouyon et al. 2006)
Floats = NDArray[np.float64]


def measure_dsp_judge(
    seed: int = 0, n_clips: int = 200, codec: Codec | None = None, seconds: float = 4.0, out: Path | str | None = None
) -> pd.DataFrame:
    """Compare signal measures with the labels of rendered music after a codec round trip.

    Parameters
    ----------
    seed : int
        Of the music.
    n_clips : int
        Clips, each of a score of its own.
    codec : Codec, optional
        The shipped model's when None.
    seconds : float
        Length of the clips.
    out : Path, optional
        JSON file to write.

    Returns
    -------
    pandas.DataFrame
        Columns as in :meth:`Judge.accuracy_frame`. Yardsticks: ``tempo`` within 4 % of the truth (and, in a second
        row, of the truth, its half or its double); ``key`` the tonic; rank correlation of ``centroid`` with that of the
        clean clip and of ``onset_density`` with the number of instants at which notes are struck; area under the ROC
        curve of ``percussive_share`` for drums and of ``major`` for major keys.
    """
    import pandas as pd
    from scipy.stats import spearmanr
    from sklearn.metrics import roc_auc_score

    if codec is None:
        from interp.recipes.rendered_accuracy import shipped_codec

        codec = shipped_codec()
    audio, labels = _pieces(seed + _TEST_SEED, n_clips, seconds)
    with torch.no_grad():
        heard = round_trip(codec, torch.from_numpy(audio))
    found = DspJudge().score(heard, 16_000)
    tempo, truth = found["tempo"].to_numpy(), labels["tempo"].to_numpy()
    where = "codec round trip"

    def near(factors: tuple[float, ...], guess: Floats) -> int:
        hits = [np.abs(guess - factor * truth) <= _TOLERANCE * factor * truth for factor in factors]
        return int(np.any(hits, axis=0).sum())

    rows = []
    for factors, name in (((1.0,), "within 4 %"), ((1.0, 0.5, 2.0), "within 4 %, or half or double")):
        chance = max(near(factors, np.full(n_clips, guess)) for guess in range(60, 200)) / n_clips
        rows.append(accuracy_row("tempo", name, near(factors, tempo), n_clips, chance, where))
    right = int((found["key"] == labels["key"]).sum())
    rows.append(accuracy_row("key", "accuracy", right, n_clips, 1 / 12, where))
    compared: list[tuple[str, str, Callable[[Floats, Floats], float], Floats, float]] = [
        (
            "centroid",
            "rank correlation with the clean clip's",
            _spearman(spearmanr),
            labels["centroid"].to_numpy(),
            0.0,
        ),
        ("onset_density", "rank correlation with notes struck", _spearman(spearmanr), labels["onsets"].to_numpy(), 0.0),
        ("percussive_share", "AUC for drums", roc_auc_score, labels["drums"].to_numpy(), 0.5),
        ("major", "AUC for major keys", roc_auc_score, labels["major"].to_numpy(), 0.5),
    ]
    rng = np.random.default_rng(seed)
    for trait, name, agreement, wanted, chance in compared:
        given = found[trait].to_numpy()
        draws = [rng.integers(0, n_clips, n_clips) for _ in range(1000)]
        lo, hi = np.quantile([agreement(wanted[draw], given[draw]) for draw in draws], [0.025, 0.975])
        values = (trait, name, agreement(wanted, given), lo, hi, chance, n_clips, n_clips, where)
        rows.append(dict(zip(ACCURACY_COLUMNS, values, strict=True)))
    frame = pd.DataFrame(rows, columns=ACCURACY_COLUMNS)
    if out is not None:
        record: dict[str, Any] = {"seed": seed, "n_clips": n_clips, "seconds": seconds}
        record["accuracy"] = json.loads(frame.to_json(orient="records"))
        with atomic(out) as partial:
            partial.write_text(json.dumps(record, indent=1) + "\n")
    return frame


def _pieces(seed: int, n: int, seconds: float) -> tuple[NDArray[np.float32], pd.DataFrame]:
    """Render pieces and keep what the notes say: audio ``[n, T]``, and tempo, key, major, drums, onsets, centroid."""
    import pandas as pd

    from interp.data.factors import draw_factors
    from interp.data.render import SAMPLE_RATE, render_audio

    audio, rows = np.empty((n, round(seconds * SAMPLE_RATE)), np.float32), []
    for i in range(n):
        rng = np.random.default_rng([seed, i])
        factors = draw_factors(rng, {})
        audio[i], notes = render_audio(factors, seconds, rng)
        struck = np.unique(np.round([note.start for note in notes if note.start < seconds], 2))
        magnitude = np.abs(np.fft.rfft(audio[i]))
        rows.append(
            {
                "tempo": factors.tempo,
                "key": factors.key,
                "major": int(factors.mode == "major"),
                "drums": int(factors.drums),
                "onsets": len(struck) / seconds,
                "centroid": float(magnitude @ np.linspace(0, SAMPLE_RATE / 2, len(magnitude)) / magnitude.sum()),
            }
        )
    return audio, pd.DataFrame(rows)


def _spearman(function: Callable[..., Any]) -> Callable[[Floats, Floats], float]:
    return lambda a, b: float(function(a, b)[0])
