"""A learned codec: log-mel frames, a small ConvNeXt encoder, residual codebooks, a ConvNeXt decoder, an inverse STFT.

It stands where EnCodec stands in the released models (an audiocraft ``CompressionModel``: 50 frames a second, four
codebooks). The form is that of Vocos (Siuzdak 2024) and WavTokenizer (Ji et al. 2025): nothing is upsampled, the
decoder predicts magnitude and phase of STFT frames (two for each code frame) and the inverse STFT makes sound of them.
Encoder and decoder see a quarter of a second on both sides of a frame, so that what is quantised does not flutter from
frame to frame. A few rounds of Griffin-Lim (Perraudin et al. 2013) may refine the predicted phase. Nothing is drawn at
random.

How it is trained is in :mod:`interp.recipes.codec`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from interp._files import atomic
from interp._threads import each, workers
from interp.backends.audiocraft import CompressionModel, QuantizedResult
from interp.errors import StoreError

__all__ = ["HOP", "SAMPLE_RATE", "CodecSizes", "NeuralCodec", "Quantiser"]

SAMPLE_RATE = 16_000
HOP = 320
_FLOOR = 1e-2  # added to magnitudes of up to about 40 before the logarithm: 70 dB of range
_LONG, _LONG_BANDS = 1024, 96  # what plays: 64 ms windows
_SHORT, _SHORT_BANDS, _SHORT_HOP = 256, 24, 160  # when it starts: 16 ms windows, two a frame
_N_FFT, _STEP = 640, 160  # frames of the inverse STFT: 40 ms, every 10 ms
_BINS = _N_FFT // 2 + 1
_FEATURES = _LONG_BANDS + _SHORT_BANDS * (HOP // _SHORT_HOP)
_DECODED = 4  # clips decoded at once: their arrays stay in the cache


@dataclass(frozen=True)
class CodecSizes:
    """Sizes of a :class:`NeuralCodec`.

    Attributes
    ----------
    encoder, encoder_blocks : int
        Width and number of the encoder's blocks.
    decoder, decoder_blocks : int
        The same of the decoder.
    latent : int
        Width of what is quantised.
    codebooks, entries : int
        Number of residual codebooks, and entries of each.
    """

    encoder: int = 160
    encoder_blocks: int = 4
    decoder: int = 256
    decoder_blocks: int = 6
    latent: int = 64
    codebooks: int = 4
    entries: int = 512


class _Block(nn.Module):
    """ConvNeXt block over ``[B, T, width]``: seven frames, channel by channel; then a network frame by frame."""

    def __init__(self, width: int, expansion: int = 2, kernel: int = 7) -> None:
        super().__init__()
        self.mix = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, expansion * width)
        self.down = nn.Linear(expansion * width, width)
        self.scale = nn.Parameter(torch.full((width,), 0.3))

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.mix(x.transpose(1, 2)).transpose(1, 2)
        hidden: Tensor = self.down(F.gelu(self.up(self.norm(mixed)), approximate="tanh"))
        return x + self.scale * hidden


class _Stack(nn.Module):
    """A convolution over three frames, blocks and a projection: ``[B, T, inside]`` to ``[B, T, outside]``."""

    def __init__(self, inside: int, width: int, n_blocks: int, outside: int) -> None:
        super().__init__()
        self.enter = nn.Conv1d(inside, width, 3, padding=1)
        self.norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(_Block(width) for _ in range(n_blocks))
        self.last = nn.LayerNorm(width)
        self.leave = nn.Linear(width, outside)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.enter(x.transpose(1, 2)).transpose(1, 2))
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.leave(self.last(x))
        return out


class Quantiser(nn.Module):
    """Residual vector quantiser: every codebook quantises what those before it left.

    Attributes
    ----------
    entries : Tensor of float32, shape (codebooks, entries, latent)
    """

    entries: Tensor

    def __init__(self, codebooks: int, entries: int, latent: int) -> None:
        super().__init__()
        self.register_buffer("entries", torch.zeros(codebooks, entries, latent))

    def encode(self, latent: Tensor) -> Tensor:
        """Codes ``[B, codebooks, T]`` (int64) of ``[B, T, latent]``."""
        rest, codes = latent, []
        for book in self.entries:
            # squared distance up to a constant of the frame
            code = ((book**2).sum(-1) - 2 * rest @ book.T).argmin(-1)
            rest = rest - book[code]
            codes.append(code)
        return torch.stack(codes, 1)

    def decode(self, codes: Tensor) -> Tensor:
        """``[B, T, latent]`` of codes ``[B, codebooks, T]``."""
        return torch.stack([book[codes[:, k]] for k, book in enumerate(self.entries)]).sum(0)


class NeuralCodec(CompressionModel):  # type: ignore[misc]  # audiocraft is untyped
    """Learned residual codec with the interface of audiocraft's ``EncodecModel``.

    Parameters
    ----------
    sizes : CodecSizes
        Widths and depths.
    iterations : int
        Rounds of Griffin-Lim that refine the predicted phase in :meth:`decode`; 0 takes it as it is.

    Examples
    --------
    >>> codec = NeuralCodec(CodecSizes(encoder=8, encoder_blocks=1, decoder=8, decoder_blocks=1, latent=4, entries=16))
    >>> codes, _ = codec.encode(torch.zeros(2, 1, 1000))
    >>> codes.shape, codec.decode(codes).shape
    (torch.Size([2, 4, 4]), torch.Size([2, 1, 1280]))
    """

    long_filters: Tensor
    short_filters: Tensor
    long_window: Tensor
    short_window: Tensor
    window: Tensor

    def __init__(self, sizes: CodecSizes | None = None, iterations: int = 0) -> None:
        super().__init__()
        sizes = sizes or CodecSizes()
        self.sizes = sizes
        self.iterations = iterations
        self.encoder = _Stack(_FEATURES, sizes.encoder, sizes.encoder_blocks, sizes.latent)
        self.quantiser = Quantiser(sizes.codebooks, sizes.entries, sizes.latent)
        frames = HOP // _STEP
        self.decoder = _Stack(sizes.latent, sizes.decoder, sizes.decoder_blocks, frames * 3 * _BINS)
        for name, n_fft, bands in (("long", _LONG, _LONG_BANDS), ("short", _SHORT, _SHORT_BANDS)):
            self.register_buffer(f"{name}_filters", _mel_filters(n_fft, bands), persistent=False)
            self.register_buffer(f"{name}_window", torch.hann_window(n_fft), persistent=False)
        self.register_buffer("window", torch.hann_window(_N_FFT), persistent=False)

    @property
    def channels(self) -> int:
        return 1

    @property
    def frame_rate(self) -> float:
        return SAMPLE_RATE / HOP

    @property
    def sample_rate(self) -> int:
        return SAMPLE_RATE

    @property
    def cardinality(self) -> int:
        return self.sizes.entries

    @property
    def num_codebooks(self) -> int:
        return self.sizes.codebooks

    @property
    def total_codebooks(self) -> int:
        return self.sizes.codebooks

    def set_num_codebooks(self, n: int) -> None:
        """All codebooks are always in use."""
        if n != self.sizes.codebooks:
            raise ValueError(f"this codec always uses {self.sizes.codebooks} codebooks, not {n}.")

    def features(self, audio: Tensor) -> Tensor:
        """Log-mel features ``[B, frames, 144]`` of audio ``[B, samples]``; ``ceil(samples / 320)`` frames."""
        n_frames = -(-audio.shape[-1] // HOP)
        audio = F.pad(audio.float(), (0, n_frames * HOP - audio.shape[-1]))
        long = magnitudes(audio, self.long_window, HOP) @ self.long_filters
        short = magnitudes(audio, self.short_window, _SHORT_HOP) @ self.short_filters
        short = short.reshape(len(audio), n_frames, -1)
        # roughly of zero mean and unit variance
        return (torch.log(torch.cat([long, 4 * short], -1) + _FLOOR) + 1.0) / 2.0

    def latents(self, audio: Tensor) -> Tensor:
        """What is quantised, ``[B, frames, latent]``, of audio ``[B, samples]``."""
        latent: Tensor = self.encoder(self.features(audio))
        return latent

    def spectrum(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Magnitude ``[B, 2 * frames, 321]`` and complex phase factor of the same shape, of latents."""
        out = self.decoder(latent)
        out = out.reshape(len(latent), -1, 3, _BINS).float()
        magnitude = torch.exp(out[:, :, 0].clamp(max=6.0))
        # the direction of a vector: no angle to wrap
        real, imaginary = out[:, :, 1], out[:, :, 2]
        length = torch.sqrt(real**2 + imaginary**2 + 1e-6)
        return magnitude, torch.complex(real / length, imaginary / length)

    @torch.no_grad()
    def encode(self, x: Tensor) -> tuple[Tensor, None]:
        """Codes ``[B, codebooks, frames]`` (int64) of audio ``[B, 1, samples]``, and no scale."""
        return self.quantiser.encode(self.latents(x[:, 0])), None

    def decode_latent(self, codes: Tensor) -> Tensor:
        """Latents ``[B, frames, latent]`` of codes ``[B, codebooks, frames]``."""
        return self.quantiser.decode(codes)

    @torch.no_grad()
    def decode(self, codes: Tensor, scale: Tensor | None = None) -> Tensor:
        """Audio ``[B, 1, 320 * frames]`` of codes ``[B, codebooks, frames]``."""
        return torch.cat(each(self._decode, torch.split(codes, _DECODED), workers(codes.device.type)))

    @torch.no_grad()  # which a thread of its own does not inherit
    def _decode(self, codes: Tensor) -> Tensor:
        magnitude, phase = self.spectrum(self.decode_latent(codes))
        before = torch.zeros_like(phase)
        for _ in range(self.iterations):
            rebuilt = spectra(synthesise(magnitude * phase, self.window), self.window, _STEP)
            phase = rebuilt - before * (0.99 / 1.99)
            phase = phase / phase.abs().clamp(min=1e-9)
            before = rebuilt
        return synthesise(magnitude * phase, self.window)[:, None]

    def forward(self, x: Tensor) -> QuantizedResult:
        """Round trip, as audiocraft's trainers expect it; not differentiable."""
        codes, _ = self.encode(x)
        return QuantizedResult(self.decode(codes), codes, torch.zeros((), device=x.device))

    def save(self, path: Path | str) -> None:
        """Write ``<path>.safetensors`` in float16 and ``<path>.json``."""
        from safetensors.torch import save_file

        path = Path(path)
        with atomic(path.with_suffix(".safetensors")) as partial:
            save_file({name: tensor.half().contiguous() for name, tensor in self.state_dict().items()}, partial)
        with atomic(path.with_suffix(".json")) as partial:
            about = {"sizes": asdict(self.sizes), "iterations": self.iterations}
            partial.write_text(json.dumps(about, indent=2) + "\n")

    @classmethod
    def load(cls, path: Path | str) -> NeuralCodec:
        """Read what :meth:`save` wrote; computes in float32.

        Raises
        ------
        StoreError
            If a file is missing or damaged.
        """
        from safetensors.torch import load_file

        path = Path(path)
        try:
            about = json.loads(path.with_suffix(".json").read_text())
            codec = cls(CodecSizes(**about["sizes"]), about["iterations"])
            codec.load_state_dict({k: v.float() for k, v in load_file(path.with_suffix(".safetensors")).items()})
        except FileNotFoundError:
            raise StoreError(f"no codec at {path}: train one with `python -m interp.recipes.codec`.") from None
        except Exception as error:  # safetensors, json and torch each have their own
            raise StoreError(f"the codec at {path} is damaged ({error}): train it again.") from None
        return codec.eval().requires_grad_(False)


