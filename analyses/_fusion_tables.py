"""Tables of genre fusion: what is heard against the weights, trends, contrasts, and a switch in time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from analyses._transfer_tables import verdict
from interp.judges import fad
from interp.stats import dose_response, holm, mean_interval, paired_bootstrap, wilson
from interp.validation import UNSTEERED
from interp.validation.effects import paired_differences
from interp.validation.summary import embeddings

__all__ = ["BOTH", "fade_course", "fade_shares", "fusion_table", "fusion_trends", "half_way", "paragraphs", "with_mix"]

BOTH = 0.2
"""Both classes count as plausible where the judge gives each at least this probability."""


def with_mix(clips: pd.DataFrame, classes: tuple[str, ...]) -> pd.DataFrame:
    """Per clip: both classes' probabilities, their mix, who is heard, and whether all are plausible.

    ``mix`` is the second class's part of the first two classes' probabilities; 0.5 where both are below 0.01.
    """
    wanted = clips[[f"p_{name}" for name in classes]].to_numpy(float)
    a, b = wanted[:, 0], wanted[:, 1]
    total = a + b
    return clips.assign(
        set=":".join(classes), pair=":".join(classes), p_a=a, p_b=b,
        mix=np.where(total < 0.01, 0.5, b / np.maximum(total, 1e-9)),
        heard_a=clips["answer"] == classes[0], heard_b=clips["answer"] == classes[1],
        heard_any=clips["answer"].isin(classes), both=wanted.min(axis=1) >= BOTH,
    )  # fmt: skip


def fusion_table(clips: pd.DataFrame, reference: np.ndarray | None = None) -> pd.DataFrame:
    """One row a set, method and weighting, with Wilson's (shares) and bootstrap (mix) intervals over sounds."""
    rows = []
    for key, part in clips.groupby(["set", "method", "weights", "ratio"], sort=False, dropna=False):
        line: dict[str, Any] = dict(zip(("set", "method", "weights", "ratio"), key, strict=True))
        line["n"] = len(part)
        for name in ("heard_a", "heard_b", "heard_any", "both"):
            lo, hi = wilson(int(part[name].sum()), len(part))
            line |= {name: float(part[name].mean()), f"{name}_lo": float(lo), f"{name}_hi": float(hi)}
        inside = mean_interval(part["mix"].to_numpy(float))
        line |= {"mix": inside.value, "mix_lo": inside.lo, "mix_hi": inside.hi}
        line |= {name: float(part[name].astype(float).mean()) for name in ("p_a", "p_b", "not_music", "chroma")}
        if reference is not None and len(part) >= 2:
            line["fad"] = fad(embeddings(part), reference, n_draws=0).value
        rows.append(line)
    return pd.DataFrame(rows)


def fusion_trends(clips: pd.DataFrame) -> pd.DataFrame:
    """How the judged mix follows the ratio, by set and method: slope (1: as asked), interval over sounds, p, Holm."""
    rows = []
    steered = clips[(clips["method"] != UNSTEERED) & clips["ratio"].notna()]
    for (name, method), part in steered.groupby(["set", "method"], sort=False):
        if part["ratio"].nunique() < 2:
            continue
        trend = dose_response(part["ratio"], part["mix"].astype(float), part["seed"])
        error = (part["mix"] - part["ratio"]).abs().groupby(part["seed"]).mean()
        rows.append(
            {
                "set": name, "method": method, "slope": trend.slope, "lo": trend.lo, "hi": trend.hi, "p": trend.p,
                "rho": trend.rho, "error": float(error.mean()), "n": trend.n_units,
            }
        )  # fmt: skip
    table = pd.DataFrame(rows, columns=["set", "method", "slope", "lo", "hi", "p", "rho", "error", "n"])
    table["p_holm"] = holm(table["p"])
    return table


def half_way(clips: pd.DataFrame) -> pd.DataFrame:
    """Methods against each other, unsteered and random at equal weights, paired over sounds, Holm over a measure."""
    even = clips["ratio"] == 0.5
    middle = clips[even | ((clips["method"] == UNSTEERED) & clips["set"].isin(clips.loc[even, "set"]))]
    parts = [
        paired_differences(middle, "method", measure, ["set", "seed"], later=True).assign(measure=measure)
        for measure in ("heard_any", "both", "not_music")
    ]
    table = pd.concat(parts, ignore_index=True)
    table["p_holm"] = table.groupby("measure")["p"].transform(holm)
    return table[["measure", "a", "b", "n", "difference", "lo", "hi", "p", "p_holm"]]


def fade_course(windows: pd.DataFrame) -> pd.DataFrame:
    """Mean probabilities of both classes in every window, with bootstrap intervals over pieces."""
    rows = []
    for key, part in windows[windows["part"] == ""].groupby(["set", "method", "seconds"], sort=False):
        line: dict[str, Any] = dict(zip(("set", "method", "seconds"), key, strict=True))
        for name in ("p_a", "p_b"):
            inside = mean_interval(part[name].to_numpy(float))
            line |= {name: inside.value, f"{name}_lo": inside.lo, f"{name}_hi": inside.hi}
        rows.append(line | {"n": len(part), "not_music": float(part["not_music"].mean())})
    return pd.DataFrame(rows)


