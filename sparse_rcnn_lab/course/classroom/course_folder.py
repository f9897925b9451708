"""The course folder: its assignments, its files, and how nbgrader is set up there.

course.json             its secret, which determines the numbers, and its assignments
roster.csv              the class, if build or collect was given one
nbgrader_config.py      for nbgrader's own commands and the formgrader; you may extend it
source/                 the instructor's notebooks, with solutions and hidden tests
release/, hand-out/     what students get, as folders and as single notebooks; with a roster
                        hand-out/STUDENT/, and the instructor's copy of it in personal/STUDENT/
refused.csv             what collect could not take, where it tells whose it is
submitted/, autograded/, feedback/, gradebook.db, marks.csv
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.course import need
from sparse_rcnn_lab.course.classroom.cells import read_notebook
from sparse_rcnn_lab.course.classroom.roster import Roster, read_table
from sparse_rcnn_lab.detect.files import write_text

# Name of folder and notebook -> title, in the order of the scripts, from 1_boxes.py on.
ASSIGNMENTS = {
    "boxes": "Boxes",
    "matching": "Matching and the set loss",
    "stage": "A stage from its parts",
    "experiment": "An experiment of your own",
}
# In a notebook's metadata: what collect noted, and what the table of marks says about its run,
# written when grading is complete.
CAME = "sparse_rcnn_lab_came"
NOTES = "sparse_rcnn_lab_notes"
CONFIG = """\
# How nbgrader works in this course. Lines added below are kept: build writes this file once.
from sparse_rcnn_lab.course.classroom.course_folder import configure

c = get_config()
configure(c)
"""


def configure(c: Any) -> None:
    """Sets up nbgrader's configuration object for a course in its folder."""
    c.CourseDirectory.course_id = "sparse-rcnn"
    c.ClearSolutions.code_stub = {
        "python": '# Your code here.\nraise NotImplementedError("not written yet")'
    }
    c.ClearSolutions.text_stub = "*Your answer here.*"
    c.LimitOutput.max_lines = 200
    c.Autograde.autograde_preprocessors = [
        "sparse_rcnn_lab.course.classroom.execution.SturdyExecute",
        "nbgrader.preprocessors.LimitOutput",
        "nbgrader.preprocessors.SaveAutoGrades",
        "nbgrader.preprocessors.AssignLatePenalties",
        "nbgrader.preprocessors.CheckCellMetadata",
    ]


