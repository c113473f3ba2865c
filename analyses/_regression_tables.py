"""From judged clips to an answer: dose-response per method, paired contrasts, one row a method, and a paragraph."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from interp.directions import Direction
from interp.metrics import weighted_scores
from interp.stats import bootstrap_interval, group_weights, holm, paired_bootstrap
from interp.validation import UNSTEERED, summarise
from interp.validation.effects import agreement, paired_differences

__all__ = [
    "Tested",
    "answer_table",
    "beside_detection",
    "by_judges",
    "contrast",
    "contrasts",
    "detection",
    "detection_contrasts",
    "effects",
    "paragraphs",
    "per_seed",
    "rates",
]

WHERE = {"resid": "one layer's residual stream", "heads": "the best heads"}
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


@dataclass(frozen=True)
class Tested:
    """Test clips at the sites of one kind, and the directions that are to detect a trait in them.

    Attributes
    ----------
    trait, kind : str
    x : array of shape (sites, clips, dim)
        Activations.
    directions : dict of method to list of Direction
        One a site.
    y, groups : arrays of shape (clips,)
        Labels, and what belongs together.
    """

    trait: str
    kind: str
    x: np.ndarray
    directions: Mapping[str, Sequence[Direction]]
    y: np.ndarray
    groups: np.ndarray

    def scores(self, method: str, weights: np.ndarray | None = None) -> np.ndarray:
        """Area under the ROC curve under each row of weights (over groups), ``[draws, sites]``."""
        v = np.stack([direction.vector for direction in self.directions[method]])
        decisions = np.einsum("scd,sd->sc", self.x, v)[:, None]
        plain = np.ones((1, len(self.y)))
        return np.asarray(weighted_scores("auroc", decisions, self.y, plain if weights is None else weights))


def detection(tested: Iterable[Tested], n_bootstrap: int, seed: int) -> pd.DataFrame:
    """One row a trait, site and method: area under the ROC curve with an interval over groups, and sigma."""
    parts, rng = [], np.random.default_rng([seed, 3])
    for part in tested:
        weights, n_groups = group_weights(part.groups, n_bootstrap, rng), len(np.unique(part.groups))
        for method, directions in part.directions.items():
            lo, hi = bootstrap_interval(part.scores(method, weights), n_groups)
            sites = [direction.site for direction in directions]
            columns = {
                "trait": part.trait, "kind": part.kind, "site": [str(s) for s in sites],
                "layer": [s.layer for s in sites], "head": pd.array([s.head for s in sites], dtype="Int64"),
                "method": method, "family": FAMILY.get(method, "other"), "auroc": part.scores(method)[0], "lo": lo,
                "hi": hi, "sigma": [direction.sigma for direction in directions], "n_test": len(part.y),
                "n_groups": n_groups,
            }  # fmt: skip
            parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def detection_contrasts(tested: Iterable[Tested], n_bootstrap: int, seed: int) -> pd.DataFrame:
    """Differences between methods, averaged over sites, resampling the same groups."""
    rows, rng = [], np.random.default_rng([seed, 4])
    for part in tested:
        weights = group_weights(part.groups, n_bootstrap, rng)
        full = {m: part.scores(m).mean() for m in part.directions}
        draws = {m: part.scores(m, weights).mean(axis=1) for m in part.directions}
        for a, b in combinations(part.directions, 2):
            lo, hi = bootstrap_interval(draws[a] - draws[b], len(np.unique(part.groups)))
            line = {"trait": part.trait, "kind": part.kind, "a": a, "b": b, "difference": full[a] - full[b]}
            rows.append(line | {"lo": float(lo), "hi": float(hi)})
    return pd.DataFrame(rows)


def rates(clips: pd.DataFrame) -> pd.DataFrame:
    """Success of every method and dose, as :func:`interp.plots.dose_response` draws it."""
    table = summarise(clips.assign(arm=clips["method"]), ["arm", "dose"], family=())
    return table.assign(control=table["arm"].map(FAMILY).eq("control") | (table["arm"] == UNSTEERED))


def per_seed(clips: pd.DataFrame) -> pd.DataFrame:
    """What every arm did to every seed: ``trait, place, push, method, seed, base, gain, best, best_dose``.

    ``gain`` is the share of doses at which the trait is heard, less ``base``, unsteered. ``best`` is whether it is
    heard at the method's own best dose, which the *other* half of the seeds chooses: methods need different doses, too
    much of any breaks the music, and a dose chosen on the same seeds would flatter.
    """
    base = clips[clips["method"] == UNSTEERED].set_index(["trait", "seed"])["hit"].astype(float)
    rows = []
    treated = clips[clips["method"] != UNSTEERED]
    for key, part in treated.groupby(["trait", "place", "push", "method"], sort=False):
        table = part.pivot_table(index="seed", columns="dose", values="hit", aggfunc="mean").astype(float)
        half = np.arange(len(table)) % 2 == 0
        best_dose = np.where(half, table[~half].mean().idxmax(), table[half].mean().idxmax())
        unsteered = base.loc[key[0]].reindex(table.index)
        rows.append(
            pd.DataFrame(
                dict(zip(("trait", "place", "push", "method"), key, strict=True))
                | {
                    "seed": table.index,
                    "base": unsteered.to_numpy(),
                    "gain": (table.mean(axis=1) - unsteered).to_numpy(),
                    "best": [table.loc[seed, dose] for seed, dose in zip(table.index, best_dose, strict=True)],
                    "best_dose": best_dose,
                }
            )
        )
    return pd.concat(rows, ignore_index=True)


def effects(clips: pd.DataFrame) -> pd.DataFrame:
    """One row an arm: gain over doses, success at the best dose of the other seeds, and what it costs there.

    ``gain, gain_lo, gain_hi, p`` and ``best, best_lo, best_hi`` (gain at the best dose) are paired with unsteered over
    seeds; ``best_rate`` and ``not_music`` are shares of clips.
    """
    by_seed = per_seed(clips)
    rows = []
    for key, part in by_seed.groupby(["trait", "place", "push", "method"], sort=False):
        where = dict(zip(("trait", "place", "push", "method"), key, strict=True))
        arm = clips.query("trait == @key[0] and place == @key[1] and push == @key[2] and method == @key[3]")
        gain = paired_bootstrap(part["gain"], np.zeros(len(part)))
        best = paired_bootstrap(part["best"], part["base"])
        cost = arm.set_index(["seed", "dose"])["not_music"].astype(float)
        rows.append(
            where
            | {
                "family": FAMILY.get(key[3], "other"), "site": arm["site"].iloc[0],
                "gain": gain.difference, "gain_lo": gain.lo, "gain_hi": gain.hi, "p": gain.p,
                "best": best.difference, "best_lo": best.lo, "best_hi": best.hi,
                "best_dose": float(part["best_dose"].median()), "best_rate": part["best"].mean(),
                "not_music": np.mean([cost.loc[(r.seed, r.best_dose)] for r in part.itertuples()]),
                "n_seeds": len(part),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def by_judges(clips: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Of several judges: what each heard of every method (:func:`effects`), and how far they agree on single clips."""
    heard = {judge: effects(rows.reset_index(drop=True)) for judge, rows in clips.groupby("judge", sort=False)}
    arm = clips[["place", "push", "method"]].fillna("").agg(" ".join, axis=1)
    return {
        "panel": pd.concat([table.assign(judge=judge) for judge, table in heard.items()], ignore_index=True),
        "agreement": agreement(clips.assign(arm=arm)),
    }


