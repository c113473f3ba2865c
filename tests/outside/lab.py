"""A study in a file of its own, with a method, an intervention and a plot of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from interp.directions import fit_directions, method
from interp.directions.registry import find
from interp.plots import style
from interp.sites import Site
from interp.steering import Intervention, register
from interp.study import Common, Drawing, Study, main, step
from interp.validation import Arm, Setting, push, run_arms


@method("signs", role="push", standardize=False)
def signs(design: Any, problems: Any, options: Any) -> Any:
    """The signs of the difference of means."""
    means = find("mean_diff").solve(design, problems, options)
    return replace(means, w=means.w.sign())


@register
@dataclass(frozen=True)
class Quieten(Intervention):
    """Make a site smaller."""

    at: tuple[Site, ...]
    share: float = 0.5

    def parameters(self) -> Mapping[Site, Mapping[str, Any]]:
        """One share a site."""
        return {site: {"share": self.share} for site in self.at}

    @staticmethod
    def edit(h: Any, factor: Any, p: Mapping[str, Any]) -> Any:
        """Less of it."""
        return h * (1 - factor * p["share"])


@style.styled
def by_arm(table: pd.DataFrame, ax: Any = None) -> Any:
    """Draw the rate of every arm."""
    style.need(table, ("arm", "rate"), "rates by arm")
    ax = style.axes(ax)
    ax.barh(table["arm"] + " " + table["dose"].astype(str), table["rate"])
    return style.remember(ax, table)


@dataclass(frozen=True)
class Config(Common):
    """What it does."""

    traits: tuple[str, ...] = ("loud",)
    n_clips: int = 12
    n_seeds: int = 2
    seconds: float = 0.8
    prompt_seconds: float = 0.0


class Lab(Study[Config]):
    """Do signs push as means do?

    Everything in it is defined outside the package.
    """

    unused = ("guidance",)

    @step(per="trait")
    def arms(self, trait: Any) -> pd.DataFrame:
        """What each arm does."""
        found = fit_directions(self.activations("L3.resid"), "drums", sites="L3.resid", methods=("mean_diff", "signs"))
        arms = [push(one.method, one, control=False) for one in found]
        arms.append(Arm("quieter", lambda dose, i: (Quieten((Site.parse("L3.resid"),), share=dose / 4),)))
        c, seeds = self.config, range(self.config.n_seeds)
        setting = Setting(seconds=c.seconds, prompt_seconds=c.prompt_seconds, measure=False, progress=False)
        trial = run_arms(
            self.model, trait, arms, [None] * len(seeds), [2.0], seeds=list(seeds), judge=self.judge, setting=setting
        )
        return trial.table[["judge", "arm", "dose", "n", "rate"]]

    def answer(self, t: Mapping[str, pd.DataFrame]) -> Iterator[str]:
        """One sentence."""
        yield f"{len(t['arms'])} arms were heard."

    def figures(self, t: Mapping[str, pd.DataFrame]) -> Iterator[Drawing]:
        """One figure."""
        yield "rates", by_arm(t["arms"]), "Share of clips that are loud."


if __name__ == "__main__":
    main(Lab)
