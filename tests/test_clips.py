"""Clips: what goes into a folder comes out, and whatever is wrong with one gets a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from interp.activations import extract
from interp.clips import Clips
from interp.errors import ClipError
from interp.model import MusicGen


def sine(seconds: float = 0.5, rate: int = 16000, channels: int = 1, pitch: float = 440.0) -> npt.NDArray[np.float32]:
    t = np.arange(round(seconds * rate)) / rate
    return np.stack([0.4 * np.sin(2 * np.pi * pitch * (c + 1) * t) for c in range(channels)]).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four formats, four sample rates, mono and stereo, in a table with groups and a missing label."""
    (tmp_path / "more").mkdir()
    for name, rate, channels in [
        ("a.wav", 16000, 1),
        ("b.flac", 22050, 2),
        ("more/c.mp3", 44100, 1),
        ("d.ogg", 48000, 2),
    ]:
        soundfile.write(tmp_path / name, sine(rate=rate, channels=channels).T, rate)
    (tmp_path / "metadata.csv").write_text(
        "file_name,drums,genre,tempo,group\na.wav,1,jazz,120,1\nb.flac,0,rock,,1\nmore/c.mp3,1,,90.5,2\nd.ogg,0,rock,100,3\n"
    )
    return tmp_path


def test_a_folder_of_any_format_rate_and_channels(folder: Path) -> None:
    clips = Clips.from_folder(folder)
    assert clips.ids == ["a.wav", "b.flac", "more/c.mp3", "d.ogg"]
    assert [(c.audio.shape[0], c.sample_rate) for c in clips] == [(1, 16000), (2, 22050), (1, 44100), (2, 48000)]
    assert all(c.audio.dtype == np.float32 and abs(c.seconds - 0.5) < 0.06 for c in clips)
    assert abs(np.abs(clips[0].audio).max() - 0.4) < 1e-3
    assert list(clips.labels["group"]) == ["1", "1", "2", "3"]
    assert clips.labels["genre"].isna().tolist() == [False, False, True, False]
    assert repr(clips) == "<4 clips in 3 groups; labels: drums, genre, tempo>"
    assert list(Clips.from_folder(folder, labels=["drums"]).labels) == ["drums", "group"]


def test_audio_is_not_read_before_it_is_asked_for(folder: Path) -> None:
    clips = Clips.from_folder(folder)
    (folder / "b.flac").write_bytes(b"not audio")
    assert len(clips.subset(["a.wav", "d.ogg"])) == 2
    with pytest.raises(ClipError, match=r"cannot read the audio file .*b\.flac"):
        clips["b.flac"]
    (folder / "b.flac").unlink()
    with pytest.raises(ClipError, match=r"b\.flac is missing"):
        clips[1]


def test_written_clips_come_back_exactly(tmp_path: Path) -> None:
    labels = pd.DataFrame(
        {"drums": [True, False], "tempo": [90.0, np.nan], "group": ["x", "x"]}, index=["one", "two.wav"]
    )
    clips = Clips.from_arrays([sine(), sine(0.3, channels=2)], 16000, labels)
    again = Clips.from_folder(clips.to_folder(tmp_path / "out"))
    assert again.ids == ["one.wav", "two.wav"]
    for old, new in zip(clips, again, strict=True):
        np.testing.assert_array_equal(old.audio, new.audio)
    assert (
        again.labels.drop(columns="group")
        .reset_index(drop=True)
        .equals(labels.drop(columns="group").reset_index(drop=True))
    )
    assert list(again.labels["group"]) == ["x", "x"]
    with pytest.raises(ClipError, match="holds clips already"):
        clips.to_folder(tmp_path / "out")
    with pytest.raises(ClipError, match="use wav or flac"):
        clips.to_folder(tmp_path / "other", format="mp3")


def test_choosing_clips(folder: Path) -> None:
    clips = Clips.from_folder(folder)
    rock = clips.subset(clips.labels["genre"] == "rock")
    assert rock.ids == ["b.flac", "d.ogg"]
    assert clips.subset(np.array([True, False, False, True])).ids == ["a.wav", "d.ogg"]
    assert clips.subset([3, 0]).ids == clips.subset(["d.ogg", "a.wav"]).ids == ["d.ogg", "a.wav"]
    assert clips[1:3].ids == ["b.flac", "more/c.mp3"]
    for chosen, sentence in [([True], "mask of 1"), (["zz"], "no clip 'zz'"), ([False] * 4, "no clip is left")]:
        with pytest.raises(ClipError, match=sentence):
            clips.subset(chosen)


def test_windows_keep_labels_and_group(folder: Path) -> None:
    clips = Clips.from_folder(folder)[:2]
    windows = clips.windows(0.2, hop=0.1)
    assert windows.ids[:4] == ["a.wav@0s", "a.wav@0.1s", "a.wav@0.2s", "a.wav@0.3s"]
    assert set(windows.labels["group"]) == {"1"}
    np.testing.assert_array_equal(windows["a.wav@0.1s"].audio, clips[0].audio[:, 1600:4800])
    in_memory = Clips.from_arrays([clips[0].audio], 16000).windows(0.2)
    np.testing.assert_array_equal(in_memory[1].audio, clips[0].audio[:, 3200:6400])
    with pytest.raises(ClipError, match="ask for shorter windows"):
        clips.windows(9)
    with pytest.raises(ClipError, match="must be positive"):
        clips.windows(0)


