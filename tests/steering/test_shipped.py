"""On the model that ships: the same tokens alone and in a batch, from every engine, steered and not."""

from __future__ import annotations

import numpy as np
import torch

from interp.directions import Direction, Directions
from interp.model import MusicGen
from interp.sites import select_sites
from interp.steering import Add, Intervention, Row, Smitin, generate


def test_rows_of_the_shipped_model_do_not_depend_on_their_batch(tiny: MusicGen) -> None:
    rng = np.random.default_rng(0)
    directions = Directions(
        Direction.from_weight(
            site,
            rng.standard_normal(tiny.shape.head_dim),
            sigma=0.1,
            intercept=0.0,
            score=float(rng.random()),
            trait="any",
        )
        for site in select_sites("heads", tiny.shape)
    )
    source = generate(tiny, [Row(None, 99)], 0.4, progress=False).codes[0]
    arms: list[tuple[Intervention, ...]] = [(), (Add(directions, dose=0.0),), (Add(directions, dose=3.0),),
                                            (Smitin(directions, tau=0.9),)]  # fmt: skip
    rows = [Row(None, seed, audio, arm) for seed in (0, 1) for audio in (None, source) for arm in arms]
    together = generate(tiny, rows, 0.8, progress=False)
    few = generate(tiny, rows, 0.8, batch_size=3, progress=False)
    assert torch.equal(few.codes, together.codes)
    for i in (0, 6, 11):
        assert torch.equal(generate(tiny, [rows[i]], 0.8, progress=False).codes[0], together.codes[i])
    hooks = generate(tiny, rows, 0.8, engine="hooks", progress=False)
    assert torch.equal(hooks.codes, together.codes)
    assert torch.equal(together.codes[0::4], together.codes[1::4])  # a dose of zero
    assert not torch.equal(together.codes[0::4], together.codes[2::4])
    reference = generate(tiny, rows[4:8], 0.5, engine="nnsight", progress=False)
    assert torch.equal(reference.codes, generate(tiny, rows[4:8], 0.5, progress=False).codes)