def spectra(audio: Tensor, window: Tensor, hop: int) -> Tensor:
    """Complex STFT ``[B, samples / hop, bins]``, frames in the middle of their ``hop`` samples, zeros around."""
    pad = (len(window) - hop) // 2
    frames = F.pad(audio, (pad, pad)).unfold(-1, len(window), hop)
    return torch.fft.rfft(frames * window)


def magnitudes(audio: Tensor, window: Tensor, hop: int) -> Tensor:
    """Magnitudes of :func:`spectra`; differentiable at zero."""
    spectrum = spectra(audio, window, hop)
    return torch.sqrt(spectrum.real**2 + spectrum.imag**2 + 1e-8)


def synthesise(spectrum: Tensor, window: Tensor) -> Tensor:
    """Audio ``[B, 160 * frames]`` of which :func:`spectra` of 40 ms every 10 ms is nearest to ``[B, frames, 321]``."""
    frames = torch.fft.irfft(spectrum, _N_FFT) * window
    audio = overlap_add(frames)
    envelope = overlap_add((window**2).expand(1, frames.shape[1], -1))
    pad = (_N_FFT - _STEP) // 2
    return audio[:, pad:-pad] / envelope[:, pad:-pad]


def overlap_add(frames: Tensor) -> Tensor:
    """Sum of frames ``[B, n, 640]`` laid 160 samples apart, ``[B, 160 * (n + 3)]``."""
    batch, n, _ = frames.shape
    overlap = _N_FFT // _STEP
    parts = frames.reshape(batch, n, overlap, _STEP)
    shifted = [F.pad(parts[:, :, i], (0, 0, i, overlap - 1 - i)) for i in range(overlap)]
    return torch.stack(shifted).sum(0).reshape(batch, -1)


def _mel_filters(n_fft: int, bands: int) -> Tensor:
    """Mel filters ``[n_fft // 2 + 1, bands]`` that average magnitudes."""
    from torchaudio.functional import melscale_fbanks

    filters: Tensor = melscale_fbanks(n_fft // 2 + 1, 40.0, SAMPLE_RATE / 2, bands, SAMPLE_RATE, norm=None)
    return filters / filters.sum(0, keepdim=True).clamp(min=1.0)
