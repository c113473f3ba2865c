"""SMITIN against a slow, literal reading of the paper's rule."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from interp.directions import Direction, Directions
from interp.errors import InterventionError
from interp.model import MusicGen
from interp.sites import Site
from interp.steering import Add, EveryN, Row, Smitin, generate, load, save
from interp.steering.interventions import soft_weights

Make = Callable[..., Directions]


def literal_smitin(
    model: MusicGen,
    directions: Directions,
    audio: Tensor | None,
    frames: int,
    *,
    alpha: float,
    s: int,
    delta: float,
    n_monitor: int,
    tau: float | None,
    remove: bool,
) -> tuple[Tensor, list[float], list[float]]:
    """The rule as arXiv 2404.02252 states it, one head at a time, no cache: every step runs the whole sequence again.

    Returns greedy codes, C read at each generated step, and the factor applied there.
    """
    sign = -1.0 if remove else 1.0
    accuracies = {d.site: d.score for d in directions}
    worst, best = min(accuracies.values()), max(accuracies.values())
    listened = sorted(directions, key=lambda d: (-d.score, d.site))[:n_monitor]
    heard = [d.score for d in listened]
    middle = sorted(heard)
    n = len(middle)
    median = middle[n // 2] if n % 2 else (middle[n // 2 - 1] + middle[n // 2]) / 2
    mean = sum(heard) / n
    threshold = median - math.sqrt(sum((a - mean) ** 2 for a in heard) / n) if tau is None else tau
    dim = model.shape.head_dim

    prompt = 0 if audio is None else audio.shape[1]
    codes = torch.full((1, model.n_codebooks, frames), -1)
    if audio is not None:
        codes[0, :, :prompt] = audio
    sequence, mask = model.sequence(codes)
    conditions = model.conditions(["a", None])
    factor_at: dict[int, float] = {}
    z_read: dict[Site, Tensor] = {}
    readings: list[float] = []
    factors: list[float] = []

    def hook(layer: int) -> Callable[..., tuple[Tensor, ...]]:
        def edit(_: object, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            z = args[0].clone()
            for d in directions:
                if d.site.layer != layer:
                    continue
                part = slice(d.site.head * dim, (d.site.head + 1) * dim)  # type: ignore[operator]
                z_read[d.site] = z[0, -1, part].clone()  # conditional row, newest position, before the edit
                w = ((d.score - worst) / (best - worst)) ** 3
                for position, factor in factor_at.items():
                    if position < z.shape[1]:
                        theta = torch.tensor(d.vector, dtype=torch.float32)
                        z[:, position, part] += sign * alpha * w * d.sigma * factor * theta
            return (z,)

        return edit

    def read() -> float:
        probabilities = []
        for d in listened:
            logit = d.norm * float(z_read[d.site].double().numpy() @ d.vector) + d.intercept
            probabilities.append(1 / (1 + math.exp(-sign * logit)))
        probabilities.sort()
        half = len(probabilities) // 2
        return probabilities[half] if len(probabilities) % 2 else (probabilities[half - 1] + probabilities[half]) / 2

    layers = model.lm.transformer.layers
    handles = [layer.self_attn.out_proj.register_forward_pre_hook(hook(i)) for i, layer in enumerate(layers)]
    try:
        c = 0.0
        if prompt:
            model.lm(sequence[..., :prompt].repeat(2, 1, 1), [], conditions)
            c = read()
        for step, position in enumerate(range(prompt, sequence.shape[-1] - 1)):
            factor = 1 - delta * c if step % s == 0 and c < threshold else 0.0
            factor_at[position] = factor
            logits = model.lm(sequence[..., : position + 1].repeat(2, 1, 1), [], conditions)[:, :, -1]
            c = read()
            readings.append(c)
            factors.append(factor)
            tokens = (logits[1] + (logits[0] - logits[1]) * 3.0).argmax(-1)
            tokens[~mask[:, position + 1]] = model.cardinality
            old = sequence[0, :, position + 1]
            sequence[0, :, position + 1] = torch.where(old == -1, tokens, old)
    finally:
        for handle in handles:
            handle.remove()
    made = torch.stack([sequence[0, k, 1 + k : 1 + k + frames] for k in range(model.n_codebooks)])
    return made, readings, factors


def probes(model: MusicGen, seed: int) -> Directions:
    """Probes whose logits at random activations are neither always positive nor always negative."""
    rng = np.random.default_rng(seed)
    return Directions(
        Direction.from_weight(
            Site("heads", layer, head),
            30 * rng.standard_normal(model.shape.head_dim),
            sigma=float(rng.uniform(0.02, 0.1)),
            intercept=float(rng.normal()),
            score=float(rng.uniform(0.5, 0.95)),
            trait="drums",
        )
        for layer in range(model.shape.n_layers)
        for head in range(model.shape.n_heads)
    )


@pytest.mark.parametrize(
    "parameters",
    [
        {"alpha": 5.0, "s": 5, "delta": 1.0, "n_monitor": 16, "tau": None, "remove": False},
        {"alpha": 10.0, "s": 2, "delta": 0.5, "n_monitor": 5, "tau": 0.5, "remove": False},
        {"alpha": 10.0, "s": 3, "delta": 0.3, "n_monitor": 4, "tau": 0.55, "remove": True},
        {"alpha": 5.0, "s": 1, "delta": 0.0, "n_monitor": 7, "tau": 0.5, "remove": True},
    ],
)
@pytest.mark.parametrize("prompted", [False, True])
def test_smitin_equals_the_literal_rule(
    tiny_lm_model: MusicGen, audio_prompt: Tensor, parameters: dict[str, object], prompted: bool
) -> None:
    directions = probes(tiny_lm_model, 3)
    audio = audio_prompt if prompted else None
    codes, readings, factors = literal_smitin(tiny_lm_model, directions, audio, 24, **parameters)  # type: ignore[arg-type]
    item = Smitin(directions, **parameters)  # type: ignore[arg-type]
    for engine in ("fast", "hooks"):
        made = generate(tiny_lm_model, [Row("a", 0, audio, (item,))], 0.48, greedy=True, engine=engine, progress=False)  # type: ignore[arg-type]
        assert np.allclose(made.monitor["C"], readings, atol=2e-3)
        assert np.allclose(made.monitor["factor"], factors, atol=2e-3)
        assert torch.equal(made.codes[0], codes)
    assert made.monitor["acted"].tolist() == [f > 0 for f in factors]


def test_the_rule_is_exercised_on_both_sides_of_tau(tiny_lm_model: MusicGen) -> None:
    """The push stops when the monitor reaches tau, and comes back when the trait fades."""
    item = Smitin(probes(tiny_lm_model, 3), s=1, tau=0.5, n_monitor=5)
    rows = [Row("a", seed, None, (item,)) for seed in range(4)]
    monitor = generate(tiny_lm_model, rows, 0.8, progress=False).monitor
    decided = monitor["decided_on"]
    assert (monitor["acted"] == (decided < 0.5)).all()
    assert 0.1 < monitor["acted"].mean() < 0.9
    changes = monitor.groupby("row")["acted"].apply(lambda a: ((~a) & a.shift(-1, fill_value=False)).sum())
    assert (changes > 0).any()
    # what decides a step is the reading of the step before
    for _, mine in monitor.groupby("row"):
        assert np.allclose(mine["decided_on"].iloc[1:], mine["C"].iloc[:-1])
        assert mine["decided_on"].iloc[0] == 0


def test_the_monitor_does_not_hear_the_push_of_its_own_step(tiny_lm_model: MusicGen) -> None:
    """A reading is taken before the edit: at step 0 a huge push leaves the first layer's reading as it was."""
    directions = probes(tiny_lm_model, 3)
    first_layer = Directions(d for d in directions if d.site.layer == 0)
    item = Smitin(first_layer, alpha=1000.0, tau=2.0, s=5, delta=0.0)
    quiet = replace(item, tau=-1.0)
    rows = [Row("a", 0, None, (x,)) for x in (item, quiet)]
    monitor = generate(tiny_lm_model, rows, 0.3, greedy=True, progress=False).monitor
    loud, silent = (monitor.query("row == @i").set_index("step") for i in (0, 1))
    assert loud["acted"].loc[0]
    assert not silent["acted"].any()
    assert loud["C"].loc[0] == pytest.approx(silent["C"].loc[0], abs=1e-6)
    assert loud["clean"].all()
    assert not Smitin(directions, s=1).clean


