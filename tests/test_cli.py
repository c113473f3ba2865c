"""The command line: every step works on a handful of clips, and whatever is wrong is told in one sentence."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from typer.testing import CliRunner, Result

import interp
from interp import cli
from interp.clips import Clips
from interp.directions import Direction, Directions

HEAVY = ("torch", "pandas", "numpy", "matplotlib", "audiocraft", "nnsight", "transformers", "umap", "librosa", "xarray")


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(cli.app, [str(word) for word in words])


def works(*words: str | Path) -> Result:
    result = call(*words)
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result


def fails(*words: str | Path, status: int = 1) -> str:
    """Run a command that must fail with one sentence; return the sentence."""
    result = call(*words)
    assert result.exit_code == status, result.output + repr(result.exception)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    text = result.stderr.strip()
    if status == 1:
        assert text and "\n" not in text, f"not one sentence: {text!r}"
        assert text[0].isupper() or not text[0].isalpha()
    return text


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli")
    works("testbed", "render", path / "clips", "--n", "32", "--seconds", "1.2", "--seed", "3")
    return path


@pytest.fixture(scope="module")
def store(folder: Path) -> Path:
    works("extract", folder / "clips", "--out", folder / "store.zarr", "--sites", "heads,resid")
    return folder / "store.zarr"


@pytest.fixture(scope="module")
def probed(folder: Path, store: Path) -> Path:
    words = ("--folds", "2", "--permutations", "20", "--sites", "heads,resid", "--methods", "logistic,mean_diff")
    result = works("probe", store, "drums", *words, "--out", folder / "probe")
    assert "best of 48 heads" in result.output and "best of 6 resid" in result.output
    return folder / "probe"


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    code = f"import sys, interp.cli; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-m", "interp.cli", "--help"], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime) < 1.0
    for name in ("extract", "probe", "rank", "geometry", "steer", "judge", "validate", "testbed"):
        assert name in done.stdout


def test_every_command_has_help_and_none_has_a_v_flag() -> None:
    import typer

    group = typer.main.get_command(cli.app)
    commands = dict(group.commands)  # type: ignore[attr-defined]
    commands |= {f"testbed {name}": one for name, one in commands["testbed"].commands.items()}
    assert set(commands) >= {"extract", "probe", "rank", "geometry", "steer", "judge", "validate", "check", "plan"}
    for name, command in commands.items():
        assert command.help, name
        options = {word for one in command.params for word in getattr(one, "opts", [])}
        assert not options & {"-v", "--verbose"}, name  # nnsight reads these from the process's arguments


def test_extract_writes_what_python_reads(store: Path) -> None:
    ds = interp.open_store(store)
    assert ds.sizes["clip"] == 32 and ds.sizes["heads_site"] == 48 and ds.sizes["resid_site"] == 6
    assert "drums" in interp.labels(ds)


def test_extract_goes_on_with_other_sites_clips_and_labels(folder: Path, tmp_path: Path) -> None:
    """From any table; what cannot be used is refused by name, or listed and left out; windows share a group."""
    music = tmp_path / "music"
    works("testbed", "render", music, "--n", "6", "--seconds", "1.2")
    table = pd.read_csv(music / "metadata.csv")
    table["tags"] = ["piano;loud", "piano", "", "loud", "loud", "piano"]
    (music / "metadata.csv").unlink()
    table = table.rename(columns={"file_name": "path", "group": "score"})
    table.to_csv(music / "info.csv", sep=";", index=False, encoding="utf-16")
    (music / table["path"][1]).write_bytes(b"broken")
    soundfile.write(music / table["path"][2], np.zeros(16000), 16000)
    (music / table["path"][3]).unlink()
    words = ("extract", music, "--out", tmp_path / "s.zarr", "--table", "info.csv", "--file", "path",
             "--group", "score", "--labels", "drums,tags", "--tags", "tags=;")  # fmt: skip
    assert table["path"][3] in fails(*words, "--sites", "L-1.resid")
    output = works(*words, "--sites", "L-1.resid,", "--skip-bad").output
    assert "4 clips are in" in output and "2 clips are left out" in output
    left_out = pd.read_csv(tmp_path / "s_left_out.csv")
    assert left_out["clip"].tolist() == [table["path"][1], table["path"][3]]
    assert pd.read_csv(tmp_path / "s_doubtful.csv")["why"].tolist() == ["is silent"]
    works(*words, "--sites", "L0.H0-3", "--pool", "mean, last", "--skip-bad", "--window", "0.5")
    ds = interp.open_store(tmp_path / "s.zarr")
    assert ds.sizes == {"clip": 8, "pool": 2, "resid_site": 1, "resid_dim": 256, "heads_site": 4, "heads_dim": 32}
    frame = interp.labels(ds)
    assert list(frame) == ["drums", "loud", "piano", "group"] and frame["group"].nunique() == 3
    assert frame["group"].value_counts().max() == 4
    for extra, sentence in [
        (("--tags", "tags"), "Cannot read --tags 'tags'"),
        (("--sites", "top:8"), "'top:8' is not a site"),
        (("--sites", "L9.resid"), "No site L9.resid: the model has layers 0 to 5"),
        (("--pool", "median"), "Cannot read 'median' as a pooling"),
        (("--dtype", "float128"), "cannot be kept as 'float128'"),
        (("--window", "99"), "No clip is 99 s long"),
    ]:
        assert sentence in fails(*words, "--skip-bad", *extra)


@pytest.mark.parametrize(
    ("flags", "status", "sentence"),
    [
        (("--seed", "-1"), 2, "--seed"),
        (("--seconds", "1e6"), 2, "--seconds"),
        (("--seconds", "nan"), 2, "--seconds"),
        (("--fix", "drums=perhaps"), 1, "Drums cannot be 'perhaps': it is yes or no"),
        (("--fix", "tempo=-5"), 1, "Tempo cannot be -5: it is a number of beats per minute from 30 to 300"),
        (("--fix", "key=1.5"), 1, "Key cannot be 1.5"),
        (("--fix", "tempo=inf"), 1, "Tempo cannot be inf"),
        (("--fix", "genre=polka"), 1, "No genre 'polka'"),
        (("--fix", "colour=red"), 1, "No factor 'colour'"),
        (("--fix", "drums"), 1, "Cannot read --fix 'drums'"),
    ],
)
def test_render_refuses_what_it_cannot_make(tmp_path: Path, flags: tuple[str, ...], status: int, sentence: str) -> None:
    assert sentence in fails("testbed", "render", tmp_path / "x", "--n", "2", *flags, status=status)
    assert not (tmp_path / "x").exists()


def test_probe_then_rank_then_geometry(probed: Path, folder: Path, store: Path) -> None:
    table = pd.read_csv(probed / "probes.csv")
    assert len(table) == 54 * 2
    result = works("rank", probed / "probes.csv", "--top", "5", "--out", folder / "rank")
    rows = table[table["method"] == "logistic"].sort_values("cv_score", ascending=False, kind="stable")
    for site in rows["site"].iloc[:5]:
        assert site in result.output
    assert (folder / "rank" / "ranking.png").is_file() and (folder / "rank" / "heatmap.pdf").is_file()
    works("geometry", probed / "directions.safetensors", "--out", folder / "geometry")
    cosines = pd.read_csv(folder / "geometry" / "cosines.csv")
    assert set(cosines["a"]) | set(cosines["b"]) == {"logistic", "mean_diff"}
    works("geometry", store, "drums", "--permutations", "2", "--sites", "L0.H0,L1.H1", "--out", folder / "geometry2")
    assert pd.read_csv(folder / "geometry2" / "cosines.csv")["ceiling"].notna().any()


def test_probe_beside_its_baselines(folder: Path, store: Path) -> None:
    out = folder / "baselines"
    words = ("--folds", "2", "--permutations", "0", "--sites", "resid", "--methods", "ridge")
    result = works("probe", store, "drums", *words, "--baselines", folder / "clips", "--out", out)
    table = pd.read_csv(out / "baselines.csv")
    assert list(table["name"]) == ["best site", "untrained copy", "mel", "mfcc", "chroma"]
    assert table["difference_lo"].notna().sum() == 4
    assert len(pd.read_csv(out / "added.csv")) == 6
    assert (out / "baselines.png").is_file() and "untrained copy" in result.output


def test_probe_of_a_tree_of_labels(folder: Path, store: Path) -> None:
    out = folder / "tree"
    words = ("--folds", "2", "--permutations", "0", "--sites", "resid", "--methods", "ridge")
    works("probe", store, "drums/bass", *words, "--out", out)
    table = pd.read_csv(out / "probes.csv", dtype={"node": str}).fillna({"node": ""})
    assert set(table["node"]) == {"", "0", "1"}
    counted = table.groupby("node")[["n_train", "n_test"]].first().sum(axis=1)
    assert counted[""] == 32 == counted["0"] + counted["1"]
    assert "o label column 'kin'" in fails("probe", store, "kin/bass", "--out", out)


def test_steer_writes_pairs_and_a_page(probed: Path, folder: Path) -> None:
    words = ("--trait", "drums", "--sites", "L3.resid", "--seconds", "1", "--rows", "2", "--prompt", "jazz, piano")
    works("steer", probed / "directions.safetensors", *words, "--doses", "2", "--out", folder / "steer")
    sounds = sorted((folder / "steer" / "audio").glob("*.wav"))
    assert len(sounds) == 4
    assert (folder / "steer" / "index.html").is_file()
    log = pd.read_csv(folder / "steer" / "log.csv")
    assert set(log["row"]) == {2, 3}  # the two steered rows; the others were not touched
    works("steer", probed / "directions.safetensors", *words, "--doses", "1,2,3", "--out", folder / "doses")
    assert len(sorted((folder / "doses" / "audio").glob("*.wav"))) == 8  # unsteered and three doses of two seeds
    clip = sorted((folder / "clips").rglob("*.wav"))[0]
    words = ("--trait", "drums", "--sites", "top:4", "--seconds", "1.5", "--rows", "1", "--audio", clip)
    works("steer", probed / "directions.safetensors", *words, "--out", folder / "steer2")


def test_steer_continues_a_part_of_a_long_sound(probed: Path, tmp_path: Path) -> None:
    rate = 16000
    wave = np.concatenate([np.zeros(2 * rate), 0.3 * np.sin(np.arange(31 * rate) / 9)]).astype(np.float32)
    soundfile.write(tmp_path / "song.wav", wave, rate)
    song = tmp_path / "song.wav"
    words = ("--trait", "drums", "--sites", "L3.resid", "--seconds", "1", "--rows", "1", "--audio", song)
    steer = ("steer", probed / "directions.safetensors", *words, "--out", tmp_path / "out")
    works(*steer, "--audio-start", "2.5", "--audio-seconds", "0.5")
    heard, _ = soundfile.read(tmp_path / "out" / "audio" / "unsteered_0_0.wav")
    assert np.abs(heard[: rate // 2]).max() > 0.05  # the tone that starts at second 2, not the silence before it
    text = fails(*steer)
    assert "goes on for 33.0 s" in text and "--audio-start" in text
    assert "has no 1 s from second 32.5" in fails(*steer, "--audio-start", "32.5", "--audio-seconds", "1")
    assert "has no second 40" in fails(*steer, "--audio-start", "40")
    assert "name it with --audio" in fails(*steer[:-4], "--out", tmp_path / "out", "--audio-start", "3")
    fails(*steer, "--audio-start", "-1", status=2)
    fails(*steer, "--seed", "-1", status=2)


def test_what_is_too_short_for_a_judge_is_said_before_it_is_generated(probed: Path, tmp_path: Path) -> None:
    words = ("--trait", "drums", "--sites", "L3.resid", "--seconds", "0.5", "--rows", "1", "--doses", "1")
    steer = ("steer", probed / "directions.safetensors", *words, "--out", tmp_path / "out")
    assert "0.5 s would be generated, and a judge needs 0.8 s" in fails(*steer, "--judge", "rendered")
    assert not (tmp_path / "out").exists()
    result = works(*steer)
    assert "Nobody judges what comes out" in result.output and not (tmp_path / "out" / "verdicts.csv").exists()


def test_steer_along_one_class_of_a_label(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sites = [f"L{layer}.H{head}" for layer in (0, 3) for head in (1, 2)]
    genres = Directions(
        Direction.from_weight(
            site, rng.standard_normal(32), method="ridge", trait="genre", positive=name, sigma=0.1, score=0.6 + i / 10
        )
        for name in ("jazz", "rock")
        for i, site in enumerate(sites)
    )
    genres.save(tmp_path / "genres")
    steer = ("steer", tmp_path / "genres.safetensors", "--method", "ridge", "--seconds", "0.5", "--rows", "1")
    text = fails(*steer, "--trait", "genre", "--sites", "top:2", "--out", tmp_path / "out")
    assert "genre=jazz or genre=rock" in text
    result = works(*steer, "--trait", "genre=rock", "--sites", "top:2", "--out", tmp_path / "out")
    assert "genre=rock (ridge)" in result.output and "L3.H1, L3.H2" in result.output
    log = pd.read_csv(tmp_path / "out" / "log.csv")
    assert set(log["sites"]) == {2}


def test_steer_says_that_the_disk_is_full_and_leaves_no_half_file(probed: Path, tmp_path: Path) -> None:
    """The system refuses to write more than 20 kB to a file: the sounds do not fit."""
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000));"
        "from interp.cli import main; main()"
    )
    words = ["--trait", "drums", "--sites", "L3.resid", "--seconds", "1", "--rows", "1", "--out", str(tmp_path / "out")]
    command = [sys.executable, "-c", script, "steer", str(probed / "directions.safetensors"), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr and "annot write" in done.stderr
    assert not list((tmp_path / "out").rglob("*.wav"))
    assert not list((tmp_path / "out").rglob("*.part*"))


def test_card_names_the_licence() -> None:
    assert "MIT" in works("testbed", "card").output


# ---- what is wrong, in one sentence ----


def test_missing_or_empty_folder_of_clips(tmp_path: Path) -> None:
    assert "nowhere" in fails("extract", tmp_path / "nowhere", "--out", tmp_path / "s.zarr")
    (tmp_path / "empty").mkdir()
    assert "metadata.csv" in fails("extract", tmp_path / "empty", "--out", tmp_path / "s.zarr")
    (tmp_path / "empty" / "metadata.csv").write_text("file_name,drums\n")
    fails("extract", tmp_path / "empty", "--out", tmp_path / "s.zarr")


def test_missing_and_corrupt_audio(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 16000)
    soundfile.write(tmp_path / "a.wav", noise, 16000)
    (tmp_path / "metadata.csv").write_text("file_name,drums\na.wav,1\nb.wav,0\n")
    assert "b.wav" in fails("extract", tmp_path, "--out", tmp_path / "s.zarr")
    (tmp_path / "b.wav").write_bytes(b"this is not audio")
    assert "b.wav" in fails("extract", tmp_path, "--out", tmp_path / "s.zarr")


def test_unknown_site(folder: Path, store: Path) -> None:
    assert "layers 0 to 5" in fails("extract", folder / "clips", "--out", folder / "t.zarr", "--sites", "L99.H3")
    assert "L99.H3" in fails("probe", store, "drums", "--sites", "L99.H3")
    assert "L12.H7" in fails("probe", store, "drums", "--sites", "head seven")


def test_one_class_few_groups_unknown_label(tmp_path: Path, store: Path) -> None:
    rng = np.random.default_rng(0)
    labels = pd.DataFrame({"drums": [0, 1] * 6, "silent": 0, "group": ["a", "a", "b", "b"] * 3})
    clips = Clips.from_arrays([rng.normal(0, 0.1, 16000).astype(np.float32) for _ in range(12)], 16000, labels)
    clips.to_folder(tmp_path / "clips")
    works("extract", tmp_path / "clips", "--out", tmp_path / "s.zarr", "--sites", "L0.H0,L0.H1")
    assert "silent" in fails("probe", tmp_path / "s.zarr", "silent", "--out", tmp_path)
    assert "group" in fails("probe", tmp_path / "s.zarr", "drums", "--folds", "5", "--out", tmp_path)
    assert "triangle" in fails("probe", store, "triangle", "--out", tmp_path)


def test_stores_and_directions_of_something_else(folder: Path, store: Path, probed: Path, tmp_path: Path) -> None:
    assert "dtype" in fails("extract", folder / "clips", "--out", store, "--dtype", "float16")
    fails("probe", tmp_path / "nowhere.zarr", "drums")
    (tmp_path / "junk.zarr").mkdir()
    (tmp_path / "junk.zarr" / "zarr.json").write_text("{")
    fails("probe", tmp_path / "junk.zarr", "drums")
    foreign = Direction.from_weight("L0.H0", np.ones(32), method="logistic", trait="drums", sigma=1.0, model="0" * 16)
    Directions([foreign]).save(tmp_path / "foreign.safetensors")
    text = fails(
        "steer",
        tmp_path / "foreign.safetensors",
        "--trait",
        "drums",
        "--method",
        "logistic",
        "--sites",
        "L0.H0",
        "--seconds",
        "1",
    )
    assert "0000000" in text
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    fails("geometry", tmp_path / "junk.safetensors")
    assert "drums" in fails("geometry", store)


def test_prompts_and_directions_that_do_not_exist(probed: Path, tmp_path: Path) -> None:
    directions = probed / "directions.safetensors"
    out = ("--out", tmp_path)
    text = fails("steer", directions, "--trait", "drums", "--prompt", "a kazoo quartet", *out)
    assert "kazoo" in text and "piano" in text  # says what it knows
    assert "cowbell" in fails("steer", directions, "--trait", "cowbell", *out)
    assert "top:1 to top:48" in fails("steer", directions, "--trait", "drums", "--sites", "top:99", *out)
    assert "gone.wav" in fails("steer", directions, "--trait", "drums", "--audio", tmp_path / "gone.wav", *out)
    fails("steer", directions, "--trait", "drums", "--model", tmp_path / "no_model", *out)


def test_judging_nothing(tmp_path: Path) -> None:
    assert "no sound" in fails("judge", tmp_path / "gone.wav", "--out", tmp_path)
    assert "no sound" in fails("judge", tmp_path, "--out", tmp_path)
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    assert "bad.wav" in fails("judge", tmp_path / "bad.wav", "--out", tmp_path)


def test_tables_and_options_that_cannot_be_read(tmp_path: Path) -> None:
    assert "no table" in fails("rank", tmp_path / "gone.csv")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    fails("rank", tmp_path / "other.csv", "--out", tmp_path)
    fails("rank", status=2)
    fails("nonsense", status=2)
    fails("probe", tmp_path, "drums", "--folds", "one", status=2)
    assert "genre=jazz" in fails("testbed", "render", tmp_path / "x", "--fix", "jazz")
    assert "classical" in fails("testbed", "render", tmp_path / "x", "--fix", "genre=polka")


def test_a_full_disk_and_a_file_in_the_way(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    fails("testbed", "render", tmp_path / "file" / "clips", "--n", "2", "--seconds", "1")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Clips, "from_folder", full)
    assert "disk is full" in fails("extract", folder / "clips", "--out", tmp_path / "s.zarr")


def test_ctrl_c_says_how_to_go_on(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Clips, "from_folder", interrupted)
    result = call("extract", folder / "clips", "--out", tmp_path / "s.zarr")
    assert result.exit_code == 130
    assert "the same command goes on" in result.stderr and "Traceback" not in result.output


@pytest.mark.slow
def test_extraction_stopped_by_ctrl_c_goes_on(folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "interp.cli", "extract", str(folder / "clips"), "--out", str(tmp_path / "s.zarr")]
    command += ["--batch-size", "1", "--sites", "L0.H0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("s.zarr/**/c/*")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert "Traceback" not in err, err
    if process.returncode != 0:  # a quick machine may have finished first
        assert process.returncode == 130 and "the same" in err, err
    works("extract", folder / "clips", "--out", tmp_path / "s.zarr", "--batch-size", "1", "--sites", "L0.H0")
    again = interp.open_store(tmp_path / "s.zarr")
    clips = Clips.from_folder(folder / "clips")
    fresh = interp.extract(interp.load("tiny", device="cpu"), clips, "L0.H0", batch_size=1)
    np.testing.assert_array_equal(again["heads"].values, fresh["heads"].values)


@pytest.mark.slow
def test_validate_tells_whether_a_direction_causes_the_trait(folder: Path, store: Path) -> None:
    words = ("--arms", "basic", "--method", "mean_diff", "--seeds", "8", "--doses", "3", "--site", "L5.resid")
    result = works("validate", store, "drums", *words, "--heads", "4", "--out", folder / "validate")
    assert "of 8 paired seeds" in result.output
    table = pd.read_csv(folder / "validate" / "causal.csv")
    assert {"unsteered", "probe", "random"} <= set(table["arm"]) and (table["n"] == 8).all()
    assert len(pd.read_csv(folder / "validate" / "clips.csv")) == 8 * len(table)
    assert (folder / "validate" / "dose_response.png").is_file()
    assert "cannot hear 'genre=polka'" in fails("validate", store, "genre=polka", "--out", folder / "validate")
    assert "full or basic" in fails("validate", store, "drums", "--arms", "some", "--out", folder / "validate")


EAR = """
import pandas as pd

