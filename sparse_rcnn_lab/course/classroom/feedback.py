"""Feedback pages: one per submission, an overview of the class, and solutions to send afterwards.

feedback/STUDENT/ASSIGNMENT/ASSIGNMENT.html, overview.html, solutions/ASSIGNMENT.html
"""

from __future__ import annotations

import re
import statistics
import textwrap
import tomllib
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.course.classroom.by_hand import LINES, filled_in, rubric_of
from sparse_rcnn_lab.course.classroom.cells import name_of, read_notebook, role_of, wording
from sparse_rcnn_lab.course.classroom.course_folder import ASSIGNMENTS, Course
from sparse_rcnn_lab.course.classroom.marks import Result, write_marks
from sparse_rcnn_lab.course.classroom.pages import markdown, outputs_of, write_page

# Test -> the question for a student who did not pass it.
QUESTIONS = tomllib.loads(Path(__file__).with_name("questions.toml").read_text(encoding="utf-8"))


def feedback(
    course: Course, assignments: tuple[str, ...] | None = None, progress: bool = True
) -> list[Path]:
    """Writes a page for each graded submission, and the overview; returns the students' pages.

    The pages contain the hidden tests. Marks by hand are taken from by_hand.csv first.
    Raises LabError where nothing is graded.
    """
    results = write_marks(course)
    names = course.assignments if assignments is None else assignments
    lost: dict[tuple[str, str], list[dict[str, Any]]] = {}
    pages = []
    for result in tqdm(results, unit="page", disable=not progress):
        chosen = result.assignment in names
        if result.problem:
            if chosen:
                tqdm.write(f"{result.name}, {result.assignment}: no page, {result.problem}")
            continue
        about = _about(course, result)
        lost[result.student, result.assignment] = about["lost"]
        if chosen:
            page = course.notebook("feedback", result.assignment, result.student)
            pages.append(page.with_suffix(".html"))
            write_page(pages[-1], "feedback.html.j2", result=result, **about)
    _overview(course, results, lost)
    if not pages:
        raise LabError(f'Nothing is graded in "{course.root}": run grade first.')
    return pages


def solutions(course: Course, assignments: tuple[str, ...] | None = None) -> list[Path]:
    """Writes a page of solutions for each assignment, with the course's numbers."""
    pages = []
    for name in course.assignments if assignments is None else assignments:
        cells: list[dict[str, Any]] = []
        for cell in read_notebook(course.notebook("source", name))["cells"]:
            role = role_of(cell)
            text = re.sub(r"[ \t]*### (BEGIN|END) SOLUTION[ \t]*\n?", "", cell["source"])
            if cell["cell_type"] == "markdown":
                cells.append({"html": markdown(text, ours=True)})
            elif role.get("grade"):
                if not (cells and cells[-1].get("tests")):
                    cells.append({"tests": []})
                cells[-1]["tests"].append(_asked(cell))
            elif role.get("grade_id") != "hand-in":
                cells.append({"code": text.strip()})
        pages.append(course.root / "solutions" / f"{name}.html")
        own = (course.root / "personal").is_dir()
        write_page(pages[-1], "solutions.html.j2", title=ASSIGNMENTS[name], cells=cells, own=own)
    return pages


def _about(course: Course, result: Result) -> dict[str, Any]:
    """The content of the page of a submission."""
    release = read_notebook(course.notebook("release", result.assignment))["cells"]
    ours, by_hand = {wording(cell) for cell in release}, filled_in(course)
    marks = {mark.test: mark for mark in result.marks}
    page: dict[str, Any] = {"passed": [], "words": [], "cells": []}
    lost: dict[tuple[str, str], dict[str, Any]] = {}
    answers: dict[str, Any] = {}
    for cell in result.cells:
        name, text = name_of(cell), cell["source"]
        mark = marks.get(name)
        if cell["cell_type"] == "markdown":
            if mark:
                given = by_hand.get((result.student, result.assignment, name), {})
                lines = zip(rubric_of(course, result.assignment, name), LINES, strict=False)
                rubric = [(what, most, given.get(line)) for (what, most), line in lines]
                page["words"].append({"mark": mark, "rubric": rubric, "answer": markdown(text)})
            html = markdown(text, ours=wording(cell) in ours)
            page["cells"].append({"html": html, "name": name})
            continue
        if role_of(cell).get("solution"):
            answers[name] = cell
        block = {"name": name, "code": text, "outputs": outputs_of(cell), "mark": mark}
        if mark:
            one = _asked(cell) | {"score": mark.score or 0, "out_of": mark.out_of}
            block |= {"code": one["code"], "lost": one["score"] < mark.out_of}
            if block["lost"]:
                # The answer with the same name, or else the one above it.
                task = name.partition("-")[0]
                task = task if task in answers else next(reversed(answers), "")
                came, whole = _came(cell, answers.get(task))
                # Tests that could not run the code are reported together.
                key = (task, came) if whole else ("", name)
                group = {"came": came, "whole": whole, "cell": task, "tests": []}
                lost.setdefault(key, group)["tests"].append(one)
            else:
                page["passed"].append(one)
        if text.strip():
            page["cells"].append(block)
    return page | {"title": ASSIGNMENTS[result.assignment], "lost": list(lost.values())}


