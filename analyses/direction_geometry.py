"""How do the directions that different methods find lie to each other, and to those of other traits, heads and layers?

    python -m analyses.direction_geometry --out figures/direction_geometry
    python -m analyses.direction_geometry --model facebook/musicgen-small --data FOLDER --traits genre=jazz

The same clips, the same scaling: eight methods at every head and layer. Cosines are given in three inner products and
with what makes them readable: the null of the dimension, of the activations' covariance and of shuffled labels, the
split-half ceiling, and the disattenuated cosine with its interval. Then: regularisation paths, how many clips a
direction needs, what heads and layers write into the residual stream, subspaces, and a map of all directions. Nothing
is generated; a judge that is named (``--judge clap``) listens to the labelled clips and says how far it agrees.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

import interp
from interp import geometry, judges, plots
from interp.directions import Directions, fit_directions
from interp.directions.dataset import targets_of
from interp.directions.reading import clip_groups
from interp.directions.targets import Target
from interp.geometry.paths import PENALTIES
from interp.geometry.subspaces import angle_null
from interp.splits import group_test_split
from interp.stats import cosine_null, wilson
from interp.study import Common, Drawing, Study, main, slug, step

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Config", "DirectionGeometry"]


@dataclass(frozen=True)
class Config(Common):
    """What the study does.

    Attributes
    ----------
    classes : tuple of str
        Labels of several classes, for subspaces.
    methods : tuple of str
        Methods that are refitted for ceilings and nulls.
    once : tuple of str
        Methods too slow to refit: fitted once, compared without ceilings.
    n_permutations : int
        Refits on shuffled labels.
    n_splits, n_blocks : int
        Split halves, and blocks of the jackknife.
    umap : bool
        Draw the map of directions.
    """

    out: Path = Path("figures/direction_geometry")
    n_clips: int = 600
    classes: tuple[str, ...] = ("genre", "instrument")
    methods: tuple[str, ...] = ("logistic", "ridge", "least_squares", "lda", "mean_diff", "pca_pairs", "random")
    once: tuple[str, ...] = ("rfm",)
    n_permutations: int = 30
    n_splits: int = 6
    n_blocks: int = 12
    umap: bool = True


class DirectionGeometry(Study[Config]):
    """How do directions lie to each other?

    Methods, traits, heads and layers, each cosine with its null and its split-half ceiling.
    """

    listens = False
    unused = ("n_seeds", "seconds", "prompt_seconds", "guidance")
    only_drawn = ("umap",)

    @cached_property
    def ds(self) -> xr.Dataset:
        return self.activations("heads, resid")

    @cached_property
    def targets(self) -> list[Target]:
        return targets_of(self.ds, self.config.traits)

    @cached_property
    def test(self) -> np.ndarray:
        """A quarter of the groups, on which what is fitted to the others is scored."""
        groups = clip_groups(self.ds)
        return group_test_split(np.zeros(len(groups), int), groups, 0.25, seed=np.random.default_rng(self.config.seed))

    @cached_property
    def best(self) -> str:
        """The residual site with the highest mean reliability over traits and methods."""
        rows = self.methods().query("kind == 'resid' and a != 'random' and b != 'random'")
        return str(rows.groupby("site")["ceiling"].mean().idxmax())

    # Steps -----------------------------------------------------------------------------------------------------------

    @step(shown=False)
    def directions(self) -> Directions:
        """Every method at every site, fitted once."""
        c = self.config
        methods = tuple(dict.fromkeys((*c.methods, *c.once, "mean_diff")))
        return fit_directions(self.ds, c.traits, sites="heads, resid", methods=methods, seed=c.seed)

    @step()
    def methods(self) -> pd.DataFrame:
        """Cosines of all pairs of methods at every site, with nulls and ceilings."""
        c = self.config
        return geometry.compare_methods(
            self.ds, self.directions().select(method=c.methods), n_permutations=c.n_permutations,
            n_splits=c.n_splits, n_blocks=c.n_blocks, seed=c.seed,
        )  # fmt: skip

    @step()
    def inner_products(self) -> pd.DataFrame:
        """Cosines of all methods, slow ones among them, under each inner product of a site."""
        parts = []
        for site in self.directions().unique("site"):
            here = self.directions().select(site=site)
            covariance = geometry.covariance_of(np.asarray(interp.features(self.ds, site), dtype=np.float64))
            for metric in ("raw", "scores", "whitened"):
                table = geometry.cosine_table(here, metric=metric, covariance=covariance)  # type: ignore[arg-type]
                parts.append(table.assign(metric=metric))
        return pd.concat(parts, ignore_index=True)

    @step(shown=False)
    def of_traits(self) -> pd.DataFrame:
        c = self.config
        return geometry.compare_traits(
            self.ds, self.directions().select(method="mean_diff"), n_permutations=c.n_permutations,
            n_splits=c.n_splits, n_blocks=c.n_blocks, seed=c.seed,
        )  # fmt: skip

    @step()
    def paths(self) -> pd.DataFrame:
        """Directions along the penalties of ridge and logistic regression, beside LDA and the mean difference."""
        parts = []
        for kind in ("heads", "resid"):
            for trait in self.targets:
                table = geometry.path_table(self.ds, str(trait), sites=kind, test=self.test, penalties=PENALTIES[::2])
                parts.append(table.assign(kind=kind, trait=str(trait)))
        return pd.concat(parts, ignore_index=True)

    @step()
    def by_size(self) -> pd.DataFrame:
        """How directions settle with the number of clips, at the most reliable layer."""
        groups = clip_groups(self.ds)
        sizes = sorted({int(s) for s in np.geomspace(min(40, len(groups) // 2), len(groups) // 2, 6)})
        methods = [m for m in self.config.methods if m in ("logistic", "ridge", "lda", "mean_diff")]
        here = self.directions().select(site=self.best, method=methods)
        return geometry.cosine_by_size(self.ds, here, sizes, seed=self.config.seed)

    @step()
    def layers(self) -> pd.DataFrame:
        """One direction over the layers, and heads against the residual stream, in the one space they share."""
        parts = []
        for method in [m for m in ("mean_diff", "ridge", "logistic") if m in self.config.methods]:
            for trait, positive in dict.fromkeys((d.trait, d.positive) for d in self.directions()):
                chosen = self.directions().select(method=method, trait=trait, positive=positive)
                if len(chosen) > 1:
                    table = geometry.across_sites(chosen, self.model)
                    parts.append(table.assign(method=method, trait=trait, positive=positive))
        return pd.concat(parts, ignore_index=True)

    @step()
    def subspaces(self) -> pd.DataFrame:
        """Principal angles between the spaces that class means of two labels span, layer by layer."""
        labels = interp.labels(self.ds)
        names = [name for name in self.config.classes if name in labels.columns]
        rows = []
        x, sites = interp.stack(self.ds, "resid")
        for a, b in combinations(names, 2):
            for values, site in zip(x, sites, strict=True):
                spans = [geometry.class_subspace(values, labels[name].to_numpy()) for name in (a, b)]
                angles = np.degrees(geometry.principal_angles(*spans))
                null = np.degrees(angle_null((len(spans[0]), len(spans[1])), x.shape[2], draws=100))
                where = {"site": str(site), "layer": site.layer, "a": a, "b": b}
                pairs = enumerate(zip(angles, null, strict=True))
                rows += [where | {"rank": rank, "angle": angle, "null": limit} for rank, (angle, limit) in pairs]
        return pd.DataFrame(rows, columns=["site", "layer", "a", "b", "rank", "angle", "null"])

    @step()
    def dimensions(self) -> pd.DataFrame:
        """Held-out score of probes that are orthogonal to all before: how many dimensions carry a trait."""
        x = np.asarray(interp.features(self.ds, self.best))[None]
        parts = []
        for target in self.targets:
            for method in ("ridge", "mean_diff"):
                k = min(8, x.shape[2] - 1)
                _, scores = geometry.orthogonal_probes(x, target, k, method=method, test=self.test)
                parts.append(scores.assign(site=self.best, trait=str(target), method=method))
        return pd.concat(parts, ignore_index=True)

    @step(per="trait", shown=False)
    def heard(self, trait: interp.Trait) -> pd.DataFrame:
        judge = self.judge
        has, lacks = trait.has(self.clips.labels), trait.lacks(self.clips.labels)
        clips = [self.clips[int(i)] for i in np.flatnonzero(has | lacks)]
        hits = np.concatenate([judges.hears(judge, [c.audio], trait, c.sample_rate)["hit"] for c in clips])
        right = int((hits == has[has | lacks]).sum())
        lo, hi = wilson(right, len(clips))
        return pd.DataFrame([{"n": len(clips), "agree": right / len(clips), "lo": float(lo), "hi": float(hi)}])

    def tables(self) -> dict[str, pd.DataFrame]:
        made = super().tables()
        if len(self.targets) > 1:  # a cosine between traits takes two
            made["traits"] = self.of_traits()
        made["summary"] = summarise(made["methods"])
        return made | ({"heard": self.heard.all()} if self.config.judge else {})

    # What comes of it ------------------------------------------------------------------------------------------------

    def answer(self, t: Mapping[str, pd.DataFrame]) -> Iterator[str]:
        rows = t["summary"]
        for row in rows[(rows["a"] == self.config.methods[0]) & (rows["b"] != "random")].itertuples():
            yield (
                f"{row.trait}, {row.kind}: {row.a} and {row.b} have cosine {row.cosine:.2f} (median of "
                f"{row.sites} sites; null {row.null_hi:.2f}, shuffled labels {row.null_permuted:.2f}, ceiling "
                f"{row.ceiling:.2f}), disattenuated {row.disattenuated:.2f}."
            )

    def figures(self, t: Mapping[str, pd.DataFrame]) -> Iterator[Drawing]:
        first = self.config.methods[0]
        yield "# Methods"
        for name, rows in t["methods"].groupby("trait", sort=False):
            heads = rows[rows["kind"] == "heads"]
            chosen = heads[heads["a"].isin(["logistic", "ridge"]) & heads["b"].isin(["ridge", "lda", "mean_diff"])]
            if len(chosen):
                yield f"cosines_{slug(name)}", plots.cosines(chosen, title=name), f"`{name}`: one point a head."
            pair = rows[(rows["a"] == first) & (rows["b"] == "mean_diff")]
            if len(pair):
                label = f"cosine {first}, mean_diff"
                ax = plots.heatmap(pair, "cosine", centre=0.0, label=label, title=name)
                yield f"atlas_{slug(name)}", ax, f"`{name}`: the same pair at every head."
        here = self.directions().select(site=self.best)
        family = geometry.cosine_matrix(here, clustered=True)
        ax = plots.matrix(family, null=float(cosine_null(here[0].dim)), title=f"All methods and traits at {self.best}")
        yield "matrix", ax, f"All pairs at {self.best}, ordered by likeness."
        yield "# Penalties and clips"
        for trait, rows in t["paths"].groupby("trait", sort=False):
            if "angle_lda" in rows and rows["angle_lda"].notna().all():
                yield f"path_{slug(trait)}", plots.path(rows, title=str(trait)), f"`{trait}`: angles along the penalty."
        for trait, rows in t["by_size"].groupby("trait", sort=False):
            ax = plots.by_size(rows, title=f"{trait} at {self.best}")
            yield f"by_size_{slug(trait)}", ax, f"`{trait}`: cosine with the direction of all clips."
        yield "# Layers"
        resid = self.directions().select(kind="resid", method="mean_diff")
        tracked = geometry.cosine_matrix(resid, "residual", model=self.model)
        yield "layers", plots.matrix(tracked, title="Mean differences over the layers"), "The residual stream."
        yield from self._maps(here)

    def _maps(self, here: Directions) -> Iterator[Drawing]:
        for a, b in pairwise([d for d in here if d.method == "mean_diff"]):
            table = geometry.plane(interp.features(self.ds, self.best), self.ds[a.trait].values, a, b)
            table.attrs.update(a=a.trait, b=b.trait)
            caption = f"Clips on the plane of {a.trait} and {b.trait}."
            yield f"plane_{slug(a.trait)}_{slug(b.trait)}", plots.plane(table), caption
        if self.config.umap:
            every = self.directions().select(method=["mean_diff", "ridge"])
            mapped = geometry.map_directions(every, "residual", model=self.model, seed=self.config.seed)
            caption = (
                f"{len(every)} directions; trustworthiness {mapped.attrs['umap_trust']:.2f} (UMAP), "
                f"{mapped.attrs['pca_trust']:.2f} (PCA)."
            )
            yield "map", list(plots.directions_map(mapped)), caption


def summarise(methods: pd.DataFrame) -> pd.DataFrame:
    """Medians over sites, one row per kind of site, trait and pair."""
    groups = methods.groupby(["kind", "trait", "positive", "a", "b"], sort=False)
    names = ["cosine", "cosine_across", "ceiling", "disattenuated", "null_hi", "null_covariance", "null_permuted"]
    table = groups[names].median()
    table.insert(0, "sites", groups.size())
    table["below_one"] = groups.apply(lambda g: float((g["hi"] < 1).mean()), include_groups=False)
    return table.reset_index()


if __name__ == "__main__":
    main(DirectionGeometry)