class Loud:
    name, independent, questions = "loud", True, {"drums": ["drums"]}

    def score(self, audio, sample_rate):
        level = [float(abs(clip).max()) for clip in audio]
        return pd.DataFrame({"drums": [min(one, 1.0) for one in level], "not_music": 0.0})

    def accuracy_frame(self):
        return pd.DataFrame()
"""


def test_a_judge_of_ones_own_judges_from_the_command_line(folder: Path) -> None:
    file = folder / "ear.py"
    file.write_text(EAR)
    words = ("--rows", "3", "--out", folder / "own")
    result = works("judge", folder / "clips", "--judge", f"rendered,{file}:Loud", *words)
    table = pd.read_csv(folder / "own" / "judged.csv")
    assert len(table) == 32 and {"rendered.jazz", "loud.drums"} <= set(table.columns)
    assert "not measured" in result.output
    sentence = fails("judge", folder / "clips", "--judge", f"{file}:Soft", "--out", folder / "own")
    assert "no class or function 'Soft'" in sentence
    assert "no judge 'ears'" in fails("judge", folder / "clips", "--judge", "ears", "--out", folder / "own")


def test_what_judges_say_fits_a_terminal_of_eighty_columns(folder: Path) -> None:
    result = works("judge", folder / "clips", "--judge", "rendered,quality,dsp", "--out", folder / "narrow")
    lines = result.stdout.splitlines()
    assert max(len(line.rstrip()) for line in lines) <= 80
    assert any(line.split()[:2] == ["render-3-00000.wav", "yes"] for line in lines)


def test_a_judge_is_trained_on_the_labelled_clips(folder: Path) -> None:
    words = ("--judge", "trained", "--trait", "drums", "--data", folder / "clips", "--out", folder / "trained")
    result = call("judge", folder / "clips", *words)
    # thirty-two clips of eight scores may not do; then it is said, with how often it was right
    assert result.exit_code == 0 or "does not tell drums: a judge trained on it is right in" in result.stderr
    assert "name the trait, and their folder" in fails("judge", folder / "clips", "--judge", "trained")


@pytest.mark.slow
def test_several_judges_validate_and_are_told_apart(folder: Path, store: Path) -> None:
    file, out = folder / "ear.py", folder / "panel"
    file.write_text(EAR)
    words = ("--arms", "basic", "--seeds", "8", "--doses", "3", "--site", "L5.resid", "--heads", "4", "--out", out)
    result = works("validate", store, "drums", "--judge", f"rendered,{file}:Loud", *words)
    table = pd.read_csv(out / "causal.csv")
    assert list(dict.fromkeys(table["judge"])) == ["rendered", "loud"]
    assert list(pd.read_csv(out / "agreement.csv")[["a", "b"]].iloc[0]) == ["rendered", "loud"]
    assert " sigma by rendered. " in result.stderr and "never measured on drums" in result.stderr
    assert "Verdict on drums at L5.resid" in result.output and "(kappa): rendered and loud" in result.stderr
    said = pd.read_csv(out / "verdict.csv")
    assert len(said) == 2 * 5 and set(said["judge"]) == {"rendered", "loud"}
    assert "L9.resid" in fails("validate", store, "drums", "--site", "L9.resid", "--out", out)
