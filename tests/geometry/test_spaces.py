"""Inner products: identities of each, and refusal to compare what lives in different bases."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from interp.directions import Direction, fit
from interp.errors import CheckpointMismatch, DataError, SiteError
from interp.geometry import across_sites, cosine, cosine_matrix
from interp.geometry.nulls import covariance_of
from interp.geometry.spaces import in_space, through_output, unembedding
from interp.model import MusicGen
from interp.sites import Site

Classes = tuple[np.ndarray, np.ndarray]


def direction(rng: np.random.Generator, site: str, dim: int, method: str = "ridge", **fields: str) -> Direction:
    return Direction.from_weight(site, rng.standard_normal(dim), method=method, trait="drums", **fields)


def weight_of(x: np.ndarray, y: np.ndarray, method: str) -> np.ndarray:
    return fit(x[None], (y > 0).astype(int), method=method, shrinkage=0.0, standardize=False).coef[0, 0, 0, 0, 0]


def test_raw_cosines_between_sites_are_refused(rng: np.random.Generator) -> None:
    a, b = direction(rng, "L0.H0", 8), direction(rng, "L0.H1", 8)
    for metric in ("raw", "scores", "whitened"):
        with pytest.raises(SiteError, match="different bases"):
            cosine(a, b, metric, covariance=np.eye(8))
    with pytest.raises(SiteError, match="different bases"):
        cosine(direction(rng, "L0.resid", 8), direction(rng, "L1.resid", 8))
    with pytest.raises(SiteError, match="dim 6"):
        cosine(a, direction(rng, "L0.H0", 6))
    with pytest.raises(CheckpointMismatch, match=r"aaa.*bbb|bbb.*aaa"):
        cosine(replace(a, model="aaa"), replace(direction(rng, "L0.H0", 8), model="bbb"))


def test_whitened_cosine_of_lda_and_mean_difference_is_one(classes: Classes) -> None:
    x, y = classes
    for site in x:
        found = [
            Direction.from_weight("L0.H0", weight_of(site, y, m), method=m)
            for m in ("lda", "mean_diff", "least_squares")
        ]
        for covariance in (covariance_of(site, y), covariance_of(site)):  # within classes or total: the same line
            white = cosine_matrix(found, "whitened", covariance=covariance)
            np.testing.assert_allclose(white, 1.0, atol=1e-9)
        assert cosine(found[0], found[1]) < 0.9


def test_scores_are_correlations_of_projections(classes: Classes, rng: np.random.Generator) -> None:
    x, _ = classes
    a, b = direction(rng, "L0.H0", 12), direction(rng, "L0.H0", 12)
    expected = np.corrcoef(x[0] @ a.vector, x[0] @ b.vector)[0, 1]
    assert cosine(a, b, "scores", covariance=covariance_of(x[0])) == pytest.approx(expected)


def test_whitened_cosine_does_not_depend_on_the_basis(classes: Classes, rng: np.random.Generator) -> None:
    x, y = classes
    mix = rng.standard_normal((12, 12))
    values = []
    for site in (x[0], x[0] @ mix):
        found = [Direction.from_weight("L0.H0", weight_of(site, y, m), method=m) for m in ("lda", "mean_diff")]
        values.append(cosine_matrix(found, "whitened", covariance=covariance_of(site)).to_numpy())
    np.testing.assert_allclose(values[0], values[1], atol=1e-8)


def test_singular_covariance_is_handled(classes: Classes, rng: np.random.Generator) -> None:
    x, _ = classes
    flat = x[0].copy()
    flat[:, 3] = 1.0
    a, b = direction(rng, "L0.H0", 12, "mean_diff"), direction(rng, "L0.H0", 12)
    assert np.isfinite(cosine(a, b, "whitened", covariance=covariance_of(flat)))
    with pytest.raises(DataError, match="do not vary"):
        cosine(a, b, "whitened", covariance=np.zeros((12, 12)))
    axis = Direction("L0.H0", np.eye(12)[3], method="ridge")
    with pytest.raises(DataError, match="no length"):
        cosine(a, axis, "scores", covariance=covariance_of(flat))


def test_missing_pieces_get_a_sentence(rng: np.random.Generator) -> None:
    a = direction(rng, "L0.H0", 8)
    for metric, message in (("whitened", "covariance"), ("residual", "model"), ("euclid", "no inner product")):
        with pytest.raises(DataError, match=message):
            cosine(a, a, metric)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no directions"):
        in_space([])
    with pytest.raises(DataError, match=r"shape \(3, 3\)"):
        cosine(a, a, "scores", covariance=np.eye(3))


@pytest.mark.parametrize("name", ["L1.H2", "L0.X.H3", "L2.resid", "L1.mlp", "embed"])
def test_output_map_is_what_the_block_adds(tiny_lm_model: MusicGen, rng: np.random.Generator, name: str) -> None:
    """A shift of a head's output moves the residual stream by the map, exactly as the projection itself does."""
    site = Site.parse(name)
    d = direction(rng, name, tiny_lm_model.shape.dim(site.kind), model=tiny_lm_model.fingerprint)
    got = through_output([d], tiny_lm_model)[0]
    if site.head is None:
        np.testing.assert_allclose(got, d.vector)
        return
    layer = tiny_lm_model.lm.transformer.layers[site.layer]
    block = layer.cross_attention if site.kind == "cross_heads" else layer.self_attn
    width, dim = tiny_lm_model.shape.width, tiny_lm_model.shape.head_dim
    before = torch.randn(1, width)
    after = before.clone()
    after[0, site.head * dim : (site.head + 1) * dim] += torch.tensor(d.vector, dtype=torch.float32)
    with torch.no_grad():
        moved = (block.out_proj(after) - block.out_proj(before))[0].numpy()
    np.testing.assert_allclose(got, moved, atol=1e-5)


