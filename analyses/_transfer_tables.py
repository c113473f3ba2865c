"""Of timbre transfer: methods against each other, success at quality, what was kept, and what it says in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from interp.stats import holm
from interp.validation import UNSTEERED, summarise
from interp.validation.effects import paired_differences

__all__ = ["OTHER_NOISE", "contrasts", "kept", "paragraphs", "success_at_quality", "verdict"]

OTHER_NOISE = "other noise"
FAMILY = {"ridge": "regression", "logistic": "classification", "mean_diff": "means"}
UNIT = ["pair", "seed"]


def contrasts(clips: pd.DataFrame, measures: Sequence[str] = ("hit", "not_music")) -> pd.DataFrame:
    """Methods against each other under one rule, on the same sounds and noise, averaged over its strengths.

    Returns
    -------
    DataFrame
        ``push, measure, a, b, n, difference, lo, hi, p`` and ``p_holm`` over all rows of a measure.
    """
    parts = [
        paired_differences(part, "method", measure, UNIT).assign(push=push, measure=measure)
        for push, part in clips[clips["push"] != "none"].groupby("push", sort=False)
        for measure in measures
    ]
    table = pd.concat(parts, ignore_index=True)
    table["p_holm"] = table.groupby("measure")["p"].transform(holm)
    return table[["push", "measure", "a", "b", "n", "difference", "lo", "hi", "p", "p_holm"]]


def kept(clips: pd.DataFrame) -> pd.DataFrame:
    """What stayed: similarity to the prompt, the other traits' answers, density, tempo, mode.

    The row ``other noise`` is the yardstick: two continuations of one sound that nothing was done to differ as well.
    """
    names = [name for name in clips.columns if name.startswith("kept.")]
    names += [n for n in ("chroma", "embedding", "density_change", "tempo_kept", "mode_kept") if n in clips]
    part = clips[clips["content"].astype(bool)]
    key = ["push", "method", "dose"]
    means = part.assign(**part[names].astype(float)).groupby(key, sort=False)[names].mean()
    change = summarise(part, key, unit=["pair", "seed"], family=(), measures=["chroma"]).set_index(key)
    columns = ["n", *(name for name in ("chroma_diff", "chroma_diff_lo", "chroma_diff_hi") if name in change)]
    return means.join(change[columns]).reset_index()


def success_at_quality(table: pd.DataFrame, most: float = 0.1) -> pd.DataFrame:
    """The largest success of every method under every rule while at most that share is no music.

    Parameters
    ----------
    table : DataFrame
        Of :func:`interp.validation.summarise`, by push, method and dose.
    most : float
        Share of clips that may be no music or degenerate.
    """
    rows = []
    for (push, method), part in table[table["push"] != "none"].groupby(["push", "method"], sort=False):
        fine = part[(part["not_music"] <= most) & (part["degenerate"] <= most)]
        line: dict[str, Any] = {"push": push, "method": method, "family": FAMILY.get(str(method), "control")}
        if len(fine):
            best = fine.loc[fine["rate"].idxmax()]
            columns = ("dose", "rate", "lo", "hi", "source_heard", "not_music", "fad", "kad", "chroma", "diff",
                       "diff_lo", "diff_hi", "p_holm")  # fmt: skip
            line |= {name: best[name] for name in columns if name in best}
        else:
            line |= {"dose": np.nan, "rate": np.nan}
        rows.append(line)
    return pd.DataFrame(rows)


def verdict(difference: float, lo: float, hi: float, p: float, better: str = "more", worse: str = "less") -> str:
    """A difference in words: with interval, corrected p, and whether anything is shown."""
    words = f"{difference:+.1%} [{lo:+.1%}, {hi:+.1%}], Holm p {p:.2g}"
    if not p < 0.05:
        return f"no difference is shown ({words})"
    return f"{better if difference > 0 else worse} ({words})"


def paragraphs(t: Mapping[str, pd.DataFrame]) -> Iterator[str]:
    """What the tables of a transfer say, whatever it is."""
    table = t["transfer"]
    base = table[table["method"] == UNSTEERED].iloc[0]
    yield (
        f"{base['n']} continuations: unsteered, the source is heard in {base['source_heard']:.0%} and the target in "
        f"{base['rate']:.0%}."
    )
    for push, part in t["at_quality"].groupby("push", sort=False):
        words = []
        for row in part.to_dict("records"):
            if pd.isna(row["rate"]):
                words.append(f"{row['method']} never stays music")
                continue
            words.append(
                f"{row['method']} {row['rate']:.0%} [{row['lo']:.0%}, {row['hi']:.0%}] at {row['dose']:g} (source "
                f"{row['source_heard']:.0%}, FAD {row.get('fad', float('nan')):.0f})"
            )
        yield (f"Most success with at most 10 % no music, {push}: {'; '.join(words)}.")
    if "fad" in base:
        yield f"FAD unsteered: {base['fad']:.0f}."
    hits = t["contrasts"][t["contrasts"]["measure"] == "hit"]
    for push, part in hits.groupby("push", sort=False):
        for a, b, better, worse in (
            ("ridge", "logistic", "regression succeeds more often", "regression succeeds less often"),
            ("mean_diff", "random", "class means succeed more often", "class means succeed less often"),
        ):
            row = part[(part["a"] == a) & (part["b"] == b)]
            if len(row):
                cell = row.iloc[0]
                sentence = verdict(cell["difference"], cell["lo"], cell["hi"], cell["p_holm"], better, worse)
                yield (f"{push}, averaged over strengths, {a} against {b}: {sentence}.")
    sites = t["sites"]
    for kind in ("resid", "attn"):
        rows = sites[sites["kind"] == kind]
        layers = ", ".join(f"{r.pair} {r.site} ({r.rate:.0%})" for r in rows.itertuples())
        yield (f"Best layer of {kind} on pilot sounds, over all strengths: {layers}.")
    stays = t["kept"]
    middle = stays[(stays["push"] == "add, equal dose") & (stays["method"] == "mean_diff")]
    still = stays[stays["method"] == UNSTEERED]
    again = stays[stays["method"] == "other noise"]
    if len(middle) and len(still) and len(again):
        cell, own, other = middle.iloc[0], still.iloc[0], again.iloc[0]
        parts = [
            f"{name.removeprefix('kept.').replace('_', ' ')} {cell[name]:.2f} (unsteered {own[name]:.2f}, other noise "
            f"{other[name]:.2f})"
            for name in [n for n in stays.columns if n.startswith("kept.")] + ["chroma", "tempo_kept", "mode_kept"]
            if name in stays
        ]
        yield (f"Kept when class means are added at {cell['dose']:g} sigma: {', '.join(parts)}.")
    if "text" in t:
        text = t["text"]
        asked = text[text["method"] == "text: target"].iloc[0]
        plain = text[text["method"] == UNSTEERED].iloc[0]
        best = text[~text["method"].isin([UNSTEERED, "text: target", "random"])]
        best = best[best["not_music"] <= 0.1]
        yield (
            f"Text-to-music that names the source: target heard in {plain['rate']:.0%}, with the target named instead "
            f"{asked['rate']:.0%}"
            + (
                f", pushed at best {best['rate'].max():.0%} ({best.loc[best['rate'].idxmax(), 'method']}, "
                f"{best.loc[best['rate'].idxmax(), 'push']})."
                if len(best)
                else ", and no push leaves it music."
            )
        )
