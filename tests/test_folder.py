"""Tables and folders of labels, as people have them: read as they were meant, or refused in a sentence."""

from __future__ import annotations

import csv
import io
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interp.clips import Clips
from interp.errors import ClipError
from interp.traits import Trait

NAMES = ("a.wav", "b.wav", "c.wav", "more/d.wav")


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audio")
    (folder / "more").mkdir()
    for i, name in enumerate(NAMES):
        soundfile.write(folder / name, 0.1 * np.sin(np.arange(400) * (i + 1) / 9), 16000)
    return folder


def read(audio: Path, content: str | bytes, name: str = "metadata.csv", **options: Any) -> Clips:
    """Read a table that stands beside the folder, so that the folder can be shared."""
    table = audio.parent / f"table-{name}"
    table.write_bytes(content if isinstance(content, bytes) else content.encode())
    return Clips.from_folder(audio, table=table, **options)


def column(clips: Clips, name: str) -> list[Any]:
    return [None if pd.isna(cell) else cell for cell in clips.labels[name]]


TABLE = "file_name,genre,n\na.wav,jazz,1\nb.wav,,2\nc.wav,Müsik,3\n"


@pytest.mark.parametrize(
    "content",
    [
        TABLE,
        TABLE.replace(",", ";"),
        TABLE.replace(",", "\t"),
        TABLE.encode("utf-8-sig"),
        TABLE.encode("utf-16"),
        b"\xfe\xff" + TABLE.encode("utf-16-be"),
        TABLE.replace(",", ";").encode("utf-16"),
        TABLE.replace("\n", "\r\n"),
        TABLE.replace("\n", ",\n"),  # a separator at the end of every line
        TABLE.replace(",", " , ").replace("n\n", "n\n\n"),
        'file_name;genre;n\n"a.wav";"jazz";1\nb.wav;" ";2\nc.wav;Müsik;3',
    ],
)
def test_separators_and_encodings(audio: Path, content: str | bytes) -> None:
    clips = read(audio, content)
    assert clips.ids == ["a.wav", "b.wav", "c.wav"]
    assert [None if cell is None else cell.strip() for cell in column(clips, "genre")] == ["jazz", None, "Müsik"]
    assert column(clips, "n") == [1, 2, 3]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (TABLE.encode("latin-1"), r"not text in UTF-8 or UTF-16 .*: open it in the program that wrote it and save"),
        (TABLE.replace("ü", "u").encode("utf-16-le"), "not text in UTF-8 or UTF-16 .it holds zero bytes."),
        (TABLE + "d.wav,x\n", "line 5 of .* has 2 cells, but there are 3 columns"),
        (TABLE + "d.wav,x,y,z\n", "line 5 of .* has 4 cells"),
        (TABLE.replace("n\n", "genre\n", 1), "two columns 'genre'"),
        (TABLE.replace("genre", ""), "two columns '', or one without a name"),
        (TABLE.replace("jazz", '"jazz'), "look for quotes that are not closed"),
        ("\n\n", "it is empty"),
        ("file_name\n", "lists no clip"),
        (TABLE.replace("a.wav", "../a.wav"), "lies outside that folder: move it there, or allow it"),
        (TABLE.replace("a.wav", "/etc/a.wav"), "lies outside that folder"),
        (TABLE.replace("a.wav", "x" * 5000), "is not in that folder"),
    ],
)
def test_tables_that_cannot_be_read(audio: Path, content: str | bytes, sentence: str) -> None:
    with pytest.raises(ClipError, match=sentence):
        read(audio, content)


def test_only_empty_cells_are_missing(audio: Path) -> None:
    """Classes that look like missing values, numbers or booleans elsewhere stay what is written."""
    rows = [("NA", "007", "1", "True", "x"), ("null", "7", "2.5", "False", ""), ("nan", "", "", "", "None")]
    text = "file_name,class,code,tempo,loud,mood\n" + "".join(
        f"{name},{','.join(row)}\n" for name, row in zip(NAMES, rows, strict=False)
    )
    clips = read(audio, text)
    assert column(clips, "class") == ["NA", "null", "nan"]
    assert column(clips, "code") == ["007", "7", None]
    assert column(clips, "tempo") == [1.0, 2.5, None] and clips.labels["tempo"].dtype == float
    assert column(clips, "loud") == [True, False, None]
    assert column(clips, "mood") == ["x", None, "None"]
    assert Trait("class", "NA").read(clips.labels).y.tolist() == [1, 0, 0]
    again = Clips.from_folder(clips.to_folder(audio.parent / "again"))
    for name in clips.labels:
        if name != "group":
            assert column(again, name) == column(clips, name)