def test_rows_with_their_own_monitors_share_a_batch(tiny_lm_model: MusicGen, audio_prompt: Tensor) -> None:
    drums, piano = probes(tiny_lm_model, 3), probes(tiny_lm_model, 4)
    arms = [
        (Smitin(drums, tau=0.6),),
        (Smitin(drums, alpha=10.0, s=2), Smitin(piano, remove=True, n_monitor=4, rows="cond")),
        (),
        (Smitin(piano, tau=0.6, window=(0.2, 0.3)), Add(drums, dose=1.0, schedule=EveryN(3))),
    ]
    rows = [Row("a", 2, audio_prompt, arm) for arm in arms]
    together = generate(tiny_lm_model, rows, 0.4, progress=False)
    for i, row in enumerate(rows):
        alone = generate(tiny_lm_model, [row], 0.4, progress=False)
        assert torch.equal(alone.codes[0], together.codes[i])
        mine = together.monitor.query("row == @i").drop(columns="row").reset_index(drop=True)
        assert np.allclose(mine["C"].to_numpy(float), alone.monitor["C"].to_numpy(float), atol=1e-5)
        assert mine["acted"].tolist() == alone.monitor["acted"].tolist()
    windowed = together.monitor.query("row == 3 and acted")
    assert windowed["seconds"].between(0.2, 0.3).all()


