"""From judged clips to an answer: dose-response per method, paired contrasts, one row a method, and a paragraph."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pandas as pd

from interp.stats import dose_response, holm, paired_bootstrap, wilson

__all__ = [
    "FAMILY",
    "UNSTEERED",
    "answer_table",
    "beside_detection",
    "contrast",
    "paragraph",
    "per_seed",
    "rates",
    "slope_contrasts",
    "slopes",
]

UNSTEERED = "unsteered"
FAMILY = {
    "logistic": "classification",
    "lda": "classification",
    "ridge": "regression",
    "least_squares": "regression",
    "mean_diff": "means",
    "pca_pairs": "means",
    "random": "control",
    "shuffled": "control",
}


def rates(clips: pd.DataFrame) -> pd.DataFrame:
    lines = []
    for (method, dose), rows in clips.groupby(["method", "dose"], sort=False):
        lo, hi = wilson(int(rows["hit"].sum()), len(rows))
        control = FAMILY.get(str(method)) == "control" or method == UNSTEERED
        lines.append(
            {
                "arm": method,
                "dose": dose,
                "rate": rows["hit"].mean(),
                "lo": float(lo),
                "hi": float(hi),
                "control": control,
            }
        )
    return pd.DataFrame(lines)


def per_seed(clips: pd.DataFrame) -> pd.DataFrame:
    """Slope of the hits on the dose for every seed, unsteered as dose 0: trait, place, push, method, seed, slope."""
    base = clips[clips["method"] == UNSTEERED].set_index(["trait", "seed"])["hit"].astype(float)
    rows = []
    treated = clips[clips["method"] != UNSTEERED]
    for key, part in treated.groupby(["trait", "place", "push", "method"], sort=False):
        table = part.pivot_table(index="seed", columns="dose", values="hit", aggfunc="mean").astype(float)
        table.insert(0, 0.0, base.loc[key[0]].reindex(table.index))
        dose = table.columns.to_numpy(dtype=float)
        centred = dose - dose.mean()
        slope = table.to_numpy() @ centred / (centred @ centred)
        where = dict(zip(("trait", "place", "push", "method"), key, strict=True))
        rows.append(pd.DataFrame(where | {"seed": table.index, "slope": slope}))
    return pd.concat(rows, ignore_index=True)


def slopes(clips: pd.DataFrame) -> pd.DataFrame:
    """Dose-response of every arm: slope of the share of hits, interval over seeds, p, and the top dose's verdicts."""
    base = clips[clips["method"] == UNSTEERED]
    rows = []
    treated = clips[clips["method"] != UNSTEERED]
    for key, part in treated.groupby(["trait", "place", "push", "method"], sort=False):
        both = pd.concat([base[base["trait"] == key[0]], part])
        trend = dose_response(both["dose"], both["hit"].astype(float), both["seed"])
        top = part[part["dose"] == part["dose"].max()]
        where = dict(zip(("trait", "place", "push", "method"), key, strict=True))
        measured = {"slope": trend.slope, "slope_lo": trend.lo, "slope_hi": trend.hi, "p": trend.p}
        shares = {"top_rate": top["hit"].mean(), "top_not_music": top["not_music"].mean(), "n_seeds": trend.n_units}
        rows.append(where | {"family": FAMILY.get(key[3], "other"), "site": part["site"].iloc[0]} | measured | shares)
    return pd.DataFrame(rows)


def slope_contrasts(clips: pd.DataFrame) -> pd.DataFrame:
    """Paired differences between methods' slopes over all traits and seeds, Holm-corrected within place and push."""
    by_seed = per_seed(clips)
    tables_ = []
    for (place, push), part in by_seed.groupby(["place", "push"], sort=False):
        wide = part.pivot_table(index=["trait", "seed"], columns="method", values="slope")
        rows = []
        for a, b in combinations(wide.columns, 2):
            gain = paired_bootstrap(wide[a].to_numpy(), wide[b].to_numpy())
            where = {"place": place, "push": push, "a": a, "b": b, "n": len(wide)}
            rows.append(where | {"difference": gain.difference, "lo": gain.lo, "hi": gain.hi, "p": gain.p})
        table = pd.DataFrame(rows)
        table["p_holm"] = holm(table["p"])
        tables_.append(table)
    return pd.concat(tables_, ignore_index=True)


