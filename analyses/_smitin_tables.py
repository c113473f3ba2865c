"""From judged clips to the SMITIN study's tables and sentences: the paper's table, rules at equal success, the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from interp.validation import UNSTEERED, summarise

__all__ = [
    "AVERAGE",
    "CONTINUATION",
    "PAPER",
    "RULES",
    "TEXT",
    "label",
    "pairs_table",
    "paper_order",
    "paper_table",
    "sentences",
    "summary",
]

Array = NDArray[np.float64]
CONTINUATION, TEXT = "continuation", "text-to-music"
RULES = ("ITI", "SMITIN", "residual", "SMITIN residual")
_MEASURES = ("similarity", "named", "own", "acted", "level")
AVERAGE = "average"

PAPER: dict[tuple[str, str, float | None], tuple[float | None, float | None, float | None]] = {
    (CONTINUATION, UNSTEERED, None): (7.4, None, None),
    (CONTINUATION, "text", None): (12.8, None, None),
    (CONTINUATION, "ITI", None): (49.9, 0.420, 0.896),
    (CONTINUATION, "SMITIN", 5.0): (23.3, 0.336, 0.913),
    (CONTINUATION, "SMITIN + text", 5.0): (19.8, None, None),
    (TEXT, "text", None): (30.8, None, None),
    (TEXT, "ITI", None): (52.0, 0.538, None),
    (TEXT, "SMITIN", 5.0): (29.7, 0.487, None),
    (TEXT, "SMITIN", 10.0): (39.5, 0.497, None),
}
"""(task, arm, alpha) -> success in %, FAD, similarity of arXiv 2404.02252 (MusicGen-large, four instruments).

As digests of the paper report them, not checked against its text; from other music, embeddings and judges than ours."""


def label(arm: str, dose: float) -> str:
    """``SMITIN α 5``."""
    return f"{arm} α {dose:g}" if dose else arm


def summary(clips: pd.DataFrame, near: Mapping[tuple[str, str], Array]) -> pd.DataFrame:
    """One row per trait (and their average), task, arm and strength.

    Parameters
    ----------
    clips : DataFrame
        With the column ``task``; ``probe``, where the model's own probes judged as well, is counted as ``own``.
    near : dict of (trait, task) to array of shape (n, dim)
        Embeddings of music that is as it should be; without, FAD and KAD are left out.

    Returns
    -------
    DataFrame
        Of :func:`interp.validation.summarise`, p-values corrected within trait and task. Rows of the average have all
        traits' clips, and the mean of the traits' distances; the interval of that mean takes traits as independent.
    """
    clips = clips.assign(own=(clips["probe"] >= 0.5).astype(float)) if "probe" in clips else clips
    key, family = ["task", "arm", "dose"], ["trait", "task"]

    def reference(row: Mapping[str, object]) -> dict[str, Array]:
        known = near.get((str(row["trait"]), str(row["task"])))
        return {} if known is None else {"": known}

    each = summarise(clips, ["trait", *key], family=family, measures=_MEASURES, references=reference)
    every = summarise(clips, key, family=["task"], measures=_MEASURES)
    every.insert(0, "trait", AVERAGE)
    distances = [name for name in ("fad", "fad_diff", "kad") if name in each]
    groups = each.groupby(key, sort=False)
    for name in distances:
        every[name] = groups[name].mean().reindex(pd.MultiIndex.from_frame(every[key])).to_numpy()
        if f"{name}_lo" in each:
            half = ((each[f"{name}_hi"] - each[f"{name}_lo"]) / 2).pow(2)
            wide = half.groupby([each[column] for column in key], sort=False).agg(lambda h: np.sqrt(h.sum()) / len(h))
            spread = wide.reindex(pd.MultiIndex.from_frame(every[key])).to_numpy()
            every[f"{name}_lo"], every[f"{name}_hi"] = every[name] - spread, every[name] + spread
    table = pd.concat([each, every], ignore_index=True)
    wanted = ["fad", "fad_diff", "fad_diff_lo", "fad_diff_hi", "kad", *_MEASURES, "diff", "diff_lo", "diff_hi"]
    return table.reindex(columns=[*table.columns, *(name for name in wanted if name not in table)])


def paper_order(config: Any) -> list[tuple[str, float]]:
    """Rows of each task in the paper's form: arms and strengths of a configuration of the study."""
    c = config
    order = [(UNSTEERED, 0.0), ("text", 0.0), ("ITI", np.nan)]
    order += [("SMITIN", a) for a in sorted({*c.alphas, *c.sweep})]
    order += [(f"SMITIN, τ {c.tau_low:g}", max(c.alphas)), ("SMITIN + text", max(c.alphas))]
    order += [("residual", a) for a in c.resid] + [("SMITIN residual", a) for a in c.smitin_resid]
    return order


