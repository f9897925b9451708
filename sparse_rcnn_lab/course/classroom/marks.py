"""The tables of marks, for the teacher and for the school's system.

marks.csv           one row a submission: marks, out of, by hand still open, late days, notes
marks_by_test.csv   one row a test: who lost what where
by_hand.csv, by_hand.html   the answers that a person reads: ``by_hand``
canvas.csv, moodle.csv      as these systems import them, where the roster is from there
due.csv             yours: until when each assignment could be handed in
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime, time
from typing import Any

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.course.classroom.by_hand import take_by_hand, write_by_hand
from sparse_rcnn_lab.course.classroom.cells import read_notebook
from sparse_rcnn_lab.course.classroom.course_folder import ASSIGNMENTS, NOTES, Course
from sparse_rcnn_lab.course.classroom.roster import IDS, Roster, number, read_table, write_table

_CANVAS = ("Student", "ID", "SIS User ID", "SIS Login ID", "Section")


@dataclass(frozen=True)
class Mark:
    """What one test or answer in words has got. score: None while a person has to read it."""

    test: str
    score: float | None
    out_of: float
    by_hand: bool
    comment: str


@dataclass(frozen=True)
class Result:
    """What one submission has got. problem: why it has no marks, or empty.

    name: as the roster writes it.  late_days: begun days after the deadline, or None where one of
    the times is not known.
    """

    student: str
    name: str
    assignment: str
    problem: str
    marks: tuple[Mark, ...]
    notes: tuple[str, ...]
    late_days: int | None

    @property
    def score(self) -> float:
        """The marks so far."""
        return sum(mark.score or 0 for mark in self.marks)

    @property
    def out_of(self) -> float:
        """All the marks there are."""
        return sum(mark.out_of for mark in self.marks)

    @property
    def open(self) -> float:
        """The marks of what a person still has to read."""
        return sum(mark.out_of for mark in self.marks if mark.score is None)


def results(course: Course) -> list[Result]:
    """What everybody has got, from the gradebook."""
    names = course.names()
    deadlines = _deadlines(course)
    found = []
    with course.gradebook() as gradebook:
        for student, assignment in course.submissions(course.assignments):
            marks = _marks(gradebook, student, assignment)
            problem = ""
            if course.unfinished(assignment, student).exists():
                problem = "not graded: it was cut short, run grade again"
            elif not marks or not course.notebook("autograded", assignment, student).exists():
                problem = "not graded"
            found.append(
                Result(
                    student=student,
                    name=names.get(student, student.replace("-", " ")),
                    assignment=assignment,
                    problem=problem,
                    marks=() if problem else tuple(marks),
                    notes=tuple(_notes(course, student, assignment)),
                    late_days=_late_days(course, student, assignment, deadlines),
                )
            )
    return found


def write_marks(course: Course) -> list[Result]:
    """Writes all tables; returns what they hold.

    What stands in by_hand.csv and is not in the gradebook yet is taken there first.
    """
    take_by_hand(course)
    found = results(course)
    rows, tests = [], []
    for result in found:
        who = {"student": result.student, "name": result.name, "assignment": result.assignment}
        graded = not result.problem and result.out_of > 0
        rows.append(
            who
            | {
                "marks": number(result.score) if graded else "",
                "out_of": number(result.out_of) if graded else "",
                "by_hand_open": number(result.open) if graded else "",
                "percent": f"{100 * result.score / result.out_of:.1f}" if graded else "",
                "late_days": number(result.late_days),
                "notes": "; ".join(filter(None, (result.problem, *result.notes))),
            }
        )
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
    """Everybody of the roster, with the roster's own columns; empty where marks are not final."""
    titles = {a.name: a.title for a in ASSIGNMENTS}
    final = {(r.student, r.assignment): r for r in found if not r.problem and not r.open}

    def marks_of(student: str, heading: dict[str, str]) -> dict[str, str]:
        given = {name: final.get((student, name)) for name in heading}
        return {heading[name]: number(r.score) if r else "" for name, r in given.items()}

    if {"Student", "ID"} <= set(roster.columns):
        # A column that Canvas has already is named "Boxes (771)": under that name it is filled in.
        heading = {
            name: next(
                (c for c in roster.columns if c.lower().startswith((name, titles[name].lower()))),
                titles[name],
            )
            for name in course.assignments
        }
        columns = [c for c in _CANVAS if c in roster.columns]
        best = {r.assignment: number(r.out_of) for r in final.values()}
        rows = [{"Student": "    Points Possible"} | {heading[n]: v for n, v in best.items()}]
        for person in roster.people:
            kept = {c: person.row[c] for c in columns}
            rows.append(kept | marks_of(person.student, heading))
        write_table(course.root / "canvas.csv", rows, [*columns, *heading.values()])
    elif {"Identifier", "Grade"} <= set(roster.columns):  # the worksheet of one assignment
        for name in course.assignments:
            rows = [p.row | marks_of(p.student, {name: "Grade"}) for p in roster.people]
            write_table(course.root / f"moodle_{name}.csv", rows, roster.columns)
    elif any(column.lower() in IDS for column in roster.columns):
        heading = {name: titles[name] for name in course.assignments}
        rows = [person.row | marks_of(person.student, heading) for person in roster.people]
        columns = [c for c in roster.columns if c not in heading.values()]
        write_table(course.root / "moodle.csv", rows, [*columns, *heading.values()])


