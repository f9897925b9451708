"""A made-up class: how its submissions are made and rehearsed."""

from __future__ import annotations

import contextlib
import copy
import csv
import io
import json
import re
import shutil
import sys
import time
import types
from pathlib import Path
from typing import Any

from classroom_mistakes import MISTAKES, Mistake
from classroom_styles import STYLES
from classroom_trouble import TROUBLE

from sparse_rcnn_lab.course.classroom.build import read_source
from sparse_rcnn_lab.course.classroom.cells import name_of, role_of
from sparse_rcnn_lab.course.classroom.cells import read_notebook as read
from sparse_rcnn_lab.course.classroom.collect import collect
from sparse_rcnn_lab.course.classroom.course_folder import Course
from sparse_rcnn_lab.course.classroom.grade import grade

__all__ = ["MISTAKES", "STYLES", "TROUBLE", "read"]
SOURCES = Path(__file__).resolve().parent.parent / "notebooks" / "assignments"


# The training of assignment 3 and its tests, eight steps while a notebook is graded, and the figure
# of assignment 4: what takes longest, and what no mistake is in.
TRAINING = {"train", "model-runs", "model-learns", "figure"}


def source_of(name: str, secret: str = "2026") -> Any:
    """The instructor's notebook of an assignment, with the numbers of ``secret``."""
    course = Course(Path(), secret, (name,))
    notebook = read_source(SOURCES, name, course)
    return {"cells": [dict(cell) for cell in notebook.cells], "metadata": {}}


def unfair(name: str, secret: str, training: bool = False) -> dict[str, Any]:
    """{style or mistake: (tests it loses, tests it should lose)} where these differ.

    Empty where with the numbers of ``secret`` every right answer gets full marks, and every mistake
    loses its own.
    """
    source = source_of(name, secret)
    perfect = solved(source, source)
    right = {"reference": perfect}
    right |= {f"style {s}": with_answers(perfect, cells) for s, cells in STYLES[name].items()}
    found = {style: (rehearse(made, training), frozenset()) for style, made in right.items()}
    for mistake in MISTAKES[name]:
        lost = rehearse(with_mistake(perfect, mistake), training=False)
        found[mistake.name] = (lost, mistake.lost)
    return {who: pair for who, pair in found.items() if pair[0] != pair[1]}


def rehearse(notebook: Any, training: bool = True) -> frozenset[str]:
    """The tests that a notebook fails, its cells run in this process: seconds less than a kernel.

    training: False leaves out what is in ``TRAINING``. What only a kernel shows (crashes, loops,
    floods of print) is in the round trip. Asserts that a test changes none of the student's names.
    """
    name, main = "__main__", types.ModuleType("__main__")
    real, failed = sys.modules[name], set()
    sys.modules[name] = main
    try:
        for c in notebook["cells"]:
            if c["cell_type"] != "code" or (not training and name_of(c) in TRAINING):
                continue
            before = dict(main.__dict__)
            try:
                with contextlib.redirect_stdout(io.StringIO()):
                    exec(compile(c["source"], name_of(c) or "cell", "exec"), main.__dict__)
            except Exception:
                failed.add(name_of(c))
            if role_of(c).get("grade"):
                names = before.keys() | main.__dict__.keys()
                moved = {k for k in names if before.get(k) is not main.__dict__.get(k)}
                assert moved <= {"_test", "__builtins__"}, f"{name_of(c)} changes {moved}"
    finally:
        sys.modules[name] = real
    return frozenset(failed) & all_tests(notebook)


def with_hidden_tests(notebook: Any, source: Any) -> Any:
    """What nbgrader does before it runs a submission: its test cells are the instructor's."""
    notebook = copy.deepcopy(notebook)
    for c in notebook["cells"]:
        if role_of(c).get("locked"):
            c["source"] = cell(source, name_of(c))["source"]
    return notebook


def solved(source: Any, release: Any) -> Any:
    """The released notebook with the reference solutions in it."""
    notebook = copy.deepcopy(release)
    answers = {name_of(cell): cell["source"] for cell in source["cells"] if name_of(cell)}
    for cell in notebook["cells"]:
        if role_of(cell).get("solution"):
            cell["source"] = re.sub(
                r"[ \t]*###? ?(BEGIN|END) SOLUTION[ \t]*\n?", "", answers[name_of(cell)]
            )
    return notebook


