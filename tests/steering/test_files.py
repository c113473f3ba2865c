"""Interventions written to a text file and read back."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from interp.directions import Directions
from interp.errors import CheckpointMismatch, InterventionError
from interp.model import MusicGen
from interp.steering import (
    Ablate,
    Add,
    Clamp,
    Curve,
    Decay,
    EveryN,
    Function,
    Interpolate,
    Intervention,
    Ramp,
    RandomGate,
    Row,
    Smitin,
    Swap,
    dumps,
    fit_leace,
    generate,
    load_interventions,
    loads,
    save_interventions,
)

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


def test_what_is_read_is_what_was_written(tiny_lm_model: MusicGen, make_directions: Make, tmp_path: Path) -> None:
    items = everything(make_directions)
    path = save_interventions(tmp_path / "deep" / "interventions.json", items)
    again = load_interventions(path)
    assert list(again) == items
    assert dumps(again) == path.read_text()
    assert [x.describe() for x in again] == [x.describe() for x in items]
    made = [generate(tiny_lm_model, [Row("a", 1, None, tuple(x))], 0.2, progress=False).codes for x in (items, again)]
    assert torch.equal(made[0], made[1])
    assert list(tmp_path.rglob("*.part")) == []


def test_the_file_is_small_readable_text(make_directions: Make) -> None:
    heads = make_directions()
    doses = [Add(heads, dose=float(dose)) for dose in range(20)]
    text = dumps(doses)
    assert len(text) < 3 * len(dumps(doses[:1]))  # directions are written once
    assert json.loads(text)["interventions"][3]["dose"] == 3.0
    assert json.loads(text)["directions"][0]["site"] == "L0.H0"


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda c: c["interventions"][0].update(strenght=3), "unknown fields \\(strenght\\)"),
        (lambda c: c["interventions"][1]["schedule"].update(extra=1), "extra"),
        (lambda c: c["directions"][0].update(colour="red"), "colour"),
        (lambda c: c.update(comment="hi"), "comment"),
        (lambda c: c.update(format="other/9"), "format"),
        (lambda c: c["interventions"][0].update(type="Explode"), "Explode"),
        (lambda c: c["interventions"][1].update(schedule={"type": "Sometimes"}), "Sometimes"),
        (lambda c: c["interventions"][0].update(directions=[10**6]), "malformed"),
        (lambda c: c["interventions"][0].pop("directions"), "malformed"),
        (lambda c: c["interventions"][0].update(dose={"number": "nan"}), "nan"),
        (lambda c: c["interventions"][0].update(strength=2.0), "not both"),
        (lambda c: c["directions"][0]["vector"].update(base64="AAAA"), "malformed"),
    ],
)
def test_what_is_not_known_is_refused(make_directions: Make, spoil: Callable[[dict], object], says: str) -> None:  # type: ignore[type-arg]
    content = json.loads(dumps(everything(make_directions)))
    spoil(content)
    with pytest.raises(InterventionError, match=says) as caught:
        loads(json.dumps(content))
    assert "\n" not in str(caught.value)


def test_other_files_and_other_checkpoints(make_directions: Make, tmp_path: Path) -> None:
    with pytest.raises(InterventionError, match="JSON"):
        loads("drums please")
    with pytest.raises(InterventionError, match="cannot read"):
        load_interventions(tmp_path / "nowhere.json")
    with pytest.raises(InterventionError, match=r"Curve\.of"):
        dumps(Add(make_directions(), dose=1.0, schedule=Function(math.sin)))
    text = dumps(Add(make_directions(model="here"), dose=1.0))
    assert len(loads(text, model="here")) == 1
    with pytest.raises(CheckpointMismatch, match="there"):
        loads(text, model="there")
    with pytest.raises(InterventionError, match="cannot write"):
        save_interventions("/proc/nope/x.json", Add(make_directions(), dose=1.0))
