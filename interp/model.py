"""MusicGen, seen from inside: an nnsight model over audiocraft's LM, with its codec and its text
conditioning.

Two ways in. In a notebook, trace freely; a head is a slice of a writable view::

    model = interp.load("tiny")
    tokens, _ = model.sequence(model.encode(audio, 16000))
    with torch.no_grad(), model.trace(tokens, [], model.conditions([None])):
        drums = model.heads(3)[:, :, 5].save()     # [rows, positions, head_dim]
        model.heads(4)[:, :, 2] = 0                # later layers see the head ablated
        logits = model.output.save()               # [rows, codebooks, positions, cardinality]

In a program, :meth:`MusicGen.forward` runs one forward pass that reads sites and calls functions at places,
in any order; everything else in the toolkit goes through it, so that this module is the only one that knows
nnsight.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from nnsight import NNsight
from torch import Tensor

from interp.backends import audiocraft as seam
from interp.backends.audiocraft import AudiocraftMusicGen, CompressionModel, ConditionTensors, LMModel, Visitor
from interp.errors import ClipError, ModelError, SiteError
from interp.sites import KINDS, Kind, ModelShape, Place, Site

__all__ = ["Forward", "MusicGen", "Place", "Visitor", "load"]

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


class MusicGen(NNsight):
    """A MusicGen whose LM is an nnsight model.

    Parameters
    ----------
    musicgen : audiocraft MusicGen
        The model; its LM is wrapped, not copied.
    name : str, optional
        What to call it; audiocraft's name by default.
    fingerprint : str, optional
        Identity of the checkpoint; hashed from the weights when it is first asked for, if not given.

    Raises
    ------
    ModelError
        If the LM cannot be traced: no called output projection, or conditions that are not text.
    """

    def __init__(self, musicgen: AudiocraftMusicGen, name: str | None = None, fingerprint: str | None = None) -> None:
        seam.check_traceable(musicgen.lm)
        musicgen.lm.eval().requires_grad_(False)
        musicgen.compression_model.eval().requires_grad_(False)
        seam.set_precision(musicgen)
        # Not an nn.Module, so that nnsight neither mirrors it nor adds the codec to the LM's state.
        self._musicgen = musicgen
        self._called = name if name is not None else str(musicgen.name)
        self._fingerprint = fingerprint
        super().__init__(musicgen.lm)

    # What it is ---------------------------------------------------------------------------------------------

    @property
    def lm(self) -> LMModel:
        """audiocraft's LM itself, for calls that no trace should see."""
        return self._musicgen.lm

    @property
    def codec(self) -> CompressionModel:
        """audiocraft's compression model."""
        return self._musicgen.compression_model

    @property
    def audiocraft(self) -> AudiocraftMusicGen:
        """The audiocraft object this model wraps, with its own ``generate`` methods."""
        return self._musicgen

    @property
    def name(self) -> str:
        """What it was loaded as."""
        return self._called

    @functools.cached_property
    def shape(self) -> ModelShape:
        """Sizes that decide which sites exist."""
        layers: Any = self.lm.transformer.layers
        return ModelShape(
            n_layers=len(layers),
            n_heads=layers[0].self_attn.num_heads,
            width=self.lm.dim,
            cross_attention=layers[0].cross_attention is not None,
        )

    @property
    def sample_rate(self) -> int:
        """Of the codec, in Hz."""
        return int(self.codec.sample_rate)

    @property
    def frame_rate(self) -> float:
        """Codec frames per second."""
        return float(self.codec.frame_rate)

    @property
    def n_codebooks(self) -> int:
        """Parallel streams of tokens."""
        return int(self.lm.n_q)

    @property
    def cardinality(self) -> int:
        """Entries of a codebook; the token of this number is the special one (start and padding)."""
        return int(self.lm.card)

    @property
    def max_seconds(self) -> float:
        """Longest window the model was trained to hear at once."""
        return float(self._musicgen.max_duration)

    @property
    def device(self) -> torch.device:
        """Where the LM's weights are."""
        return next(self.lm.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Of the transformer's weights (audiocraft leaves embeddings in float32 when it runs in float16)."""
        return next(self.lm.transformer.parameters()).dtype

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that identify the checkpoint: its weights and its sizes.

        For a loaded checkpoint it is taken from the weights as they are on disk, so that it does not depend
        on the device or the dtype they run in.
        """
        if self._fingerprint is None:
            self._fingerprint = seam.lm_fingerprint(self.lm.state_dict(), self.shape.n_heads)
        return self._fingerprint

    @functools.cached_property
    def codec_fingerprint(self) -> str:
        """Twelve hexadecimal digits that identify the codec: equal ones give equal codes."""
        codec = self.codec
        what = f"{type(codec).__name__} {self.sample_rate} {self.frame_rate} {self.n_codebooks}"
        return seam.hash_weights(codec.state_dict(), what)

    def untrained(self, seed: int = 0) -> MusicGen:
        """The same model before it learnt anything: its architecture and codec, the LM's weights drawn anew.

        Parameters
        ----------
        seed : int
            Same seed, same weights. torch's global generator is left as it was.

        Returns
        -------
        MusicGen
            With a fingerprint of its own, so that its stores are never taken for the trained model's.

        Raises
        ------
        ModelError
            If it is not known how a weight was initialised: a half-trained copy is no baseline.
        """
        from interp.backends.untrained import untrained

        return MusicGen(untrained(self._musicgen, f"{self.name}-untrained-{seed}", seed))

    # Audio, codes, conditions -------------------------------------------------------------------------------

    @torch.no_grad()
    def encode(self, audio: Tensor, sample_rate: int) -> Tensor:
        """Encode audio into codes.

        Parameters
        ----------
        audio : Tensor
            Float ``[B, C, T]``, ``[C, T]`` or ``[T]``, in -1 to 1; resampled and mixed to the codec's rate
            and channels.
        sample_rate : int
            Of `audio`, in Hz.

        Returns
        -------
        Tensor
            Long ``[B, K, frames]`` on the model's device.
        """
        audio = torch.as_tensor(audio, dtype=torch.float32)
        audio = audio.reshape((1,) * (3 - audio.ndim) + tuple(audio.shape))
        if audio.shape[-1] == 0:
            raise ClipError("cannot encode audio without a single sample.")
        audio = seam.convert_audio(audio, sample_rate, self.sample_rate, self._musicgen.audio_channels)
        parameter = next(self.codec.parameters(), None)
        codes, _ = self.codec.encode(audio.to(self.device if parameter is None else parameter.device))
        return codes.to(device=self.device, dtype=torch.long)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Decode codes ``[B, K, frames]`` into audio, float32 ``[B, C, T]`` on the CPU."""
        if codes.ndim == 2:
            codes = codes[None]
        parameter = next(self.codec.parameters(), None)
        codes = codes.to(self.device if parameter is None else parameter.device)
        return self.codec.decode(codes, None).float().cpu()

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

    def frame_steps(self, n_frames: int) -> Tensor:
        """Step at which each frame begins to be heard (its first codebook enters), long ``[n_frames]``."""
        return seam.frame_steps(self.lm, n_frames)

    def codes_of(self, sequence: Tensor, n_frames: int) -> Tensor:
        """Undo :meth:`sequence`: codes ``[B, K, n_frames]``; -1 for tokens that a cut sequence lacks."""
        return seam.revert_sequence(self.lm, sequence, n_frames)

    def conditions(self, texts: Sequence[str | None]) -> ConditionTensors:
        """Embed one text per row; None is the null text, which an unconditional row gets under guidance.

        Raises
        ------
        InterpError
            If the model has a closed vocabulary and a text is not in it.
        """
        return seam.condition_tensors(self.lm, texts)

    def condition_lengths(self, texts: Sequence[str | None]) -> list[int]:
        """Length in tokens of each text on its own; rows of one length share a batch without padding."""
        return seam.condition_lengths(self.lm, texts)

    def check_prompt(self, text: str | None) -> None:
        """Raise if the model cannot take this text (a closed vocabulary that does not have it)."""
        if text is not None:
            self.conditions([text])

    def output_projection(self, site: str | Site) -> Tensor:
        """What takes all heads of a layer, side by side, to what the attention block adds to the residual stream:
        float64 ``[width, width]``, head h in columns ``h * head_dim`` to ``(h + 1) * head_dim``."""
        return seam.output_projection(self.lm, Site.parse(site).check(self.shape).place)

    # Inside -------------------------------------------------------------------------------------------------

    def heads(self, layer: int, cross: bool = False) -> Tensor:
        """Heads of a layer, inside a trace: a view ``[rows, positions, heads, head_dim]`` that can be written
        in place.

        Parameters
        ----------
        layer : int
            From 0.
        cross : bool
            Cross-attention instead of self-attention.
        """
        return self._read("cross_heads" if cross else "heads", layer)

    def place(self, kind: Kind, layer: int = -1) -> Tensor:
        """The live tensor at a place, inside a trace; heads as ``[rows, positions, heads, head_dim]``."""
        return self._read(kind, layer)

    def forward(
        self,
        tokens: Tensor,
        conditions: ConditionTensors | None = None,
        *,
        text: Texts = None,
        read: Iterable[str | Site] = (),
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
        read : iterable of Site or str
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
            If there are not as many conditions as rows of tokens.
        """
        sites = [Site.parse(site).check(self.shape) for site in read]
        visitors = dict(visit or {})
        plan = self._plan(sites, visitors)
        conditions = self._conditions_for(len(tokens), conditions, text)
        result = Forward()
        values: dict[Place, Tensor] = {}
        with torch.set_grad_enabled(grad), self.autocast(), self.trace(tokens, [], conditions) as tracer:
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
        read: Iterable[str | Site] = (),
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
        """The precision context in which audiocraft generates: none on a CPU, float16 on a GPU."""
        autocast: contextlib.AbstractContextManager[None] = self._musicgen.autocast
        return autocast

    def _conditions_for(self, rows: int, conditions: ConditionTensors | None, text: Texts) -> ConditionTensors:
        texts = [text] * rows if text is None or isinstance(text, str) else list(text)
        numbers = {len(texts)} if conditions is None else {len(embedding) for embedding, _ in conditions.values()}
        if numbers - {rows}:
            raise ModelError(f"{rows} rows of tokens need {rows} texts, one a row, not {max(numbers - {rows})}.")
        return self.conditions(texts) if conditions is None else conditions

    def _plan(self, sites: Iterable[Site], visitors: Mapping[Place, Visitor]) -> list[Place]:
        """Places to stop at, each once, in forward order (nnsight raises on anything else)."""
        places: set[Place] = {(site.kind, site.layer) for site in sites}
        for kind, layer in visitors:
            try:
                Site(kind, layer, 0 if kind in ("heads", "cross_heads") else None).check(self.shape)
            except SiteError as error:
                raise SiteError(f"cannot visit {(kind, layer)!r}: {error}") from None
            places.add((kind, layer))
        return sorted(places, key=lambda place: (place[1], KINDS.index(place[0])))

    def _walk(self, plan: Sequence[Place], visitors: Mapping[Place, Visitor], values: dict[Place, Tensor]) -> None:
        """Body of a trace: visit and read the places of a plan."""
        for place in plan:
            value = self._read(*place)
            visitor = visitors.get(place)
            if visitor is not None:
                replacement = visitor(value)
                if replacement is not None:
                    self._write(*place, replacement)
                    value = replacement
            values[place] = value

    def _read(self, kind: Kind, layer: int) -> Tensor:
        envoy, where = seam.layer_of(self, (kind, layer))
        return seam.split_heads(self.lm, kind, getattr(envoy, where.side))

    def _write(self, kind: Kind, layer: int, value: Tensor) -> None:
        envoy, where = seam.layer_of(self, (kind, layer))
        setattr(envoy, where.side, seam.join_heads(kind, value))


def load(
    name_or_path: str | Path, device: str | torch.device | None = None, dtype: torch.dtype | str | None = None
) -> MusicGen:
    """Load a MusicGen.

    Parameters
    ----------
    name_or_path : str or Path
        ``"tiny"`` (the model that ships with the package), a folder in audiocraft's format
        (``state_dict.bin`` and ``compression_state_dict.bin``), or the name of a model on the Hugging Face
        hub such as ``"facebook/musicgen-small"``.
    device : str or torch.device, optional
        By default a GPU if there is one.
    dtype : torch.dtype or str, optional
        Of the LM's weights; by default float32 on a CPU and float16 on a GPU, as audiocraft has it.

    Returns
    -------
    MusicGen

    Raises
    ------
    ModelError
        If it cannot be found, read, or traced; the sentence says what to do.
    """
    where = torch.device(device if device is not None else "cuda" if torch.cuda.is_available() else "cpu")
    kind = getattr(torch, dtype.removeprefix("torch."), None) if isinstance(dtype, str) else dtype
    if kind not in (None, torch.float32, torch.float16, torch.bfloat16):
        raise ModelError(f"cannot run in dtype {dtype!r}: use float32, float16 or bfloat16.")
    if str(name_or_path) == "tiny":
        from interp import testbed

        model = MusicGen(testbed.load(where), "tiny")
        if kind is not None and kind != model.dtype:
            fingerprint = model.fingerprint  # of the weights as they ship, before they are rounded
            model.lm.to(kind)
            model = MusicGen(model.audiocraft, "tiny", fingerprint)
        return model
    from interp.backends.checkpoints import load_checkpoint

    musicgen, fingerprint = load_checkpoint(str(name_or_path), where, kind)
    return MusicGen(musicgen, str(name_or_path), fingerprint)