def test_a_monitor_alone_changes_nothing(tiny_lm_model: MusicGen) -> None:
    plain = generate(tiny_lm_model, [Row("a", 1)], 0.4, progress=False)
    listening = Smitin(probes(tiny_lm_model, 3), tau=-1.0)
    made = generate(tiny_lm_model, [Row("a", 1, None, (listening,))], 0.4, progress=False)
    assert torch.equal(made.codes, plain.codes)
    assert len(made.monitor) == 20 + tiny_lm_model.n_codebooks - 1
    assert made.log["calls"].tolist() == [0, 0]


def test_beyond_one_window_the_decisions_stay() -> None:
    from interp.backends.build import random_musicgen

    model = MusicGen(random_musicgen(2, 2, 16, seed=3))
    model.audiocraft.max_duration = 0.6
    item = Smitin(probes(model, 3), s=2, tau=0.6)
    for engine in ("fast", "hooks"):
        made = generate(model, [Row("a", 0, None, (item,))], 1.2, engine=engine, progress=False)  # type: ignore[arg-type]
        assert made.monitor["step"].tolist() == list(range(60 + 3))
        if engine == "fast":
            first = made
    assert torch.equal(made.codes, first.codes)


def test_parameters_are_the_papers(tiny_lm_model: MusicGen) -> None:
    directions = probes(tiny_lm_model, 0)
    item = Smitin(directions)
    assert (item.alpha, item.s, item.n_monitor) == (5.0, 5, 16)
    assert item.w == soft_weights(directions)
    twelve = np.array([d.score for d in directions])
    assert item.threshold == pytest.approx(np.median(twelve) - twelve.std())
    four = np.sort(twelve)[-4:]
    assert replace(item, n_monitor=4).threshold == pytest.approx(np.median(four) - four.std())
    add, remove = item.parameters(), replace(item, remove=True).parameters()
    assert add.keys() == remove.keys()
    assert all(np.array_equal(add[site]["shift"], -np.asarray(remove[site]["shift"])) for site in add)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"alpha": -1.0}, "alpha"),
        ({"s": 0}, "every 0 steps"),
        ({"delta": 2.0}, "delta"),
        ({"n_monitor": 0}, "at least one head"),
        ({"tau": math.nan}, "tau"),
        ({"on": "all"}, "generated positions only"),
        ({"weights": (1.0,)}, "weights"),
    ],
)
def test_bad_parameters_get_one_sentence(tiny_lm_model: MusicGen, change: dict[str, object], says: str) -> None:
    with pytest.raises(InterventionError, match=says):
        Smitin(probes(tiny_lm_model, 0), **change)  # type: ignore[arg-type]


@pytest.mark.parametrize(("field", "says"), [("sigma", "sigma"), ("intercept", "intercept"), ("score", "accuracy")])
def test_probes_that_lack_something_are_refused(tiny_lm_model: MusicGen, field: str, says: str) -> None:
    directions = [replace(d, **{field: math.nan}) for d in probes(tiny_lm_model, 0)]  # type: ignore[arg-type]
    with pytest.raises(InterventionError, match=says):
        Smitin(Directions(directions))


def test_the_monitor_may_listen_to_other_probes_than_those_that_push(
    tiny_lm_model: MusicGen, audio_prompt: Tensor, tmp_path: Path
) -> None:
    """With the same probes it is the paper's rule; with others, readings and tau are the listener's, at any site."""
    heard = probes(tiny_lm_model, 3)
    plain, same = Smitin(heard, alpha=10.0, s=2), Smitin(heard, alpha=10.0, s=2, monitor=heard)
    width = tiny_lm_model.shape.width
    rng = np.random.default_rng(0)
    layer = Direction.from_weight("L1.resid", rng.standard_normal(width), sigma=0.3, trait="drums", method="mean_diff")
    other = Smitin(Directions([layer]), alpha=10.0, s=2, weights=(1.0,), monitor=heard)
    assert other.threshold == plain.threshold and other.sites == (layer.site,)
    rows = [Row("a", 0, audio_prompt, (item,)) for item in (plain, same, other)]
    for engine in ("fast", "hooks"):
        made = generate(tiny_lm_model, rows, 0.4, progress=False, engine=engine)  # type: ignore[arg-type]
        assert torch.equal(made.codes[0], made.codes[1])
        first = made.monitor.query("step == 0").set_index("row")
        assert first["decided_on"].nunique() == 1  # nothing has been pushed yet: all three have heard the same
        factor = made.monitor.query("row == 2 and acted")["factor"].max()
        assert made.log.query("row == 2")["displacement_max"].max() == pytest.approx(factor * 10.0 * 0.3, rel=1e-4)
    assert load(save(tmp_path / "other", other)) == (other,)
    with pytest.raises(InterventionError, match="monitor listens to self-attention heads"):
        Smitin(heard, monitor=Directions([layer]))
    with pytest.raises(InterventionError, match="no intercept"):
        Smitin(Directions([layer]), weights=(1.0,), monitor=Directions(replace(d, intercept=math.nan) for d in heard))
