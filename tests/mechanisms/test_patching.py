"""Patching: identities, and equality to one full trace for every site."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
import torch
from torch import Tensor

from interp.backends.audiocraft import DelayedPatternProvider, align_logits
from interp.backends.build import random_musicgen
from interp.directions import Direction
from interp.errors import DataError, ModelError, SiteError
from interp.mechanisms import Heard, Metric, hear, likelihood, patch, ratio, reading
from interp.mechanisms.effects import exchange_p
from interp.mechanisms.heard import partners
from interp.mechanisms.patching import Plan, _difference, _patched, make_plan, run_of
from interp.model import Forward, MusicGen
from interp.sites import Site, select_sites

FRAMES = 12


@pytest.fixture(scope="module")
def music(tiny_lm_model: MusicGen) -> Tensor:
    return torch.randint(0, tiny_lm_model.cardinality, (8, 4, FRAMES), generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def texts(tiny_lm_model: MusicGen, music: Tensor) -> tuple[Heard, Heard]:
    """Pairs that differ in their text alone."""
    model = tiny_lm_model
    return hear(model, music[:4], ["a", "b", "c", "d"]), hear(model, music[:4], ["e", "f", "g", "h"])


@pytest.fixture(scope="module")
def pieces(tiny_lm_model: MusicGen, music: Tensor) -> tuple[Heard, Heard]:
    """Pairs that differ in the first half of their music."""
    other = music[4:].clone()
    other[..., FRAMES // 2 :] = music[:4, :, FRAMES // 2 :]
    return hear(tiny_lm_model, music[:4], "a"), hear(tiny_lm_model, other, "a")


def traced(
    model: MusicGen, own: Heard, other: Heard, site: Site, metric: Metric, clean: Tensor, corrupt: Tensor,
    steps: range | None = None,
) -> np.ndarray:  # fmt: skip
    """The metric of a run with one activation of another, from one plain trace of everything."""
    with model.trace(codes=other.codes, text=list(other.texts)):
        value = model[site].clone().save()
    at = range(value.shape[1]) if steps is None else steps
    seen = torch.zeros(1, 0)
    with model.trace(codes=own.codes, text=list(own.texts)):
        live = model[site].clone()
        live[:, at.start : at.stop] = value[:, at.start : at.stop]
        model[site] = live
        if metric.sites:
            seen = model[metric.sites[0]].clone().save()
        logits = model.output.save()
    aligned = align_logits(model.lm, logits.float(), own.n_frames)
    values = dict.fromkeys(metric.sites, seen[:, 1 : own.n_frames + 1])
    return metric.measure(Forward(aligned, values), clean, corrupt).numpy()


ALL = "embed, heads, attn, cross_heads, cross, mlp, resid"


@pytest.mark.parametrize("how", ["denoise", "noise"])
def test_patching_equals_one_full_trace_for_each_site(
    tiny_lm_model: MusicGen, pieces: tuple[Heard, Heard], how: str
) -> None:
    clean, corrupt = pieces
    result = patch(tiny_lm_model, clean, corrupt, "ratio", ALL, how=how, counted=(0, 0.12), null=False)
    metric = Metric("x", lambda f, a, b: ratio().measure(Forward(f.logits[:, :, :6]), a[..., :6], b[..., :6]))
    own, other = (corrupt, clean) if how == "denoise" else (clean, corrupt)
    before = result.corrupt if how == "denoise" else result.clean
    sites = select_sites(ALL, tiny_lm_model.shape)
    assert [str(site) for site in sites] == result.table["site"].tolist()
    for site, change in zip(sites, result.changes, strict=True):
        expected = traced(tiny_lm_model, own, other, site, metric, clean.codes, corrupt.codes) - before
        np.testing.assert_allclose(change, expected if how == "denoise" else -expected, atol=2e-5, err_msg=str(site))
    assert np.abs(result.changes).max() > 1e-3


def test_windows_are_patched_alone(tiny_lm_model: MusicGen, pieces: tuple[Heard, Heard]) -> None:
    clean, corrupt = pieces
    windows = [(0.02, 0.1), (0.1, 0.2)]
    result = patch(
        tiny_lm_model, clean, corrupt, "ratio", "L1.H2, L0.resid", positions=windows, counted=(0, 0.12), null=False
    )
    assert result.table[["site", "start", "stop"]].to_numpy().tolist() == [
        ["L0.resid", 0.02, 0.1], ["L0.resid", 0.1, 0.2], ["L1.H2", 0.02, 0.1], ["L1.H2", 0.1, 0.2],
    ]  # fmt: skip
    metric = Metric("x", lambda f, a, b: ratio().measure(Forward(f.logits[:, :, :6]), a[..., :6], b[..., :6]))
    for i, row in enumerate(result.table.itertuples()):
        steps = range(round(row.start * 50), round(row.stop * 50))
        expected = traced(
            tiny_lm_model, corrupt, clean, Site.parse(row.site), metric, clean.codes, corrupt.codes, steps
        )
        np.testing.assert_allclose(result.changes[i], expected - result.corrupt, atol=2e-5)


def test_a_probe_further_on_is_a_metric(tiny_lm_model: MusicGen, texts: tuple[Heard, Heard]) -> None:
    clean, corrupt = texts
    rng = np.random.default_rng(0)
    for where, sites in (
        ("L2.H1", "L0.cross, L1.H0"),
        ("L1.resid", "L0.resid, L1.cross_heads"),
        ("L2.resid", "L2.mlp"),
    ):
        width = 8 if "H" in where else 32
        metric = reading(Direction.from_weight(where, rng.standard_normal(width), intercept=0.5))
        result = patch(tiny_lm_model, clean, corrupt, metric, sites, null=False)
        for site, change in zip(result.table["site"], result.changes, strict=True):
            expected = traced(tiny_lm_model, corrupt, clean, Site.parse(site), metric, clean.codes, corrupt.codes)
            np.testing.assert_allclose(change, expected - result.corrupt, atol=2e-5)


def test_patching_a_site_with_itself_changes_nothing(tiny_lm_model: MusicGen, texts: tuple[Heard, Heard]) -> None:
    clean, _ = texts
    never = Metric("x", lambda f, a, b: likelihood().measure(f, a, b) + torch.arange(len(a)))
    twin = Heard(clean.codes, clean.texts)
    model, sites = tiny_lm_model, tuple(select_sites(ALL, tiny_lm_model.shape))
    plan = Plan(model, clean, twin, never, sites, (range(15),), ((0, 0.3),), range(12), "denoise", "text")
    own = run_of(plan, range(4), "own")
    changes = _patched(plan, range(4), own, run_of(plan, range(4), "other"))
    assert np.abs(changes).max() < 2e-6


def test_all_heads_of_a_layer_are_the_layer(tiny_lm_model: MusicGen, texts: tuple[Heard, Heard]) -> None:
    """Deltas of heads sum to that of their block; the whole residual stream at the last layer is the other run."""
    clean, corrupt = texts
    plan = make_plan(
        tiny_lm_model, clean, corrupt, "likelihood", "cross_heads, L1-2.H*, L1-2.attn, cross", None, "denoise", None,
        None,
    )  # fmt: skip
    own, other = run_of(plan, range(4), "own"), run_of(plan, range(4), "other")
    for block, heads in (("cross", "X.H"), ("attn", "H")):
        parts = [_difference(tiny_lm_model, Site.parse(f"L1.{heads}{h}"), own, other) for h in range(4)]
        torch.testing.assert_close(
            sum(parts), _difference(tiny_lm_model, Site.parse(f"L1.{block}"), own, other), atol=1e-5, rtol=0
        )
    result = patch(tiny_lm_model, clean, corrupt, sites="L2.resid", null=False)
    np.testing.assert_allclose(result.changes[0], result.gap, atol=1e-5)
    np.testing.assert_allclose(result.table["share"], 1, atol=1e-4)
    for how in ("denoise", "noise"):
        both = patch(tiny_lm_model, clean, corrupt, sites="L2.resid", how=how, null=False)
        np.testing.assert_allclose(both.changes[0], both.gap, atol=1e-5)


def test_batches_of_any_size_give_the_same(tiny_lm_model: MusicGen, texts: tuple[Heard, Heard]) -> None:
    clean, corrupt = texts
    one, all_ = (patch(tiny_lm_model, clean, corrupt, sites="cross_heads", batch_size=n) for n in (1, 16))
    np.testing.assert_allclose(one.changes, all_.changes, atol=1e-5)
    assert one.mismatched is not None and all_.mismatched is not None
    np.testing.assert_allclose(one.mismatched, all_.mismatched, atol=1e-5)


def test_mismatched_sources_keep_what_the_pair_shares(
    tiny_lm_model: MusicGen, texts: tuple[Heard, Heard], pieces: tuple[Heard, Heard]
) -> None:
    clean, corrupt = texts
    away = partners(tiny_lm_model, corrupt, clean, "text", 0)
    assert torch.equal(away.codes, corrupt.codes)
    assert all(a in corrupt.texts and a != b for a, b in zip(away.texts, corrupt.texts, strict=True))
    clean, corrupt = pieces
    away = partners(tiny_lm_model, corrupt, clean, "music", 0)
    assert away.texts == corrupt.texts and bool((away.codes != corrupt.codes).flatten(1).any(1).all())
    with pytest.raises(DataError, match="pair 0 cannot be mismatched"):
        patch(tiny_lm_model, clean.take([0]), corrupt.take([0]), "ratio", counted=(0, 0.1))


def test_other_delays_than_one_step_a_codebook() -> None:
    """Stereo models give two codebooks one delay: positions are those of the model's own pattern."""
    model = MusicGen(random_musicgen(2, 2, 16))
    model.lm.pattern_provider = DelayedPatternProvider(4, [0, 0, 1, 1])
    codes = torch.randint(0, 32, (2, 4, FRAMES), generator=torch.Generator().manual_seed(0))
    clean, corrupt = hear(model, codes, ["a", "b"]), hear(model, codes, ["c", "d"])
    result = patch(model, clean, corrupt, sites="L0.cross, L1.resid", null=False)
    expected = traced(model, corrupt, clean, Site.parse("L0.cross"), likelihood(), codes, codes) - result.corrupt
    np.testing.assert_allclose(result.changes[0], expected, atol=2e-5)
    np.testing.assert_allclose(result.changes[1], result.gap, atol=1e-5)


