"""Answers in words, which a person marks: in a table, on a page, or in nbgrader's Formgrader.

by_hand.csv    one answer per row: its text, its rubric, a column for the marks of each rubric line
by_hand.html   the same to read and click through, with the figures; it saves a by_hand.csv
"""

from __future__ import annotations

import math
import re
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.course.classroom.cells import name_of, read_notebook, role_of
from sparse_rcnn_lab.course.classroom.course_folder import Course
from sparse_rcnn_lab.course.classroom.pages import figures_of, markdown, write_page
from sparse_rcnn_lab.course.classroom.roster import number, read_table, write_table

if TYPE_CHECKING:
    from sparse_rcnn_lab.course.classroom.marks import Result

_RUBRIC = re.compile(r"\*\d+ marks?: (.+?)\.\*", re.S)
LINES = ("rubric_1", "rubric_2", "rubric_3")  # columns for the marks of each line of a rubric
COLUMNS = (
    *("student", "name", "assignment", "test", "answer", "rubric"),
    *(*LINES, "out_of", "marks", "comment", "as_written"),
)


def rubric_of(course: Course, assignment: str, test: str) -> list[tuple[str, float]]:
    """(what counts, its marks) for an answer in words, from the text above it.

    The rubric is written as ``*3 marks: one thing (1), another (2).*``; without it there is one
    line.
    """
    above = ""
    for cell in read_notebook(course.notebook("source", assignment))["cells"]:
        if name_of(cell) == test:
            found, points = _RUBRIC.search(above), float(role_of(cell)["points"])
            lines = re.findall(r"(\S.*?) \(([\d.]+)\)", " ".join(found[1].split())) if found else []
            lines = [(what.lstrip(", "), float(marks)) for what, marks in lines]
            if lines and len(lines) <= len(LINES) and sum(m for _, m in lines) == points:
                return lines
            return [("the whole answer", points)]
        if cell["cell_type"] == "markdown":
            above = cell["source"]
    return []


def write_by_hand(course: Course, results: list[Result]) -> None:
    """Writes by_hand.csv and by_hand.html, with the marks filled in so far."""
    before = filled_in(course)
    cards: list[dict[str, Any]] = []
    for result in results:
        figures = result.figures or figures_of(result.cells)
        drawn = "as handed in" if result.figures else "as drawn when it was graded, of fewer images"
        for mark in result.marks:
            if not mark.by_hand:
                continue
            rubric = rubric_of(course, result.assignment, mark.test)
            answer = next(cell["source"] for cell in result.cells if name_of(cell) == mark.test)
            lines = (f"{i}. {what} ({most:g})" for i, (what, most) in enumerate(rubric, 1))
            row = {
                "student": result.student,
                "name": result.name,
                "assignment": result.assignment,
                "test": mark.test,
                "answer": answer,
                "rubric": "; ".join(lines),
                "out_of": number(mark.out_of),
                "marks": number(mark.score),
                "comment": mark.comment,
            }
            given = _lines(before.get(_key(row), {}))
            if any(given) and round(sum(map(_float, given)), 6) == mark.score:
                row |= zip(LINES, given, strict=True)  # else the whole was changed elsewhere
            row["as_written"] = _state(row)
            # A figure is shown beside the text about it.
            shown = figures if mark.test != "question" else []
            card = {"row": row, "html": markdown(answer), "rubric": rubric}
            cards.append(card | {"figures": shown, "drawn": f"Figures, {drawn}"})
    rows = [card["row"] for card in cards]
    write_table(course.root / "by_hand.csv", rows, COLUMNS, mark=True)
    order = [mark.test for result in results for mark in result.marks]
    cards.sort(key=lambda card: (card["row"]["assignment"], order.index(card["row"]["test"])))
    page = course.root / "by_hand.html"
    write_page(page, "by_hand.html.j2", cards=cards, columns=COLUMNS, lines=LINES)


def filled_in(course: Course) -> dict[tuple[str, ...], dict[str, str]]:
    """(student, assignment, test) -> the row of by_hand.csv, where this file exists."""
    path = course.root / "by_hand.csv"
    return {_key(row): row for _, row in (read_table(path)[1] if path.exists() else [])}


