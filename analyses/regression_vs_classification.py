"""Does a direction fitted as a regression carry something that one fitted as a classifier loses?

    python -m analyses.regression_vs_classification --out figures/regression_vs_classification
    python -m analyses.regression_vs_classification --model facebook/musicgen-large --data FOLDER \\
        --traits genre=jazz --seconds 10 --prompt-seconds 5

arXiv 2506.10225 says so, without a test that holds all else equal. Here every method sees the same activations, the
same training clips and the same scaling, and is asked three things: how well it *detects* the trait on held-out clips,
where it *points* (cosine, and the angle along both regularisation paths), and how well it *steers* continuations, at
equal dose (each direction's own standard deviations) and at equal norm (the same displacement for all), judged on
audio alone. Unregularised least squares on classes is linear discriminant analysis, and ridge with a growing penalty
becomes the mean difference, so the methods lie on one path from ``least_squares`` through ``ridge`` to ``mean_diff``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

import interp
from analyses._regression_tables import (
    Tested,
    answer_table,
    beside_detection,
    by_judges,
    contrasts,
    detection,
    detection_contrasts,
    effects,
    paragraphs,
    rates,
)
from interp import geometry, plots
from interp.directions import Direction, Directions, combine, fit_directions, methods, random_like
from interp.directions.reading import read_stacks
from interp.errors import DataError
from interp.geometry.paths import PENALTIES
from interp.probes import ProbeResult, probe
from interp.sites import Site
from interp.study import Common, Drawing, Study, main, slug, step
from interp.traits import Trait
from interp.validation import UNSTEERED, Arm, push, run_arms, shuffled_like
from interp.validation.run import Trial

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Config", "RegressionVsClassification"]

_PROBED = ("logistic", "ridge", "lda", "mean_diff")
_SHUFFLES = 8


@dataclass(frozen=True)
class Config(Common):
    """What the study does.

    Attributes
    ----------
    methods : tuple of str
        Methods to compare.
    n_splits, n_blocks : int
        Split halves, and blocks of the jackknife.
    n_bootstrap : int
        Resamples behind intervals of detection.
    steer : bool
        Generate; without it detection and geometry are still answered.
    doses : tuple of float
        In standard deviations; at equal norm in those of the methods' geometric mean.
    pilot_seeds : int
        Paired continuations that choose the layer.
    heads : int
        Heads that are pushed together in the arms of heads; 0 for none.
    """

    out: Path = Path("figures/regression_vs_classification")
    methods: tuple[str, ...] = ("logistic", "lda", "ridge", "least_squares", "mean_diff", "pca_pairs")
    n_clips: int = 600
    n_splits: int = 6
    n_blocks: int = 12
    n_bootstrap: int = 1000
    steer: bool = True
    doses: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)
    pilot_seeds: int = 8
    heads: int = 8


class RegressionVsClassification(Study[Config]):
    """Does regression find another direction than classification?

    Every method on the same activations: how well it detects, where it points, how well it steers.
    """

    kept_apart = 0.3
    panel = True

    def check(self) -> None:
        asked = self.config.methods
        if set(asked) - set(methods()) or "logistic" not in asked:
            raise DataError(
                f"methods {', '.join(asked)} must include logistic, the reference, and be among {', '.join(methods())}."
            )

    @cached_property
    def ds(self) -> xr.Dataset:
        return self.activations("heads, resid")

    @cached_property
    def probed(self) -> dict[Trait, ProbeResult]:
        c = self.config
        return {
            trait: probe(
                self.ds, str(trait), sites="heads, resid", methods=[m for m in _PROBED if m in c.methods],
                n_permutations=0, n_bootstrap=0, seed=c.seed, progress=self.progress,
            )
            for trait in self.traits
        }  # fmt: skip

    def train(self, trait: Trait) -> np.ndarray:
        """Training clips of a trait's split, bool over the dataset's clips."""
        study = self.probed[trait]
        return np.isin(np.asarray(self.ds["clip"].values).astype(str), study.clips[~study.split.test])

    @step(per="trait", shown=False)
    def directions(self, trait: Trait) -> Directions:
        """Of all methods, fitted on the training clips of one split, with sigma measured there."""
        study = self.probed[trait]
        extra = [m for m in self.config.methods if m not in study.methods]
        if not extra:
            return study.directions
        more = fit_directions(
            self.ds, str(trait), sites="heads, resid", methods=extra, clips=self.train(trait), seed=self.config.seed
        )
        return study.directions + more

    def at(self, trait: Trait, site: Site | str, method: str) -> Direction:
        return self.directions(trait).one(site=site, method=method)

    # Detection -------------------------------------------------------------------------------------------------------

    def tested(self) -> Iterator[Tested]:
        """Projections of the test clips of every trait and kind of site."""
        for trait, study in self.probed.items():
            test, names = study.split.test, pd.Index(np.asarray(self.ds["clip"].values).astype(str))
            for kind in ("heads", "resid"):
                (stack,) = read_stacks(self.ds, kind)
                x = np.asarray(stack.x[:, names.get_indexer(study.clips[test])], dtype=np.float64)
                directions = {m: [self.at(trait, site, m) for site in stack.sites] for m in self.config.methods}
                yield Tested(str(trait), kind, x, directions, study.split.y[test], study.split.groups[test])

    @step()
    def detection(self) -> pd.DataFrame:
        """Area under the ROC curve on the test clips: no threshold, so directions alone are compared."""
        return detection(self.tested(), self.config.n_bootstrap, self.config.seed)

    @step()
    def detection_contrasts(self) -> pd.DataFrame:
        """Differences between methods, averaged over the sites of a kind, resampling the same test groups."""
        return detection_contrasts(self.tested(), self.config.n_bootstrap, self.config.seed)

    # Geometry --------------------------------------------------------------------------------------------------------

    @step(per="trait")
    def cosines(self, trait: Trait) -> pd.DataFrame:
        """All pairs of methods on the training clips; halves are fitted at the penalties that the directions have."""
        c = self.config
        table = geometry.compare_methods(
            self.ds, self.directions(trait), clips=self.train(trait), n_permutations=0, n_splits=c.n_splits,
            n_blocks=c.n_blocks, seed=c.seed,
        )  # fmt: skip
        return table.drop(columns=["p", "null_permuted"]).assign(trait=str(trait))

    @step(per="trait")
    def paths(self, trait: Trait) -> pd.DataFrame:
        """Both regularisation paths at every site: angles to LDA and to the mean difference."""
        test, parts = ~self.train(trait), []
        for kind in ("heads", "resid"):
            table = geometry.path_table(self.ds, trait, sites=kind, penalties=PENALTIES[::2], test=test)
            parts.append(table.assign(trait=str(trait), kind=kind))
        return pd.concat(parts, ignore_index=True)

    # Steering --------------------------------------------------------------------------------------------------------

    @step(per="trait", shown=False)
    def pilot(self, trait: Trait) -> pd.DataFrame:
        """Where to push: the layer where the *sum* of all methods' directions works best, so that none is favoured."""
        train, arms = self.train(trait), []
        for site in sorted({d.site for d in self.directions(trait) if d.site.kind == "resid"}):
            x = np.asarray(interp.features(self.ds, site), dtype=np.float64)[train]
            mixed = combine([self.at(trait, site, m) for m in self.config.methods], activations=x)
            arms.append(push(str(site), mixed, control=False))
        table = self.play(trait, arms, (2.0,), pilot=True).table
        table = table[(table["arm"] != UNSTEERED) & (table["judge"] == self.judge.name)]
        return table.rename(columns={"arm": "site"})[["site", "n", "hits", "rate", "not_music"]]

    @step(per="trait", shown=False)
    def steered_clips(self, trait: Trait) -> pd.DataFrame:
        """Every method at one layer and at the best heads, at equal dose and at equal norm, with controls."""
        table = self.pilot(trait)
        places = {"resid": [str(table.loc[table["rate"].idxmax(), "site"])]}
        if self.config.heads:
            study = self.probed[trait]
            ranks = pd.concat([study.ranking(m) for m in study.methods])
            ranks = ranks[ranks["kind"] == "heads"].groupby("site")["cv_score"].mean()
            places["heads"] = list(ranks.sort_values(ascending=False, kind="stable").index[: self.config.heads])
        arms = [arm for place, sites in places.items() for arm in self.arms(trait, place, sites)]
        unsteered = Arm(UNSTEERED, dosed=False, says={"place": UNSTEERED, "method": UNSTEERED})
        return self.play(trait, [unsteered, *arms], self.config.doses, pilot=False).clips.drop(columns=["arm"])

    def play(self, trait: Trait, arms: list[Arm], doses: tuple[float, ...], *, pilot: bool) -> Trial:
        c = self.config
        n, first = (c.pilot_seeds, c.seed + 20_000) if pilot else (c.n_seeds, c.seed)
        codes = self.prompts(trait, n, seed=c.seed + 500 * pilot, taken=c.n_seeds if pilot else 0)
        return run_arms(
            self.model, trait, arms, codes, doses, seeds=range(first, first + n), judge=self.judges,
            setting=self.setting(measure=False),
        )  # fmt: skip

    def arms(self, trait: Trait, place: str, sites: list[str]) -> list[Arm]:
        rng = np.random.default_rng([self.config.seed, 11])
        by_method = {m: Directions(self.at(trait, site, m) for site in sites) for m in self.config.methods}
        # the common length of a push at each site: the geometric mean of the methods' sigmas
        sigmas = np.array([[d.sigma for d in directions] for directions in by_method.values()])
        common = np.exp(np.log(sigmas).mean(axis=0))
        scaled = {
            m: Directions(replace(d, sigma=float(sigma)) for d, sigma in zip(directions, common, strict=True))
            for m, directions in by_method.items()
        }
        treated = scaled["logistic"]
        randoms = [Directions(random_like(d, rng) for d in treated) for _ in range(self.config.n_seeds)]
        shuffled = [shuffled_like(self.ds, d, self.probed[trait], _SHUFFLES, seed=self.config.seed) for d in treated]
        sets = [Directions(per_site[k] for per_site in shuffled) for k in range(_SHUFFLES)]

        def arm(norm: str, method: str, directions: Directions | list[Directions]) -> Arm:
            says = {"place": place, "push": norm, "method": method, "site": ", ".join(sites)}
            control = method in ("random", "shuffled")
            return push(f"{method}, {norm}, {place}", directions, control=control, says=says)

        return [
            *(arm("equal dose", m, directions) for m, directions in by_method.items()),
            *(arm("equal norm", m, directions) for m, directions in scaled.items()),
            arm("equal norm", "random", randoms),
            arm("equal norm", "shuffled", sets),
        ]

    # What comes of it ------------------------------------------------------------------------------------------------

    def tables(self) -> dict[str, pd.DataFrame]:
        made = super().tables()
        if self.config.steer:
            every, first = self.steered_clips.all(), self.judge.name
            clips = every[every["judge"] == first].reset_index(drop=True)
            made |= {"steered_clips": clips, "steering": effects(clips), "steering_contrasts": contrasts(clips)}
            if len(self.judges) > 1:
                made |= by_judges(every)
        return made | {"answer": answer_table(made, self.config.methods)}

    def answer(self, t: Mapping[str, pd.DataFrame]) -> Iterator[str]:
        yield from paragraphs(t)
        for row in t["agreement"].itertuples() if "agreement" in t else ():
            yield (
                f"The judges {row.a} and {row.b} agree on {row.agree:.0%} of the clips (kappa {row.kappa:.2f} "
                f"[{row.lo:.2f}, {row.hi:.2f}]); what each heard is in the table `panel`."
            )

    def figures(self, t: Mapping[str, pd.DataFrame]) -> Iterator[Drawing]:
        yield "# Where they point"
        for trait in self.config.traits:
            rows = t["cosines"].query("trait == @trait and kind == 'heads' and a == 'logistic'")
            ax = plots.cosines(rows, title=f"{trait}, heads")
            yield f"cosines_{slug(trait)}", ax, f"`{trait}`: one point a head."
            ax = plots.path(t["paths"].query("trait == @trait"), title=trait)
            yield f"path_{slug(trait)}", ax, f"`{trait}`: angles along both paths of penalties."
        if "steering" not in t:
            return
        yield "# How they steer"
        clips = t["steered_clips"]
        for place in t["steering"]["place"].unique():
            rows = clips[((clips["place"] == place) & (clips["push"] == "equal norm")) | (clips["method"] == UNSTEERED)]
            for trait in self.config.traits:
                curves = rates(rows[rows["trait"] == trait])
                ax = plots.dose_response(curves, title=f"{trait}, equal norm, {place}")
                yield f"dose_{place}_{slug(trait)}", ax, f"`{trait}`, pushed equally far at {place}."
        joined = beside_detection(t)
        if len(joined):
            ax = plots.effect_against_detection(joined, detection="auroc", effect="best")
            yield "effect_against_detection", ax, "What pushing does against how well the direction detects."


if __name__ == "__main__":
    main(RegressionVsClassification)