def test_tags_become_yes_and_no(audio: Path) -> None:
    text = "file_name,tags,key\na.wav,piano; drums ,C\nb.wav,piano,D\nc.wav,,E\nmore/d.wav,NA;drums;drums,F\n"
    clips = read(audio, text, tags={"tags": ";"})
    assert list(clips.labels) == ["NA", "drums", "piano", "key", "group"]
    assert column(clips, "piano") == [True, True, None, False]
    assert Trait("drums").read(clips.labels).y.tolist() == [1, 0, 1]
    lines = [{"file_name": name, "tags": tags} for name, tags in zip(NAMES, [["a", "b"], [], None, ["b"]], strict=True)]
    clips = read(audio, "\n".join(map(json.dumps, lines)), "metadata.jsonl")
    assert column(clips, "b") == [True, False, None, True]
    for tags, sentence in [({"nothing": ";"}, "no column 'nothing'"), ({"tags": ""}, "need a separator")]:
        with pytest.raises(ClipError, match=sentence):
            read(audio, text, tags=tags)
    with pytest.raises(ClipError, match="the label 'piano' of the tags in 'tags' is there already"):
        read(audio, "file_name,piano,tags\na.wav,1,piano\n", tags={"tags": ";"})


def test_other_tables_columns_and_groups(audio: Path) -> None:
    text = "id,synth_file_path,song,family\n1,a.wav,s1,x\n2,b.wav,s1,y\n3,c.wav,s2,x\n"
    with pytest.raises(ClipError, match=r"no column 'file_name'.*say so with file='synth_file_path' .--file."):
        read(audio, text, "info.csv")
    clips = read(audio, text, "info.csv", file="synth_file_path", group="song")
    assert list(clips.labels) == ["id", "family", "group"] and column(clips, "group") == ["s1", "s1", "s2"]
    assert list(read(audio, text, "info.csv", file="synth_file_path", labels="family").labels) == ["family", "group"]
    both = read(audio, text, "info.csv", file="synth_file_path", labels="family, song,", group="song")
    assert list(both.labels) == ["family", "song", "group"]
    assert column(both.grouped("family"), "group") == ["x", "y", "x"]
    assert column(both.grouped(lambda name: name[0]), "group") == ["a", "b", "c"]
    for by, sentence in [("nothing", "no label 'nothing' to group by"), (["x"], "3 clips but 1 groups")]:
        with pytest.raises(ClipError, match=sentence):
            both.grouped(by)
    with pytest.raises(ClipError, match="no column 'artist'"):
        read(audio, text, "info.csv", file="synth_file_path", group="artist")
    with pytest.raises(ClipError, match="there is no table nothing"):
        Clips.from_folder(audio, table="nothing.csv")
    outside = text.replace("a.wav", f"../{audio.name}/a.wav")
    assert read(audio, outside, "info.csv", file="synth_file_path").ids[0] == f"../{audio.name}/a.wav"  # back inside


def test_json_lines_as_they_are(audio: Path) -> None:
    lines = [
        {"file_name": "a.wav", "drums": True, "tempo": 90, "genre": "null", "extra": {"a": 1}},
        {"file_name": "b.wav", "drums": False, "tempo": 91.5, "genre": None},
        {"file_name": "c.wav", "tempo": None, "genre": "a\u2028b"},
    ]
    clips = read(audio, "\n".join(json.dumps(line, ensure_ascii=False) for line in lines) + "\n", "metadata.jsonl")
    assert column(clips, "drums") == [True, False, None]
    assert column(clips, "tempo") == [90.0, 91.5, None]
    assert column(clips, "genre") == ["null", None, "a\u2028b"]
    assert column(clips, "extra") == ['{"a": 1}', None, None]
    for content, sentence in [("{", "line 1 of .* is not JSON"), ("[1]", "is not an object"), ("", "lists no clip")]:
        with pytest.raises(ClipError, match=sentence):
            read(audio, content, "metadata.jsonl")


