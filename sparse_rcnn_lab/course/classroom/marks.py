"""The tables of marks, for the teacher and for the school's system.

marks.csv           one row per submission: marks, out of, by hand still open, late days, notes
marks_by_test.csv   one row per test: who lost which marks
canvas.csv, moodle.csv      for import into these systems, where the roster is from there
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from sparse_rcnn_lab.course.classroom.by_hand import take_by_hand, write_by_hand
from sparse_rcnn_lab.course.classroom.cells import name_of
from sparse_rcnn_lab.course.classroom.course_folder import ASSIGNMENTS, CAME, NOTES, Course
from sparse_rcnn_lab.course.classroom.roster import IDS, Roster, number, write_table

_CANVAS = ("Student", "ID", "SIS User ID", "SIS Login ID", "Section")


class Mark(NamedTuple):
    """The mark of one test or answer in words. score: None while a person has to read it."""

    test: str
    score: float | None
    out_of: float
    by_hand: bool
    comment: str


class Result(NamedTuple):
    """The result of one submission. problem: why it has no marks, or empty.

    name: as in the roster.  score: the marks so far.  out_of: all possible marks.
    open: the marks that a person still has to give.  cells: as they were run.
    figures: those of the submitted notebook, as data URIs.
    late_days: begun days after the due date, or None where a time is not known.
    """

    student: str
    name: str
    assignment: str
    problem: str
    marks: tuple[Mark, ...]
    score: float
    out_of: float
    open: float
    cells: Sequence[Any]
    figures: tuple[str, ...]
    notes: tuple[str, ...]
    late_days: int | None

    @property
    def remarks(self) -> str:
        """Remarks for the instructor."""
        late = f"{self.late_days} day{'s' * (self.late_days > 1)} late" if self.late_days else ""
        return "; ".join(filter(None, (self.problem, *self.notes, late)))


def results(course: Course) -> list[Result]:
    """The results of all submissions, from the gradebook."""
    names = course.names()
    with course.gradebook() as gradebook:
        submissions = course.known_to(gradebook)
        return [
            _result(course, names.get(s, s.replace("-", " ")), s, a, submissions.get((s, a)))
            for s, a in course.submissions(course.assignments)
        ]


def _result(course: Course, name: str, student: str, assignment: str, submission: Any) -> Result:
    came = course.read("submitted", assignment, student)["metadata"].get(CAME, {})
    run = course.read("autograded", assignment, student)
    notes = [*came.get("notes", ()), *run["metadata"].get(NOTES, ())]
    problem, late_days = "not graded", None
    marks: list[Mark] = []
    if submission and NOTES in run["metadata"]:
        (graded,) = submission.notebooks
        grades = {grade.name: grade for grade in graded.grades}
        comments = {comment.name: comment.manual_comment or "" for comment in graded.comments}
        for test in filter(grades.get, map(name_of, run["cells"])):
            grade = grades[test]
            by_hand = grade.needs_manual_grade or grade.manual_score is not None
            open_ = grade.needs_manual_grade and grade.manual_score is None
            score = None if open_ else grade.score
            marks.append(Mark(test, score, grade.max_score, by_hand, comments.get(test, "")))
        if submission.duedate and submission.timestamp:
            late_days = math.ceil(submission.total_seconds_late / 86_400)
        problem = "" if marks else problem
    elif course.notebook("autograded", assignment, student).exists():
        problem += ": it was cut short, run grade again"
    return Result(
        student=student,
        name=name,
        assignment=assignment,
        problem=problem,
        marks=tuple(marks),
        score=sum(mark.score or 0 for mark in marks),
        out_of=sum(mark.out_of for mark in marks),
        open=sum(mark.out_of for mark in marks if mark.score is None),
        cells=run["cells"],
        figures=tuple(came.get("figures", ())),
        notes=tuple(map(str, notes)),
        late_days=late_days,
    )


def write_marks(course: Course) -> list[Result]:
    """Writes all tables; returns their results.

    Marks in by_hand.csv that are not in the gradebook yet are imported first.
    """
    take_by_hand(course)
    found = results(course)
    rows, tests = [], []
    for result in found:
        who = {"student": result.student, "name": result.name, "assignment": result.assignment}
        row = who | dict.fromkeys(("marks", "out_of", "by_hand_open", "percent"), "")
        if result.marks:
            row["marks"], row["out_of"] = number(result.score), number(result.out_of)
            row["by_hand_open"] = number(result.open)
            row["percent"] = f"{100 * result.score / result.out_of:.1f}"
        rows.append(row | {"late_days": number(result.late_days), "notes": result.remarks})
        tests += [
            who | {"test": m.test, "marks": number(m.score), "out_of": number(m.out_of)}
            for m in result.marks
        ]
    write_table(course.root / "marks.csv", rows)
    write_table(course.root / "marks_by_test.csv", tests)
    write_by_hand(course, found)
    if roster := course.roster():
        _write_for_school(course, roster, found)
    return found


def _write_for_school(course: Course, roster: Roster, found: list[Result]) -> None:
    """Writes a row per person of the roster, in its own columns; empty until marks are final."""
    final = {(r.student, r.assignment): r for r in found if not r.problem and not r.open}
    titles, columns = {name: ASSIGNMENTS[name] for name in course.assignments}, roster.columns

    def write(file: str, headings: dict[str, str], columns: list[str], *first: Any) -> None:
        rows = list(first)
        for person in roster.people:
            got = {headings[name]: final.get((person.student, name)) for name in headings}
            rows.append(person.row | {h: number(r.score) if r else "" for h, r in got.items()})
        whole_head = list(dict.fromkeys([*columns, *headings.values()]))
        write_table(course.root / file, rows, whole_head, as_given=True)

    if {"Student", "ID"} <= set(columns):
        headings = {name: _canvas_heading(columns, name, title) for name, title in titles.items()}
        best = {headings[result.assignment]: number(result.out_of) for result in final.values()}
        points = {"Student": "    Points Possible"} | best
        write("canvas.csv", headings, [c for c in columns if c in _CANVAS], points)
    elif {"Identifier", "Grade"} <= set(columns):  # the worksheet of one assignment
        for name in titles:
            write(f"moodle_{name}.csv", {name: "Grade"}, columns)
    elif any(column.lower() in IDS for column in columns):
        write("moodle.csv", titles, columns)


def _canvas_heading(columns: list[str], name: str, title: str) -> str:
    """An assignment's column: Canvas's own, such as "Boxes (771)", if it has one, or a new one."""
    names = (name, title.lower())
    exact = [c for c in columns if re.sub(r" \(\d+\)$", "", c.lower()) in names]
    begun = [c for c in columns if c.lower().startswith(names)]
    return next((found[0] for found in (exact, begun) if len(found) == 1), title)
