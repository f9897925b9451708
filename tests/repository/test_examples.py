"""The examples in docstrings run, and no public name goes without one."""

import doctest
import importlib
import inspect
import pkgutil
import shutil
from pathlib import Path

import matplotlib
import pytest

import sparse_rcnn_lab as srl
from sparse_rcnn_lab import analysis
from sparse_rcnn_lab.course import lessons
from sparse_rcnn_lab.views import figures

EXAMPLES = Path(srl.__file__).parent / "data" / "examples"
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(srl.__path__, "sparse_rcnn_lab.")
    if not module.name.endswith("__main__")
)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL
# Results, and what goes with another name: the name whose example shows them.
SHOWN_BY = {
    "Evaluation": "evaluate",
    "JudgedDetections": "judge_detections",
    "Recipe": "recipe",
    "Run": "fit",
    "RunOptions": "object_outcomes",
    "TraceDiff": "trace_diff",
    "load_trace": "save_trace",
    "matches_over_training": "keep_snapshots",
    "matching_instability": "keep_snapshots",
    "pick": "is_fast",
}


@pytest.mark.parametrize("name", ["sparse_rcnn_lab", *MODULES])
def test_examples_run(name, tmp_path, monkeypatch) -> None:
    """Catches an example that shows what the code no longer does."""
    module = importlib.import_module(name)
    tests = [test for test in doctest.DocTestFinder().find(module) if test.examples]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(matplotlib, "rcParams", matplotlib.rcParams.copy())
    shutil.copy(EXAMPLES / "shapes_1.png", "photo.jpg")
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    for test in tests:
        said: list[str] = []
        runner.run(test, out=said.append)
        assert not runner.failures, f"{test.name}:\n{''.join(said)}"


@pytest.mark.parametrize("module", [srl, analysis, figures, lessons], ids=lambda m: m.__name__)
def test_public_names_have_an_example(module):
    """Catches a public function or class that nobody has shown how to use."""
    missing = []
    for name in sorted(module.__all__):
        thing = getattr(module, SHOWN_BY.get(name, name))
        if isinstance(thing, type) and issubclass(thing, Exception):
            continue
        if inspect.isclass(thing) or inspect.isfunction(thing):
            parts = [thing, *(vars(thing).values() if inspect.isclass(thing) else ())]
            if not any(">>>" in (getattr(part, "__doc__", None) or "") for part in parts):
                missing.append(name)
    assert not missing
