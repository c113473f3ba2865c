"""Sound files: what is written is what is read, and what is no sound is refused in one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from interp.data.audio import encode_audio, read_audio, sound_files, write_audio
from interp.errors import ClipError, StoreError


@pytest.mark.parametrize("shape", [(8000,), (1, 8000), (2, 8000)])
def test_audio_survives_writing(tmp_path: Path, shape: tuple[int, ...]) -> None:
    wave = np.random.default_rng(0).uniform(-0.9, 0.9, shape).astype(np.float32)
    back, rate = soundfile.read(write_audio(tmp_path / "a.wav", wave, 16000), always_2d=True)
    assert rate == 16000
    np.testing.assert_allclose(back.T, np.atleast_2d(wave), atol=2**-15)


def test_loud_audio_is_turned_down_not_clipped(tmp_path: Path) -> None:
    wave = 3 * np.sin(np.arange(8000) / 10).astype(np.float32)
    back, _ = soundfile.read(write_audio(tmp_path / "a.wav", wave, 16000))
    np.testing.assert_allclose(back, 0.99 * wave / np.abs(wave).max(), atol=2**-14)


@pytest.mark.parametrize("wave", [np.zeros(0), np.full(10, np.nan), np.zeros((1, 2, 3))])
def test_audio_that_is_none_is_refused(tmp_path: Path, wave: np.ndarray) -> None:
    with pytest.raises(ClipError, match="empty or not finite"):
        write_audio(tmp_path / "a.wav", wave, 16000)


@pytest.mark.parametrize("name", ["a.wav", "deep/er/a.flac", "a.ogg", "a.mp3"])
def test_a_sound_is_read_as_it_was_written(tmp_path: Path, name: str) -> None:
    wave = 0.5 * np.sin(np.arange(16000) / np.array([[9.0], [14.0]])).astype(np.float32)
    audio, rate = read_audio(write_audio(tmp_path / name, wave, 16000))
    assert rate == 16000 and audio.dtype == np.float32 and audio.shape == wave.shape
    np.testing.assert_allclose(audio[:, 2000:-2000], wave[:, 2000:-2000], atol=2**-14 if name[-1] in "vc" else 0.05)


def test_a_part_of_a_sound(tmp_path: Path) -> None:
    ramp = np.linspace(-0.9, 0.9, 8000).astype(np.float32)
    file = write_audio(tmp_path / "a.wav", ramp, 8000)
    part, _ = read_audio(file, 0.25, 0.5)
    np.testing.assert_allclose(part[0], ramp[2000:6000], atol=2**-15)
    for start, seconds in ((0.8, 0.5), (1.5, None), (-0.1, None)):
        with pytest.raises(ClipError, match=r"is 1\.00 s long and has no"):
            read_audio(file, start, seconds)


def test_what_is_no_sound_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "broken.wav").write_bytes(b"RIFF and then nothing")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 8000)
    wrong = {"gone.wav": "there is no sound", "broken.wav": "cannot read", "empty.wav": "holds no sound"}
    for name, words in wrong.items():
        with pytest.raises(ClipError, match=words):
            read_audio(tmp_path / name)
    with pytest.raises(ClipError, match="name a wav, flac, mp3, ogg file"):
        write_audio(tmp_path / "a.txt", np.zeros(8), 8000)
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot write"):
        write_audio(tmp_path / "file" / "a.wav", np.zeros(8), 8000)
    (tmp_path / "folder").mkdir()
    with pytest.raises(ClipError, match="no sound in"):
        sound_files(tmp_path / "folder")


def test_flac_in_memory_keeps_every_sample(tmp_path: Path) -> None:
    wave = np.random.default_rng(0).uniform(-0.9, 0.9, 4000).astype(np.float32)
    (tmp_path / "a.flac").write_bytes(encode_audio(wave, 16000, "FLAC"))
    np.testing.assert_allclose(read_audio(tmp_path / "a.flac")[0][0], wave, atol=2**-15)
