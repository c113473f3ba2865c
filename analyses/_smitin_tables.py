"""From judged clips to the SMITIN study's tables: the paper's table, rules at equal success, which part matters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analyses._smitin_arms import CONTINUATION, TEXT
from interp.judges import kad
from interp.stats import bootstrap_interval, holm, paired_bootstrap, wilson

__all__ = ["AVERAGE", "PAPER", "Reference", "embeddings", "equal_success", "label", "paper_table", "summary"]

Array = NDArray[np.float64]
Place = tuple[str, str]
AVERAGE = "average"

PAPER: dict[tuple[str, str, float | None], tuple[float | None, float | None, float | None]] = {
    (CONTINUATION, "none", None): (7.4, None, None),
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


class Reference:
    """Fréchet distances of many small sets to one reference; equal to :func:`interp.judges.fad`, and batched.

    Parameters
    ----------
    x : array of shape (n, dim)
        Embeddings of the reference.
    """

    def __init__(self, x: Array) -> None:
        self.x = np.asarray(x, np.float64)
        self.mean = self.x.mean(0)
        values, vectors = np.linalg.eigh(np.cov(self.x, rowvar=False))
        values = np.clip(values, 0, None)
        self.root, self.trace = (vectors * np.sqrt(values)) @ vectors.T, float(values.sum())

    def distances(self, sets: Array) -> Array:
        """Distance of each of ``sets [B, n, dim]``, shape [B].

        The cross term is the nuclear norm of ``root_ref X_c / sqrt(n - 1)``, so that sets smaller than the dimension
        cost an eigenproblem of their own size.
        """
        mean = sets.mean(1)
        centred = (sets - mean[:, None]) / np.sqrt(sets.shape[1] - 1)
        mixed = centred @ self.root
        gram = mixed @ mixed.transpose(0, 2, 1) if sets.shape[1] <= sets.shape[2] else mixed.transpose(0, 2, 1) @ mixed
        cross = np.sqrt(np.clip(np.linalg.eigvalsh(gram), 0, None)).sum(1)
        found = ((mean - self.mean) ** 2).sum(1) + (centred**2).sum((1, 2)) + self.trace - 2 * cross
        return np.maximum(found, 0.0)


def embeddings(clips: pd.DataFrame) -> Array:
    """The judge's embeddings of clips, ``[clips, dim]`` (dim 0 for a judge without)."""
    columns = [c for c in clips.columns if c[:1] == "e" and c[1:].isdigit()]
    return clips[columns].to_numpy(np.float64)


def label(arm: str, strength: float) -> str:
    """``SMITIN α 5``."""
    return f"{arm} α {strength:g}" if strength else arm


def _draws(n: int, n_bootstrap: int) -> NDArray[np.int64]:
    return np.random.default_rng(0).integers(n, size=(n_bootstrap, n))


