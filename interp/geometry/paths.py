"""Directions as curves: what happens to a direction as its regulariser changes.

Ridge with a growing penalty leaves the regression direction (which for two classes is that of linear discriminant
analysis) and ends at the mean difference, in the basis in which the penalty is round. So one cosine between
'regression' and 'classification' says little: this table gives it along both paths.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from numpy.typing import NDArray

from interp import metrics
from interp.directions import registry
from interp.directions.dataset import targets_of
from interp.directions.fitting import fit
from interp.directions.reading import read_stacks
from interp.directions.registry import find
from interp.directions.targets import Target
from interp.errors import DataError
from interp.sites import Site
from interp.traits import Trait

__all__ = ["PENALTIES", "path_table", "paths_of", "scores"]

Array = NDArray[np.float64]
PENALTIES: tuple[float, ...] = tuple(float(f"{v:.3g}") for v in np.logspace(-3, 7, 21))
"""Penalties as scikit-learn counts them, from none to all: ``alpha`` of ridge, ``1 / C`` of logistic regression."""


def path_table(
    ds: xr.Dataset,
    trait: str | Trait,
    *,
    sites: str | Site | Iterable[str | Site] = "heads",
    pool: str | None = None,
    penalties: Sequence[float] = PENALTIES,
    methods: Sequence[str] | None = None,
    references: Sequence[str] | None = None,
    test: NDArray[np.bool_] | None = None,
    device: str = "cpu",
) -> pd.DataFrame:
    """Cosine of the directions along a path of penalties with fixed directions, and what the path detects.

    Parameters
    ----------
    ds : xarray.Dataset
        Activations with labels, from :func:`interp.extract`.
    trait : str or Trait
        A label of two classes or of numbers, or one class of it.
    sites : str, Site or iterable of them
        Where.
    pool : str, optional
        Which pooling; may be left out when there is one, or when ``"mean"`` is among them.
    penalties : sequence of float
        Greater than zero.
    methods : sequence of str, optional
        Methods with an ``l2`` penalty; ridge and logistic when not given, ridge alone for numbers.
    references : sequence of str, optional
        Methods without one to compare with: the mean difference, and LDA without shrinkage (for numbers least squares).
    test : bool array of shape (clips,), optional
        Clips held out: all fits use the others, and the area under the ROC curve (for numbers the correlation) is
        measured on these.
    device : str
        Where to compute.

    Returns
    -------
    DataFrame
        One row per site, method and penalty: ``angle_<reference>`` in degrees, ``cosine_<reference>``, ``sigma`` (the
        spread of the clips along the direction) and, with ``test``, ``score``.

    Raises
    ------
    SiteError, DataError
        If the dataset lacks a site or a label, the label has several classes, a method has no path, a penalty is not
        positive, or the held-out clips hold one class.

    Examples
    --------
    >>> import interp
    >>> tones = [np.sin(np.arange(4000) / (5 + 5 * (i % 2))) * (i + 4) / 32 for i in range(24)]
    >>> clips = interp.Clips.from_arrays(tones, 16_000, {"high": [1 - i % 2 for i in range(24)]})
    >>> ds = interp.extract(interp.load("tiny", device="cpu"), clips, sites="L3.resid", progress=False)
    >>> table = path_table(ds, "high", sites="resid", penalties=(1.0, 1e6), methods=("ridge",))
    >>> bool(table["angle_mean_diff"].is_monotonic_decreasing)  # a large penalty ends at the mean difference
    True
    """
    targets = targets_of(ds, trait)
    if len(targets) != 1:
        raise DataError(f"{str(trait)!r} has several classes, a path for each: name one, as in {targets[0]}.")
    (target,) = targets
    methods = methods or (("ridge",) if target.graded else ("ridge", "logistic"))
    references = references or ("least_squares" if target.graded else "lda", "mean_diff")
    options: dict[str, Any] = {"penalties": penalties, "methods": methods, "references": references}
    stacks = read_stacks(ds, sites, pool)
    tables = [paths_of(stack.x, target, stack.sites, test=test, device=device, **options) for stack in stacks]
    return pd.concat(tables, ignore_index=True)


def paths_of(
    x: NDArray[np.floating],
    target: Target,
    sites: Sequence[object],
    *,
    penalties: Sequence[float] = PENALTIES,
    methods: Sequence[str] = ("ridge", "logistic"),
    references: Sequence[str] = ("lda", "mean_diff"),
    test: NDArray[np.bool_] | None = None,
    standardize: bool | None = None,
    device: str = "cpu",
) -> pd.DataFrame:
    """:func:`path_table` of activations and a target that were put together already.

    Parameters
    ----------
    x : array of shape (sites, clips, dim)
        Activations.
    target : Target
        What is looked for, from :func:`interp.directions.dataset.targets_of`.
    sites : sequence
        Names of the sites.
    penalties : sequence of float
        Penalties, greater than zero.
    methods : sequence of str
        Methods with an ``l2`` penalty.
    references : sequence of str
        Methods without one to compare with; LDA without shrinkage.
    test : bool array of shape (clips,), optional
        Clips held out: all fits use the others, and the area under the ROC curve (graded: the correlation) is measured
        on these.
    standardize, device
        As for :func:`interp.directions.fit`.

    Returns
    -------
    DataFrame
        One row per site, method and penalty: ``angle_<reference>`` in degrees, ``cosine_<reference>``, ``sigma`` (the
        spread of the clips along the direction) and ``score``.

    Raises
    ------
    DataError
        If a method has no path, a penalty is not positive, or the held-out clips hold one class.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from interp.directions.targets import make_targets
    >>> rng = np.random.default_rng(0)
    >>> (target,) = make_targets(pd.DataFrame({"drums": [0, 1] * 20}), ["drums"])
    >>> x = rng.normal(size=(1, 40, 4)) + 3 * np.eye(4)[0] * np.tile([0, 1], 20)[:, None]
    >>> table = paths_of(x, target, ["L0.resid"], penalties=(0.01, 100.0), methods=("ridge",))
    >>> table["angle_mean_diff"].round().tolist()
    [7.0, 9.0]
    """
    for name in methods:
        if find(name).penalty != "l2":
            known = ", ".join(n for n in registry.methods(penalised=True) if find(n).penalty == "l2")
            raise DataError(f"{name!r} has no penalty and so no path: ask for {known}.")
    if min(penalties) <= 0:
        raise DataError(f"a penalty of {min(penalties)} is not on a path: give numbers greater than zero.")
    inner = target if test is None else target.within(~np.asarray(test, bool))
    held = None if test is None else target.within(np.asarray(test, bool))
    seen = np.asarray(x[:, inner.used], dtype=np.float64)
    options: dict[str, Any] = {"standardize": standardize, "device": device, "graded": target.graded}

    def vectors(name: str, **amounts: Any) -> Array:
        """Of shape (sites, penalties, dim)."""
        return fit(seen, inner.y, method=name, **amounts, **options).unit(output=target.output)[:, :, 0, 0]

    fixed = {name: vectors(name, shrinkage=0.0) for name in references}
    tables = []
    for name in methods:
        path = vectors(name, l2=penalties)
        table: dict[str, Any] = {
            "site": np.repeat([str(site) for site in sites], len(penalties)),
            "method": name,
            "penalty": np.tile(np.asarray(penalties, dtype=float), len(sites)),
            "sigma": (seen @ path.swapaxes(1, 2)).std(axis=1, ddof=1).ravel(),
        }
        for reference, vector in fixed.items():
            cosine = np.clip((path * vector).sum(axis=-1), -1, 1)
            table[f"cosine_{reference}"] = cosine.ravel()
            table[f"angle_{reference}"] = np.degrees(np.arccos(cosine)).ravel()
        if held is not None:
            table["score"] = scores(np.asarray(x[:, held.used], dtype=np.float64), path, held).ravel()
        tables.append(pd.DataFrame(table))
    return pd.concat(tables, ignore_index=True)


def scores(x: Array, vectors: Array, target: Target) -> Array:
    """Area under the ROC curve along directions, or correlation with numbers, of shape (sites, directions).

    Parameters
    ----------
    x : array of shape (sites, clips, dim)
        Activations of the clips that take part.
    vectors : array of shape (sites, directions, dim)

    Raises
    ------
    DataError
        If the clips have one class only.
    """
    along = vectors @ x.swapaxes(1, 2)  # [sites, directions, clips]
    if target.hit is None:
        numbers = (target.y - target.y.mean()) / target.y.std()
        spread = along.std(axis=-1)
        return np.asarray((along @ numbers) / len(numbers) / np.where(spread > 0, spread, np.nan))
    if len(np.unique(target.hit)) < 2:
        raise DataError("the held-out clips have one class only: hold out more of them.")
    return np.asarray(metrics.auroc(torch.as_tensor(along)[:, :, None], torch.as_tensor(target.hit)).numpy())
