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

Wherever several sites are asked for, :func:`select_sites` reads the description: kinds (``heads``, ``resid``, ...),
``all``, sites, and sites with a range or ``*`` in place of a number, separated by commas. ``L0-5.resid`` is six layers,
``L3.H*`` the heads of one, ``L*.H0-7`` eight heads of each, and ``L-1.resid`` the last layer.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterable, Sequence
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
_N = r"[0-9]{1,6}"  # a number with bounds, so that no text can ask for more sites than there could be
_PATTERN = re.compile(rf"L(?P<layer>{_N})\.(?:(?P<cross>X\.)?H(?P<head>{_N})|(?P<kind>attn|cross|mlp|resid))")
_MANY = re.compile(
    rf"L(?P<layer>\*|-?{_N}(?:--?{_N})?)\."
    rf"(?:(?P<cross>X\.)?H(?P<head>\*|{_N}(?:-{_N})?)|(?P<kind>heads|cross_heads|attn|cross|mlp|resid))"
)
_RANKED = re.compile(r"top\s*:.*")


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

    def sites(self) -> list[Site]:
        """Every site of a model of this shape, in forward order.

        Examples
        --------
        >>> [str(site) for site in ModelShape(1, 2, 8, cross_attention=False).sites()]
        ['embed', 'L0.H0', 'L0.H1', 'L0.attn', 'L0.mlp', 'L0.resid']
        """
        kinds = [kind for kind in KINDS if kind != "embed" and (self.cross_attention or not kind.startswith("cross"))]
        heads: dict[Kind, Sequence[int | None]] = {
            kind: range(self.n_heads) if kind in HEAD_KINDS else (None,) for kind in kinds
        }
        layers = range(self.n_layers)
        return [Site("embed"), *(Site(kind, layer, head) for layer in layers for kind in kinds for head in heads[kind])]


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
        if not isinstance(text, str):
            raise SiteError(f"a site is text such as 'L12.H7', not {text!r}.")
        text = text.strip()
        if text == "embed":
            return cls("embed")
        match = _PATTERN.fullmatch(text)
        if match is None:
            raise SiteError(_unreadable(text))
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


def select_sites(
    spec: str | Site | Iterable[str | Site], there: ModelShape | Collection[Site], owner: str = "the model"
) -> list[Site]:
    """Expand a description of sites into the sites that there are, sorted in forward order, each once.

    Parameters
    ----------
    spec : str, Site or iterable of them
        A kind (``"heads"``, ``"resid"``, ...: all of that kind), ``"all"``, a site, a range of sites (``"L0-5.resid"``,
        ``"L3.H*"``, ``"L*.H0-7"``, ``"L-1.resid"``: the last layer), a comma-separated list of these, or an iterable of
        these. Blanks and trailing commas do not count.
    there : ModelShape or collection of Site
        What there is to choose among: a model's sizes, or the sites of a dataset.
    owner : str
        Who has them, for errors.

    Returns
    -------
    list of Site

    Raises
    ------
    SiteError
        If the description is empty, cannot be read, or names a site that there is not.

    Examples
    --------
    >>> select_sites("L1.resid, L0.H1,", ModelShape(2, 2, 8))
    [Site('L0.H1'), Site('L1.resid')]
    >>> len(select_sites("heads", ModelShape(6, 8, 192)))
    48
    >>> select_sites("L-1.H*, L0-1.resid", ModelShape(2, 2, 8))
    [Site('L0.resid'), Site('L1.H0'), Site('L1.H1'), Site('L1.resid')]
    """
    if isinstance(there, ModelShape):
        sites: Collection[Site] = there.sites()
    else:
        sites = list(there)
    known = set(sites)
    items: list[str | Site] = []
    for item in [spec] if isinstance(spec, str | Site) else spec:
        if not isinstance(item, str | Site):
            raise SiteError(f"a site is text such as 'L12.H7', not {item!r}.")
        items += [part.strip() for part in item.split(",") if part.strip()] if isinstance(item, str) else [item]
    chosen: set[Site] = set()
    for item in items:
        matches = _expand(item, sites) if isinstance(item, str) else [item]
        for site in matches:
            if site not in known:
                if isinstance(there, ModelShape):
                    site.check(there)
                raise SiteError(f"{owner} has no site {site}, only {_span(sites)}.")
        if not matches:
            raise SiteError(f"{owner} has no sites {item!r}, only {_span(sites)}.")
        chosen.update(matches)
    if not chosen:
        kinds = ", ".join(KINDS)
        raise SiteError(f"no site is selected by {spec!r}: name a kind ({kinds}), 'all', or sites like L3.H2.")
    return sorted(chosen)


def _expand(text: str, sites: Collection[Site]) -> list[Site]:
    """Sites that one word stands for: all that match a kind or ``*``, and exactly those that are numbered."""
    if text == "all":
        return list(sites)
    if text in KINDS:
        return [site for site in sites if site.kind == text]
    match = _MANY.fullmatch(text)
    if match is None:
        return [Site.parse(text)]
    kind: Kind = match["kind"] or ("cross_heads" if match["cross"] else "heads")  # type: ignore[assignment]  # _MANY
    same = [site for site in sites if site.kind == kind]
    layers = _numbers(match["layer"], sorted({site.layer for site in sites if site.layer >= 0}), text)
    heads = _numbers(match["head"] or "*", sorted({site.head for site in same if site.head is not None}), text)
    if kind in HEAD_KINDS:
        return [Site(kind, layer, head) for layer in layers for head in heads]
    return [Site(kind, layer) for layer in layers]


def _numbers(text: str, there: Sequence[int], whole: str) -> list[int]:
    """Numbers of ``3``, ``0-5``, ``-1`` (the last) or ``*`` (those that there are)."""
    if text == "*":
        return list(there)
    first, last = re.fullmatch(r"(-?\d+)(?:-(-?\d+))?", text).groups()  # type: ignore[union-attr]  # as _MANY has it
    top = there[-1] if there else -1
    start, stop = (number + top + 1 if number < 0 else number for number in (int(first), int(last or first)))
    if start < 0 or stop < start:
        raise SiteError(f"{whole!r} covers nothing: write L0-5.resid for layers 0 to 5, L-1.resid for the last layer.")
    # One number beyond what there is is enough to refuse the range.
    return list(range(start, min(stop, top + 1) + 1)) if start <= top else [start]


def _unreadable(text: str) -> str:
    if _RANKED.fullmatch(text):
        return (
            f"{text!r} is not a site: it takes the best of directions that were ranked, where directions are chosen "
            "(interp steer); here name a kind, 'all', or sites like L3.H2."
        )
    if text in KINDS or text == "all" or _MANY.fullmatch(text):
        return f"{text!r} is not one site but a description of several: name one, for example L3.H2."
    return (
        f"cannot read {text!r} as a site: write L12.H7 (head), L12.X.H3 (cross-attention head), L12.attn, "
        "L12.cross, L12.mlp, L12.resid or embed, or several as in L0-5.resid, L3.H* or heads; layers and heads count "
        "from 0."
    )


def _span(sites: Collection[Site]) -> str:
    """What there is, in a few words."""
    spans = []
    for kind in KINDS:
        same = sorted(site for site in sites if site.kind == kind)
        if same:
            spans.append(str(same[0]) if len(same) == 1 else f"{len(same)} {kind} ({same[0]} to {same[-1]})")
    return ", ".join(spans) or "none"
