"""Datasets of activations in which the answer is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy.stats import norm

from interp.probes import Settings, probe
from interp.probes.evaluate import evaluate_sites
from interp.probes.probing import make_split
from interp.stats import max_statistic
from interp.traits import Trait

FRAMES = ("frame:0", "frame:25", "frame:50", "frame:75")


def planted_dataset(
    seed: int = 0,
    *,
    n_groups: int = 60,
    per_group: int = 6,
    layers: int = 3,
    heads: int = 4,
    dim: int = 16,
    strength: float = 2.0,
    site: int = 5,
    group_spread: float = 0.0,
    constant: bool = False,
    pools: tuple[str, ...] = ("mean",),
    from_frame: int = 0,
) -> tuple[xr.Dataset, NDArray[np.float64]]:
    """Noise at every head, and at one of them the trait ``drums`` along a direction, from a frame on.

    Parameters
    ----------
    strength : float
        Distance of the class means, in standard deviations of the noise.
    group_spread : float
        Standard deviation of what all clips of a group have in common.
    constant : bool
        Whether labels are constant within groups.

    Returns
    -------
    ds : xarray.Dataset
        As ``extract`` makes it, with binary ``drums``, categorical ``genre`` (carried by the next head), graded
        ``tempo`` (carried by the head after that), and ``mood``, of which every fourth label is missing.
    direction : array of shape (dim,)
        Unit vector.
    """
    rng = np.random.default_rng(seed)
    n, sites = n_groups * per_group, layers * heads
    group = np.repeat(np.arange(n_groups), per_group)
    drums = (rng.permutation(n_groups) % 2)[group] if constant else rng.permutation(np.arange(n) % 2)
    genre = np.array(["classical", "jazz", "rock"])[(rng.permutation(n_groups) % 3)[group]]
    vectors = rng.normal(size=(3, dim))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    x = rng.normal(size=(n, len(pools), sites, dim)) + group_spread * rng.normal(size=(n_groups, 1, sites, dim))[group]
    x[:, from_frame:, site] += strength * (drums - 0.5)[:, None, None] * vectors[0]
    x[:, :, site + 1] += (
        strength * np.where(genre == "jazz", 1.0, np.where(genre == "rock", -1.0, 0.0))[:, None, None] * vectors[1]
    )
    tempo = 100 + 20 * (x[:, 0, site + 2] @ vectors[2]) + 8 * rng.normal(size=n)
    mood = np.where(np.arange(n) % 4 == 0, np.nan, drums.astype(float))
    ds = xr.Dataset(
        {"heads": (("clip", "pool", "heads_site", "heads_dim"), x.astype(np.float32))},
        coords={
            "clip": [f"clip{i}" for i in range(n)],
            "pool": list(pools),
            "heads_site": [f"L{i // heads}.H{i % heads}" for i in range(sites)],
            "group": ("clip", [f"song{g}" for g in group]),
            "drums": ("clip", drums.astype(bool)),
            "genre": ("clip", genre),
            "tempo": ("clip", tempo),
            "mood": ("clip", mood),
        },
        attrs={
            "made_by": '{"model": {"name": "planted", "fingerprint": "abc123"}}',
            "labels": '["drums", "genre", "tempo", "mood"]',
        },
    )
    return ds, vectors[0]


def interval_covers(seed: int, *, n_groups: int, group_spread: float, constant: bool) -> bool:
    """Whether the 95 % interval of a probe's held-out score holds the accuracy that this probe has on endless data.

    The classes are normal with equal covariance, so that the fitted probe's balanced accuracy is known exactly.
    """
    shape: dict[str, Any] = {"per_group": 4, "layers": 1, "heads": 3, "dim": 8, "strength": 1.5, "site": 0}
    ds, vector = planted_dataset(seed, n_groups=n_groups, group_spread=group_spread, constant=constant, **shape)
    study = probe(
        ds, "drums", sites="L0.H0", methods=("ridge",), folds=3, test_size=0.4, n_permutations=0, n_bootstrap=500,
        seed=seed + 1_000_000, progress=False,
    )  # fmt: skip
    direction = study.directions.one(site="L0.H0", method="ridge")
    along = direction.norm * float(direction.vector @ vector) * 0.75  # means are at -0.75 and 0.75 along the vector
    spread = direction.norm * (1 + group_spread**2) ** 0.5
    truth = (norm.cdf((along + direction.intercept) / spread) + norm.cdf((along - direction.intercept) / spread)) / 2
    row = study.table[study.table["site"] == "L0.H0"].iloc[0]
    return bool(row["lo"] <= truth <= row["hi"])


#: Group sizes of the designs of labels that have a null of their own.
DESIGNS = ("equal sizes", "unequal sizes", "unequal sizes and rates", "two sizes", "constant", "constant, unequal")


def _design(name: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Group of each clip, and labels that say nothing of the activations."""
    sizes = np.full(40, 4)
    if "unequal" in name:
        sizes = rng.integers(1, 20 if "rates" in name else 8, 60 if "constant" in name else 40)
    elif name == "two sizes":
        sizes = np.r_[np.full(25, 1), np.full(15, 10)]
    groups = np.repeat(np.arange(len(sizes)), sizes)
    if "constant" in name:
        return groups, (rng.permutation(len(sizes)) % 2)[groups]
    rate = rng.beta(1, 1, len(sizes))[groups] if "rates" in name else 0.5
    return groups, (rng.random(len(groups)) < rate).astype(int)


