"""Clips: what goes into a folder comes out, and whatever is wrong with one gets a sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import soundfile

from interp.clips import Clips
from interp.errors import ClipError


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
