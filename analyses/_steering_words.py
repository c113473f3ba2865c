"""Of the causal study: what the tables of one trait say, in words and in figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pandas as pd

from analyses._steering_tables import MONITORED
from interp import plots
from interp.study import Drawing
from interp.traits import Trait
from interp.validation import UNSTEERED
from interp.validation.arms import CURVES

__all__ = ["figures_of", "sentence"]


def sentence(t: Mapping[str, pd.DataFrame]) -> str:
    """What the tables of one trait say."""
    bar = t["bars"].iloc[0]
    verdict = t["verdicts"].iloc[0]
    arms = decisive(t["arms"], bar).set_index("arm")
    parts = [
        f"{verdict['trait']}: {verdict['outcome']} at {bar['site']} ({verdict['because']}).",
        _elsewhere(t["verdicts"], str(verdict["judge"])),
        f"At {bar['dose']:g} sigma it is heard in {bar['success']:.0%} of {arms.loc['probe', 'n']} continuations, "
        f"unsteered in {bar['unsteered']:.0%} (gain {bar['gain']:+.0%} [{bar['gain_lo']:+.0%}, {bar['gain_hi']:+.0%}], "
        f"corrected p {arms.loc['probe', 'p_max']:.2g}); random directions {bar['random']:+.0%}, shuffled labels "
        f"{bar['shuffled']:+.0%}, flipped sign {arms.loc['flipped sign', 'diff']:+.0%}; no music: "
        f"{bar['not_music']:.0%}.",
    ]
    if "chroma_kept" in arms:
        parts.append(_structure(arms))
    if "judges_agree" in t:
        parts.append(_panel(t))
    if "text" in arms.index:
        parts.append(f"Asking for it in words gives {arms.loc['text', 'rate']:.0%}.")
    smitin = t["bars"].iloc[1]
    parts.append(
        f"SMITIN over all heads (α {smitin['dose']:g}, chosen on the pilot) succeeds in {smitin['success']:.0%} (gain "
        f"{smitin['gain']:+.0%} [{smitin['gain_lo']:+.0%}, {smitin['gain_hi']:+.0%}], its random directions "
        f"{smitin['random']:+.0%} and shuffled labels {smitin['shuffled']:+.0%}) with {smitin['not_music']:.0%} no "
        "music."
    )
    parts.append(
        f"The cost, on {int(bar['cost_seeds'])} other continuations: {_beside(bar, 'one layer')}; "
        f"{_beside(smitin, 'SMITIN')}.{_cheaper(t['cost'])}"
    )
    parts.append(_lost(t, str(verdict["necessary"])))
    if max(bar["gain"], smitin["gain"]) < 0.7:
        scan = t["scan"]
        best = scan[~scan["control"]].sort_values("rate", ascending=False).iloc[0]
        parts.append(
            f"The gain is below 70 points. Of all layers and doses of the pilot ({int(best['n'])} seeds) the largest "
            f"share is {best['rate']:.0%}, at {best['site']} and {best['dose']:g} sigma, with {best['not_music']:.0%} "
            "no music."
        )
    rows = t["agreement"]
    rank = rows[(rows["statistic"] == "Spearman") & (rows["method"] == "ablate")].iloc[0]
    parts.append(
        f"Over {rank['n_heads']} heads, what ablation does and what the probe reads have Spearman correlation "
        f"{rank['value']:.2f} [{rank['lo']:.2f}, {rank['hi']:.2f}]."
    )
    return " ".join(parts)


def _elsewhere(verdicts: pd.DataFrame, judge: str) -> str:
    """How special the site is among all others, by the pilot's seeds."""
    others = verdicts[verdicts["judge"] == judge].iloc[1:]
    enough, causal = (
        int((others[name] == word).sum()) for name, word in (("sufficient", "yes"), ("outcome", "causal"))
    )
    return (
        f"By the pilot's {others['seeds'].iloc[0]} seeds pushing is sufficient at {enough} of {len(others)} other "
        f"sites, and causal at {causal}."
    )


def _structure(arms: pd.DataFrame) -> str:
    """How much of the twin's harmony and rhythm stays, beside a random direction."""
    probe, random = arms.loc["probe"], arms.loc["random"]
    return (
        f"Of the unsteered twin's harmony {probe['chroma_kept']:.2f} stays (correlation of chroma; random directions "
        f"{random['chroma_kept']:.2f}), of its rhythm {probe['onsets_kept']:.2f} (of onsets; "
        f"{random['onsets_kept']:.2f})."
    )


def _panel(t: Mapping[str, pd.DataFrame]) -> str:
    """Who else hears it, and how far they agree."""
    site = t["verdicts"]["site"].iloc[0]
    words = [
        f"{row.judge}: {row.outcome} (sufficient: {row.sufficient}, {row.sufficient_value:+.0%} "
        f"[{row.sufficient_lo:+.0%}, {row.sufficient_hi:+.0%}])"
        for row in t["verdicts"].iloc[1:].itertuples()
        if row.site == site
    ]
    kappas = [
        f"{row.a} and {row.b} {row.kappa:.2f} [{row.lo:.2f}, {row.hi:.2f}]" for row in t["judges_agree"].itertuples()
    ]
    return f"By the other judges: {'; '.join(words)}. Agreement on single clips (kappa): {', '.join(kappas)}."


