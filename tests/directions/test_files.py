"""Files of directions: every bit comes back, and a damaged file is a sentence."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from interp.directions import Direction, Directions
from interp.errors import InterpError, StoreError

WORDS = st.text(max_size=12)
NUMBERS = st.floats(allow_nan=True, allow_infinity=False, width=64)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
SITES = st.sampled_from(["L0.H0", "L3.H7", "L2.X.H1", "L4.resid", "L11.mlp", "embed"])


@st.composite
def a_direction(draw: st.DrawFn) -> Direction:
    weight = draw(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=9).filter(lambda w: np.linalg.norm(w) > 1e-3))
    fields = {name: draw(WORDS) for name in ("method", "trait", "positive", "against", "model", "pool")}
    return Direction.from_weight(
        draw(SITES), weight, **fields, sigma=abs(draw(NUMBERS)), intercept=draw(NUMBERS), score=draw(NUMBERS),
        info=draw(st.dictionaries(WORDS, PLAIN, max_size=3)),
    )  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(items=st.lists(a_direction(), min_size=1, max_size=5))
def test_what_is_saved_comes_back(tmp_path_factory: pytest.TempPathFactory, items: list[Direction]) -> None:
    path = tmp_path_factory.mktemp("files") / "some.name"
    directions = Directions(items)
    assert Directions.load(directions.save(path)) == directions
    assert [file.name for file in path.parent.iterdir()] == ["some.name.safetensors"]


def test_equal_directions_are_equal_files(tmp_path: Path) -> None:
    """What is compared byte for byte: a run that was killed and went on, and one that was not."""
    items = Directions(Direction.from_weight(f"L{i}.H0", [1.0, i], trait="drums") for i in range(3))
    assert len({items.save(tmp_path / str(i)).read_bytes() for i in range(8)}) == 1


@pytest.mark.parametrize("content", ["", "[]", "7", "{", json.dumps({"format": "interp.directions/2"})])
def test_another_header_is_a_sentence(tmp_path: Path, content: str) -> None:
    path = tmp_path / "d.safetensors"
    path.write_bytes(save({"width": np.ones(1)}, metadata={"content": content}))
    with pytest.raises(StoreError, match="directions"):
        Directions.load(path)


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), cut=st.booleans())
def test_a_damaged_file_is_a_sentence(tmp_path_factory: pytest.TempPathFactory, seed: int, cut: bool) -> None:
    """Any byte changed, any end cut off: loaded or refused, never a traceback of another library."""
    rng = np.random.default_rng(seed)
    path = tmp_path_factory.mktemp("files") / "d.safetensors"
    Directions(Direction.from_weight(f"L{i}.H0", rng.standard_normal(4), trait="drums") for i in range(3)).save(path)
    raw = bytearray(path.read_bytes())
    if cut:
        raw = raw[: rng.integers(0, len(raw))]
    else:
        raw[rng.integers(0, len(raw))] = rng.integers(0, 256)
    path.write_bytes(raw)
    try:
        assert len(Directions.load(path)) == 3
    except InterpError as error:
        assert str(error).endswith(".") and "\n" not in str(error)


@pytest.mark.parametrize(
    "records",
    [None, 3, "three", [1, 2], [{"site": "L0.H0"}, 7], {"a": 1, "b": 2}, [{"site": "L0.H0", "surplus": 1}] * 2],
)
def test_records_that_are_none(tmp_path_factory: pytest.TempPathFactory, records: object) -> None:
    path = tmp_path_factory.mktemp("files") / "d.safetensors"
    tensors = {name: np.full(2, math.nan) for name in ("sigma", "intercept", "score")}
    tensors |= {"norm": np.ones(2), "width": np.ones(2, int), "vector": np.ones(2)}
    content = json.dumps({"format": "interp.directions/3", "records": records})
    path.write_bytes(save(tensors, metadata={"content": content}))
    with pytest.raises(StoreError, match="damaged"):
        Directions.load(path)