def family_wise_hit(seed: int, design: str) -> bool:
    """Whether any of some heads without signal is significant at 5 %, with songs that differ in their activations."""
    rng = np.random.default_rng([seed, 77])
    groups, y = _design(design, rng)
    songs = 2.0 * rng.normal(size=(int(groups.max()) + 1, 12, 8))[groups]
    x = (songs + rng.normal(size=songs.shape)).swapaxes(0, 1)
    labels = Trait("y").read(pd.Series(y, name="y"))
    split = make_split(labels, groups, Settings(folds=4, n_permutations=99, seed=seed, l2=(0.1, 1.0)))
    result = evaluate_sites(x, "ridge", split)
    return bool(max_statistic(result.test_score, result.null).p_max.min() <= 0.05)


DIM = 5


def planted_rules(n: int = 40, cost: float = 1.0, traits: tuple[str, ...] = ("drums", "genre=jazz")) -> pd.DataFrame:
    """Clips of two rules with equal success at half the strength, of which ITI costs ``cost`` per hit and SMITIN none.

    Noise is shared between arms of a seed, as it is between twins.
    """
    rng = np.random.default_rng(0)
    parts = []
    for trait in traits:
        luck, noise = rng.random(n), rng.standard_normal((n, DIM))
        for arm, strengths in (("unsteered", (0.0,)), ("ITI", (1.0, 2.0, 3.0)), ("SMITIN", (2.0, 4.0))):
            for a in strengths:
                rate = 0.1 + 0.3 * (a if arm == "ITI" else a / 2)
                shift = cost * (rate - 0.1) if arm == "ITI" else 0.0
                table = pd.DataFrame(noise + shift, columns=[f"e{i}" for i in range(DIM)])
                table.insert(0, "hit", luck < rate)
                table = table.assign(
                    trait=trait, task="continuation", arm=arm, dose=a, seed=np.arange(n), not_music=False, acted=0.5,
                    level=0.2, similarity=0.9 - shift / 10, probe=0.7,
                )  # fmt: skip
                parts.append(table)
    return pd.concat(parts, ignore_index=True).sample(frac=1, random_state=1)  # the order must not matter


REFERENCE = {
    (t, "continuation"): np.random.default_rng(3).standard_normal((300, DIM)) for t in ("drums", "genre=jazz", "bass")
}
