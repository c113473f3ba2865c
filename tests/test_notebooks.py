"""The notebooks run from top to bottom, at a small size, and are committed without their outputs."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_notebooks_are_light(path: Path) -> None:
    assert path.stat().st_size < 400_000
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert "parameters" in notebook.cells[1].metadata.get("tags", [])


@pytest.mark.slow
def test_the_first_look_runs_and_says_what_it_promises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERP_SMALL", "1")
    monkeypatch.setenv("PYTHONPATH", str(FOLDER.parent))  # also where the package is not installed
    monkeypatch.setenv("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))
    notebook = nbformat.read(FOLDER / "01_first_look.ipynb", as_version=4)
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(FOLDER)}}
    ).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output.output_type == "error"]
    kinds = [kind for output in outputs for kind in output.get("data", {})]
    assert kinds.count("image/png") >= 6
    words = "".join(output.get("text", "") for output in outputs)
    words += "".join(output.get("data", {}).get("text/html", "") for output in outputs)
    for expected in ("pushed at L", "unsteered", "shuffled labels", "<audio", "L0.H", "null_max_95"):
        assert expected in words, expected
