"""The house: which room may import which, and what lets a newcomer find the way about in it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import sparse_rcnn_lab as srl

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "sparse_rcnn_lab"

# Room -> the rooms it may import; inside functions too. Of itself it may import anything.
MAY_IMPORT = {
    "core": set(),
    "runtime": {"core"},
    "runtime/export": {"core", "runtime", "detect"},  # exports a Detector, which has a runtime
    "detect": {"core", "runtime"},
    "models": {"core", "detect", "runtime"},
    "data": {"core", "detect"},
    "intervene": {"core", "detect", "models"},
    "training": {"core", "detect", "models", "data", "runtime"},
    "analysis": {"core", "detect", "models", "data", "intervene", "training", "runtime"},
    "views": {"core", "detect", "models", "data", "intervene", "analysis"},
}
ROOMS = {room for room in MAY_IMPORT if "/" not in room}
MAY_IMPORT["course"] = MAY_IMPORT["app"] = set(ROOMS)
MAY_IMPORT["cli"] = {*ROOMS, "app", "course"}
ROOMS |= {"course", "app", "cli"}
# What a file may do that its room may not, and why.
EXCEPTIONS = {
    ("core/train.py", "data"): "its main() draws the shapes that it trains on",
}


def _imports(file: Path) -> set[str]:
    """Every module of ours that a file names in an import, as dotted names below the package."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        found |= {name.removeprefix("sparse_rcnn_lab.") for name in names if _ours(name)}
    return found


def _ours(name: str) -> bool:
    return name.startswith("sparse_rcnn_lab.")


def _files(room: str) -> list[Path]:
    """The files of a room, without those of a part of it that has a line of its own."""
    parts = [PACKAGE / part for part in MAY_IMPORT if part.startswith(f"{room}/")]
    files = (PACKAGE / room).rglob("*.py")
    return sorted(file for file in files if not any(file.is_relative_to(part) for part in parts))


def test_every_room_is_in_the_table() -> None:
    """Catches a new folder that nobody has given a place."""
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} == ROOMS
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py", "__main__.py"}
    listed = subprocess.run(
        ["git", "ls-files", "sparse_rcnn_lab"], cwd=ROOT, capture_output=True, text=True
    )
    entries = {line.split("/")[1] for line in listed.stdout.split()}
    assert len(entries) <= 14, sorted(entries)


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_rooms_import_only_what_they_may(room: str) -> None:
    """Catches a figure that needs the model's training, or a model that knows how it is run."""
    wrong = []
    for file in _files(room):
        name = file.relative_to(PACKAGE).as_posix()
        for module in _imports(file):
            other = module.split(".")[0]
            own = room.split("/")[0]
            barred = other in ROOMS and other != own and other not in MAY_IMPORT[room]
            if barred and (name, other) not in EXCEPTIONS:
                wrong.append(f"{name} imports {module}")
    assert not wrong, "\n".join(sorted(wrong))


def test_exceptions_are_needed() -> None:
    """Catches an exception that has outlived its reason."""
    for (name, other), reason in EXCEPTIONS.items():
        imported = {module.split(".")[0] for module in _imports(PACKAGE / name)}
        assert other in imported, f"{name} no longer imports {other}: {reason}"


def test_no_import_circle() -> None:
    """Catches two files that need each other before either is complete."""
    modules = {}
    for file in PACKAGE.rglob("*.py"):
        name = file.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", ".")
        modules[name.removesuffix(".__init__")] = file
    graph = {}
    for name, file in modules.items():
        tree = ast.parse(file.read_text(encoding="utf-8"))
        top = [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
        needed = set()
        for node in top:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sparse_rcnn"):
                base = (node.module or "").removeprefix("sparse_rcnn_lab").strip(".")
                for alias in node.names:
                    full = f"{base}.{alias.name}".strip(".")
                    needed.add(full if full in modules else base)
        graph[name] = needed & set(modules) - {name}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            for other in sorted(graph[name]):
                visit(other, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_core_is_read_in_one_sitting() -> None:
    """Catches the paper growing back into a framework."""
    lines = sum(len(file.read_text(encoding="utf-8").splitlines()) for file in _files("core"))
    assert lines < 2000, lines
    allowed = {"torch", "torchvision", "numpy", "scipy", "sparse_rcnn_lab"}
    for file in _files("core"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                top = name.split(".")[0]
                assert top in allowed or top in sys.stdlib_module_names, f"{file.name}: {name}"


def test_no_file_name_twice() -> None:
    """Catches two files that a search by name confuses."""
    counts = Counter(file.name for file in PACKAGE.rglob("*.py"))
    assert {name for name, count in counts.items() if count > 1} <= {"__init__.py", "__main__.py"}


def test_dir_shows_the_public_names() -> None:
    """Catches a helper that tab completion offers as if it were public."""
    assert dir(srl) == sorted(srl.__all__)
