"""Rows and settings: one row is one row, one text is one text, and what cannot be honoured is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from interp.errors import ClipError, InterventionError, ModelError
from interp.model import MusicGen
from interp.steering import Ablate, Row, Settings, generate


def test_one_row_and_one_text(tiny_lm_model: MusicGen) -> None:
    listed = generate(tiny_lm_model, [Row("ab", 0)], 0.2, progress=False)
    for rows in (Row("ab"), "ab", ["ab"], (Row("ab"),), iter([Row("ab")])):
        made = generate(tiny_lm_model, rows, 0.2, progress=False)
        assert len(made) == 1 and torch.equal(made.codes, listed.codes)
    assert len(generate(tiny_lm_model, ["a", Row("b", 1)], 0.2, progress=False)) == 2


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: Row(["a", "b"]), InterventionError, "one text or None"),
        (lambda: Row(3), InterventionError, "one text or None"),
        (lambda: Row("a", "b"), InterventionError, "whole number of 0 or more"),
        (lambda: Row("a", -1), InterventionError, "whole number of 0 or more"),
        (lambda: Row("a", 0.5), InterventionError, "whole number of 0 or more"),
        (lambda: Row("a", 0, torch.zeros(1, 16000)), ClipError, "encode"),
        (lambda: Row("a", 0, np.zeros(9, dtype=int)), ClipError, r"codes of shape \[codebooks, frames\]"),
        (lambda: Settings(temperature=-1), ModelError, "temperature"),
        (lambda: Settings(temperature=float("nan")), ModelError, "temperature"),
        (lambda: Settings(temperature="hot"), ModelError, "temperature"),
        (lambda: Settings(top_p=2), ModelError, "top_p"),
        (lambda: Settings(engine="steam"), ModelError, "steam"),
        (lambda: Settings.of(temprature=1.0), ModelError, "generate knows no 'temprature'.*temperature, top_k"),
    ],
)
def test_bad_rows_and_settings_get_one_sentence(make: object, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says) as caught:
        make()  # type: ignore[operator]
    assert "\n" not in str(caught.value)


def test_generate_refuses_what_it_does_not_know(tiny_lm_model: MusicGen) -> None:
    with pytest.raises(ModelError, match="knows no 'n_seed'"):
        generate(tiny_lm_model, "a", 0.2, n_seed=3)  # type: ignore[call-arg]
    with pytest.raises(InterventionError, match="a Row or a text, not 3"):
        generate(tiny_lm_model, [3], 0.2)  # type: ignore[list-item]
    with pytest.raises(InterventionError, match="not an intervention"):
        generate(tiny_lm_model, Row("a", 0, None, ("boom",)), 0.2)  # type: ignore[arg-type]


def test_a_row_takes_one_intervention_as_one() -> None:
    item = Ablate.zero("L0.H0")
    assert Row("a", interventions=item).interventions == (item,)
    assert Row("a", np.int64(3)).seed == 3
    assert Row("a", 0, torch.zeros(4, 0, dtype=torch.long)).prompt_frames == 0
