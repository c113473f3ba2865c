"""The page and paragraph of genre fusion: what was found, computed from the tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analyses._fusion_tables import BOTH
from analyses._study import slug
from analyses._transfer import Transfer, command
from analyses._transfer_pages import sounds_table, verdict
from analyses._transfer_tables import UNSTEERED
from interp import plots
from interp.report import Report

__all__ = ["fusion_page", "fusion_paragraph"]


def fusion_paragraph(config: Any, found: dict[str, pd.DataFrame], worth: str) -> str:
    """What the tables of a fusion say, whatever it is."""
    lines = [f"Sounds of other genres, pushed towards {' and '.join(config.sets)} in a ratio; {worth}."]
    pilot = found["pilot"]
    best = pilot.loc[pilot.groupby("set")["rate"].idxmax()]
    told = ", ".join(f"{r.set} {r.site} ({r.rate:.0%} of pushes towards one class alone)" for r in best.itertuples())
    lines.append(f"Layers chosen on pilot sounds: {told}.")
    for name, part in found["trends"].groupby("set", sort=False):
        said = []
        for r in part.itertuples():
            follows = "follows the ratio" if r.p_holm < 0.05 and r.slope > 0 else "does not follow it"
            said.append(f"{r.method} {r.slope:+.2f} [{r.lo:+.2f}, {r.hi:+.2f}] ({follows}, Holm p {r.p_holm:.2g})")
        lines.append(f"Judged mix per unit of ratio, {name} (1: as asked): {'; '.join(said)}.")
    table = found["fusion"]
    for name, part in table.groupby("set", sort=False):
        middle = part[part["ratio"] == 0.5]
        shares = [
            f"{r.method}: one of them {r.heard_any:.0%}, both plausible {r.both:.0%}" for r in middle.itertuples()
        ]
        start = part[part["method"] == UNSTEERED]
        if len(shares) and len(start):
            lines.append(
                f"At equal weights, {name} (unsteered: {start['heard_any'].iloc[0]:.0%} one of them): "
                f"{'; '.join(shares)} (plausible: at least {BOTH:.0%} each)."
            )
    pairs = found["half_way"]
    row = pairs[(pairs["measure"] == "heard_any") & (pairs["a"] == "random") & (pairs["b"] == "sum")]
    if len(row):
        one = row.iloc[0]
        words = verdict(
            -one["difference"], -one["hi"], -one["lo"], one["p_holm"], "heard more often", "heard less often"
        )
        lines.append(f"The weighted sum against a random direction as long as the longest push: {words}.")
    if "fade" in found:
        fade = found["fade"][found["fade"]["set"] == "all"].set_index("method")
        for method in ("switch", "cross-fade", "random"):
            one = fade.loc[method]
            words = f"{one['diff']:+.2f} [{one['diff_lo']:+.2f}, {one['diff_hi']:+.2f}], Holm p {one['p_holm']:.2g}"
            lines.append(
                f"{method.capitalize()} at {config.switch_second:g} s: the first genre is heard in "
                f"{one['before_heard_a']:.0%} before and {one['after_heard_a']:.0%} after, the second in "
                f"{one['before_heard_b']:.0%} and {one['after_heard_b']:.0%}; gain of the second on the first beyond "
                f"that of the first throughout: {words}."
            )
    return "\n\n".join(lines)


def fusion_page(
    config: Any, base: Transfer, sets: Sequence[tuple[str, ...]], found: dict[str, pd.DataFrame], text: str
) -> Path:
    """Figures and the page of a fusion.

    Returns
    -------
    Path
        ``index.html``.
    """
    out = Path(config.out)
    made_by = {
        "command": command(config, "analyses.genre_fusion"),
        "model": f"{base.model.name} {base.model.fingerprint[:12]}",
        "seed": config.seed,
    }
    save: dict[str, Any] = {"formats": ("png", "pdf"), "made_by": made_by}
    report = Report(
        f"Genre fusion in {base.model.name}",
        "Two genres at once, and one that turns into the other in time; a judge of sound alone listens.",
    )
    report.heading("What was found")
    for line in text.split("\n\n"):
        report.text(line)
    report.heading("Ratio against judged mix")
    pictures = []
    for one in sets:
        part = found["fusion"][(found["fusion"]["set"] == ":".join(one)) & found["fusion"]["ratio"].notna()]
        if len(part):
            stem = out / f"fusion_{slug('-'.join(one))}"
            plots.save(list(plots.fusion(part, names=(one[0], one[1]), title=" + ".join(one))), stem, **save)
            pictures.append((stem.with_suffix(".png"), f"{' + '.join(one)}: judged mix, and what is heard."))
    for picture in pictures:
        report.figures(picture)
    report.table(found["fusion"], "Every weighting.", csv=out / "fusion.csv", rows=12)
    report.table(found["trends"], "How the judged mix follows the ratio.", csv=out / "trends.csv")
    report.table(
        found["half_way"], "Equal weights: paired differences over sounds, Holm over a measure's rows.",
        csv=out / "half_way.csv", rows=15,
    )  # fmt: skip
    report.table(found["pilot"], "Pilot: classes alone, every layer.", csv=out / "pilot.csv", rows=12)
    if "fade" in found:
        report.heading("A switch in time")
        for one in sets:
            course = found["fade_course"]
            part = course[course["set"] == ":".join(one)]
            stem = out / f"switch_{slug('-'.join(one))}"
            arms = ("first throughout", "switch", "cross-fade", "random")
            axs = plots.switch(
                part, config.switch_second, names=(one[0], one[1]), window=config.window, arms=arms
            )  # fmt: skip
            plots.save(list(axs), stem, **save)
            said = f"{one[0]} to {one[1]} at {config.switch_second:g} s, judged in windows of {config.window:g} s."
            report.figures((stem.with_suffix(".png"), said + " A window in the grey band hears both sides."))
        report.table(found["fade"], "Before and after the switch.", csv=out / "fade.csv", rows=20)
    report.heading("Listen")
    for one in sets:
        prefix = "_".join(one)
        corner = ["1:0", "0.5:0.5", "0:1"] if len(one) == 2 else []
        names = ["unsteered", *[f"sum_{w.replace(':', '-')}" for w in corner]]
        columns = sounds_table(base, prefix, names, config.n_sounds)
        if len(columns):
            said = f"{one[0]} + {one[1]}: the first sounds, not chosen; weights as named."
            report.sounds(columns, said, columns=list(columns.columns))
        fades = sounds_table(
            base, f"{prefix}_fade", ["first throughout", "switch", "cross-fade", "random"], config.n_sounds
        )
        if len(fades):
            report.sounds(fades, f"{one[0]} to {one[1]} in time.", columns=list(fades.columns))
    return report.write(out / "index.html", made_by=made_by)