def planted(seed: int, strength: float) -> MusicGen:
    """A model whose cross-attention writes nothing but at one head, that head so much."""
    model = MusicGen(random_musicgen(3, 4, 32, seed=seed))
    for at, layer in enumerate(model.lm.transformer.layers):
        weight = layer.cross_attention.out_proj.weight
        kept = weight[:, 16:24].clone()
        weight.zero_()
        if at == 1:
            weight[:, 16:24] = strength * kept
    return model


def test_the_only_head_through_which_text_enters_is_named() -> None:
    """L1.X.H2 carries the whole gap; others carry nothing and no p-value calls them."""
    model = planted(2, 8.0)
    codes = torch.randint(0, 32, (10, 4, FRAMES), generator=torch.Generator().manual_seed(4))
    names = [f"text {i}" for i in range(20)]
    clean, corrupt = hear(model, codes, names[:10]), hear(model, codes, names[10:])
    gap = Metric("x", lambda f, a, b: f.logits[..., 0].mean((1, 2)))
    result = patch(model, clean, corrupt, gap, "cross_heads", seed=1)
    table = result.table.set_index("site")
    np.testing.assert_allclose(result.changes[table.index.get_loc("L1.X.H2")], result.gap, atol=1e-5)
    others = table.drop(index="L1.X.H2")
    assert (others["change"] == 0).all() and (others["p_max"] == 1).all()  # rounding is no change
    assert np.isclose(table.loc["L1.X.H2", "share"], 1, atol=1e-3)