def contrasts(clips: pd.DataFrame) -> pd.DataFrame:
    """Paired differences between methods over all traits and seeds, Holm-corrected within measure, place and push."""
    by_seed = per_seed(clips).sort_values("method", kind="stable")
    parts = [
        paired_differences(part, "method", measure, ["trait", "seed"]).assign(measure=measure, place=place, push=push)
        for measure in ("best", "gain")
        for (place, push), part in by_seed.groupby(["place", "push"], sort=False)
    ]
    table = pd.concat(parts, ignore_index=True)
    table["p_holm"] = table.groupby(["measure", "place", "push"])["p"].transform(holm)
    return table[["measure", "place", "push", "a", "b", "n", "difference", "lo", "hi", "p", "p_holm"]]


def beside_detection(t: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Detection beside steering, at the sites that were pushed (heads: their mean)."""
    steering = t["steering"].query("push == 'equal norm'")
    rows = []
    for line in steering.to_dict("records"):
        seen = t["detection"]
        seen = seen[(seen["trait"] == line["trait"]) & (seen["method"] == line["method"])]
        seen = seen[seen["site"].isin(line["site"].split(", "))]
        if len(seen):
            rows.append(line | {"auroc": seen["auroc"].mean()})
    return pd.DataFrame(rows)


def answer_table(t: Mapping[str, pd.DataFrame], methods: tuple[str, ...]) -> pd.DataFrame:
    """One row a method: detects, points, steers."""
    rows = []
    cosines, paths = t["cosines"], t["detection"]
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
        if "steering" in t:
            for (place, push), part in t["steering"].groupby(["place", "push"], sort=False):
                chosen = part.query("method == @method")
                line[f"best_{place}_{push.replace(' ', '_')}"] = chosen["best_rate"].mean()
                line[f"gain_{place}_{push.replace(' ', '_')}"] = chosen["gain"].mean()
        rows.append(line)
    return pd.DataFrame(rows)


def paragraphs(t: Mapping[str, pd.DataFrame]) -> Iterator[str]:
    """What was found, whatever it is."""
    answer = t["answer"].set_index("method")
    scores = ", ".join(f"{m} {row.auroc_resid:.3f}" for m, row in answer.iterrows())
    yield (f"Detection (mean held-out area under the curve over layers and traits): {scores}.")
    contrasts = t["detection_contrasts"]
    for other in [m for m in ("ridge", "least_squares") if m in answer.index]:
        rows = contrasts.query("kind == 'resid' and a == 'logistic' and b == @other")
        words = "; ".join(f"{r.trait} {r.difference:+.3f} [{r.lo:+.3f}, {r.hi:+.3f}]" for r in rows.itertuples())
        if words:
            yield (f"Logistic minus {other}: {words}.")
    for other in [m for m in answer.index if m != "logistic"]:
        row = answer.loc[other]
        yield (
            f"The {other} direction has a median cosine of {row['cosine_logistic']:.2f} with the logistic one "
            f"(disattenuated {row['disattenuated_logistic']:.2f})."
        )
    if "steering_contrasts" not in t:
        return
    for (place, push), part in t["steering_contrasts"].query("measure == 'best'").groupby(["place", "push"]):
        arms = t["steering"].query("place == @place and push == @push").groupby("method", sort=False)
        words = ", ".join(
            f"{m} {rows['best_rate'].mean():.0%} (at {rows['best_dose'].median():g} σ)" for m, rows in arms
        )
        yield (
            f"Steering ({WHERE[place]}, {push}), success at the best dose of each, chosen on the other seeds: {words}."
        )
        for other in ("ridge", "least_squares", "mean_diff"):
            row = contrast(part, other, "logistic")
            if row is not None:
                verdict = (
                    "no difference is shown" if row["p_holm"] >= 0.05 else "more" if row["difference"] > 0 else "less"
                )
                steers = verdict if verdict.startswith("no") else f"it steers {verdict}"
                yield (
                    f"There {other} against logistic: {100 * row['difference']:+.0f} points "
                    f"[{100 * row['lo']:+.0f}, {100 * row['hi']:+.0f}], Holm p {row['p_holm']:.2g}: {steers}."
                )
        row = contrast(part, "logistic", "random")
        if row is not None:
            yield (
                f"Logistic against a random direction of equal norm: {100 * row['difference']:+.0f} points "
                f"[{100 * row['lo']:+.0f}, {100 * row['hi']:+.0f}], Holm p {row['p_holm']:.2g}."
            )
    yield (_in_short(t))


def _in_short(t: Mapping[str, pd.DataFrame]) -> str:
    """The question of the study, answered from the contrasts at equal norm."""
    part = t["steering_contrasts"].query("measure == 'best' and push == 'equal norm'")
    sentences = []
    for place, rows in part.groupby("place", sort=False):
        regression = contrast(rows, "ridge", "logistic")
        means = contrast(rows, "mean_diff", "logistic")
        if regression is None or means is None:
            continue
        differs = regression["p_holm"] < 0.05
        first = f"ridge steers {'differently from' if differs else 'no differently from'} the classifier"
        if means["p_holm"] >= 0.05:
            second = "the mean difference no differently either"
        else:
            second = f"the mean difference {'better' if means['difference'] > 0 else 'worse'} than it"
        sentences.append(f"at {WHERE[place]}, {first}, and {second}")
    return f"In short, at equal norm and each method's own best dose: {'; '.join(sentences)}." if sentences else ""


def contrast(table: pd.DataFrame, a: str, b: str) -> dict[str, Any] | None:
    """The row of a minus b, turned round if the table has b minus a."""
    for left, two, sign in ((a, b, 1), (b, a, -1)):
        rows = table[(table["a"] == left) & (table["b"] == two)]
        if len(rows):
            row = rows.iloc[0].to_dict()
            lo, hi = sorted((sign * row["lo"], sign * row["hi"]))
            return row | {"difference": sign * row["difference"], "lo": lo, "hi": hi}
    return None
