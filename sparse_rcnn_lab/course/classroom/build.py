"""``build``: from the sources to a course folder, the student's notebooks, and a proof of both."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.course.classroom.catalogue import Assignment
from sparse_rcnn_lab.course.classroom.course import Course, need_nbgrader
from sparse_rcnn_lab.course.classroom.sources import read_source
from sparse_rcnn_lab.detect.files import write_text

FORBIDDEN = ("BEGIN SOLUTION", "END SOLUTION", "BEGIN HIDDEN", "END HIDDEN", "V.")


def build(
    root: str | Path,
    sources: str | Path,
    assignments: tuple[Assignment, ...],
    seed: int,
    guide: Path | None = None,
    say: Callable[[str], None] = print,
) -> Course:
    """Makes or refreshes a course folder.

    root: the folder.  sources: ``notebooks/assignments``.  seed: decides data and expected values.
    guide: a page that is copied beside the solutions.

    Raises LabError when a source cannot be built, when the student's version would give something
    away, and when the folder holds submissions to another seed.
    """
    need_nbgrader()
    root, sources = Path(root).resolve(), Path(sources)
    names = tuple(a.name for a in assignments)
    if (root / "course.json").exists():
        before = Course.open(root)
        if before.seed != seed and before.students():
            raise LabError(
                f'"{root}" has submissions to seed {before.seed}. For seed {seed} name another '
                "folder with --course: their hidden tests would be exchanged."
            )
        names = tuple(dict.fromkeys((*before.assignments, *names)))
    elif root.is_dir() and any(root.iterdir()):
        raise LabError(f'"{root}" has files but is no course folder. Name another with --course.')
    course = Course(root, seed, names)
    course.save()
    for assignment in assignments:
        notebook = read_source(sources / assignment.source, assignment, seed)
        path = course.notebook("source", assignment.name)
        write_text(path, json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")
        done = course.nbgrader().generate_assignment(assignment.name, force=True, create=True)
        if not done["success"]:
            raise LabError(f'nbgrader could not build "{assignment.name}":\n{done["log"]}')
        release = course.notebook("release", assignment.name)
        check_release(release)
        hand_out = root / "hand-out" / release.name
        hand_out.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(release, hand_out)
        say(f"{assignment.name}: {points(notebook):g} marks, {hand_out}")
    if guide is not None and guide.is_file():
        write_text(root / "source" / "GUIDE.md", guide.read_text(encoding="utf-8"))
    return course


def points(notebook: Any) -> float:
    """All the marks of a notebook."""
    return sum(cell["metadata"].get("nbgrader", {}).get("points", 0) for cell in notebook["cells"])


def check_release(path: Path) -> None:
    """Raises LabError where a student's notebook holds a solution, a hidden test or an output."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for number, cell in enumerate(notebook["cells"]):
        source = "".join(cell["source"])
        for mark in FORBIDDEN:
            if mark in source:
                raise LabError(f'"{path}", cell {number}, still has "{mark}": not handed out.')
        if cell.get("outputs") or cell.get("execution_count"):
            raise LabError(f'"{path}", cell {number}, still has an output: not handed out.')
        role = cell["metadata"].get("nbgrader", {})
        if role.get("solution") and cell["cell_type"] == "code" and "not written yet" not in source:
            raise LabError(
                f'"{path}": the cell "{role["grade_id"]}" has no BEGIN SOLUTION in its source.'
            )
