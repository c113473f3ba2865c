"""What a model is beside its LM: codec, fingerprints, how it loads and how it shows itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, settings

from interp.backends.build import random_musicgen
from interp.errors import ClipError, ModelError
from interp.model import MusicGen

SOME = settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],  # a failing shape says enough without being made smaller, which takes minutes
    suppress_health_check=list(HealthCheck),
)


def test_encode_takes_any_rate_and_channels(tiny_lm_model: MusicGen) -> None:
    noise = torch.randn(2, 22050, generator=torch.Generator().manual_seed(0)) * 0.3
    stereo = tiny_lm_model.encode(noise, 22050)
    mono = tiny_lm_model.encode(noise.mean(0), 22050)
    assert stereo.shape == (1, 4, 50)
    assert stereo.dtype == torch.long
    assert torch.equal(stereo, mono)
    assert tiny_lm_model.decode(stereo).shape == (1, 1, 16000)
    assert len(stereo.unique()) > 8  # the codes say something about the audio
    assert tiny_lm_model.encode(noise[:, :5], np.int64(22050)).shape == (1, 4, 1)  # less than a frame is one


@pytest.mark.parametrize(
    ("audio", "rate", "sentence"),
    [
        (torch.zeros(1, 1, 0), 16000, "without a single sample"),
        (torch.zeros(1, 1, 1, 9), 16000, r"not \[1, 1, 1, 9\]"),
        (torch.tensor(0.1), 16000, r"not \[\]"),
        (torch.zeros(8000, 2), 16000, r"8000 channels: give it as \[channels, samples\]"),
        (torch.full((8000,), torch.nan), 16000, "holds NaN or infinity"),
        *(
            (torch.zeros(8000), rate, "a sample rate is a whole number")
            for rate in (0, -1, None, "x", 44100.5, float("nan"))
        ),
    ],
)
def test_audio_that_cannot_be_heard_gets_a_sentence(
    tiny_lm_model: MusicGen, audio: torch.Tensor, rate: object, sentence: str
) -> None:
    with pytest.raises(ClipError, match=sentence):
        tiny_lm_model.encode(audio, rate)  # type: ignore[arg-type]


def test_a_model_shows_what_it_is_in_a_few_lines(tiny_lm_model: MusicGen) -> None:
    text, page = repr(tiny_lm_model), tiny_lm_model._repr_html_()
    assert len(text.splitlines()) == 5 and max(map(len, text.splitlines())) <= 80
    for fact in ("random-3x4x32-1", "3 of 4 heads, width 32", "4 codebooks of 32", "16000 Hz", "float32 on cpu"):
        assert fact in text and fact in page


def test_the_codec_is_no_part_of_the_traced_model(tiny_lm_model: MusicGen) -> None:
    assert not any("codec" in name or "encoder" in name for name in tiny_lm_model.lm.state_dict())
    assert all(not parameter.requires_grad for parameter in tiny_lm_model.lm.parameters())


def test_the_fingerprint_sees_one_weight_and_the_number_of_heads() -> None:
    first, same, other = (MusicGen(random_musicgen(2, 4, 16, seed=seed)) for seed in (0, 0, 1))
    assert first.fingerprint == same.fingerprint != other.fingerprint
    assert MusicGen(random_musicgen(2, 2, 16, seed=0)).fingerprint != first.fingerprint
    changed = random_musicgen(2, 4, 16, seed=0)
    changed.lm.linears[3].weight.data[0, 0] += 1e-3
    assert MusicGen(changed).fingerprint != first.fingerprint
    assert first.codec_fingerprint == same.codec_fingerprint != other.codec_fingerprint


def test_names_that_load_nothing_get_a_sentence() -> None:
    import interp

    with pytest.raises(ModelError, match="cannot run in dtype"):
        interp.load("tiny", dtype="int8")
    with pytest.raises(ModelError, match="there is no model 'nonsense'"):
        interp.load("nonsense")
