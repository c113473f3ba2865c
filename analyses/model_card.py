"""What can the shipped model do? Prompts with known traits, music, and what audio judges hear in it.

    python -m analyses.model_card --out figures/model_card
    python -m analyses.model_card --card interp/testbed/weights/card.json

Every prompt names a genre, an instrument, drums or not, bass or not, drawn at random; the judge hears the four-second
results. Twenty examples with spectrograms and the full tables go to the output folder. ``--card`` puts the numbers
beside the weights, where ``interp testbed card`` prints them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from interp import judges, plots
from interp._files import atomic
from interp.data.audio import write_audio
from interp.judges.base import answers
from interp.stats import wilson
from interp.steering import Row, generate
from interp.study import Common, Drawing, Study, main, step
from interp.testbed.prompts import PHRASES

__all__ = ["BARS", "Config", "ModelCard"]

#: Share of generations in which the judge must hear what was prompted.
BARS = {"instrument": 0.90, "drums": 0.95, "genre": 0.85}


@dataclass(frozen=True)
class Config(Common):
    """What is measured. Guidance 2 was chosen over 3 and 5 on prompts of another seed.

    Attributes
    ----------
    n_sounds : int
        Generations kept as sound.
    card : Path or None
        Where the numbers go beside the weights, for a model that is shipped anew.
    """

    out: Path = Path("figures/model_card")
    traits: tuple[str, ...] = ("genre", "instrument", "drums", "bass")
    n_seeds: int = 480
    prompt_seconds: float = 0.0
    n_sounds: int = 20
    card: Path | None = None


class ModelCard(Study[Config]):
    """What can the model do?

    Prompts with known traits, and what a judge of sound alone hears in the music.
    """

    unused = ("n_clips", "prompt_seconds")
    only_drawn = ("card",)
    judged = ()  # labels of several classes: a judge knows their classes one by one

    @step(shown=False)
    def played(self) -> dict[str, Any]:
        """One line a generation: what was asked, what was heard, how sure the judge is that it is music."""
        c = self.config
        rng = np.random.default_rng([c.seed, 11])
        asked = pd.DataFrame({str(trait): rng.choice(PHRASES[str(trait)], c.n_seeds) for trait in self.traits})
        asked["prompt"] = asked[list(map(str, self.traits))].agg(", ".join, axis=1)
        rows = [Row(prompt, seed=c.seed * c.n_seeds + i) for i, prompt in enumerate(asked["prompt"])]
        music = generate(self.model, rows, seconds=c.seconds, guidance=c.guidance, progress=self.progress)
        scores = judges.score(self.judge, music.audio, music.sample_rate)
        heard = answers(self.judge, scores)
        for trait in map(str, self.traits):
            yes_no = len(self.judge.questions[trait]) == 1
            asked[f"heard_{trait}"] = np.where(heard[trait] == 1, trait, f"no {trait}") if yes_no else heard[trait]
        clips = asked.assign(not_music=scores["not_music"].to_numpy())
        return {"clips": clips, "sounds": {"audio": music.audio[: c.n_sounds].numpy()}}

    def tables(self) -> dict[str, pd.DataFrame]:
        clips = self.played()["clips"]
        return {"bars": bars(clips, tuple(map(str, self.traits)), self.judge.accuracy_frame()), "clips": clips}

    def answer(self, t: Mapping[str, pd.DataFrame]) -> Iterator[str]:
        for row in t["bars"].itertuples():
            bar = "" if np.isnan(row.bar) else f"bar {row.bar:.0%}, "
            yield (
                f"{row.trait}: heard as prompted in {row.right:.1%} [{row.lo:.1%}, {row.hi:.1%}] of {row.n} ({bar}"
                f"chance {row.chance:.0%}; the judge itself {row.judge:.1%})."
            )

    def run(self) -> dict[str, pd.DataFrame]:
        t = super().run()
        if self.config.card is not None:
            measured = {"command": self.command, "bars": json.loads(t["bars"].to_json(orient="records"))}
            with atomic(self.config.card) as partial:
                partial.write_text(json.dumps(measured, indent=1) + "\n")
        return t

    def figures(self, t: Mapping[str, pd.DataFrame]) -> Iterator[Drawing]:
        sounds = self.played()["sounds"]["audio"]
        if len(sounds):
            axs = spectrograms(sounds, self.model.sample_rate, list(t["clips"]["prompt"]))
            yield "examples", axs, "The first generations, not chosen, with their prompts."

    def recordings(self, t: Mapping[str, pd.DataFrame]) -> Iterator[tuple[str, pd.DataFrame]]:
        files = [
            write_audio(self.config.out / f"example-{i:02d}.flac", sound, self.model.sample_rate)
            for i, sound in enumerate(self.played()["sounds"]["audio"])
        ]
        if files:
            yield "The same:", t["clips"][["prompt"]].head(len(files)).assign(sound=files)


def bars(clips: pd.DataFrame, traits: tuple[str, ...], accuracy: pd.DataFrame) -> pd.DataFrame:
    """One line a trait: share of generations in which the judge heard what was asked, with a Wilson interval."""
    like = accuracy.assign(other=accuracy["audio"] != "codec round trip").sort_values("other", kind="stable")
    worth = like.drop_duplicates("trait").set_index("trait")["value"].to_dict()
    lines = []
    for trait in traits:
        right = (clips[trait] == clips[f"heard_{trait}"]).to_numpy()
        lo, hi = wilson(right.sum(), len(right))
        line = {"trait": trait, "right": right.mean(), "lo": float(lo), "hi": float(hi), "n": len(right)}
        line |= {"chance": 1 / len(PHRASES[trait]), "bar": BARS.get(trait, np.nan), "judge": worth.get(trait, np.nan)}
        lines.append(line)
    return pd.DataFrame(lines)


@plots.style.styled
def spectrograms(sounds: np.ndarray, sample_rate: int, titles: list[str]) -> list[Axes]:
    """Draw mel spectrograms of sounds ``[n, channels, samples]``, four in a row."""
    rows = -(-len(sounds) // 4)
    figure, axes = plots.style.subplots(rows, 4, width=plots.style.DOUBLE, height=1.2 * rows, squeeze=False)
    panels = list(axes.flat)
    for ax in panels[len(sounds) :]:
        ax.axis("off")
    for i, level in enumerate(plots.sound.mel_levels(list(sounds), sample_rate)):
        panels[i].imshow(level, origin="lower", aspect="auto", cmap="magma", extent=(0, level.shape[1] / 100, 0, 1))
        panels[i].set(xticks=[0, sounds.shape[-1] // sample_rate], yticks=[])
        panels[i].set_title(f"{i}: " + titles[i].replace(", ", ",\n", 1), fontsize=6, pad=2)
    figure.supxlabel("Time (s)", fontsize=7)
    return panels


if __name__ == "__main__":
    main(ModelCard)
