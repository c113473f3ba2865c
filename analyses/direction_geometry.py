"""How do the directions that different methods find lie to each other, and to those of other traits, heads and layers?

    python -m analyses.direction_geometry --out figures/direction_geometry

The same clips, the same scaling: eight methods at every head and layer. Cosines are given in three inner products and
with what makes them readable: the null of the dimension, of the activations' covariance and of shuffled labels, the
split-half ceiling, and the disattenuated cosine with its interval. Then: regularisation paths, how many clips a
direction needs, what heads and layers write into the residual stream, subspaces, and a map of all directions.
"""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

import interp
from analyses._study import Steps, activations, formats_of, from_command_line, labelled_clips, slug
from interp import geometry, plots, tables
from interp.directions import Directions, fit_directions, targets_of
from interp.directions.reading import clip_groups
from interp.splits import group_test_split
from interp.stats import cosine_null

if TYPE_CHECKING:
    import xarray as xr

    from interp.model import MusicGen

__all__ = ["Config", "main"]

log = logging.getLogger(__name__)


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
        Traits with two sides, or graded ones.
    classes : tuple of str
        Traits of several classes, for subspaces.
    methods : tuple of str
        Methods that are refitted for ceilings and nulls.
    once : tuple of str
        Methods too slow to refit: fitted once, compared without ceilings.
    n_clips : int
        Clips to render.
    n_permutations : int
        Refits on shuffled labels.
    n_splits, n_blocks : int
        Split halves, and blocks of the jackknife.
    seed : int
        Of clips, splits and shuffles.
    umap : bool
        Draw the map of directions.
    """

    out: Path = Path("figures/direction_geometry")
    model: str = "tiny"
    data: Path | None = None
    traits: tuple[str, ...] = ("drums", "instrument=flute", "genre=jazz")
    classes: tuple[str, ...] = ("genre", "instrument")
    methods: tuple[str, ...] = ("logistic", "ridge", "least_squares", "lda", "mean_diff", "pca_pairs", "random")
    once: tuple[str, ...] = ("rfm",)
    n_clips: int = 600
    n_permutations: int = 30
    n_splits: int = 6
    n_blocks: int = 12
    seed: int = 0
    umap: bool = True


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
        The tables, as they are written to ``config.out``.
    """
    config = from_command_line(Config, __doc__) if config is None else config
    model = interp.load(config.model)
    clips = labelled_clips(config.data, config.n_clips, config.seed, progress)
    ds = activations(
        model, clips, config.out, tag=f"{config.data or 'rendered'}-{config.seed}-{len(clips)}".replace("/", "_")
    )
    key = {k: v for k, v in dataclasses.asdict(config).items() if k not in ("out", "umap")}
    study = _Study(config, model, ds, Steps(config.out, key | {"fingerprint": model.fingerprint}))
    found = study.tables()
    for name, table in found.items():
        tables.write(table, config.out / name, formats=formats_of(table))
    study.figures(found)
    for line in study.summary(found):
        print(line)
    print(f"Tables and figures: {config.out}")
    return found


