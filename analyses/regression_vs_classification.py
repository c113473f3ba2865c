"""Does a direction fitted as a regression carry something that one fitted as a classifier loses?

    python -m analyses.regression_vs_classification --out figures/regression_vs_classification

arXiv 2506.10225 says so, without a test that holds all else equal. Here every method sees the same activations, the
same training clips and the same scaling, and is asked three things: how well it *detects* the trait on held-out clips,
where it *points* (cosine, and the angle along both regularisation paths), and how well it *steers* continuations, at
equal dose (each direction's own standard deviations) and at equal norm (the same displacement for all), judged on
audio alone. Unregularised least squares on classes is linear discriminant analysis, and ridge with a growing penalty
becomes the mean difference, so the methods lie on one path from ``least_squares`` through ``ridge`` to ``mean_diff``.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

import interp
from analyses._regression_tables import (
    FAMILY,
    UNSTEERED,
    answer_table,
    beside_detection,
    contrasts,
    effects,
    paragraph,
    rates,
)
from analyses._study import Steps, activations, formats_of, from_command_line, labelled_clips, slug
from interp import geometry, plots, tables
from interp.directions import Directions, combine, fit_directions, methods, random_like, targets_of
from interp.directions.reading import read_stacks
from interp.errors import DataError
from interp.metrics import weighted_scores
from interp.probes import ProbeResult, probe
from interp.sites import Site
from interp.stats import bootstrap_interval, group_weights
from interp.steering import Add

if TYPE_CHECKING:
    import xarray as xr

    from interp.model import MusicGen
    from interp.validation import Arm

__all__ = ["Config", "main"]

log = logging.getLogger(__name__)
_PROBED = ("logistic", "ridge", "lda", "mean_diff")


@dataclass(frozen=True)
class Config:
    """What the study does; every field is a flag of the command line.

    Attributes
    ----------
    out : Path
        Folder of tables and figures.
    model : str
        Name, folder or hub name of the checkpoint.
    data : Path or None
        Folder of labelled audio with metadata.csv; music is rendered without it.
    traits : tuple of str
        Traits with two sides that the judge can hear.
    methods : tuple of str
        Methods to compare.
    n_clips : int
        Clips to render.
    n_splits, n_blocks : int
        Split halves, and blocks of the jackknife.
    n_bootstrap : int
        Resamples behind intervals of detection.
    steer : bool
        Whether to generate; without it detection and geometry are still answered.
    doses : tuple of float
        In standard deviations; at equal norm in those of the methods' geometric mean.
    n_seeds, pilot_seeds : int
        Paired continuations, and those that choose the layer.
    heads : int
        Heads that are pushed together in the arms of heads; 0 for none.
    seed : int
        Of clips, splits, prompts and noise.
    """

    out: Path = Path("figures/regression_vs_classification")
    model: str = "tiny"
    data: Path | None = None
    traits: tuple[str, ...] = ("drums", "instrument=flute", "genre=jazz")
    methods: tuple[str, ...] = ("logistic", "lda", "ridge", "least_squares", "mean_diff", "pca_pairs")
    n_clips: int = 600
    n_splits: int = 6
    n_blocks: int = 12
    n_bootstrap: int = 1000
    steer: bool = True
    doses: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)
    n_seeds: int = 32
    pilot_seeds: int = 8
    heads: int = 8
    seed: int = 0


def main(config: Config | None = None, *, progress: bool = True) -> dict[str, pd.DataFrame]:
    """Run the study.

    Parameters
    ----------
    config : Config, optional
        Read from the command line when not given.
    progress : bool
        Show progress bars.

    Returns
    -------
    dict of str to DataFrame
        ``detection``, ``detection_contrasts``, ``cosines``, ``paths``, ``steering``, ``steering_contrasts`` and
        ``answer``, the one table with a row a method; as written to ``config.out`` beside ``answer.md``.
    """
    config = from_command_line(Config, __doc__) if config is None else config
    unknown = set(config.methods) - set(methods())
    if unknown or "logistic" not in config.methods:
        raise DataError(
            f"methods {', '.join(config.methods)} must include logistic, the reference, and be among "
            f"{', '.join(methods())}."
        )
    if config.steer and min(config.n_seeds, config.pilot_seeds) < 2:
        raise DataError("steering compares twins: give two seeds or more, for the pilot as well.")
    model = interp.load(config.model)
    clips = labelled_clips(config.data, config.n_clips, config.seed, progress)
    name = str(config.data or "rendered").replace("/", "_")
    ds = activations(model, clips, config.out, tag=f"{name}-{config.seed}-{len(clips)}")
    study = _Study(config, model, ds, progress)
    found = study.tables()
    for key, table in found.items():
        tables.write(table, config.out / key, formats=formats_of(table))
    study.figures(found)
    text = paragraph(found)
    (config.out / "answer.md").write_text(f"# {(__doc__ or '').splitlines()[0]}\n\n{text}\n")
    print(tables.to_markdown(found["answer"]))
    print(text)
    return found


class _Study:
    def __init__(self, config: Config, model: MusicGen, ds: xr.Dataset, progress: bool) -> None:
        self.config, self.model, self.ds, self.progress = config, model, ds, progress
        key = {k: v for k, v in dataclasses.asdict(config).items() if k != "out"}
        self.steps = Steps(config.out, key | {"fingerprint": model.fingerprint})
        self.studies = {trait: self._probe(trait) for trait in config.traits}
        self.directions = {trait: self._directions(trait) for trait in config.traits}

    def _probe(self, trait: str) -> ProbeResult:
        return probe(
            self.ds, trait, sites="heads, resid", methods=[m for m in _PROBED if m in self.config.methods],
            n_permutations=0, n_bootstrap=0, seed=self.config.seed, progress=self.progress,
        )  # fmt: skip

    def train(self, trait: str) -> np.ndarray:
        """Training clips of a trait's split, over the dataset's clips."""
        study = self.studies[trait]
        return np.isin(np.asarray(self.ds["clip"].values).astype(str), study.clips[~study.split.test])

    def _directions(self, trait: str) -> Directions:
        """Of all methods, fitted on the training clips of one split, with sigma measured there."""
        study = self.studies[trait]
        extra = [m for m in self.config.methods if m not in study.methods]
        found = study.directions
        if extra:
            found = found + fit_directions(
                self.ds, trait, sites="heads, resid", methods=extra, clips=self.train(trait), seed=self.config.seed
            )
        return found

    def tables(self) -> dict[str, pd.DataFrame]:
        step, c = self.steps.table, self.config
        found = {
            "detection": step("detection", self._detection),
            "detection_contrasts": step("detection_contrasts", self._detection_contrasts),
            "cosines": step("cosines", self._cosines),
            "paths": step("paths", self._paths),
        }
        if c.steer:
            pilots = {trait: step(f"pilot_{slug(trait)}", self._maker(self._pilot, trait)) for trait in c.traits}
            clips = [
                step(
                    f"clips_{slug(t)}",
                    self._maker(self._steer, t, str(pilots[t].loc[pilots[t]["rate"].idxmax(), "site"])),
                )
                for t in c.traits
            ]
            found["steered_clips"] = pd.concat(clips, ignore_index=True)
            found["steering"] = effects(found["steered_clips"])
            found["steering_contrasts"] = contrasts(found["steered_clips"])
        found["answer"] = answer_table(found, c.methods)
        return found

    @staticmethod
    def _maker(function: Callable[..., pd.DataFrame], *arguments: str) -> Callable[[], pd.DataFrame]:
        return lambda: function(*arguments)

    # Detection ------------------------------------------------------------------------------------------------------

    def _decisions(self, trait: str, kind: str) -> tuple[dict[str, np.ndarray], list[Site], np.ndarray, np.ndarray]:
        """Projections of the test clips, by method; sites; labels; groups."""
        study = self.studies[trait]
        (stack,) = read_stacks(self.ds, kind)
        names = pd.Index(np.asarray(self.ds["clip"].values).astype(str))
        rows = names.get_indexer(study.clips[study.split.test])
        x = np.asarray(stack.x[:, rows], dtype=np.float64)
        found = {}
        for method in self.config.methods:
            mine = {d.site: d for d in self.directions[trait].select(method=method, kind=kind)}
            v = np.stack([mine[site].vector for site in stack.sites])
            found[method] = np.einsum("scd,sd->sc", x, v)[:, None]
        return found, list(stack.sites), study.split.y[study.split.test], study.split.groups[study.split.test]

    def _detection(self) -> pd.DataFrame:
        """Area under the ROC curve on the test clips: no threshold, so directions alone are compared."""
        tables_, rng = [], np.random.default_rng([self.config.seed, 3])
        for trait in self.config.traits:
            for kind in ("heads", "resid"):
                decisions, sites, y, groups = self._decisions(trait, kind)
                weights = group_weights(groups, self.config.n_bootstrap, rng)
                for method, decision in decisions.items():
                    score = weighted_scores("auroc", decision, y, np.ones((1, len(y))))[0]
                    lo, hi = bootstrap_interval(weighted_scores("auroc", decision, y, weights), len(np.unique(groups)))
                    chosen = self.directions[trait].select(method=method, kind=kind)
                    sigma = {d.site: d.sigma for d in chosen}
                    tables_.append(
                        pd.DataFrame(
                            {
                                "trait": trait,
                                "kind": kind,
                                "site": [str(s) for s in sites],
                                "layer": [s.layer for s in sites],
                                "head": pd.array([s.head for s in sites], dtype="Int64"),
                                "method": method,
                                "family": FAMILY.get(method, "other"),
                                "auroc": score,
                                "lo": lo,
                                "hi": hi,
                                "sigma": [sigma[s] for s in sites],
                                "n_test": len(y),
                                "n_groups": len(np.unique(groups)),
                            }
                        )
                    )
        return pd.concat(tables_, ignore_index=True)

    def _detection_contrasts(self) -> pd.DataFrame:
        """Differences between methods, averaged over the sites of a kind, resampling the same test groups."""
        rows, rng = [], np.random.default_rng([self.config.seed, 4])
        for trait in self.config.traits:
            for kind in ("heads", "resid"):
                decisions, _, y, groups = self._decisions(trait, kind)
                weights = group_weights(groups, self.config.n_bootstrap, rng)
                full = {m: weighted_scores("auroc", d, y, np.ones((1, len(y)))).mean() for m, d in decisions.items()}
                draws = {m: weighted_scores("auroc", d, y, weights).mean(axis=1) for m, d in decisions.items()}
                for a, b in combinations(decisions, 2):
                    lo, hi = bootstrap_interval(draws[a] - draws[b], len(np.unique(groups)))
                    difference = {"difference": full[a] - full[b], "lo": float(lo), "hi": float(hi)}
                    rows.append({"trait": trait, "kind": kind, "a": a, "b": b} | difference)
        return pd.DataFrame(rows)

    # Geometry -------------------------------------------------------------------------------------------------------

    def _cosines(self) -> pd.DataFrame:
        """All pairs of methods on the training clips; halves at the penalties that the directions have."""
        parts = []
        for trait in self.config.traits:
            table = geometry.compare_methods(
                self.ds, self.directions[trait], clips=self.train(trait), n_permutations=0,
                n_splits=self.config.n_splits, n_blocks=self.config.n_blocks, seed=self.config.seed,
            )  # fmt: skip
            parts.append(table.drop(columns=["p", "null_permuted"]).assign(trait=trait))
        return pd.concat(parts, ignore_index=True)

    def _paths(self) -> pd.DataFrame:
        parts = []
        for trait in self.config.traits:
            (target,) = targets_of(self.ds, trait)
            for kind in ("heads", "resid"):
                x, sites = interp.stack(self.ds, kind)
                table = geometry.path_table(
                    x, target, sites, penalties=geometry.PENALTIES[::2], test=~self.train(trait)
                )
                parts.append(table.assign(trait=trait, kind=kind))
        return pd.concat(parts, ignore_index=True)

    # Steering -------------------------------------------------------------------------------------------------------

    def _at(self, trait: str, site: str) -> Directions:
        return Directions(self.directions[trait].one(site=site, method=m) for m in self.config.methods)

    def _pilot(self, trait: str) -> pd.DataFrame:
        """Where to push: the layer where the *sum* of all methods' directions works best, so that none is favoured."""
        from interp.validation import Arm, Setting, prompts_without, run_arms

        arms = []
        train = self.train(trait)
        for site in sorted({d.site for d in self.directions[trait] if d.site.kind == "resid"}):
            x = np.asarray(interp.features(self.ds, site), dtype=np.float64)[train]
            mixed = Directions([combine(self._at(trait, str(site)), activations=x)])
            arms.append(Arm(str(site), _pusher(mixed), control=False, where=str(site)))
        seeds = range(self.config.seed + 20_000, self.config.seed + 20_000 + self.config.pilot_seeds)
        codes = prompts_without(self.model, trait, self.config.pilot_seeds, 1.5, seed=self.config.seed + 500)
        result = run_arms(
            self.model, trait, arms, codes, [2.0], seeds=list(seeds),
            setting=Setting(measure=False, progress=self.progress),
        )  # fmt: skip
        table = result.table[result.table["arm"] != UNSTEERED]
        return table.rename(columns={"arm": "site"})[["trait", "site", "n", "hits", "rate", "not_music"]]

    def _steer(self, trait: str, site: str) -> pd.DataFrame:
        """Every method at one layer and at the best heads, at equal dose and at equal norm, with controls."""
        from interp.validation import Arm, Setting, prompts_without, run_arms

        places = {"resid": [site]}
        if self.config.heads:
            ranks = pd.concat([self.studies[trait].ranking(m) for m in self.studies[trait].methods])
            ranks = ranks[ranks["kind"] == "heads"].groupby("site")["cv_score"].mean()
            places["heads"] = list(ranks.sort_values(ascending=False, kind="stable").index[: self.config.heads])
        nothing = {"place": UNSTEERED, "push": np.nan, "method": UNSTEERED, "site": np.nan}
        arms: list[Arm] = [Arm(UNSTEERED, dosed=False, says=nothing)]
        for place, sites in places.items():
            arms += self._arms(trait, place, sites)
        n = self.config.n_seeds
        result = run_arms(
            self.model, trait, arms, prompts_without(self.model, trait, n, 1.5, seed=self.config.seed),
            self.config.doses, seeds=list(range(self.config.seed, self.config.seed + n)),
            setting=Setting(measure=False, progress=self.progress),
        )  # fmt: skip
        return result.clips.drop(columns=["judge", "arm", "control", "where"])

    def _arms(self, trait: str, place: str, sites: list[str]) -> list[Arm]:
        from interp.validation import Arm, shuffled_like

        rng = np.random.default_rng([self.config.seed, 11])
        by_method = {
            m: Directions(self.directions[trait].one(site=s, method=m) for s in sites) for m in self.config.methods
        }
        # the common length of a push at each site: the geometric mean of the methods' sigmas
        sigmas = np.array([[d.sigma for d in ds] for ds in by_method.values()])
        common = np.exp(np.log(sigmas).mean(axis=0))

        def arm(how: str, method: str, build: Callable[[float, int], tuple[Add, ...]], control: bool = False) -> Arm:
            says = {"place": place, "push": how, "method": method, "site": ", ".join(sites)}
            return Arm(f"{place}, {how}, {method}", build, control, ", ".join(sites), says=says)

        arms = [arm("equal dose", m, _pusher(ds)) for m, ds in by_method.items()]

        def scaled(ds: Directions) -> Directions:
            return Directions(replace(d, sigma=float(c)) for d, c in zip(ds, common, strict=True))

        arms += [arm("equal norm", m, _pusher(scaled(ds))) for m, ds in by_method.items()]
        treated = scaled(by_method["logistic"])
        randoms = [Directions(random_like(d, rng) for d in treated) for _ in range(self.config.n_seeds)]
        shuffled = [shuffled_like(self.ds, d, self.studies[trait], 8, seed=self.config.seed) for d in treated]
        sets = [Directions(per_site[k] for per_site in shuffled) for k in range(8)]
        arms.append(arm("equal norm", "random", lambda dose, i: (Add(randoms[i], dose=dose),), True))
        arms.append(arm("equal norm", "shuffled", lambda dose, i: (Add(sets[i % 8], dose=dose),), True))
        return arms

    # Figures --------------------------------------------------------------------------------------------------------

    def figures(self, found: dict[str, pd.DataFrame]) -> None:
        """Draw geometry, paths, and, if there was steering, what it did."""
        out = self.config.out
        made_by = {"study": "regression_vs_classification", "model": self.model.fingerprint, "seed": self.config.seed}
        save: dict[str, Any] = {"formats": ("png", "pdf"), "made_by": made_by}
        for trait in self.config.traits:
            cosines = found["cosines"].query("trait == @trait and kind == 'heads' and a == 'logistic'")
            plots.save(plots.cosines(cosines, title=f"{trait}, heads"), out / f"cosines_{slug(trait)}", **save)
            paths = found["paths"].query("trait == @trait")
            plots.save(plots.path(paths, title=trait), out / f"path_{slug(trait)}", **save)
        if "steering" not in found:
            return
        for place in found["steering"]["place"].unique():
            pushed = found["steered_clips"].query("place == @place and push == 'equal norm'")
            base = found["steered_clips"].query("method == @UNSTEERED")
            for trait in self.config.traits:
                lines = rates(pd.concat([base, pushed]).query("trait == @trait"))
                ax = plots.dose_response(lines, title=f"{trait}, equal norm, {place}")
                plots.save(ax, out / f"dose_{place}_{slug(trait)}", **save)
        joined = beside_detection(found)
        if len(joined):
            ax = plots.effect_against_detection(joined, detection="auroc", effect="best")
            plots.save(ax, out / "effect_against_detection", **save)


def _pusher(directions: Directions) -> Callable[[float, int], tuple[Add, ...]]:
    return lambda dose, _: (Add(directions, dose=dose),)


if __name__ == "__main__":
    from interp.cli import sentences

    with sentences():
        main()
