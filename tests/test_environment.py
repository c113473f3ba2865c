"""The environment: a lock that any machine can use, a Makefile that is quick when nothing is to be done."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCK = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PLATFORM = "sys_platform == 'linux' and platform_machine == 'x86_64'"
# audiocraft 1.3.0 and musicnn ask for these; nothing that is used here imports them, or versions that no current stack
# can meet.
NOT_NEEDED = {"demucs", "gradio", "torchvision", "torchtext", "pyaudio", "tensorflow"}
OLD_PINS = {"audiocraft", "musicnn"}


def _locked() -> dict[str, Requirement]:
    return {canonicalize_name(r.name): r for r in map(Requirement, LOCK)}


def test_every_line_is_a_name_and_a_version() -> None:
    for line in LOCK:
        assert re.fullmatch(rf"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+( ; {re.escape(PLATFORM)})?", line), line
    assert len(_locked()) == len(LOCK)


def test_cuda_stays_on_its_platform() -> None:
    for name, requirement in _locked().items():
        cuda = name.startswith(("nvidia-", "cuda-")) or name == "triton"
        assert bool(requirement.marker) == cuda, name


def test_the_lock_holds_what_the_project_asks_for() -> None:
    locked = _locked()
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]
    for requirement in map(Requirement, wanted):
        version = next(iter(locked[canonicalize_name(requirement.name)].specifier)).version
        assert requirement.specifier.contains(version), requirement


def test_the_lock_is_complete_and_is_what_is_installed() -> None:
    """Every requirement of every locked package is locked too; two packages' own pins are the known exception."""
    locked = _locked()
    environment = {"extra": "", "sys_platform": "linux", "platform_machine": "x86_64", "platform_system": "Linux"}
    for name, requirement in locked.items():
        distribution = importlib.metadata.distribution(name)
        assert requirement.specifier.contains(distribution.version, prereleases=True), (name, distribution.version)
        for text in distribution.requires or []:
            needed = Requirement(text)
            if needed.marker and not needed.marker.evaluate(environment):
                continue
            child = canonicalize_name(needed.name)
            if child in NOT_NEEDED:
                continue
            assert child in locked, f"{name} needs {child}"
            if name not in OLD_PINS:
                version = next(iter(locked[child].specifier)).version
                assert needed.specifier.contains(version, prereleases=True), f"{name} needs {needed}, locked {version}"


def test_make_does_nothing_when_there_is_nothing_to_do(tmp_path: Path) -> None:
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    stamp = tmp_path / ".venv" / ".complete"
    stamp.parent.mkdir()
    stamp.touch()
    done = subprocess.run(["make", "env"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "" and done.stderr == ""
    later = stamp.stat().st_mtime + 10
    os.utime(tmp_path / "requirements.lock", (later, later))
    plan = subprocess.run(
        ["make", "--dry-run", "test"], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    assert "--no-deps -r requirements.lock" in plan and "pytest" in plan


def test_make_says_when_python_is_missing(tmp_path: Path) -> None:
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    done = subprocess.run(
        ["make", "env", "PYTHON=no-such-python"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "install Python 3.11" in done.stdout
    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize("name", ["interp", "interp.sites", "interp.errors"])
def test_importing_the_package_is_light(name: str) -> None:
    heavy = ("torch", "audiocraft", "nnsight", "transformers", "umap", "matplotlib", "librosa")
    code = f"import sys, {name}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_ci_runs_what_a_contributor_runs() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert "make lint" in script and "make test" in script
    makefile, readme = (ROOT / "Makefile").read_text(), (ROOT / "README.md").read_text()
    for target in ("demo", "test", "lint", "bench", "figures", "notebooks"):
        assert re.search(rf"^{target}:", makefile, re.M) and f"make {target}" in readme


def test_no_file_of_the_project_names_a_machine_or_a_registry() -> None:
    for path in (
        *ROOT.glob("*.toml"),
        *ROOT.glob("*.lock"),
        *ROOT.glob("*.md"),
        ROOT / "Makefile",
        ROOT / ".ci" / "run",
    ):
        text = path.read_text()
        assert not re.search(r"/root/|/home/|--index-url|--find-links|pypi\.org|files\.pythonhosted", text), path
