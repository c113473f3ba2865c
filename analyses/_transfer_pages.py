"""The pages and paragraphs of a transfer between classes: what was found, computed from the tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analyses._study import slug
from analyses._transfer import Transfer, command
from analyses._transfer_tables import UNSTEERED
from interp import plots
from interp.report import Report

__all__ = ["sounds_table", "transfer_page", "transfer_paragraph", "verdict"]


def verdict(difference: float, lo: float, hi: float, p: float, better: str = "more", worse: str = "less") -> str:
    """A difference in words: with interval, corrected p, and whether anything is shown."""
    told = f"{difference:+.1%} [{lo:+.1%}, {hi:+.1%}], Holm p {p:.2g}"
    if not p < 0.05:
        return f"no difference is shown ({told})"
    return f"{better if difference > 0 else worse} ({told})"


def transfer_paragraph(config: Any, found: dict[str, pd.DataFrame], worth: str) -> str:
    """What the tables of a transfer say, whatever it is."""
    table, lines = found["transfer"], []
    base = table[table["method"] == UNSTEERED].iloc[0]
    lines.append(
        f"{base['n']} continuations ({', '.join(config.pairs)}): unsteered, the source is heard in "
        f"{base['source_heard']:.0%} and the target in {base['rate']:.0%}; {worth}."
    )
    for push, part in found["at_quality"].groupby("push", sort=False):
        told = []
        for row in part.to_dict("records"):
            if pd.isna(row["rate"]):
                told.append(f"{row['method']} never stays music")
                continue
            told.append(
                f"{row['method']} {row['rate']:.0%} [{row['lo']:.0%}, {row['hi']:.0%}] at {row['amount']:g} (source "
                f"{row['source_heard']:.0%}, FAD {row['fad']:.0f})"
            )
        lines.append(f"Most success with at most 10 % no music, {push}: {'; '.join(told)}.")
    lines.append(f"FAD unsteered: {base['fad']:.0f}.")
    hits = found["contrasts"][found["contrasts"]["measure"] == "hit"]
    for push, part in hits.groupby("push", sort=False):
        for a, b, better, worse in (
            ("ridge", "logistic", "regression succeeds more often", "regression succeeds less often"),
            ("mean_diff", "random", "class means succeed more often", "class means succeed less often"),
        ):
            row = part[(part["a"] == a) & (part["b"] == b)]
            if len(row):
                one = row.iloc[0]
                said = verdict(one["difference"], one["lo"], one["hi"], one["p_holm"], better, worse)
                lines.append(f"{push}, averaged over strengths, {a} against {b}: {said}.")
    sites = found["sites"]
    for kind in ("resid", "attn"):
        rows = sites[sites["kind"] == kind]
        layers = ", ".join(f"{r.pair} {r.site} ({r.rate:.0%})" for r in rows.itertuples())
        lines.append(f"Best layer of {kind} on pilot sounds, over all strengths: {layers}.")
    stays = found["kept"]
    middle = stays[(stays["push"] == "add, equal dose") & (stays["method"] == "mean_diff")]
    still = stays[stays["method"] == UNSTEERED]
    again = stays[stays["method"] == "other noise"]
    if len(middle) and len(still) and len(again):
        one, own, other = middle.iloc[0], still.iloc[0], again.iloc[0]
        parts = [
            f"{name.removeprefix('kept.').replace('_', ' ')} {one[name]:.2f} (unsteered {own[name]:.2f}, other noise "
            f"{other[name]:.2f})"
            for name in [n for n in stays.columns if n.startswith("kept.")] + ["chroma", "tempo_kept", "mode_kept"]
            if name in stays
        ]
        lines.append(f"Kept when class means are added at {one['amount']:g} sigma: {', '.join(parts)}.")
    if "text" in found:
        text = found["text"]
        asked = text[text["method"] == "text: target"].iloc[0]
        plain = text[text["method"] == UNSTEERED].iloc[0]
        best = text[~text["method"].isin([UNSTEERED, "text: target", "random"])]
        best = best[best["not_music"] <= 0.1]
        lines.append(
            f"Text-to-music that names the source: target heard in {plain['rate']:.0%}, with the target named instead "
            f"{asked['rate']:.0%}"
            + (
                f", pushed at best {best['rate'].max():.0%} ({best.loc[best['rate'].idxmax(), 'method']}, "
                f"{best.loc[best['rate'].idxmax(), 'push']})."
                if len(best)
                else ", and no push leaves it music."
            )
        )
    return "\n\n".join(lines)


def transfer_page(
    config: Any, base: Transfer, pairs: Sequence[tuple[str, ...]], found: dict[str, pd.DataFrame], text: str
) -> Path:
    """Figures and the page of a transfer.

    Returns
    -------
    Path
        ``index.html``.
    """
    out = Path(config.out)
    made_by = {
        "command": command(config, "analyses.timbre_transfer"),
        "model": f"{base.model.name} {base.model.fingerprint[:12]}",
        "seed": config.seed,
    }
    save: dict[str, Any] = {"formats": ("png", "pdf"), "made_by": made_by}
    table = found["transfer"]
    start = table[table["method"] == UNSTEERED]
    curves = []
    start = start.assign(arm=UNSTEERED, dose=0.0)
    for push in [one for one in table["push"].unique() if one]:
        rows = table[table["push"] == push].rename(columns={"method": "arm", "amount": "dose"})
        stem = out / f"trade_off_{slug(push)}"
        ax = plots.tradeoff(pd.concat([start, rows], ignore_index=True), label="FAD (lower is better)", title=push)
        plots.save(ax, stem, **save)
        unit = "s" if push == "interpolate" else "doses in sigma"
        curves.append((stem.with_suffix(".png"), f"Success against FAD, {push}; {unit} beside the points."))
    grid = found["grid"]
    maps = []
    for kind, words in (("resid", "residual stream"), ("attn", "attention output")):
        part = grid[grid["kind"] == kind]
        part = part.assign(panel=[f"{p.split(',')[0]}, {m}" for p, m in zip(part["push"], part["method"], strict=True)])
        units = {name: "Strength s" if name.startswith("inter") else "Dose (σ)" for name in part["panel"].unique()}
        axs = plots.strength_by_layer(part, xlabel=units)
        plots.save(list(axs), out / f"layers_{kind}", **save)
        maps.append(
            (out / f"layers_{kind}.png", f"Share heard as the target, pushed at the {words}; hatched: no music.")
        )

    what = "timbre" if config.trait == "instrument" else "style" if config.trait == "genre" else config.trait
    report = Report(
        f"{what.capitalize()} transfer in {base.model.name}",
        "Sounds of one class are continued while the model is pushed towards another; a judge of sound alone listens.",
    )
    report.heading("What was found")
    for line in text.split("\n\n"):
        report.text(line)
    report.heading("Success against quality").figures(*curves)
    report.table(
        found["at_quality"], "The largest success with at most 10 % no music, by rule and method.",
        csv=out / "at_quality.csv",
    )  # fmt: skip
    report.table(table, "Every rule, method and strength.", csv=out / "transfer.csv", rows=8)
    report.heading("Regression against classification")
    report.table(
        found["contrasts"], "Paired differences over sounds, averaged over strengths; Holm over a measure's rows.",
        csv=out / "contrasts.csv", rows=24,
    )  # fmt: skip
    report.heading("Strength and layer")
    report.text(f"Pilot sounds, {grid['n'].max()} a cell: they chose the layer and were not used again.")
    for one in maps:
        report.figures(one)
    report.table(found["sites"], "The layers chosen.", csv=out / "sites.csv")
    report.heading("What stays")
    report.text(
        "Agreement with the true continuation of the sound, at the middle strength; `other noise` is the yardstick: a "
        "second continuation to which nothing was done."
    )
    report.table(found["kept"], "Similarity to the prompt and what else the judges hear.", csv=out / "kept.csv")
    if "text" in found:
        report.heading("Text-to-music")
        report.text(f"The text names the source; rows pushed: {config.text_rows}; guidance 3.")
        report.table(found["text"], "Every rule, method and strength.", csv=out / "text.csv", rows=20)
    names = ("unsteered", "interpolate_ridge", "interpolate_logistic", "add, equal dose_mean_diff",
             "add, equal dose_random")  # fmt: skip
    heard = found["clips"]
    report.heading("Listen")
    for pair in pairs:
        rows = sounds_table(base, "_".join(pair), names, config.n_sounds)
        if len(rows):
            part = heard[(heard["pair"] == ":".join(pair)) & (heard["method"] == UNSTEERED)]
            rows.insert(0, "heard unsteered", part["answer"].to_numpy()[: len(rows)])
            columns = [name for name in rows.columns if name != "heard unsteered"]
            said = f"{pair[0]} to {pair[1]}: the first sounds, not chosen; {config.prompt_seconds:g} s are given."
            report.sounds(rows, said, columns=columns)
    return report.write(out / "index.html", made_by=made_by)


def sounds_table(base: Transfer, prefix: str, names: Sequence[str], n: int) -> pd.DataFrame:
    """Files of kept sounds, one row a seed; those that are not there are left out."""
    rows = []
    for i in range(n):
        row = {name.replace("_", " "): base.sound(f"{prefix}_{name}", i) for name in names}
        if all(path.is_file() for path in row.values()):
            rows.append(row)
    return pd.DataFrame(rows)
