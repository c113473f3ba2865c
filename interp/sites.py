"""The grammar and the algebra of sites: the places in the LM whose activation is read or changed.

====================  =============  =====================================================================
written               kind           activation, shape ``[rows, positions, dim]``
====================  =============  =====================================================================
``L12.H7``            heads          self-attention head 7 of layer 12, before the output projection
``L12.X.H3``          cross_heads    cross-attention head, before the output projection
``L12.attn``          attn           what self-attention adds to the residual stream
``L12.cross``         cross          what cross-attention adds to the residual stream
``L12.mlp``           mlp            what the feed-forward block adds to the residual stream
``L12.resid``         resid          the residual stream after layer 12 (before the final norm)
``embed``             embed          the residual stream before layer 0
====================  =============  =====================================================================

Layers and heads count from 0, everywhere. The residual stream *before* layer n is ``L{n-1}.resid`` (``embed`` for
layer 0). Sites sort in the order in which a forward pass computes them.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from interp.errors import SiteError

__all__ = ["HEAD_KINDS", "KINDS", "Kind", "ModelShape", "Place", "Site", "select_sites"]

Kind = Literal["embed", "heads", "attn", "cross_heads", "cross", "mlp", "resid"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Place = tuple[Kind, int]
"""A kind of site in a layer, for example ``("heads", 3)``: a tensor read in one piece (``embed`` is in layer -1)."""

_RANK = {kind: rank for rank, kind in enumerate(KINDS)}
HEAD_KINDS: tuple[Kind, ...] = ("heads", "cross_heads")
_PATTERN = re.compile(r"L(?P<layer>\d+)\.(?:(?P<cross>X\.)?H(?P<head>\d+)|(?P<kind>attn|cross|mlp|resid))")


@dataclass(frozen=True)
class ModelShape:
    """Sizes of an LM that decide which sites exist.

    Attributes
    ----------
    n_layers, n_heads : int
        Transformer layers, and attention heads per layer (self- and cross-attention have equally many).
    width : int
        Dimension of the residual stream.
    cross_attention : bool
        Whether the layers have cross-attention.
    """

    n_layers: int
    n_heads: int
    width: int
    cross_attention: bool = True

    @property
    def head_dim(self) -> int:
        """Dimension of one head's output."""
        return self.width // self.n_heads

    def dim(self, kind: Kind) -> int:
        """Dimension of the activation at a site of this kind."""
        return self.head_dim if kind in HEAD_KINDS else self.width


