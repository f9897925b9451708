"""The files that GitHub reads are valid, and call what exists."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import sparse_rcnn_lab as srl

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml"))


def _read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _steps(workflow: dict[Any, Any]) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_call_make_targets_that_exist(path):
    """Catches a target that was renamed while the workflow still calls it."""
    workflow = _read(path)
    assert True in workflow  # YAML 1.1 reads the key `on` so
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    called = [
        word
        for step in _steps(workflow)
        for word in step.get("run", "").split()
        if word != "make" and "=" not in word
    ]
    assert called and set(called) <= targets


def test_tests_run_on_the_oldest_python_that_is_promised():
    """Catches requires-python moving on without the workflow."""
    (matrix,) = (
        job["strategy"]["matrix"]
        for job in _read(ROOT / ".github" / "workflows" / "tests.yml")["jobs"].values()
    )
    needed = re.search(
        r'requires-python = ">=([\d.]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    )
    assert needed and needed[1] == matrix["python"][0]
    assert {"ubuntu-latest", "macos-latest", "windows-latest"} == set(matrix["os"])


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_issue_forms_have_what_github_asks_for(path):
    """Catches a form that GitHub would hide: a field without id or label, an id twice."""
    form = _read(path)
    assert form["name"] and form["description"]
    fields = [part for part in form["body"] if part["type"] != "markdown"]
    ids = [part["id"] for part in fields]
    assert ids and len(ids) == len(set(ids))
    assert all(part["attributes"]["label"] for part in fields)
    assert {part["type"] for part in fields} <= {"input", "textarea", "dropdown", "checkboxes"}


def test_issue_forms_name_paths_that_exist():
    """Catches an example folder that moved."""
    for path in FORMS:
        for name in re.findall(r"sparse_rcnn_lab/[\w/]+", path.read_text(encoding="utf-8")):
            assert (ROOT / name).exists(), f"{path.name}: {name}"


def test_citation_is_of_this_version():
    """Catches a release that still cites the one before."""
    citation = _read(ROOT / "CITATION.cff")
    assert citation["cff-version"] == "1.2.0" and citation["version"] == srl.__version__
    assert citation["authors"] and citation["preferred-citation"]["authors"]