class _Study:
    def __init__(self, config: Config, model: MusicGen, ds: xr.Dataset, steps: Steps) -> None:
        self.config, self.model, self.ds, self.steps = config, model, ds, steps
        self.groups = clip_groups(ds)
        self.directions = self._directions()

    def _directions(self) -> Directions:
        """Every method at every site, fitted once and kept."""
        path = self.steps.folder / "directions.safetensors"
        if path.exists():
            return Directions.load(path, model=self.model.fingerprint)
        methods = (*self.config.methods, *self.config.once)
        found = fit_directions(
            self.ds, self.config.traits, sites="heads, resid", methods=methods, seed=self.config.seed
        )
        found.save(path)
        return found

    @property
    def best(self) -> str:
        """The residual site with the highest mean reliability over traits and methods."""
        rows = self._methods()
        rows = rows[(rows["kind"] == "resid") & (rows["a"] != "random") & (rows["b"] != "random")]
        return str(rows.groupby("site")["ceiling"].mean().idxmax())

    def _methods(self) -> pd.DataFrame:
        c = self.config
        return self.steps.table(
            "methods",
            lambda: geometry.compare_methods(
                self.ds, self.directions.select(method=c.methods), n_permutations=c.n_permutations, n_splits=c.n_splits,
                n_blocks=c.n_blocks, seed=c.seed,
            ),
        )  # fmt: skip

    def tables(self) -> dict[str, pd.DataFrame]:
        c, step = self.config, self.steps.table
        found = {"methods": self._methods()}
        found["summary"] = _summarise(found["methods"])
        found["inner_products"] = step("inner_products", self._inner_products)
        found["traits"] = step(
            "traits",
            lambda: geometry.compare_traits(
                self.ds, self.directions.select(method="mean_diff"), n_permutations=c.n_permutations,
                n_splits=c.n_splits, n_blocks=c.n_blocks, seed=c.seed,
            ),
        )  # fmt: skip
        found["paths"] = step("paths", self._paths)
        found["by_size"] = step("by_size", self._by_size)
        found["layers"] = step("layers", self._layers)
        found["subspaces"] = step("subspaces", self._subspaces)
        found["dimensions"] = step("dimensions", self._dimensions)
        return found

    def _inner_products(self) -> pd.DataFrame:
        """Cosines of all methods, slow ones among them, under each inner product of a site."""
        parts = []
        for site in self.directions.unique("site"):
            here = self.directions.select(site=site)
            covariance = geometry.covariance_of(np.asarray(interp.features(self.ds, site), dtype=np.float64))
            for metric in ("raw", "scores", "whitened"):
                table = geometry.cosine_table(here, metric=metric, covariance=covariance)  # type: ignore[arg-type]
                parts.append(table.assign(metric=metric))
        return pd.concat(parts, ignore_index=True)

    def _paths(self) -> pd.DataFrame:
        test = group_test_split(
            np.zeros(len(self.groups), int), self.groups, 0.25, rng=np.random.default_rng(self.config.seed)
        )
        parts = []
        for kind in ("heads", "resid"):
            x, sites = interp.stack(self.ds, kind)
            for target in targets_of(self.ds, self.config.traits):
                table = geometry.path_table(
                    x, target, sites, test=test, methods=("ridge",) if target.graded else ("ridge", "logistic"),
                    references=("least_squares", "mean_diff") if target.graded else ("lda", "mean_diff"),
                    penalties=geometry.PENALTIES[::2],
                )  # fmt: skip
                parts.append(table.assign(kind=kind, trait=str(target)))
        return pd.concat(parts, ignore_index=True)

    def _by_size(self) -> pd.DataFrame:
        half = len(self.groups) // 2
        sizes = sorted({int(s) for s in np.geomspace(min(40, half), half, 6)})
        methods = [m for m in self.config.methods if m in ("logistic", "ridge", "lda", "mean_diff")]
        here = self.directions.select(site=self.best, method=methods)
        return geometry.cosine_by_size(self.ds, here, sizes, seed=self.config.seed)

    def _layers(self) -> pd.DataFrame:
        """One direction over the layers, and heads against the residual stream, in the one space they share."""
        parts = []
        for method in [m for m in ("mean_diff", "ridge", "logistic") if m in self.config.methods]:
            for trait, positive in dict.fromkeys((d.trait, d.positive) for d in self.directions):
                chosen = self.directions.select(method=method, trait=trait, positive=positive)
                if len(chosen) > 1:
                    table = geometry.across_sites(chosen, self.model)
                    parts.append(table.assign(method=method, trait=trait, positive=positive))
        return pd.concat(parts, ignore_index=True)

    def _subspaces(self) -> pd.DataFrame:
        """Principal angles between the spaces that class means of two labels span, layer by layer."""
        labels = interp.labels(self.ds)
        names = [name for name in self.config.classes if name in labels.columns]
        rows = []
        x, sites = interp.stack(self.ds, "resid")
        for i, a in enumerate(names):
            for b in names[i + 1 :]:
                for values, site in zip(x, sites, strict=True):
                    spans = [geometry.class_subspace(values, labels[name].to_numpy()) for name in (a, b)]
                    angles = np.degrees(geometry.principal_angles(*spans))
                    null = np.degrees(geometry.angle_null((len(spans[0]), len(spans[1])), x.shape[2], draws=100))
                    for rank, (angle, limit) in enumerate(zip(angles, null, strict=True)):
                        rows.append(
                            {
                                "site": str(site),
                                "layer": site.layer,
                                "a": a,
                                "b": b,
                                "rank": rank,
                                "angle": angle,
                                "null": limit,
                            }
                        )
        return pd.DataFrame(rows, columns=["site", "layer", "a", "b", "rank", "angle", "null"])

    def _dimensions(self) -> pd.DataFrame:
        """Held-out score of probes that are orthogonal to all before: how many dimensions carry a trait."""
        x = np.asarray(interp.features(self.ds, self.best))[None]
        test = group_test_split(
            np.zeros(len(self.groups), int), self.groups, 0.25, rng=np.random.default_rng(self.config.seed)
        )
        parts = []
        for target in targets_of(self.ds, self.config.traits):
            for method in ("ridge", "mean_diff"):
                k = min(8, x.shape[2] - 1)
                _, scores = geometry.orthogonal_probes(x, target, k, method=method, test=test)
                parts.append(scores.assign(site=self.best, trait=str(target), method=method))
        return pd.concat(parts, ignore_index=True)

    def figures(self, found: dict[str, pd.DataFrame]) -> None:
        """Draw every table."""
        out = self.config.out
        made_by = {"study": "direction_geometry", "model": self.model.fingerprint, "seed": self.config.seed}
        save: dict[str, Any] = {"formats": ("png", "pdf"), "made_by": made_by}
        methods = found["methods"]
        for (trait, positive), rows in methods.groupby(["trait", "positive"], sort=False):
            name = f"{trait}={positive}"
            heads = rows[rows["kind"] == "heads"]
            chosen = heads[heads["a"].isin(["logistic", "ridge"]) & heads["b"].isin(["ridge", "lda", "mean_diff"])]
            if len(chosen):
                plots.save(plots.cosines(chosen, title=name), out / f"cosines_{slug(name)}", **save)
            pair = rows[(rows["a"] == self.config.methods[0]) & (rows["b"] == "mean_diff")]
            if len(pair):
                label = f"cosine {self.config.methods[0]}, mean_diff"
                ax = plots.heatmap(pair, "cosine", centre=0.0, label=label, title=name)
                plots.save(ax, out / f"atlas_{slug(name)}", **save)
        here = self.directions.select(site=self.best)
        limit = float(cosine_null(here[0].dim))
        family = geometry.clustered(geometry.cosine_matrix(here))
        plots.save(
            plots.matrix(family, null=limit, title=f"All methods and traits at {self.best}"), out / "matrix", **save
        )
        for trait, rows in found["paths"].groupby("trait", sort=False):
            if "angle_lda" in rows and rows["angle_lda"].notna().all():
                plots.save(plots.path(rows, title=str(trait)), out / f"path_{slug(str(trait))}", **save)
        for trait, rows in found["by_size"].groupby("trait", sort=False):
            name = slug(str(trait))
            plots.save(plots.by_size(rows, title=f"{trait} at {self.best}"), out / f"by_size_{name}", **save)
        resid = self.directions.select(kind="resid", method="mean_diff")
        tracked = geometry.cosine_matrix(resid, "residual", model=self.model)
        plots.save(plots.matrix(tracked, title="Mean differences over the layers"), out / "layers", **save)
        means = [d for d in here if d.method == "mean_diff"]
        for a, b in pairwise(means):
            table = geometry.plane(interp.features(self.ds, self.best), self.ds[a.trait].values, a, b)
            table.attrs.update(a=a.trait, b=b.trait)
            plots.save(plots.plane(table), out / f"plane_{slug(a.trait)}_{slug(b.trait)}", **save)
        if self.config.umap:
            every = self.directions.select(method=["mean_diff", "ridge"])
            mapped = geometry.map_directions(every, "residual", model=self.model, seed=self.config.seed)
            plots.save(list(plots.directions_map(mapped)), out / "map", **save)
            print(
                f"Map of {len(every)} directions: trustworthiness {mapped.attrs['umap_trust']:.2f} (UMAP), "
                f"{mapped.attrs['pca_trust']:.2f} (PCA)."
            )

    def summary(self, found: dict[str, pd.DataFrame]) -> list[str]:
        """What the cosine tables say, in sentences."""
        lines = []
        for row in found["summary"].itertuples():
            if row.a == "random" or row.b == "random":
                continue
            lines.append(
                f"{row.trait}={row.positive}, {row.kind}: {row.a} and {row.b} have cosine {row.cosine:.2f} (median of "
                f"{row.sites} sites; null {row.null_hi:.2f}, shuffled labels {row.null_permuted:.2f}, ceiling "
                f"{row.ceiling:.2f}), disattenuated {row.disattenuated:.2f}."
            )
        return lines


def _summarise(methods: pd.DataFrame) -> pd.DataFrame:
    """Medians over sites, one row per kind of site, trait and pair."""
    groups = methods.groupby(["kind", "trait", "positive", "a", "b"], sort=False)
    names = ["cosine", "cosine_across", "ceiling", "disattenuated", "null_hi", "null_covariance", "null_permuted"]
    table = groups[names].median()
    table.insert(0, "sites", groups.size())
    table["below_one"] = groups.apply(lambda g: float((g["hi"] < 1).mean()), include_groups=False)
    return table.reset_index()


if __name__ == "__main__":
    from interp.cli import sentences

    with sentences():
        main()