@functools.total_ordering
@dataclass(frozen=True)
class Site:
    """One place in the LM; compare, sort, hash and print it.

    Parameters
    ----------
    kind : Kind
        What is read there, see the table in :mod:`interp.sites`.
    layer : int
        Layer, from 0; ``-1`` for ``embed``.
    head : int or None
        Head, from 0, for the kinds ``heads`` and ``cross_heads`` only.

    Examples
    --------
    >>> Site.parse("L12.X.H3")
    Site('L12.X.H3')
    >>> Site.parse("L2.H1") < Site.parse("L2.resid") < Site.parse("L3.H0")
    True
    """

    kind: Kind
    layer: int = -1
    head: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise SiteError(f"unknown kind of site {self.kind!r}: use one of {', '.join(KINDS)}.")
        if (self.head is not None) != (self.kind in HEAD_KINDS):
            raise SiteError(f"a site of kind {self.kind!r} {'needs' if self.head is None else 'has no'} a head.")
        if (self.layer < 0) != (self.kind == "embed"):
            raise SiteError(f"a site of kind {self.kind!r} cannot be in layer {self.layer}.")

    @classmethod
    def parse(cls, text: str | Site) -> Site:
        """Read a site as it is written, for example ``"L12.H7"``.

        Raises
        ------
        SiteError
            If the text is not a site.
        """
        if isinstance(text, Site):
            return text
        if text == "embed":
            return cls("embed")
        match = _PATTERN.fullmatch(text.strip())
        if match is None:
            raise SiteError(
                f"cannot read {text!r} as a site: write L12.H7 (head), L12.X.H3 (cross-attention head), L12.attn, "
                "L12.cross, L12.mlp, L12.resid or embed; layers and heads count from 0."
            )
        layer = int(match["layer"])
        if match["head"] is not None:
            return cls("cross_heads" if match["cross"] else "heads", layer, int(match["head"]))
        return cls(match["kind"], layer)  # type: ignore[arg-type]  # the pattern admits only kinds

    def check(self, shape: ModelShape) -> Site:
        """Return the site if a model of this shape has it.

        Raises
        ------
        SiteError
            If it does not.
        """
        if self.layer >= shape.n_layers:
            raise SiteError(f"no site {self}: the model has layers 0 to {shape.n_layers - 1}.")
        if self.head is not None and self.head >= shape.n_heads:
            raise SiteError(f"no site {self}: a layer of the model has heads 0 to {shape.n_heads - 1}.")
        if self.kind in ("cross", "cross_heads") and not shape.cross_attention:
            raise SiteError(f"no site {self}: the model has no cross-attention.")
        return self

    @property
    def place(self) -> Place:
        """Kind and layer: the tensor that holds this site."""
        return self.kind, self.layer

    @property
    def _key(self) -> tuple[int, int, int]:
        return self.layer, _RANK[self.kind], -1 if self.head is None else self.head

    def __lt__(self, other: Site) -> bool:
        return self._key < other._key

    def __str__(self) -> str:
        if self.kind == "embed":
            return "embed"
        if self.kind == "heads":
            return f"L{self.layer}.H{self.head}"
        if self.kind == "cross_heads":
            return f"L{self.layer}.X.H{self.head}"
        return f"L{self.layer}.{self.kind}"

    def __repr__(self) -> str:
        return f"Site({str(self)!r})"


def select_sites(spec: str | Site | Iterable[str | Site], shape: ModelShape) -> list[Site]:
    """Expand a description of sites into the sites of a model, sorted in forward order, each once.

    Parameters
    ----------
    spec : str, Site or iterable of them
        A kind (``"heads"``, ``"resid"``, ...: all of that kind), ``"all"``, a site, a comma-separated list of these,
        or an iterable of these.
    shape : ModelShape
        The model's sizes.

    Returns
    -------
    list of Site

    Raises
    ------
    SiteError
        If the description is empty, cannot be read, or names a site that the model does not have.

    Examples
    --------
    >>> select_sites("L1.resid, L0.H1", ModelShape(2, 2, 8))
    [Site('L0.H1'), Site('L1.resid')]
    >>> len(select_sites("heads", ModelShape(6, 8, 192)))
    48
    """
    items: list[str | Site] = []
    for item in [spec] if isinstance(spec, str | Site) else spec:
        items += [part.strip() for part in item.split(",") if part.strip()] if isinstance(item, str) else [item]
    chosen: set[Site] = set()
    for item in items:
        if isinstance(item, str) and (item in KINDS or item == "all"):
            for kind in KINDS if item == "all" else (item,):
                if item != "all" or shape.cross_attention or not kind.startswith("cross"):
                    chosen.update(_of_kind(kind, shape))  # type: ignore[arg-type]  # checked above
        else:
            chosen.add(Site.parse(item).check(shape))
    if not chosen:
        kinds = ", ".join(KINDS)
        raise SiteError(f"no site is selected by {spec!r}: name a kind ({kinds}), 'all', or sites like L3.H2.")
    return sorted(chosen)


def _of_kind(kind: Kind, shape: ModelShape) -> list[Site]:
    if kind == "embed":
        return [Site("embed")]
    heads = range(shape.n_heads) if kind in HEAD_KINDS else (None,)
    return [Site(kind, layer, head).check(shape) for layer in range(shape.n_layers) for head in heads]