def paper_table(t: pd.DataFrame, order: Sequence[tuple[str, float]]) -> pd.DataFrame:
    """The table in the paper's form, traits averaged, with the paper's own numbers in columns of their own.

    Parameters
    ----------
    found : DataFrame
        Of :func:`summary`.
    order : sequence of (arm, strength)
        The rows of each task; a strength of NaN stands for that with the most success.
    """
    rows = []
    for task in t["task"].unique():
        mean = t[(t["trait"] == AVERAGE) & (t["task"] == task)]
        for arm, strength in order:
            line = mean[(mean["arm"] == arm) & ((mean["dose"] == strength) | np.isnan(strength))]
            if line.empty:
                continue
            cell = line.loc[line["rate"].idxmax()]
            alpha = strength if arm.startswith("SMITIN") else None
            paper = PAPER.get((task, arm, alpha), (None, None, None))
            rows.append({
                "task": task, "arm": label(arm, cell["dose"]), "success %": 100 * cell["rate"],
                "gain (points)": 100 * cell["diff"], "gain lo": 100 * cell["diff_lo"], "gain hi": 100 * cell["diff_hi"],
                "Holm p": cell["p_holm"], "own probe % (not independent)": 100 * cell["own"], "FAD": cell["fad"],
                "KAD": cell["kad"], "similarity": cell["similarity"], "named": cell["named"],
                "not music %": 100 * cell["not_music"],
                "paper: success %": paper[0], "paper: FAD": paper[1], "paper: similarity": paper[2],
            })  # fmt: skip
    table = pd.DataFrame(rows)
    columns = [c for c in table.columns if c.startswith("paper")]
    return table.astype(dict.fromkeys(columns, float))


def pairs_table(clips: pd.DataFrame) -> pd.DataFrame:
    """Success and accuracy by the number of pairs that the probes heard, traits and their average."""
    clips = clips.assign(n_pairs=clips["n_pairs"].fillna(0), arm=clips["arm"].str.split(",").str[0])
    parts = []
    for n, part in clips[clips["arm"] != UNSTEERED].groupby("n_pairs", sort=True):
        # of a folder, the largest number may differ between traits
        base = clips[(clips["arm"] == UNSTEERED) & clips["trait"].isin(part["trait"])]
        table = summary(pd.concat([base, part], ignore_index=True), {}).query("arm != @UNSTEERED")
        if part["trait"].nunique() < clips["trait"].nunique():
            table = table[table["trait"] != AVERAGE]
        books = part.groupby("trait")[["accuracy_heads", "accuracy_monitor"]].mean()
        books.loc[AVERAGE] = books.mean()
        parts.append(table.merge(books.reset_index(), on="trait").assign(n_pairs=int(n)))
    keep = ["trait", "n_pairs", "accuracy_heads", "accuracy_monitor", "arm", "dose", "n", "rate", "lo", "hi", "diff",
            "diff_lo", "diff_hi", "not_music", "acted"]  # fmt: skip
    return pd.concat(parts, ignore_index=True)[keep].sort_values(["trait", "arm", "dose", "n_pairs"], ignore_index=True)


# Words ----------------------------------------------------------------------------------------------------------------


