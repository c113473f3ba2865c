"""Where does a trait enter, from text and from audio, and is that where a probe reads it?

    python -m analyses.mechanisms --out figures/mechanisms
    python -m analyses.mechanisms --model facebook/musicgen-small --data FOLDER --traits drums \\
        --prompts "a song with drums:a song with flute"

*From text:* one music, two texts that differ in the trait's word alone; cross-attention heads of the run under the
right text are put into the run under the wrong one, one at a time. What comes back of the log-likelihood ratio of the
music is what enters there. *From audio:* two beginnings that differ in the trait (rendered from the same score and seed
with one factor changed, or clips of FOLDER with and without it), and one continuation, that of the side that has it;
self-attention heads are exchanged. Beside every head stand a source of another pair, p-values corrected for all heads,
the probe's score (audio) and the attention to the trait's word (text). The lens says what each layer expects. A judge
that is named says in how many sounds of either side it hears the trait.

A model with free text needs two texts of equal length for each trait (``--prompts``); without, only audio is asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr

from interp import judges, plots
from interp.data import render_arrays
from interp.data.factors import GENRES, INSTRUMENTS, MODES
from interp.data.render import SAMPLE_RATE
from interp.errors import ClipError, DataError
from interp.judges.registry import makes_rendered_music
from interp.mechanisms import Heard, attention_weights, hear, lens, patch, word_mass
from interp.probes import probe
from interp.study import Common, Drawing, Study, main, step
from interp.study.cache import once
from interp.testbed.prompts import describe_clip
from interp.traits import Trait

__all__ = ["Config", "Mechanisms"]

_CLASSES: dict[str, tuple[str, ...]] = {"genre": GENRES, "instrument": tuple(INSTRUMENTS), "mode": MODES}
_YES_NO = ("drums", "bass")
LEVEL = 0.05


@dataclass(frozen=True)
class Config(Common):
    """What the study does.

    Attributes
    ----------
    n_pairs : int
        Pairs for each trait.
    prompts : tuple of str
        Two texts for each trait, in order, as in "with drums:with flute"; for models whose text is free.
    n_permutations : int
        Behind p-values.
    n_clips : int
        Clips to render for probes.
    seconds, prompt_seconds : float
        Length of a side, and of the beginning in which sides differ.
    """

    out: Path = Path("figures/mechanisms")
    n_pairs: int = 24
    prompts: tuple[str, ...] = ()
    n_permutations: int = 2000
    n_clips: int = 200
    seconds: float = 1.6
    prompt_seconds: float = 0.8


class Mechanisms(Study[Config]):
    """Where does a trait enter?

    Which cross-attention heads carry it from the text, which self-attention heads from what was heard, and whether
    these are the heads in which a probe reads it.
    """

    listens = False
    unused = ("n_seeds", "guidance")

    def check(self) -> None:
        c = self.config
        if c.n_pairs < 2:
            raise DataError(f"--n-pairs is {c.n_pairs}: a mean over pairs needs two or more.")
        if not c.prompt_seconds:
            raise DataError("--prompt-seconds is 0: sides differ in their beginning, give it some length.")
        if c.prompts and (len(c.prompts) != len(self.traits) or any(text.count(":") != 1 for text in c.prompts)):
            raise DataError(f"give two texts for each of {len(self.traits)} traits: --prompts 'with drums:with flute'.")
        for trait in self.traits if self.rendered else ():
            values = _CLASSES.get(trait.column, ())
            wrong = trait.positive not in values or (trait.against and trait.against not in values)
            if trait.column not in (*_YES_NO, *_CLASSES) or (trait.column in _CLASSES and wrong):
                raise DataError(
                    f"no pairs of rendered music differ in {str(trait)!r}: ask for {', '.join(_YES_NO)}, or for a "
                    f"class of {', '.join(_CLASSES)} as in genre=jazz."
                )

    # Pairs -----------------------------------------------------------------------------------------------------------

    @once
    def sides(self, trait: Trait) -> tuple[Heard, Heard]:
        """Music with the trait and music without it, under the text that says so (None where no text can)."""
        pairs = self._rendered_pairs(trait) if self.rendered else self._pairs_of_folder(trait)
        return pairs[0], pairs[1]

    def _rendered_pairs(self, trait: Trait) -> list[Heard]:
        """The same score and seed twice, one factor changed."""
        c = self.config
        others = [value for value in _CLASSES.get(trait.column, ()) if value != trait.positive]
        others = [trait.against] if trait.against else others
        music: list[list[torch.Tensor]] = [[], []]
        texts: list[list[str | None]] = [[], []]
        for i in range(c.n_pairs):
            values = (True, False) if trait.column in _YES_NO else (trait.positive, others[i % len(others)])
            said: dict[str, str] = {}
            for side, value in enumerate(values):
                audio, labels = render_arrays(1, 1000 + c.seed + i, c.seconds, {trait.column: value}, clips_per_score=1)
                music[side].append(self.model.encode(torch.from_numpy(audio), SAMPLE_RATE))
                words = describe_clip(labels.iloc[0])
                said = {**(said or words), trait.column: words[trait.column]}  # the rest as the first side has it
                texts[side].append(", ".join(said.values()))
        if c.prompts or not self.has_text:
            texts = self._free_texts(trait)
        return [hear(self.model, torch.cat(codes), text) for codes, text in zip(music, texts, strict=True)]

    def _pairs_of_folder(self, trait: Trait) -> list[Heard]:
        """Clips of the folder that have the trait, and as many that lack it, drawn."""
        c, labels = self.config, self.clips.labels
        rng = np.random.default_rng([c.seed, 21])
        sides, n_frames = [], round(c.seconds * self.model.frame_rate)
        for mask, text in zip((trait.has(labels), trait.lacks(labels)), self._free_texts(trait), strict=True):
            if mask.sum() < c.n_pairs:
                raise DataError(f"{mask.sum()} clips are on one side of {str(trait)!r}: say --n-pairs {mask.sum()}.")
            rows = rng.permutation(np.flatnonzero(mask))[: c.n_pairs]
            clips = [self.clips[int(row)] for row in rows]
            codes = [self.model.encode(torch.from_numpy(clip.audio), clip.sample_rate)[0] for clip in clips]
            codes = [code[:, :n_frames] for code in codes]
            if min(code.shape[-1] for code in codes) < n_frames:
                raise ClipError(f"a clip is shorter than {c.seconds:g} s: say --seconds for what all of them have.")
            sides.append(hear(self.model, torch.stack(codes), text))
        return sides

    def _free_texts(self, trait: Trait) -> list[list[str | None]]:
        texts: list[str | None] = [None, None]
        if self.config.prompts:
            texts = list(self.config.prompts[self.traits.index(trait)].split(":"))
        return [[text] * self.config.n_pairs for text in texts]

    @property
    def has_text(self) -> bool:
        """Whether there are texts that say the trait."""
        return bool(self.config.prompts) or (self.rendered and makes_rendered_music(self.model))

    # Steps -----------------------------------------------------------------------------------------------------------

    @step(per="trait", shown=False)
    def text(self, trait: Trait) -> pd.DataFrame:
        """Cross-attention, head by head and layer by layer: one music under the right and the wrong text."""
        c, (right, wrong) = self.config, self.sides(trait)
        result = patch(
            self.model, right, Heard(right.codes, wrong.texts), sites="cross_heads, cross",
            null=len(set(wrong.texts)) > 1, n_permutations=c.n_permutations, seed=c.seed, progress=self.progress,
        )  # fmt: skip
        return result.table.assign(gap=result.gap.mean()).merge(self._words(trait, right), on="site", how="left")

    def _words(self, trait: Trait, right: Heard) -> pd.DataFrame:
        """Attention of each cross-attention head to the trait's word, where texts are phrases of one order."""
        if self.config.prompts:
            return pd.DataFrame({"site": [], "word": []})
        names = list(describe_clip({"tempo": 100, "drums": 0, "bass": 0, "genre": "", "instrument": "", "mode": ""}))
        table = word_mass(self.model, right, names)
        return table[table["word"] == trait.column].rename(columns={"word": "said", "mass": "word"})[["site", "word"]]

    @step(per="trait")
    def audio(self, trait: Trait) -> pd.DataFrame:
        """Self-attention, head by head: the right and the wrong beginning before one continuation."""
        c, (right, wrong) = self.config, self.sides(trait)
        begun = round(c.prompt_seconds * self.model.frame_rate)
        other = torch.cat([wrong.codes[..., :begun], right.codes[..., begun:]], -1)
        nothing = (None,) * c.n_pairs
        result = patch(
            self.model, Heard(right.codes, nothing), Heard(other, nothing), counted=(c.prompt_seconds, c.seconds),
            n_permutations=c.n_permutations, seed=c.seed, progress=self.progress,
        )  # fmt: skip
        return result.table.assign(gap=result.gap.mean())

    @step(per="trait")
    def probes(self, trait: Trait) -> pd.DataFrame:
        """A logistic probe at every self-attention head, on other clips, without any text."""
        ds = self.activations("heads")
        return probe(ds, trait, sites="heads", methods=("logistic",), seed=self.config.seed).table

    @step()
    def layers(self) -> pd.DataFrame:
        """The lens on the music with the first trait."""
        return lens(self.model, self.sides(self.traits[0])[0])

    @step(per="trait", shown=False)
    def heard_by_judge(self, trait: Trait) -> pd.DataFrame:
        """In how many sounds of each side a judge that is named hears the trait."""
        lines = []
        for side, heard in zip(("with", "without"), self.sides(trait), strict=True):
            scores = self.judge.score(self.model.decode(heard.codes), self.model.sample_rate)
            hits = judges.hears(self.judge, scores, trait)["hit"]
            lines.append({"side": side, "heard": float(hits.mean()), "n": len(hits)})
        return pd.DataFrame(lines)

    def tables(self) -> dict[str, pd.DataFrame]:
        made = ({"text": self.text.all()} if self.has_text else {}) | super().tables()
        made["agreement"] = agreement(made)
        return made | ({"judged": self.heard_by_judge.all()} if self.config.judge else {})

    # What comes of it ------------------------------------------------------------------------------------------------

    def answer(self, t: Mapping[str, pd.DataFrame]) -> Iterator[str]:
        for trait in self.traits:
            for source, kind in (("text", "cross_heads"), ("audio", "heads")):
                if source in t:
                    rows = t[source][t[source]["trait"] == str(trait)]
                    yield f"{trait}, from {source}: {_entered(rows, kind)} {self._agrees(t, trait, source)}"
        if "judged" in t:
            for row in t["judged"].itertuples():
                yield f"{row.trait}: {self.judge.name} hears it in {row.heard:.0%} of {row.n} sounds {row.side} it."

    def _agrees(self, t: Mapping[str, pd.DataFrame], trait: Trait, source: str) -> str:
        rows = t["agreement"].query(
            "trait == @name and source == @source", local_dict={"name": str(trait), "source": source}
        )
        return " ".join(
            f"Over {row.n} heads, the share goes with {row.against} by a rank correlation of {row.spearman:+.2f} "
            f"(p {row.p:.2g}); of the {row.top} heads with the largest share, {row.shared} are among the first "
            f"{row.top} by that ({row.chance:.1f} by chance)."
            for row in rows.itertuples()
        )

    def figures(self, t: Mapping[str, pd.DataFrame]) -> Iterator[Drawing]:
        for source, kind in (("text", "cross_heads"), ("audio", "heads")):
            if source not in t:
                continue
            yield f"# From {source}"
            for trait in self.traits:
                rows = t[source][t[source]["trait"] == str(trait)]
                ax = plots.patching(rows, kind, title=f"{trait}, from {source}")
                yield f"{source}_{trait.slug}", ax, f"`{trait}`: share of the gap that one head brings back."
                if source == "audio":
                    ax = plots.rank_scatter(against_probe(t, trait), title=str(trait))
                    yield f"probe_{trait.slug}", ax, f"`{trait}`: what a head carries against how well it reads."
        yield "# What each layer expects"
        yield "lens", plots.lens(t["layers"]), "The final norm and output heads on every layer."
        yield "# What heads look at"
        heard = self.sides(self.traits[0])[0].take([0])
        weights = torch.stack([attention_weights(self.model, heard, i)[0] for i in range(self.model.shape.n_layers)])
        yield "attention", list(plots.attention_page(weights.cpu().numpy()).ravel()), "Self-attention, the first sound."