def _asked(cell: Any) -> dict[str, Any]:
    """What a test asks, its code, and the question for a student who did not pass it."""
    name, text = name_of(cell), cell["source"]
    wrapped = re.search(r"def _test\(\):\n(.*)\n\n\n_test\(\)", text, re.S)
    text = textwrap.dedent(wrapped[1]) if wrapped else text
    ours = r"^(### (BEGIN|END) HIDDEN|from sparse_rcnn_lab.*checks import).*\n?"
    text = re.sub(ours, "", text, flags=re.M).strip()
    head = re.match(r"(?:# .*\n?)*", text)[0]  # type: ignore[index]
    says = re.sub(r"^\d+ marks?:? ?", "", " ".join(head.replace("# ", "").split()))
    says = says.replace("(hidden)", "").strip() or name.replace("-", " ")
    if "_" not in says.partition(" ")[0]:  # the name of a function stays as it is
        says = says[:1].upper() + says[1:]
    question = QUESTIONS.get(name, "")
    return {"test": name, "asks": says, "code": text[len(head) :].strip(), "question": question}


def _came(test: Any, task: Any) -> tuple[str, bool]:
    """What a failed test has said, and whether it concerns the whole cell."""
    errors = [out["error"] for out in outputs_of(test) if "error" in out]
    stopped = [out["error"] for out in outputs_of(task) if "error" in out] if task else []
    unwritten = task is not None and "not written yet" in task["source"]
    if unwritten and (not errors or re.search("NameError|NotImpl|no code so far", errors[-1])):
        return "Nothing is written here yet.", True
    if stopped and "NotImplementedError" not in stopped[-1]:
        return f"This cell stopped, so nothing of it could be tested: {stopped[-1]}", True
    if not errors:
        return "It passed, but not all of its marks were given.", False
    return re.sub(r"^NameError: name ('\w+') is not", r"\1 is not", errors[-1]), False


def _overview(course: Course, results: list[Result], lost: dict[Any, Any]) -> None:
    """Writes the overview. lost: (student, assignment) -> the lost marks on that page."""
    told, refused = [], course.refused()
    for name in course.assignments:
        mine = [result for result in results if result.assignment == name]
        graded = [result for result in mine if not result.problem]
        tests = {
            name_of(cell): _asked(cell) | {"lost": []}
            for cell in read_notebook(course.notebook("source", name))["cells"]
            if role_of(cell).get("grade") and cell["cell_type"] == "code"
        }
        for result in graded:
            for group in lost[result.student, name]:
                for one in group["tests"]:
                    test = tests.setdefault(one["test"], one | {"lost": []})
                    test["lost"].append((result.name, group["came"]))
        came = {result.student for result in mine}
        missing = {who: shown for who, shown in course.names().items() if who not in came}
        rows = {who: refused.get((who, name), refused.get((who, ""))) for who in missing}
        told.append(
            {
                "title": ASSIGNMENTS[name],
                "graded": graded,
                "scores": (scores := [result.score for result in graded]),
                "median": statistics.median(scores) if scores else None,
                "tests": sorted(tests.values(), key=lambda test: -len(test["lost"])),
                "notes": [result for result in mine if result.remarks],
                "refused": [(missing[who], row) for who, row in rows.items() if row],
                "absent": [missing[who] for who, row in rows.items() if not row],
            }
        )
    write_page(course.root / "overview.html", "overview.html.j2", assignments=told)
