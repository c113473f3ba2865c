"""Activations of a few sites, scaled once, with the statistics of every training part that will be fitted on them.

Everything the solvers share lives here. Let ``x`` be an activation, ``shift`` and ``scale`` the mean and spread over
all rows of the call (numerical hygiene only), and ``mean_f``, ``spread_f`` the mean and spread of the *training rows
of fold f*. A probe fitted on fold-standardised features has weight ``u`` and intercept ``b``,

    z = u . (x' - mean_f) / spread_f + b,        x' = (x - shift) / scale,

so all folds can share the one array ``x'``: standardising inside the fold is only a change of coordinates, exact, and
costs nothing per row.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Design"]


class Design:
    """Scaled activations of some sites and the training statistics of some folds.

    Parameters
    ----------
    x : array of shape (sites, clips, dim)
        Activations; finite.
    train : bool array of shape (folds, clips)
        Rows that each fold trains on.
    standardize : bool
        Whether features get unit variance inside the fold; they are centred in any case.
    dtype, device
        Of the arithmetic.

    Attributes
    ----------
    x : Tensor of shape (sites, clips, dim)
        Activations minus ``shift`` over ``scale``.
    mean, spread : Tensor of shape (sites, folds, dim)
        Mean and (population) standard deviation of the training rows, in scaled coordinates. A feature that is
        constant in the training rows has ``inverse`` zero, so that its weight stays exactly zero.
    inverse : Tensor of shape (sites, folds, dim)
        One over ``spread``.
    count : Tensor of shape (folds,)
        Training rows.
    """

    def __init__(
        self,
        x: NDArray[np.floating] | Tensor,
        train: NDArray[np.bool_],
        *,
        standardize: bool = True,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> None:
        if isinstance(x, np.ndarray) and not x.flags.writeable:
            x = x.copy()  # torch warns about memory that it must not write to, and never would here
        raw = torch.as_tensor(x).to(device=device, dtype=dtype)
        self.standardize = standardize
        self.train_np = np.asarray(train, dtype=bool)
        self.train = torch.as_tensor(self.train_np, device=device).to(dtype)
        used = torch.as_tensor(self.train_np.any(axis=0), device=device)
        rows = raw if bool(used.all()) else raw[:, used]
        # two passes: the mean first, so that features far from the origin lose no digits
        self.shift = rows.mean(dim=1)
        self.x = raw - self.shift[:, None]
        self.count = self.train.sum(dim=1)
        masks = torch.cat([used[None].to(dtype), self.train])
        square = self._squares(masks) / masks.sum(1)[:, None]  # [sites, 1 + folds, dim]
        self.scale = torch.ones_like(self.shift)
        if standardize:
            spread = square[:, 0].sqrt()
            size = self.shift.abs() + spread
            self.scale = torch.where(spread > _CONSTANT[dtype] * size, spread, self.scale)
            self.x /= self.scale[:, None]
        self.mean = (self.train @ self.x) / self.count[:, None]
        self.inverse, self.spread = self._spreads(square[:, 1:] / self.scale.square()[:, None])

    def _squares(self, masks: Tensor) -> Tensor:
        """Sums of squared features over each mask, shape (sites, masks, dim)."""
        out = self.x.new_empty(self.x.shape[0], len(masks), self.x.shape[2])
        square = torch.empty_like(self.x[0])  # one site's: fresh memory costs more than the arithmetic on it
        for site, x in enumerate(self.x):
            torch.mm(masks, torch.mul(x, x, out=square), out=out[site])
        return out

    @cached_property
    def scratch(self) -> Tensor:
        """Flat room for as many numbers as ``x`` has, for whoever needs it last."""
        return self.x.new_empty(self.x.numel())

    @property
    def n_sites(self) -> int:
        """Sites."""
        return int(self.x.shape[0])

    @property
    def n_clips(self) -> int:
        """Rows."""
        return int(self.x.shape[1])

    @property
    def dim(self) -> int:
        """Features."""
        return int(self.x.shape[2])

    @property
    def n_folds(self) -> int:
        """Training parts."""
        return int(self.train.shape[0])

    @property
    def dtype(self) -> torch.dtype:
        """Of the arithmetic."""
        return self.x.dtype

    def _spreads(self, square: Tensor) -> tuple[Tensor, Tensor]:
        """``(inverse, spread)`` of shape (sites, folds, dim), zero inverse where a feature is constant in the fold."""
        square = square - self.mean.square()
        # relative to the mean square the difference of two near-equal numbers keeps no digit below this
        rounding = 4 * self.count.max().sqrt() * torch.finfo(self.dtype).eps  # of a sum of so many
        constant = square <= rounding * (square + 2 * self.mean.square())
        constant |= square <= _CONSTANT[self.dtype] ** 2
        if not self.standardize:
            constant = square <= 0
        spread = square.clamp_min(0).sqrt()
        one = torch.ones_like(spread)
        safe = torch.where(constant, one, spread if self.standardize else one)
        return torch.where(constant, torch.zeros_like(spread), 1 / safe), safe

    @property
    def variance(self) -> Tensor:
        """Mean variance of a scaled feature over the rows of the first fold, shape (sites,)."""
        first = self.train[:1]
        square = (first @ self.x.square())[:, 0] / self.count[0] - self.mean[:, 0].square()
        return square.mean(-1).clamp_min(torch.finfo(self.dtype).tiny)

    @cached_property
    def gram_all(self) -> Tensor:
        """``x'^T x'`` over all rows, shape (sites, dim, dim): what all folds and label permutations share."""
        return self.x.mT @ self.x

    @cached_property
    def gram(self) -> Tensor:
        """Gram matrix of the fold-standardised training rows, float64, shape (sites, folds, dim, dim)."""
        return torch.stack([self._gram(fold) for fold in range(self.n_folds)], dim=1)

    def _gram(self, fold: int) -> Tensor:
        train = torch.as_tensor(self.train_np[fold], device=self.x.device)
        if bool(train.all()):
            gram = self.gram_all
        elif 2 * int(train.sum()) > self.n_clips:  # the part left out is the smaller one
            rest = self.x[:, ~train]
            gram = self.gram_all - rest.mT @ rest
        else:
            rows = self.x[:, train]
            gram = rows.mT @ rows
        mean, inverse = self.mean[:, fold].double(), self.inverse[:, fold].double()
        gram = gram.double() - self.count[fold].double() * mean[:, :, None] * mean[:, None, :]
        return gram * inverse[:, :, None] * inverse[:, None, :]

    def to_scaled(self, u: Tensor, b: Tensor, fold: Tensor) -> tuple[Tensor, Tensor]:
        """Weights on fold-standardised features to weights on ``x'``.

        Parameters
        ----------
        u : Tensor of shape (sites, problems, outputs, dim)
        b : Tensor of shape (sites, problems, outputs)
        fold : long Tensor of shape (problems,)
            Fold of each problem.
        """
        w = u * self.inverse.to(u.dtype)[:, fold, None]
        return w, b - (w * self.mean.to(u.dtype)[:, fold, None]).sum(-1)

    def to_raw(self, w: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Weights on ``x'`` to weights on raw activations, float64."""
        w = w.double() / self.scale.double()[:, None, None]
        return w, b.double() - (w * self.shift.double()[:, None, None]).sum(-1)

    def decision(self, w: Tensor, b: Tensor, rows: Tensor | None = None) -> Tensor:
        """``w . x' + b`` for weights on ``x'``, shape (sites, problems, outputs, clips)."""
        x = self.x if rows is None else self.x[:, rows]
        flat = torch.baddbmm(b.flatten(1)[..., None], w.flatten(1, 2), x.mT)
        return flat.view(*b.shape, -1)


_CONSTANT = {torch.float64: 1e-12, torch.float32: 1e-6}
"""Spread over size below which a feature counts as constant: rounding, not signal."""