def test_few_false_alarms_where_nothing_differs_on_average() -> None:
    """Pairs without a side: a site is called in no more runs than promised, 5 %."""
    rng = np.random.default_rng(0)
    called = 0
    for _ in range(200):
        changes = rng.standard_normal((40, 16)) * rng.uniform(0.1, 10, (40, 1))
        called += exchange_p(changes, np.arange(16), 400, rng)[1].min() < 0.05
    assert called <= 20  # binomial: P(more than 20 of 200 at 5 %) < .002


def test_the_table_says_what_it_must(tiny_lm_model: MusicGen, texts: tuple[Heard, Heard]) -> None:
    clean, corrupt = texts
    result = patch(tiny_lm_model, clean, corrupt, sites="cross_heads", groups=["x", "x", "y", "z"])
    table = result.table
    assert len(table) == 12 and sorted(table["rank"]) == list(range(1, 13))
    assert (table["p_max"] >= table["p"]).all() and (table["lo"] <= table["change"]).all()
    np.testing.assert_allclose(table["change"], result.changes.mean(1))
    pairs = result.pairs()
    assert len(pairs) == 12 * 4
    np.testing.assert_allclose(pairs.groupby("site", sort=False)["change"].mean(), table["change"])
    assert "of the gap" in repr(result)
    alone = patch(tiny_lm_model, clean.take([0]), corrupt.take([0]), sites="L0.cross", null=False)
    assert alone.table[["lo", "p", "p_max", "mismatched"]].isna().all(axis=None)