def take_by_hand(course: Course, place: Path | None = None) -> int:
    """Imports the marks filled in in by_hand.csv into the gradebook; returns their number.

    place: another file, as the page saves it; its marks go into by_hand.csv too. The marks of an
    answer are those in ``marks``, or the sum of its rubric's columns. Where a row has not been
    changed since it was written, the gradebook's marks (from the Formgrader, for example) stay.

    Raises LabError, naming the row, for marks that are not numbers, are out of range or contradict
    each other, and for a file without marks.
    """
    path = place or course.root / "by_hand.csv"
    if not path.exists() and place is None:
        return 0
    columns, rows = read_table(path)
    needed = ("student", "assignment", "test", "marks")
    if rows and not set(needed) <= set(columns):
        raise LabError(
            f'"{path}" must have the columns {", ".join(needed)}, found {", ".join(columns)!r}. '
            'Keep its first line, and save it as "CSV UTF-8".'
        )
    rows = [(n, row) for n, row in rows if any((row["marks"], row.get("comment"), *_lines(row)))]
    if not rows:
        return 0
    from nbgrader.api import MissingEntry

    taken = 0
    with course.gradebook() as gradebook:
        for line, row in rows:
            student, assignment, test = row["student"], row["assignment"], row["test"]
            where = f'"{path}", line {line} ({student}, {test})'
            try:
                grade = gradebook.find_grade(test, assignment, assignment, student)
            except MissingEntry as error:
                raise LabError(
                    f"{where}: there is no such answer in the gradebook. `grade` what was handed "
                    "in first, or take the line out."
                ) from error
            try:
                comment = gradebook.find_comment(test, assignment, assignment, student)
            except MissingEntry:
                comment = None
            there = grade.manual_score is not None or (comment and comment.manual_comment)
            if there and row.get("as_written") == _state(row):
                continue
            marks = _marks_in(row, rubric_of(course, assignment, test), grade, where)
            if marks is not None:
                grade.manual_score, grade.needs_manual_grade = marks, False
                taken += 1
            if said := row.get("comment"):
                if comment is None:
                    raise LabError(
                        f"{where}: an answer that is no text takes no comment; leave it empty."
                    )
                comment.manual_comment = said
        gradebook.db.commit()
    if place:
        both = filled_in(course) | {_key(row): row for _, row in rows}
        write_table(course.root / "by_hand.csv", both.values(), COLUMNS, mark=True)
    return taken


def _marks_in(
    row: dict[str, str], rubric: list[tuple[str, float]], grade: Any, where: str
) -> float | None:
    """The marks in a row, or None."""

    def in_range(text: str, most: float) -> float:
        if not 0 <= (value := _float(text)) <= most:
            raise LabError(f"{where}: marks must be a number from 0 to {most:g}, found {text!r}.")
        return value

    lines = _lines(row)
    marks = in_range(row["marks"], grade.max_score) if row["marks"] else None
    if not any(lines):
        return marks
    needed = LINES[: len(rubric)]
    if [name for name, given in zip(LINES, lines, strict=True) if given] != list(needed):
        raise LabError(f"{where}: fill in {' and '.join(needed)}, as its rubric has, or none.")
    parts = [in_range(given, most) for given, (_, most) in zip(lines, rubric, strict=False)]
    total = round(sum(parts), 6)
    # A new rubric has priority over marks that were there before.
    if marks not in (None, total, grade.manual_score):
        raise LabError(
            f"{where}: the rubric adds up to {total:g}, but marks are {marks:g}. Empty one of them."
        )
    return total


def _lines(row: dict[str, str]) -> list[str]:
    return [row.get(line, "") for line in LINES]


def _state(row: dict[str, Any]) -> str:
    """A checksum of what a person may fill in, independent of how a spreadsheet writes numbers."""
    given = [text and _float(text) for text in (*_lines(row), row["marks"])]
    state = (given, row.get("comment", "").strip())
    return f"w{zlib.crc32(repr(state).encode()):08x}"  # without a letter it may be a number


def _float(text: str) -> float:
    """The number that a person wrote; an empty text is 0, any other text NaN."""
    try:
        return float(text.replace(",", ".") or 0)
    except ValueError:
        return math.nan


def _key(row: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(row.get(name, "")) for name in ("student", "assignment", "test"))
