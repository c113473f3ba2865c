"""The codec of the shipped model: log-mel frames, residual k-means, Griffin-Lim.

It stands where EnCodec stands in the released models (an audiocraft ``CompressionModel``: 50 frames a second, four
codebooks) at a thousandth of the training cost: a frame is the logarithm of 96 mel magnitudes; each of four codebooks
of 256 entries quantises what the codebooks before it left; sound comes back through the pseudo-inverse of the mel
filters and Griffin-Lim phase reconstruction (Perraudin et al. 2013, the fast variant), without any randomness.
"""

from __future__ import annotations

import torch
from torch import Tensor

from interp._threads import each, workers
from interp.backends.audiocraft import CompressionModel, QuantizedResult

__all__ = ["CARDINALITY", "HOP", "N_CODEBOOKS", "SAMPLE_RATE", "MelCodec", "fit_codebooks"]

SAMPLE_RATE = 16_000
HOP = 320
N_CODEBOOKS = 4
CARDINALITY = 256
_N_FFT = 1024
_N_MELS = 96
_DECODED = 4  # clips decoded at once: their arrays stay in the cache
_FLOOR = 0.05  # added to magnitudes of up to about 30 before the logarithm: 55 dB of range


class MelCodec(CompressionModel):  # type: ignore[misc]  # audiocraft is untyped
    """Log-mel residual vector quantiser with the interface of audiocraft's ``EncodecModel``.

    Parameters
    ----------
    codebooks : Tensor of float32, shape (4, 256, 96)
        Entries of each codebook; the first one includes the mean frame.
    iterations : int
        Griffin-Lim iterations in :meth:`decode`.
    """

    codebooks: Tensor
    filters: Tensor
    spread: Tensor
    window: Tensor

    def __init__(self, codebooks: Tensor, iterations: int = 32) -> None:
        super().__init__()
        from torchaudio.functional import melscale_fbanks

        self.iterations = iterations
        filters = melscale_fbanks(_N_FFT // 2 + 1, 30.0, SAMPLE_RATE / 2, _N_MELS, SAMPLE_RATE, norm="slaney")
        filters = filters / filters.sum(0, keepdim=True)
        self.register_buffer("codebooks", codebooks.float())
        self.register_buffer("filters", filters, persistent=False)
        # every mel band spreads its magnitude over the bins it was averaged from
        spread = filters / filters.sum(1, keepdim=True).clamp(min=1e-6)
        self.register_buffer("spread", spread.T.contiguous(), persistent=False)
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
        return CARDINALITY

    @property
    def num_codebooks(self) -> int:
        return N_CODEBOOKS

    @property
    def total_codebooks(self) -> int:
        return N_CODEBOOKS

    def set_num_codebooks(self, n: int) -> None:
        """All four codebooks are always in use."""
        if n != N_CODEBOOKS:
            raise ValueError(f"this codec always uses {N_CODEBOOKS} codebooks, not {n}.")

    def frames(self, audio: Tensor) -> Tensor:
        """Log-mel frames ``[B, frames, 96]`` of audio ``[B, 1, samples]``; ``ceil(samples / 320)`` frames."""
        n_frames = -(-audio.shape[-1] // HOP)
        spectrum = torch.stft(
            audio[:, 0].float(), _N_FFT, HOP, window=self.window, center=True, pad_mode="constant", return_complex=True
        )
        mel = spectrum.abs().transpose(1, 2)[:, :n_frames] @ self.filters
        return torch.log(mel + _FLOOR)

    def quantize(self, frames: Tensor) -> Tensor:
        """Codes ``[B, 4, frames]`` (int64) of log-mel frames ``[B, frames, 96]``."""
        rest = frames
        codes = []
        for book in self.codebooks:
            # squared distance up to a constant of the frame
            code = ((book**2).sum(-1) - 2 * rest @ book.T).argmin(-1)
            rest = rest - book[code]
            codes.append(code)
        return torch.stack(codes, 1)

    def decode_latent(self, codes: Tensor) -> Tensor:
        """Log-mel frames ``[B, frames, 96]`` of codes ``[B, 4, frames]``."""
        return torch.stack([book[codes[:, k]] for k, book in enumerate(self.codebooks)]).sum(0)

    @torch.no_grad()
    def encode(self, x: Tensor) -> tuple[Tensor, None]:
        """Codes ``[B, 4, frames]`` of audio ``[B, 1, samples]``, and no scale."""
        return self.quantize(self.frames(x)), None

    @torch.no_grad()
    def decode(self, codes: Tensor, scale: Tensor | None = None) -> Tensor:
        """Audio ``[B, 1, 320 * frames]`` of codes ``[B, 4, frames]``."""
        # Griffin-Lim goes over its arrays again and again: a few clips at a time are twice as fast as all at once.
        return torch.cat(each(self._decode, torch.split(codes, _DECODED), workers(codes.device.type)))

    @torch.no_grad()  # which a thread of its own does not inherit
    def _decode(self, codes: Tensor) -> Tensor:
        from torchaudio.functional import griffinlim

        mel = (torch.exp(self.decode_latent(codes)) - _FLOOR).clamp(min=0)
        magnitude = (mel @ self.spread).transpose(1, 2)
        audio = griffinlim(
            torch.nn.functional.pad(magnitude, (0, 1)),
            self.window,
            _N_FFT,
            HOP,
            _N_FFT,
            power=1.0,
            n_iter=self.iterations,
            momentum=0.99,
            length=codes.shape[-1] * HOP,
            rand_init=False,
        )
        return audio[:, None]

    def forward(self, x: Tensor) -> QuantizedResult:
        """Round trip, as audiocraft's trainers expect it; not differentiable."""
        codes, _ = self.encode(x)
        return QuantizedResult(self.decode(codes), codes, torch.zeros((), device=x.device))


def fit_codebooks(frames: Tensor, seed: int) -> Tensor:
    """Fit residual codebooks by mini-batch k-means.

    Parameters
    ----------
    frames : Tensor of float32, shape (n, 96)
        Log-mel frames.
    seed : int
        Seed of scikit-learn's ``MiniBatchKMeans``.

    Returns
    -------
    Tensor of float32, shape (4, 256, 96)
    """
    from sklearn.cluster import MiniBatchKMeans

    rest = frames.numpy().copy()
    books = []
    for _ in range(N_CODEBOOKS):
        means = MiniBatchKMeans(CARDINALITY, random_state=seed, batch_size=8192, n_init=1, max_iter=30).fit(rest)
        rest -= means.cluster_centers_[means.predict(rest)]
        books.append(torch.from_numpy(means.cluster_centers_).float())
    return torch.stack(books)
