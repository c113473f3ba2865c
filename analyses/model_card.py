"""What can the shipped model do? Prompts with known traits, music, and what audio judges hear in it.

    python -m analyses.model_card --out figures/model_card

Every prompt names a genre, an instrument, drums or not, bass or not, drawn at random; the judges hear the four-second
results. The numbers go beside the weights (``card.json``), where ``interp testbed card`` prints them; twenty examples
with spectrograms and the full tables go to the output folder.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

import interp
from interp import judges, tables
from interp.judges import RenderedJudge
from interp.stats import wilson
from interp.steering import Generation, Row, generate
from interp.testbed import WEIGHTS
from interp.testbed.prompts import PHRASES

__all__ = ["BARS", "Config", "main"]

#: Share of generations in which the judge must hear what was prompted.
BARS = {"instrument": 0.90, "drums": 0.95, "genre": 0.85}
_TRAITS = ("genre", "instrument", "drums", "bass")


@dataclass(frozen=True)
class Config:
    """What is measured.

    Attributes
    ----------
    n : int
        Generations.
    guidance : float
        Coefficient of classifier-free guidance; 2 was chosen over 3 and 5 on prompts of another seed.
    examples : int
        Generations kept as sound.
    seed : int
        Of prompts and music.
    out : Path
        Folder for tables, figure and sound.
    card : Path or None
        Where the card's numbers go; None writes none.
    """

    n: int = 480
    guidance: float = 2.0
    examples: int = 20
    seed: int = 0
    out: Path = Path("figures/model_card")
    card: Path | None = WEIGHTS / "card.json"


def draw_prompts(n: int, seed: int) -> pd.DataFrame:
    """Draw prompts with the phrase for each trait, and the whole prompt in the column ``prompt``."""
    rng = np.random.default_rng([seed, 11])
    frame = pd.DataFrame({trait: rng.choice(PHRASES[trait], n) for trait in _TRAITS})
    return frame.assign(prompt=frame[list(_TRAITS)].agg(", ".join, axis=1))


def hear(judge: RenderedJudge, made: Generation, asked: pd.DataFrame) -> pd.DataFrame:
    """One line a generation: what was asked, what was heard, how sure the judge is that it is music."""
    scores = judges.score(judge, made.audio, made.sample_rate)
    said = judges.answers(judge, scores)
    heard = asked.copy()
    for trait in _TRAITS:
        if len(judge.questions[trait]) == 1:
            heard[f"heard_{trait}"] = np.where(said[trait] == 1, trait, f"no {trait}")
        else:
            heard[f"heard_{trait}"] = said[trait].to_numpy()
    return heard.assign(not_music=scores["not_music"].to_numpy())


def score(heard: pd.DataFrame, judge: RenderedJudge) -> pd.DataFrame:
    """One line a trait: share of generations in which the judge heard what was asked, with a Wilson interval."""
    lines = []
    for trait in _TRAITS:
        right = (heard[trait] == heard[f"heard_{trait}"]).to_numpy()
        lo, hi = wilson(right.sum(), len(right))
        lines.append(
            {
                "trait": trait,
                "right": right.mean(),
                "lo": float(lo),
                "hi": float(hi),
                "n": len(right),
                "chance": 1 / len(PHRASES[trait]),
                "bar": BARS.get(trait, float("nan")),
                "judge": judge.accuracy.get(trait, float("nan")),
            }
        )
    return pd.DataFrame(lines)


def main(config: Config) -> dict[str, pd.DataFrame]:
    """Generate, judge, write.

    Returns
    -------
    dict of str to DataFrame
        ``bars`` (one line a trait) and ``clips`` (one line a generation).
    """
    model = interp.load("tiny")
    judge = RenderedJudge()
    asked = draw_prompts(config.n, config.seed)
    rows = [Row(prompt, seed=config.seed * config.n + i) for i, prompt in enumerate(asked["prompt"])]
    made = generate(model, rows, seconds=model.max_seconds, guidance=config.guidance)
    heard = hear(judge, made, asked)
    bars = score(heard, judge)
    config.out.mkdir(parents=True, exist_ok=True)
    tables.write(bars, config.out / "bars")
    tables.write(heard, config.out / "clips")
    _examples(made, heard, config)
    if config.card is not None:
        command = f"python -m analyses.model_card --n {config.n} --guidance {config.guidance:g} --seed {config.seed}"
        measured = {"command": command, "bars": json.loads(bars.to_json(orient="records"))}
        config.card.write_text(json.dumps(measured, indent=1) + "\n")
    return {"bars": bars, "clips": heard}


def _examples(made: Generation, heard: pd.DataFrame, config: Config) -> None:
    import soundfile
    from matplotlib.figure import Figure

    n = min(config.examples, len(heard))
    figure = Figure(figsize=(7.0, 1.35 * -(-n // 4)), layout="constrained")
    axes = figure.subplots(-(-n // 4), 4, squeeze=False, sharex=True, sharey=True)
    for i, ax in enumerate(axes.flat):
        if i >= n:
            ax.axis("off")
            continue
        sound = made.audio[i, 0].numpy()
        soundfile.write(config.out / f"example-{i:02d}.flac", sound, made.sample_rate)
        ax.specgram(sound + 1e-6, NFFT=512, Fs=made.sample_rate / 1000, noverlap=384, cmap="magma", vmin=-110, vmax=-30)
        ax.set_xticks([0, 1000, 2000, 3000, 4000], ["0", "1", "2", "3", "4"])
        ax.set_title(f"{i}: " + heard["prompt"][i].replace(", ", ",\n", 1), fontsize=6, pad=2)
        ax.tick_params(labelsize=6)
    for ax in axes[-1]:
        ax.set_xlabel("time (s)", fontsize=6)
    for ax in axes[:, 0]:
        ax.set_ylabel("kHz", fontsize=6)
    figure.savefig(config.out / "examples.png", dpi=150)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=Config.n)
    parser.add_argument("--seed", type=int, default=Config.seed)
    parser.add_argument("--guidance", type=float, default=Config.guidance)
    parser.add_argument("--out", type=Path, default=Config.out)
    given = parser.parse_args()
    main(Config(n=given.n, seed=given.seed, guidance=given.guidance, out=given.out))
    from interp.testbed import card

    print(card())