def beside_detection(found: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Detection beside steering, at the sites that were pushed (heads: their mean)."""
    steering = found["steering"].query("push == 'equal norm'")
    rows = []
    for line in steering.to_dict("records"):
        seen = found["detection"]
        seen = seen[(seen["trait"] == line["trait"]) & (seen["method"] == line["method"])]
        seen = seen[seen["site"].isin(line["site"].split(", "))]
        if len(seen):
            rows.append(line | {"auroc": seen["auroc"].mean()})
    return pd.DataFrame(rows)


def answer_table(found: dict[str, pd.DataFrame], methods: tuple[str, ...]) -> pd.DataFrame:
    """One row a method: detects, points, steers."""
    rows = []
    cosines, paths = found["cosines"], found["detection"]
    for method in methods:
        line: dict[str, Any] = {"method": method, "family": FAMILY.get(method, "other")}
        for kind in ("heads", "resid"):
            line[f"auroc_{kind}"] = paths.query("method == @method and kind == @kind")["auroc"].mean()
        for other in ("logistic", "mean_diff"):
            pair = cosines[
                ((cosines["a"] == method) & (cosines["b"] == other))
                | ((cosines["b"] == method) & (cosines["a"] == other))
            ]
            line[f"cosine_{other}"] = 1.0 if method == other else pair["cosine"].median()
            line[f"disattenuated_{other}"] = 1.0 if method == other else pair["disattenuated"].median()
        if "steering" in found:
            for (place, push), part in found["steering"].groupby(["place", "push"], sort=False):
                line[f"slope_{place}_{push.replace(' ', '_')}"] = part.query("method == @method")["slope"].mean()
        rows.append(line)
    return pd.DataFrame(rows)


def paragraph(found: dict[str, pd.DataFrame]) -> str:
    """What was found, whatever it is."""
    answer = found["answer"].set_index("method")
    lines = []
    scores = ", ".join(f"{m} {row.auroc_resid:.3f}" for m, row in answer.iterrows())
    lines.append(f"Detection (mean held-out area under the curve over layers and traits): {scores}.")
    contrasts = found["detection_contrasts"]
    for other in [m for m in ("ridge", "least_squares") if m in answer.index]:
        rows = contrasts.query("kind == 'resid' and a == 'logistic' and b == @other")
        told = "; ".join(f"{r.trait} {r.difference:+.3f} [{r.lo:+.3f}, {r.hi:+.3f}]" for r in rows.itertuples())
        if told:
            lines.append(f"Logistic minus {other}: {told}.")
    for other in [m for m in answer.index if m != "logistic"]:
        row = answer.loc[other]
        lines.append(
            f"The {other} direction has a median cosine of {row['cosine_logistic']:.2f} with the logistic one "
            f"(disattenuated {row['disattenuated_logistic']:.2f})."
        )
    if "steering_contrasts" not in found:
        return "\n".join(lines)
    for (place, push), part in found["steering_contrasts"].groupby(["place", "push"], sort=False):
        for other in ("ridge", "least_squares", "mean_diff"):
            row = contrast(part, other, "logistic")
            if row is not None:
                verdict = (
                    "no difference is shown" if row["p_holm"] >= 0.05 else "more" if row["difference"] > 0 else "less"
                )
                steers = verdict if verdict.startswith("no") else f"it steers {verdict}"
                lines.append(
                    f"Steering ({place}, {push}): {other} against logistic {row['difference']:+.3f} hits per sigma "
                    f"[{row['lo']:+.3f}, {row['hi']:+.3f}], Holm p {row['p_holm']:.2g}: {steers}."
                )
        row = contrast(part, "logistic", "random")
        if row is not None:
            lines.append(
                f"Against a random direction of equal norm ({place}): logistic {row['difference']:+.3f} "
                f"[{row['lo']:+.3f}, {row['hi']:+.3f}], Holm p {row['p_holm']:.2g}."
            )
    return "\n".join(lines)


def contrast(table: pd.DataFrame, a: str, b: str) -> dict[str, Any] | None:
    """The row of a minus b, turned round if the table has b minus a."""
    for one, two, sign in ((a, b, 1), (b, a, -1)):
        rows = table[(table["a"] == one) & (table["b"] == two)]
        if len(rows):
            row = rows.iloc[0].to_dict()
            lo, hi = sorted((sign * row["lo"], sign * row["hi"]))
            return row | {"difference": sign * row["difference"], "lo": lo, "hi": hi}
    return None