def sentences(t: Mapping[str, pd.DataFrame], alphas: Sequence[float]) -> Iterator[str]:
    """What was found, whatever it is."""
    success = t["success"]
    traits = [name for name in success["trait"].unique() if name != AVERAGE]
    for task in (CONTINUATION, TEXT):
        mean = success[(success["task"] == task) & (success["trait"] == AVERAGE)]
        mean = mean.set_index(["arm", "dose"]).sort_index()
        if mean.empty:
            continue
        iti = mean.loc["ITI"]["rate"].idxmax()
        picks = [(UNSTEERED, 0.0), ("text", 0.0), ("ITI", iti), *(("SMITIN", a) for a in alphas)]
        picks += [(arm, mean.loc[arm]["rate"].idxmax()) for arm in ("residual", "SMITIN residual") if arm in mean.index]
        words = "; ".join(
            f"{label(*at)} {mean.loc[at, 'rate']:.0%}"
            + ("" if np.isnan(mean.loc[at, "fad"]) else f" (FAD {mean.loc[at, 'fad']:.1f})")
            for at in picks
        )
        yield (f"{task.capitalize()}, average over {len(traits)} traits, success by the judge: {words}.")
    yield from _reach(success, traits)
    equal = t["equal_success"]
    for arm in equal["arm"].unique():
        rows = equal[(equal["arm"] == arm) & equal["difference"].notna()]
        better, worse = int((rows["hi"] < 0).sum()), int((rows["lo"] > 0).sum())
        all_ = int((equal["arm"] == arm).sum())
        yield (
            f"At equal success, {arm} has a lower FAD than ITI in {better} and a higher one in {worse} of the "
            f"{len(rows)} points that ITI reaches as well (of {all_}; 95 % intervals that leave out zero); median "
            f"difference {rows['difference'].median():+.2f}."
        )
    yield _parts(t["ladder"])
    gone = t["removal"]
    mean = gone[(gone["trait"] == AVERAGE) & (gone["arm"] != UNSTEERED)]
    best = mean.loc[mean.groupby("arm")["rate"].idxmax()]
    base = float(gone.loc[(gone["trait"] == AVERAGE) & (gone["arm"] == UNSTEERED), "rate"].iloc[0])
    words = "; ".join(f"{label(r.arm, r.dose)} {r.rate:.0%} (not music {r.not_music:.0%})" for r in best.itertuples())
    yield (f"Removal, share of continuations that lose the trait: unsteered {base:.0%}; {words}.")
    part = t["pairs"][(t["pairs"]["trait"] == AVERAGE)]
    for (arm, dose), rows in part.groupby(["arm", "dose"]):
        words = ", ".join(f"{int(r.n_pairs)} pairs {r.rate:.0%}" for r in rows.itertuples())
        yield (f"Success of {label(arm, dose)} by the number of pairs that its probes heard: {words}.")
    few = part.drop_duplicates("n_pairs")
    words = ", ".join(
        f"{int(r.n_pairs)}: {r.accuracy_heads:.0%} and {r.accuracy_monitor:.0%}" for r in few.itertuples()
    )
    yield (f"Held-out accuracy of the heads that are heard (mean) and of the monitor, by pairs: {words}.")


def _reach(success: pd.DataFrame, traits: Sequence[str]) -> Iterator[str]:
    """Where a gain of 70 points is reached, and where not: what the strongest of each rule does."""
    for trait in traits:
        rows = success[(success["trait"] == trait) & (success["task"] == CONTINUATION)]
        rules = rows[rows["arm"].isin(RULES)]
        best = rules.loc[rules.groupby("arm", sort=False)["diff"].idxmax()].sort_values("diff", ascending=False)
        over = best[best["diff"] >= 0.7]
        words = "; ".join(
            f"{label(r.arm, r.dose)} {100 * r.diff:+.0f} [{100 * r.diff_lo:+.0f}, {100 * r.diff_hi:+.0f}], "
            f"not music {r.not_music:.0%}"
            for r in best.itertuples()
        )
        verdict = f"70 points are reached by {', '.join(over['arm'])}" if len(over) else "70 points are not reached"
        yield (f"{trait}, continuation: {verdict}. Largest gains in points: {words}.")


def _parts(ladder: pd.DataFrame) -> str:
    """Which rung of the ladder costs or gains success, directions apart."""
    mean = ladder[ladder["trait"] == AVERAGE]
    words = []
    for way in ("logistic", "mean_diff", "random", "shuffled"):
        rows = mean[mean["arm"].str.endswith(f", {way}")]
        if rows.empty:
            continue
        for dose, part in rows.groupby("dose"):
            steps = ", ".join(f"{r.arm.rsplit(', ', 1)[0]} {r.rate:.0%}" for r in part.itertuples())
            words.append(f"{way} at {dose:g} sigma: {steps}")
    return f"From ITI to SMITIN one part at a time (average success; unsteered {mean['rate'].iloc[0]:.0%}): " + (
        "; ".join(words) + "."
    )
