"""Activations with known geometry."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import xarray as xr

Dataset = Callable[..., xr.Dataset]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def classes(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Unbalanced classes with anisotropic, correlated noise at 3 sites: x (3, 400, 12) and y of +1/-1."""
    y = np.where(np.arange(400) % 5 == 0, 1.0, -1.0)
    mixing = np.linalg.qr(rng.standard_normal((3, 12, 12)))[0] * np.geomspace(0.2, 3, 12)[None, :, None]
    x = rng.standard_normal((3, 400, 12)) @ mixing + 2.0
    x += (y[None, :, None] > 0) * rng.standard_normal((3, 1, 12)) * 0.6
    return x, y


@pytest.fixture
def dataset() -> Dataset:
    """Build a dataset as extraction returns it: heads of width 8 and a residual stream of width 16."""

    def build(n: int = 240, strength: float = 1.5, seed: int = 0, group_size: int = 4, **columns: object) -> xr.Dataset:
        rng = np.random.default_rng(seed)
        group = np.arange(n) // group_size
        table = pd.DataFrame(
            {
                "drums": rng.integers(0, 2, n),
                "genre": rng.choice(["jazz", "rock", "pop"], n),
                "tempo": rng.uniform(60, 180, n),
                **columns,
            }
        )
        one_hot = (table["genre"].to_numpy()[:, None] == np.array(["jazz", "rock", "pop"])).astype(float)
        causes = np.column_stack([table["drums"], one_hot, (table["tempo"] - 120) / 60])
        variables: dict[str, tuple[tuple[str, ...], np.ndarray]] = {}
        coords: dict[str, object] = {"clip": [f"c{i}" for i in range(n)], "pool": ["mean"]}
        for kind, sites, dim in (
            ("heads", ["L0.H0", "L0.H1", "L1.H0", "L1.H1"], 8),
            ("resid", ["L0.resid", "L1.resid"], 16),
        ):
            maps = rng.standard_normal((len(sites), causes.shape[1], dim)) / np.sqrt(dim)
            noise = rng.standard_normal((n, 1, len(sites), dim)) * np.linspace(0.3, 1.2, dim)
            signal = np.einsum("nc,scd->nsd", causes, maps)[:, None]
            variables[kind] = (("clip", "pool", f"{kind}_site", f"{kind}_dim"), (strength * signal + noise + 1.0))
            coords[f"{kind}_site"] = sites
        ds = xr.Dataset(variables, coords=coords)
        ds = ds.assign_coords({name: ("clip", table[name].to_numpy()) for name in table} | {"group": ("clip", group)})
        ds.attrs["labels"] = json.dumps(list(table.columns))
        ds.attrs["made_by"] = json.dumps({"model": {"name": "made up", "fingerprint": "abc123"}})
        return ds

    return build
