"""Figures, sentences and the page of :mod:`analyses.steering_validation`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from analyses._steering_monitored import MONITORED
from analyses._study import slug
from interp import plots
from interp.report import Report
from interp.validation import CURVES, RULE, UNSTEERED, dsp_baseline

if TYPE_CHECKING:
    from analyses.steering_validation import Config
    from interp.model import MusicGen

__all__ = ["decisive", "sentences", "write"]

Tables = Mapping[str, pd.DataFrame]


def decisive(arms: pd.DataFrame, bars: pd.Series) -> pd.DataFrame:
    """Unsteered, and every arm once: at the decisive dose, at ITI's compared one, or as it is."""
    keep = []
    for name, rows in arms.groupby("arm", sort=False):
        wanted = bars["iti_dose"] if name == "ITI heads" else bars["dose"]
        found = rows[rows["dose"] == wanted]
        keep.append(found if len(found) else rows.iloc[:1])
    return pd.concat(keep, ignore_index=True)


def sentences(found: Tables, config: Config) -> list[str]:
    """What the tables say, one paragraph a trait."""
    return [_sentence(found, trait) for trait in config.traits]


def _of(table: pd.DataFrame, trait: str) -> pd.DataFrame:
    return table[table["trait"] == trait]


def _sentence(found: Tables, trait: str) -> str:
    bar = _of(found["bars"], trait).iloc[0]
    said = _of(found["verdicts"], trait).iloc[0]
    arms = decisive(_of(found["arms"], trait), bar).set_index("arm")
    parts = [
        f"{trait}: {said['outcome']} at {bar['site']} ({said['because']}).",
        f"At {bar['dose']:g} sigma it is heard in {bar['success']:.0%} of {arms.loc['probe', 'n']} continuations, "
        f"unsteered in {bar['unsteered']:.0%} (gain {bar['gain']:+.0%} [{bar['gain_lo']:+.0%}, {bar['gain_hi']:+.0%}], "
        f"corrected p {arms.loc['probe', 'p_max']:.2g}); random directions {bar['random']:+.0%}, shuffled labels "
        f"{bar['shuffled']:+.0%}, flipped sign {arms.loc['flipped sign', 'diff']:+.0%}; no music: "
        f"{bar['not_music']:.0%}.",
    ]
    if "text" in arms.index:
        parts.append(f"Asking for it in words gives {arms.loc['text', 'rate']:.0%}.")
    smitin = _of(found["bars"], trait).iloc[1]
    parts.append(
        f"SMITIN over all heads (α {smitin['dose']:g}, chosen on the pilot) succeeds in {smitin['success']:.0%} (gain "
        f"{smitin['gain']:+.0%} [{smitin['gain_lo']:+.0%}, {smitin['gain_hi']:+.0%}], its random directions "
        f"{smitin['random']:+.0%} and shuffled labels {smitin['shuffled']:+.0%}) with {smitin['not_music']:.0%} no "
        "music."
    )
    parts.append(
        f"The cost, on {int(bar['cost_seeds'])} other continuations: {_beside(bar, 'one layer')}; "
        f"{_beside(smitin, 'SMITIN')}.{_cheaper(_of(found['cost'], trait))}"
    )
    parts.append(_lost(found, trait, str(said["necessary"])))
    if said["outcome"] != "causal" or max(bar["gain"], smitin["gain"]) < 0.7:
        scan = _of(found["scan"], trait)
        best = scan[~scan["control"]].sort_values("rate", ascending=False).iloc[0]
        parts.append(
            f"The gain is below 70 points. Of all layers and doses of the pilot ({int(best['n'])} seeds) the largest "
            f"share is {best['rate']:.0%}, at {best['site']} and {best['dose']:g} sigma, with {best['not_music']:.0%} "
            "no music."
        )
    rows = _of(found["agreement"], trait)
    rank = rows[(rows["statistic"] == "Spearman") & (rows["method"] == "ablate")].iloc[0]
    parts.append(
        f"Over {rank['n_heads']} heads, what ablation does and what the probe reads have Spearman correlation "
        f"{rank['value']:.2f} [{rank['lo']:.2f}, {rank['hi']:.2f}]."
    )
    return " ".join(parts)


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


def _lost(found: Tables, trait: str, necessary: str) -> str:
    rows = _of(found["necessity"], trait)
    rows = rows[rows["music"] == "continued"].set_index("way")
    refits = _of(found["refits"], trait)
    last = refits[refits["layer"] == refits["layer"].max()].set_index("way")["test_score"]
    words = ", ".join(f"{way} {row['rate']:.0%}" for way, row in rows.iterrows())
    return (
        f"Needed: {necessary}. In music that has it, it is heard in {rows['random'].iloc[0]:.0%} with a random "
        f"direction taken out, else: {words}. A probe refitted at the last layer scores {last['none']:.2f} before and "
        f"{last['LEACE']:.2f} after LEACE at the site."
    )


