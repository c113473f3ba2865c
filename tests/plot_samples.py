"""Tables in the shape that the toolkit makes, and one call for every plot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from interp import plots


def heads(n_layers: int = 6, n_heads: int = 8, *, trait: str = "drums", method: str = "logistic") -> pd.DataFrame:
    """A probe table of heads; the score of L{l}.H{h} is known from its position."""
    rng = np.random.default_rng(0)
    layer, head = (grid.ravel() for grid in np.meshgrid(np.arange(n_layers), np.arange(n_heads), indexing="ij"))
    score = 0.5 + 0.45 * rng.permutation(layer.size) / layer.size
    return pd.DataFrame(
        {
            "site": [f"L{a}.H{b}" for a, b in zip(layer, head, strict=True)],
            "kind": "heads", "layer": layer, "head": pd.array(head, dtype="Int64"), "trait": trait, "method": method,
            "cv_score": score, "test_score": score - 0.01, "lo": score - 0.05, "hi": score + 0.03, "chance": 0.5,
            "null_max_95": 0.61, "p_max": np.where(score > 0.62, 0.005, 0.4), "score": "balanced_accuracy",
        }
    )  # fmt: skip


def with_baseline(table: pd.DataFrame) -> pd.DataFrame:
    mel = table.iloc[[0]].assign(site="mel", kind="baseline", layer=-1, head=pd.NA, test_score=0.83)
    resid = table.iloc[:6].assign(site=[f"L{i}.resid" for i in range(6)], kind="resid", head=pd.NA, cv_score=0.9)
    return pd.concat([table, resid, mel], ignore_index=True)


def cosines() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        {"site": f"L{i // 8}.H{i % 8}", "a": a, "b": b, "cosine": np.clip(middle + rng.normal() * 0.1, -1, 1),
         "null_lo": -0.35, "null_hi": 0.35, "ceiling": 0.9}
        for a, b, middle in (("logistic", "ridge", 0.8), ("logistic", "mean_diff", 0.5), ("ridge", "random", 0.0))
        for i in range(48)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def doses(trait: str = "drums") -> pd.DataFrame:
    rows: list[dict[str, Any]] = [
        {"arm": "unsteered", "dose": 0.0, "rate": 0.06, "lo": 0.02, "hi": 0.2, "draw": np.nan}
    ]
    for arm, gain in (("probe", 0.3), ("random", 0.02), ("shuffled labels", 0.01), ("worst heads", 0.0)):
        for dose in (-1.0, 0.5, 1.0, 2.0, 3.0):
            rate = float(np.clip(0.06 + gain * dose, 0, 1))
            rows.append({"arm": arm, "dose": dose, "rate": rate, "lo": rate - 0.1, "hi": rate + 0.1, "draw": np.nan})
            if arm == "random":
                rows += [{"arm": arm, "dose": dose, "rate": rate + 0.02 * j, "draw": j} for j in range(3)]
    return pd.DataFrame(rows).assign(trait=trait)


def curves(x: str, values: list[float], by: str) -> pd.DataFrame:
    rows = [
        {by: name, x: value, "test_score": 0.5 + 0.4 * i / len(values) + shift, "chance": 0.5}
        for name, shift in (("logistic", 0.0), ("ridge", 0.03))
        for i, value in enumerate(values)
    ]
    return pd.DataFrame(rows).assign(lo=lambda t: t["test_score"] - 0.03, hi=lambda t: t["test_score"] + 0.03)


def confusions() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    true = rng.choice(["brass", "flute", "guitar", "organ", "piano", "strings"], 400)
    wrong = rng.random(400) < 0.15
    return pd.DataFrame({"true": true, "predicted": np.where(wrong, "not_music", true)})


def embedded() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(120, 4)), columns=["umap_1", "umap_2", "pca_1", "pca_2"])
    table["genre"] = np.repeat(["classical", "electronic", "jazz", "rock"], 30)
    table["tempo"] = rng.uniform(60, 180, 120)
    table.attrs = {"umap_trust": 0.91, "pca_trust": 0.83, "explained": (0.31, 0.2)}
    return table


def compared() -> pd.DataFrame:
    rows = [
        {"trait": trait, "name": name, "test_score": score, "lo": score - 0.04, "hi": score + 0.03, "chance": chance,
         "null_max_95": chance + 0.1}
        for trait, chance in (("drums", 0.5), ("piano", 0.5), ("genre", 0.25))
        for name, score in (("best head", 0.93), ("mel", 0.85), ("untrained", 0.7))
    ]  # fmt: skip
    return pd.DataFrame(rows)


def patched(kind: str = "heads", windows: int = 1) -> pd.DataFrame:
    """A table of patching: what each site carries is known from its place in the table."""
    blocks = ["attn", "cross", "mlp", "resid"]
    heads_of = [(kind, layer, head) for layer in range(6) for head in range(8)]
    places = heads_of if kind != "blocks" else [(block, layer, None) for layer in range(6) for block in blocks]
    names = {"heads": "L{}.H{}", "cross_heads": "L{}.X.H{}"}
    lines = [
        {"site": names.get(k, f"L{{}}.{k}").format(layer, head), "kind": k, "layer": layer, "head": head,
         "start": at if windows > 1 else np.nan, "stop": at + 1.0 if windows > 1 else np.nan}
        for k, layer, head in places for at in range(windows)
    ]  # fmt: skip
    share = np.linspace(-0.2, 0.8, len(lines))
    table = pd.DataFrame(lines).assign(share=share, change=2 * share, mismatched=0.0)
    return table.assign(p_max=np.where(share > 0.5, 0.01, 0.6), head=table["head"].astype("Int64"))


def lensed() -> pd.DataFrame:
    return pd.DataFrame(
        [{"layer": layer, "codebook": k, "kl": 5.0 - layer + k / 4} for layer in range(-1, 6) for k in range(4)]
    )


def attributed() -> pd.DataFrame:
    sites = [("embed", "embed", -1, None), ("bias", "bias", -1, None)]
    sites += [(f"L{i}.H{h}", "heads", i, h) for i in range(3) for h in range(4)]
    sites += [(f"L{i}.mlp", "mlp", i, None) for i in range(3)]
    table = pd.DataFrame(sites, columns=["site", "kind", "layer", "head"]).assign(codebook=0)
    return table.assign(contribution=np.linspace(-1, 2, len(table)), head=table["head"].astype("Int64"))


def _pattern(n: int = 40, keys: int = 40) -> Any:
    return np.tril(np.ones((n, keys))) / np.arange(1, n + 1)[:, None] if keys == n else np.full((n, keys), 1 / keys)


def _sounds() -> Any:
    t = np.arange(32000) / 16000
    before = 0.3 * np.sin(2 * np.pi * 440 * t).astype(np.float32)
    after = before + (0.3 * np.random.default_rng(0).normal(size=t.size) * (t > 1)).astype(np.float32)
    return plots.spectrograms(before, after[None], 16000, start=1.0)


ALL: dict[str, Callable[[], Any]] = {
    "heatmap": lambda: plots.heatmap(heads(), title="drums"),
    "heatmap_large": lambda: plots.heatmap(heads(48, 32)),
    "ranking": lambda: plots.ranking(with_baseline(heads()), title="drums"),
    "ranking_curve": lambda: plots.ranking(heads(48, 32), top=1536),
    "cosines": lambda: plots.cosines(cosines()),
    "dose_response": lambda: plots.dose_response(doses(), title="drums"),
    "learning_curve": lambda: plots.learning_curve(curves("n_train", [16, 32, 64, 128, 256, 512], "method")),
    "time_course": lambda: plots.time_course(
        curves("time", list(np.arange(0, 4, 0.1)), "method"), by="method", events={"drums enter": 1.5}
    ),
    "confusion": lambda: plots.confusion(confusions()),
    "baselines": lambda: plots.baselines(compared()),
    "embedding": lambda: plots.embedding(embedded(), "genre"),
    "embedding_graded": lambda: plots.embedding(embedded(), "tempo"),
    "spectrograms": _sounds,
    "patching": lambda: plots.patching(patched(), title="drums or none, denoising"),
    "patching_cross": lambda: plots.patching(patched("cross_heads")),
    "patching_blocks": lambda: plots.patching(patched("blocks"), title="piano or flute"),
    "patching_time": lambda: plots.patching(patched(windows=3)),
    "attention": lambda: plots.attention(_pattern(), frame_rate=50, title="L3.H2"),
    "attention_words": lambda: plots.attention(_pattern(40, 3), frame_rate=50, words=["jazz", "piano", "no drums"]),
    "attention_page": lambda: plots.attention_page(np.tile(_pattern(), (6, 8, 1, 1)), title="self-attention").ravel(),
    "lens": lambda: plots.lens(lensed(), title="rendered music"),
    "logit_attribution": lambda: plots.logit_attribution(attributed(), title="heard against all"),
}
