"""One batch: codes in, pooled activations out, in as few forward passes as the texts allow."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from interp.errors import DataError
from interp.pooling import Pooling
from interp.sites import HEAD_KINDS, KINDS, Kind, ModelShape, Place, Site

if TYPE_CHECKING:
    from interp.backends.audiocraft import Visitor
    from interp.model import MusicGen

__all__ = ["by_kind", "first_not_finite", "pool_forward"]


def pool_forward(
    model: MusicGen,
    codes: Sequence[Tensor],
    texts: Sequence[str | None],
    sites: Sequence[Site],
    pooling: Pooling,
    names: Sequence[str] | None = None,
) -> tuple[dict[Kind, Tensor], Tensor]:
    """Run one batch and pool it; the inner step of :func:`extract`.

    Parameters
    ----------
    model : MusicGen
        The model.
    codes : sequence of long tensors ``[K, frames]``
        Rows, of any lengths; shorter ones are padded with the special token on the right, which no frame
        sees.
    texts : sequence of str or None
        One a row. Rows whose texts differ in length run apart, since audiocraft does not mask padded texts.
    sites : sequence of Site
        What to read.
    pooling : Pooling
        How to pool.
    names : sequence of str, optional
        Names of the rows, for errors.

    Returns
    -------
    values : dict of kind to float32 tensor ``[rows, vectors, sites, dim]``, on the CPU
        Sites of a kind in the order given.
    present : bool tensor ``[rows, vectors]``
        False where a clip ends before the frame.

    Raises
    ------
    DataError
        If a vector is not finite: names the clip, the site, and where in the forward pass it began.
    """
    names = names if names is not None else [str(i) for i in range(len(codes))]
    lengths = model.condition_lengths(texts) if len(set(texts)) > 1 else [0] * len(texts)
    groups: dict[int, list[int]] = defaultdict(list)
    for row, length in enumerate(lengths):
        groups[length].append(row)
    kinds = by_kind(sites)
    values: dict[Kind, Tensor] = {}
    present = torch.zeros(len(codes), len(pooling.names), dtype=torch.bool)
    for rows in groups.values():
        part, here = _pool_equal(
            model, [codes[r] for r in rows], [texts[r] for r in rows], kinds, pooling, [names[r] for r in rows]
        )
        present[rows] = here
        for kind, value in part.items():
            if kind not in values:
                values[kind] = value.new_empty(len(codes), *value.shape[1:])
            values[kind][rows] = value
    for kind, value in values.items():
        bad = ~value.isfinite().all(-1) & present[:, :, None]
        if bool(bad.any()):
            row, _, column = bad.nonzero()[0].tolist()
            raise _not_finite(model, codes[row], texts[row], kinds[kind][column], names[row])
    return values, present


def _not_finite(model: MusicGen, codes: Tensor, text: str | None, site: Site, name: str) -> DataError:
    first = first_not_finite(model, codes, text)
    where = ""
    if first is not None:
        where = f" (first at {first[0]}, step {first[1]}, in {str(first[2]).removeprefix('torch.')})"
    return DataError(
        f"the activation at {site} for the clip {name!r} is NaN or infinite{where}: run the model in float32, or leave "
        "the clip out."
    )


def _pool_equal(
    model: MusicGen,
    codes: Sequence[Tensor],
    texts: Sequence[str | None],
    kinds: Mapping[Kind, Sequence[Site]],
    pooling: Pooling,
    names: Sequence[str],
) -> tuple[dict[Kind, Tensor], Tensor]:
    """One forward pass over rows whose texts have one length."""
    n_frames = [int(row.shape[-1]) for row in codes]
    steps = {count: model.frame_steps(count) for count in set(n_frames)}
    # No position beyond the last frame's step is needed, and no earlier one depends on it.
    n_steps = 1 + max(int(step.max()) for step in steps.values())
    tokens = torch.full((len(codes), model.n_codebooks, n_steps), model.cardinality, dtype=torch.long)
    for count in steps:  # each row by the pattern of its own length
        rows = [row for row, frames in enumerate(n_frames) if frames == count]
        sequence = model.sequence(torch.stack([codes[row] for row in rows]))[0][..., :n_steps].cpu()
        tokens[rows, :, : sequence.shape[-1]] = sequence
    pooler = pooling.pooler(n_frames, steps.__getitem__, n_steps, names, model.device)
    pooled: dict[Place, Tensor] = {}

    def visitor(place: Place) -> Visitor:
        def visit(x: Tensor) -> None:
            pooled[place] = pooler(x.flatten(2))  # heads of a layer are pooled together

        return visit

    places: list[Place] = [(kind, layer) for kind, wanted in kinds.items() for layer in _layers(wanted)]
    model.forward(
        tokens.to(model.device),
        model.conditions(texts),
        visit={place: visitor(place) for place in places},
        logits=False,
    )
    return {
        kind: _assemble(kind, wanted, pooled, model.shape.n_heads) for kind, wanted in kinds.items()
    }, pooler.present


def first_not_finite(model: MusicGen, codes: Tensor, text: str | None) -> tuple[Site, int, torch.dtype] | None:
    """Where a forward pass over a clip first leaves the finite numbers.

    Parameters
    ----------
    model : MusicGen
        The model.
    codes : Tensor
        Long ``[K, frames]``.
    text : str or None
        What it is heard with.

    Returns
    -------
    site, step, dtype : Site, int, torch.dtype
        The first site in the order of computation, its first step, and the dtype of its activation; None if all
        activations are finite.
    """
    shape = model.shape
    places: list[Place] = [site.place for kind in KINDS for site in _places(kind, shape)]
    met: list[tuple[Site, int, torch.dtype]] = []

    def visitor(place: Place) -> Visitor:
        def visit(x: Tensor) -> None:
            bad = ~x[0].isfinite()
            if not met and bool(bad.any()):
                step = int(bad.flatten(1).any(1).nonzero()[0, 0])
                head = int(bad[step].any(-1).nonzero()[0, 0]) if place[0] in HEAD_KINDS else None
                met.append((Site(*place, head), step, x.dtype))

        return visit

    model.predict(codes[None], text, visit={place: visitor(place) for place in places}, logits=False)
    return met[0] if met else None


def _places(kind: Kind, shape: ModelShape) -> list[Site]:
    """One site of every place of a kind that a model has."""
    if kind == "embed":
        return [Site("embed")]
    if kind.startswith("cross") and not shape.cross_attention:
        return []
    return [Site(kind, layer, 0 if kind in HEAD_KINDS else None) for layer in range(shape.n_layers)]


def _assemble(kind: Kind, wanted: Sequence[Site], pooled: Mapping[Place, Tensor], n_heads: int) -> Tensor:
    """Pooled layers of a kind -> ``[rows, vectors, sites, dim]`` on the CPU."""
    layers = _layers(wanted)
    value = torch.stack([pooled[kind, layer] for layer in layers], 2)  # [rows, vectors, layers, width]
    if wanted[0].head is not None:
        value = value.unflatten(-1, (n_heads, -1))  # type: ignore[no-untyped-call]
        value = value.flatten(2, 3)
        chosen = [layers.index(site.layer) * n_heads + (site.head or 0) for site in wanted]
        if chosen != list(range(value.shape[2])):
            value = value[:, :, chosen]
    return value.cpu()


def by_kind(sites: Iterable[Site]) -> dict[Kind, list[Site]]:
    """Sites grouped by kind, in the order given."""
    kinds: dict[Kind, list[Site]] = {}
    for site in sites:
        kinds.setdefault(site.kind, []).append(site)
    return kinds


def _layers(sites: Iterable[Site]) -> list[int]:
    return sorted({site.layer for site in sites})