@dataclass(frozen=True)
class Course:
    """A course folder made by ``build``. secret: determines its numbers and is never handed out."""

    root: Path
    secret: str
    assignments: tuple[str, ...]

    @classmethod
    def open(cls, root: str | Path) -> Course:
        """Opens a course folder. Raises LabError where there is none."""
        root = Path(root).resolve()
        try:
            about = json.loads((root / "course.json").read_text(encoding="utf-8"))
            return cls(root, str(about["secret"]), tuple(about["assignments"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise LabError(
                f'"{root}" is not a course folder (it has no readable course.json). Make one with '
                "`sparse-rcnn-lab classroom build`, or name another with --course."
            ) from error

    def save(self) -> None:
        """Writes course.json, and nbgrader_config.py where there is none."""
        about = {"secret": self.secret, "assignments": list(self.assignments)}
        write_text(self.root / "course.json", json.dumps(about, indent=2) + "\n")
        if not (self.root / "nbgrader_config.py").exists():
            write_text(self.root / "nbgrader_config.py", CONFIG)

    def notebook(self, step: str, assignment: str, student: str = "") -> Path:
        """The path of a notebook in a step: source, release, personal, submitted, autograded."""
        return self.root / step / student / assignment / f"{assignment}.ipynb"

    @property
    def mark(self) -> str:
        """A mark that identifies this course's notebooks without revealing the secret."""
        return hashlib.sha256(f"course {self.secret}".encode()).hexdigest()[:12]

    def read(self, step: str, assignment: str, student: str) -> Any:
        """A student's notebook; an empty one where there is none, or only part of one."""
        try:
            return read_notebook(self.notebook(step, assignment, student))
        except (OSError, ValueError, KeyError, TypeError):
            return {"cells": [], "metadata": {}}

    def hand_out(self, assignment: str, student: str = "") -> Path:
        """The notebook that all students get, or a student's own, where build had a roster."""
        return self.root / "hand-out" / student / f"{assignment}.ipynb"

    def students(self, step: str = "submitted") -> list[str]:
        """All students with a folder in ``step``, in order."""
        return sorted(path.name for path in self.root.glob(f"{step}/[!.]*") if path.is_dir())

    def submissions(self, assignments: tuple[str, ...]) -> list[tuple[str, str]]:
        """(student, assignment) of everything that was handed in."""
        pairs = [(student, name) for student in self.students() for name in assignments]
        return [(s, a) for s, a in pairs if self.notebook("submitted", a, s).is_file()]

    def roster(self) -> Roster | None:
        """The class, if there is a roster.csv."""
        path = self.root / "roster.csv"
        return Roster.read(path) if path.is_file() else None

    def names(self) -> dict[str, str]:
        """Student -> name, as the roster writes it; of namesakes with an id."""
        roster = self.roster()
        return {person.student: person.shown for person in roster.people} if roster else {}

    def refused(self) -> dict[tuple[str, str], dict[str, str]]:
        """(student, assignment) -> the row of refused.csv: what came and was not taken."""
        path = self.root / "refused.csv"
        rows = read_table(path)[1] if path.is_file() else []
        return {(row["student"], row["assignment"]): row for _, row in rows}

    def keep_roster(self, path: Path) -> None:
        """Makes a csv file the roster of the class. Raises LabError where it has no names."""
        Roster.read(path)
        write_text(self.root / "roster.csv", path.read_text(encoding="utf-8-sig"))

    def nbgrader(self) -> Any:
        """nbgrader's API, set up by the folder's ``nbgrader_config.py``."""
        need("classroom", "nbgrader")
        from nbgrader.apps import NbGraderAPI
        from nbgrader.coursedir import CourseDirectory

        config = self.nbgrader_config()
        # It starts ``alembic`` by name, which is beside this Python, activated or not.
        if (scripts := sysconfig.get_path("scripts")) not in (folders := os.get_exec_path()):
            os.environ["PATH"] = os.pathsep.join([scripts, *folders])
        return NbGraderAPI(CourseDirectory(config=config), config=config)

    def nbgrader_config(self) -> Any:
        """The settings of ``nbgrader_config.py``, for this folder, wherever it is called from."""
        from traitlets.config.loader import PyFileConfigLoader

        config = PyFileConfigLoader("nbgrader_config.py", path=str(self.root)).load_config()
        config.CourseDirectory.root = str(self.root)
        # Two graders may write at once; then sqlite waits for the other instead of giving up.
        address = f"sqlite:///{self.root / 'gradebook.db'}?timeout=60"
        config.CourseDirectory.setdefault("db_url", address)
        return config

    @contextlib.contextmanager
    def gradebook(self) -> Iterator[Any]:
        """nbgrader's gradebook. Raises LabError where it is lost or damaged."""
        api = self.nbgrader()
        kind, _, place = api.coursedir.db_url.partition(":///")
        path = Path(place.partition("?")[0]).absolute()
        if kind == "sqlite" and (problem := self._problem_of(path)):
            raise LabError(
                f'The gradebook "{path}" is missing or damaged ({problem}). What was handed in is '
                "still there. Move that file away if it exists, then run `classroom build` and "
                "`classroom grade`: the numbers stay, everything is graded again, and marks given "
                "by hand are taken from by_hand.csv."
            )
        with api.gradebook as gradebook:
            yield gradebook

    def known_to(self, gradebook: Any) -> dict[tuple[str, str], Any]:
        """(student, assignment) -> the submission, for all in the gradebook."""
        found = (s for name in self.assignments for s in gradebook.assignment_submissions(name))
        return {(submission.student_id, submission.name): submission for submission in found}

    def _problem_of(self, path: Path) -> str:
        """What is wrong with the gradebook, or nothing."""
        try:
            # Opened for writing too, as a killed step may have left work to be undone first.
            address = f"{path.as_uri()}?mode=rw"
            with contextlib.closing(sqlite3.connect(address, uri=True, timeout=60)) as file:
                (sound,) = file.execute("PRAGMA quick_check(1)").fetchone()
                known = {name for (name,) in file.execute("SELECT name FROM assignment")}
        except sqlite3.DatabaseError as error:
            return str(error)
        missing = ", ".join(set(self.assignments) - known)
        return sound if sound != "ok" else missing and f"it does not know {missing}"


def chosen(names: list[str] | None, known: Sequence[str] = tuple(ASSIGNMENTS)) -> tuple[str, ...]:
    """The assignments with these names out of ``known``, in their order; None or empty: all.

    Raises LabError for an unknown name.
    """
    for name in names or ():
        if name not in known:
            raise LabError(f'There is no assignment "{name}" here. Choose from {", ".join(known)}.')
    return tuple(name for name in ASSIGNMENTS if name in (names or known))