def cell(notebook: Any, name: str) -> Any:
    """The cell called so."""
    (found,) = (c for c in notebook["cells"] if name_of(c) == name)
    return found


def with_mistake(perfect: Any, mistake: Mistake) -> Any:
    """A copy with the mistake, which must be possible."""
    notebook = copy.deepcopy(perfect)
    target = cell(notebook, mistake.cell)
    assert mistake.old in target["source"], f"{mistake.name}: the solution has changed"
    target["source"] = target["source"].replace(mistake.old, mistake.new)
    return notebook


def with_answers(perfect: Any, answers: dict[str, str]) -> Any:
    """A copy in which some solution cells are other ones."""
    notebook = copy.deepcopy(perfect)
    for name, text in answers.items():
        cell(notebook, name)["source"] = text
    return notebook


def all_tests(notebook: Any) -> frozenset[str]:
    """The names of all graded code cells."""
    return frozenset(
        name_of(c)
        for c in notebook["cells"]
        if role_of(c).get("grade") and c["cell_type"] == "code"
    )


def copy_of(course: Course, folder: Path) -> Course:
    """A course to change."""
    shutil.copytree(course.root, folder)
    return Course.open(folder)


def hand_in(folder: Path, student: str, assignment: str, notebook: Any) -> None:
    """Writes a submission as a plain folder has it."""
    path = folder / student / f"{assignment}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(notebook), encoding="utf-8")


def round_trip(
    folder: Path, class_of: dict[str, dict[str, tuple[Any, frozenset[str], str]]]
) -> Any:
    """Builds, hands in, collects, grades; the notes. Asserts what each submission has lost."""
    course = Course.open(folder / "course")
    for name, students in class_of.items():
        for student, (notebook, _, _) in students.items():
            hand_in(folder / "handed-in", student, name, notebook)
    result = collect(course, folder / "handed-in")
    assert not result.refused
    start = time.perf_counter()
    graded = grade(course, progress=False, workers=2)
    print(f"\n{len(graded)} notebooks graded in {time.perf_counter() - start:.0f} s")
    assert not any(graded.values()), graded

    lost: dict[tuple[str, str], set[str]] = {}
    with (course.root / "marks_by_test.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            key = (row["assignment"], row["student"])
            lost.setdefault(key, set())
            if float(row["marks"] or 0) < float(row["out_of"]):
                lost[key].add(row["test"])
    with (course.root / "marks.csv").open(encoding="utf-8") as file:
        rows = {(row["assignment"], row["student"]): row for row in csv.DictReader(file)}
    wrong = {}
    for name, students in class_of.items():
        code = all_tests(read(course.notebook("release", name)))
        for student, (_, expected, note) in students.items():
            found = frozenset(lost[name, student] & code)
            if found != expected or note not in rows[name, student]["notes"]:
                notes = rows[name, student]["notes"]
                wrong[name, student] = (sorted(found - expected), sorted(expected - found), notes)
    assert wrong == {}
    return course, rows


def made_class(course: Course, name: str) -> dict[str, Any]:
    """Perfect, in another style, empty, some mistakes, each trouble, edited tests."""
    source, release = (read(course.notebook(s, name)) for s in ("source", "release"))
    perfect = solved(source, release)
    every = all_tests(release)
    people: dict[str, Any] = {
        "perfect": (perfect, frozenset(), ""),
        **{
            f"style-{style}": (with_answers(perfect, cells), frozenset(), "")
            for style, cells in STYLES[name].items()
        },
        "empty": (release, every, ""),
    }
    for mistake in MISTAKES[name][::3]:  # all of them are rehearsed
        people[mistake.name] = (with_mistake(perfect, mistake), mistake.lost, "")
    for one in TROUBLE[name]:
        people[f"t-{one.name}"] = (with_answers(perfect, one.cells), one.lost, one.note)
    people["edits-tests"] = (edits_tests(release), every, "restored")
    return people


def edits_tests(release: Any) -> Any:
    """A copy with every second test emptied, the others gone."""
    notebook = copy.deepcopy(release)
    tests = [c for c in notebook["cells"] if role_of(c).get("grade")]
    tests = [c for c in tests if c["cell_type"] == "code"]
    for cell in tests[::2]:
        cell["source"] = "print('ok')"
    notebook["cells"] = [c for c in notebook["cells"] if c not in tests[1::2]]
    return notebook
