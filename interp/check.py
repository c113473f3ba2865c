"""Does a checkpoint, on this machine and in this precision, do what every result rests on?

``interp check MODEL`` runs :func:`check` and prints one table: sizes against weights, text that is heard, traces and
edits that change nothing where they must not, engines that agree, seeds that do not depend on their batch, a codec that
is deterministic, no value that is not finite over the longest window, and how fast it all is.
"""

from __future__ import annotations

import html
import math
import os
import re
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.directions import Direction, Directions
from interp.errors import InterpError
from interp.model import MusicGen
from interp.sites import Place, Site
from interp.steering import Add, Call, Intervention, Row, generate
from interp.tables import to_markdown

__all__ = ["PROMPTS", "Check", "check"]

#: Two prompts that must not sound alike; the model that ships knows them too.
PROMPTS = ("jazz, piano, drums", "rock, guitar, no drums")
_LAYER = re.compile(r"transformer\.layers\.(\d+)\.")


@dataclass(frozen=True, eq=False)
class Check:
    """What came out.

    Attributes
    ----------
    model : str
        What the checkpoint was loaded as.
    facts : dict
        Format, sizes, device, dtype, fingerprint.
    table : DataFrame
        A row for each fact that was looked at: ``fact``, ``holds`` (``yes``, ``no``, or ``-`` where it is a measurement
        or does not apply) and ``value``, in words.

    Examples
    --------
    >>> shown = Check("m", {}, pd.DataFrame({"fact": ["text is heard"], "holds": ["no"], "value": ["not at all"]}))
    >>> shown.passed, shown.failures
    (False, ['text is heard'])
    """

    model: str
    facts: dict[str, Any]
    table: pd.DataFrame = field(repr=False)

    @property
    def passed(self) -> bool:
        """Whether every fact holds."""
        return not self.failures

    @property
    def failures(self) -> list[str]:
        """The facts that do not hold."""
        return list(self.table.loc[self.table["holds"] == "no", "fact"])

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON takes it."""
        return {"model": self.model, "passed": self.passed, **self.facts, "checks": self.table.to_dict("records")}

    def to_markdown(self) -> str:
        """The table, under a line of what was checked."""
        facts = ", ".join(f"{name} {value}" for name, value in self.facts.items())
        return f"**{self.model}**: {facts}\n\n{to_markdown(self.table, max_rows=None)}"

    def _repr_html_(self) -> str:
        facts = html.escape(", ".join(f"{name} {value}" for name, value in self.facts.items()))
        return f"<b>{html.escape(self.model)}</b> {facts}{self.table.to_html(index=False)}"


Finding = tuple[str, bool | None, str]


def check(model: MusicGen, *, seconds: float = 1.0, prompts: tuple[str, str] = PROMPTS) -> Check:
    """Look at a checkpoint before anything is built on it.

    Parameters
    ----------
    model : MusicGen
    seconds : float
        Length of the music that is generated for the comparisons. The scan for values that are not finite goes over the
        model's longest window whatever is said here.
    prompts : two str
        Texts that should lead to different music.

    Returns
    -------
    Check
        A fact that cannot be looked at because something breaks does not hold, and its value says what broke.

    Examples
    --------
    >>> from interp.backends.build import random_musicgen
    >>> from interp.model import MusicGen
    >>> done = check(MusicGen(random_musicgen(n_layers=2, n_heads=2, width=16), "random"), seconds=0.1)
    >>> done.failures
    []
    """
    looked = _Look(model, seconds, prompts)
    findings: list[Finding] = []
    for question in _QUESTIONS:
        try:
            findings += question(looked)
        except (InterpError, RuntimeError, ValueError) as error:
            findings.append(((question.__doc__ or question.__name__).rstrip("."), False, str(error).splitlines()[0]))
    facts = {
        "format": model.format,
        "layers": model.shape.n_layers,
        "heads": model.shape.n_heads,
        "width": model.shape.width,
        "codebooks": f"{model.n_codebooks} x {model.cardinality}",
        "device": looked.device,
        "dtype": str(model.dtype).removeprefix("torch."),
        "fingerprint": model.fingerprint,
    }
    said = {True: "yes", False: "no", None: "-"}
    table = pd.DataFrame([(fact, said[holds], value) for fact, holds, value in findings], columns=_COLUMNS)
    return Check(model.name, facts, table)


_COLUMNS = ["fact", "holds", "value"]


class _Look:
    """The model, and the music that several questions are asked of."""

    def __init__(self, model: MusicGen, seconds: float, prompts: tuple[str, str]) -> None:
        self.model, self.prompts = model, prompts
        self.seconds = max(min(seconds, model.max_seconds), 2 / model.frame_rate)
        self.hears_text = bool(model.lm.condition_provider.conditioners) and model.shape.cross_attention
        rate = model.sample_rate
        when = np.arange(round(rate * self.seconds)) / rate
        notes = sum(np.sin(2 * np.pi * f * when) * np.exp(-4 * (when % 0.25)) for f in (220.0, 277.2, 329.6))
        self.audio = torch.from_numpy((0.2 * notes + 0.02 * np.sin(when * 9e3)).astype(np.float32))
        self.codes = model.encode(self.audio, rate)

    @property
    def text(self) -> str | None:
        return self.prompts[0] if self.hears_text else None

    @property
    def device(self) -> str:
        device = self.model.device
        return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)

    def push(self) -> Call:
        """An edit that must leave traces in the music."""
        return Call((Site.parse(f"L{self.model.shape.n_layers // 2}.H0"),), lambda h: -2 * h)

    def music(self, rows: list[Row], engine: Any = "auto") -> Tensor:
        made = generate(self.model, rows, self.seconds, engine=engine, greedy=False, progress=False)
        return made.codes.cpu()


def _sizes(look: _Look) -> Iterator[Finding]:
    """sizes are those of the weights."""
    state, shape = look.model.lm.state_dict(), look.model.shape
    layers = {int(match[1]) for name in state if (match := _LAYER.match(name))}
    heads = [tuple(value.shape) for name, value in state.items() if re.fullmatch(r"linears\.\d+\.weight", name)]
    width = {value.shape[1] for name, value in state.items() if name.endswith("self_attn.out_proj.weight")}
    right = layers == set(range(shape.n_layers)) and width == {shape.width}
    right = right and heads == [(look.model.cardinality, shape.width)] * look.model.n_codebooks
    parameters = sum(value.numel() for value in state.values()) / 1e6
    yield (
        "sizes are those of the weights",
        right and shape.width % shape.n_heads == 0,
        f"{parameters:,.1f} M weights in {len(layers)} layers, {len(heads)} output heads",
    )


def _text(look: _Look) -> Iterator[Finding]:
    """text changes what is expected."""
    if not look.hears_text:
        yield "text changes what is expected", None, "the model hears no text"
        return
    with torch.no_grad():
        one, other = (_logits(look.model, look.codes, text) for text in look.prompts)
    gap = float((one - other).abs().max())
    yield "text changes what is expected", gap > 1e-4, f"logits of two prompts differ by up to {gap:.2g}"


def _logits(model: MusicGen, codes: Tensor, text: str | None, **more: Any) -> Tensor:
    logits = model.predict(codes, text, **more).logits
    assert logits is not None
    return logits


def _traced(look: _Look) -> Iterator[Finding]:
    """a trace changes nothing."""
    model = look.model
    tokens = model.sequence(look.codes)[0][..., :-1]
    conditions = model.conditions([look.text])
    with torch.no_grad(), model.autocast():
        bare = model.lm(tokens, [], conditions)
    read = model.forward(tokens, conditions, read="all").logits
    assert read is not None
    gap = float((bare.float() - read.float()).abs().max())
    yield "reading every site changes no logit", gap == 0, f"largest difference {gap:.2g}"


def _nothing(look: _Look) -> Iterator[Finding]:
    """an edit that changes nothing changes nothing."""
    site = Site("resid", look.model.shape.n_layers // 2)
    along = Directions([Direction.from_weight(site, np.ones(look.model.shape.width), sigma=1.0, trait="none")])
    same: list[tuple[Intervention, ...]] = [(), (Call((site,), lambda h: h),), (Add(along, dose=0.0),)]
    codes = look.music([Row(look.text, 0, interventions=edits) for edits in same])
    yield "an edit of size zero changes no token", bool((codes == codes[:1]).all()), f"{codes[0].numel()} tokens"


def _engines(look: _Look) -> Iterator[Finding]:
    """all ways of running agree."""
    from interp.steering.engine.fast import unsupported

    rows = [Row(look.text, seed, interventions=edits) for seed in (0, 1) for edits in ((), (look.push(),))]
    reference = look.music(rows, "nnsight")
    hooks = look.music(rows, "hooks")
    yield "hooks = nnsight, steered and not", bool((hooks == reference).all()), _share(hooks, reference)
    why = unsupported(look.model)
    if why is not None:
        yield "fast engine = nnsight", None, f"not for this checkpoint: {why}"
    else:
        fast = look.music(rows, "fast")
        # in half precision sums in another order may tip a draw: then the share is a measurement and not a fact
        same = bool((fast == reference).all()) if look.model.dtype == torch.float32 else None
        yield "fast engine = nnsight", same, _share(fast, reference)
    moved = float((reference[0] != reference[1]).float().mean())
    yield "an edit is felt", moved > 0, f"{100 * moved:.0f} % of the tokens move when one head is turned round"


def _share(one: Tensor, other: Tensor) -> str:
    return f"{100 * float((one == other).float().mean()):.4g} % of {one.numel()} tokens equal"


def _seeds(look: _Look) -> Iterator[Finding]:
    """a seed gives its music in every batch."""
    together = look.music([Row(look.text, seed) for seed in range(3)])
    alone = look.music([Row(look.text, 2)])
    exact = look.model.dtype == torch.float32
    same = float((together[2] == alone[0]).float().mean())
    holds = (same == 1.0) if exact else None
    yield "a seed gives its music in every batch", holds, _share(together[2], alone[0])
    apart = bool((together[0] != together[1]).any())
    yield "different seeds give different music", apart, _share(together[0], together[1])


def _codec(look: _Look) -> Iterator[Finding]:
    """the codec is deterministic."""
    model = look.model
    again = model.encode(look.audio, model.sample_rate)
    inside = bool((look.codes >= 0).all() and (look.codes < model.cardinality).all())
    yield (
        "the codec is deterministic, its codes in range",
        inside and bool((again == look.codes).all()),
        (f"{look.codes.shape[1]} codebooks x {look.codes.shape[2]} frames"),
    )
    audio = model.decode(look.codes)
    wanted = look.codes.shape[-1] / model.frame_rate * model.sample_rate
    fits = bool(audio.isfinite().all()) and abs(audio.shape[-1] - wanted) <= model.sample_rate / model.frame_rate
    second = model.encode(audio[0], model.sample_rate)
    frames = min(second.shape[-1], look.codes.shape[-1])
    heard = f"{audio.shape[-1] / model.sample_rate:.2f} s"
    kept = _share(second[..., :frames], look.codes[..., :frames])
    yield "decoded sound is finite and of its length", fits, f"{heard}; {kept} after decoding and encoding"


def _finite(look: _Look) -> Iterator[Finding]:
    """every value of the longest window is finite."""
    model = look.model
    frames = int(model.max_seconds * model.frame_rate)
    codes = look.codes.repeat(1, 1, math.ceil(frames / look.codes.shape[-1]))[:1, :, :frames]
    bad: list[str] = []
    largest = [0.0]

    def scan(place: Place) -> Callable[[Tensor], None]:
        def visitor(x: Tensor) -> None:
            largest[0] = max(largest[0], float(x.detach().abs().amax()))
            if not bool(x.isfinite().all()):
                bad.append(f"L{place[1]}.{place[0]}")

        return visitor

    places: list[Place] = [("resid", layer) for layer in range(model.shape.n_layers)]
    logits = _logits(model, codes, look.text, visit={place: scan(place) for place in places})
    began = time.perf_counter()
    model.predict(codes, look.text, read="resid", logits=False)
    took = time.perf_counter() - began
    if not bool(logits.isfinite().all()):
        bad.append("the logits")
    said = f"not finite at {', '.join(bad[:3])}" if bad else f"largest activation {largest[0]:.3g}"
    yield f"finite over the longest window ({frames / model.frame_rate:g} s)", not bad, said
    yield "reading its residual stream", None, f"{took:.2f} s, {frames / model.frame_rate / took:.1f} times real time"


def _speed(look: _Look) -> Iterator[Finding]:
    """speed and memory."""
    rows = [Row(look.text, seed) for seed in range(4)]
    look.music(rows)  # what is compiled or allocated once is
    began = time.perf_counter()
    codes = look.music(rows)
    took = time.perf_counter() - began
    steps = codes.shape[-1] + look.model.n_codebooks - 1
    yield "generating 4 rows", None, f"{1000 * took / steps:.1f} ms a step, guidance included"
    yield "peak memory", None, f"{_peak(look.model.device) / 2**30:.2f} GiB"


def _peak(device: torch.device) -> float:
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    unit = 1 if os.uname().sysname == "Darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)


_QUESTIONS: tuple[Callable[[_Look], Iterator[Finding]], ...] = (
    _sizes, _text, _traced, _nothing, _engines, _seeds, _codec, _finite, _speed,
)  # fmt: skip
