"""One sparse probe on all sites together: does the trait live in few heads?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from interp import metrics
from interp.directions.reading import Stack, check_finite, clip_groups, read_labels, read_stacks
from interp.errors import DataError
from interp.probes.evaluate import Plan
from interp.probes.resample import weighted_scores
from interp.probes.study import make_plan
from interp.sites import Site
from interp.stats import bootstrap_interval, group_weights
from interp.traits import Labels, TraitKind

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["JointStudy", "joint_probe", "joint_probe_arrays", "sparse_path"]


@dataclass(frozen=True)
class JointStudy:
    """A sparse probe on all sites.

    Attributes
    ----------
    path : DataFrame
        One row per penalty, strongest first: ``penalty, n_sites`` (with a weight), ``cv_score, cv_se, test_score,
        lo, hi, chance, converged``; ``best`` has the best cross-validated score, ``chosen`` is the sparsest within
        one standard error of it.
    weights : DataFrame
        One row per site: ``site, kind, layer, head, norm`` (of its weights on standardised features in the chosen
        probe), ``enters`` (the strongest penalty at which it has a weight; NaN if none).
    """

    path: pd.DataFrame
    weights: pd.DataFrame

    @property
    def selected(self) -> list[str]:
        """Sites with a weight in the chosen probe, largest first."""
        rows = self.weights[self.weights["norm"] > 0].sort_values("norm", ascending=False, kind="stable")
        return list(rows["site"])


def sparse_path(
    x: Tensor,
    y: Tensor,
    blocks: Tensor,
    penalties: Sequence[float],
    *,
    graded: bool,
    tol: float = 1e-4,
    max_iter: int = 2000,
) -> tuple[Tensor, Tensor, list[bool]]:
    """Group-lasso path of a logistic, softmax or least-squares model.

    Minimises ``mean loss + penalty * sum_g sqrt(size_g) * |W_g|`` with a free intercept by accelerated proximal
    gradient (FISTA with restarts), each penalty starting from the last. Blocks of one feature give the lasso.

    Parameters
    ----------
    x : Tensor of shape (clips, features)
        Standardised features.
    y : Tensor of shape (clips, outputs)
        0/1 (one output), one-hot, or numbers (``graded``).
    blocks : long Tensor of shape (features,)
        Block of each feature, from 0.
    penalties : sequence of float
        In falling order.

    Returns
    -------
    weights : Tensor of shape (penalties, outputs, features)
    intercepts : Tensor of shape (penalties, outputs)
    converged : list of bool
    """
    clips, features = x.shape
    outputs = y.shape[1]
    n_blocks = int(blocks.max()) + 1
    size = torch.bincount(blocks, minlength=n_blocks).to(x.dtype).sqrt()
    v = torch.ones(features, dtype=x.dtype, device=x.device)
    for _ in range(30):  # largest eigenvalue of X^T X / n, for the step
        v = x.T @ (x @ v)
        v /= v.norm()
    largest = float((x @ v).square().sum()) / clips * 1.02
    curvature = 1.0 if graded else 0.25 if outputs == 1 else 0.5
    step = 1 / (curvature * max(largest, 1.0))
    w = x.new_zeros(outputs, features)
    b = y.mean(0) if graded else torch.logit(y.mean(0)) if outputs == 1 else y.mean(0).log()

    def residual(w: Tensor, b: Tensor) -> Tensor:
        z = x @ w.T + b
        return (z if graded else z.sigmoid() if outputs == 1 else z.softmax(1)) - y

    weights, intercepts, flags = [], [], []
    for penalty in penalties:
        ahead_w, ahead_b, momentum, ok = w, b, 1.0, False
        for _ in range(max_iter):
            r = residual(ahead_w, ahead_b) / clips
            moved = ahead_w - step * (r.T @ x)
            norm = x.new_zeros(n_blocks).index_add(0, blocks, moved.square().sum(0)).sqrt()
            shrink = (1 - step * penalty * size / norm.clamp_min(1e-30)).clamp_min(0)
            new_w, new_b = moved * shrink[blocks], ahead_b - step * r.sum(0)
            change_w, change_b = new_w - w, new_b - b
            # restart the momentum where it points uphill (O'Donoghue and Candes 2015)
            uphill = float(((ahead_w - new_w) * change_w).sum() + ((ahead_b - new_b) * change_b).sum()) > 0
            following = 1.0 if uphill else (1 + (1 + 4 * momentum**2) ** 0.5) / 2
            factor = 0.0 if uphill else (momentum - 1) / following
            ahead_w, ahead_b = new_w + factor * change_w, new_b + factor * change_b
            w, b, momentum = new_w, new_b, following
            length = float(w.square().sum() + b.square().sum()) ** 0.5
            if float(change_w.square().sum() + change_b.square().sum()) ** 0.5 <= tol * max(length, 1e-3):
                ok = True
                break
        weights.append(w)
        intercepts.append(b)
        flags.append(ok)
    return torch.stack(weights), torch.stack(intercepts), flags


def joint_probe(
    ds: xr.Dataset,
    trait: str,
    *,
    sites: str | Site | Iterable[str | Site] = "heads",
    pool: str | None = None,
    sparsity: Literal["group", "l1"] = "group",
    n_penalties: int = 12,
    weakest: float = 0.02,
    folds: int = 5,
    test_size: float = 0.25,
    n_bootstrap: int = 1000,
    seed: int = 0,
    kind: TraitKind | None = None,
    score: str | None = None,
    device: str = "cpu",
) -> JointStudy:
    """Fit one probe on all sites together that uses as few of them as possible.

    Parameters
    ----------
    sparsity : {"group", "l1"}
        Whole sites are dropped (group lasso), or single features (lasso).
    n_penalties, weakest : int, float
        Length of the path, from the penalty at which nothing enters down to this share of it.
    ds, trait, sites, pool, folds, test_size, n_bootstrap, seed, kind, score, device
        As for :func:`interp.probes.probe`, with the same split for the same seed.

    Returns
    -------
    JointStudy
    """
    labels = read_labels(ds, trait, kind)
    return joint_probe_arrays(
        read_stacks(ds, sites, pool),
        labels,
        clip_groups(ds),
        sparsity=sparsity,
        n_penalties=n_penalties,
        weakest=weakest,
        folds=folds,
        test_size=test_size,
        n_bootstrap=n_bootstrap,
        seed=seed,
        score=score,
        device=device,
    )


def joint_probe_arrays(
    stacks: Sequence[Stack],
    trait: Labels,
    groups: NDArray[np.generic],
    *,
    sparsity: Literal["group", "l1"] = "group",
    n_penalties: int = 12,
    weakest: float = 0.02,
    folds: int = 5,
    test_size: float = 0.25,
    n_bootstrap: int = 1000,
    seed: int = 0,
    score: str | None = None,
    device: str = "cpu",
) -> JointStudy:
    """:func:`joint_probe` for plain arrays."""
    if sparsity not in ("group", "l1"):
        raise DataError(f"no sparsity is called {sparsity!r}: use group or l1.")
    if n_penalties < 2 or not 0 < weakest < 1:
        raise DataError(f"a path of {n_penalties} penalties down to {weakest}: give two or more, and a share below 1.")
    keep = trait.keep
    plan = make_plan(
        trait, np.asarray(groups)[keep], folds=folds, test_size=test_size, n_permutations=0, seed=seed, score=score
    )
    parts: list[NDArray[np.floating]] = []
    owner: list[NDArray[np.intp]] = []
    all_sites = [(stack.kind, site) for stack in stacks for site in stack.sites]
    for stack in stacks:
        x = stack.x[:, keep]
        check_finite(x, stack.sites, np.flatnonzero(keep))
        before = sum(len(s.sites) for s in stacks[: len(owner)])
        parts.append(x.swapaxes(0, 1).reshape(x.shape[1], -1))
        owner.append(np.repeat(np.arange(len(x)) + before, x.shape[2]))
    x_all = torch.as_tensor(np.concatenate(parts, axis=1).astype(np.float32), device=device)
    site_of = torch.as_tensor(np.concatenate(owner), device=device)
    blocks = site_of if sparsity == "group" else torch.arange(len(site_of), device=device)
    targets = _targets(plan, device)
    train = ~plan.test
    top = _strongest(x_all, targets, blocks, train)
    penalties = [float(p) for p in np.geomspace(top, weakest * top, n_penalties)]

    def fit(rows: NDArray[np.bool_], unseen: NDArray[np.bool_]) -> tuple[Tensor, Tensor, list[bool]]:
        x, scaled = _standardised(x_all, rows)
        w, b, ok = sparse_path(x, targets[torch.as_tensor(rows)], blocks, penalties, graded=plan.graded)
        decision = torch.einsum("pkd,nd->pkn", w, scaled[torch.as_tensor(unseen)]) + b[..., None]
        return decision, w, ok

    y = torch.as_tensor(plan.y, device=device)
    cv = []
    for k in range(int(plan.fold.max()) + 1):
        held = plan.fold == k
        decision, _, _ = fit(train & ~held, held)
        cv.append(metrics.score(plan.score, decision, y[torch.as_tensor(held)]).double())
    cv_scores = torch.stack(cv)
    decision, w, converged = fit(train, plan.test)
    test_score = metrics.score(plan.score, decision, y[torch.as_tensor(plan.test)]).double()
    norms = torch.zeros(len(penalties), len(all_sites), dtype=torch.float64)
    norms = norms.index_add(1, site_of.cpu(), w.double().square().sum(1).cpu()).sqrt()
    mean = cv_scores.mean(0)
    error = cv_scores.std(0) / len(cv) ** 0.5
    best = int(mean.argmax())
    chosen = int((mean >= mean[best] - error[best]).nonzero()[0])
    lo = hi = np.full(len(penalties), np.nan)
    if n_bootstrap:
        test_groups = plan.groups[plan.test]
        resample = group_weights(test_groups, n_bootstrap, np.random.default_rng([seed, 2]))
        draws = weighted_scores(plan.score, decision.double().cpu().numpy(), plan.y[plan.test], resample)
        lo, hi = bootstrap_interval(draws, len(np.unique(test_groups)))
    path = pd.DataFrame(
        {
            "penalty": penalties,
            "n_sites": (norms > 0).sum(1).numpy(),
            "cv_score": mean.cpu().numpy(),
            "cv_se": error.cpu().numpy(),
            "test_score": test_score.cpu().numpy(),
            "lo": lo,
            "hi": hi,
            "chance": plan.chance,
            "converged": converged,
            "best": np.arange(len(penalties)) == best,
            "chosen": np.arange(len(penalties)) == chosen,
        }
    )
    entered = (norms > 0).numpy()
    weights = pd.DataFrame(
        {
            "site": [str(site) for _, site in all_sites],
            "kind": [name for name, _ in all_sites],
            "layer": [site.layer for _, site in all_sites],
            "head": pd.array([site.head for _, site in all_sites], dtype="Int64"),
            "norm": norms[chosen].numpy(),
            "enters": np.where(entered.any(0), np.array(penalties)[entered.argmax(0)], np.nan),
        }
    )
    return JointStudy(path, weights)


def _targets(plan: Plan, device: str) -> Tensor:
    y = torch.as_tensor(plan.y, device=device)
    if plan.graded or plan.outputs == 1:
        return y.to(torch.float32)[:, None]
    return torch.nn.functional.one_hot(y.long(), plan.outputs).to(torch.float32)


def _standardised(x: Tensor, rows: NDArray[np.bool_]) -> tuple[Tensor, Tensor]:
    """Training rows and all rows, scaled by the training rows."""
    chosen = torch.as_tensor(rows, device=x.device)
    part = x[chosen]
    mean, spread = part.mean(0), part.std(0, correction=0)
    constant = spread <= 1e-6 * (mean.abs() + spread)
    scaled = (x - mean) / torch.where(constant, torch.ones_like(spread), spread)
    scaled[:, constant] = 0
    return scaled[chosen], scaled


def _strongest(x: Tensor, y: Tensor, blocks: Tensor, train: NDArray[np.bool_]) -> float:
    """The smallest penalty at which every weight is zero."""
    part, _ = _standardised(x, train)
    target = y[torch.as_tensor(train, device=y.device)]
    gradient = (target - target.mean(0)).T @ part / len(part)
    n_blocks = int(blocks.max()) + 1
    norm = gradient.new_zeros(n_blocks).index_add(0, blocks, gradient.square().sum(0)).sqrt()
    size = torch.bincount(blocks, minlength=n_blocks).to(norm.dtype).sqrt()
    return float((norm / size).max())
