"""Each student's own numbers: the tests that go with them, and whose hand-out a notebook is."""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from typing import Any

from sparse_rcnn_lab.course.classroom.cells import is_locked, name_of, read_notebook
from sparse_rcnn_lab.course.classroom.course_folder import Course


class HandOuts:
    """The hand-outs of one assignment. release: the one that all students share, if they do."""

    def __init__(self, course: Course, assignment: str) -> None:
        self.course, self.assignment = course, assignment
        self.release = read_notebook(course.notebook("release", assignment))

    def of(self, student: str) -> Any:
        """A student's notebook: their own, or the common one."""
        path = self.course.hand_out(self.assignment, student)
        return read_notebook(path) if path.is_file() else self.release

    def owner(self, notebook: Any, student: str) -> str:
        """Whose numbers a notebook has, by the text of its cells, as metadata may be lost.

        It is ``student`` where the numbers are theirs, where nobody has numbers of their own, and
        where it cannot be told.
        """
        texts = {cell["source"] for cell in notebook["cells"]}
        found = Counter({name: len(texts & own) for name, own in self._own_texts.items()})
        return max(sorted({*found, student}), key=lambda name: (found[name], name == student))

    @cached_property
    def _own_texts(self) -> dict[str, set[str]]:
        """Student -> the cells that not all students have."""
        people = self.course.students("personal")
        texts = {name: {cell["source"] for cell in self.of(name)["cells"]} for name in people}
        shared = set.intersection(*texts.values()) if texts else set()
        return {name: own - shared for name, own in texts.items()}


def give_own_tests(notebook: Any, course: Course, student: str, assignment: str) -> None:
    """Replaces the locked cells, which nbgrader took from the common notebook, by the student's.

    This is done in place; a student without numbers of their own keeps the common ones.
    """
    path = course.notebook("personal", assignment, student)
    if not path.is_file():
        return
    own = {name_of(cell): cell["source"] for cell in read_notebook(path)["cells"]}
    for cell in notebook["cells"]:
        if is_locked(cell):
            cell["source"] = own[name_of(cell)]