def _entered(rows: pd.DataFrame, kind: str) -> str:
    """Which heads bring the trait back, in words."""
    heads = rows[rows["kind"] == kind].sort_values("share", ascending=False)
    called = heads[heads["p_max"] < LEVEL]
    text = f"the gap is {rows['gap'].iloc[0]:.3f} nats a token; "
    blocks = rows[rows["kind"] == "cross"].sort_values("share", ascending=False)
    if len(blocks):
        text += f"most enters at {blocks['site'].iloc[0]} ({blocks['share'].iloc[0]:.0%}); "
    first = ", ".join(f"{row.site} {row.share:.0%}" for row in (called if len(called) else heads).head(4).itertuples())
    if len(called):
        return f"{text}{len(called)} of {len(heads)} heads carry some of it (p < {LEVEL}, corrected), most {first}."
    return f"{text}no single head carries it beyond its nulls; the first are {first}."


def against_probe(t: Mapping[str, pd.DataFrame], trait: Trait) -> pd.DataFrame:
    """Every self-attention head: ``site, layer, size`` (change by patching) and ``probe`` (its score)."""
    carried, read = (t[name][t[name]["trait"] == str(trait)].set_index("site") for name in ("audio", "probes"))
    table = pd.DataFrame({"layer": carried["layer"], "size": carried["change"], "probe": read["cv_score"]})
    return table.dropna().rename_axis("site").reset_index()


