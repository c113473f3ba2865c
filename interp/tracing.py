"""The LM of a MusicGen as an nnsight model: the only module that knows nnsight.

In a notebook, trace freely. What a trace hears is a text, music as codes, tokens or audio; what it reads and writes are
the places of the LM, by layer, and sites by name::

    with model.trace(codes=codes, text="calm piano"):
        drums = model.heads[3][:, :, 5].save()     # [rows, positions, head_dim]
        model["L4.H2"] = 0                         # later layers see the head ablated
        model.resid[4] += 2 * direction
        logits = model.output.save()               # [rows, codebooks, positions, cardinality]

In a program, :meth:`TracedLM.forward` and :meth:`TracedLM.predict` run one forward pass that reads sites and calls
functions at places, in any order.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from nnsight import NNsight
from nnsight.intervention.interleaver import OutOfOrderError
from torch import Tensor

from interp.backends import audiocraft as seam
from interp.backends.audiocraft import ConditionTensors, LMModel, Visitor
from interp.errors import ModelError, SiteError
from interp.sites import HEAD_KINDS, KINDS, Kind, ModelShape, Place, Site, select_sites

__all__ = ["Forward", "Layers", "Texts", "TracedLM", "Visitor"]

Texts = str | None | Sequence[str | None]
"""One text for all rows, or one a row; None is the null text."""


@dataclass
class Forward:
    """What one forward pass gave.

    Attributes
    ----------
    logits : Tensor or None
        ``[rows, codebooks, positions, cardinality]``; None when the pass was stopped early.
    values : dict of Site to Tensor
        The sites that were asked for, each ``[rows, positions, dim]`` in the model's own dtype, as the rest
        of the model saw them (after any change made by a visitor).
    """

    logits: Tensor | None = None
    values: dict[Site, Tensor] = field(default_factory=dict)


class Layers:
    """One kind of place, by layer, inside a trace: ``model.resid[3]`` is the live tensor, to read and to write.

    A head kind reads as a view ``[rows, positions, heads, head_dim]``, the others as ``[rows, positions, width]``. What
    is assigned is broadcast, and cast to the dtype of the place. Places are read in the order in which the model
    computes them.
    """

    def __init__(self, model: TracedLM, kind: Kind) -> None:
        self._model, self._kind = model, kind

    def __len__(self) -> int:
        return self._model.shape.n_layers

    def __getitem__(self, layer: int) -> Tensor:
        return self._model._live(self._place(layer))

    def __setitem__(self, layer: int, value: Any) -> None:
        place = self._place(layer)
        live = self._model._live(place)
        if value is not live:  # `+=` has changed the live tensor itself
            self._model._write(place, _like(live, value, f"{self._kind} of layer {place[1]}"))

    def __iter__(self) -> Iterator[Tensor]:
        return (self[layer] for layer in range(len(self)))

    def __repr__(self) -> str:
        shape = self._model.shape
        size = f"{shape.n_heads}, {shape.head_dim}" if self._kind in HEAD_KINDS else str(shape.width)
        return f"<{self._kind} of {len(self)} layers, each [rows, positions, {size}]>"

    def _place(self, layer: int) -> Place:
        if not isinstance(layer, int) or not -len(self) <= layer < len(self):
            raise SiteError(f"no {self._kind} of layer {layer!r}: the model has layers 0 to {len(self) - 1}.")
        return self._model._check_place((self._kind, layer % len(self)))


class TracedLM(NNsight):
    """audiocraft's LM under nnsight; :class:`interp.model.MusicGen` adds a codec to it.

    Parameters
    ----------
    lm : audiocraft LMModel
        Wrapped, not copied; put into evaluation mode, its weights frozen.

    Raises
    ------
    ModelError
        If it cannot be traced: no called output projection, or conditions that are not text.
    """

    def __init__(self, lm: LMModel) -> None:
        seam.check_traceable(lm)
        seam.use_exact_positions(lm)
        lm.eval().requires_grad_(False)
        super().__init__(lm)

    @property
    def lm(self) -> LMModel:
        """audiocraft's LM itself, for calls that no trace should see."""
        lm: LMModel = self._module
        return lm

    @functools.cached_property
    def shape(self) -> ModelShape:
        """Sizes that decide which sites exist."""
        return seam.model_shape(self.lm)

    @property
    def n_codebooks(self) -> int:
        """Parallel streams of tokens."""
        return int(self.lm.n_q)

    @property
    def cardinality(self) -> int:
        """Entries of a codebook; the token of this number is the special one (start and padding)."""
        return int(self.lm.card)

    @property
    def device(self) -> torch.device:
        """Where the LM's weights are."""
        return next(self.lm.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Of the transformer's weights (audiocraft leaves embeddings in float32 when it runs in float16)."""
        return next(self.lm.transformer.parameters()).dtype

    # Sequences and conditions -------------------------------------------------------------------------------

    def sequence(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Arrange codes as the LM hears them: start token first, codebooks delayed.

        Parameters
        ----------
        codes : Tensor
            Long ``[B, K, frames]``.

        Returns
        -------
        tokens : Tensor
            Long ``[B, K, steps]``, steps = frames + number of codebooks for MusicGen's delays. Generation
            feeds all but the last step, which is only ever predicted.
        mask : Tensor
            Bool ``[K, steps]``: False where the special token stands.
        """
        return seam.build_sequence(self.lm, codes.to(self.device))

    def codes_of(self, sequence: Tensor, n_frames: int) -> Tensor:
        """Undo :meth:`sequence`: codes ``[B, K, n_frames]``; -1 for tokens that a cut sequence lacks."""
        return seam.revert_sequence(self.lm, sequence, n_frames)

    def frame_steps(self, n_frames: int) -> Tensor:
        """Step at which each frame begins to be heard (its first codebook enters), long ``[n_frames]``."""
        return seam.frame_steps(self.lm, n_frames)

    def conditions(self, texts: Texts) -> ConditionTensors:
        """Embed texts, one a row (a single text is one row); None is the null text, which an unconditional row gets
        under guidance.

        Raises
        ------
        InterpError
            If the model has a closed vocabulary and a text is not in it, or takes no text at all.
        """
        each = _texts(texts)
        if not self.lm.condition_provider.text_conditions and any(text is not None for text in each):
            raise ModelError("this model takes no text, it was trained without any: give None.")
        return seam.condition_tensors(self.lm, each)

    def condition_lengths(self, texts: Texts) -> list[int]:
        """Length in tokens of each text on its own; rows of one length share a batch without padding."""
        each = _texts(texts)
        lengths: dict[str | None, int] = {}
        for text in each:
            if text not in lengths:
                embeddings = self.conditions([text]).values()
                lengths[text] = max((embedding.shape[1] for embedding, _ in embeddings), default=1)
        return [lengths[text] for text in each]

    def check_prompt(self, text: str | None) -> None:
        """Raise if the model cannot take this text (a closed vocabulary that does not have it)."""
        if text is not None:
            self.conditions([text])

    # Inside a trace -----------------------------------------------------------------------------------------

    @property
    def heads(self) -> Layers:
        """Self-attention heads before the output projection, by layer: ``[rows, positions, heads, head_dim]``."""
        return Layers(self, "heads")

    @property
    def cross_heads(self) -> Layers:
        """Cross-attention heads before the output projection, by layer: ``[rows, positions, heads, head_dim]``."""
        return Layers(self, "cross_heads")

    @property
    def attn(self) -> Layers:
        """What self-attention adds to the residual stream, by layer: ``[rows, positions, width]``."""
        return Layers(self, "attn")

    @property
    def cross(self) -> Layers:
        """What cross-attention adds to the residual stream, by layer: ``[rows, positions, width]``."""
        return Layers(self, "cross")

    @property
    def mlp(self) -> Layers:
        """What the feed-forward block adds to the residual stream, by layer: ``[rows, positions, width]``."""
        return Layers(self, "mlp")

    @property
    def resid(self) -> Layers:
        """The residual stream after each layer: ``[rows, positions, width]``."""
        return Layers(self, "resid")

    def __getitem__(self, site: str | Site) -> Tensor:
        """The live activation at a site, inside a trace: a view ``[rows, positions, dim]``."""
        site = Site.parse(site).check(self.shape)
        live = self._live(site.place)
        return live if site.head is None else live[:, :, site.head]

    def __setitem__(self, site: str | Site, value: Any) -> None:
        site = Site.parse(site).check(self.shape)
        live = self._live(site.place)
        if site.head is None:
            if value is not live:
                self._write(site.place, _like(live, value, str(site)))
            return
        part = _like(live[:, :, site.head], value, str(site))
        # a copy: what was read and saved before stays what it was
        whole = torch.cat([live[:, :, : site.head], part[:, :, None], live[:, :, site.head + 1 :]], 2)
        self._write(site.place, whole)

    # One forward pass ---------------------------------------------------------------------------------------

    def forward(
        self,
        tokens: Tensor,
        conditions: ConditionTensors | None = None,
        *,
        text: Texts = None,
        read: str | Site | Iterable[str | Site] = (),
        visit: Mapping[Place, Visitor] | None = None,
        logits: bool = True,
        grad: bool = False,
    ) -> Forward:
        """Run the LM once over tokens, reading sites and calling visitors, through nnsight.

        Works inside ``with model.streaming():`` as well, one step per call, as generation does. For music that is known
        as a whole, :meth:`predict` takes its codes.

        Parameters
        ----------
        tokens : Tensor
            Long ``[rows, K, positions]``, see :meth:`sequence`.
        conditions : dict, optional
            From :meth:`conditions`, for the same rows; made from `text` if not given.
        text : str, None or sequence of them
            One text for all rows, or one each; None is the null text.
        read : str, Site or iterable of them
            Sites to return, in any order.
        visit : mapping of (kind, layer) to function, optional
            For example ``{("heads", 3): f, ("resid", 2): g}``, in any order. Called once, in the order in
            which the LM computes the places, with the live tensor: ``[rows, positions, heads, head_dim]`` for
            ``heads`` and ``cross_heads``, ``[rows, positions, width]`` otherwise. A visitor changes the
            tensor in place, or returns a replacement of the same shape, or returns None and changes nothing.
            What it raises comes out as it is.
        logits : bool
            False stops the pass after the last place that is needed.
        grad : bool
            Keep the graph: weights are frozen, so it begins at what a visitor makes require a gradient.

        Returns
        -------
        Forward
            Reading changes no bit of the logits.

        Raises
        ------
        SiteError
            If a site or a place does not exist.
        ModelError
            If there are not as many texts or conditions as rows of tokens.
        """
        wanted = [read] if isinstance(read, str | Site) else list(read)
        sites = select_sites(wanted, self.shape) if wanted else []
        visitors = dict(visit or {})
        plan = self._plan(sites, visitors)
        conditions = self._conditions_for(len(tokens), conditions, text)
        result = Forward()
        values: dict[Place, Tensor] = {}
        with torch.set_grad_enabled(grad), self.trace(tokens, [], conditions) as tracer:
            self._walk(plan, visitors, values)
            if logits:
                result.logits = self.output
            else:
                tracer.stop()
        for site in sites:
            value = values[site.place]
            result.values[site] = value if site.head is None else value[:, :, site.head]
        return result

    def predict(
        self,
        codes: Tensor,
        text: Texts = None,
        *,
        conditions: ConditionTensors | None = None,
        read: str | Site | Iterable[str | Site] = (),
        visit: Mapping[Place, Visitor] | None = None,
        logits: bool = True,
        grad: bool = False,
    ) -> Forward:
        """Let the LM hear music and say, at every frame, what it expects: teacher forcing, in one forward pass.

        Parameters
        ----------
        codes : Tensor
            Long ``[rows, K, frames]``.
        text, conditions, read, visit, logits, grad
            As for :meth:`forward`. Positions are those of ``model.sequence(codes)[0][..., :-1]``.

        Returns
        -------
        Forward
            With logits float32 ``[rows, K, frames, cardinality]``, aligned with `codes`: entry t holds the logits from
            which frame t would be drawn.

        Raises
        ------
        SiteError, ModelError
            As :meth:`forward`.

        Examples
        --------
        >>> from interp.backends.build import random_musicgen
        >>> from interp.model import MusicGen
        >>> model = MusicGen(random_musicgen(n_layers=2, n_heads=2, width=16))
        >>> codes = torch.zeros(3, 4, 10, dtype=torch.long)
        >>> heard = model.predict(codes, "calm piano", read=["L1.H0"], visit={("resid", 0): lambda x: 2 * x})
        >>> heard.logits.shape, heard.values[Site.parse("L1.H0")].shape
        (torch.Size([3, 4, 10, 32]), torch.Size([3, 13, 8]))
        """
        tokens = self.sequence(codes)[0][..., :-1]
        result = self.forward(tokens, conditions, text=text, read=read, visit=visit, logits=logits, grad=grad)
        if result.logits is not None:
            result.logits = seam.align_logits(self.lm, result.logits.float(), codes.shape[-1])
        return result

    @contextlib.contextmanager
    def streaming(self) -> Iterator[None]:
        """Keep keys, values and positions between calls of :meth:`forward`, until the block ends."""
        with self.lm.streaming():
            yield

    def autocast(self) -> contextlib.AbstractContextManager[None]:
        """The precision context in which every trace and every forward pass runs: none, unless a subclass has one."""
        return contextlib.nullcontext()

    # What nnsight calls -------------------------------------------------------------------------------------

    def interleave(self, fn: Any, *args: Any, **kwargs: Any) -> Any:
        """Run a trace, in the model's own precision context."""
        with self.autocast():
            return super().interleave(fn, *args, **kwargs)

    def _batch_size(self, *inputs: Any, **kwargs: Any) -> int:
        """Rows that the input of a trace or of an invoke has."""
        music = inputs[0] if inputs else kwargs.get("codes", kwargs.get("text"))
        if isinstance(music, Tensor) and music.ndim == 3:
            return len(music)
        if isinstance(music, list | tuple):
            return len(music)
        return super()._batch_size(*inputs, **kwargs)

    def _batch(self, invokes: list[tuple[Any, ...]], fn: Any) -> tuple[Any, ...]:
        """What audiocraft's ``forward`` is called with: tokens and conditions of all invokes of a trace."""
        if fn != "__call__" or not invokes:
            batch: tuple[Any, ...] = super()._batch(invokes, fn)
            return batch
        parts = [self._inputs(*inputs, **kwargs) for inputs, kwargs in invokes]
        longest = max(tokens.shape[-1] for tokens, _ in parts)
        tokens = torch.cat(
            [torch.nn.functional.pad(part, (0, longest - part.shape[-1]), value=self.cardinality) for part, _ in parts]
        )
        first = parts[0][1]
        if len(parts) == 1:
            return (tokens, [], first), {}
        if any(part[name][0].shape[1:] != first[name][0].shape[1:] for _, part in parts for name in first):
            raise ModelError("texts of different lengths cannot share a trace: give each a trace of its own.")
        joined = {name: tuple(torch.cat([part[name][i] for _, part in parts]) for i in (0, 1)) for name in first}
        return (tokens, [], joined), {}

    def _inputs(
        self,
        music: Any = None,
        attributes: Sequence[Any] = (),
        condition_tensors: ConditionTensors | None = None,
        *,
        conditions: ConditionTensors | None = None,
        codes: Tensor | None = None,
        text: Texts = None,
    ) -> tuple[Tensor, ConditionTensors]:
        """Tokens and conditions of one input of a trace: ``trace("calm piano")``, ``trace(tokens, text=...)``,
        ``trace(codes=..., text=...)``, or audiocraft's own ``trace(tokens, [], conditions)``."""
        if attributes:
            raise ModelError("give texts as text=..., or condition tensors from model.conditions(...).")
        if codes is not None:
            if music is not None:
                raise ModelError("a trace hears either tokens or codes, not both.")
            tokens = self.sequence(codes.reshape(-1, *codes.shape[-2:]))[0][..., :-1]
        elif isinstance(music, Tensor):
            tokens = self._checked_tokens(music.reshape(-1, *music.shape[-2:]))
        else:
            if music is not None and text is not None:
                raise ModelError("a trace takes one text: trace('calm piano'), or trace(tokens, text='calm piano').")
            text = text if music is None else music
            tokens = torch.full((len(_texts(text)), self.n_codebooks, 1), self.cardinality, device=self.device)
        return tokens, self._conditions_for(len(tokens), conditions or condition_tensors, text)

    def _checked_tokens(self, tokens: Tensor) -> Tensor:
        if tokens.ndim != 3 or tokens.shape[1] != self.n_codebooks or tokens.is_floating_point():
            raise ModelError(
                f"tokens are long [rows, {self.n_codebooks}, positions], not {tokens.dtype} {list(tokens.shape)}: make "
                "them with model.sequence(codes)[0], or give audio= and sample_rate=."
            )
        if not self.lm._is_streaming and bool((tokens[:, :, 0] != self.cardinality).any()):
            raise ModelError("these tokens do not begin with the start token: give codes as trace(codes=...).")
        return tokens

    # ------------------------------------------------------------------------------------------------------------

    def _conditions_for(self, rows: int, conditions: ConditionTensors | None, text: Texts) -> ConditionTensors:
        texts = [text] * rows if text is None or isinstance(text, str) else list(text)
        numbers = {len(texts)} if conditions is None else {len(embedding) for embedding, _ in conditions.values()}
        if numbers - {rows}:
            raise ModelError(f"{rows} rows of tokens need {rows} texts, one a row, not {max(numbers - {rows})}.")
        return self.conditions(texts) if conditions is None else conditions

    def _check_place(self, place: Place) -> Place:
        kind, layer = place
        Site(kind, layer, 0 if kind in HEAD_KINDS else None).check(self.shape)
        return place

    def _plan(self, sites: Iterable[Site], visitors: Mapping[Place, Visitor]) -> list[Place]:
        """Places to stop at, each once, in forward order (nnsight raises on anything else)."""
        for place in visitors:
            try:
                self._check_place(place)
            except SiteError as error:
                raise SiteError(f"cannot visit {place!r}: {error}") from None
        return sorted({site.place for site in sites} | set(visitors), key=lambda at: (at[1], KINDS.index(at[0])))

    def _walk(self, plan: Sequence[Place], visitors: Mapping[Place, Visitor], values: dict[Place, Tensor]) -> None:
        """Body of a trace: visit and read the places of a plan."""
        for place in plan:
            value = self._live(place)
            visitor = visitors.get(place)
            replacement = None if visitor is None else visitor(value)
            if replacement is not None:
                self._write(place, replacement)
                value = replacement
            values[place] = value

    def _live(self, place: Place) -> Tensor:
        if not self.interleaver.interleaving:
            raise SiteError("activations are there inside a trace only: write `with model.trace(...):` above this.")
        envoy, where = seam.layer_of(self, place)
        try:
            value = getattr(envoy, where.side)
        except OutOfOrderError as error:
            kind, layer = place
            raise SiteError(
                f"{kind} of layer {max(layer, 0)} had been computed before the place that was read last: read places "
                "in the order of the forward pass, or in a block of their own (`with tracer.invoke():`)."
            ) from error
        return seam.split_heads(self.lm, place[0], value)

    def _write(self, place: Place, value: Tensor) -> None:
        envoy, where = seam.layer_of(self, place)
        setattr(envoy, where.side, seam.join_heads(place[0], value))


def _texts(texts: Texts) -> list[str | None]:
    """One text a row; a single one is one row."""
    return [texts] if texts is None or isinstance(texts, str) else list(texts)


def _like(live: Tensor, value: Any, what: str) -> Tensor:
    """A value that is put in the place of a live tensor: broadcast to its shape, in its dtype, on its device."""
    value = torch.as_tensor(value).to(live)
    try:
        return value.expand_as(live).clone()
    except RuntimeError:
        raise SiteError(f"{what} takes {list(live.shape)}, not {list(value.shape)}.") from None