def fade_shares(windows: pd.DataFrame) -> pd.DataFrame:
    """Before and after the switch: shares heard, and how far the second class gains on the first, against a twin.

    ``gain`` is the change from before to after of ``P(b) - P(a)``; ``diff`` compares it with the same piece to which
    the first class was given throughout, paired over pieces, ``p_holm`` over the rows.
    """
    parts = windows[windows["part"] != ""].assign(lean=lambda t: t["p_b"] - t["p_a"])
    lean = parts.pivot_table(index=["set", "seed"], columns=["method", "part"], values="lean")
    rows = []
    for name in ("all", *parts["set"].unique()):
        chosen = parts if name == "all" else parts[parts["set"] == name]
        leans = lean if name == "all" else lean.loc[[name]]
        twin = leans["first throughout", "after"] - leans["first throughout", "before"]
        for method in chosen["method"].unique():
            line: dict[str, Any] = {"set": name, "method": method}
            for part in ("before", "after"):
                cell = chosen[(chosen["method"] == method) & (chosen["part"] == part)]
                line["n"] = len(cell)
                for side in ("heard_a", "heard_b"):
                    lo, hi = wilson(int(cell[side].sum()), len(cell))
                    line |= {
                        f"{part}_{side}": float(cell[side].mean()), f"{part}_{side}_lo": float(lo),
                        f"{part}_{side}_hi": float(hi),
                    }  # fmt: skip
            gain = leans[method, "after"] - leans[method, "before"]
            line["gain"] = float(gain.mean())
            if method != "first throughout" and len(gain) >= 2:
                change = paired_bootstrap(gain.to_numpy(), twin.to_numpy())
                line |= {"diff": change.difference, "diff_lo": change.lo, "diff_hi": change.hi, "p": change.p}
            rows.append(line)
    table = pd.DataFrame(rows)
    if "p" in table:
        table["p_holm"] = holm(table["p"])
    return table


def paragraphs(t: Mapping[str, pd.DataFrame], switch_second: float) -> Iterator[str]:
    """What the tables of a fusion say, whatever it is."""
    pilot = t["pilot"]
    yield f"Sounds of other classes, pushed towards {' and '.join(pilot['set'].unique())} in a ratio."
    best = pilot.loc[pilot.groupby("set")["rate"].idxmax()]
    words = ", ".join(f"{r.set} {r.site} ({r.rate:.0%} of pushes towards one class alone)" for r in best.itertuples())
    yield (f"Layers chosen on pilot sounds: {words}.")
    for name, part in t["trends"].groupby("set", sort=False):
        slopes = []
        for r in part.itertuples():
            follows = "follows the ratio" if r.p_holm < 0.05 and r.slope > 0 else "does not follow it"
            slopes.append(f"{r.method} {r.slope:+.2f} [{r.lo:+.2f}, {r.hi:+.2f}] ({follows}, Holm p {r.p_holm:.2g})")
        yield (f"Judged mix per unit of ratio, {name} (1: as asked): {'; '.join(slopes)}.")
    table = t["fusion"]
    for name, part in table.groupby("set", sort=False):
        middle = part[part["ratio"] == 0.5]
        shares = [
            f"{r.method}: one of them {r.heard_any:.0%}, both plausible {r.both:.0%}" for r in middle.itertuples()
        ]
        start = part[part["method"] == UNSTEERED]
        if len(shares) and len(start):
            yield (
                f"At equal weights, {name} (unsteered: {start['heard_any'].iloc[0]:.0%} one of them): "
                f"{'; '.join(shares)} (plausible: at least {BOTH:.0%} each)."
            )
    pairs = t["half_way"]
    row = pairs[(pairs["measure"] == "heard_any") & (pairs["a"] == "random") & (pairs["b"] == "sum")]
    if len(row):
        cell = row.iloc[0]
        words = verdict(
            -cell["difference"], -cell["hi"], -cell["lo"], cell["p_holm"], "heard more often", "heard less often"
        )
        yield (f"The weighted sum against a random direction as long as the longest push: {words}.")
    if "fade" in t:
        fade = t["fade"][t["fade"]["set"] == "all"].set_index("method")
        for method in ("switch", "cross-fade", "random"):
            cell = fade.loc[method]
            words = f"{cell['diff']:+.2f} [{cell['diff_lo']:+.2f}, {cell['diff_hi']:+.2f}], Holm p {cell['p_holm']:.2g}"
            yield (
                f"{method.capitalize()} at {switch_second:g} s: the first genre is heard in "
                f"{cell['before_heard_a']:.0%} before and {cell['after_heard_a']:.0%} after, the second in "
                f"{cell['before_heard_b']:.0%} and {cell['after_heard_b']:.0%}; gain of the second on the first beyond "
                f"that of the first throughout: {words}."
            )