def write(found: Tables, config: Config, model: MusicGen, sites: Mapping[str, tuple[str, float]]) -> Path:
    """Draw every figure and write the page."""
    out = config.out
    made_by = {
        "study": "steering_validation", "model": f"{model.name} {model.fingerprint[:12]}", "seed": config.seed,
        "data": str(config.data or "rendered"), "judge": config.judge or "rendered",
    }  # fmt: skip
    save: dict[str, Any] = {"formats": ("png", "pdf"), "made_by": made_by}
    report = Report(
        f"Does pushing cause the trait? {model.name}",
        "Success, cost and specificity of pushing along a probe's direction, beside every control.",
    )
    report.heading("Verdicts")
    for line in sentences(found, config):
        report.text(line)
    report.table(found["verdicts"], "The rule's verdict at each site.", csv=out / "verdicts.csv")
    thresholds = ", ".join(f"{name} {value}" for name, value in dataclasses.asdict(RULE).items())
    report.text(f"The rule was written before any number was seen: {thresholds}.")
    report.table(found["bars"], "Gain, controls, and FAD beside that of ITI's heads.", csv=out / "bars.csv")
    beside = found["cost"].dropna(subset=["fad_gap"])
    shown = ["trait", "arm", "dose", "n", "rate", "not_music", "fad", "kad", "iti_dose", "iti_success", "iti_equal",
             "iti_fad", "iti_kad", "fad_gap", "fad_gap_lo", "fad_gap_hi"]  # fmt: skip
    report.table(beside[shown], "Every strength beside ITI's heads at equal success.", csv=out / "cost.csv")
    for trait in config.traits:
        _trait(report, found, trait, out, save)
    report.heading("Leakage")
    leak = found["leakage"]
    title = f"Every direction at {leak['site'].iloc[0]}, {config.leakage_dose:g} σ"
    plots.save(plots.leakage(leak, title=title), out / "leakage", **save)
    report.figures((out / "leakage.png", "Change of every judged share in points; grey: the interval holds zero."))
    report.text(
        "All directions are pushed on the same sounds of all kinds. Answers of one question exclude each other, so a "
        "direction that brings one instrument takes the others away."
    )
    report.table(found["arms"].drop(columns=["where"]), "Every arm and dose.", csv=out / "arms.csv", rows=8)
    return report.write(out / "index.html", made_by=made_by)


def _trait(report: Report, found: Tables, trait: str, out: Path, save: dict[str, Any]) -> None:
    name, bar = slug(trait), _of(found["bars"], trait).iloc[0]
    arms = _of(found["arms"], trait)
    curves = arms[arms["arm"].isin(CURVES)]
    title = f"{trait}, pushed at {bar['site']}"
    plots.save(plots.dose_response(curves, title=title), out / f"dose_{name}", **save)
    plots.save(plots.arms(decisive(arms, bar), title=title), out / f"arms_{name}", **save)
    plots.save(plots.tradeoff(curves, title=title), out / f"tradeoff_{name}", **save)
    beside = _of(found["cost"], trait).replace({"arm": {"probe": f"one layer ({bar['site']})"}})
    plots.save(plots.tradeoff(beside, title=f"{trait}: doses and α"), out / f"cost_{name}", **save)
    cost = curves.drop(columns=["lo", "hi"])
    for column, label in (
        ("not_music", "Share judged to be no music"),
        ("fad", "FAD from music with the trait"),
        ("kept", "Share of other answers kept"),
    ):
        rows = cost.rename(columns={f"{column}_lo": "lo", f"{column}_hi": "hi"})
        if column == "kept":
            rows = rows[rows["arm"] != UNSTEERED]
        ax = plots.dose_response(rows, column, label=label, title=title)
        if column == "fad":
            plots.style.logarithmic(ax)
        plots.save(ax, out / f"{column}_{name}", **save)
    plots.save(plots.refits(_of(found["refits"], trait), title=trait), out / f"refits_{name}", **save)
    ranks = found["agreement"]
    ranks = ranks[(ranks["trait"] == trait) & (ranks["method"] == "ablate")]
    words = "\n".join(f"{r.statistic} {r.value:.2f} [{r.lo:.2f}, {r.hi:.2f}]" for r in ranks.itertuples())
    heads = found["heads"]
    heads = heads[(heads["trait"] == trait) & (heads["method"] == "ablate")]
    plots.save(plots.rank_scatter(heads, agreement=words, title=trait), out / f"heads_{name}", **save)
    report.heading(trait)
    report.figures(
        (out / f"dose_{name}.png", "Success: share judged to have the trait; Wilson's 95 % intervals."),
        (out / f"arms_{name}.png", "Every arm once; controls are open, the band is unsteered."),
        (out / f"tradeoff_{name}.png", "Success against cost; numbers are doses."),
        (
            out / f"cost_{name}.png",
            f"One layer, self-monitored heads and ITI's heads on {int(bar['cost_seeds'])} seeds of their own.",
        ),
        (out / f"fad_{name}.png", "Quality: distance from music that has the trait."),
        (out / f"not_music_{name}.png", "Quality: share that is no music any more."),
        (out / f"kept_{name}.png", "Specificity: the judge's other answers that stay; beside the random direction's."),
        (out / f"refits_{name}.png", "What a probe finds again after each erasure."),
        (out / f"heads_{name}.png", "What heads do against what they read."),
    )
    if not dsp_baseline(trait, 16_000):
        report.text("No signal processing puts this trait into finished music: there is no DSP baseline for it.")
    losses = _of(found["necessity"], trait)
    report.table(losses, "Loss of the judged share when it is taken out, beyond a random direction's.",
                 csv=out / "necessity.csv")  # fmt: skip
