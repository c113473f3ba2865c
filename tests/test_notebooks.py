"""The notebooks run from top to bottom, at a small size, and say what they promise."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
PROMISES: dict[str, tuple[int, tuple[str, ...]]] = {  # pictures, words
    "01_first_look": (6, ("pushed at L", "unsteered", "shuffled labels", "<audio", "L0.H", "null_max_95")),
    "02_directions": (
        10,
        ("least squares, LDA", "null_permuted", "degrees to LDA", "different bases", "Best at hearing", "ridge - lda"),
    ),
    "03_steering": (
        5,
        (
            "SMITIN add drums",
            "read from checkpoint",
            "p_holm",
            "specific to the site: ",
            "tau = ",
            "data:audio/mpeg",
            "the same until",
        ),
    ),
}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_notebooks_are_light(path: Path) -> None:
    assert path.stat().st_size < 1_500_000
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert "parameters" in notebook.cells[1].metadata.get("tags", [])
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    sources = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    assert max(len(line) for source in sources for line in source.splitlines()) <= 120


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(PROMISES))
def test_a_notebook_runs_and_says_what_it_promises(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERP_SMALL", "1")
    monkeypatch.setenv("PYTHONPATH", str(FOLDER.parent))  # also where the package is not installed
    monkeypatch.setenv("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(FOLDER)}}
    ).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output.output_type == "error"]
    kinds = [kind for output in outputs for kind in output.get("data", {})]
    pictures, expected = PROMISES[name]
    assert kinds.count("image/png") >= pictures
    words = "".join(output.get("text", "") for output in outputs)
    words += "".join(output.get("data", {}).get("text/html", "") for output in outputs)
    for word in expected:
        assert word in words, word