def test_a_folder_for_each_class(tmp_path: Path) -> None:
    sound = np.zeros(400)
    for name in ("jazz/1.wav", "jazz/2.flac", "train/rock/x.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / name, sound, 16000)
    clips = Clips.from_folder(tmp_path)
    assert clips.ids == ["jazz/1.wav", "jazz/2.flac", "train/rock/x.wav"]
    assert column(clips, "label") == ["jazz", "jazz", "rock"]
    soundfile.write(tmp_path / "loose.wav", sound, 16000)
    with pytest.raises(ClipError, match=r"holds 4 audio files but no metadata\.csv: write one .* for each class"):
        Clips.from_folder(tmp_path)
    (tmp_path / "info.csv").write_text("file_name\nloose.wav\n")
    with pytest.raises(ClipError, match=r"name the table there is with table='info\.csv'"):
        Clips.from_folder(tmp_path)
    (tmp_path / "metadata.csv").write_text("file_name\nloose.wav\n")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "loose.wav"}\n')
    with pytest.raises(ClipError, match=r"has metadata\.csv and metadata\.jsonl: say which"):
        Clips.from_folder(tmp_path)
    assert Clips.from_folder(tmp_path, table="metadata.jsonl").ids == ["loose.wav"]


@pytest.mark.parametrize(
    ("names", "warned"),
    [
        ([f"{song}_{i:03d}.wav" for song in ("one", "two") for i in range(3)], True),
        ([f"{song} - {i}s.wav" for song in ("one", "two") for i in range(3)], True),
        ([f"clip-{i:05d}.wav" for i in range(6)], False),  # one numbering is no recording
        ([f"{i:06d}.wav" for i in range(6)], False),
        ([f"{genre}.{i:05d}.wav" for genre in ("jazz", "rock") for i in range(3)], False),  # numbered within a class
        ([f"{song}.wav" for song in "abcdef"], False),
    ],
)
def test_pieces_without_a_group_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, names: list[str], warned: bool
) -> None:
    rows = "".join(f"{name},{'jazz' if i < 3 else 'rock'},g\n" for i, name in enumerate(names))
    for name in names:
        soundfile.write(tmp_path / name, np.zeros(100), 16000)
    (tmp_path / "metadata.csv").write_text(f"file_name,genre,group\n{rows}")
    with caplog.at_level(logging.WARNING):
        Clips.from_folder(tmp_path)
        assert caplog.text == ""
        (tmp_path / "metadata.csv").write_text(f"file_name,genre,artist\n{rows}")
        Clips.from_folder(tmp_path)
    assert ("look like pieces of 2 recordings" in caplog.text) == warned


CELL = st.one_of(
    st.sampled_from(["", " ", "NA", "None", "nan", "null", "yes", "No", "TRUE", "0", "1", "1.0", "-3", "1e5", "inf",
                     "007", "piano;drums", 'a"b', "x,y", "a\nb", "9" * 30, "é"]),
    st.text(max_size=5),
)  # fmt: skip


@settings(max_examples=3000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(CELL, CELL), min_size=1, max_size=4),
    st.sampled_from(",;\t"),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    st.booleans(),
)
def test_any_cells_come_back_as_they_were_written(
    audio: Path, rows: list[tuple[str, str]], separator: str, encoding: str, quote: bool
) -> None:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, quoting=csv.QUOTE_ALL if quote else csv.QUOTE_MINIMAL)
    writer.writerows([("file_name", "one", "two"), *((name, *row) for name, row in zip(NAMES, rows, strict=False))])
    try:
        content = text.getvalue().encode(encoding)
    except UnicodeEncodeError:  # a lone surrogate, which no file can hold
        return
    try:
        clips = read(audio, content)
    except ClipError as error:
        assert "\0" in text.getvalue() and str(error).endswith(".")
        return
    for at, name in enumerate(("one", "two")):
        for cell, back in zip([row[at] for row in rows], column(clips, name), strict=True):
            if not cell.strip():
                assert back is None
            elif isinstance(back, str):
                # a writer that quotes only what it must leaves blanks at the start of other cells, which do not count
                assert back == cell or (not quote and back == cell.lstrip(" "))
            elif isinstance(back, bool):
                assert str(back).casefold() == cell.strip().casefold()
            else:
                assert float(back) == float(cell)


@settings(max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.text(max_size=40).map(str.encode), st.binary(max_size=40)).filter(bool), st.booleans())
def test_any_file_is_a_table_or_a_sentence(audio: Path, content: bytes, headed: bool) -> None:
    for name in ("metadata.csv", "metadata.jsonl"):
        try:
            clips = read(audio, b"file_name,x\na.wav,1\n" + content if headed else content, name)
        except ClipError as error:
            assert str(error)[0].islower() or str(error)[0] in "'/\"" or str(error)[0].isdigit()
        else:
            assert set(clips.ids) <= set(NAMES)