def agreement(t: Mapping[str, pd.DataFrame], top: int = 8) -> pd.DataFrame:
    """Over heads: rank correlation of what patching brings back with the probe's score or the attention to the word."""
    lines = []
    for source, column, words in (("audio", "probe", "the probe's score"), ("text", "word", "attention to its word")):
        for trait in t[source]["trait"].unique() if source in t else ():
            if source == "audio":
                rows = against_probe(t, Trait.parse(trait))
            else:
                rows = t["text"].query("trait == @trait and kind == 'cross_heads'").rename(columns={"change": "size"})
            rows = rows.dropna(subset=[column])
            if len(rows) < 3:
                continue
            rho, p = spearmanr(rows["size"], rows[column])
            k = min(top, len(rows) // 2)
            shared = len(set(rows.nlargest(k, "size")["site"]) & set(rows.nlargest(k, column)["site"]))
            lines.append(
                {"trait": trait, "source": source, "against": words, "n": len(rows), "spearman": rho, "p": p, "top": k,
                 "shared": shared, "chance": k * k / len(rows)}
            )  # fmt: skip
    columns = ["trait", "source", "against", "n", "spearman", "p", "top", "shared", "chance"]
    return pd.DataFrame(lines, columns=columns)


if __name__ == "__main__":
    main(Mechanisms)
