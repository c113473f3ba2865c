"""From the weights of probes to directions: unit vectors with sigma, a score, and what made them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from interp.directions import Direction
from interp.directions.build import as_direction, centred
from interp.directions.reading import Stack
from interp.directions.registry import find
from interp.probes.evaluate import Evaluation, Split
from interp.traits import Labels

__all__ = ["directions_of"]


def directions_of(
    stack: Stack,
    result: Evaluation,
    method: str,
    split: Split,
    labels: Labels,
    model: str,
    pool: str,
    record: Mapping[str, Any],
) -> list[Direction]:
    x = stack.x[:, ~split.test]
    y = split.y[~split.test]
    several = split.outputs > 1
    coef = centred(result.coef)
    penalty = find(method).penalty
    out = []
    for s, site in enumerate(stack.sites):
        for k in range(split.outputs):
            amount: dict[str, Any] = {penalty: float(result.l2[s])} if penalty else {}
            if split.class_weight is not None:
                amount["class_weight"] = split.class_weight
            positive = labels.classes[k] if several else labels.positive
            direction = as_direction(
                site,
                coef[s, k],
                float(result.intercept[s, k]),
                x[s],
                None if labels.graded else np.asarray(y == (k if several else 1)),
                odds=method in ("logistic", "lda") and not several,
                info={**record, "n_clips": len(y), **amount},
                method=method,
                trait=labels.name,
                positive=positive,
                against=f"not {positive}" if several else labels.against,
                score=float(result.test_score[s]),
                model=model,
                pool=pool,
            )
            if direction is not None:  # constant activations: nothing to point along; the table's row says chance
                out.append(direction)
    return out
