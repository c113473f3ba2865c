"""What every intervention does to an activation, on which rows and positions, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from interp.directions import Direction, Directions, fit_leace
from interp.errors import CheckpointMismatch, DataError, InterventionError, SiteError
from interp.model import MusicGen
from interp.sites import Site
from interp.steering import (
    Ablate,
    Add,
    Clamp,
    EveryN,
    Generation,
    Interpolate,
    Intervention,
    Ramp,
    Row,
    Swap,
    cross_fade,
    generate,
)
from interp.steering.interventions import soft_weights

Make = Callable[..., Directions]
FRAMES = 20


def run(
    model: MusicGen, *items: Intervention, audio: Tensor | None = None, capture: object = (), **options: object
) -> Generation:
    settings = {"seconds": FRAMES / 50, "progress": False, "capture": capture} | options
    return generate(model, [Row("a", 3, audio, items)], **settings)  # type: ignore[arg-type]


SITES = ["L1.H2", "L1.X.H0", "L1.attn", "L1.cross", "L1.mlp", "L1.resid", "embed"]
UNIT = 1e-5


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("engine", ["fast", "hooks", "nnsight"])
def test_every_intervention_is_its_formula_at_every_site(
    tiny_lm_model: MusicGen, make_directions: Make, site: str, engine: str
) -> None:
    """At the first generated step nothing upstream has moved yet: the edit is seen bare."""
    direction = make_directions(site)[0]
    v, dim = direction.vector, direction.dim
    rng = np.random.default_rng(0)
    x, bank = rng.standard_normal((50, dim)), rng.standard_normal((6, dim)).astype(np.float32)
    eraser = fit_leace(site, x, rng.integers(0, 2, 50))
    before = run(tiny_lm_model, capture=site, engine=engine, seconds=3 / 50)
    h = {half: before.captured(site, half)[0, 0].double().numpy() for half in ("cond", "uncond")}  # type: ignore[arg-type]
    cases: list[tuple[Intervention, Callable[[np.ndarray], np.ndarray]]] = [
        (Add(direction, strength=0.7), lambda h: h + 0.7 * v),
        (Add(direction, dose=-2.0), lambda h: h - 2 * direction.sigma * v),
        (Add(direction, dose=2.0, weights=(0.25,)), lambda h: h + 0.5 * direction.sigma * v),
        (Interpolate(direction, 0.5), lambda h: (h + 0.5 * np.linalg.norm(h) * v) / 1.5),
        (Clamp(direction, low=3.0, high=3.0), lambda h: h + (3.0 - h @ v) * v),
        (Clamp(direction, high=-9.0), lambda h: h + (min(h @ v, -9.0) - h @ v) * v),
        (
            Clamp(direction, low=1.5, units="logit"),
            lambda h: h + max(0.0, 1.5 - direction.logit(h)) / direction.norm * v,
        ),
        (Ablate.project(direction), lambda h: h - (h @ v) * v),
        (Ablate.leace([eraser]), lambda h: eraser(h)),
        (Ablate.zero([site]), lambda h: 0 * h),
        (Ablate.mean({site: bank}), lambda h: bank.mean(0)),
        (Swap({site: bank}), lambda h: bank[0]),
        (Swap({site: bank}, first=-2), lambda h: bank[2]),
    ]
    arms = [(replace(item, rows=rows), formula) for item, formula in cases for rows in ("both", "cond", "uncond")]
    rows = [Row("a", 3, None, (item,)) for item, _ in arms]
    after = generate(tiny_lm_model, rows, 3 / 50, capture=site, engine=engine, progress=False)  # type: ignore[arg-type]
    first = after.calls().query("step == 0")
    for i, (item, formula) in enumerate(arms):
        moved = []
        for half in ("cond", "uncond"):
            changed = item.rows in ("both", half)
            expected = formula(h[half]) if changed else h[half]
            got = after.captured(site, half)[i, 0].double().numpy()  # type: ignore[arg-type]
            assert np.allclose(got, expected, atol=UNIT), (item.describe(), half)
            moved += [float(np.linalg.norm(expected - h[half]))] if changed else []
        assert np.allclose(first.query("row == @i")["displacement"], moved, atol=1e-4), item.describe()


def test_interventions_compose_in_the_order_given(tiny_lm_model: MusicGen, make_directions: Make) -> None:
    site = "L1.resid"
    a, b = make_directions(site)[0], make_directions(site, seed=1)[0]
    h = run(tiny_lm_model, capture=site).captured(site)[0, 0].double().numpy()
    add, double = Add(a, strength=2.0), Add(b, strength=1.0)
    scale, out = Interpolate(b, 0.5), Ablate.project(a)

    def after(*items: Intervention) -> np.ndarray:
        return run(tiny_lm_model, *items, capture=site).captured(site)[0, 0].double().numpy()  # type: ignore[no-any-return]

    def interpolate(x: np.ndarray) -> np.ndarray:
        return (x + 0.5 * np.linalg.norm(x) * b.vector) / 1.5  # type: ignore[no-any-return]

    def project(x: np.ndarray) -> np.ndarray:
        return x - (x @ a.vector) * a.vector  # type: ignore[no-any-return]

    shifted = h + 2 * a.vector
    assert np.allclose(after(add, double), shifted + b.vector, atol=UNIT)
    assert np.allclose(after(add, scale), interpolate(shifted), atol=UNIT)
    assert np.allclose(after(scale, add), interpolate(h) + 2 * a.vector, atol=UNIT)
    assert np.allclose(after(add, out, double), project(shifted) + b.vector, atol=UNIT)
    assert np.allclose(after(out, scale, add), interpolate(project(h)) + 2 * a.vector, atol=UNIT)


def test_a_batch_of_different_interventions_is_each_row_by_itself(
    tiny_lm_model: MusicGen, make_directions: Make, audio_prompt: Tensor
) -> None:
    heads, resid = make_directions(), make_directions("resid", seed=2)
    bank = {"L0.H1": np.ones((3, 8)), "L2.H3": np.full((5, 8), -1.0)}
    arms: list[tuple[Intervention, ...]] = [
        (),
        (Add(heads, dose=1.0),),
        (Add(heads, dose=2.0, schedule=EveryN(5), rows="cond"), Add(resid, strength=0.3)),
        (Interpolate(resid, 0.5, rows="uncond"),),
        (Add(resid, strength=1.0), Clamp(heads, low=0.0), Interpolate(resid, 0.2, window=(0.2, 0.3))),
        (Ablate.project(heads[:5]), Ablate.resample(bank)),
        (Ablate.zero(["L1.mlp"], on="all"),),
        (Swap({"L1.resid": np.zeros((4, 32))}, first=2), Add(heads, dose=-1.0, on="prompt")),
    ]
    rows = [Row("a", 5, audio_prompt, arm) for arm in arms]
    together = generate(tiny_lm_model, rows, 0.4, progress=False)
    for i, row in enumerate(rows):
        alone = generate(tiny_lm_model, [row], 0.4, progress=False)
        assert torch.equal(alone.codes[0], together.codes[i])
        mine = together.log.query("row == @i").drop(columns="row").reset_index(drop=True)
        numbers = ["displacement_mean", "displacement_max"]
        assert mine.drop(columns=numbers).equals(alone.log.drop(columns=["row", *numbers]))
        assert np.allclose(mine[numbers], alone.log[numbers], atol=1e-4)
    assert len({together.codes[i].numpy().tobytes() for i in range(len(rows))}) == len(rows)  # every arm did something


def test_zero_strength_touches_nothing(tiny_lm_model: MusicGen, make_directions: Make) -> None:
    heads = make_directions()
    for engine in ("fast", "hooks", "nnsight"):
        plain = run(tiny_lm_model, engine=engine, capture="resid")
        for item in (
            Add(heads, strength=0.0),
            Add(heads, dose=0.0),
            Add(heads, dose=3.0, weights=[0.0] * len(heads)),
            Interpolate(heads, 0.0),
        ):
            steered = run(tiny_lm_model, item, engine=engine, capture="resid")
            assert torch.equal(steered.codes, plain.codes)
            for site in plain.sites:
                assert torch.equal(steered.captured(site), plain.captured(site))
            assert steered.log["calls"].tolist() == [0, 0]
            assert steered.log["displacement_max"].tolist() == [0, 0]


def test_zero_strength_in_a_batch_with_treated_rows(tiny_lm_model: MusicGen, make_directions: Make) -> None:
    heads = make_directions()
    rows = [Row("a", s, None, (Add(heads, dose=d),)) for s in range(4) for d in (0.0, 4.0)]
    steered = generate(tiny_lm_model, rows, 0.4, progress=False).codes
    plain = generate(tiny_lm_model, [Row("a", s) for s in range(4)], 0.4, progress=False).codes
    assert torch.equal(steered[0::2], plain)
    assert not torch.equal(steered[1::2], plain)


def test_which_positions_are_edited(tiny_lm_model: MusicGen, make_directions: Make, audio_prompt: Tensor) -> None:
    resid = make_directions("L1.resid")
    tail = tiny_lm_model.n_codebooks - 1  # positions after the last frame, which finish the delayed codebooks

    def steps(**fields: object) -> list[int]:
        made = run(tiny_lm_model, Add(resid, strength=1.0, rows="cond", **fields), audio=audio_prompt)  # type: ignore[arg-type]
        found = made.calls()["step"].tolist()
        line = made.log.iloc[0]
        assert (line["first_step"], line["last_step"], line["positions"]) == (found[0], found[-1], len(found))
        return found  # type: ignore[no-any-return]

    everything = list(range(-7, FRAMES - 7 + tail))
    assert steps(on="all") == everything
    assert steps() == [s for s in everything if s >= 0]
    assert steps(on="prompt") == [s for s in everything if s < 0]
    # seconds are those of the clip: frame 10 is at 0.2 s and is step 3
    assert steps(window=(0.2, 0.3)) == [3, 4, 5, 6, 7]
    assert steps(schedule=EveryN(4)) == [s for s in everything if s >= 0 and s % 4 == 0]
    assert steps(schedule=Ramp(0.3, 0.3)) == [s for s in everything if s >= 8]


def test_edits_fall_on_the_logged_positions_alone(
    tiny_lm_model: MusicGen, make_directions: Make, audio_prompt: Tensor
) -> None:
    site = "L0.H1"
    item = Add(make_directions(site), strength=2.0, window=(0.06, 0.2), on="all", schedule=EveryN(2))
    for engine in ("fast", "hooks"):
        plain = run(tiny_lm_model, audio=audio_prompt, capture=site, engine=engine).captured(site)
        made = run(tiny_lm_model, item, audio=audio_prompt, capture=site, engine=engine)
        moved = (made.captured(site) - plain)[0].norm(dim=-1)
        edited = sorted(set(made.calls()["step"] + 7))
        assert edited == [3, 5, 7, 9]
        # before the music itself diverges, everything else is as it was
        assert torch.allclose(moved[edited[:3]], torch.tensor(2.0), atol=1e-4)
        assert moved[[0, 1, 2, 4, 6]].max() < 1e-4


def test_prompt_steps_without_a_prompt_and_other_untouched_calls_raise(
    tiny_lm_model: MusicGen, make_directions: Make
) -> None:
    heads = make_directions()
    with pytest.raises(InterventionError, match="needs an audio prompt"):
        run(tiny_lm_model, Add(heads, dose=1.0, on="prompt"))
    with pytest.raises(InterventionError, match="touches no call"):
        run(tiny_lm_model, Add(heads, dose=1.0, window=(5.0, 6.0)))
    with pytest.raises(InterventionError, match="touches no call"):
        run(tiny_lm_model, Swap({"L0.H0": np.ones((2, 8))}, first=500))
    with pytest.raises(InterventionError, match="unconditional rows"):
        run(tiny_lm_model, Add(heads, dose=1.0, rows="uncond"), guidance=None)


def test_identical_halves_run_once_and_mean_the_same(tiny_lm_model: MusicGen, make_directions: Make) -> None:
    """Rows without text: editing both halves alike is running one half; editing one of them is not."""
    heads = make_directions()
    both = Row(None, 1, None, (Add(heads, dose=1.0),))
    cond = Row(None, 1, None, (Add(heads, dose=1.0, rows="cond"),))
    made = generate(tiny_lm_model, [both, cond], 0.4, guidance=3.0, progress=False)
    unguided = generate(tiny_lm_model, [both], 0.4, guidance=None, progress=False)
    assert torch.equal(made.codes[0], unguided.codes[0])
    twice = Row(None, 1, None, (Add(heads, dose=1.0), Add(heads, dose=0.0, rows="cond")))
    named = generate(tiny_lm_model, [twice], 0.4, progress=False)
    assert torch.equal(named.codes[0], made.codes[0])  # two halves, run separately
    assert not torch.equal(made.codes[0], made.codes[1])


def test_swap_carries_one_run_into_another(tiny_lm_model: MusicGen, audio_prompt: Tensor) -> None:
    """Patching the last layer's residual of another run makes the other run's logits, hence its greedy tokens."""
    site = "L2.resid"
    source = generate(tiny_lm_model, [Row("b", 0, audio_prompt)], 0.4, None, greedy=True, capture=site, progress=False)
    values = source.captured(site)[0]
    item = Swap({site: values.numpy()}, first=-audio_prompt.shape[1])
    target = generate(tiny_lm_model, [Row("a", 0, audio_prompt, (item,))], 0.4, None, greedy=True, progress=False)
    unpatched = generate(tiny_lm_model, [Row("a", 0, audio_prompt)], 0.4, None, greedy=True, progress=False)
    assert values.shape == (20 + tiny_lm_model.n_codebooks - 1, 32)  # all positions that were fed
    assert torch.equal(target.codes, source.codes)
    assert not torch.equal(unpatched.codes, source.codes)


def test_resample_draws_from_the_bank_by_the_seed(tiny_lm_model: MusicGen) -> None:
    bank = np.arange(4)[:, None] * np.ones((4, 8))
    item = Ablate.resample({"L1.H0": bank, "L1.H3": -bank})
    rows = [Row("a", s, None, (item,)) for s in (1, 1, 2)]
    made = generate(tiny_lm_model, rows, 0.6, capture="L1.H0,L1.H3", progress=False)
    drawn = made.captured("L1.H0")
    assert set(drawn.flatten().tolist()) == {0.0, 1.0, 2.0, 3.0}
    assert torch.equal(drawn, -made.captured("L1.H3"))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_leace_leaves_nothing_linear() -> None:
    rng = np.random.default_rng(0)
    z = rng.integers(0, 3, 400)
    x = rng.standard_normal((400, 10)) @ rng.standard_normal((10, 10)) + rng.standard_normal((3, 10))[z] * 2
    eraser = fit_leace("L0.H0", x, z)
    erased = eraser(x)
    means = np.stack([erased[z == k].mean(0) for k in range(3)])
    assert np.allclose(means, means[0], atol=1e-8)
    assert eraser.left.shape == (10, 2)
    graded = rng.standard_normal(400)
    x = x + graded[:, None] * np.arange(10)
    assert np.allclose((fit_leace("L0.H0", x, graded)(x) - x.mean(0)).T @ graded, 0, atol=1e-6)
    # the smallest such change moves less than projecting the difference of means out
    binary = (z == 0).astype(int)
    difference = x[binary == 1].mean(0) - x[binary == 0].mean(0)
    u = difference / np.linalg.norm(difference)
    least = fit_leace("L0.H0", x, binary)(x) - x
    whitened = np.linalg.inv(np.linalg.cholesky(np.cov(x.T)))
    assert (least @ whitened.T).var() <= ((((x - x.mean(0)) @ u)[:, None] * u) @ whitened.T).var() + 1e-9
    with pytest.raises(InterventionError, match="same"):
        fit_leace("L0.H0", x, np.zeros(400, dtype=int))


def test_cross_fade_hands_over(tiny_lm_model: MusicGen, make_directions: Make) -> None:
    a, b = make_directions("L0.H0"), make_directions("L0.H0", seed=1)
    before, after = cross_fade(Add(a, strength=1.0), Add(b, strength=1.0), at=0.2, width=0.1)
    calls = run(tiny_lm_model, before, after).calls().query("half == 'cond'")
    first, second = (calls[calls["intervention"] == i].set_index("seconds")["displacement"] for i in (0, 1))
    total = first.add(second, fill_value=0)
    assert np.allclose(total, 1.0, atol=1e-5)
    assert second.index.min() > 0.15
    assert first.index.max() < 0.25


def test_soft_weights_as_the_paper_has_them() -> None:
    assert soft_weights([0.5, 0.6, 0.9]) == pytest.approx([0, (0.1 / 0.4) ** 3, 1])
    assert soft_weights([0.7, 0.7]) == (1.0, 1.0)
    with pytest.raises(InterventionError, match="score"):
        soft_weights([0.5, math.nan])


def test_describe_says_what_where_how_and_when(make_directions: Make) -> None:
    item = Add(make_directions(), dose=2.0, rows="cond", window=(1, 2), schedule=EveryN(5), name="treated")
    text = item.describe()
    for part in (
        "treated",
        "add drums",
        "2 sigma",
        "12 sites",
        "conditional rows",
        "generated",
        "1 to 2 s",
        "every 5 steps",
    ):
        assert part in text
    assert "\n" not in text


def bad(site: str = "L0.H0", dim: int = 8, **fields: object) -> Direction:
    return Direction.from_weight(site, np.ones(dim), **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Add(bad(), strength=math.nan), "nan"),
        (lambda: Add(bad(), strength=math.inf), "inf"),
        (lambda: Add(bad()), "either a strength"),
        (lambda: Add(bad(), strength=1.0, dose=1.0), "not both"),
        (lambda: Add(bad(), dose=1.0), "no sigma"),
        (lambda: Add([], strength=1.0), "at least one"),
        (lambda: Add(bad(), strength=1.0, weights=(1.0, 2.0)), "weights"),
        (lambda: Add(bad(), strength=1.0, rows="left"), "left"),
        (lambda: Add(bad(), strength=1.0, on="never"), "never"),
        (lambda: Add(bad(), strength=1.0, window=(2, 1)), "empty"),
        (lambda: Add(bad(), strength=1.0, schedule=5), "not a schedule"),
        (lambda: Interpolate(bad(), -1.0), "flip"),
        (lambda: Interpolate([bad(), bad()], 1.0), "at most one"),
        (lambda: Clamp(bad()), "bound"),
        (lambda: Clamp(bad(), low=2, high=1), "order"),
        (lambda: Clamp(bad(), low=0, units="logit"), "no intercept"),
        (lambda: Ablate("zero"), "needs at"),
        (lambda: Ablate("boil", at=("L0.H0",)), "boil"),
        (lambda: Ablate.mean({"L0.H0": [math.nan] * 8}), "finite"),
        (lambda: Swap({}), "at least one site"),
        (lambda: Swap([*Swap({"L0.H0": [1.0]}).source] * 2), "twice"),
    ],
)
def test_malformed_interventions_get_one_sentence(make: Callable[[], object], says: str) -> None:
    with pytest.raises(InterventionError, match=says) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_what_does_not_fit_the_model_gets_one_sentence(tiny_lm_model: MusicGen) -> None:
    cases: list[tuple[object, type[Exception], str]] = [
        (Add(bad(dim=5), strength=1.0), SiteError, "width 5"),
        (Add(bad("L9.H0"), strength=1.0), SiteError, "layers 0 to 2"),
        (Add(bad(model="elsewhere"), strength=1.0), CheckpointMismatch, "elsewhere"),
        (Ablate.mean({"L0.H0": np.ones(3)}), InterventionError, "width 3"),
        (Ablate.leace([fit_leace("L0.H0", np.eye(4), np.arange(4) % 2)]), InterventionError, "width 4"),
        (
            Ablate.leace([fit_leace("L0.H0", np.eye(8), np.arange(8) % 2, model="elsewhere")]),
            CheckpointMismatch,
            "elsewhere",
        ),
        ("not an intervention", InterventionError, "not an intervention"),
    ]
    for item, error, says in cases:
        with pytest.raises(error, match=says) as caught:
            generate(tiny_lm_model, [Row("a", 0, None, (item,))], 0.4, progress=False)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
    mine = Add(bad(model=tiny_lm_model.fingerprint), strength=1.0)
    assert len(run(tiny_lm_model, mine).log) == 2
    with pytest.raises(DataError, match="NaN"):
        Direction(Site.parse("L0.H0"), np.full(8, np.nan))
    with pytest.raises(SiteError, match="captured"):
        run(tiny_lm_model).captured("L0.H0")