def _cheaper(cost: pd.DataFrame) -> str:
    """The strengths whose FAD is below ITI's at equal success beyond doubt."""
    rows = cost[cost["fad_gap_hi"] < 0]
    if not len(rows):
        return " At no strength is the FAD below ITI's at equal success beyond doubt."
    named = {"probe": "one layer at {:g} sigma", MONITORED: f"{MONITORED} at α {{:g}}"}
    words = "; ".join(
        f"{named[row.arm].format(row.dose)} ({row.rate:.0%}; {row.fad_gap:+.1f} [{row.fad_gap_lo:+.1f}, "
        f"{row.fad_gap_hi:+.1f}])" for row in rows.itertuples()
    )  # fmt: skip
    return f" Below ITI's FAD at equal success beyond doubt: {words}."


def _beside(bar: pd.Series, name: str) -> str:
    which = "the lowest dose that succeeds as often" if bar["iti_equal"] else "never as often; at its best dose"
    return (
        f"{name} {bar['cost_success']:.0%} at FAD {bar['cost_fad']:.1f}, ITI's heads ({which}, {bar['iti_dose']:g} "
        f"sigma) {bar['iti_success']:.0%} at {bar['iti_fad']:.1f}: difference {bar['fad_gap']:+.1f} "
        f"[{bar['fad_gap_lo']:+.1f}, {bar['fad_gap_hi']:+.1f}]"
    )


def _lost(t: Mapping[str, pd.DataFrame], necessary: str) -> str:
    rows = t["necessity"]
    rows = rows[rows["music"] == "continued"].set_index("way")
    refits = t["refits"]
    last = refits[refits["layer"] == refits["layer"].max()].set_index("way")["test_score"]
    words = ", ".join(f"{way} {row['rate']:.0%}" for way, row in rows.iterrows())
    return (
        f"Needed: {necessary}. In music that has it, it is heard in {rows['random'].iloc[0]:.0%} with a random "
        f"direction taken out, else: {words}. A probe refitted at the last layer scores {last['none']:.2f} before and "
        f"{last['LEACE']:.2f} after LEACE at the site."
    )


def decisive(arms: pd.DataFrame, bar: pd.Series) -> pd.DataFrame:
    """Unsteered, and every arm once: at the decisive dose, at ITI's compared one, or as it is."""
    keep = []
    for name, rows in arms.groupby("arm", sort=False):
        here = rows[rows["dose"] == (bar["iti_dose"] if name == "ITI heads" else bar["dose"])]
        keep.append(here if len(here) else rows.iloc[:1])
    return pd.concat(keep, ignore_index=True)


def figures_of(trait: Trait, t: Mapping[str, pd.DataFrame]) -> Iterator[Drawing]:
    """Figures of one trait, from its rows of the tables."""
    bar, name = t["bars"].iloc[0], trait.slug
    curves, title = t["arms"][t["arms"]["arm"].isin(CURVES)], f"{trait}, pushed at {t['bars'].iloc[0]['site']}"
    caption = "Success: share judged to have the trait; Wilson's 95 % intervals."
    yield f"dose_{name}", plots.dose_response(curves, title=title), caption
    ax = plots.arms(decisive(t["arms"], bar), title=title)
    yield f"arms_{name}", ax, "Every arm once; controls are open, the band is unsteered."
    yield f"tradeoff_{name}", plots.tradeoff(curves, title=title), "Success against cost; numbers are doses."
    beside = t["cost"].replace({"arm": {"probe": f"one layer ({bar['site']})"}})
    caption = f"One layer, self-monitored heads and ITI's heads on {int(bar['cost_seeds'])} seeds of their own."
    yield f"cost_{name}", plots.tradeoff(beside, title=f"{trait}: doses and α"), caption
    for column, label, caption in (
        ("not_music", "Share judged to be no music", "Quality: share that is no music any more."),
        ("fad", "FAD from music with the trait", "Quality: distance from music that has the trait."),
        ("kept", "Share of other answers kept", "Specificity: the judge's other answers that stay."),
        ("chroma_kept", "Correlation of chroma with the twin", "Structure: harmony that stays."),
        ("onsets_kept", "Correlation of onsets with the twin", "Structure: rhythm that stays."),
    ):
        if column in curves:
            ends = {f"{column}_lo": "lo", f"{column}_hi": "hi"}
            rows = curves.drop(columns=["lo", "hi"]).rename(columns=ends)
            rows = rows[rows["arm"] != UNSTEERED] if column.endswith("kept") else rows
            ax = plots.dose_response(rows, column, label=label, title=title)
            if column == "fad":
                plots.style.logarithmic(ax)
            yield f"{column}_{name}", ax, caption
    yield f"refits_{name}", plots.refits(t["refits"], title=str(trait)), "What a probe finds after each erasure."
    ranks = t["agreement"][t["agreement"]["method"] == "ablate"]
    words = "\n".join(f"{r.statistic} {r.value:.2f} [{r.lo:.2f}, {r.hi:.2f}]" for r in ranks.itertuples())
    ax = plots.rank_scatter(t["heads"][t["heads"]["method"] == "ablate"], agreement=words, title=str(trait))
    yield f"heads_{name}", ax, "What heads do against what they read."
