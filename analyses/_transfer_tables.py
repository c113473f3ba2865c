"""From judged clips to the tables of a transfer: success, quality, what was kept, and paired contrasts of methods."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from interp.judges import fad, kad
from interp.stats import holm, paired_bootstrap, wilson

__all__ = [
    "CONTROLS",
    "FAMILY",
    "UNSTEERED",
    "contrasts",
    "embedding_of",
    "kept",
    "outcomes",
    "public",
    "success_at_quality",
]

UNSTEERED, OTHER_NOISE = "unsteered", "other noise"
CONTROLS = (UNSTEERED, OTHER_NOISE, "random")
FAMILY = {"ridge": "regression", "logistic": "classification", "mean_diff": "means"}
UNIT = ["pair", "seed"]


def public(clips: pd.DataFrame) -> pd.DataFrame:
    """The table of clips without embeddings."""
    return clips[[name for name in clips.columns if not (name[0] == "e" and name[1:].isdigit())]]


def embedding_of(clips: pd.DataFrame) -> np.ndarray:
    """Embeddings of the clips, ``[clips, dim]``."""
    return clips[[name for name in clips.columns if name[0] == "e" and name[1:].isdigit()]].to_numpy(float)


def outcomes(
    clips: pd.DataFrame, by: Sequence[str], reference: np.ndarray | None = None, *, base: str = UNSTEERED
) -> pd.DataFrame:
    """One row a condition: what is heard, what it costs, and the difference to the unsteered twins.

    Parameters
    ----------
    clips : DataFrame
        Columns ``by``, ``pair``, ``seed``, ``method``, ``hit``, ``source_heard``, ``not_music``, ``degenerate``, ...
    by : sequence of str
        Columns that make a condition.
    reference : array of shape (clips, dim), optional
        Embeddings for FAD and KAD; without it they are left out.
    base : str
        Method of the twins that nothing was done to.

    Returns
    -------
    DataFrame
        ``rate`` with Wilson's interval (target heard), ``source`` (source still heard), ``not_music``,
        ``degenerate``, ``chroma``, ``embedding``, ``fad``, ``kad``; ``diff`` and ``source_diff`` against unsteered
        with bootstrap intervals over pairs and seeds, ``p`` by sign flips, ``p_holm`` over the rows of the table.
    """
    twins = clips[clips["method"] == base].set_index(UNIT)
    rows = []
    for key, part in clips.groupby(list(by), sort=False, dropna=False):
        n, hits = len(part), int(part["hit"].sum())
        lo, hi = wilson(hits, n)
        line: dict[str, Any] = dict(zip(by, key, strict=True))
        line |= {"n": n, "hits": hits, "rate": hits / n, "lo": float(lo), "hi": float(hi)}
        line |= {name: float(part[name].mean()) for name in ("source_heard", "not_music", "degenerate")}
        line |= {name: float(part[name].mean()) for name in ("chroma", "embedding") if name in part}
        if reference is not None and n >= 2:
            emb = embedding_of(part)
            line |= {"fad": fad(emb, reference, n_draws=0).value, "kad": kad(emb, reference).value}
        if not (part["method"] == base).all() and len(twins):
            mine = twins.loc[pd.MultiIndex.from_frame(part[UNIT])]
            if n >= 2:
                gain = paired_bootstrap(part["hit"].to_numpy(float), mine["hit"].to_numpy(float))
                loss = paired_bootstrap(part["source_heard"].to_numpy(float), mine["source_heard"].to_numpy(float))
                line |= {"diff": gain.difference, "diff_lo": gain.lo, "diff_hi": gain.hi, "p": gain.p}
                line |= {"source_diff": loss.difference, "source_lo": loss.lo, "source_hi": loss.hi}
        rows.append(line)
    table = pd.DataFrame(rows)
    if "p" in table:
        table.insert(list(table.columns).index("p") + 1, "p_holm", holm(table["p"]))
    return table


def contrasts(clips: pd.DataFrame, measures: Sequence[str] = ("hit", "not_music")) -> pd.DataFrame:
    """Methods against each other under one rule, on the same sounds and noise, averaged over its strengths.

    Returns
    -------
    DataFrame
        ``push, measure, a, b, n, difference, lo, hi, p`` and ``p_holm`` over all rows of a measure.
    """
    rows = []
    for push, part in clips[clips["push"] != ""].groupby("push", sort=False):
        for measure in measures:
            wide = (
                part[[*UNIT, "method"]]
                .assign(value=part[measure].astype(float))
                .pivot_table(index=UNIT, columns="method", values="value", aggfunc="mean")
            )
            order = [name for name in part["method"].unique() if name in wide]
            for a, b in combinations(order, 2):
                gain = paired_bootstrap(wide[a].to_numpy(), wide[b].to_numpy())
                where = {"push": push, "measure": measure, "a": a, "b": b, "n": len(wide)}
                rows.append(where | {"difference": gain.difference, "lo": gain.lo, "hi": gain.hi, "p": gain.p})
    table = pd.DataFrame(rows, columns=["push", "measure", "a", "b", "n", "difference", "lo", "hi", "p"])
    table["p_holm"] = np.nan
    for measure in table["measure"].unique():
        mine = table["measure"] == measure
        table.loc[mine, "p_holm"] = holm(table.loc[mine, "p"])
    return table


def kept(clips: pd.DataFrame) -> pd.DataFrame:
    """What stayed: similarity to the prompt, the other traits' answers, density, tempo, mode.

    The row ``other noise`` is the yardstick: two continuations of one sound that nothing was done to differ as well.
    """
    names = [n for n in clips.columns if n.startswith("kept.")]
    names += [n for n in ("chroma", "embedding", "density_change", "tempo_kept", "mode_kept") if n in clips]
    part = clips[clips["content"].astype(bool)]
    rows = []
    base = part[part["method"] == UNSTEERED].set_index(UNIT)
    for key, group in part.groupby(["push", "method", "amount"], sort=False, dropna=False):
        line: dict[str, Any] = dict(zip(("push", "method", "amount"), key, strict=True))
        line |= {"n": len(group)} | {name: float(group[name].astype(float).mean()) for name in names}
        if key[1] != UNSTEERED:
            twins = base.loc[pd.MultiIndex.from_frame(group[UNIT])]
            change = paired_bootstrap(group["chroma"].to_numpy(float), twins["chroma"].to_numpy(float))
            line |= {"chroma_diff": change.difference, "chroma_lo": change.lo, "chroma_hi": change.hi}
        rows.append(line)
    return pd.DataFrame(rows)


def success_at_quality(table: pd.DataFrame, most: float = 0.1) -> pd.DataFrame:
    """The largest success of every method under every rule while at most that share is no music.

    Parameters
    ----------
    table : DataFrame
        From :func:`outcomes`, by push, method and amount.
    most : float
        Share of clips that may be no music or degenerate.
    """
    rows = []
    for (push, method), part in table[table["push"] != ""].groupby(["push", "method"], sort=False):
        fine = part[(part["not_music"] <= most) & (part["degenerate"] <= most)]
        line: dict[str, Any] = {"push": push, "method": method, "family": FAMILY.get(str(method), "control")}
        if len(fine):
            best = fine.loc[fine["rate"].idxmax()]
            columns = ("amount", "rate", "lo", "hi", "source_heard", "not_music", "fad", "kad", "chroma", "diff",
                       "diff_lo", "diff_hi", "p_holm")  # fmt: skip
            line |= {name: best[name] for name in columns if name in best}
        else:
            line |= {"amount": np.nan, "rate": np.nan}
        rows.append(line)
    return pd.DataFrame(rows)