def test_keys_tell_contents_apart(folder: Path) -> None:
    clips = Clips.from_folder(folder)
    assert len({clips.key(i) for i in range(4)}) == 4
    (folder / "copy.wav").write_bytes((folder / "a.wav").read_bytes())
    (folder / "metadata.csv").write_text("file_name\ncopy.wav\na.wav\n")
    copies = Clips.from_folder(folder)
    assert copies.key(0) == copies.key(1) == clips.key(0)
    assert len({copies.windows(0.2).key(i) for i in range(2)}) == 2
    assert Clips.from_arrays([sine()], 16000).key(0) != Clips.from_arrays([sine()], 8000).key(0)


def test_without_groups_each_clip_is_its_own() -> None:
    clips = Clips.from_arrays(np.stack([sine(), sine()]), 16000, {"drums": [0, 1]})
    assert list(clips.labels["group"]) == clips.ids == ["clip-00000", "clip-00001"]


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (None, "holds 4 audio files but no metadata.csv"),
        ("name,drums\na.wav,1\n", "has no column 'file_name', only 'name', 'drums'"),
        ("file_name,drums\n", "lists no clip"),
        ("", "cannot read"),
        ("file_name,drums\na.wav,1\na.wav,0\n", "'a.wav' is listed more than once"),
        ("file_name,drums\nz.wav,1\ny.wav,1\na.wav,0\n", "'z.wav' and 1 more in .* is not in that folder"),
        ("file_name,drums\na.wav,1\n,0\n", "row 3 .* names no file"),
        ("file_name,group\na.wav,1\nb.flac,\n", "'b.flac' has no group"),
    ],
)
def test_a_folder_that_cannot_be_used_gets_a_sentence(folder: Path, table: str | None, sentence: str) -> None:
    (folder / "metadata.csv").unlink()
    if table is not None:
        (folder / "metadata.csv").write_text(table)
    with pytest.raises(ClipError, match=sentence):
        Clips.from_folder(folder)


def test_missing_folders_and_columns(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ClipError, match="there is no folder"):
        Clips.from_folder(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ClipError, match=r"holds neither audio files nor a metadata\.csv"):
        Clips.from_folder(tmp_path / "empty")
    with pytest.raises(ClipError, match="has no column 'mood'"):
        Clips.from_folder(folder, labels=["mood"])


def test_audio_that_cannot_be_used_gets_a_sentence() -> None:
    with pytest.raises(ClipError, match="holds no audio"):
        Clips.from_arrays([np.zeros((1, 0))], 16000)[0]
    with pytest.raises(ClipError, match="NaN or infinite samples"):
        Clips.from_arrays([np.array([0.0, np.nan])], 16000)[0]
    with pytest.raises(ClipError, match="there is no clip"):
        Clips.from_arrays([], 16000)
    with pytest.raises(ClipError, match="label 'drums' has 3 values"):
        Clips.from_arrays([sine()], 16000, {"drums": [1, 2, 3]})
    with pytest.raises(ClipError, match="2 clips but 1 rows"):
        Clips.from_arrays([sine(), sine()], 16000, pd.DataFrame({"drums": [1]}))


@pytest.mark.parametrize(
    ("audio", "sentence"),
    [
        (np.zeros((16000, 2)), "may be one clip or many"),
        (np.zeros(16000), "may be one clip or many"),
        ([sine(channels=2).T], "2 samples: it lies the wrong way round; give .channels, samples., for example audio.T"),
        ([np.zeros((9, 100))], "9 channels of 100 samples"),
        ([[0.1, 0.2], ["a", "b"]], "'clip-00001' has the shape .2. and the type <U1"),
        ([np.zeros(4, np.int64)], "type int64, which says nothing of their scale"),
        ([np.zeros(4, bool)], "type bool"),
        ([np.zeros((1, 2, 3))], r"the shape \[1, 2, 3\]"),
        ([[0.1], [[1.0], [2.0, 3.0]]], "'clip-00001' is no array of samples"),
        ([np.array([0.0, 30000.0])], "samples up to 30000 where a sound lies in -1 to 1"),
        ([np.zeros((1, 0))], "'clip-00000' holds no audio"),
    ],
)
def test_arrays_that_are_not_what_they_seem(audio: object, sentence: str) -> None:
    with pytest.raises(ClipError, match=sentence):
        Clips.from_arrays(audio, 16000)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "uint8"])
