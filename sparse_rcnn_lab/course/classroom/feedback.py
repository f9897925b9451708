"""``feedback``: one page a submission, with marks and comments, for the student."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from tqdm.auto import tqdm

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.course.classroom.course import Course
from sparse_rcnn_lab.course.classroom.marks import write_marks
from sparse_rcnn_lab.detect.files import write_text


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
        if not course.notebook("autograded", name, student).exists():
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
