"""Activations of a few sites, scaled once, with the statistics of every weighting that will be fitted on them.

Everything the solvers share lives here. Let ``x`` be an activation, ``shift`` and ``scale`` the mean and spread over
all rows of the call (numerical hygiene only), and ``mean_f``, ``spread_f`` the mean and spread of the clips under the
*weights of fold f*: 1 for its training clips and 0 for others, or how often a bootstrap drew each. A probe fitted on
fold-standardised features has weight ``u`` and intercept ``b``,

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

__all__ = ["Design", "weighted_grams"]


class Design:
    """Scaled activations of some sites and their statistics under some weightings of the clips.

    Parameters
    ----------
    x : array of shape (sites, clips, dim)
        Activations; finite.
    weights : array of shape (folds, clips)
        Weight of each clip in each fold; true and false for 1 and 0.
    standardize : bool
        Whether features get unit variance inside the fold; they are centred in any case.
    dtype, device
        Of the arithmetic. Activations of higher precision are centred and scaled in theirs.

    Attributes
    ----------
    x : Tensor of shape (sites, clips, dim)
        Activations minus ``shift`` over ``scale``.
    mean, spread : Tensor of shape (sites, folds, dim)
        Mean and (population) standard deviation under the fold's weights, in scaled coordinates. A feature that is
        constant there has ``inverse`` zero, so that its weight stays exactly zero.
    inverse : Tensor of shape (sites, folds, dim)
        One over ``spread``.
    count : Tensor of shape (folds,)
        Sum of the fold's weights.
    """

    def __init__(
        self,
        x: NDArray[np.floating] | Tensor,
        weights: NDArray[np.floating] | NDArray[np.bool_],
        *,
        standardize: bool = True,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> None:
        if isinstance(x, np.ndarray) and not x.flags.writeable:
            x = x.copy()  # torch warns about memory that it must not write to, and never would here
        raw = torch.as_tensor(x)
        wide = torch.float64 if raw.dtype == torch.float64 else dtype
        raw = raw.to(device=device, dtype=wide)
        self.standardize = standardize
        self.weights = np.asarray(weights)
        self.weight = torch.as_tensor(self.weights, device=device).to(dtype)
        used = torch.as_tensor((self.weights > 0).any(axis=0), device=device)
        rows = raw if bool(used.all()) else raw[:, used]
        # two passes: the mean first, so that features far from the origin lose no digits
        self.shift = rows.mean(dim=1)
        self.x = raw - self.shift[:, None]
        self.count = self.weight.sum(dim=1)
        self.scale = self._extremes() if standardize else torch.ones_like(self.shift)
        masks = torch.cat([used[None].to(wide), self.weight.to(wide)])
        square = self._squares(masks) / masks.sum(1)[:, None]  # [sites, 1 + folds, dim]
        if standardize:
            spread = square[:, 0].sqrt()
            size = self.shift.abs() / self.scale + spread
            scale = torch.where(spread > _CONSTANT[wide] * size, spread, 1.0)
            self.x /= scale[:, None]
            self.scale *= scale
            square = square / scale.square()[:, None]
        self.x, self.scale = self.x.to(dtype), self.scale.to(dtype)
        self.mean = (self.weight @ self.x) / self.count[:, None]
        self.inverse, self.spread = self._spreads(square[:, 1:].to(dtype))

    def _extremes(self) -> Tensor:
        """Bring features whose squares would leave the floating-point range into it, by exact powers of two."""
        size = torch.linalg.vector_norm(self.x, torch.inf, dim=1)
        extreme = (size > 0) & ((size < _SMALL) | (size > 1 / _SMALL))
        scale = torch.where(extreme, torch.exp2(size.log2().floor()), 1.0)
        if bool(extreme.any()):
            self.x /= scale[:, None]
        return scale

    def _squares(self, masks: Tensor) -> Tensor:
        """Sums of squared features over each mask, shape (sites, masks, dim)."""
        out = self.x.new_empty(self.x.shape[0], len(masks), self.x.shape[2])
        square = torch.empty_like(self.x[0])  # one site's: fresh memory costs more than the arithmetic on it
        for site, x in enumerate(self.x):
            torch.mm(masks, torch.mul(x, x, out=square), out=out[site])
        return out

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
        """Rows of weights."""
        return int(self.weight.shape[0])

    @property
    def dtype(self) -> torch.dtype:
        """Of the arithmetic."""
        return self.x.dtype

    def _spreads(self, square: Tensor) -> tuple[Tensor, Tensor]:
        """``(inverse, spread)`` of shape (sites, folds, dim), zero inverse where a feature is constant in the fold."""
        square = square - self.mean.square()
        # relative to the mean square the difference of two near-equal numbers keeps no digit below this
        terms = float((self.weights > 0).sum(1).max())
        rounding = 4 * terms**0.5 * torch.finfo(self.dtype).eps
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
        first = self.weight[:1]
        square = (first @ self.x.square())[:, 0] / self.count[0] - self.mean[:, 0].square()
        return square.mean(-1).clamp_min(torch.finfo(self.dtype).tiny)

    @cached_property
    def gram_all(self) -> Tensor:
        """``x'^T x'`` over all rows, shape (sites, dim, dim): what all folds and label permutations share."""
        return self.x.mT @ self.x

    @cached_property
    def gram(self) -> Tensor:
        """Weighted Gram matrix of the fold-standardised features, float64, shape (sites, folds, dim, dim)."""
        if self.n_folds > _MANY and not bool((self.weight == self.weight[:, :1]).all()):
            gram = weighted_grams(self.x, self.weight).double()
        else:
            gram = torch.stack([self._gram(fold) for fold in range(self.n_folds)], dim=1)
        mean, inverse = self.mean.double(), self.inverse.double()
        gram = gram - self.count.double()[:, None, None] * mean[..., :, None] * mean[..., None, :]
        return gram * inverse[..., :, None] * inverse[..., None, :]

    def _gram(self, fold: int) -> Tensor:
        weights = self.weights[fold]
        amount = float(weights.max())
        if not np.isin(weights, (0, amount)).all():
            return (self.x.mT @ (self.x * self.weight[fold][:, None])).double()
        train = torch.as_tensor(weights > 0, device=self.x.device)
        if bool(train.all()):
            gram = self.gram_all
        elif 2 * int(train.sum()) > self.n_clips:  # the part left out is the smaller one
            rest = self.x[:, ~train]
            gram = self.gram_all - rest.mT @ rest
        else:
            rows = self.x[:, train]
            gram = rows.mT @ rows
        return amount * gram.double()

    def scaled(self, x: NDArray[np.floating] | Tensor) -> Tensor:
        """Other activations of the same sites in the coordinates ``x'``."""
        raw = torch.as_tensor(x).to(self.shift)
        return ((raw - self.shift[:, None]) / self.scale[:, None]).to(self.dtype)

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


def weighted_grams(x: Tensor, weight: Tensor) -> Tensor:
    """``x^T diag(weight_r) x`` of every site and row of weights: (sites, rows, dim, dim)."""
    out = x.new_empty(len(x), len(weight), x.shape[2], x.shape[2])
    step = max(1, _PIECE_BYTES // (x.itemsize * x[0].numel()))
    for site, values in enumerate(x):
        for start in range(0, len(weight), step):
            rows = weight[start : start + step]
            weighted = (values.T[None] * rows[:, None]).flatten(0, 1)  # [rows * dim, clips]
            torch.mm(weighted, values, out=out[site, start : start + step].view(len(weighted), -1))
    return out


_CONSTANT = {torch.float64: 1e-12, torch.float32: 1e-6}
"""Spread over size below which a feature counts as constant: rounding, not signal."""
_SMALL = 1e-9
"""Features smaller than this or larger than its inverse are scaled before they are squared."""
_MANY = 16
"""Rows of weights from which their Gram matrices are one matrix product."""
_PIECE_BYTES = 2**22
"""Bytes of a piece of weighted activations: what stays in a core's cache; larger ones take several times longer."""