def test_integers_are_scaled_by_their_type(tmp_path: Path, dtype: str) -> None:
    """As a wav file of that type is read."""
    limits = np.iinfo(dtype)
    samples = np.array([limits.min, limits.max, (limits.min + limits.max + 1) // 2, limits.max // 2], dtype)
    audio = Clips.from_arrays([samples], 16000)[0].audio[0]
    assert audio[0] == -1 and audio[2] == 0 and 0.99 <= audio[1] <= 1
    subtype = {"int8": "PCM_S8", "int16": "PCM_16", "int32": "PCM_32", "uint8": "PCM_U8"}[dtype]
    written = {"int8": "aiff"}.get(dtype, "wav")
    soundfile.write(tmp_path / f"x.{written}", audio.astype(np.float64), 16000, subtype)
    np.testing.assert_allclose(soundfile.read(tmp_path / f"x.{written}")[0], audio, atol=2 / (limits.max - limits.min))


@settings(max_examples=3000, deadline=None)
@given(
    npst.arrays(
        st.sampled_from(["float32", "float64", "int16", "int32", "int8", "uint8", "int64", "uint16", "bool", "<U2"]),
        npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=12),
    ),
    st.sampled_from([16000, 44100.0, 0, -1, 44.1, None, "16000", np.int64(8000), float("nan"), True]),
)
def test_any_array_is_a_sound_or_a_sentence(array: npt.NDArray[Any], rate: Any) -> None:
    try:
        clip = Clips.from_arrays([array], rate)[0]
    except ClipError as error:
        assert str(error)[0].islower() and str(error).endswith(".")
        return
    assert clip.audio.dtype == np.float32 and clip.audio.ndim == 2 and np.isfinite(clip.audio).all()
    assert np.abs(clip.audio).max() <= (1 if array.dtype.kind in "iu" else 16)
    assert clip.audio.size == array.size and len(clip.audio) <= min(8, clip.audio.shape[1])
    assert clip.sample_rate in (16000, 44100, 8000)


def test_files_shorter_than_their_header_says(folder: Path) -> None:
    """Found from the header where it can be, and when the audio is decoded in any case."""
    clips = Clips.from_folder(folder)
    assert clips.problems() == {}
    wav, flac = (folder / "a.wav").read_bytes(), (folder / "b.flac").read_bytes()
    (folder / "a.wav").write_bytes(wav[: len(wav) // 3])
    (folder / "b.flac").write_bytes(flac[: len(flac) // 3])
    (folder / "d.ogg").write_bytes(b"")
    problems = clips.problems()
    assert set(problems) == {"a.wav", "d.ogg"}
    assert "holds 0.17 s of audio though its header says 0.50 s: it was cut short" in problems["a.wav"]
    for name in ("b.flac", "d.ogg"):
        with pytest.raises(ClipError, match=rf"audio file .*{name}"):
            clips[name]
    with pytest.raises(ClipError, match=r"2 of 4 clips cannot be used: 'a\.wav' .*; 'd\.ogg' "):
        clips.windows(0.1)
    (folder / "a.wav").write_bytes(wav)
    whole = clips.subset(["a.wav", "b.flac"])
    windows = whole.windows(0.2)
    assert len(windows) == 4
    with pytest.raises(ClipError, match=r"cannot read|the window from 0\.2 to 0\.4 s holds"):
        windows["b.flac@0.2s"]


def test_windows_are_as_long_as_they_were_asked(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    clips = Clips.from_folder(folder)
    for window in clips.windows(0.15, hop=0.07):
        assert window.audio.shape[-1] == round(0.15 * window.sample_rate)
    short = Clips.from_arrays([sine(0.1), sine(1.0)], 16000)
    assert short.windows(0.5).ids == ["clip-00001@0s", "clip-00001@0.5s"]
    assert "'clip-00000': shorter than a window of 0.5 s, and left out" in caplog.text
    nested = short.windows(0.5).windows(0.25)
    np.testing.assert_array_equal(nested[3].audio, short[1].audio[:, 12000:16000])
    for seconds in (float("nan"), float("inf"), -1):
        with pytest.raises(ClipError, match="must be positive"):
            clips.windows(seconds)


def test_stereo_is_heard_as_its_mean_on_every_path(tiny_lm_model: MusicGen, tmp_path: Path) -> None:
    """A file, an array, a window and the mono mix written out give the same codes."""
    rng = np.random.default_rng(0)
    stereo = (0.3 * rng.normal(size=(2, 8000))).astype(np.float32)
    mono = Clips.from_arrays([stereo.mean(0)], 16000)
    both = Clips.from_arrays([stereo], 16000)
    file = Clips.from_folder(both.to_folder(tmp_path / "x"))
    wanted = extract(tiny_lm_model, mono, progress=False).heads.values
    for clips in (both, file, both.windows(0.5), file.windows(0.5)):
        np.testing.assert_allclose(extract(tiny_lm_model, clips, progress=False).heads.values, wanted, atol=1e-5)


def test_a_notebook_shows_a_table(folder: Path) -> None:
    html = Clips.from_folder(folder)._repr_html_()
    assert "4 clips in 3 groups; labels: drums, genre, tempo" in html and "more/c.mp3" in html
    many = Clips.from_arrays([sine(0.01)] * 9, 16000, pd.DataFrame({"<b>": range(9)}))
    assert "and 4 more" in many._repr_html_() and "<b>" not in many._repr_html_()
