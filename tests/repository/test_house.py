"""The house: which room may import which, and what lets a newcomer find the way about in it."""

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "sparse_rcnn_lab"

# What looks at traces and tables alone, and runs no detector.
JUDGED = {f"analysis.{name}" for name in ("table", "detection_errors", "outcomes", "statistics")}
# Part -> what it may import, inside functions too, by the beginning of the name. A file belongs to
# the longest part that names it.
MAY_IMPORT = {
    "core": {"core"},
    "core/train": {"core", "data.transforms"},  # the one exception: what its main() trains on
    "runtime": {"core", "runtime"},
    "runtime/export": {"core", "detect", "runtime"},  # a Detector, which has a runtime
    "detect": {"core", "detect", "runtime"},
    "models": {"core", "detect", "models", "runtime"},
    "data": {"core", "data", "detect"},
    "training": {"core", "data", "detect", "models", "runtime", "training"},
    # Judges what it taught in words, with the tables of analysis; nothing in training imports it.
    "training/teach": {"core", "data", "detect", "models", "runtime", "training", *JUDGED},
    "intervene": {"core", "data.sample", "detect", "intervene", "models.config_edit", "runtime"},
    "analysis": {"core", *JUDGED, "detect.files"},
    "analysis/experiments": {"analysis", "core", "data", "detect", "models", "runtime", "training"},
    "views": {"core", *JUDGED, "detect.files", "detect.images", "views"},
    "views/explorer": {"core", "data.sample", "detect", "intervene", "models.load", "views"},
}
MAY_IMPORT["views/labeller"] = {
    *("core", "data", "detect", "models.load", "training.teach.suggest", "views"),
}
MAY_IMPORT["views/playground"] = {
    *("core", "data.example_images", "detect", "models.load", "runtime", "views"),
}
BELOW = {part.split("/")[0] for part in MAY_IMPORT}
MAY_IMPORT["app"] = {*BELOW, "app"}
MAY_IMPORT["course"] = {*BELOW, "course"}
MAY_IMPORT["cli"] = ROOMS = {*BELOW, "app", "course", "cli"}


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


def _part(file: Path) -> str:
    """The longest part of MAY_IMPORT that names a file of the package, or ""."""
    name = file.relative_to(PACKAGE).with_suffix("").as_posix()
    return max((p for p in MAY_IMPORT if f"{name}/".startswith(f"{p}/")), key=len, default="")


def test_every_room_is_in_the_table():
    """Catches a new folder that nobody has given a place."""
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} == ROOMS
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py", "__main__.py"}
    listed = subprocess.run(
        ["git", "ls-files", "sparse_rcnn_lab"], cwd=ROOT, capture_output=True, text=True
    )
    entries = {line.split("/")[1] for line in listed.stdout.split()}
    assert len(entries) <= 14, sorted(entries)


@pytest.mark.parametrize("part", sorted(MAY_IMPORT))
def test_rooms_import_only_what_they_may(part):
    """Catches a figure that needs the model's training, or a model that knows how it is run."""
    files = [file for file in PACKAGE.rglob("*.py") if _part(file) == part]
    wrong = [
        f"{file.relative_to(PACKAGE).as_posix()} imports {module}"
        for file in files
        for module in _imports(file) - {"__version__"}
        if not any(f"{module}.".startswith(f"{allowed}.") for allowed in MAY_IMPORT[part])
    ]
    assert files and not wrong, "\n".join(sorted(wrong))


def test_no_import_circle():
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


def test_what_takes_long_to_import_waits():
    """Catches a second or more at the start of every training, of Teach and of the app."""
    slow = {"scipy.optimize", "scipy.special", "torch._dynamo", "torchvision", "matplotlib.pyplot"}
    code = "import sys, sparse_rcnn_lab.training.teach.teaching; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert slow & set(done.stdout.split()) == set()


def test_core_is_read_in_one_sitting():
    """Catches the paper growing back into a framework."""
    files = sorted((PACKAGE / "core").rglob("*.py"))
    lines = sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files)
    assert lines < 2000, lines
    allowed = {"torch", "torchvision", "numpy", "scipy", "sparse_rcnn_lab"}
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                top = name.split(".")[0]
                assert top in allowed or top in sys.stdlib_module_names, f"{file.name}: {name}"


def test_no_file_name_twice():
    """Catches two files that a search by name confuses."""
    counts = Counter(file.name for file in PACKAGE.rglob("*.py"))
    assert {name for name, count in counts.items() if count > 1} <= {"__init__.py", "__main__.py"}
