"""The table of marks, the marks that a person gives, and a page for each student.

marks.csv           one row a submission: marks, out of, by hand still open, notes
marks_by_test.csv   one row a test: who lost what where
by_hand.csv         one row an answer in words: fill in ``marks`` and ``comment``
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.course.classroom.course_folder import NOTES, Course
from sparse_rcnn_lab.detect.files import write_text

_COLUMNS = ("student", "assignment", "test", "out_of", "marks", "comment")  # of by_hand.csv


def write_marks(course: Course) -> list[dict[str, Any]]:
    """Writes the three tables; returns the rows of marks.csv.

    What stands in by_hand.csv and is not in the gradebook yet is taken there first.
    """
    take_by_hand(course)
    rows, tests, by_hand = [], [], []
    with course.nbgrader().gradebook as gradebook:
        for student, assignment in course.submissions(course.assignments):
            notes = _notes(course, student, assignment)
            rows.append({"student": student, "assignment": assignment})
            grades = _grades(gradebook, student, assignment)
            done = course.notebook("autograded", assignment, student).exists()
            cut_short = course.unfinished(assignment, student).exists()
            if not grades or not done or cut_short:
                rows[-1] |= {"marks": "", "out_of": "", "by_hand_open": "", "percent": ""}
                why = "not graded: it was cut short, run grade again" if cut_short else "not graded"
                rows[-1]["notes"] = "; ".join([why, *notes])
                continue
            open_ = sum(grade.max_score for grade in grades if grade.needs_manual_grade)
            score, best = sum(g.score for g in grades), sum(g.max_score for g in grades)
            rows[-1] |= {
                "marks": _number(score),
                "out_of": _number(best),
                "by_hand_open": _number(open_),
                "percent": f"{100 * score / best:.1f}" if best else "",
                "notes": "; ".join(notes),
            }
            for grade in grades:
                where = {"student": student, "assignment": assignment, "test": grade.name}
                given = {"marks": _number(grade.score), "out_of": _number(grade.max_score)}
                tests.append(where | given)
                if grade.needs_manual_grade or grade.manual_score is not None:
                    done = not grade.needs_manual_grade or grade.manual_score is not None
                    by_hand.append(
                        where
                        | {"out_of": given["out_of"], "marks": given["marks"] if done else ""}
                        | {"comment": _comment(gradebook, grade, student, assignment)}
                    )
    _write(course.root / "marks.csv", rows)
    _write(course.root / "marks_by_test.csv", tests)
    _write(course.root / "by_hand.csv", by_hand, _COLUMNS)
    return rows


def take_by_hand(course: Course) -> int:
    """Takes what is filled in in by_hand.csv into the gradebook; the number of marks.

    Raises LabError, naming the row, for marks that are no number or out of range, and for a file
    in which the marks cannot be found.
    """
    path = course.root / "by_hand.csv"
    rows = _filled_in(path) if path.exists() else []
    if not rows:
        return 0
    from nbgrader.api import MissingEntry

    taken = 0
    with course.nbgrader().gradebook as gradebook:
        for number, row in rows:
            text = row["marks"].strip()
            try:
                student, assignment, test = row["student"], row["assignment"], row["test"]
                grade = gradebook.find_grade(test, assignment, assignment, student)
            except (KeyError, MissingEntry) as error:
                raise LabError(
                    f'"{path}", line {number}: there is no such answer in the gradebook.'
                ) from error
            try:
                marks = float(text.replace(",", "."))
            except ValueError:
                marks = -1.0
            if not 0 <= marks <= grade.max_score:
                raise LabError(
                    f'"{path}", line {number}: marks must be a number from 0 to '
                    f"{grade.max_score:g}, found {text!r}."
                )
            grade.manual_score, grade.needs_manual_grade = marks, False
            said = (row.get("comment") or "").strip()
            if said:
                try:
                    comment = gradebook.find_comment(test, assignment, assignment, student)
                except MissingEntry as error:
                    raise LabError(
                        f'"{path}", line {number}: an answer that is no text takes no comment; '
                        "leave it empty."
                    ) from error
                comment.manual_comment = said
            taken += 1
        gradebook.db.commit()
    return taken


def _filled_in(path: Path) -> list[tuple[int, dict[Any, Any]]]:
    """(line, row) of by_hand.csv where there are marks, as any spreadsheet program saves it.

    Raises LabError rather than leave out what somebody has filled in.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise LabError(
            f'"{path}" is not UTF-8 text, so names and comments would be lost. Save it again as '
            '"CSV UTF-8".'
        ) from error
    head = text.partition("\n")[0]
    # What a spreadsheet program writes where the comma belongs to the numbers.
    reader: csv.DictReader[Any] = csv.DictReader(
        io.StringIO(text, newline=""),
        delimiter=";" if head.count(";") > head.count(",") else ",",
        restval="",
    )
    try:
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise LabError(f'"{path}", line {reader.line_num}: no table ({error}).') from error
    needed = {"student", "assignment", "test", "marks"}
    if rows and not needed <= set(reader.fieldnames or ()):
        raise LabError(
            f'"{path}" must have the columns {", ".join(_COLUMNS)}, found {head.strip()!r}. Keep '
            'its first line, and save it as "CSV UTF-8".'
        )
    for number, row in rows:
        if any(row.get(None, ())):  # where DictReader puts what has no column
            raise LabError(
                f'"{path}", line {number}: there are more values than columns. Put a comment or '
                'number with a comma into quotes ("...").'
            )
    return [(number, row) for number, row in rows if row["marks"].strip()]