def test_logits_move_along_the_unembedding(tiny_lm_model: MusicGen, rng: np.random.Generator) -> None:
    """For a small push of the last residual, logit changes (centred per codebook) point where the map says."""
    lm, width = tiny_lm_model.lm, tiny_lm_model.shape.width
    last = tiny_lm_model.shape.n_layers - 1
    resid = torch.randn(width, dtype=torch.float64)
    # a push that leaves the norm's spread alone is what the linearised norm describes exactly
    push = torch.tensor(rng.standard_normal(width))
    centred = resid - resid.mean()
    push = push - centred * (push @ centred) / (centred @ centred)
    d = Direction.from_weight(f"L{last}.resid", push.numpy(), model=tiny_lm_model.fingerprint)
    step = 1e-3 * torch.tensor(d.vector)
    with torch.no_grad():

        def logits(h: torch.Tensor) -> np.ndarray:
            out = lm.out_norm(h.float()[None]) if lm.out_norm is not None else h.float()[None]
            return np.stack([linear(out)[0].double().numpy() for linear in lm.linears])

        moved = logits(resid + step) - logits(resid - step)
    moved -= moved.mean(axis=1, keepdims=True)
    told = in_space([d], "logits", model=tiny_lm_model)[0].reshape(moved.shape)
    assert np.corrcoef(moved.ravel(), told.ravel())[0, 1] > 0.999


def test_unembedding_ignores_shifts(tiny_lm_model: MusicGen) -> None:
    matrix = unembedding(tiny_lm_model)
    per_book = matrix.reshape(len(tiny_lm_model.lm.linears), -1, tiny_lm_model.shape.width)
    assert np.abs(per_book.mean(axis=1)).max() < 1e-7
    assert np.abs(matrix.sum(axis=1)).max() < 1e-6


def test_directions_must_fit_the_model(tiny_lm_model: MusicGen, rng: np.random.Generator) -> None:
    with pytest.raises(SiteError, match="layers 0 to 2"):
        through_output([direction(rng, "L7.H0", 8)], tiny_lm_model)
    with pytest.raises(SiteError, match="width 5"):
        through_output([direction(rng, "L0.H0", 5)], tiny_lm_model)
    with pytest.raises(CheckpointMismatch, match="zzz"):
        through_output([direction(rng, "L0.H0", 8, model="zzz")], tiny_lm_model)


def test_across_sites(tiny_lm_model: MusicGen, rng: np.random.Generator) -> None:
    """Heads and residual stream compare in one space; a head's own write compares with itself as one."""
    head = direction(rng, "L1.H2", 8)
    written = Direction.from_weight("L1.resid", through_output([head], tiny_lm_model)[0])
    table = across_sites([head, written, direction(rng, "L0.H0", 8)], tiny_lm_model)
    assert table["cosine"][0] == pytest.approx(1.0)
    assert (table["null_hi"] > 0).all() and (table["null_hi"] < 1).all()
    for metric in ("residual", "logits"):
        across_sites([head, written], tiny_lm_model, metric)
    with pytest.raises(SiteError, match="no common space"):
        across_sites([head, written], tiny_lm_model, "raw")
    with pytest.raises(DataError, match="two or more"):
        across_sites([head], tiny_lm_model)


def test_null_of_two_sites_covers(tiny_lm_model: MusicGen) -> None:
    rng = np.random.default_rng(17)
    pair = [direction(rng, "L0.H1", 8), direction(rng, "L2.H3", 8)]
    limit = across_sites(pair, tiny_lm_model)["null_hi"][0]
    cosines = [
        cosine(direction(rng, "L0.H1", 8), direction(rng, "L2.H3", 8), "residual", model=tiny_lm_model)
        for _ in range(400)
    ]
    assert np.mean(np.abs(cosines) > limit) == pytest.approx(0.05, abs=0.035)
