"""A study in a file of its own: run from the command line, killed, run again, corrected, and used from Python."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from interp.clips import Clips
from interp.directions import Direction, Directions
from interp.errors import DataError, StoreError
from interp.plots import dose_response
from interp.study import Common, Study, step
from interp.study.cache import Cache, fingerprint_of_code
from interp.traits import Trait

SOURCE = '''"""How loud is it?"""

import os
import signal
from dataclasses import dataclass

import numpy as np
import pandas as pd

from interp.study import Common, Study, main, step
from scale import UNIT


@dataclass(frozen=True)
class Config(Common):
    """What it does.

    Attributes
    ----------
    loudest : bool
        The loudest sample, instead of the mean.
    """

    traits: tuple[str, ...] = ("drums", "bass")
    loudest: bool = False


class Loudness(Study[Config]):
    """How loud is music with a trait?

    A study in nobody's package.
    """

    listens = False
    unused = ("n_seeds", "seconds", "prompt_seconds", "guidance")

    def note(self, name):
        with (self.config.out / "calls.txt").open("a") as file:
            file.write(f"{name}\\n")

    @step(per="trait")
    def levels(self, trait):
        """Level of the clips with the trait, and of those without."""
        self.note(f"levels {trait}")
        if str(trait) == "bass" and os.environ.get("KILL"):
            os.kill(os.getpid(), signal.SIGKILL)
        has = trait.has(self.clips.labels)
        take = np.max if self.config.loudest else np.mean
        level = np.array([UNIT * take(np.abs(clip.audio)) for clip in self.clips])
        return pd.DataFrame({"present": [True, False], "level": [level[has].mean(), level[~has].mean()]})

    def answer(self, t):
        yield f"{len(self.traits)} traits, {t['levels']['level'].mean():.6f} on average."


if __name__ == "__main__":
    main(Loudness)
'''


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "my_study.py").write_text(SOURCE)
    (tmp_path / "scale.py").write_text("UNIT = 1.0\n")
    rng = np.random.default_rng(0)
    labels = pd.DataFrame({"drums": [0, 1] * 4, "bass": [0, 0, 1, 1] * 2})
    Clips.from_arrays(rng.normal(size=(8, 1, 400)).astype(np.float32), 16_000, labels).to_folder(tmp_path / "music")
    return tmp_path


def run(home: Path, *words: str, module: bool = False, **environment: str) -> subprocess.CompletedProcess[str]:
    import os

    started = ["-m", "my_study"] if module else ["my_study.py"]
    settings = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])} | environment
    command = [sys.executable, *started, "--out", "out", *words]
    return subprocess.run(command, cwd=home, capture_output=True, text=True, env=settings, check=False)


def calls(home: Path) -> list[str]:
    return (home / "out" / "calls.txt").read_text().splitlines()


@pytest.mark.slow
def test_a_study_outside_the_package(home: Path) -> None:
    killed = run(home, "--data", "music", KILL="1")
    assert killed.returncode == -9 and calls(home) == ["levels drums", "levels bass"]
    assert not (home / "out" / "index.html").exists()
    first = run(home, "--data", "music")  # goes on: the step that was finished is not made again
    assert first.returncode == 0, first.stderr
    assert calls(home) == ["levels drums", "levels bass", "levels bass"]
    assert first.stdout.startswith("2 traits, ") and "index.html" in first.stderr
    table = pd.read_csv(home / "out" / "levels.csv")
    assert list(table.columns) == ["trait", "present", "level"] and list(table["trait"]) == ["drums"] * 2 + ["bass"] * 2
    page = (home / "out" / "index.html").read_text()
    for words in ("How loud is music with a trait? · tiny", "A study in nobody", first.stdout.strip(), "levels.csv",
                  "Level of the clips with the trait", "python my_study.py --data music"):  # fmt: skip
        assert words in page.replace("&#x27;", "'"), words
    assert first.stdout.strip() in (home / "out" / "answer.md").read_text()
    again = run(home, "--data", "music", module=True)  # the module is the same code, and nothing is left to make
    assert again.returncode == 0 and again.stdout == first.stdout and len(calls(home)) == 3
    assert "python -m my_study" in (home / "out" / "index.html").read_text()
    (home / "scale.py").write_text("UNIT = 2.0\n")  # a correction beside the study
    corrected = run(home, "--data", "music", "--traits", "drums, bass")
    assert len(calls(home)) == 5
    assert np.allclose(pd.read_csv(home / "out" / "levels.csv")["level"], 2 * table["level"])
    assert corrected.stdout != first.stdout


@pytest.mark.slow
def test_the_study_of_the_readme(home: Path) -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text()
    block = text[text.index("@dataclass(frozen=True)\nclass Config(Common)") :].partition("```")[0]
    imports = ["from dataclasses import dataclass", "from interp.probes import probe",
               "from interp.study import Common, Study, main, step"]  # fmt: skip
    (home / "my_study.py").write_text("\n".join([*imports, block]))
    done = run(home, "--traits", "drums", "--n-clips", "60", "--method", "mean_diff")
    assert done.returncode == 0, done.stderr
    assert " hears drums best (" in done.stdout
    assert len(pd.read_csv(home / "out" / "probes.csv")) == 6


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (["--loudest", "yes"], 2, "'yes' is no flag"),
        (["--n-seeds", "3"], 2, "There is no flag --n-seeds"),
        (["--data", "nowhere"], 1, "nowhere"),
        (["--data", "music", "--traits", "genre=jazz"], 1, "have no label 'genre'"),
        (["--model", "atlantis"], 1, "atlantis"),
    ],
)
def test_what_goes_wrong_is_one_sentence(home: Path, words: list[str], status: int, sentence: str) -> None:
    refused = run(home, *words)
    assert refused.returncode == status and sentence in refused.stderr
    assert "Traceback" not in refused.stderr and not refused.stdout


@dataclass(frozen=True)
class Config(Common):
    """Small.

    Attributes
    ----------
    colour : str
        Of the figure.
    """

    colour: str = "blue"


class Small(Study[Config]):
    """Does it work?"""

    listens = False
    unused = ("guidance",)
    only_drawn = ("colour",)
    made = 0
    sets = (("piano", "flute"), ("jazz", "rock"))

    def check(self) -> None:
        if self.config.colour == "none":
            raise DataError("choose a colour.")

    @step()
    def plain(self) -> pd.DataFrame:
        """Three doses."""
        type(self).made += 1
        return pd.DataFrame({"arm": "probe", "dose": [1.0, 2.0, 3.0], "rate": [0.1, 0.1 + 0.2, 0.5], "n": 4})

    @step(per="set", shown=False)
    def several(self, classes: tuple[str, ...]) -> dict[str, object]:
        type(self).made += 1
        direction = Direction.from_weight("L0.resid", np.arange(4.0), trait=classes[0])
        return {
            "table": pd.DataFrame({"size": [len(classes)], "head": pd.array([None], dtype="Int64")}),
            "arrays": {"x": np.arange(3)}, "directions": Directions([direction]), "site": "L0", "dose": 2.0,
        }  # fmt: skip

    def tables(self) -> dict[str, pd.DataFrame]:
        return super().tables() | {"several": self.several.all("table")}

    def answer(self, t):  # type: ignore[no-untyped-def]
        yield f"{len(t['plain'])} doses."

    def figures(self, t):  # type: ignore[no-untyped-def]
        yield "# Doses"
        yield "As they are."
        yield "doses", dose_response(t["plain"]), "A curve."


def test_results_of_every_kind_are_kept(tmp_path: Path) -> None:
    Small.made = 0
    study = Small(Config(out=tmp_path), progress=False)
    tables = study.run()
    assert list(tables) == ["plain", "several"] and Small.made == 3
    assert list(tables["several"]["set"]) == ["piano:flute", "jazz:rock"]
    assert tables["several"]["head"].dtype == "Int64"
    again = Small(Config(out=tmp_path, colour="red"), progress=False)
    result = again.several(("jazz", "rock"))
    assert Small.made == 3 and result["arrays"]["x"].tolist() == [0, 1, 2]
    assert result["directions"][0].trait == "jazz" and (result["site"], result["dose"]) == ("L0", 2.0)
    for name, table in again.tables().items():
        pd.testing.assert_frame_equal(table, tables[name])
    changed = again.plain()
    changed["rate"] = 9.0  # a copy: what is kept does not change
    assert again.plain()["rate"].max() == 0.5
    Small(Config(out=tmp_path, seed=1), progress=False).plain()
    assert Small.made == 4
    page = (tmp_path / "index.html").read_text()
    assert "Does it work? · tiny" in page and "doses.png" in page and "As they are." in page and "3 doses." in page
    assert page.index("What was found") < page.index("Doses") < page.index("Tables")


def test_a_configuration_that_cannot_work_is_refused_at_once() -> None:
    with pytest.raises(DataError, match="choose a colour"):
        Small(Config(colour="none"))
    with pytest.raises(DataError, match="no use for guidance"):
        Small(Config(guidance=3.0))
    with pytest.raises(DataError, match="names no class"):
        Small(Config(traits=("genre=",)))


def test_another_model_is_given_its_music_and_its_judge(hub: Path) -> None:
    study = Small(Config(model="facebook/musicgen-small", n_clips=4), progress=False)
    with pytest.raises(DataError, match="give --data FOLDER, or say --data rendered"):
        assert study.clips
    with pytest.raises(DataError, match="give --data FOLDER, or say --data rendered"):
        assert study.judge
    rendered = Small(replace(study.config, data=Path("rendered")), progress=False)
    assert len(rendered.clips) == 4 and rendered.sounds is None
    assert rendered.judge.name == "tagger"


def test_a_folder_gives_whole_groups_to_be_continued(home: Path) -> None:
    class Apart(Small):
        """Does it stay apart?"""

        kept_apart = 0.25

    study = Apart(Config(data=home / "music"), progress=False)
    assert study.sounds is not None and len(study.sounds) == 2 and len(study.clips) == 6
    assert not set(study.sounds.ids) & set(study.clips.ids)


def test_a_damaged_result_is_named(tmp_path: Path) -> None:
    cache = Cache(tmp_path, {"seed": 0})
    cache.get("t", lambda: {"table": pd.DataFrame({"x": [1]}), "n": 3})
    (cache.folder / "t.json").write_text("{")
    with pytest.raises(StoreError, match=r"t\.json cannot be read .* delete it"):
        Cache(tmp_path, {"seed": 0}).get("t", dict)
    with pytest.raises(DataError, match="the step u returns int"):
        cache.get("u", lambda: 3)

    def fails() -> pd.DataFrame:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.get("v", fails)
    assert cache.get("v", lambda: pd.DataFrame({"x": [2]}))["x"].tolist() == [2]
    assert not [path for path in cache.folder.iterdir() if path.name.startswith(".")]


def test_traits_are_parsed_once() -> None:
    study = Small(replace(Config(), traits=("instrument=flute|piano",)))
    assert study.traits == (Trait("instrument", "flute", "piano"),)
    assert Small.Config is Config and Small.name() == "test_study"


def test_the_code_is_part_of_the_key(tmp_path: Path) -> None:
    ear = tmp_path / "ear.py"
    folders = []
    for text in ("LOUD = 1", "LOUD = 1", "LOUD = 2"):  # a judge of one's own is code too
        ear.write_text(text)
        folders.append(Small(Config(out=tmp_path, judge=f"{ear}:Ear"), progress=False).cache.folder)
    assert folders[0] == folders[1] != folders[2]
    assert len(fingerprint_of_code(Small)) == 16
    assert fingerprint_of_code(Small) != fingerprint_of_code(Study)