def test_bad_input_is_refused_with_a_sentence(
    tiny_lm_model: MusicGen, texts: tuple[Heard, Heard], pieces: tuple[Heard, Heard], tiny: MusicGen
) -> None:
    model, (clean, corrupt) = tiny_lm_model, texts
    left, right = pieces
    short = hear(model, corrupt.codes[..., :-1], list(corrupt.texts))
    codes = torch.zeros(1, 4, 5, dtype=torch.long)
    cases: Iterable[tuple[str, type[Exception], object]] = [
        ("same length", DataError, lambda: patch(model, clean, short)),
        ("the same music under the same text", DataError, lambda: patch(model, clean, clean)),
        ("have 2 and 1 tokens", DataError, lambda: patch(
            tiny, hear(tiny, codes, "jazz, piano"), hear(tiny, codes, "jazz"))),
        ("alike at L0.H0", SiteError, lambda: patch(model, clean, corrupt, sites="heads")),
        ("alike at embed", SiteError, lambda: patch(model, clean, corrupt, sites="embed")),
        ("differ where", DataError, lambda: patch(model, left, right)),
        ("same where it counts", DataError, lambda: patch(model, clean, corrupt, "ratio", "cross")),
        ("no metric 'loudness'", DataError, lambda: patch(model, clean, corrupt, "loudness", "cross")),
        ("how='both'", DataError, lambda: patch(model, clean, corrupt, sites="cross", how="both")),
        ("from second 0.2 to 0.9", DataError, lambda: patch(model, clean, corrupt, sites="cross", counted=(0.2, 0.9))),
        ("from second 0.2 to 0.1", DataError, lambda: patch(
            model, clean, corrupt, sites="cross", positions=(0.2, 0.1))),
        ("read at or before L2.resid", SiteError, lambda: patch(
            model, clean, corrupt, reading(Direction.from_weight("L1.resid", np.ones(32))), "L2.resid")),
        ("is NaN or infinite", DataError, lambda: patch(
            model, clean, corrupt, Metric("x", lambda f, a, b: f.logits.mean((1, 2, 3)) / 0), "cross")),
        ("nothing to carry", DataError, lambda: patch(
            model, clean, corrupt, Metric("x", lambda f, a, b: torch.zeros(len(a))), "cross")),
        ("4 pairs need 4 groups", DataError, lambda: patch(model, clean, corrupt, sites="cross", groups=[1, 2])),
        ("no stretch of time", DataError, lambda: patch(model, clean, corrupt, sites="cross", positions=[])),
        ("a batch of 0", DataError, lambda: patch(model, clean, corrupt, sites="cross", batch_size=0)),
        ("4 rows of music but 1 texts", ValueError, lambda: hear(model, clean.codes, ["a"])),
        ("samples a second", ValueError, lambda: hear(model, torch.zeros(1, 1, 800))),
        ("not \\[4, 12\\]", ValueError, lambda: hear(model, clean.codes[0])),
    ]  # fmt: skip
    for words, kind, call in cases:
        with pytest.raises(kind, match=words):
            call()  # type: ignore[operator]
    late = right.codes.clone()
    late[..., :8] = left.codes[..., :8]
    late[..., 8:] = (left.codes[..., 8:] + 1) % 32
    with pytest.raises(DataError, match="no pair differs before step"):
        patch(model, left, hear(model, late, "a"), "ratio", positions=(0.0, 0.1), counted=(0.2, 0.24))
    post = MusicGen(random_musicgen(norm_first=False))
    with pytest.raises(ModelError, match="norm_first=False"):
        patch(post, hear(post, codes, "a"), hear(post, codes, "b"), sites="cross")
