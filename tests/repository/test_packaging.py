"""The wheel, the conda environment, the commands and the package's own imports hold together."""

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from hatchling.builders.wheel import WheelBuilder

import sparse_rcnn_lab
from sparse_rcnn_lab import __version__

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "sparse_rcnn_lab"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_wheel_has_every_file_of_the_package():
    """Catches a shipped checkpoint, example or module that .gitignore keeps out of the wheel."""
    files = WheelBuilder(str(ROOT)).recurse_included_files()
    packed = {Path(file.distribution_path).as_posix() for file in files}
    wanted = {
        path.relative_to(ROOT).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.name != ".DS_Store"
    }
    assert "sparse_rcnn_lab/data/sample.py" in wanted
    assert wanted - packed == set()


def test_environment_names_extras_that_exist():
    """Catches an extra renamed in pyproject.toml: pip only warns, and installs nothing."""
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    (pip,) = (entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    places = (*pip, makefile)
    found = [
        m for text in places for m in re.findall(r"(?:\.\[|EXTRAS := |install,)([\w,]+)", text)
    ]
    extras = {extra for names in found for extra in names.split(",")}
    assert {"demo", "notebooks", "dev"} <= extras
    assert extras <= set(PROJECT["optional-dependencies"])


@pytest.mark.parametrize("target", PROJECT["scripts"].values())
def test_console_script_exists(target):
    """Catches a console script that points at a function that was moved."""
    module, function = target.split(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_changelog_has_this_version():
    """Catches a release whose changes are not written down."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## {re.escape(__version__)}\b", changelog, re.M)


# What a training machine lacks, and engines, which are slow to import. Only the page of ``app``
# needs gradio; apps/demo.py looks for it before it imports anything from there.
EXTRAS = {"gradio", "plotly", "ipywidgets", "anywidget", "IPython", "jupyterlab"}
EXTRAS |= {"onnx", "onnxruntime", "openvino"}


def _at_the_top(file: Path) -> set[str]:
    """The modules that are imported when this one is."""
    found = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_extras_are_imported_where_they_are_used():
    """Catches a top-level import of gradio, plotly, Jupyter or an engine, also in what the app's
    readouts, videos and server import."""
    files = {file for file in PACKAGE.rglob("*.py") if file.parent.name != "app"}
    new = {PACKAGE / "app" / f"{name}.py" for name in ("__init__", "readouts", "video", "server")}
    while new:
        files |= new
        names = {
            name.split(".")[-1] for file in new for name in _at_the_top(file) if ".app." in name
        }
        new = {PACKAGE / "app" / f"{name}.py" for name in names} - files
        new = {file for file in new if file.exists()}
    found = {
        (f.name, name) for f in files for name in _at_the_top(f) if name.split(".")[0] in EXTRAS
    }
    assert len(files) > 100 and not found


@pytest.mark.slow  # ten seconds: everything is imported, as on such a machine
def test_imports_without_the_extras():
    """Catches the same in other ways: an import by a function that runs when a module is read."""
    code = f"""
import sys
for name in {EXTRAS!r}:
    sys.modules[name] = None
import importlib, pkgutil, sparse_rcnn_lab
for module in pkgutil.walk_packages(sparse_rcnn_lab.__path__, "sparse_rcnn_lab."):
    if not module.name.endswith("__main__") and ".app" not in module.name:
        importlib.import_module(module.name)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_rooms_are_there_without_an_import():
    """Catches ``srl.analysis`` that is there once something else has imported it."""
    code = "import sparse_rcnn_lab as srl; srl.analysis.Table; srl.views"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_package_names_are_there():
    """Catches a public name whose lazy home was misspelt or left out, and a helper that tab
    completion offers as if it were public."""
    for name in sparse_rcnn_lab.__all__:
        assert getattr(sparse_rcnn_lab, name) is not None
    assert dir(sparse_rcnn_lab) == sorted(sparse_rcnn_lab.__all__)
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = sparse_rcnn_lab.nothing_like_it


@pytest.mark.parametrize("package", ["sparse_rcnn_lab", "sparse_rcnn_lab.analysis"])
def test_no_module_hides_a_public_name(package):
    """Catches a module called like a function: once imported, it takes the function's place."""
    folder = ROOT / package.replace(".", "/")
    modules = {path.stem for path in folder.glob("*.py")} | {
        path.name for path in folder.iterdir() if (path / "__init__.py").exists()
    }
    assert not modules & set(importlib.import_module(package).__all__)