def _grades(gradebook: Any, student: str, assignment: str) -> list[Any]:
    from nbgrader.api import MissingEntry

    try:
        submission = gradebook.find_submission(assignment, student)
    except MissingEntry:
        return []
    notebooks = submission.notebooks
    order = {
        cell.name: place
        for notebook in notebooks
        for place, cell in enumerate(notebook.notebook.source_cells)
    }
    grades = [grade for notebook in notebooks for grade in notebook.grades]
    return sorted(grades, key=lambda grade: order.get(grade.name, 0))


def _comment(gradebook: Any, grade: Any, student: str, assignment: str) -> str:
    from nbgrader.api import MissingEntry

    try:
        found = gradebook.find_comment(grade.name, assignment, assignment, student)
    except MissingEntry:
        return ""
    return found.manual_comment or ""


def _notes(course: Course, student: str, assignment: str) -> list[str]:
    """What collecting and running the submission have found."""
    came = course.notebook("submitted", assignment, student).with_name("collected.json")
    notes = json.loads(came.read_text(encoding="utf-8"))["notes"] if came.exists() else []
    graded = course.notebook("autograded", assignment, student)
    if graded.exists():
        notes += json.loads(graded.read_text(encoding="utf-8"))["metadata"].get(NOTES, [])
    return [str(note) for note in notes]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _write(path: Path, rows: list[dict[str, Any]], columns: Sequence[str] = ()) -> None:
    text = io.StringIO()
    columns = columns or (list(rows[0]) if rows else ["student"])
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def feedback(
    course: Course,
    assignments: tuple[str, ...] | None = None,
    progress: bool = True,
    say: Callable[[str], None] = tqdm.write,
) -> list[Path]:
    """Writes ``feedback/STUDENT/ASSIGNMENT/ASSIGNMENT.html`` for all that is graded.

    The pages hold the hidden tests. Marks by hand are taken from by_hand.csv first.
    Raises LabError where nothing is graded.
    """
    write_marks(course)
    pages = []
    names = course.assignments if assignments is None else assignments
    for student, name in tqdm(course.submissions(names), unit="page", disable=not progress):
        done = course.notebook("autograded", name, student).exists()
        if not done or course.unfinished(name, student).exists():
            continue
        done = course.nbgrader().generate_feedback(name, student, force=True)
        page = course.notebook("feedback", name, student).with_suffix(".html")
        if not done["success"] or not page.exists():
            say(
                f"{student}, {name}: no page: {(done['error'] or done['log'] or '').strip()[-300:]}"
            )
            continue
        write_text(page, _named(page.read_text(encoding="utf-8")))
        pages.append(page)
    if not pages:
        raise LabError(f'Nothing is graded in "{course.root}": run grade first.')
    return pages


def _named(page: str) -> str:
    """nbgrader's list of contents says "Test cell" twenty times; here each goes by its name."""
    return re.sub(r'(<a href="#([\w-]+)">)(?:Test cell|Written response)(</a>)', r"\1\2\3", page)
