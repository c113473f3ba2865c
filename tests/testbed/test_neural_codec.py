"""The learned codec: the interface of EnCodec, an inverse STFT that inverts, the same sound for the same codes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from interp.errors import StoreError
from interp.testbed.neural_codec import CodecSizes, NeuralCodec, spectra, synthesise

SIZES = CodecSizes(encoder=16, encoder_blocks=2, decoder=16, decoder_blocks=2, latent=8, entries=40)


@pytest.fixture(scope="module")
def codec() -> NeuralCodec:
    torch.manual_seed(0)
    codec = NeuralCodec(SIZES, iterations=2)
    codec.quantiser.entries.normal_()
    return codec.eval().requires_grad_(False)


def test_interface(codec: NeuralCodec) -> None:
    assert (codec.sample_rate, codec.frame_rate, codec.num_codebooks, codec.cardinality) == (16_000, 50, 4, 40)
    for samples, frames in ((640, 2), (641, 3), (16_000, 50)):
        codes, scale = codec.encode(torch.randn(2, 1, samples))
        assert codes.shape == (2, 4, frames) and codes.dtype == torch.int64 and scale is None
        assert codes.min() >= 0 and codes.max() < 40
        assert codec.decode(codes).shape == (2, 1, 320 * frames)
    with pytest.raises(ValueError, match="always uses 4"):
        codec.set_num_codebooks(2)


def test_a_clip_does_not_depend_on_its_neighbours(codec: NeuralCodec) -> None:
    codes = torch.randint(40, (6, 4, 20), generator=torch.Generator().manual_seed(0))
    together = codec.decode(codes)
    torch.testing.assert_close(together[4:5], codec.decode(codes[4:5]), rtol=0, atol=1e-5)
    assert torch.equal(together, codec.decode(codes))


def test_the_quantiser_takes_the_nearest_entry_of_what_is_left(codec: NeuralCodec) -> None:
    latent = torch.randn(1, 5, 8, generator=torch.Generator().manual_seed(1))
    codes = codec.quantiser.encode(latent)
    rest = latent[0]
    for k, book in enumerate(codec.quantiser.entries):
        assert torch.equal(torch.cdist(rest, book).argmin(1), codes[0, k])
        rest = rest - book[codes[0, k]]
    torch.testing.assert_close(codec.decode_latent(codes)[0], latent[0] - rest)


def test_the_inverse_of_a_spectrum_is_the_sound() -> None:
    sound = torch.randn(2, 3200, generator=torch.Generator().manual_seed(0))
    window = torch.hann_window(640)
    spectrum = spectra(sound, window, 160)
    assert spectrum.shape == (2, 20, 321)
    torch.testing.assert_close(synthesise(spectrum, window), sound, rtol=0, atol=1e-5)


def test_rounds_of_griffin_lim_make_the_spectrum_more_consistent(codec: NeuralCodec) -> None:
    codes = torch.randint(40, (1, 4, 30), generator=torch.Generator().manual_seed(0))
    magnitude, _ = codec.spectrum(codec.decode_latent(codes))
    misses = []
    for codec.iterations in (0, 2, 8):
        made = spectra(codec.decode(codes)[:, 0], codec.window, 160).abs()
        misses.append(float((made - magnitude).norm()))
    codec.iterations = 2
    assert misses[2] < misses[1] < misses[0]


def test_saved_and_loaded(codec: NeuralCodec, tmp_path: Path) -> None:
    codec.save(tmp_path / "codec")
    again = NeuralCodec.load(tmp_path / "codec")
    assert again.iterations == 2 and again.sizes == SIZES
    sound = torch.randn(1, 1, 3200) * 0.1
    once = again.encode(sound)[0]
    again.save(tmp_path / "twice")
    assert torch.equal(NeuralCodec.load(tmp_path / "twice").encode(sound)[0], once)
    with pytest.raises(StoreError, match="no codec at"):
        NeuralCodec.load(tmp_path / "missing")
    (tmp_path / "codec.json").write_text("{")
    with pytest.raises(StoreError, match="damaged"):
        NeuralCodec.load(tmp_path / "codec")
