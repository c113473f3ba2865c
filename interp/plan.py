"""How long will it take, and will it fit? Time, memory and disk of a run before it begins.

:func:`plan` needs no weights: it times thin slices of the architecture (a few layers of the true width, a codec of the
true size, random weights) on this machine and scales them to all layers, clips and frames. ``interp plan
facebook/musicgen-large --clips 10000 --seconds 10`` works where that model has never been.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch

from interp._batch import by_kind, pool_forward
from interp.backends.build import random_musicgen, released_codec
from interp.backends.devices import device_named, dtype_named
from interp.errors import ModelError
from interp.model import MusicGen
from interp.pooling import Pooling
from interp.sites import ModelShape, Site, select_sites
from interp.steering import Row, generate

__all__ = ["RELEASED", "Plan", "Sizes", "plan"]


@dataclass(frozen=True)
class Sizes:
    """What decides how much work a MusicGen is.

    Attributes
    ----------
    name : str
    shape : ModelShape
    n_codebooks, cardinality : int
    frame_rate, max_seconds : float
    text_encoder : float
        Weights of the text encoder, in millions; T5-base's encoder has 110.
    full_codec : bool
        Whether music comes through an EnCodec of the released size.
    """

    name: str
    shape: ModelShape
    n_codebooks: int = 4
    cardinality: int = 2048
    frame_rate: float = 50.0
    max_seconds: float = 30.0
    text_encoder: float = 110.0
    full_codec: bool = True

    @classmethod
    def of(cls, model: MusicGen) -> Sizes:
        """Sizes of a loaded model."""
        return cls(
            model.name, model.shape, model.n_codebooks, model.cardinality, model.frame_rate, model.max_seconds,
            text_encoder=0.0, full_codec=False,
        )  # fmt: skip

    @property
    def lm_weights(self) -> int:
        """Number of weights of the LM.

        Examples
        --------
        >>> round(RELEASED["facebook/musicgen-small"].lm_weights / 1e6)
        419
        """
        width = self.shape.width
        layer = (16 if self.shape.cross_attention else 12) * width**2
        return self.shape.n_layers * layer + (2 * self.cardinality + 1) * self.n_codebooks * width


def _released() -> dict[str, Sizes]:
    small, medium, large = ModelShape(24, 16, 1024), ModelShape(48, 24, 1536), ModelShape(48, 32, 2048)
    shapes = {"small": small, "medium": medium, "large": large}
    sizes = {f"facebook/musicgen-{name}": Sizes(f"facebook/musicgen-{name}", s) for name, s in shapes.items()}
    for name, s in shapes.items():
        stereo = f"facebook/musicgen-stereo-{name}"
        sizes[stereo] = Sizes(stereo, s, n_codebooks=8)
    return sizes


#: Sizes of the released models that hear text, as their configurations have them.
RELEASED: dict[str, Sizes] = _released()


@dataclass(frozen=True, eq=False)
class Plan:
    """What a run will need.

    Attributes
    ----------
    sizes : Sizes
    table : DataFrame
        A row a stage: ``stage``, ``what``, ``seconds``, ``memory_gib`` (at its peak, weights included) and
        ``disk_gib``.
    """

    sizes: Sizes
    table: pd.DataFrame = field(repr=False)

    @property
    def seconds(self) -> float:
        """Of all stages."""
        return float(self.table["seconds"].sum())

    @property
    def disk_gib(self) -> float:
        """Of all stages."""
        return float(self.table["disk_gib"].sum())

    @property
    def memory_gib(self) -> float:
        """The most that a stage needs."""
        return float(self.table["memory_gib"].max())

    def _repr_html_(self) -> str:
        return f"<b>{self.sizes.name}</b>{self.table.round(2).to_html(index=False)}"


def plan(
    model: MusicGen | str,
    clips: int = 0,
    seconds: float = 10.0,
    *,
    sites: str | Site | Iterable[str | Site] = "heads, resid",
    pool: str | Sequence[str] = "mean",
    batch_size: int = 16,
    rows: int = 0,
    row_seconds: float = 10.0,
    guidance: bool = True,
    device: str | None = None,
    dtype: str = "float32",
) -> Plan:
    """Estimate time, memory and disk of an extraction and of a generation.

    Parameters
    ----------
    model : MusicGen or str
        A loaded model, or the name of a released one (:data:`RELEASED`), whose weights are not needed.
    clips : int
        Clips to extract from.
    seconds : float
        How long they are, on average.
    sites, pool, batch_size
        As :func:`interp.extract` takes them.
    rows : int
        Pieces of music to generate.
    row_seconds : float
        How long they will be.
    guidance : bool
        Whether they are generated under classifier-free guidance, which runs every row twice.
    device, dtype : str
        As :func:`interp.load` takes them, for a model that is not loaded.

    Returns
    -------
    Plan
        Times hold for this machine as it is now, with torch's present number of threads.

    Raises
    ------
    ModelError
        If the name is not that of a released model, or music is longer than the model hears.

    Examples
    --------
    >>> from interp.backends.build import random_musicgen
    >>> small = MusicGen(random_musicgen(n_layers=4, n_heads=2, width=16))
    >>> made = plan(small, clips=1000, seconds=1.0, rows=2, row_seconds=0.2)
    >>> list(made.table["stage"]), round(made.disk_gib * 2**30 / 1000)  # 4 layers x (2 heads of 8, and 16), 4 bytes
    (['encode', 'extract', 'generate'], 512)
    """
    if isinstance(model, str) and model not in RELEASED:
        raise ModelError(f"the sizes of {model!r} are not known: load it, or name one of {', '.join(RELEASED)}.")
    sizes = RELEASED[model] if isinstance(model, str) else Sizes.of(model)
    for length, wanted in ((seconds, clips), (row_seconds, rows)):
        if wanted and not 1 / sizes.frame_rate <= length <= sizes.max_seconds:
            raise ModelError(f"{sizes.name} hears up to {sizes.max_seconds:g} s at once, not {length:g} s.")
    slices = _Slices(sizes, model if isinstance(model, MusicGen) else None, device, dtype)
    chosen = select_sites(sites, sizes.shape)
    stages = []
    if clips:
        stages += _extraction(slices, clips, seconds, chosen, pool, batch_size)
    if rows:
        stages.append(_generation(slices, rows, row_seconds, guidance))
    return Plan(sizes, pd.DataFrame(stages, columns=["stage", "what", "seconds", "memory_gib", "disk_gib"]))


Stage = tuple[str, str, float, float, float]


class _Slices:
    """Thin models of the true width on the device that is meant."""

    def __init__(self, sizes: Sizes, model: MusicGen | None, device: str | None, dtype: str) -> None:
        self.sizes, self.model = sizes, model
        self.device = model.device if model is not None else device_named(device)
        self.dtype = model.dtype if model is not None else (dtype_named(dtype) or torch.float32)
        self.layers = tuple(sorted({min(n, sizes.shape.n_layers) for n in (1, 3)}))

    def lm(self, layers: int) -> MusicGen:
        shape = self.sizes.shape
        made = random_musicgen(
            layers, shape.n_heads, shape.width, n_codebooks=self.sizes.n_codebooks, cardinality=self.sizes.cardinality,
            max_seconds=max(30.0, self.sizes.max_seconds), n_texts=64 if shape.cross_attention else 0,
            device=self.device, dtype=self.dtype,
        )  # fmt: skip
        return MusicGen(made, f"{layers} layers of {self.sizes.name}")

    def scaled(self, measure: Callable[[MusicGen], float]) -> float:
        """What takes t seconds with a few layers, with all of them: t = a + b * layers."""
        took = []
        for layers in self.layers:
            took.append(measure(self.lm(layers)))
            gc.collect()
        if len(took) == 1:
            return took[0]
        slope = max(0.0, (took[1] - took[0]) / (self.layers[1] - self.layers[0]))
        return took[0] + slope * (self.sizes.shape.n_layers - self.layers[0])

    def memory(self, rows: int, positions: int, cached: bool) -> float:
        """GiB at the peak: the interpreter with its libraries, weights, and what the rows need."""
        width, size = self.sizes.shape.width, torch.finfo(self.dtype).bits // 8
        weights = (
            self.sizes.lm_weights * size + self.sizes.text_encoder * 4e6 + (60e6 * 4 if self.sizes.full_codec else 0)
        )
        states = rows * positions * width * (2 * self.sizes.shape.n_layers * size if cached else 12 * size)
        return float((0.8 * 2**30 + weights + states) / 2**30)


def _seconds(act: Callable[[], object]) -> float:
    """Of one call, the better of two after a first one."""
    act()
    took = []
    for _ in range(2):
        began = time.perf_counter()
        act()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        took.append(time.perf_counter() - began)
    return min(took)


def _extraction(
    slices: _Slices, clips: int, seconds: float, sites: Sequence[Site], pool: str | Sequence[str], batch_size: int
) -> list[Stage]:
    sizes = slices.sizes
    frames = max(1, round(seconds * sizes.frame_rate))
    pooling = Pooling.parse(pool, sizes.frame_rate, frames)
    tried = min(batch_size, 2, clips)
    codes = [torch.randint(sizes.cardinality, (sizes.n_codebooks, frames)) for _ in range(tried)]

    def hear(model: MusicGen) -> float:
        there = [site for site in sites if site.layer < model.shape.n_layers] or select_sites("resid", model.shape)
        return _seconds(lambda: pool_forward(model, codes, [None] * tried, there, pooling)) / tried

    kinds = by_kind(sites)
    vectors = sum(len(same) * sizes.shape.dim(kind) for kind, same in kinds.items())
    disk = clips * len(pooling.names) * vectors * (2 if slices.dtype == torch.float16 else 4) / 2**30
    memory = slices.memory(batch_size, frames, cached=False)
    music = f"{clips:,} clips of {seconds:g} s"
    return [
        ("encode", music, clips * _encoding(slices, seconds), memory, 0.0),
        ("extract", f"{len(sites):,} sites x {len(pooling.names)}", clips * slices.scaled(hear), memory, disk),
    ]


def _encoding(slices: _Slices, seconds: float) -> float:
    """Seconds that the codec takes for a clip."""
    tried = min(seconds, 4.0)
    if slices.model is not None:
        model, rate = slices.model, slices.model.sample_rate
        noise = 0.1 * torch.randn(round(tried * rate), generator=torch.Generator().manual_seed(0))
        return _seconds(lambda: model.encode(noise, rate)) * seconds / tried
    codec = released_codec(slices.sizes.n_codebooks if slices.sizes.n_codebooks < 8 else 4).to(slices.device)
    sides = 2 if slices.sizes.n_codebooks == 8 else 1  # stereo models encode left and right apart
    wave = torch.zeros(1, 1, round(tried * 32000), device=slices.device)
    with torch.no_grad():
        return sides * _seconds(lambda: codec.encode(wave)) * seconds / tried


def _generation(slices: _Slices, rows: int, seconds: float, guidance: bool) -> Stage:
    sizes = slices.sizes
    frames = max(2, round(seconds * sizes.frame_rate))
    together = min(rows, 8)
    music = [Row("jazz" if sizes.shape.cross_attention else None, seed) for seed in range(together)]
    strength = 3.0 if guidance and sizes.shape.cross_attention else None
    lengths = sorted({min(frames, n) for n in (30, 120)})

    def play(model: MusicGen) -> float:
        took = [
            _seconds(lambda n=n: generate(model, music, n / model.frame_rate, strength, progress=False))  # type: ignore[misc]
            for n in lengths
        ]
        if len(took) == 1:
            return took[0] * frames / lengths[0]
        # a step costs a little more for every position it looks back at
        steps = np.array(lengths, dtype=float)
        linear, square = np.linalg.solve(np.stack([steps, steps**2], 1), np.array(took))
        return float(max(linear, 0.5 * took[1] / steps[1]) * frames + max(square, 0.0) * frames**2)

    batch = slices.scaled(play)
    memory = slices.memory(together * (2 if strength else 1), frames, cached=True)
    return "generate", f"{rows:,} rows of {seconds:g} s", batch * rows / together, memory, 0.0
