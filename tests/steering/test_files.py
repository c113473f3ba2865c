"""Interventions written to a file and read back."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from torch import Tensor

from interp.directions import Directions, fit_leace
from interp.errors import CheckpointMismatch, InterpError, StoreError
from interp.model import MusicGen
from interp.sites import Site
from interp.steering import (
    Ablate,
    Add,
    Call,
    Clamp,
    Curve,
    Decay,
    EveryN,
    Interpolate,
    Intervention,
    Ramp,
    RandomGate,
    Row,
    Smitin,
    Swap,
    generate,
    load,
    register,
    save,
)
from interp.steering.schedules import Schedule

Make = Callable[..., Directions]


def everything(make: Make) -> list[Intervention]:
    rng = np.random.default_rng(0)
    eraser = fit_leace("L1.resid", rng.standard_normal((40, 32)), rng.integers(0, 2, 40), trait="drums")
    return [
        Add(make(), dose=1 / 3, weights=tuple(rng.random(12)), rows="cond", name="treated"),
        Add(make("resid"), strength=-0.1, on="all", window=(0.1, math.inf), schedule=EveryN(5, 1) * Decay(0.99)),
        Interpolate(make("mlp"), 0.3, schedule=Ramp(0.1, 0.2)),
        Clamp(make("L0.X.H1"), high=0.1, schedule=RandomGate(0.5, 3)),
        Ablate.project(make("embed")),
        Ablate.leace([eraser], schedule=Curve((0, 1), (0.5, 1))),
        Ablate.zero(["L2.H0"]),
        Ablate.resample({"L1.attn": rng.standard_normal((3, 32))}),
        Swap({"L1.cross": rng.standard_normal((4, 32))}, first=2),
        Smitin(make(), tau=0.9, remove=True),
    ]


def contents(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    with safe_open(path, framework="np") as file:
        return json.loads(file.metadata()["content"]), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def test_what_is_read_is_what_was_written(tiny_lm_model: MusicGen, make_directions: Make, tmp_path: Path) -> None:
    items = everything(make_directions)
    path = save(tmp_path / "deep" / "interventions", items)
    assert path.name == "interventions.safetensors"
    again = load(tmp_path / "deep" / "interventions")
    assert list(again) == items
    assert save(tmp_path / "twice", again).read_bytes() == path.read_bytes()
    assert [x.describe() for x in again] == [x.describe() for x in items]
    made = [generate(tiny_lm_model, [Row("a", 1, None, tuple(x))], 0.2, progress=False).codes for x in (items, again)]
    assert torch.equal(made[0], made[1])
    assert [file.name for file in (tmp_path / "deep").iterdir()] == [path.name]


def test_directions_are_written_once(make_directions: Make, tmp_path: Path) -> None:
    heads = make_directions()
    doses = [Add(heads, dose=float(dose)) for dose in range(20)]
    content, arrays = contents(save(tmp_path / "x", doses))
    assert content["interventions"][3]["fields"]["dose"] == 3.0
    assert content["directions"][0]["site"] == {"site": "L0.H0"}
    assert len(arrays) == len(heads)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda c: c["interventions"][0]["fields"].update(strenght=3), "unknown fields \\(strenght\\)"),
        (lambda c: c["interventions"][1]["fields"]["schedule"]["fields"].update(extra=1), "extra"),
        (lambda c: c["directions"][0].update(colour="red"), "colour"),
        (lambda c: c.update(comment="hi"), "comment"),
        (lambda c: c["interventions"][0].update(type="Explode"), "Explode"),
        (lambda c: c["interventions"][1]["fields"].update(schedule={"sometimes": 3}), "sometimes"),
        (lambda c: c["interventions"][1]["fields"].update(schedule={"a": 1, "b": 2}), "'a', 'b'"),
        (lambda c: c["interventions"][0]["fields"].update(directions={"directions": [10**6]}), "damaged"),
        (lambda c: c["interventions"][0]["fields"].pop("directions"), "damaged"),
        (lambda c: c["interventions"][0]["fields"].update(dose={"number": "nan"}), "nan"),
        (lambda c: c["interventions"][0]["fields"].update(strength=2.0), "not both"),
        (lambda c: c["directions"][0].update(vector={"array": 99999}), "damaged"),
        (lambda c: c["interventions"].append("L3.H2"), "no intervention"),
    ],
)
def test_what_is_not_known_is_refused(
    make_directions: Make, tmp_path: Path, spoil: Callable[[dict[str, Any]], object], says: str
) -> None:
    path = save(tmp_path / "x", everything(make_directions))
    content, arrays = contents(path)
    spoil(content)
    save_file(arrays, path, metadata={"content": json.dumps(content)})
    with pytest.raises(InterpError, match=says) as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_other_files_and_other_checkpoints(make_directions: Make, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    other.write_text("drums please")
    with pytest.raises(StoreError, match="damaged or no file of interventions"):
        load(other)
    with pytest.raises(StoreError, match=r"format None"):
        save_file({"x": np.zeros(1)}, tmp_path / "foreign.safetensors")
        load(tmp_path / "foreign")
    with pytest.raises(StoreError, match="there are no interventions"):
        load(tmp_path / "nowhere")
    path = save(tmp_path / "here", Add(make_directions(model="here"), dose=1.0))
    assert len(load(path, model="here")) == 1
    with pytest.raises(CheckpointMismatch, match="there"):
        load(path, model="there")
    with pytest.raises(StoreError, match="cannot write"):
        save("/proc/nope/x", Add(make_directions(), dose=1.0))


# What a user writes in a file of their own ----------------------------------------------------------------------


@register
@dataclass(frozen=True)
class Rotate(Intervention):
    """Turn an activation round by a share, keeping its length."""

    at: tuple[Site, ...] = ()
    share: float = 0.5

    def parameters(self) -> Mapping[Site, Mapping[str, Any]]:
        return {site: {"share": self.share} for site in self.at}

    @staticmethod
    def edit(h: Tensor, factor: Tensor, p: Mapping[str, Tensor]) -> Tensor:
        turned = h + factor * p["share"] * (h.flip(-1) - h)
        return turned * h.norm(dim=-1, keepdim=True) / turned.norm(dim=-1, keepdim=True)

    def what(self) -> str:
        return f"rotate by {self.share:g}"


@register
@dataclass(frozen=True)
class Odd(Schedule):
    """Every other step."""

    def factors(self, step: np.ndarray, seconds: np.ndarray) -> np.ndarray:
        return (step % 2).astype(float)


def test_an_intervention_of_ones_own_runs_everywhere_is_logged_saved_and_loaded(
    tiny_lm_model: MusicGen, make_directions: Make, tmp_path: Path
) -> None:
    item = Rotate((Site.parse("L1.H2"), Site.parse("L0.resid")), 0.7, rows="cond", schedule=Odd())
    rows = [
        Row("a", 1, None, arm)
        for arm in ((), (item,), (Add(make_directions(), dose=1.0), item), (Rotate((Site.parse("L1.H1"),), 0.0),))
    ]
    nnsight, hooks, fast = (
        generate(tiny_lm_model, rows, 0.3, engine=engine, capture="heads", progress=False)
        for engine in ("nnsight", "hooks", "fast")
    )
    assert torch.equal(nnsight.codes, hooks.codes)
    assert torch.equal(fast.codes, hooks.codes)
    assert not torch.equal(hooks.codes[0], hooks.codes[1])
    # heads that it does not name, and steps where its factor is zero, keep every bit
    before, after = (hooks.captured("L0.H0")[i] for i in (0, 1))
    assert torch.equal(before[0], after[0])
    line = hooks.log.query("row == 1").iloc[0]
    assert (line["type"], line["half"], line["first_step"], line["sites"]) == ("Rotate", "cond", 1, 2)
    assert "rotate by 0.7 at L0.resid, L1.H2; conditional rows" in line["description"]
    assert line["displacement_max"] > 0
    again = load(save(tmp_path / "rotate", [item]))
    assert again == (item,)
    repeated = generate(tiny_lm_model, [Row("a", 1, None, again)], 0.3, progress=False)
    assert torch.equal(repeated.codes[0], fast.codes[1])


def test_what_is_not_registered_is_not_written(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Private(Rotate):
        pass

    @dataclass(frozen=True)
    class Sometimes(Schedule):
        pass

    site = Site.parse("L0.H0")
    for item, says in (
        (Private((site,)), "Private is not registered"),
        (Rotate((site,), schedule=Sometimes()), "Sometimes is not registered"),
        (Call("L0.H0", torch.sin), "Call is not registered"),
    ):
        with pytest.raises(StoreError, match=says):
            save(tmp_path / "x", item)
    assert not list(tmp_path.iterdir())
    with pytest.raises(InterpError, match="already the name"):
        register(dataclass(frozen=True)(type("Add", (Rotate,), {})))