def _fads(part: pd.DataFrame, reference: Reference, draws: NDArray[np.int64]) -> tuple[float, Array]:
    x = embeddings(part.sort_values("seed"))
    value = float(reference.distances(x[None])[0])
    boot = np.concatenate([reference.distances(x[some]) for some in np.array_split(draws, max(1, len(draws) // 50))])
    return value, boot


def summary(
    clips: pd.DataFrame, references: Mapping[Place, Array], *, n_bootstrap: int = 300, base: str = "none"
) -> pd.DataFrame:
    """One row per trait (and their average), task, arm and strength.

    Parameters
    ----------
    clips : DataFrame
        Of :func:`analyses._smitin_arms.play`.
    references : dict of (trait, task) to array of shape (n, dim)
        Embeddings of music that is as it should be; without, FAD and KAD are left out.
    n_bootstrap : int
        Resamples of seeds.
    base : str
        The arm that others are compared with, seed by seed.

    Returns
    -------
    DataFrame
        ``trait, task, arm, strength, n, rate, lo, hi`` (Wilson; bootstrap for the average), ``diff, diff_lo, diff_hi,
        p, p_holm`` (within trait and task), ``probe`` (own probes: not independent), ``fad, fad_diff, fad_diff_lo,
        fad_diff_hi, kad, similarity, similarity_lo, similarity_hi, not_music, acted, level``.
    """
    blocks = []
    for task, of_task in clips.groupby("task", sort=False):
        boots: dict[tuple[str, float], list[tuple[float, Array, Array]]] = {}
        for trait, part in [*of_task.groupby("trait", sort=False), (AVERAGE, of_task)]:
            lines: list[dict[str, Any]] = []
            control = part[part["arm"] == base].sort_values(["trait", "seed"])
            known = references.get((str(trait), str(task)))
            reference = Reference(known) if known is not None and embeddings(part).shape[1] else None
            draws = _draws(control["seed"].nunique(), n_bootstrap)
            zero = _fads(control, reference, draws) if reference is not None else None
            for (arm, strength), rows in part.groupby(["arm", "strength"], sort=False):
                rows = rows.sort_values(["trait", "seed"])
                hit = rows["hit"].to_numpy(float)
                lo, hi = wilson(int(hit.sum()), len(hit))
                line: dict[str, Any] = {
                    "trait": trait, "task": task, "arm": arm, "strength": strength, "n": len(rows),
                    "rate": hit.mean(), "lo": float(lo), "hi": float(hi),
                }  # fmt: skip
                gain = paired_bootstrap(hit, control["hit"].to_numpy(float)) if arm != base else None
                line |= {
                    "diff": gain.difference if gain else np.nan, "diff_lo": gain.lo if gain else np.nan,
                    "diff_hi": gain.hi if gain else np.nan, "p": gain.p if gain else np.nan,
                    "probe": (rows["probe"] >= 0.5).mean() if "probe" in rows else np.nan,
                }  # fmt: skip
                line |= dict.fromkeys(("fad", "fad_diff", "fad_diff_lo", "fad_diff_hi", "kad"), np.nan)
                if reference is not None and zero is not None:
                    value, boot = _fads(rows, reference, draws)
                    near = kad(embeddings(rows), reference.x).value
                    boots.setdefault((arm, strength), []).append((value, boot - zero[1], np.array([near, zero[0]])))
                    line |= _fad_line(value, value - zero[0], boot - zero[1], near, len(rows))
                elif trait == AVERAGE and (arm, strength) in boots:
                    found = boots[arm, strength]
                    values, nears = [f[0] for f in found], np.array([f[2] for f in found])
                    line |= _fad_line(
                        float(np.mean(values)), float(np.mean(np.array(values) - nears[:, 1])),
                        np.mean([f[1] for f in found], axis=0), float(nears[:, 0].mean()), len(rows),
                    )  # fmt: skip
                line |= _mean(rows, "similarity")
                for column in ("not_music", "acted", "level"):
                    line[column] = rows[column].astype(float).mean()
                lines.append(line)
            table = pd.DataFrame(lines)
            table["p_holm"] = holm(table["p"])
            blocks.append(table)
    return pd.concat(blocks, ignore_index=True)


def _fad_line(value: float, diff: float, boot: Array, near: float, n: int) -> dict[str, float]:
    lo, hi = np.quantile(boot, [0.025, 0.975])
    # resampling repeats clips and so lifts every arm's FAD alike; the difference is centred on what was measured
    shift = diff - float(np.median(boot))
    return {"fad": value, "fad_diff": diff, "fad_diff_lo": lo + shift, "fad_diff_hi": hi + shift, "kad": near}


def _mean(rows: pd.DataFrame, column: str) -> dict[str, float]:
    values = rows[column].to_numpy(float)
    if np.isnan(values).all():
        return {column: np.nan, f"{column}_lo": np.nan, f"{column}_hi": np.nan}
    draws = np.random.default_rng(1).integers(len(values), size=(500, len(values)))
    lo, hi = bootstrap_interval(np.nanmean(values[draws], axis=1), len(values))
    return {column: float(np.nanmean(values)), f"{column}_lo": float(lo), f"{column}_hi": float(hi)}


def paper_table(found: pd.DataFrame, order: Sequence[tuple[str, float]]) -> pd.DataFrame:
    """The table in the paper's form, traits averaged, with the paper's own numbers in columns of their own.

    Parameters
    ----------
    found : DataFrame
        Of :func:`summary`.
    order : sequence of (arm, strength)
        The rows of each task; a strength of NaN stands for that with the most success.
    """
    rows = []
    for task in found["task"].unique():
        mine = found[(found["trait"] == AVERAGE) & (found["task"] == task)]
        for arm, strength in order:
            line = mine[(mine["arm"] == arm) & ((mine["strength"] == strength) | np.isnan(strength))]
            if line.empty:
                continue
            one = line.loc[line["rate"].idxmax()]
            alpha = strength if arm.startswith("SMITIN") else None
            paper = PAPER.get((task, arm, alpha), (None, None, None))
            rows.append({
                "task": task, "arm": label(arm, one["strength"]), "success %": 100 * one["rate"],
                "gain (points)": 100 * one["diff"], "gain lo": 100 * one["diff_lo"], "gain hi": 100 * one["diff_hi"],
                "Holm p": one["p_holm"], "own probe % (not independent)": 100 * one["probe"], "FAD": one["fad"],
                "KAD": one["kad"], "similarity": one["similarity"], "not music %": 100 * one["not_music"],
                "paper: success %": paper[0], "paper: FAD": paper[1], "paper: similarity": paper[2],
            })  # fmt: skip
    table = pd.DataFrame(rows)
    columns = [c for c in table.columns if c.startswith("paper")]
    return table.astype(dict.fromkeys(columns, float))


def _curve(part: pd.DataFrame, arms: Sequence[tuple[str, float]]) -> tuple[Array, Array]:
    """Embeddings ``[points, n, dim]`` and hits ``[points, n]`` of arms, seeds in one order."""
    chosen = [part[(part["arm"] == a) & (part["strength"] == s)].sort_values("seed") for a, s in arms]
    return np.stack([embeddings(c) for c in chosen]), np.stack([c["hit"].to_numpy(float) for c in chosen])


def _at(success: float, rates: Array, distances: Array) -> float:
    """Distance on the rising branch of a curve where success is as asked; NaN where it never is."""
    top = int(rates.argmax())
    rates, distances = np.maximum.accumulate(rates[: top + 1]), distances[: top + 1]
    if success > rates[-1] or success < rates[0]:
        return float("nan")
    return float(np.interp(success, rates, distances))


def equal_success(
    clips: pd.DataFrame, references: Mapping[Place, Array], arms: Sequence[str], *, against: str = "ITI",
    n_bootstrap: int = 300,
) -> pd.DataFrame:  # fmt: skip
    """FAD of rules where they succeed equally often.

    The FAD of ``against`` is interpolated between its strengths (``none`` is strength 0) at the success of each
    strength of every other rule; the interval resamples seeds, rules together.

    Returns
    -------
    DataFrame
        ``trait, task, arm, strength, success, fad, fad_against, difference, lo, hi, reached``: the last is the share
        of resamples in which ``against`` has that success at any strength; intervals are of these.
    """
    rows = []
    for (trait, task), part in clips.groupby(["trait", "task"], sort=False):
        known = references.get((str(trait), str(task)))
        strengths = sorted(part.loc[part["arm"] == against, "strength"].unique())
        if known is None or not strengths or not embeddings(part).shape[1]:
            continue
        reference = Reference(known)
        base = [("none", 0.0), *((against, s) for s in strengths)]
        ours = [(a, s) for a in arms for s in sorted(part.loc[part["arm"] == a, "strength"].unique())]
        x, hits = _curve(part, [*base, *ours])
        n, k = hits.shape[1], len(base)
        draws = np.concatenate([np.arange(n)[None], _draws(n, n_bootstrap)])
        fads = np.stack([
            np.concatenate([reference.distances(one[some]) for some in np.array_split(draws, len(draws) // 50 + 1)])
            for one in x
        ])  # fmt: skip
        rates = hits[:, draws].mean(2)
        for j, (arm, strength) in enumerate(ours, start=k):
            there = np.array([_at(rates[j, b], rates[:k, b], fads[:k, b]) for b in range(len(draws))])
            boot = (fads[j] - there)[1:]
            reached = np.isfinite(boot)
            difference = float(fads[j, 0] - there[0])
            lo = hi = np.nan
            if reached.sum() >= 20 and np.isfinite(difference):
                lo, hi = np.quantile(boot[reached], [0.025, 0.975]) + difference - np.median(boot[reached])
            rows.append({
                "trait": trait, "task": task, "arm": arm, "strength": strength, "success": rates[j, 0],
                "fad": fads[j, 0], "fad_against": there[0], "difference": difference, "lo": lo, "hi": hi,
                "reached": float(reached.mean()),
            })  # fmt: skip
    columns = ["trait", "task", "arm", "strength", "success", "fad", "fad_against", "difference", "lo", "hi", "reached"]
    return pd.DataFrame(rows, columns=columns)