def _deadlines(course: Course) -> dict[str, datetime]:
    """Assignment -> its deadline, from due.csv, which is made where there is none."""
    path = course.root / "due.csv"
    if not path.exists():
        rows = [{"assignment": name, "due": ""} for name in course.assignments]
        write_table(path, rows)
        return {}
    deadlines = {}
    for line, row in read_table(path)[1]:
        text = row.get("due", "").strip()
        if not text:
            continue
        try:
            due = datetime.fromisoformat(text)
        except ValueError as error:
            raise LabError(
                f'"{path}", line {line}: "{text}" is no time. Write it as 2026-12-01 23:59.'
            ) from error
        if len(text) <= 10:  # a day lasts to its end
            due = datetime.combine(due, time.max)
        deadlines[row.get("assignment", "").strip()] = due.astimezone()
    if unknown := [name for name in deadlines if name not in course.assignments]:
        raise LabError(
            f'"{path}": the course has no assignment "{unknown[0]}". It has '
            f"{', '.join(course.assignments)}."
        )
    return deadlines


def _late_days(
    course: Course, student: str, assignment: str, deadlines: dict[str, datetime]
) -> int | None:
    path = course.notebook("submitted", assignment, student).with_name("timestamp.txt")
    if assignment not in deadlines or not path.exists():
        return None
    when = datetime.strptime(path.read_text().strip(), "%Y-%m-%d %H:%M:%S UTC").replace(tzinfo=UTC)
    if when.year < 2000:  # what a zip says that knows no time
        return None
    late = (when - deadlines[assignment]).total_seconds()
    return max(0, math.ceil(late / 86_400))


def _marks(gradebook: Any, student: str, assignment: str) -> list[Mark]:
    """Of a submission in the order of its notebook."""
    from nbgrader.api import MissingEntry

    try:
        submission = gradebook.find_submission(assignment, student)
    except MissingEntry:
        return []
    found = []
    for notebook in submission.notebooks:
        order = [cell.name for cell in notebook.notebook.source_cells]
        comments = {comment.name: comment.manual_comment or "" for comment in notebook.comments}
        for grade in sorted(notebook.grades, key=lambda grade: order.index(grade.name)):
            by_hand = grade.needs_manual_grade or grade.manual_score is not None
            open_ = grade.needs_manual_grade and grade.manual_score is None
            score = None if open_ else grade.score
            comment = comments.get(grade.name, "")
            found.append(Mark(grade.name, score, grade.max_score, by_hand, comment))
    return found


def _notes(course: Course, student: str, assignment: str) -> list[str]:
    """What collecting and running the submission have found."""
    came = course.notebook("submitted", assignment, student).with_name("collected.json")
    notes = json.loads(came.read_text(encoding="utf-8"))["notes"] if came.exists() else []
    graded = course.notebook("autograded", assignment, student)
    if graded.exists():
        notes += read_notebook(graded)["metadata"].get(NOTES, [])
    return [str(note) for note in notes]
