"""The house: data flow one way, no two files import each other, and tests stand where a stranger would look."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: From what everything rests on to what rests on everything; rooms of one line stand side by side.
FLOORS = [
    ["errors", "_files", "_threads"],
    ["_cells", "stats", "sites", "metrics", "splits", "_index"],
    ["traits", "tables", "_terminal"],
    ["_sources", "_folder", "clips", "data"],
    ["backends"],
    ["testbed"],
    ["tracing", "model"],
    ["pooling", "_batch", "_codes", "_manifest", "_lazy", "_store", "_extraction", "activations"],
    ["directions"],
    ["probes", "geometry", "mechanisms", "judges", "steering"],
    ["validation", "check", "plan"],
    ["plots"],
    ["report"],
    ["__init__"],
    ["study"],
    ["recipes"],
    ["cli"],
]
#: A judge may be made of the model's own probes; nothing else leans on a room beside its own.
LEANS = {("judges", "probes")}
FLOOR = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def _sources(package: str) -> dict[str, Path]:
    return {_module(path): path for path in sorted((ROOT / package).rglob("*.py"))}


def _imported(path: Path, known: frozenset[str]) -> Iterator[str]:
    """Modules of the project that a file imports, wherever in the file the import stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name in known:
                    yield alias.name
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                if inner in known:
                    yield inner
                elif node.module in known:
                    yield node.module


@cache
def graph() -> dict[str, frozenset[str]]:
    sources = _sources("interp") | _sources("analyses")
    known = frozenset(sources)
    return {name: frozenset(_imported(path, known)) - {name} for name, path in sources.items()}


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def test_every_room_has_a_floor() -> None:
    assert {room(name) for name in _sources("interp")} <= set(FLOOR)


def test_no_import_runs_upward() -> None:
    upward = [
        f"{name} -> {other}"
        for name, others in graph().items()
        for other in sorted(others)
        if name.startswith("interp") and (not other.startswith("interp") or FLOOR[room(name)] < FLOOR[room(other)])
    ]
    assert not upward, "\n".join(upward)


def test_rooms_of_one_floor_do_not_lean_on_each_other() -> None:
    across = [
        f"{name} -> {other}"
        for name, others in graph().items()
        for other in sorted(others)
        if name.startswith("interp")
        and room(name) != room(other)
        and (room(name), room(other)) not in LEANS
        and FLOOR[room(name)] == FLOOR[room(other)]
        and len(FLOORS[FLOOR[room(name)]]) == 5  # the five rooms over directions/ that must stand side by side
    ]
    assert not across, "\n".join(across)


def test_no_two_files_import_each_other() -> None:
    edges = graph()
    seen: dict[str, int] = {}
    path: list[str] = []

    def walk(name: str) -> None:
        seen[name] = 1
        path.append(name)
        for other in edges[name]:
            state = seen.get(other, 0)
            if state == 1:
                pytest.fail("a circle of imports: " + " -> ".join([*path[path.index(other) :], other]))
            if state == 0:
                walk(other)
        path.pop()
        seen[name] = 2

    for name in edges:
        if name not in seen:
            walk(name)


def test_each_dependency_that_churns_has_one_seam() -> None:
    """nnsight is imported in one module, audiocraft in one, transformers in the judge and the backend that need it."""
    allowed = {
        "nnsight": {"interp.tracing"},
        "audiocraft": {"interp.backends.audiocraft"},
        "transformers": {"interp.backends.transformers", "interp.judges.clap"},
    }
    for package, homes in allowed.items():
        users = {
            name
            for name, path in (_sources("interp") | _sources("analyses")).items()
            for node in ast.walk(ast.parse(path.read_text()))
            if (isinstance(node, ast.Import) and any(a.name.split(".")[0] == package for a in node.names))
            or (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == package)
        }
        assert users <= homes, f"{package} is imported by {sorted(users - homes)}"


def test_nothing_loads_a_pickle() -> None:
    for name, path in (_sources("interp") | _sources("analyses")).items():
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            text = ast.unparse(node)
            if text.startswith(("pickle.load", "joblib.load", "dill.load")):
                pytest.fail(f"{name}: {text}")
            if text.startswith("torch.load("):
                # inert brings its own reader of pickles, which makes nothing but tensors and plain containers
                assert "weights_only=True" in text or name == "interp.backends.inert", f"{name}: {text}"
            if text.startswith("np.load("):
                assert "allow_pickle=False" in text, f"{name}: {text}"
